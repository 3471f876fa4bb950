//! An entry: the answer to one question, as both caches keep it.
//!
//! A run of 64-bit words: six of head, the offsets of the TTLs, the question's name, and the
//! octets that follow the question on the wire. In a map it stands in a [`Value`] of fixed
//! size, whose last word tells whether the element was reused while it was read.
//!
//! ```text
//! word 0        generation: unique, grows; the boot time of publication
//!      1        stored-at: boot time from which the TTLs count, in nanoseconds
//!      2        meta: type, class, view, name length, DO, CD
//!      3        life in milliseconds | policy epoch
//!      4        octets of body | answers | authorities | additionals
//!      5        flags | partial sum of the body, TTLs as zero | EDE code | origin
//!      6 …      16-bit offsets of the TTLs in the body, padded to a word
//!      …        the lower-cased name, zero-padded to a word
//!      …        the body: no OPT is in it
//!      last     of a Value: claim | low half of the generation
//! ```
//!
//! Elements of LRU maps are reused while a reader still holds them: copy, then check, then
//! use. The writer stores the whole value, so a copy whose generation agreed at both ends,
//! before and after, is of one piece.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::key::{Meta, NAME_WORDS, name_words};
use crate::sum;

/// Words before the offsets of the TTLs.
pub const HEAD_WORDS: usize = 6;
/// The word whose low half is the flags.
pub const FLAGS_WORD: usize = 5;
/// TTLs of an entry that may be in a map. One with more stays with the daemon.
pub const TTLS_MAX: usize = 16;
/// The longest body: what is left of a message beside header and the shortest question.
pub const BODY_MAX: usize = 65_535 - 12 - 5;
/// Words of the largest entry.
pub const WORDS_MAX: usize = HEAD_WORDS + BODY_MAX / 11 / 4 + 1 + NAME_WORDS + BODY_MAX / 8 + 1;
/// Octets of the values of each size class.
pub const CLASSES: [usize; 4] = [128, 256, 512, 1280];

/// A map value of `W` words.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Value<const W: usize>(pub [u64; W]);

pub type Value128 = Value<16>;
pub type Value256 = Value<32>;
pub type Value512 = Value<64>;
pub type Value1280 = Value<160>;

const _: () = assert!(size_of::<Value128>() == CLASSES[0]);
const _: () = assert!(size_of::<Value256>() == CLASSES[1]);
const _: () = assert!(size_of::<Value512>() == CLASSES[2]);
const _: () = assert!(size_of::<Value1280>() == CLASSES[3]);

/// The six words of head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub generation: u64,
    pub stored_at: u64,
    pub meta: u64,
    pub life_millis: u32,
    pub epoch: u32,
    pub body_len: u16,
    /// Records in the answer, authority and additional sections.
    pub counts: [u16; 3],
    pub flags: Flags,
    /// The Internet sum of the body with its TTLs as zero, in memory order.
    pub sum: u16,
    /// RFC 8914 code, when [`Flags::EDE`] is set.
    pub ede: u16,
    /// Who said so: a number of the daemon's, of no meaning to the kernel.
    pub origin: u16,
}

/// RCODE and bits of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    pub const RCODE: u16 = 0x000f;
    /// AA: from a local zone.
    pub const AUTHORITATIVE: u16 = 0x0010;
    /// Validated as secure: AD for who asks.
    pub const SECURE: u16 = 0x0020;
    /// There is an EDE code.
    pub const EDE: u16 = 0x0040;
    /// Never in a map: what the kernel could not say.
    pub const DAEMON_ONLY: u16 = 0x0080;
    /// In a map of 128-octet values: look in the map of this class instead.
    pub const CLASS_SHIFT: u32 = 8;
    pub const CLASS: u16 = 0x0300;

    #[inline(always)]
    #[must_use]
    pub const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn rcode(self) -> u8 {
        (self.0 & Self::RCODE) as u8
    }

    /// The class this element refers to; 0: the answer is here.
    #[inline(always)]
    #[must_use]
    pub const fn class(self) -> usize {
        ((self.0 & Self::CLASS) >> Self::CLASS_SHIFT) as usize
    }
}

