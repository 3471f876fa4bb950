//! Answers past their time: whether one may still be used, and as what (RFC 8767).
//!
//! Pure. An answer is used past its time where nobody has a newer one, never for longer than the
//! configuration and its signatures allow. It is then written anew as an entry with a short life
//! of its own: for so long nobody is asked again, and the kernel does not get it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use resolverd_common::entry::{self, Flags, HEAD_WORDS, Head};
use resolverd_common::key::Key;
use resolverd_common::time::{MILLI, SECOND};
use zerocopy::IntoBytes;

use super::held::{Beside, Held};
use super::{Cache, Seen, State, name_of};
use crate::dns::{Answer, Source, rcode};

/// The longest that may be configured, and that flushes are remembered for (RFC 8767 section 5
/// suggests one to three days).
pub const STALE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How long a stale answer is used before somebody is asked again, and its TTL: RFC 8767
/// section 5 wants no more than a try each 30 seconds, section 4 recommends 30 seconds of TTL.
pub const RECHECK: Duration = Duration::from_secs(30);

/// RFC 8914 section 4.4.
pub const EDE_STALE: u16 = 3;
/// RFC 8914 section 4.20.
pub const EDE_STALE_NXDOMAIN: u16 = 19;

impl Cache {
    /// Whether there is an answer past its time that may be used (RFC 8767).
    #[must_use]
    pub fn has_stale(&self, key: Key, meta: u64, name: &[u64], now: u64) -> bool {
        let seen = || self.peek(key, meta, name, now);
        self.serve_stale_secs() > 0 && seen().is_some_and(|seen| seen.state == State::Stale)
    }

    /// Has the answer past its time used for as long as nobody is to be asked again. One that
    /// came meanwhile is given in its place. None: it may not be used any more.
    #[must_use]
    pub fn use_stale(&self, key: Key, meta: u64, name: &[u64], now: u64) -> Option<Seen> {
        let mut seen = self.peek(key, meta, name, now)?;
        let mut words = vec![0; seen.head.len_words()];
        // Alone: whoever stores an answer holds the other side of this lock, so that none that
        // comes now is lost to an old one. It is taken once in a while for a name.
        let flushes = self.flushes.write();
        let held = self.store.peek(key)?;
        if !held.is(&seen.held) {
            drop(flushes);
            seen = self.peek(key, meta, name, now)?;
            let good = seen.state == State::Fresh && seen.head.flags.rcode() != rcode::SERVFAIL;
            return good.then_some(seen);
        }
        if seen.state == State::Fresh {
            return (seen.head.flags.rcode() != rcode::SERVFAIL).then_some(seen);
        }
        if seen.state != State::Stale || !flushes.spare(seen.head.stored_at, name_of(name, meta)) {
            return None;
        }
        let until = usable_until(&seen.head, held.stale_secs_max(), self.serve_stale_secs());
        held.copy_to(&mut words);
        let (head, stale_secs_max) = renew(&mut words, now, until)?;
        let round = self.round.load(Ordering::Acquire);
        let beside = Beside { text: "", round, stale_secs_max, stale: true };
        let held = Held::new(&words, &beside);
        self.store.insert(key, held.clone());
        Some(Seen { held, head, state: State::Fresh })
    }

    /// How long a client waits where there is an answer past its time.
    #[must_use]
    pub fn stale_answer_after(&self) -> Duration {
        Duration::from_millis(self.stale_answer_after_millis.load(Ordering::Relaxed))
    }

    /// How much longer than now an answer that is not fresh may be used.
    #[must_use]
    pub fn stale_left(&self, seen: &Seen, now: u64) -> Duration {
        let Seen { held, head, .. } = seen;
        let until = usable_until(head, held.stale_secs_max(), self.serve_stale_secs());
        Duration::from_nanos(until.saturating_sub(now))
    }

    pub(super) fn serve_stale_secs(&self) -> u32 {
        self.serve_stale_secs.load(Ordering::Relaxed)
    }
}

