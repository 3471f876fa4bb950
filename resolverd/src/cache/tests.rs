//! The door: what is found, and what is not.

use std::time::Duration;

use resolverd_common::entry::{body_of, name_of};
use resolverd_common::key;
use resolverd_common::time::SECOND;

use super::*;
use crate::dns::records::{Record, compose};
use crate::dns::{Ede, Name, Source};
use crate::metrics::Build;

fn cache() -> Cache {
    let metrics = Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }));
    Cache::new(
        Settings {
            memory_max: 4 << 20,
            prefetch: true,
            kernel_entries: [64, 16, 16, 16],
            ..Settings::default()
        },
        metrics,
    )
}

fn query(name: &str) -> Query {
    Query {
        name: name.parse().unwrap(),
        qtype: 1,
        dnssec_ok: false,
        checking_disabled: false,
        view: 0,
    }
}

fn answer(query: &Query, last: u8, ttl: u32) -> Answer {
    let record =
        Record { owner: query.name.clone(), rtype: 1, class: 1, ttl, rdata: vec![192, 0, 2, last] };
    let body = compose(&query.name, [&[record], &[], &[]]).unwrap();
    Answer {
        counts: body.counts,
        body: body.octets,
        ttl_offsets: body.ttl_offsets,
        source: Source::Upstream("up".into()),
        ..Answer::empty(rcode::NOERROR, Duration::from_secs(ttl.into()), None)
    }
}

fn failure() -> Answer {
    let ede = Ede { code: 22, text: "nobody answers".into() };
    Answer::empty(rcode::SERVFAIL, Duration::from_secs(5), Some(ede))
}

fn words(name: &Name) -> Vec<u64> {
    let mut octets = name.as_wire().to_vec();
    octets.resize(octets.len() / 8 * 8 + 8, 0);
    octets.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
}

fn key_of(query: &Query) -> Key {
    key::of(&[7; key::SECRET_WORDS], query.meta(), &words(&query.name))
}

/// Stores an answer that was looked for from `since` on and came at `now`.
fn store(cache: &Cache, q: &Query, a: &Answer, since: u64, now: u64) -> Result<Stored, NotStored> {
    let mut entry = Vec::new();
    cache.build(q, a, now, &mut entry).unwrap();
    let text = a.ede.as_ref().map_or("", |ede| &ede.text);
    cache.insert(key_of(q), &entry, text, since)
}

fn find(cache: &Cache, query: &Query, now: u64) -> Option<Hit> {
    cache.find(key_of(query), query.meta(), &words(&query.name), now)
}

#[test]
fn what_is_stored_is_found_whole_until_its_life_ends() {
    let cache = cache();
    let q = query("www.example.test");
    store(&cache, &q, &answer(&q, 1, 60), 1, 5).unwrap_or_else(|_| panic!());
    let hit = find(&cache, &q, 5).unwrap();
    let mut entry = vec![0; hit.head.len_words()];
    hit.held.copy_to(&mut entry);
    assert_eq!(name_of(&entry, &hit.head), q.name.as_wire());
    assert_eq!(body_of(&entry, &hit.head), answer(&q, 1, 60).body);
    assert_eq!((hit.head.generation, hit.head.epoch), (0, 0));
    assert_eq!(&*cache.origin_name(hit.head.origin), "upstream up");
    assert!(find(&cache, &q, 4).is_none(), "from the future");
    assert!(find(&cache, &q, 5 + 60 * SECOND - 1).is_some());
    assert!(find(&cache, &q, 5 + 60 * SECOND).is_none());
    // The same key for another question.
    let other = query("www.example.tesu");
    assert!(cache.find(key_of(&q), other.meta(), &words(&other.name), 6).is_none());
    assert!(cache.find(key_of(&q), q.meta() | 1 << 57, &words(&q.name), 6).is_none());
}

