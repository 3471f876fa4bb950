//! Doors for clients: UDP and TCP on the addresses of `[server] listen`.
//!
//! The server moves octets between sockets and a `Handler`, which is the
//! pipeline; what they mean is not its. It can be told another list of
//! addresses at any time, and those that stay in it lose nothing.

pub mod addresses;
mod guests;
mod handler;
mod holder;
mod sockets;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

pub use self::handler::{Begun, Handler};
pub use self::holder::Held;

use self::guests::Guests;
use self::tcp::Acceptor;
use self::udp::{Door, Worker};
use crate::metrics::{AddressState, Metrics};
use crate::pipeline::Transport;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to bind, each for UDP and TCP. One that the machine does not
    /// have yet is bound ahead.
    pub listen: Vec<SocketAddr>,
    /// UDP threads, each with a socket on every address; 0: one for each core.
    pub workers: usize,
    pub tcp: TcpLimits,
}

/// What TCP clients may keep us holding.
#[derive(Clone, Copy, Debug)]
pub struct TcpLimits {
    /// Connections at once. The one that was quiet for longest leaves for the
    /// next; when all are busy the next is refused.
    pub connections_max: usize,
    /// The same for one client address.
    pub per_client_max: usize,
    /// Queries of one connection worked on at once; past it none is read.
    pub queries_in_flight_max: usize,
    /// With nothing asked and nothing owed for so long it is closed.
    pub idle: Duration,
    /// A query must be complete so long after its first octet.
    pub query: Duration,
    /// A client must take some of its answers at least so often.
    pub write: Duration,
    /// After so long no further query is read.
    pub lifetime: Duration,
}

impl Default for TcpLimits {
    fn default() -> TcpLimits {
        TcpLimits {
            connections_max: 1_024,
            per_client_max: 64,
            queries_in_flight_max: 64,
            idle: Duration::from_secs(15),
            query: Duration::from_secs(3),
            write: Duration::from_secs(5),
            lifetime: Duration::from_secs(600),
        }
    }
}

/// Where an address stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Serving,
    /// Bound; the machine does not have the address yet.
    Waiting,
    /// Not bound, and why.
    Failed(String),
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "{address}/{} is held by {}: stop it, or choose another address in [server] listen",
        name(*transport), Holder(held, *transport)
    )]
    InUse { address: SocketAddr, transport: Transport, held: Held },
    #[error(
        "not allowed to listen on {address}/{}: ports below 1024 need CAP_NET_BIND_SERVICE",
        name(*transport)
    )]
    Denied { address: SocketAddr, transport: Transport },
    #[error(
        "cannot listen on {address}/{}: this machine has {} switched off",
        name(*transport), if address.is_ipv4() { "IPv4" } else { "IPv6" }
    )]
    NoFamily { address: SocketAddr, transport: Transport },
    #[error("cannot listen on {address}/{}: {error}", name(*transport))]
    Open { address: SocketAddr, transport: Transport, error: io::Error },
    #[error(
        "{count} addresses to listen on are more than {ADDRESSES_MAX}: name fewer, or a wildcard"
    )]
    TooMany { count: usize },
    #[error("cannot start a thread for UDP: {0}")]
    Thread(#[source] io::Error),
    #[error("the server is stopping")]
    Stopping,
}

/// Serves until stopped. Dropped without `stop` it ends at once.
pub struct Server<H: Handler> {
    udp: Arc<udp::House<H>>,
    tcp: Arc<tcp::House<H>>,
    /// Empty once the server stops.
    workers: Mutex<Vec<Worker>>,
    open: Mutex<BTreeMap<SocketAddr, Address>>,
    stopping: watch::Sender<bool>,
}

enum Address {
    Open {
        /// One for each worker.
        doors: Vec<Arc<Door>>,
        acceptor: Acceptor,
    },
    Failed(String),
}

