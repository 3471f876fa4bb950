//! Validation of what an upstream says that serves the vectors, over loopback.

use std::net::SocketAddr;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::config::Protocol;
use crate::dns::records;
use crate::dns::{Name, rtype};
use crate::metrics::{Build, Metrics};
use crate::resolver::dnssec::vectors::{NOW, REPLIES, anchors};
use crate::resolver::{FlightsMax, Resolver, UpstreamSpec};

/// Answers from the vectors, but for what a test has changed.
struct Upstream {
    address: SocketAddr,
    asked: Mutex<Vec<(Fetch, u16)>>,
    changed: Mutex<Vec<(Fetch, Reply)>>,
}

impl Upstream {
    async fn start() -> Arc<Self> {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let upstream =
            Arc::new(Self { address, asked: Mutex::default(), changed: Mutex::default() });
        let this = Arc::clone(&upstream);
        tokio::spawn(async move {
            let mut datagram = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut datagram).await {
                let mut reply = this.reply(&datagram[..length]);
                if reply.len() > 1_232 {
                    // TC, and nothing but the question.
                    reply[2] |= 0x02;
                    reply[6..12].fill(0);
                    let end = 12 + datagram[12..].iter().position(|&octet| octet == 0).unwrap();
                    reply.truncate(end + 5);
                }
                udp.send_to(&reply, from).await.unwrap();
            }
        });
        let this = Arc::clone(&upstream);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = usize::from(stream.read_u16().await.unwrap());
                let mut message = vec![0; length];
                stream.read_exact(&mut message).await.unwrap();
                let reply = this.reply(&message);
                stream.write_u16(reply.len() as u16).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        });
        upstream
    }

    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let (name, end) = records::read_name(query, 12).unwrap();
        let name = Name::from_wire(&name).unwrap();
        let fetch = Fetch { name, qtype: u16::from_be_bytes([query[end], query[end + 1]]) };
        let flags = u16::from_be_bytes([query[2], query[3]]);
        self.asked.lock().push((fetch.clone(), flags));
        let changed = self.changed.lock().iter().find(|(of, _)| *of == fetch).cloned();
        let known = changed.map(|(_, reply)| reply);
        let known = known.or_else(|| REPLIES.get(&fetch).map(|reply| (**reply).clone()));
        let (code, reply) = known.map_or((2, Reply::default()), |reply| (reply.rcode, reply));
        let sections = [&reply.answer[..], &reply.authority, &[]];
        let body = records::compose(&fetch.name, sections).unwrap();
        let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1];
        body.counts[..2].iter().for_each(|count| message.extend(count.to_be_bytes()));
        message.extend([0, 1]);
        message.extend_from_slice(&query[12..end + 4]);
        message.extend_from_slice(&body.octets);
        // An OPT with DO.
        message.extend([0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0]);
        message
    }
}

fn settings(upstream: &Upstream, now: Option<u64>) -> Settings {
    let spec = UpstreamSpec {
        name: "up".into(),
        address: upstream.address,
        protocol: Protocol::Udp,
        identity: None,
        zones: Vec::new(),
    };
    let anchors = Arc::new(anchors(&["."]));
    Settings {
        ttl_min: Duration::ZERO,
        ttl_max: Duration::from_secs(86_400),
        negative_ttl_max: Duration::from_secs(3_600),
        failure_ttl: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        edns_size: 1_232,
        flights: FlightsMax { all: 100, zone: 100 },
        ipv4: true,
        ipv6: true,
        query_source: Vec::new(),
        upstreams: vec![spec],
        recursion: None,
        dnssec: Some(Arc::new(Policy { anchors, forwarded: true, now })),
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }))
}

fn query(name: &str, dnssec_ok: bool) -> Query {
    Query {
        name: name.parse().unwrap(),
        qtype: rtype::A,
        dnssec_ok,
        checking_disabled: false,
        view: 0,
    }
}

