//! Replies the resolver keeps for itself, with their DNSSEC records, by name and type.
//!
//! Pure; its clock is its caller's. Finer than the cache in front, which keeps whole answers for
//! one kind of client: here each link of a chain of aliases stands alone, and serves clients with
//! DO and without, and the resolver's own questions. Nothing gets in that was not asked for:
//! neither glue nor anything else that came along.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::BootTime;
use crate::dns::records::Record;
use crate::dns::{Ede, Name, rcode, rtype};

use super::flushes::{Flushed, Flushes, REMEMBERED_FOR};
use super::reply::{Fetch, Reply};

/// May be used from any thread.
pub struct Known {
    map: Cache<Fetch, Arc<Held>, Octets>,
    flushes: RwLock<Flushes>,
    bounds: RwLock<Bounds>,
}

/// How long a reply is kept at most, and how long a denial (RFC 2308 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub ttl_max: Duration,
    pub negative_ttl_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { ttl_max: REMEMBERED_FOR, negative_ttl_max: REMEMBERED_FOR }
    }
}

/// What is known about one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// With the times that are left.
    Reply(Reply),
    /// It failed a moment ago, and is not tried again yet (RFC 9520 section 3.2).
    Failed(Ede),
}

#[derive(Debug)]
struct Held {
    found: Found,
    /// When the question that led to it was begun.
    asked: BootTime,
    stored: BootTime,
    expires: BootTime,
}

impl Known {
    /// `octets_max` by our own account.
    #[must_use]
    pub fn new(octets_max: u64) -> Self {
        let items = usize::try_from(octets_max / OCTETS_TYPICAL).unwrap_or(usize::MAX);
        Self {
            map: Cache::with_weighter(items, octets_max, Octets),
            flushes: RwLock::default(),
            bounds: RwLock::default(),
        }
    }

    /// What is known, unless it is about to expire: who asks then is there to renew it. That a
    /// name does not exist is known for every type (RFC 2308 section 5).
    #[must_use]
    pub fn find(&self, now: BootTime, fetch: &Fetch) -> Option<Found> {
        let own = self.find_own(now, fetch);
        own.or_else(|| self.denial(now, fetch.name.clone()).map(Found::Reply))
    }

    fn find_own(&self, now: BootTime, fetch: &Fetch) -> Option<Found> {
        let held = self.map.get(fetch)?;
        let life = held.expires.saturating_since(held.stored);
        let left = held.expires.saturating_since(now);
        if left <= life / RENEWED_PART || self.flushes.read().cover(&fetch.name, held.asked) {
            return None;
        }
        let Found::Reply(reply) = &held.found else { return Some(held.found.clone()) };
        let mut reply = reply.clone();
        let age = u32::try_from(now.saturating_since(held.stored).as_secs()).unwrap_or(u32::MAX);
        // Who is told it now believes it no longer than we do: a denial lives as its SOA says, and
        // nothing longer than the operator wants.
        let left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        for record in reply.answer.iter_mut().chain(&mut reply.authority) {
            record.ttl = record.ttl.saturating_sub(age).min(left);
        }
        Some(Found::Reply(reply))
    }

    /// The denial of a name above `name`, if a signed zone gave one: nothing is below it
    /// (RFC 8020 section 2). Servers of unsigned zones are known to deny names that only have
    /// names below them, and are not held to it.
    #[must_use]
    pub fn denied_above(&self, now: BootTime, name: &Name) -> Option<Reply> {
        name.suffixes()
            .skip(1)
            .take(SUFFIXES_LOOKED_AT)
            .find_map(|suffix| self.denial(now, Name::from_wire(suffix).ok()?).filter(is_proven))
    }

    fn denial(&self, now: BootTime, name: Name) -> Option<Reply> {
        match self.find_own(now, &Fetch { name, qtype: DENIAL })? {
            Found::Reply(reply) => Some(reply),
            Found::Failed(_) => None,
        }
    }

