//! Kept connections to servers: questions of many go over one, and who loses an answer because
//! the server closed it asks once more over another.
//!
//! Tasks: one for each connection, from its set-up on, at most [`PLACES_MAX`]; it ends with the
//! connection, which is closed when nobody needed it for a while, or with the runtime. Who asks
//! waits in a task of his own; dropped, he gives up his place.

pub mod bounded;
mod doh;
mod framed;
mod h3;
mod https;
mod quic;
mod setup;

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::clock::boot_now;
use crate::config::Protocol;
use crate::limited;
use crate::metrics::{Connected, Metrics};
use crate::resolver::line::Line;
use crate::resolver::setups::{Next, SetUps};
use crate::resolver::trust::{Broken, Identity, Rule};

pub use setup::read_system_roots;
use setup::{SETUP_TIME_MAX, Tls};

/// With whom a connection is. Two upstreams that differ in none of it share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// There is one if the protocol is encrypted.
    pub identity: Option<Arc<Identity>>,
}

/// Of the address alone: identities have whole files of roots in them, and seldom differ.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.protocol).hash(state);
    }
}

/// What a server said.
#[derive(Debug)]
pub struct Said {
    pub message: Vec<u8>,
    /// For how many seconds a cache of HTTP had it (RFC 8484 section 5.1).
    pub age_secs: u32,
}

/// Why a server said nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Of ours: it says nothing about the server.
    #[error("no socket: {0}")]
    Here(Arc<io::Error>),
    #[error("too many connections")]
    Full,
    #[error("not reached: {0}")]
    There(Arc<io::Error>),
    #[error("no connection within {SETUP_TIME_MAX:?}")]
    Late,
    #[error("{0}")]
    Certificate(Arc<Broken>),
    #[error("no TLS: {0}")]
    Tls(Arc<str>),
    #[error("{0}")]
    Protocol(Arc<str>),
    #[error("status {0} of HTTP")]
    Status(u16),
    /// The connection ended before the answer came.
    #[error("the connection was lost")]
    Lost,
}

/// Cheap to clone: all clones have the same connections.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    slots: Mutex<HashMap<Peer, Arc<Slot>>>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The connections with one server.
struct Slot {
    peer: Peer,
    state: Mutex<State>,
    /// A connection came or went, or has room again.
    changed: Arc<Notify>,
    tls: Mutex<Option<Tls>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    links: Vec<Arc<Link>>,
    setups: SetUps<Failure>,
}

/// One connection.
struct Link {
    kept: Arc<Kept>,
    asker: Asker,
    changed: Arc<Notify>,
    opened: Instant,
}

/// The books of a connection, for who asks and for who moves its octets.
struct Kept {
    line: Mutex<Line>,
    /// Nobody waits any more, or it is to be left.
    stirred: Notify,
}

/// How a question gets onto a connection.
enum Asker {
    Framed(framed::Asker),
    Https(https::Asker),
    H3(h3::Asker),
    Quic(quic::Asker),
}

/// Moves the octets of a connection until it is over. Says what [`Line::good_for`] does.
type Keeper = BoxFuture<'static, Option<u64>>;

impl Links {
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let places = Arc::new(Semaphore::new(PLACES_MAX));
        Self { shared: Arc::new(Shared { slots: Mutex::default(), places, metrics }) }
    }

    /// Asks over a connection that is there, or a new one from the address `source`. Waits as
    /// long as it is let.
    ///
    /// # Errors
    ///
    /// When there is no connection, or [`FRESH_LOST_MAX`] new ones were lost over it.
    pub async fn ask(
        &self,
        peer: &Peer,
        upstream: &Arc<str>,
        source: IpAddr,
        question: &[u8],
    ) -> Result<Said, Failure> {
        let slot = self.slot(peer);
        let (asked, mut lost) = (Instant::now(), 0);
        loop {
            let turn = slot.turn(source, upstream).await?;
            let said = turn.ask(question).await;
            if !matches!(said, Err(Failure::Lost)) {
                return said;
            }
            // The server may close a connection at any time (RFC 7766 section 6.2.4), and several
            // at once. Nobody takes this one any more, so that there are only so many of them.
            turn.link.kept.leave();
            if turn.link.opened >= asked {
                lost += 1;
            }
            if lost == FRESH_LOST_MAX {
                return said;
            }
        }
    }

    /// Leaves connections with all others. Questions under way are waited for.
    pub fn retain(&self, peers: &HashSet<Peer>) {
        self.shared.slots.lock().retain(|peer, slot| {
            let stays = peers.contains(peer);
            if !stays {
                slot.leave();
            }
            stays
        });
    }

    /// Leaves all connections: what follows is asked over new ones.
    pub fn leave(&self) {
        for slot in self.shared.slots.lock().values() {
            slot.leave();
        }
    }

    fn slot(&self, peer: &Peer) -> Arc<Slot> {
        let mut slots = self.shared.slots.lock();
        if let Some(slot) = slots.get(peer) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            peer: peer.clone(),
            state: Mutex::default(),
            changed: Arc::default(),
            tls: Mutex::default(),
            shared: Arc::clone(&self.shared),
        });
        slots.insert(peer.clone(), Arc::clone(&slot));
        slot
    }
}