#[test]
fn a_life_is_no_longer_than_any_ttl_and_the_bound() {
    let cache = cache();
    let q = query("a.test");
    let mut entry = Vec::new();
    let mut long = answer(&q, 1, u32::MAX >> 1);
    long.life = Duration::from_secs(u32::MAX.into());
    let head = cache.build(&q, &long, 0, &mut entry).unwrap();
    assert_eq!(u128::from(head.life_millis), freshness::LIFE_MAX.as_millis());
    let mut boastful = answer(&q, 1, 10);
    boastful.life = Duration::from_secs(100);
    assert_eq!(cache.build(&q, &boastful, 0, &mut entry).unwrap().life_millis, 10_000);
}

#[test]
fn text_is_kept_beside_the_entry_and_keeps_it_from_the_kernel() {
    let cache = cache();
    let q = query("a.test");
    let stored = store(&cache, &q, &failure(), 1, 2).unwrap_or_else(|_| panic!());
    assert!(cache.promotes(&stored, 3).is_err());
    let hit = find(&cache, &q, 3).unwrap();
    assert_eq!(hit.held.text(), b"nobody answers");
    assert_eq!((hit.head.ede, hit.head.flags.rcode()), (22, 2));
    let plain = query("b.test");
    let stored = store(&cache, &plain, &answer(&plain, 1, 9), 1, 2).unwrap_or_else(|_| panic!());
    assert!(stored.held.text().is_empty());
    assert_eq!(cache.promotes(&stored, 3), Ok(0));
    // A long one is cut between two characters: 256 octets are no whole number of these.
    let mut long = failure();
    long.ede = Some(Ede { code: 0, text: "€".repeat(100) });
    let stored = store(&cache, &q, &long, 3, 4).unwrap_or_else(|_| panic!());
    assert_eq!(String::from_utf8(stored.held.text()).unwrap(), "€".repeat(85));
}

#[test]
fn a_failure_gives_way_to_an_answer_and_never_the_other_way_round() {
    let cache = cache();
    let q = query("a.test");
    assert!(store(&cache, &q, &failure(), 1, 2).is_ok());
    assert!(store(&cache, &q, &failure(), 1, 3).is_ok());
    assert!(store(&cache, &q, &answer(&q, 1, 60), 1, 4).is_ok());
    assert_eq!(store(&cache, &q, &failure(), 1, 5).err(), Some(NotStored::BetterOneThere));
    assert_eq!(find(&cache, &q, 6).unwrap().head.flags.rcode(), 0);
    // One that has expired is not better.
    let later = 4 + 60 * SECOND;
    assert!(store(&cache, &q, &failure(), later, later).is_ok());
    assert_eq!(find(&cache, &q, later + 1).unwrap().head.flags.rcode(), 2);
}

#[test]
fn a_flush_takes_what_is_covered_and_survivors_are_published_once_more() {
    let cache = cache();
    let (a, b) = (query("a.zone.test"), query("b.test"));
    for q in [&a, &b] {
        assert!(store(&cache, q, &answer(q, 1, 60), 1, 2).is_ok());
        // The first hit is an occasion by itself.
        assert!(find(&cache, q, 3).unwrap().publish);
        assert!(find(&cache, q, 3).unwrap().publish);
        assert!(!find(&cache, q, 3).unwrap().publish);
    }
    assert!(!cache.flush(&Scope::Zone("zone.test".parse().unwrap()), || 10));
    assert!(find(&cache, &a, 11).is_none());
    let seen = cache.peek(key_of(&a), a.meta(), &words(&a.name), 11).unwrap();
    assert_eq!(seen.state, State::Flushed);
    // The fourth hit would be an occasion too; the fifth is none.
    assert!(find(&cache, &b, 11).unwrap().publish);
    assert!(!find(&cache, &b, 11).unwrap().publish);
    cache.next_round();
    assert!(find(&cache, &b, 12).unwrap().publish);
    assert!(!find(&cache, &b, 12).unwrap().publish);
    // What was looked for before the flush comes too late.
    assert_eq!(store(&cache, &a, &answer(&a, 2, 60), 10, 20).err(), Some(NotStored::Flushed));
    assert!(store(&cache, &a, &answer(&a, 2, 60), 11, 20).is_ok());
    assert!(find(&cache, &a, 21).is_some());
    assert_eq!(cache.sweep(21), 0);
}

