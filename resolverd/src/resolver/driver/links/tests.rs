//! Kept connections over loopback, with servers that do as they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use data_encoding::BASE64;
use futures_util::future::join_all;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dns::Query;
use crate::metrics::Build;
use crate::resolver::driver::tests::settings;
use crate::resolver::{Resolver, Settings, UpstreamSpec, trust};

/// What a server does with its connections.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers in the order of questions.
    Plain,
    /// Gathers so many questions, then answers the last one first.
    Backwards(usize),
    /// Closes after so many answers.
    CloseAfter(usize),
    /// Reads and says nothing.
    Silent,
    /// Says that it keeps no idle connection.
    NoIdle,
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
    seen: Seen,
}

/// Questions as they came.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

impl Server {
    async fn start(manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            questions: Arc::default(),
            seen: Seen::default(),
        };
        let (connections, questions) =
            (Arc::clone(&server.connections), Arc::clone(&server.questions));
        let seen = Arc::clone(&server.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, questions, seen) =
                    (tls.clone(), Arc::clone(&questions), Arc::clone(&seen));
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let _ = match tls {
                        None => serve(stream, manner, &questions, &seen).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, manner, &questions, &seen).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        server
    }

    fn peer(&self, identity: Option<Identity>) -> Peer {
        let protocol = if identity.is_some() { Protocol::Tls } else { Protocol::Tcp };
        Peer { address: self.address, protocol, identity: identity.map(Arc::new) }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

async fn serve<S>(
    mut stream: S,
    manner: Manner,
    questions: &AtomicUsize,
    seen: &Seen,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut gathered = Vec::new();
    for n in 1.. {
        let length = usize::from(stream.read_u16().await?);
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        questions.fetch_add(1, Ordering::SeqCst);
        seen.lock().push(message.clone());
        message[2] |= 0x80;
        gathered.push(message);
        match manner {
            Manner::Silent => gathered.clear(),
            Manner::Backwards(count) if gathered.len() < count => {}
            _ => {
                for mut message in gathered.drain(..).rev() {
                    if let Manner::NoIdle = manner {
                        // An OPT with edns-tcp-keepalive, zero (RFC 7828 section 3.1).
                        message[11] = 1;
                        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 11, 0, 2, 0, 0]);
                    }
                    stream.write_all(&(message.len() as u16).to_be_bytes()).await?;
                    stream.write_all(&message).await?;
                    stream.flush().await?;
                }
            }
        }
        if matches!(manner, Manner::CloseAfter(count) if n >= count) {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

fn question(n: usize) -> Vec<u8> {
    let label = format!("n{n:03}");
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4];
    message.extend_from_slice(label.as_bytes());
    message.extend([4, b't', b'e', b's', b't', 0, 0, 1, 0, 1]);
    message
}

struct Client {
    links: Links,
    metrics: Arc<Metrics>,
    name: Arc<str>,
}

impl Client {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }));
        Self { links: Links::new(Arc::clone(&metrics)), metrics, name: "up".into() }
    }

    async fn ask(&self, peer: &Peer, n: usize) -> Result<(), Failure> {
        let any = IpAddr::from([0, 0, 0, 0]);
        let question = question(n);
        let asked = self.links.ask(peer, &self.name, any, &question);
        let said = timeout(Duration::from_secs(8), asked).await.expect("an end")?;
        assert_eq!(said.message[..2], [0, 0], "the identifier that was asked with");
        assert_eq!(said.message[12..question.len()], question[12..], "another's answer");
        Ok(())
    }

    async fn ask_many(&self, peer: &Peer, count: usize) -> Vec<Result<(), Failure>> {
        join_all((0..count).map(|n| self.ask(peer, n))).await
    }

    fn connected(&self, outcome: Connected) -> u64 {
        self.metrics.upstream("up").connected(outcome).get()
    }
}

