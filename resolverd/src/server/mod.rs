//! Doors for clients: UDP and TCP on the addresses of `[server] listen`, and TLS, HTTP/2, QUIC
//! and HTTP/3 on those of the lists beside it.
//!
//! The server moves octets between sockets and a `Handler`, which is the
//! pipeline; what they mean is not its. It can be told another list of
//! addresses at any time, and those that stay in it lose nothing.

pub mod addresses;
mod doh;
mod framed;
mod gates;
mod guests;
mod h3;
mod handler;
mod holder;
mod house;
mod https;
mod options;
mod proxy;
mod quic;
mod sockets;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;
pub mod validity;
mod wire;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// For fuzz targets: what reads octets of strangers here.
#[cfg(fuzzing)]
pub mod fuzzed {
    pub use super::doh::{found, parameter};
    pub use super::options::{Wishes, grant};
    pub use super::proxy::{HEAD_OCTETS, Head};
    pub use super::validity::of;
    pub use super::wire::Records;
}

pub use self::gates::Listening;
pub use self::handler::{Begun, Handler};
pub use self::holder::Held;
pub use self::house::Limits;
pub use self::tls::{Certificate, TlsError, is_open_to_others};

use self::gates::Gate;
use self::guests::Guests;
use self::house::{House, UNTOLD_MAX};
use self::tcp::Acceptor;
use self::tls::Identity;
use self::udp::{Door, Worker};
use crate::metrics::{AddressState, Metrics};
use crate::pipeline::Transport;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listening: Listening,
    /// Shown at encrypted doors, of which there are none without it.
    pub certificate: Option<Certificate>,
    /// UDP threads, each with a socket on every address; 0: one for each core.
    pub workers: usize,
    pub limits: Limits,
    /// Balancers that tell whom a connection over TCP is from.
    pub proxies: Vec<IpNet>,
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
        "{address}/{} is held by {}: stop it, or choose another address in [server] {}",
        name(*transport), Holder(held, *transport), key(*transport)
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
    #[error(
        "{address} is in both [server] {} and {}: one socket does not speak both; choose another \
         port for one of them",
        key(*transport), key(*other)
    )]
    Twice { address: SocketAddr, transport: Transport, other: Transport },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot start a thread for UDP: {0}")]
    Thread(#[source] io::Error),
    #[error("the server is stopping")]
    Stopping,
}

/// Serves until stopped. Dropped without `stop` it ends at once.
pub struct Server<H: Handler> {
    udp: Arc<udp::House<H>>,
    house: Arc<House<H>>,
    /// Empty once the server stops.
    workers: Mutex<Vec<Worker>>,
    open: Mutex<BTreeMap<SocketAddr, Address>>,
    gates: Mutex<BTreeMap<(Transport, SocketAddr), Gate>>,
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
        let limits = settings.limits;
        let identity = Identity::new()?;
        identity.present(settings.certificate.as_ref());
        let guests = |all| Guests::new(all, limits.per_client_max);
        let server = Server {
            udp: Arc::new(udp::House {
                handler: Arc::clone(&handler),
                metrics: Arc::clone(&metrics),
                runtime: Handle::current(),
                misses: Arc::clone(&misses),
            }),
            house: Arc::new(House {
                handler,
                metrics,
                limits,
                tcp: guests(limits.tcp_max),
                tls: guests(limits.tls_max),
                quic: guests(limits.quic_max),
                identity,
                proxies: ArcSwap::from_pointee(settings.proxies),
                untold: Arc::new(Semaphore::new(UNTOLD_MAX)),
                misses,
                stopping: told,
            }),
            workers: Mutex::default(),
            open: Mutex::default(),
            gates: Mutex::default(),
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
        server.relisten(settings.listening)?;
        Ok(server)
    }