fn stale_cache(secs: u64) -> Cache {
    let cache = cache();
    let serve_stale = Duration::from_secs(secs);
    cache.reconfigure(Settings { memory_max: 4 << 20, serve_stale, ..Settings::default() });
    cache
}

/// The verdict of a validator: bogus.
fn bogus() -> Answer {
    Answer::empty(
        rcode::SERVFAIL,
        Duration::from_secs(5),
        Some(Ede { code: 6, text: String::new() }),
    )
}

#[test]
fn an_old_answer_is_not_shadowed_by_a_failure_but_by_a_verdict_and_by_news() {
    let q = query("a.test");
    let words = words(&q.name);
    let at = |cache: &Cache, now| cache.peek(key_of(&q), q.meta(), &words, now).unwrap();
    let later = 100 * SECOND;
    // What comes, whether it is kept, and whether an old answer is in use already.
    for in_use in [false, true] {
        for (news, kept) in [(failure(), false), (bogus(), true), (answer(&q, 2, 60), true)] {
            let cache = stale_cache(3_600);
            assert!(store(&cache, &q, &answer(&q, 1, 60), 1, 2).is_ok());
            assert_eq!(at(&cache, later).state, State::Stale);
            assert!(cache.has_stale(key_of(&q), q.meta(), &words, later));
            if in_use {
                assert!(cache.use_stale(key_of(&q), q.meta(), &words, later).is_some());
            }
            let stored = store(&cache, &q, &news, later, later + 1);
            assert_eq!(stored.is_ok(), kept, "{in_use} {news:?}");
            let seen = at(&cache, later + 2);
            assert_eq!(seen.head.stored_at == later + 1, kept, "{in_use} {news:?}");
            assert_eq!(seen.held.is_stale(), in_use && !kept);
        }
    }
}

#[test]
fn an_old_answer_is_used_for_half_a_minute_at_a_time_and_news_are_not_lost_to_it() {
    let q = query("a.test");
    let (key, meta, words) = (key_of(&q), q.meta(), words(&q.name));
    let cache = stale_cache(100);
    assert!(store(&cache, &q, &answer(&q, 1, 60), 1, 2).is_ok());
    let mut lives = Vec::new();
    let mut now = 70 * SECOND;
    while let Some(seen) = cache.use_stale(key, meta, &words, now) {
        assert!(seen.held.is_stale() && find(&cache, &q, now).unwrap().held.is_stale());
        assert!(!find(&cache, &q, seen.head.expires_at() - 1).unwrap().refresh);
        lives.push(seen.head.life_millis);
        now = seen.head.expires_at();
        assert!(find(&cache, &q, now).is_none());
    }
    // From second 70 to second 160: the life of 60 seconds and 100 more.
    assert_eq!(lives.len(), 3, "{lives:?}");
    assert!(lives.iter().sum::<u32>() <= 90_000, "{lives:?}");
    assert!(now <= 160 * SECOND + 2, "{now}");
    // A newer answer that came between is given in its place.
    assert!(store(&cache, &q, &answer(&q, 2, 60), now, now).is_ok());
    let seen = cache.use_stale(key, meta, &words, now + 1).unwrap();
    assert!(!seen.held.is_stale());
    // And a failure is not.
    let now = now + 1_000 * SECOND;
    assert!(store(&cache, &q, &failure(), now, now).is_ok());
    assert!(cache.use_stale(key, meta, &words, now + 1).is_none());
}

