//! Octets of no sense, and plain queries dressed up.

use proptest::prelude::*;

use super::super::*;
use super::house::client_at;
use super::{House, q};

/// One house for all cases of a test, warm for `www.test`.
fn house() -> (tokio::runtime::Runtime, House) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let house = runtime.block_on(async {
        let house = House::new();
        house.ask(&q("www.test", 1)).await;
        house
    });
    (runtime, house)
}

/// What comes of a message without waiting. A question for others is taken as answered.
fn begin(house: &House, transport: Transport, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match house.pipeline.begin(message, &client_at("127.0.0.1", transport), &mut out) {
        Begun::Reply => Some(out),
        Begun::Drop | Begun::Pending(_) => None,
    }
}

fn check(message: &[u8], reply: Option<Vec<u8>>) {
    let Some(reply) = reply else { return };
    assert!(message.len() >= 12 && message[2] & 0x80 == 0, "an answer to no query");
    assert!(reply.len() >= 12 && reply[2] & 0x80 != 0);
    assert_eq!(reply[..2], message[..2]);
}

#[test]
fn random_octets_do_no_harm_and_answers_get_no_answer() {
    let (runtime, house) = house();
    let _guard = runtime.enter();
    let mut runner = proptest::test_runner::TestRunner::default();
    let octets = proptest::collection::vec(any::<u8>(), 0..600);
    runner
        .run(&octets, |message| {
            check(&message, begin(&house, Transport::Udp, &message));
            check(&message, begin(&house, Transport::Tcp, &message));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_query_with_some_octets_changed_does_no_harm() {
    let (runtime, house) = house();
    let _guard = runtime.enter();
    let mut runner = proptest::test_runner::TestRunner::default();
    let changes = proptest::collection::vec((0..80_usize, any::<u8>()), 0..6);
    runner
        .run(&(changes, 0..80_usize, any::<bool>()), |(changes, cut, edns)| {
            let mut message = q("www.test", 1);
            if edns {
                message[11] = 1;
                message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12]);
                message.extend_from_slice(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
            }
            for (at, octet) in changes {
                if let Some(place) = message.get_mut(at) {
                    *place = octet;
                }
            }
            if cut > 60 {
                message.truncate(message.len() - (cut - 60).min(message.len()));
            }
            check(&message, begin(&house, Transport::Udp, &message));
            Ok(())
        })
        .unwrap();
}

#[test]
fn options_change_nothing_of_an_answer() {
    let (runtime, house) = house();
    let _guard = runtime.enter();
    let mut runner = proptest::test_runner::TestRunner::default();
    // COOKIE (well formed), NSID, ECS, padding, keepalive, and what nobody knows.
    let cookie = prop_oneof![Just(8_usize), 16..=40_usize];
    let option = prop_oneof![
        (Just(10_u16), cookie),
        (prop_oneof![Just(3_u16), Just(8), Just(12), Just(11), 100..60_000_u16], 0..100_usize)
    ];
    let options = proptest::collection::vec(option, 0..5);
    runner
        .run(&(options, any::<bool>(), any::<[bool; 8]>()), |(options, dnssec_ok, case)| {
            let mut plain = q("www.test", 1);
            for (at, upper) in case.into_iter().enumerate() {
                if upper {
                    plain[13 + at] = plain[13 + at].to_ascii_uppercase();
                }
            }
            plain[11] = 1;
            let bit = u8::from(dnssec_ok) << 7;
            plain.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, bit, 0]);
            let mut dressed = plain.clone();
            plain.extend_from_slice(&[0, 0]);
            let octets: usize = options.iter().map(|(_, len)| 4 + len).sum();
            dressed.extend_from_slice(&(octets as u16).to_be_bytes());
            for (code, len) in options {
                dressed.extend_from_slice(&code.to_be_bytes());
                dressed.extend_from_slice(&(len as u16).to_be_bytes());
                dressed.resize(dressed.len() + len, 1);
            }
            let expected = begin(&house, Transport::Udp, &plain);
            prop_assert_eq!(&begin(&house, Transport::Udp, &dressed), &expected);
            // DO=1 is another question, which nobody asked yet.
            prop_assert_eq!(expected.is_some(), !dnssec_ok);
            Ok(())
        })
        .unwrap();
}
