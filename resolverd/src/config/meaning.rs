//! From what is written to what is meant: ranges, addresses, and what fits together.
//!
//! Pure. Goes on after a problem, so that one look at a file finds all of them; the stand-ins
//! that `reader.rs` gives then never leave this file.

mod rpz;
mod rules;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::doors;
use super::overlay::Source;
use super::reader::Reader;
use super::recursion;
use super::spec::{self, Number, Spec, Text};
use super::upstreams::{self, UPSTREAM_ZONES_MAX};
use super::values;
use super::{
    Acl, AnchorFile, Cache, Clock, Config, Control, Cookies, Dnssec, Dnstap, DnstapReceiver,
    DnstapText, Kernel, KernelMode, Log, LogFormat, LogLevel, LogTarget, Metrics, Privacy, Problem,
    Queries, QueryTarget, RateLimit, Resolve, ResolveMode, UpstreamFrom, Validate,
};

/// What `spec` means. `state_dir` takes the place of the default one, not of a written one.
pub fn of(
    spec: &Spec,
    source: &Source<'_>,
    state_dir: Option<&Path>,
) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { source, problems: Vec::new() };
    let r = &mut reader;
    let resolve = resolve(r, &spec.resolve);
    let (zones, delegated) = rules::zones(r, &spec.zone, &spec.view, resolve.mode);
    let config = Config {
        file: source.file.to_owned(),
        server: doors::server(r, &spec.server, state_dir),
        kernel: kernel(r, &spec.kernel),
        cache: cache(r, &spec.cache),
        resolve,
        dnssec: dnssec(r, &spec.dnssec),
        upstreams: upstreams::upstreams(r, &spec.upstream),
        zones,
        delegated,
        views: rules::views(r, &spec.view),
        dns64: rules::dns64(r, &spec.dns64),
        rpz: rpz::zones(r, &spec.rpz, &spec.view),
        acl: acl(r, &spec.acl),
        cookies: cookies(r, &spec.cookies),
        rate_limit: rate_limit(r, &spec.rate_limit),
        metrics: Metrics { listen: metrics_listen(r, &spec.metrics) },
        control: Control { socket: r.socket_path("control.socket", &spec.control.socket) },
        log: log(r, &spec.log),
        privacy: Privacy { client_prefix: client_prefix(r, &spec.privacy) },
        dnstap: dnstap(r, &spec.dnstap),
    };
    fits_together(r, spec, &config);
    if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
}

fn kernel(r: &mut Reader<'_>, spec: &spec::Kernel) -> Kernel {
    let modes = [
        ("auto", KernelMode::Auto),
        ("xdp", KernelMode::Xdp),
        ("xdp-generic", KernelMode::XdpGeneric),
        ("tc", KernelMode::Tc),
        ("off", KernelMode::Off),
    ];
    let mode = r.one_of("kernel.mode", &spec.mode, &modes);
    if mode != KernelMode::Off && spec.interfaces.get_ref().is_empty() {
        r.refuse(
            spec.interfaces.span(),
            "`kernel.interfaces` is empty; write `interfaces = [\"lo\"]`, or `mode = \"off\"`, \
             instead",
        );
    }
    r.at_most("kernel.interfaces", &spec.interfaces, INTERFACES_MAX);
    let read = |name: &str| values::interface(name).map(|()| name.to_owned());
    let interfaces = r.each_once("kernel.interfaces", spec.interfaces.get_ref(), read);
    let range = ENTRIES_MIN..=ENTRIES_MAX;
    let entries = r.number("kernel.entries", &spec.entries, range.clone());
    let mut larger = |key: &str, written: &Option<Number>, part: i64| match written {
        Some(number) => r.number(key, number, range.clone()) as u32,
        None => (entries / part).max(ENTRIES_MIN) as u32,
    };
    let entries = [
        entries as u32,
        larger("kernel.entries-256", &spec.entries_256, 8),
        larger("kernel.entries-512", &spec.entries_512, 16),
        larger("kernel.entries-1280", &spec.entries_1280, 64),
    ];
    Kernel {
        mode,
        interfaces,
        entries,
        lease: r.duration("kernel.lease", &spec.lease, 3 * SECOND..=5 * MINUTE),
        pin_path: r.path("kernel.pin-path", &spec.pin_path),
        event_sampling: r.number("kernel.event-sampling", &spec.event_sampling, 1..=1_000_000)
            as u32,
    }
}

