//! The doors over QUIC: DNS over QUIC (RFC 9250), and the way in for HTTP/3, which has a file of
//! its own.
//!
//! Tasks: one acceptor for each address, which ends when told to; one for each connection, which
//! ends by its own limits, when it is shed, or when the server stops; those of quinn, which move
//! datagrams and end with their endpoint and connections. Only what is asked of others outlives
//! a connection (see [`House::answer`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, ReadError, ReadToEndError,
    RecvStream, SendStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::guests::Seat;
use super::handler::Handler;
use super::house::{Answered, End, House, LAST_ANSWERS, Limits, OUTPUT_OCTETS_MAX, told_to_stop};
use super::options::Wishes;
use super::{QUERY_OCTETS_MAX, ServerError, h3, sockets};
use crate::log;
use crate::metrics::Ended;
use crate::pipeline::{Client, Transport};

/// The handle of one address.
pub struct Gate {
    endpoint: Endpoint,
    task: JoinHandle<()>,
    quit: Arc<Notify>,
}

impl Gate {
    /// Call it inside the runtime.
    pub fn open<H: Handler>(
        address: SocketAddr,
        transport: Transport,
        house: Arc<House<H>>,
    ) -> Result<Gate, ServerError> {
        let socket = sockets::quic(address, transport)?;
        let failed = |error| ServerError::Open { address, transport, error };
        let config = config(&house, transport);
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)
            .map_err(failed)?;
        let quit = Arc::new(Notify::new());
        let accepting = accept_all(endpoint.clone(), address, transport, house, Arc::clone(&quit));
        let task = tokio::spawn(accepting);
        Ok(Gate { endpoint, task, quit })
    }

    /// Takes no further connection; those that are there go on.
    pub fn quit(&self) {
        self.endpoint.set_server_config(None);
        self.quit.notify_one();
    }

    pub fn is_listening(&self) -> bool {
        !self.task.is_finished()
    }

    /// Closes what is still open, and waits until that was said.
    pub async fn close(&self) {
        self.endpoint.close(NO_ERROR, b"");
        let _ = timeout(LAST_WORD, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.quit();
        // A socket of UDP is not shared with those who come later: its connections end with it.
        self.endpoint.close(NO_ERROR, b"");
    }
}

fn config<H>(house: &House<H>, transport: Transport) -> ServerConfig {
    let crypto = match transport {
        Transport::H3 => Arc::clone(&house.identity.h3),
        _ => Arc::clone(&house.identity.doq),
    };
    let mut config = ServerConfig::with_crypto(crypto);
    config
        .transport_config(Arc::new(transport_config(&house.limits, transport)))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_OCTETS_MAX)
        .incoming_buffer_size_total(INCOMING_OCTETS_MAX * 16);
    config
}

fn transport_config(limits: &Limits, transport: Transport) -> TransportConfig {
    let mut config = TransportConfig::default();
    let streams = u32::try_from(limits.streams_max).unwrap_or(u32::MAX);
    // HTTP/3 has one for control and two for QPACK (RFC 9114 section 6.2), and may have some
    // that mean nothing; DNS has none (RFC 9250 section 4.2).
    let unidirectional = if transport == Transport::H3 { H3_UNIDIRECTIONAL } else { 0_u32 };
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(unidirectional.into())
        .stream_receive_window(STREAM_WINDOW_OCTETS.into())
        .receive_window(CONNECTION_WINDOW_OCTETS.into())
        .send_window(OUTPUT_OCTETS_MAX as u64)
        .datagram_receive_buffer_size(None)
        // Ours ends it earlier where nothing is asked; this is for clients that are gone.
        .max_idle_timeout(limits.idle.max(GONE_AFTER).try_into().ok());
    config
}