const ONE: &str = include_str!("../../../server/tests/certificates/one.pem");
const KEY: &str = include_str!("../../../server/tests/certificates/one.key");
const CA: &str = include_str!("../../../server/tests/certificates/ca.pem");

/// A server with the certificate for `resolverd.test`, 127.0.0.1 and ::1.
fn acceptor() -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(ONE.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"dot".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn identity(name: Option<&str>, pins: &[&str]) -> Identity {
    let pin = |text: &&str| BASE64.decode(text.as_bytes()).unwrap().try_into().unwrap();
    Identity {
        server_name: name.map(|name| name.to_owned().try_into().unwrap()),
        pins: pins.iter().map(pin).collect(),
        roots: Some(trust::roots(CA).unwrap()),
        path: "/dns-query".into(),
    }
}

/// Of the certificate `one`.
fn own_pin() -> String {
    let certificate = CertificateDer::from_pem_slice(ONE.as_bytes()).unwrap();
    let parsed = rustls::server::ParsedCertificate::try_from(&certificate).unwrap();
    let key = parsed.subject_public_key_info();
    BASE64.encode(ring::digest::digest(&ring::digest::SHA256, &key).as_ref())
}

const OTHER_PIN: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[tokio::test]
async fn a_hundred_at_once_share_one_connection_and_each_gets_his_own_answer() {
    let server = Server::start(Manner::Backwards(50), None).await;
    let (client, peer) = (Client::new(), server.peer(None));
    let said = client.ask_many(&peer, 100).await;
    assert!(said.iter().all(Result::is_ok), "{said:?}");
    assert_eq!((server.connections(), server.questions()), (1, 100));
    assert_eq!(client.connected(Connected::Opened), 1);
}

#[tokio::test]
async fn more_than_one_connection_takes_get_another() {
    let server = Server::start(Manner::Backwards(50), None).await;
    let (client, peer) = (Client::new(), server.peer(None));
    let said = client.ask_many(&peer, 150).await;
    assert!(said.iter().all(Result::is_ok), "{said:?}");
    assert_eq!((server.connections(), server.questions()), (2, 150));
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_costs_nobody_an_answer() {
    let server = Server::start(Manner::CloseAfter(1), None).await;
    let (client, peer) = (Client::new(), server.peer(None));
    for n in 0..3 {
        client.ask(&peer, n).await.unwrap();
    }
    let said = client.ask_many(&peer, 40).await;
    assert!(said.iter().all(Result::is_ok), "{said:?}");
    // What was lost with the connection was asked once more.
    assert!(server.connections() >= 43, "{}", server.connections());
    let said = client.ask_many(&peer, 20).await;
    assert!(said.iter().all(Result::is_ok), "{said:?}");
}

#[tokio::test]
async fn a_server_that_closes_without_an_answer_is_asked_twice_and_no_more() {
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closing.local_addr().unwrap();
    let peer = Peer { address, protocol: Protocol::Tcp, identity: None };
    let client = Client::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = closing.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read_u16().await;
        }
    });
    assert!(matches!(client.ask(&peer, 1).await, Err(Failure::Lost)));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_finds_only_connections_that_just_ended_gets_a_new_one() {
    let server = Server::start(Manner::Plain, None).await;
    let (client, peer) = (Client::new(), server.peer(None));
    client.ask(&peer, 0).await.unwrap();
    // Three that are over, and nobody has noticed yet.
    let slot = client.links.slot(&peer);
    for _ in 0..3 {
        let line = Mutex::new(Line::new(boot_now(), u64::MAX));
        let kept = Arc::new(Kept { line, stirred: Notify::new() });
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        let (asker, keeper) = framed::start(near, Arc::clone(&kept));
        drop(keeper);
        let (asker, changed) = (Asker::Framed(asker), Arc::clone(&slot.changed));
        let link = Link { kept, asker, changed, opened: Instant::now() };
        slot.state.lock().links.insert(0, Arc::new(link));
    }
    client.ask(&peer, 1).await.unwrap();
    assert_eq!((server.connections(), server.questions()), (1, 2));
}

