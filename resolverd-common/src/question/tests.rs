//! The parser against hickory-proto: the same question, or a reason to pass.

use hickory_proto::op::{Edns, Message as HickoryMessage, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::key::{Meta, name_words};

const VIEW: u16 = 7;

fn secret() -> Secret {
    core::array::from_fn(|i| (i as u32 + 1).wrapping_mul(0x9e37_79b9))
}

/// Parses in a buffer that was used before: `left_over` is what stands there.
fn parse_in(left_over: u8, message: &[u8]) -> Result<(NameWords, Question), Reason> {
    let mut buffer = Message::new();
    buffer.fill(&[left_over; MESSAGE_MAX]).unwrap();
    buffer.fill(message)?;
    let mut name = [u64::from_ne_bytes([left_over; 8]); NAME_WORDS];
    let mut question = Question { name_len: left_over.into(), ..Question::default() };
    parse(&buffer, message.len(), VIEW, &secret(), &mut name, &mut question)?;
    Ok((name, question))
}

fn ask(message: &[u8]) -> Result<(NameWords, Question), Reason> {
    let clean = parse_in(0, message);
    // What stands behind the message, or stood in the places before, is never looked at.
    for left_over in [0x41, 0xff] {
        let other = parse_in(left_over, message);
        match (clean, other) {
            (Ok((a, question)), Ok((b, other))) => {
                assert_eq!(question, other);
                let words = name_words(question.name_len);
                assert_eq!(a[..words], b[..words]);
            }
            (a, b) => assert_eq!(a.err(), b.err()),
        }
    }
    clean
}

/// "www.example.test. A" with RD.
fn plain() -> Vec<u8> {
    let mut message = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend_from_slice(b"\x03wWw\x07EXAMPLE\x04test\0\0\x01\0\x01");
    message
}

fn with_opt(mut message: Vec<u8>, fixed: [u8; 6], options: &[u8]) -> Vec<u8> {
    message[11] += 1;
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&fixed);
    message.extend_from_slice(&(options.len() as u16).to_be_bytes());
    message.extend_from_slice(options);
    message
}

const EDNS: [u8; 6] = [4, 208, 0, 0, 0, 0];

/// Holds what the parser says to what hickory-proto says of the same octets.
fn same_as_hickory(octets: &[u8], name: &NameWords, question: &Question) {
    let theirs = HickoryMessage::from_vec(octets).expect("what is taken can be read");
    let [query] = &theirs.queries[..] else { panic!("{theirs}") };
    let meta = Meta::of(question.meta);
    let wire = lower_cased(query.name());
    assert_eq!(name.as_bytes()[..question.name_len], wire);
    assert_eq!(usize::from(meta.name_len), wire.len());
    // Padded to its last word.
    let padded = name_words(wire.len()) * 8;
    assert!(name.as_bytes()[wire.len()..padded].iter().all(|octet| *octet == 0));
    assert_eq!(meta.qtype, u16::from(query.query_type()));
    assert_eq!(u16::from(query.query_class()), CLASS_IN);
    assert_eq!(meta.view, VIEW);
    let edns = theirs.edns.as_ref();
    let dnssec_ok = edns.is_some_and(|edns| edns.flags().dnssec_ok);
    assert_eq!((question.edns, question.dnssec_ok), (edns.is_some(), dnssec_ok));
    assert_eq!(meta.dnssec_ok, dnssec_ok);
    assert_eq!(question.udp_size, edns.map_or(512, |edns| edns.max_payload().max(512)));
    let header = theirs.metadata;
    assert_eq!((meta.cd, question.checking_disabled), (header.checking_disabled, meta.cd));
    assert_eq!(question.authentic_data, header.authentic_data);
    assert_eq!(question.id.to_ne_bytes(), header.id.to_be_bytes());
    assert_eq!(question.key, key::of(&secret(), question.meta, &name[..padded / 8]));
    let end = HEADER_LEN + question.name_len + 4;
    assert_eq!(sum::fold(question.sum), sum::fold(sum::of_bytes(&octets[HEADER_LEN..end])));
}

fn lower_cased(name: &Name) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.iter() {
        wire.push(label.len() as u8);
        wire.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    wire.push(0);
    wire
}

