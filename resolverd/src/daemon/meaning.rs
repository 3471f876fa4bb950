//! From the configuration to what each room is told. Pure.
//!
//! Rooms of one floor don't know each other, nor most of the configuration; here each gets its
//! part, in its own words.

mod digests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use resolverd_common::cookie::Secrets;
use resolverd_common::limits::RateLimits;
use resolverd_common::settings::Source;
use resolverd_common::time::SECOND;

use digests::of_upstreams;
pub use digests::{fingerprint, in_answers};

use super::anchors::configured;
use super::files::Files;
use crate::config::{
    self, Config, ConfigError, Delegation, DnstapMessage, DnstapReceiver, DnstapText, Position,
    Protocol, Queries, QueryTarget, ResolveMode, RootsFile, UpstreamFrom,
};
use crate::dns::Name;
use crate::kernel::driver::Wanted;
use crate::log::ClientPrefix;
use crate::pipeline::Policy;
use crate::policy::rpz::driver::{FeedSpec, From, Tsig};
use crate::policy::{
    Acl, Admission, Dns64, Limiter, Rebinding, Rpz, Rules, Verdict, ViewSpec, ZoneSpec, rules,
};
use crate::resolver::{hints, trust};
use crate::{cache, resolver, server, tap};

/// Access list, views, local zones and all else that is policy; what is wrong with a record is
/// told with its place in the file.
///
/// # Errors
///
/// [`ConfigError::Refused`].
pub fn policy(config: &Config, files: &Files) -> Result<Policy, ConfigError> {
    let mut zones: Vec<ZoneSpec> = config
        .zones
        .iter()
        .map(|zone| ZoneSpec {
            name: name(&zone.name),
            kind: zone.kind,
            records: zone.records.iter().map(|record| record.text.clone()).collect(),
            views: zone.views.clone(),
            log: zone.log,
        })
        .collect();
    // Behind those of the file, so that their numbers are those of the file.
    zones.extend(super::discovery::zone(config));
    let views = config.views.iter().map(|view| ViewSpec {
        name: view.name.clone(),
        clients: view.clients.clone(),
        ways: view.transports.clone(),
        access: view.access,
        differs: None,
    });
    let asked = config.upstreams.iter().flat_map(|upstream| &upstream.zones);
    let asked = asked.chain(config.delegated.iter().map(|zone| &zone.name));
    let of_views = |rpz: &config::Rpz| {
        let zone = rpz.zone.clone();
        rpz.views.clone().into_iter().map(move |view| (view, zone.clone()))
    };
    let resolve = &config.resolve;
    let exempt = resolve.private_domains.iter().map(|domain| name(domain)).collect();
    let spec = rules::Spec {
        acl: acl(config)?,
        views: views.collect(),
        zones,
        hosts: Arc::clone(&files.hosts),
        builtin: resolve.builtin_zones.then(|| asked.map(|zone| name(zone)).collect()),
        rebinding: Rebinding::new(&resolve.private_addresses, exempt),
        dns64: config
            .dns64
            .as_ref()
            .and_then(|dns64| Dns64::new(dns64.prefix, &dns64.exclude, &dns64.exclude_a)),
        rpz_views: config.rpz.iter().flat_map(of_views).collect(),
    };
    let rules = Rules::build(spec).map_err(|error| {
        let zone = config.zones.get(error.zone);
        let record = zone.zip(error.record).and_then(|(zone, i)| zone.records.get(i));
        let at = record.map(|record| record.at).or(zone.map(|zone| zone.at)).unwrap_or_default();
        ConfigError::refused(vec![config.problem(at, error.message)])
    })?;
    Ok(Policy {
        rules,
        limiter: Limiter::new(limits(config), &config.rate_limit.exempt),
        edns_size: config.server.edns_size,
        digest: in_answers(config, files),
        answers: of_upstreams(config),
    })
}

/// A warning for `check`: anybody may ask, and what then bounds it.
#[must_use]
pub fn open_to_the_world(config: &Config) -> Option<String> {
    // Half of an address family or more.
    let open = config.acl.allow.iter().find(|prefix| prefix.prefix_len() <= 3)?;
    let limits = &config.rate_limit;
    let rate = match limits.responses_per_second {
        0 => "no limit of answers a second".to_owned(),
        n => format!("{n} answers a second to a prefix"),
    };
    let size = match limits.amplification_max {
        0 => "no bound on their size".to_owned(),
        n => format!("answers of at most {n} times their query"),
    };
    Some(format!(
        "warning: `acl.allow` lets anybody ask ({open}), with {rate} and {size} \
         (`[rate-limit]`): a resolver that is open to the world is used against others"
    ))
}

