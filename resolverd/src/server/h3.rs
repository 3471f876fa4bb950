//! DNS over HTTP/3 (RFC 8484, RFC 9114): one connection of QUIC, a query in each stream.
//!
//! What is asked and answered is `doh.rs`'s; the way in is `quic.rs`'s, whose acceptor starts
//! the task that runs here. No other is started.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use ::h3::error::{Code, ConnectionError, StreamError};
use ::h3::server::{RequestResolver, RequestStream};
use bytes::{Buf as _, Bytes};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use quinn::Connection;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::QUERY_OCTETS_MAX;
use super::doh::{self, Asked};
use super::guests::Seat;
use super::handler::Handler;
use super::house::{End, House, LAST_ANSWERS, told_to_stop};
use super::https::{HEADERS_OCTETS_MAX, answer, response};
use crate::metrics::{Ended, HttpStatus};
use crate::pipeline::Client;
use crate::resolver::bounded::{BoundedBidi, BoundedConnection};

type Stream = RequestStream<BoundedBidi<Bytes>, Bytes>;

/// Serves one connection until it ends.
pub async fn serve<H: Handler>(
    connection: Connection,
    client: Client,
    seat: &Seat,
    house: &Arc<House<H>>,
) -> End {
    let limits = &house.limits;
    let quic = BoundedConnection::new(connection.clone(), REQUEST_OCTETS_MAX);
    let mut builder = ::h3::server::builder();
    builder.max_field_section_size(HEADERS_OCTETS_MAX.into());
    let mut http = match timeout(limits.handshake, builder.build(quic)).await {
        Ok(Ok(http)) => http,
        Ok(Err(error)) => return ended(&error),
        Err(_) => return End::HandshakeLate,
    };
    let mut streams: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut stopping = house.stopping.clone();
    let opened = Instant::now();
    let (mut active, mut reading) = (opened, true);
    loop {
        if !reading && streams.is_empty() {
            // What was sent last may still be on its way, and a close would overtake it. The
            // client closes when it has all, or we do after some of its round trips.
            let patience = connection.rtt() * ROUND_TRIPS + LEAST_PATIENCE;
            let _ = timeout(patience, connection.closed()).await;
            return End::Done;
        }
        let (until, then) = match (reading, streams.is_empty()) {
            (true, true) => ((active + limits.idle).min(opened + limits.lifetime), End::Idle),
            (true, false) => (opened + limits.lifetime, End::Old),
            (false, _) => (opened + limits.lifetime + LAST_ANSWERS, End::Old),
        };
        let room = reading && streams.len() < limits.streams_max;
        tokio::select! {
            accepted = http.accept(), if room => match accepted {
                Ok(Some(resolver)) => {
                    active = Instant::now();
                    // It may have moved since it came in.
                    let client = Client { addr: connection.remote_address(), ..client };
                    streams.push(Box::pin(exchange(house, client, resolver)));
                    seat.busy();
                }
                // It asks no further.
                Ok(None) => reading = false,
                Err(error) => return ended(&error),
            },
            Some(()) = streams.next() => {
                active = Instant::now();
                if streams.is_empty() {
                    seat.quiet();
                }
            }
            () = sleep_until(until) => match then {
                End::Old if reading => {
                    // GOAWAY; what was asked is answered.
                    let _ = http.shutdown(0).await;
                    reading = false;
                }
                end => return end,
            },
            () = seat.shed() => {
                let code = Code::H3_EXCESSIVE_LOAD.value();
                connection.close(quinn::VarInt::from_u64(code).unwrap_or_default(), b"");
                return End::Shed;
            }
            () = told_to_stop(&mut stopping), if reading => {
                let _ = http.shutdown(0).await;
                reading = false;
            }
        }
    }
}

fn ended(error: &ConnectionError) -> End {
    debug!(%error, "http/3 connection broken");
    match error {
        ConnectionError::Timeout { .. } => End::Idle,
        ConnectionError::Local { .. } => End::Malformed,
        _ => End::Broken,
    }
}

/// One request and its response. What goes wrong here ends the stream alone, but for what h3
/// takes for an error of the connection, which it then closes.
async fn exchange<H: Handler>(
    house: &Arc<House<H>>,
    client: Client,
    resolver: RequestResolver<BoundedConnection, Bytes>,
) {
    let limits = &house.limits;
    let resolved = match timeout(limits.query, resolver.resolve_request()).await {
        Ok(resolved) => resolved,
        Err(_) => return house.refuse(client.transport, Ended::Unfinished),
    };
    let (request, mut stream) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => {
            debug!(%error, "no request");
            return;
        }
    };
    let answered = match doh::read(request.method(), request.uri(), request.headers()) {
        Ok(Asked::Message { query, head }) => {
            answer(house, &client, &query).await.map(|reply| (reply, head))
        }
        Ok(Asked::Content) => match content(house, &mut stream).await {
            Ok(query) => answer(house, &client, &query).await.map(|reply| (reply, false)),
            Err(Some(status)) => Err(status),
            Err(None) => return,
        },
        Err(status) => Err(status),
    };
    let status = *answered.as_ref().err().unwrap_or(&HttpStatus::Ok);
    house.metrics.server_http_responses(client.transport.label(), status).inc();
    let (response, octets) = response(answered, request.method());
    let sent = timeout(limits.write, async {
        stream.send_response(response).await?;
        if !octets.is_empty() {
            stream.send_data(octets).await?;
        }
        stream.finish().await
    });
    match sent.await {
        Ok(Ok(())) => {}
        // The client wants it no more, or is gone.
        Ok(Err(error)) => debug!(%error, "response not sent"),
        Err(_) => {
            stream.stop_stream(Code::H3_REQUEST_CANCELLED);
            house.refuse(client.transport, Ended::Unread);
        }
    }
}

/// The content of a request, in time and in bounds. `None`: the client went away.
async fn content<H: Handler>(
    house: &House<H>,
    stream: &mut Stream,
) -> Result<Vec<u8>, Option<HttpStatus>> {
    let read = async {
        let mut query = Vec::new();
        loop {
            let data = poll_fn(|cx| {
                stream.poll_recv_data(cx).map(|data| {
                    data.map(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
                })
            });
            match data.await {
                Ok(Some(octets)) if query.len() + octets.len() > QUERY_OCTETS_MAX => {
                    return Err(Some(HttpStatus::ContentTooLarge));
                }
                Ok(Some(octets)) => query.extend_from_slice(&octets),
                Ok(None) => return Ok(query),
                Err(StreamError::HeaderTooBig { .. }) => return Err(Some(HttpStatus::BadRequest)),
                Err(_) => return Err(None),
            }
        }
    };
    match timeout(house.limits.query, read).await {
        Ok(read) => read,
        Err(_) => Err(Some(HttpStatus::Timeout)),
    }
}

/// Of one request: its headers, its content with some to spare for the answer 413, and frames.
const REQUEST_OCTETS_MAX: usize = HEADERS_OCTETS_MAX as usize + 4 * QUERY_OCTETS_MAX;

/// For the last answers of a connection to arrive: time for one to be sent again.
const ROUND_TRIPS: u32 = 4;
const LEAST_PATIENCE: Duration = Duration::from_millis(20);
