//! One answer as it stands in a file, and as an entry again.
//!
//! Pure. A file does not hold the words of the contract, whose layout may change, but what they
//! say. All numbers are little-endian:
//!
//! ```text
//! octet 0   when its TTLs began to count: nanoseconds of wall time since 1970
//!       8   meta: the contract's word for the question but its name
//!      16   life in milliseconds
//!      20   seconds that its signatures let it be used for past its life
//!      24   records in the answer, authority and additional sections
//!      30   flags · 32  EDE code · 34  origin · 36  octets of body · 38  octets of text
//!      40   the lower-cased name, the body, the text of its extended error
//! ```
//!
//! Whatever octets stand there, reading them does no harm: an answer is built anew by the code
//! that builds all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resolverd_common::entry::{self, Flags, HEAD_WORDS, Head, Parts};
use resolverd_common::key::{Key, Meta, NAME_WORDS, Secret};
use resolverd_common::question::HEADER_LEN;
use resolverd_common::time::{MILLI, SECOND};
use zerocopy::IntoBytes;

use super::held::{Held, TEXT_MAX};
use super::{Cache, NotTaken, State};
use crate::dns::{Name, Query, rcode, records};

/// An answer of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Nanoseconds of wall time.
    pub stored_at: u64,
    pub meta: u64,
    pub life_millis: u32,
    pub stale_secs_max: u32,
    pub counts: [u16; 3],
    pub flags: Flags,
    pub ede: u16,
    /// A number of the file's own table.
    pub origin: u16,
    pub name: &'a [u8],
    pub body: &'a [u8],
    pub text: &'a str,
}

/// Both clocks at one moment, in nanoseconds: what expires goes by one, what is on disk by the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since boot.
    pub boot: u64,
    /// Since 1970.
    pub wall: u64,
}

/// Why an answer of a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRevived {
    /// Its life ended meanwhile.
    Expired,
    /// It is no answer.
    Malformed,
}

/// Octets before the name.
const FIXED: usize = 40;
/// The most octets that one answer takes.
pub const KEPT_MAX: usize = FIXED + 255 + entry::BODY_MAX + TEXT_MAX;

/// Places that are used for one answer after the other.
#[derive(Default)]
pub struct Desk {
    /// The entry that was read or built last.
    pub words: Vec<u64>,
    body: Vec<u8>,
}

/// Whether an answer is worth a place on disk: one from somebody else that says something, in
/// its time. What local zones say is in the configuration.
#[must_use]
pub fn is_worth_keeping(held: &Held, head: &Head, boot: u64) -> bool {
    matches!(head.flags.rcode(), rcode::NOERROR | rcode::NXDOMAIN)
        && !head.flags.has(Flags::AUTHORITATIVE)
        && !held.is_stale()
        && head.is_fresh(boot)
        && (head.expires_at() - boot) / MILLI > 0
}

