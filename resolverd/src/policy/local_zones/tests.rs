//! Local zones as a client sees them.

use hickory_proto::op::Message;

use super::*;
use crate::dns::records::ttl_offsets;

fn spec(name: &str, kind: ZoneKind, records: &[&str]) -> ZoneSpec {
    let records = records.iter().map(|&text| text.to_owned()).collect();
    let name = name.parse().unwrap();
    ZoneSpec { name, kind, records, views: Vec::new(), log: false }
}

fn zones(specs: &[ZoneSpec]) -> LocalZones {
    LocalZones::build(specs, &Views::default()).unwrap()
}

fn fixed(records: &[&str]) -> LocalZones {
    zones(&[spec("home.test.", ZoneKind::Static, records)])
}

fn query(name: &str, qtype: u16) -> Query {
    Query {
        name: name.parse().unwrap(),
        qtype,
        dnssec_ok: false,
        checking_disabled: false,
        view: 0,
    }
}

/// RCODE and records as a client's parser reads them; a bar before the authority section.
fn ask(zones: &LocalZones, name: &str, qtype: u16) -> String {
    let query = query(name, qtype);
    let (answer, on) = match zones.find(&query).map(|found| found.said) {
        None => return "pass".into(),
        Some(Said::Drop) => return "drop".into(),
        Some(Said::Truncate) => return "truncate".into(),
        Some(Said::Answer(answer)) => (answer, String::new()),
        Some(Said::Alias(alias)) => {
            let on = format!(", on to {}", alias.target);
            (alias.alone(&query.name).unwrap(), on)
        }
    };
    let mut wire = vec![0, 7, 0x80, answer.rcode, 0, 1];
    answer.counts.iter().for_each(|count| wire.extend(count.to_be_bytes()));
    wire.extend_from_slice(query.name.as_wire());
    wire.extend(qtype.to_be_bytes());
    wire.extend([0, 1]);
    assert_eq!(ttl_offsets(&answer.body, wire.len(), answer.counts).unwrap(), answer.ttl_offsets);
    wire.extend_from_slice(&answer.body);
    let message = Message::from_vec(&wire).unwrap();
    let all = message.answers.iter().chain(&message.authorities);
    let shortest = all.clone().map(|record| record.ttl).min().unwrap_or(0);
    assert_eq!(answer.life, Duration::from_secs(shortest.into()));
    assert_eq!(answer.authoritative, answer.rcode != rcode::REFUSED);
    let mut text = message.response_code.to_string();
    for (at, record) in all.enumerate() {
        let bar = if at == message.answers.len() { "| " } else { "" };
        let rtype = record.record_type();
        text += &format!(", {bar}{} {} {rtype} {}", record.name, record.ttl, record.data);
    }
    text + &on
}

/// What a zone says where it says something whole.
fn answer(zones: &LocalZones, name: &str, qtype: u16) -> Answer {
    match zones.find(&query(name, qtype)).map(|found| found.said) {
        Some(Said::Answer(answer)) => answer,
        other => panic!("{name}: {other:?}"),
    }
}

/// The SOA that a zone without one gets, as an answer.
fn made_up() -> String {
    format!("No Error, {}", SOA.trim_start_matches("| "))
}

const SOA: &str = "| home.test. 300 SOA home.test. nobody.invalid. 1 3600 1200 604800 300";

fn denied(rcode: &str) -> String {
    format!("{rcode}, {SOA}")
}