    /// Keeps a reply for as long as its times say; `asked` is when its question was begun.
    pub fn keep(&self, now: BootTime, asked: BootTime, fetch: &Fetch, reply: &Reply) {
        let Some(life) = life(reply) else { return };
        let Bounds { ttl_max, negative_ttl_max } = *self.bounds.read();
        let negative = reply.authority.iter().any(|record| record.rtype == rtype::SOA);
        let life = life.min(if negative { negative_ttl_max } else { ttl_max });
        let denies = reply.rcode == rcode::NXDOMAIN && reply.answer.is_empty();
        let qtype = if denies { DENIAL } else { fetch.qtype };
        let fetch = Fetch { name: fetch.name.clone(), qtype };
        self.put(now, asked, &fetch, Found::Reply(reply.clone()), life);
    }

    /// Keeps a failure, for `life`, unless something better is known.
    pub fn keep_failure(
        &self,
        now: BootTime,
        asked: BootTime,
        fetch: &Fetch,
        ede: Ede,
        life: Duration,
    ) {
        if self.find(now, fetch).is_none() {
            self.put(now, asked, fetch, Found::Failed(ede), life);
        }
    }

    /// Forgets a reply that was found to be false, and the denials that it may have come of.
    pub fn forget(&self, fetch: &Fetch) {
        self.map.remove(fetch);
        for suffix in fetch.name.suffixes().take(SUFFIXES_LOOKED_AT + 1) {
            if let Ok(name) = Name::from_wire(suffix) {
                self.map.remove(&Fetch { name, qtype: DENIAL });
            }
        }
    }

    /// What was kept within other bounds is forgotten.
    pub fn set_bounds(&self, now: BootTime, bounds: Bounds) {
        if std::mem::replace(&mut *self.bounds.write(), bounds) != bounds {
            self.flush(now, Flushed::All);
        }
    }

    /// Takes note of a flush.
    pub fn flush(&self, now: BootTime, what: Flushed) {
        self.flushes.write().note(now, what);
    }

    /// Questions that something is known about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&self, now: BootTime, asked: BootTime, fetch: &Fetch, found: Found, life: Duration) {
        if life.is_zero() || self.flushes.read().cover(&fetch.name, asked) {
            return;
        }
        let expires = now + life.min(REMEMBERED_FOR);
        self.map.insert(fetch.clone(), Arc::new(Held { found, asked, stored: now, expires }));
    }
}

/// How long a reply may be kept: its smallest TTL, and for a denial the SOA rule
/// (RFC 2308 section 5). None: not at all.
fn life(reply: &Reply) -> Option<Duration> {
    let all = || reply.answer.iter().chain(&reply.authority);
    let shortest = all().map(|record| believable(record.ttl)).min()?;
    let minimum = reply.authority.iter().find_map(Record::soa_minimum).map(believable);
    let denies = reply.answer.is_empty() || reply.rcode != rcode::NOERROR;
    // What denies a DS in a referral comes without SOA, and is a proof by itself.
    let proof = reply.authority.iter().any(|record| is_denial(record.rtype));
    if denies && minimum.is_none() && !(proof && reply.rcode == rcode::NOERROR) {
        return None;
    }
    let secs = minimum.map_or(shortest, |minimum| shortest.min(minimum));
    Some(Duration::from_secs(secs.into()))
}

/// Whether a denial comes with signed NSEC or NSEC3 records.
#[must_use]
pub fn is_proven(reply: &Reply) -> bool {
    let signed =
        |record: &Record| record.signature().is_some_and(|(covered, _)| is_denial(covered));
    reply.authority.iter().any(|record| is_denial(record.rtype))
        && reply.authority.iter().any(signed)
}

const fn is_denial(rtype: u16) -> bool {
    matches!(rtype, rtype::NSEC | rtype::NSEC3)
}

/// RFC 2181 section 8: a TTL with its top bit set is zero.
const fn believable(ttl: u32) -> u32 {
    if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl }
}

#[derive(Clone)]
struct Octets;

impl Weighter<Fetch, Arc<Held>> for Octets {
    fn weight(&self, fetch: &Fetch, held: &Arc<Held>) -> u64 {
        let records = match &held.found {
            Found::Reply(reply) => {
                let all = reply.answer.iter().chain(&reply.authority).chain(&reply.additional);
                let records: usize =
                    all.map(|r| RECORD_OCTETS + r.owner.as_wire().len() + r.rdata.len()).sum();
                // Most share their cut with others; one that lives nowhere else counts as well.
                records + reply.trail.first().map_or(0, |cut| cut.octets())
            }
            Found::Failed(ede) => ede.text.len(),
        };
        (PLACE_OCTETS + fetch.name.as_wire().len() + records) as u64
    }
}

