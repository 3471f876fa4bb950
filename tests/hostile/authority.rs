//! A server that answers every question after the same time, however many there are.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::Namespace;
use rustix::net::sockopt;

use crate::stream::wait_for_input;

pub struct Server {
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` is told the question and who asks; what it does not answer stays without one.
    pub fn start(
        inside: &Namespace,
        at: Ipv4Addr,
        delay: Duration,
        mut answer: impl FnMut(&[u8], SocketAddr) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let socket = inside.enter(|| UdpSocket::bind((at, 53)))??;
        socket.set_nonblocking(true)?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_OCTETS)?;
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let serve = move || {
            let mut owed: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
            let mut buffer = [0; 4_096];
            while !stopped.load(Ordering::Relaxed) {
                let due =
                    owed.front().map(|(due, ..)| due.saturating_duration_since(Instant::now()));
                wait_for_input(&socket, due.unwrap_or(LOOK_UP).min(LOOK_UP));
                while let Ok((len, client)) = socket.recv_from(&mut buffer) {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let reply = answer(&buffer[..len], client);
                    owed.extend(reply.map(|reply| (Instant::now() + delay, client, reply)));
                }
                while owed.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
                    let Some((_, client, reply)) = owed.pop_front() else { break };
                    let _ = socket.send_to(&reply, client);
                }
            }
        };
        Ok(Self { asked, stop, thread: Some(thread::spawn(serve)) })
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The name has this address, for an hour.
pub fn address(question: &[u8], ip: [u8; 4]) -> Option<Vec<u8>> {
    answer(question, 1, &ip)
}

/// The name has a text of so many octets, rounded to whole strings.
pub fn text(question: &[u8], octets: usize) -> Option<Vec<u8>> {
    let string: Vec<u8> = std::iter::once(255).chain([b'x'; 255]).collect();
    answer(question, 16, &string.repeat(octets / 256))
}

/// There is no such name in `zone`, which is in wire form.
pub fn denial(question: &[u8], zone: &[u8]) -> Option<Vec<u8>> {
    let mut reply = begun(question, 3, [0, 1])?;
    reply.extend_from_slice(zone);
    // SOA, IN, one minute; no names worth telling, and five numbers.
    reply.extend_from_slice(&[0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
    for number in [1_u32, 3_600, 600, 86_400, 60] {
        reply.extend_from_slice(&number.to_be_bytes());
    }
    Some(reply)
}

fn answer(question: &[u8], rtype: u8, data: &[u8]) -> Option<Vec<u8>> {
    let mut reply = begun(question, 0, [1, 0])?;
    reply.extend_from_slice(&[0xc0, 12, 0, rtype, 0, 1, 0, 0, 14, 16]);
    reply.extend_from_slice(&(data.len() as u16).to_be_bytes());
    reply.extend_from_slice(data);
    Some(reply)
}

/// Header and question of an authoritative answer.
fn begun(question: &[u8], rcode: u8, counts: [u8; 2]) -> Option<Vec<u8>> {
    let name = question.get(12..)?.iter().position(|octet| *octet == 0)?;
    let end = 12 + name + 1 + 4;
    let mut reply = question.get(..2)?.to_vec();
    reply.extend_from_slice(&[0x84, rcode, 0, 1, 0, counts[0], 0, counts[1], 0, 0]);
    reply.extend_from_slice(question.get(12..end)?);
    Some(reply)
}

/// Room for what comes while the thread waits for a processor.
const BUFFER_OCTETS: usize = 8 << 20;

/// How often it looks whether to stop.
const LOOK_UP: Duration = Duration::from_millis(50);