#[tokio::test]
async fn what_is_secure_says_so_and_its_proofs_come_with_do() {
    let upstream = Upstream::start().await;
    let metrics = metrics();
    let resolver = Resolver::new(settings(&upstream, Some(NOW)), Arc::clone(&metrics));
    let plain = resolver.resolve(query("www.nsec.test.", false)).await;
    assert!(plain.secure && plain.counts == [2, 0, 0], "{plain:?}");
    assert_eq!(plain.life, Duration::from_secs(3_600));
    let signed = resolver.resolve(query("www.nsec.test.", true)).await;
    assert!(signed.secure && signed.counts == [3, 0, 0], "{signed:?}");
    let denied = resolver.resolve(query("nothere.nsec3.test.", true)).await;
    assert!(denied.secure && denied.rcode == rcode::NXDOMAIN && denied.counts[1] >= 4);
    assert_eq!(denied.life, Duration::from_secs(300));
    // Past its life it may be used for as long as its signatures hold.
    assert!(denied.signed_for.is_some_and(|left| left >= denied.life), "{denied:?}");
    let wild = resolver.resolve(query("x.wild.ed.test.", true)).await;
    assert!(wild.secure && wild.counts[1] == 2, "the proof of the wildcard: {wild:?}");
    assert_eq!(metrics.dnssec_verdicts(DnssecVerdict::Secure).get(), 4);
    let cd = 0x0010;
    assert!(upstream.asked.lock().iter().all(|(_, flags)| flags & cd != 0), "RFC 6840 5.9");
}

#[tokio::test]
async fn what_is_bogus_is_a_failure_with_its_reason_but_not_for_cd() {
    let upstream = Upstream::start().await;
    let metrics = metrics();
    let resolver = Resolver::new(settings(&upstream, Some(NOW)), Arc::clone(&metrics));
    for (name, code) in [("www.expired.test.", 7), ("www.future.test.", 8), ("www.badds.test.", 9)]
    {
        let answer = resolver.resolve(query(name, false)).await;
        assert_eq!(answer.rcode, rcode::SERVFAIL, "{name}");
        let told = answer.ede.unwrap();
        assert_eq!(told.code, code, "{name} {told:?}");
        assert!(told.text.contains(&name[4..]), "{told:?}");
        assert_eq!(answer.life, Duration::from_secs(BOGUS_LIFE.into()));
        let unchecked = Query { checking_disabled: true, ..query(name, false) };
        let answer = resolver.resolve(unchecked).await;
        assert!(answer.rcode == rcode::NOERROR && !answer.secure, "{answer:?}");
    }
    assert_eq!(metrics.dnssec_verdicts(DnssecVerdict::Bogus).get(), 3);
}

#[tokio::test]
async fn what_is_insecure_is_answered_and_says_why_where_that_can_be_mended() {
    let upstream = Upstream::start().await;
    let resolver = Resolver::new(settings(&upstream, Some(NOW)), metrics());
    for (name, told) in [
        ("www.unsigned.test.", None),
        ("www.ed448.test.", Some(1)),
        ("www.digest1.test.", Some(2)),
        ("nothere.iter151.test.", Some(27)),
    ] {
        let answer = resolver.resolve(query(name, false)).await;
        assert!(answer.rcode != rcode::SERVFAIL && !answer.secure, "{name} {answer:?}");
        assert_eq!(answer.signed_for, None, "{name}");
        assert_eq!(answer.ede.as_ref().map(|ede| ede.code), told, "{name}");
        assert!(answer.ede.is_none_or(|ede| ede.text.is_empty()), "{name}");
    }
}

#[tokio::test]
async fn upstreams_are_believed_where_that_is_meant() {
    let upstream = Upstream::start().await;
    let mut believing = settings(&upstream, Some(NOW));
    let policy = (**believing.dnssec.as_ref().unwrap()).clone();
    believing.dnssec = Some(Arc::new(Policy { forwarded: false, ..policy }));
    let resolver = Resolver::new(believing, metrics());
    let answer = resolver.resolve(query("www.expired.test.", false)).await;
    assert!(answer.rcode == rcode::NOERROR && !answer.secure, "{answer:?}");
    assert_eq!(upstream.asked.lock().len(), 1, "nothing was fetched to check it");
}

