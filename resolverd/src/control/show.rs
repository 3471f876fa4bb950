//! Reports as an operator reads them on a terminal.
//!
//! Pure: reports in, lines out. What a machine reads is the JSON of `reports.rs`.

mod anchors;

use std::fmt::Write as _;

use super::dump::Line;
use super::reports::{
    CacheEntryReport, CacheReport, DetachReport, ExplainReport, FlushReport, InterfaceReport,
    KernelEntryReport, KernelReport, LoadReport, ReloadReport, StatusReport,
};

pub use anchors::trust_anchors;

#[must_use]
pub fn status(report: &StatusReport) -> String {
    let mut out = format!(
        "resolverd {}, process {}, up {}\nconfiguration {}, read {}\n",
        report.version,
        report.pid,
        age(report.uptime_secs),
        report.config.file,
        report.config.loaded_at
    );
    out.push('\n');
    out.push_str(&kernel(&report.kernel));
    section(
        &mut out,
        "listeners",
        &LISTENERS,
        report.listeners.iter().map(|listener| {
            let state = because(&listener.state, listener.reason.as_deref());
            vec![listener.address.clone(), listener.transport.clone(), state]
        }),
    );
    section(
        &mut out,
        "upstreams",
        &UPSTREAMS,
        report.upstreams.iter().map(|upstream| {
            let state = match (upstream.is_loop, upstream.healthy, upstream.failures) {
                (true, ..) => "forwards to us; not asked".to_owned(),
                (_, true, 0) => "healthy".to_owned(),
                (_, true, failures) => format!("healthy, {failures} unanswered"),
                (_, false, failures) => format!("down, {failures} unanswered"),
            };
            let rtt = upstream.rtt_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
            vec![
                upstream.name.clone(),
                upstream.address.clone(),
                upstream.protocol.clone(),
                rtt,
                state,
                upstream.zones.join(" "),
            ]
        }),
    );
    let _ = writeln!(out, "\ncache: {}", cache(&report.cache));
    if !report.config.zones.is_empty() {
        let _ = writeln!(out, "zones: {}", report.config.zones.join(" "));
    }
    out
}

#[must_use]
pub fn kernel(report: &KernelReport) -> String {
    let mut out = "kernel: ".to_owned();
    if report.available {
        out.push_str("answers");
        if let Some(left) = report.lease_left_ms {
            let _ = write!(out, ", lease {:.1} s", left as f64 / 1e3);
        }
    } else {
        out.push_str("not in use, everything is answered from user space");
    }
    if let Some(reason) = &report.reason {
        let _ = write!(out, " ({reason})");
    }
    out.push('\n');
    section(&mut out, "interfaces", &INTERFACES, report.interfaces.iter().map(interface));
    section(
        &mut out,
        "packets",
        &PACKETS,
        report
            .packets
            .iter()
            .map(|row| vec![row.verdict.clone(), row.reason.clone(), row.packets.to_string()]),
    );
    if report.events_lost > 0 {
        let _ = writeln!(out, "  {} events lost", report.events_lost);
    }
    if let Some(path) = &report.pin_path {
        let _ = writeln!(out, "  pinned below {path}");
    }
    out
}

#[must_use]
pub fn explain(report: &ExplainReport) -> String {
    let mut out = format!("{} {}\n", report.question.name, report.question.qtype);
    let _ = writeln!(out, "  next     {}", report.next);
    for entry in &report.kernel {
        let _ = writeln!(out, "  kernel   {}", kernel_entry(entry));
    }
    if let Some(reason) = &report.not_in_kernel {
        let _ = writeln!(out, "  kernel   no entry: {reason}");
    }
    if let Some(zone) = &report.zone {
        let _ = writeln!(out, "  zone     {zone}");
    }
    if let Some(rule) = &report.rule {
        let _ = writeln!(out, "  rule     {rule}");
    }
    for entry in &report.cache {
        let _ = writeln!(out, "  cache    {}", cache_entry(entry));
        for record in &entry.records {
            let _ = writeln!(out, "             {record}");
        }
    }
    if report.cache.is_empty() && report.zone.is_none() {
        out.push_str("  cache    no entry\n");
    }
    if !report.upstreams.is_empty() {
        let _ = writeln!(out, "  upstream {}", report.upstreams.join(", "));
    }
    out
}

#[must_use]
pub fn flush(report: &FlushReport) -> String {
    let overflow = if report.overflow {
        "; too many flushes to remember one by one, so that everything was flushed"
    } else {
        ""
    };
    format!(
        "flushed {}: {} from the daemon's cache, and the kernel's{overflow}\n",
        report.flushed,
        count(report.entries, "answer", "answers")
    )
}