fn cache(r: &mut Reader<'_>, spec: &spec::Cache) -> Cache {
    let ttl_max = r.duration("cache.ttl-max", &spec.ttl_max, SECOND..=7 * DAY);
    let ttl_min = r.duration("cache.ttl-min", &spec.ttl_min, Duration::ZERO..=HOUR);
    if ttl_min > ttl_max {
        let span = r.written(&[&spec.ttl_min, &spec.ttl_max]);
        let (min, max) = (values::show_duration(ttl_min), values::show_duration(ttl_max));
        r.refuse(
            span,
            format!(
                "`cache.ttl-min` ({min}) is longer than `ttl-max` ({max}); \
                 write `ttl-min = \"{max}\"` or less instead"
            ),
        );
    }
    let negative =
        r.duration("cache.negative-ttl-max", &spec.negative_ttl_max, Duration::ZERO..=DAY);
    Cache {
        memory_max: r.size("cache.memory-max", &spec.memory_max, MIB..=TIB),
        ttl_max,
        ttl_min,
        negative_ttl_max: negative,
        failure_ttl: r.duration("cache.failure-ttl", &spec.failure_ttl, SECOND..=5 * MINUTE),
        prefetch: spec.prefetch,
        serve_stale: serve_stale(r, &spec.serve_stale),
        stale_answer_after: r.duration(
            "cache.stale-answer-after",
            &spec.stale_answer_after,
            Duration::ZERO..=30 * SECOND,
        ),
        persist: spec.persist,
    }
}

fn serve_stale(r: &mut Reader<'_>, written: &Text) -> Duration {
    if written.get_ref() == "off" {
        return Duration::ZERO;
    }
    r.duration("cache.serve-stale", written, MINUTE..=7 * DAY)
}

fn resolve(r: &mut Reader<'_>, spec: &spec::Resolve) -> Resolve {
    let modes = [("recurse", ResolveMode::Recurse), ("forward", ResolveMode::Forward)];
    let mode = r.one_of("resolve.mode", &spec.mode, &modes);
    let sources = [("system", UpstreamFrom::System), ("none", UpstreamFrom::None)];
    let (ipv4, ipv6) = (*spec.ipv4.get_ref(), *spec.ipv6.get_ref());
    if !ipv4 && !ipv6 {
        // One of them is in the file: the defaults have both on.
        let span = if r.source.is_written(&spec.ipv4.span()) { &spec.ipv4 } else { &spec.ipv6 };
        r.refuse(
            span.span(),
            "`resolve.ipv4` and `resolve.ipv6` are both off, so that no upstream can be asked; \
             write `ipv4 = true` or `ipv6 = true` instead",
        );
    }
    Resolve {
        mode,
        upstream_from: r.one_of("resolve.upstream-from", &spec.upstream_from, &sources),
        ipv4,
        ipv6,
        timeout: r.duration("resolve.timeout", &spec.timeout, 100 * MILLISECOND..=30 * SECOND),
        queries_in_flight_max: r.number(
            "resolve.queries-in-flight-max",
            &spec.queries_in_flight_max,
            1..=1_000_000,
        ) as usize,
        queries_in_flight_per_zone_max: r.number(
            "resolve.queries-in-flight-per-zone-max",
            &spec.queries_in_flight_per_zone_max,
            1..=1_000_000,
        ) as usize,
        edns_size: r.number("resolve.edns-size", &spec.edns_size, 512..=4096) as u16,
        recursion: recursion::recursion(r, spec),
        builtin_zones: spec.builtin_zones,
        hosts_files: rules::hosts_files(r, &spec.hosts_files),
        private_addresses: {
            r.at_most("resolve.private-addresses", &spec.private_addresses, PREFIXES_MAX);
            let texts = spec.private_addresses.get_ref();
            r.each_once("resolve.private-addresses", texts, values::prefix)
        },
        private_domains: {
            r.at_most("resolve.private-domains", &spec.private_domains, UPSTREAM_ZONES_MAX);
            let texts = spec.private_domains.get_ref();
            r.each_once("resolve.private-domains", texts, values::zone)
        },
    }
}

