//! Zones that are answered here, without asking anybody.
//!
//! Pure. A static zone is served as an authoritative server would: aliases are followed within
//! the zone, wildcards expanded (RFC 4592), names with nothing but names below them exist
//! (RFC 8020), and denials carry the SOA. A zone without SOA gets one in the form of RFC 6303
//! section 3: `@ 300 SOA @ nobody.invalid. 1 3600 1200 604800 300`. Nothing is signed, and no
//! zone is delegated from here. An alias that leads out of its zone is the beginning of an
//! answer; the caller finds the rest. The kinds are Unbound's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub use crate::config::ZoneKind;

use crate::dns::records::{Record, compose};
use crate::dns::{Answer, Ede, Name, Query, Source, rcode, rtype};

use super::said::{Alias, Said};
use super::views::{ViewId, Views};
use super::zone_text;

/// A zone as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSpec {
    pub name: Name,
    pub kind: ZoneKind,
    /// In presentation format, one a string. Names without a last dot are completed with the
    /// zone's; a missing TTL is 300.
    pub records: Vec<String>,
    /// Names of the views whose clients see it. Empty: everybody does.
    pub views: Vec<String>,
    /// Whether each answer of it is to be told.
    pub log: bool,
}

/// What is wrong with a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ZoneError {
    /// Which of the zones.
    pub zone: usize,
    /// Which of its records; none: the zone itself.
    pub record: Option<usize>,
    pub message: String,
}

/// All local zones.
#[derive(Clone, Debug, Default)]
pub struct LocalZones {
    /// By name in wire form.
    zones: HashMap<Box<[u8]>, Here>,
}

/// The zones of one name.
#[derive(Clone, Debug, Default)]
struct Here {
    everybodys: Option<Arc<Zone>>,
    own: Vec<(ViewId, Arc<Zone>)>,
}

/// What a zone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub said: Said,
    pub zone: Name,
    pub kind: ZoneKind,
    pub log: bool,
}

#[derive(Clone, Debug)]
struct Zone {
    name: Name,
    kind: ZoneKind,
    log: bool,
    /// Names in wire form that have records, or names below them that have.
    nodes: HashMap<Box<[u8]>, Node>,
    soa: Record,
}

/// The sets of records at one name, by type; none at a name that exists for those below it.
#[derive(Clone, Debug, Default)]
struct Node {
    sets: BTreeMap<u16, Vec<Record>>,
}

impl LocalZones {
    /// # Errors
    ///
    /// What is wrong with a zone.
    pub fn build(specs: &[ZoneSpec], views: &Views) -> Result<Self, ZoneError> {
        let mut zones: HashMap<Box<[u8]>, Here> = HashMap::with_capacity(specs.len());
        for (at, spec) in specs.iter().enumerate() {
            let error = |(record, message)| ZoneError { zone: at, record, message };
            let zone = Arc::new(Zone::build(spec).map_err(error)?);
            let here = zones.entry(spec.name.as_wire().into()).or_default();
            let mut second = false;
            if spec.views.is_empty() {
                second |= here.everybodys.replace(Arc::clone(&zone)).is_some();
            }
            for name in &spec.views {
                let Some(view) = views.id(name) else {
                    return Err(error((None, format!("there is no view named `{name}`"))));
                };
                second |= here.own.iter().any(|(other, _)| *other == view);
                here.own.push((view, Arc::clone(&zone)));
            }
            if second {
                return Err(error((None, format!("a second zone is named `{}`", spec.name))));
            }
        }
        Ok(Self { zones })
    }

    /// What the longest zone that the name is in says. None: this is for others to answer.
    #[must_use]
    pub fn find(&self, query: &Query) -> Option<Found> {
        if self.zones.is_empty() {
            return None;
        }
        let view = ViewId(query.view);
        let mut suffixes = query.name.suffixes();
        let zone = suffixes.find_map(|suffix| self.zones.get(suffix)?.of(view))?;
        let said = zone.say(query)?;
        Some(Found { said, zone: zone.name.clone(), kind: zone.kind, log: zone.log })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }
}

impl Here {
    /// A view's own zone takes the place of everybody's.
    fn of(&self, view: ViewId) -> Option<&Zone> {
        let own = self.own.iter().find(|(id, _)| *id == view).map(|(_, zone)| zone);
        own.or(self.everybodys.as_ref()).map(|zone| &**zone)
    }
}

impl Zone {
    fn build(spec: &ZoneSpec) -> Result<Self, (Option<usize>, String)> {
        let mut zone = Self {
            name: spec.name.clone(),
            kind: spec.kind,
            log: spec.log,
            nodes: HashMap::new(),
            soa: made_up_soa(&spec.name).map_err(|message| (None, message))?,
        };
        if !spec.kind.has_records() && !spec.records.is_empty() {
            return Err((Some(0), "records of a zone of this kind are never served".into()));
        }
        zone.nodes.entry(spec.name.as_wire().into()).or_default();
        for (at, text) in spec.records.iter().enumerate() {
            let error = |message| (Some(at), message);
            let record = zone_text::parse(&spec.name, text).map_err(error)?;
            zone.insert(record).map_err(error)?;
        }
        let apex = zone.nodes.get(spec.name.as_wire());
        if let Some(soa) = apex.and_then(|apex| apex.sets.get(&rtype::SOA)?.first()) {
            zone.soa = soa.clone();
        }
        Ok(zone)
    }

