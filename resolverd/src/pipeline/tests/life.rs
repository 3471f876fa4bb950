//! What is kept, published, refreshed and forgotten.

use hickory_proto::op::{Message, ResponseCode};
use resolverd_common::entry::{Flags, head_of};
use resolverd_common::time::SECOND;

use super::super::*;
use super::house::{client_at, policy};
use super::{House, Seen, q};
use crate::cache::Scope;
use crate::cache::{self, FLUSHES_MAX};
use crate::dns::Name;
use crate::metrics::SizeClass;
use crate::metrics::{Dropped, FlushScope};

const A: u16 = 1;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn answers(seen: &Seen) -> Vec<String> {
    seen.message().answers.iter().map(|record| record.data.to_string()).collect()
}

/// Waits for what happens in the background.
async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen");
}

#[tokio::test]
async fn the_second_answer_is_the_kernels_and_the_third_the_caches() {
    let house = House::new();
    for (name, qtype) in [("www.test", A), ("nx.test", A), ("www.test", 28), ("www.home.test", A)] {
        let first = house.ask(&q(name, qtype)).await;
        let asked = house.asked();
        let published = house.in_kernel(name, qtype);
        assert!(published.is_some(), "{name} {qtype}");
        let head = head_of(&published.unwrap()).unwrap();
        assert!(head.class().is_some() && head.generation > 0);
        assert_eq!(house.ask_now(&q(name, qtype)).unwrap(), first.reply());
        assert_eq!(house.asked(), asked);
    }
}

#[tokio::test]
async fn every_reply_is_counted_by_who_had_the_answer() {
    let house = House::new();
    let count =
        |by| house.metrics.queries(crate::metrics::Transport::Udp, by, Rcode::NoError).get();
    house.ask(&q("www.test", A)).await;
    house.ask(&q("www.test", A)).await;
    house.ask(&q("www.home.test", A)).await;
    house.ask(&q("any.test", 255)).await;
    assert_eq!(
        [AnsweredBy::Upstream, AnsweredBy::Cache, AnsweredBy::Local, AnsweredBy::Daemon].map(count),
        [1; 4]
    );
    assert_eq!(house.metrics.query_duration(AnsweredBy::Cache).get_sample_count(), 1);
    house.ask(&[0; 5]).await;
    assert_eq!(house.metrics.packets_dropped(Dropped::Short).get(), 1);
}

#[tokio::test]
async fn casing_and_id_are_the_clients_own() {
    let house = House::new();
    house.ask(&q("www.test", A)).await;
    let mut message = q("WwW.tEst", A);
    message[0] = 0x77;
    let reply = house.ask_now(&message).unwrap();
    assert_eq!(reply[0], 0x77);
    assert_eq!(reply[12..26], message[12..26]);
}

#[tokio::test]
async fn each_part_of_the_question_has_its_own_answer() {
    let house = House::new();
    let mut dressed = q("www.test", A);
    dressed[11] = 1;
    dressed.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    let mut cd = q("www.test", A);
    cd[3] |= 0x10;
    for (n, message) in [q("www.test", A), q("www.test", 28), dressed, cd].iter().enumerate() {
        assert!(house.ask_now(message).is_none());
        house.ask(message).await;
        assert_eq!(house.asked(), n + 1);
        assert!(house.ask_now(message).is_some());
    }
}

#[tokio::test]
async fn ttls_age_and_an_answer_ends_with_the_shortest() {
    let house = House::new();
    house.ask(&q("short.test", A)).await;
    house.ask(&q("alias.test", A)).await;
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let aged = Message::from_vec(&house.ask_now(&q("alias.test", A)).unwrap()).unwrap();
    let ttls: Vec<u32> = aged.answers.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [59, 29]);
    assert!(house.ask_now(&q("short.test", A)).is_none());
    let (key, meta, words) = house.key("alias.test", A);
    let seen = house.pipeline.cache().peek(key, meta, &words, boot_now().0).unwrap();
    assert_eq!(seen.head.expires_at() - seen.head.stored_at, 30 * SECOND);
}

