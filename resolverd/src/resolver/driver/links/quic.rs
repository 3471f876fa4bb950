//! A connection of QUIC, a question in each stream (RFC 9250); and the way there for HTTP/3.
//!
//! Each connection has an endpoint, and so a socket, of its own: quinn moves its datagrams in a
//! task that ends with it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, ReadToEndError,
    RecvStream, TokioRuntime, TransportConfig, VarInt,
};
use tokio::time::timeout;

use crate::config::Protocol;
use crate::resolver::line::IDLE;
use crate::resolver::options;

use super::setup::{SETUP_TIME_MAX, Tls};
use super::{Failure, Keeper, Kept};

pub(super) struct Asker {
    connection: Connection,
}

/// A connection, and whether it resumed a session.
pub(super) async fn connect(
    tls: &Tls,
    protocol: Protocol,
    server: SocketAddr,
    source: IpAddr,
) -> Result<(Endpoint, Connection, bool), Failure> {
    let here = |error| Failure::Here(Arc::new(error));
    let socket = UdpSocket::bind((source, 0)).map_err(here)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime));
    let endpoint = endpoint.map_err(here)?;
    let crypto = QuicClientConfig::try_from(Arc::clone(&tls.config));
    let mut config = ClientConfig::new(Arc::new(crypto.map_err(super::setup::tls)?));
    config.transport_config(Arc::new(transport(protocol)));
    tls.begin();
    let name = tls.name(server).to_str().into_owned();
    let connecting = endpoint.connect_with(config, server, &name);
    let connecting = connecting.map_err(|error| Failure::Protocol(error.to_string().into()))?;
    let connection = connecting.await.map_err(|error| match (tls.broken(), error) {
        (Some(failure), _) => failure,
        (None, ConnectionError::TimedOut) => Failure::Late,
        (None, error @ ConnectionError::TransportError(_)) => super::setup::tls(error),
        (None, error) => super::setup::there(error.into()),
    })?;
    // RFC 9001 section 8.1 has the handshake fail without one; here is that it is the one meant.
    let agreed = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let agreed = agreed.and_then(|data| data.protocol);
    if agreed.as_deref() != tls.config.alpn_protocols.first().map(Vec::as_slice) {
        return Err(Failure::Protocol("it agreed on another protocol".into()));
    }
    let resumed = tls.is_resumed();
    Ok((endpoint, connection, resumed))
}

fn transport(protocol: Protocol) -> TransportConfig {
    // HTTP/3 has one for control and two for QPACK (RFC 9114 section 6.2), and may have some
    // that mean nothing; DNS has none (RFC 9250 section 4.2).
    let unidirectional = if protocol == Protocol::H3 { H3_UNIDIRECTIONAL } else { 0_u32 };
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(0_u32.into())
        .max_concurrent_uni_streams(unidirectional.into())
        .stream_receive_window(STREAM_WINDOW_OCTETS.into())
        .receive_window(CONNECTION_WINDOW_OCTETS.into())
        .datagram_receive_buffer_size(None)
        // Ours ends it earlier where nobody waits; this is for servers that are gone.
        .max_idle_timeout((IDLE + Duration::from_secs(10)).try_into().ok());
    config
}

pub(super) fn start(
    endpoint: Endpoint,
    connection: Connection,
    kept: Arc<Kept>,
) -> (Asker, Keeper) {
    let asker = Asker { connection: connection.clone() };
    let keeper = async move {
        tokio::select! {
            _ = connection.closed() => {}
            () = kept.over() => {}
        }
        kept.leave();
        close(&endpoint, &connection, DOQ_NO_ERROR).await;
        None
    };
    (asker, keeper.boxed())
}

/// Closes a connection, and waits until that was said.
pub(super) async fn close(endpoint: &Endpoint, connection: &Connection, code: VarInt) {
    connection.close(code, b"");
    let _ = timeout(SETUP_TIME_MAX, endpoint.wait_idle()).await;
}

impl Asker {
    pub(super) async fn ask(&self, question: &[u8]) -> Result<Vec<u8>, Failure> {
        let lost = |_| Failure::Lost;
        let (mut send, receive) = self.connection.open_bi().await.map_err(lost)?;
        let mut receive = Answer { stream: receive, done: false };
        // RFC 9250 section 4.2: a length, and the end of the stream behind the question.
        let mut framed = (question.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        send.write_all(&framed).await.map_err(|_| Failure::Lost)?;
        let _ = send.finish();
        let read = receive.stream.read_to_end(2 + usize::from(u16::MAX)).await;
        receive.done = true;
        let framed = match read {
            Ok(framed) => framed,
            Err(ReadToEndError::TooLong) => return Err(self.malformed()),
            Err(ReadToEndError::Read(quinn::ReadError::Reset(code))) => {
                let text = format!("the question's stream was reset with code {code}");
                return Err(Failure::Protocol(text.into()));
            }
            Err(ReadToEndError::Read(_)) => return Err(Failure::Lost),
        };
        // The identifier is 0 (RFC 9250 section 4.2.1), and nothing is said of TCP (5.5.2).
        match framed.split_first_chunk::<2>() {
            Some((length, message))
                if usize::from(u16::from_be_bytes(*length)) == message.len()
                    && message.starts_with(&[0, 0])
                    && options::keepalive(message).is_none() =>
            {
                Ok(message.to_vec())
            }
            _ => Err(self.malformed()),
        }
    }

    /// RFC 9250 section 4.3.3: the connection is of no more use.
    fn malformed(&self) -> Failure {
        self.connection.close(DOQ_PROTOCOL_ERROR, b"");
        Failure::Protocol("octets that are no answer over QUIC".into())
    }
}

/// What comes on the stream of a question. Dropped before its end, the server is told that nobody
/// waits any more (RFC 9250 section 4.3.1).
struct Answer {
    stream: RecvStream,
    done: bool,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.stream.stop(DOQ_REQUEST_CANCELLED);
        }
    }
}

/// RFC 9250 section 8.4.
const DOQ_NO_ERROR: VarInt = VarInt::from_u32(0);
const DOQ_PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const DOQ_REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);

const H3_UNIDIRECTIONAL: u32 = 8;

/// What a server may have sent that nobody read yet: an answer of any length, and several.
const STREAM_WINDOW_OCTETS: u32 = 80 << 10;
const CONNECTION_WINDOW_OCTETS: u32 = 512 << 10;
