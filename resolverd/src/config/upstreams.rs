//! What `[[upstream]]` means: whom to ask, by which way, and who that must prove to be.
//!
//! Pure: a file of roots is named here; `driver.rs` reads its text.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use toml::Spanned;

use super::doors::is_listened;
use super::reader::Reader;
use super::spec::{self, Spec, Text};
use super::values::{self, Refusal};
use super::{Config, Position, ResolveMode};

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Unique among upstreams.
    pub name: String,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// There is one if the protocol is encrypted, and none else.
    pub identity: Option<Identity>,
    /// Where questions are taken over HTTP.
    pub path: String,
    /// Absolute, lower-cased names with the last dot; at least one. The longest zone that a
    /// name is under decides whom to ask.
    pub zones: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP, and TCP when an answer comes truncated.
    Udp,
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTP/2 (RFC 8484).
    Https,
    /// DNS over HTTP/3.
    H3,
    /// DNS over QUIC (RFC 9250).
    Quic,
}

impl Protocol {
    pub const ALL: [Self; 6] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https, Self::H3, Self::Quic];

    /// As the file has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    const fn is_http(self) -> bool {
        matches!(self, Self::Https | Self::H3)
    }

    const fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 53,
            Self::Tls | Self::Quic => 853,
            Self::Https | Self::H3 => 443,
        }
    }
}

/// Who an upstream must prove to be: all that is said here. There is a name or a pin.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// What its certificate must be for, with a chain to one of the roots.
    pub server_name: Option<ServerName<'static>>,
    /// One of them must be the SHA-256 of its public key (RFC 7858 section 4.2).
    pub pins: Vec<Pin>,
    /// None: those of the system.
    pub roots: Option<RootsFile>,
    /// Where the upstream stands in the file.
    pub at: Position,
}

pub type Pin = [u8; 32];

/// A file of certificates that certify others. Its text is read with the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct RootsFile {
    pub path: PathBuf,
    pub text: String,
    /// Where it is named.
    pub at: Position,
}

pub(super) fn upstreams(r: &mut Reader<'_>, written: &[Spanned<spec::Upstream>]) -> Vec<Upstream> {
    if let Some(one_too_many) = written.get(UPSTREAMS_MAX) {
        r.too_many(one_too_many.span(), "[[upstream]]", UPSTREAMS_MAX);
    }
    let mut names = HashSet::new();
    let mut upstreams = Vec::new();
    for upstream in written.iter().take(UPSTREAMS_MAX).map(Spanned::get_ref) {
        r.own_name("upstream", "office", &upstream.name, &mut names);
        let protocol = protocol(r, upstream);
        let zones = upstream.zones.as_ref().map_or_else(
            || vec![".".to_owned()],
            |zones| {
                r.not_empty("upstream.zones", zones, "[\".\"]");
                r.at_most("upstream.zones", zones, UPSTREAM_ZONES_MAX);
                r.each_once("upstream.zones", zones.get_ref(), values::zone)
            },
        );
        let identity = identity(r, upstream, protocol);
        let path = match &upstream.path {
            Some(text) => r.value("upstream.path", text, path).unwrap_or_default(),
            None => DOH_PATH.to_owned(),
        };
        let at = |text: &str| values::server(text, protocol.port());
        if let Some(address) = r.value("upstream.address", &upstream.address, at) {
            let name = upstream.name.get_ref().clone();
            upstreams.push(Upstream { name, address, protocol, identity, path, zones });
        }
    }
    upstreams
}

fn protocol(r: &mut Reader<'_>, upstream: &spec::Upstream) -> Protocol {
    let known = Protocol::ALL.map(|protocol| (protocol.as_str(), protocol));
    let Some(text) = &upstream.protocol else { return Protocol::Udp };
    r.one_of("upstream.protocol", text, &known)
}