/// How often and with how much clients are answered over UDP.
fn limits(config: &Config) -> RateLimits {
    let config = &config.rate_limit;
    let interval = match config.responses_per_second {
        0 => 0,
        rate => SECOND / u64::from(rate),
    };
    RateLimits {
        interval,
        burst: SECOND * u64::from(config.burst_secs),
        slip: config.slip,
        amplification_max: config.amplification_max,
        prefix_v4: config.ipv4_prefix.into(),
        prefix_v6: config.ipv6_prefix.into(),
    }
}

/// The policy zones, in their order. `rules` are those of the same configuration.
#[must_use]
pub fn feeds(config: &Config, rules: &Rules) -> Vec<FeedSpec> {
    let from = |from: &config::RpzFrom| match from {
        config::RpzFrom::File(path) => From::File(path.clone()),
        config::RpzFrom::Primary { addresses, tsig, notify_from } => From::Primary {
            addresses: addresses.clone(),
            tsig: tsig.as_ref().map(|tsig| Tsig {
                name: name(&tsig.name),
                algorithm: tsig.algorithm,
                secret_file: tsig.secret_file.clone(),
            }),
            notify_from: notify_from.clone(),
        },
    };
    let spec = |rpz: &config::Rpz| FeedSpec {
        zone: name(&rpz.zone),
        from: from(&rpz.from),
        policy: rpz.policy.clone(),
        reason: rpz.reason,
        log: rpz.log,
        views: rules.view_ids(&rpz.views),
    };
    config.rpz.iter().map(spec).collect()
}

/// A name that the configuration has looked at.
fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|_| Name::root())
}

/// What the cache is to do.
#[must_use]
pub fn cache(config: &Config) -> cache::Settings {
    cache::Settings {
        memory_max: config.cache.memory_max,
        prefetch: config.cache.prefetch,
        serve_stale: config.cache.serve_stale,
        stale_answer_after: config.cache.stale_answer_after,
        kernel_entries: config.kernel.entries,
    }
}

/// The access list.
///
/// # Errors
///
/// When a prefix is both allowed and denied.
pub fn acl(config: &Config) -> Result<Acl, ConfigError> {
    Acl::new(&config.acl.allow, &config.acl.deny).map_err(|error| {
        ConfigError::refused(vec![config.problem(Default::default(), error.to_string())])
    })
}

/// Where the root is.
///
/// # Errors
///
/// When the file with the root hints has none.
pub fn root_hints(config: &Config) -> Result<Vec<(Name, IpAddr)>, ConfigError> {
    let Some(own) = &config.resolve.recursion.root_hints else { return Ok(hints::built_in()) };
    hints::parse(&own.text).map_err(|why| {
        let text = format!("`resolve.root-hints`: {}: {why}", own.path.display());
        ConfigError::refused(vec![config.problem(own.at, text)])
    })
}

/// How to recurse; None: not at all.
fn recursion(config: &Config) -> Option<Arc<resolver::Recursion>> {
    if config.resolve.mode != ResolveMode::Recurse {
        return None;
    }
    let own = &config.resolve.recursion;
    let zones = |how: Delegation| {
        let zones = config.delegated.iter().filter(move |zone| zone.how == how);
        zones.filter_map(|zone| Some((zone.name.parse::<Name>().ok()?, &zone.upstreams)))
    };
    let by_upstreams = config.upstreams.iter().flat_map(|upstream| &upstream.zones);
    let by_upstreams = by_upstreams.filter_map(|zone| zone.parse().ok());
    let options = resolver::Options {
        // Refused before, if it has none.
        hints: root_hints(config).unwrap_or_default(),
        prime: own.prime_root && own.background_queries,
        minimise: own.qname_minimisation,
        scramble: own.case_randomisation,
        harden_glue: own.harden_glue,
        ipv4: config.resolve.ipv4,
        ipv6: config.resolve.ipv6,
        allow_server: own.allow_server.clone(),
        stubs: zones(Delegation::Stub)
            .map(|(zone, servers)| resolver::Stub { zone, servers: servers.clone() })
            .collect(),
        forwarded: zones(Delegation::Forward).map(|(zone, _)| zone).chain(by_upstreams).collect(),
        port: DNS_PORT,
        timeout: config.resolve.timeout,
        failure_ttl: config.cache.failure_ttl,
    };
    Some(Arc::new(resolver::Recursion {
        options: Arc::new(options),
        query_source: own.query_source.clone(),
        edns_size: config.resolve.edns_size,
    }))
}

