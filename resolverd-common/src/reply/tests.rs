//! Replies held to hickory-proto, and to a checksum that is added up octet by octet.

use hickory_proto::op::{Message as HickoryMessage, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cookie::Secrets;
use crate::entry::{self, Parts, WORDS_MAX, head_of};
use crate::key::{self, NAME_WORDS, SECRET_WORDS};
use crate::question::{Message, parse};
use crate::settings::MAPPED;
use crate::time::MILLI;

/// Room for every entry, and for the shorter ones that most are.
const LARGE: usize = (2 * WORDS_MAX).next_power_of_two();
const SMALL: usize = 512;

const STORED_AT: u64 = 5_000_000_000;

/// A question as a client asks it.
#[derive(Clone, Debug)]
struct Client {
    name: Name,
    id: u16,
    cd: bool,
    ad: bool,
    /// OPT: the size, and DO.
    edns: Option<(u16, bool)>,
    /// The data of a COOKIE in it.
    cookie: Option<Vec<u8>>,
}

/// An answer as it is stored.
#[derive(Clone, Debug)]
struct Stored {
    answers: Vec<Record>,
    authorities: Vec<Record>,
    flags: u16,
    ede: u16,
    life_millis: u32,
}

fn client(name: &str) -> Client {
    Client {
        name: name.parse().unwrap(),
        id: 0x1234,
        cd: false,
        ad: false,
        edns: None,
        cookie: None,
    }
}

fn stored(answers: Vec<Record>) -> Stored {
    Stored { answers, authorities: Vec::new(), flags: 0, ede: 0, life_millis: 1_000 }
}

fn address(owner: &Name, ttl: u32) -> Record {
    Record::from_rdata(owner.clone(), ttl, RData::A(A::new(192, 0, 2, 1)))
}

fn text(owner: &Name, octets: usize) -> Record {
    // Each string has a length before it; the record has 12 octets besides.
    let strings: Vec<String> = (0..octets)
        .step_by(256)
        .map(|at| {
            let len = (octets - at).min(256) - 1;
            "x".repeat(len)
        })
        .collect();
    Record::from_rdata(owner.clone(), 60, RData::TXT(TXT::new(strings)))
}

/// The client's message.
fn message(client: &Client) -> Vec<u8> {
    let mut message = HickoryMessage::query();
    message.metadata.id = client.id;
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = client.cd;
    message.metadata.authentic_data = client.ad;
    message.add_query(Query::query(client.name.clone(), RecordType::A));
    let mut octets = message.to_vec().unwrap();
    if let Some((size, dnssec_ok)) = client.edns {
        let [s, t] = size.to_be_bytes();
        octets[11] = 1;
        let cookie = client.cookie.as_deref().unwrap_or_default();
        let len = cookie.len() as u8;
        let options = if len == 0 { 0 } else { len + 4 };
        let dnssec_ok = u8::from(dnssec_ok) << 7;
        octets.extend_from_slice(&[0, 0, 41, s, t, 0, 0, dnssec_ok, 0, 0, options]);
        if len > 0 {
            octets.extend_from_slice(&[0, 10, 0, len]);
            octets.extend_from_slice(cookie);
        }
    }
    octets
}

fn question(message: &[u8]) -> Question {
    let mut buffer = Message::new();
    buffer.fill(message).unwrap();
    let (mut name, mut question) = ([0; NAME_WORDS], Question::default());
    parse(&buffer, message.len(), 0, &[3; SECRET_WORDS], &mut name, &mut question).unwrap();
    if question.cookie.len != 0 {
        let secrets = Secrets { current: [5, 6], other: [5, 6] };
        question.cookie.answer(&secrets, 1_559_731_985, &[0, 0, MAPPED, 7]);
    }
    question
}

/// The entry, made from what hickory writes.
fn build(client: &Client, stored: &Stored) -> Vec<u64> {
    let lower = client.name.to_lowercase();
    let mut message = HickoryMessage::query();
    message.metadata.message_type = MessageType::Response;
    message.add_query(Query::query(lower.clone(), RecordType::A));
    message.add_answers(stored.answers.iter().cloned());
    message.add_authorities(stored.authorities.iter().cloned());
    let octets = message.to_vec().unwrap();
    let mut name: Vec<u8> = Vec::new();
    for label in lower.iter() {
        name.push(label.len() as u8);
        name.extend_from_slice(label);
    }
    name.push(0);
    let body = &octets[HEADER_LEN + question_len(name.len())..];
    let mut out = vec![0; WORDS_MAX];
    let parts = Parts {
        stored_at: STORED_AT,
        meta: key::meta(
            1,
            0,
            name.len() as u8,
            client.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok),
            client.cd,
        ),
        life_millis: stored.life_millis,
        name: &name,
        counts: [stored.answers.len() as u16, stored.authorities.len() as u16, 0],
        flags: Flags(stored.flags),
        ede: stored.ede,
        origin: 1,
        body,
        ttl_offsets: &ttl_offsets(body),
    };
    let len = entry::build(&parts, &mut out).unwrap();
    out.truncate(len);
    out
}

