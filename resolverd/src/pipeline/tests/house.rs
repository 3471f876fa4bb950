//! A pipeline with all its rooms, an upstream that says what its names say, and messages.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};
use parking_lot::Mutex;
use resolverd_common::key::SECRET_WORDS;
use resolverd_common::limits::RateLimits;

use super::super::*;
use crate::cache;
use crate::config::{Protocol, ZoneKind};
use crate::kernel::Memory;
use crate::metrics::Build;
use crate::policy::{Acl, ViewId, ZoneSpec, rules};
use crate::resolver::{FlightsMax, Settings, UpstreamSpec};

pub const EDNS_SIZE: u16 = 1232;

pub type Asked = Arc<Mutex<Vec<String>>>;

/// Everything from the parser to the upstream.
pub struct House {
    pub pipeline: Pipeline,
    pub fast: Arc<Memory>,
    /// Nobody listens, until a test does.
    pub tap: Tap,
    pub metrics: Arc<Metrics>,
    /// Names that the upstream was asked for.
    pub asked: Asked,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Reply(Vec<u8>),
}

impl House {
    pub fn new() -> Self {
        Self::with(cache::Settings {
            memory_max: 4 << 20,
            prefetch: true,
            kernel_entries: [64, 16, 16, 16],
            ..cache::Settings::default()
        })
    }

    pub fn with(settings: cache::Settings) -> Self {
        let metrics = Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }));
        let asked = Asked::default();
        let upstream = UpstreamSpec {
            name: "up".into(),
            address: upstream(Arc::clone(&asked)),
            protocol: Protocol::Udp,
            identity: None,
            zones: Vec::new(),
        };
        let resolver = Resolver::new(
            Settings {
                ttl_min: Duration::ZERO,
                ttl_max: Duration::from_secs(86_400),
                negative_ttl_max: Duration::from_secs(3_600),
                failure_ttl: Duration::from_secs(5),
                timeout: Duration::from_secs(3),
                edns_size: 4_096,
                flights: FlightsMax { all: 100, zone: 100 },
                ipv4: true,
                ipv6: true,
                query_source: Vec::new(),
                upstreams: vec![upstream],
                recursion: None,
                dnssec: None,
            },
            Arc::clone(&metrics),
        );
        let mut secret = [0; SECRET_WORDS];
        for (n, word) in secret.iter_mut().enumerate() {
            *word = (n as u32 + 1).wrapping_mul(0x9e37_79b9);
        }
        let fast = Arc::new(Memory::keeping(secret));
        let cache = Cache::new(settings, Arc::clone(&metrics));
        let tap = Tap::off(Arc::clone(&metrics));
        let shared: Arc<dyn FastPath> = Arc::clone(&fast) as _;
        let policy = policy(&["10.0.0.1"]);
        let pipeline =
            Pipeline::new(cache, shared, resolver, policy, tap.clone(), Arc::clone(&metrics));
        Self { pipeline, fast, tap, metrics, asked }
    }

    /// What a client on loopback gets.
    pub async fn ask(&self, message: &[u8]) -> Seen {
        self.ask_from("127.0.0.1", Transport::Udp, message).await
    }

    pub async fn ask_from(&self, client: &str, transport: Transport, message: &[u8]) -> Seen {
        let client = client_at(client, transport);
        let mut out = b"left over".to_vec();
        match self.pipeline.begin(message, &client, &mut out) {
            Begun::Drop => Seen::Nothing,
            Begun::Reply => Seen::Reply(out),
            Begun::Pending(pending) => {
                let mut out = b"left over".to_vec();
                self.pipeline.finish(pending, &mut out).await;
                Seen::Reply(out)
            }
        }
    }

    /// The reply that is there without waiting.
    pub fn ask_now(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let begun = self.pipeline.begin(message, &client_at("127.0.0.1", Transport::Udp), &mut out);
        matches!(begun, Begun::Reply).then_some(out)
    }

    /// Questions that reached the upstream.
    pub fn asked(&self) -> usize {
        self.asked.lock().len()
    }

    /// The key of a plain question, DO and CD clear.
    pub fn key(&self, name: &str, qtype: u16) -> (Key, u64, NameWords) {
        let mut bench = Bench::new();
        bench.read(&q(name, qtype), ViewId::EVERYBODY, self.fast.secret()).unwrap();
        (bench.question.key, bench.question.meta, bench.name)
    }

    /// What the kernel has for a plain question.
    pub fn in_kernel(&self, name: &str, qtype: u16) -> Option<Vec<u64>> {
        self.fast.peek(self.key(name, qtype).0)
    }
}

impl Seen {
    pub fn reply(&self) -> &[u8] {
        match self {
            Self::Nothing => panic!("there is no reply"),
            Self::Reply(reply) => reply,
        }
    }

    pub fn message(&self) -> Message {
        Message::from_vec(self.reply()).unwrap()
    }
}

pub fn client_at(ip: &str, transport: Transport) -> Client {
    let ip: IpAddr = ip.parse().unwrap();
    Client { addr: SocketAddr::new(ip, 40_000), local: ip, transport }
}