#[tokio::test]
async fn an_answer_that_lives_for_this_moment_is_sent_and_not_kept() {
    let house = House::new();
    for n in 1..4 {
        let seen = house.ask(&q("zero.test", A)).await;
        assert_eq!(seen.message().answers[0].ttl, 0);
        assert_eq!(house.asked(), n);
    }
    assert!(house.in_kernel("zero.test", A).is_none());
}

#[tokio::test]
async fn a_failure_is_kept_for_a_while_and_stays_with_the_daemon() {
    let house = House::new();
    house.ask(&q("fail.test", A)).await;
    let asked = house.asked();
    let again = Seen::Reply(house.ask_now(&q("fail.test", A)).unwrap());
    assert_eq!(again.message().metadata.response_code, ResponseCode::ServFail);
    assert_eq!(house.asked(), asked);
    // It has a text, which the kernel cannot say.
    assert!(house.in_kernel("fail.test", A).is_none());
}

#[tokio::test]
async fn a_failure_never_takes_the_place_of_an_answer_that_is_good() {
    let house = House::new();
    let first = house.ask(&q("fades.test", A)).await;
    house.pipeline.on_prefetch(&query("fades.test"));
    until(|| house.asked() >= 2).await;
    let (key, shared) = (house.key("fades.test", A).0, &house.pipeline.shared);
    until(|| !shared.under_way.contains(key, shared.fast.mark())).await;
    assert_eq!(house.ask_now(&q("fades.test", A)).unwrap(), first.reply());
    // Once it is gone, the failure is what there is.
    house.pipeline.flush(&Scope::Name(name("fades.test")));
    let seen = house.ask(&q("fades.test", A)).await;
    assert_eq!(seen.message().metadata.response_code, ResponseCode::ServFail);
}

fn query(text: &str) -> Query {
    Query { name: name(text), qtype: A, dnssec_ok: false, checking_disabled: false, view: 0 }
}

#[tokio::test]
async fn an_answer_is_asked_for_anew_once_when_the_kernel_says_so() {
    let house = House::new();
    let first = answers(&house.ask(&q("www.test", A)).await);
    for _ in 0..5 {
        house.pipeline.on_prefetch(&query("www.test"));
        house.pipeline.on_sample(&query("www.test"));
    }
    let now = || answers(&Seen::Reply(house.ask_now(&q("www.test", A)).unwrap()));
    until(|| now() != first).await;
    assert_eq!(house.asked(), 2);
    // The new one is in the kernel too.
    let entry = house.in_kernel("www.test", A).unwrap();
    let body = resolverd_common::entry::body_of(&entry, &head_of(&entry).unwrap());
    assert_eq!(body.last(), Some(&1));
}

#[tokio::test]
async fn a_hit_near_the_end_of_a_life_has_the_answer_asked_for_anew() {
    let house = House::new();
    let first = house.ask(&q("www.test", A)).await;
    // The same answer, as if it had come 280 of its 300 seconds ago.
    let (key, meta, words) = house.key("www.test", A);
    let cache = house.pipeline.cache();
    let seen = cache.peek(key, meta, &words, boot_now().0).unwrap();
    let mut entry = vec![0; seen.head.len_words()];
    seen.held.copy_to(&mut entry);
    entry[1] -= 280 * SECOND;
    assert!(cache.insert(key, &entry, "", boot_now().0).is_ok());
    for _ in 0..3 {
        let aged = Seen::Reply(house.ask_now(&q("www.test", A)).unwrap());
        assert_eq!(answers(&aged), answers(&first));
        assert!(aged.message().answers[0].ttl <= 20);
    }
    let now = || answers(&Seen::Reply(house.ask_now(&q("www.test", A)).unwrap()));
    until(|| now() != answers(&first)).await;
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn many_who_ask_at_once_ask_the_upstream_once_and_keep_one_answer() {
    let house = House::new();
    let message = q("slow.test", A);
    let client = client_at("127.0.0.1", Transport::Udp);
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let Begun::Pending(pending) = house.pipeline.begin(&message, &client, &mut Vec::new())
        else {
            panic!("nobody has answered yet");
        };
        let pipeline = house.pipeline.clone();
        tasks.push(tokio::spawn(async move {
            let mut out = Vec::new();
            pipeline.finish(pending, &mut out).await;
            out
        }));
    }
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await.unwrap());
    }
    replies.dedup();
    assert_eq!(replies.len(), 1);
    assert_eq!(house.asked(), 1);
    let published = house.metrics.kernel_entries_published(SizeClass::To128).get();
    assert_eq!(published, 1);
}

