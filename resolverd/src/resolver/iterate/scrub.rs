//! What a server's message means, and what of it may be believed.
//!
//! Pure. A server is believed about the zone it was asked as a server of, and about nothing else:
//! records of other zones are left out, whatever section they stand in. Addresses in a referral
//! are believed only to follow it, and, with `harden_glue`, only of names in the zone of the
//! server that gives them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::dns::records::Record;
use crate::dns::{Name, rcode, rtype};
use crate::resolver::reply::{Fetch, Reply};
use crate::resolver::wire::Message;

use super::alias::{self, Ending};
use super::delegations::{Cut, NameServer};

/// What was asked, and as whose server.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub zone: &'a Name,
    pub question: &'a Fetch,
    pub harden_glue: bool,
    /// Where servers listen.
    pub port: u16,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Sense {
    /// Records, aliases, or a denial.
    Answer(Reply),
    Referral(Referral),
    /// It does not serve the zone, in so many words.
    Lame(&'static str),
    /// It contradicts itself, or leads nowhere: another one may do better.
    Useless(&'static str),
}

/// A zone further down, and who serves it.
#[derive(Debug, PartialEq, Eq)]
pub struct Referral {
    pub cut: Cut,
    pub life: Duration,
    /// What it says of the zone's DS, with its proof, if there is one (RFC 4035 section 3.1.4).
    pub ds: Option<Reply>,
}

/// Makes sense of a message with RCODE NOERROR, NXDOMAIN or YXDOMAIN.
#[must_use]
pub fn sense(asked: &Asked<'_>, message: &Message) -> Sense {
    let Fetch { name, qtype } = asked.question;
    let chain = alias::follow(&message.answer, name, *qtype, |owner| owner.is_under(asked.zone));
    let nxdomain = message.rcode == u16::from(rcode::NXDOMAIN);
    // RFC 1034 section 5.3.3: a resolver instead of a server; what it says is hearsay.
    let hearsay = !message.authoritative && message.recursive;
    let reply = |rcode: u8, authority: Vec<Record>| Reply {
        rcode,
        authoritative: message.authoritative,
        answer: chain.kept.clone(),
        authority,
        ..Reply::default()
    };
    match chain.ending {
        Ending::Loop => return Sense::Useless("a loop of aliases"),
        Ending::TooLong => return Sense::Answer(reply(YXDOMAIN, Vec::new())),
        Ending::Complete if nxdomain => {
            return Sense::Useless("it denies a name whose records it gives");
        }
        Ending::Complete | Ending::Open if hearsay && !chain.kept.is_empty() => {
            return Sense::Lame("it is a resolver, and no server of the zone");
        }
        Ending::Complete => return Sense::Answer(reply(rcode::NOERROR, proofs(asked, message))),
        Ending::Open => {}
    }
    let soa = soa(asked, message, &chain.end);
    if !chain.kept.is_empty() {
        // At the end of the chain only a whole denial counts; else the end is asked for itself.
        // Behind a DNAME none is whole: NSD (to 4.6 at least) leaves out what proves that nothing
        // is where the DNAME leads.
        let code = if nxdomain { rcode::NXDOMAIN } else { rcode::NOERROR };
        let whole = chain.kept.iter().all(|record| record.rtype != rtype::DNAME);
        return Sense::Answer(match soa {
            Some(_) if whole => reply(code, denial(asked, message, &chain.end)),
            _ => reply(rcode::NOERROR, proofs(asked, message)),
        });
    }
    if nxdomain {
        return match soa {
            _ if hearsay => Sense::Lame("it is a resolver, and no server of the zone"),
            None if !message.authoritative => Sense::Lame("it denies without authority"),
            _ => Sense::Answer(reply(rcode::NXDOMAIN, denial(asked, message, name))),
        };
    }
    if soa.is_none()
        && let Some(referral) = referral(asked, message)
    {
        return referral;
    }
    match soa {
        _ if hearsay => Sense::Lame("it is a resolver, and no server of the zone"),
        None if !message.authoritative => Sense::Lame("it says nothing, without authority"),
        None if message.authority.iter().any(|record| record.rtype == rtype::SOA) => {
            Sense::Lame("it serves another zone")
        }
        _ => Sense::Answer(reply(rcode::NOERROR, denial(asked, message, name))),
    }
}

/// Where the NS records of the authority section lead, if there are any.
fn referral(asked: &Asked<'_>, message: &Message) -> Option<Sense> {
    let ns = || message.authority.iter().filter(|record| record.rtype == rtype::NS);
    ns().next()?;
    let name = &asked.question.name;
    let below = |owner: &Name| owner != asked.zone && owner.is_under(asked.zone);
    let Some(first) = ns().find(|record| below(&record.owner) && name.is_under(&record.owner))
    else {
        // To its own zone, to one above, or beside the question.
        let own = message.authoritative && ns().all(|record| record.owner == *asked.zone);
        return (!own).then_some(Sense::Lame("its referral leads away from the question"));
    };
    let zone = first.owner.clone();
    // RFC 4035 section 3.1.4.1: a DS is the upper zone's.
    if asked.question.qtype == rtype::DS && *name == zone {
        return Some(Sense::Useless("it refers a question for a DS to the zone itself"));
    }
    let mut servers: Vec<NameServer> = Vec::new();
    let mut ttl = u32::MAX;
    for record in ns().filter(|record| record.owner == zone) {
        let Ok(server) = Name::from_wire(&record.rdata) else { continue };
        ttl = ttl.min(record.ttl);
        if servers.len() < SERVERS_MAX && servers.iter().all(|known| known.name != server) {
            servers.push(NameServer { name: server, addresses: Vec::new() });
        }
    }
    for record in &message.additional {
        let believed = !asked.harden_glue || record.owner.is_under(asked.zone);
        let server = servers.iter_mut().find(|server| server.name == record.owner);
        if let (true, Some(server), Some(ip)) = (believed, server, address(record)) {
            ttl = ttl.min(record.ttl);
            let address = SocketAddr::new(ip, asked.port);
            if server.addresses.len() < ADDRESSES_MAX && !server.addresses.contains(&address) {
                server.addresses.push(address);
            }
        }
    }
    let life = if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl };
    let ds = ds(message, &zone);
    let cut = Cut::new(zone, servers);
    Some(Sense::Referral(Referral { cut, life: Duration::from_secs(life.into()), ds }))
}

/// The signed DS set of a referral, or the signed proof that there is none.
fn ds(message: &Message, zone: &Name) -> Option<Reply> {
    let signs = |of: u16, owner: Option<&Name>| {
        message.authority.iter().any(|record| {
            record.signature().is_some_and(|(covered, _)| covered == of)
                && owner.is_none_or(|owner| record.owner == *owner)
        })
    };
    let mut reply = Reply { authoritative: true, ..Reply::default() };
    if signs(rtype::DS, Some(zone)) {
        let chain = alias::follow(&message.authority, zone, rtype::DS, |_| true);
        reply.answer = chain.kept;
    } else if signs(rtype::NSEC, None) || signs(rtype::NSEC3, None) {
        reply.authority = message.authority.iter().filter(|r| proves(r)).cloned().collect();
    } else {
        return None;
    }
    Some(reply)
}

/// The root as it describes itself: the answer to `. NS`, with the addresses that came along
/// (RFC 8109 section 3.3).
#[must_use]
pub fn primed(message: &Message, port: u16) -> Option<(Cut, Duration)> {
    let root = Name::root();
    let mut servers: Vec<NameServer> = Vec::new();
    let mut ttl = u32::MAX;
    for record in message.answer.iter().filter(|r| r.rtype == rtype::NS && r.owner == root) {
        let name = Name::from_wire(&record.rdata).ok()?;
        ttl = ttl.min(record.ttl);
        let own = message.additional.iter().filter(|r| r.owner == name);
        let addresses = own.filter_map(address).take(ADDRESSES_MAX);
        let addresses: Vec<_> = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
        if !addresses.is_empty() && servers.len() < SERVERS_MAX {
            servers.push(NameServer { name, addresses });
        }
    }
    let life = Duration::from_secs(ttl.into());
    (!servers.is_empty()).then_some((Cut::new(root, servers), life))
}

/// The address in an A or AAAA record.
#[must_use]
pub fn address(record: &Record) -> Option<IpAddr> {
    match record.rtype {
        rtype::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&record.rdata[..]).ok()?).into()),
        rtype::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&record.rdata[..]).ok()?).into()),
        _ => None,
    }
}

