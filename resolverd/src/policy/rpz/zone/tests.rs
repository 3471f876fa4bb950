//! One policy zone: what goes in is what is found.

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn cname(owner: &str, target: &str) -> Record {
    let owner = name(&format!("{owner}rpz.test."));
    let rdata = name(target).as_wire().to_vec();
    Record { owner, rtype: rtype::CNAME, class: 1, ttl: 60, rdata }
}

fn a(owner: &str, last: u8) -> Record {
    Record { rtype: rtype::A, rdata: vec![192, 0, 2, last], ..cname(owner, ".") }
}

fn zone(records: &[Record]) -> Zone {
    let mut zone = Zone::new(name("rpz.test."));
    records.iter().for_each(|record| zone.insert(record.clone()).unwrap());
    zone
}

fn shown(found: Option<(Trigger, Action)>) -> String {
    let Some((trigger, action)) = found else { return "-".into() };
    let action = match action {
        Action::Data(data) => format!("{} records", data.len()),
        other => format!("{other:?}"),
    };
    format!("{trigger}: {action}")
}

#[test]
fn every_target_with_a_meaning_is_its_action() {
    let zone = zone(&[
        cname("a.test.", "."),
        cname("b.test.", "*."),
        cname("c.test.", "rpz-passthru."),
        cname("d.test.", "rpz-drop."),
        cname("e.test.", "rpz-tcp-only."),
        cname("f.test.", "f.test."),
        cname("g.test.", "garden.example."),
        a("h.test.", 1),
        a("h.test.", 2),
        a("h.test.", 1),
    ]);
    for (text, expected) in [
        ("a.test.", "qname a.test.: Nxdomain"),
        ("b.test.", "qname b.test.: Nodata"),
        ("c.test.", "qname c.test.: Passthru"),
        ("d.test.", "qname d.test.: Drop"),
        ("e.test.", "qname e.test.: TcpOnly"),
        ("f.test.", "qname f.test.: Passthru"),
        ("g.test.", "qname g.test.: 1 records"),
        ("h.test.", "qname h.test.: 2 records"),
        ("x.a.test.", "-"),
        ("test.", "-"),
    ] {
        assert_eq!(shown(zone.qname(&name(text))), expected);
    }
    assert_eq!(zone.len(), 8);
}

#[test]
fn a_name_of_its_own_goes_before_wildcards_and_the_nearest_wildcard_before_others() {
    let zone = zone(&[
        cname("*.test.", "."),
        cname("*.b.test.", "*."),
        cname("a.b.test.", "rpz-passthru."),
        cname("*.ns.test.rpz-nsdname.", "."),
    ]);
    for (text, expected) in [
        ("a.b.test.", "qname a.b.test.: Passthru"),
        ("x.a.b.test.", "qname *.b.test.: Nodata"),
        ("b.test.", "qname *.test.: Nxdomain"),
        ("test.", "-"),
    ] {
        assert_eq!(shown(zone.qname(&name(text))), expected);
    }
    assert_eq!(shown(zone.ns_name(&[name("a.ns.test.")])), "nsdname *.ns.test.: Nxdomain");
    assert_eq!(shown(zone.ns_name(&[name("ns.test.")])), "-");
    assert!(zone.waits());
}

#[test]
fn of_addresses_the_longest_prefix_decides() {
    let zone = zone(&[
        cname("8.0.0.0.10.rpz-ip.", "."),
        cname("32.1.0.0.10.rpz-ip.", "*."),
        cname("32.zz.db8.2001.rpz-ip.", "rpz-drop."),
        cname("24.0.2.0.192.rpz-client-ip.", "rpz-drop."),
        cname("24.0.2.0.192.rpz-nsip.", "rpz-passthru."),
    ]);
    let ips = |texts: &[&str]| -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    for (addresses, expected) in [
        (&["10.9.9.9"][..], "ip 10.0.0.0/8: Nxdomain"),
        (&["10.9.9.9", "10.0.0.1"], "ip 10.0.0.1/32: Nodata"),
        (&["2001:db8::1", "10.9.9.9"], "ip 10.0.0.0/8: Nxdomain"),
        (&["2001:db8::1"], "ip 2001:db8::/32: Drop"),
        (&["192.0.2.1"], "-"),
        (&[], "-"),
    ] {
        assert_eq!(shown(zone.ip(&ips(addresses))), expected, "{addresses:?}");
    }
    let found = zone.client("192.0.2.7".parse().unwrap());
    assert_eq!(shown(found), "client-ip 192.0.2.0/24: Drop");
    assert_eq!(shown(zone.ns_ip(&ips(&["192.0.2.7"]))), "nsip 192.0.2.0/24: Passthru");
    assert_eq!(zone.clients().count(), 1);
}

#[test]
fn what_is_taken_out_is_as_if_it_had_never_been_there() {
    let mut zone = zone(&[cname("a.test.", "."), a("h.test.", 1), a("h.test.", 2)]);
    zone.remove(&a("h.test.", 1)).unwrap();
    assert_eq!(shown(zone.qname(&name("h.test."))), "qname h.test.: 1 records");
    zone.remove(&a("h.test.", 2)).unwrap();
    assert_eq!(shown(zone.qname(&name("h.test."))), "-");
    // Another action than the one that is there is not there.
    zone.remove(&cname("a.test.", "*.")).unwrap();
    assert_eq!(zone.len(), 1);
    zone.remove(&cname("a.test.", ".")).unwrap();
    zone.remove(&cname("a.test.", ".")).unwrap();
    assert!(zone.is_empty());
}

#[test]
fn the_zones_own_records_are_no_rules() {
    let mut soa = cname("", ".");
    soa.rtype = rtype::SOA;
    soa.rdata = [&b"\0\0"[..], &7_u32.to_be_bytes(), &[0; 16]].concat();
    let ns = Record { rtype: rtype::NS, ..cname("", "ns.test.") };
    let zone = zone(&[soa, ns]);
    assert!(zone.is_empty() && !zone.waits());
    assert_eq!(zone.serial(), Some(7));
    assert_eq!(Zone::new(name("rpz.test.")).serial(), None);
    let outside = Record { owner: name("a.test."), ..cname("", ".") };
    assert!(Zone::new(name("rpz.test.")).insert(outside).is_err());
}

#[test]
fn rules_that_say_the_same_share_what_they_say() {
    let mut zone = Zone::new(name("rpz.test."));
    for n in 0..1_000 {
        zone.insert(cname(&format!("n{n}.test."), "garden.example.")).unwrap();
    }
    assert_eq!((zone.len(), zone.data.len()), (1_000, 1));
}
