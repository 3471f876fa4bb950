//! Does what the machines decide: sockets, timers, ids, logs and counts.
//!
//! Tasks, and what becomes of them:
//!
//! - a **flight** for each question, at most `flights_max`. It ends with an answer, at the latest
//!   after `timeout`, or when it gives way to a newer one; nobody waits for it longer. If it dies,
//!   its waiters get SERVFAIL.
//! - an **attempt** for each question to an upstream, at most [`ATTEMPTS_MAX`] a flight and
//!   [`SOCKETS_MAX`] in all. It outlives its flight until it is clear how the upstream did, but
//!   no longer than [`SILENT_AFTER`]: a slow upstream is learned from even when a faster one won.
//!   Dropped with the runtime, it closes its socket or gives up its place on a connection.
//! - a **connection** for each server that is asked over one, and few more: see `links.rs`.
//! - the **look for loops** once after the start; it ends after sending.
//!
//! [`ATTEMPTS_MAX`]: super::machine::ATTEMPTS_MAX

mod answering;
mod exchange;
pub mod links;
mod resolv_conf;
mod validation;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use crate::clock::boot_now;
use crate::dns::{Answer, Ede, Name, Query, rcode, rtype};
use crate::metrics::{Metrics, Outcome, ShedCause, UpstreamMetrics};

use super::Settings;
use super::dnssec::driver::Validator;
use super::ear::Ear;
use super::flights::{FlightId, Flights, Full, Joined, Shed};
use super::flushes::Flushed;
use super::iterate::driver::{RECURSION, Recursor};
use super::known::Bounds;
use super::machine::{ATTEMPTS_MAX, Ask, Attempt, Came, Input, Machine, Output, Told, Transport};
use super::upstreams::{Change, Report, UpstreamId, UpstreamState, Upstreams, is_probe};
use super::wire::Reject;

use exchange::{Exchange, Trouble};
pub(super) use exchange::{random, receive, source};
pub use links::read_system_roots;
use links::{Failure, Links};
pub use resolv_conf::read_system_resolvers;

/// All clones of a resolver, and its tasks, hold this.
pub(super) struct Shared {
    settings: ArcSwap<Settings>,
    board: Mutex<Board>,
    flights: Mutex<Flights<oneshot::Sender<Answer>, AbortHandle>>,
    sockets: Arc<Semaphore>,
    links: Links,
    /// What recursion has learnt stays when the mode changes.
    recursor: Recursor,
    ear: Ear,
    validator: Validator,
    metrics: Arc<Metrics>,
}

/// What is known about upstreams, and where it is counted.
struct Board {
    upstreams: Upstreams,
    metrics: HashMap<UpstreamId, UpstreamMetrics>,
}