/// Whom to ask. `system` are the machine's own resolvers, less ourselves.
#[must_use]
pub fn resolver(config: &Config, system: &[SocketAddr]) -> resolver::Settings {
    let mut upstreams: Vec<resolver::UpstreamSpec> = config
        .upstreams
        .iter()
        .map(|upstream| resolver::UpstreamSpec {
            name: upstream.name.as_str().into(),
            address: upstream.address,
            protocol: upstream.protocol,
            identity: identity(upstream).map(Arc::new),
            zones: upstream.zones.iter().filter_map(|zone| zone.parse().ok()).collect(),
        })
        .collect();
    for zone in config.delegated.iter().filter(|zone| zone.how == Delegation::Forward) {
        upstreams.extend(zone.upstreams.iter().map(|address| resolver::UpstreamSpec {
            name: Arc::from(format!("{} {address}", zone.name)),
            address: *address,
            protocol: Protocol::Udp,
            identity: None,
            zones: zone.name.parse().into_iter().collect(),
        }));
    }
    let recursion = recursion(config);
    let has_root = recursion.is_some() || upstreams.iter().any(|u| u.zones.contains(&Name::root()));
    if config.resolve.upstream_from == UpstreamFrom::System && !has_root {
        upstreams.extend(system.iter().enumerate().map(|(i, address)| resolver::UpstreamSpec {
            name: Arc::from(format!("system-{}", i + 1)),
            address: *address,
            protocol: Protocol::Udp,
            identity: None,
            zones: vec![Name::root()],
        }));
    }
    resolver::Settings {
        ttl_min: config.cache.ttl_min,
        ttl_max: config.cache.ttl_max,
        negative_ttl_max: config.cache.negative_ttl_max,
        failure_ttl: config.cache.failure_ttl,
        timeout: config.resolve.timeout,
        edns_size: config.resolve.edns_size,
        flights: resolver::FlightsMax {
            all: config.resolve.queries_in_flight_max,
            zone: config.resolve.queries_in_flight_per_zone_max,
        },
        ipv4: config.resolve.ipv4,
        ipv6: config.resolve.ipv6,
        query_source: config.resolve.recursion.query_source.clone(),
        upstreams,
        recursion,
        // Refused before, if an anchor is wrong.
        dnssec: configured::policy(config).ok().flatten(),
    }
}

/// Who an upstream must prove to be.
fn identity(upstream: &config::Upstream) -> Option<resolver::Identity> {
    let identity = upstream.identity.as_ref()?;
    // Refused before, if it has none.
    let roots = |file: &RootsFile| trust::roots(&file.text).unwrap_or_default();
    Some(resolver::Identity {
        server_name: identity.server_name.clone(),
        pins: identity.pins.clone(),
        roots: identity.roots.as_ref().map(roots),
        path: upstream.path.as_str().into(),
    })
}

/// Looks at the files of roots. Says where the first upstream is that goes by those of the system.
///
/// # Errors
///
/// [`ConfigError::Refused`], with the places of all that are none.
pub fn roots(config: &Config) -> Result<Option<Position>, ConfigError> {
    let mut problems = Vec::new();
    let mut by_system = None;
    for identity in config.upstreams.iter().filter_map(|upstream| upstream.identity.as_ref()) {
        match &identity.roots {
            Some(file) => {
                if let Err(why) = trust::roots(&file.text) {
                    let path = file.path.display();
                    let text = format!(
                        "`upstream.roots`: {path}: {why}; write the path of a file with \
                         certificates in PEM instead"
                    );
                    problems.push(config.problem(file.at, text));
                }
            }
            None if identity.server_name.is_some() => by_system = by_system.or(Some(identity.at)),
            None => {}
        }
    }
    if problems.is_empty() { Ok(by_system) } else { Err(ConfigError::refused(problems)) }
}

