//! The driver over loopback, against upstreams that do as they are told.

use std::io::Write;
use std::path::Path;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, NULL};
use hickory_proto::rr::{RData, Record};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, sleep};

use super::super::{
    FlightsMax, Health, Options, Recursion, Resolver, Settings, Stub, UpstreamSpec,
};
use super::*;
use crate::config::Protocol;
use crate::dns::Source;
use crate::metrics::{Build, Metrics, Outcome};
use crate::resolver::Fetch;

/// What an upstream does with a question.
type Script = Arc<dyn Fn(&Seen) -> Vec<Reply> + Send + Sync>;

enum Reply {
    Send(Message),
    Wait(Duration),
    /// From another socket than the one that was asked.
    Elsewhere(Message),
}

/// A question as an upstream saw it.
#[derive(Clone)]
struct Seen {
    query: Message,
    from: SocketAddr,
    tcp: bool,
}

struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    async fn start(script: impl Fn(&Seen) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        // The UDP port may be in use by somebody else's TCP: then another one is drawn.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let upstream = Self { address: udp.local_addr().unwrap(), seen: Arc::default() };
        let (seen, run) = (Arc::clone(&upstream.seen), Arc::clone(&script));
        tokio::spawn(async move {
            let mut datagram = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut datagram).await {
                let query = Message::from_vec(&datagram[..length]).unwrap();
                let question = Seen { query, from, tcp: false };
                seen.lock().push(question.clone());
                let (replies, udp) = (run(&question), Arc::clone(&udp));
                tokio::spawn(async move {
                    for reply in replies {
                        match reply {
                            Reply::Wait(pause) => sleep(pause).await,
                            Reply::Send(message) => {
                                let _ = udp.send_to(&message.to_vec().unwrap(), from).await;
                            }
                            Reply::Elsewhere(message) => {
                                let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                                let _ = other.send_to(&message.to_vec().unwrap(), from).await;
                            }
                        }
                    }
                });
            }
        });
        let seen = Arc::clone(&upstream.seen);
        tokio::spawn(async move {
            while let Ok((mut stream, from)) = tcp.accept().await {
                let length = usize::from(stream.read_u16().await.unwrap());
                let mut message = vec![0; length];
                stream.read_exact(&mut message).await.unwrap();
                let query = Message::from_vec(&message).unwrap();
                let question = Seen { query, from, tcp: true };
                seen.lock().push(question.clone());
                for reply in script(&question) {
                    if let Reply::Send(message) = reply {
                        let wire = message.to_vec().unwrap();
                        stream.write_u16(wire.len() as u16).await.unwrap();
                        stream.write_all(&wire).await.unwrap();
                    }
                }
            }
        });
        upstream
    }

    fn asked(&self) -> usize {
        self.seen.lock().len()
    }
}

/// An answer with one address.
fn answer(seen: &Seen, last: u8) -> Message {
    let mut message = seen.query.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    let name = message.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, last))));
    message
}

fn code(seen: &Seen, code: ResponseCode) -> Message {
    let mut message = answer(seen, 0);
    message.answers.clear();
    message.metadata.response_code = code;
    message
}

pub(super) fn settings(upstreams: &[(&str, SocketAddr)]) -> Settings {
    let spec = |&(name, address): &(&str, SocketAddr)| UpstreamSpec {
        name: name.into(),
        address,
        protocol: Protocol::Udp,
        identity: None,
        zones: Vec::new(),
    };
    Settings {
        ttl_min: Duration::ZERO,
        ttl_max: Duration::from_secs(86_400),
        negative_ttl_max: Duration::from_secs(3_600),
        failure_ttl: Duration::from_secs(5),
        timeout: Duration::from_secs(3),
        edns_size: 1_232,
        flights: FlightsMax { all: 100, zone: 100 },
        ipv4: true,
        ipv6: true,
        query_source: Vec::new(),
        upstreams: upstreams.iter().map(spec).collect(),
        recursion: None,
        dnssec: None,
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }))
}

fn resolver(upstreams: &[(&str, SocketAddr)]) -> Resolver {
    Resolver::new(settings(upstreams), metrics())
}

