//! Old answers while nobody has a newer one (RFC 8767).

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use resolverd_common::time::SECOND;

use super::super::*;
use super::{House, Seen, q};
use crate::cache::Scope;
use crate::cache::{self, State};

const A: u16 = 1;
const DAY: Duration = Duration::from_secs(86_400);

fn house(serve_stale: Duration, stale_answer_after: Duration) -> House {
    House::with(cache::Settings {
        memory_max: 4 << 20,
        prefetch: true,
        serve_stale,
        stale_answer_after,
        kernel_entries: [64, 16, 16, 16],
    })
}

/// A plain question with EDNS.
fn qe(name: &str) -> Vec<u8> {
    let mut message = q(name, A);
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    message
}

/// Makes the answer as old as if it had come so many seconds earlier.
fn age(house: &House, name: &str, secs: u64) {
    let (key, meta, words) = house.key(name, A);
    let cache = house.pipeline.cache();
    let seen = cache.peek(key, meta, &words, boot_now().0).unwrap();
    let mut entry = vec![0; seen.head.len_words()];
    seen.held.copy_to(&mut entry);
    entry[1] -= secs * SECOND;
    assert!(cache.insert(key, &entry, "", boot_now().0).is_ok());
}

/// RCODE, TTLs and extended errors.
fn said(seen: &Seen) -> (ResponseCode, Vec<u32>, Vec<u16>) {
    let message = seen.message();
    let ttls = message.answers.iter().map(|record| record.ttl).collect();
    let options = message.edns.as_ref().map(|edns| edns.options().as_ref().to_vec());
    let edes = options.unwrap_or_default().into_iter().filter_map(|(code, option)| {
        let EdnsOption::Unknown(15, octets) = option else {
            assert_ne!(code, EdnsCode::Unknown(15));
            return None;
        };
        Some(u16::from_be_bytes([octets[0], octets[1]]))
    });
    (message.metadata.response_code, ttls, edes.collect())
}

fn count(house: &House, cause: StaleCause) -> u64 {
    house.metrics.cache_stale_answers(cause).get()
}

#[tokio::test]
async fn an_old_answer_takes_the_place_of_a_failure_and_says_so() {
    let house = house(DAY, DAY);
    for (name, rcode, ttls, ede) in [
        ("fades.test", ResponseCode::NoError, vec![30], 3),
        ("gone.test", ResponseCode::NXDomain, vec![], 19),
    ] {
        let first = house.ask(&qe(name)).await;
        assert!(said(&first).2.is_empty());
        let before = house.asked();
        age(&house, name, 400);
        let failed = count(&house, StaleCause::Failed);
        let old = house.ask(&qe(name)).await;
        assert_eq!(said(&old), (rcode, ttls.clone(), vec![ede]), "{name}");
        assert!(house.asked() > before, "{name}: somebody was asked first");
        assert_eq!(count(&house, StaleCause::Failed), failed + 1);
        // For half a minute nobody is asked again, and the kernel does not have it.
        let asked = house.asked();
        let again = Seen::Reply(house.ask_now(&qe(name)).expect("it is there"));
        assert_eq!(said(&again), (rcode, ttls, vec![ede]), "{name}");
        assert_eq!(house.asked(), asked);
        let (key, meta, words) = house.key(name, A);
        let seen = house.pipeline.cache().peek(key, meta, &words, boot_now().0).unwrap();
        assert_eq!((seen.state, seen.head.class()), (State::Fresh, None));
        assert_eq!(seen.head.life_millis, 30_000);
        // Clients without EDNS are told no more than the answer.
        let bare = Seen::Reply(house.ask_now(&q(name, A)).unwrap());
        assert!(said(&bare).2.is_empty());
    }
    assert_eq!(count(&house, StaleCause::Recheck), 4);
    // Past the half minute somebody is asked again, and it is used again.
    age(&house, "fades.test", 31);
    let asked = house.asked();
    assert!(house.ask_now(&qe("fades.test")).is_none());
    assert_eq!(said(&house.ask(&qe("fades.test")).await).2, [3]);
    assert!(house.asked() > asked);
}