/// Names of any octets, up to the longest.
fn names() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        4 => vec(prop_oneof![b'a'..=b'z', b'A'..=b'Z', Just(b'-')], 1..12),
        1 => vec(any::<u8>(), 1..=63),
    ];
    vec(label, 0..20).prop_map(|labels| {
        let mut name = Name::root();
        for label in labels {
            let longer =
                Name::from_labels([&label[..]]).and_then(|first| first.append_domain(&name));
            // One that would be too long stays as it is.
            name = longer.unwrap_or(name);
        }
        name
    })
}

proptest! {
    #[test]
    fn a_plain_query_of_hickory_is_always_taken(
        name in names(),
        qtype in prop_oneof![1..41_u16, 42..128_u16, 256..=65_535_u16],
        id in any::<u16>(),
        [cd, ad, edns, dnssec_ok] in any::<[bool; 4]>(),
        size in any::<u16>(),
        cookie in prop_oneof![Just(0_usize), Just(8), Just(24), 16..=40_usize],
        data in any::<[[u8; 20]; 2]>().prop_map(|halves| halves.concat()),
    ) {
        let mut message = HickoryMessage::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = cd;
        message.metadata.authentic_data = ad;
        message.add_query(Query::query(name, RecordType::from(qtype)));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
            if cookie > 0 {
                edns.options_mut().insert(EdnsOption::Unknown(10, data[..cookie].to_vec()));
            }
            message.edns = Some(edns);
        }
        let octets = message.to_vec().unwrap();
        let (name, question) = ask(&octets).unwrap();
        prop_assert_eq!(question.edns, edns);
        let there = if edns { cookie } else { 0 };
        prop_assert_eq!(question.cookie.len, there);
        if there > 0 {
            prop_assert_eq!(&question.cookie.client.to_ne_bytes(), &data[..8]);
        }
        if there == 24 {
            prop_assert_eq!(question.cookie.server.as_bytes(), &data[8..24]);
        }
        same_as_hickory(&octets, &name, &question);
    }

    #[test]
    fn octets_that_were_changed_are_read_the_same_or_passed(
        edns in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 0..80_usize,
    ) {
        let mut octets = plain();
        if edns {
            octets = with_opt(octets, EDNS, b"\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08");
        }
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        octets.truncate(octets.len().saturating_sub(cut.saturating_sub(70)));
        if let Ok((name, question)) = ask(&octets) {
            same_as_hickory(&octets, &name, &question);
        }
    }

    #[test]
    fn any_octets_are_read_the_same_or_passed(octets in vec(any::<u8>(), 0..600)) {
        if let Ok((name, question)) = ask(&octets) {
            same_as_hickory(&octets, &name, &question);
        }
    }

    #[test]
    fn eight_octets_are_lower_cased_as_one_by_one(octets in any::<[u8; 8]>()) {
        let word = lower_case(u64::from_ne_bytes(octets));
        prop_assert_eq!(word.to_ne_bytes().to_vec(), octets.to_ascii_lowercase());
    }
}

#[test]
fn every_octet_is_lower_cased_in_every_place() {
    for octet in 0..=255_u8 {
        for place in 0..8 {
            for around in [0, b'A', b'Z', b'[', 0x80, 0xff] {
                let mut octets = [around; 8];
                octets[place] = octet;
                let lower = lower_case(u64::from_ne_bytes(octets)).to_ne_bytes();
                assert_eq!(lower.to_vec(), octets.to_ascii_lowercase());
            }
        }
    }
}

#[test]
fn all_that_decides_an_answer_decides_the_key_and_nothing_else_does() {
    let key = |message: &[u8]| ask(message).unwrap().1.key;
    let base = key(&plain());
    let changed = |at: usize, octet: u8| {
        let mut message = plain();
        message[at] = octet;
        message
    };
    // Casing, id, AD, EDNS, the size, a cookie.
    for same in [
        changed(13, b'W'),
        changed(0, 9),
        changed(3, 0x20),
        with_opt(plain(), EDNS, &[]),
        with_opt(plain(), [16, 0, 0, 0, 0, 0], &[]),
        with_opt(plain(), EDNS, b"\0\x0a\0\x08abcdefgh"),
    ] {
        assert_eq!(key(&same), base);
    }
    let end = plain().len();
    for other in [
        changed(13, b'x'),
        changed(3, 0x10),
        changed(end - 3, 28),
        with_opt(plain(), [4, 208, 0, 0, 0x80, 0], &[]),
    ] {
        assert_ne!(key(&other), base);
    }
}

