//! The UDP doors: threads that each own a socket on every address.
//!
//! A worker reads a batch, has each message answered from what is known, and
//! sends the replies as a batch: no allocation, two system calls. It looks at
//! its sockets first and sleeps only when they are empty. A message that needs
//! others becomes a task of the runtime, which sends its reply by itself.
//! Nothing is queued here: what does not fit is dropped and counted.
//!
//! Threads: `udp-N`, which end when told to stop or when their worker's handle
//! is dropped. Tasks: one for each miss, which end with the reply.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::Socket;
use tokio::sync::Semaphore;
use tracing::{debug, error};

use super::addresses::is_link_local;
use super::handler::{Begun, Handler};
use super::{QUERY_OCTETS_MAX, ServerError, sockets};
use crate::kernel::datagrams::{self, Datagram, Inbox, Outbox, Source};
use crate::metrics::{Dropped, Metrics};
use crate::pipeline::{Client, Transport};

/// One socket of one worker.
pub struct Door {
    address: SocketAddr,
    socket: Socket,
}

impl Door {
    pub fn open(address: SocketAddr) -> Result<Arc<Door>, ServerError> {
        Ok(Arc::new(Door { address, socket: sockets::udp(address)? }))
    }
}

/// What all workers share.
pub struct House<H> {
    pub handler: Arc<H>,
    pub metrics: Arc<Metrics>,
    pub runtime: tokio::runtime::Handle,
    /// One permit for each miss that may be worked on.
    pub misses: Arc<Semaphore>,
}

