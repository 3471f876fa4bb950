//! The Internet checksum (RFC 1071), in the memory order of this machine.
//!
//! Sums are kept in 64 bits and folded once at the end. An octet run that starts at an odd
//! offset of what is summed contributes its sum with the octets swapped (RFC 1071 section 2 B).

/// Adds a 64-bit word of the data, as loaded.
#[inline(always)]
#[must_use]
pub const fn add_word(sum: u64, word: u64) -> u64 {
    sum + (word & 0xffff_ffff) + (word >> 32)
}

/// Folds to 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of a run, as it counts when the run starts at an odd offset or not.
///
/// Octets change places in 16-bit words, which in this arithmetic (modulo 65535) is a shift by
/// eight. `sum` has 48 bits at most.
#[inline(always)]
#[must_use]
pub const fn placed(sum: u64, at_odd_offset: bool) -> u64 {
    sum << (8 * at_odd_offset as u32)
}

/// The sum of a run of octets that starts at an even offset.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> u64 {
    let mut sum = 0;
    for pair in bytes.chunks(2) {
        let two = [pair[0], if pair.len() == 2 { pair[1] } else { 0 }];
        sum += u64::from(u16::from_ne_bytes(two));
    }
    sum
}
