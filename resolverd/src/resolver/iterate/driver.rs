//! Does what machines of recursion decide: sockets, timers, chance, logs and counts.
//!
//! Tasks, and what becomes of them: **priming**, at most one at a time; nobody waits for it, and
//! it ends within `resolve.timeout`. All else runs in the task of the flight that asks, and ends
//! with it: dropped, it closes its sockets. Flights that put the same question to the same server
//! at the same time share one exchange, so that a forger has one to guess (RFC 5452 section 5).

mod exchange;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _, WeakShared};
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::clock::boot_now;
use crate::dns::{Ede, Name, rtype};
use crate::metrics::{Metrics, Outcome};
use crate::resolver::driver::random;
use crate::resolver::ear::Ear;
use crate::resolver::flushes::Flushed;
use crate::resolver::reply::{Fetch, Reply};

use super::machine::{Ask, Came, Input, Machine, Output, Purpose};
use super::{Options, World};

use exchange::Exchange;

/// How recursion reaches the world, as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recursion {
    pub options: Arc<Options>,
    /// Addresses of ours to ask from; of a family without one, any.
    pub query_source: Vec<IpAddr>,
    /// What our OPT says to servers.
    pub edns_size: u16,
}

/// What all questions share. Cheap to clone.
#[derive(Clone)]
pub struct Recursor {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    exchanges: Mutex<HashMap<Ask, WeakShared<BoxFuture<'static, Came>>>>,
    sockets: Arc<Semaphore>,
    ear: Ear,
    metrics: Arc<Metrics>,
    priming: AtomicBool,
}

/// Asks upstreams for a name that is forwarded.
pub type Upstreams = Arc<dyn Fn(Fetch) -> BoxFuture<'static, Result<Reply, Ede>> + Send + Sync>;

impl Recursor {
    #[must_use]
    pub fn new(sockets: Arc<Semaphore>, ear: Ear, metrics: Arc<Metrics>) -> Self {
        let world = World::new(KNOWN_OCTETS_MAX);
        let shared = Shared {
            world,
            exchanges: Mutex::default(),
            sockets,
            ear,
            metrics,
            priming: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Replies that are kept, delegations, and how servers behave.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.shared.world
    }

    pub fn flush(&self, what: &Flushed) {
        self.shared.world.flush(boot_now(), what);
    }

    /// The reply to one question, or why there is none; at the latest after the time-out.
    /// Dropped, it stops asking.
    pub async fn fetch(
        &self,
        fetch: Fetch,
        purpose: Purpose,
        recursion: &Arc<Recursion>,
        upstreams: &Upstreams,
    ) -> Result<Reply, Ede> {
        let reply = self.run(fetch, purpose, recursion, upstreams).await;
        let Shared { world, metrics, .. } = &*self.shared;
        let count = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        metrics.resolver_replies_known.set(count(world.known.len()));
        metrics.resolver_delegations.set(count(world.delegations.len()));
        metrics.resolver_servers.set(count(world.servers.len()));
        reply
    }

    async fn run(
        &self,
        fetch: Fetch,
        purpose: Purpose,
        recursion: &Arc<Recursion>,
        upstreams: &Upstreams,
    ) -> Result<Reply, Ede> {
        let seed = u64::from_ne_bytes(random());
        let options = Arc::clone(&recursion.options);
        let mut machine = Machine::new(boot_now(), fetch, purpose, options, seed);
        let mut running: FuturesUnordered<BoxFuture<'static, Input>> = FuturesUnordered::new();
        let mut outputs = Vec::new();
        let mut input = Input::Start;
        loop {
            machine.step(boot_now(), input, &self.shared.world, &mut outputs);
            for output in outputs.drain(..) {
                match output {
                    Output::Ask(ask) => {
                        let attempt = ask.attempt;
                        let exchange = self.exchange(ask, recursion);
                        running.push(exchange.map(move |came| Input::Came(attempt, came)).boxed());
                    }
                    Output::Fetch(ticket, fetch) => {
                        let reply = upstreams(fetch);
                        running.push(reply.map(move |r| Input::Fetched(ticket, r)).boxed());
                    }
                    Output::Prime => self.prime(recursion, upstreams),
                    Output::Done(result) => return result,
                }
            }
            let wake = machine.wake_at().unwrap_or_default();
            input = tokio::select! {
                Some(input) = running.next() => input,
                () = sleep(wake.saturating_since(boot_now())) => Input::Wake,
            };
        }
    }

    /// One question to one server, shared with who asks the same of it now.
    fn exchange(&self, ask: Ask, recursion: &Arc<Recursion>) -> BoxFuture<'static, Came> {
        // The number is the flight's own.
        let key = Ask { attempt: 0, ..ask };
        let mut exchanges = self.shared.exchanges.lock();
        if let Some(running) = exchanges.get(&key).and_then(WeakShared::upgrade) {
            return running.boxed();
        }
        let berth = Berth { shared: Arc::clone(&self.shared), key: key.clone() };
        let recursion = Arc::clone(recursion);
        let exchange = async move { berth.run(&recursion).await }.boxed().shared();
        if let Some(weak) = exchange.downgrade() {
            exchanges.insert(key, weak);
        }
        exchange.boxed()
    }