/// The handle of one worker.
pub struct Worker {
    mail: Arc<Mail>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn spawn<H: Handler>(number: usize, house: Arc<House<H>>) -> io::Result<Worker> {
        let mail = Arc::new(Mail {
            waiting: AtomicBool::new(false),
            letter: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let thread = Builder::new().name(format!("udp-{number}")).spawn({
            let mail = Arc::clone(&mail);
            move || Loop::new(house, mail).run()
        })?;
        Ok(Worker { mail, thread: Some(thread) })
    }

    /// Replaces the doors. Those that are not in the list any more are emptied
    /// and left; those that stay do not notice.
    pub fn attend(&self, doors: Vec<Arc<Door>>) {
        self.mail.send(|letter| letter.doors = Some(doors));
    }

    /// Empties the doors and ends the thread.
    pub fn stop(&self) {
        self.mail.send(|letter| letter.stop = true);
    }

    /// The thread, to be joined after `stop`.
    pub fn take_thread(&mut self) -> Option<JoinHandle<()>> {
        self.thread.take()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How a worker is told something.
struct Mail {
    waiting: AtomicBool,
    letter: Mutex<Letter>,
    /// Wakes it when it sleeps.
    bell: OwnedFd,
}

#[derive(Default)]
struct Letter {
    doors: Option<Vec<Arc<Door>>>,
    stop: bool,
}

impl Mail {
    fn send(&self, write: impl FnOnce(&mut Letter)) {
        write(&mut self.letter.lock());
        self.waiting.store(true, Ordering::Release);
        // Fails only when the bell rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn take(&self) -> Letter {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut self.letter.lock())
    }
}

struct Loop<H> {
    house: Arc<House<H>>,
    mail: Arc<Mail>,
    inbox: Inbox,
    outbox: Outbox,
}

impl<H: Handler> Loop<H> {
    fn new(house: Arc<House<H>>, mail: Arc<Mail>) -> Loop<H> {
        let inbox = Inbox::new(BATCH, QUERY_OCTETS_MAX);
        Loop { house, mail, inbox, outbox: Outbox::new(BATCH, REPLY_OCTETS) }
    }

    fn run(&mut self) {
        let mut doors: Vec<Arc<Door>> = Vec::new();
        loop {
            self.attend(&doors);
            let letter = self.mail.take();
            if let Some(next) = letter.doors {
                let left = doors.iter().filter(|door| !next.iter().any(|n| Arc::ptr_eq(n, door)));
                left.for_each(|door| self.empty(door));
                doors = next;
            }
            if letter.stop {
                doors.iter().for_each(|door| self.empty(door));
                return;
            }
        }
    }

    /// Serves these doors until there is mail.
    fn attend(&mut self, doors: &[Arc<Door>]) {
        let mail = Arc::clone(&self.mail);
        let mut polled: Vec<PollFd<'_>> = (doors.iter().map(|door| door.socket.as_fd()))
            .chain([mail.bell.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // Doors to look at without asking whether somebody is there.
        let mut busy = vec![true; doors.len()];
        let mut rounds_unpolled = 0;
        while !mail.waiting.load(Ordering::Acquire) {
            for (door, busy) in doors.iter().zip(&mut busy) {
                if *busy {
                    *busy = self.serve(door) > LONELY;
                }
            }
            let wait = !busy.contains(&true);
            if !wait && (doors.len() == 1 || rounds_unpolled < ROUNDS_UNPOLLED_MAX) {
                rounds_unpolled += 1;
                continue;
            }
            rounds_unpolled = 0;
            let timeout = if wait { None } else { Some(&NO_TIME) };
            // An interrupted call reports nothing; then we look at none and ask again.
            if poll(&mut polled, timeout).is_ok() {
                for (polled, busy) in polled.iter().zip(&mut busy) {
                    *busy |= !polled.revents().is_empty();
                }
                if polled.last().is_some_and(|bell| !bell.revents().is_empty()) {
                    return;
                }
            }
        }
    }

    /// Takes what is left in a door before it is closed; not for ever, for
    /// under load it does not become empty.
    fn empty(&mut self, door: &Arc<Door>) {
        for _ in 0..EMPTYING_BATCHES_MAX {
            if self.serve(door) == 0 {
                return;
            }
        }
    }

    /// One batch: reads, answers, sends. Returns how many were read.
    fn serve(&mut self, door: &Arc<Door>) -> usize {
        let received = match self.inbox.receive(door.socket.as_fd()) {
            Ok(received) => received,
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    // Reading it has cleared it; the socket goes on.
                    debug!(address = %door.address, %error, "udp receive failed");
                }
                return 0;
            }
        };
        let mut next = 0;
        while next < received {
            // A message that the handler stumbles over costs its sender the
            // reply, and nobody else theirs.
            let whole = catch_unwind(AssertUnwindSafe(|| {
                while next < received {
                    let index = next;
                    next += 1;
                    if let Some(datagram) = self.inbox.datagram(index) {
                        answer(&self.house, door, &datagram, &mut self.outbox);
                    }
                }
            }));
            if whole.is_err() {
                note_panic();
            }
        }
        let sent = self.outbox.send(door.socket.as_fd());
        if sent.full + sent.refused > 0 {
            let lost = (sent.full + sent.refused) as u64;
            self.house.metrics.packets_dropped(Dropped::Send).inc_by(lost);
        }
        received
    }
}

#[inline]
fn answer<H: Handler>(
    house: &Arc<House<H>>,
    door: &Arc<Door>,
    datagram: &Datagram<'_>,
    outbox: &mut Outbox,
) {
    let dropped = |reason| house.metrics.packets_dropped(reason).inc();
    if datagram.from.port() == 0 {
        return dropped(Dropped::Source);
    }
    if datagram.truncated {
        return dropped(Dropped::Oversize);
    }
    let (local, source) = match datagram.to {
        None => (door.address.ip(), None),
        Some(to) if to.addr != to.local || to.addr.is_multicast() => {
            return dropped(Dropped::Destination);
        }
        Some(to) => {
            // The routing table chooses the interface, but for addresses that
            // exist once on each.
            let scoped = matches!(to.local, std::net::IpAddr::V6(addr) if is_link_local(addr));
            let interface = if scoped { to.interface } else { 0 };
            (to.local, Some(Source { addr: to.local, interface }))
        }
    };
    let client = Client { addr: datagram.from, local, transport: Transport::Udp };
    match house.handler.begin(datagram.octets, &client, outbox.blank()) {
        Begun::Reply => outbox.address(datagram.from, source),
        Begun::Drop => {}
        Begun::Pending(pending) => {
            let Ok(permit) = Arc::clone(&house.misses).try_acquire_owned() else {
                return dropped(Dropped::Busy);
            };
            let house = Arc::clone(house);
            let door = Arc::clone(door);
            let to = datagram.from;
            house.runtime.clone().spawn(async move {
                let mut reply = Vec::with_capacity(REPLY_OCTETS);
                house.handler.finish(pending, &mut reply).await;
                // Empty: nothing is sent, by a rule of policy.
                if !reply.is_empty()
                    && datagrams::send(door.socket.as_fd(), &reply, to, source).is_err()
                {
                    house.metrics.packets_dropped(Dropped::Send).inc();
                }
                // Last: once all permits are back, `stop` takes the sockets as closed.
                drop((door, house));
                drop(permit);
            });
        }
    }
}

/// Logs the first panics one by one and then ever more rarely: whoever found
/// one message that does it can send many.
fn note_panic() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let panics = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
    if panics.is_power_of_two() {
        error!(panics, "a query made the daemon stumble and was dropped");
    }
}

/// Datagrams read and replies sent by one system call. More gains little and
/// makes the first of a batch wait for the last.
const BATCH: usize = 32;

/// Room that a reply's buffer starts with: our largest without being asked for
/// more. It grows when it must, and stays so.
const REPLY_OCTETS: usize = 1_232;

/// A door that gave no more than this is presumed empty and asked by `poll`,
/// which costs less than a look in vain.
const LONELY: usize = 2;

/// With several doors, rounds over the busy ones before the others are asked:
/// below a millisecond.
const ROUNDS_UNPOLLED_MAX: usize = 4;

/// Batches read from a door that is being closed: more than its buffer holds.
const EMPTYING_BATCHES_MAX: usize = 128;

const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
