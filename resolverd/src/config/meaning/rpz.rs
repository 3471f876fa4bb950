//! What `[[rpz]]` means.
//!
//! Pure. The zone's content is for `policy` to read.

use std::collections::HashSet;

use toml::Spanned;

use super::super::reader::Reader;
use super::super::spec;
use super::super::values;
use super::super::{Override, Reason, Rpz, RpzFrom, Tsig, TsigAlgorithm};
use super::rules::of_views;

pub fn zones(
    r: &mut Reader<'_>,
    written: &[Spanned<spec::Rpz>],
    views: &[Spanned<spec::View>],
) -> Vec<Rpz> {
    if let Some(one_too_many) = written.get(RPZ_MAX) {
        r.too_many(one_too_many.span(), "[[rpz]]", RPZ_MAX);
    }
    let known: Vec<&str> =
        views.iter().map(|view| view.get_ref().name.get_ref().as_str()).collect();
    let reasons = [
        ("blocked", Reason::Blocked),
        ("censored", Reason::Censored),
        ("filtered", Reason::Filtered),
    ];
    let mut names = HashSet::new();
    let mut zones = Vec::new();
    for spanned in written.iter().take(RPZ_MAX) {
        let at = r.source.position(&spanned.span());
        let spec = spanned.get_ref();
        let policy = match &spec.policy {
            Some(text) => r.value("rpz.policy", text, values::rpz_policy),
            None => Some(Override::Given),
        };
        let reason = spec
            .reason
            .as_ref()
            .map_or(Reason::Blocked, |text| r.one_of("rpz.reason", text, &reasons));
        let views = of_views(r, "rpz.views", spec.views.as_ref(), &known);
        let from = from(r, spec);
        let Some(zone) = r.value("rpz.zone", &spec.zone, values::zone) else { continue };
        if !names.insert(zone.clone()) {
            r.refuse(
                spec.zone.span(),
                format!("a second policy zone is named `{zone}`; write it once instead"),
            );
        }
        if let (Some(from), Some(policy)) = (from, policy) {
            zones.push(Rpz { zone, from, policy, reason, log: spec.log, views, at });
        }
    }
    zones
}

fn from(r: &mut Reader<'_>, spec: &spec::Rpz) -> Option<RpzFrom> {
    let (file, primaries) = (spec.file.as_ref(), spec.primaries.as_ref());
    match (file, primaries) {
        (Some(file), None) => {
            let needless = [&spec.tsig_name, &spec.tsig_algorithm, &spec.tsig_secret_file];
            if let Some(text) = needless.into_iter().flatten().next() {
                r.refuse(
                    text.span(),
                    "a policy zone from a file has no key; remove it, or write `primaries = \
                     [\"192.0.2.1:53\"]` instead of `file`",
                );
            }
            Some(RpzFrom::File(r.path("rpz.file", file)))
        }
        (None, Some(list)) => {
            r.not_empty("rpz.primaries", list, "[\"192.0.2.1:53\"]");
            r.at_most("rpz.primaries", list, PRIMARIES_MAX);
            let addresses = r.each_once("rpz.primaries", list.get_ref(), values::upstream);
            let notify_from = match &spec.notify_from {
                Some(list) => {
                    r.at_most("rpz.notify-from", list, PRIMARIES_MAX);
                    r.each_once("rpz.notify-from", list.get_ref(), values::prefix)
                }
                None => Vec::new(),
            };
            Some(RpzFrom::Primary { addresses, tsig: tsig(r, spec), notify_from })
        }
        _ => {
            r.refuse(
                spec.zone.span(),
                "a policy zone has either a `file` or `primaries`; write `file = \
                 \"/etc/resolverd/rpz.example.zone\"` or `primaries = [\"192.0.2.1:53\"]` instead",
            );
            None
        }
    }
}

fn tsig(r: &mut Reader<'_>, spec: &spec::Rpz) -> Option<Tsig> {
    let algorithms = [
        ("hmac-sha256", TsigAlgorithm::Sha256),
        ("hmac-sha384", TsigAlgorithm::Sha384),
        ("hmac-sha512", TsigAlgorithm::Sha512),
    ];
    let algorithm = spec.tsig_algorithm.as_ref();
    let algorithm = algorithm.map(|text| r.one_of("rpz.tsig-algorithm", text, &algorithms));
    match (&spec.tsig_name, &spec.tsig_secret_file) {
        (Some(name), Some(file)) => {
            let secret_file = r.path("rpz.tsig-secret-file", file);
            let name = r.value("rpz.tsig-name", name, values::zone)?;
            let algorithm = algorithm.unwrap_or(TsigAlgorithm::Sha256);
            Some(Tsig { name, algorithm, secret_file })
        }
        (None, None) => None,
        (Some(half), None) | (None, Some(half)) => {
            r.refuse(
                half.span(),
                "a key has a name and a secret; write both `tsig-name` and `tsig-secret-file` \
                 instead",
            );
            None
        }
    }
}

/// As many as `policy` goes through for a question.
const RPZ_MAX: usize = 32;
/// Primaries of one zone, and prefixes that may notify.
const PRIMARIES_MAX: usize = 16;
