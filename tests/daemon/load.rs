//! A steady stream of queries, and what became of each.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use lab::{Ask, Namespace, wait};
use rustix::net::sockopt;

/// Asks at an even pace until it is dropped or [finished](Load::finish).
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<io::Result<Vec<Query>>>>,
}

/// One query of the stream.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    pub sent: Instant,
    /// When its answer came.
    pub answered: Option<Instant>,
}

impl Load {
    /// `asks` in turn, `rate` of them a second.
    pub fn start(inside: &Namespace, server: SocketAddr, asks: &[Ask], rate: u32) -> Result<Self> {
        let socket = inside.enter(|| -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            // Room for what comes in while this thread waits for a processor.
            sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_OCTETS)?;
            Ok(socket)
        })??;
        let messages: Vec<Vec<u8>> = asks.iter().map(Ask::bytes).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || stream(&socket, messages, rate, &stopped, &counted));
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// Waits until so many more were sent.
    pub fn runs_for(&self, queries: usize) -> Result<()> {
        let until = self.sent.load(Ordering::Relaxed) + queries;
        let what = format!("{queries} further queries to be sent");
        wait::until(&what, wait::READY, || self.sent.load(Ordering::Relaxed) >= until)
    }

    /// Stops asking, waits for what is under way, and tells all.
    pub fn finish(mut self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("finished before"))?;
        let queries = thread.join().map_err(|_| anyhow!("the stream's thread panicked"))??;
        Ok(Told { queries })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A stream that ended.
pub struct Told {
    pub queries: Vec<Query>,
}

impl Told {
    /// Of those sent from `from` until `to`: how many, and how many were not answered.
    pub fn between(&self, from: Instant, to: Instant) -> (usize, usize) {
        let sent = self.queries.iter().filter(|query| (from..to).contains(&query.sent));
        let (mut all, mut lost) = (0, 0);
        for query in sent {
            all += 1;
            lost += usize::from(query.answered.is_none());
        }
        (all, lost)
    }

    pub fn all(&self) -> (usize, usize) {
        (self.queries.len(), self.queries.iter().filter(|q| q.answered.is_none()).count())
    }

    /// Lost ones in words: when they were sent, after `since`.
    pub fn lost(&self, since: Instant) -> String {
        let lost = self.queries.iter().filter(|query| query.answered.is_none());
        let at: Vec<String> = lost
            .map(|query| {
                format!("{:.3}", query.sent.saturating_duration_since(since).as_secs_f64())
            })
            .collect();
        let shown = at.len().min(SHOWN);
        format!("{} lost, sent at s {}", at.len(), at[..shown].join(" "))
    }

    /// When the last query was sent that got an answer.
    pub fn last_answered(&self) -> Option<Instant> {
        self.queries.iter().filter(|query| query.answered.is_some()).map(|query| query.sent).max()
    }

    /// The longest that an answer took.
    pub fn slowest(&self) -> Duration {
        let took = |query: &Query| Some(query.answered?.saturating_duration_since(query.sent));
        self.queries.iter().filter_map(took).max().unwrap_or_default()
    }
}

fn stream(
    socket: &UdpSocket,
    mut messages: Vec<Vec<u8>>,
    rate: u32,
    stop: &AtomicBool,
    sent: &AtomicUsize,
) -> io::Result<Vec<Query>> {
    let mut queries: Vec<Query> = Vec::new();
    let mut answered = 0;
    let (mut last, mut owed) = (Instant::now(), 0.0);
    let mut buffer = [0; 4_096];
    let mut end = None;
    loop {
        let now = Instant::now();
        match end {
            None if stop.load(Ordering::Relaxed) => end = Some(now + LATE),
            Some(end) if now > end || answered == queries.len() => return Ok(queries),
            _ => {}
        }
        if end.is_none() {
            // A thread that was away for long does not make up for it with a flood.
            owed += (now - last).as_secs_f64() * f64::from(rate);
            owed = owed.min(BURST_MAX);
            last = now;
            while owed >= 1.0 {
                owed -= 1.0;
                let number = queries.len();
                let which = number % messages.len();
                let message = &mut messages[which];
                message[..2].copy_from_slice(&(number as u16).to_be_bytes());
                // A port that is closed for now is told here: the query counts as lost.
                let _ = socket.send(message);
                queries.push(Query { sent: Instant::now(), answered: None });
            }
            sent.store(queries.len(), Ordering::Relaxed);
        }
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) if len >= 12 => {
                    let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                    answered += usize::from(note(&mut queries, id));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of a query before.
                Ok(_) | Err(_) => {}
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Marks the last query of this id. True: it had no answer yet.
fn note(queries: &mut [Query], id: u16) -> bool {
    let Some(last) = queries.len().checked_sub(1) else { return false };
    let back = usize::from((last as u16).wrapping_sub(id));
    let query = last.checked_sub(back).and_then(|at| queries.get_mut(at));
    query.is_some_and(|query| query.answered.replace(Instant::now()).is_none())
}

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(500);
/// Sent at once, at most.
const BURST_MAX: f64 = 64.0;
/// How long the last answers are waited for.
const LATE: Duration = Duration::from_secs(2);
const RECEIVE_OCTETS: usize = 8 << 20;
/// Of lost queries, in an error.
const SHOWN: usize = 20;
