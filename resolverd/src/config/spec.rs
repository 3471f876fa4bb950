//! The file as written: which sections and keys there are, and of which type.
//!
//! Says nothing about what is in range or what fits together: that is `meaning.rs`. Values
//! keep the place they stand at, so that whoever refuses one can say where.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Visitor};
use toml::Spanned;

/// A string and its place.
pub type Text = Spanned<String>;
/// A number and its place. Signed and wide, so that any number gets as far as the check of
/// its range, whose message says more than the type's.
pub type Number = Spanned<i64>;

/// All of the file; every section is there, because the defaults have it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spec {
    pub server: Server,
    pub kernel: Kernel,
    pub cache: Cache,
    pub resolve: Resolve,
    pub dnssec: Dnssec,
    #[serde(default)]
    pub upstream: Vec<Spanned<Upstream>>,
    #[serde(default)]
    pub zone: Vec<Spanned<Zone>>,
    #[serde(default)]
    pub view: Vec<Spanned<View>>,
    pub dns64: Dns64,
    #[serde(default)]
    pub rpz: Vec<Spanned<Rpz>>,
    pub acl: Acl,
    pub cookies: Cookies,
    pub rate_limit: RateLimit,
    pub metrics: Metrics,
    pub control: Control,
    pub log: Log,
    pub privacy: Privacy,
    pub dnstap: Dnstap,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Server {
    pub listen: Spanned<Vec<Text>>,
    pub edns_size: Number,
    pub state_dir: Text,
    pub clock: Text,
    pub udp_workers: Number,
    pub tcp_clients_max: Number,
    pub tcp_idle_timeout: Text,
    pub tcp_lifetime_max: Text,
    pub tcp_queries_in_flight_max: Number,
    pub tls_listen: Spanned<Vec<Text>>,
    pub https_listen: Spanned<Vec<Text>>,
    pub quic_listen: Spanned<Vec<Text>>,
    pub h3_listen: Spanned<Vec<Text>>,
    pub tls_cert: Option<Text>,
    pub tls_key: Option<Text>,
    pub name: Option<Text>,
    pub tls_handshake_timeout: Text,
    pub tls_clients_max: Number,
    pub quic_clients_max: Number,
    pub connections_per_client_max: Number,
    pub streams_per_connection_max: Number,
    pub proxy_protocol_from: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kernel {
    pub mode: Text,
    pub interfaces: Spanned<Vec<Text>>,
    pub entries: Number,
    #[serde(rename = "entries-256")]
    pub entries_256: Option<Number>,
    #[serde(rename = "entries-512")]
    pub entries_512: Option<Number>,
    #[serde(rename = "entries-1280")]
    pub entries_1280: Option<Number>,
    pub lease: Text,
    pub pin_path: Text,
    pub event_sampling: Number,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cache {
    pub memory_max: Text,
    pub ttl_max: Text,
    pub ttl_min: Text,
    pub negative_ttl_max: Text,
    pub failure_ttl: Text,
    pub prefetch: bool,
    pub serve_stale: Text,
    pub stale_answer_after: Text,
    pub persist: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resolve {
    pub mode: Text,
    pub upstream_from: Text,
    pub ipv4: Spanned<bool>,
    pub ipv6: Spanned<bool>,
    pub timeout: Text,
    pub queries_in_flight_max: Number,
    pub queries_in_flight_per_zone_max: Number,
    pub edns_size: Number,
    pub root_hints: Text,
    pub prime_root: bool,
    pub qname_minimisation: bool,
    pub case_randomisation: bool,
    pub harden_glue: bool,
    pub query_source: Spanned<Vec<Text>>,
    pub allow_server: Spanned<Vec<Text>>,
    pub background_queries: bool,
    pub builtin_zones: bool,
    pub hosts_files: Spanned<Vec<Text>>,
    pub private_addresses: Spanned<Vec<Text>>,
    pub private_domains: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dns64 {
    pub prefix: Text,
    pub exclude: Spanned<Vec<Text>>,
    pub exclude_a: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rpz {
    pub zone: Text,
    pub file: Option<Text>,
    pub primaries: Option<Spanned<Vec<Text>>>,
    pub tsig_name: Option<Text>,
    pub tsig_algorithm: Option<Text>,
    pub tsig_secret_file: Option<Text>,
    pub notify_from: Option<Spanned<Vec<Text>>>,
    pub policy: Option<Text>,
    pub reason: Option<Text>,
    #[serde(default)]
    pub log: bool,
    pub views: Option<Spanned<Vec<Text>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dnssec {
    /// Not written: what is resolved from the root, and not what upstreams say.
    pub validate: Option<bool>,
    pub trust_anchor_files: Spanned<Vec<Text>>,
    pub negative_trust_anchors: Spanned<Vec<Text>>,
    pub rfc5011: bool,
    pub anchor_signalling: bool,
    pub now: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upstream {
    pub name: Text,
    pub address: Text,
    pub protocol: Option<Text>,
    pub server_name: Option<Text>,
    pub pins: Option<Spanned<Vec<Text>>>,
    pub roots: Option<Text>,
    pub path: Option<Text>,
    pub zones: Option<Spanned<Vec<Text>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Zone {
    pub name: Text,
    pub kind: Option<Text>,
    pub mode: Option<Text>,
    pub upstreams: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub records: Vec<Text>,
    pub views: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub log: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct View {
    pub name: Text,
    pub clients: Spanned<Vec<Text>>,
    pub transports: Option<Spanned<Vec<Text>>>,
    pub access: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Acl {
    pub allow: Spanned<Vec<Text>>,
    pub deny: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cookies {
    pub enabled: bool,
    pub secrets: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RateLimit {
    pub responses_per_second: Number,
    pub burst: Number,
    pub slip: Number,
    pub ipv4_prefix: Number,
    pub ipv6_prefix: Number,
    pub amplification_max: Number,
    pub exempt: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Metrics {
    pub listen: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Control {
    pub socket: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Log {
    pub level: Text,
    pub format: Text,
    pub target: Text,
    pub queries: Text,
    pub query_sampling: Number,
    pub query_target: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Privacy {
    pub client_prefix: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dnstap {
    pub socket: Text,
    pub address: Text,
    pub messages: Spanned<Vec<Text>>,
    pub identity: Text,
    pub version: Text,
}

/// One section of the file: its name, its keys, and whether it is written once (`[name]`) or
/// once for each thing (`[[name]]`).
pub struct Section {
    pub name: &'static str,
    pub repeated: bool,
    pub keys: &'static [&'static str],
}

/// Every section there is, in the order of [`Spec`].
pub fn sections() -> Vec<Section> {
    fn section<T: DeserializeOwned>(name: &'static str, repeated: bool) -> Section {
        Section { name, repeated, keys: keys_of::<T>() }
    }
    vec![
        section::<Server>("server", false),
        section::<Kernel>("kernel", false),
        section::<Cache>("cache", false),
        section::<Resolve>("resolve", false),
        section::<Dnssec>("dnssec", false),
        section::<Upstream>("upstream", true),
        section::<Zone>("zone", true),
        section::<View>("view", true),
        section::<Dns64>("dns64", false),
        section::<Rpz>("rpz", true),
        section::<Acl>("acl", false),
        section::<Cookies>("cookies", false),
        section::<RateLimit>("rate-limit", false),
        section::<Metrics>("metrics", false),
        section::<Control>("control", false),
        section::<Log>("log", false),
        section::<Privacy>("privacy", false),
        section::<Dnstap>("dnstap", false),
    ]
}

/// What to write for keys that the defaults do not show.
pub const EXAMPLES: &[(&str, &str, &str)] = &[
    ("server", "tls-cert", "\"/etc/resolverd/tls/cert.pem\""),
    ("server", "tls-key", "\"/etc/resolverd/tls/key.pem\""),
    ("server", "name", "\"dns.example.com.\""),
    ("kernel", "entries-256", "8192"),
    ("kernel", "entries-512", "4096"),
    ("kernel", "entries-1280", "1024"),
    ("dnssec", "validate", "true"),
    ("upstream", "name", "\"office\""),
    ("upstream", "address", "\"192.0.2.1:53\""),
    ("upstream", "protocol", "\"udp\""),
    ("upstream", "server-name", "\"dns.example.\""),
    ("upstream", "pins", "[\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]"),
    ("upstream", "roots", "\"/etc/resolverd/roots.pem\""),
    ("upstream", "path", "\"/dns-query\""),
    ("upstream", "zones", "[\".\"]"),
    ("zone", "name", "\"home.arpa.\""),
    ("zone", "kind", "\"static\""),
    ("zone", "mode", "\"forward\""),
    ("zone", "upstreams", "[\"192.0.2.1:53\"]"),
    ("zone", "records", "[\"printer 300 IN A 192.0.2.7\"]"),
    ("zone", "views", "[\"guests\"]"),
    ("zone", "log", "true"),
    ("view", "name", "\"guests\""),
    ("view", "clients", "[\"10.9.0.0/16\"]"),
    ("view", "transports", "[\"udp\", \"tcp\"]"),
    ("view", "access", "\"acl\""),
    ("rpz", "zone", "\"rpz.example.\""),
    ("rpz", "file", "\"/etc/resolverd/rpz.example.zone\""),
    ("rpz", "primaries", "[\"192.0.2.1:53\"]"),
    ("rpz", "tsig-name", "\"transfer.example.\""),
    ("rpz", "tsig-algorithm", "\"hmac-sha256\""),
    ("rpz", "tsig-secret-file", "\"/etc/resolverd/transfer.key\""),
    ("rpz", "notify-from", "[\"192.0.2.1\"]"),
    ("rpz", "policy", "\"given\""),
    ("rpz", "reason", "\"blocked\""),
    ("rpz", "log", "true"),
    ("rpz", "views", "[\"guests\"]"),
];

/// Sections and keys whose names are fixed already and whose work is still to be done. An
/// empty key stands for the whole section.
pub const LATER: &[(&str, &str, &str)] = &[
    ("zone", "agree", AGREEMENT),
    ("zone", "match", AGREEMENT),
    ("zone", "max-stale", AGREEMENT),
    ("zone", "agreed-ttl-max", AGREEMENT),
    ("zone", "agree-lease", AGREEMENT),
    ("zone", "agree-timeout", AGREEMENT),
    ("zone", "certificates", CERTIFICATES),
    ("zone", "annotate", CERTIFICATES),
    ("zone", "hold", CERTIFICATES),
    ("zone", "egress", CERTIFICATES),
    ("control", "listen", "the control API over TCP"),
    ("control", "roles", "the control API over TCP"),
    ("control", "dashboard", "the dashboard"),
    ("certificates", "", CERTIFICATES),
    ("cluster", "", AGREEMENT),
    ("analytics", "", "analytics"),
];

const AGREEMENT: &str = "the cluster";
const CERTIFICATES: &str = "certificate verification";

/// The keys that `T`'s derive accepts: it tells them to whoever deserialises it.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Asking) {
        Err(Told(keys)) => keys,
        Ok(_) => unreachable!("a section always has keys"),
    }
}

/// A deserializer that has nothing to give, and listens to what it is asked for.
struct Asking;

/// The keys it was asked for.
#[derive(Debug)]
struct Told(&'static [&'static str]);

impl<'de> de::Deserializer<'de> for Asking {
    type Error = Told;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        keys: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Told> {
        Err(Told(keys))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Told> {
        Err(Told(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
        ignored_any
    }
}

impl de::Error for Told {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self(&[])
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Told {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_know_their_keys_by_the_names_of_the_file() {
        let sections = sections();
        let kernel = sections.iter().find(|s| s.name == "kernel").unwrap();
        assert!(kernel.keys.contains(&"pin-path") && kernel.keys.contains(&"entries-1280"));
        let names: Vec<&str> = sections.iter().map(|s| s.name).collect();
        assert_eq!(names, keys_of::<Spec>());
    }

    #[test]
    fn no_key_is_both_built_and_to_come() {
        for section in sections() {
            for (name, key, _) in LATER {
                assert!(*name != section.name || !key.is_empty(), "{name} is built");
                assert!(*name != section.name || !section.keys.contains(key), "{name}.{key}");
            }
        }
    }
}
