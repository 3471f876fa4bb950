//! The way to a connection: sockets, and TLS as it is spoken with servers.
//!
//! TLS 1.3 and 1.2, sessions resumed, and never early data: a question that is sent before the
//! handshake ended can be replayed (RFC 9250 section 4.5).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clock::wall_now;
use crate::config::Protocol;
use crate::resolver::trust::{Identity, Seen};

use super::Failure;

/// A connection over TCP from `source`, which may be unspecified.
pub(super) async fn tcp(server: SocketAddr, source: IpAddr) -> Result<TcpStream, Failure> {
    let here = |error| Failure::Here(Arc::new(error));
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(here)?;
    if !source.is_unspecified() {
        socket.bind((source, 0).into()).map_err(here)?;
    }
    let stream = socket.connect(server).await.map_err(there)?;
    // Questions are small, and each is waited for.
    stream.set_nodelay(true).map_err(here)?;
    Ok(stream)
}

/// TLS with one server: its sessions, and who it must prove to be.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    identity: Arc<Identity>,
    seen: Arc<Seen>,
    made: Instant,
}

impl Tls {
    pub(super) async fn new(identity: Arc<Identity>, protocol: Protocol) -> Result<Self, Failure> {
        let roots = match (&identity.server_name, &identity.roots) {
            (Some(_), None) => spawn_blocking(read_system_roots).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        let provider = Arc::new(ring::default_provider());
        let judge = identity.judge(&roots, &provider).map_err(tls)?;
        let seen = judge.seen();
        let (versions, alpn): (&[_], &[u8]) = match protocol {
            Protocol::Https => (&[&rustls::version::TLS13, &rustls::version::TLS12], b"h2"),
            Protocol::H3 => (&[&rustls::version::TLS13], b"h3"),
            Protocol::Quic => (&[&rustls::version::TLS13], b"doq"),
            _ => (&[&rustls::version::TLS13, &rustls::version::TLS12], b"dot"),
        };
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_protocol_versions(versions)
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        config.enable_early_data = false;
        Ok(Self { config: Arc::new(config), identity, seen, made: Instant::now() })
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.made.elapsed() < ROOTS_BELIEVED_FOR
    }

    /// Agrees on TLS over a connection. Says whether a session was resumed.
    pub(super) async fn over(
        &self,
        stream: TcpStream,
        server: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, bool), Failure> {
        self.begin();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let connected = connector.connect(self.name(server), stream).await;
        connected.map(|stream| (stream, self.is_resumed())).map_err(|error| self.failure(&error))
    }

    /// Call it before a handshake.
    pub(super) fn begin(&self) {
        self.seen.reset();
    }

    /// The rule that the certificate of the last handshake broke.
    pub(super) fn broken(&self) -> Option<Failure> {
        self.seen.broken().map(|broken| Failure::Certificate(Arc::new(broken)))
    }

    /// What a certificate is held against; without a name, only its key is.
    pub(super) fn name(&self, server: SocketAddr) -> ServerName<'static> {
        // An address is not sent (RFC 6066 section 3).
        self.identity.server_name.clone().unwrap_or_else(|| server.ip().into())
    }

    /// Whether the last handshake showed no certificate.
    pub(super) fn is_resumed(&self) -> bool {
        !self.seen.was_shown()
    }

    /// Why a handshake failed: by the certificate, if that broke a rule.
    fn failure(&self, error: &io::Error) -> Failure {
        self.broken().unwrap_or_else(|| tls(error))
    }
}

/// The roots of this system; none where it has none.
#[must_use]
pub fn read_system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

pub(super) fn there(error: io::Error) -> Failure {
    Failure::There(Arc::new(error))
}

pub(super) fn tls(error: impl fmt::Display) -> Failure {
    Failure::Tls(error.to_string().into())
}

/// The time that certificates are judged at.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        wall_now().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// For a connection to be there, TLS included. Others are asked long before.
pub(super) const SETUP_TIME_MAX: Duration = Duration::from_secs(4);

/// Sessions of one server that may be resumed.
const SESSIONS_MAX: usize = 8;

/// The system's roots change with its updates.
const ROOTS_BELIEVED_FOR: Duration = Duration::from_secs(24 * 3_600);