fn query(name: &str) -> Query {
    Query {
        name: name.parse().unwrap(),
        qtype: rtype::A,
        dnssec_ok: false,
        checking_disabled: false,
        view: 0,
    }
}

/// The last octet of the address that was answered.
fn last(answer: &Answer) -> u8 {
    assert_eq!((answer.rcode, answer.counts), (rcode::NOERROR, [1, 0, 0]), "{answer:?}");
    *answer.body.last().unwrap()
}

fn ede(answer: &Answer) -> u16 {
    assert_eq!(answer.rcode, rcode::SERVFAIL);
    answer.ede.as_ref().unwrap().code
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn an_upstream_answers_and_each_question_has_its_own_port_and_id() {
    let upstream = Upstream::start(|seen| vec![Reply::Send(answer(seen, 7))]).await;
    let metrics = metrics();
    let resolver = Resolver::new(settings(&[("up", upstream.address)]), Arc::clone(&metrics));
    for n in 0..20 {
        assert_eq!(last(&resolver.resolve(query(&format!("n{n}.test."))).await), 7);
    }
    let seen = upstream.seen.lock();
    let mut ports: Vec<u16> = seen.iter().map(|seen| seen.from.port()).collect();
    let mut ids: Vec<u16> = seen.iter().map(|seen| seen.query.metadata.id).collect();
    for drawn in [&mut ports, &mut ids] {
        drawn.sort_unstable();
        // Runs of neighbours would be a counter.
        let neighbours = drawn.windows(2).filter(|pair| pair[1] - pair[0] == 1).count();
        drawn.dedup();
        assert!(drawn.len() >= 18 && neighbours < 4, "{drawn:?}");
    }
    let state = &resolver.upstreams()[0];
    assert_eq!((state.health, state.asked, state.answered), (Health::Up, 20, 20));
    assert_eq!(metrics.upstream("up").queries(Outcome::Answer).get(), 20);
    assert_eq!(metrics.resolver_flights.get(), 0);
}

#[tokio::test]
async fn forged_datagrams_are_ignored_and_the_true_one_still_counts() {
    let upstream = Upstream::start(|seen| {
        let mut other_id = answer(seen, 66);
        other_id.metadata.id ^= 1;
        let mut other_name = answer(seen, 66);
        let evil = hickory_proto::rr::Name::from_ascii("evil.test.").unwrap();
        other_name.queries[0].set_name(evil);
        let elsewhere = answer(seen, 66);
        vec![
            Reply::Elsewhere(elsewhere),
            Reply::Send(other_id),
            Reply::Send(other_name),
            Reply::Wait(millis(50)),
            Reply::Send(answer(seen, 1)),
        ]
    })
    .await;
    let answer = resolver(&[("up", upstream.address)]).resolve(query("a.test.")).await;
    assert_eq!((last(&answer), upstream.asked()), (1, 1));
}

#[tokio::test]
async fn somebody_who_guesses_makes_us_ask_over_tcp() {
    let upstream = Upstream::start(|seen| {
        if seen.tcp {
            return vec![Reply::Send(answer(seen, 1))];
        }
        let guess = |n| {
            let mut guess = answer(seen, 66);
            guess.metadata.id ^= n;
            Reply::Send(guess)
        };
        (1..=20).map(guess).collect()
    })
    .await;
    let answer = resolver(&[("up", upstream.address)]).resolve(query("a.test.")).await;
    assert_eq!(last(&answer), 1);
    assert!(upstream.seen.lock().last().unwrap().tcp);
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let upstream = Upstream::start(|seen| {
        let mut message = answer(seen, 1);
        if seen.tcp {
            // More than any datagram of ours would hold.
            let name = message.queries[0].name().clone();
            let filler = RData::Unknown { code: 65_280.into(), rdata: NULL::with(vec![7; 5_000]) };
            message.answers.insert(0, Record::from_rdata(name, 60, filler));
        } else {
            message.answers.clear();
            message.metadata.truncation = true;
        }
        vec![Reply::Send(message)]
    })
    .await;
    let answer = resolver(&[("up", upstream.address)]).resolve(query("a.test.")).await;
    assert_eq!(last(&answer), 1);
    let transports: Vec<bool> = upstream.seen.lock().iter().map(|seen| seen.tcp).collect();
    assert_eq!(transports, [false, true]);
}

#[tokio::test]
async fn a_silent_upstream_costs_its_wait_once_and_then_the_other_comes_first() {
    let silent = Upstream::start(|_| Vec::new()).await;
    let good = Upstream::start(|seen| vec![Reply::Send(answer(seen, 2))]).await;
    let resolver = resolver(&[("silent", silent.address), ("good", good.address)]);
    let start = Instant::now();
    // The second upstream is also asked as a probe, whose answer nobody waits for.
    assert_eq!(last(&resolver.resolve(query("a.test.")).await), 2);
    assert!(start.elapsed() >= millis(300), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(last(&resolver.resolve(query("b.test.")).await), 2);
    assert!(start.elapsed() < millis(380), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_second_upstream_answers_for_one_that_refuses() {
    let refuses =
        Upstream::start(|seen| vec![Reply::Send(code(seen, ResponseCode::Refused))]).await;
    let good = Upstream::start(|seen| vec![Reply::Send(answer(seen, 2))]).await;
    let resolver = resolver(&[("refuses", refuses.address), ("good", good.address)]);
    let answer = resolver.resolve(query("a.test.")).await;
    assert_eq!(last(&answer), 2);
    assert_eq!(answer.source, Source::Upstream("good".into()));
}

#[tokio::test]
async fn failures_become_servfail_with_the_reason() {
    let fails = Upstream::start(|seen| vec![Reply::Send(code(seen, ResponseCode::ServFail))]).await;
    let answer = resolver(&[("fails", fails.address)]).resolve(query("a.test.")).await;
    assert_eq!((ede(&answer), answer.life), (22, Duration::from_secs(5)));
    // A port that was just given back.
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = resolver(&[("closed", closed)]).resolve(query("a.test.")).await;
    assert_eq!(ede(&answer), 23);
    assert_eq!(ede(&resolver(&[]).resolve(query("a.test.")).await), 22);
}

#[tokio::test]
async fn the_timeout_holds_for_the_question_as_a_whole() {
    let silent = Upstream::start(|_| Vec::new()).await;
    let short = Settings { timeout: millis(600), ..settings(&[("silent", silent.address)]) };
    let metrics = metrics();
    let start = Instant::now();
    let answer = Resolver::new(short, Arc::clone(&metrics)).resolve(query("a.test.")).await;
    assert_eq!(ede(&answer), 22);
    assert!((millis(600)..millis(1_500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(silent.asked(), 2);
    sleep(millis(50)).await;
    assert_eq!(metrics.upstream("silent").queries(Outcome::Timeout).get(), 2);
}

#[tokio::test]
async fn a_slow_answer_still_counts() {
    let slow =
        Upstream::start(|seen| vec![Reply::Wait(millis(2_300)), Reply::Send(answer(seen, 1))])
            .await;
    let answer = resolver(&[("slow", slow.address)]).resolve(query("a.test.")).await;
    assert_eq!(last(&answer), 1);
}

#[tokio::test]
async fn an_upstream_without_edns_is_asked_without_and_that_is_remembered() {
    let old = Upstream::start(|seen| {
        let edns = seen.query.edns.is_some();
        let mut reply = if edns { code(seen, ResponseCode::FormErr) } else { answer(seen, 1) };
        reply.edns = None;
        vec![Reply::Send(reply)]
    })
    .await;
    let resolver = resolver(&[("old", old.address)]);
    assert_eq!(last(&resolver.resolve(query("a.test.")).await), 1);
    assert_eq!(last(&resolver.resolve(query("b.test.")).await), 1);
    let edns: Vec<bool> = old.seen.lock().iter().map(|seen| seen.query.edns.is_some()).collect();
    assert_eq!(edns, [true, false, false]);
    assert!(resolver.upstreams()[0].without_edns.is_some());
}

#[tokio::test]
async fn who_asks_the_same_at_once_shares_one_question() {
    let upstream =
        Upstream::start(|seen| vec![Reply::Wait(millis(100)), Reply::Send(answer(seen, 1))]).await;
    let resolver = resolver(&[("up", upstream.address)]);
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(query("a.test.")).await })
        })
        .collect();
    for answer in asking {
        assert_eq!(last(&answer.await.unwrap()), 1);
    }
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn past_the_bound_the_oldest_gives_way_at_once_and_its_failure_is_not_kept() {
    let upstream =
        Upstream::start(|seen| vec![Reply::Wait(millis(200)), Reply::Send(answer(seen, 1))]).await;
    let bounds = FlightsMax { all: 2, zone: 2 };
    let two = Settings { flights: bounds, ..settings(&[("up", upstream.address)]) };
    let metrics = metrics();
    let resolver = Resolver::new(two, Arc::clone(&metrics));
    let start = Instant::now();
    let ask = |name: &'static str| {
        let resolver = resolver.clone();
        tokio::spawn(async move { (resolver.resolve(query(name)).await, Instant::now()) })
    };
    let first = [ask("a.one.test."), ask("a.one.test.")];
    let second = ask("a.two.test.");
    while upstream.asked() < 2 {
        sleep(millis(5)).await;
    }
    let third = ask("a.three.test.");
    for shed in first {
        let (shed, at) = shed.await.unwrap();
        assert_eq!((shed.rcode, ede(&shed), shed.life), (rcode::SERVFAIL, 0, Duration::ZERO));
        assert!(at - start < millis(180), "at once");
    }
    for answered in [second, third] {
        assert_eq!(last(&answered.await.unwrap().0), 1);
    }
    assert_eq!(metrics.resolver_flights_shed(ShedCause::Oldest).get(), 1);
    assert_eq!(last(&resolver.resolve(query("a.one.test.")).await), 1);
}

#[tokio::test]
async fn made_up_names_of_one_zone_keep_no_other_zone_waiting() {
    let upstream =
        Upstream::start(|seen| vec![Reply::Wait(millis(200)), Reply::Send(answer(seen, 1))]).await;
    let bounds = FlightsMax { all: 100, zone: 4 };
    let few = Settings { flights: bounds, ..settings(&[("up", upstream.address)]) };
    let metrics = metrics();
    let resolver = Resolver::new(few, Arc::clone(&metrics));
    let flood: Vec<_> = (0..50)
        .map(|n| {
            let resolver = resolver.clone();
            let asking = query(&format!("n{n}.victim.test."));
            tokio::spawn(async move { resolver.resolve(asking).await })
        })
        .collect();
    assert_eq!(last(&resolver.resolve(query("www.other.test.")).await), 1);
    let mut answered = 0;
    for answer in flood {
        let answer = answer.await.unwrap();
        match answer.rcode {
            rcode::NOERROR => answered += 1,
            _ => assert_eq!((ede(&answer), answer.life), (0, Duration::ZERO)),
        }
    }
    assert_eq!((answered, upstream.asked()), (4, 5));
    assert_eq!(metrics.resolver_flights_shed(ShedCause::Zone).get(), 46);
}

#[tokio::test]
async fn a_reload_loses_no_question_under_way() {
    let slow =
        Upstream::start(|seen| vec![Reply::Wait(millis(200)), Reply::Send(answer(seen, 1))]).await;
    let new = Upstream::start(|seen| vec![Reply::Send(answer(seen, 2))]).await;
    let resolver = resolver(&[("slow", slow.address)]);
    let under_way = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.resolve(query("a.test.")).await }
    });
    sleep(millis(50)).await;
    resolver.reconfigure(settings(&[("new", new.address)]));
    assert_eq!(last(&resolver.resolve(query("b.test.")).await), 2);
    assert_eq!(last(&under_way.await.unwrap()), 1);
}