#[must_use]
pub fn load(report: &LoadReport) -> String {
    let mut out = format!("loaded {}\n", count(report.taken, "answer", "answers"));
    for (number, why) in [
        (report.expired, "expired"),
        (report.known, "known already"),
        (report.kept_out, "not for a dump to say: signed, failures, of a view, or answered here"),
        (report.malformed, "malformed"),
    ] {
        if number > 0 {
            let _ = writeln!(out, "  {number} left out: {why}");
        }
    }
    out
}

/// One answer of a dump, as in a zone file.
#[must_use]
pub fn dumped(line: &Line) -> String {
    let mut out = format!(
        "; {} {}: {}{} from {}; expires in {}",
        line.name,
        line.qtype,
        line.rcode,
        bits(line.dnssec_ok, line.checking_disabled),
        line.source,
        age(u64::from(line.expires_in_ms) / 1_000),
    );
    if line.view > 0 {
        let _ = write!(out, ", view {}", line.view);
    }
    if line.secure {
        out.push_str(", DNSSEC secure");
    }
    if let Some(ede) = &line.ede {
        let _ = write!(out, ", EDE {} {}", ede.code, ede.text);
    }
    out.push('\n');
    for record in &line.records {
        out.push_str(record);
        out.push('\n');
    }
    out
}

#[must_use]
pub fn reload(report: &ReloadReport) -> String {
    if report.applied.is_empty() && report.needs_restart.is_empty() {
        return format!("{}: read again, nothing changed\n", report.file);
    }
    let mut out = format!("{}: read again\n", report.file);
    if !report.applied.is_empty() {
        let _ = writeln!(out, "  in effect: {}", report.applied.join(", "));
    }
    if !report.needs_restart.is_empty() {
        let _ = writeln!(out, "  waits for a restart: {}", report.needs_restart.join(", "));
    }
    out
}

#[must_use]
pub fn detach(report: &DetachReport) -> String {
    if report.interfaces.is_empty() && report.pins.is_empty() {
        return "nothing was attached, and nothing pinned\n".to_owned();
    }
    let mut out = String::new();
    for interface in &report.interfaces {
        let _ = writeln!(out, "detached from {interface}");
    }
    for pin in &report.pins {
        let _ = writeln!(out, "removed {pin}");
    }
    out
}

fn interface(report: &InterfaceReport) -> Vec<String> {
    let index = report.index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let mode = report.mode.clone().unwrap_or_else(|| "-".to_owned());
    let program = report.program_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let state = if report.attached { "attached" } else { "not attached" };
    vec![report.name.clone(), index, mode, program, because(state, report.reason.as_deref())]
}

fn kernel_entry(entry: &KernelEntryReport) -> String {
    let state = if entry.fresh { "answers" } else { "passes" };
    format!(
        "{}{}; stored {} ago, expires in {}, class {}",
        because(state, entry.reason.as_deref()),
        bits(entry.dnssec_ok, entry.checking_disabled),
        age(entry.stored_secs_ago),
        age(entry.expires_in_secs),
        entry.class
    )
}

fn cache_entry(entry: &CacheEntryReport) -> String {
    let mut out = format!(
        "{}{} from {}; stored {} ago, expires in {}",
        entry.rcode,
        bits(entry.dnssec_ok, entry.checking_disabled),
        entry.source,
        age(entry.stored_secs_ago),
        age(entry.expires_in_secs)
    );
    if entry.promoted {
        out.push_str(", promoted");
    }
    match (entry.stale, entry.stale_for_secs) {
        (true, left) => {
            let left = age(left.unwrap_or_default());
            let _ = write!(out, ", an old answer in use, for {left} at most");
        }
        (false, Some(left)) => {
            let _ = write!(out, ", may be used as an old answer for {}", age(left));
        }
        (false, None) => {}
    }
    if let Some(dnssec) = &entry.dnssec {
        let _ = write!(out, ", DNSSEC {dnssec}");
    }
    if let Some(ede) = &entry.ede {
        let _ = write!(out, ", EDE {} {}", ede.code, ede.text);
    }
    out
}

fn cache(report: &CacheReport) -> String {
    let mut out = format!(
        "{}, {} of {}",
        count(report.entries, "answer", "answers"),
        size(report.bytes),
        size(report.bytes_max)
    );
    let asked = report.hits + report.misses;
    if asked > 0 {
        let percent = report.hits as f64 * 100.0 / asked as f64;
        let _ = write!(out, "; {percent:.1} % of {asked} lookups hit");
    }
    if report.evictions > 0 {
        let _ = write!(out, "; {} evicted", report.evictions);
    }
    out
}

/// Appends a table; a section without rows is left out.
fn section(out: &mut String, title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = vec![heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()];
    table.extend(rows);
    if table.len() == 1 {
        return;
    }
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
    let _ = writeln!(out, "\n{title}:");
    for row in &table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "  {}", line.trim_end());
    }
}