#[tokio::test]
async fn a_silent_connection_is_left_for_a_new_one() {
    let server = Server::start(Manner::Silent, None).await;
    let (client, peer) = (Client::new(), server.peer(None));
    let any = IpAddr::from([0, 0, 0, 0]);
    let asked = question(0);
    let first = client.links.ask(&peer, &client.name, any, &asked);
    let second = async {
        sleep(Duration::from_millis(1_200)).await;
        let asked = question(1);
        let second = client.links.ask(&peer, &client.name, any, &asked);
        assert!(timeout(Duration::from_millis(300), second).await.is_err());
    };
    tokio::select! {
        said = first => panic!("{said:?}"),
        () = second => {}
    }
    assert_eq!((server.connections(), server.questions()), (2, 2));
}

#[tokio::test]
async fn a_server_that_keeps_no_idle_connection_finds_it_closed() {
    let server = Server::start(Manner::NoIdle, None).await;
    let (client, peer) = (Client::new(), server.peer(None));
    for n in 0..3 {
        client.ask(&peer, n).await.unwrap();
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_not_tried_for_each_question() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let peer = Peer { address, protocol: Protocol::Tcp, identity: None };
    let client = Client::new();
    let said = client.ask_many(&peer, 20).await;
    assert!(said.iter().all(|said| matches!(said, Err(Failure::There(_)))), "{said:?}");
    assert_eq!(client.connected(Connected::Unreachable), 1);
    // It comes back, and so do we.
    let back = TcpListener::bind(address).await.unwrap();
    sleep(Duration::from_millis(150)).await;
    let question = question(0);
    let any = IpAddr::from([0, 0, 0, 0]);
    let asked = client.links.ask(&peer, &client.name, any, &question);
    tokio::select! {
        said = asked => panic!("{said:?}"),
        accepted = back.accept() => drop(accepted.unwrap()),
    }
}

#[tokio::test]
async fn a_certificate_that_proves_the_name_or_the_address_or_the_key_is_taken() {
    let server = Server::start(Manner::Plain, Some(acceptor())).await;
    let pin = own_pin();
    for identity in [
        identity(Some("resolverd.test"), &[]),
        identity(Some("127.0.0.1"), &[]),
        identity(None, &[&pin]),
        identity(Some("resolverd.test"), &[OTHER_PIN, &pin]),
        // By its key alone: no roots, and a name of its own.
        Identity { roots: None, ..identity(None, &[&pin]) },
    ] {
        let client = Client::new();
        let peer = server.peer(Some(identity.clone()));
        let said = client.ask_many(&peer, 10).await;
        assert!(said.iter().all(Result::is_ok), "{identity:?}: {said:?}");
        assert_eq!(client.connected(Connected::Opened), 1);
    }
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn who_does_not_prove_it_all_is_not_asked_and_the_rule_is_named() {
    let server = Server::start(Manner::Plain, Some(acceptor())).await;
    let pin = own_pin();
    let elsewhere = || Identity {
        roots: Some(vec![CertificateDer::from_pem_slice(ONE.as_bytes()).unwrap()]),
        ..identity(Some("resolverd.test"), &[&pin])
    };
    for (identity, rule, outcome) in [
        (identity(Some("other.test"), &[]), Rule::Name, Connected::CertificateName),
        (identity(Some("192.0.2.1"), &[]), Rule::Name, Connected::CertificateName),
        (identity(None, &[OTHER_PIN]), Rule::Pin, Connected::CertificatePin),
        (identity(Some("resolverd.test"), &[OTHER_PIN]), Rule::Pin, Connected::CertificatePin),
        (identity(Some("other.test"), &[&pin]), Rule::Name, Connected::CertificateName),
        (elsewhere(), Rule::Issuer, Connected::CertificateIssuer),
    ] {
        let client = Client::new();
        let peer = server.peer(Some(identity.clone()));
        let said = client.ask(&peer, 0).await;
        let Err(Failure::Certificate(broken)) = &said else {
            panic!("{identity:?}: {said:?}");
        };
        assert_eq!(broken.rule, rule, "{broken}");
        assert_eq!(client.connected(outcome), 1, "{identity:?}");
    }
    assert_eq!(server.questions(), 0, "somebody else was asked");
}

#[tokio::test]
async fn who_speaks_no_tls_is_not_asked() {
    let server = Server::start(Manner::Plain, None).await;
    let (client, peer) = (Client::new(), server.peer(Some(identity(None, &[OTHER_PIN]))));
    // What it reads of our hello as a length is more than there is: it waits, and so do we.
    let said = client.ask(&peer, 0).await;
    assert!(matches!(said, Err(Failure::Late)), "{said:?}");
    assert_eq!(server.questions(), 0);
    assert_eq!(client.connected(Connected::Timeout), 1);
}

#[tokio::test]
async fn a_session_is_resumed_and_what_it_resumes_was_proven() {
    let server = Server::start(Manner::CloseAfter(1), Some(acceptor())).await;
    let (client, peer) = (Client::new(), server.peer(Some(identity(Some("127.0.0.1"), &[]))));
    for n in 0..3 {
        client.ask(&peer, n).await.unwrap();
    }
    let count = |outcome| client.connected(outcome);
    assert_eq!((count(Connected::Opened), count(Connected::Resumed)), (1, 2));
    // Another identity has sessions of its own.
    let peer = server.peer(Some(identity(None, &[OTHER_PIN])));
    assert!(client.ask(&peer, 0).await.is_err());
}

#[tokio::test]
async fn a_reload_leaves_those_that_are_gone_and_keeps_the_others() {
    let (one, two) =
        (Server::start(Manner::Plain, None).await, Server::start(Manner::Plain, None).await);
    let client = Client::new();
    let (first, second) = (one.peer(None), two.peer(None));
    for peer in [&first, &second] {
        client.ask(peer, 0).await.unwrap();
    }
    client.links.retain(&HashSet::from([first.clone()]));
    for peer in [&first, &second] {
        client.ask(peer, 1).await.unwrap();
    }
    assert_eq!((one.connections(), two.connections()), (1, 2));
    client.links.leave();
    client.ask(&first, 2).await.unwrap();
    assert_eq!(one.connections(), 2);
}

#[tokio::test]
async fn questions_are_padded_where_they_are_encrypted_and_ask_how_long_they_may_be_idle() {
    let plain = Server::start(Manner::Plain, None).await;
    let encrypted = Server::start(Manner::Plain, Some(acceptor())).await;
    for (server, identity) in [(&plain, None), (&encrypted, Some(identity(None, &[&own_pin()])))] {
        let peer = server.peer(identity);
        let spec = UpstreamSpec {
            name: "up".into(),
            address: peer.address,
            protocol: peer.protocol,
            identity: peer.identity,
            zones: Vec::new(),
        };
        let settings = Settings { upstreams: vec![spec], ..settings(&[]) };
        let resolver = Resolver::new(settings, Client::new().metrics);
        for name in ["a.test.", "a-much-longer-name-than-that.test."] {
            let query = Query {
                name: name.parse().unwrap(),
                qtype: 1,
                dnssec_ok: true,
                checking_disabled: false,
                view: 0,
            };
            assert_eq!(resolver.resolve(query).await.rcode, 0);
        }
    }
    let lengths = |server: &Server| server.seen.lock().iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&encrypted), [128, 128]);
    assert!(lengths(&plain).iter().all(|length| *length < 80), "{:?}", lengths(&plain));
    for server in [plain, encrypted] {
        let asks = |message: &Vec<u8>| message.windows(4).any(|w| w == [0, 11, 0, 0]);
        assert!(server.seen.lock().iter().all(asks));
    }
}