/// Seconds past its life for which an answer's signatures let it be used (RFC 4035 section
/// 5.3.3): `signed_secs` where the validator says so. A secure one of which nothing is said may
/// not be used at all, and one without signatures has no such bound.
#[must_use]
pub const fn secs_max(head: &Head, signed_secs: Option<u32>) -> u32 {
    match signed_secs {
        Some(secs) => secs,
        None if head.flags.has(Flags::SECURE) => 0,
        None => u32::MAX,
    }
}

/// The boot time until which an entry may be used: the end of its life where it may not be used
/// past it. Only what says what there is, or that there is nothing, is worth it.
#[must_use]
pub fn usable_until(head: &Head, secs_max: u32, allowed_secs: u32) -> u64 {
    let says_something = matches!(head.flags.rcode(), rcode::NOERROR | rcode::NXDOMAIN);
    let secs = if says_something { secs_max.min(allowed_secs) } else { 0 };
    head.expires_at().saturating_add(u64::from(secs) * SECOND)
}

/// Makes an entry a stale answer that lives from `now` for [`RECHECK`], but not past `until`.
/// Gives its new head, and the seconds that it may be used for past that life.
///
/// None: there is no time left, or these are no words of an entry.
pub fn renew(words: &mut [u64], now: u64, until: u64) -> Option<(Head, u32)> {
    let old = entry::head_of(words)?;
    let left = Duration::from_nanos(until.checked_sub(now)?);
    let life = left.min(RECHECK);
    // RECHECK has 30,000 of them.
    let life_millis = u32::try_from(life.as_millis()).ok().filter(|millis| *millis > 0)?;
    let ede = match old.flags.rcode() {
        rcode::NXDOMAIN => EDE_STALE_NXDOMAIN,
        _ => EDE_STALE,
    };
    let flags = Flags(old.flags.0 | Flags::EDE | Flags::DAEMON_ONLY);
    let head = Head { stored_at: now, life_millis, flags, ede, ..old };
    words[..HEAD_WORDS].copy_from_slice(&head.words());
    // The sum of the body is of one whose TTLs are zero.
    let ttl = life_millis.div_ceil(1_000).to_be_bytes();
    let body_at = head.body_at() * 8;
    for i in 0..head.ttls() {
        let offset = (words[HEAD_WORDS + i / 4] >> (i % 4 * 16)) as u16;
        let at = body_at + usize::from(offset);
        words.as_mut_bytes().get_mut(at..at + 4)?.copy_from_slice(&ttl);
    }
    let beyond = until.saturating_sub(now + u64::from(life_millis) * MILLI) / SECOND;
    Some((head, u32::try_from(beyond).unwrap_or(u32::MAX)))
}

/// Whether an old answer may stand in for this one: for a failure to find out, and for nothing
/// that somebody means to say. RFC 8767 section 4: all but NOERROR and NXDOMAIN are failures.
#[must_use]
pub fn may_stand_in_for(answer: &Answer) -> bool {
    !matches!(answer.rcode, rcode::NOERROR | rcode::NXDOMAIN)
        && matches!(answer.source, Source::Upstream(_) | Source::Daemon)
        && !is_verdict(answer.ede.as_ref().map(|ede| ede.code))
}

/// Whether an extended error says that somebody found the answer wrong, or forbids it. An old
/// answer does not speak against that: what is bogus today may have been forged yesterday.
#[must_use]
pub const fn is_verdict(ede: Option<u16>) -> bool {
    matches!(
        ede,
        // RFC 8914 sections 4.2, 4.3 and 4.6 to 4.13: of the validator.
        Some(1 | 2 | 5..=12)
        // Sections 4.16 to 4.19: blocked, censored, filtered, prohibited.
        | Some(15..=18)
        // Signature expired before valid; unsupported iterations of NSEC3.
        | Some(25 | 27)
    )
}

#[cfg(test)]
mod tests;
