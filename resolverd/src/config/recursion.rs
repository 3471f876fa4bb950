//! What recursion needs of the file: where the root is, whom servers may be, what is switched off.
//!
//! Pure: the root hints' text is read by `driver.rs`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr as _;

use ipnet::IpNet;
use toml::Spanned;

use super::reader::Reader;
use super::spec;
use super::values::{self, Refusal};
use super::{Position, ResolveMode};

/// Of `[resolve]`, in the words of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Recursion {
    /// None: the built-in ones.
    pub root_hints: Option<RootHints>,
    pub prime_root: bool,
    pub qname_minimisation: bool,
    pub case_randomisation: bool,
    pub harden_glue: bool,
    pub query_source: Vec<IpAddr>,
    pub allow_server: Vec<IpNet>,
    /// Whether the resolver asks what no client waits for.
    pub background_queries: bool,
}

/// A zone file with addresses of the root.
#[derive(Clone, Debug, PartialEq)]
pub struct RootHints {
    pub path: PathBuf,
    pub at: Position,
    /// What is in it, once it was read.
    pub text: String,
}

/// A `[[zone]]` whose names are asked for at servers that the file names.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegated {
    /// Absolute, lower-cased, with the last dot.
    pub name: String,
    pub how: Delegation,
    pub upstreams: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delegation {
    /// They are resolvers.
    Forward,
    /// They are the zone's own servers.
    Stub,
}

pub(super) fn recursion(r: &mut Reader<'_>, spec: &spec::Resolve) -> Recursion {
    r.at_most("resolve.query-source", &spec.query_source, SOURCES_MAX);
    r.at_most("resolve.allow-server", &spec.allow_server, PREFIXES_MAX);
    let root_hints = (spec.root_hints.get_ref() != BUILT_IN).then(|| RootHints {
        path: r.path("resolve.root-hints", &spec.root_hints),
        at: r.source.position(&spec.root_hints.span()),
        text: String::new(),
    });
    Recursion {
        root_hints,
        prime_root: spec.prime_root,
        qname_minimisation: spec.qname_minimisation,
        case_randomisation: spec.case_randomisation,
        harden_glue: spec.harden_glue,
        query_source: r.each_once("resolve.query-source", spec.query_source.get_ref(), own),
        allow_server: r.each_once(
            "resolve.allow-server",
            spec.allow_server.get_ref(),
            values::prefix,
        ),
        background_queries: spec.background_queries,
    }
}

/// The servers of a `[[zone]]` with a `mode`.
pub(super) fn delegated(
    r: &mut Reader<'_>,
    zone: &spec::Zone,
    name: Option<String>,
    mode: ResolveMode,
) -> Option<Delegated> {
    let written = zone.mode.as_ref()?;
    let modes = [("forward", Delegation::Forward), ("stub", Delegation::Stub)];
    let how = r.one_of("zone.mode", written, &modes);
    if let Some(kind) = &zone.kind {
        r.refuse(
            kind.span(),
            "a zone has a `kind`, and is answered here, or a `mode`, and is asked for elsewhere; \
             remove one of them",
        );
    }
    if let Some(record) = zone.records.first() {
        r.refuse(record.span(), "a zone with a `mode` has no records; remove them");
    }
    if how == Delegation::Stub && mode == ResolveMode::Forward {
        r.refuse(
            written.span(),
            "`zone.mode`: \"stub\" is for `resolve.mode = \"recurse\"`; \
             write `mode = \"forward\"` instead",
        );
    }
    let empty = Spanned::new(written.span(), Vec::new());
    let upstreams = zone.upstreams.as_ref().unwrap_or(&empty);
    r.not_empty("zone.upstreams", upstreams, "[\"192.0.2.1:53\"]");
    r.at_most("zone.upstreams", upstreams, UPSTREAMS_MAX);
    let upstreams = r.each_once("zone.upstreams", upstreams.get_ref(), values::upstream);
    Some(Delegated { name: name?, how, upstreams })
}

/// An address of ours.
fn own(text: &str) -> Result<IpAddr, Refusal> {
    match IpAddr::from_str(text) {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
        _ => Err(Refusal {
            message: format!("`{text}` is not an address of this host"),
            instead: "\"192.0.2.1\" or \"2001:db8::1\"".to_owned(),
        }),
    }
}

const BUILT_IN: &str = "built-in";

/// Addresses of ours to ask from.
const SOURCES_MAX: usize = 64;
const PREFIXES_MAX: usize = 1_024;
/// Servers of one zone.
const UPSTREAMS_MAX: usize = 32;