/// Where the aliases of a reply lead to that they do not answer themselves.
#[must_use]
pub fn onward(reply: &Reply, asked: &Fetch) -> Option<Name> {
    let denied = reply.authority.iter().any(|record| record.rtype == rtype::SOA);
    if reply.rcode != rcode::NOERROR || denied {
        return None;
    }
    let chain = alias::follow(&reply.answer, &asked.name, asked.qtype, |_| true);
    (chain.ending == Ending::Open && chain.end != asked.name).then_some(chain.end)
}

/// The SOA of a zone that the server serves and `name` is in (RFC 2308 section 2).
fn soa<'a>(asked: &Asked<'_>, message: &'a Message, name: &Name) -> Option<&'a Record> {
    message.authority.iter().find(|record| {
        record.rtype == rtype::SOA
            && record.owner.is_under(asked.zone)
            && name.is_under(&record.owner)
    })
}

/// The SOA and what proves, of the zone and below it.
fn denial(asked: &Asked<'_>, message: &Message, name: &Name) -> Vec<Record> {
    let soa = soa(asked, message, name);
    let signs = |record: &&Record| {
        let covered = record.signature().map(|(covered, _)| covered);
        covered == Some(rtype::SOA) && soa.is_some_and(|soa| soa.owner == record.owner)
    };
    let signatures = message.authority.iter().filter(signs).cloned();
    soa.cloned().into_iter().chain(signatures).chain(proofs(asked, message)).collect()
}

/// NSEC, NSEC3 and what signs them: also what proves that a wildcard was rightly expanded.
fn proofs(asked: &Asked<'_>, message: &Message) -> Vec<Record> {
    let ours = |record: &&Record| proves(record) && record.owner.is_under(asked.zone);
    message.authority.iter().filter(ours).cloned().collect()
}

fn proves(record: &Record) -> bool {
    let denies = |rtype: u16| matches!(rtype, rtype::NSEC | rtype::NSEC3);
    denies(record.rtype) || record.signature().is_some_and(|(covered, _)| denies(covered))
}

/// Servers of one zone that are looked at, and addresses of each. Thirteen serve the root; a
/// referral with more wants to have others asked for them (NXNSAttack).
const SERVERS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 8;

/// RFC 6672 section 2.2.
const YXDOMAIN: u8 = 6;

#[cfg(test)]
mod tests;