    fn insert(&mut self, record: Record) -> Result<(), String> {
        let owner = record.owner.clone();
        let at_apex = owner == self.name;
        match record.rtype {
            rtype::SOA if !at_apex => {
                return Err(format!("an SOA stands at the zone's name, `{}`", self.name));
            }
            rtype::NS if !at_apex => {
                return Err(format!(
                    "`{owner}` would be delegated, which local zones do not do; send its names \
                     to an [[upstream]] with `zones = [\"{owner}\"]` instead"
                ));
            }
            rtype::DNAME => return Err("DNAME is not served in local zones".into()),
            _ => {}
        }
        if self.kind == ZoneKind::Redirect && !at_apex {
            return Err(format!(
                "all names of a zone of kind \"redirect\" have the records of `{}`; write `@` \
                 instead of `{owner}`",
                self.name
            ));
        }
        // RFC 8020: what is between a name and its zone exists.
        let depth = self.name.as_wire().len();
        for suffix in owner.suffixes().take_while(|suffix| suffix.len() > depth) {
            self.nodes.entry(suffix.into()).or_default();
        }
        let node = self.nodes.entry(owner.as_wire().into()).or_default();
        let alias = record.rtype == rtype::CNAME;
        // RFC 2181 section 10.1.
        if node.sets.keys().any(|&other| alias != (other == rtype::CNAME)) {
            return Err(format!("`{owner}` has a CNAME, and so no other records"));
        }
        let set = node.sets.entry(record.rtype).or_default();
        if set.iter().any(|other| other.rdata == record.rdata) {
            return Ok(());
        }
        if !set.is_empty() && matches!(record.rtype, rtype::CNAME | rtype::SOA) {
            return Err(format!("`{owner}` has one already"));
        }
        // RFC 2181 section 5.2: one TTL a set; of several, the shortest.
        let ttl = set.iter().map(|other| other.ttl).chain([record.ttl]).min().unwrap_or(0);
        set.push(record);
        set.iter_mut().for_each(|record| record.ttl = ttl);
        match compose(&owner, [set, &[], &[]]) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// None: the zone leaves this to others.
    fn say(&self, query: &Query) -> Option<Said> {
        let answer = match self.kind {
            ZoneKind::Static
            | ZoneKind::Transparent
            | ZoneKind::TypeTransparent
            | ZoneKind::Redirect => return self.look_up(query),
            ZoneKind::AlwaysNxdomain => self.blocked(self.deny(query, &[], rcode::NXDOMAIN)),
            ZoneKind::AlwaysNodata => self.blocked(self.deny(query, &[], rcode::NOERROR)),
            ZoneKind::AlwaysNull => self.blocked(self.null(query)),
            ZoneKind::BlockA if query.qtype == rtype::A => {
                self.blocked(self.deny(query, &[], rcode::NOERROR))
            }
            ZoneKind::BlockA => return None,
            ZoneKind::Truncate => return Some(Said::Truncate),
            ZoneKind::Deny => return Some(self.held(query).unwrap_or(Said::Drop)),
            ZoneKind::Refuse => {
                if let Some(said) = self.held(query) {
                    return Some(said);
                }
                let ede = Ede { code: EDE_PROHIBITED, text: String::new() };
                let refusal = Answer::empty(rcode::REFUSED, Duration::ZERO, Some(ede));
                Answer { source: Source::Local(self.name.clone()), ..refusal }
            }
        };
        Some(Said::Answer(answer))
    }

    /// What there are records for, of a zone that keeps silent about all else.
    fn held(&self, query: &Query) -> Option<Said> {
        let node = self.find(&query.name)?;
        let alias = node.sets.contains_key(&rtype::CNAME);
        let any = query.qtype == rtype::ANY && !node.sets.is_empty();
        if any || alias || node.sets.contains_key(&query.qtype) {
            self.look_up(query)
        } else {
            None
        }
    }

    fn blocked(&self, answer: Answer) -> Answer {
        Answer { ede: Some(Ede { code: EDE_BLOCKED, text: String::new() }), ..answer }
    }

    /// Addresses that lead nowhere, for clients that take a denial for a failure.
    fn null(&self, query: &Query) -> Answer {
        let octets = match query.qtype {
            rtype::A => 4,
            rtype::AAAA => 16,
            _ => return self.deny(query, &[], rcode::NOERROR),
        };
        let record = Record {
            owner: query.name.clone(),
            rtype: query.qtype,
            rdata: vec![0; octets],
            ..self.soa.clone()
        };
        self.affirm(query, &[record])
    }

    /// None: the zone has nothing about the name, and does not claim to know all.
    fn look_up(&self, query: &Query) -> Option<Said> {
        let open = matches!(self.kind, ZoneKind::Transparent | ZoneKind::TypeTransparent);
        let mut answers = Vec::new();
        let mut at = query.name.clone();
        for _ in 0..=CHAIN_MAX {
            let Some(node) = self.find(&at) else {
                return match (open, answers.is_empty()) {
                    (true, true) => None,
                    // The alias leads to a name that others know.
                    (true, false) => Some(self.alias(answers, at)),
                    _ => Some(Said::Answer(self.deny(query, &answers, rcode::NXDOMAIN))),
                };
            };
            let set = match query.qtype {
                // RFC 8482 section 4.1: one set is an answer to ANY.
                rtype::ANY => node.sets.values().next(),
                wanted => node.sets.get(&wanted),
            };
            let own = |record: &Record| Record { owner: at.clone(), ..record.clone() };
            if let Some(set) = set {
                answers.extend(set.iter().map(own));
                return Some(Said::Answer(self.affirm(query, &answers)));
            }
            let alias = node.sets.get(&rtype::CNAME).and_then(|set| set.first());
            let Some(alias) = alias else {
                let soa = matches!(query.qtype, rtype::SOA | rtype::ANY) && at == self.name;
                if soa {
                    answers.push(self.soa.clone());
                    return Some(Said::Answer(self.affirm(query, &answers)));
                }
                return match (self.kind, answers.is_empty()) {
                    (ZoneKind::TypeTransparent, true) => None,
                    (ZoneKind::TypeTransparent, false) => Some(self.alias(answers, at)),
                    _ => Some(Said::Answer(self.deny(query, &answers, rcode::NOERROR))),
                };
            };
            answers.push(own(alias));
            match alias.target() {
                Some(target) if self.is_own(&target) => at = target,
                Some(target) => return Some(self.alias(answers, target)),
                None => break,
            }
        }
        // A loop of aliases.
        Some(Said::Answer(self.affirm(query, &answers)))
    }

    /// Whether an alias to this name stays here.
    fn is_own(&self, target: &Name) -> bool {
        target.is_under(&self.name)
    }

    fn alias(&self, records: Vec<Record>, target: Name) -> Said {
        Said::Alias(Alias {
            records,
            target,
            authoritative: true,
            ede: None,
            source: Source::Local(self.name.clone()),
        })
    }

    /// What stands at a name: its own, or a wildcard's (RFC 4592 section 3.3.1).
    fn find(&self, name: &Name) -> Option<&Node> {
        if self.kind == ZoneKind::Redirect {
            return self.nodes.get(self.name.as_wire());
        }
        let depth = self.name.as_wire().len();
        let mut upwards = name.suffixes().take_while(|suffix| suffix.len() >= depth);
        let (encloser, node) =
            upwards.find_map(|suffix| self.nodes.get(suffix).map(|node| (suffix, node)))?;
        let node = if encloser.len() == name.as_wire().len() {
            node
        } else {
            self.nodes.get(&*[b"\x01*", encloser].concat())?
        };
        // A transparent zone has a word on names with records only.
        let open = matches!(self.kind, ZoneKind::Transparent | ZoneKind::TypeTransparent);
        (!open || !node.sets.is_empty()).then_some(node)
    }

    fn affirm(&self, query: &Query, answers: &[Record]) -> Answer {
        self.write(query, answers, &[], rcode::NOERROR)
    }

    /// RFC 2308 section 3: with the SOA, whose TTL is at most its MINIMUM.
    fn deny(&self, query: &Query, answers: &[Record], rcode: u8) -> Answer {
        let ttl = self.soa.ttl.min(self.soa.soa_minimum().unwrap_or(0));
        self.write(query, answers, &[Record { ttl, ..self.soa.clone() }], rcode)
    }

    fn write(&self, query: &Query, answers: &[Record], soa: &[Record], rcode: u8) -> Answer {
        let Ok(body) = compose(&query.name, [answers, soa, &[]]) else {
            // Each set fits; only a chain to a huge one can be too long.
            return Answer::empty(rcode::SERVFAIL, Duration::ZERO, None);
        };
        let life = answers.iter().chain(soa).map(|record| record.ttl).min().unwrap_or(0);
        Answer {
            authoritative: true,
            counts: body.counts,
            body: body.octets,
            ttl_offsets: body.ttl_offsets,
            source: Source::Local(self.name.clone()),
            ..Answer::empty(rcode, Duration::from_secs(life.into()), None)
        }
    }
}

fn made_up_soa(zone: &Name) -> Result<Record, String> {
    zone_text::parse(
        zone,
        &format!("{zone} 300 IN SOA {zone} nobody.invalid. 1 3600 1200 604800 300"),
    )
}

/// Aliases followed in one answer; more are a loop.
pub const CHAIN_MAX: usize = 16;

/// RFC 8914 sections 4.16 and 4.19.
const EDE_BLOCKED: u16 = 15;
const EDE_PROHIBITED: u16 = 18;

#[cfg(test)]
mod tests;