impl Shared {
    pub(super) fn start(settings: Settings, metrics: Arc<Metrics>) -> Arc<Self> {
        let (sockets, ear) = (Arc::new(Semaphore::new(SOCKETS_MAX)), Ear::default());
        let shared = Arc::new(Self {
            flights: Mutex::new(Flights::new(settings.flights)),
            board: Mutex::new(Board { upstreams: Upstreams::default(), metrics: HashMap::new() }),
            settings: ArcSwap::from_pointee(settings),
            recursor: Recursor::new(Arc::clone(&sockets), ear.clone(), Arc::clone(&metrics)),
            validator: Validator::default(),
            links: Links::new(Arc::clone(&metrics)),
            sockets,
            ear,
            metrics,
        });
        shared.take_over_upstreams();
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            sleep(LISTENERS_STAND_AFTER).await;
            if let Some(shared) = weak.upgrade() {
                shared.look_for_loops();
            }
        });
        shared
    }

    pub(super) async fn resolve(self: &Arc<Self>, query: Query) -> Answer {
        let query = Arc::new(query);
        let (waiter, answer) = oneshot::channel();
        let joined = {
            let mut flights = self.flights.lock();
            let joined = flights.join(&query, waiter, || self.zone_of(&query.name));
            self.count_flights(&flights);
            joined
        };
        match joined {
            Joined::Follows => {}
            Joined::Leads(id, shed) => {
                if let Some(shed) = shed {
                    self.shed(shed);
                }
                // Made here, so that the flight lands even if its task is never polled.
                let landing = Landing { shared: Arc::clone(self), flight: Some(id) };
                let task = tokio::spawn(landing.fly(query));
                self.flights.lock().started(id, task.abort_handle());
            }
            Joined::Full(full) => {
                let (cause, text) = match full {
                    Full::Waiters => (ShedCause::Waiters, "too many wait for this answer"),
                    Full::Zone => (ShedCause::Zone, "too many questions wait for this zone"),
                };
                self.metrics.resolver_flights_shed(cause).inc();
                return failure(text);
            }
        }
        answer.await.unwrap_or_else(|_| failure("the resolver was stopped"))
    }

    /// Ends a flight that gave way. Who waits for it hears so at once: a client that hears "no"
    /// retries sooner than one that hears nothing, and may ask somebody else.
    fn shed(&self, shed: Shed<oneshot::Sender<Answer>, AbortHandle>) {
        self.metrics.resolver_flights_shed(ShedCause::Oldest).inc();
        if let Some(task) = shed.task {
            task.abort();
        }
        for waiter in shed.waiters {
            let _ = waiter.send(failure("too many questions wait: it gave way to newer ones"));
        }
    }

    pub(super) fn flushed(&self, what: &Flushed) {
        self.flights.lock().next_turn();
        self.recursor.flush(what);
        match what {
            Flushed::All => self.validator.forget_all(),
            Flushed::Name(name) | Flushed::Zone(name) => self.validator.forget_under(name),
        }
    }

    pub(super) fn trace(&self, wanted: bool) {
        if self.recursor.world().trace(wanted) {
            self.flights.lock().next_turn();
            self.recursor.flush(&Flushed::All);
        }
    }

    /// Asks upstreams.
    async fn forward(
        self: &Arc<Self>,
        query: &Arc<Query>,
        settings: &Arc<Settings>,
    ) -> Result<Told, Ede> {
        let now = boot_now();
        let deadline = Instant::now() + settings.timeout;
        let plan = self.board.lock().upstreams.plan(now, &query.name);
        // Boxed: a channel makes room for 32 at once, and one comes.
        let (results, mut came) = mpsc::channel(ATTEMPTS_MAX);
        if let Some(probe) = plan.probe {
            let ask = Ask {
                attempt: 0,
                upstream: probe.id,
                transport: Transport::Udp,
                edns: probe.edns,
                downgraded: false,
            };
            self.attempt(ask, query, settings, deadline, None);
        }
        let mut machine = Machine::new(now, &plan.candidates, settings.timeout);
        let mut outputs = Vec::new();
        machine.step(now, Input::Start, &mut outputs);
        loop {
            for output in outputs.drain(..) {
                match output {
                    Output::Ask(ask) => {
                        self.attempt(ask, query, settings, deadline, Some(results.clone()));
                    }
                    Output::Done(result) => return result,
                }
            }
            let wake = machine.wake_at().unwrap_or_default();
            let input = tokio::select! {
                Some(came) = came.recv() => Input::Came(came.0, came.1),
                () = sleep(wake.saturating_since(boot_now())) => Input::Wake,
            };
            machine.step(boot_now(), input, &mut outputs);
        }
    }

    /// Starts one attempt. Without `results` nobody waits for it: a probe.
    fn attempt(
        self: &Arc<Self>,
        ask: Ask,
        query: &Arc<Query>,
        settings: &Arc<Settings>,
        deadline: Instant,
        results: Option<mpsc::Sender<Box<(Attempt, Came)>>>,
    ) {
        let spec = self.board.lock().upstreams.sent(ask.upstream);
        let permit = Arc::clone(&self.sockets).try_acquire_owned();
        let (Some(spec), Ok(permit)) = (spec, permit) else {
            // Taken away by a reload, or no socket is left. Neither says anything about it.
            if let Some(results) = results {
                // There is room for one result of each attempt.
                let _ = results.try_send(Box::new((ask.attempt, Came::Unreachable)));
            }
            return;
        };
        let (query, settings) = (Arc::clone(query), Arc::clone(settings));
        let (ear, links) = (self.ear.clone(), self.links.clone());
        let exchange = Exchange { ask, spec, query, settings, ear, links };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            shared.see_through(&exchange, deadline, results).await;
        });
    }

    /// Waits for what comes of an exchange, and tells the flight and the books.
    async fn see_through(
        &self,
        exchange: &Exchange,
        deadline: Instant,
        results: Option<mpsc::Sender<Box<(Attempt, Came)>>>,
    ) {
        let started = Instant::now();
        let mut running = pin!(exchange.run());
        let silent = (started + SILENT_AFTER).min(deadline);
        let mut ended = timeout_at(silent, &mut running).await.ok();
        if ended.is_none() {
            self.report(exchange, Report::Silent);
            // While the flight is in the air, a late answer is still one.
            if let Some(results) = &results {
                tokio::select! {
                    late = timeout_at(deadline, running) => ended = late.ok(),
                    () = results.closed() => {}
                }
            }
        }
        let Some(ended) = ended else { return self.count(exchange, Outcome::Timeout) };
        let took = started.elapsed();
        let (report, outcome, came) = match ended {
            Ok(reply) => {
                if exchange.ask.downgraded {
                    self.board.lock().upstreams.avoid_edns(boot_now(), exchange.ask.upstream);
                }
                let told = Told { reply, upstream: Arc::clone(&exchange.spec.name) };
                (Some(Report::Answered(took)), Outcome::Answer, Came::Answer(told))
            }
            Err(trouble) => {
                debug!(upstream = &*exchange.spec.name, %trouble, "upstream gave no answer");
                sort(trouble, took)
            }
        };
        self.count(exchange, outcome);
        if let Some(report) = report {
            // Who serves a zone alone refuses the name that looks for loops, and is well.
            let refused = report == Report::Useless && is_probe(&exchange.query.name);
            self.report(exchange, if refused { Report::Failed } else { report });
        }
        if let Some(results) = results {
            // The flight may have ended meanwhile.
            let _ = results.try_send(Box::new((exchange.ask.attempt, came)));
        }
    }

    fn count(&self, exchange: &Exchange, outcome: Outcome) {
        if let Some(metrics) = self.board.lock().metrics.get(&exchange.ask.upstream) {
            metrics.queries(outcome).inc();
        }
    }

    fn report(&self, exchange: &Exchange, report: Report) {
        let id = exchange.ask.upstream;
        let mut board = self.board.lock();
        let change = board.upstreams.report(boot_now(), id, report);
        let Some(metrics) = board.metrics.get(&id) else { return };
        if let Report::Answered(took) = report {
            metrics.duration.observe(took.as_secs_f64());
        }
        let upstream = &*exchange.spec.name;
        // At most one line of each kind in a back-off.
        match change {
            Some(Change::SetAside(pause)) => {
                metrics.healthy.set(0);
                warn!(upstream, ?pause, "upstream set aside");
            }
            Some(Change::Back) => {
                metrics.healthy.set(1);
                info!(upstream, "upstream is back");
            }
            None => {}
        }
    }

    pub(super) fn reconfigure(self: &Arc<Self>, settings: Settings) {
        // What is known of loops would be forgotten, and looked for anew.
        if **self.settings.load() == settings {
            return;
        }
        self.flights.lock().set_most(settings.flights);
        let before = self.settings.swap(Arc::new(settings));
        if before.dnssec != self.settings.load().dnssec {
            self.validator.forget_all();
        }
        if before.recursion != self.settings.load().recursion {
            // Where other servers are asked, or others may be, what they said is no guide.
            self.recursor.flush(&Flushed::All);
        }
        if before.query_source != self.settings.load().query_source {
            self.links.leave();
        }
        self.take_over_upstreams();
        self.look_for_loops();
    }

    fn take_over_upstreams(&self) {
        let settings = self.settings.load();
        let Settings { ttl_max, negative_ttl_max, .. } = **settings;
        let known = &self.recursor.world().known;
        known.set_bounds(boot_now(), Bounds { ttl_max, negative_ttl_max });
        let usable = settings.upstreams.iter().filter(|upstream| match upstream.address {
            SocketAddr::V4(_) => settings.ipv4,
            SocketAddr::V6(_) => settings.ipv6,
        });
        let mut board = self.board.lock();
        let Board { upstreams, metrics } = &mut *board;
        upstreams.reconfigure(usable.cloned());
        self.links.retain(&upstreams.ids().map(|(_, spec)| exchange::peer(spec)).collect());
        let recursion = settings.recursion.as_ref().map(|_| RECURSION);
        let own = upstreams.ids().map(|(_, spec)| &*spec.name);
        let names: Vec<&str> = own.chain(recursion).collect();
        self.metrics.retain_upstreams(&names);
        *metrics = upstreams
            .ids()
            .map(|(id, spec)| (id, self.metrics.upstream(&spec.name)))
            .inspect(|(_, handles)| handles.healthy.set(1))
            .collect();
        if let Some(name) = recursion {
            self.metrics.upstream(name).healthy.set(1);
        }
        // Those that are set aside stay so.
        for (state, (id, _)) in upstreams.states(boot_now()).iter().zip(upstreams.ids()) {
            if matches!(state.health, super::Health::SetAside(_))
                && let Some(handles) = metrics.get(&id)
            {
                handles.healthy.set(0);
            }
        }
    }

    pub(super) fn look_for_loops(self: &Arc<Self>) {
        let probes = self.board.lock().upstreams.expect_probes(random);
        let settings = self.settings.load_full();
        for (upstream, name) in probes {
            let query = Arc::new(Query {
                name,
                qtype: rtype::TXT,
                dnssec_ok: false,
                checking_disabled: false,
                view: 0,
            });
            let ask = Ask {
                attempt: 0,
                upstream,
                transport: Transport::Udp,
                edns: true,
                downgraded: false,
            };
            self.attempt(ask, &query, &settings, Instant::now() + SILENT_AFTER, None);
        }
    }

    pub(super) fn is_own_probe(&self, name: &Name) -> bool {
        let mut board = self.board.lock();
        let Some((upstream, news)) = board.upstreams.recognise(name) else { return false };
        self.metrics.upstream_loops.inc();
        if news {
            for (id, spec) in board.upstreams.ids() {
                if spec.name == upstream
                    && let Some(handles) = board.metrics.get(&id)
                {
                    handles.healthy.set(0);
                }
            }
            warn!(%upstream, "upstream leads back to us and is not asked any more");
        }
        true
    }

    pub(super) fn ear(&self) -> &Ear {
        &self.ear
    }

    pub(super) fn states(&self) -> Vec<UpstreamState> {
        self.board.lock().upstreams.states(boot_now())
    }

    fn count_flights(&self, flights: &Flights<oneshot::Sender<Answer>, AbortHandle>) {
        self.metrics.resolver_flights.set(i64::try_from(flights.len()).unwrap_or(i64::MAX));
    }
}