/// How to serve these addresses.
#[must_use]
pub fn server(
    config: &Config,
    listening: server::Listening,
    certificate: Option<server::Certificate>,
) -> server::Settings {
    let wanted = &config.server;
    server::Settings {
        listening,
        certificate,
        workers: wanted.udp_workers,
        limits: server::Limits {
            tcp_max: wanted.tcp_clients_max,
            tls_max: wanted.tls_clients_max,
            quic_max: wanted.quic_clients_max,
            per_client_max: wanted.connections_per_client_max,
            queries_in_flight_max: wanted.tcp_queries_in_flight_max,
            streams_max: wanted.streams_per_connection_max,
            handshake: wanted.tls_handshake_timeout,
            idle: wanted.tcp_idle_timeout,
            lifetime: wanted.tcp_lifetime_max,
            ..server::Limits::default()
        },
        proxies: wanted.proxy_protocol_from.clone(),
    }
}

/// How much of clients is shown.
#[must_use]
pub fn client_prefix(config: &Config) -> ClientPrefix {
    let (v4, v6) = config.privacy.client_prefix;
    ClientPrefix::new(v4, v6)
}

/// Whom to tell of queries. `host` is this machine's name.
#[must_use]
pub fn tap(config: &Config, host: &str) -> tap::Settings {
    let sample = match config.log.queries {
        Queries::Off => None,
        Queries::Sampled => Some(config.log.query_sampling),
        Queries::All => Some(1),
    };
    let query_log = sample.map(|sample| tap::QueryLog {
        sample,
        format: config.log.format,
        file: match &config.log.query_target {
            QueryTarget::Stderr => None,
            QueryTarget::File(path) => Some(path.clone()),
        },
    });
    let dnstap = &config.dnstap;
    let said = |text: &DnstapText, auto: &str| match text {
        DnstapText::Auto => Some(auto.to_owned()),
        DnstapText::Off => None,
        DnstapText::Text(text) => Some(text.clone()),
    };
    tap::Settings {
        client_prefix: client_prefix(config),
        kernel_sample: event_sample(config),
        query_log,
        dnstap: dnstap.receiver.as_ref().map(|receiver| tap::Dnstap {
            to: match receiver {
                DnstapReceiver::Socket(path) => tap::Receiver::Unix(path.clone()),
                DnstapReceiver::Address(address) => tap::Receiver::Tcp(*address),
            },
            messages: dnstap.messages.iter().copied().map(dnstap_kind).collect(),
            identity: said(&dnstap.identity, host),
            version: said(&dnstap.version, concat!("resolverd ", env!("CARGO_PKG_VERSION"))),
        }),
    }
}

const fn dnstap_kind(message: DnstapMessage) -> tap::Kind {
    match message {
        DnstapMessage::ClientQuery => tap::Kind::ClientQuery,
        DnstapMessage::ClientResponse => tap::Kind::ClientResponse,
        DnstapMessage::ResolverQuery => tap::Kind::ResolverQuery,
        DnstapMessage::ResolverResponse => tap::Kind::ResolverResponse,
    }
}

/// How many hits of the kernel a report stands for: the program counts by powers of two.
#[must_use]
pub fn event_sample(config: &Config) -> u32 {
    config.kernel.event_sampling.max(1).next_power_of_two()
}

/// What the fast path is to serve. `feeds` are the policy zones, with a digest of them.
#[must_use]
pub fn fast_path(
    config: &Config,
    policy: &Policy,
    feeds: (&Rpz, u64),
    listen: Vec<SocketAddr>,
    cookies: Option<Secrets>,
) -> Wanted {
    let (rpz, content) = feeds;
    let sources = policy.rules.prefixes(rpz.clients()).into_iter().map(|(prefix, admission)| {
        let Admission { verdict, view } = admission;
        let flags = if verdict == Verdict::Allow { Source::ALLOWED } else { 0 };
        (prefix, Source { flags, view: view.0 })
    });
    Wanted {
        listen,
        sources: sources.collect(),
        edns_size: config.server.edns_size,
        sampling: config.kernel.event_sampling,
        prefetch: config.cache.prefetch,
        policy_fingerprint: fingerprint(policy, content),
        limits: limits(config),
        exempt: config.rate_limit.exempt.clone(),
        cookies,
    }
}

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests;
