//! Every metric of the daemon: its name, its meaning, and the handle it is counted by.
//!
//! One place, so that an operator's question leads to one line, and so that no label is ever
//! made from a packet: label values are closed sets, or configured names of which at most
//! [`LABEL_VALUES_MAX`] are kept apart. Holds numbers only; serving them is `control/`'s.
//!
//! `docs/METRICS.md` is this file's [`CATALOGUE`] in readable form; a test compares the two.

mod batch;
mod catalogue;
mod labels;
mod named;
mod register;
mod snapshot;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{
    Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use resolverd_common::counters::Cookies;

pub use batch::QueryBatch;
use catalogue::*;
pub use catalogue::{CATALOGUE, Described};
pub use labels::*;
use named::{Attachments, Names, PolicyZones, Upstreams};
pub use named::{LABEL_VALUES_MAX, OTHER, RpzMetrics};
use register::{counter, counters, each, float_gauge, gauge, gauges, histograms, labelled};
use snapshot::Snapshot;

/// All metrics. Made once by the daemon and shared; every handle may be used from any thread.
pub struct Metrics {
    registry: Registry,

    queries: [[[IntCounter; Rcode::COUNT]; AnsweredBy::COUNT]; Transport::COUNT],
    query_durations: [Histogram; AnsweredBy::COUNT],

    kernel_packets: Arc<Snapshot>,
    kernel_events_lost: Arc<Snapshot>,
    kernel_attached: Mutex<Attachments>,
    /// 1 while the kernel path is in use on at least one interface.
    pub kernel_available: IntGauge,
    kernel_events: IntCounterVec,
    /// One in how many hits is reported; from the configuration.
    pub kernel_event_sampling_ratio: Gauge,
    entries_published: [IntCounter; SizeClass::COUNT],
    pub kernel_writes_failed: IntCounter,
    kernel_cookies: Arc<Snapshot>,
    kernel_amplified: Arc<Snapshot>,

    policy_cookies: [IntCounter; Cookies::ALL.len()],
    policy_rate_limited: [IntCounter; Limited::COUNT],
    pub policy_amplified: IntCounter,

    pub cache_entries: IntGauge,
    pub cache_bytes: IntGauge,
    pub cache_evictions: IntCounter,
    cache_flushes: [IntCounter; FlushScope::COUNT],
    cache_stale_answers: [IntCounter; StaleCause::COUNT],
    cache_saves: [IntCounter; Saved::COUNT],
    /// Answers that came from a file.
    pub cache_loaded: IntCounter,

    policy_answers: [IntCounter; PolicyRule::COUNT],
    policy_zones: Mutex<PolicyZones>,

    upstreams: Mutex<Upstreams>,
    pub upstream_loops: IntCounter,

    /// Questions now waiting for an upstream.
    pub resolver_flights: IntGauge,
    resolver_flights_shed: [IntCounter; ShedCause::COUNT],
    /// What recursion remembers: replies, zone cuts, servers.
    pub resolver_replies_known: IntGauge,
    pub resolver_delegations: IntGauge,
    pub resolver_servers: IntGauge,
    pub resolver_primings: IntCounter,

    packets_dropped: [IntCounter; Dropped::COUNT],
    pub server_tcp_connections: IntGauge,
    pub server_tcp_refused: IntCounter,
    server_connections: IntGaugeVec,
    server_connections_ended: IntCounterVec,
    server_http_responses: IntCounterVec,
    /// Seconds since 1970; 0 without a certificate.
    pub server_certificate_expiry: IntGauge,
    addresses: [IntGauge; AddressState::COUNT],

    tap_records: [IntCounter; TapOutlet::COUNT],
    tap_dropped: [[IntCounter; TapDropped::COUNT]; TapOutlet::COUNT],
    /// From the configuration; 0 is off.
    pub tap_query_sampling_ratio: Gauge,
    pub tap_dnstap_connected: IntGauge,