#[test]
fn a_secure_answer_is_not_used_past_its_signatures() {
    let q = query("a.test");
    let words = words(&q.name);
    for (signed, until) in [(None, 60), (Some(20), 80), (Some(u32::MAX), 160)] {
        let cache = stale_cache(100);
        let secure = Answer { secure: true, ..answer(&q, 1, 60) };
        let mut entry = Vec::new();
        cache.build(&q, &secure, 0, &mut entry).unwrap();
        assert!(cache.insert_signed(key_of(&q), &entry, "", 0, signed).is_ok());
        let stale = |now| cache.has_stale(key_of(&q), q.meta(), &words, now);
        let end = until * SECOND;
        assert_eq!(stale(end - 1), until > 60, "{signed:?}");
        assert!(!stale(end), "{signed:?}");
    }
}

#[test]
fn an_entry_near_its_end_is_refreshed_by_one() {
    let cache = cache();
    let q = query("a.test");
    assert!(store(&cache, &q, &answer(&q, 1, 100), 1, 0).is_ok());
    assert!(!find(&cache, &q, 80 * SECOND).unwrap().refresh);
    assert!(find(&cache, &q, 95 * SECOND).unwrap().refresh);
    assert!(!find(&cache, &q, 96 * SECOND).unwrap().refresh);
    let settings = Settings { memory_max: 4 << 20, kernel_entries: [64; 4], ..Settings::default() };
    cache.reconfigure(settings);
    let now = 200 * SECOND;
    assert!(store(&cache, &q, &answer(&q, 1, 100), now, now).is_ok());
    assert!(!find(&cache, &q, now + 95 * SECOND).unwrap().refresh);
}

#[test]
fn a_name_that_was_there_before_is_known() {
    let cache = cache();
    let q = query("a.test");
    let first = store(&cache, &q, &answer(&q, 1, 60), 1, 2).unwrap_or_else(|_| panic!());
    assert!(!first.known);
    let second = store(&cache, &q, &answer(&q, 2, 60), 3, 4).unwrap_or_else(|_| panic!());
    assert!(second.known);
    assert_eq!(cache.stats().entries, 1);
}

#[test]
fn what_has_expired_is_not_counted_among_the_kernels_any_more() {
    let cache = cache();
    for (n, ttl) in [10, 100].into_iter().enumerate() {
        let q = query(&format!("n{n}.test"));
        let stored = store(&cache, &q, &answer(&q, 1, ttl), 1, 2).unwrap_or_else(|_| panic!());
        cache.published(&stored.held, 0);
    }
    assert_eq!(cache.stats().published, [2, 0, 0, 0]);
    assert_eq!(cache.sweep(50 * SECOND), 0);
    assert_eq!(cache.stats().published, [1, 0, 0, 0]);
    assert_eq!(cache.stats().entries, 2);
    // Flushed ones go, and their memory with them.
    cache.flush(&Scope::All, || 50 * SECOND);
    assert_eq!(cache.sweep(50 * SECOND), 2);
    assert_eq!((cache.stats().published, cache.stats().entries), ([0; 4], 0));
}

#[test]
fn samples_of_the_kernel_count_as_hits() {
    let cache = cache();
    let q = query("a.test");
    let stored = store(&cache, &q, &answer(&q, 1, 60), 1, 2).unwrap_or_else(|_| panic!());
    for _ in 0..3 {
        cache.touch(key_of(&q), q.meta(), &words(&q.name));
    }
    cache.touch(key_of(&q), query("b.tesT").meta(), &words(&query("b.test").name));
    assert_eq!(stored.held.hits(), 3);
}

/// The memory of 100,000 short A names, as the system sees it: not a test of what is right,
/// but of what it costs. `cargo test --release -p resolverd --lib resident -- --ignored
/// --nocapture` prints it.
#[test]
#[ignore = "measures the process, which must not do anything else meanwhile"]
fn the_resident_memory_of_a_short_name() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4_096
    };
    let metrics = Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }));
    let settings = Settings {
        memory_max: 1 << 30,
        prefetch: true,
        kernel_entries: [1 << 17; 4],
        ..Settings::default()
    };
    let cache = Cache::new(settings, metrics);
    let mut at = [(0, 0); 2];
    for (n, names) in [10_000, 100_000].into_iter().enumerate() {
        for i in 0..names {
            let q = query(&format!("n{i:06}.bench.test"));
            assert!(store(&cache, &q, &answer(&q, 1, 3_600), 1, 2).is_ok());
        }
        at[n] = (resident(), cache.stats().octets);
    }
    let of = |from: usize, to: usize| (to - from) / 90_000;
    println!("resident: {} octets a name", of(at[0].0, at[1].0));
    println!("by our own account: {}", of(at[0].1 as usize, at[1].1 as usize));
}

