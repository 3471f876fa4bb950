//! The TCP doors (RFC 7766): pipelined queries, answers in the order they are
//! ready, and a bound on everything that a client can keep us holding.
//!
//! Tasks: one acceptor for each address, which empties its backlog and ends
//! when told to; one for each connection, which ends by its own limits, when
//! it is shed, or when the server stops; one for each miss, which ends with its
//! reply whether or not the connection still wants it, for others may.
//!
//! A connection:
//!
//! ```text
//!            ┌────────────── read ◄─────────────┐ room for queries and answers
//!   client ──┤                                  │
//!            └─► frames ─► begin ─┬─► reply ────┴─► write ─► client
//!                                 └─► finish ─────────┘
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::guests::{Guests, Seat};
use super::handler::{Begun, Handler};
use super::{QUERY_OCTETS_MAX, TcpLimits};
use crate::log;
use crate::metrics::{Dropped, Metrics};
use crate::pipeline::{Client, Transport};

/// What all connections share.
pub struct House<H> {
    pub handler: Arc<H>,
    pub metrics: Arc<Metrics>,
    pub limits: TcpLimits,
    pub guests: Arc<Guests>,
    /// One permit for each miss that may be worked on.
    pub misses: Arc<Semaphore>,
    /// True once no further query is read.
    pub stopping: watch::Receiver<bool>,
}

/// The handle of the listener on one address.
pub struct Acceptor {
    task: JoinHandle<()>,
    quit: Arc<Notify>,
}

impl Acceptor {
    /// Call it inside the runtime.
    pub fn start<H: Handler>(
        listener: std::net::TcpListener,
        house: Arc<House<H>>,
    ) -> io::Result<Acceptor> {
        let listener = TcpListener::from_std(listener)?;
        let quit = Arc::new(Notify::new());
        let task = tokio::spawn(accept_all(listener, house, Arc::clone(&quit)));
        Ok(Acceptor { task, quit })
    }

    /// Takes what was connected already and closes the listener. Connections go on.
    pub fn quit(&self) {
        self.quit.notify_one();
    }

    /// Waits until the listener is closed, after `quit`.
    pub async fn ended(&mut self) {
        // It cannot be cancelled, and what a panic says was said by itself.
        let _ = (&mut self.task).await;
    }

    pub fn is_listening(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.quit();
    }
}

async fn accept_all<H: Handler>(listener: TcpListener, house: Arc<House<H>>, quit: Arc<Notify>) {
    let mut left = BACKLOG_LEFT_MAX;
    let mut quitting = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = quit.notified(), if !quitting => {
                quitting = true;
                continue;
            }
            accepted = listener.accept() => accepted,
            () = std::future::ready(()), if quitting => return,
        };
        match accepted {
            Ok((stream, addr)) => welcome(stream, addr, &house),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: others must leave first.
                warn!(%error, "tcp connection not accepted");
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
        if quitting {
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }
}

fn welcome<H: Handler>(stream: TcpStream, addr: SocketAddr, house: &Arc<House<H>>) {
    let Some(seat) = house.guests.admit(addr.ip()) else {
        house.metrics.server_tcp_refused.inc();
        return;
    };
    // It may be gone already; then there is nobody to serve.
    let Ok(local) = stream.local_addr() else { return };
    // Answers are written whole; waiting to join them only delays them.
    let _ = stream.set_nodelay(true);
    let client = Client { addr, local: local.ip(), transport: Transport::Tcp };
    house.metrics.server_tcp_connections.inc();
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let end = Connection::new(Arc::clone(&house), client, seat).run(stream).await;
        house.metrics.server_tcp_connections.dec();
        debug!(client = %log::client(addr), ?end, "tcp connection ended");
    });
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All answered; the client had closed its side, or we asked no further.
    Done,
    /// Nothing asked and nothing owed for the idle time-out.
    Idle,
    /// A query was begun and not completed in time.
    Unfinished,
    /// The client does not take its answers.
    Unread,
    /// Lived longer than a connection may, answers owed included.
    Old,
    /// Left for a newcomer, or because the server stops at once.
    Shed,
    /// A length that no query has.
    Malformed,
    /// Broken off by the other side.
    Broken,
}

