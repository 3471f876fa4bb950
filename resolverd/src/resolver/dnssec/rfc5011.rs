//! Trust anchors that follow the zone's own keys (RFC 5011).
//!
//! Pure. Whoever drives this asks for the DNSKEYs of the zone when [`Tracker::is_due`] says so
//! and hands them to [`Tracker::observe`]; what is trusted then is [`Tracker::trusted`]. The
//! state is text with a magic and a version, to be stored whole after each change; `state` reads
//! and writes it.
//!
//! What the operator configured is believed until the zone's keys were seen once, and again when
//! he configures something else: his word is newer then. Keys that revoked themselves stay so.
//!
//! ```text
//!            new key               30 days            not there
//!   start ───────────▶ add-pend ───────────▶ valid ◀────────────▶ missing
//!     ▲                   │                    │                     │
//!     ╰── not there ──────╯                    ╰──▶ revoked ◀────────╯   revoke bit, signed
//!                                                      │                 by the key itself
//!                                             30 days  ▼
//!                                                   removed
//! ```

mod state;

use crate::dns::Name;

use super::Failure;
use super::anchors::{Digest, Point};
use super::ede;
use super::keys::{DnsKey, FLAG_REVOKE};
use super::rrset::RrSet;
use super::verify::{Verified, Work, verify};

pub use state::{FOLLOWED_MAX, StateError, read, write};

/// The keys of one trust point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    zone: Name,
    /// What was configured when the keys were followed first.
    from: Digest,
    /// The second in which the keys were seen first; None: not yet.
    begun: Option<u64>,
    /// The second of the last set that was believed.
    seen: Option<u64>,
    keys: Vec<Tracked>,
    /// When the keys are to be asked for again.
    due: u64,
}

/// The second in which a set is looked at. Two, because a test rig may fix the one in which
/// signatures are judged; waits pass by the wall clock all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall: u64,
    pub judged: u64,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    pub key: DnsKey,
    pub state: State,
    /// The second since which it is so.
    pub since: u64,
}

/// RFC 5011 section 4.2. "Start" is not to be in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    AddPend,
    Valid,
    Missing,
    Revoked,
    Removed,
}

/// What became of a key; for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub tag: u16,
    /// None: it was seen and did not stay.
    pub to: Option<State>,
}

impl Tracker {
    /// A tracker that has seen nothing yet. It trusts what `point` trusts as soon as it sees it.
    #[must_use]
    pub fn new(zone: Name, point: &Point) -> Self {
        let from = point.digest();
        Self { zone, from, begun: None, seen: None, keys: Vec::new(), due: 0 }
    }

    /// Whether this follows what is configured. Another `point` is the operator's newer word: see
    /// [`Self::begin_anew`].
    #[must_use]
    pub fn follows(&self, point: &Point) -> bool {
        self.from == point.digest()
    }

    /// Follows another `point`; of what was seen, only revocations are kept.
    pub fn begin_anew(&mut self, point: &Point) {
        let gone = |key: &Tracked| matches!(key.state, State::Revoked | State::Removed);
        let keys = self.keys.iter().filter(|key| gone(key)).cloned().collect();
        *self = Self { keys, ..Self::new(self.zone.clone(), point) };
    }

    #[must_use]
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    #[must_use]
    pub fn keys(&self) -> &[Tracked] {
        &self.keys
    }

    #[must_use]
    pub fn due_at(&self) -> u64 {
        self.due
    }

