//! What is asked and answered, told to operators: the query log, and dnstap.
//!
//! The door. Whoever handles messages asks the [`Tap`] whether anybody listens, which is one load
//! and one branch, and then hands it what he sees. It is copied into a bounded queue, or dropped
//! and counted: telling never holds up an answer.
//!
//! ```text
//!   pipeline ─┐             ┌─▶ queue ─▶ line ─▶ file, stderr
//!   kernel  ──┼──▶ Tap ─────┤
//!   resolver ─┘             └─▶ queue ─▶ dnstap, wire ─▶ socket
//! ```
//!
//! Clients are cut to `privacy.client-prefix` before anything is put into a queue.

mod dnstap;
pub mod driver;
mod line;
mod reading;
mod wire;

/// For fuzz targets: what reads octets of strangers here.
#[cfg(fuzzing)]
pub mod fuzzed {
    pub use super::reading::{hide_client, told};
    pub use super::wire::Control;
    pub use crate::log::ClientPrefix;
}

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use resolverd_common::event::Event;
use resolverd_common::key::Meta;
use resolverd_common::question::HEADER_LEN;
use zerocopy::IntoBytes;

use crate::config::LogFormat;
use crate::log::{ClientPrefix, Shown};
use crate::metrics::{AnsweredBy, Metrics, Transport};
use driver::{Queue, Writers};

/// Who hears what. May be changed while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub client_prefix: ClientPrefix,
    /// How many hits of the kernel each of its reports stands for.
    pub kernel_sample: u32,
    pub query_log: Option<QueryLog>,
    pub dnstap: Option<Dnstap>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLog {
    /// One in so many of the daemon's answers is written.
    pub sample: u32,
    pub format: LogFormat,
    /// `None`: stderr.
    pub file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnstap {
    pub to: Receiver,
    /// What is sent.
    pub messages: Vec<Kind>,
    /// Sent with each message, if there is one.
    pub identity: Option<String>,
    pub version: Option<String>,
}

/// Who takes dnstap's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Which of the arrows of dnstap's diagram a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ClientQuery,
    ClientResponse,
    ResolverQuery,
    ResolverResponse,
}

/// The two ends of a message's way, as the one who asked saw them.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub client: SocketAddr,
    /// The address that was asked.
    pub server: IpAddr,
    pub transport: Transport,
}

/// A reply that is about to leave.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub way: Way,
    /// AD of the query, which a reply does not copy.
    pub authentic_data: bool,
    /// The whole message.
    pub reply: &'a [u8],
    pub by: AnsweredBy,
    /// Who was asked for it.
    pub upstream: Option<&'a Arc<str>>,
    pub took: Duration,
}

/// A message between the resolver and an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged<'a> {
    pub upstream: SocketAddr,
    pub transport: Transport,
    pub message: &'a [u8],
    /// How long it took; `None`: it is the question.
    pub took: Option<Duration>,
}

/// One message in a queue.
#[derive(Clone, Debug)]
pub struct Seen {
    kind: Kind,
    /// When it was received, or sent.
    at: SystemTime,
    /// From the query to it.
    took: Option<Duration>,
    transport: Transport,
    client: Option<Shown>,
    server: Option<IpAddr>,
    /// Told where it is an upstream's.
    server_port: Option<u16>,
    authentic_data: Option<bool>,
    by: &'static str,
    upstream: Option<Arc<str>>,
    /// Octets of the message, which may be more than stand in `message`.
    octets: usize,
    /// How many like it this one stands for.
    sample: u32,
    /// All of it; of a hit in the kernel its header, its question and perhaps an OPT.
    message: Box<[u8]>,
}

/// Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Tap {
    shared: Arc<Shared>,
}

struct Shared {
    /// What anybody listens to: bits, see [`Kind::bit`] and [`LINES`].
    heard: AtomicU8,
    outlets: ArcSwap<Outlets>,
    writers: Writers,
    metrics: Arc<Metrics>,
}

struct Outlets {
    settings: Settings,
    lines: Option<Lines>,
    dnstap: Option<Queue>,
}

struct Lines {
    queue: Queue,
    sample: u32,
    /// Answers so far, for the sampling.
    answers: AtomicU64,
}