#[tokio::test]
async fn who_goes_away_costs_the_others_nothing() {
    let upstream =
        Upstream::start(|seen| vec![Reply::Wait(millis(200)), Reply::Send(answer(seen, 1))]).await;
    let resolver = resolver(&[("up", upstream.address)]);
    let leader = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.resolve(query("a.test.")).await }
    });
    sleep(millis(50)).await;
    leader.abort();
    assert_eq!(last(&resolver.resolve(query("a.test.")).await), 1);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn an_upstream_that_leads_back_to_us_is_found_and_left_alone() {
    let good = Upstream::start(|seen| vec![Reply::Send(answer(seen, 2))]).await;
    // It forwards to us: what it is asked, we are asked.
    let us: Arc<Mutex<Option<Resolver>>> = Arc::default();
    let back = Arc::clone(&us);
    let looping = Upstream::start(move |seen| {
        let name = Name::from(seen.query.queries[0].name());
        let own = back.lock().as_ref().is_some_and(|us| us.is_own_probe(&name));
        let refused = code(seen, ResponseCode::Refused);
        vec![Reply::Send(if own { refused } else { answer(seen, 66) })]
    })
    .await;
    let metrics = metrics();
    let upstreams = [("looping", looping.address), ("good", good.address)];
    let resolver = Resolver::new(settings(&upstreams), Arc::clone(&metrics));
    *us.lock() = Some(resolver.clone());
    resolver.look_for_loops();
    sleep(millis(100)).await;
    assert_eq!(resolver.upstreams()[0].health, Health::Loop);
    assert_eq!(metrics.upstream_loops.get(), 1);
    assert_eq!(last(&resolver.resolve(query("a.test.")).await), 2);
    assert!(!resolver.is_own_probe(&"0000000000000000.loop.resolverd.test.".parse().unwrap()));
    // The same settings once more are no reason to forget it.
    resolver.reconfigure(settings(&upstreams));
    assert_eq!(resolver.upstreams()[0].health, Health::Loop);
}