#[tokio::test]
async fn a_client_waits_for_a_newer_answer_only_so_long_and_the_next_gets_it() {
    let house = house(DAY, Duration::from_millis(100));
    let first = house.ask(&qe("drags.test")).await;
    age(&house, "drags.test", 400);
    let start = Instant::now();
    let old = house.ask(&qe("drags.test")).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(550), "{took:?}");
    assert_eq!(said(&old), (ResponseCode::NoError, vec![30], vec![3]));
    assert_eq!(old.message().answers[0].data, first.message().answers[0].data);
    assert_eq!(count(&house, StaleCause::Slow), 1);
    // Who asks meanwhile does not wait at all.
    assert_eq!(said(&Seen::Reply(house.ask_now(&qe("drags.test")).unwrap())).2, [3]);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = Seen::Reply(house.ask_now(&qe("drags.test")).unwrap());
        if said(&now).2.is_empty() {
            assert_ne!(now.message().answers[0].data, first.message().answers[0].data);
            return;
        }
    }
    panic!("the newer answer did not come");
}

#[tokio::test]
async fn clients_who_need_not_wait_get_the_old_answer_at_once() {
    let house = house(DAY, Duration::ZERO);
    house.ask(&qe("drags.test")).await;
    age(&house, "drags.test", 400);
    let start = Instant::now();
    assert_eq!(said(&house.ask(&qe("drags.test")).await).2, [3]);
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn what_is_switched_off_flushed_or_too_old_is_not_used() {
    // Nobody serves old answers here.
    let off = house(Duration::ZERO, DAY);
    off.ask(&qe("fades.test")).await;
    age(&off, "fades.test", 400);
    assert_eq!(said(&off.ask(&qe("fades.test")).await).0, ResponseCode::ServFail);

    let house = house(Duration::from_secs(60), DAY);
    house.ask(&qe("fades.test")).await;
    // 300 seconds of life, and 60 more.
    age(&house, "fades.test", 361);
    assert_eq!(said(&house.ask(&qe("fades.test")).await).0, ResponseCode::ServFail);

    house.ask(&qe("fades.other.test")).await;
    age(&house, "fades.other.test", 350);
    house.pipeline.flush(&Scope::Zone("other.test".parse().unwrap()));
    assert_eq!(said(&house.ask(&qe("fades.other.test")).await).0, ResponseCode::ServFail);
    assert_eq!(count(&house, StaleCause::Failed), 0);
}

#[tokio::test]
async fn a_flush_takes_an_old_answer_in_use_and_a_reload_can_end_all_of_them() {
    let house = house(DAY, DAY);
    for name in ["fades.a.test", "fades.b.test"] {
        house.ask(&qe(name)).await;
        age(&house, name, 400);
        assert_eq!(said(&house.ask(&qe(name)).await).2, [3]);
    }
    house.pipeline.flush(&Scope::Name("fades.a.test".parse().unwrap()));
    assert!(house.ask_now(&qe("fades.a.test")).is_none());
    assert!(house.ask_now(&qe("fades.b.test")).is_some());
    let settings = cache::Settings { memory_max: 4 << 20, ..cache::Settings::default() };
    house.pipeline.cache().reconfigure(settings);
    assert!(house.ask_now(&qe("fades.b.test")).is_none());
}

#[tokio::test]
async fn explain_says_that_an_old_answer_would_be_used_and_that_it_is() {
    let house = house(DAY, DAY);
    house.ask(&q("fades.test", A)).await;
    age(&house, "fades.test", 400);
    let name = "fades.test".parse().unwrap();
    let explained = house.pipeline.explain(&name, A);
    assert!(explained.next.contains("the old one is used"), "{}", explained.next);
    let entry = &explained.cache[0];
    assert_eq!((entry.stale, entry.used_stale), (Some("expired"), false));
    let left = entry.usable_secs.unwrap();
    assert!((86_290..=86_300).contains(&left), "{left}");
    house.ask(&q("fades.test", A)).await;
    let explained = house.pipeline.explain(&name, A);
    assert!(explained.next.contains("old answer from its cache"), "{}", explained.next);
    let entry = &explained.cache[0];
    assert_eq!((entry.stale, entry.used_stale), (None, true));
    assert_eq!(entry.ede.as_ref().map(|ede| ede.code), Some(3));
    assert!(entry.usable_secs.is_some_and(|secs| secs <= 86_300));
}
