//! The one question parser: a DNS message in, a [`Question`] or the reason to pass it out.
//!
//! It takes what the kernel may answer and nothing else: one IN question with RD, plain or
//! with EDNS version 0 and at most a COOKIE. All else is a [`Reason`], which is no error: the
//! kernel passes such a packet, and the daemon reads it with its whole parser.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cookie::{CLIENT_LEN, Cookie, SERVER_LEN};
use crate::counters::Reason;
use crate::key::{self, CLASS_IN, Key, NAME_WORDS, Nh, Secret};
use crate::{sum, unknown};

/// The longest message that is parsed, in octets. A question with the longest name, OPT and
/// COOKIE has 330.
pub const MESSAGE_MAX: usize = BUFFER - START;
/// Where in its buffer the message starts, so that the name stands at a multiple of 8.
pub const START: usize = 4;
const BUFFER: usize = 512;
const MASK: usize = BUFFER - 1;
const WORDS_MASK: usize = BUFFER / 8 - 1;
/// Where the name starts.
const NAME: usize = START + HEADER_LEN;
/// The DNS header, in octets (RFC 1035 section 4.1.1).
pub const HEADER_LEN: usize = 12;
/// The longest name in wire form (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
/// A name of 255 octets has at most 127 labels and the root.
const LABELS_MAX: usize = 128;
const TYPE_OPT: u16 = 41;
const OPTION_COOKIE: u16 = 10;
/// The OPT record without options (RFC 6891 section 6.1.2).
pub const OPT_LEN: usize = 11;

/// A message in its buffer, from octet [`START`] on. What stands behind its length is left
/// over from others and is never looked at.
#[repr(C, align(8))]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Message {
    words: [u64; BUFFER / 8],
}

/// A lower-cased name in 64-bit words, its last word padded with zeros.
///
/// Words past the name's length are left over from others.
pub type NameWords = [u64; NAME_WORDS];

/// What a query asks, and what its sender can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub key: Key,
    /// See [`key::meta`].
    pub meta: u64,
    /// The name in wire form, the root's octet included: 1 to 255.
    pub name_len: usize,
    /// The Internet sum of the question as sent, in memory order.
    pub sum: u64,
    /// The message's identifier, as it stands in memory.
    pub id: u16,
    /// There is an OPT.
    pub edns: bool,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    /// The AD bit of the query: its sender wants to know (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// What the sender takes over UDP, in octets: 512 without EDNS.
    pub udp_size: u16,
    pub cookie: Cookie,
}

impl Message {
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; BUFFER / 8] }
    }

    /// Copies a message in. One longer than [`MESSAGE_MAX`] is refused.
    pub fn fill(&mut self, message: &[u8]) -> Result<(), Reason> {
        let buffer = self.words.as_mut_bytes();
        let Some(place) = buffer.get_mut(START..START + message.len()) else {
            return Err(Reason::Malformed);
        };
        place.copy_from_slice(message);
        Ok(())
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.words.as_bytes()[at & MASK]
    }

    /// Eight octets from anywhere, as they stand in memory.
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        let first = (at & MASK) / 8;
        let shift = (at & 7) * 8;
        let low = u64::from_le(self.words[first & WORDS_MASK]);
        let high = u64::from_le(self.words[(first + 1) & WORDS_MASK]);
        (low >> shift | high << 1 << (63 - shift)).to_le()
    }

    #[inline(always)]
    fn be16(&self, at: usize) -> u16 {
        (self.byte(at) as u16) << 8 | self.byte(at + 1) as u16
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

/// Parses a message of `len` octets. `view` is the client's; `name` takes the lower-cased name
/// and `question` the rest. Both are places of the caller's, for the kernel's stack is short.
///
/// # Errors
///
/// The reason why the kernel passes such a query on. `name` and `question` then mean nothing.
#[inline(always)]
#[expect(
    clippy::manual_range_contains,
    clippy::needless_range_loop,
    reason = "comparisons and indexes in the form whose bounds the oldest verifier keeps"
)]
pub fn parse(
    message: &Message,
    len: usize,
    view: u16,
    secret: &Secret,
    name: &mut NameWords,
    question: &mut Question,
) -> Result<(), Reason> {
    // Header, one-octet name, type and class.
    if len < HEADER_LEN + 5 || len > MESSAGE_MAX {
        return Err(Reason::Malformed);
    }
    let end = START + len;
    let (flags, more) = (message.byte(START + 2), message.byte(START + 3));
    if flags & 0x80 != 0 {
        return Err(Reason::Response);
    }
    if flags & 0x78 != 0 {
        return Err(Reason::Opcode);
    }
    if flags & 0x02 != 0 {
        return Err(Reason::Truncated);
    }
    if flags & 0x01 == 0 {
        return Err(Reason::RecursionNotDesired);
    }
    if flags & 0x04 != 0 || more & 0xcf != 0 {
        return Err(Reason::Header);
    }
    if message.be16(START + 4) != 1 {
        return Err(Reason::QuestionCount);
    }
    if message.be16(START + 6) != 0 || message.be16(START + 8) != 0 {
        return Err(Reason::Header);
    }
    let additional = message.be16(START + 10);

    question.name_len = name_length(message, end)?;
    let name_len = unknown(&mut question.name_len) & NAME_MAX;
    let after_name = NAME + name_len;
    if after_name + 4 > end {
        return Err(Reason::Name);
    }
    let qtype = message.be16(after_name);
    let qclass = message.be16(after_name + 2);
    if qclass != CLASS_IN {
        return Err(Reason::Class);
    }
    // Types 128 to 255 are questions and metadata (RFC 6895 section 3.1); 0 is reserved.
    if qtype == 0 || qtype == TYPE_OPT || (128..256).contains(&qtype) {
        return Err(Reason::Type);
    }
    let opt = edns(message, after_name + 4, end, additional, &mut question.name_len)?;

    let mut cookie = Cookie::default();
    if opt.cookie_len != 0 {
        let data = after_name + 4 + OPT_LEN + 4;
        cookie.len = opt.cookie_len;
        cookie.client = message.word(data);
        if opt.cookie_len == CLIENT_LEN + SERVER_LEN {
            cookie.server = [message.word(data + 8), message.word(data + 16)];
        }
    }

    let cd = more & 0x10 != 0;
    let meta = key::meta(qtype, view, name_len as u8, opt.dnssec_ok, cd);
    let tail = sum::add_word(0, u64::from(qtype.to_be()) + u64::from(qclass.to_be()));
    let mut sum = sum::placed(tail, name_len & 1 == 1);
    let mut nh = Nh::new(secret, meta);
    // Lower-case, hash and sum in one pass, eight octets at a time; the last word, which is
    // never full, apart.
    // Without the mask: a compiler that knew the bound would drop the loop's own.
    question.name_len = name_len;
    let full = unknown(&mut question.name_len) / 8;
    for i in 0..NAME_WORDS - 1 {
        if i >= full {
            break;
        }
        let word = message.words[NAME / 8 + i];
        let lower = lower_case(word);
        sum = sum::add_word(sum, word);
        name[i] = lower;
        nh.word(secret, i + 1, lower);
    }
    let i = full & (NAME_WORDS - 1);
    let rest = !(u64::MAX << (8 * (name_len & 7)));
    let word = message.words[NAME / 8 + i] & rest.to_le();
    let lower = lower_case(word);
    sum = sum::add_word(sum, word);
    name[i] = lower;
    nh.word(secret, i + 1, lower);
    *question = Question {
        key: nh.key(),
        meta,
        name_len,
        sum,
        id: (message.words[0] >> 32) as u16,
        edns: opt.present,
        dnssec_ok: opt.dnssec_ok,
        checking_disabled: cd,
        authentic_data: more & 0x20 != 0,
        udp_size: opt.udp_size,
        cookie,
    };
    Ok(())
}

