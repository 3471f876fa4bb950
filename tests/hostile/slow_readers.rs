//! Clients by the thousand who ask over TCP, TLS and QUIC for large answers and read none.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Namespace, run, wait};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::authority::{Server, address, text};
use crate::site::{OTHERS, Site, TARGET, memory, mib};
use crate::stream::{Stream, Times};
use crate::{calm, campaign, need_lab};

#[test]
fn slow_readers_by_the_thousand_leave_udp_untouched() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    for n in 0..CLIENTS {
        site.client.address("c0", &format!("{}/24", client(n)))?;
    }
    let _others = Server::start(&site.upstream, OTHERS, Duration::from_millis(10), |asked, _| {
        address(asked, [192, 0, 2, 1])
    })?;
    let _large = Server::start(&site.upstream, TARGET, Duration::ZERO, |asked, _| {
        text(asked, LARGE_OCTETS)
    })?;
    let daemon = site.daemon(&doors(&site)?, "[dnssec]\nvalidate = false\n")?;
    site.warm("c.others.test.").with_context(|| daemon.log())?;
    let large = Ask::new(LARGE, "TXT").edns(4_096);
    site.client.ask(site.at(53), &large).context("the large answer")?;

    let start = |name: fn(usize) -> String| {
        Stream::measured(&site.client, site.at(53), 200, move |n| Ask::new(&name(n), "A"))
    };
    let cached = start(|_| "c.others.test.".into())?;
    let fresh = start(|n| format!("f{n}.others.test."))?;
    thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    thread::sleep(calm()?);
    let before = memory(daemon.pid(), "VmRSS")?;
    let gathering = Instant::now();
    let held = Held::start(&site)?;
    // Handshakes by the thousand are another test: here is what their guests do afterwards.
    let most = wait_for_the_most(&daemon)?;
    let gathered = Instant::now();
    let mut peak = memory(daemon.pid(), "VmRSS")?;
    let end = gathered + campaign()?;
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(500));
        peak = peak.max(memory(daemon.pid(), "VmRSS")?);
        let open = Open::of(&daemon)?;
        ensure!(open.tcp <= PLACES && open.tls <= PLACES && open.quic <= PLACES, "{open:?}");
    }
    let ended = Instant::now();
    let during = Open::of(&daemon)?;
    drop(held);
    println!("open after {:?}: {most:?}; at the end: {during:?}", gathered - gathering);
    for (who, stream) in [("cached", cached), ("fresh", fresh)] {
        let all = stream.finish()?;
        let before = Times::of(&all, begun, gathering);
        let during = Times::of(&all, gathered, ended);
        println!("{who} names before: {before}\n{who} names during: {during}");
        ensure!(during.p99 <= before.p99_max(), "{who} names: p99 {:?}", during.p99);
        ensure!(during.lost + during.failed <= during.asked / 1_000, "{who} names: {during}");
    }
    ensure!(most.all() >= 2_000.0, "slow readers by the thousand are no {most:?}");
    emptied(&daemon)?;
    let after = memory(daemon.pid(), "VmRSS")?;
    // What they held is free for others: they come once more, and it takes no more than before.
    let held = Held::start(&site)?;
    let most = wait_for_the_most(&daemon)?;
    let again = memory(daemon.pid(), "VmRSS")?;
    drop(held);
    ensure!(most.all() >= 2_000.0, "they did not come again: {most:?}");
    emptied(&daemon)?;
    let [before, peak, after, again] = [before, peak, after, again].map(mib);
    println!(
        "resident before {before:.1} MiB, at most {peak:.1} MiB, after {after:.1} MiB, \
         when they came again {again:.1} MiB"
    );
    let bound = before + mib(3 * PLACES as u64 * CONNECTION_OCTETS);
    ensure!(peak <= bound, "{bound:.1} MiB are the most");
    ensure!(again <= peak * 1.25, "what was released is not used again");
    Ok(())
}

fn emptied(daemon: &Daemon) -> Result<()> {
    wait::until("the places to be free", Duration::from_secs(30), || {
        Open::of(daemon).is_ok_and(|open| open.all() < 0.5)
    })
}

/// Connections that the daemon has.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    tcp: f64,
    tls: f64,
    quic: f64,
}

impl Open {
    fn of(daemon: &Daemon) -> Result<Self> {
        let encrypted =
            |transport| daemon.metric("resolverd_server_connections", &[("transport", transport)]);
        let tcp = daemon.metric("resolverd_server_tcp_connections", &[])?;
        Ok(Self { tcp, tls: encrypted("tls")?, quic: encrypted("quic")? })
    }

    fn all(&self) -> f64 {
        self.tcp + self.tls + self.quic
    }
}