impl Slot {
    /// A place on a connection.
    async fn turn(self: &Arc<Self>, source: IpAddr, upstream: &Arc<str>) -> Result<Turn, Failure> {
        let ticket = self.state.lock().setups.ticket();
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before looking, so that nothing that happens meanwhile is missed.
            changed.as_mut().enable();
            {
                let (now, mut state) = (boot_now(), self.state.lock());
                if let Some(turn) = state.links.iter().find_map(Link::take) {
                    return Ok(turn);
                }
                let open = state.links.len();
                match state.setups.next(now, ticket, open) {
                    Next::Start => self.start(&mut state, source, upstream),
                    Next::Wait => {}
                    Next::Fail(failure) => return Err(failure),
                }
            }
            changed.await;
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, source: IpAddr, upstream: &Arc<str>) {
        let Ok(permit) = Arc::clone(&self.shared.places).try_acquire_owned() else {
            self.note(upstream, Err(&Failure::Full));
            state.setups.failed(boot_now(), Failure::Full);
            self.changed.notify_waiters();
            return;
        };
        let line = Line::new(boot_now(), state.setups.good_for(boot_now()));
        let kept = Arc::new(Kept { line: Mutex::new(line), stirred: Notify::new() });
        let under_way = UnderWay { slot: Arc::clone(self), ended: false };
        tokio::spawn(under_way.run(source, Arc::clone(upstream), kept, permit));
    }

    /// Counts and tells how a set-up ended, for the upstream whose question it was.
    fn note(&self, upstream: &str, ended: Result<bool, &Failure>) {
        let outcome = match ended {
            Ok(false) => Connected::Opened,
            Ok(true) => Connected::Resumed,
            Err(failure) => failure.outcome(),
        };
        self.shared.metrics.upstream(upstream).connected(outcome).inc();
        let Err(failure) = ended else { return };
        let (address, protocol) = (self.peer.address, self.peer.protocol.as_str());
        match failure {
            Failure::Certificate(broken) => {
                let rule = broken.rule.as_str();
                limited!(
                    WARN, upstream, %address, protocol, rule, %broken,
                    "upstream did not prove who it is, and is not asked"
                );
            }
            failure => {
                limited!(WARN, upstream, %address, protocol, %failure, "no connection to upstream");
            }
        }
    }

    fn leave(&self) {
        for link in &self.state.lock().links {
            link.kept.leave();
        }
    }
}

/// A set-up that has not ended yet, whatever becomes of it.
struct UnderWay {
    slot: Arc<Slot>,
    ended: bool,
}

impl UnderWay {
    async fn run(
        mut self,
        source: IpAddr,
        upstream: Arc<str>,
        kept: Arc<Kept>,
        _permit: OwnedSemaphorePermit,
    ) {
        let slot = Arc::clone(&self.slot);
        let set_up = timeout(SETUP_TIME_MAX, slot.connect(source, &kept));
        let connected = set_up.await.unwrap_or(Err(Failure::Late));
        slot.note(&upstream, connected.as_ref().map(|(_, _, resumed)| *resumed));
        let (asker, keeper) = match connected {
            Ok((asker, keeper, _)) => (asker, keeper),
            Err(failure) => return self.failed(failure),
        };
        let changed = Arc::clone(&slot.changed);
        let link = Arc::new(Link { kept, asker, changed, opened: Instant::now() });
        self.ended = true;
        {
            let mut state = slot.state.lock();
            state.setups.succeeded();
            state.links.push(Arc::clone(&link));
        }
        slot.changed.notify_waiters();
        let good_for = keeper.await;
        let mut state = slot.state.lock();
        state.links.retain(|other| !Arc::ptr_eq(other, &link));
        if let Some(good_for) = good_for {
            state.setups.learn(boot_now(), good_for);
        }
        drop(state);
        slot.changed.notify_waiters();
    }

    fn failed(&mut self, failure: Failure) {
        self.ended = true;
        self.slot.state.lock().setups.failed(boot_now(), failure);
        self.slot.changed.notify_waiters();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.failed(Failure::Lost);
        }
    }
}