impl<H: Handler> Server<H> {
    /// Opens the doors. Call it inside the tokio runtime that shall do the
    /// waiting. When it returns, queries to the addresses are not lost any more.
    pub fn start(
        handler: Arc<H>,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Result<Server<H>, ServerError> {
        let misses = Arc::new(Semaphore::new(MISSES_IN_FLIGHT_MAX));
        let (stopping, told) = watch::channel(false);
        let limits = settings.tcp;
        let server = Server {
            udp: Arc::new(udp::House {
                handler: Arc::clone(&handler),
                metrics: Arc::clone(&metrics),
                runtime: Handle::current(),
                misses: Arc::clone(&misses),
            }),
            tcp: Arc::new(tcp::House {
                handler,
                metrics,
                limits,
                guests: Guests::new(limits.connections_max, limits.per_client_max),
                misses,
                stopping: told,
            }),
            workers: Mutex::default(),
            open: Mutex::default(),
            stopping,
        };
        let count = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        for number in 0..count.min(WORKERS_MAX) {
            let worker = Worker::spawn(number, Arc::clone(&server.udp));
            server.workers.lock().push(worker.map_err(ServerError::Thread)?);
        }
        server.relisten(settings.listen)?;
        Ok(server)
    }

    /// Serves these addresses and no others. All or nothing: when one cannot be
    /// opened, everything stays as it was. Addresses in both lists keep their
    /// sockets, so no query to them is lost; those that go are emptied first,
    /// and TCP connections to them live on.
    pub fn relisten(&self, addresses: Vec<SocketAddr>) -> Result<(), ServerError> {
        let workers = self.workers.lock();
        if workers.is_empty() {
            return Err(ServerError::Stopping);
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(ServerError::TooMany { count: addresses.len() });
        }
        let _inside = self.udp.runtime.enter();
        let mut open = self.open.lock();
        let mut come = BTreeMap::new();
        for address in &addresses {
            if matches!(open.get(address), Some(Address::Open { .. })) {
                continue;
            }
            if let Entry::Vacant(place) = come.entry(*address) {
                place.insert(self.open_address(*address, workers.len())?);
            }
        }
        let before = open.len();
        open.retain(|address, _| addresses.contains(address));
        let gone = before - open.len();
        for (address, state) in &come {
            if let Address::Failed(reason) = state {
                warn!(%address, %reason, "address not served");
            }
        }
        let came = come.len();
        open.append(&mut come);
        for (number, worker) in workers.iter().enumerate() {
            worker.attend(
                (open.values())
                    .filter_map(|address| match address {
                        Address::Open { doors, .. } => Some(Arc::clone(&doors[number])),
                        Address::Failed(_) => None,
                    })
                    .collect(),
            );
        }
        if came + gone > 0 {
            info!(came, gone, addresses = open.len(), "listening");
        }
        drop((open, workers));
        self.listening();
        Ok(())
    }

    /// Every address with its state; also brings the metric up to date.
    pub fn listening(&self) -> Vec<(SocketAddr, Transport, State)> {
        let mut listening = Vec::new();
        let mut counts = [0_i64; AddressState::COUNT];
        for (address, state) in self.open.lock().iter() {
            let (udp, tcp) = match state {
                Address::Failed(reason) => {
                    (State::Failed(reason.clone()), State::Failed(reason.clone()))
                }
                Address::Open { acceptor, .. } => {
                    let there = match sockets::is_present(*address) {
                        true => State::Serving,
                        false => State::Waiting,
                    };
                    let tcp = match acceptor.is_listening() {
                        true => there.clone(),
                        false => State::Failed("the acceptor ended".to_owned()),
                    };
                    (there, tcp)
                }
            };
            let counted = match &udp {
                State::Serving => AddressState::Served,
                State::Waiting => AddressState::Waiting,
                State::Failed(_) => AddressState::Failed,
            };
            counts[counted as usize] += 1;
            listening.push((*address, Transport::Udp, udp));
            listening.push((*address, Transport::Tcp, tcp));
        }
        for state in AddressState::ALL {
            self.udp.metrics.addresses(*state).set(counts[*state as usize]);
        }
        listening
    }

    /// Reads no further, answers what was read, and ends threads and
    /// connections; after `STOP_TIME` it ends those that are not done.
    pub async fn stop(&self) {
        let until = Instant::now() + STOP_TIME;
        let mut workers = std::mem::take(&mut *self.workers.lock());
        let mut acceptors: Vec<Acceptor> = (std::mem::take(&mut *self.open.lock()).into_values())
            .filter_map(|address| match address {
                Address::Open { acceptor, .. } => Some(acceptor),
                Address::Failed(_) => None,
            })
            .collect();
        acceptors.iter().for_each(Acceptor::quit);
        workers.iter().for_each(Worker::stop);
        let threads: Vec<_> = workers.iter_mut().filter_map(Worker::take_thread).collect();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        let joined = timeout_at(until, joined).await;
        for acceptor in &mut acceptors {
            // One that is late ends by itself.
            let _ = timeout_at(until, acceptor.ended()).await;
        }
        self.stopping.send_replace(true);
        // After the threads, for they may have begun misses until the end.
        let all = MISSES_IN_FLIGHT_MAX as u32;
        let answered = timeout_at(until, self.udp.misses.acquire_many(all)).await;
        let left = timeout_at(until, self.tcp.guests.empty()).await;
        if joined.is_err() || answered.is_err() || left.is_err() {
            let queries = MISSES_IN_FLIGHT_MAX - self.udp.misses.available_permits();
            let connections = self.tcp.guests.len();
            warn!(queries, connections, "stopped before everything was answered");
        }
        self.tcp.guests.shed_all();
    }
}

impl<H: Handler> Drop for Server<H> {
    fn drop(&mut self) {
        self.tcp.guests.shed_all();
    }
}

impl<H: Handler> Server<H> {
    fn open_address(&self, address: SocketAddr, workers: usize) -> Result<Address, ServerError> {
        let opened = sockets::check_free(address, Transport::Udp)
            .and_then(|()| sockets::check_free(address, Transport::Tcp))
            .and_then(|()| {
                let doors = (0..workers).map(|_| Door::open(address)).collect::<Result<_, _>>()?;
                let acceptor =
                    Acceptor::start(sockets::tcp(address)?, Arc::clone(&self.tcp)).map_err(
                        |error| ServerError::Open { address, transport: Transport::Tcp, error },
                    )?;
                Ok(Address::Open { doors, acceptor })
            });
        match opened {
            // The defaults name ::1, and a machine without IPv6 shall still start.
            Err(error @ ServerError::NoFamily { .. }) => Ok(Address::Failed(error.to_string())),
            opened => opened,
        }
    }
}

/// How the holder of an address is named to the operator.
struct Holder<'a>(&'a Held, Transport);

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Held::By { name, pid } => write!(f, "{name} (pid {pid})"),
            Held::Ourselves => f.write_str("this process itself"),
            Held::Hidden => {
                let table = if self.1 == Transport::Udp { 'u' } else { 't' };
                write!(f, "a process of another user (`ss -ln{table}p` as root names it)")
            }
        }
    }
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// The longest query taken, over UDP and TCP. Ours are below 600 octets; the
/// rest is for padding and options to come.
const QUERY_OCTETS_MAX: usize = 4_096;

/// Queries waiting for somebody's answer, over all doors: some kilobytes each.
/// Past it queries that are not in the cache are dropped and counted.
const MISSES_IN_FLIGHT_MAX: usize = 8_192;

/// Addresses served at once; each costs a socket for each worker.
const ADDRESSES_MAX: usize = 512;

/// UDP threads.
const WORKERS_MAX: usize = 256;

/// For answering what was read when we stop: below the two seconds after which
/// a service manager's patience and a stub's first try end.
const STOP_TIME: Duration = Duration::from_millis(1_500);