    pub dnssec_synthesised: IntCounter,
    dnssec_verdicts: [IntCounter; DnssecVerdict::COUNT],
    dnssec_others_asked: [IntCounter; OthersAsked::COUNT],
    dnssec_anchor_keys: IntGaugeVec,
    dnssec_anchor_refreshes: [IntCounter; AnchorRefresh::COUNT],
    /// 1: somebody must look after the state of RFC 5011.
    pub dnssec_anchor_state_alarm: IntGauge,
    dnssec_anchor_signals: [IntCounter; AnchorSignal::COUNT],
    config_reloads: [IntCounter; ReloadResult::COUNT],
    log_suppressed: Arc<Snapshot>,
}

/// What runs, for `resolverd_build_info`.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub version: &'static str,
    /// The ABI number of the contract with the kernel's program.
    pub abi: u32,
    /// Whether the BPF object was built in.
    pub kernel_path: bool,
}

/// The handles of one configured upstream.
#[derive(Clone)]
pub struct UpstreamMetrics {
    /// Seconds from the question sent to the answer accepted.
    pub duration: Histogram,
    /// 1 while it is asked by choice, 0 while it is only probed.
    pub healthy: IntGauge,
    /// Its label value, or the one that it shares.
    name: Arc<str>,
    connections: IntCounterVec,
    outcomes: [IntCounter; Outcome::COUNT],
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new(build: Build) -> Self {
        let registry = Registry::new();
        let r = &registry;
        let queries = counters(r, &QUERIES);
        let durations = histograms(r, &QUERY_DURATION, &QUERY_BUCKETS);
        let info = gauges(r, &BUILD_INFO);
        info.with_label_values(&[
            build.version,
            &build.abi.to_string(),
            if build.kernel_path { "built" } else { "absent" },
        ])
        .set(1);
        Self {
            queries: each(Transport::ALL, |t| {
                each(AnsweredBy::ALL, |a| {
                    each(Rcode::ALL, |c| {
                        queries.with_label_values(&[t.as_str(), a.as_str(), c.as_str()])
                    })
                })
            }),
            query_durations: each(AnsweredBy::ALL, |a| durations.with_label_values(&[a.as_str()])),
            kernel_packets: Snapshot::register(r, &KERNEL_PACKETS),
            kernel_events_lost: Snapshot::register(r, &KERNEL_EVENTS_LOST),
            kernel_attached: Mutex::new(Attachments {
                names: Names::default(),
                gauges: gauges(r, &KERNEL_ATTACHED),
            }),
            kernel_available: gauge(r, &KERNEL_AVAILABLE),
            kernel_events: counters(r, &KERNEL_EVENTS),
            kernel_event_sampling_ratio: float_gauge(r, &KERNEL_EVENT_SAMPLING_RATIO),
            entries_published: labelled(r, &KERNEL_ENTRIES_PUBLISHED, SizeClass::ALL, |c| {
                c.as_str()
            }),
            kernel_writes_failed: counter(r, &KERNEL_WRITES_FAILED),
            kernel_cookies: Snapshot::register(r, &KERNEL_COOKIES),
            kernel_amplified: Snapshot::register(r, &KERNEL_AMPLIFIED),
            policy_cookies: labelled(r, &POLICY_COOKIES, &Cookies::ALL, |c| c.as_str()),
            policy_rate_limited: labelled(r, &POLICY_RATE_LIMITED, Limited::ALL, |l| l.as_str()),
            policy_amplified: counter(r, &POLICY_AMPLIFIED),
            cache_entries: gauge(r, &CACHE_ENTRIES),
            cache_bytes: gauge(r, &CACHE_BYTES),
            cache_evictions: counter(r, &CACHE_EVICTIONS),
            cache_flushes: labelled(r, &CACHE_FLUSHES, FlushScope::ALL, |s| s.as_str()),
            cache_stale_answers: labelled(r, &CACHE_STALE_ANSWERS, StaleCause::ALL, |c| c.as_str()),
            cache_saves: labelled(r, &CACHE_SAVES, Saved::ALL, |s| s.as_str()),
            cache_loaded: counter(r, &CACHE_LOADED),
            policy_answers: labelled(r, &POLICY_ANSWERS, PolicyRule::ALL, |p| p.as_str()),
            policy_zones: Mutex::new(PolicyZones {
                names: Names::default(),
                rules: gauges(r, &POLICY_RPZ_RULES),
                serials: gauges(r, &POLICY_RPZ_SERIAL),
                updates: counters(r, &POLICY_RPZ_UPDATES),
            }),
            upstreams: Mutex::new(Upstreams {
                names: Names::default(),
                handles: HashMap::new(),
                durations: histograms(r, &UPSTREAM_DURATION, &UPSTREAM_BUCKETS),
                queries: counters(r, &UPSTREAM_QUERIES),
                connections: counters(r, &UPSTREAM_CONNECTIONS),
                healthy: gauges(r, &UPSTREAM_HEALTHY),
            }),
            upstream_loops: counter(r, &UPSTREAM_LOOPS),
            resolver_flights: gauge(r, &RESOLVER_FLIGHTS),
            resolver_flights_shed: labelled(r, &RESOLVER_FLIGHTS_SHED, ShedCause::ALL, |c| {
                c.as_str()
            }),
            resolver_replies_known: gauge(r, &RESOLVER_REPLIES_KNOWN),
            resolver_delegations: gauge(r, &RESOLVER_DELEGATIONS),
            resolver_servers: gauge(r, &RESOLVER_SERVERS),
            resolver_primings: counter(r, &RESOLVER_PRIMINGS),
            packets_dropped: labelled(r, &SERVER_PACKETS_DROPPED, Dropped::ALL, |d| d.as_str()),
            server_tcp_connections: gauge(r, &SERVER_TCP_CONNECTIONS),
            server_tcp_refused: counter(r, &SERVER_TCP_REFUSED),
            server_connections: gauges(r, &SERVER_CONNECTIONS),
            server_connections_ended: counters(r, &SERVER_CONNECTIONS_ENDED),
            server_http_responses: counters(r, &SERVER_HTTP_RESPONSES),
            server_certificate_expiry: gauge(r, &SERVER_CERTIFICATE_EXPIRY),
            addresses: {
                let states = gauges(r, &SERVER_ADDRESSES);
                each(AddressState::ALL, |s| states.with_label_values(&[s.as_str()]))
            },
            tap_records: labelled(r, &TAP_RECORDS, TapOutlet::ALL, |o| o.as_str()),
            tap_dropped: {
                let dropped = counters(r, &TAP_DROPPED);
                each(TapOutlet::ALL, |o| {
                    each(TapDropped::ALL, |d| dropped.with_label_values(&[o.as_str(), d.as_str()]))
                })
            },
            tap_query_sampling_ratio: float_gauge(r, &TAP_QUERY_SAMPLING_RATIO),
            tap_dnstap_connected: gauge(r, &TAP_DNSTAP_CONNECTED),
            dnssec_synthesised: counter(r, &DNSSEC_SYNTHESISED),
            dnssec_verdicts: labelled(r, &DNSSEC_VERDICTS, DnssecVerdict::ALL, |x| x.as_str()),
            dnssec_others_asked: labelled(r, &DNSSEC_OTHERS_ASKED, OthersAsked::ALL, |x| {
                x.as_str()
            }),
            dnssec_anchor_keys: gauges(r, &DNSSEC_ANCHOR_KEYS),
            dnssec_anchor_refreshes: labelled(
                r,
                &DNSSEC_ANCHOR_REFRESHES,
                AnchorRefresh::ALL,
                |x| x.as_str(),
            ),
            dnssec_anchor_state_alarm: gauge(r, &DNSSEC_ANCHOR_STATE_ALARM),
            dnssec_anchor_signals: labelled(r, &DNSSEC_ANCHOR_SIGNALS, AnchorSignal::ALL, |x| {
                x.as_str()
            }),
            config_reloads: labelled(r, &CONFIG_RELOADS, ReloadResult::ALL, |x| x.as_str()),
            log_suppressed: Snapshot::register(r, &LOG_SUPPRESSED),
            registry,
        }
    }