fn because(state: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| state.to_owned(), |reason| format!("{state}: {reason}"))
}

fn bits(dnssec_ok: bool, checking_disabled: bool) -> &'static str {
    match (dnssec_ok, checking_disabled) {
        (false, false) => "",
        (true, false) => " (DO)",
        (false, true) => " (CD)",
        (true, true) => " (DO, CD)",
    }
}

fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// The two largest units: `3d 4h`.
fn age(secs: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = secs;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if left >= size || (size == 1 && parts.is_empty()) {
            parts.push(format!("{}{unit}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

fn size(octets: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| octets >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", octets as f64 / *size as f64),
        None => format!("{octets} B"),
    }
}

const LISTENERS: [&str; 3] = ["address", "transport", "state"];
const UPSTREAMS: [&str; 6] = ["name", "address", "protocol", "rtt", "state", "zones"];
const INTERFACES: [&str; 5] = ["name", "index", "mode", "program", "state"];
const PACKETS: [&str; 3] = ["verdict", "reason", "packets"];

#[cfg(test)]
mod tests {
    use super::super::reports::{ConfigReport, PacketsReport, UpstreamReport};
    use super::*;

    #[test]
    fn status_is_read_at_a_glance() {
        let report = StatusReport {
            version: "0.1.0".into(),
            pid: 7,
            uptime_secs: 93_784,
            kernel: KernelReport {
                available: true,
                interfaces: vec![
                    InterfaceReport {
                        name: "lo".into(),
                        index: Some(1),
                        mode: Some("tc".into()),
                        program_id: Some(41),
                        attached: true,
                        reason: None,
                    },
                    InterfaceReport {
                        name: "enp1s0".into(),
                        reason: Some("no such interface".into()),
                        ..Default::default()
                    },
                ],
                lease_left_ms: Some(9_240),
                packets: vec![PacketsReport {
                    verdict: "hit".into(),
                    reason: "answered".into(),
                    packets: 12,
                }],
                ..Default::default()
            },
            upstreams: vec![UpstreamReport {
                name: "office".into(),
                address: "192.0.2.1:853".into(),
                protocol: "tls".into(),
                zones: vec![".".into()],
                healthy: true,
                rtt_ms: Some(1.25),
                ..Default::default()
            }],
            cache: CacheReport {
                entries: 1,
                bytes: 640,
                bytes_max: 64 << 20,
                hits: 3,
                misses: 1,
                evictions: 0,
            },
            config: ConfigReport {
                file: "/etc/r.toml".into(),
                loaded_at: "2026-11-20T10:00:00Z".into(),
                zones: vec!["home.arpa.".into()],
            },
            ..Default::default()
        };
        let expected = "\
resolverd 0.1.0, process 7, up 1d 2h
configuration /etc/r.toml, read 2026-11-20T10:00:00Z

kernel: answers, lease 9.2 s

interfaces:
  name    index  mode  program  state
  lo      1      tc    41       attached
  enp1s0  -      -     -        not attached: no such interface

packets:
  verdict  reason    packets
  hit      answered  12

upstreams:
  name    address        protocol  rtt     state    zones
  office  192.0.2.1:853  tls       1.2 ms  healthy  .

cache: 1 answer, 640 B of 64.0 MiB; 75.0 % of 4 lookups hit
zones: home.arpa.
";
        assert_eq!(status(&report), expected);
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (secs, text) in
            [(0, "0s"), (59, "59s"), (61, "1min 1s"), (3_600, "1h"), (90_061, "1d 1h")]
        {
            assert_eq!(age(secs), text);
        }
    }

    #[test]
    fn an_explanation_says_what_comes_next_first() {
        let report = ExplainReport {
            question: super::super::reports::QuestionReport {
                name: "www.a.test.".into(),
                qtype: "A".into(),
            },
            kernel: vec![KernelEntryReport {
                dnssec_ok: true,
                fresh: false,
                reason: Some("flushed".into()),
                stored_secs_ago: 5,
                expires_in_secs: 55,
                class: 128,
                ..Default::default()
            }],
            cache: vec![CacheEntryReport {
                rcode: "NOERROR".into(),
                source: "upstream office".into(),
                stored_secs_ago: 5,
                expires_in_secs: 55,
                promoted: true,
                records: vec!["www.a.test. 55 IN A 192.0.2.1".into()],
                ..Default::default()
            }],
            next: "answered by the daemon from its cache".into(),
            ..Default::default()
        };
        let expected = "\
www.a.test. A
  next     answered by the daemon from its cache
  kernel   passes: flushed (DO); stored 5s ago, expires in 55s, class 128
  cache    NOERROR from upstream office; stored 5s ago, expires in 55s, promoted
             www.a.test. 55 IN A 192.0.2.1
";
        assert_eq!(explain(&report), expected);
    }
}