/// Ends a flight, whatever became of it.
struct Landing {
    shared: Arc<Shared>,
    /// None once landed.
    flight: Option<FlightId>,
}

impl Landing {
    async fn fly(mut self, query: Arc<Query>) {
        let answer = self.shared.fly(&query).await;
        for waiter in self.take_waiters() {
            // Who waited may be gone.
            let _ = waiter.send(answer.clone());
        }
    }

    fn take_waiters(&mut self) -> Vec<oneshot::Sender<Answer>> {
        let Some(id) = self.flight.take() else { return Vec::new() };
        let mut flights = self.shared.flights.lock();
        let waiters = flights.land(id);
        self.shared.count_flights(&flights);
        waiters
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // Waiters that are left see their channel close.
        drop(self.take_waiters());
    }
}

/// What trouble means for the upstream, for the metrics, and for the flight.
fn sort(trouble: Trouble, took: Duration) -> (Option<Report>, Outcome, Came) {
    let reject = match trouble {
        // Sockets that we have not got say nothing about the upstream.
        Trouble::Here(_) => return (None, Outcome::Unreachable, Came::Unreachable),
        Trouble::There(_) => {
            return (Some(Report::Unreachable), Outcome::Unreachable, Came::Unreachable);
        }
        Trouble::Link(Failure::Here(_) | Failure::Full) => {
            return (None, Outcome::Unreachable, Came::Unreachable);
        }
        Trouble::Link(Failure::Status(_) | Failure::Protocol(_)) => {
            return (Some(Report::Useless), Outcome::Failure, Came::Refused(None));
        }
        Trouble::Link(Failure::Certificate(_)) => {
            return (Some(Report::Unreachable), Outcome::Unreachable, Came::Distrusted);
        }
        Trouble::Link(_) => {
            return (Some(Report::Unreachable), Outcome::Unreachable, Came::Unreachable);
        }
        Trouble::Reject(reject) => reject,
    };
    let (report, outcome, came) = match reject {
        Reject::Truncated => (Report::Answered(took), Outcome::Truncated, Came::Truncated),
        Reject::NoEdns => (Report::Failed, Outcome::Failure, Came::NoEdns),
        Reject::Rcode(2, ede) => (Report::Failed, Outcome::Failure, Came::Refused(ede)),
        Reject::Rcode(_, ede) => (Report::Useless, Outcome::Failure, Came::Refused(ede)),
        Reject::Referral => (Report::Useless, Outcome::Failure, Came::Refused(None)),
        Reject::Foreign(_) | Reject::Malformed(_) | Reject::Records(_) => {
            (Report::Useless, Outcome::Malformed, Came::Refused(None))
        }
    };
    (Some(report), outcome, came)
}

/// A failure of ours; not to be remembered.
fn failure(text: &str) -> Answer {
    let ede = Ede { code: 0, text: text.to_owned() };
    Answer::empty(rcode::SERVFAIL, Duration::ZERO, Some(ede))
}

/// Questions under way to upstreams, late attempts and probes included. Well below the ports
/// the kernel draws from (28,232), so that they stay hard to guess.
const SOCKETS_MAX: usize = 12_288;

/// An attempt without an answer for so long counts against the upstream.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// How long the daemon may take to listen after the resolver was made.
const LISTENERS_STAND_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