fn dnssec(r: &mut Reader<'_>, spec: &spec::Dnssec) -> Dnssec {
    let (files, negative) = (&spec.trust_anchor_files, &spec.negative_trust_anchors);
    r.at_most("dnssec.trust-anchor-files", files, ANCHOR_FILES_MAX);
    r.at_most("dnssec.negative-trust-anchors", negative, NEGATIVE_ANCHORS_MAX);
    let file = |text: &Text, r: &mut Reader<'_>| AnchorFile {
        path: r.path("dnssec.trust-anchor-files", text),
        text: String::new(),
        at: r.source.position(&text.span()),
    };
    Dnssec {
        validate: match spec.validate {
            None => Validate::Recursed,
            Some(true) => Validate::All,
            Some(false) => Validate::Nothing,
        },
        trust_anchor_files: files.get_ref().iter().map(|text| file(text, r)).collect(),
        negative_trust_anchors: r.each_once(
            "dnssec.negative-trust-anchors",
            negative.get_ref(),
            values::negative_anchor,
        ),
        rfc5011: spec.rfc5011,
        anchor_signalling: spec.anchor_signalling,
        now: r.value("dnssec.now", &spec.now, values::fixed_time).flatten(),
    }
}

fn acl(r: &mut Reader<'_>, spec: &spec::Acl) -> Acl {
    r.at_most("acl.allow", &spec.allow, PREFIXES_MAX);
    r.at_most("acl.deny", &spec.deny, PREFIXES_MAX);
    let allow = r.each_once("acl.allow", spec.allow.get_ref(), values::prefix);
    let allowed: HashSet<IpNet> = allow.iter().copied().collect();
    let mut deny = Vec::new();
    for text in spec.deny.get_ref() {
        let Some(prefix) = r.value("acl.deny", text, values::prefix) else { continue };
        if allowed.contains(&prefix) {
            let span =
                if r.source.is_written(&text.span()) { text.span() } else { spec.allow.span() };
            r.refuse(
                span,
                format!(
                    "`{prefix}` is both in `acl.allow` and in `acl.deny`; write it in one of \
                         them instead"
                ),
            );
        }
        if !deny.contains(&prefix) {
            deny.push(prefix);
        }
    }
    Acl { allow, deny }
}

fn cookies(r: &mut Reader<'_>, spec: &spec::Cookies) -> Cookies {
    r.at_most("cookies.secrets", &spec.secrets, SECRETS_MAX);
    let mut known: Vec<(usize, [u64; 2])> = Vec::new();
    for (text, place) in spec.secrets.get_ref().iter().zip(1..) {
        let Some(secret) = r.value("cookies.secrets", text, values::cookie_secret) else {
            continue;
        };
        match known.iter().find(|(_, other)| *other == secret) {
            None => known.push((place, secret)),
            // By its place: what is said here may stand in a log, and a secret must not.
            Some((first, _)) => r.refuse(
                text.span(),
                format!(
                    "`cookies.secrets`: number {place} is number {first} again; write it once \
                     instead"
                ),
            ),
        }
    }
    let secrets = known.into_iter().map(|(_, secret)| secret).collect();
    Cookies { enabled: spec.enabled, secrets }
}

fn rate_limit(r: &mut Reader<'_>, spec: &spec::RateLimit) -> RateLimit {
    r.at_most("rate-limit.exempt", &spec.exempt, PREFIXES_MAX);
    let exempt = r.each_once("rate-limit.exempt", spec.exempt.get_ref(), values::prefix);
    let mut number = |key: &str, number: &Number, range| r.number(key, number, range);
    RateLimit {
        responses_per_second: number(
            "rate-limit.responses-per-second",
            &spec.responses_per_second,
            0..=1_000_000,
        ) as u32,
        burst_secs: number("rate-limit.burst", &spec.burst, 1..=60) as u32,
        slip: number("rate-limit.slip", &spec.slip, 0..=100) as u32,
        ipv4_prefix: number("rate-limit.ipv4-prefix", &spec.ipv4_prefix, 8..=32) as u8,
        ipv6_prefix: number("rate-limit.ipv6-prefix", &spec.ipv6_prefix, 16..=64) as u8,
        amplification_max: number(
            "rate-limit.amplification-max",
            &spec.amplification_max,
            0..=1_000,
        ) as u32,
        exempt,
    }
}

fn metrics_listen(r: &mut Reader<'_>, spec: &spec::Metrics) -> Option<SocketAddr> {
    if spec.listen.get_ref() == "off" {
        return None;
    }
    r.value("metrics.listen", &spec.listen, values::socket)
}