struct Connection<H: Handler> {
    house: Arc<House<H>>,
    client: Client,
    seat: Seat,
    /// Read and not yet answered.
    input: BytesMut,
    /// To be written, from `written` on.
    output: Vec<u8>,
    written: usize,
    /// The reply being made.
    reply: Vec<u8>,
    flights: JoinSet<Vec<u8>>,
    /// Further queries are wanted.
    reading: bool,
    opened: Instant,
    /// When the last query came or the last answer went.
    active: Instant,
    /// Since when the query at the front of `input` is incomplete.
    incomplete: Option<Instant>,
    /// Since when the client takes none of `output`.
    unread: Option<Instant>,
}

impl<H: Handler> Connection<H> {
    fn new(house: Arc<House<H>>, client: Client, seat: Seat) -> Connection<H> {
        let now = Instant::now();
        Connection {
            house,
            client,
            seat,
            input: BytesMut::new(),
            output: Vec::new(),
            written: 0,
            reply: Vec::new(),
            flights: JoinSet::new(),
            reading: true,
            opened: now,
            active: now,
            incomplete: None,
            unread: None,
        }
    }

    async fn run(mut self, mut stream: TcpStream) -> End {
        let end = self.serve(&mut stream).await;
        // What was asked of others is finished for those who ask next.
        self.flights.detach_all();
        if end == End::Done || end == End::Idle {
            // Whether the client hears it is its own affair.
            let _ = stream.shutdown().await;
        }
        end
    }

    async fn serve(&mut self, stream: &mut TcpStream) -> End {
        let (mut reader, mut writer) = stream.split();
        let house = Arc::clone(&self.house);
        let mut stopping = house.stopping.clone();
        loop {
            if let Err(end) = self.take_queries() {
                return end;
            }
            let writing = self.written < self.output.len();
            if !self.reading && self.flights.is_empty() && !writing {
                return End::Done;
            }
            let room = self.has_room();
            let (wake, then) = self.deadline();
            if room && self.reading {
                // Room for one query of any length we take.
                self.input.reserve(READ_OCTETS);
            }
            tokio::select! {
                read = reader.read_buf(&mut self.input), if room && self.reading => match read {
                    Ok(0) => self.reading = false,
                    Ok(_) => {}
                    Err(_) => return End::Broken,
                },
                wrote = writer.write(&self.output[self.written..]), if writing => match wrote {
                    Ok(0) | Err(_) => return End::Broken,
                    Ok(octets) => self.wrote(octets),
                },
                Some(landed) = self.flights.join_next() => {
                    // One that panicked has no reply; its client asks again.
                    if let Ok(reply) = landed {
                        self.owe(&reply);
                    }
                    if self.flights.is_empty() {
                        self.seat.quiet();
                    }
                }
                () = sleep_until(wake) => match then {
                    // Those that are being answered get their answers.
                    End::Old if self.reading => self.reading = false,
                    end => return end,
                },
                () = self.seat.shed() => return End::Shed,
                // The sender outlives us or has stopped for good.
                _ = stopping.wait_for(|stopping| *stopping), if self.reading => {
                    self.reading = false;
                }
            }
        }
    }

    /// Answers or sends on its way what is complete in `input`, as far as there
    /// is room.
    fn take_queries(&mut self) -> Result<(), End> {
        let mut taken = false;
        while self.has_room() {
            match Frame::at_front(&self.input) {
                Frame::Incomplete => break,
                Frame::Malformed => return Err(End::Malformed),
                Frame::Complete(len) => {
                    self.input.advance(LENGTH_OCTETS);
                    let message = self.input.split_to(len);
                    self.incomplete = None;
                    taken = true;
                    self.begin(&message);
                }
            }
        }
        let now = Instant::now();
        if taken {
            self.active = now;
            if self.flights.is_empty() { self.seat.quiet() } else { self.seat.busy() }
        }
        // While we do not read, it is not the client who keeps it incomplete.
        let waits = !self.input.is_empty() && self.has_room();
        self.incomplete = if waits { self.incomplete.or(Some(now)) } else { None };
        Ok(())
    }