    /// Serves these addresses and no others. All or nothing: when one cannot be
    /// opened, everything stays as it was. Addresses in both lists keep their
    /// sockets, so no query to them is lost; those that go are emptied first,
    /// and connections to them live on, but for those over QUIC, which are told
    /// that they are over.
    pub fn relisten(&self, listening: impl Into<Listening>) -> Result<(), ServerError> {
        let listening = listening.into();
        let workers = self.workers.lock();
        if workers.is_empty() {
            return Err(ServerError::Stopping);
        }
        listening.check()?;
        let _inside = self.udp.runtime.enter();
        let mut open = self.open.lock();
        let mut gates = self.gates.lock();
        let mut come = BTreeMap::new();
        for address in &listening.plain {
            if matches!(open.get(address), Some(Address::Open { .. })) {
                continue;
            }
            if let Entry::Vacant(place) = come.entry(*address) {
                place.insert(self.open_address(*address, workers.len())?);
            }
        }
        let mut gates_come = BTreeMap::new();
        for (transport, address) in listening.encrypted() {
            if gates.get(&(transport, address)).is_some_and(Gate::is_open) {
                continue;
            }
            if let Entry::Vacant(place) = gates_come.entry((transport, address)) {
                place.insert(Gate::open(address, transport, &self.house)?);
            }
        }
        let before = open.len() + gates.len();
        open.retain(|address, _| listening.plain.contains(address));
        gates.retain(|door, _| listening.encrypted().any(|wanted| wanted == *door));
        let gone = before - open.len() - gates.len();
        let plain = come.iter().filter_map(|(address, state)| match state {
            Address::Failed(reason) => Some((address, reason)),
            Address::Open { .. } => None,
        });
        let encrypted = gates_come.iter().filter_map(|((_, address), gate)| match gate {
            Gate::Failed(reason) => Some((address, reason)),
            _ => None,
        });
        for (address, reason) in plain.chain(encrypted) {
            warn!(%address, %reason, "address not served");
        }
        let came = come.len() + gates_come.len();
        open.append(&mut come);
        gates.append(&mut gates_come);
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
            info!(came, gone, addresses = open.len() + gates.len(), "listening");
        }
        drop((gates, open, workers));
        self.listening();
        Ok(())
    }

    /// Believes these balancers from now on, and no others.
    pub fn believe(&self, proxies: Vec<IpNet>) {
        self.house.proxies.store(Arc::new(proxies));
    }

    /// Shows this certificate to who comes from now on; connections that are
    /// open go on.
    pub fn present(&self, certificate: Option<&Certificate>) {
        self.house.identity.present(certificate);
    }

    /// Every address with its state; also brings the metric up to date.
    pub fn listening(&self) -> Vec<(SocketAddr, Transport, State)> {
        let mut listening = Vec::new();
        let mut counts = [0_i64; AddressState::COUNT];
        let mut count = |state: &State| {
            let counted = match state {
                State::Serving => AddressState::Served,
                State::Waiting => AddressState::Waiting,
                State::Failed(_) => AddressState::Failed,
            };
            counts[counted as usize] += 1;
        };
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
            count(&udp);
            listening.push((*address, Transport::Udp, udp));
            listening.push((*address, Transport::Tcp, tcp));
        }
        for ((transport, address), gate) in self.gates.lock().iter() {
            let state = gate.state(*address);
            count(&state);
            listening.push((*address, *transport, state));
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
        let mut gates: Vec<Gate> = std::mem::take(&mut *self.gates.lock()).into_values().collect();
        acceptors.iter().for_each(Acceptor::quit);
        gates.iter().for_each(Gate::quit);
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
        for gate in &mut gates {
            gate.ended(until).await;
        }
        self.stopping.send_replace(true);
        // After the threads, for they may have begun misses until the end.
        let all = MISSES_IN_FLIGHT_MAX as u32;
        let answered = timeout_at(until, self.udp.misses.acquire_many(all)).await;
        let mut left = true;
        for guests in self.guests() {
            left &= timeout_at(until, guests.empty()).await.is_ok();
        }
        if joined.is_err() || answered.is_err() || !left {
            let queries = MISSES_IN_FLIGHT_MAX - self.udp.misses.available_permits();
            let connections: usize = self.guests().iter().map(|guests| guests.len()).sum();
            warn!(queries, connections, "stopped before everything was answered");
        }
        self.guests().iter().for_each(|guests| guests.shed_all());
        join_all(gates.iter().map(Gate::close)).await;
    }

    fn guests(&self) -> [&Arc<Guests>; 3] {
        [&self.house.tcp, &self.house.tls, &self.house.quic]
    }
}

impl<H: Handler> Drop for Server<H> {
    fn drop(&mut self) {
        let house = &self.house;
        [&house.tcp, &house.tls, &house.quic].iter().for_each(|guests| guests.shed_all());
    }
}

impl<H: Handler> Server<H> {
    fn open_address(&self, address: SocketAddr, workers: usize) -> Result<Address, ServerError> {
        let opened = sockets::check_free(address, Transport::Udp)
            .and_then(|()| sockets::check_free(address, Transport::Tcp))
            .and_then(|()| {
                let doors = (0..workers).map(|_| Door::open(address)).collect::<Result<_, _>>()?;
                let transport = Transport::Tcp;
                let listener = sockets::tcp(address, transport)?;
                let acceptor = Acceptor::start(listener, transport, Arc::clone(&self.house))
                    .map_err(|error| ServerError::Open { address, transport, error })?;
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
                let table = if sockets::is_over_udp(self.1) { 'u' } else { 't' };
                write!(f, "a process of another user (`ss -ln{table}p` as root names it)")
            }
        }
    }
}

/// The socket that it takes.
fn name(transport: Transport) -> &'static str {
    if sockets::is_over_udp(transport) { "udp" } else { "tcp" }
}

/// The key of the configuration that names its addresses.
fn key(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp | Transport::Tcp => "listen",
        Transport::Tls => "tls-listen",
        Transport::Https => "https-listen",
        Transport::Quic => "quic-listen",
        Transport::H3 => "h3-listen",
    }
}

/// The longest query taken, over whatever it comes. Ours are below 600 octets; the
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
