//! From the file as written to the configuration as meant.
//!
//! A [`Config`] is in range by construction: whoever holds one need not check it again. It
//! knows files and systems only by name; reading the file is `driver.rs`'s.

mod doors;
mod driver;
mod meaning;
mod overlay;
mod reader;
mod recursion;
pub mod reload;
mod rules;
mod spec;
#[cfg(test)]
mod tests;
mod upstreams;
mod values;

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use resolverd_common::cookie::Secret;

pub use overlay::DEFAULTS;
pub use recursion::{Delegated, Delegation, Recursion, RootHints};
pub use rules::{
    Access, Dns64, Override, Reason, Rpz, RpzFrom, Tsig, TsigAlgorithm, View, Way, ZoneKind,
};
pub use upstreams::{Identity, Pin, Protocol, RootsFile, Upstream};
pub use values::{show_duration, show_size};

/// What the daemon is to do. Durations are whole `Duration`s, sizes are octets.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from, as it was named; for messages.
    pub file: String,
    pub server: Server,
    pub kernel: Kernel,
    pub cache: Cache,
    pub resolve: Resolve,
    pub dnssec: Dnssec,
    pub upstreams: Vec<Upstream>,
    /// Zones that are answered here.
    pub zones: Vec<Zone>,
    /// Zones that named servers are asked for.
    pub delegated: Vec<Delegated>,
    pub views: Vec<View>,
    pub dns64: Option<Dns64>,
    pub rpz: Vec<Rpz>,
    pub acl: Acl,
    pub cookies: Cookies,
    pub rate_limit: RateLimit,
    pub metrics: Metrics,
    pub control: Control,
    pub log: Log,
    pub privacy: Privacy,
    pub dnstap: Dnstap,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: Vec<Listen>,
    /// Largest UDP answer we send, and what our OPT says. 512 to 4096.
    pub edns_size: u16,
    pub state_dir: PathBuf,
    pub clock: Clock,
    /// UDP sockets and the tasks that read them; 0: one for each core.
    pub udp_workers: usize,
    /// Connections at once; the next is closed at once.
    pub tcp_clients_max: usize,
    /// A connection with nothing asked and nothing owed for so long is closed.
    pub tcp_idle_timeout: Duration,
    /// A connection is closed after so long, whatever it does.
    pub tcp_lifetime_max: Duration,
    /// Queries of one connection worked on at once; past it we read no further.
    pub tcp_queries_in_flight_max: usize,
    /// DNS over TLS, over HTTP/2, over QUIC, over HTTP/3. With one of them there is `tls`.
    pub tls_listen: Vec<Listen>,
    pub https_listen: Vec<Listen>,
    pub quic_listen: Vec<Listen>,
    pub h3_listen: Vec<Listen>,
    /// Who we say that we are.
    pub tls: Option<Tls>,
    /// What clients call us, absolute and lower-cased: told to those who ask for
    /// `_dns.resolver.arpa`.
    pub name: Option<String>,
    /// TLS must be agreed on so long after a connection was opened.
    pub tls_handshake_timeout: Duration,
    /// Connections at once, over TLS and HTTP/2 together, and over QUIC and HTTP/3 together.
    pub tls_clients_max: usize,
    pub quic_clients_max: usize,
    /// Of one client address, of each of the three kinds of connections.
    pub connections_per_client_max: usize,
    /// Streams of one connection at once, over HTTP/2 and QUIC.
    pub streams_per_connection_max: usize,
    /// Who tells whom a connection over TCP is from (PROXY protocol, version 2).
    pub proxy_protocol_from: Vec<IpNet>,
}

/// The files of a certificate. The `server` reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Where the two stand in the file.
    pub cert_at: Position,
    pub key_at: Position,
}

/// Where clients find us.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// `127.0.0.1:53`, `[::1]:53`, and the wildcards `0.0.0.0:53`, `[::]:53`.
    Socket(SocketAddr),
    /// `[fe80::1%eth0]:53`.
    Scoped { addr: Ipv6Addr, interface: String, port: u16 },
    /// `eth0:53`: all addresses the interface has, and will have.
    Interface { name: String, port: u16 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub mode: KernelMode,
    /// Interfaces to attach to, each once.
    pub interfaces: Vec<String>,
    /// Elements of the maps for values of up to 128, 256, 512 and 1280 octets.
    pub entries: [u32; 4],
    /// The kernel stops answering when the daemon has not renewed for so long.
    pub lease: Duration,
    pub pin_path: PathBuf,
    /// One in so many hits is reported.
    pub event_sampling: u32,
}

