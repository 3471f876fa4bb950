//! Digests of policy: what was answered under one is held against it later. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::super::files::Files;
use crate::config::Config;
use crate::pipeline::Policy;

/// A digest of all policy that is in answers, that of feeds included. Never zero, which is what
/// new maps hold.
#[must_use]
pub fn fingerprint(policy: &Policy, content: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (policy.digest, content).hash(&mut hasher);
    hasher.finish().max(1)
}

/// A digest of all that is policy in an answer: entries made under another one are stale.
#[must_use]
pub fn in_answers(config: &Config, files: &Files) -> u64 {
    let mut hasher = DefaultHasher::new();
    for zone in &config.zones {
        (&zone.name, zone.kind.as_str(), &zone.views).hash(&mut hasher);
        for record in &zone.records {
            record.text.hash(&mut hasher);
        }
    }
    if let Some(zone) = super::super::discovery::zone(config) {
        zone.records.hash(&mut hasher);
    }
    for rpz in &config.rpz {
        (&rpz.zone, &rpz.policy, rpz.reason, &rpz.views).hash(&mut hasher);
    }
    for view in &config.views {
        // Their numbers are in the entries.
        view.name.hash(&mut hasher);
    }
    let asked = config.upstreams.iter().flat_map(|upstream| &upstream.zones);
    let asked = asked.chain(config.delegated.iter().map(|zone| &zone.name));
    let builtin = config.resolve.builtin_zones.then(|| asked.collect::<Vec<_>>());
    (builtin, files.digest, of_upstreams(config)).hash(&mut hasher);
    let cache = &config.cache;
    (cache.ttl_min, cache.ttl_max, cache.negative_ttl_max).hash(&mut hasher);
    // Other anchors make other verdicts of the same answers.
    let dnssec = &config.dnssec;
    (dnssec.validate as u8, dnssec.now, &dnssec.negative_trust_anchors).hash(&mut hasher);
    for file in &dnssec.trust_anchor_files {
        file.text.hash(&mut hasher);
    }
    hasher.finish()
}

/// A digest of what answers of upstreams are made into.
pub fn of_upstreams(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    let resolve = &config.resolve;
    (&resolve.private_addresses, &resolve.private_domains).hash(&mut hasher);
    if let Some(dns64) = &config.dns64 {
        (dns64.prefix, &dns64.exclude, &dns64.exclude_a).hash(&mut hasher);
    }
    hasher.finish()
}
