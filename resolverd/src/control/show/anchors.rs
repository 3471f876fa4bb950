//! What is trusted, as an operator reads it on a terminal. Pure.

use std::fmt::Write as _;

use super::super::reports::{AnchorReport, AnchoredZoneReport, TrustAnchorsReport};
use super::section;

#[must_use]
pub fn trust_anchors(report: &TrustAnchorsReport) -> String {
    let mut out = match &report.state_file {
        Some(path) => format!("RFC 5011: on, state in {path}\n"),
        None => "RFC 5011: off\n".to_owned(),
    };
    if let Some(alarm) = &report.alarm {
        let _ = writeln!(out, "ALARM: {alarm}");
    }
    for zone in &report.zones {
        section(&mut out, &title(zone), &ANCHORS, zone.anchors.iter().map(anchor));
    }
    section(
        &mut out,
        "not checked (negative anchors)",
        &NEGATIVE,
        report.negative.iter().map(|negative| {
            let until = negative.until.clone().unwrap_or_else(|| "for good".to_owned());
            let until = if negative.in_force { until } else { format!("{until}, over") };
            vec![negative.zone.clone(), until]
        }),
    );
    out
}

fn title(zone: &AnchoredZoneReport) -> String {
    let mut title = zone.zone.clone();
    match (zone.validated, zone.followed) {
        (false, _) => title.push_str(" (not in use: upstreams are believed)"),
        (true, false) => title.push_str(" (as configured)"),
        (true, true) => {
            let last = zone.last_refresh.as_deref().unwrap_or("never");
            let next = zone.next_refresh.as_deref().unwrap_or("now");
            let _ = write!(title, " (keys seen {last}, next look {next})");
        }
    }
    title
}

fn anchor(anchor: &AnchorReport) -> Vec<String> {
    vec![
        anchor.key_tag.to_string(),
        anchor.algorithm.clone(),
        anchor.form.clone(),
        if anchor.trusted { "trusted" } else { "no" }.to_owned(),
        anchor.state.clone(),
        anchor.since.clone().unwrap_or_else(|| "-".to_owned()),
        anchor.origin.clone(),
    ]
}

const ANCHORS: [&str; 7] = ["key tag", "algorithm", "form", "trusted", "state", "since", "origin"];
const NEGATIVE: [&str; 2] = ["zone", "until"];

#[cfg(test)]
mod tests {
    use super::super::super::reports::NegativeAnchorReport;
    use super::*;

    #[test]
    fn anchors_are_read_zone_by_zone_with_what_is_wrong_on_top() {
        let key = AnchorReport {
            key_tag: 20_326,
            algorithm: "RSASHA256".into(),
            form: "DNSKEY".into(),
            origin: "built-in".into(),
            state: "valid".into(),
            trusted: true,
            since: Some("2026-11-01T00:00:00Z".into()),
        };
        let new = AnchorReport {
            key_tag: 7,
            origin: "rfc5011".into(),
            state: "add-pend".into(),
            trusted: false,
            ..key.clone()
        };
        let report = TrustAnchorsReport {
            zones: vec![AnchoredZoneReport {
                zone: ".".into(),
                validated: true,
                followed: true,
                last_refresh: Some("2026-11-02T00:00:00Z".into()),
                next_refresh: None,
                anchors: vec![key, new],
            }],
            negative: vec![NegativeAnchorReport {
                zone: "broken.test.".into(),
                until: Some("2026-11-03T00:00:00Z".into()),
                in_force: false,
            }],
            state_file: Some("/s/trust-anchors.state".into()),
            alarm: Some("the disk is full".into()),
        };
        let expected = "\
RFC 5011: on, state in /s/trust-anchors.state
ALARM: the disk is full

. (keys seen 2026-11-02T00:00:00Z, next look now):
  key tag  algorithm  form    trusted  state     since                 origin
  20326    RSASHA256  DNSKEY  trusted  valid     2026-11-01T00:00:00Z  built-in
  7        RSASHA256  DNSKEY  no       add-pend  2026-11-01T00:00:00Z  rfc5011

not checked (negative anchors):
  zone          until
  broken.test.  2026-11-03T00:00:00Z, over
";
        assert_eq!(trust_anchors(&report), expected);
    }
}
