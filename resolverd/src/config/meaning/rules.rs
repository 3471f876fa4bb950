//! What `[[zone]]`, `[[view]]` and `[dns64]` mean.
//!
//! Pure. Records are texts here; `policy` reads them.

use std::collections::HashSet;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Spanned;

use super::super::reader::Reader;
use super::super::recursion::{self, Delegated};
use super::super::spec;
use super::super::values;
use super::super::{Access, Dns64, Record, ResolveMode, View, Way, Zone, ZoneKind};
use super::{KIND_MISSING, PREFIXES_MAX};

pub fn zones(
    r: &mut Reader<'_>,
    written: &[Spanned<spec::Zone>],
    views: &[Spanned<spec::View>],
    mode: ResolveMode,
) -> (Vec<Zone>, Vec<Delegated>) {
    if let Some(one_too_many) = written.get(ZONES_MAX) {
        r.too_many(one_too_many.span(), "[[zone]]", ZONES_MAX);
    }
    let known: Vec<&str> =
        views.iter().map(|view| view.get_ref().name.get_ref().as_str()).collect();
    let kinds = KINDS.map(|kind| (kind.as_str(), kind));
    let mut names = HashSet::new();
    let (mut zones, mut elsewhere) = (Vec::new(), Vec::new());
    let mut records_seen = 0;
    for zone in written.iter().take(ZONES_MAX) {
        let (span, at) = (zone.span(), r.source.position(&zone.span()));
        let zone = zone.get_ref();
        let kind = zone.kind.as_ref().map(|kind| r.one_of("zone.kind", kind, &kinds));
        records_seen += zone.records.len();
        if records_seen > RECORDS_MAX {
            r.too_many(zone.name.span(), "records", RECORDS_MAX);
            break;
        }
        if let (Some(kind), Some(record), Some(written)) = (kind, zone.records.first(), &zone.kind)
            && !kind.has_records()
        {
            r.refuse(
                record.span(),
                format!(
                    "a zone of kind \"{}\" has no records; write `kind = \"static\"` instead, \
                     or remove them",
                    written.get_ref()
                ),
            );
        }
        let seen_by = of_views(r, "zone.views", zone.views.as_ref(), &known);
        let name = r.value("zone.name", &zone.name, values::zone);
        let is_elsewhere = zone.mode.is_some();
        elsewhere.extend(recursion::delegated(r, zone, name.clone(), mode));
        let Some(name) = name else { continue };
        let everybody = seen_by.is_empty().then(String::new);
        for view in everybody.iter().chain(&seen_by) {
            if !names.insert((name.clone(), view.clone())) {
                r.refuse(
                    zone.name.span(),
                    format!(
                        "a second zone is named `{name}`; write all its records below one \
                         `[[zone]]` instead"
                    ),
                );
            }
        }
        if is_elsewhere {
            continue;
        }
        let Some(kind) = kind else {
            r.refuse(span, format!("this `zone` has no `kind`; {KIND_MISSING}"));
            continue;
        };
        let records = zone.records.iter().map(|record| Record {
            text: record.get_ref().clone(),
            at: r.source.position(&record.span()),
        });
        let records = records.collect();
        zones.push(Zone { name, kind, records, views: seen_by, log: zone.log, at });
    }
    (zones, elsewhere)
}

/// A list of names of views, all of which there are.
pub fn of_views(
    r: &mut Reader<'_>,
    key: &str,
    written: Option<&Spanned<Vec<spec::Text>>>,
    known: &[&str],
) -> Vec<String> {
    let Some(written) = written else { return Vec::new() };
    r.not_empty(key, written, "[\"guests\"]");
    let names = r.each_once(key, written.get_ref(), |text| Ok(text.to_owned()));
    for text in written.get_ref() {
        if !known.contains(&text.get_ref().as_str()) {
            let name = text.get_ref();
            r.refuse(
                text.span(),
                format!("`{key}`: there is no view named `{name}`; add a `[[view]]` instead"),
            );
        }
    }
    names
}