impl Head {
    /// Reads the head of an entry.
    #[inline(always)]
    #[must_use]
    pub fn read(w: &[u64; HEAD_WORDS]) -> Self {
        Self {
            generation: w[0],
            stored_at: w[1],
            meta: w[2],
            life_millis: w[3] as u32,
            epoch: (w[3] >> 32) as u32,
            body_len: w[4] as u16,
            counts: [(w[4] >> 16) as u16, (w[4] >> 32) as u16, (w[4] >> 48) as u16],
            flags: Flags(w[5] as u16),
            sum: (w[5] >> 16) as u16,
            ede: (w[5] >> 32) as u16,
            origin: (w[5] >> 48) as u16,
        }
    }

    #[must_use]
    pub const fn words(&self) -> [u64; HEAD_WORDS] {
        [
            self.generation,
            self.stored_at,
            self.meta,
            self.life_millis as u64 | (self.epoch as u64) << 32,
            self.body_len as u64
                | (self.counts[0] as u64) << 16
                | (self.counts[1] as u64) << 32
                | (self.counts[2] as u64) << 48,
            self.flags.0 as u64
                | (self.sum as u64) << 16
                | (self.ede as u64) << 32
                | (self.origin as u64) << 48,
        ]
    }

    /// Records, and so TTLs.
    #[inline(always)]
    #[must_use]
    pub const fn ttls(&self) -> usize {
        self.counts[0] as usize + self.counts[1] as usize + self.counts[2] as usize
    }

    /// Where the name starts, in words.
    #[inline(always)]
    #[must_use]
    pub const fn name_at(&self) -> usize {
        HEAD_WORDS + self.ttls().div_ceil(4)
    }

    /// Where the body starts, in words.
    #[inline(always)]
    #[must_use]
    pub const fn body_at(&self) -> usize {
        self.name_at() + name_words(Meta::of(self.meta).name_len as usize)
    }

    /// Words of the entry, without a value's last.
    #[inline(always)]
    #[must_use]
    pub const fn len_words(&self) -> usize {
        self.body_at() + (self.body_len as usize).div_ceil(8)
    }

    /// The boot time at which the entry's life ends, in nanoseconds.
    #[inline(always)]
    #[must_use]
    pub const fn expires_at(&self) -> u64 {
        self.stored_at.saturating_add(self.life_millis as u64 * crate::time::MILLI)
    }

    /// Whether the entry may be used at `now`. One from the future may not.
    #[inline(always)]
    #[must_use]
    pub const fn is_fresh(&self, now: u64) -> bool {
        self.stored_at <= now && now < self.expires_at()
    }

    /// The size class whose values hold the entry, if one does and the kernel may have it.
    #[must_use]
    pub fn class(&self) -> Option<usize> {
        if self.ttls() > TTLS_MAX || self.flags.has(Flags::DAEMON_ONLY) {
            return None;
        }
        CLASSES.iter().position(|octets| (self.len_words() + 1) * 8 <= *octets)
    }
}

/// The last word of a value.
#[inline(always)]
#[must_use]
pub const fn tail(generation: u64) -> u64 {
    generation << 32
}

/// Whether a value's last word belongs to this generation.
#[inline(always)]
#[must_use]
pub const fn tail_agrees(tail: u64, generation: u64) -> bool {
    tail >> 32 == generation & 0xffff_ffff
}

/// What an entry is built from.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub stored_at: u64,
    pub meta: u64,
    pub life_millis: u32,
    /// The lower-cased name in wire form, as long as `meta` says.
    pub name: &'a [u8],
    pub counts: [u16; 3],
    pub flags: Flags,
    pub ede: u16,
    pub origin: u16,
    pub body: &'a [u8],
    /// One a record, in order, each with 4 octets of TTL in the body.
    pub ttl_offsets: &'a [u16],
}

