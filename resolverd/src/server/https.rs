//! DNS over HTTP/2 (RFC 8484, RFC 9113): one connection, a query in each stream.
//!
//! What is asked and answered is `doh.rs`'s; here are streams, time and room. No task is
//! started: all streams of a connection are worked on by the task of the connection, which the
//! acceptor in `tcp.rs` started. Only what is asked of others outlives it (see [`House::answer`]).
//!
//! Three things bound what a client makes us hold: the streams that are open at once, reset ones
//! included until they are answered; the octets of answers, past which no further stream is taken;
//! and the time that a socket or a stream takes nothing.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::QUERY_OCTETS_MAX;
use super::doh::{self, Asked};
use super::guests::Seat;
use super::handler::Handler;
use super::house::{Answered, End, House, LAST_ANSWERS, OUTPUT_OCTETS_MAX, told_to_stop};
use super::options::Wishes;
use crate::metrics::{Ended, HttpStatus};
use crate::pipeline::Client;

/// Serves one connection until it ends.
pub async fn serve<H: Handler, S>(
    stream: S,
    client: Client,
    seat: &Seat,
    house: &Arc<House<H>>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limits = &house.limits;
    let stuck = Arc::new(Stuck::default());
    let watched = Watched { stream, stuck: Arc::clone(&stuck) };
    // The preface is part of coming in.
    let mut connection =
        match timeout(limits.handshake, builder(limits.streams_max).handshake(watched)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return ended(&error),
            Err(_) => return End::HandshakeLate,
        };
    let owed = Arc::new(AtomicUsize::new(0));
    let mut streams: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut stopping = house.stopping.clone();
    let opened = Instant::now();
    let (mut active, mut asked_to_go) = (opened, false);
    loop {
        let room =
            streams.len() < limits.streams_max && owed.load(Ordering::Relaxed) < OUTPUT_OCTETS_MAX;
        let now = Instant::now();
        let (until, then) = match (asked_to_go, streams.is_empty()) {
            (true, _) => (opened + limits.lifetime + LAST_ANSWERS, End::Old),
            (false, false) => (opened + limits.lifetime, End::Old),
            (false, true) => {
                let idle = active + limits.idle;
                (idle.min(opened + limits.lifetime), End::Idle)
            }
        };
        // While something is owed, somebody has to look whether it moves.
        let look = if streams.is_empty() && !stuck.is_stuck() { until } else { now + LOOK_EVERY };
        tokio::select! {
            next = next(&mut connection, room) => match next {
                None => return End::Done,
                Some(Err(error)) => return ended(&error),
                Some(Ok((request, respond))) => {
                    active = Instant::now();
                    let exchange = exchange(house, client, request, respond, Arc::clone(&owed));
                    streams.push(Box::pin(exchange));
                    seat.busy();
                }
            },
            Some(()) = streams.next() => {
                active = Instant::now();
                if streams.is_empty() {
                    seat.quiet();
                }
            }
            () = sleep_until(until.min(look)) => {
                if stuck.for_longer_than(limits.write) {
                    return End::Unread;
                }
                if Instant::now() < until {
                    continue;
                }
                match then {
                    End::Old if !asked_to_go => {
                        connection.graceful_shutdown();
                        asked_to_go = true;
                    }
                    // Told that it is over; who is there hears it.
                    End::Idle => return farewell(connection, End::Idle).await,
                    end => return end,
                }
            }
            () = seat.shed() => return End::Shed,
            () = told_to_stop(&mut stopping), if !asked_to_go => {
                connection.graceful_shutdown();
                asked_to_go = true;
            }
        }
    }
}

fn builder(streams_max: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(streams_max).unwrap_or(u32::MAX))
        .max_header_list_size(HEADERS_OCTETS_MAX)
        // A query is at most a quarter of it.
        .initial_window_size(STREAM_WINDOW_OCTETS)
        .initial_connection_window_size(CONNECTION_WINDOW_OCTETS)
        .max_send_buffer_size(OUTPUT_OCTETS_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX);
    builder
}

/// The next stream if there is `room` for it. Moves the connection on either way.
async fn next<S>(
    connection: &mut Connection<S, Bytes>,
    room: bool,
) -> Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if room {
        return connection.accept().await;
    }
    match poll_fn(|cx| connection.poll_closed(cx)).await {
        Ok(()) => None,
        Err(error) => Some(Err(error)),
    }
}

/// Says that nothing more is taken, and waits a moment for it to be sent.
async fn farewell<S>(mut connection: Connection<S, Bytes>, end: End) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connection.abrupt_shutdown(Reason::NO_ERROR);
    let _ = timeout(LOOK_EVERY, poll_fn(|cx| connection.poll_closed(cx))).await;
    end
}

fn ended(error: &h2::Error) -> End {
    debug!(%error, "http/2 connection broken");
    // What goes wrong with the socket is no matter of the protocol.
    if error.is_io() || error.is_remote() { End::Broken } else { End::Malformed }
}

/// One request and its response. What goes wrong here ends the stream alone.
async fn exchange<H: Handler>(
    house: &Arc<House<H>>,
    client: Client,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    owed: Arc<AtomicUsize>,
) {
    let (head, mut body) = request.into_parts();
    let answered = match doh::read(&head.method, &head.uri, &head.headers) {
        Ok(Asked::Message { query, head }) => {
            answer(house, &client, &query).await.map(|r| (r, head))
        }
        Ok(Asked::Content) => match content(house, &mut body).await {
            Ok(query) => answer(house, &client, &query).await.map(|reply| (reply, false)),
            Err(Some(status)) => Err(status),
            Err(None) => return,
        },
        Err(status) => Err(status),
    };
    let status = *answered.as_ref().err().unwrap_or(&HttpStatus::Ok);
    house.metrics.server_http_responses(client.transport.label(), status).inc();
    let (response, octets) = response(answered, &head.method);
    let owes = Owed::new(owed, octets.len());
    let Ok(mut stream) = respond.send_response(response, octets.is_empty()) else { return };
    if !octets.is_empty() && timeout(house.limits.write, send(&mut stream, octets)).await.is_err() {
        stream.send_reset(Reason::CANCEL);
        house.refuse(client.transport, Ended::Unread);
    }
    drop(owes);
    let _ = timeout(house.limits.query, drain(&mut body)).await;
}

