//! Makes the reply to a message out of an entry, by the code that the kernel runs.
//!
//! Pure. All answers are made here, hits and misses alike, so that none can differ from the
//! kernel's. What the kernel cannot say is added behind: the text of an extended error.

use resolverd_common::entry::{Flags, Head, WORDS_MAX};
use resolverd_common::question::{HEADER_LEN, OPT_LEN, Question};
use resolverd_common::reply::{self, EDE_LEN, Limits, OPT_WORDS, Reply, question_len};
use zerocopy::IntoBytes;

use crate::cache::Held;

/// Places that are used for one reply after the other.
pub struct Desk {
    reply: Reply,
    short: [u64; SHORT_WORDS],
    /// Made when the first long entry comes: most threads never see one.
    long: Option<Box<[u64; LONG_WORDS]>>,
}

/// An entry, and the text that goes with it.
pub struct Said<'a> {
    pub words: Words<'a>,
    pub head: &'a Head,
}

/// Where the words of an entry are.
#[derive(Clone, Copy)]
pub enum Words<'a> {
    /// In the cache.
    Held(&'a Held),
    /// Just built, with the text of its extended error.
    Built(&'a [u64], &'a str),
}

impl Desk {
    #[must_use]
    pub const fn new() -> Self {
        let reply = Reply {
            header: [0; 5],
            body_at: 0,
            body_len: 0,
            opt: [0; OPT_WORDS],
            opt_len: 0,
            with_ede: false,
            len: 0,
            truncated: false,
            sum: 0,
        };
        Self { reply, short: [0; SHORT_WORDS], long: None }
    }

    /// Appends to `out` the reply to `message`, whose question is `question`.
    pub fn write(
        &mut self,
        said: &Said<'_>,
        message: &[u8],
        question: &Question,
        limits: &Limits,
        now: u64,
        out: &mut Vec<u8>,
    ) {
        let Self { reply, short, long } = self;
        let words = said.head.len_words();
        if words <= SHORT_WORDS / 2 {
            said.words.copy_to(&mut short[..words]);
            reply::compose::<_, SHORT_TTLS>(short, said.head, question, limits, now, reply);
            put(reply, short.as_bytes(), message, question, out);
        } else {
            let long = long.get_or_insert_with(long_desk);
            said.words.copy_to(&mut long[..words]);
            reply::compose::<_, LONG_TTLS>(long, said.head, question, limits, now, reply);
            put(reply, long.as_bytes(), message, question, out);
        }
        if said.head.flags.has(Flags::DAEMON_ONLY) && reply.with_ede {
            explain(&said.words.text(), reply.opt_len, limit(question, limits), out);
        }
    }
}

/// What the client and the way take, in octets: what `compose` holds to.
fn limit(question: &Question, limits: &Limits) -> usize {
    let client = if limits.stream { u16::MAX } else { question.udp_size.min(limits.edns_size) };
    client.min(limits.message_max).into()
}

fn put(reply: &Reply, entry: &[u8], message: &[u8], question: &Question, out: &mut Vec<u8>) {
    out.reserve(reply.len);
    out.extend_from_slice(question.id.as_bytes());
    out.extend_from_slice(reply.header.as_bytes());
    // Their casing, untouched.
    out.extend_from_slice(&message[HEADER_LEN..HEADER_LEN + question_len(question.name_len)]);
    out.extend_from_slice(&entry[reply.body_at..reply.body_at + reply.body_len]);
    out.extend_from_slice(&reply.opt.as_bytes()[..reply.opt_len]);
}

/// Puts text behind the EDE code that ends `out`, if there is room. The OPT that it ends with has
/// `opt_len` octets.
fn explain(text: &[u8], opt_len: usize, limit: usize, out: &mut Vec<u8>) {
    if text.is_empty() || out.len() + text.len() > limit {
        return;
    }
    let (opt, ede) = (out.len() - opt_len, out.len() - EDE_LEN);
    // A kept text has some hundred octets.
    let len = text.len() as u16;
    let options = (opt_len - OPT_LEN) as u16 + len;
    out[opt + OPT_LEN - 2..opt + OPT_LEN].copy_from_slice(&options.to_be_bytes());
    out[ede + 2..ede + 4].copy_from_slice(&(2 + len).to_be_bytes());
    out.extend_from_slice(text);
}

impl Words<'_> {
    fn copy_to(self, out: &mut [u64]) {
        match self {
            Self::Held(held) => held.copy_to(out),
            Self::Built(words, _) => out.copy_from_slice(&words[..out.len()]),
        }
    }

    fn text(self) -> Vec<u8> {
        match self {
            Self::Held(held) => held.text(),
            Self::Built(_, text) => text.into(),
        }
    }
}

fn long_desk() -> Box<[u64; LONG_WORDS]> {
    // Not `Box::new([…])`: that would pass by the stack.
    let words: Box<[u64]> = vec![0; LONG_WORDS].into();
    match words.try_into() {
        Ok(words) => words,
        Err(_) => unreachable!("a slice of LONG_WORDS words has LONG_WORDS words"),
    }
}

/// Twice 2 KiB: every answer that fits into a datagram of ours.
const SHORT_WORDS: usize = 512;
/// Records of 11 octets each in 2 KiB.
const SHORT_TTLS: usize = SHORT_WORDS * 8 / 2 / 11;
/// Twice the largest entry, as a power of two.
const LONG_WORDS: usize = (2 * WORDS_MAX).next_power_of_two();
const LONG_TTLS: usize = 65_536 / 11;
