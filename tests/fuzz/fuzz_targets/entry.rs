//! Entries from any parts, and the replies that are composed of them.
//!
//! Whatever the builder takes, the reply has the octets of the body but for its TTLs, the length
//! and the sum that it says, and it keeps to its limits. Whatever words stand in a map, looking
//! at them does no harm.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use resolverd_common::entry::{
    self, Flags, HEAD_WORDS, Head, Parts, WORDS_MAX, body_of, build, head_of, name_of,
};
use resolverd_common::key::{self, NAME_WORDS, SECRET_WORDS};
use resolverd_common::question::{HEADER_LEN, Message, Question, parse};
use resolverd_common::reply::{Limits, Reply, compose, question_len};
use resolverd_common::sum;
use resolverd_common::time::{MILLI, SECOND};
use zerocopy::IntoBytes;

const LARGE: usize = (2 * WORDS_MAX).next_power_of_two();

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    labels: Vec<&'a [u8]>,
    stored_at: u32,
    life_millis: u32,
    counts: [u8; 3],
    flags: u16,
    ede: u16,
    body: &'a [u8],
    ttl_offsets: Vec<u16>,
    id: u16,
    bits: u8,
    edns: Option<(u16, bool)>,
    edns_size: u16,
    message_max: u16,
    stream: bool,
    elapsed_millis: u32,
    words: [u64; 16],
}

fuzz_target!(|input: Input<'_>| {
    look(&input.words);
    reply_of(&input);
});

/// Looks at words that nobody built.
fn look(words: &[u64]) {
    if let Some(head) = head_of(words) {
        let _ = (name_of(words, &head), body_of(words, &head));
    }
    if let Some(first) = words.first_chunk::<HEAD_WORDS>() {
        let head = Head::read(first);
        assert_eq!(head.words(), *first);
        let _ = (name_of(words, &head), body_of(words, &head), head.class(), head.expires_at());
    }
}

fn reply_of(input: &Input<'_>) {
    let (message, name) = message(input);
    let mut place = Message::new();
    place.fill(&message).unwrap();
    let (mut words, mut question) = ([0; NAME_WORDS], Question::default());
    parse(&place, message.len(), 0, &[9; SECRET_WORDS], &mut words, &mut question).unwrap();

    let stored_at = u64::from(input.stored_at) * MILLI;
    let parts = Parts {
        stored_at,
        meta: key::meta(1, 0, name.len() as u8, question.dnssec_ok, question.checking_disabled),
        life_millis: input.life_millis,
        name: &name,
        counts: input.counts.map(u16::from),
        flags: Flags(input.flags & !Flags::CLASS),
        ede: input.ede,
        origin: 0,
        body: input.body,
        ttl_offsets: &input.ttl_offsets,
    };
    let mut entry = vec![0; (input.body.len() + 11 * input.ttl_offsets.len()) / 8 + 64];
    let Ok(len) = build(&parts, &mut entry) else { return };
    entry.truncate(len);
    let head = head_of(&entry).expect("what was built is whole");
    assert_eq!((head.len_words(), head.meta), (len, question.meta));
    assert_eq!(name_of(&entry, &head), name);
    assert_eq!(body_of(&entry, &head), input.body);
    if let Some(class) = head.class() {
        assert!((len + 1) * 8 <= entry::CLASSES[class]);
    }

    let limits = Limits {
        edns_size: input.edns_size.max(512),
        message_max: input.message_max,
        stream: input.stream,
    };
    // Only entries that are fresh are replied from.
    let elapsed = u64::from(input.elapsed_millis);
    if elapsed >= u64::from(input.life_millis).max(1) {
        return;
    }
    let now = stored_at + elapsed * MILLI;
    let small = len <= 256 && head.ttls() <= 16;
    let reply = if small {
        composed::<512, 16>(&entry, &head, &question, &limits, now, &message)
    } else {
        composed::<LARGE, 6_000>(&entry, &head, &question, &limits, now, &message)
    };
    // Now and then, for it is slow: a place of another size changes nothing.
    if small && input.id % 64 == 0 {
        let large = composed::<LARGE, 6_000>(&entry, &head, &question, &limits, now, &message);
        assert_eq!(reply, large);
    }
    check(input, &reply, &question, &limits, elapsed * MILLI / SECOND);
}

