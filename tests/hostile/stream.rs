//! Questions at an even pace, and what became of each.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use lab::{Ask, Namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

/// Asks until it is dropped or [finished](Stream::finish).
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Asked>>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Asked {
    at: Instant,
    took: Option<Duration>,
    rcode: u8,
    /// Whether the octets of [`FORGED`] were in the answer.
    forged: bool,
}

/// The address that only forgers give.
pub const FORGED: [u8; 4] = [198, 51, 100, 66];

impl Stream {
    /// `rate` questions a second; `ask` makes the one with this number.
    pub fn start(
        inside: &Namespace,
        server: SocketAddr,
        rate: u32,
        ask: impl FnMut(usize) -> Ask + Send + 'static,
    ) -> Result<Self> {
        Self::begin(inside, server, rate, ask, 0)
    }

    /// The same for one whose times are of interest: it comes before others that wait for a
    /// processor, so that what it measures is not its own waiting.
    pub fn measured(
        inside: &Namespace,
        server: SocketAddr,
        rate: u32,
        ask: impl FnMut(usize) -> Ask + Send + 'static,
    ) -> Result<Self> {
        Self::begin(inside, server, rate, ask, FIRST)
    }

    fn begin(
        inside: &Namespace,
        server: SocketAddr,
        rate: u32,
        ask: impl FnMut(usize) -> Ask + Send + 'static,
        priority: i32,
    ) -> Result<Self> {
        let socket = inside.enter(|| -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_OCTETS)?;
            Ok(socket)
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // Of this thread alone (setpriority(2)).
            let _ = rustix::process::setpriority_process(None, priority);
            stream(&socket, rate, ask, &stopped)
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops asking, waits for what is under way, and tells all.
    pub fn finish(mut self) -> Result<Vec<Asked>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("finished before"))?;
        thread.join().map_err(|_| anyhow!("the stream's thread panicked"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn stream(
    socket: &UdpSocket,
    rate: u32,
    mut ask: impl FnMut(usize) -> Ask,
    stop: &AtomicBool,
) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    let (mut last, mut owed) = (Instant::now(), 0.0);
    let mut buffer = [0; 4_096];
    let mut answered = 0;
    let mut end = None;
    loop {
        let now = Instant::now();
        match end {
            None if stop.load(Ordering::Relaxed) => end = Some(now + PATIENCE),
            Some(end) if now > end || answered == all.len() => return all,
            _ => {}
        }
        if end.is_none() {
            owed += (now - last).as_secs_f64() * f64::from(rate);
            // A thread that was away makes up for a tenth of a second, and not for more at once.
            owed = owed.min((f64::from(rate) / 10.0).max(1.0));
            last = now;
            while owed >= 1.0 {
                owed -= 1.0;
                let id = Some(all.len() as u16);
                let message = Ask { id, ..ask(all.len()) }.bytes();
                all.push(Asked { at: Instant::now(), took: None, rcode: 0, forged: false });
                let _ = socket.send(&message);
            }
        }
        let pause = Duration::from_secs_f64((1.0 - owed).max(0.0) / f64::from(rate));
        wait_for_input(socket, pause.clamp(Duration::from_micros(100), LOOK_UP));
        while let Ok(len) = socket.recv(&mut buffer) {
            let Some(&[high, low, _, flags]) = buffer[..len].first_chunk() else { continue };
            // The last one with this id: 65536 later ones have another second.
            let behind = (all.len() as u16).wrapping_sub(u16::from_be_bytes([high, low]));
            let back = if behind == 0 { 65_536 } else { usize::from(behind) };
            let Some(at) = all.len().checked_sub(back) else { continue };
            let asked = &mut all[at];
            if asked.took.is_none() {
                answered += 1;
                asked.took = Some(asked.at.elapsed());
                asked.rcode = flags & 0x0f;
                asked.forged = buffer[..len].windows(4).any(|window| window == FORGED);
            }
        }
    }
}

/// Returns when there is something to read, or after this time.
pub fn wait_for_input(socket: &impl AsFd, time: Duration) {
    let time = Timespec { tv_sec: 0, tv_nsec: time.as_nanos().min(999_999_999) as i64 };
    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time));
}

/// What became of questions asked within some time.
#[derive(Debug, Default)]
pub struct Times {
    pub asked: usize,
    pub lost: usize,
    /// SERVFAIL or REFUSED.
    pub failed: usize,
    pub forged: usize,
    pub p50: Duration,
    pub p99: Duration,
}

impl Times {
    pub fn of(all: &[Asked], from: Instant, to: Instant) -> Self {
        let within: Vec<&Asked> = all.iter().filter(|one| (from..to).contains(&one.at)).collect();
        let mut took: Vec<Duration> = within.iter().filter_map(|one| one.took).collect();
        took.sort_unstable();
        let quantile = |per_cent: usize| took.get(took.len() * per_cent / 100).copied();
        Self {
            asked: within.len(),
            lost: within.len() - took.len(),
            failed: within.iter().filter(|one| matches!(one.rcode, 2 | 5)).count(),
            forged: within.iter().filter(|one| one.forged).count(),
            p50: quantile(50).unwrap_or_default(),
            p99: quantile(99).unwrap_or_default(),
        }
    }

    /// The longest p99 that leaves these clients untouched: twice what it was.
    pub fn p99_max(&self) -> Duration {
        2 * self.p99.max(FINEST)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, lost, failed, p50, p99, .. } = self;
        write!(f, "{asked} asked, {lost} lost, {failed} failed, p50 {p50:?}, p99 {p99:?}")
    }
}

/// Shorter times are those of this process, which has to be woken as well, and on two cores
/// beside the daemon, the servers and who floods.
const FINEST: Duration = Duration::from_millis(1);

/// A nice value.
const FIRST: i32 = -15;

/// How long answers are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(3);

const LOOK_UP: Duration = Duration::from_millis(20);

const BUFFER_OCTETS: usize = 8 << 20;
