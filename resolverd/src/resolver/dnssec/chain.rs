//! From a trust anchor down to the zone of a record: keys that may be trusted, or the proof that
//! there are none.
//!
//! Pure. Two ways lead down. Where a record is signed, its signer is known: the DS and the
//! DNSKEYs of that zone are asked for at once, and upwards from there until a zone is
//! known ([`Chain::standing`]). Where nothing is signed, every name from the anchor on is
//! asked for its DS until an unsigned delegation is found ([`Chain::unsigned`]).
//!
//! Every function either knows, or has asked for what it lacks and says [`Wait`]; it is asked
//! anew when that came. What is known is remembered, so that asking anew costs little.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dns::{Name, rcode, rtype};
use crate::resolver::reply::{Fetch, Reply};

use super::anchors::{Anchors, Closest, Point};
use super::denial::Cut;
use super::keys::{DnsKey, Ds, supports_algorithm};
use super::names::{from_suffix, is_below, parent, path_below};
use super::proofs::{no_zone, signers, verify_denials};
use super::rrset::{RrSet, group};
use super::verify::{Verified, Work, verify};
use super::zones::{BOGUS_LIFE, Standing, Zones};
use super::{Failure, Reason, ede};

/// What one question knows of zones.
pub(super) struct Chain {
    anchors: Arc<Anchors>,
    zones: Arc<Zones>,
    /// What was found out for this question: it holds to its end, whatever its TTL.
    known: HashMap<Name, Standing>,
    fetched: HashMap<Fetch, Fetched>,
    fetches_left: usize,
    pub(super) work: Work,
}

/// Something has been asked for; ask anew when it came.
#[derive(Debug)]
pub(super) struct Wait;

/// Where a record stands for which no signature is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsigned {
    /// Below an unsigned delegation: as it should be.
    Insecure(Reason),
    /// The chain down to it is broken.
    Bogus(Failure),
    /// In this signed zone: it should have been signed.
    InZone(Name),
}

enum Fetched {
    Asked,
    Came(Arc<Reply>),
    Failed,
}

/// What the zone above says of a name, by its DS or the denial of it.
enum Above {
    Points(Vec<Ds>),
    Insecure(Reason),
    Inside,
    NoName,
    Bogus(Failure),
}

impl Chain {
    pub(super) fn new(anchors: Arc<Anchors>, zones: Arc<Zones>) -> Self {
        Self {
            anchors,
            zones,
            known: HashMap::new(),
            fetched: HashMap::new(),
            fetches_left: FETCHES_MAX,
            work: Work::of_one_question(),
        }
    }

    /// A reply that is at hand before it is asked for.
    pub(super) fn has(&mut self, fetch: Fetch, reply: Arc<Reply>) {
        self.fetched.insert(fetch, Fetched::Came(reply));
    }

    /// A reply that was asked for. False if nobody waits for it.
    pub(super) fn came(&mut self, fetch: Fetch, reply: Arc<Reply>) -> bool {
        let waits = self.waits_for(&fetch);
        if waits {
            self.fetched.insert(fetch, Fetched::Came(reply));
        }
        waits
    }

    pub(super) fn failed(&mut self, fetch: Fetch) -> bool {
        let waits = self.waits_for(&fetch);
        if waits {
            self.fetched.insert(fetch, Fetched::Failed);
        }
        waits
    }

    fn waits_for(&self, fetch: &Fetch) -> bool {
        matches!(self.fetched.get(fetch), Some(Fetched::Asked))
    }

