//! Asking others: upstreams, or the servers of each zone from the root down.
//!
//! The door. A [`Resolver`] takes a question and comes back with an answer, whatever happens:
//! failures are SERVFAIL answers with an extended error (RFC 8914). It keeps no answers; that is
//! the cache's work, for as long as [`Answer::life`] says.
//!
//! ```text
//!   resolve ──▶ flights ──┬─▶ upstreams ──▶ machine ──┬─▶ wire ──▶ sockets
//!               one for   │   whom to       what      │   octets   (driver)
//!               each      │   ask           next      │
//!                         └─▶ iterate: recursion ─────┘
//!                             known: what was replied
//! ```
//!
//! Each attempt over UDP uses a fresh socket with a random port and a random id; over TCP, TLS,
//! QUIC and HTTP many share a kept connection (`line`, `setups`), which over the encrypted ones
//! is made only with who proves to be the upstream that is meant (`trust`). An upstream that leads
//! back to us is found by asking each for a name of ours that nobody can guess
//! (`<16 hexadecimal digits>.loop.resolverd.test.`): when that question comes in,
//! [`Resolver::is_own_probe`] knows it.

pub mod dnssec;
pub mod driver;
pub mod ear;
pub mod flights;
pub mod flushes;
pub mod iterate;
pub mod known;
pub mod line;
pub mod machine;
pub mod options;
pub mod reply;
pub mod setups;
pub mod system;
pub mod trust;
pub mod upstreams;
pub mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::{Answer, Ede, Name, Query};
use crate::metrics::Metrics;

pub use driver::links::bounded;
pub use driver::{read_system_resolvers, read_system_roots};
pub use ear::Heard;
pub use flights::FlightsMax;
pub use flushes::Flushed;
pub use iterate::driver::Recursion;
pub use iterate::{Options, Stub, hints};
pub use reply::{Fetch, Reply};
pub use system::exclude;
pub use trust::Identity;
pub use upstreams::{Health, UpstreamSpec, UpstreamState};

/// What the resolver is to do. May be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bounds on how long answers are believed; whole seconds count.
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    pub negative_ttl_max: Duration,
    /// How long a failure is remembered (RFC 9520 section 3.2).
    pub failure_ttl: Duration,
    /// For one question as a whole, all attempts included.
    pub timeout: Duration,
    /// What our OPT says to upstreams.
    pub edns_size: u16,
    /// Questions under way at once.
    pub flights: FlightsMax,
    /// Whether upstreams may be asked over IPv4, and over IPv6.
    pub ipv4: bool,
    pub ipv6: bool,
    /// Addresses of ours to ask upstreams from; of a family without one, any.
    pub query_source: Vec<IpAddr>,
    /// In the order in which they are asked until they are measured.
    pub upstreams: Vec<UpstreamSpec>,
    /// How names are resolved that no upstream is for. None: not at all.
    pub recursion: Option<Arc<Recursion>>,
    /// What is believed only with a chain of signatures. None: nothing is validated.
    pub dnssec: Option<Arc<dnssec::driver::Policy>>,
}

/// Cheap to clone: all clones are one resolver.
///
/// Questions under way go on when the last clone is dropped, until they are answered or their
/// time is over.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<driver::Shared>,
}

impl Resolver {
    /// Must be called within a tokio runtime. A moment later, when the listeners can be expected
    /// to stand, upstreams are tried for loops.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self { shared: driver::Shared::start(settings, metrics) }
    }

    /// The answer to `query`, from an upstream or made of their failure. Who asks what is under
    /// way already gets the same answer. Dropping the future costs the answer, not the question.
    pub async fn resolve(&self, query: Query) -> Answer {
        self.shared.resolve(query).await
    }

    /// Who asks from now on gets no answer that was asked for before, and what was flushed is
    /// forgotten here as well. Those who wait already get theirs.
    pub fn flushed(&self, what: &Flushed) {
        self.shared.flushed(what);
    }

    /// Whether answers of recursion are to say whose servers led to them. From the first time on
    /// what is known is learned anew: it does not say so.
    pub fn trace(&self, wanted: bool) {
        self.shared.trace(wanted);
    }

    /// Takes over new settings, if they are new. Questions under way end as they began. What is
    /// known about upstreams that stay is kept, and all are tried for loops anew.
    pub fn reconfigure(&self, settings: Settings) {
        self.shared.reconfigure(settings);
    }

    /// Asks every upstream for its name of ours. For callers that know better than `new` when
    /// all listeners stand, or that the network changed.
    pub fn look_for_loops(&self) {
        self.shared.look_for_loops();
    }

    /// Whether a query that came in is one of ours that came back. The upstream it went to is not
    /// asked any more until the next change. The caller refuses such a query: resolving it would
    /// go round once more.
    #[must_use]
    pub fn is_own_probe(&self, name: &Name) -> bool {
        self.shared.is_own_probe(name)
    }

    /// Who is asked about a name that no cache has, in one sentence.
    #[must_use]
    pub fn would_ask(&self, name: &Name) -> String {
        self.shared.would_ask(name)
    }

    /// Whether what is said of `name` is validated, by the settings of now.
    #[must_use]
    pub fn validates(&self, name: &Name) -> bool {
        self.shared.validates(name)
    }

    /// Puts a question of the daemon's own, as if nothing were known of it yet. DNSSEC records
    /// come along; nothing of it is validated.
    pub async fn ask_anew(&self, fetch: Fetch) -> Result<Reply, Ede> {
        self.shared.ask_anew(fetch).await
    }

    /// Has `listener` told of each message to and from upstreams. It is called in their midst, and
    /// must not wait. The first listener stays.
    pub fn listen(&self, listener: impl Fn(&Heard<'_>) + Send + Sync + 'static) {
        self.shared.ear().listen(listener);
    }

    /// How the upstreams stand, in the order of the configuration.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.shared.states()
    }
}
