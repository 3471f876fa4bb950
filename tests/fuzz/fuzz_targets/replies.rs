//! What servers and upstreams reply: read beside hickory-proto, made sense of, written as an
//! answer.
//!
//! The first octet chooses whose server is asked and what is believed of it. The rest is the
//! reply, and what it says it answers is what was asked.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resolverd::dns::records::{self, Record};
use resolverd::dns::{Answer, Name, Query, Source};
use resolverd::resolver::iterate::scrub::{self, Sense, sense};
use resolverd::resolver::wire::{self, Expected, Message, Terms, TtlBounds};
use resolverd_fuzz::Question;

const BOUNDS: TtlBounds = TtlBounds { ttl_min: 0, ttl_max: 86_400, negative_ttl_max: 3_600 };

fuzz_target!(|input: &[u8]| {
    let Some((choice, octets)) = input.split_first() else { return };
    let Some(question) = Question::of(octets) else { return };
    let Some(query) = question.query(choice & 1 != 0) else { return };
    let expected = Expected { id: question.id, name: &question.name, qtype: question.qtype };
    let asked = wire::Asked { query: &query, id: question.id, edns: choice & 2 != 0 };
    if let Ok(message) = wire::read(&expected, octets) {
        assert!(message.same_case);
        if !message.truncated {
            beside_hickory(&message, octets);
            of_a_server(&message, &question, *choice);
        }
    }
    if let Ok(reply) = wire::accept(&asked, octets) {
        let source = Source::Upstream("fuzz".into());
        let terms = Terms { query: &query, source, bounds: BOUNDS, wall_secs: 1_800_000_000 };
        if let Ok(answer) = wire::compose(&terms, reply) {
            is_whole(&query, &answer);
        }
    }
});

/// What hickory reads as well has the same records.
fn beside_hickory(ours: &Message, octets: &[u8]) {
    let Ok(theirs) = hickory_proto::op::Message::from_vec(octets) else { return };
    for (ours, theirs) in [(&ours.answer, &theirs.answers), (&ours.authority, &theirs.authorities)]
    {
        let theirs = theirs.iter().filter(|record| u16::from(record.dns_class) == 1);
        let theirs = theirs.map(|r| (Name::from(&r.name), u16::from(r.record_type()), r.ttl));
        let ours = ours.iter().map(|r| (r.owner.clone(), r.rtype, r.ttl));
        assert!(ours.eq(theirs));
    }
}

/// A server is believed about its zone alone, and refers downwards alone.
fn of_a_server(message: &Message, question: &Question, choice: u8) {
    let Some(fetch) = question.fetch() else { return };
    let suffixes: Vec<_> = fetch.name.suffixes().collect();
    let zone = Name::from_wire(suffixes[usize::from(choice >> 3) % suffixes.len()]).unwrap();
    let harden_glue = choice & 4 != 0;
    let asked = scrub::Asked { zone: &zone, question: &fetch, harden_glue, port: 53 };
    match sense(&asked, message) {
        Sense::Answer(reply) => {
            let all = || reply.answer.iter().chain(&reply.authority);
            assert!(all().all(|record| record.owner.is_under(&zone)));
            let _ = scrub::onward(&reply, &fetch);
        }
        Sense::Referral(referral) => {
            let cut = &referral.cut;
            assert!(cut.zone != zone && cut.zone.is_under(&zone));
            assert!(fetch.name.is_under(&cut.zone));
            assert!((1..=16).contains(&cut.servers.len()));
            for server in &cut.servers {
                assert!(server.addresses.len() <= 8);
                assert!(
                    !harden_glue || server.addresses.is_empty() || server.name.is_under(&zone)
                );
            }
        }
        Sense::Lame(_) | Sense::Useless(_) => {}
    }
    if let Some((cut, _)) = scrub::primed(message, 53) {
        assert!(cut.servers.iter().all(|server| !server.addresses.is_empty()));
    }
}

/// What is answered is a message again, whose TTLs stand where the answer says, and whose first
/// record is about the question or above it.
fn is_whole(query: &Query, answer: &Answer) {
    let mut message = vec![0; 12];
    message.extend_from_slice(query.name.as_wire());
    message.extend_from_slice(&[0; 4]);
    let first = message.len();
    message.extend_from_slice(&answer.body);
    let count = answer.counts.iter().sum();
    let (records, end) = records::read(&message, first, count).expect("ours can be read");
    assert_eq!(end, message.len());
    let offsets = records::ttl_offsets(&answer.body, first, answer.counts);
    assert_eq!(offsets.as_ref(), Ok(&answer.ttl_offsets));
    assert!(answer.life <= Duration::from_secs(BOUNDS.ttl_max.into()));
    let ttl = |at: &u16| {
        let octets = answer.body[usize::from(*at)..].first_chunk().unwrap();
        Duration::from_secs(u32::from_be_bytes(*octets).into())
    };
    assert!(answer.ttl_offsets.iter().all(|at| answer.life <= ttl(at)));
    let about = |record: &Record| query.name.is_under(&record.owner);
    assert!(answer.counts[0] == 0 || records.first().is_some_and(about));
}
