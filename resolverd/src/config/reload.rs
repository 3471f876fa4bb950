//! What a reload changes: one log line's worth.
//!
//! Pure. Every key of the file is in one table here, with whether a running daemon can take a
//! new value of it; the table is what `daemon` and the documents go by.

use std::path::Path;

use super::Config;

/// Keys whose meaning differs between two configurations, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In effect from now on.
    pub applied: Vec<&'static str>,
    /// The old value stays until the daemon is restarted.
    pub needs_restart: Vec<&'static str>,
}

impl Changes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.needs_restart.is_empty()
    }
}

/// What differs between the configuration in use and the one just read.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    for (key, when, differs) in KEYS {
        if differs(old, new) {
            match when {
                Now => changes.applied.push(key),
                Restart => changes.needs_restart.push(key),
            }
        }
    }
    changes
}

#[derive(Clone, Copy)]
enum When {
    Now,
    Restart,
}
use When::{Now, Restart};

type Differs = fn(&Config, &Config) -> bool;

/// Sockets, maps and paths are made once, at start; the rest is looked up each time.
const KEYS: &[(&str, When, Differs)] = &[
    ("server.listen", Now, |a, b| a.server.listen != b.server.listen),
    ("server.edns-size", Now, |a, b| a.server.edns_size != b.server.edns_size),
    ("server.state-dir", Restart, |a, b| a.server.state_dir != b.server.state_dir),
    ("server.clock", Restart, |a, b| a.server.clock != b.server.clock),
    ("server.udp-workers", Restart, |a, b| a.server.udp_workers != b.server.udp_workers),
    ("server.tcp-clients-max", Restart, |a, b| {
        a.server.tcp_clients_max != b.server.tcp_clients_max
    }),
    ("server.tcp-idle-timeout", Restart, |a, b| {
        a.server.tcp_idle_timeout != b.server.tcp_idle_timeout
    }),
    ("server.tcp-lifetime-max", Restart, |a, b| {
        a.server.tcp_lifetime_max != b.server.tcp_lifetime_max
    }),
    ("server.tcp-queries-in-flight-max", Restart, |a, b| {
        a.server.tcp_queries_in_flight_max != b.server.tcp_queries_in_flight_max
    }),
    ("server.tls-listen", Now, |a, b| a.server.tls_listen != b.server.tls_listen),
    ("server.https-listen", Now, |a, b| a.server.https_listen != b.server.https_listen),
    ("server.quic-listen", Now, |a, b| a.server.quic_listen != b.server.quic_listen),
    ("server.h3-listen", Now, |a, b| a.server.h3_listen != b.server.h3_listen),
    // What is in the files is the server's to compare.
    ("server.tls-cert", Now, |a, b| cert(a) != cert(b)),
    ("server.tls-key", Now, |a, b| key(a) != key(b)),
    ("server.name", Now, |a, b| a.server.name != b.server.name),
    ("server.tls-handshake-timeout", Restart, |a, b| {
        a.server.tls_handshake_timeout != b.server.tls_handshake_timeout
    }),
    ("server.tls-clients-max", Restart, |a, b| {
        a.server.tls_clients_max != b.server.tls_clients_max
    }),
    ("server.quic-clients-max", Restart, |a, b| {
        a.server.quic_clients_max != b.server.quic_clients_max
    }),
    ("server.connections-per-client-max", Restart, |a, b| {
        a.server.connections_per_client_max != b.server.connections_per_client_max
    }),
    ("server.streams-per-connection-max", Restart, |a, b| {
        a.server.streams_per_connection_max != b.server.streams_per_connection_max
    }),
    ("server.proxy-protocol-from", Now, |a, b| {
        a.server.proxy_protocol_from != b.server.proxy_protocol_from
    }),
    ("kernel.mode", Restart, |a, b| a.kernel.mode != b.kernel.mode),
    ("kernel.interfaces", Restart, |a, b| a.kernel.interfaces != b.kernel.interfaces),
    ("kernel.entries", Restart, |a, b| a.kernel.entries[0] != b.kernel.entries[0]),
    ("kernel.entries-256", Restart, |a, b| a.kernel.entries[1] != b.kernel.entries[1]),
    ("kernel.entries-512", Restart, |a, b| a.kernel.entries[2] != b.kernel.entries[2]),
    ("kernel.entries-1280", Restart, |a, b| a.kernel.entries[3] != b.kernel.entries[3]),
    ("kernel.lease", Restart, |a, b| a.kernel.lease != b.kernel.lease),
    ("kernel.pin-path", Restart, |a, b| a.kernel.pin_path != b.kernel.pin_path),
    ("kernel.event-sampling", Now, |a, b| a.kernel.event_sampling != b.kernel.event_sampling),
    ("cache.memory-max", Restart, |a, b| a.cache.memory_max != b.cache.memory_max),
    ("cache.ttl-max", Now, |a, b| a.cache.ttl_max != b.cache.ttl_max),
    ("cache.ttl-min", Now, |a, b| a.cache.ttl_min != b.cache.ttl_min),
    ("cache.negative-ttl-max", Now, |a, b| a.cache.negative_ttl_max != b.cache.negative_ttl_max),
    ("cache.failure-ttl", Now, |a, b| a.cache.failure_ttl != b.cache.failure_ttl),
    ("cache.prefetch", Now, |a, b| a.cache.prefetch != b.cache.prefetch),
    ("cache.serve-stale", Now, |a, b| a.cache.serve_stale != b.cache.serve_stale),
    ("cache.stale-answer-after", Now, |a, b| {
        a.cache.stale_answer_after != b.cache.stale_answer_after
    }),
    ("cache.persist", Now, |a, b| a.cache.persist != b.cache.persist),
    ("resolve.mode", Now, |a, b| a.resolve.mode != b.resolve.mode),
    ("resolve.upstream-from", Now, |a, b| a.resolve.upstream_from != b.resolve.upstream_from),
    ("resolve.ipv4", Now, |a, b| a.resolve.ipv4 != b.resolve.ipv4),
    ("resolve.ipv6", Now, |a, b| a.resolve.ipv6 != b.resolve.ipv6),
    ("resolve.timeout", Now, |a, b| a.resolve.timeout != b.resolve.timeout),
    ("resolve.queries-in-flight-max", Now, |a, b| {
        a.resolve.queries_in_flight_max != b.resolve.queries_in_flight_max
    }),
    ("resolve.queries-in-flight-per-zone-max", Now, |a, b| {
        a.resolve.queries_in_flight_per_zone_max != b.resolve.queries_in_flight_per_zone_max
    }),
    ("resolve.edns-size", Now, |a, b| a.resolve.edns_size != b.resolve.edns_size),
    ("resolve.root-hints", Now, |a, b| {
        a.resolve.recursion.root_hints != b.resolve.recursion.root_hints
    }),
    ("resolve.prime-root", Now, |a, b| {
        a.resolve.recursion.prime_root != b.resolve.recursion.prime_root
    }),
    ("resolve.qname-minimisation", Now, |a, b| {
        a.resolve.recursion.qname_minimisation != b.resolve.recursion.qname_minimisation
    }),
    ("resolve.case-randomisation", Now, |a, b| {
        a.resolve.recursion.case_randomisation != b.resolve.recursion.case_randomisation
    }),
    ("resolve.harden-glue", Now, |a, b| {
        a.resolve.recursion.harden_glue != b.resolve.recursion.harden_glue
    }),
    ("resolve.query-source", Now, |a, b| {
        a.resolve.recursion.query_source != b.resolve.recursion.query_source
    }),
    ("resolve.allow-server", Now, |a, b| {
        a.resolve.recursion.allow_server != b.resolve.recursion.allow_server
    }),
    ("resolve.background-queries", Now, |a, b| {
        a.resolve.recursion.background_queries != b.resolve.recursion.background_queries
    }),
    ("resolve.builtin-zones", Now, |a, b| a.resolve.builtin_zones != b.resolve.builtin_zones),
    ("resolve.hosts-files", Now, |a, b| a.resolve.hosts_files != b.resolve.hosts_files),
    ("resolve.private-addresses", Now, |a, b| {
        a.resolve.private_addresses != b.resolve.private_addresses
    }),
    ("resolve.private-domains", Now, |a, b| a.resolve.private_domains != b.resolve.private_domains),
    ("dnssec.validate", Now, |a, b| a.dnssec.validate != b.dnssec.validate),
    ("dnssec.trust-anchor-files", Now, |a, b| {
        a.dnssec.trust_anchor_files != b.dnssec.trust_anchor_files
    }),
    ("dnssec.negative-trust-anchors", Now, |a, b| {
        a.dnssec.negative_trust_anchors != b.dnssec.negative_trust_anchors
    }),
    ("dnssec.rfc5011", Now, |a, b| a.dnssec.rfc5011 != b.dnssec.rfc5011),
    ("dnssec.anchor-signalling", Now, |a, b| {
        a.dnssec.anchor_signalling != b.dnssec.anchor_signalling
    }),
    ("dnssec.now", Now, |a, b| a.dnssec.now != b.dnssec.now),
    ("upstream", Now, |a, b| a.upstreams != b.upstreams),
    ("zone", Now, |a, b| a.zones != b.zones || a.delegated != b.delegated),
    ("view", Now, |a, b| a.views != b.views),
    ("dns64.prefix", Now, |a, b| {
        a.dns64.as_ref().map(|d| d.prefix) != b.dns64.as_ref().map(|d| d.prefix)
    }),
    ("dns64.exclude", Now, |a, b| {
        a.dns64.as_ref().map(|d| &d.exclude) != b.dns64.as_ref().map(|d| &d.exclude)
    }),
    ("dns64.exclude-a", Now, |a, b| {
        a.dns64.as_ref().map(|d| &d.exclude_a) != b.dns64.as_ref().map(|d| &d.exclude_a)
    }),
    ("rpz", Now, |a, b| a.rpz != b.rpz),
    ("acl.allow", Now, |a, b| a.acl.allow != b.acl.allow),
    ("acl.deny", Now, |a, b| a.acl.deny != b.acl.deny),
    ("cookies.enabled", Now, |a, b| a.cookies.enabled != b.cookies.enabled),
    ("cookies.secrets", Now, |a, b| a.cookies.secrets != b.cookies.secrets),
    ("rate-limit.responses-per-second", Now, |a, b| {
        a.rate_limit.responses_per_second != b.rate_limit.responses_per_second
    }),
    ("rate-limit.burst", Now, |a, b| a.rate_limit.burst_secs != b.rate_limit.burst_secs),
    ("rate-limit.slip", Now, |a, b| a.rate_limit.slip != b.rate_limit.slip),
    ("rate-limit.ipv4-prefix", Now, |a, b| a.rate_limit.ipv4_prefix != b.rate_limit.ipv4_prefix),
    ("rate-limit.ipv6-prefix", Now, |a, b| a.rate_limit.ipv6_prefix != b.rate_limit.ipv6_prefix),
    ("rate-limit.amplification-max", Now, |a, b| {
        a.rate_limit.amplification_max != b.rate_limit.amplification_max
    }),
    ("rate-limit.exempt", Now, |a, b| a.rate_limit.exempt != b.rate_limit.exempt),
    ("metrics.listen", Restart, |a, b| a.metrics.listen != b.metrics.listen),
    ("control.socket", Restart, |a, b| a.control.socket != b.control.socket),
    ("log.level", Now, |a, b| a.log.level != b.log.level),
    ("log.format", Restart, |a, b| a.log.format != b.log.format),
    ("log.target", Restart, |a, b| a.log.target != b.log.target),
    ("log.queries", Now, |a, b| a.log.queries != b.log.queries),
    ("log.query-sampling", Now, |a, b| a.log.query_sampling != b.log.query_sampling),
    ("log.query-target", Now, |a, b| a.log.query_target != b.log.query_target),
    ("privacy.client-prefix", Now, |a, b| a.privacy.client_prefix != b.privacy.client_prefix),
    ("dnstap.socket", Now, |a, b| a.dnstap.socket() != b.dnstap.socket()),
    ("dnstap.address", Now, |a, b| a.dnstap.address() != b.dnstap.address()),
    ("dnstap.messages", Now, |a, b| a.dnstap.messages != b.dnstap.messages),
    ("dnstap.identity", Now, |a, b| a.dnstap.identity != b.dnstap.identity),
    ("dnstap.version", Now, |a, b| a.dnstap.version != b.dnstap.version),
];

