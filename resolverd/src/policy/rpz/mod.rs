//! Response policy zones (draft-vixie-dnsop-dns-rpz-00): what a feed has to say of names,
//! addresses and clients.
//!
//! The door. An [`Rpz`] is all policy zones in their order, pure and swapped as a whole. Earlier
//! zones go first; within a zone the order of [`Kind`] holds. What is said of a question alone is
//! told before anybody is asked; what needs the answer, afterwards. Answers are rewritten whether
//! they are signed or not, and are never called secure then.
//!
//! `text` reads files, `wire`, `tsig` and `machine` understand a primary, `kept` is the form on
//! disk of what it said, `driver` does it.

pub mod driver;
pub mod kept;
pub mod machine;
pub mod text;
pub mod trigger;
pub mod tsig;
pub mod wire;
pub mod zone;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use crate::config::{Override, Reason};

use crate::dns::records::{Record, compose};
use crate::dns::{Answer, Cut, Ede, Name, Query, Sections, Source, Trail, rcode, rtype};

use super::addresses;
use super::said::{Alias, Said};
use super::views::ViewId;
pub use driver::{FeedError, FeedSpec, Feeds, Shelf};
pub use trigger::{Kind, Trigger};
pub use zone::{Action, Datum, Zone};

/// All policy zones, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rpz {
    zones: Vec<Policy>,
}

/// One policy zone and how it is meant.
#[derive(Clone, Debug)]
pub struct Policy {
    pub name: Arc<str>,
    pub zone: Arc<Zone>,
    pub policy: Override,
    pub reason: Reason,
    pub log: bool,
    /// Empty: everybody's.
    pub views: Vec<ViewId>,
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which of the zones.
    at: usize,
    pub zone: Arc<str>,
    pub trigger: Trigger,
    /// After the zone's override.
    pub action: Action,
    pub log: bool,
    /// It is told and nothing more.
    pub disabled: bool,
    /// It took an answer to know that it matches.
    pub late: bool,
}

