//! Every metric by name: its type, its labels, what it counts, and what it answers.
//!
//! Words only; the handles are in `metrics.rs`. `docs/METRICS.md` is this table in readable
//! form.

use prometheus::Opts;

/// One metric, for its registration and for `docs/METRICS.md`.
pub struct Described {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
    /// What an operator learns from it.
    pub question: &'static str,
}

impl Described {
    pub(super) fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

/// `docs/METRICS.md`'s table, one row a metric.
#[cfg(test)]
pub(super) fn markdown() -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    for about in CATALOGUE {
        let labels: Vec<String> = about.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let _ = writeln!(
            out,
            "| `{}` | {} | {labels} | {} | {} |",
            about.name, about.kind, about.help, about.question
        );
    }
    out
}

/// Everything there is, in the order of the way of a packet.
pub const CATALOGUE: &[&Described] = &[
    &KERNEL_PACKETS,
    &KERNEL_ATTACHED,
    &KERNEL_AVAILABLE,
    &KERNEL_EVENTS,
    &KERNEL_EVENTS_LOST,
    &KERNEL_EVENT_SAMPLING_RATIO,
    &KERNEL_ENTRIES_PUBLISHED,
    &KERNEL_WRITES_FAILED,
    &KERNEL_COOKIES,
    &KERNEL_AMPLIFIED,
    &QUERIES,
    &QUERY_DURATION,
    &SERVER_PACKETS_DROPPED,
    &SERVER_TCP_CONNECTIONS,
    &SERVER_TCP_REFUSED,
    &SERVER_CONNECTIONS,
    &SERVER_CONNECTIONS_ENDED,
    &SERVER_HTTP_RESPONSES,
    &SERVER_CERTIFICATE_EXPIRY,
    &SERVER_ADDRESSES,
    &POLICY_COOKIES,
    &POLICY_RATE_LIMITED,
    &POLICY_AMPLIFIED,
    &POLICY_ANSWERS,
    &POLICY_RPZ_RULES,
    &POLICY_RPZ_SERIAL,
    &POLICY_RPZ_UPDATES,
    &CACHE_ENTRIES,
    &CACHE_BYTES,
    &CACHE_EVICTIONS,
    &CACHE_FLUSHES,
    &CACHE_STALE_ANSWERS,
    &CACHE_SAVES,
    &CACHE_LOADED,
    &RESOLVER_FLIGHTS,
    &RESOLVER_FLIGHTS_SHED,
    &RESOLVER_REPLIES_KNOWN,
    &RESOLVER_DELEGATIONS,
    &RESOLVER_SERVERS,
    &RESOLVER_PRIMINGS,
    &UPSTREAM_DURATION,
    &UPSTREAM_QUERIES,
    &UPSTREAM_CONNECTIONS,
    &UPSTREAM_HEALTHY,
    &UPSTREAM_LOOPS,
    &TAP_RECORDS,
    &TAP_DROPPED,
    &TAP_QUERY_SAMPLING_RATIO,
    &TAP_DNSTAP_CONNECTED,
    &DNSSEC_SYNTHESISED,
    &DNSSEC_VERDICTS,
    &DNSSEC_OTHERS_ASKED,
    &DNSSEC_ANCHOR_KEYS,
    &DNSSEC_ANCHOR_REFRESHES,
    &DNSSEC_ANCHOR_STATE_ALARM,
    &DNSSEC_ANCHOR_SIGNALS,
    &CONFIG_RELOADS,
    &LOG_SUPPRESSED,
    &BUILD_INFO,
];

