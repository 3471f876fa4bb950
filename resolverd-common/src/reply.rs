//! The one reply: what is sent to this client from this entry at this moment.
//!
//! Used by the kernel on a packet and by the daemon on a message, so that both say the same.
//! The question's octets are the client's own and stay as they are.

use zerocopy::IntoBytes;

use crate::cookie;
use crate::entry::{Flags, HEAD_WORDS, Head};
use crate::question::{HEADER_LEN, OPT_LEN, Question};
use crate::time::SECOND;
use crate::{sum, unknown};

/// Octets of an EDE option without text (RFC 8914 section 2).
pub const EDE_LEN: usize = 6;
/// Octets of OPT with all options that we send: the cookie, and behind it an EDE without text.
pub const OPT_MAX: usize = OPT_LEN + cookie::OPTION_LEN + EDE_LEN;
/// Words of a place for it: a power of two.
pub const OPT_WORDS: usize = 8;
const OPTION_EDE: u16 = 15;
const OPTION_COOKIE: u16 = 10;

/// The limits of this reply's way.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Our own size: told in OPT, and never exceeded over UDP.
    pub edns_size: u16,
    /// The largest DNS message that the way takes, in octets: the MTU less IP and UDP
    /// headers, or 65535 over TCP.
    pub message_max: u16,
    /// Over a stream neither the client's size nor ours bounds the message.
    pub stream: bool,
}

/// All of a reply but the identifier, the question and the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The header from its third octet on: flags and counts, in network order.
    pub header: [u16; 5],
    /// Where the body stands in the entry, in octets.
    pub body_at: usize,
    /// Octets of body to send.
    pub body_len: usize,
    /// The OPT's octets, in words; zeros behind them.
    pub opt: [u64; OPT_WORDS],
    pub opt_len: usize,
    /// The last option in the OPT is an EDE.
    pub with_ede: bool,
    /// Octets of the whole message.
    pub len: usize,
    /// The answer did not fit: TC is set and the body is empty.
    pub truncated: bool,
    /// The Internet sum of the whole message, in memory order.
    pub sum: u64,
}

/// Octets of the question in a message.
#[inline(always)]
#[must_use]
pub const fn question_len(name_len: usize) -> usize {
    name_len + 4
}

/// Ages the entry's TTLs in place and writes to `reply` what to send around its body.
///
/// `entry` is a copy that nobody else writes. Its length is a power of two and at least twice
/// that of any entry in it, so that the sum of two offsets that are masked one by one stays
/// inside. `TTLS` bounds the loop over the TTLs.
#[inline(always)]
pub fn compose<const N: usize, const TTLS: usize>(
    entry: &mut [u64; N],
    head: &Head,
    question: &Question,
    limits: &Limits,
    now: u64,
    reply: &mut Reply,
) {
    const { assert!(N.is_power_of_two()) };
    let half = N * 4 - 1;
    let with_ede = question.edns && head.flags.has(Flags::EDE);
    let with_cookie = question.edns && question.cookie.len != 0;
    let options = cookie::OPTION_LEN * with_cookie as usize + EDE_LEN * with_ede as usize;
    let opt_len = (OPT_LEN + options) * question.edns as usize;
    let around = HEADER_LEN + question_len(question.name_len) + opt_len;
    let client = if limits.stream { u16::MAX } else { question.udp_size.min(limits.edns_size) };
    let limit = client.min(limits.message_max) as usize;
    let whole = around + head.body_len as usize;
    let truncated = whole > limit;
    let body_len = if truncated { 0 } else { head.body_len as usize };

    // RFC 1035 section 4.1.1; AD by RFC 6840 section 5.8, CD copied by RFC 4035 section 3.2.2.
    let aware = question.authentic_data || question.dnssec_ok;
    let secure = head.flags.has(Flags::SECURE) && aware;
    let mut flags = 0x8180 | head.flags.rcode() as u16;
    if head.flags.has(Flags::AUTHORITATIVE) {
        flags |= 0x0400;
    }
    if truncated {
        flags |= 0x0200;
    }
    if secure && !truncated {
        flags |= 0x0020;
    }
    if question.checking_disabled {
        flags |= 0x0010;
    }
    let counts = if truncated { [0; 3] } else { head.counts };
    let additional = counts[2] + question.edns as u16;
    let header = header(flags, counts, additional);

    reply.body_at = head.body_at() * 8;
    let body_at = reply.body_at;
    let mut body_sum = head.sum as u64;
    if !truncated {
        let elapsed = (now.saturating_sub(head.stored_at) / SECOND) as u32;
        let ttls = head.ttls();
        for i in 0..TTLS {
            if i >= ttls {
                break;
            }
            let word = entry[(HEAD_WORDS + i / 4) & (N - 1)];
            let offset = (word >> (i % 4 * 16)) as u16 as usize & half;
            // Read anew each time: what old verifiers know of a number does not outlive a loop.
            let at = (unknown(&mut reply.body_at) & half) + offset;
            let octets = entry.as_mut_bytes();
            let mask = octets.len() - 1;
            let stored = u32::from_be_bytes([
                octets[at & mask],
                octets[(at + 1) & mask],
                octets[(at + 2) & mask],
                octets[(at + 3) & mask],
            ]);
            // An entry lives no longer than any of its TTLs (see `entry::build`).
            let aged = stored.wrapping_sub(elapsed).to_be_bytes();
            octets[at & mask] = aged[0];
            octets[(at + 1) & mask] = aged[1];
            octets[(at + 2) & mask] = aged[2];
            octets[(at + 3) & mask] = aged[3];
            let added = sum::add_word(0, u32::from_ne_bytes(aged) as u64);
            body_sum += sum::placed(added, offset & 1 == 1);
        }
    } else {
        body_sum = 0;
    }

    let ede = head.ede.to_be_bytes();
    let opt = if with_cookie {
        opt_with_cookie(limits.edns_size, question, with_ede, ede)
    } else {
        opt(limits.edns_size, question.dnssec_ok, with_ede, ede)
    };
    // The question starts at octet 12 and the body behind it: both offsets have the parity of
    // the name's length, which is the OPT's too when the body is even.
    let body_odd = question.name_len & 1 == 1;
    let opt_odd = (question.name_len + body_len) & 1 == 1;
    let mut sum =
        question.sum + question.id as u64 + header_sum(&header) + sum::placed(body_sum, body_odd);
    if question.edns {
        sum += sum::placed(opt_sum(&opt), opt_odd);
    }
    *reply = Reply {
        header,
        body_at,
        body_len,
        opt,
        opt_len,
        with_ede,
        len: around + body_len,
        truncated,
        sum,
    };
}

