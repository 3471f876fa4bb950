//! Denials that were validated, used again for other names in the same gaps (RFC 8198).
//!
//! Pure and bounded. What is answered here is proven by the very functions that judge what
//! servers say: records are looked up in the store, and `denial` decides whether they prove it.
//! NSEC first; NSEC3 where it has no opt-out, for a gap with opt-out may hold unsigned
//! delegations. Wildcards are not expanded from here.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use crate::dns::records::Record;
use crate::dns::{Name, rcode, rtype};
use crate::resolver::reply::Reply;

use super::denial::nsec3::{Hash, blocks_of, hash_of};
use super::denial::{Denial, NXNAME, Nsec, Nsec3, Proof};
use super::machine::Proven;
use super::names::{
    canonical_cmp, common_ancestor, label_count, parent, path_below, rightmost, wildcard,
};
use super::rrset::RrSet;
use super::verify::Work;

/// Validated denials by zone.
#[derive(Default)]
pub struct Aggressive {
    zones: HashMap<Name, Zone>,
    entries: usize,
    /// Zones in the order in which they were last learned from, oldest first.
    turn: u64,
}

/// An answer that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthesised {
    /// With the SOA, the proof and their signatures, TTLs aged. It is secure.
    pub reply: Reply,
    /// Seconds that it may be believed for.
    pub ttl: u32,
}

#[derive(Default)]
struct Zone {
    soa: Option<Held>,
    nsec: BTreeMap<Ordered, Held>,
    nsec3: BTreeMap<Hash, Held>,
    /// How the NSEC3 are made: iterations and salt.
    made: Option<(u16, Vec<u8>)>,
    learned: u64,
}

struct Held {
    set: RrSet,
    until: u64,
}

/// A name that is ordered as RFC 4034 section 6.1 orders it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ordered(Name);

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        canonical_cmp(&self.0, &other.0)
    }
}

impl Aggressive {
    /// Takes what a machine proved. `now` is wall time in seconds.
    pub fn learn(&mut self, proven: &Proven<'_>, now: u64) {
        // RFC 8198 section 5.4: as long as a negative answer would live, which the SOA says.
        let Some((soa, soa_ttl)) = proven.soa else { return };
        let negative = soa.records.first().and_then(Record::soa_minimum).unwrap_or(0);
        let bound = (*soa_ttl).min(negative).min(LIFE_MAX);
        if bound == 0 {
            return;
        }
        self.make_room(proven.zone);
        self.turn += 1;
        let zone = self.zones.entry(proven.zone.clone()).or_default();
        zone.learned = self.turn;
        zone.soa = Some(Held { set: soa.clone(), until: now + u64::from(bound) });
        for (set, ttl) in proven.sets {
            let held = Held { set: set.clone(), until: now + u64::from(bound.min(*ttl)) };
            let [record] = set.records.as_slice() else { continue };
            let before = zone.len();
            if let Some(nsec) = Nsec::read(proven.zone, record) {
                // RFC 9824: it is made for one name, and says nothing about others.
                if set.rtype == rtype::NSEC && !nsec.types.has(NXNAME) {
                    zone.nsec.insert(Ordered(set.owner.clone()), held);
                }
            } else if let Some(nsec3) = Nsec3::read(proven.zone, record)
                && set.rtype == rtype::NSEC3
            {
                zone.learn_hashed(&nsec3, held);
            }
            self.entries = self.entries + zone.len() - before.min(zone.len());
            if zone.len() > ENTRIES_IN_ZONE_MAX {
                self.entries -= zone.shed(now);
            }
        }
    }

    /// The denial of `name` or of its `qtype`, if what is known proves it.
    #[must_use]
    pub fn synthesise(&self, name: &Name, qtype: u16, now: u64) -> Option<Synthesised> {
        // RFC 8198 section 5: nothing is made of what types like ANY would mean.
        if [rtype::ANY, rtype::RRSIG].contains(&qtype) {
            return None;
        }
        let above = parent(name).filter(|_| qtype == rtype::DS);
        let place = above.as_ref().unwrap_or(name);
        let (apex, zone) = place.suffixes().find_map(|suffix| {
            let apex = super::names::from_suffix(suffix);
            self.zones.get(&apex).map(|zone| (apex, zone))
        })?;
        zone.synthesise(&apex, name, qtype, now)
    }

    /// After a flush of a zone.
    pub fn forget_under(&mut self, flushed: &Name) {
        self.zones.retain(|zone, _| !zone.is_under(flushed) && !flushed.is_under(zone));
        self.entries = self.zones.values().map(Zone::len).sum();
    }

    pub fn forget_all(&mut self) {
        self.zones.clear();
        self.entries = 0;
    }

    /// Records of denials that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The zone that was learned from longest ago leaves.
    fn make_room(&mut self, coming: &Name) {
        let full = self.entries >= ENTRIES_MAX
            || self.zones.len() >= ZONES_MAX && !self.zones.contains_key(coming);
        if !full {
            return;
        }
        let oldest = self.zones.iter().min_by_key(|(_, zone)| zone.learned);
        if let Some(name) = oldest.map(|(name, _)| name.clone())
            && let Some(zone) = self.zones.remove(&name)
        {
            self.entries -= zone.len();
        }
    }
}

impl Zone {
    fn len(&self) -> usize {
        self.nsec.len() + self.nsec3.len()
    }

    fn learn_hashed(&mut self, nsec3: &Nsec3, held: Held) {
        if nsec3.opt_out || nsec3.iterations > ITERATIONS_MAX {
            return;
        }
        let made = (nsec3.iterations, nsec3.salt.clone());
        if self.made.as_ref() != Some(&made) {
            // The zone was signed anew: what was hashed otherwise fits nothing.
            self.nsec3.clear();
            self.made = Some(made);
        }
        self.nsec3.insert(nsec3.hash, held);
    }