/// Takes what still comes of a content that was refused: a client that hears of a reset while it
/// sends does not look for the response (curl is one).
async fn drain(body: &mut RecvStream) {
    let mut left = DRAINED_OCTETS_MAX;
    while let Some(Ok(octets)) = body.data().await {
        let _ = body.flow_control().release_capacity(octets.len());
        let Some(rest) = left.checked_sub(octets.len()) else { return };
        left = rest;
    }
}

/// What is sent: a reply, with or without its content, or why there is none.
pub fn response(
    answered: Result<(Vec<u8>, bool), HttpStatus>,
    method: &http::Method,
) -> (Response<()>, Bytes) {
    match answered {
        Ok((reply, head_only)) => {
            let response = doh::found(&reply);
            (response, if head_only { Bytes::new() } else { Bytes::from(reply) })
        }
        Err(status) => {
            let (response, text) = doh::refused(status);
            let silent = *method == http::Method::HEAD;
            (response, if silent { Bytes::new() } else { Bytes::from_static(text.as_bytes()) })
        }
    }
}

/// The reply to a query that came over HTTP, of either version.
pub async fn answer<H: Handler>(
    house: &House<H>,
    client: &Client,
    query: &[u8],
) -> Result<Vec<u8>, HttpStatus> {
    match house.answer(client, query, Wishes::of(query)).await {
        Answered::Reply(reply) => Ok(reply),
        Answered::NoQuery => Err(HttpStatus::BadRequest),
        Answered::Busy => Err(HttpStatus::Busy),
        Answered::Failed => Err(HttpStatus::Failed),
    }
}

/// The content of a request, in time and in bounds. `None`: the client went away.
async fn content<H: Handler>(
    house: &House<H>,
    body: &mut RecvStream,
) -> Result<Vec<u8>, Option<HttpStatus>> {
    let read = async {
        let mut query = Vec::new();
        while let Some(octets) = body.data().await {
            let octets = octets.map_err(|_| None)?;
            if query.len() + octets.len() > QUERY_OCTETS_MAX {
                return Err(Some(HttpStatus::ContentTooLarge));
            }
            query.extend_from_slice(&octets);
            // Room for as much again; a stream that is gone needs none.
            let _ = body.flow_control().release_capacity(octets.len());
        }
        Ok(query)
    };
    match timeout(house.limits.query, read).await {
        Ok(read) => read,
        Err(_) => Err(Some(HttpStatus::Timeout)),
    }
}

/// Hands the octets over as the client makes room for them.
async fn send(stream: &mut SendStream<Bytes>, mut octets: Bytes) {
    while !octets.is_empty() {
        stream.reserve_capacity(octets.len());
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(octets.len()),
            // Reset by the client, or the connection is gone.
            _ => return,
        };
        let piece = octets.split_to(room);
        if stream.send_data(piece, octets.is_empty()).is_err() {
            return;
        }
    }
}

/// Octets of an answer that was made and is not taken yet.
struct Owed {
    sum: Arc<AtomicUsize>,
    octets: usize,
}

impl Owed {
    fn new(sum: Arc<AtomicUsize>, octets: usize) -> Owed {
        sum.fetch_add(octets, Ordering::Relaxed);
        Owed { sum, octets }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

/// Since when a socket takes nothing.
#[derive(Default)]
struct Stuck(parking_lot::Mutex<Option<Instant>>);

impl Stuck {
    fn note(&self, stuck: bool) {
        let mut since = self.0.lock();
        match stuck {
            true => {
                since.get_or_insert_with(Instant::now);
            }
            false => *since = None,
        }
    }

    fn is_stuck(&self) -> bool {
        self.0.lock().is_some()
    }

    fn for_longer_than(&self, bound: std::time::Duration) -> bool {
        self.0.lock().is_some_and(|since| since.elapsed() > bound)
    }
}

/// A stream that notes when it takes nothing.
struct Watched<S> {
    stream: S,
    stuck: Arc<Stuck>,
}

impl<S> Watched<S> {
    fn noted<T>(&self, poll: Poll<T>) -> Poll<T> {
        self.stuck.note(poll.is_pending());
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = pin!(&mut self.stream).poll_write(cx, octets);
        self.noted(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = pin!(&mut self.stream).poll_flush(cx);
        self.noted(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}

/// The head of a request, as HTTP/2 and HTTP/3 count it: the longest query in base64url, and as
/// much again for what browsers add.
pub const HEADERS_OCTETS_MAX: u32 = 16 << 10;

/// A query, and some to spare.
const STREAM_WINDOW_OCTETS: u32 = 16 << 10;
/// What all streams of a connection may have sent us unread; HTTP/2 begins with no less.
const CONNECTION_WINDOW_OCTETS: u32 = 64 << 10;

/// Of a content that is not looked at; a client that sends more has its stream reset.
const DRAINED_OCTETS_MAX: usize = 64 << 10;

/// Streams that were reset and are remembered; and those that were reset before we looked at
/// them, past which the connection ends ("rapid reset").
const RESET_STREAMS_MAX: usize = 20;

/// While answers are owed, whether they move is looked at so often.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