#[test]
fn records_are_answered_by_type_and_other_types_are_denied() {
    let zones = fixed(&["www A 192.0.2.1", "www A 192.0.2.2", "www 60 AAAA 2001:db8::1"]);
    let expected = "No Error, www.home.test. 300 A 192.0.2.1, www.home.test. 300 A 192.0.2.2";
    assert_eq!(ask(&zones, "www.home.test.", rtype::A), expected);
    assert_eq!(ask(&zones, "WWW.Home.Test.", rtype::A), expected);
    assert_eq!(ask(&zones, "www.home.test.", rtype::MX), denied("No Error"));
    assert_eq!(ask(&zones, "no.home.test.", rtype::A), denied("Non-Existent Domain"));
    assert_eq!(ask(&zones, "x.www.home.test.", rtype::A), denied("Non-Existent Domain"));
    assert_eq!(ask(&zones, "home.test.", rtype::A), denied("No Error"));
    assert_eq!(ask(&zones, "other.test.", rtype::A), "pass");
    let source = answer(&zones, "www.home.test.", rtype::A).source;
    assert_eq!(source, Source::Local("home.test.".parse().unwrap()));
}

#[test]
fn the_zones_own_soa_is_used_for_denials_at_the_smaller_of_its_times() {
    let zones = fixed(&["@ 900 SOA ns h 7 1 2 3 60", "@ NS ns", "ns A 192.0.2.53"]);
    let soa = "SOA ns.home.test. h.home.test. 7 1 2 3 60";
    assert_eq!(ask(&zones, "home.test.", rtype::SOA), format!("No Error, home.test. 900 {soa}"));
    let denied = format!("Non-Existent Domain, | home.test. 60 {soa}");
    assert_eq!(ask(&zones, "no.home.test.", rtype::A), denied);
    assert_eq!(ask(&fixed(&[]), "home.test.", rtype::SOA), made_up());
}

#[test]
fn rfc_8020_a_name_with_names_below_it_exists() {
    let zones = fixed(&["a.b.c A 192.0.2.1"]);
    for name in ["b.c.home.test.", "c.home.test."] {
        assert_eq!(ask(&zones, name, rtype::A), denied("No Error"), "{name}");
    }
    assert_eq!(ask(&zones, "x.c.home.test.", rtype::A), denied("Non-Existent Domain"));
}

#[test]
fn aliases_are_followed_within_the_zone_and_the_rest_is_for_others() {
    let zones = fixed(&[
        "a CNAME b",
        "b 60 CNAME c",
        "c A 192.0.2.1",
        "out CNAME www.example.",
        "gone CNAME no",
        "x CNAME y",
        "y CNAME x",
    ]);
    let chain = "a.home.test. 300 CNAME b.home.test., b.home.test. 60 CNAME c.home.test.";
    let full = format!("No Error, {chain}, c.home.test. 300 A 192.0.2.1");
    assert_eq!(ask(&zones, "a.home.test.", rtype::A), full);
    assert_eq!(ask(&zones, "a.home.test.", rtype::MX), format!("No Error, {chain}, {SOA}"));
    let alias = "No Error, a.home.test. 300 CNAME b.home.test.";
    assert_eq!(ask(&zones, "a.home.test.", rtype::CNAME), alias);
    let out = "No Error, out.home.test. 300 CNAME www.example., on to www.example.";
    assert_eq!(ask(&zones, "out.home.test.", rtype::A), out);
    let gone = format!("Non-Existent Domain, gone.home.test. 300 CNAME no.home.test., {SOA}");
    assert_eq!(ask(&zones, "gone.home.test.", rtype::A), gone);
    assert!(ask(&zones, "x.home.test.", rtype::A).starts_with("No Error, x.home.test. 300 CNAME"));
}

/// RFC 4592 section 2.2.1, with its zone.
#[test]
fn rfc_4592_wildcards() {
    let zones = zones(&[spec(
        "example.",
        ZoneKind::Static,
        &[
            "@ 3600 SOA ns h 1 2 3 4 60",
            "@ NS ns.example.com.",
            "* TXT \"this is a wildcard\"",
            "* MX 10 host1",
            "sub.* TXT \"this is not a wildcard\"",
            "host1 A 192.0.2.1",
            "_ssh._tcp.host1 SRV 0 0 22 host1",
            "_ssh._tcp.host2 SRV 0 0 22 host1",
        ],
    )]);
    let starts = |name: &str, qtype, start: &str| {
        let text = ask(&zones, name, qtype);
        assert!(text.starts_with(start), "{name}: {text}");
    };
    starts("host3.example.", rtype::MX, "No Error, host3.example. 300 MX 10 host1.example.");
    starts("host3.example.", rtype::A, "No Error, | ");
    starts("foo.bar.example.", rtype::TXT, "No Error, foo.bar.example. 300 TXT this is a wild");
    starts("host1.example.", rtype::MX, "No Error, | ");
    starts("sub.*.example.", rtype::MX, "No Error, | ");
    starts("_telnet._tcp.host1.example.", rtype::SRV, "Non-Existent Domain, | ");
    starts("host2.example.", rtype::MX, "No Error, | ");
    starts("ghost.*.example.", rtype::MX, "Non-Existent Domain, | ");
    starts("*.example.", rtype::TXT, "No Error, *.example. 300 TXT this is a wildcard");
}

