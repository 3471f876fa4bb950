//! Answers we already have.
//!
//! The door. A [`Cache`] keeps answers in the form of the contract, so that a hit is composed by
//! the code that the kernel runs. It knows nothing of the kernel's maps: it says which entries
//! are worth a place there ([`promotion`]), and is told which got one.
//!
//! What a restart is to find again is written to disk and read back: [`file`] is its form,
//! [`driver`] writes and reads it. Past its time an answer may stand in for a newer one: [`stale`].
//!
//! Flushes are O(1): [`freshness`] keeps a short list, and an entry is judged against it when it
//! is next asked for. Rounds number the changes of that list: an entry that carries the current
//! one was judged already. Times are nanoseconds of the boot clock, as in the entries.

mod again;
pub mod driver;
pub mod file;
pub mod freshness;
pub mod held;
pub mod kept;
pub mod origins;
pub mod prefetch;
pub mod promotion;
pub mod stale;
pub mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use resolverd_common::entry::{self, BuildError, CLASSES, Flags, HEAD_WORDS, Head, Parts};
use resolverd_common::key::{Key, Meta, NAME_WORDS};
use zerocopy::IntoBytes;

use crate::dns::{Answer, Query, rcode};
use crate::metrics::Metrics;

pub use freshness::{FLUSHES_MAX, Scope};
use held::Beside;
pub use held::Held;
use store::Fate;

/// What the cache is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Octets, by our own account.
    pub memory_max: u64,
    /// Ask anew for what is used, shortly before it expires.
    pub prefetch: bool,
    /// How long past its life an answer may be used (RFC 8767); zero: not at all.
    pub serve_stale: Duration,
    /// A client waits no longer where there is such an answer.
    pub stale_answer_after: Duration,
    /// Elements of the kernel's maps, by size class.
    pub kernel_entries: [u32; CLASSES.len()],
}

pub struct Cache {
    store: store::Store,
    flushes: RwLock<freshness::Flushes>,
    /// Grows with each flush.
    round: AtomicU32,
    origins: RwLock<origins::Origins>,
    prefetch: AtomicBool,
    serve_stale_secs: AtomicU32,
    stale_answer_after_millis: AtomicU64,
}

/// A fresh answer.
pub struct Hit {
    pub held: Held,
    pub head: Head,
    /// An occasion to publish it (again): see [`promotion`].
    pub publish: bool,
    /// To be asked for anew, by whoever got this hit and nobody else.
    pub refresh: bool,
}

/// What is known of a question, for `explain`.
pub struct Seen {
    pub held: Held,
    pub head: Head,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Fresh,
    /// Expired, and used all the same where nobody has a better one.
    Stale,
    Expired,
    Flushed,
}

/// An answer that was stored.
pub struct Stored {
    pub held: Held,
    /// There was one before it: the name is asked for again and again.
    pub known: bool,
}

/// Why an answer was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// It is good for this once.
    NoLife,
    /// A flush came while it was being looked for.
    Flushed,
    /// A failure, and there is an answer that is still good (RFC 9520 section 3.2), or may be
    /// used in its place (RFC 8767 section 4).
    BetterOneThere,
}

/// Why an answer of a file was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Its life ended meanwhile.
    Expired,
    /// It is no answer that could be kept.
    Malformed,
    /// There is one that is good already, or a flush came.
    Newer,
    /// It is not for a file to say: a name that is answered here, or protected.
    NotForFiles,
}

/// The sizes of things, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub entries: u64,
    pub octets: u64,
    pub octets_max: u64,
    /// Published answers that are still here, by size class.
    pub published: [u64; CLASSES.len()],
}