mod flush {
    use super::*;

    #[tokio::test]
    async fn a_flushed_name_is_asked_for_anew_and_others_are_not() {
        let house = House::new();
        for name in ["a.test", "b.test", "c.b.test"] {
            house.ask(&q(name, A)).await;
        }
        let entry = house.in_kernel("b.test", A).unwrap();
        assert!(!house.pipeline.flush(&Scope::Name(name("a.test"))));
        // The kernel passes what it has, and gets the survivors again.
        assert!(head_of(&entry).unwrap().generation <= house.fast.mark().barrier);
        assert!(house.ask_now(&q("a.test", A)).is_none());
        assert!(house.ask_now(&q("b.test", A)).is_some());
        let again = house.in_kernel("b.test", A).unwrap();
        assert!(head_of(&again).unwrap().generation > house.fast.mark().barrier);
        assert_eq!(entry[1..3], again[1..3]);
        assert_eq!(house.asked(), 3);
        house.ask(&q("a.test", A)).await;
        assert_eq!(house.asked(), 4);
        assert!(house.ask_now(&q("a.test", A)).is_some());

        house.pipeline.flush(&Scope::Zone(name("b.test")));
        assert!(house.ask_now(&q("b.test", A)).is_none());
        assert!(house.ask_now(&q("c.b.test", A)).is_none());
        assert!(house.ask_now(&q("a.test", A)).is_some());
        assert_eq!(house.pipeline.sweep_flushed(), 2);
        assert_eq!(house.pipeline.cache().stats().entries, 1);
    }

    #[tokio::test]
    async fn all_goes_in_one_step() {
        let house = House::new();
        for n in 0..20 {
            house.ask(&q(&format!("n{n}.test"), A)).await;
        }
        let epoch = house.fast.mark().epoch;
        house.pipeline.flush(&Scope::All);
        assert_ne!(house.fast.mark().epoch, epoch);
        for n in 0..20 {
            assert!(house.ask_now(&q(&format!("n{n}.test"), A)).is_none());
        }
        assert_eq!(house.pipeline.sweep_flushed(), 20);
        assert_eq!(house.metrics.cache_flushes(FlushScope::All).get(), 1);
        house.ask(&q("n1.test", A)).await;
        assert!(house.ask_now(&q("n1.test", A)).is_some());
    }