    /// The text form that Prometheus scrapes.
    #[must_use]
    pub fn encode(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("every family was checked when it was registered")
    }

    // ---- policy ----

    #[must_use]
    pub fn policy_answers(&self, rule: PolicyRule) -> &IntCounter {
        &self.policy_answers[rule as usize]
    }

    /// The handles of a configured policy zone.
    #[must_use]
    pub fn policy_zone(&self, zone: &str) -> RpzMetrics {
        self.policy_zones.lock().handles(zone)
    }

    /// Forgets policy zones that are no longer configured.
    pub fn retain_policy_zones(&self, zones: &[&str]) {
        self.policy_zones.lock().retain(zones);
    }

    // ---- server ----

    #[must_use]
    pub fn queries(&self, transport: Transport, by: AnsweredBy, rcode: Rcode) -> &IntCounter {
        &self.queries[transport as usize][by as usize][rcode as usize]
    }

    #[must_use]
    pub fn query_duration(&self, by: AnsweredBy) -> &Histogram {
        &self.query_durations[by as usize]
    }

    #[must_use]
    pub fn packets_dropped(&self, reason: Dropped) -> &IntCounter {
        &self.packets_dropped[reason as usize]
    }

    /// Encrypted connections now open. Looked up: once a connection.
    #[must_use]
    pub fn server_connections(&self, transport: Transport) -> IntGauge {
        self.server_connections.with_label_values(&[transport.as_str()])
    }

