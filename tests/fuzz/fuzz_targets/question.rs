//! The one parser against hickory-proto: the same question, or "pass".
//!
//! The first octet of the input is what stood in the buffer before.

#![no_main]

use hickory_proto::op::Message as HickoryMessage;
use libfuzzer_sys::fuzz_target;
use resolverd_common::key::{self, CLASS_IN, Meta, NAME_WORDS, SECRET_WORDS, Secret, name_words};
use resolverd_common::question::{HEADER_LEN, MESSAGE_MAX, Message, NameWords, Question, parse};
use resolverd_common::sum;
use zerocopy::IntoBytes;

const VIEW: u16 = 513;

fuzz_target!(|input: &[u8]| {
    let Some((left_over, octets)) = input.split_first() else { return };
    let dirty = ask(*left_over, octets);
    let clean = ask(0, octets);
    assert_eq!(dirty.is_some(), clean.is_some());
    let (Some((name, question)), Some((same, other))) = (dirty, clean) else { return };
    assert_eq!(question, other);
    let words = name_words(question.name_len);
    assert_eq!(name[..words], same[..words]);
    check(octets, &name, &question);
});

fn secret() -> Secret {
    std::array::from_fn::<u32, SECRET_WORDS, _>(|i| (i as u32 + 1).wrapping_mul(0x9e37_79b9))
}

fn ask(left_over: u8, octets: &[u8]) -> Option<(NameWords, Question)> {
    let mut message = Message::new();
    message.fill(&[left_over; MESSAGE_MAX]).unwrap();
    message.fill(octets).ok()?;
    let mut name = [u64::from_ne_bytes([left_over; 8]); NAME_WORDS];
    let mut question = Question::default();
    parse(&message, octets.len(), VIEW, &secret(), &mut name, &mut question).ok()?;
    Some((name, question))
}

fn check(octets: &[u8], name: &NameWords, question: &Question) {
    let theirs = HickoryMessage::from_vec(octets).expect("what is taken can be read");
    assert_eq!(theirs.queries.len(), 1);
    let query = &theirs.queries[0];
    let mut wire = Vec::new();
    for label in query.name().iter() {
        wire.push(label.len() as u8);
        wire.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    wire.push(0);
    assert_eq!(name.as_bytes()[..question.name_len], wire);
    let padded = name_words(wire.len()) * 8;
    assert!(name.as_bytes()[wire.len()..padded].iter().all(|octet| *octet == 0));

    let edns = theirs.edns.as_ref();
    let dnssec_ok = edns.is_some_and(|edns| edns.flags().dnssec_ok);
    let meta = Meta {
        qtype: query.query_type().into(),
        view: VIEW,
        name_len: wire.len() as u8,
        dnssec_ok,
        cd: theirs.metadata.checking_disabled,
    };
    assert_eq!(Meta::of(question.meta), meta);
    assert_eq!(u16::from(query.query_class()), CLASS_IN);
    assert!(theirs.answers.is_empty() && theirs.authorities.is_empty());
    assert!(theirs.additionals.is_empty());
    assert_eq!(question.key, key::of(&secret(), question.meta, &name[..padded / 8]));
    assert_eq!((question.edns, question.dnssec_ok), (edns.is_some(), dnssec_ok));
    assert_eq!(question.udp_size, edns.map_or(512, |edns| edns.max_payload().max(512)));
    assert_eq!(question.checking_disabled, meta.cd);
    assert_eq!(question.authentic_data, theirs.metadata.authentic_data);
    assert_eq!(question.id.to_ne_bytes(), theirs.metadata.id.to_be_bytes());
    let end = HEADER_LEN + question.name_len + 4;
    assert_eq!(sum::fold(question.sum), sum::fold(sum::of_bytes(&octets[HEADER_LEN..end])));
}
