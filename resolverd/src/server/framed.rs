//! One connection whose queries stand one behind the other (RFC 7766, RFC 7858): read, answered
//! in the order that answers are ready, written.
//!
//! ```text
//!            ┌────────────── read ◄─────────────┐ room for queries and answers
//!   client ──┤                                  │
//!            └─► frames ─► begin ─┬─► reply ────┴─► write ─► client
//!                                 └─► finish ─────────┘
//! ```
//!
//! Runs in the task that `tcp.rs` started for it. Tasks: one for each miss, which ends with its
//! reply whether or not the connection still wants it, for others may.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::QUERY_OCTETS_MAX;
use super::guests::Seat;
use super::handler::{Begun, Handler};
use super::house::{End, House, LAST_ANSWERS, OUTPUT_OCTETS_MAX, told_to_stop};
use super::options::{self, Wishes};
use crate::metrics::Dropped;
use crate::pipeline::Client;

pub struct Connection<H: Handler> {
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
    /// Everything written has left for the socket; TLS may hold some back.
    flushed: bool,
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
    pub fn new(house: Arc<House<H>>, client: Client, seat: Seat) -> Connection<H> {
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
            flushed: true,
            reading: true,
            opened: now,
            active: now,
            incomplete: None,
            unread: None,
        }
    }

    pub async fn run<R, W>(mut self, mut reader: R, mut writer: W) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let end = self.serve(&mut reader, &mut writer).await;
        // What was asked of others is finished for those who ask next.
        self.flights.detach_all();
        if end == End::Done || end == End::Idle {
            // Whether the client hears it is its own affair; over TLS it takes
            // room in the socket, which there may be none of.
            let _ = timeout(self.house.limits.write, writer.shutdown()).await;
        }
        end
    }

    async fn serve<R, W>(&mut self, reader: &mut R, writer: &mut W) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let house = Arc::clone(&self.house);
        let mut stopping = house.stopping.clone();
        loop {
            if let Err(end) = self.take_queries() {
                return end;
            }
            let writing = self.written < self.output.len() || !self.flushed;
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
                wrote = write(writer, &self.output[self.written..]), if writing => match wrote {
                    Err(_) => return End::Broken,
                    Ok((octets, flushed)) => self.wrote(octets, flushed),
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
                () = told_to_stop(&mut stopping), if self.reading => {
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
        let wishes = Wishes::of(message);
        match self.house.handler.begin(message, &self.client, &mut self.reply) {
            Begun::Drop => {}
            Begun::Reply => {
                let mut reply = std::mem::take(&mut self.reply);
                self.grant(&mut reply, wishes);
                self.owe(&reply);
                self.reply = reply;
            }
            Begun::Pending(pending) => {
                let Ok(permit) = Arc::clone(&self.house.misses).try_acquire_owned() else {
                    self.house.metrics.packets_dropped(Dropped::Busy).inc();
                    return;
                };
                let handler = Arc::clone(&self.house.handler);
                let (padding, keepalive) = self.granted(wishes);
                self.flights.spawn(async move {
                    let mut reply = Vec::new();
                    handler.finish(pending, &mut reply).await;
                    drop(permit);
                    if !reply.is_empty() {
                        options::grant(&mut reply, padding, keepalive);
                    }
                    reply
                });
            }
        }
    }

    /// Padding hides nothing where everybody can read along; the time-out is
    /// told to who asks (RFC 7828 section 3.3.2).
    fn granted(&self, wishes: Wishes) -> (bool, Option<Duration>) {
        let padding = wishes.padding && self.client.transport.is_encrypted();
        (padding, wishes.keepalive.then_some(self.house.limits.idle))
    }

    fn grant(&self, reply: &mut Vec<u8>, wishes: Wishes) {
        let (padding, keepalive) = self.granted(wishes);
        options::grant(reply, padding, keepalive);
    }

    /// Puts a reply behind those to be written, its length before it, so that
    /// both leave in one piece.
    fn owe(&mut self, reply: &[u8]) {
        debug_assert!(reply.len() <= usize::from(u16::MAX), "a reply longer than its length field");
        if reply.is_empty() {
            // Nothing is sent, by a rule of policy.
            return;
        }
        let Ok(len) = u16::try_from(reply.len()) else { return };
        self.output.extend_from_slice(&len.to_be_bytes());
        self.output.extend_from_slice(reply);
        self.unread.get_or_insert_with(Instant::now);
    }

    fn wrote(&mut self, octets: usize, flushed: bool) {
        let now = Instant::now();
        self.written += octets;
        self.active = now;
        self.unread = Some(now);
        self.flushed = flushed;
        if self.written == self.output.len() {
            self.output.clear();
            self.output.shrink_to(OUTPUT_KEPT_OCTETS);
            self.written = 0;
            if flushed {
                self.unread = None;
            }
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

/// Writes what is taken, and flushes: TLS takes octets before the socket does.
/// Says how many were taken, and whether all of them have left.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, octets: &[u8]) -> io::Result<(usize, bool)> {
    poll_fn(|cx| {
        let taken = match octets.is_empty() {
            true => 0,
            false => match ready!(Pin::new(&mut *writer).poll_write(cx, octets))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => taken,
            },
        };
        match flush(writer, cx) {
            // Only here nothing has happened that must be told.
            Poll::Pending if taken == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok((taken, false))),
            Poll::Ready(done) => Poll::Ready(done.map(|()| (taken, true))),
        }
    })
    .await
}

fn flush<W: AsyncWrite + Unpin>(writer: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(writer).poll_flush(cx)
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

/// The length before each message.
const LENGTH_OCTETS: usize = 2;

/// Read at once: some ten ordinary queries, or one of the longest.
const READ_OCTETS: usize = LENGTH_OCTETS + QUERY_OCTETS_MAX;

/// Room for answers that a connection keeps when it has none to write.
const OUTPUT_KEPT_OCTETS: usize = 4 << 10;