async fn accept_all<H: Handler>(
    endpoint: Endpoint,
    address: SocketAddr,
    transport: Transport,
    house: Arc<House<H>>,
    quit: Arc<Notify>,
) {
    let coming_in = Arc::new(AtomicUsize::new(0));
    loop {
        let incoming = tokio::select! {
            biased;
            () = quit.notified() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        welcome(incoming, address, transport, &house, &coming_in);
    }
}

fn welcome<H: Handler>(
    incoming: Incoming,
    address: SocketAddr,
    transport: Transport,
    house: &Arc<House<H>>,
    coming_in: &Arc<AtomicUsize>,
) {
    let guests = house.guests(transport);
    let addr = incoming.remote_address();
    // Anybody's address can be written on a datagram. While there is room enough that costs
    // nobody anything; past it who comes must first show that he is where he says (RFC 9000
    // section 8.1.2), so that nobody loses a place to an address that is made up.
    let crowded =
        coming_in.load(Ordering::Relaxed) >= COMING_IN_TRUSTED || guests.is_half_full(addr.ip());
    if crowded && !incoming.remote_address_validated() {
        // Cannot fail: who is not validated can be sent back.
        let _ = incoming.retry();
        return;
    }
    let Some(seat) = guests.admit(addr.ip()) else {
        house.refuse(transport, Ended::Full);
        incoming.refuse();
        return;
    };
    let Ok(connecting) = incoming.accept() else {
        house.ended(transport, End::Handshake);
        return;
    };
    let local = connecting.local_ip().unwrap_or_else(|| address.ip());
    let client = Client { addr, local, transport };
    let counted = ComingIn::new(coming_in);
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let open = house.count(transport);
        let mut stopping = house.stopping.clone();
        let connected = tokio::select! {
            connected = timeout(house.limits.handshake, connecting) => match connected {
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => {
                    debug!(%error, "no handshake");
                    Err(End::Handshake)
                }
                Err(_) => Err(End::HandshakeLate),
            },
            () = seat.shed() => Err(End::Shed),
            () = told_to_stop(&mut stopping) => Err(End::Done),
        };
        drop(counted);
        let end = match connected {
            Err(end) => end,
            Ok(connection) if transport == Transport::H3 => {
                h3::serve(connection, client, &seat, &house).await
            }
            Ok(connection) => serve(connection, client, &seat, &house).await,
        };
        house.ended(transport, end);
        drop(open);
        let transport = transport.label().as_str();
        debug!(client = %log::client(addr), transport, ?end, "connection ended");
    });
}

/// DNS over QUIC on one connection.
async fn serve<H: Handler>(
    connection: Connection,
    client: Client,
    seat: &Seat,
    house: &House<H>,
) -> End {
    let limits = &house.limits;
    let mut stopping = house.stopping.clone();
    let mut streams = FuturesUnordered::new();
    let opened = Instant::now();
    let (mut active, mut reading) = (opened, true);
    loop {
        if !reading && streams.is_empty() {
            connection.close(NO_ERROR, b"");
            return End::Done;
        }
        let (until, then) = match (reading, streams.is_empty()) {
            (true, true) => ((active + limits.idle).min(opened + limits.lifetime), End::Idle),
            (true, false) => (opened + limits.lifetime, End::Old),
            (false, _) => (opened + limits.lifetime + LAST_ANSWERS, End::Old),
        };
        let room = reading && streams.len() < limits.streams_max;
        tokio::select! {
            accepted = connection.accept_bi(), if room => match accepted {
                Ok((send, receive)) => {
                    active = Instant::now();
                    // It may have moved since it came in.
                    let client = Client { addr: connection.remote_address(), ..client };
                    streams.push(exchange(house, client, send, receive));
                    seat.busy();
                }
                Err(error) => return ended(&error),
            },
            Some(done) = streams.next() => {
                active = Instant::now();
                if done == Exchanged::ProtocolError {
                    connection.close(PROTOCOL_ERROR, b"");
                    return End::Malformed;
                }
                if streams.is_empty() {
                    seat.quiet();
                }
            }
            () = sleep_until(until) => match then {
                End::Old if reading => reading = false,
                end => {
                    connection.close(NO_ERROR, b"");
                    return end;
                }
            },
            () = seat.shed() => {
                connection.close(EXCESSIVE_LOAD, b"");
                return End::Shed;
            }
            () = told_to_stop(&mut stopping), if reading => reading = false,
        }
    }
}

