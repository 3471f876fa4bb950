//! What all connections of clients share, and how one of them ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::{Semaphore, watch};

use super::guests::Guests;
use super::handler::{Begun, Handler};
use super::options::{self, Wishes};
use super::tls::Identity;
use crate::metrics::{Dropped, Ended, Metrics};
use crate::pipeline::{Client, Transport};

/// What clients with connections may keep us holding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TCP connections at once. The one that was quiet for longest leaves for
    /// the next; when all are busy the next is refused.
    pub tcp_max: usize,
    /// The same for TLS and HTTP/2 together, and for QUIC and HTTP/3 together.
    pub tls_max: usize,
    pub quic_max: usize,
    /// The same for one client address, of each of the three.
    pub per_client_max: usize,
    /// Queries of one connection worked on at once; past it none is read.
    pub queries_in_flight_max: usize,
    /// The same where each query has a stream.
    pub streams_max: usize,
    /// TLS must be agreed on so long after the connection was opened.
    pub handshake: Duration,
    /// With nothing asked and nothing owed for so long it is closed.
    pub idle: Duration,
    /// A query must be complete so long after its first octet.
    pub query: Duration,
    /// A client must take some of its answers at least so often.
    pub write: Duration,
    /// After so long no further query is read.
    pub lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            tcp_max: 1_024,
            tls_max: 1_024,
            quic_max: 1_024,
            per_client_max: 64,
            queries_in_flight_max: 64,
            streams_max: 100,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(15),
            query: Duration::from_secs(3),
            write: Duration::from_secs(5),
            lifetime: Duration::from_secs(600),
        }
    }
}

/// What all connections share.
pub struct House<H> {
    pub handler: Arc<H>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub tcp: Arc<Guests>,
    pub tls: Arc<Guests>,
    pub quic: Arc<Guests>,
    pub identity: Identity,
    /// Who tells whom a connection over TCP is from.
    pub proxies: ArcSwap<Vec<IpNet>>,
    /// One permit for each connection that has not told yet.
    pub untold: Arc<Semaphore>,
    /// One permit for each miss that may be worked on.
    pub misses: Arc<Semaphore>,
    /// True once no further query is read.
    pub stopping: watch::Receiver<bool>,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All answered; the client had closed its side, or we asked no further.
    Done,
    /// Nothing asked and nothing owed for the idle time-out.
    Idle,
    /// Broken off by the other side.
    Broken,
    /// TLS could not be agreed on.
    Handshake,
    /// TLS was not agreed on in time.
    HandshakeLate,
    /// A query was begun and not completed in time.
    Unfinished,
    /// The client does not take its answers.
    Unread,
    /// Lived longer than a connection may, answers owed included.
    Old,
    /// Left for a newcomer, or because the server stops at once.
    Shed,
    /// Octets that are not of the protocol: a length that no query has.
    Malformed,
}

impl End {
    /// What it is counted as; `None` where the client was done with it.
    fn counted(self) -> Option<Ended> {
        match self {
            End::Done | End::Idle | End::Broken => None,
            End::Handshake => Some(Ended::Handshake),
            End::HandshakeLate => Some(Ended::HandshakeTimeout),
            End::Unfinished => Some(Ended::Unfinished),
            End::Unread => Some(Ended::Unread),
            End::Old => Some(Ended::Lifetime),
            End::Shed => Some(Ended::Shed),
            End::Malformed => Some(Ended::Protocol),
        }
    }
}

/// What became of a query that has a stream to itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    Reply(Vec<u8>),
    /// It was none: too short, or an answer itself.
    NoQuery,
    /// Too much is asked of others already.
    Busy,
    /// We stumbled over it.
    Failed,
}

impl<H: Handler> House<H> {
    /// The places for connections of this kind.
    pub fn guests(&self, transport: Transport) -> &Arc<Guests> {
        match transport {
            Transport::Udp | Transport::Tcp => &self.tcp,
            Transport::Tls | Transport::Https => &self.tls,
            Transport::Quic | Transport::H3 => &self.quic,
        }
    }

    /// Whether connections from there begin by telling whom they are from.
    pub fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.load().iter().any(|prefix| prefix.contains(&ip))
    }

    /// One more that cannot come in.
    pub fn refuse(&self, transport: Transport, why: Ended) {
        if transport == Transport::Tcp {
            self.metrics.server_tcp_refused.inc();
        }
        self.metrics.server_connections_ended(transport.label(), why).inc();
    }

    /// Counts a connection for as long as the guard lives.
    pub fn count(&self, transport: Transport) -> Open {
        let gauge = match transport {
            Transport::Tcp => self.metrics.server_tcp_connections.clone(),
            transport => self.metrics.server_connections(transport.label()),
        };
        gauge.inc();
        Open(gauge)
    }

    pub fn ended(&self, transport: Transport, end: End) {
        if let Some(why) = end.counted() {
            self.metrics.server_connections_ended(transport.label(), why).inc();
        }
    }

    /// Answers a query that has a stream to itself, padded if that is wished.
    /// Dropped, it leaves what was asked of others under way, for others may
    /// wait for it.
    pub async fn answer(&self, client: &Client, query: &[u8], wishes: Wishes) -> Answered {
        let mut reply = Vec::new();
        match self.handler.begin(query, client, &mut reply) {
            Begun::Drop => return Answered::NoQuery,
            Begun::Reply => {}
            Begun::Pending(pending) => {
                let Ok(permit) = Arc::clone(&self.misses).try_acquire_owned() else {
                    self.metrics.packets_dropped(Dropped::Busy).inc();
                    return Answered::Busy;
                };
                let handler = Arc::clone(&self.handler);
                let flight = tokio::spawn(async move {
                    let mut reply = Vec::new();
                    handler.finish(pending, &mut reply).await;
                    drop(permit);
                    reply
                });
                match flight.await {
                    // Nothing is sent, by a rule of policy.
                    Ok(landed) if landed.is_empty() => return Answered::NoQuery,
                    Ok(landed) => reply = landed,
                    // What a panic says was said by itself.
                    Err(_) => return Answered::Failed,
                }
            }
        }
        options::grant(&mut reply, wishes.padding, None);
        Answered::Reply(reply)
    }
}

/// Waits until no further query is read. The sender outlives who waits, or has stopped for good.
pub async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// One open connection, for the metric.
pub struct Open(prometheus::IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Answers waiting to be read by the client; past it we take no further query.
/// One answer may be longer: it is 64 KiB at most.
pub const OUTPUT_OCTETS_MAX: usize = 64 << 10;

/// Connections of balancers whose header is not read yet. They have no place, for whose it
/// would be is not known.
pub const UNTOLD_MAX: usize = 1_024;

/// For answers still owed when a connection is too old.
pub const LAST_ANSWERS: Duration = Duration::from_secs(10);