impl Cache {
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let cache = Self {
            store: store::Store::new(settings.memory_max, settings.kernel_entries, metrics),
            flushes: RwLock::default(),
            round: AtomicU32::new(0),
            origins: RwLock::default(),
            prefetch: AtomicBool::default(),
            serve_stale_secs: AtomicU32::default(),
            stale_answer_after_millis: AtomicU64::default(),
        };
        cache.take_over(&settings);
        cache
    }

    /// Takes over what can change while it runs; the maps' sizes cannot.
    pub fn reconfigure(&self, settings: Settings) {
        self.take_over(&settings);
        self.store.resize(settings.memory_max);
    }

    fn take_over(&self, settings: &Settings) {
        let stale = settings.serve_stale.min(stale::STALE_MAX);
        let after = settings.stale_answer_after;
        self.prefetch.store(settings.prefetch, Ordering::Relaxed);
        // STALE_MAX has 604,800 of them.
        self.serve_stale_secs.store(stale.as_secs() as u32, Ordering::Relaxed);
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.stale_answer_after_millis.store(millis, Ordering::Relaxed);
    }

    /// The answer to a question, if there is a good one. `name` is lower-cased and zero-padded.
    #[must_use]
    pub fn find(&self, key: Key, meta: u64, name: &[u64], now: u64) -> Option<Hit> {
        self.find_judged(key, meta, name, now, |_, _| true)
    }

    /// The same, where `judge` has a word on an entry that is asked for the first time in a
    /// round: one that does not pass is as if it were not there.
    #[must_use]
    pub fn find_judged(
        &self,
        key: Key,
        meta: u64,
        name: &[u64],
        now: u64,
        judge: impl FnOnce(&Held, &Head) -> bool,
    ) -> Option<Hit> {
        let held = self.store.get(key)?;
        let head = held.head();
        if head.meta != meta || !head.is_fresh(now) {
            return None;
        }
        let name_len = usize::from(Meta::of(meta).name_len);
        if !held.is_named(&head, name, name_len) {
            return None;
        }
        if held.is_stale() && self.serve_stale_secs() == 0 {
            return None;
        }
        let mut publish = false;
        let round = self.round.load(Ordering::Acquire);
        if held.round() != round {
            if !self.is_spared(&head, name) || !judge(&held, &head) {
                return None;
            }
            publish = held.judged(round);
        }
        publish |= promotion::when_hit(held.hit());
        // A stale one is asked for anew by the first client after its time (RFC 8767 section 5).
        let refresh = self.prefetch.load(Ordering::Relaxed)
            && !held.is_stale()
            && prefetch::is_due(&head, now)
            && held.mark_refreshing();
        Some(Hit { held, head, publish, refresh })
    }

    /// Counts a use that somebody else answered.
    pub fn touch(&self, key: Key, meta: u64, name: &[u64]) {
        if let Some(held) = self.store.get(key)
            && held.head().meta == meta
            && held.is_named(&held.head(), name, usize::from(Meta::of(meta).name_len))
        {
            held.hit();
        }
    }

    /// What there is, good or not. Leaves no trace.
    #[must_use]
    pub fn peek(&self, key: Key, meta: u64, name: &[u64], now: u64) -> Option<Seen> {
        let held = self.store.peek(key)?;
        let head = held.head();
        let named = held.is_named(&head, name, usize::from(Meta::of(meta).name_len));
        if head.meta != meta || !named {
            return None;
        }
        let until = stale::usable_until(&head, held.stale_secs_max(), self.serve_stale_secs());
        let state = match (head.is_fresh(now), self.is_spared(&head, name)) {
            (true, true) => State::Fresh,
            (true, false) => State::Flushed,
            (false, true) if now < until && head.stored_at <= now => State::Stale,
            (false, _) => State::Expired,
        };
        Some(Seen { held, head, state })
    }

    /// Writes an answer as an entry whose life begins `now`.
    ///
    /// # Errors
    ///
    /// An answer that was not made by this house's rules.
    pub fn build(
        &self,
        query: &Query,
        answer: &Answer,
        now: u64,
        words: &mut Vec<u64>,
    ) -> Result<Head, BuildError> {
        let name = query.name.as_wire();
        let mut flags = u16::from(answer.rcode) & Flags::RCODE;
        for (is, flag) in [
            (answer.authoritative, Flags::AUTHORITATIVE),
            (answer.secure, Flags::SECURE),
            (answer.ede.is_some(), Flags::EDE),
            (answer.ede.as_ref().is_some_and(|ede| !ede.text.is_empty()), Flags::DAEMON_ONLY),
        ] {
            flags |= if is { flag } else { 0 };
        }
        let parts = Parts {
            stored_at: now,
            meta: query.meta(),
            life_millis: life_millis(answer),
            name,
            counts: answer.counts,
            flags: Flags(flags),
            ede: answer.ede.as_ref().map_or(0, |ede| ede.code),
            origin: self.origin(answer),
            body: &answer.body,
            ttl_offsets: &answer.ttl_offsets,
        };
        let room =
            HEAD_WORDS + parts.ttl_offsets.len() / 4 + 1 + NAME_WORDS + parts.body.len() / 8 + 1;
        words.clear();
        words.resize(room, 0);
        let len = entry::build(&parts, words)?;
        words.truncate(len);
        entry::head_of(words).ok_or(BuildError::Room)
    }

    /// Keeps an answer that was looked for from `since` on.
    ///
    /// # Errors
    ///
    /// See [`NotStored`].
    pub fn insert(
        &self,
        key: Key,
        entry: &[u64],
        text: &str,
        since: u64,
    ) -> Result<Stored, NotStored> {
        self.insert_signed(key, entry, text, since, None)
    }

    /// The same, for an answer whose signatures hold for so many seconds past its life. A secure
    /// one for which nobody says so is not used past it.
    ///
    /// # Errors
    ///
    /// See [`NotStored`].
    pub fn insert_signed(
        &self,
        key: Key,
        entry: &[u64],
        text: &str,
        since: u64,
        signed_secs: Option<u32>,
    ) -> Result<Stored, NotStored> {
        let head = entry::head_of(entry).filter(|head| head.life_millis > 0);
        let head = head.ok_or(NotStored::NoLife)?;
        let name = entry::name_of(entry, &head);
        if head.flags.rcode() == rcode::SERVFAIL && self.has_better(key, &head, entry) {
            return Err(NotStored::BetterOneThere);
        }
        // Until it is in: a flush comes before, and this answer is too old, or after, and finds
        // it there.
        let flushes = self.flushes.read();
        if !flushes.spare(since, name) || !flushes.keeps(since) {
            return Err(NotStored::Flushed);
        }
        let held = Held::new(
            entry,
            &Beside {
                text,
                round: self.round.load(Ordering::Acquire),
                stale_secs_max: stale::secs_max(&head, signed_secs),
                stale: false,
            },
        );
        let known = self.store.insert(key, held.clone());
        Ok(Stored { held, known })
    }

    /// Whether an answer that was just stored is worth a place in the kernel's maps.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn promotes(&self, stored: &Stored, now: u64) -> Result<usize, promotion::Withheld> {
        let head = stored.held.head();
        promotion::when_stored(&head, stored.known, now, self.store.occupancy())
    }

    /// Whether there would be room in the kernel's maps for a name that is asked for once.
    #[must_use]
    pub fn has_room(&self, class: usize) -> bool {
        self.store.occupancy().has_room(class)
    }

    /// Notes that an entry was written into the maps of a class.
    pub fn published(&self, held: &Held, class: usize) {
        if held.mark_published() {
            self.store.occupancy().entered(class);
        }
    }

    /// Makes answers stale that are as old as `clock` says, or older. True: the list of flushes
    /// was full, and everything went.
    pub fn flush(&self, scope: &Scope, clock: impl FnOnce() -> u64) -> bool {
        let mut flushes = self.flushes.write();
        let overflow = flushes.add(scope, clock());
        self.next_round();
        overflow
    }

    /// Has every entry judged once more, by rules that hold from now on. What was looked for
    /// under the rules before is not kept.
    pub fn judge_anew(&self, clock: impl FnOnce() -> u64) {
        let mut flushes = self.flushes.write();
        flushes.keep_from(clock());
        self.next_round();
    }

    /// Has every entry judged once more when it is next asked for, and published again if it
    /// is good.
    pub fn next_round(&self) {
        self.round.fetch_add(1, Ordering::Release);
    }

    /// Takes out what flushes have made stale, and counts it; what has expired is no longer taken
    /// for one of the kernel's. Walks through all entries.
    pub fn sweep(&self, now: u64) -> u64 {
        let round = self.round.load(Ordering::Acquire);
        let flushes = self.flushes.read().clone();
        let mut words = Vec::new();
        self.store.sweep(move |held| {
            let head = held.head();
            if held.round() != round {
                words.clear();
                words.resize(head.body_at(), 0);
                held.copy_to(&mut words);
                if !flushes.spare(head.stored_at, entry::name_of(&words, &head)) {
                    return Fate::Goes;
                }
            }
            if now >= head.expires_at() { Fate::IsNowhereElse } else { Fate::Stays }
        })
    }

    /// "upstream NAME", "zone NAME", "daemon".
    #[must_use]
    pub fn origin_name(&self, number: u16) -> Arc<str> {
        self.origins.read().name(number)
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.store.len() as u64,
            octets: self.store.octets(),
            octets_max: self.store.octets_max(),
            published: self.store.occupancy().published(),
        }
    }

    fn is_spared(&self, head: &Head, name: &[u64]) -> bool {
        self.flushes.read().spare(head.stored_at, name_of(name, head.meta))
    }

    /// Whether there is an answer to the same question that is good and no failure, or one past
    /// its time that this failure does not speak against.
    fn has_better(&self, key: Key, head: &Head, entry: &[u64]) -> bool {
        let name = entry.get(head.name_at()..head.body_at()).unwrap_or_default();
        let ede = head.flags.has(Flags::EDE).then_some(head.ede);
        self.peek(key, head.meta, name, head.stored_at).is_some_and(|seen| match seen.state {
            State::Fresh if !seen.held.is_stale() => seen.head.flags.rcode() != rcode::SERVFAIL,
            State::Fresh | State::Stale => !stale::is_verdict(ede),
            State::Expired | State::Flushed => false,
        })
    }

    fn origin(&self, answer: &Answer) -> u16 {
        let known = self.origins.read().known(&answer.source);
        known.unwrap_or_else(|| self.origins.write().number(&answer.source))
    }
}

/// The octets of a name that stands in words.
fn name_of(name: &[u64], meta: u64) -> &[u8] {
    name.as_bytes().get(..usize::from(Meta::of(meta).name_len)).unwrap_or_default()
}

/// No longer than any of the TTLs, nor than our bound.
fn life_millis(answer: &Answer) -> u32 {
    let ttl = |offset: &u16| {
        let octets = answer.body.get(usize::from(*offset)..).and_then(<[u8]>::first_chunk);
        octets.map(|octets| Duration::from_secs(u32::from_be_bytes(*octets).into()))
    };
    let shortest = answer.ttl_offsets.iter().filter_map(ttl).min().unwrap_or(Duration::MAX);
    let life = answer.life.min(shortest).min(freshness::LIFE_MAX);
    // LIFE_MAX has 604,800,000 of them.
    u32::try_from(life.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