fn ttl_offsets(body: &[u8]) -> Vec<u16> {
    let mut offsets = Vec::new();
    let mut at = 0;
    while at < body.len() {
        loop {
            match body[at] {
                0 => break at += 1,
                0xc0.. => break at += 2,
                len => at += 1 + usize::from(len),
            }
        }
        offsets.push(at as u16 + 4);
        at += 10 + usize::from(u16::from_be_bytes([body[at + 8], body[at + 9]]));
    }
    offsets
}

/// What `compose` says, put together as a driver does it.
fn reply<const N: usize, const TTLS: usize>(
    entry: &[u64],
    message: &[u8],
    limits: &Limits,
    now: u64,
) -> (Vec<u8>, Reply) {
    let question = question(message);
    let head = head_of(entry).unwrap();
    // What was there before means nothing.
    let mut words: Box<[u64; N]> = vec![u64::MAX; N].try_into().unwrap();
    words[..entry.len()].copy_from_slice(entry);
    let mut reply = Reply::default();
    compose::<N, TTLS>(&mut words, &head, &question, limits, now, &mut reply);
    let mut octets = question.id.as_bytes().to_vec();
    octets.extend_from_slice(reply.header.as_bytes());
    octets.extend_from_slice(&message[HEADER_LEN..HEADER_LEN + question_len(question.name_len)]);
    octets.extend_from_slice(&words.as_bytes()[reply.body_at..reply.body_at + reply.body_len]);
    octets.extend_from_slice(&reply.opt.as_bytes()[..reply.opt_len]);
    assert_eq!(octets.len(), reply.len);
    assert_eq!(checksum(&octets), composed_sum(&reply), "{octets:02x?}");
    (octets, reply)
}

/// RFC 1071, the slow way: big-endian, octet by octet, modulo 65535.
fn checksum(octets: &[u8]) -> u32 {
    octets.iter().enumerate().fold(0, |sum, (at, octet)| {
        (sum + (u32::from(*octet) << if at % 2 == 0 { 8 } else { 0 })) % 0xffff
    })
}

fn composed_sum(reply: &Reply) -> u32 {
    u32::from(u16::from_be_bytes(sum::fold(reply.sum).to_ne_bytes())) % 0xffff
}

const UDP: Limits = Limits { edns_size: 1232, message_max: 65_535, stream: false };
const TCP: Limits = Limits { stream: true, ..UDP };