/// By which clock the cache's entries expire. What is valid is so by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The one that the kernel's program has.
    Boot,
    /// The wall clock, which a test rig moves.
    Realtime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelMode {
    /// Native XDP where the driver has it, else the better of TC and generic XDP.
    Auto,
    Xdp,
    XdpGeneric,
    Tc,
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Octets, our own account of them.
    pub memory_max: u64,
    pub ttl_max: Duration,
    pub ttl_min: Duration,
    /// Bound on how long "does not exist" is believed (RFC 2308 section 5).
    pub negative_ttl_max: Duration,
    /// How long a failure is remembered (RFC 9520 section 3.2: 1 second to 5 minutes).
    pub failure_ttl: Duration,
    pub prefetch: bool,
    /// How long past its life an answer may be used (RFC 8767); zero: not at all.
    pub serve_stale: Duration,
    /// How long a client waits where there is such an answer.
    pub stale_answer_after: Duration,
    /// Whether answers are kept over a restart, in the state directory.
    pub persist: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Resolve {
    pub mode: ResolveMode,
    pub upstream_from: UpstreamFrom,
    /// Whether upstreams may be asked over IPv4, and over IPv6; at least one is true.
    pub ipv4: bool,
    pub ipv6: bool,
    /// For one query as a whole, retries included.
    pub timeout: Duration,
    pub queries_in_flight_max: usize,
    /// Of these, for names of one zone.
    pub queries_in_flight_per_zone_max: usize,
    /// What our OPT says to upstreams. 512 to 4096.
    pub edns_size: u16,
    pub recursion: Recursion,
    /// Whether zones that nobody should be asked about are answered here.
    pub builtin_zones: bool,
    /// Files in the form of `/etc/hosts`.
    pub hosts_files: Vec<PathBuf>,
    /// Addresses that names of others may not have.
    pub private_addresses: Vec<IpNet>,
    /// Names that may have them all the same: absolute, lower-cased.
    pub private_domains: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveMode {
    /// The servers of each zone are asked, from the root down.
    Recurse,
    /// Upstreams are asked.
    Forward,
}

/// Who is asked for names that no `[[upstream]]` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFrom {
    /// The system's own resolvers.
    System,
    /// Nobody.
    None,
}

/// What is believed only with a chain of signatures.
#[derive(Clone, Debug, PartialEq)]
pub struct Dnssec {
    pub validate: Validate,
    pub trust_anchor_files: Vec<AnchorFile>,
    /// Names below which nothing is checked, each until a second since 1970 if there is one.
    pub negative_trust_anchors: Vec<(String, Option<u64>)>,
    /// Whether anchors follow the keys of their zones (RFC 5011).
    pub rfc5011: bool,
    /// Whether zones are told which of their keys are trusted (RFC 8145).
    pub anchor_signalling: bool,
    /// The second since 1970 at which signatures are judged; None: the wall clock's.
    pub now: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// What is resolved from the root or from stubs; not what upstreams say.
    Recursed,
    All,
    Nothing,
}

/// A file of trust anchors. Its text is read with the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorFile {
    pub path: PathBuf,
    pub text: String,
    /// Where it is named.
    pub at: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Absolute, lower-cased, with the last dot; unique among the zones of a view.
    pub name: String,
    pub kind: ZoneKind,
    /// Records as written, owners relative to the zone; `policy` parses them.
    pub records: Vec<Record>,
    /// Names of the views whose clients see it. Empty: everybody does.
    pub views: Vec<String>,
    /// Each answer of it is told at level `debug`.
    pub log: bool,
    /// Where its table stands in the file.
    pub at: Position,
}