    pub(super) fn closest(&self, name: &Name, now: u64) -> Closest<'_> {
        self.anchors.closest(name, now)
    }

    /// How `zone` stands, which signed something. It is at or below its closest anchor.
    pub(super) fn standing(
        &mut self,
        zone: &Name,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<Standing, Wait> {
        if let Some(known) = self.recall(zone, now) {
            return Ok(known);
        }
        let anchors = Arc::clone(&self.anchors);
        let (top, point) = match anchors.closest(zone, now) {
            Closest::Anchor(top, point) => (top, point),
            Closest::Negative(at) => {
                return Ok(Standing::Insecure(Reason::NegativeAnchor(at.clone())));
            }
            Closest::Nothing => return Ok(Standing::Inside),
        };
        if zone == top {
            return self.anchored(zone, point, now, out);
        }
        // What stands badly above stands no better below.
        for above in path_below(top, zone).iter().rev().skip(1).chain([top]) {
            match self.recall(above, now) {
                Some(Standing::Secure(_)) => break,
                Some(Standing::Inside) | None => {}
                Some(bad) => return Ok(bad),
            }
        }
        // Both are needed if all is well, and then one time of waiting is saved.
        let ds = self.fetch(zone, rtype::DS, out);
        if !self.fetched.contains_key(&Fetch { name: zone.clone(), qtype: rtype::DNSKEY }) {
            // What came of it is asked for below.
            let _ = self.fetch(zone, rtype::DNSKEY, out);
        }
        let (above, ttl) = self.above(zone, top, ds?.as_deref(), now, out)?;
        let standing = match above {
            Above::Points(ds) => return self.delegated(zone, &ds, ttl, now, out),
            Above::Insecure(reason) => Standing::Insecure(reason),
            Above::Inside | Above::NoName => Standing::Inside,
            Above::Bogus(failure) => Standing::Bogus(failure),
        };
        Ok(self.remember(zone, standing, ttl, now))
    }

    /// Where `name` stands, for which nothing signed is at hand.
    pub(super) fn unsigned(
        &mut self,
        name: &Name,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<Unsigned, Wait> {
        let anchors = Arc::clone(&self.anchors);
        let top = match anchors.closest(name, now) {
            Closest::Anchor(top, _) => top,
            Closest::Negative(at) => {
                return Ok(Unsigned::Insecure(Reason::NegativeAnchor(at.clone())));
            }
            // Nobody asks for names that no anchor governs.
            Closest::Nothing => {
                return Ok(Unsigned::Insecure(Reason::Delegation(Name::root(), None)));
            }
        };
        let path = path_below(top, name);
        // The deepest name about which something is known saves all above it.
        let mut start = 0;
        let mut zone = top.clone();
        for (at, cut) in path.iter().enumerate().rev() {
            match self.recall(cut, now) {
                Some(Standing::Secure(_)) => {
                    zone = cut.clone();
                    start = at + 1;
                    break;
                }
                Some(Standing::Insecure(reason)) => return Ok(Unsigned::Insecure(reason)),
                Some(Standing::Bogus(failure)) => return Ok(Unsigned::Bogus(failure)),
                Some(Standing::Inside) | None => {}
            }
        }
        if start == 0 {
            match self.standing(top, now, out)? {
                Standing::Secure(_) => {}
                Standing::Insecure(reason) => return Ok(Unsigned::Insecure(reason)),
                Standing::Bogus(failure) => return Ok(Unsigned::Bogus(failure)),
                Standing::Inside => return Ok(Unsigned::InZone(zone)),
            }
        }
        for cut in &path[start..] {
            if self.recall(cut, now) == Some(Standing::Inside) {
                continue;
            }
            let ds = self.fetch(cut, rtype::DS, out)?;
            let (above, ttl) = self.above(cut, top, ds.as_deref(), now, out)?;
            let standing = match above {
                Above::Points(ds) => self.delegated(cut, &ds, ttl, now, out)?,
                Above::Insecure(reason) => self.remember(cut, Standing::Insecure(reason), ttl, now),
                Above::Inside => self.remember(cut, Standing::Inside, ttl, now),
                Above::NoName => return Ok(Unsigned::InZone(zone)),
                Above::Bogus(failure) => self.remember(cut, Standing::Bogus(failure), ttl, now),
            };
            match standing {
                Standing::Secure(_) => zone = cut.clone(),
                Standing::Inside => {}
                Standing::Insecure(reason) => return Ok(Unsigned::Insecure(reason)),
                Standing::Bogus(failure) => return Ok(Unsigned::Bogus(failure)),
            }
        }
        Ok(Unsigned::InZone(zone))
    }

    /// The keys of a zone that an anchor trusts.
    fn anchored(
        &mut self,
        zone: &Name,
        point: &Point,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<Standing, Wait> {
        if !point.is_usable() {
            return Ok(Standing::Insecure(Reason::Delegation(zone.clone(), None)));
        }
        let reply = self.fetch(zone, rtype::DNSKEY, out)?;
        let trusts = |key: &DnsKey| point.trusts(zone, key);
        let (standing, ttl) = self.keys_of(zone, reply.as_deref(), &trusts, now);
        Ok(self.remember(zone, standing, ttl, now))
    }

    /// The keys of a zone that its parent points to (RFC 4035 section 5.2).
    fn delegated(
        &mut self,
        zone: &Name,
        ds: &[Ds],
        ds_ttl: u32,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<Standing, Wait> {
        if !ds.iter().any(Ds::is_usable) {
            let known = ds.iter().any(|ds| supports_algorithm(ds.algorithm));
            let (code, what) = match known {
                true => (ede::UNSUPPORTED_DIGEST, "digest"),
                false => (ede::UNSUPPORTED_ALGORITHM, "algorithm"),
            };
            let why = Failure::new(code, format!("no DS of {zone} has a supported {what}"));
            let standing = Standing::Insecure(Reason::Delegation(zone.clone(), Some(why)));
            return Ok(self.remember(zone, standing, ds_ttl, now));
        }
        let reply = self.fetch(zone, rtype::DNSKEY, out)?;
        let trusts = |key: &DnsKey| ds.iter().any(|ds| ds.points_to(zone, key));
        let (standing, ttl) = self.keys_of(zone, reply.as_deref(), &trusts, now);
        Ok(self.remember(zone, standing, ttl.min(ds_ttl), now))
    }

    /// The keys in a reply, if one that is trusted signs them all.
    fn keys_of(
        &mut self,
        zone: &Name,
        reply: Option<&Reply>,
        trusts: &dyn Fn(&DnsKey) -> bool,
        now: u64,
    ) -> (Standing, u32) {
        let bogus = |code, text: String| (Standing::Bogus(Failure::new(code, text)), BOGUS_LIFE);
        let Some(reply) = reply else {
            let text = format!("the DNSKEY of {zone} could not be fetched");
            return (Standing::Bogus(Failure::passing(ede::NO_REACHABLE_AUTHORITY, text)), 0);
        };
        let sets = group(&reply.answer);
        let Some(set) = sets.iter().find(|s| s.rtype == rtype::DNSKEY && s.owner == *zone) else {
            return bogus(ede::DNSKEY_MISSING, format!("{zone} has a DS and no DNSKEY"));
        };
        if set.records.len() > KEYS_MAX {
            let text = format!("{zone} has more than {KEYS_MAX} keys");
            return bogus(ede::DNSSEC_BOGUS, text);
        }
        let keys: Vec<DnsKey> = set.records.iter().filter_map(DnsKey::read).collect();
        let trusted: Vec<&DnsKey> = keys.iter().filter(|key| trusts(key)).collect();
        let Some(first) = trusted.first() else {
            let text = format!("no DNSKEY of {zone} is one that its DS or anchor points to");
            return bogus(ede::DNSKEY_MISSING, text);
        };
        if !trusted.iter().any(|key| key.is_zone_key()) {
            let text = format!("the DNSKEY {} of {zone} has no zone key bit", first.tag);
            return bogus(ede::NO_ZONE_KEY, text);
        }
        let entries: Vec<DnsKey> = trusted.into_iter().filter(|k| k.is_usable()).cloned().collect();
        match verify(set, zone, &entries, now, &mut self.work) {
            Ok(Verified { ttl, expanded_from: None }) => {
                let usable = keys.into_iter().filter(DnsKey::is_usable).collect();
                (Standing::Secure(usable), ttl)
            }
            Ok(_) => bogus(ede::DNSSEC_BOGUS, format!("keys of {zone} made from a wildcard")),
            Err(failure) => (Standing::Bogus(failure), BOGUS_LIFE),
        }
    }

    /// What a reply to a question for the DS of `name` shows, and for how long. `top` is the
    /// anchor above it.
    fn above(
        &mut self,
        name: &Name,
        top: &Name,
        reply: Option<&Reply>,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<(Above, u32), Wait> {
        let bogus = |code, text: String| Ok((Above::Bogus(Failure::new(code, text)), BOGUS_LIFE));
        let usable = |reply: &&Reply| [rcode::NOERROR, rcode::NXDOMAIN].contains(&reply.rcode);
        let Some(reply) = reply.filter(usable) else {
            let text = format!("the DS of {name} could not be fetched");
            let failure = Failure::passing(ede::NO_REACHABLE_AUTHORITY, text);
            return Ok((Above::Bogus(failure), 0));
        };
        let answers = group(&reply.answer);
        let at_name =
            |wanted: u16| answers.iter().find(|set| set.rtype == wanted && set.owner == *name);
        let (set, is_ds) = match (at_name(rtype::DS), at_name(rtype::CNAME)) {
            (Some(set), _) => (set, true),
            // A name with an alias is no delegation.
            (None, Some(set)) => (set, false),
            (None, None) => return self.no_ds(name, top, reply, now, out),
        };
        let mut failure = None;
        for signer in signers(set, top, true) {
            let keys = match self.standing(&signer, now, out)? {
                Standing::Secure(keys) => keys,
                Standing::Insecure(reason) => return Ok((Above::Insecure(reason), BOGUS_LIFE)),
                Standing::Bogus(other) => return Ok((Above::Bogus(other), BOGUS_LIFE)),
                Standing::Inside => {
                    failure.get_or_insert_with(|| no_zone(set, &signer));
                    continue;
                }
            };
            match verify(set, &signer, &keys, now, &mut self.work) {
                Ok(Verified { ttl, .. }) if !is_ds => return Ok((Above::Inside, ttl)),
                Ok(Verified { ttl, expanded_from: None }) => {
                    if set.records.len() > DS_MAX {
                        let text = format!("{name} has more than {DS_MAX} DS");
                        return bogus(ede::DNSSEC_BOGUS, text);
                    }
                    let ds = set.records.iter().filter_map(Ds::read).collect();
                    return Ok((Above::Points(ds), ttl));
                }
                Ok(_) => {
                    return bogus(ede::DNSSEC_BOGUS, format!("DS of {name} made from a wildcard"));
                }
                Err(other) => failure = Some(other),
            }
        }
        if let Some(failure) = failure {
            return Ok((Above::Bogus(failure), BOGUS_LIFE));
        }
        self.unsigned_above(name, now, out, ede::RRSIGS_MISSING, "the DS is not signed")
    }

    /// What the denial of a DS shows.
    fn no_ds(
        &mut self,
        name: &Name,
        top: &Name,
        reply: &Reply,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<(Above, u32), Wait> {
        let authority = group(&reply.authority);
        let denies = |set: &&RrSet| matches!(set.rtype, rtype::NSEC | rtype::NSEC3);
        let first = authority.iter().filter(denies).flat_map(|set| signers(set, top, true));
        let Some(signer) = first.into_iter().find(|signer| is_below(name, signer)) else {
            let what = "no signed proof that there is no DS";
            return self.unsigned_above(name, now, out, ede::NSEC_MISSING, what);
        };
        let keys = match self.standing(&signer, now, out)? {
            Standing::Secure(keys) => keys,
            Standing::Insecure(reason) => return Ok((Above::Insecure(reason), BOGUS_LIFE)),
            Standing::Bogus(failure) => return Ok((Above::Bogus(failure), BOGUS_LIFE)),
            Standing::Inside => {
                let text = format!("the denial of the DS of {name} is signed by no zone: {signer}");
                let failure = Failure::new(ede::DNSSEC_BOGUS, text);
                return Ok((Above::Bogus(failure), BOGUS_LIFE));
            }
        };
        let held = verify_denials(&authority, &signer, &keys, now, &mut self.work);
        let exists = reply.rcode != rcode::NXDOMAIN;
        let above = match held.denial.cut(name, exists, &mut self.work) {
            Ok(Cut::Insecure(reason)) => Above::Insecure(reason),
            Ok(Cut::None) => Above::Inside,
            Ok(Cut::NoName) => Above::NoName,
            Err(failure) => {
                return Ok((Above::Bogus(held.failure.unwrap_or(failure)), BOGUS_LIFE));
            }
        };
        Ok((above, held.ttl))
    }

    /// A reply about `name` from above that is not signed is right if what is above is insecure.
    fn unsigned_above(
        &mut self,
        name: &Name,
        now: u64,
        out: &mut Vec<Fetch>,
        code: u16,
        what: &str,
    ) -> Result<(Above, u32), Wait> {
        let above = parent(name).unwrap_or_else(Name::root);
        let above = match self.unsigned(&above, now, out)? {
            Unsigned::Insecure(reason) => Above::Insecure(reason),
            Unsigned::Bogus(failure) => Above::Bogus(failure),
            Unsigned::InZone(zone) => {
                let text = format!("{what}: {name}, zone {zone}");
                Above::Bogus(Failure::new(code, text))
            }
        };
        Ok((above, BOGUS_LIFE))
    }

    fn recall(&self, name: &Name, now: u64) -> Option<Standing> {
        self.known.get(name).cloned().or_else(|| self.zones.standing(name, now))
    }

    /// Whether the keys of a zone that `name` is in were found false: which, and whether just now.
    pub(super) fn condemned(&self, name: &Name, now: u64) -> Option<(Name, bool)> {
        let bogus = |standing: Option<&Standing>| matches!(standing, Some(Standing::Bogus(_)));
        name.suffixes().map(from_suffix).find_map(|zone| {
            let anew = bogus(self.known.get(&zone));
            (anew || bogus(self.zones.standing(&zone, now).as_ref())).then_some((zone, anew))
        })
    }

    fn remember(&mut self, name: &Name, standing: Standing, ttl: u32, now: u64) -> Standing {
        self.zones.keep(name, standing.clone(), ttl, now);
        self.known.insert(name.clone(), standing.clone());
        standing
    }

    /// The reply, None if there is none to be had, or [`Wait`] with the question on its way.
    fn fetch(
        &mut self,
        name: &Name,
        qtype: u16,
        out: &mut Vec<Fetch>,
    ) -> Result<Option<Arc<Reply>>, Wait> {
        let fetch = Fetch { name: name.clone(), qtype };
        match self.fetched.get(&fetch) {
            Some(Fetched::Asked) => Err(Wait),
            Some(Fetched::Came(reply)) => Ok(Some(Arc::clone(reply))),
            Some(Fetched::Failed) => Ok(None),
            None if self.fetches_left == 0 => {
                self.fetched.insert(fetch, Fetched::Failed);
                Ok(None)
            }
            None => {
                self.fetches_left -= 1;
                out.push(fetch.clone());
                self.fetched.insert(fetch, Fetched::Asked);
                Err(Wait)
            }
        }
    }
}

/// DS and DNSKEY questions for one question of a client. A reverse IPv6 name of an unsigned
/// zone takes one for each of its 34 labels at worst.
const FETCHES_MAX: usize = 64;

/// DS of one delegation (KeyTrap). Roll-overs need four.
const DS_MAX: usize = 16;

/// Keys of one zone. The largest sets seen in the root and in TLDs have less than ten.
const KEYS_MAX: usize = 32;