#[test]
fn an_alias_may_be_a_wildcard() {
    let zones = fixed(&["*.dyn CNAME www", "www A 192.0.2.1"]);
    let expected = "No Error, q.dyn.home.test. 300 CNAME www.home.test., \
        www.home.test. 300 A 192.0.2.1";
    assert_eq!(ask(&zones, "q.dyn.home.test.", rtype::A), expected);
}

#[test]
fn rfc_8482_any_is_answered_with_one_set() {
    let zones = fixed(&["www AAAA 2001:db8::1", "www A 192.0.2.1", "www A 192.0.2.2"]);
    let expected = "No Error, www.home.test. 300 A 192.0.2.1, www.home.test. 300 A 192.0.2.2";
    assert_eq!(ask(&zones, "www.home.test.", rtype::ANY), expected);
    assert_eq!(ask(&zones, "home.test.", rtype::ANY), made_up());
}

#[test]
fn a_transparent_zone_answers_names_with_records_and_lets_others_pass() {
    let zones = zones(&[spec(
        "home.test.",
        ZoneKind::Transparent,
        &["www A 192.0.2.1", "a.b A 192.0.2.2", "to CNAME elsewhere", "*.w A 192.0.2.3"],
    )]);
    assert_eq!(ask(&zones, "www.home.test.", rtype::A), "No Error, www.home.test. 300 A 192.0.2.1");
    assert_eq!(ask(&zones, "www.home.test.", rtype::MX), denied("No Error"));
    for name in ["home.test.", "no.home.test.", "b.home.test.", "x.www.home.test."] {
        assert_eq!(ask(&zones, name, rtype::A), "pass", "{name}");
    }
    assert_eq!(ask(&zones, "q.w.home.test.", rtype::A), "No Error, q.w.home.test. 300 A 192.0.2.3");
    let alias = "No Error, to.home.test. 300 CNAME elsewhere.home.test.";
    let on = format!("{alias}, on to elsewhere.home.test.");
    assert_eq!(ask(&zones, "to.home.test.", rtype::A), on);
    assert_eq!(ask(&zones, "to.home.test.", rtype::CNAME), alias);
}

#[test]
fn the_other_kinds_deny_or_refuse_every_name() {
    let zones = zones(&[
        spec("home.test.", ZoneKind::AlwaysNxdomain, &[]),
        spec("secret.", ZoneKind::Refuse, &[]),
    ]);
    for name in ["home.test.", "a.b.home.test."] {
        assert_eq!(ask(&zones, name, rtype::A), denied("Non-Existent Domain"));
        assert_eq!(answer(&zones, name, 1).ede.unwrap().code, EDE_BLOCKED);
    }
    assert_eq!(ask(&zones, "a.secret.", rtype::A), "Query Refused");
    assert_eq!(answer(&zones, "secret.", 1).ede.unwrap().code, EDE_PROHIBITED);
}