/// One record of a zone, in presentation format.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub text: String,
    pub at: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Acl {
    /// The most specific prefix of both lists decides; none: refused.
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

/// DNS cookies.
#[derive(Clone, Debug, PartialEq)]
pub struct Cookies {
    pub enabled: bool,
    /// None, one, or the one in use and another that is believed.
    pub secrets: Vec<Secret>,
}

/// How often and with how much clients are answered over UDP.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// 0: no limit.
    pub responses_per_second: u32,
    /// Seconds' worth of answers that may come at once.
    pub burst_secs: u32,
    /// One in so many goes out with TC; 0: none.
    pub slip: u32,
    pub ipv4_prefix: u8,
    pub ipv6_prefix: u8,
    /// Octets of an answer for each octet of its query; 0: no bound.
    pub amplification_max: u32,
    pub exempt: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// None: off.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    pub socket: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub target: LogTarget,
    pub queries: Queries,
    /// With [`Queries::Sampled`], one in so many answers of the daemon is written.
    pub query_sampling: u32,
    pub query_target: QueryTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stderr,
}

/// Which answers the query log has a line for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    Off,
    Sampled,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryTarget {
    Stderr,
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Privacy {
    /// Bits of IPv4 and of IPv6 addresses of clients that are shown; 32 and 128 is whole.
    pub client_prefix: (u8, u8),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dnstap {
    /// None: off.
    pub receiver: Option<DnstapReceiver>,
    /// At least one; each once.
    pub messages: Vec<DnstapMessage>,
    pub identity: DnstapText,
    pub version: DnstapText,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnstapReceiver {
    Socket(PathBuf),
    Address(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnstapMessage {
    ClientQuery,
    ClientResponse,
    ResolverQuery,
    ResolverResponse,
}

/// What dnstap says of who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnstapText {
    /// The host's name; the program's version.
    Auto,
    Off,
    Text(String),
}

impl Dnstap {
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match &self.receiver {
            Some(DnstapReceiver::Socket(path)) => Some(path),
            _ => None,
        }
    }

    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self.receiver {
            Some(DnstapReceiver::Address(address)) => Some(address),
            _ => None,
        }
    }
}

impl Config {
    /// Reads the text of a file over the defaults. `file` is its name, for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        Self::read(text, file, None)
    }

    /// A problem with what stands at `at`, found by a reader of its own: `policy` and records.
    #[must_use]
    pub fn problem(&self, at: Position, text: impl Into<String>) -> Problem {
        Problem { file: self.file.clone(), at, text: text.into() }
    }

    fn read(text: &str, file: &str, state_dir: Option<&Path>) -> Result<Self, ConfigError> {
        let source = overlay::Source::new(file, text);
        let (spec, mut problems) = overlay::lay(&source);
        let meaning = spec.map(|spec| meaning::of(&spec, &source, state_dir));
        match meaning {
            Some(Ok(config)) if problems.is_empty() => Ok(config),
            Some(Err(more)) => {
                problems.extend(more);
                Err(ConfigError::refused(problems))
            }
            _ => Err(ConfigError::refused(problems)),
        }
    }
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: it can't be read: {reason}; name a file with `--config FILE`")]
    Unreadable { file: String, reason: String },
    /// One line a problem, in the order of the file.
    #[error("{}", lines(.0))]
    Refused(Vec<Problem>),
}

/// One thing that is wrong, where it stands, and what to write instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub file: String,
    pub at: Position,
    pub text: String,
}

impl ConfigError {
    /// Puts problems in the order of the file.
    #[must_use]
    pub fn refused(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
        Self::Refused(problems)
    }

    fn not_utf8(file: &str, before: &str) -> Self {
        let source = overlay::Source::new(file, before);
        let text = "this is not UTF-8; write the file in UTF-8 instead";
        Self::Refused(vec![source.problem(&(before.len()..before.len()), text)])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.at.line, self.at.column, self.text)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// What stands for the file's name where there is no file.
const BUILT_IN: &str = "built-in defaults";

/// A place in the file, counted from 1, columns in characters.
///
/// Any two are equal, so that a moved line is not a changed configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl PartialEq for Position {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Scoped { addr, interface, port } => write!(f, "[{addr}%{interface}]:{port}"),
            Self::Interface { name, port } => write!(f, "{name}:{port}"),
        }
    }
}
