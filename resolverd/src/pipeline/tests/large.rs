//! A zone with a million answers: what a flush of it costs, and when it holds.

use std::time::Instant;

use super::super::*;
use super::house::{House, q};
use crate::cache;
use crate::cache::Scope;
use crate::cache::kept::key_of;
use crate::dns::records::{self, Record};

const A: u16 = 1;

/// Stores an answer for a name, as if it had just come.
fn store(house: &House, n: u32) {
    let query = Query {
        name: format!("n{n:07}.bench.test").parse().unwrap(),
        qtype: A,
        dnssec_ok: false,
        checking_disabled: false,
        view: 0,
    };
    let record =
        Record { owner: query.name.clone(), rtype: A, class: 1, ttl: 86_400, rdata: vec![1; 4] };
    let body = records::compose(&query.name, [&[record], &[], &[]]).unwrap();
    let answer = Answer {
        counts: body.counts,
        body: body.octets,
        ttl_offsets: body.ttl_offsets,
        source: Source::Upstream("up".into()),
        ..Answer::empty(rcode::NOERROR, Duration::from_secs(86_400), None)
    };
    let (mut words, now) = (Vec::new(), boot_now().0);
    let cache = house.pipeline.cache();
    cache.build(&query, &answer, now, &mut words).unwrap();
    assert!(cache.insert(key_of(house.fast.secret(), &query), &words, "", now).is_ok());
}

/// Flushes a zone of so many answers. Gives the time until the flush returned, and the time until
/// the next question for a name in it was seen to have no answer.
fn flush(answers: u32) -> (Duration, Duration) {
    let house = House::with(cache::Settings {
        memory_max: 1 << 30,
        kernel_entries: [64; 4],
        ..cache::Settings::default()
    });
    (0..answers).for_each(|n| store(&house, n));
    assert_eq!(house.pipeline.cache().stats().entries, u64::from(answers));
    let message = q("n0000007.bench.test", A);
    assert!(house.ask_now(&message).is_some());
    let start = Instant::now();
    house.pipeline.flush(&Scope::Zone("bench.test".parse().unwrap()));
    let returned = start.elapsed();
    assert!(house.ask_now(&message).is_none(), "the next packet");
    let seen = start.elapsed();
    for n in (0..answers).step_by(997) {
        assert!(house.ask_now(&q(&format!("n{n:07}.bench.test"), A)).is_none(), "{n}");
    }
    (returned, seen)
}

#[tokio::test]
async fn a_flush_of_a_zone_holds_from_the_next_question_on_and_does_not_walk_through_it() {
    let (few, _) = flush(100);
    let (many, _) = flush(20_000);
    // A walk would take 200 times as long, some milliseconds.
    assert!(many < few * 50 + Duration::from_millis(1), "{few:?} for 100, {many:?} for 20,000");
}

/// `cargo xtask bench cache` prints it.
#[tokio::test]
#[ignore = "measures time"]
async fn a_flush_of_a_zone_with_a_million_answers_takes_less_than_a_millisecond() {
    let (returned, seen) = flush(1_000_000);
    println!("a flush of 1,000,000 answers returned after {returned:?}, held after {seen:?}");
    println!("figure flush-millis {}", seen.as_secs_f64() * 1e3);
    assert!(seen < Duration::from_millis(1), "{seen:?}");
}
