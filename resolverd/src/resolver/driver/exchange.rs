//! One question to one upstream: a socket, the octets, and what they are taken for.
//!
//! Waits as long as it is let: time-outs are the driver's. Dropped, it closes its socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;
use tracing::debug;

use crate::dns::Query;
use crate::resolver::Settings;
use crate::resolver::ear::{Ear, Heard};
use crate::resolver::machine::{Ask, Transport};
use crate::resolver::reply::Reply;
use crate::resolver::upstreams::UpstreamSpec;
use crate::resolver::wire::{self, Asked, Reject};

/// One question to one upstream.
pub(super) struct Exchange {
    pub(super) ask: Ask,
    pub(super) spec: UpstreamSpec,
    pub(super) query: Arc<Query>,
    pub(super) settings: Arc<Settings>,
    pub(super) ear: Ear,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no socket: {0}")]
    Here(io::Error),
    #[error("not reached: {0}")]
    There(#[from] io::Error),
    #[error("no answer: {0:?}")]
    Reject(Reject),
}

impl Exchange {
    pub(super) async fn run(&self) -> Result<Reply, Trouble> {
        let id = u16::from_be_bytes(random());
        let size = self.ask.edns.then_some(self.settings.edns_size);
        let question = wire::question(&self.query, id, size);
        match self.ask.transport {
            Transport::Udp => self.over_udp(id, &question).await,
            Transport::Tcp => self.over_tcp(id, &question).await,
        }
    }

    async fn over_udp(&self, id: u16, question: &[u8]) -> Result<Reply, Trouble> {
        let any: SocketAddr = match self.spec.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // Port 0: the kernel draws one at random. Connected: it drops what others send.
        let socket = UdpSocket::bind(any).await.map_err(Trouble::Here)?;
        socket.connect(self.spec.address).await?;
        socket.send(question).await?;
        let sent = self.sent(question, false);
        let mut datagram = vec![0; usize::from(self.settings.edns_size).max(DATAGRAM_OCTETS_MIN)];
        for _ in 0..FOREIGN_MAX {
            let length = socket.recv(&mut datagram).await?;
            self.came(&datagram[..length], false, sent);
            match self.accept(id, &datagram[..length]) {
                Err(Reject::Foreign(reason)) => {
                    debug!(upstream = &*self.spec.name, reason, "foreign datagram");
                }
                result => return result.map_err(Trouble::Reject),
            }
        }
        // Somebody is guessing. Over TCP he would have to guess more.
        Err(Trouble::Reject(Reject::Truncated))
    }

    async fn over_tcp(&self, id: u16, question: &[u8]) -> Result<Reply, Trouble> {
        let mut stream = TcpStream::connect(self.spec.address).await?;
        // A question has some 300 octets at most. In one segment: RFC 7766 section 8.
        let mut framed = (question.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        stream.write_all(&framed).await?;
        let sent = self.sent(question, true);
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        self.came(&message, true, sent);
        match self.accept(id, &message) {
            Err(Reject::Truncated) => Err(Reject::Malformed("truncated over TCP")),
            result => result,
        }
        .map_err(Trouble::Reject)
    }

    fn sent(&self, message: &[u8], stream: bool) -> Instant {
        self.ear.hears(&Heard { server: self.spec.address, stream, message, took: None });
        Instant::now()
    }

    /// Also what is not believed afterwards: somebody sent it.
    fn came(&self, message: &[u8], stream: bool, sent: Instant) {
        let took = Some(sent.elapsed());
        self.ear.hears(&Heard { server: self.spec.address, stream, message, took });
    }

    fn accept(&self, id: u16, message: &[u8]) -> Result<Reply, Reject> {
        let asked = Asked { query: &self.query, id, edns: self.ask.edns };
        wire::accept(&asked, message)
    }
}

/// From the system's own generator: what nobody may guess.
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    OsRng.try_fill_bytes(&mut octets).expect("the kernel has random octets once it is up");
    octets
}

/// Datagrams on one socket that answer something else. Past this somebody is guessing.
const FOREIGN_MAX: usize = 8;

/// Room for what servers without EDNS, or with ideas of their own, may send.
const DATAGRAM_OCTETS_MIN: usize = 4_096;