    /// Forgets what has expired, and else the half that comes first. Says how many went.
    fn shed(&mut self, now: u64) -> usize {
        let before = self.len();
        self.nsec.retain(|_, held| held.until > now);
        self.nsec3.retain(|_, held| held.until > now);
        if self.len() > ENTRIES_IN_ZONE_MAX {
            let half = self.nsec.keys().nth(self.nsec.len() / 2).cloned();
            if let Some(half) = half {
                self.nsec = self.nsec.split_off(&half);
            }
            let half = self.nsec3.keys().nth(self.nsec3.len() / 2).copied();
            if let Some(half) = half {
                self.nsec3 = self.nsec3.split_off(&half);
            }
        }
        before - self.len()
    }

    fn synthesise(&self, apex: &Name, name: &Name, qtype: u16, now: u64) -> Option<Synthesised> {
        let soa = self.soa.as_ref().filter(|soa| soa.until > now)?;
        let mut work = Work::of_one_question();
        for found in [self.around(name, now), self.around_hashed(apex, name, now)] {
            let denial = Denial::of(apex, found.iter().map(|held| &held.set));
            if denial.is_empty() {
                continue;
            }
            let code = match denial.no_data(name, qtype, &mut work) {
                Ok(Proof::Secure) => rcode::NOERROR,
                _ => match denial.name_error(name, &mut work) {
                    Ok(Proof::Secure) => rcode::NXDOMAIN,
                    _ => continue,
                },
            };
            return Some(reply(code, soa, &found, now));
        }
        None
    }

    /// The NSECs at or before the name and the wildcard beside it.
    fn around(&self, name: &Name, now: u64) -> Vec<&Held> {
        let mut found = Vec::new();
        let Some(first) = self.at_or_before(name, now) else { return found };
        found.push(first);
        if first.set.owner == *name {
            return found;
        }
        let next = first.set.records.first().and_then(|r| super::rrset::name_at(&r.rdata, 0));
        let Some((next, _)) = next else { return found };
        let (left, right) = (common_ancestor(name, &first.set.owner), common_ancestor(name, &next));
        let encloser = if label_count(&left) > label_count(&right) { left } else { right };
        let wildcard = wildcard(&encloser);
        let beside = wildcard.and_then(|wildcard| self.at_or_before(&wildcard, now));
        found.extend(beside.filter(|other| other.set.owner != first.set.owner));
        found
    }

    fn at_or_before(&self, name: &Name, now: u64) -> Option<&Held> {
        let (_, held) = self.nsec.range(..=Ordered(name.clone())).next_back()?;
        (held.until > now).then_some(held)
    }

    /// The NSEC3 of the closest encloser, around the next closer name, and of or around the
    /// wildcard (RFC 5155 section 8); or that of the name.
    fn around_hashed(&self, apex: &Name, name: &Name, now: u64) -> Vec<&Held> {
        let mut found: Vec<&Held> = Vec::new();
        let Some((iterations, salt)) = &self.made else { return found };
        if self.nsec3.is_empty() || !name.is_under(apex) {
            return found;
        }
        let mut work = Work::of_one_question();
        let mut hash = |of: &Name| {
            work.hash(blocks_of(of, salt, *iterations)).then(|| hash_of(of, salt, *iterations))
        };
        let exact = |hash: &Hash| self.nsec3.get(hash).filter(|held| held.until > now);
        let near = |hash: &Hash| {
            // The last of the ring covers what is before the first.
            let before = self.nsec3.range(..=*hash).next_back();
            let (_, held) = before.or_else(|| self.nsec3.last_key_value())?;
            (held.until > now).then_some(held)
        };
        let mut names = path_below(apex, name);
        names.insert(0, apex.clone());
        for at in names.iter().rev() {
            let Some(digest) = hash(at) else { return Vec::new() };
            let Some(held) = exact(&digest) else { continue };
            found.push(held);
            if at == name {
                return found;
            }
            let next_closer = rightmost(name, label_count(at) + 1);
            for other in [Some(next_closer), wildcard(at)].into_iter().flatten() {
                let Some(digest) = hash(&other) else { return Vec::new() };
                found.extend(near(&digest));
            }
            break;
        }
        // One record may serve twice.
        let mut once: Vec<&Held> = Vec::new();
        for held in found {
            if !once.iter().any(|other| other.set.owner == held.set.owner) {
                once.push(held);
            }
        }
        once
    }
}

/// A negative answer of these, with what is left of their lives as TTLs.
fn reply(code: u8, soa: &Held, found: &[&Held], now: u64) -> Synthesised {
    let left = |held: &Held| u32::try_from(held.until.saturating_sub(now)).unwrap_or(u32::MAX);
    let all = || std::iter::once(soa).chain(found.iter().copied());
    let ttl = all().map(left).min().unwrap_or(0);
    let authority = all()
        .flat_map(|held| held.set.all_records())
        .map(|record| Record { ttl: record.ttl.min(ttl), ..record })
        .collect();
    let reply = Reply { rcode: code, authority, ..Reply::default() };
    Synthesised { reply, ttl }
}

/// NSEC and NSEC3 in all: some 20 MiB with their signatures.
const ENTRIES_MAX: usize = 32_768;

/// In one zone: a random-name flood fills no more, and what fills it covers much of the zone.
const ENTRIES_IN_ZONE_MAX: usize = 8_192;

const ZONES_MAX: usize = 4_096;

/// RFC 9077, RFC 2308 section 5: a denial is not believed for longer than three hours.
const LIFE_MAX: u32 = 10_800;

/// Past these iterations an answer from here costs more than asking.
const ITERATIONS_MAX: u16 = 50;

#[cfg(test)]
mod tests;