#[tokio::test]
async fn a_mended_zone_is_seen_by_who_asks_next() {
    let upstream = Upstream::start().await;
    let resolver = Resolver::new(settings(&upstream, Some(NOW)), metrics());
    let keys = Fetch { name: "nsec.test.".parse().unwrap(), qtype: rtype::DNSKEY };
    let mut stripped = (*REPLIES[&keys]).clone();
    stripped.answer.retain(|record| record.rtype != rtype::RRSIG);
    upstream.changed.lock().push((keys, stripped));
    let broken = resolver.resolve(query("www.nsec.test.", false)).await;
    assert_eq!(broken.ede.unwrap().code, ede::RRSIGS_MISSING);
    upstream.changed.lock().clear();
    let mended = resolver.resolve(query("www.nsec.test.", false)).await;
    assert!(mended.secure, "{mended:?}");
}

#[tokio::test]
async fn random_names_of_a_signed_zone_cost_one_question() {
    let upstream = Upstream::start().await;
    let metrics = metrics();
    // By the real clock; the vectors are in force until 2090.
    let resolver = Resolver::new(settings(&upstream, None), Arc::clone(&metrics));
    let first = resolver.resolve(query("nothere.nsec.test.", false)).await;
    assert!(first.secure && first.rcode == rcode::NXDOMAIN, "{first:?}");
    let asked = upstream.asked.lock().len();
    for n in 0..50 {
        let made = resolver.resolve(query(&format!("n{n}.nothere.nsec.test."), true)).await;
        assert!(made.secure && made.rcode == rcode::NXDOMAIN && made.counts[1] >= 4, "{made:?}");
        assert!(made.life <= Duration::from_secs(300) && !made.life.is_zero());
    }
    assert_eq!(upstream.asked.lock().len(), asked);
    assert_eq!(metrics.dnssec_synthesised.get(), 50);
    resolver.flushed(&crate::resolver::Flushed::Zone("nsec.test.".parse().unwrap()));
    let anew = resolver.resolve(query("nothere.nsec.test.", false)).await;
    assert!(anew.secure && upstream.asked.lock().len() > asked);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_a_failure_that_is_tried_again_soon() {
    let upstream = Upstream::start().await;
    let metrics = metrics();
    let resolver = Resolver::new(settings(&upstream, Some(NOW)), Arc::clone(&metrics));
    let keys = Fetch { name: "nsec.test.".parse().unwrap(), qtype: rtype::DNSKEY };
    upstream.changed.lock().push((keys, Reply { rcode: 2, ..Reply::default() }));
    let answer = resolver.resolve(query("www.nsec.test.", false)).await;
    assert_eq!((answer.rcode, answer.life), (rcode::SERVFAIL, Duration::from_secs(5)));
    assert_eq!(metrics.dnssec_verdicts(DnssecVerdict::Unknown).get(), 1);
}

#[test]
fn signatures_hold_until_the_first_of_them_ends() {
    let signature = |expires: u32| {
        let mut rdata = vec![0; 20];
        rdata[8..12].copy_from_slice(&expires.to_be_bytes());
        Record { owner: Name::root(), rtype: rtype::RRSIG, class: 1, ttl: 1, rdata }
    };
    let reply = |expiries: &[u32]| {
        let answer = expiries.iter().map(|expires| signature(*expires)).collect();
        Reply { answer, ..Reply::default() }
    };
    let hold = |expiries: &[u32], now| signed_for(&reply(expiries), now).map(|d| d.as_secs());
    assert_eq!(hold(&[], 5), None);
    assert_eq!(hold(&[100, 70, 90], 50), Some(20));
    assert_eq!(hold(&[100, 40], 50), Some(0));
    // Past 2106 the numbers begin anew.
    assert_eq!(hold(&[10], u64::from(u32::MAX) - 9), Some(20));
}
