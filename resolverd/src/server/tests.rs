//! The doors over real loopback sockets, with a handler that echoes.
//!
//! A message is its own reply, but for its first octet that is not zero: `P` is answered after
//! a while (the octet after it, in units of 10 ms), `D` not at all, `X` is a
//! panic, `S` holds the worker up (in the same units), `B` is answered with the
//! octet after it, in KiB, and `L` is followed in the reply by the address that
//! was asked.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::metrics::{Build, Dropped};
use crate::pipeline::Client;

mod encrypted;
mod https;
mod quic;
mod tcp;
mod tls;
mod udp;
mod whole;

/// A process that holds an address until this is dropped.
struct Foreign(std::process::Child);

impl Foreign {
    fn hold(address: SocketAddr, transport: Transport) -> Foreign {
        Foreign::start(&format!("{} {address}", name(transport)))
    }

    fn hold_shared(address: SocketAddr) -> Foreign {
        Foreign::start(&format!("shared {address}"))
    }

    fn start(what: &str) -> Foreign {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::tests::whole::hold", "--ignored", "--nocapture"])
            .env(HOLD, what)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"held");
        Foreign(child)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

const HOLD: &str = "RESOLVERD_TEST_HOLD";

struct Echo;

impl Handler for Echo {
    type Pending = Vec<u8>;

    fn begin(&self, message: &[u8], client: &Client, out: &mut Vec<u8>) -> Begun<Vec<u8>> {
        out.clear();
        let said = said(message);
        match said.first() {
            Some(b'D') => return Begun::Drop,
            Some(b'P') => return Begun::Pending(message.to_vec()),
            Some(b'X') => std::panic::resume_unwind(Box::new("asked to")),
            Some(b'S') => {
                sleep(Duration::from_millis(u64::from(said[1]) * 10));
                out.extend_from_slice(message);
            }
            Some(b'B') => out.resize(usize::from(said[1]) << 10, b'B'),
            Some(b'L') => out.extend(format!("L{}", client.local).bytes()),
            _ => out.extend_from_slice(message),
        }
        Begun::Reply
    }

    async fn finish(&self, pending: Vec<u8>, out: &mut Vec<u8>) {
        let tens = said(&pending).get(1).copied().unwrap_or(1);
        tokio::time::sleep(Duration::from_millis(u64::from(tens) * 10)).await;
        out.clear();
        out.extend_from_slice(&pending);
    }
}

/// What is behind an identifier of zero, which is all that QUIC takes.
fn said(message: &[u8]) -> &[u8] {
    message.strip_prefix(&[0, 0]).unwrap_or(message)
}

/// A server on a port of its own, with the runtime it runs in.
struct House {
    server: Server<Echo>,
    metrics: Arc<Metrics>,
    port: u16,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn on(ips: &[&str], workers: usize) -> House {
        House::with(ips, workers, Limits::default())
    }

    fn with(ips: &[&str], workers: usize, limits: Limits) -> House {
        House::try_on(free_port(), ips, workers, limits).unwrap()
    }

    fn try_on(
        port: u16,
        ips: &[&str],
        workers: usize,
        limits: Limits,
    ) -> Result<House, ServerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let metrics = Arc::new(Metrics::new(Build { version: "test", abi: 0, kernel_path: false }));
        let listening = at_port(ips, port).into();
        let settings =
            Settings { listening, certificate: None, workers, limits, proxies: Vec::new() };
        let inside = runtime.enter();
        let server = Server::start(Arc::new(Echo), settings, Arc::clone(&metrics))?;
        drop(inside);
        Ok(House { server, metrics, port, runtime })
    }

    fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.port)
    }

    fn relisten(&self, ips: &[&str]) -> Result<(), ServerError> {
        self.server.relisten(at_port(ips, self.port))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at("127.0.0.1")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn at_port(ips: &[&str], port: u16) -> Vec<SocketAddr> {
    ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect()
}

/// Below the ephemeral ports, so that no other test's client takes one; apart
/// for each process.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 200) as u16 * 100;
    loop {
        let port = 10_000 + start + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let anywhere = |ip: &str| (ip.parse::<IpAddr>().unwrap(), port);
        if UdpSocket::bind(anywhere("0.0.0.0")).is_ok()
            && UdpSocket::bind(anywhere("::")).is_ok()
            && TcpListener::bind(anywhere("0.0.0.0")).is_ok()
            && TcpListener::bind(anywhere("::")).is_ok()
        {
            return port;
        }
    }
}

fn client(ip: &str) -> UdpSocket {
    let client = UdpSocket::bind((ip, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ask_back(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let (len, _) = client.recv_from(&mut buffer).expect("a reply in time");
    buffer.truncate(len);
    buffer
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The next message; `None` when the server has closed.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing in time"),
        Err(_) => return None,
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    Some(message)
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        sleep(Duration::from_millis(5));
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