    /// Looked up: once a connection.
    #[must_use]
    pub fn server_connections_ended(&self, transport: Transport, why: Ended) -> IntCounter {
        self.server_connections_ended.with_label_values(&[transport.as_str(), why.as_str()])
    }

    #[must_use]
    pub fn server_http_responses(&self, transport: Transport, status: HttpStatus) -> IntCounter {
        self.server_http_responses.with_label_values(&[transport.as_str(), status.as_str()])
    }

    #[must_use]
    pub fn addresses(&self, state: AddressState) -> &IntGauge {
        &self.addresses[state as usize]
    }

    // ---- kernel ----

    /// Replaces the kernel's packet counts: `(verdict, reason, packets)`, sums over CPUs.
    /// Called before a scrape; the counters themselves live in a map of the kernel.
    pub fn set_kernel_packets(&self, rows: &[(&'static str, &'static str, u64)]) {
        self.kernel_packets.set(rows.iter().map(|(v, r, n)| (vec![*v, *r], *n)).collect());
    }

    /// Events the kernel had no room for, since its program was loaded.
    pub fn set_kernel_events_lost(&self, lost: u64) {
        self.kernel_events_lost.set(vec![(Vec::new(), lost)]);
    }

    /// Replaces the kernel's counts of cookies and of answers that were cut.
    pub fn set_kernel_limits(&self, cookies: &[(&'static str, u64)], amplified: u64) {
        self.kernel_cookies.set(cookies.iter().map(|(cookie, n)| (vec![*cookie], *n)).collect());
        self.kernel_amplified.set(vec![(Vec::new(), amplified)]);
    }

    /// Says how an interface is attached: by `"xdp"`, `"xdp-generic"`, `"tc"`, or not at all.
    pub fn set_kernel_attached(&self, interface: &str, mode: Option<&'static str>) {
        self.kernel_attached.lock().set(interface, mode);
    }

    /// Forgets an interface that is no longer configured.
    pub fn forget_kernel_attached(&self, interface: &str) {
        self.kernel_attached.lock().forget(interface);
    }

    /// Events read from the ring buffer. Keep the handle: this looks it up.
    #[must_use]
    pub fn kernel_events(&self, kind: &'static str) -> IntCounter {
        self.kernel_events.with_label_values(&[kind])
    }

    #[must_use]
    pub fn kernel_entries_published(&self, class: SizeClass) -> &IntCounter {
        &self.entries_published[class as usize]
    }

    // ---- tap ----

    #[must_use]
    pub fn tap_records(&self, outlet: TapOutlet) -> &IntCounter {
        &self.tap_records[outlet as usize]
    }

    #[must_use]
    pub fn tap_dropped(&self, outlet: TapOutlet, reason: TapDropped) -> &IntCounter {
        &self.tap_dropped[outlet as usize][reason as usize]
    }

    // ---- policy ----

    #[must_use]
    pub fn policy_cookies(&self, kind: Cookies) -> &IntCounter {
        &self.policy_cookies[kind as usize]
    }

    #[must_use]
    pub fn policy_rate_limited(&self, action: Limited) -> &IntCounter {
        &self.policy_rate_limited[action as usize]
    }

    // ---- cache, config, log ----

    #[must_use]
    pub fn cache_flushes(&self, scope: FlushScope) -> &IntCounter {
        &self.cache_flushes[scope as usize]
    }

    #[must_use]
    pub fn cache_stale_answers(&self, cause: StaleCause) -> &IntCounter {
        &self.cache_stale_answers[cause as usize]
    }

    #[must_use]
    pub fn resolver_flights_shed(&self, cause: ShedCause) -> &IntCounter {
        &self.resolver_flights_shed[cause as usize]
    }

    #[must_use]
    pub fn cache_saves(&self, result: Saved) -> &IntCounter {
        &self.cache_saves[result as usize]
    }

    #[must_use]
    pub fn dnssec_verdicts(&self, verdict: DnssecVerdict) -> &IntCounter {
        &self.dnssec_verdicts[verdict as usize]
    }

    #[must_use]
    pub fn dnssec_others_asked(&self, outcome: OthersAsked) -> &IntCounter {
        &self.dnssec_others_asked[outcome as usize]
    }

    /// Keys by zone and state, of all zones whose keys are followed, in a fixed order.
    pub fn set_dnssec_anchor_keys(&self, keys: &[(&str, &'static str, usize)]) {
        let mut names = Names::default();
        self.dnssec_anchor_keys.reset();
        for (zone, state, number) in keys {
            let value = names.place(zone);
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            self.dnssec_anchor_keys.with_label_values(&[value, *state]).add(number);
        }
    }

    #[must_use]
    pub fn dnssec_anchor_refreshes(&self, result: AnchorRefresh) -> &IntCounter {
        &self.dnssec_anchor_refreshes[result as usize]
    }

    #[must_use]
    pub fn dnssec_anchor_signals(&self, result: AnchorSignal) -> &IntCounter {
        &self.dnssec_anchor_signals[result as usize]
    }

    #[must_use]
    pub fn config_reloads(&self, result: ReloadResult) -> &IntCounter {
        &self.config_reloads[result as usize]
    }

    /// Log lines held back by rate limits since the start; counted in `log`.
    pub fn set_log_suppressed(&self, lines: u64) {
        self.log_suppressed.set(vec![(Vec::new(), lines)]);
    }

    // ---- upstreams ----

    /// The handles of one configured upstream. Past [`LABEL_VALUES_MAX`] names, the rest
    /// share those of [`OTHER`].
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        self.upstreams.lock().handles(name)
    }

    /// Forgets the upstreams that a reload took away, so that their places are free again.
    pub fn retain_upstreams(&self, names: &[&str]) {
        self.upstreams.lock().retain(names);
    }
}

impl UpstreamMetrics {
    #[must_use]
    pub fn queries(&self, outcome: Outcome) -> &IntCounter {
        &self.outcomes[outcome as usize]
    }

    /// Looked up: once a connection.
    #[must_use]
    pub fn connected(&self, outcome: Connected) -> IntCounter {
        self.connections.with_label_values(&[&*self.name, outcome.as_str()])
    }
}

/// From a hit in memory to the end of `resolve.timeout`.
const QUERY_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.1, 0.25, 0.5, 1.0, 5.0,
];
/// From a resolver in the same rack to one that is nearly given up.
const UPSTREAM_BUCKETS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

#[cfg(test)]
mod tests;