/// Loopback is served but for 127.0.0.66; `home.test.` is ours, with these addresses for `www`.
pub fn policy(www: &[&str]) -> Policy {
    let acl = Acl::new(
        &["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        &["127.0.0.66/32".parse().unwrap()],
    );
    let records = www.iter().map(|address| format!("www 300 IN A {address}")).collect();
    let spec = |name: &str, kind, records| {
        let name = name.parse().unwrap();
        ZoneSpec { name, kind, records, views: Vec::new(), log: false }
    };
    let zones = vec![
        spec("home.test.", ZoneKind::Static, records),
        spec("blocked.test.", ZoneKind::AlwaysNxdomain, Vec::new()),
        spec("refused.test.", ZoneKind::Refuse, Vec::new()),
    ];
    policy_of(rules::Spec { acl: acl.unwrap(), zones, ..rules::Spec::default() })
}

/// A policy of these rules.
pub fn policy_of(spec: rules::Spec) -> Policy {
    let mut hasher = DefaultHasher::new();
    format!("{:?} {:?} {:?}", spec.zones, spec.views, spec.dns64).hash(&mut hasher);
    let digest = hasher.finish();
    let limiter = Limiter::new(RateLimits::default(), &[]);
    let rules = Rules::build(spec).unwrap();
    Policy { rules, limiter, edns_size: EDNS_SIZE, digest, answers: 0 }
}

/// A plain question with RD.
pub fn q(name: &str, qtype: u16) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&qtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// An upstream over UDP and TCP on a port of loopback, for as long as the test runs.
fn upstream(asked: Asked) -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut datagram = [0; 4_096];
        while let Ok((len, from)) = udp.recv_from(&mut datagram) {
            let (reply, pause) = script(&datagram[..len], &count, false);
            let udp = udp.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(pause);
                let _ = udp.send_to(&reply, from);
            });
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            let (reply, _) = script(&message, &asked, true);
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    address
}

/// What the upstream says: the first label is the script.
fn script(query: &[u8], asked: &Asked, tcp: bool) -> (Vec<u8>, Duration) {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let name = question.name().clone();
    // How often this was asked before.
    let n = {
        let mut asked = asked.lock();
        let before = asked.iter().filter(|other| **other == name.to_ascii()).count();
        asked.push(name.to_ascii());
        before
    };
    let first = String::from_utf8_lossy(name.iter().next().unwrap_or_default()).to_lowercase();
    let mut reply = query;
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    let mut pause = Duration::ZERO;
    let address =
        |n: usize, ttl| Record::from_rdata(name.clone(), ttl, RData::A(A::new(192, 0, 2, n as u8)));
    let soa = || {
        let zone = HickoryName::from_ascii("test.").unwrap();
        let data = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 60);
        Record::from_rdata(zone, 120, RData::SOA(data))
    };
    let text = |octets: usize| {
        let strings = (0..octets / 200).map(|n| format!("{n:0200}")).collect();
        Record::from_rdata(name.clone(), 300, RData::TXT(TXT::new(strings)))
    };
    match first.as_str() {
        "nx" => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.add_authority(soa());
        }
        "nodata" => {
            reply.add_authority(soa());
        }
        "fail" => reply.metadata.response_code = ResponseCode::ServFail,
        // The first time an address, then failures.
        "fades" if n > 0 => reply.metadata.response_code = ResponseCode::ServFail,
        // The first time there is no such name, then failures.
        "gone" if n > 0 => reply.metadata.response_code = ResponseCode::ServFail,
        "gone" => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.add_authority(soa());
        }
        // The first time at once, then slowly.
        "drags" => {
            pause = Duration::from_millis(if n > 0 { 600 } else { 0 });
            reply.add_answer(address(n, 300));
        }
        "zero" => {
            reply.add_answer(address(1, 0));
        }
        "short" => {
            reply.add_answer(address(1, 1));
        }
        "alias" => {
            let target = HickoryName::from_ascii("target.test.").unwrap();
            reply.add_answer(Record::from_rdata(
                name.clone(),
                60,
                RData::CNAME(CNAME(target.clone())),
            ));
            let data = RData::A(A::new(192, 0, 2, 9));
            reply.add_answer(Record::from_rdata(target, 30, data));
        }
        // More than 512 octets, more than 1232, and more than any datagram.
        "large" => {
            reply.add_answer(text(800));
        }
        "huge" => {
            reply.add_answer(text(2_000));
        }
        "vast" if !tcp => reply.metadata.truncation = true,
        "vast" => {
            reply.add_answer(text(60_000));
        }
        "many" => {
            for last in 0..30 {
                reply.add_answer(address(last, 300));
            }
        }
        "slow" => {
            pause = Duration::from_millis(200);
            reply.add_answer(address(1, 300));
        }
        _ if question.query_type() == RecordType::A => {
            reply.add_answer(address(n, 300));
        }
        _ => {
            reply.add_authority(soa());
        }
    }
    (reply.to_vec().unwrap(), pause)
}
