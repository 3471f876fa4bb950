//! The key of an entry: a keyed hash of all that decides the answer.
//!
//! NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC", CRYPTO 1999), two lanes over shifted
//! keys (the same paper's Toeplitz construction): two questions share a key with a probability
//! of 2^-64 for whoever does not know the secret. A collision costs a hit and nothing more:
//! every entry carries its whole question, and it is compared.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The 64-bit words of the longest name: 255 octets, padded.
pub const NAME_WORDS: usize = 32;

/// The words of a name of so many octets. There is always a last one that is not full.
#[inline(always)]
#[must_use]
pub const fn name_words(name_len: usize) -> usize {
    name_len / 8 + 1
}

/// 32-bit words of secret: two for each of the 33 words hashed, and the shift of lane two.
pub const SECRET_WORDS: usize = 2 * (NAME_WORDS + 1) + 2;

/// Drawn at random when the maps are made; lives as long as they do.
pub type Secret = [u32; SECRET_WORDS];

/// A map key.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Key(pub [u64; 2]);

/// What decides the answer beside the name, in one word: QTYPE, QCLASS, view, the name's
/// length, DO and CD.
#[inline(always)]
#[must_use]
pub const fn meta(qtype: u16, view: u16, name_len: u8, dnssec_ok: bool, cd: bool) -> u64 {
    qtype as u64
        | (CLASS_IN as u64) << 16
        | (view as u64) << 32
        | (name_len as u64) << 48
        | (dnssec_ok as u64) << 56
        | (cd as u64) << 57
}

/// The only class that is cached.
pub const CLASS_IN: u16 = 1;

/// The parts of a [`meta`] word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub qtype: u16,
    pub view: u16,
    pub name_len: u8,
    pub dnssec_ok: bool,
    pub cd: bool,
}

impl Meta {
    #[must_use]
    pub const fn of(word: u64) -> Self {
        Self {
            qtype: word as u16,
            view: (word >> 32) as u16,
            name_len: (word >> 48) as u8,
            dnssec_ok: word >> 56 & 1 == 1,
            cd: word >> 57 & 1 == 1,
        }
    }
}

/// A hash that is being fed.
#[derive(Clone, Copy)]
pub struct Nh {
    lanes: [u64; 2],
}

impl Nh {
    #[inline(always)]
    #[must_use]
    pub fn new(secret: &Secret, meta: u64) -> Self {
        let mut nh = Self { lanes: [0; 2] };
        nh.word(secret, 0, meta);
        nh
    }

    /// Takes the word at `index`; 0 is the meta word, the name follows from 1.
    #[inline(always)]
    pub fn word(&mut self, secret: &Secret, index: usize, word: u64) {
        let at = index.min(NAME_WORDS) * 2;
        let (low, high) = (word as u32, (word >> 32) as u32);
        self.lanes[0] = self.lanes[0].wrapping_add(product(low, high, secret[at], secret[at + 1]));
        self.lanes[1] =
            self.lanes[1].wrapping_add(product(low, high, secret[at + 2], secret[at + 3]));
    }

    #[inline(always)]
    #[must_use]
    pub const fn key(self) -> Key {
        Key(self.lanes)
    }
}

#[inline(always)]
const fn product(low: u32, high: u32, a: u32, b: u32) -> u64 {
    (low.wrapping_add(a) as u64).wrapping_mul(high.wrapping_add(b) as u64)
}

/// The key of a lower-cased, zero-padded name.
#[must_use]
pub fn of(secret: &Secret, meta: u64, name: &[u64]) -> Key {
    let mut nh = Nh::new(secret, meta);
    for (i, word) in name.iter().take(NAME_WORDS).enumerate() {
        nh.word(secret, i + 1, *word);
    }
    nh.key()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_comes_apart_again() {
        let word = meta(28, 513, 255, true, false);
        let parts = Meta { qtype: 28, view: 513, name_len: 255, dnssec_ok: true, cd: false };
        assert_eq!(Meta::of(word), parts);
        assert!(Meta::of(meta(1, 0, 1, false, true)).cd);
    }

    #[test]
    fn each_part_of_the_question_moves_the_key() {
        let mut secret = [0; SECRET_WORDS];
        for (i, word) in secret.iter_mut().enumerate() {
            *word = (i as u32 + 1).wrapping_mul(0x9e37_79b9);
        }
        let name = [0x0065_6c70_6d61_7865];
        let base = of(&secret, meta(1, 0, 9, false, false), &name);
        let others = [
            of(&secret, meta(28, 0, 9, false, false), &name),
            of(&secret, meta(1, 1, 9, false, false), &name),
            of(&secret, meta(1, 0, 9, true, false), &name),
            of(&secret, meta(1, 0, 9, false, true), &name),
            of(&secret, meta(1, 0, 9, false, false), &[name[0] ^ 1]),
        ];
        for (i, other) in others.into_iter().enumerate() {
            assert_ne!(base.0[0], other.0[0], "{i}, first lane");
            assert_ne!(base.0[1], other.0[1], "{i}, second lane");
        }
    }
}