/// What an encrypted upstream must show; and nothing of it may be written for another one, which
/// would be trusted for nothing.
fn identity(r: &mut Reader<'_>, upstream: &spec::Upstream, protocol: Protocol) -> Option<Identity> {
    let spec::Upstream { server_name, pins, roots, path, .. } = upstream;
    let name = upstream.name.get_ref();
    let written = [
        ("server-name", server_name.as_ref().map(Text::span)),
        ("pins", pins.as_ref().map(Spanned::span)),
        ("roots", roots.as_ref().map(Text::span)),
    ];
    if !protocol.is_encrypted() {
        for (key, span) in written.iter().filter_map(|(key, span)| Some((key, span.clone()?))) {
            r.refuse(
                span,
                format!(
                    "upstream `{name}` has `{key}`, and `protocol = \"{}\"` is in clear text; \
                     write `protocol = \"tls\"` instead, or remove `{key}`",
                    protocol.as_str()
                ),
            );
        }
    }
    if let (Some(path), false) = (path, protocol.is_http()) {
        r.refuse(
            path.span(),
            format!(
                "`upstream.path` is for HTTP, and the protocol of `{name}` is \"{}\"; \
                 write `protocol = \"https\"` instead, or remove `path`",
                protocol.as_str()
            ),
        );
    }
    if !protocol.is_encrypted() {
        return None;
    }
    if server_name.is_none() && pins.is_none() {
        let at = upstream.protocol.as_ref().map_or_else(|| upstream.name.span(), Text::span);
        r.refuse(
            at,
            format!(
                "upstream `{name}` could be anybody: nothing says who it must prove to be; \
                 write `server-name = \"dns.example.\"`, the name in its certificate, or `pins`, \
                 the SHA-256 of its key, below it as well"
            ),
        );
    }
    if let (Some(roots), None) = (roots, server_name) {
        r.refuse(
            roots.span(),
            format!(
                "upstream `{name}` has `roots` and no `server-name`, so that no certificate of \
                 theirs is looked for; write `server-name = \"dns.example.\"` as well"
            ),
        );
    }
    let server_name =
        server_name.as_ref().and_then(|text| r.value("upstream.server-name", text, server));
    let pins = pins.as_ref().map_or_else(Vec::new, |pins| {
        r.not_empty("upstream.pins", pins, "[\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]");
        r.at_most("upstream.pins", pins, PINS_MAX);
        r.each_once("upstream.pins", pins.get_ref(), pin)
    });
    let roots = roots.as_ref().map(|text| RootsFile {
        path: r.path("upstream.roots", text),
        text: String::new(),
        at: r.source.position(&text.span()),
    });
    Some(Identity { server_name, pins, roots, at: r.source.position(&upstream.name.span()) })
}

/// What no table can see by itself.
pub(super) fn fit_together(r: &mut Reader<'_>, spec: &Spec, config: &Config) {
    for written in spec.upstream.iter().map(Spanned::get_ref) {
        let Ok(address) = values::upstream(written.address.get_ref()) else { continue };
        let name = written.name.get_ref();
        let (family, enabled) = match address {
            SocketAddr::V4(_) => ("ipv4", config.resolve.ipv4),
            SocketAddr::V6(_) => ("ipv6", config.resolve.ipv6),
        };
        if !enabled {
            r.refuse(
                written.address.span(),
                format!(
                    "upstream `{name}` can't be asked, because `resolve.{family}` is off; \
                     write `{family} = true` below `[resolve]` instead"
                ),
            );
        }
        let everything = written.zones.as_ref().is_none_or(|zones| {
            zones.get_ref().iter().any(|zone| values::zone(zone.get_ref()).as_deref() == Ok("."))
        });
        if config.resolve.mode == ResolveMode::Recurse && everything {
            r.refuse(
                written.zones.as_ref().map_or_else(|| written.name.span(), Spanned::span),
                format!(
                    "upstream `{name}` is for every name, and `resolve.mode` is \"recurse\"; \
                     write `zones = [\"corp.example.\"]`, or `mode = \"forward\"` below \
                     `[resolve]`, instead"
                ),
            );
        }
    }
    // Both have the same order, and those whose address is no address are refused already.
    for upstream in &config.upstreams {
        let listen = match upstream.protocol {
            Protocol::Udp | Protocol::Tcp => &config.server.listen,
            Protocol::Tls => &config.server.tls_listen,
            Protocol::Https => &config.server.https_listen,
            Protocol::H3 => &config.server.h3_listen,
            Protocol::Quic => &config.server.quic_listen,
        };
        if listen.iter().any(|listen| is_listened(listen, upstream.address)) {
            let name = &upstream.name;
            r.refuse(
                address_of(spec, name),
                format!(
                    "upstream `{name}` is this server itself (`server.listen`); \
                     write the address of another one instead"
                ),
            );
        }
    }
    encrypted_or_not(r, spec, config);
}