impl Rpz {
    #[must_use]
    pub fn new(zones: Vec<Policy>) -> Self {
        Self { zones }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    #[must_use]
    pub fn zones(&self) -> &[Policy] {
        &self.zones
    }

    /// The prefixes of clients with a rule: the kernel is to leave them to the daemon.
    pub fn clients(&self) -> impl Iterator<Item = IpNet> {
        self.zones.iter().flat_map(|policy| policy.zone.clients())
    }

    /// Whether there is any rule for a client.
    #[must_use]
    pub fn knows(&self, view: ViewId, client: IpAddr) -> bool {
        self.of(view).any(|(_, policy)| policy.zone.client(client).is_some())
    }

    /// What is to be done about a client, whatever it asks. `note` is told of each hit that
    /// decides or would.
    pub fn client(&self, view: ViewId, client: IpAddr, note: &mut dyn FnMut(&Hit)) -> Option<Hit> {
        let mut hits = self.of(view).filter_map(|(at, policy)| {
            policy.zone.client(client).map(|found| policy.hit(at, found))
        });
        hits.find(|hit| decides(hit, note))
    }

    /// What is to be done about a question, as far as that is known before it is answered.
    /// `before`: zones from this one on are left out.
    pub fn question(
        &self,
        view: ViewId,
        name: &Name,
        before: Option<&Hit>,
        note: &mut dyn FnMut(&Hit),
    ) -> Option<Hit> {
        let end = before.map_or(usize::MAX, |hit| hit.at);
        for (at, policy) in self.of(view).take_while(|(at, _)| *at < end) {
            if let Some(found) = policy.zone.qname(name) {
                let hit = policy.hit(at, found);
                if decides(&hit, note) {
                    return Some(hit);
                }
            }
            // An earlier zone may have something to say about the answer.
            if policy.zone.waits() && policy.policy != Override::Disabled {
                return None;
            }
        }
        None
    }

    /// Whether there is any rule about servers.
    #[must_use]
    pub fn judges_servers(&self) -> bool {
        self.zones.iter().any(|policy| policy.zone.judges_servers())
    }

    /// Whether rules about servers leave every answer standing that they leave standing by `old`:
    /// they are the same, and so is all that goes before them.
    #[must_use]
    pub fn judges_servers_like(&self, old: &Self) -> bool {
        let alike = |(new, old): (&Policy, &Policy)| {
            new.name == old.name
                && new.policy == old.policy
                && new.views == old.views
                && new.zone.is_marked_like(&old.zone)
        };
        !self.judges_servers()
            || self.zones.len() == old.zones.len() && self.zones.iter().zip(&old.zones).all(alike)
    }

    /// What is to be done about an answer from elsewhere: the hit, and which of the names on the
    /// way it concerns: 0 is the question's own. `trail` is empty where nobody knows whose servers
    /// led to it, as with forwarders.
    pub fn answer(
        &self,
        view: ViewId,
        question: &Name,
        sections: &Sections,
        trail: &Trail,
        note: &mut dyn FnMut(&Hit),
    ) -> Option<(usize, Hit)> {
        if self.zones.is_empty() {
            return None;
        }
        let names = chain(question, &sections.answer);
        let found: Vec<IpAddr> = sections.answer.iter().filter_map(addresses::of_record).collect();
        for (n, name) in names.iter().enumerate() {
            let last = n + 1 == names.len();
            let mut servers = None;
            for (at, Policy { zone, .. }) in self.of(view) {
                let by_address = || if last { zone.ip(&found) } else { None };
                let by_servers = || {
                    let Servers { names, addresses } = zone.judges_servers().then(|| {
                        servers.get_or_insert_with(|| Servers::of(trail.cut_of(&names[..=n])))
                    })?;
                    zone.ns_name(names).or_else(|| zone.ns_ip(addresses))
                };
                let matched = zone.qname(name).or_else(by_address).or_else(by_servers);
                let Some(matched) = matched else { continue };
                let policy = &self.zones[at];
                let hit = Hit { late: true, ..policy.hit(at, matched) };
                if decides(&hit, note) {
                    return Some((n, hit));
                }
            }
        }
        None
    }

    /// Carries a hit out. `before` are the records on the way to the name that it concerns,
    /// which is `name`. None: nothing is to be changed.
    #[must_use]
    pub fn carry_out(
        &self,
        hit: &Hit,
        query: &Query,
        name: &Name,
        before: Vec<Record>,
    ) -> Option<Said> {
        let policy = self.zones.get(hit.at)?;
        let Action::Data(data) = &hit.action else {
            return match hit.action {
                Action::Passthru => None,
                Action::Drop => Some(Said::Drop),
                Action::TcpOnly => Some(Said::Truncate),
                Action::Nodata => Some(policy.deny(hit, query, &before, rcode::NOERROR)),
                _ => Some(policy.deny(hit, query, &before, rcode::NXDOMAIN)),
            };
        };
        let alias = data.iter().find(|datum| datum.rtype == rtype::CNAME);
        if let Some(datum) = alias.filter(|_| query.qtype != rtype::CNAME) {
            let Some(target) = expand(&datum.rdata, name) else {
                // RFC 6672 section 2.2 has a word for a name that became too long.
                return Some(policy.deny(hit, query, &before, rcode::NXDOMAIN));
            };
            let mut records = before;
            records.push(record(name, datum, target.as_wire()));
            return Some(Said::Alias(Alias {
                records,
                target,
                authoritative: false,
                ede: Some(policy.ede(hit)),
                source: Source::Rpz(Arc::clone(&policy.name)),
            }));
        }
        let wanted = |datum: &&Datum| query.qtype == rtype::ANY || datum.rtype == query.qtype;
        let made = data.iter().filter(wanted).map(|datum| match datum.rtype {
            rtype::CNAME => {
                let target = expand(&datum.rdata, name);
                record(name, datum, target.as_ref().map_or(&datum.rdata, Name::as_wire))
            }
            _ => record(name, datum, &datum.rdata),
        });
        let mut records = before;
        let way = records.len();
        records.extend(made);
        if records.len() == way {
            return Some(policy.deny(hit, query, &records, rcode::NOERROR));
        }
        Some(policy.write(hit, query, &records, &[], rcode::NOERROR))
    }

    fn of(&self, view: ViewId) -> impl Iterator<Item = (usize, &Policy)> {
        let all = self.zones.iter().enumerate();
        all.filter(move |(_, policy)| {
            view != ViewId::EXEMPT && (policy.views.is_empty() || policy.views.contains(&view))
        })
    }
}

impl Hit {
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.trigger.kind()
    }
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, trigger, action, disabled, .. } = self;
        let seen = if *disabled { ", seen only" } else { "" };
        write!(f, "{zone}: {trigger}: {}{seen}", action.as_str())
    }
}

impl Action {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Nxdomain => "nxdomain",
            Self::Nodata => "nodata",
            Self::Passthru => "passthru",
            Self::Drop => "drop",
            Self::TcpOnly => "tcp-only",
            Self::Data(_) => "local-data",
        }
    }
}

impl Policy {
    fn hit(&self, at: usize, (trigger, given): (Trigger, Action)) -> Hit {
        let action = match &self.policy {
            // What the operator lets through by a rule of its own stays through.
            Override::Given | Override::Disabled => given,
            Override::Nxdomain => Action::Nxdomain,
            Override::Nodata => Action::Nodata,
            Override::Passthru => Action::Passthru,
            Override::Drop => Action::Drop,
            Override::TcpOnly => Action::TcpOnly,
            Override::Cname(target) => {
                let rdata = target.as_wire().into();
                let datum = Datum { rtype: rtype::CNAME, ttl: self.ttl(), rdata };
                Action::Data(Arc::from([datum]))
            }
        };
        let zone = Arc::clone(&self.name);
        let disabled = self.policy == Override::Disabled;
        Hit { at, zone, trigger, action, log: self.log, disabled, late: false }
    }