impl Tap {
    /// Starts what the settings ask for. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let outlets = Outlets { settings: Settings::off(), lines: None, dnstap: None };
        let shared = Shared {
            heard: AtomicU8::new(0),
            outlets: ArcSwap::from_pointee(outlets),
            writers: Writers::default(),
            metrics,
        };
        let tap = Self { shared: Arc::new(shared) };
        tap.reconfigure(settings);
        tap
    }

    /// One that nobody listens to.
    #[must_use]
    pub fn off(metrics: Arc<Metrics>) -> Self {
        Self::new(Settings::off(), metrics)
    }

    /// Whether anybody listens to what clients ask or are answered.
    #[inline]
    #[must_use]
    pub fn hears_clients(&self) -> bool {
        self.hears(LINES | Kind::ClientQuery.bit() | Kind::ClientResponse.bit())
    }

    /// Whether anybody listens to what clients are answered, by the daemon or by the kernel.
    #[inline]
    #[must_use]
    pub fn hears_answers(&self) -> bool {
        self.hears(LINES | Kind::ClientResponse.bit())
    }

    /// Whether anybody listens to what upstreams are asked or answer.
    #[inline]
    #[must_use]
    pub fn hears_upstreams(&self) -> bool {
        self.hears(Kind::ResolverQuery.bit() | Kind::ResolverResponse.bit())
    }

    #[inline]
    fn hears(&self, bits: u8) -> bool {
        self.shared.heard.load(Ordering::Relaxed) & bits != 0
    }

    /// A query that came in, as it came.
    pub fn query(&self, way: Way, message: &[u8], at: SystemTime) {
        if self.hears(Kind::ClientQuery.bit()) {
            let outlets = self.shared.outlets.load();
            outlets.send(|| Seen {
                authentic_data: message.get(3).map(|flags| flags & 0x20 != 0),
                ..Seen::of(Kind::ClientQuery, way, at, message, outlets.settings.client_prefix)
            });
        }
    }

    /// A reply of the daemon.
    pub fn answer(&self, answered: &Answered<'_>, at: SystemTime) {
        let Answered { way, authentic_data, reply, by, upstream, took } = *answered;
        let outlets = self.shared.outlets.load();
        let seen = |sample| Seen {
            took: Some(took),
            authentic_data: Some(authentic_data),
            by: by.as_str(),
            upstream: upstream.cloned(),
            sample,
            ..Seen::of(Kind::ClientResponse, way, at, reply, outlets.settings.client_prefix)
        };
        if let Some(lines) = &outlets.lines
            && lines.takes_next()
        {
            lines.queue.put(seen(lines.sample));
        }
        if self.hears(Kind::ClientResponse.bit()) {
            outlets.send(|| seen(1));
        }
    }

    /// A hit that the kernel reported: one of many, and without the answer's records.
    pub fn kernel_hit(&self, hit: &Event, at: SystemTime) {
        let outlets = self.shared.outlets.load();
        let settings = &outlets.settings;
        let client = SocketAddr::new(client_of(hit), u16::from_be(hit.port));
        // Not told by the kernel; `server` is taken out again below.
        let way = Way { client, server: client.ip(), transport: Transport::Udp };
        let Some(message) = outline(hit) else { return };
        let seen = || Seen {
            server: None,
            by: KERNEL,
            octets: hit.reply_len.into(),
            sample: settings.kernel_sample,
            ..Seen::of(Kind::ClientResponse, way, at, &message, settings.client_prefix)
        };
        if let Some(lines) = &outlets.lines {
            lines.queue.put(seen());
        }
        if self.hears(Kind::ClientResponse.bit()) {
            outlets.send(seen);
        }
    }

    /// A message to or from an upstream.
    pub fn exchanged(&self, exchanged: &Exchanged<'_>, at: SystemTime) {
        let Exchanged { upstream, transport, message, took } = *exchanged;
        let kind = match took {
            None => Kind::ResolverQuery,
            Some(_) => Kind::ResolverResponse,
        };
        if !self.hears(kind.bit()) {
            return;
        }
        let outlets = self.shared.outlets.load();
        outlets.send(|| {
            let way = Way { client: upstream, server: upstream.ip(), transport };
            let server_port = Some(upstream.port());
            let seen = Seen::of(kind, way, at, message, outlets.settings.client_prefix);
            Seen { client: None, server_port, took, ..seen }
        });
    }

    /// Takes over new settings. What stays as it is keeps its file, its connection and its queue.
    /// Must be called within a tokio runtime.
    pub fn reconfigure(&self, settings: Settings) {
        let shared = &self.shared;
        let old = shared.outlets.load_full();
        if old.settings == settings {
            return;
        }
        let metrics = &shared.metrics;
        let lines = match (&settings.query_log, &old.lines) {
            (None, _) => None,
            (Some(new), Some(lines)) if old.settings.query_log.as_ref() == Some(new) => {
                Some(Lines::new(lines.queue.clone(), new))
            }
            (Some(new), _) => Some(Lines::new(shared.writers.query_log(new, metrics), new)),
        };
        let dnstap = match (&settings.dnstap, &old.dnstap) {
            (None, _) => None,
            (Some(new), Some(queue)) if old.settings.dnstap.as_ref() == Some(new) => {
                Some(queue.clone())
            }
            (Some(new), _) => Some(shared.writers.dnstap(new, metrics)),
        };
        let kinds = settings.dnstap.iter().flat_map(|dnstap| &dnstap.messages);
        let mut heard = kinds.fold(0, |heard, kind| heard | kind.bit());
        if lines.is_some() {
            heard |= LINES;
        }
        let share = lines.as_ref().map_or(0.0, |lines| 1.0 / f64::from(lines.sample));
        metrics.tap_query_sampling_ratio.set(share);
        shared.outlets.store(Arc::new(Outlets { settings, lines, dnstap }));
        shared.heard.store(heard, Ordering::Relaxed);
    }

    /// The query log's file was moved away: another one is begun in its place.
    pub fn reopen(&self) {
        self.shared.writers.reopen();
    }

    /// Nobody listens any more. Waits a moment for what is in the queues to be written.
    pub async fn stop(&self) {
        let client_prefix = self.shared.outlets.load().settings.client_prefix;
        self.reconfigure(Settings { client_prefix, ..Settings::off() });
        self.shared.writers.ended().await;
    }
}