    fn begin(&mut self, message: &[u8]) {
        match self.house.handler.begin(message, &self.client, &mut self.reply) {
            Begun::Drop => {}
            Begun::Reply => {
                let reply = std::mem::take(&mut self.reply);
                self.owe(&reply);
                self.reply = reply;
            }
            Begun::Pending(pending) => {
                let Ok(permit) = Arc::clone(&self.house.misses).try_acquire_owned() else {
                    self.house.metrics.packets_dropped(Dropped::Busy).inc();
                    return;
                };
                let handler = Arc::clone(&self.house.handler);
                self.flights.spawn(async move {
                    let mut reply = Vec::new();
                    handler.finish(pending, &mut reply).await;
                    drop(permit);
                    reply
                });
            }
        }
    }

    /// Puts a reply behind those to be written, its length before it, so that
    /// both leave in one piece.
    fn owe(&mut self, reply: &[u8]) {
        debug_assert!(reply.len() <= usize::from(u16::MAX), "a reply longer than its length field");
        let Ok(len) = u16::try_from(reply.len()) else { return };
        self.output.extend_from_slice(&len.to_be_bytes());
        self.output.extend_from_slice(reply);
        self.unread.get_or_insert_with(Instant::now);
    }

    fn wrote(&mut self, octets: usize) {
        let now = Instant::now();
        self.written += octets;
        self.active = now;
        self.unread = Some(now);
        if self.written == self.output.len() {
            self.output.clear();
            self.output.shrink_to(OUTPUT_KEPT_OCTETS);
            self.written = 0;
            self.unread = None;
        }
    }

    /// Whether one more query can be taken.
    fn has_room(&self) -> bool {
        self.flights.len() < self.house.limits.queries_in_flight_max
            && self.output.len() - self.written < OUTPUT_OCTETS_MAX
    }

    /// When to stop waiting, and what that means.
    fn deadline(&self) -> (Instant, End) {
        let limits = &self.house.limits;
        let mut first = match self.reading {
            true => (self.opened + limits.lifetime, End::Old),
            // Answers owed are made in bounded time; this is for those that are not.
            false => (self.opened + limits.lifetime + LAST_ANSWERS, End::Old),
        };
        let mut consider = |at: Instant, end| {
            if at < first.0 {
                first = (at, end);
            }
        };
        if let Some(since) = self.unread {
            consider(since + limits.write, End::Unread);
        } else if self.flights.is_empty() && self.input.is_empty() {
            consider(self.active + limits.idle, End::Idle);
        }
        if let (Some(since), true) = (self.incomplete, self.reading) {
            consider(since + limits.query, End::Unfinished);
        }
        first
    }
}

/// What stands at the front of the octets read.
enum Frame {
    Incomplete,
    Complete(usize),
    Malformed,
}

impl Frame {
    /// Two octets of length, then the message (RFC 1035 section 4.2.2).
    fn at_front(input: &[u8]) -> Frame {
        let Some((length, rest)) = input.split_first_chunk::<LENGTH_OCTETS>() else {
            return Frame::Incomplete;
        };
        match usize::from(u16::from_be_bytes(*length)) {
            0 => Frame::Malformed,
            len if len > QUERY_OCTETS_MAX => Frame::Malformed,
            len if len > rest.len() => Frame::Incomplete,
            len => Frame::Complete(len),
        }
    }
}

/// Errors of a connection that died before it was accepted (accept(2)): the
/// next one is as good as ever.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}

/// The length before each message.
const LENGTH_OCTETS: usize = 2;

/// Read at once: some ten ordinary queries, or one of the longest.
const READ_OCTETS: usize = LENGTH_OCTETS + QUERY_OCTETS_MAX;

/// Answers waiting to be read by the client; past it we take no further query.
/// One answer may be longer: it is 64 KiB at most.
const OUTPUT_OCTETS_MAX: usize = 64 << 10;

/// Room for answers that a connection keeps when it has none to write.
const OUTPUT_KEPT_OCTETS: usize = 4 << 10;

/// Connections taken from the backlog of a listener that is being closed.
const BACKLOG_LEFT_MAX: usize = 1_024;

/// For answers still owed when a connection is too old.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Between two attempts when the system has no descriptor for a connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
