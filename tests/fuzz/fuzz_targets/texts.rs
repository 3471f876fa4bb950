//! Files and words that an operator, or a feed that he follows, hands us: policy zones, hosts
//! files, records of local zones, trust anchors, the state of RFC 5011, root hints, resolv.conf,
//! the configuration, roots in PEM.
//!
//! The first octet chooses the reader.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use resolverd::config::Config;
use resolverd::dns::{Name, Query, rtype};
use resolverd::policy::hosts;
use resolverd::policy::rpz::{kept, text};
use resolverd::policy::{LocalZones, Views, ZoneKind, ZoneSpec};
use resolverd::resolver::dnssec::{anchors, rfc5011};
use resolverd::resolver::{hints, system, trust};
use ring::{digest, hmac};

static ORIGIN: LazyLock<Name> = LazyLock::new(|| "rpz.test.".parse().unwrap());
static SEAL: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));

fuzz_target!(|input: &[u8]| {
    let Some((choice, octets)) = input.split_first() else { return };
    // Two of the readers take octets; the others are handed text.
    match choice % 10 {
        0 => return policy_zone(octets),
        1 => return hosts_file(octets),
        2 => return kept_zone(octets),
        _ => {}
    }
    let Ok(text) = std::str::from_utf8(octets) else { return };
    match choice % 10 {
        3 => local_zone(text),
        4 => drop(anchors::read(text).map(anchors::Anchors::of)),
        5 => state(text),
        6 => assert!(hints::parse(text).map_or(true, |hints| !hints.is_empty())),
        7 => assert!(system::parse(text).len() <= 8),
        8 => drop(Config::parse(text, "fuzz.toml").map_err(|error| error.to_string())),
        _ => drop((trust::roots(text), name(text))),
    }
});

fn policy_zone(octets: &[u8]) {
    let Ok(zone) = text::read(&ORIGIN, octets) else { return };
    assert!(zone.serial().is_some());
    let mut file = Vec::new();
    kept::write(&zone, "fuzz", &SEAL, &mut file).unwrap();
    let again = kept::read(&file, &ORIGIN, "fuzz", &SEAL).expect("ours can be read");
    assert_eq!(again.len(), zone.len());
    let _ = zone.qname(&ORIGIN);
    let _ = zone.ns_ip(&[IpAddr::from([192, 0, 2, 1])]);
}

/// With a good MAC, so that what is in the file is reached.
fn kept_zone(octets: &[u8]) {
    let _ = kept::read(octets, &ORIGIN, "fuzz", &SEAL);
    let mut file = Vec::new();
    let zone = text::read(&ORIGIN, b"@ SOA . . 1 3600 600 86400 60\n").unwrap();
    kept::write(&zone, "fuzz", &SEAL, &mut file).unwrap();
    file.truncate(file.len() - 32);
    file.extend_from_slice(octets);
    let mac = hmac::sign(&SEAL, &file);
    file.extend_from_slice(mac.as_ref());
    let _ = kept::read(&file, &ORIGIN, "fuzz", &SEAL);
}

fn hosts_file(octets: &[u8]) {
    let mut reader = hosts::Reader::default();
    let _ = reader.read(octets);
    let hosts = reader.finish();
    for qtype in [rtype::A, rtype::AAAA, rtype::PTR] {
        let _ = hosts.answer(&ask("localhost.", qtype));
        let _ = hosts.answer(&ask("1.2.0.192.in-addr.arpa.", qtype));
    }
}

fn local_zone(text: &str) {
    let kinds = [
        ZoneKind::Static,
        ZoneKind::Transparent,
        ZoneKind::TypeTransparent,
        ZoneKind::Redirect,
        ZoneKind::AlwaysNxdomain,
        ZoneKind::AlwaysNodata,
    ];
    for kind in kinds {
        let records = text.lines().map(str::to_owned).collect();
        let spec = ZoneSpec { name: ORIGIN.clone(), kind, records, views: Vec::new(), log: false };
        let Ok(zones) = LocalZones::build(&[spec], &Views::default()) else { continue };
        for qtype in [rtype::A, rtype::ANY, rtype::CNAME] {
            let _ = zones.find(&ask("a.rpz.test.", qtype));
            let _ = zones.find(&ask("rpz.test.", qtype));
        }
    }
}

/// Under a good sum, so that the lines are reached; and what is taken is written as it was.
fn state(text: &str) {
    let _ = rfc5011::read(text);
    let body = format!("{}{text}\n", FIRST_LINE.as_str());
    let sum = digest::digest(&digest::SHA256, body.as_bytes());
    let hex: String = sum.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    if let Ok(trackers) = rfc5011::read(&format!("{body}sum {hex}\n")) {
        let again = rfc5011::read(&rfc5011::write(&trackers)).expect("ours can be read");
        assert_eq!(rfc5011::write(&again), rfc5011::write(&trackers));
    }
}

static FIRST_LINE: LazyLock<String> = LazyLock::new(|| {
    let empty = rfc5011::write([]);
    empty.lines().next().map(|line| format!("{line}\n")).unwrap()
});

/// A name that is taken is shown in a way that is the same name.
fn name(text: &str) {
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.to_string().parse::<Name>(), Ok(name));
    }
}

fn ask(name: &str, qtype: u16) -> Query {
    let name = name.parse().unwrap();
    Query { name, qtype, dnssec_ok: false, checking_disabled: false, view: 0 }
}