    /// Whether to ask for the keys now. A time further off than any that is given was given by a
    /// clock that has been set back.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.due <= now || self.due > now + u64::from(QUERY_SECS_MAX)
    }

    /// Has the keys asked for at once: nobody knows what happened while we were away.
    pub fn hasten(&mut self) {
        self.due = 0;
    }

    /// Whether the keys were seen once. Until then, what is configured is to be trusted.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// The second of the last set that was believed.
    #[must_use]
    pub fn seen_at(&self) -> Option<u64> {
        self.seen
    }

    /// The keys that may begin a chain now (RFC 5011 section 4: valid and missing ones).
    #[must_use]
    pub fn trusted(&self) -> Vec<DnsKey> {
        self.keys.iter().filter(|key| key.is_trusted()).map(|key| key.key.clone()).collect()
    }

    /// Judges a DNSKEY set that was fetched, and moves each key by what is shown. `point` is
    /// what was configured, which is believed until this tracker trusts keys of its own.
    pub fn observe(
        &mut self,
        set: &RrSet,
        point: &Point,
        at: Moment,
        work: &mut Work,
    ) -> Result<Vec<Change>, Failure> {
        let Moment { wall: now, judged } = at;
        let seen: Vec<DnsKey> =
            set.records.iter().filter_map(DnsKey::read).take(SEEN_MAX).collect();
        let mut trusted = self.trusted();
        let first_time = self.begun.is_none();
        if first_time {
            let known = |key: &&DnsKey| self.keys.iter().any(|old| same(&old.key, key));
            let configured = seen.iter().filter(|key| point.trusts(&self.zone, key));
            trusted = configured.filter(|key| !known(key)).cloned().collect();
        }
        trusted.retain(|key| key.is_usable() && is_small(key));
        let outcome = verify(set, &self.zone, &trusted, judged, work);
        let Ok(Verified { ttl, expanded_from: None }) = outcome else {
            self.due = now + u64::from(RETRY_SECS);
            // A trusted key that revokes itself needs nobody else's word (section 2.1).
            let mut changes = Vec::new();
            let revoked = self.revoked_in(set, &seen, judged, work);
            self.revoke(&revoked, now, &mut changes);
            if !changes.is_empty() {
                return Ok(changes);
            }
            let text = format!("the keys of {} are signed by none that is trusted", self.zone);
            return Err(outcome.err().unwrap_or(Failure::new(ede::DNSSEC_BOGUS, text)));
        };
        let mut changes = Vec::new();
        self.seen = Some(now);
        if first_time {
            self.begun = Some(now);
            for key in trusted {
                self.add(key, State::Valid, now, &mut changes);
            }
        }
        let revoked = self.revoked_in(set, &seen, judged, work);
        self.revoke(&revoked, now, &mut changes);
        self.meet(&seen, now, &mut changes);
        self.miss(&seen, now, &mut changes);
        self.pass_time(set, &seen, now, &mut changes);
        self.due = now + u64::from(next_query(set, ttl, judged));
        Ok(changes)
    }

    /// The keys could not be fetched.
    pub fn failed(&mut self, now: u64) {
        self.due = now + u64::from(RETRY_SECS);
    }

    /// Keys with the revoke bit that signed the set themselves (RFC 5011 section 2.1): only who
    /// holds a key can revoke it.
    fn revoked_in(&self, set: &RrSet, seen: &[DnsKey], now: u64, work: &mut Work) -> Vec<DnsKey> {
        let known = |key: &&DnsKey| self.keys.iter().any(|tracked| same(&tracked.key, key));
        let candidates = seen.iter().filter(|key| key.is_revoked()).filter(known);
        candidates.filter(|key| signs_itself(set, &self.zone, key, now, work)).cloned().collect()
    }

    fn revoke(&mut self, revoked: &[DnsKey], now: u64, changes: &mut Vec<Change>) {
        for tracked in &mut self.keys {
            let is_revoked = revoked.iter().any(|key| same(&tracked.key, key));
            if is_revoked && !matches!(tracked.state, State::Revoked | State::Removed) {
                tracked.move_to(State::Revoked, now, changes);
            }
        }
    }

    /// Keys that are there: new ones begin their wait, missed ones are back.
    fn meet(&mut self, seen: &[DnsKey], now: u64, changes: &mut Vec<Change>) {
        let fit = |key: &&DnsKey| key.is_usable() && key.is_entry_point() && is_small(key);
        for key in seen.iter().filter(fit) {
            match self.keys.iter_mut().find(|tracked| same(&tracked.key, key)) {
                Some(tracked) if tracked.state == State::Missing => {
                    tracked.move_to(State::Valid, now, changes);
                }
                Some(_) => {}
                None => self.add(key.clone(), State::AddPend, now, changes),
            }
        }
    }

    /// Keys that are not there: waiting ones are forgotten, valid ones are missed.
    fn miss(&mut self, seen: &[DnsKey], now: u64, changes: &mut Vec<Change>) {
        let there =
            |tracked: &Tracked| seen.iter().any(|key| same(key, &tracked.key) && !key.is_revoked());
        self.keys.retain(|tracked| {
            let stays = tracked.state != State::AddPend || there(tracked);
            if !stays {
                changes.push(Change { tag: tracked.key.tag, to: None });
            }
            stays
        });
        for tracked in &mut self.keys {
            if tracked.state == State::Valid && !there(tracked) {
                tracked.move_to(State::Missing, now, changes);
            }
        }
    }

    fn pass_time(&mut self, set: &RrSet, seen: &[DnsKey], now: u64, changes: &mut Vec<Change>) {
        let signed_ttl = set.signatures.iter().map(|signature| signature.original_ttl).max();
        // RFC 5011 section 2.4.1: 30 days, or the TTL of the keys if that is longer.
        let hold = ADD_HOLD_SECS.max(u64::from(signed_ttl.unwrap_or(0)));
        for tracked in &mut self.keys {
            let waited = now.saturating_sub(tracked.since);
            match tracked.state {
                State::AddPend if waited >= hold => {
                    tracked.move_to(State::Valid, now, changes);
                }
                State::Revoked if waited >= REMOVE_HOLD_SECS => {
                    tracked.move_to(State::Removed, now, changes);
                }
                _ => {}
            }
        }
        // One that was removed is remembered while it is still published, so that it does not
        // come back as new.
        self.keys.retain(|tracked| {
            tracked.state != State::Removed || seen.iter().any(|key| same(key, &tracked.key))
        });
    }

    fn add(&mut self, key: DnsKey, state: State, now: u64, changes: &mut Vec<Change>) {
        // Past the bound new keys wait until old ones are gone.
        if self.keys.len() < KEYS_MAX {
            changes.push(Change { tag: key.tag, to: Some(state) });
            self.keys.push(Tracked { key, state, since: now });
        }
    }
}