    /// Has the root describe itself, unless that is under way.
    fn prime(&self, recursion: &Arc<Recursion>, upstreams: &Upstreams) {
        if self.shared.priming.swap(true, Ordering::AcqRel) {
            return;
        }
        let (recursor, recursion) = (self.clone(), Arc::clone(recursion));
        let upstreams = Arc::clone(upstreams);
        tokio::spawn(async move {
            let fetch = Fetch { name: Name::root(), qtype: rtype::NS };
            let primed = recursor.run(fetch, Purpose::Prime, &recursion, &upstreams).await;
            let shared = &recursor.shared;
            match primed {
                Ok(_) => {
                    shared.metrics.resolver_primings.inc();
                    info!("the root servers are known");
                }
                Err(ede) => {
                    warn!(reason = %ede.text, "priming failed; the hints go on being used");
                    sleep(PRIME_PAUSE).await;
                }
            }
            shared.priming.store(false, Ordering::Release);
        });
    }
}

/// An exchange's place among those under way; given up when it is over or dropped.
struct Berth {
    shared: Arc<Shared>,
    key: Ask,
}

impl Berth {
    async fn run(self, recursion: &Recursion) -> Came {
        let metrics = self.shared.metrics.upstream(RECURSION);
        let Ok(permit) = Arc::clone(&self.shared.sockets).try_acquire_owned() else {
            return Came::NoSocket;
        };
        let started = Instant::now();
        let exchange = Exchange { ask: &self.key, recursion, ear: &self.shared.ear };
        let Ok(came) = timeout(recursion.options.timeout, exchange.run()).await else {
            metrics.queries(Outcome::Timeout).inc();
            // Silence is no news: who waits has his own time. Nobody joins any more.
            drop((permit, self));
            return std::future::pending().await;
        };
        let outcome = match &came {
            Came::Message(message) if message.truncated => Outcome::Truncated,
            Came::Message(message) if matches!(message.rcode, 0 | 3 | 6) => {
                metrics.duration.observe(started.elapsed().as_secs_f64());
                Outcome::Answer
            }
            Came::Message(_) => Outcome::Failure,
            Came::Unreadable | Came::Forged => Outcome::Malformed,
            Came::Unreachable | Came::NoSocket => Outcome::Unreachable,
        };
        metrics.queries(outcome).inc();
        debug!(server = %self.key.server, ?outcome, "a server was asked");
        came
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.shared.exchanges.lock().remove(&self.key);
    }
}

/// The upstream that servers are counted under.
pub const RECURSION: &str = "recursion";

/// Of the replies kept here, by our own account. Beside `cache.memory-max`, whose entries are
/// what clients asked for; here are addresses of servers, aliases, and keys.
pub const KNOWN_OCTETS_MAX: u64 = 32 << 20;

/// After priming failed, until the next try.
const PRIME_PAUSE: Duration = Duration::from_secs(10);