#[test]
fn an_answer_fits_to_the_last_octet_and_no_further() {
    for (edns, limit) in [
        (None, 512_usize),
        (Some((0, false)), 512),
        (Some((512, true)), 512),
        (Some((700, false)), 700),
        (Some((1_232, true)), 1_232),
        (Some((4_096, false)), 1_232),
    ] {
        let client = Client { edns, ..client("Big.Test.") };
        // Header, question, the TXT's fixed part, OPT.
        let around = 12 + 14 + 12 + if edns.is_some() { OPT_LEN } else { 0 };
        for (octets, truncated) in [(limit - around, false), (limit - around + 1, true)] {
            let entry = build(&client, &stored(vec![text(&client.name, octets)]));
            let message = message(&client);
            let (octets, composed) = reply::<SMALL, 16>(&entry, &message, &UDP, STORED_AT);
            assert_eq!(composed.truncated, truncated, "{edns:?}");
            let decoded = HickoryMessage::from_vec(&octets).unwrap();
            assert_eq!(decoded.metadata.truncation, truncated);
            assert_eq!(decoded.answers.len(), usize::from(!truncated));
            assert_eq!(decoded.edns.is_some(), edns.is_some());
            if truncated {
                assert_eq!(octets.len(), 12 + 14 + if edns.is_some() { OPT_LEN } else { 0 });
            } else {
                assert_eq!(octets.len(), limit);
            }
            // The way can be narrower than both, and a stream knows no such thing.
            let narrow = Limits { message_max: 100, ..UDP };
            assert!(reply::<SMALL, 16>(&entry, &message, &narrow, STORED_AT).1.truncated);
            assert!(!reply::<SMALL, 16>(&entry, &message, &TCP, STORED_AT).1.truncated);
        }
    }
}

#[test]
fn an_extended_error_is_told_to_who_can_read_it() {
    let with = |edns| Client { edns, ..client("a.test.") };
    let failure = Stored { flags: Flags::EDE | 2, ede: 0x1617, ..stored(Vec::new()) };
    let plain = with(None);
    let (octets, _) =
        reply::<SMALL, 16>(&build(&plain, &failure), &message(&plain), &UDP, STORED_AT);
    assert_eq!(
        octets,
        [&b"\x12\x34\x81\x82\0\x01\0\0\0\0\0\0"[..], b"\x01a\x04test\0\0\x01\0\x01"].concat()
    );
    let edns = with(Some((1232, true)));
    let (octets, _) = reply::<SMALL, 16>(&build(&edns, &failure), &message(&edns), &UDP, STORED_AT);
    let opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\x06\0\x0f\0\x02\x16\x17";
    assert!(octets.ends_with(opt) && octets[11] == 1);
}

#[test]
fn ttls_count_whole_seconds_and_never_below_what_is_left_of_the_life() {
    let client = client("a.test.");
    let answer = Stored {
        life_millis: 2_000,
        ..stored(vec![address(&client.name, 2), address(&client.name, 300)])
    };
    let entry = build(&client, &answer);
    for (elapsed_millis, expected) in
        [(0, [2, 300]), (999, [2, 300]), (1_000, [1, 299]), (1_999, [1, 299])]
    {
        let now = STORED_AT + elapsed_millis * MILLI;
        let (octets, _) = reply::<SMALL, 16>(&entry, &message(&client), &UDP, now);
        let decoded = HickoryMessage::from_vec(&octets).unwrap();
        let ttls: Vec<u32> = decoded.answers.iter().map(|record| record.ttl).collect();
        assert_eq!(ttls, expected);
    }
}

#[test]
fn the_longest_answer_is_sent_whole_over_a_stream() {
    let client = client("a.test.");
    let records = (0..3_000).map(|_| address(&client.name, 300)).collect();
    let answer = stored(records);
    let entry = build(&client, &answer);
    let (octets, composed) =
        reply::<LARGE, 6_000>(&entry, &message(&client), &TCP, STORED_AT + 7 * SECOND);
    assert!(!composed.truncated && octets.len() > 48_000);
    let decoded = HickoryMessage::from_vec(&octets).unwrap();
    assert_eq!(decoded.answers.len(), 3_000);
    assert!(decoded.answers.iter().all(|record| record.ttl == 293));
}

fn names() -> impl Strategy<Value = Name> {
    vec("[a-zA-Z]{1,9}", 1..5).prop_map(|labels| format!("{}.", labels.join(".")).parse().unwrap())
}

fn clients() -> impl Strategy<Value = Client> {
    let edns = proptest::option::of((any::<u16>(), any::<bool>()));
    let cookie = prop_oneof![
        Just(None),
        vec(any::<u8>(), 8).prop_map(Some),
        vec(any::<u8>(), 24).prop_map(Some)
    ];
    (names(), any::<u16>(), any::<bool>(), any::<bool>(), edns, cookie)
        .prop_map(|(name, id, cd, ad, edns, cookie)| Client { name, id, cd, ad, edns, cookie })
}