#[tokio::test]
async fn an_upstream_that_refuses_what_looks_for_loops_is_well() {
    let upstream =
        Upstream::start(|seen| vec![Reply::Send(code(seen, ResponseCode::Refused))]).await;
    let resolver = Resolver::new(settings(&[("strict", upstream.address)]), metrics());
    for asked in 1..10 {
        resolver.look_for_loops();
        while upstream.asked() < asked {
            sleep(millis(5)).await;
        }
    }
    sleep(millis(50)).await;
    assert_eq!(resolver.upstreams()[0].health, Health::Unknown);
}

#[test]
fn the_systems_resolvers_are_read_with_their_scopes() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = "nameserver 192.0.2.1\nnameserver fe80::1%lo\nnameserver fe80::1%../../evil\n\
        nameserver fe80::1%nosuchif0\nnameserver 2001:db8::1\n";
    file.write_all(text.as_bytes()).unwrap();
    let found = read_system_resolvers(file.path()).unwrap();
    let expected = ["192.0.2.1:53", "[fe80::1%1]:53", "[2001:db8::1]:53"];
    assert_eq!(found, expected.map(|text| text.parse().unwrap()));
    assert!(read_system_resolvers(Path::new("/nonexistent")).is_err());
}

/// Recursion whose root is one of our upstreams: a server that knows all.
fn recursion(root: SocketAddr, scramble: bool) -> Settings {
    let options = Options {
        hints: vec![(Name::root(), root.ip())],
        prime: false,
        minimise: true,
        scramble,
        harden_glue: true,
        ipv4: true,
        ipv6: false,
        allow_server: Vec::new(),
        stubs: Vec::new(),
        forwarded: Vec::new(),
        port: root.port(),
        timeout: Duration::from_secs(1),
        failure_ttl: Duration::from_secs(5),
    };
    let recursion =
        Recursion { options: Arc::new(options), query_source: Vec::new(), edns_size: 1_232 };
    Settings { recursion: Some(Arc::new(recursion)), ..settings(&[]) }
}