/// Flags and counts: five 16-bit parts in network order.
#[inline(always)]
fn header(flags: u16, counts: [u16; 3], additional: u16) -> [u16; 5] {
    [flags.to_be(), 1u16.to_be(), counts[0].to_be(), counts[1].to_be(), additional.to_be()]
}

#[inline(always)]
fn header_sum(header: &[u16; 5]) -> u64 {
    header[0] as u64 + header[1] as u64 + header[2] as u64 + header[3] as u64 + header[4] as u64
}

/// Our own OPT without a cookie: its fixed part (RFC 6891 section 6.1.2), and an EDE if asked for.
#[inline(always)]
fn opt(size: u16, dnssec_ok: bool, with_ede: bool, ede: [u8; 2]) -> [u64; OPT_WORDS] {
    let options = EDE_LEN as u8 * with_ede as u8;
    // 255 for each octet that is there.
    let there = with_ede as u64 * u64::MAX;
    let [c, d] = OPTION_EDE.to_be_bytes();
    [
        opt_start(size, dnssec_ok),
        u64::from_ne_bytes([0, 0, options, 0, 0, 0, 0, 0])
            | u64::from_ne_bytes([0, 0, 0, c, d, 0, 2, ede[0]]) & there,
        u64::from_ne_bytes([ede[1], 0, 0, 0, 0, 0, 0, 0]) & there,
        0,
        0,
        0,
        0,
        0,
    ]
}

/// Our own OPT with the cookie of this answer, and behind it an EDE if asked for.
#[inline(always)]
fn opt_with_cookie(
    size: u16,
    question: &Question,
    with_ede: bool,
    ede: [u8; 2],
) -> [u64; OPT_WORDS] {
    let options = (cookie::OPTION_LEN + EDE_LEN * with_ede as usize) as u8;
    let there = with_ede as u64 * u64::MAX;
    let [c, d] = OPTION_COOKIE.to_be_bytes();
    let [e, f] = OPTION_EDE.to_be_bytes();
    let len = (cookie::CLIENT_LEN + cookie::SERVER_LEN) as u8;
    // The cookie stands one octet before a word: each of its words is in two of ours.
    let client = u64::from_le(question.cookie.client);
    let [head, hash] = question.cookie.server.map(u64::from_le);
    [
        opt_start(size, question.dnssec_ok),
        u64::from_ne_bytes([0, 0, options, c, d, 0, len, 0]) | (client << 56).to_le(),
        (client >> 8 | head << 56).to_le(),
        (head >> 8 | hash << 56).to_le(),
        (hash >> 8).to_le() | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, e]) & there,
        u64::from_ne_bytes([f, 0, 2, ede[0], ede[1], 0, 0, 0]) & there,
        0,
        0,
    ]
}

/// The root, the type, our size, an extended RCODE of 0, version 0, and the DO bit.
#[inline(always)]
fn opt_start(size: u16, dnssec_ok: bool) -> u64 {
    let [s, t] = size.to_be_bytes();
    u64::from_ne_bytes([0, 0, 41, s, t, 0, 0, (dnssec_ok as u8) << 7])
}

#[inline(always)]
fn opt_sum(opt: &[u64; OPT_WORDS]) -> u64 {
    let mut sum = 0;
    let mut i = 0;
    // The last two words are always zero.
    while i < OPT_WORDS - 2 {
        sum = sum::add_word(sum, opt[i]);
        i += 1;
    }
    sum
}

#[cfg(test)]
mod tests;