fn log(r: &mut Reader<'_>, spec: &spec::Log) -> Log {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let queries = [("off", Queries::Off), ("sampled", Queries::Sampled), ("all", Queries::All)];
    Log {
        level: r.one_of("log.level", &spec.level, &levels),
        format: r.one_of("log.format", &spec.format, &formats),
        target: r.one_of("log.target", &spec.target, &[("stderr", LogTarget::Stderr)]),
        queries: r.one_of("log.queries", &spec.queries, &queries),
        query_sampling: r.number("log.query-sampling", &spec.query_sampling, 1..=1_000_000) as u32,
        query_target: r
            .value("log.query-target", &spec.query_target, values::query_target)
            .unwrap_or(QueryTarget::Stderr),
    }
}

fn client_prefix(r: &mut Reader<'_>, spec: &spec::Privacy) -> (u8, u8) {
    let read = r.value("privacy.client-prefix", &spec.client_prefix, values::client_prefix);
    read.unwrap_or((0, 0))
}

fn dnstap(r: &mut Reader<'_>, spec: &spec::Dnstap) -> Dnstap {
    let is_on = |text: &Text| text.get_ref() != "off";
    let socket = is_on(&spec.socket).then(|| r.socket_path("dnstap.socket", &spec.socket));
    let address = match is_on(&spec.address) {
        true => r.value("dnstap.address", &spec.address, values::receiver),
        false => None,
    };
    if is_on(&spec.socket) && is_on(&spec.address) {
        r.refuse(
            r.written(&[&spec.address, &spec.socket]),
            "`dnstap.socket` and `dnstap.address` are both there, and dnstap goes to one \
             receiver; write `socket = \"off\"` or `address = \"off\"` instead",
        );
    }
    r.not_empty("dnstap.messages", &spec.messages, "[\"client-query\", \"client-response\"]");
    let text = |text: &Text| match text.get_ref().as_str() {
        "auto" => DnstapText::Auto,
        "off" => DnstapText::Off,
        text => DnstapText::Text(text.to_owned()),
    };
    for (key, text) in [("identity", &spec.identity), ("version", &spec.version)] {
        if text.get_ref().is_empty() || text.get_ref().len() > DNSTAP_TEXT_MAX {
            r.refuse(
                text.span(),
                format!(
                    "`dnstap.{key}` is \"auto\", \"off\", or up to {DNSTAP_TEXT_MAX} octets of \
                     text; write `{key} = \"auto\"` instead"
                ),
            );
        }
    }
    Dnstap {
        receiver: socket.map(DnstapReceiver::Socket).or(address.map(DnstapReceiver::Address)),
        messages: r.each_once("dnstap.messages", spec.messages.get_ref(), values::dnstap_message),
        identity: text(&spec.identity),
        version: text(&spec.version),
    }
}

/// What no section can see by itself.
fn fits_together(r: &mut Reader<'_>, spec: &Spec, config: &Config) {
    upstreams::fit_together(r, spec, config);
    if config.server.clock == Clock::Realtime && config.kernel.mode != KernelMode::Off {
        let span = r.written(&[&spec.server.clock, &spec.kernel.mode]);
        r.refuse(
            span,
            "`server.clock` is \"realtime\", and the kernel's program has no clock but \"boot\"; \
             write `mode = \"off\"` below `[kernel]`, or `clock = \"boot\"`, instead",
        );
    }
    let forwards = config.resolve.mode == ResolveMode::Forward;
    let nobody = forwards && config.resolve.upstream_from == UpstreamFrom::None;
    if nobody && spec.upstream.is_empty() && spec.zone.is_empty() {
        r.refuse(
            spec.resolve.upstream_from.span(),
            "`resolve.upstream-from`: there is nobody to ask, and no zone to answer from; \
             write `upstream-from = \"system\"`, or add an `[[upstream]]` or a `[[zone]]`, instead",
        );
    }
}

const KIND_MISSING: &str = "write `kind = \"static\"`, or a `mode` with `upstreams`, below its \
                            header instead";

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Fewer do not fill a per-CPU list of free elements.
const ENTRIES_MIN: i64 = 256;
/// 3.6 GB of the smallest class.
const ENTRIES_MAX: i64 = 1 << 24;

/// As many interfaces as the metrics keep apart.
const INTERFACES_MAX: usize = 31;
/// Test rigs have dozens of anchors, each in a file of its own.
const ANCHOR_FILES_MAX: usize = 256;
/// Of the file; more come at run time.
const NEGATIVE_ANCHORS_MAX: usize = 1_024;
/// Of one list; the kernel's map holds both.
const PREFIXES_MAX: usize = 10_000;
/// The one in use, and one that takes its place or had it.
const SECRETS_MAX: usize = 2;
/// It goes with every message that is sent.
const DNSTAP_TEXT_MAX: usize = 255;