impl Settings {
    /// Nobody listens.
    #[must_use]
    pub fn off() -> Self {
        let client_prefix = ClientPrefix::new(0, 0);
        Self { client_prefix, kernel_sample: 1, query_log: None, dnstap: None }
    }
}

impl Outlets {
    /// Sends to dnstap.
    fn send(&self, seen: impl FnOnce() -> Seen) {
        if let Some(queue) = &self.dnstap {
            let mut seen = seen();
            reading::hide_client(&mut seen.message, self.settings.client_prefix);
            queue.put(seen);
        }
    }
}

impl Lines {
    fn new(queue: Queue, settings: &QueryLog) -> Self {
        Self { queue, sample: settings.sample.max(1), answers: AtomicU64::new(0) }
    }

    fn takes_next(&self) -> bool {
        self.sample == 1
            || self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.sample.into())
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl Seen {
    fn of(kind: Kind, way: Way, at: SystemTime, message: &[u8], prefix: ClientPrefix) -> Self {
        Self {
            kind,
            at,
            took: None,
            transport: way.transport,
            client: Some(prefix.shown(way.client)),
            server: Some(way.server.to_canonical()),
            server_port: None,
            authentic_data: None,
            by: "",
            upstream: None,
            octets: message.len(),
            sample: 1,
            message: message.into(),
        }
    }

    /// What it takes in a queue.
    fn cost(&self) -> usize {
        size_of::<Self>() + self.message.len()
    }

    fn is_of_kernel(&self) -> bool {
        self.by == KERNEL
    }
}

impl Kind {
    const fn bit(self) -> u8 {
        match self {
            Self::ClientQuery => 1,
            Self::ClientResponse => 2,
            Self::ResolverQuery => 4,
            Self::ResolverResponse => 8,
        }
    }
}

/// See [`resolverd_common::settings::address_words`].
fn client_of(hit: &Event) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(hit.source.as_bytes());
    IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
}

/// A hit as a reply without records. DO is said by an OPT, as the reply did.
fn outline(hit: &Event) -> Option<Vec<u8>> {
    let meta = Meta::of(hit.meta);
    let name = hit.name.as_bytes().get(..usize::from(meta.name_len))?;
    let mut message = Vec::with_capacity(HEADER_LEN + name.len() + 4 + 11);
    let flags = 0x8180 | u16::from(meta.cd) << 4 | hit.rcode & 0x0f;
    message.extend([0, 0]);
    message.extend(flags.to_be_bytes());
    message.extend([0, 1, 0, 0, 0, 0, 0, meta.dnssec_ok.into()]);
    message.extend(name);
    message.extend(meta.qtype.to_be_bytes());
    message.extend(resolverd_common::key::CLASS_IN.to_be_bytes());
    if meta.dnssec_ok {
        message.extend([0, 0, 41, 0, 0, 0, 0, 0x80, 0, 0, 0]);
    }
    Some(message)
}

/// [`Shared::heard`]: the query log.
const LINES: u8 = 16;

/// Who answered, where it was not the daemon.
const KERNEL: &str = "kernel";

#[cfg(test)]
mod tests;
