//! Servers of a scene: they serve their zones as RFC 1034 section 4.3.2 has it, with bad habits.

use std::net::IpAddr;
use std::time::Duration;

use resolverd::dns::Name;
use resolverd::dns::records::Record;
use resolverd::resolver::iterate::machine::{Ask, Came};
use resolverd::resolver::machine::Transport;
use resolverd::resolver::wire::Message;

#[derive(Debug, Clone)]
pub struct Zone {
    pub name: Name,
    pub records: Vec<Record>,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub address: IpAddr,
    pub zones: Vec<Name>,
    pub habits: Vec<Habit>,
    /// There and back.
    pub delay: Duration,
}

/// What a server says to one question, whatever it serves.
#[derive(Debug, Clone)]
pub struct Said {
    pub address: IpAddr,
    pub name: Name,
    pub rtype: u16,
    pub rcode: u16,
    pub authoritative: bool,
    pub recursive: bool,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            address: IpAddr::from([0, 0, 0, 0]),
            name: Name::root(),
            rtype: 1,
            rcode: 0,
            authoritative: true,
            recursive: false,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    Dead,
    Unreachable,
    Rcode(u16),
    /// To questions with EDNS; without an OPT of its own, but for BADVERS.
    RcodeOnEdns(u16),
    DropsEdns,
    Truncates,
    NoUdp,
    NoTcp,
    LowerCases,
    /// NXDOMAIN for names that only have names below them.
    DeniesParts,
    /// REFUSED for what it has no records of.
    RefusesParts,
    /// It is a resolver: RA, and no AA.
    Resolver,
    /// It refers everything to the root.
    Upward,
    Garbage,
    /// Somebody guesses before it answers over UDP.
    Forged,
    /// It loses so many questions first.
    Drops(usize),
}

/// What comes of a question, and after how long. None: nothing.
pub fn reply(
    server: &mut Server,
    zones: &[Zone],
    said: &[Said],
    ask: &Ask,
) -> Option<(Duration, Came)> {
    let udp = ask.transport == Transport::Udp;
    let delay = if udp { server.delay } else { server.delay * 2 };
    for habit in &mut server.habits {
        match habit {
            Habit::Drops(left) if *left > 0 => {
                *left -= 1;
                return None;
            }
            _ => {}
        }
    }
    let has = |habit: Habit| server.habits.contains(&habit);
    if has(Habit::Unreachable) || !udp && has(Habit::NoTcp) {
        return Some((Duration::ZERO, Came::Unreachable));
    }
    if has(Habit::Dead) || udp && has(Habit::NoUdp) || ask.edns && has(Habit::DropsEdns) {
        return None;
    }
    if has(Habit::Garbage) {
        return Some((delay, Came::Unreadable));
    }
    if udp && has(Habit::Forged) {
        return Some((delay, Came::Forged));
    }
    let mut message = Message {
        same_case: !(ask.scramble && has(Habit::LowerCases)),
        edns: ask.edns,
        ..Message::default()
    };
    for habit in &server.habits {
        match habit {
            Habit::Rcode(rcode) => {
                message.rcode = *rcode;
                return Some((delay, Came::Message(message)));
            }
            Habit::RcodeOnEdns(rcode) if ask.edns => {
                message.rcode = *rcode;
                message.edns = *rcode == 16;
                return Some((delay, Came::Message(message)));
            }
            Habit::RcodeOnEdns(_) => message.edns = false,
            _ => {}
        }
    }
    if udp && has(Habit::Truncates) {
        message.truncated = true;
        return Some((delay, Came::Message(message)));
    }
    let (name, rtype) = (&ask.question.name, ask.question.qtype);
    let own = said
        .iter()
        .find(|said| said.address == server.address && said.name == *name && said.rtype == rtype);
    if let Some(said) = own {
        message.rcode = said.rcode;
        message.authoritative = said.authoritative;
        message.recursive = said.recursive;
        message.answer = said.answer.clone();
        message.authority = said.authority.clone();
        message.additional = said.additional.clone();
        return Some((delay, Came::Message(message)));
    }
    if has(Habit::Upward) {
        let ns =
            Record { owner: Name::root(), rtype: 2, class: 1, ttl: 60, rdata: b"\x01x\0".into() };
        message.authority.push(ns);
        return Some((delay, Came::Message(message)));
    }
    // A DS is asked of the zone above.
    let fits = |zone: &&Zone| {
        server.zones.contains(&zone.name)
            && name.is_under(&zone.name)
            && (rtype != 43 || zone.name != *name || zone.name == Name::root())
    };
    let zone = zones.iter().filter(fits).max_by_key(|zone| zone.name.as_wire().len());
    match zone {
        Some(zone) => serve(zone, name, rtype, &mut message),
        None => message.rcode = 5,
    }
    let nothing = message.answer.is_empty() && message.authority.iter().all(|r| r.rtype == 6);
    if has(Habit::DeniesParts) && nothing && message.rcode == 0 {
        message.rcode = 3;
    }
    if has(Habit::RefusesParts) && nothing && message.rcode == 0 {
        message = Message { rcode: 5, same_case: message.same_case, ..Message::default() };
    }
    if has(Habit::Resolver) {
        message.authoritative = false;
        message.recursive = true;
    }
    Some((delay, Came::Message(message)))
}