#[test]
fn a_type_transparent_zone_lets_other_types_pass() {
    let records = ["www A 192.0.2.1", "to CNAME www"];
    let zones = zones(&[spec("home.test.", ZoneKind::TypeTransparent, &records)]);
    assert_eq!(ask(&zones, "www.home.test.", rtype::A), "No Error, www.home.test. 300 A 192.0.2.1");
    assert_eq!(ask(&zones, "www.home.test.", rtype::AAAA), "pass");
    assert_eq!(ask(&zones, "no.home.test.", rtype::A), "pass");
    let on = "No Error, to.home.test. 300 CNAME www.home.test., on to www.home.test.";
    assert_eq!(ask(&zones, "to.home.test.", rtype::AAAA), on);
}

#[test]
fn all_names_of_a_redirect_zone_have_the_records_of_its_own() {
    let zones = zones(&[
        spec("home.test.", ZoneKind::Redirect, &["@ A 192.0.2.1", "@ TXT x"]),
        spec("garden.test.", ZoneKind::Redirect, &["@ CNAME garden.example."]),
        spec("round.test.", ZoneKind::Redirect, &["@ CNAME a.round.test."]),
    ]);
    for name in ["home.test.", "a.home.test.", "a.b.home.test."] {
        let expected = format!("No Error, {name} 300 A 192.0.2.1");
        assert_eq!(ask(&zones, name, rtype::A), expected);
        assert_eq!(ask(&zones, name, rtype::AAAA), denied("No Error"));
    }
    let on = "No Error, a.garden.test. 300 CNAME garden.example., on to garden.example.";
    assert_eq!(ask(&zones, "a.garden.test.", rtype::A), on);
    assert!(ask(&zones, "b.round.test.", rtype::A).starts_with("No Error, b.round.test. 300"));
}

#[test]
fn blocking_kinds_say_their_one_word() {
    let zones = zones(&[
        spec("nodata.", ZoneKind::AlwaysNodata, &[]),
        spec("null.", ZoneKind::AlwaysNull, &[]),
        spec("six.", ZoneKind::BlockA, &[]),
        spec("stream.", ZoneKind::Truncate, &[]),
        spec("silent.", ZoneKind::Deny, &["www A 192.0.2.1", "to CNAME www"]),
        spec("secret.", ZoneKind::Refuse, &["www A 192.0.2.1"]),
    ]);
    for (name, qtype, expected) in [
        ("a.nodata.", rtype::A, "No Error, | nodata. 300 SOA"),
        ("a.null.", rtype::A, "No Error, a.null. 300 A 0.0.0.0"),
        ("null.", rtype::AAAA, "No Error, null. 300 AAAA ::"),
        ("a.null.", rtype::MX, "No Error, | null. 300 SOA"),
        ("a.six.", rtype::A, "No Error, | six. 300 SOA"),
        ("a.six.", rtype::AAAA, "pass"),
        ("a.stream.", rtype::A, "truncate"),
        ("a.silent.", rtype::A, "drop"),
        ("silent.", rtype::SOA, "drop"),
        ("www.silent.", rtype::A, "No Error, www.silent. 300 A 192.0.2.1"),
        ("www.silent.", rtype::MX, "drop"),
        ("to.silent.", rtype::A, "No Error, to.silent. 300 CNAME www.silent., www.silent."),
        ("www.secret.", rtype::A, "No Error, www.secret. 300 A 192.0.2.1"),
        ("www.secret.", rtype::MX, "Query Refused"),
        ("a.secret.", rtype::A, "Query Refused"),
    ] {
        let text = ask(&zones, name, qtype);
        assert!(text.starts_with(expected), "{name} {qtype}: {text}");
    }
    for name in ["a.nodata.", "a.null.", "a.six."] {
        assert_eq!(answer(&zones, name, rtype::A).ede.unwrap().code, EDE_BLOCKED);
    }
}

#[test]
fn the_longest_zone_wins() {
    let zones = zones(&[
        spec("test.", ZoneKind::AlwaysNxdomain, &[]),
        spec("home.test.", ZoneKind::Static, &["www A 192.0.2.1"]),
        spec("open.home.test.", ZoneKind::Transparent, &[]),
    ]);
    assert!(ask(&zones, "x.test.", rtype::A).starts_with("Non-Existent Domain, | test."));
    assert_eq!(ask(&zones, "www.home.test.", rtype::A), "No Error, www.home.test. 300 A 192.0.2.1");
    assert_eq!(ask(&zones, "x.open.home.test.", rtype::A), "pass");
}