/// Appends an answer to `out`.
pub fn write(held: &Held, head: &Head, now: Moment, desk: &mut Desk, out: &mut Vec<u8>) {
    desk.words.clear();
    desk.words.resize(head.len_words(), 0);
    held.copy_to(&mut desk.words);
    let text = held.text();
    let age = now.boot.saturating_sub(head.stored_at);
    out.extend_from_slice(&now.wall.saturating_sub(age).to_le_bytes());
    out.extend_from_slice(&head.meta.to_le_bytes());
    out.extend_from_slice(&head.life_millis.to_le_bytes());
    out.extend_from_slice(&held.stale_secs_max().to_le_bytes());
    let [answers, authorities, additionals] = head.counts;
    // A text has at most TEXT_MAX octets.
    let text_len = text.len() as u16;
    for number in [
        answers,
        authorities,
        additionals,
        head.flags.0,
        head.ede,
        head.origin,
        head.body_len,
        text_len,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(entry::name_of(&desk.words, head));
    out.extend_from_slice(entry::body_of(&desk.words, head));
    out.extend_from_slice(&text);
}

impl<'a> Kept<'a> {
    /// Reads the answer that `octets` begin with, and gives what follows it.
    #[must_use]
    pub fn read(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = octets.split_first_chunk::<FIXED>()?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| fixed[at + i]));
        let int = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| fixed[at + i]));
        let short = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let meta = long(8);
        let (name, rest) = rest.split_at_checked(usize::from(Meta::of(meta).name_len))?;
        let (body, rest) = rest.split_at_checked(usize::from(short(36)))?;
        let (text, rest) = rest.split_at_checked(usize::from(short(38)))?;
        let kept = Self {
            stored_at: long(0),
            meta,
            life_millis: int(16),
            stale_secs_max: int(20),
            counts: [short(24), short(26), short(28)],
            flags: Flags(short(30)),
            ede: short(32),
            origin: short(34),
            name,
            body,
            text: str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_MAX)?,
        };
        Some((kept, rest))
    }

    /// The question that it answers.
    ///
    /// # Errors
    ///
    /// When it is for none that could be asked.
    pub fn query(&self) -> Result<Query, NotRevived> {
        let meta = Meta::of(self.meta);
        let query = Query {
            name: Name::from_wire(self.name).map_err(|_| NotRevived::Malformed)?,
            qtype: meta.qtype,
            dnssec_ok: meta.dnssec_ok,
            checking_disabled: meta.cd,
            view: meta.view,
        };
        let same = query.meta() == self.meta && query.name.as_wire() == self.name;
        same.then_some(query).ok_or(NotRevived::Malformed)
    }

    /// Builds its entry in `desk.words`, as old as it is `now`, with the number of its origin
    /// that holds here. It is validated no longer: AD is for answers that we saw proven.
    ///
    /// # Errors
    ///
    /// See [`NotRevived`].
    pub fn revive(&self, origin: u16, now: Moment, desk: &mut Desk) -> Result<Head, NotRevived> {
        // By whole seconds, and the one that has begun is over: its life begins `now` and no
        // earlier, for a flush may have come a moment ago.
        let age_secs = now.wall.saturating_sub(self.stored_at).div_ceil(SECOND);
        let age_secs = u32::try_from(age_secs).map_err(|_| NotRevived::Expired)?;
        let life_millis = self.life_millis.checked_sub(age_secs.saturating_mul(1_000));
        let life_millis = life_millis.filter(|left| *left > 0).ok_or(NotRevived::Expired)?;
        if !matches!(self.flags.rcode(), rcode::NOERROR | rcode::NXDOMAIN) {
            return Err(NotRevived::Malformed);
        }
        let begins = HEADER_LEN + self.name.len() + 4;
        let ttl_offsets = records::ttl_offsets(self.body, begins, self.counts)
            .map_err(|_| NotRevived::Malformed)?;
        // The boot clock may be younger than the answer, so the TTLs are aged in place.
        desk.body.clear();
        desk.body.extend_from_slice(self.body);
        for offset in &ttl_offsets {
            let at = usize::from(*offset);
            let ttl = desk.body.get_mut(at..at + 4).ok_or(NotRevived::Malformed)?;
            let secs = ttl.iter().fold(0_u32, |secs, octet| secs << 8 | u32::from(*octet));
            ttl.copy_from_slice(&secs.saturating_sub(age_secs).to_be_bytes());
        }
        let kept_flags = Flags::RCODE | Flags::EDE | Flags::DAEMON_ONLY;
        let parts = Parts {
            stored_at: now.boot,
            meta: self.meta,
            life_millis,
            name: self.name,
            counts: self.counts,
            flags: Flags(self.flags.0 & kept_flags),
            ede: self.ede,
            origin,
            body: &desk.body,
            ttl_offsets: &ttl_offsets,
        };
        let room = HEAD_WORDS + ttl_offsets.len() / 4 + 1 + NAME_WORDS + self.body.len() / 8 + 1;
        desk.words.clear();
        desk.words.resize(room, 0);
        let len = entry::build(&parts, &mut desk.words).map_err(|_| NotRevived::Malformed)?;
        desk.words.truncate(len);
        entry::head_of(&desk.words).ok_or(NotRevived::Malformed)
    }

    /// Seconds that it may be used for past its life. One that was secure may not be: nobody
    /// has checked its signatures since.
    #[must_use]
    pub fn signed_secs(&self) -> Option<u32> {
        match self.flags.has(Flags::SECURE) {
            true => Some(0),
            false => Some(self.stale_secs_max),
        }
    }
}

impl Cache {
    /// Takes an answer of a file, as old as it is at `now`: not in the place of one that is good,
    /// nor if a flush of its name came since. `origin` is who said it, in words.
    ///
    /// # Errors
    ///
    /// See [`NotTaken`].
    pub fn take_back(
        &self,
        key: Key,
        kept: &Kept<'_>,
        origin: &str,
        now: Moment,
        desk: &mut Desk,
    ) -> Result<(), NotTaken> {
        let known = self.origins.read().known_as(origin);
        let origin = known.unwrap_or_else(|| self.origins.write().number_of(origin));
        let head = kept.revive(origin, now, desk).map_err(|error| match error {
            NotRevived::Expired => NotTaken::Expired,
            NotRevived::Malformed => NotTaken::Malformed,
        })?;
        let name = desk.words.get(head.name_at()..head.body_at()).unwrap_or_default();
        let there = self.peek(key, head.meta, name, now.boot);
        if there.is_some_and(|seen| seen.state == State::Fresh) {
            return Err(NotTaken::Newer);
        }
        self.insert_signed(key, &desk.words, kept.text, now.boot, kept.signed_secs())
            .map(drop)
            .map_err(|_| NotTaken::Newer)
    }

    /// All there is, good or not, one after the other; what comes meanwhile may be among it. No
    /// lock is held between two of them.
    pub fn all(&self) -> impl Iterator<Item = Held> + '_ {
        self.store.all()
    }

    /// Whether no flush has taken an entry.
    #[must_use]
    pub fn spares(&self, held: &Held, head: &Head) -> bool {
        if held.round() == self.round.load(Ordering::Acquire) {
            return true;
        }
        let mut words = vec![0; head.body_at()];
        held.copy_to(&mut words);
        self.flushes.read().spare(head.stored_at, entry::name_of(&words, head))
    }

    /// The names of all origins, by their numbers.
    #[must_use]
    pub fn origin_names(&self) -> Vec<Arc<str>> {
        self.origins.read().names().to_vec()
    }
}

/// The key of a question in this daemon's maps.
#[must_use]
pub fn key_of(secret: &Secret, query: &Query) -> Key {
    let wire = query.name.as_wire();
    let mut name = [0; NAME_WORDS];
    name.as_mut_bytes()[..wire.len()].copy_from_slice(wire);
    let words = resolverd_common::key::name_words(wire.len()).min(NAME_WORDS);
    resolverd_common::key::of(secret, query.meta(), &name[..words])
}

#[cfg(test)]
mod tests;