pub(super) const KERNEL_PACKETS: Described = Described {
    name: "resolverd_kernel_packets_total",
    kind: "counter",
    labels: &["verdict", "reason"],
    help: "Packets the kernel's program saw. Verdict `hit` is an answer given by the kernel, \
           `pass` a packet left to the daemon or to others, `drop` one that got no answer, \
           with the reason.",
    question: "How many answers does the kernel give, and why does it not give the others?",
};
pub(super) const KERNEL_ATTACHED: Described = Described {
    name: "resolverd_kernel_attached",
    kind: "gauge",
    labels: &["interface", "mode"],
    help: "1 where the program is attached to the interface, in that mode; 0 with mode `none` \
           where it is configured and not attached.",
    question: "On which interfaces does the kernel answer?",
};
pub(super) const KERNEL_AVAILABLE: Described = Described {
    name: "resolverd_kernel_available",
    kind: "gauge",
    labels: &[],
    help: "1 while the kernel path is in use; 0 when everything is answered from user space.",
    question: "Is this node running with the kernel path, or without?",
};
pub(super) const KERNEL_EVENTS: Described = Described {
    name: "resolverd_kernel_events_total",
    kind: "counter",
    labels: &["kind"],
    help: "Events read from the kernel's ring buffer. Hits among them are samples: multiply by \
           the sampling ratio.",
    question: "Does the daemon hear of what the kernel does?",
};
pub(super) const KERNEL_EVENTS_LOST: Described = Described {
    name: "resolverd_kernel_events_lost_total",
    kind: "counter",
    labels: &[],
    help: "Events the ring buffer had no room for.",
    question: "Is the daemon too slow for the events? Raise `kernel.event-sampling`.",
};
pub(super) const KERNEL_EVENT_SAMPLING_RATIO: Described = Described {
    name: "resolverd_kernel_event_sampling_ratio",
    kind: "gauge",
    labels: &[],
    help: "One in how many hits is reported as an event.",
    question: "What are sampled numbers to be multiplied by?",
};
pub(super) const KERNEL_ENTRIES_PUBLISHED: Described = Described {
    name: "resolverd_kernel_entries_published_total",
    kind: "counter",
    labels: &["class"],
    help: "Answers written into the kernel's maps, by the class of their size in octets.",
    question: "Which of the `kernel.entries` settings is worth raising?",
};
pub(super) const KERNEL_WRITES_FAILED: Described = Described {
    name: "resolverd_kernel_writes_failed_total",
    kind: "counter",
    labels: &[],
    help: "Writes to the kernel's maps that the system refused.",
    question: "Do promoted answers reach the kernel?",
};
pub(super) const KERNEL_COOKIES: Described = Described {
    name: "resolverd_kernel_cookies_total",
    kind: "counter",
    labels: &["cookie"],
    help: "Answers the kernel gave, by the DNS cookie of their query: none, the client's part \
           alone, one that is not ours or too old, or a valid one.",
    question: "How many clients can prove their address?",
};
pub(super) const KERNEL_AMPLIFIED: Described = Described {
    name: "resolverd_kernel_amplified_total",
    kind: "counter",
    labels: &[],
    help: "Answers the kernel sent empty with TC because of `rate-limit.amplification-max`.",
    question: "Does the bound on large answers send clients to TCP?",
};
pub(super) const POLICY_COOKIES: Described = Described {
    name: "resolverd_policy_cookies_total",
    kind: "counter",
    labels: &["cookie"],
    help: "Queries with a DNS cookie that the daemon read, by what it was.",
    question: "How many clients can prove their address?",
};
pub(super) const POLICY_RATE_LIMITED: Described = Described {
    name: "resolverd_policy_rate_limited_total",
    kind: "counter",
    labels: &["action"],
    help: "Queries over `rate-limit.responses-per-second` in the daemon: dropped, or answered \
           empty with TC. The kernel's are in `resolverd_kernel_packets_total`, reason \
           `rate_limited`.",
    question: "Is somebody flooding, or is the limit too low?",
};
pub(super) const POLICY_AMPLIFIED: Described = Described {
    name: "resolverd_policy_amplified_total",
    kind: "counter",
    labels: &[],
    help: "Answers the daemon sent empty with TC because of `rate-limit.amplification-max`.",
    question: "Does the bound on large answers send clients to TCP?",
};
pub(super) const QUERIES: Described = Described {
    name: "resolverd_queries_total",
    kind: "counter",
    labels: &["transport", "answered_by", "rcode"],
    help: "Queries the daemon answered; those the kernel answered are in \
           `resolverd_kernel_packets_total`.",
    question: "What is asked of the daemon, who has the answer, and how does it end?",
};
pub(super) const QUERY_DURATION: Described = Described {
    name: "resolverd_query_duration_seconds",
    kind: "histogram",
    labels: &["answered_by"],
    help: "From a query read to its answer written, in the daemon.",
    question: "How long do clients wait when the kernel did not answer?",
};
pub(super) const SERVER_PACKETS_DROPPED: Described = Described {
    name: "resolverd_server_packets_dropped_total",
    kind: "counter",
    labels: &["reason"],
    help: "Datagrams that got no answer.",
    question: "Is somebody sending rubbish, or is the daemon out of room?",
};
pub(super) const SERVER_TCP_CONNECTIONS: Described = Described {
    name: "resolverd_server_tcp_connections",
    kind: "gauge",
    labels: &[],
    help: "TCP connections of clients, now open.",
    question: "How near is `server.tcp-clients-max`?",
};
pub(super) const SERVER_TCP_REFUSED: Described = Described {
    name: "resolverd_server_tcp_refused_total",
    kind: "counter",
    labels: &[],
    help: "TCP connections closed at once because of `server.tcp-clients-max`.",
    question: "Are clients turned away?",
};
pub(super) const SERVER_CONNECTIONS: Described = Described {
    name: "resolverd_server_connections",
    kind: "gauge",
    labels: &["transport"],
    help: "Encrypted connections of clients, now open; the handshake is part of it.",
    question: "How near are `server.tls-clients-max` and `server.quic-clients-max`?",
};
pub(super) const SERVER_CONNECTIONS_ENDED: Described = Described {
    name: "resolverd_server_connections_ended_total",
    kind: "counter",
    labels: &["transport", "reason"],
    help: "Connections refused, or ended by us before their client was done: no place, no \
           handshake, a query not completed, answers not read, too old.",
    question: "Are clients turned away, and why?",
};
pub(super) const SERVER_HTTP_RESPONSES: Described = Described {
    name: "resolverd_server_http_responses_total",
    kind: "counter",
    labels: &["transport", "status"],
    help: "Responses to requests over HTTP, by status.",
    question: "Do clients ask in the right way?",
};
pub(super) const SERVER_CERTIFICATE_EXPIRY: Described = Described {
    name: "resolverd_server_certificate_expiry_seconds",
    kind: "gauge",
    labels: &[],
    help: "Until when the certificate of `server.tls-cert` is valid, in seconds since 1970; 0 \
           without one.",
    question: "When must the certificate be renewed?",
};
pub(super) const SERVER_ADDRESSES: Described = Described {
    name: "resolverd_server_addresses",
    kind: "gauge",
    labels: &["state"],
    help: "Addresses of `server.listen` and of the listeners beside it: served, waiting to \
           appear on an interface, or failed.",
    question: "Does the node listen where it should?",
};
pub(super) const POLICY_ANSWERS: Described = Described {
    name: "resolverd_policy_answers_total",
    kind: "counter",
    labels: &["rule"],
    help: "Questions that the daemon answered, refused or dropped by a rule of policy, and answers \
           that a rule changed. What was made so and comes from the cache or the kernel again is \
           counted there.",
    question: "Which rules are at work?",
};
pub(super) const POLICY_RPZ_RULES: Described = Described {
    name: "resolverd_policy_rpz_rules",
    kind: "gauge",
    labels: &["zone"],
    help: "Rules of a policy zone in use; 0 until it is there.",
    question: "Is the feed loaded, and as large as it should be?",
};
pub(super) const POLICY_RPZ_SERIAL: Described = Described {
    name: "resolverd_policy_rpz_serial",
    kind: "gauge",
    labels: &["zone"],
    help: "The serial of a policy zone's SOA.",
    question: "Is the feed as new as its primary's?",
};
pub(super) const POLICY_RPZ_UPDATES: Described = Described {
    name: "resolverd_policy_rpz_updates_total",
    kind: "counter",
    labels: &["zone", "result"],
    help: "Looks for a policy zone's content: whole, changes, current, failed (the old content \
           goes on), or disk (at a start).",
    question: "Does the feed still come?",
};
pub(super) const CACHE_ENTRIES: Described = Described {
    name: "resolverd_cache_entries",
    kind: "gauge",
    labels: &[],
    help: "Answers in the daemon's cache.",
    question: "How full is the cache?",
};
pub(super) const CACHE_BYTES: Described = Described {
    name: "resolverd_cache_bytes",
    kind: "gauge",
    labels: &[],
    help: "Octets the daemon's cache takes, by its own account.",
    question: "How near is `cache.memory-max`?",
};
pub(super) const CACHE_EVICTIONS: Described = Described {
    name: "resolverd_cache_evictions_total",
    kind: "counter",
    labels: &[],
    help: "Answers that made room for others before their time.",
    question: "Would a larger `cache.memory-max` save questions to upstreams?",
};
pub(super) const CACHE_FLUSHES: Described = Described {
    name: "resolverd_cache_flushes_total",
    kind: "counter",
    labels: &["scope"],
    help: "Flushes by the operator; `overflow`: more than are remembered one by one, so that \
           all was flushed.",
    question: "Why did the hit rate fall?",
};
pub(super) const CACHE_STALE_ANSWERS: Described = Described {
    name: "resolverd_cache_stale_answers_total",
    kind: "counter",
    labels: &["cause"],
    help: "Answers used past their time (RFC 8767): nobody gave a newer one (`failed`), none came \
           in time (`slow`), or it was so within the last 30 seconds (`recheck`).",
    question: "Do clients live on old answers because servers or upstreams are down?",
};
pub(super) const CACHE_SAVES: Described = Described {
    name: "resolverd_cache_saves_total",
    kind: "counter",
    labels: &["result"],
    help: "Times the cache was written to disk (`cache.persist`), and times that failed.",
    question: "Will a restart find the answers?",
};
pub(super) const CACHE_LOADED: Described = Described {
    name: "resolverd_cache_loaded_entries_total",
    kind: "counter",
    labels: &[],
    help: "Answers taken from the file on disk, or from `resolverd cache load`.",
    question: "Did the restart find the answers?",
};
pub(super) const RESOLVER_FLIGHTS: Described = Described {
    name: "resolverd_resolver_flights",
    kind: "gauge",
    labels: &[],
    help: "Questions now waiting for an upstream; clients with the same question share one.",
    question: "How near is `resolve.queries-in-flight-max`?",
};
pub(super) const RESOLVER_FLIGHTS_SHED: Described = Described {
    name: "resolverd_resolver_flights_shed_total",
    kind: "counter",
    labels: &["cause"],
    help: "Questions answered SERVFAIL because too many wait: they gave way to newer ones \
           (`resolve.queries-in-flight-max`), too many of their zone wait \
           (`queries-in-flight-per-zone-max`), or too many clients for this one.",
    question: "Do clients get failures because too much waits for upstreams?",
};
pub(super) const RESOLVER_REPLIES_KNOWN: Described = Described {
    name: "resolverd_resolver_replies_known",
    kind: "gauge",
    labels: &[],
    help: "Replies the resolver keeps for itself, with their DNSSEC records: links of aliases, \
           addresses of servers.",
    question: "What has recursion learnt?",
};
pub(super) const RESOLVER_DELEGATIONS: Described = Described {
    name: "resolverd_resolver_delegations",
    kind: "gauge",
    labels: &[],
    help: "Zones whose servers are remembered.",
    question: "Does recursion begin at the root each time, or near the answer?",
};
pub(super) const RESOLVER_SERVERS: Described = Described {
    name: "resolverd_resolver_servers",
    kind: "gauge",
    labels: &[],
    help: "Addresses of servers whose times and habits are remembered.",
    question: "How many servers does this node talk to?",
};
pub(super) const RESOLVER_PRIMINGS: Described = Described {
    name: "resolverd_resolver_primings_total",
    kind: "counter",
    labels: &[],
    help: "Times the root described itself (RFC 8109).",
    question: "Are the root's servers known, or only the hints?",
};
pub(super) const UPSTREAM_DURATION: Described = Described {
    name: "resolverd_upstream_duration_seconds",
    kind: "histogram",
    labels: &["upstream"],
    help: "From a question sent to an upstream to its answer accepted. At most 32 names; \
           further ones share `other`.",
    question: "Which upstream is slow?",
};
pub(super) const UPSTREAM_QUERIES: Described = Described {
    name: "resolverd_upstream_queries_total",
    kind: "counter",
    labels: &["upstream", "outcome"],
    help: "Questions sent to upstreams, by how they ended.",
    question: "Which upstream fails, and how?",
};
pub(super) const UPSTREAM_CONNECTIONS: Described = Described {
    name: "resolverd_upstream_connections_total",
    kind: "counter",
    labels: &["upstream", "outcome"],
    help: "Connections set up to upstreams, or tried, by how that ended; certificates by the rule \
           they broke.",
    question: "Are connections reused, and why can none be had?",
};
pub(super) const UPSTREAM_HEALTHY: Described = Described {
    name: "resolverd_upstream_healthy",
    kind: "gauge",
    labels: &["upstream"],
    help: "1 while the upstream is asked by choice, 0 while it is only probed.",
    question: "Which upstreams are down?",
};
pub(super) const UPSTREAM_LOOPS: Described = Described {
    name: "resolverd_upstream_loops_total",
    kind: "counter",
    labels: &[],
    help: "Questions of our own that came back to us by way of an upstream.",
    question: "Does an upstream forward to us?",
};
pub(super) const TAP_RECORDS: Described = Described {
    name: "resolverd_tap_records_total",
    kind: "counter",
    labels: &["outlet"],
    help: "Lines of the query log written, and messages sent to dnstap's receiver.",
    question: "Is what is seen told?",
};
pub(super) const TAP_DROPPED: Described = Described {
    name: "resolverd_tap_dropped_total",
    kind: "counter",
    labels: &["outlet", "reason"],
    help: "Lines and messages lost: the queue was full, or writing failed. No query waits for \
           them.",
    question: "Is the disk or the receiver too slow, and what do counts of lines miss?",
};
pub(super) const TAP_QUERY_SAMPLING_RATIO: Described = Described {
    name: "resolverd_tap_query_sampling_ratio",
    kind: "gauge",
    labels: &[],
    help: "The share of the daemon's answers that the query log has: 1 is all, 0 is off. Of the \
           kernel's it has `resolverd_kernel_event_sampling_ratio`.",
    question: "What are counts of lines to be divided by?",
};
pub(super) const TAP_DNSTAP_CONNECTED: Described = Described {
    name: "resolverd_tap_dnstap_connected",
    kind: "gauge",
    labels: &[],
    help: "1 while dnstap's receiver is connected.",
    question: "Does somebody take what is sent?",
};
pub(super) const DNSSEC_SYNTHESISED: Described = Described {
    name: "resolverd_dnssec_synthesised_total",
    kind: "counter",
    labels: &[],
    help: "Denials made of NSEC and NSEC3 records that were validated before (RFC 8198).",
    question: "How many questions for names that do not exist cost no upstream query?",
};
pub(super) const DNSSEC_VERDICTS: Described = Described {
    name: "resolverd_dnssec_verdicts_total",
    kind: "counter",
    labels: &["verdict"],
    help: "Validated replies: secure, insecure, bogus, or indeterminate for want of a trust \
           anchor; `unknown` where a DS or DNSKEY could not be fetched.",
    question: "Do zones fail validation, or does validation fail?",
};
pub(super) const DNSSEC_OTHERS_ASKED: Described = Described {
    name: "resolverd_dnssec_others_asked_total",
    kind: "counter",
    labels: &["outcome"],
    help: "Questions whose reply was bogus and for which other servers of the zone were asked: \
           one of them mended it, or it stayed bogus.",
    question: "Is one of a zone's servers broken, or the zone?",
};
pub(super) const DNSSEC_ANCHOR_KEYS: Described = Described {
    name: "resolverd_dnssec_anchor_keys",
    kind: "gauge",
    labels: &["zone", "state"],
    help: "Keys of zones with a trust anchor that are followed (RFC 5011), by where they stand: \
           seen and waiting their 30 days (`add-pend`), trusted (`valid`, and `missing` while \
           the zone does not show them), or not any more (`revoked`, `removed`). At most 32 zones; \
           further ones share `other`.",
    question: "Is a key being rolled over, and is one trusted that the zone still has?",
};
pub(super) const DNSSEC_ANCHOR_REFRESHES: Described = Described {
    name: "resolverd_dnssec_anchor_refreshes_total",
    kind: "counter",
    labels: &["result"],
    help: "Looks at the keys of zones with a trust anchor: believed, refused because no trusted \
           key signed them, or not to be had.",
    question: "Do the anchors keep up with their zones?",
};
pub(super) const DNSSEC_ANCHOR_STATE_ALARM: Described = Described {
    name: "resolverd_dnssec_anchor_state_alarm",
    kind: "gauge",
    labels: &[],
    help: "1 while the state of RFC 5011 is missing though it was there once, cannot be read, or \
           cannot be written; what is configured is trusted then, or what is in memory.",
    question: "Will the next roll-over of a key be followed? Act on 1.",
};
pub(super) const DNSSEC_ANCHOR_SIGNALS: Described = Described {
    name: "resolverd_dnssec_anchor_signals_total",
    kind: "counter",
    labels: &["result"],
    help: "Questions that tell a zone which of its keys are trusted here (RFC 8145), by whether a \
           server took them.",
    question: "Does the zone's operator know what is trusted here?",
};
pub(super) const CONFIG_RELOADS: Described = Described {
    name: "resolverd_config_reloads_total",
    kind: "counter",
    labels: &["result"],
    help: "Reloads of the configuration: applied, unchanged, or refused (the old one goes on).",
    question: "Did the last change of the file take effect?",
};
pub(super) const LOG_SUPPRESSED: Described = Described {
    name: "resolverd_log_suppressed_total",
    kind: "counter",
    labels: &[],
    help: "Log lines held back by rate limits.",
    question: "Does the log show everything?",
};
pub(super) const BUILD_INFO: Described = Described {
    name: "resolverd_build_info",
    kind: "gauge",
    labels: &["version", "abi", "kernel_path"],
    help: "Always 1; the labels say which build runs, the number of its contract with the \
           kernel's program, and whether that program is built in.",
    question: "Which version runs where?",
};