/// RFC 1034 section 4.3.2, and RFC 6672 for DNAME.
fn serve(zone: &Zone, name: &Name, rtype: u16, message: &mut Message) {
    let mut name = name.clone();
    for _ in 0..8 {
        let cut = zone.records.iter().find(|record| {
            record.rtype == 2 && record.owner != zone.name && name.is_under(&record.owner)
        });
        if let Some(cut) = cut.filter(|cut| rtype != 43 || cut.owner != name) {
            message.authoritative = !message.answer.is_empty();
            refer(zone, &cut.owner, message);
            return;
        }
        message.authoritative = true;
        let here = |wanted: u16| -> Vec<Record> {
            let own = zone.records.iter().filter(|record| record.owner == name);
            own.filter(|record| {
                record.rtype == wanted
                    || wanted == 255
                    || record.signature().is_some_and(|(covered, _)| covered == wanted)
            })
            .cloned()
            .collect()
        };
        let found = here(rtype);
        if !found.is_empty() {
            for record in found.iter().filter(|record| record.rtype == 2) {
                let own = zone.records.iter().filter(|r| matches!(r.rtype, 1 | 28));
                let own = own.filter(|r| r.owner.as_wire() == record.rdata);
                message.additional.extend(own.cloned());
            }
            message.answer.extend(found);
            return;
        }
        let above = zone.records.iter().find(|record| {
            record.rtype == 39 && record.owner != name && name.is_under(&record.owner)
        });
        if let Some(dname) = above {
            message.answer.push(dname.clone());
            let prefix = name.as_wire().strip_suffix(dname.owner.as_wire()).unwrap_or_default();
            let Ok(target) = Name::from_wire(&[prefix, &dname.rdata].concat()) else {
                message.rcode = 6;
                return;
            };
            let rdata = target.as_wire().to_vec();
            message.answer.push(Record { owner: name, rtype: 5, rdata, ..dname.clone() });
            name = target;
        } else if let Some(alias) = here(5).into_iter().next() {
            let target = alias.target();
            message.answer.push(alias);
            let Some(target) = target else { return };
            name = target;
        } else {
            let exists = zone.records.iter().any(|record| record.owner.is_under(&name));
            let wildcard = wildcard(zone, &name, rtype);
            if exists || wildcard.is_empty() {
                message.rcode = if exists { 0 } else { 3 };
                deny(zone, message);
            } else {
                message.answer.extend(wildcard);
            }
            return;
        }
        if !name.is_under(&zone.name) {
            return;
        }
    }
}

fn refer(zone: &Zone, to: &Name, message: &mut Message) {
    let ns: Vec<&Record> = zone.records.iter().filter(|r| r.rtype == 2 && r.owner == *to).collect();
    for record in &ns {
        let server = Name::from_wire(&record.rdata).unwrap();
        let glue = zone.records.iter().filter(|r| matches!(r.rtype, 1 | 28) && r.owner == server);
        message.additional.extend(glue.cloned());
    }
    message.authority.extend(ns.into_iter().cloned());
    let ds = zone.records.iter().filter(|record| {
        record.owner == *to
            && (record.rtype == 43 || record.signature().is_some_and(|(covered, _)| covered == 43))
    });
    message.authority.extend(ds.cloned());
}

/// The SOA, and whatever NSEC records the zone has.
fn deny(zone: &Zone, message: &mut Message) {
    let proofs = zone.records.iter().filter(|record| {
        record.rtype == 47
            || record.signature().is_some_and(|(covered, _)| covered == 47)
            || record.rtype == 6
    });
    message.authority.extend(proofs.cloned());
}

fn wildcard(zone: &Zone, name: &Name, rtype: u16) -> Vec<Record> {
    let Some(above) = name.suffixes().nth(1) else { return Vec::new() };
    let owner = Name::from_wire(&[b"\x01*", above].concat()).unwrap();
    let found = zone.records.iter().filter(|r| r.owner == owner && r.rtype == rtype);
    found.map(|record| Record { owner: name.clone(), ..record.clone() }).collect()
}