/// Refuses upstreams in clear text beside encrypted ones for the same zone: questions would go to
/// whichever is faster, and be in clear text whenever that suits who stands in between.
fn encrypted_or_not(r: &mut Reader<'_>, spec: &Spec, config: &Config) {
    let mut encrypted: HashMap<&str, &str> = HashMap::new();
    for upstream in config.upstreams.iter().filter(|upstream| upstream.identity.is_some()) {
        encrypted.extend(upstream.zones.iter().map(|zone| (zone.as_str(), upstream.name.as_str())));
    }
    let clear = config.upstreams.iter().filter(|upstream| upstream.identity.is_none());
    let own = clear
        .flat_map(|upstream| upstream.zones.iter().map(move |zone| (zone, upstream.name.as_str())));
    for (zone, name) in own {
        if let Some(other) = encrypted.get(zone.as_str()) {
            r.refuse(
                address_of(spec, name),
                format!(
                    "upstream `{name}` is asked in clear text for the zone `{zone}`, for which \
                     `{other}` is encrypted; write `zones` that differ, or one kind of protocol, \
                     instead"
                ),
            );
        }
    }
    for zone in &config.delegated {
        if let Some(other) = encrypted.get(zone.name.as_str()) {
            let written =
                spec.zone.iter().map(Spanned::get_ref).find(|written| {
                    values::zone(written.name.get_ref()).as_ref() == Ok(&zone.name)
                });
            r.refuse(
                written.map_or(0..0, |written| written.name.span()),
                format!(
                    "the servers of the zone `{}` are asked in clear text, and the upstream \
                     `{other}` is encrypted for it; remove one of them",
                    zone.name
                ),
            );
        }
    }
}

fn address_of(spec: &Spec, name: &str) -> std::ops::Range<usize> {
    let mut written = spec.upstream.iter().map(Spanned::get_ref);
    let found = written.find(|written| written.name.get_ref() == name);
    found.map_or(0..0, |written| written.address.span())
}

/// The name or the address that a certificate must be for.
fn server(text: &str) -> Result<ServerName<'static>, Refusal> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    ServerName::try_from(bare.to_ascii_lowercase()).map_err(|_| Refusal {
        message: format!("`{text}` is neither a host's name nor an address"),
        instead: "\"dns.example.\" or \"192.0.2.1\"".to_owned(),
    })
}

/// RFC 7469 section 2.4: base64 of the SHA-256 of a SubjectPublicKeyInfo.
fn pin(text: &str) -> Result<Pin, Refusal> {
    let bare = text.strip_prefix("sha256/").unwrap_or(text);
    let octets = data_encoding::BASE64.decode(bare.as_bytes()).ok();
    octets.and_then(|octets| octets.try_into().ok()).ok_or_else(|| Refusal {
        message: format!("`{text}` is not the base64 of 32 octets"),
        instead: "what `openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform der \
                  | openssl dgst -sha256 -binary | base64` says"
            .to_owned(),
    })
}

/// Where questions are taken over HTTP, as it stands in a request.
fn path(text: &str) -> Result<String, Refusal> {
    // Also the form of a template (RFC 8484 section 3), whose variable a POST does not need.
    let bare = text.strip_suffix("{?dns}").unwrap_or(text);
    let valid = bare.starts_with('/')
        && bare.len() <= PATH_OCTETS_MAX
        && bare.bytes().all(|octet| octet.is_ascii_graphic() && !b"{}\"<>\\^`|#".contains(&octet));
    if valid {
        return Ok(bare.to_owned());
    }
    Err(Refusal {
        message: format!("`{}` is not the path of a request", text.escape_default()),
        instead: format!("\"{DOH_PATH}\""),
    })
}

/// RFC 8484 has no path of its own; all its examples and most servers have this one.
const DOH_PATH: &str = "/dns-query";
const PATH_OCTETS_MAX: usize = 1_024;