    #[tokio::test]
    async fn one_flush_too_many_flushes_all_and_says_so() {
        let house = House::new();
        house.ask(&q("www.test", A)).await;
        for n in 0..FLUSHES_MAX {
            assert!(!house.pipeline.flush(&Scope::Name(name(&format!("n{n}.test")))));
        }
        assert!(house.ask_now(&q("www.test", A)).is_some());
        assert!(house.pipeline.flush(&Scope::Name(name("last.test"))));
        assert!(house.ask_now(&q("www.test", A)).is_none());
        assert_eq!(house.metrics.cache_flushes(FlushScope::Overflow).get(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_was_on_its_way_during_a_flush_is_sent_and_not_kept() {
        let house = House::new();
        let message = q("slow.test", A);
        let client = client_at("127.0.0.1", Transport::Udp);
        let begin = || match house.pipeline.begin(&message, &client, &mut Vec::new()) {
            Begun::Pending(pending) => pending,
            _ => panic!("nobody has answered yet"),
        };
        let (early, pipeline) = (begin(), house.pipeline.clone());
        let early = tokio::spawn(async move {
            let mut out = Vec::new();
            pipeline.finish(early, &mut out).await;
            out
        });
        until(|| house.asked() == 1).await;
        house.pipeline.flush(&Scope::Zone(name("test")));
        // It comes, and goes to those who waited.
        assert_eq!(early.await.unwrap()[3] & 0x0f, 0);
        assert!(house.ask_now(&message).is_none());
        assert!(house.in_kernel("slow.test", A).is_none());
    }

    #[tokio::test]
    async fn who_comes_after_a_flush_does_not_join_what_was_asked_before_it() {
        let house = House::new();
        let message = q("slow.test", A);
        let client = client_at("127.0.0.1", Transport::Udp);
        let begin = || match house.pipeline.begin(&message, &client, &mut Vec::new()) {
            Begun::Pending(pending) => pending,
            _ => panic!("nobody has answered yet"),
        };
        let (early, pipeline) = (begin(), house.pipeline.clone());
        let early = tokio::spawn(async move {
            pipeline.finish(early, &mut Vec::new()).await;
        });
        until(|| house.asked() == 1).await;
        house.pipeline.flush(&Scope::Zone(name("test")));
        let mut late = Vec::new();
        house.pipeline.finish(begin(), &mut late).await;
        assert_eq!((house.asked(), late[3] & 0x0f), (2, 0));
        early.await.unwrap();
        // And it is kept, whichever came first.
        assert!(house.ask_now(&message).is_some());
        assert!(house.in_kernel("slow.test", A).is_some());
    }
}

#[tokio::test]
async fn a_changed_zone_is_forgotten_and_everything_else_is_not() {
    let house = House::new();
    for name in ["www.home.test", "x.blocked.test", "www.test"] {
        house.ask(&q(name, A)).await;
    }
    // The same again changes nothing.
    let mark = house.fast.mark();
    house.pipeline.reconfigure(policy(&["10.0.0.1"]));
    assert_eq!(house.fast.mark(), mark);
    assert!(house.ask_now(&q("www.home.test", A)).is_some());

    house.pipeline.reconfigure(policy(&["10.0.0.2", "10.0.0.3"]));
    assert_ne!(house.fast.mark(), mark);
    assert_eq!(answers(&house.ask(&q("www.home.test", A)).await), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(house.asked(), 1);
    assert!(house.ask_now(&q("www.test", A)).is_some());
    assert_eq!(house.asked(), 1);
    // What survived is the kernel's again.
    let entry = house.in_kernel("www.test", A).unwrap();
    assert_eq!(head_of(&entry).unwrap().epoch, house.fast.mark().epoch);
}

#[tokio::test]
async fn when_the_maps_fill_up_names_that_are_asked_for_again_still_get_in() {
    let house = House::with(cache::Settings {
        memory_max: 4 << 20,
        prefetch: true,
        kernel_entries: [8, 4, 4, 4],
        ..cache::Settings::default()
    });
    for n in 0..6 {
        house.ask(&q(&format!("n{n}.test"), A)).await;
        assert!(house.in_kernel(&format!("n{n}.test"), A).is_some(), "{n}");
    }
    house.ask(&q("late.test", A)).await;
    assert!(house.in_kernel("late.test", A).is_none());
    let explained = house.pipeline.explain(&name("late.test"), A);
    assert!(!explained.cache[0].promoted);
    house.ask(&q("late.test", A)).await;
    assert!(house.in_kernel("late.test", A).is_some());
    assert_eq!(house.pipeline.cache().stats().published, [7, 0, 0, 0]);
    // An LRU map forgets without a word: at the next doubling of hits it is told again.
    house.fast.withdraw(house.key("late.test", A).0);
    house.ask(&q("late.test", A)).await;
    assert!(house.in_kernel("late.test", A).is_some());
    assert_eq!(house.pipeline.cache().stats().published, [7, 0, 0, 0]);
}

#[tokio::test]
async fn what_the_kernel_cannot_say_stays_here() {
    let house = House::new();
    let many = [q("many.test", A), q("huge.test", 16)];
    for message in many {
        house.ask(&message).await;
        assert!(house.ask_now(&message).is_some());
    }
    assert!(house.in_kernel("many.test", A).is_none());
    assert!(house.in_kernel("huge.test", 16).is_none());
    assert_eq!(house.pipeline.cache().stats().published, [0; 4]);
}

#[tokio::test]
async fn explain_tells_where_an_answer_is_and_why() {
    let house = House::new();
    let nothing = house.pipeline.explain(&name("www.test"), A);
    assert!(nothing.kernel.is_empty() && nothing.cache.is_empty() && nothing.zone.is_none());
    assert_eq!(nothing.next, "the upstream up is asked, over udp");
    assert_eq!(nothing.not_in_kernel, Some("the kernel path is not in use"));

    house.ask(&q("WWW.test", A)).await;
    house.ask(&q("www.test", A)).await;
    let explained = house.pipeline.explain(&name("www.test"), A);
    let [entry] = &explained.cache[..] else { panic!("{explained:?}") };
    assert_eq!(entry.records, ["www.test. 300 IN A 192.0.2.0"]);
    assert_eq!((&*entry.source, entry.rcode, entry.hits), ("upstream up", 0, 1));
    assert!(
        entry.promoted && entry.stale.is_none() && (298..=300).contains(&entry.expires_in_secs)
    );
    let [kernel] = &explained.kernel[..] else { panic!("{explained:?}") };
    assert_eq!((kernel.class, kernel.stale), (128, None));
    assert_eq!(explained.next, "the daemon answers from its cache (upstream up)");

    house.pipeline.flush(&Scope::All);
    let explained = house.pipeline.explain(&name("www.test"), A);
    assert_eq!(explained.cache[0].stale, Some("flushed"));
    assert_eq!(explained.kernel[0].stale, Some("flushed"));

    let local = house.pipeline.explain(&name("no.home.test"), A);
    assert_eq!(local.zone, Some(name("home.test")));
    assert_eq!(local.next, "the local zone home.test. answers");
    house.ask(&q("fail.test", A)).await;
    let failed = house.pipeline.explain(&name("fail.test"), A);
    let ede = failed.cache[0].ede.clone().unwrap();
    assert!(!ede.text.is_empty() && failed.cache[0].rcode == 2);
}

#[tokio::test]
async fn a_reply_from_the_cache_is_what_an_independent_parser_expects() {
    let house = House::new();
    let (key, meta, words) = house.key("alias.test", A);
    house.ask(&q("alias.test", A)).await;
    // Secure answers come with DNSSEC: here one is made.
    let seen = house.pipeline.cache().peek(key, meta, &words, boot_now().0).unwrap();
    let mut entry = vec![0; seen.head.len_words()];
    seen.held.copy_to(&mut entry);
    entry[5] |= u64::from(Flags::SECURE);
    house.pipeline.cache().insert(key, &entry, "", boot_now().0).ok().unwrap();
    for (bits, secure) in [(0x00, false), (0x20, true)] {
        let mut message = q("alias.test", A);
        message[3] |= bits;
        let reply = house.ask_now(&message).unwrap();
        let decoded = Message::from_vec(&reply).unwrap();
        assert_eq!(decoded.metadata.authentic_data, secure);
        assert!(decoded.metadata.recursion_available && decoded.metadata.recursion_desired);
        assert!(!decoded.metadata.authoritative && !decoded.metadata.truncation);
        assert_eq!(decoded.metadata.id, 0xabcd);
        assert_eq!(decoded.queries[0].name().to_ascii(), "alias.test.");
        let records: Vec<_> = decoded.answers.iter().map(ToString::to_string).collect();
        assert_eq!(
            records,
            ["alias.test. 60 IN CNAME target.test.", "target.test. 30 IN A 192.0.2.9"]
        );
    }
}

/// What a hit costs without sockets, in this thread:
/// `cargo test --release -p resolverd --lib time_of_a_hit -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures time"]
async fn the_time_of_a_hit_from_message_to_reply() {
    let house = House::with(cache::Settings {
        memory_max: 64 << 20,
        prefetch: true,
        kernel_entries: [1 << 17, 16, 16, 16],
        ..cache::Settings::default()
    });
    let messages: Vec<_> = (0..10_000).map(|n| q(&format!("n{n:06}.home.test"), A)).collect();
    for message in &messages {
        house.ask(message).await;
    }
    let client = client_at("127.0.0.1", Transport::Udp);
    let mut out = Vec::new();
    let rounds = 200;
    let start = cpu_time();
    for _ in 0..rounds {
        for message in &messages {
            house.pipeline.begin(message, &client, &mut out);
        }
    }
    let took = cpu_time() - start;
    println!("{:?} of CPU a hit", took / (rounds * messages.len() as u32));
}

/// What this thread used: the clock on the wall also counts the neighbours.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
