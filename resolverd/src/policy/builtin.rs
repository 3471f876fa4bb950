//! Zones that no resolver should ask anybody about, answered here unless they are somebody's.
//!
//! Pure: RFC 6303 and RFC 7793 (addresses of private networks in the reverse tree), RFC 6761
//! section 6.3 and 6.4 (`localhost`, `invalid`), RFC 7686 (`onion`), RFC 8375 (`home.arpa`),
//! RFC 9462 section 6.4 (`resolver.arpa`). `test` is not among them: labs use it.

use std::net::IpAddr;

use crate::dns::Name;

use super::addresses;
use super::local_zones::{ZoneKind, ZoneSpec};

/// The built-in zones, less those that somebody serves: a zone of `others` that is one of them
/// or above it takes its place; below one, names of it are left alone.
#[must_use]
pub fn zones(others: &[Name]) -> Vec<ZoneSpec> {
    let mut specs: Vec<ZoneSpec> = Vec::new();
    let mut add = |name: Name, kind: ZoneKind, records: &[&str]| {
        let root = Name::root();
        if others.iter().any(|other| *other != root && name.is_under(other)) {
            return;
        }
        for below in others.iter().filter(|other| other.is_under(&name)) {
            specs.push(spec(below.clone(), ZoneKind::Transparent, Vec::new()));
        }
        let mut all = vec![
            format!("{name} {TTL_SECS} SOA {name} nobody.invalid. 1 3600 1200 604800 {TTL_SECS}"),
            format!("{name} {TTL_SECS} NS {name}"),
        ];
        all.extend(records.iter().map(|record| format!("{name} {TTL_SECS} {record}")));
        specs.push(spec(name, kind, all));
    };
    add(name("localhost."), ZoneKind::Redirect, &["A 127.0.0.1", "AAAA ::1"]);
    for zone in ["invalid.", "onion.", "home.arpa."] {
        add(name(zone), ZoneKind::Static, &[]);
    }
    // RFC 9462 section 6.4: every name in it is there, and has nothing. A record of a type for
    // private use, which nobody asks for, is how names come to be there.
    add(name("resolver.arpa."), ZoneKind::Redirect, &["TYPE65280 \\# 1 00"]);
    // RFC 6303 section 4.2: the name of the host itself.
    add(addresses::name_of(IpAddr::from([127, 0, 0, 1])), ZoneKind::Static, &["PTR localhost."]);
    add(addresses::name_of(LOOPBACK6), ZoneKind::Static, &["PTR localhost."]);
    add(addresses::name_of(UNSPECIFIED6), ZoneKind::Static, &[]);
    for zone in reverse() {
        add(name(&zone), ZoneKind::Static, &[]);
    }
    // A zone of somebody's may be below two of these.
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    specs.dedup_by(|a, b| a.name == b.name);
    specs
}

/// RFC 6303 sections 4.1 to 4.6, RFC 7793.
fn reverse() -> Vec<String> {
    let mut zones: Vec<String> = REVERSE.iter().map(|zone| (*zone).to_owned()).collect();
    zones.extend((16..=31).map(|n| format!("{n}.172.in-addr.arpa.")));
    zones.extend((64..=127).map(|n| format!("{n}.100.in-addr.arpa.")));
    zones
}

fn spec(name: Name, kind: ZoneKind, records: Vec<String>) -> ZoneSpec {
    ZoneSpec { name, kind, records, views: Vec::new(), log: false }
}

fn name(text: &str) -> Name {
    // Names of this file are names; a test goes through them.
    text.parse().unwrap_or_else(|_| Name::root())
}

const REVERSE: [&str; 15] = [
    "10.in-addr.arpa.",
    "168.192.in-addr.arpa.",
    "0.in-addr.arpa.",
    "127.in-addr.arpa.",
    "254.169.in-addr.arpa.",
    "2.0.192.in-addr.arpa.",
    "100.51.198.in-addr.arpa.",
    "113.0.203.in-addr.arpa.",
    "255.255.255.255.in-addr.arpa.",
    "d.f.ip6.arpa.",
    "8.e.f.ip6.arpa.",
    "9.e.f.ip6.arpa.",
    "a.e.f.ip6.arpa.",
    "b.e.f.ip6.arpa.",
    "8.b.d.0.1.0.0.2.ip6.arpa.",
];