fn records() -> impl Strategy<Value = Record> {
    let data = prop_oneof![
        any::<[u8; 4]>().prop_map(|[a, b, c, d]| RData::A(A::new(a, b, c, d))),
        names().prop_map(|name| RData::CNAME(CNAME(name))),
        (0..200_usize).prop_map(|len| RData::TXT(TXT::new(vec!["y".repeat(len)]))),
    ];
    (names(), 10..100_000_u32, data)
        .prop_map(|(name, ttl, data)| Record::from_rdata(name, ttl, data))
}

proptest! {
    #[test]
    fn a_reply_is_what_was_stored_aged_and_addressed_to_this_client(
        client in clients(),
        answers in vec(records(), 0..10),
        authorities in vec(records(), 0..6),
        rcode in 0..6_u16,
        [aa, secure, with_ede] in any::<[bool; 3]>(),
        ede in any::<u16>(),
        elapsed in 0..10_000_u64,
        edns_size in 512..4_096_u16,
        stream in any::<bool>(),
    ) {
        let mut flags = rcode;
        for (is, flag) in
            [(aa, Flags::AUTHORITATIVE), (secure, Flags::SECURE), (with_ede, Flags::EDE)]
        {
            flags |= if is { flag } else { 0 };
        }
        let stored = Stored { answers, authorities, flags, ede, life_millis: 10_000 };
        let entry = build(&client, &stored);
        let query = message(&client);
        let limits = Limits { edns_size, message_max: 65_535, stream };
        let now = STORED_AT + elapsed * MILLI;
        let (octets, composed) = reply::<LARGE, 16>(&entry, &query, &limits, now);
        if entry.len() <= SMALL / 2 {
            let (same, _) = reply::<SMALL, 16>(&entry, &query, &limits, now);
            prop_assert_eq!(&octets, &same);
        }

        let takes = client.edns.map_or(512, |(size, _)| size.max(512)).min(edns_size);
        prop_assert!(stream || octets.len() <= usize::from(takes));
        let asked = question_len(question(&query).name_len);
        prop_assert_eq!(&octets[12..12 + asked], &query[12..12 + asked]);

        let decoded = HickoryMessage::from_vec(&octets).unwrap();
        let header = decoded.metadata;
        prop_assert_eq!(header.id, client.id);
        prop_assert_eq!(header.message_type, MessageType::Response);
        prop_assert!(header.recursion_desired && header.recursion_available);
        prop_assert_eq!(header.response_code, ResponseCode::from(0, rcode as u8));
        prop_assert_eq!(header.authoritative, aa);
        prop_assert_eq!(header.checking_disabled, client.cd);
        prop_assert_eq!(header.truncation, composed.truncated);
        let aware = client.ad || client.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok);
        prop_assert_eq!(header.authentic_data, secure && aware && !composed.truncated);
        prop_assert_eq!(decoded.edns.is_some(), client.edns.is_some());
        if let (Some(edns), Some((_, dnssec_ok))) = (&decoded.edns, client.edns) {
            prop_assert_eq!(edns.max_payload(), edns_size);
            prop_assert_eq!(edns.flags().dnssec_ok, dnssec_ok);
            prop_assert_eq!((edns.version(), edns.rcode_high()), (0, 0));
            let cookie = client.cookie.as_ref().map(|asked| {
                let server = question(&query).cookie.server;
                EdnsOption::Unknown(10, [&asked[..8], server.as_bytes()].concat())
            });
            prop_assert_eq!(edns.option(EdnsCode::Cookie), cookie.as_ref());
            prop_assert_eq!(composed.with_ede, with_ede);
            if with_ede {
                let [c, d] = ede.to_be_bytes();
                prop_assert!(octets.ends_with(&[0, 15, 0, 2, c, d]));
            }
        }
        let aged = |records: &[Record]| -> Vec<Record> {
            if composed.truncated {
                return Vec::new();
            }
            let age = |record: &Record| {
                let mut record = record.clone();
                record.ttl -= (elapsed / 1_000) as u32;
                record
            };
            records.iter().map(age).collect()
        };
        prop_assert_eq!(&decoded.answers, &aged(&stored.answers));
        prop_assert_eq!(&decoded.authorities, &aged(&stored.authorities));
    }
}