pub fn views(r: &mut Reader<'_>, written: &[Spanned<spec::View>]) -> Vec<View> {
    if let Some(one_too_many) = written.get(VIEWS_MAX) {
        r.too_many(one_too_many.span(), "[[view]]", VIEWS_MAX);
    }
    let ways = [
        ("udp", Way::Udp),
        ("tcp", Way::Tcp),
        ("tls", Way::Tls),
        ("https", Way::Https),
        ("h3", Way::H3),
        ("quic", Way::Quic),
    ];
    let access = [("acl", Access::Acl), ("allow", Access::Allow), ("refuse", Access::Refuse)];
    let mut names = HashSet::new();
    let mut taken: HashSet<(IpNet, Option<Way>)> = HashSet::new();
    let mut prefixes_seen = 0;
    let mut views = Vec::new();
    for view in written.iter().take(VIEWS_MAX).map(Spanned::get_ref) {
        let name = view.name.get_ref();
        r.own_name("view", "guests", &view.name, &mut names);
        r.not_empty("view.clients", &view.clients, "[\"10.9.0.0/16\"]");
        prefixes_seen += view.clients.get_ref().len();
        if prefixes_seen > PREFIXES_MAX {
            r.too_many(view.clients.span(), "view.clients", PREFIXES_MAX);
            break;
        }
        let clients = r.each_once("view.clients", view.clients.get_ref(), values::prefix);
        let transports: Vec<Way> = match &view.transports {
            None => Vec::new(),
            Some(list) => {
                r.not_empty("view.transports", list, "[\"udp\", \"tcp\"]");
                let texts = list.get_ref().iter();
                texts.map(|text| r.one_of("view.transports", text, &ways)).collect()
            }
        };
        // A prefix may be in two views if no transport is.
        let all = ways.map(|(_, way)| way);
        let these = if transports.is_empty() { &all[..] } else { &transports };
        for prefix in &clients {
            let twice = these.iter().filter(|way| !taken.insert((*prefix, Some(**way)))).count();
            if twice > 0 {
                r.refuse(
                    view.clients.span(),
                    format!(
                        "`{prefix}` is in two views for the same transport; write it in one of \
                         them instead"
                    ),
                );
            }
        }
        let access =
            view.access.as_ref().map_or(Access::Acl, |text| r.one_of("view.access", text, &access));
        views.push(View { name: name.clone(), clients, transports, access });
    }
    views
}

pub fn hosts_files(r: &mut Reader<'_>, written: &Spanned<Vec<spec::Text>>) -> Vec<PathBuf> {
    r.at_most("resolve.hosts-files", written, HOSTS_FILES_MAX);
    written.get_ref().iter().map(|text| r.path("resolve.hosts-files", text)).collect()
}

pub fn dns64(r: &mut Reader<'_>, spec: &spec::Dns64) -> Option<Dns64> {
    let mut list = |key: &str, written: &Spanned<Vec<spec::Text>>| {
        r.at_most(key, written, PREFIXES_MAX);
        r.each_once(key, written.get_ref(), values::prefix)
    };
    let exclude = list("dns64.exclude", &spec.exclude);
    let exclude_a = list("dns64.exclude-a", &spec.exclude_a);
    if spec.prefix.get_ref() == "off" {
        return None;
    }
    let prefix = r.value("dns64.prefix", &spec.prefix, values::dns64_prefix)?;
    Some(Dns64 { prefix, exclude, exclude_a })
}

const KINDS: [ZoneKind; 11] = [
    ZoneKind::Static,
    ZoneKind::Transparent,
    ZoneKind::TypeTransparent,
    ZoneKind::Redirect,
    ZoneKind::AlwaysNxdomain,
    ZoneKind::AlwaysNodata,
    ZoneKind::AlwaysNull,
    ZoneKind::BlockA,
    ZoneKind::Truncate,
    ZoneKind::Deny,
    ZoneKind::Refuse,
];

/// Long lists of names are for response policy zones and files of hosts.
const ZONES_MAX: usize = 10_000;
/// Records of all zones together.
const RECORDS_MAX: usize = 100_000;
/// Files of hosts.
const HOSTS_FILES_MAX: usize = 32;
/// `policy` has as many numbers.
const VIEWS_MAX: usize = 256;