/// No type of the DNS has this number: under it a name's denial as a whole is kept.
const DENIAL: u16 = 0;

/// An entry in the last so manieth part of its life is asked for anew. Larger than the part in
/// which the cache in front asks again, or that would be answered from here.
const RENEWED_PART: u32 = 8;

/// Names above one that are looked at for a denial. A name has up to 127; the nearest count.
const SUFFIXES_LOOKED_AT: usize = 16;

/// A place in the map, an `Arc` with its counts, and a reply but for its records.
const PLACE_OCTETS: usize = 240;
/// A record without its owner's octets and its data.
const RECORD_OCTETS: usize = 64;
/// For the first size of the map.
const OCTETS_TYPICAL: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime(1_000_000_000_000);

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn fetch(text: &str) -> Fetch {
        Fetch { name: name(text), qtype: rtype::A }
    }

    fn record(owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Record {
        Record { owner: name(owner), rtype, class: 1, ttl, rdata: rdata.to_vec() }
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let mut rdata = vec![0, 0];
        rdata.extend([0; 16]);
        rdata.extend(minimum.to_be_bytes());
        record("test.", rtype::SOA, ttl, &rdata)
    }

    fn address(ttl: u32) -> Reply {
        let answer = vec![record("www.test.", rtype::A, ttl, &[192, 0, 2, 1])];
        Reply { answer, ..Reply::default() }
    }

    fn ttl_at(known: &Known, secs: u64) -> Option<u32> {
        match known.find(NOW + Duration::from_secs(secs), &fetch("www.test."))? {
            Found::Reply(reply) => Some(reply.answer[0].ttl),
            Found::Failed(_) => None,
        }
    }

    #[test]
    fn a_reply_ages_and_is_asked_for_anew_before_it_expires() {
        let known = Known::new(1 << 20);
        known.keep(NOW, NOW, &fetch("www.test."), &address(80));
        assert_eq!(ttl_at(&known, 0), Some(80));
        assert_eq!(ttl_at(&known, 69), Some(11));
        assert_eq!(ttl_at(&known, 70), None);
        known.keep(NOW, NOW, &fetch("www.test."), &address(0));
        assert_eq!(ttl_at(&known, 69), Some(11), "what has no life is not kept");
    }

    #[test]
    fn no_reply_is_kept_longer_than_the_operator_wants() {
        let known = Known::new(1 << 20);
        let second = Duration::from_secs(1);
        let bounds = Bounds { ttl_max: 16 * second, negative_ttl_max: 8 * second };
        known.set_bounds(BootTime(1), bounds);
        known.keep(NOW, NOW, &fetch("www.test."), &address(80));
        assert_eq!(ttl_at(&known, 13), Some(3));
        assert_eq!(ttl_at(&known, 14), None);
        let denial = Reply { rcode: 3, authority: vec![soa(900, 60)], ..Reply::default() };
        known.keep(NOW, NOW, &fetch("gone.test."), &denial);
        assert!(known.find(NOW + 6 * second, &fetch("gone.test.")).is_some());
        assert_eq!(known.find(NOW + 7 * second, &fetch("gone.test.")), None);
        known.set_bounds(NOW + second, bounds);
        assert!(ttl_at(&known, 2).is_some());
        known.set_bounds(NOW + second, Bounds::default());
        assert_eq!(ttl_at(&known, 2), None, "kept within other bounds");
    }

    #[test]
    fn a_denial_lives_as_the_soa_says_and_not_without_one() {
        let denial = |authority| Reply { rcode: 3, authority, ..Reply::default() };
        assert_eq!(life(&denial(vec![soa(900, 60)])), Some(Duration::from_secs(60)));
        assert_eq!(life(&denial(vec![soa(30, 60)])), Some(Duration::from_secs(30)));
        assert_eq!(life(&denial(vec![record("test.", rtype::NSEC, 9, &[0])])), None);
        assert_eq!(life(&Reply::default()), None);
        let no_ds = vec![record("a.test.", rtype::NSEC, 9, &[0])];
        let no_ds = Reply { authority: no_ds, ..Reply::default() };
        assert_eq!(life(&no_ds), Some(Duration::from_secs(9)));
        let odd = Reply { answer: vec![soa(u32::MAX, 5)], ..Reply::default() };
        assert_eq!(life(&odd), Some(Duration::ZERO));
    }

    #[test]
    fn a_denied_name_is_denied_for_every_type_but_those_it_was_seen_with() {
        let known = Known::new(1 << 20);
        let denial = Reply { rcode: 3, authority: vec![soa(60, 60)], ..Reply::default() };
        let seen =
            Reply { answer: vec![record("a.test.", rtype::NS, 60, &[0])], ..Reply::default() };
        let ns = Fetch { qtype: rtype::NS, ..fetch("a.test.") };
        known.keep(NOW, NOW, &ns, &seen);
        known.keep(NOW, NOW, &fetch("a.test."), &denial);
        let other = Fetch { qtype: rtype::DS, ..fetch("a.test.") };
        for denied in [&fetch("a.test."), &other] {
            assert_eq!(known.find(NOW, denied), Some(Found::Reply(denial.clone())));
        }
        assert_eq!(known.find(NOW, &ns), Some(Found::Reply(seen)));
        known.forget(&other);
        assert_eq!(known.find(NOW, &fetch("a.test.")), None, "all of it was found to be false");
    }

    #[test]
    fn nothing_is_below_a_denied_name_if_the_denial_is_signed() {
        let known = Known::new(1 << 20);
        let mut denial = Reply { rcode: 3, authority: vec![soa(900, 60)], ..Reply::default() };
        known.keep(NOW, NOW, &fetch("a.test."), &denial);
        assert_eq!(known.denied_above(NOW, &name("x.y.a.test.")), None);
        denial.authority.push(record("test.", rtype::NSEC, 60, &[0]));
        let mut signature = rtype::NSEC.to_be_bytes().to_vec();
        signature.extend([0; 17]);
        denial.authority.push(record("test.", rtype::RRSIG, 60, &signature));
        known.keep(NOW, NOW, &fetch("a.test."), &denial);
        denial.authority[0].ttl = 60;
        assert_eq!(known.denied_above(NOW, &name("x.y.a.test.")), Some(denial));
        assert_eq!(known.denied_above(NOW, &name("x.y.b.test.")), None);
        known.forget(&fetch("x.y.a.test."));
        assert_eq!(known.denied_above(NOW, &name("z.a.test.")), None, "it was found to be false");
    }

    #[test]
    fn a_failure_is_remembered_and_never_takes_the_place_of_an_answer() {
        let known = Known::new(1 << 20);
        let ede = Ede { code: 22, text: "x".into() };
        let five = Duration::from_secs(5);
        known.keep_failure(NOW, NOW, &fetch("www.test."), ede.clone(), five);
        assert_eq!(known.find(NOW, &fetch("www.test.")), Some(Found::Failed(ede.clone())));
        assert_eq!(known.find(NOW + five, &fetch("www.test.")), None);
        known.keep(NOW, NOW, &fetch("www.test."), &address(80));
        known.keep_failure(NOW, NOW, &fetch("www.test."), ede, five);
        assert_eq!(ttl_at(&known, 0), Some(80));
    }

    #[test]
    fn what_was_asked_for_before_a_flush_is_neither_found_nor_kept() {
        let known = Known::new(1 << 20);
        known.keep(NOW, NOW, &fetch("www.test."), &address(80));
        let later = NOW + Duration::from_secs(1);
        known.flush(later, Flushed::Zone(name("test.")));
        assert_eq!(ttl_at(&known, 2), None);
        known.keep(NOW + Duration::from_secs(2), later, &fetch("www.test."), &address(80));
        assert_eq!(ttl_at(&known, 3), None, "its question is older than the flush");
        let after = NOW + Duration::from_secs(2);
        known.keep(after, after, &fetch("www.test."), &address(80));
        assert_eq!(ttl_at(&known, 3), Some(79));
    }

    #[test]
    fn octets_are_bounded() {
        let known = Known::new(20_000);
        for n in 0..1_000 {
            known.keep(NOW, NOW, &fetch(&format!("n{n}.test.")), &address(80));
        }
        assert!((10..100).contains(&known.len()), "{}", known.len());
    }
}