fn cert(config: &Config) -> Option<&Path> {
    config.server.tls.as_ref().map(|tls| tls.cert.as_path())
}

fn key(config: &Config) -> Option<&Path> {
    config.server.tls.as_ref().map(|tls| tls.key.as_path())
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "f").unwrap()
    }

    #[test]
    fn every_key_of_the_file_is_in_the_table() {
        let known: Vec<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
        let mut expected = Vec::new();
        for section in spec::sections() {
            if section.repeated {
                expected.push(section.name.to_owned());
            } else {
                expected.extend(section.keys.iter().map(|key| format!("{}.{key}", section.name)));
            }
        }
        assert_eq!(known, expected);
    }

    #[test]
    fn a_reload_names_what_changed_and_what_waits_for_a_restart() {
        let old = config("");
        let new = config(
            "[server]\nlisten = [\"127.0.0.1:5300\"]\nedns-size = 512\n\
             [kernel]\nentries = 1024\n[[upstream]]\nname = \"a\"\naddress = \"192.0.2.1\"\n",
        );
        let changes = changes(&old, &new);
        assert_eq!(changes.applied, ["server.listen", "server.edns-size", "upstream"]);
        assert_eq!(
            changes.needs_restart,
            ["kernel.entries", "kernel.entries-256", "kernel.entries-512", "kernel.entries-1280"]
        );
    }

    #[test]
    fn comments_and_moved_lines_change_nothing() {
        let zone =
            "[[zone]]\nname = \"a.\"\nkind = \"static\"\nrecords = [\"b 1 IN A 192.0.2.1\"]\n";
        let moved = format!("# a comment\n\n{zone}");
        assert!(changes(&config(zone), &config(&moved)).is_empty());
        assert_eq!(config(zone), config(&moved));
    }
}