impl Tracked {
    fn is_trusted(&self) -> bool {
        matches!(self.state, State::Valid | State::Missing)
    }

    fn move_to(&mut self, state: State, now: u64, changes: &mut Vec<Change>) {
        self.state = state;
        self.since = now;
        changes.push(Change { tag: self.key.tag, to: Some(state) });
    }
}

/// Whether there is room for it in the state. Larger ones verify nothing here either.
fn is_small(key: &DnsKey) -> bool {
    key.public.len() <= KEY_OCTETS_MAX
}

/// One key, whether or not it has the revoke bit.
fn same(a: &DnsKey, b: &DnsKey) -> bool {
    a.algorithm == b.algorithm
        && a.public == b.public
        && a.flags & !FLAG_REVOKE == b.flags & !FLAG_REVOKE
}

fn signs_itself(set: &RrSet, zone: &Name, key: &DnsKey, now: u64, work: &mut Work) -> bool {
    // A revoked key verifies nothing but this.
    let Some(plain) = DnsKey::from_rdata(&{
        let mut rdata = key.rdata();
        rdata[1] &= !(FLAG_REVOKE as u8);
        rdata
    }) else {
        return false;
    };
    let key = DnsKey { tag: key.tag, ..plain };
    verify(set, zone, &[key], now, work).is_ok_and(|verified| verified.expanded_from.is_none())
}

/// RFC 5011 section 2.3: half the TTL or half of what is left of the signatures, and between an
/// hour and 15 days.
fn next_query(set: &RrSet, ttl: u32, now: u64) -> u32 {
    let left = set.signatures.iter().map(|signature| {
        u32::try_from(signature.expiration.wrapping_sub(now as u32).cast_signed()).unwrap_or(0)
    });
    let half = set.ttl.max(ttl).min(left.min().unwrap_or(0)) / 2;
    half.clamp(HOUR, QUERY_SECS_MAX)
}

const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;

/// RFC 5011 section 2.3: the longest time between two questions.
const QUERY_SECS_MAX: u32 = 15 * DAY;

/// RFC 5011 section 2.4.1.
pub const ADD_HOLD_SECS: u64 = 30 * DAY as u64;

/// RFC 5011 section 2.4.2.
pub const REMOVE_HOLD_SECS: u64 = 30 * DAY as u64;

/// After a failure: RFC 5011 section 2.3 asks for an hour at least.
const RETRY_SECS: u32 = HOUR;

/// Keys of one trust point that are followed. The root has had three at once.
pub const KEYS_MAX: usize = 16;

/// Of a key that is followed: RSA with 8,192 bits has some 1,030.
const KEY_OCTETS_MAX: usize = 2_048;

/// Keys of one set that are looked at.
const SEEN_MAX: usize = 32;

#[cfg(test)]
mod tests;