const LOOPBACK6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
const UNSPECIFIED6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

/// RFC 6303 section 3.
const TTL_SECS: u32 = 10_800;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::said::Said;
    use super::super::views::Views;
    use super::super::{LocalZones, local_zones};
    use super::*;
    use crate::dns::{Query, rcode, rtype};

    fn ask(others: &[&str], text: &str, qtype: u16) -> Option<(u8, usize)> {
        let others: Vec<Name> = others.iter().map(|other| other.parse().unwrap()).collect();
        let built = LocalZones::build(&zones(&others), &Views::default()).unwrap();
        let query = Query {
            name: text.parse().unwrap(),
            qtype,
            dnssec_ok: false,
            checking_disabled: false,
            view: 0,
        };
        let local_zones::Found { said, .. } = built.find(&query)?;
        let Said::Answer(answer) = said else { panic!("{said:?}") };
        Some((answer.rcode, usize::from(answer.counts[0])))
    }

    #[test]
    fn every_name_is_a_name_and_no_zone_is_there_twice() {
        let zones = zones(&[]);
        let names: HashSet<String> = zones.iter().map(|zone| zone.name.to_string()).collect();
        assert_eq!(names.len(), zones.len());
        assert!(!names.contains("."));
        assert!(zones.len() > 100, "{}", zones.len());
    }

    #[test]
    fn special_names_are_answered_without_asking() {
        for (text, qtype, expected) in [
            ("localhost.", rtype::A, (rcode::NOERROR, 1)),
            ("x.y.localhost.", rtype::AAAA, (rcode::NOERROR, 1)),
            ("localhost.", rtype::MX, (rcode::NOERROR, 0)),
            ("1.0.0.127.in-addr.arpa.", rtype::PTR, (rcode::NOERROR, 1)),
            ("2.0.0.127.in-addr.arpa.", rtype::PTR, (rcode::NXDOMAIN, 0)),
            ("a.invalid.", rtype::A, (rcode::NXDOMAIN, 0)),
            ("a.onion.", rtype::A, (rcode::NXDOMAIN, 0)),
            ("printer.home.arpa.", rtype::A, (rcode::NXDOMAIN, 0)),
            ("_dns.resolver.arpa.", rtype::SVCB, (rcode::NOERROR, 0)),
            ("1.2.3.10.in-addr.arpa.", rtype::PTR, (rcode::NXDOMAIN, 0)),
            ("1.2.20.172.in-addr.arpa.", rtype::PTR, (rcode::NXDOMAIN, 0)),
            ("10.in-addr.arpa.", rtype::SOA, (rcode::NOERROR, 1)),
            ("10.in-addr.arpa.", rtype::NS, (rcode::NOERROR, 1)),
        ] {
            assert_eq!(ask(&[], text, qtype), Some(expected), "{text} {qtype}");
        }
        for text in ["example.com.", "1.32.172.in-addr.arpa.", "www.test.", "8.8.8.8.in-addr.arpa."]
        {
            assert_eq!(ask(&[], text, rtype::A), None, "{text}");
        }
    }

    #[test]
    fn what_is_somebodys_is_left_to_him() {
        let text = "1.2.3.10.in-addr.arpa.";
        assert_eq!(ask(&["10.in-addr.arpa."], text, rtype::PTR), None);
        assert_eq!(ask(&["in-addr.arpa."], text, rtype::PTR), None);
        assert_eq!(ask(&["3.10.in-addr.arpa."], text, rtype::PTR), None);
        let beside = "1.2.4.10.in-addr.arpa.";
        assert_eq!(ask(&["3.10.in-addr.arpa."], beside, rtype::PTR), Some((rcode::NXDOMAIN, 0)));
        // Who is asked for everything is not asked for these.
        assert_eq!(ask(&["."], text, rtype::PTR), Some((rcode::NXDOMAIN, 0)));
    }
}
