//! Walks over the records of a message, for what a door has to know of it.
//!
//! Pure. What a message means is the handler's; a door looks at options that belong to the way
//! it came, and at how long an answer holds. Octets that are no message end the walk.

use std::ops::Range;

/// A record, as far as doors look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub section: Section,
    pub rtype: u16,
    pub ttl: u32,
    /// Where its data stands in the message; two octets before it, their length.
    pub rdata: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// The records of a message, as far as they can be read.
pub struct Records<'a> {
    message: &'a [u8],
    at: usize,
    /// Not yet walked over, by section.
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// `None`: the message ends before its records do begin.
    pub fn of(message: &'a [u8]) -> Option<Records<'a>> {
        let count = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
        let questions = count(4)?;
        let left = [count(6)?, count(8)?, count(10)?];
        let mut at = HEADER_OCTETS;
        for _ in 0..questions {
            // Each takes five octets at least, so that a lying count ends with the message.
            at = after_name(message, at)? + QUESTION_OCTETS;
        }
        Some(Records { message, at, left })
    }
}

impl Iterator for Records<'_> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let section = sections.into_iter().find(|section| self.left[*section as usize] > 0)?;
        self.left[section as usize] -= 1;
        let fixed = after_name(self.message, self.at)?;
        let head: &[u8; FIXED_OCTETS] = self.message.get(fixed..)?.first_chunk()?;
        let start = fixed + FIXED_OCTETS;
        let end = start + usize::from(u16::from_be_bytes([head[8], head[9]]));
        if end > self.message.len() {
            return None;
        }
        self.at = end;
        Some(Seen {
            section,
            rtype: u16::from_be_bytes([head[0], head[1]]),
            ttl: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            rdata: start..end,
        })
    }
}

/// Where the octet behind a name stands. Pointers are not followed.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            label @ 1..=63 => at += 1 + usize::from(label),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// RFC 1035 section 4.1.1.
const HEADER_OCTETS: usize = 12;
/// Type and class.
const QUESTION_OCTETS: usize = 4;
/// Type, class, TTL and the length of the data (RFC 1035 section 4.1.3).
const FIXED_OCTETS: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a. A`, one A, one SOA without names to speak of, an OPT.
    const MESSAGE: &[u8] = &[
        0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 1, 0, 1, 1, b'a', 0, 0, 1, 0, 1, //
        0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1, //
        0, 0, 6, 0, 1, 0, 0, 1, 0, 0, 2, 0, 0, //
        0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn records_are_seen_in_their_sections() {
        let seen: Vec<Seen> = Records::of(MESSAGE).unwrap().collect();
        let types: Vec<_> = seen.iter().map(|seen| (seen.section, seen.rtype, seen.ttl)).collect();
        let expected =
            [(Section::Answer, 1, 60), (Section::Authority, 6, 256), (Section::Additional, 41, 0)];
        assert_eq!(types, expected);
        assert_eq!(MESSAGE[seen[0].rdata.clone()], [192, 0, 2, 1]);
        assert_eq!(seen[2].rdata, MESSAGE.len()..MESSAGE.len());
    }

    #[test]
    fn a_message_that_ends_early_ends_the_walk() {
        for len in 0..MESSAGE.len() {
            let seen = Records::of(&MESSAGE[..len]).map_or(0, Iterator::count);
            assert!(seen < 3, "{len}");
        }
        assert!(Records::of(&[0xff; 40]).is_none_or(|records| records.count() == 0));
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Records::of(&octets).map(Iterator::count);
        }
    }
}
