//! Paths with a length: a relay in front of servers that takes its time.
//!
//! A kernel without netem has no delay of its own. The relay listens where servers are known to
//! be, and passes on what comes to the same address on another port, after as long as the path is
//! said to be. Over UDP it puts its own id in place of the sender's while a query is under way;
//! nothing else is touched.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

/// Relays in front of some addresses. Gone when dropped.
#[derive(Debug)]
pub struct Delay {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Delay {
    /// Listens on port 53 of each address, and passes on to `port` there after the time that
    /// stands with it: the time of a round trip.
    pub fn start(inside: &Namespace, port: u16, paths: &[(IpAddr, Duration)]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut delay = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        for &(address, length) in paths {
            let (listen, behind) = ((address, 53).into(), (address, port).into());
            let sockets = inside.enter(|| Sockets::open(listen, behind))?;
            let Sockets { front, back, tcp } =
                sockets.with_context(|| format!("a relay on {listen}"))?;
            let path = Arc::new(Path { front, back, length, under_way: Mutex::default() });
            let queries = {
                let (path, stop) = (Arc::clone(&path), Arc::clone(&stop));
                move || path.queries(&stop)
            };
            let answers = {
                let stop = Arc::clone(&stop);
                move || path.answers(&stop)
            };
            let streams = {
                let (stop, inside) = (Arc::clone(&stop), inside.name().to_owned());
                move || streams(&tcp, behind, length, &inside, &stop)
            };
            delay.threads.push(thread::spawn(queries));
            delay.threads.push(thread::spawn(answers));
            delay.threads.push(thread::spawn(streams));
        }
        Ok(delay)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Sockets {
    front: UdpSocket,
    back: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    fn open(listen: SocketAddr, behind: SocketAddr) -> io::Result<Self> {
        let front = UdpSocket::bind(listen)?;
        let back = UdpSocket::bind((listen.ip(), 0))?;
        back.connect(behind)?;
        back.set_read_timeout(Some(LOOK_UP))?;
        let tcp = TcpListener::bind(listen)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { front, back, tcp })
    }
}

/// The way of datagrams to one address.
struct Path {
    front: UdpSocket,
    back: UdpSocket,
    length: Duration,
    /// By the relay's id: who asked, and under which id.
    under_way: Mutex<HashMap<u16, (SocketAddr, [u8; 2])>>,
}

impl Path {
    fn queries(&self, stop: &AtomicBool) {
        let mut due: BinaryHeap<Reverse<(Instant, Vec<u8>)>> = BinaryHeap::new();
        let mut next = 0_u16;
        let mut buffer = [0; 65_535];
        while !stop.load(Ordering::Relaxed) {
            while let Some(Reverse((at, _))) = due.peek() {
                if *at > Instant::now() {
                    break;
                }
                if let Some(Reverse((_, query))) = due.pop() {
                    let _ = self.back.send(&query);
                }
            }
            let wait = due.peek().map_or(LOOK_UP, |Reverse((at, _))| {
                at.saturating_duration_since(Instant::now()).clamp(SHORTEST, LOOK_UP)
            });
            let _ = self.front.set_read_timeout(Some(wait));
            let Ok((len, client)) = self.front.recv_from(&mut buffer) else { continue };
            if len < 12 || due.len() >= UNDER_WAY_MAX {
                continue;
            }
            let mut query = buffer[..len].to_vec();
            next = next.wrapping_add(1);
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.insert(next, (client, [query[0], query[1]]));
            query[..2].copy_from_slice(&next.to_be_bytes());
            due.push(Reverse((Instant::now() + self.length, query)));
        }
    }

    fn answers(&self, stop: &AtomicBool) {
        let mut buffer = [0; 65_535];
        while !stop.load(Ordering::Relaxed) {
            let Ok(len) = self.back.recv(&mut buffer) else { continue };
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((client, own)) = under_way.remove(&id) {
                buffer[..2].copy_from_slice(&own);
                let _ = self.front.send_to(&buffer[..len], client);
            }
        }
    }
}

fn streams(
    tcp: &TcpListener,
    behind: SocketAddr,
    length: Duration,
    inside: &str,
    stop: &AtomicBool,
) {
    let mut conversations = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = tcp.accept() else {
            thread::sleep(SHORTEST);
            continue;
        };
        let Some(inside) = Namespace::existing(inside) else { return };
        conversations.push(thread::spawn(move || {
            // A round trip for the handshake, and one for each query.
            thread::sleep(length);
            let _ = converse(stream, behind, length, &inside);
        }));
    }
    for conversation in conversations {
        let _ = conversation.join();
    }
}

fn converse(
    mut front: TcpStream,
    behind: SocketAddr,
    length: Duration,
    inside: &Namespace,
) -> io::Result<()> {
    front.set_nonblocking(false)?;
    front.set_read_timeout(Some(IDLE))?;
    let connected = inside.enter(|| TcpStream::connect_timeout(&behind, IDLE));
    let mut back = connected.map_err(io::Error::other)??;
    back.set_read_timeout(Some(IDLE))?;
    loop {
        let query = framed(&mut front)?;
        thread::sleep(length);
        back.write_all(&query)?;
        let answer = framed(&mut back)?;
        front.write_all(&answer)?;
    }
}

fn framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 2];
    stream.read_exact(&mut message)?;
    let len = usize::from(u16::from_be_bytes([message[0], message[1]]));
    message.resize(2 + len, 0);
    stream.read_exact(&mut message[2..])?;
    Ok(message)
}

/// How often a thread looks whether to stop.
const LOOK_UP: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_secs(2);
/// Further queries of one address are lost, as on a path that is full.
const UNDER_WAY_MAX: usize = 10_000;