#[test]
fn the_times_of_one_set_are_the_shortest_of_them_and_doubles_count_once() {
    let zones = fixed(&["www 300 A 192.0.2.1", "www 60 A 192.0.2.2", "www 10 A 192.0.2.1"]);
    let expected = "No Error, www.home.test. 60 A 192.0.2.1, www.home.test. 60 A 192.0.2.2";
    assert_eq!(ask(&zones, "www.home.test.", rtype::A), expected);
}

#[test]
fn an_alias_may_stand_at_the_name_of_a_zone_without_soa() {
    let zones = fixed(&["@ CNAME www", "www A 192.0.2.1"]);
    let expected = "No Error, home.test. 300 CNAME www.home.test., www.home.test. 300 A 192.0.2.1";
    assert_eq!(ask(&zones, "home.test.", rtype::A), expected);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let bad = |kind, records: &[&str]| {
        let good = spec("good.", ZoneKind::Static, &["www A 192.0.2.1"]);
        let specs = [good, spec("home.test.", kind, records)];
        LocalZones::build(&specs, &Views::default()).unwrap_err()
    };
    let fixed = ZoneKind::Static;
    for (records, said) in [
        (&["a A 192.0.2.1", "b.example. A 192.0.2.1"][..], "not in the zone `home.test.`"),
        (&["a A 192.0.2.1", "a CNAME b"], "no other records"),
        (&["a CNAME b", "a A 192.0.2.1"], "no other records"),
        (&["a CNAME b", "a CNAME c"], "one already"),
        (&["@ SOA ns h 1 2 3 4 5", "@ SOA ns h 2 2 3 4 5"], "one already"),
        (&["@ SOA ns h 1 2 3 4 5", "@ CNAME b"], "no other records"),
        (&["a A 192.0.2.1", "a SOA ns h 1 2 3 4 5"], "stands at the zone's name"),
        (&["a A 192.0.2.1", "sub NS ns"], "delegated"),
        (&["a A 192.0.2.1", "d TYPE39 \\# 3 016100"], "DNAME"),
        (&["a A 192.0.2.1", "b A nonsense"], "invalid IPv4 address"),
    ] {
        let error = bad(fixed, records);
        assert_eq!((error.zone, error.record), (1, Some(1)), "{error}");
        assert!(error.message.contains(said), "{records:?}: {error}");
    }
    for kind in [
        ZoneKind::AlwaysNxdomain,
        ZoneKind::AlwaysNodata,
        ZoneKind::AlwaysNull,
        ZoneKind::BlockA,
        ZoneKind::Truncate,
    ] {
        assert!(bad(kind, &["a A 192.0.2.1"]).message.contains("never served"));
    }
    let error = bad(ZoneKind::Redirect, &["@ A 192.0.2.1", "a A 192.0.2.1"]);
    assert_eq!(error.record, Some(1));
    assert!(error.message.contains("write `@` instead of `a.home.test.`"), "{error}");
    let twice = spec("home.test.", fixed, &[]);
    let error = LocalZones::build(&[twice.clone(), twice], &Views::default()).unwrap_err();
    assert_eq!((error.zone, error.record), (1, None));
}

#[test]
fn the_zone_that_the_first_run_serves_is_good() {
    let text = include_str!("../../../../config/run.toml");
    let run: toml::Value = toml::from_str(text).unwrap();
    let zone = &run["zone"][0];
    let records: Vec<&str> =
        zone["records"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    let zones = zones(&[spec(zone["name"].as_str().unwrap(), ZoneKind::Static, &records)]);
    assert!(ask(&zones, "www.resolverd.test.", rtype::A).starts_with("No Error, www.resolverd"));
    assert!(ask(&zones, "web.resolverd.test.", rtype::AAAA).contains("2001:db8"));
}
