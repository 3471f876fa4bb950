//! One question to one upstream: a socket or a place on a connection, the octets, and what they
//! are taken for.
//!
//! Waits as long as it is let: time-outs are the driver's. Dropped, it closes its socket or gives
//! up its place. An encrypted upstream is asked by its own way and no other, whatever happens.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rand::Rng as _;
use rand::seq::IteratorRandom as _;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tracing::debug;

use crate::config::Protocol;
use crate::dns::Query;
use crate::metrics::Transport as Way;
use crate::resolver::Settings;
use crate::resolver::ear::{Ear, Heard};
use crate::resolver::machine::{Ask, Transport};
use crate::resolver::options;
use crate::resolver::reply::Reply;
use crate::resolver::upstreams::UpstreamSpec;
use crate::resolver::wire::{self, Asked, Reject};

use super::links::{Failure, Links, Peer};

/// One question to one upstream.
pub(super) struct Exchange {
    pub(super) ask: Ask,
    pub(super) spec: UpstreamSpec,
    pub(super) query: Arc<Query>,
    pub(super) settings: Arc<Settings>,
    pub(super) ear: Ear,
    pub(super) links: Links,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no socket: {0}")]
    Here(io::Error),
    #[error("not reached: {0}")]
    There(#[from] io::Error),
    #[error("no answer: {0:?}")]
    Reject(Reject),
    #[error(transparent)]
    Link(#[from] Failure),
}

impl Exchange {
    pub(super) async fn run(&self) -> Result<Reply, Trouble> {
        let size = self.ask.edns.then_some(self.settings.edns_size);
        // A connection has identifiers of its own, or needs none.
        let peer = peer(&self.spec);
        if self.spec.protocol == Protocol::Udp && self.ask.transport == Transport::Udp {
            let id = u16::from_be_bytes(random());
            return self.over_udp(id, &wire::question(&self.query, id, size)).await;
        }
        let mut question = wire::question(&self.query, 0, size);
        // HTTP and QUIC have words of their own for idleness (RFC 9250 section 5.5.2).
        let keepalive = matches!(peer.protocol, Protocol::Tcp | Protocol::Tls);
        options::dress(&mut question, keepalive, peer.protocol.is_encrypted());
        self.over_connection(&peer, &question).await
    }

    async fn over_udp(&self, id: u16, question: &[u8]) -> Result<Reply, Trouble> {
        // Port 0: the kernel draws one at random. Connected: it drops what others send.
        let socket = UdpSocket::bind((self.source(), 0)).await.map_err(Trouble::Here)?;
        socket.connect(self.spec.address).await?;
        socket.send(question).await?;
        let sent = self.sent(question, Way::Udp);
        for _ in 0..FOREIGN_MAX {
            let accepted = receive(&socket, |datagram| {
                self.came(datagram, Way::Udp, sent);
                self.accept(id, datagram)
            });
            match accepted.await? {
                Err(Reject::Foreign(reason)) => {
                    debug!(upstream = &*self.spec.name, reason, "foreign datagram");
                }
                result => return result.map_err(Trouble::Reject),
            }
        }
        // Somebody is guessing. Over TCP he would have to guess more.
        Err(Trouble::Reject(Reject::Truncated))
    }

    async fn over_connection(&self, peer: &Peer, question: &[u8]) -> Result<Reply, Trouble> {
        let way = way(peer.protocol);
        let sent = self.sent(question, way);
        let name = &self.spec.name;
        let said = self.links.ask(peer, name, self.source(), question).await?;
        self.came(&said.message, way, sent);
        let mut reply = match self.accept(0, &said.message) {
            Err(Reject::Truncated) => Err(Reject::Malformed("truncated over a connection")),
            result => result,
        }
        .map_err(Trouble::Reject)?;
        if said.age_secs > 0 {
            reply.age(said.age_secs);
        }
        Ok(reply)
    }

    fn sent(&self, message: &[u8], way: Way) -> Instant {
        self.ear.hears(&Heard { server: self.spec.address, way, message, took: None });
        Instant::now()
    }

    /// Also what is not believed afterwards: somebody sent it.
    fn came(&self, message: &[u8], way: Way, sent: Instant) {
        let took = Some(sent.elapsed());
        self.ear.hears(&Heard { server: self.spec.address, way, message, took });
    }

    fn source(&self) -> IpAddr {
        source(&self.settings.query_source, self.spec.address)
    }

    fn accept(&self, id: u16, message: &[u8]) -> Result<Reply, Reject> {
        let asked = Asked { query: &self.query, id, edns: self.ask.edns };
        wire::accept(&asked, message)
    }
}

/// With whom connections for an upstream are.
pub(super) fn peer(spec: &UpstreamSpec) -> Peer {
    let protocol = match spec.protocol {
        Protocol::Udp => Protocol::Tcp,
        protocol => protocol,
    };
    Peer { address: spec.address, protocol, identity: spec.identity.clone() }
}

const fn way(protocol: Protocol) -> Way {
    match protocol {
        Protocol::Udp => Way::Udp,
        Protocol::Tcp => Way::Tcp,
        Protocol::Tls => Way::Tls,
        Protocol::Https => Way::Https,
        Protocol::H3 => Way::H3,
        Protocol::Quic => Way::Quic,
    }
}

/// Takes the next datagram of a socket and gives what is made of it. It is looked at where it
/// lies: tasks of one thread share a buffer, for none waits while it has one in hand.
pub async fn receive<T>(socket: &UdpSocket, mut look: impl FnMut(&[u8]) -> T) -> io::Result<T> {
    thread_local! {
        static DATAGRAM: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_OCTETS_MAX]);
    }
    let take = || {
        DATAGRAM.with_borrow_mut(|buffer| {
            let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
            Ok(look(&buffer[..length]))
        })
    };
    // A port that nobody has is an error, and nothing to read.
    socket.async_io(Interest::READABLE | Interest::ERROR, take).await
}

/// An address of ours of the server's family; any where none is given.
pub fn source(own: &[IpAddr], server: SocketAddr) -> IpAddr {
    let any = if server.is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let own = own.iter().filter(|ip| ip.is_ipv4() == server.is_ipv4());
    own.choose(&mut rand::rng()).copied().unwrap_or(any)
}

/// What nobody may guess: from a generator of each thread that is made for cryptography (ChaCha),
/// is seeded by the system's own, and again after each 64 KiB.
pub fn random<const N: usize>() -> [u8; N] {
    rand::rng().random()
}

/// Datagrams on one socket that answer something else. Past this somebody is guessing.
const FOREIGN_MAX: usize = 8;

/// What servers with ideas of their own may send.
const DATAGRAM_OCTETS_MAX: usize = 65_535;