/// As a server of the zone: AA, and no recursion.
fn authoritative(seen: &Seen, last: u8) -> Message {
    let mut message = answer(seen, last);
    message.metadata.recursion_available = false;
    message.metadata.authoritative = true;
    message
}

#[tokio::test]
async fn recursion_asks_servers_in_random_case_without_rd_and_with_do() {
    let server = Upstream::start(|seen| vec![Reply::Send(authoritative(seen, 7))]).await;
    let metrics = metrics();
    let resolver = Resolver::new(recursion(server.address, true), Arc::clone(&metrics));
    let long = "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz";
    let answer = resolver.resolve(query(&format!("{long}.test."))).await;
    assert_eq!((answer.rcode, answer.counts), (0, [1, 0, 0]));
    assert_eq!(answer.source, Source::Upstream(RECURSION.into()));
    let seen = server.seen.lock().clone();
    let last = seen.last().unwrap();
    assert!(!last.query.metadata.recursion_desired);
    assert!(last.query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
    let name = last.query.queries[0].name().to_ascii();
    assert!(name.eq_ignore_ascii_case(&format!("{long}.test.")));
    // Once in 2^52 it is all of one case.
    assert!(name.chars().any(|c| c.is_ascii_uppercase()), "{name}");
    assert!(name.chars().any(|c| c.is_ascii_lowercase()), "{name}");
    assert!(metrics.upstream(RECURSION).queries(Outcome::Answer).get() >= 1);
    // Who sets DO and asks the same costs no question.
    let with_do = Query { dnssec_ok: true, ..query(&format!("{long}.test.")) };
    assert_eq!(resolver.resolve(with_do).await.rcode, 0);
    assert_eq!(server.asked(), seen.len());
}

#[tokio::test]
async fn recursion_that_fails_is_remembered_for_the_configured_time() {
    let server = Upstream::start(|seen| vec![Reply::Send(code(seen, ResponseCode::Refused))]).await;
    let resolver = Resolver::new(recursion(server.address, false), metrics());
    let answer = resolver.resolve(query("www.test.")).await;
    assert_eq!((answer.rcode, answer.life), (rcode::SERVFAIL, Duration::from_secs(5)));
    assert_eq!(answer.ede.map(|ede| ede.code), Some(22));
    assert_eq!(
        resolver.would_ask(&"www.test.".parse().unwrap()),
        "recursion asks the root servers"
    );
}

#[tokio::test]
async fn names_in_a_stub_are_counted_for_it() {
    let server = Upstream::start(|_| Vec::new()).await;
    let settings = recursion(server.address, false);
    let recursion = settings.recursion.as_deref().unwrap();
    let stub = Stub { zone: "stub.".parse().unwrap(), servers: vec![server.address] };
    let options = Options { stubs: vec![stub], ..(*recursion.options).clone() };
    let recursion = Recursion { options: Arc::new(options), ..recursion.clone() };
    let flights = FlightsMax { all: 10, zone: 1 };
    let settings = Settings { recursion: Some(Arc::new(recursion)), flights, ..settings };
    let resolver = Resolver::new(settings, metrics());
    let asked = resolver.would_ask(&"a.stub.".parse().unwrap());
    assert_eq!(asked, "recursion asks the servers of the zone stub.");
    let (first, second) =
        tokio::join!(resolver.resolve(query("a.stub.")), resolver.resolve(query("b.stub.")));
    let full = |answer: Answer| answer.ede.is_some_and(|ede| ede.text.contains("this zone"));
    assert_eq!([full(first), full(second)], [false, true]);
}

#[tokio::test]
async fn recursion_over_tcp_is_used_when_an_answer_is_cut_short() {
    let server = Upstream::start(|seen| {
        let mut message = authoritative(seen, 9);
        message.metadata.truncation = !seen.tcp;
        vec![Reply::Send(message)]
    })
    .await;
    let resolver = Resolver::new(recursion(server.address, true), metrics());
    let answer = resolver.resolve(query("www.test.")).await;
    assert_eq!((answer.rcode, answer.counts[0]), (0, 1));
    assert!(server.seen.lock().iter().any(|seen| seen.tcp));
}

#[tokio::test]
async fn questions_of_the_resolvers_own_reach_upstreams_with_do_and_cd_and_are_kept() {
    let upstream = Upstream::start(|seen| vec![Reply::Send(answer(seen, 5))]).await;
    let shared = Shared::start(settings(&[("one", upstream.address)]), metrics());
    let fetch = Fetch { name: "own.test.".parse().unwrap(), qtype: rtype::A };
    for _ in 0..2 {
        let reply = shared.fetch(fetch.clone()).await.unwrap();
        assert_eq!((reply.rcode, reply.answer.len()), (0, 1));
    }
    let seen = upstream.seen.lock().clone();
    let own: Vec<_> =
        seen.iter().filter(|s| s.query.queries[0].name().to_ascii() == "own.test.").collect();
    assert_eq!(own.len(), 1);
    assert!(own[0].query.metadata.checking_disabled);
    assert!(own[0].query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
}
