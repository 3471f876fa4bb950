//! One answer as the daemon holds it: an entry of the contract, in words that threads share.
//!
//! Pure. The words of the entry are written once. The first of them, where the kernel's maps
//! have the generation, takes the daemon's notes instead: hits, marks, and the round of flushes
//! that the entry was last judged in. Where they have the epoch stands how long it may be used
//! past its time. Text of an extended error stands behind the entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use resolverd_common::entry::{HEAD_WORDS, Head};
use resolverd_common::key::name_words;

/// Cheap to clone: all clones are one entry.
#[derive(Clone, Debug)]
pub struct Held(Arc<[AtomicU64]>);

/// ```text
/// bits 0 … 23   hits since it was stored
///      24       written into the kernel's maps
///      25       asked for anew
///      26       past its time, and used all the same
///      32 … 63  round
/// ```
const HITS: u64 = 0x00ff_ffff;
const PUBLISHED: u64 = 1 << 24;
const REFRESHING: u64 = 1 << 25;
const STALE: u64 = 1 << 26;
const ROUND_SHIFT: u32 = 32;

/// The word that has life and epoch, and where in it the epoch is.
const LIFE_WORD: usize = 3;
const EPOCH_SHIFT: u32 = 32;

/// Hits are not counted past this; the threads that count at once stay far below the rest.
const HITS_MAX: u64 = 1 << 23;

/// The most octets of text that is kept with an extended error.
pub const TEXT_MAX: usize = 256;

/// What goes with an entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Of its extended error.
    pub text: &'a str,
    /// The round of flushes that it was judged in.
    pub round: u32,
    /// Seconds that it may be used for past its time, as far as that is for its signatures to
    /// say; the configuration may allow less.
    pub stale_secs_max: u32,
    /// It is past its time already.
    pub stale: bool,
}

impl Held {
    /// Takes over the words of a built entry.
    #[must_use]
    pub fn new(entry: &[u64], beside: &Beside<'_>) -> Self {
        let Beside { text, round, stale_secs_max, stale } = *beside;
        let notes = u64::from(round) << ROUND_SHIFT | if stale { STALE } else { 0 };
        let first = std::iter::once(notes);
        let rest = entry.iter().enumerate().skip(1).map(|(i, word)| match i {
            LIFE_WORD => u64::from(*word as u32) | u64::from(stale_secs_max) << EPOCH_SHIFT,
            _ => *word,
        });
        if text.is_empty() {
            return Self(first.chain(rest).map(AtomicU64::new).collect());
        }
        let end = text.floor_char_boundary(TEXT_MAX);
        let text = &text.as_bytes()[..end];
        let length = std::iter::once(text.len() as u64);
        let octets = text.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        Self(first.chain(rest).chain(length).chain(octets).map(AtomicU64::new).collect())
    }

    /// The head, as it was built.
    #[must_use]
    pub fn head(&self) -> Head {
        let mut words = [0; HEAD_WORDS];
        self.copy_to(&mut words);
        Head::read(&words)
    }

    /// Copies the entry from its beginning on, as far as `out` goes: as it was built, without
    /// generation and epoch.
    pub fn copy_to(&self, out: &mut [u64]) {
        for (to, word) in out.iter_mut().zip(&*self.0) {
            *to = word.load(Ordering::Relaxed);
        }
        if let Some(notes) = out.first_mut() {
            *notes = 0;
        }
        if let Some(life) = out.get_mut(LIFE_WORD) {
            *life = u64::from(*life as u32);
        }
    }

    /// Whether the entry is for this name, lower-cased and zero-padded.
    #[must_use]
    pub fn is_named(&self, head: &Head, name: &[u64], name_len: usize) -> bool {
        let words = name_words(name_len);
        let (Some(ours), Some(theirs)) =
            (self.0.get(head.name_at()..head.name_at() + words), name.get(..words))
        else {
            return false;
        };
        ours.iter().zip(theirs).all(|(a, b)| a.load(Ordering::Relaxed) == *b)
    }

    /// The text of the extended error; empty without.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let Some((length, words)) =
            self.0.get(self.head().len_words()..).and_then(<[_]>::split_first)
        else {
            return Vec::new();
        };
        let mut octets: Vec<u8> =
            words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        octets.truncate(length.load(Ordering::Relaxed) as usize);
        octets
    }

    /// Whether both are one and the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The memory of one, the allocator's share included, in octets.
    #[must_use]
    pub fn octets(&self) -> u64 {
        // Two reference counts; what malloc puts before and rounds up to.
        const AROUND: u64 = 16 + 8;
        (self.0.len() as u64 * 8 + AROUND).next_multiple_of(16)
    }

    /// Counts a hit. Returns how many there were with this one.
    pub fn hit(&self) -> u64 {
        let before = self.notes() & HITS;
        if before < HITS_MAX {
            self.0[0].fetch_add(1, Ordering::Relaxed);
        }
        before + 1
    }

    #[must_use]
    pub fn hits(&self) -> u64 {
        self.notes() & HITS
    }

    /// Notes that it is in the kernel's maps. True: it was not noted before.
    pub fn mark_published(&self) -> bool {
        self.0[0].fetch_or(PUBLISHED, Ordering::AcqRel) & PUBLISHED == 0
    }

    /// Takes that note away. True: there was one.
    pub fn unmark_published(&self) -> bool {
        self.0[0].fetch_and(!PUBLISHED, Ordering::AcqRel) & PUBLISHED != 0
    }

    #[must_use]
    pub fn is_published(&self) -> bool {
        self.notes() & PUBLISHED != 0
    }

    /// Notes that it is asked for anew. True for the first one only.
    pub fn mark_refreshing(&self) -> bool {
        self.notes() & REFRESHING == 0
            && self.0[0].fetch_or(REFRESHING, Ordering::AcqRel) & REFRESHING == 0
    }

    /// Seconds that its signatures let it be used for past its time; `u32::MAX`: no bound.
    #[must_use]
    pub fn stale_secs_max(&self) -> u32 {
        (self.0[LIFE_WORD].load(Ordering::Relaxed) >> EPOCH_SHIFT) as u32
    }

    /// Whether it is a stale answer that is used for a while (RFC 8767).
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.notes() & STALE != 0
    }

    /// The round of flushes that it was last judged in.
    #[must_use]
    pub fn round(&self) -> u32 {
        (self.notes() >> ROUND_SHIFT) as u32
    }

    /// Notes the round it was judged in. True: no other thread did.
    pub fn judged(&self, round: u32) -> bool {
        let moved = |notes: u64| {
            let same = (notes >> ROUND_SHIFT) as u32 == round;
            (!same).then(|| notes & (u64::MAX >> ROUND_SHIFT) | u64::from(round) << ROUND_SHIFT)
        };
        self.0[0].fetch_update(Ordering::AcqRel, Ordering::Relaxed, moved).is_ok()
    }

    fn notes(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }
}