/// Why no entry can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The name is not as long as the meta word says.
    Name,
    /// There is not one TTL a record, or they are out of order or out of the body, or one ends
    /// before the entry does.
    Ttls,
    /// The body is longer than a message.
    Body,
    /// `out` is too small.
    Room,
}

/// Writes an entry to `out`; generation and epoch are the publisher's to set. Returns its words.
///
/// # Errors
///
/// See [`BuildError`].
pub fn build(parts: &Parts<'_>, out: &mut [u64]) -> Result<usize, BuildError> {
    if parts.body.len() > BODY_MAX {
        return Err(BuildError::Body);
    }
    let name_len = usize::from(Meta::of(parts.meta).name_len);
    if parts.name.len() != name_len || name_len == 0 {
        return Err(BuildError::Name);
    }
    let mut head = Head {
        generation: 0,
        stored_at: parts.stored_at,
        meta: parts.meta,
        life_millis: parts.life_millis,
        epoch: 0,
        body_len: parts.body.len() as u16,
        counts: parts.counts,
        flags: parts.flags,
        sum: 0,
        ede: parts.ede,
        origin: parts.origin,
    };
    if parts.ttl_offsets.len() != head.ttls() {
        return Err(BuildError::Ttls);
    }
    let len = head.len_words();
    let (name_at, body_at) = (head.name_at() * 8, head.body_at() * 8);
    let Some(out) = out.get_mut(..len) else {
        return Err(BuildError::Room);
    };
    out.fill(0);
    let octets = out.as_mut_bytes();
    octets[name_at..name_at + name_len].copy_from_slice(parts.name);
    octets[body_at..body_at + parts.body.len()].copy_from_slice(parts.body);

    let mut at_least = 0;
    for offset in parts.ttl_offsets {
        let from = usize::from(*offset);
        let Some(ttl) = parts.body.get(from..from + 4).filter(|_| from >= at_least) else {
            return Err(BuildError::Ttls);
        };
        // What lets the reply age TTLs without looking: none gets below zero.
        let secs = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]);
        if u64::from(secs) * 1_000 < u64::from(parts.life_millis) {
            return Err(BuildError::Ttls);
        }
        octets[body_at + from..body_at + from + 4].fill(0);
        at_least = from + 4;
    }
    head.sum = sum::fold(sum::of_bytes(&octets[body_at..]));
    for offset in parts.ttl_offsets {
        let (from, to) = (usize::from(*offset), usize::from(*offset) + 4);
        octets[body_at + from..body_at + to].copy_from_slice(&parts.body[from..to]);
    }
    for (i, offset) in parts.ttl_offsets.iter().enumerate() {
        out[HEAD_WORDS + i / 4] |= u64::from(*offset) << (i % 4 * 16);
    }
    out[..HEAD_WORDS].copy_from_slice(&head.words());
    Ok(len)
}

/// The head of an entry in a slice, if the slice holds all of it.
#[must_use]
pub fn head_of(entry: &[u64]) -> Option<Head> {
    let head = Head::read(entry.first_chunk()?);
    (head.len_words() <= entry.len()).then_some(head)
}

/// The octets of the entry's name.
#[must_use]
pub fn name_of<'a>(entry: &'a [u64], head: &Head) -> &'a [u8] {
    let len = usize::from(Meta::of(head.meta).name_len);
    entry.get(head.name_at()..).and_then(|words| words.as_bytes().get(..len)).unwrap_or_default()
}

/// The octets of the entry's body.
#[must_use]
pub fn body_of<'a>(entry: &'a [u64], head: &Head) -> &'a [u8] {
    let len = usize::from(head.body_len);
    entry.get(head.body_at()..).and_then(|words| words.as_bytes().get(..len)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