#[test]
fn each_reason_to_pass_has_a_message() {
    let set = |at: usize, octet: u8| {
        let mut message = plain();
        message[at] = octet;
        message
    };
    let cut = |mut message: Vec<u8>, by: usize| {
        message.truncate(message.len() - by);
        message
    };
    let end = plain().len();
    let opt = |fixed, options: &[u8]| with_opt(plain(), fixed, options);
    let mut owned = opt(EDNS, &[]);
    owned[end] = 1;
    let mut other = opt(EDNS, &[]);
    other[end + 2] = 16;
    let mut behind = opt(EDNS, &[]);
    behind.push(0);
    let mut long = plain();
    long.resize(MESSAGE_MAX + 1, 0);
    let mut longest = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for len in [63, 63, 63, 62] {
        longest.push(len);
        longest.resize(longest.len() + usize::from(len), b'a');
    }
    longest.extend_from_slice(&[0, 0, 1, 0, 1]);
    use Reason::*;
    for (message, reason) in [
        (vec![0; 12], Malformed),
        (vec![], Malformed),
        (cut(plain(), 1), Name),
        (long, Malformed),
        (set(2, 0x81), Response),
        (set(2, 0x21), Opcode),
        (set(2, 0x79), Opcode),
        (set(2, 0x03), Truncated),
        (set(2, 0x00), RecursionNotDesired),
        (set(2, 0x05), Header),
        (set(3, 0x80), Header),
        (set(3, 0x40), Header),
        (set(3, 0x01), Header),
        (set(5, 0), QuestionCount),
        (set(5, 2), QuestionCount),
        (set(4, 1), QuestionCount),
        (set(7, 1), Header),
        (set(9, 1), Header),
        (set(12, 0xc0), Name),
        (set(12, 64), Name),
        (set(16, 63), Name),
        (longest, Name),
        (set(end - 1, 3), Class),
        (set(end - 2, 1), Class),
        (set(end - 3, 0), Type),
        (set(end - 3, 41), Type),
        (set(end - 3, 255), Type),
        (set(end - 3, 252), Type),
        (set(end - 3, 128), Type),
        (owned, Signature),
        (other, Signature),
        ([plain(), vec![0]].concat(), Trailing),
        (behind, Trailing),
        (set(11, 1), Malformed),
        (cut(opt(EDNS, &[]), 1), Malformed),
        (opt([4, 208, 1, 0, 0, 0], &[]), EdnsVersion),
        (opt([4, 208, 0, 1, 0, 0], &[]), EdnsVersion),
        (opt([4, 208, 0, 0, 0x40, 0], &[]), EdnsVersion),
        (opt([4, 208, 0, 0, 0, 1], &[]), EdnsVersion),
        (opt(EDNS, &[0, 3, 0, 0]), EdnsOption),
        (opt(EDNS, &[0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7]), EdnsOption),
        (opt(EDNS, &[0, 10, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]), EdnsOption),
        (opt(EDNS, &[0, 10]), EdnsOption),
        (with_opt(opt(EDNS, &[]), EDNS, &[]), TwoOpts),
        ([opt(EDNS, &[]), vec![1]].concat(), Trailing),
    ] {
        assert_eq!(ask(&message).err(), Some(reason), "{message:02x?}");
    }
    let mut announced = opt(EDNS, &[]);
    announced[11] = 2;
    assert_eq!(ask(&announced).err(), Some(Signature));
}

#[test]
fn the_longest_name_is_taken() {
    let mut message = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for len in [63, 63, 63, 61] {
        message.push(len);
        message.resize(message.len() + usize::from(len), b'A');
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    let message = with_opt(message, EDNS, &[&[0, 10, 0, 40][..], &[1; 40]].concat());
    let (name, question) = ask(&message).unwrap();
    assert_eq!(question.name_len, 255);
    same_as_hickory(&message, &name, &question);
}