/// What a hit costs without sockets. Printed as above.
#[test]
#[ignore = "measures time"]
fn the_time_of_a_hit() {
    let cache = cache();
    let queries: Vec<Query> = (0..10_000).map(|n| query(&format!("n{n:06}.bench.test"))).collect();
    for q in &queries {
        assert!(store(&cache, q, &answer(q, 1, 3_600), 1, 2).is_ok());
    }
    let asked: Vec<_> = queries.iter().map(|q| (key_of(q), q.meta(), words(&q.name))).collect();
    let mut entry = [0; 64];
    let start = cpu_time();
    let rounds = 200;
    for _ in 0..rounds {
        for (key, meta, name) in &asked {
            let hit = cache.find(*key, *meta, name, 3).unwrap();
            hit.held.copy_to(&mut entry[..hit.head.len_words()]);
        }
    }
    let each = (cpu_time() - start) / (rounds * asked.len() as u32);
    println!("{each:?} of CPU a hit");
}

/// What this thread used: the clock on the wall also counts the neighbours.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Four threads store and find while a fifth flushes: nothing older than a flush that had
/// returned is ever found, nor another name's answer.
#[test]
fn no_thread_finds_what_was_flushed_before_it_looked() {
    use std::sync::atomic::AtomicU64;

    const NAMES: usize = 8;
    let cache = cache();
    // A clock that only goes forward, and the time of the last flush of each name that returned.
    let clock = AtomicU64::new(1);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let flushed: [AtomicU64; NAMES] = Default::default();
    let names: Vec<Query> =
        (0..NAMES).map(|n| query(&format!("n{n}.zone{}.test", n % 2))).collect();
    let (mut found, mut stored) = ([0_u64; 4], [0_u64; 4]);
    std::thread::scope(|scope| {
        for (found, stored) in found.iter_mut().zip(&mut stored) {
            scope.spawn(|| {
                for i in 0..20_000_usize {
                    let n = i % NAMES;
                    let q = &names[n];
                    let before = flushed[n].load(Ordering::SeqCst);
                    let since = tick();
                    match find(&cache, q, since) {
                        Some(hit) => {
                            let mut entry = vec![0; hit.head.len_words()];
                            hit.held.copy_to(&mut entry);
                            assert_eq!(body_of(&entry, &hit.head).last(), Some(&(n as u8)));
                            assert!(hit.head.stored_at > before, "flushed at {before}");
                            *found += 1;
                        }
                        None => {
                            // What was looked for before a flush comes after it.
                            let answer = answer(q, n as u8, 3_600);
                            *stored += u64::from(store(&cache, q, &answer, since, since).is_ok());
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            for i in 0..2_000_usize {
                let n = i % NAMES;
                let (scope, all) = match i % 7 {
                    0 => (Scope::Zone(format!("zone{}.test", n % 2).parse().unwrap()), 2),
                    1 => (Scope::All, 1),
                    _ => (Scope::Name(names[n].name.clone()), NAMES),
                };
                let mut at = 0;
                cache.flush(&scope, || {
                    at = tick();
                    at
                });
                for other in (n % all..NAMES).step_by(all) {
                    flushed[other].fetch_max(at, Ordering::SeqCst);
                }
                std::thread::yield_now();
            }
        });
    });
    assert!(found.iter().sum::<u64>() > 0 && stored.iter().sum::<u64>() > 0);
}