/// The length of the name, its last octet included.
#[inline(always)]
fn name_length(message: &Message, end: usize) -> Result<usize, Reason> {
    let mut at = NAME;
    for _ in 0..LABELS_MAX {
        // Against a constant first: that is a bound to any verifier.
        if at >= NAME + NAME_MAX {
            return Err(Reason::Name);
        }
        if at >= end {
            return Err(Reason::Name);
        }
        let label = message.byte(at) as usize;
        if label == 0 {
            return Ok(at + 1 - NAME);
        }
        // Compression pointers and the reserved label types.
        if label > 63 {
            return Err(Reason::Name);
        }
        at += 1 + label;
    }
    Err(Reason::Name)
}

struct Opt {
    present: bool,
    dnssec_ok: bool,
    udp_size: u16,
    /// Octets of the COOKIE's data; 0: there is none.
    cookie_len: usize,
}

/// Reads the additional section: nothing, or one OPT with at most one COOKIE. `place` is the
/// caller's, to pass numbers through.
#[inline(always)]
fn edns(
    message: &Message,
    at: usize,
    end: usize,
    count: u16,
    place: &mut usize,
) -> Result<Opt, Reason> {
    if count == 0 {
        if at != end {
            return Err(Reason::Trailing);
        }
        return Ok(Opt { present: false, dnssec_ok: false, udp_size: 512, cookie_len: 0 });
    }
    if at + OPT_LEN > end {
        return Err(Reason::Malformed);
    }
    if message.byte(at) != 0 || message.be16(at + 1) != TYPE_OPT {
        return Err(Reason::Signature);
    }
    let udp_size = message.be16(at + 3);
    let flags = message.byte(at + 7);
    if message.byte(at + 5) != 0
        || message.byte(at + 6) != 0
        || flags & 0x7f != 0
        || message.byte(at + 8) != 0
    {
        return Err(Reason::EdnsVersion);
    }
    let options = message.be16(at + 9) as usize;
    let after = at + OPT_LEN + options;
    if after > end {
        return Err(Reason::Malformed);
    }
    if options != 0 {
        let code = message.be16(at + OPT_LEN);
        let len = message.be16(at + OPT_LEN + 2) as usize;
        // RFC 7873 section 4: a client part of 8 octets, or both of 16 to 40 together.
        let well_formed = len == 8 || (16..=40).contains(&len);
        if code != OPTION_COOKIE || !well_formed || options != len + 4 {
            return Err(Reason::EdnsOption);
        }
    }
    if count != 1 {
        // Something follows: say what it looks like.
        *place = after;
        let next = unknown(place) & MASK;
        let second =
            after + 3 <= end && message.byte(next) == 0 && message.be16(next + 1) == TYPE_OPT;
        return Err(if second { Reason::TwoOpts } else { Reason::Signature });
    }
    if after != end {
        return Err(Reason::Trailing);
    }
    Ok(Opt {
        present: true,
        dnssec_ok: flags & 0x80 != 0,
        udp_size: udp_size.max(512),
        cookie_len: options.saturating_sub(4),
    })
}

/// Lower-cases A to Z in all eight octets. Length octets are 63 at most and so never letters.
#[inline(always)]
const fn lower_case(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let seven = word & (0x7f * ONES);
    // The top bit of each octet: 'A' or above, and above 'Z'.
    let from_a = seven + (0x80 - b'A' as u64) * ONES;
    let past_z = seven + (0x7f - b'Z' as u64) * ONES;
    let upper = (from_a ^ past_z) & !word & (0x80 * ONES);
    word | upper >> 2
}

#[cfg(test)]
mod tests;