    fn deny(&self, hit: &Hit, query: &Query, before: &[Record], rcode: u8) -> Said {
        let soa = self.zone.soa().map(|soa| Record { ttl: self.ttl(), ..soa.clone() });
        self.write(hit, query, before, soa.as_slice(), rcode)
    }

    fn write(
        &self,
        hit: &Hit,
        query: &Query,
        answer: &[Record],
        authority: &[Record],
        rcode: u8,
    ) -> Said {
        let ttls = answer.iter().chain(authority).map(|record| record.ttl).min();
        let life = Duration::from_secs(ttls.unwrap_or(0).into());
        let bare = Answer {
            source: Source::Rpz(Arc::clone(&self.name)),
            ..Answer::empty(rcode, life, Some(self.ede(hit)))
        };
        Said::Answer(match compose(&query.name, [answer, authority, &[]]) {
            Ok(body) => Answer {
                counts: body.counts,
                body: body.octets,
                ttl_offsets: body.ttl_offsets,
                ..bare
            },
            // A set of local data that fits into no message.
            Err(_) => Answer { life: Duration::ZERO, rcode: rcode::SERVFAIL, ..bare },
        })
    }

    /// Text is what keeps an answer out of the kernel: what depends on more than the question.
    fn ede(&self, hit: &Hit) -> Ede {
        let text = match hit.kind() {
            Kind::Qname if !hit.late => String::new(),
            kind => format!("{}: {}", self.name, kind.as_str()),
        };
        let code = match self.reason {
            Reason::Blocked => 15,
            Reason::Censored => 16,
            Reason::Filtered => 17,
        };
        Ede { code, text }
    }

    fn ttl(&self) -> u32 {
        let soa = self.zone.soa();
        let ttl = soa.map(|soa| soa.ttl.min(soa.soa_minimum().unwrap_or(soa.ttl)));
        ttl.unwrap_or(0).min(TTL_MAX_SECS)
    }
}

/// The servers that had a say in what is told of a name.
struct Servers {
    names: Vec<Name>,
    addresses: Vec<IpAddr>,
}

impl Servers {
    /// Those of a zone and of all above it, but for the root's and those of its children.
    fn of(cut: Option<&Arc<Cut>>) -> Self {
        let cuts = cut.into_iter().flat_map(|cut| cut.upwards());
        let judged = |cut: &&Cut| cut.zone.suffixes().count() > LABELS_UNJUDGED;
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for cut in cuts.filter(judged) {
            names.extend(cut.servers.iter().map(|server| server.name.clone()));
            addresses.extend(cut.addresses());
        }
        Self { names, addresses }
    }
}

/// Whether a hit ends the search; one that is only to be seen does not.
fn decides(hit: &Hit, note: &mut dyn FnMut(&Hit)) -> bool {
    note(hit);
    !hit.disabled
}

/// The names from the question on, along its aliases.
fn chain(question: &Name, records: &[Record]) -> Vec<Name> {
    let mut names = vec![question.clone()];
    while let Some(at) = names.last()
        && names.len() <= CHAIN_MAX
    {
        let alias = records.iter().find(|r| r.rtype == rtype::CNAME && r.owner == *at);
        match alias.and_then(Record::target) {
            Some(target) if !names.contains(&target) => names.push(target),
            _ => break,
        }
    }
    names
}

/// The records that lead to the `n`-th name of the chain.
#[must_use]
pub fn way(question: &Name, records: &[Record], n: usize) -> (Name, Vec<Record>) {
    let names = chain(question, records);
    let leads =
        |name: &Name| records.iter().find(|r| r.rtype == rtype::CNAME && r.owner == *name).cloned();
    let way = names.iter().take(n).filter_map(leads).collect();
    (names.get(n).unwrap_or(question).clone(), way)
}

/// A target that begins with an asterisk has the whole name put in its place.
fn expand(target: &[u8], name: &Name) -> Option<Name> {
    match target {
        [1, b'*', rest @ ..] => {
            let labels = name.as_wire().split_last().map_or(&[][..], |(_, labels)| labels);
            Name::from_wire(&[labels, rest].concat()).ok()
        }
        _ => Name::from_wire(target).ok(),
    }
}

fn record(owner: &Name, datum: &Datum, rdata: &[u8]) -> Record {
    Record {
        owner: owner.clone(),
        rtype: datum.rtype,
        class: 1,
        ttl: datum.ttl,
        rdata: rdata.to_vec(),
    }
}

/// Zones with no more labels, the root's among them, are not judged by their servers: that would
/// be a word about everything below `com`. BIND's `min-ns-dots = 1`.
const LABELS_UNJUDGED: usize = 2;

/// Policy zones at once: each is a look-up for each label of a name.
pub const ZONES_MAX: usize = 32;

/// Aliases that are looked at; answers have no more (`resolver`).
const CHAIN_MAX: usize = 16;

/// A denial that a feed made is believed no longer than a change of the feed should take.
const TTL_MAX_SECS: u32 = 3_600;

#[cfg(test)]
mod tests;