/// Each is probed when it is down.
const UPSTREAMS_MAX: usize = 256;
pub(super) const UPSTREAM_ZONES_MAX: usize = 10_000;
/// Keys of one upstream: the one in use, those that come next, and those of its twins.
const PINS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "f").unwrap()
    }

    fn refusal(text: &str) -> String {
        Config::parse(text, "f").unwrap_err().to_string()
    }

    fn upstream(lines: &str) -> String {
        format!("[[upstream]]\nname = \"a\"\naddress = \"192.0.2.1\"\n{lines}")
    }

    const PIN: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn each_protocol_has_its_port_and_what_it_must_prove() {
        for (protocol, port) in [("tls", 853), ("https", 443), ("h3", 443), ("quic", 853)] {
            let text = upstream(&format!("protocol = \"{protocol}\"\nserver-name = \"Dns.Test.\""));
            let upstream = config(&text).upstreams.remove(0);
            assert_eq!((upstream.protocol.as_str(), upstream.address.port()), (protocol, port));
            let identity = upstream.identity.unwrap();
            assert_eq!(identity.server_name.unwrap().to_str(), "dns.test");
            assert_eq!((identity.pins.len(), upstream.path.as_str()), (0, "/dns-query"));
        }
        let clear = config(&upstream("protocol = \"tcp\"")).upstreams.remove(0);
        assert_eq!((clear.address.port(), clear.identity), (53, None));
        let text = upstream(&format!("protocol = \"quic\"\npins = [\"{PIN}\"]"));
        let identity = config(&text).upstreams.remove(0).identity.unwrap();
        assert_eq!(identity.pins[0][..3], [0xe3, 0xb0, 0xc4]);
        let text = upstream("protocol = \"https\"\nserver-name = \"::1\"\npath = \"/q{?dns}\"");
        let text = text.replace("192.0.2.1", "[2001:db8::1]:8443");
        let upstream = config(&text).upstreams.remove(0);
        assert_eq!((upstream.path.as_str(), upstream.address.port()), ("/q", 8443));
    }

    #[test]
    fn an_encrypted_upstream_that_could_be_anybody_is_refused_with_the_mend() {
        for protocol in ["tls", "https", "h3", "quic"] {
            let text = refusal(&upstream(&format!("protocol = \"{protocol}\"")));
            assert!(text.starts_with("f:4:12: "), "{text}");
            assert!(text.contains("`server-name = ") && text.contains("`pins`"), "{text}");
        }
        let text = refusal(&upstream("protocol = \"tls\"\npins = []"));
        assert!(text.contains("`upstream.pins` is empty"), "{text}");
    }

    #[test]
    fn what_is_for_encrypted_upstreams_is_refused_elsewhere() {
        for (lines, place, said) in [
            ("server-name = \"a.test\"", "f:4:15: ", "`protocol = \"tls\"`"),
            ("protocol = \"tcp\"\npins = []", "f:5:8: ", "in clear text"),
            ("roots = \"x\"", "f:4:9: ", "remove `roots`"),
            ("protocol = \"tls\"\nserver-name = \"a.test\"\npath = \"/\"", "f:6:8: ", "for HTTP"),
            ("protocol = \"tls\"\nserver-name = \"a b\"", "f:5:15: ", "neither"),
            ("protocol = \"tls\"\npins = [\"x\"]", "f:5:9: ", "base64 of 32"),
            ("protocol = \"dot\"", "f:4:12: ", "none of \"udp\", \"tcp\", \"tls\""),
            ("protocol = \"h3\"\nserver-name = \"a\"\npath = \"q\"", "f:6:8: ", "/dns-query"),
        ] {
            let text = refusal(&upstream(lines));
            assert!(text.starts_with(place) && text.contains(said), "{lines}: {text}");
        }
        let text = format!("protocol = \"tls\"\npins = [\"{PIN}\"]\nroots = \"x\"");
        let text = refusal(&upstream(&text));
        assert!(text.contains("no `server-name`"), "{text}");
        let text = format!("protocol = \"tls\"\npins = [\"{PIN}\", \"{PIN}\"]");
        assert!(refusal(&upstream(&text)).contains("twice"));
    }

    #[test]
    fn no_zone_is_asked_for_both_in_clear_text_and_encrypted() {
        let tls = upstream("protocol = \"tls\"\nserver-name = \"a.test\"");
        let clear = "\n[[upstream]]\nname = \"b\"\naddress = \"192.0.2.2\"\n";
        let text = refusal(&format!("{tls}{clear}"));
        assert!(text.starts_with("f:8:11: ") && text.contains("`a` is encrypted"), "{text}");
        let apart = format!("{tls}{clear}zones = [\"corp.example.\"]\n");
        assert_eq!(config(&apart).upstreams.len(), 2);
        let zoned = format!("{tls}\nzones = [\"a.test.\"]\n");
        let forward = "[[zone]]\nname = \"a.test.\"\nmode = \"forward\"\nupstreams = [\"::1\"]\n";
        let text = refusal(&format!("{zoned}{forward}"));
        assert!(text.starts_with("f:8:8: ") && text.contains("in clear text"), "{text}");
    }

    #[test]
    fn an_upstream_that_is_a_door_of_ours_is_refused() {
        let text = upstream("protocol = \"tls\"\nserver-name = \"a\"");
        let door =
            "[server]\ntls-listen = [\"192.0.2.1:853\"]\ntls-cert = \"c\"\ntls-key = \"k\"\n";
        let text = refusal(&format!("{door}{text}"));
        assert!(text.contains("this server itself"), "{text}");
    }
}