/// Waits until no more come.
fn wait_for_the_most(daemon: &Daemon) -> Result<Open> {
    let (mut most, mut since) = (Open::default(), Instant::now());
    let end = Instant::now() + GATHERING_MAX;
    while since.elapsed() < Duration::from_secs(2) && Instant::now() < end {
        let open = Open::of(daemon)?;
        if open.all() > most.all() + 10.0 {
            (most, since) = (open, Instant::now());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(most)
}

/// Those who hold connections; all go when it is dropped.
struct Held {
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Held {
    fn start(site: &Site) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (dns, encrypted) = (site.at(53), site.at(853));
        let inside = Namespace::existing(site.client.name()).context("the client's namespace")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = async move {
            let mut all = tokio::task::JoinSet::new();
            let tls = Arc::new(trusting(b"dot")?);
            let quic = QuicClientConfig::try_from(trusting(b"doq")?)?;
            let quic = quiet(quinn::ClientConfig::new(Arc::new(quic)));
            for n in 0..CLIENTS {
                let endpoint = quinn::Endpoint::client((client(n), 0).into())?;
                for _ in 0..EACH {
                    all.spawn(again(stopped.clone(), move || over_tcp(client(n), dns)));
                    let tls = Arc::clone(&tls);
                    all.spawn(again(stopped.clone(), move || {
                        over_tls(client(n), encrypted, Arc::clone(&tls))
                    }));
                    let (endpoint, quic) = (endpoint.clone(), quic.clone());
                    all.spawn(again(stopped.clone(), move || {
                        over_quic(endpoint.clone(), encrypted, quic.clone())
                    }));
                }
            }
            while all.join_next().await.is_some() {}
            anyhow::Ok(())
        };
        let thread = thread::spawn(move || {
            let done = inside.enter(move || runtime.block_on(work));
            if let Err(error) | Ok(Err(error)) = done {
                eprintln!("the slow readers: {error:#}");
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connects, and again when the connection is closed, until it is to stop.
async fn again<C, F>(mut stopped: watch::Receiver<bool>, connect: C)
where
    C: Fn() -> F,
    F: Future<Output = Result<()>>,
{
    let holding = async {
        loop {
            let _ = connect().await;
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = holding => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn connected(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // As little as the kernel grants: what is not read stays with the daemon.
    socket.set_recv_buffer_size(1_024)?;
    socket.bind((from, 0).into())?;
    Ok(socket.connect(to).await?)
}

async fn over_tcp(from: Ipv4Addr, to: SocketAddr) -> Result<()> {
    let mut stream = connected(from, to).await?;
    stream.write_all(&questions()).await?;
    sleep(HELD).await;
    Ok(())
}

async fn over_tls(from: Ipv4Addr, to: SocketAddr, config: Arc<ClientConfig>) -> Result<()> {
    let stream = connected(from, to).await?;
    let name = ServerName::from(to.ip());
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.write_all(&questions()).await?;
    stream.flush().await?;
    sleep(HELD).await;
    Ok(())
}

async fn over_quic(
    endpoint: quinn::Endpoint,
    to: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<()> {
    let connection = endpoint.connect_with(config, to, "slow.test")?.await?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (mut send, receive) = connection.open_bi().await?;
        // RFC 9250 section 4.2.1: the id is zero.
        send.write_all(&framed(0)).await?;
        send.finish()?;
        streams.push(receive);
    }
    connection.closed().await;
    Ok(())
}

/// As many as the daemon works on at once over one connection.
fn questions() -> Vec<u8> {
    (1..=64).flat_map(framed).collect()
}

fn framed(id: u16) -> Vec<u8> {
    let message = Ask { id: Some(id), ..Ask::new(LARGE, "TXT").edns(4_096) }.bytes();
    [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
}

/// Windows of a few octets, and no sign of life but what keeps the connection.
fn quiet(mut config: quinn::ClientConfig) -> quinn::ClientConfig {
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(64_u32.into());
    transport.receive_window(256_u32.into());
    config.transport_config(Arc::new(transport));
    config
}

/// A client that believes whoever it meets: it means harm, not to be safe.
fn trusting(protocol: &[u8]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// The lines of `[server]` for TLS and QUIC, with a certificate that is made here.
fn doors(site: &Site) -> Result<String> {
    let path = |name: &str| site.folder().path().join(name);
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=slow.test"]);
    openssl.args(["-addext", "subjectAltName=DNS:slow.test"]);
    openssl.arg("-keyout").arg(path("key.pem")).arg("-out").arg(path("cert.pem"));
    run(&mut openssl)?;
    Ok(format!(
        "edns-size = 4096\ntls-listen = [\"{0}\"]\nquic-listen = [\"{0}\"]\n\
         tls-cert = \"{1}\"\ntls-key = \"{2}\"\n",
        site.at(853),
        path("cert.pem").display(),
        path("key.pem").display()
    ))
}

/// The address of a client.
fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 53, 1, 100 + n)
}

const LARGE: &str = "large.target.test.";
const LARGE_OCTETS: usize = 3_584;
/// Addresses that come, and connections of each over each transport: more than there are places
/// (`connections-per-client-max` 64, and 1024 of all).
const CLIENTS: u8 = 20;
const EACH: usize = 64;
/// Streams that a client opens on a connection over QUIC.
const STREAMS: usize = 16;
/// `tcp-clients-max`, `tls-clients-max`, `quic-clients-max`.
const PLACES: f64 = 1_024.0;
/// What a place may take of the daemon's memory, whatever its holder does.
const CONNECTION_OCTETS: u64 = 256 << 10;
/// How long a client stays: `Limits::write`, after which it is left by the daemon, and a second.
const HELD: Duration = Duration::from_secs(6);
/// The longest that it takes them all to come.
const GATHERING_MAX: Duration = Duration::from_secs(60);