/// How a connection was ended that we did not end.
pub fn ended(error: &ConnectionError) -> End {
    match error {
        ConnectionError::TimedOut => End::Idle,
        ConnectionError::TransportError(_) => End::Malformed,
        _ => End::Broken,
    }
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchanged {
    Done,
    /// RFC 9250 section 4.3.3: this ends the connection.
    ProtocolError,
}

/// One query and its reply.
async fn exchange<H: Handler>(
    house: &House<H>,
    client: Client,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Exchanged {
    let read = timeout(house.limits.query, receive.read_to_end(FRAME_OCTETS_MAX)).await;
    let frame = match read {
        Ok(Ok(frame)) => frame,
        Ok(Err(ReadToEndError::TooLong)) => return Exchanged::ProtocolError,
        // Whoever takes his query back wants no answer (RFC 9250 section 4.3.1).
        Ok(Err(ReadToEndError::Read(ReadError::Reset(_)))) => {
            let _ = send.reset(REQUEST_CANCELLED);
            return Exchanged::Done;
        }
        Ok(Err(ReadToEndError::Read(_))) => return Exchanged::Done,
        Err(_) => {
            house.refuse(client.transport, Ended::Unfinished);
            let _ = receive.stop(REQUEST_CANCELLED);
            let _ = send.reset(REQUEST_CANCELLED);
            return Exchanged::Done;
        }
    };
    let Some((query, wishes)) = read_frame(&frame) else { return Exchanged::ProtocolError };
    let reply = match house.answer(&client, query, wishes).await {
        Answered::Reply(reply) => reply,
        Answered::NoQuery => return Exchanged::ProtocolError,
        Answered::Busy => {
            let _ = send.reset(EXCESSIVE_LOAD);
            return Exchanged::Done;
        }
        Answered::Failed => {
            let _ = send.reset(INTERNAL_ERROR);
            return Exchanged::Done;
        }
    };
    let Ok(len) = u16::try_from(reply.len()) else { return Exchanged::Done };
    let framed = [&len.to_be_bytes()[..], &reply].concat();
    // Until the client has all of it: what is closed before that is lost.
    let sent = timeout(house.limits.write, async {
        send.write_all(&framed).await.is_ok() && send.finish().is_ok() && {
            matches!(send.stopped().await, Ok(None))
        }
    });
    match sent.await {
        Ok(true) => {}
        // The client wants it no more, or is gone.
        Ok(false) => {
            let _ = send.reset(REQUEST_CANCELLED);
        }
        Err(_) => {
            house.refuse(client.transport, Ended::Unread);
            let _ = send.reset(EXCESSIVE_LOAD);
        }
    }
    Exchanged::Done
}

/// The query in all that came on a stream: its length, then itself and nothing behind it, with
/// the identifier 0 (RFC 9250 sections 4.2 and 4.2.1), and nothing asked of a connection over TCP
/// (section 5.5.2).
fn read_frame(frame: &[u8]) -> Option<(&[u8], Wishes)> {
    let (len, query) = frame.split_first_chunk::<2>()?;
    let id = query.first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*len)) != query.len() || *id != [0, 0] {
        return None;
    }
    let wishes = Wishes::of(query);
    (!wishes.keepalive).then_some((query, wishes))
}

/// One in the middle of coming in.
struct ComingIn(Arc<AtomicUsize>);

impl ComingIn {
    fn new(all: &Arc<AtomicUsize>) -> ComingIn {
        all.fetch_add(1, Ordering::Relaxed);
        ComingIn(Arc::clone(all))
    }
}

impl Drop for ComingIn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// RFC 9250 section 4.3.
pub const NO_ERROR: VarInt = VarInt::from_u32(0);
const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// The length and the longest query.
const FRAME_OCTETS_MAX: usize = 2 + QUERY_OCTETS_MAX;

/// What a client may have sent us unread: of one stream a query and some to spare, of all
/// streams that of a dozen.
const STREAM_WINDOW_OCTETS: u32 = 16 << 10;
const CONNECTION_WINDOW_OCTETS: u32 = 256 << 10;

/// Streams of HTTP/3 that carry no request.
const H3_UNIDIRECTIONAL: u32 = 8;

/// Who says nothing at all for so long is gone, however patient we are.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// First datagrams of connections that wait to be taken, and what each may hold.
const INCOMING_MAX: usize = 1_024;
const INCOMING_OCTETS_MAX: u64 = 64 << 10;

/// Handshakes under way before who comes must show his address.
const COMING_IN_TRUSTED: usize = 64;

/// For saying that a connection is closed, when we stop.
const LAST_WORD: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(query: &[u8]) -> Vec<u8> {
        [&(query.len() as u16).to_be_bytes()[..], query].concat()
    }

    #[test]
    fn a_frame_is_one_whole_query_with_the_identifier_zero() {
        let query = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        let whole = framed(&query);
        assert_eq!(read_frame(&whole), Some((&query[..], Wishes::default())));
        for len in 0..whole.len() {
            assert_eq!(read_frame(&whole[..len]), None, "{len}");
        }
        let two = [whole.clone(), whole].concat();
        assert_eq!(read_frame(&two), None);
        let mut other = query;
        other[1] = 7;
        assert_eq!(read_frame(&framed(&other)), None);
    }

    #[test]
    fn keepalive_is_no_option_here_and_padding_is() {
        let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1];
        query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 12, 0, 0]);
        let frame = framed(&query);
        let (_, wishes) = read_frame(&frame).unwrap();
        assert!(wishes.padding);
        let at = query.len() - 3;
        query[at] = 11;
        assert_eq!(read_frame(&framed(&query)), None);
    }
}