impl Slot {
    /// A connection, and whether it resumed a session.
    async fn connect(
        &self,
        source: IpAddr,
        kept: &Arc<Kept>,
    ) -> Result<(Asker, Keeper, bool), Failure> {
        let address = self.peer.address;
        match (self.peer.protocol, &self.peer.identity) {
            (Protocol::Udp | Protocol::Tcp, _) => {
                let stream = setup::tcp(address, source).await?;
                let (asker, keeper) = framed::start(stream, Arc::clone(kept));
                Ok((Asker::Framed(asker), keeper, false))
            }
            (Protocol::Tls, Some(identity)) => {
                let tls = self.tls(identity).await?;
                let stream = setup::tcp(address, source).await?;
                let (stream, resumed) = tls.over(stream, address).await?;
                let (asker, keeper) = framed::start(stream, Arc::clone(kept));
                Ok((Asker::Framed(asker), keeper, resumed))
            }
            (Protocol::Https, Some(identity)) => {
                let head = doh::Head::new(identity, address)?;
                let tls = self.tls(identity).await?;
                let stream = setup::tcp(address, source).await?;
                let (stream, resumed) = tls.over(stream, address).await?;
                let (asker, keeper) = https::start(stream, head, Arc::clone(kept)).await?;
                Ok((Asker::Https(asker), keeper, resumed))
            }
            (Protocol::H3, Some(identity)) => {
                let head = doh::Head::new(identity, address)?;
                let tls = self.tls(identity).await?;
                let connected = quic::connect(&tls, Protocol::H3, address, source).await?;
                let (endpoint, connection, resumed) = connected;
                let started = h3::start(endpoint, connection, head, Arc::clone(kept)).await;
                started.map(|(asker, keeper)| (Asker::H3(asker), keeper, resumed))
            }
            (Protocol::Quic, Some(identity)) => {
                let tls = self.tls(identity).await?;
                let connected = quic::connect(&tls, Protocol::Quic, address, source).await?;
                let (endpoint, connection, resumed) = connected;
                let (asker, keeper) = quic::start(endpoint, connection, Arc::clone(kept));
                Ok((Asker::Quic(asker), keeper, resumed))
            }
            // An encrypted peer always has one; and without it nobody is asked.
            (_, None) => Err(Failure::Protocol("nothing says who it must prove to be".into())),
        }
    }

    /// TLS as it is spoken here; made anew now and then, so that roots are read again.
    async fn tls(&self, identity: &Arc<Identity>) -> Result<Tls, Failure> {
        if let Some(tls) = self.tls.lock().as_ref().filter(|tls| tls.is_fresh()) {
            return Ok(tls.clone());
        }
        let tls = Tls::new(Arc::clone(identity), self.peer.protocol).await?;
        *self.tls.lock() = Some(tls.clone());
        Ok(tls)
    }
}

/// A place on a connection, until it is dropped.
struct Turn {
    link: Arc<Link>,
}

impl Turn {
    async fn ask(&self, question: &[u8]) -> Result<Said, Failure> {
        let said = self.said(question).await;
        // Where many share a stream, who reads it hears it first.
        if said.is_ok() && !matches!(self.link.asker, Asker::Framed(_)) {
            self.link.kept.line.lock().heard(boot_now());
        }
        said
    }

    async fn said(&self, question: &[u8]) -> Result<Said, Failure> {
        match &self.link.asker {
            Asker::Framed(asker) => {
                asker.ask(question).await.map(|message| Said { message, age_secs: 0 })
            }
            Asker::Quic(asker) => {
                asker.ask(question).await.map(|message| Said { message, age_secs: 0 })
            }
            Asker::Https(asker) => asker.ask(question).await,
            Asker::H3(asker) => asker.ask(question).await,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (was_full, quiet) = {
            let mut line = self.link.kept.line.lock();
            let was_full = line.is_full();
            line.left(boot_now());
            (was_full, line.is_quiet())
        };
        if was_full {
            self.link.changed.notify_waiters();
        }
        if quiet {
            self.link.kept.stirred.notify_one();
        }
    }
}

impl Link {
    fn take(self: &Arc<Self>) -> Option<Turn> {
        let mut line = self.kept.line.lock();
        if line.take(boot_now()) {
            drop(line);
            return Some(Turn { link: Arc::clone(self) });
        }
        if line.is_leaving() {
            self.kept.stirred.notify_one();
        }
        None
    }
}

impl Kept {
    /// Waits until nobody needs the connection any more; from then on it takes nothing.
    async fn over(&self) {
        loop {
            let over_at = {
                let (now, mut line) = (boot_now(), self.line.lock());
                if line.is_over(now) {
                    line.leave();
                    return;
                }
                line.over_at().map(|at| at.saturating_since(now))
            };
            match over_at {
                Some(left) => tokio::select! {
                    () = sleep(left) => {}
                    () = self.stirred.notified() => {}
                },
                None => self.stirred.notified().await,
            }
        }
    }

    fn leave(&self) {
        self.line.lock().leave();
        self.stirred.notify_one();
    }
}

impl Failure {
    fn outcome(&self) -> Connected {
        match self {
            Self::Here(_) | Self::Full => Connected::Here,
            Self::There(_) | Self::Lost => Connected::Unreachable,
            Self::Late => Connected::Timeout,
            Self::Tls(_) => Connected::Tls,
            Self::Protocol(_) | Self::Status(_) => Connected::Protocol,
            Self::Certificate(broken) => match broken.rule {
                Rule::Name => Connected::CertificateName,
                Rule::Time => Connected::CertificateTime,
                Rule::Issuer => Connected::CertificateIssuer,
                Rule::Pin => Connected::CertificatePin,
                Rule::Other => Connected::Certificate,
            },
        }
    }
}

/// Connections made for one question that may end before its answer: the second time it may well
/// be the question.
const FRESH_LOST_MAX: usize = 2;

/// Connections with all servers, set-ups included; past it questions fail as if there were no
/// socket. A fourth of what a process may open on most systems.
const PLACES_MAX: usize = 256;

#[cfg(test)]
mod tests;
