//! An upstream that passes questions on to Knot and remembers them; it can be slow, dead, or
//! give answers of its own.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Namespace, Upstream};

pub struct Tap {
    upstream: Upstream,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Questions by name, lower-cased, with the last dot.
    asked: Mutex<BTreeMap<String, usize>>,
    dead: AtomicBool,
    delay_millis: AtomicU32,
    generation: AtomicU32,
}

impl Tap {
    /// Passes on to `authority`.
    pub fn before(inside: &Namespace, at: SocketAddr, authority: SocketAddr) -> Result<Self> {
        let socket = inside.enter(|| -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind((authority.ip(), 0))?;
            socket.connect(authority)?;
            socket.set_read_timeout(Some(AUTHORITY))?;
            Ok(socket)
        })??;
        Self::start(inside, at, move |query, _| pass_on(&socket, query))
    }

    /// Answers every question for an address with 10.0.x.y, where x.y is the generation.
    pub fn generations(inside: &Namespace, at: SocketAddr) -> Result<Self> {
        Self::start(inside, at, |query, state| {
            Some(with_address(query, state.generation.load(Ordering::SeqCst)))
        })
    }

    fn start(
        inside: &Namespace,
        at: SocketAddr,
        mut answer: impl FnMut(&[u8], &State) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let upstream = Upstream::start(inside, at, move |query| {
            let name = name_of(query)?;
            *shared.asked.lock().ok()?.entry(name).or_default() += 1;
            if shared.dead.load(Ordering::SeqCst) {
                return None;
            }
            let answered = answer(query, &shared);
            let delay = shared.delay_millis.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(delay.into()));
            answered
        })?;
        Ok(Self { upstream, state })
    }

    pub fn at(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// How often a name was asked for, whatever the type.
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.state.asked.lock();
        asked.map_or(0, |asked| asked.get(name).copied().unwrap_or(0))
    }

    /// All questions for names below a zone.
    pub fn asked_below(&self, zone: &str) -> usize {
        let asked = self.state.asked.lock();
        asked.map_or(0, |a| a.iter().filter(|(n, _)| n.ends_with(zone)).map(|(_, n)| n).sum())
    }

    /// Hears and says nothing.
    pub fn die(&self) {
        self.state.dead.store(true, Ordering::SeqCst);
    }

    pub fn revive(&self) {
        self.state.dead.store(false, Ordering::SeqCst);
    }

    /// Each answer takes so long; one after the other.
    pub fn delay(&self, by: Duration) {
        let millis = u32::try_from(by.as_millis()).unwrap_or(u32::MAX);
        self.state.delay_millis.store(millis, Ordering::SeqCst);
    }

    /// The next generation's answers from now on; gives its address.
    pub fn next_generation(&self) -> String {
        let generation = self.state.generation.fetch_add(1, Ordering::SeqCst) + 1;
        format!("10.0.{}.{}", generation >> 8 & 255, generation & 255)
    }
}

fn pass_on(socket: &UdpSocket, query: &[u8]) -> Option<Vec<u8>> {
    socket.send(query).ok()?;
    let mut buffer = vec![0; 65_535];
    // Answers to questions that were given up may come first.
    for _ in 0..STRAYS_MAX {
        let len = socket.recv(&mut buffer).ok()?;
        if buffer.get(..2) == query.get(..2) {
            return Some(buffer[..len].to_vec());
        }
    }
    None
}

/// The question alone, with one A record of a long life. Without EDNS, which is as good.
fn with_address(query: &[u8], generation: u32) -> Vec<u8> {
    let end = question_end(query).unwrap_or(query.len());
    let mut answer = query[..end].to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80;
    answer[4..12].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x0a\x00");
    answer.extend([(generation >> 8) as u8, generation as u8]);
    answer
}

fn name_of(query: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut at = 12;
    loop {
        let len = usize::from(*query.get(at)?);
        if len == 0 {
            return Some(name);
        }
        let label = query.get(at + 1..at + 1 + len)?;
        name.extend(label.iter().map(|octet| char::from(octet.to_ascii_lowercase())));
        name.push('.');
        at += 1 + len;
    }
}

fn question_end(query: &[u8]) -> Option<usize> {
    let labels = query.get(12..)?.iter().position(|octet| *octet == 0)?;
    Some(12 + labels + 1 + 4)
}

/// The free port of an upstream's first address.
pub fn at(address: SocketAddr) -> Result<SocketAddr> {
    let port = address.port().checked_add(5_300).context("a port")?;
    Ok((address.ip(), port).into())
}

/// The authority is beside us.
const AUTHORITY: Duration = Duration::from_secs(2);
const STRAYS_MAX: usize = 16;