/// The query and the lower-cased name in it.
fn message(input: &Input<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut name = Vec::new();
    for label in &input.labels {
        let label = &label[..label.len().min(63)];
        if !label.is_empty() && name.len() + 1 + label.len() < 255 {
            name.push(label.len() as u8);
            name.extend_from_slice(label);
        }
    }
    name.push(0);
    let [high, low] = input.id.to_be_bytes();
    let edns = u8::from(input.edns.is_some());
    let mut message = vec![high, low, 1, input.bits & 0x30, 0, 1, 0, 0, 0, 0, 0, edns];
    message.extend_from_slice(&name);
    message.extend_from_slice(&[0, 1, 0, 1]);
    if let Some((size, dnssec_ok)) = input.edns {
        let [s, t] = size.to_be_bytes();
        message.extend_from_slice(&[0, 0, 41, s, t, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    }
    (message, name.to_ascii_lowercase())
}

/// The reply as a driver puts it together.
fn composed<const N: usize, const TTLS: usize>(
    entry: &[u64],
    head: &Head,
    question: &Question,
    limits: &Limits,
    now: u64,
    message: &[u8],
) -> Vec<u8> {
    let mut words: Box<[u64; N]> = vec![u64::MAX; N].try_into().unwrap();
    words[..entry.len()].copy_from_slice(entry);
    let mut reply = Reply::default();
    compose::<N, TTLS>(&mut words, head, question, limits, now, &mut reply);
    let mut octets = question.id.as_bytes().to_vec();
    octets.extend_from_slice(reply.header.as_bytes());
    octets.extend_from_slice(&message[HEADER_LEN..HEADER_LEN + question_len(question.name_len)]);
    octets.extend_from_slice(&words.as_bytes()[reply.body_at..reply.body_at + reply.body_len]);
    octets.extend_from_slice(&reply.opt.as_bytes()[..reply.opt_len]);
    assert_eq!(octets.len(), reply.len);
    assert_eq!(reply.truncated, octets[2] & 2 != 0);
    let stated = u32::from(u16::from_be_bytes(sum::fold(reply.sum).to_ne_bytes())) % 0xffff;
    assert_eq!(stated, checksum(&octets));
    octets
}

/// RFC 1071, the slow way.
fn checksum(octets: &[u8]) -> u32 {
    octets.iter().enumerate().fold(0, |sum, (at, octet)| {
        (sum + (u32::from(*octet) << if at % 2 == 0 { 8 } else { 0 })) % 0xffff
    })
}

fn check(input: &Input<'_>, reply: &[u8], question: &Question, limits: &Limits, secs: u64) {
    let end = HEADER_LEN + question_len(question.name_len);
    let opt_len = match input.edns {
        None => 0,
        Some(_) if input.flags & Flags::EDE != 0 => 17,
        Some(_) => 11,
    };
    let whole = end + input.body.len() + opt_len;
    let mut limit = usize::from(limits.message_max);
    if !limits.stream {
        limit = limit.min(question.udp_size.min(limits.edns_size).into());
    }
    if reply[2] & 2 != 0 {
        assert!(whole > limit);
        assert_eq!(reply.len(), end + opt_len);
        assert_eq!(reply[6..11], [0; 5]);
        return;
    }
    assert!(whole <= limit);
    assert_eq!(reply.len(), whole);
    // The body, each of its TTLs less the seconds that went by.
    let mut body = input.body.to_vec();
    for at in &input.ttl_offsets {
        let ttl = &mut body[usize::from(*at)..][..4];
        let stored = u32::from_be_bytes(ttl.try_into().unwrap());
        let aged = u64::from(stored).checked_sub(secs).expect("no TTL below zero");
        ttl.copy_from_slice(&(aged as u32).to_be_bytes());
    }
    assert_eq!(&reply[end..end + body.len()], body);
}
