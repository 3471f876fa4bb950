//! Anchors as they are written, and which of them governs a name.

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn ds(owner: &str) -> Anchor {
    let trusted = Ds { tag: 1, algorithm: 13, digest_type: 2, digest: vec![7; 32] };
    Anchor { name: name(owner), trusted: Trusted::Ds(trusted) }
}

#[test]
fn both_root_keys_are_built_in() {
    let anchors = Anchors::built_in();
    let Closest::Anchor(at, point) = anchors.closest(&name("www.example.com."), 0) else {
        panic!("no anchor");
    };
    assert_eq!(*at, Name::root());
    let tags: Vec<u16> = point.ds.iter().map(|ds| ds.tag).collect();
    assert_eq!(tags, [20326, 38696]);
    assert!(point.is_usable());
}

#[test]
fn records_are_read_in_both_forms_over_lines_and_with_comments() {
    let text = "; anchors of a test\n\
        example.com. 3600 IN DS 12345 ECDSAP256SHA256 2 (\n\
        \t0123456789abcdef0123456789abcdef ; first half\n\
        \t0123456789ABCDEF0123456789ABCDEF )\n\
        \n\
        Sub.Example.com IN DNSKEY 257 3 15 ( l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZ JA4= )\n\
        . dnskey 256 3 13 AAAA\n";
    let anchors = read(text).unwrap();
    assert_eq!(anchors.len(), 3);
    assert_eq!(anchors[0].name, name("example.com."));
    let Trusted::Ds(ds) = &anchors[0].trusted else { panic!("{anchors:?}") };
    assert_eq!((ds.tag, ds.algorithm, ds.digest_type, ds.digest.len()), (12345, 13, 2, 32));
    assert_eq!(anchors[1].name, name("sub.example.com."));
    let Trusted::Key(key) = &anchors[1].trusted else { panic!("{anchors:?}") };
    // RFC 8080 section 6.1.
    assert_eq!((key.tag, key.algorithm, key.public.len()), (3613, 15, 32));
    assert_eq!(anchors[2].name, Name::root());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, line, column, what) in [
        ("example.com. IN A 192.0.2.1", 1, 17, "neither DS nor DNSKEY"),
        ("\n  example.com. IN DS 1 8 2 00", 2, 3, "begins with a blank"),
        ("$ORIGIN test.\n", 1, 1, "directives"),
        ("@ IN DS 1 8 2 00", 1, 1, "`.` for the root"),
        ("a..b. IN DS 1 8 2 00", 1, 1, "not a domain name"),
        ("test. IN DS 70000 8 2 00", 1, 13, "`70000`"),
        ("test. IN DS 1 RSA 2 00", 1, 15, "`RSA`"),
        ("test. IN DS 1 8 2", 1, 17, "missing"),
        ("test. IN DS 1 8 2 0g", 1, 19, "not hex"),
        ("test. IN DS 1 8 2 00ff", 1, 19, "2 octets; those of type 2 have 32"),
        ("test. IN DS", 1, 10, "write `example.com. IN DS"),
        ("test. IN", 1, 1, "write `example.com. IN DS"),
        ("test. IN DNSKEY 257 3 13 !", 1, 26, "not base64"),
        ("test. IN DNSKEY 1 3 13 AAAA", 1, 17, "no zone key"),
        ("test. IN DNSKEY 385 3 13 AAAA", 1, 17, "revoked"),
        ("test. IN DNSKEY 257 3 13", 1, 23, "missing"),
        ("test. IN DS ( 1 8 2 00", 1, 13, "not closed"),
        ("test. IN DS 1 8 2 00 )", 1, 22, "not opened"),
        ("test. IN DS ( 1 ( 8 2 00 ) )", 1, 17, "in brackets"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
}

#[test]
fn the_nearest_anchor_governs_and_a_negative_one_wins_at_the_same_name() {
    let mut anchors = Anchors::of([ds("."), ds("test."), ds("island.off.test.")]);
    anchors.add_negative(name("off.test."), None);
    anchors.add_negative(name("test."), Some(1000));
    let governs = |of: &str, now: u64| match anchors.closest(&name(of), now) {
        Closest::Anchor(name, _) => format!("+{name}"),
        Closest::Negative(name) => format!("-{name}"),
        Closest::Nothing => "nothing".into(),
    };
    assert_eq!(governs("org.", 0), "+.");
    assert_eq!(governs("www.test.", 999), "-test.");
    assert_eq!(governs("www.test.", 1000), "+test.", "it has an end");
    assert_eq!(governs("www.off.test.", 5000), "-off.test.");
    assert_eq!(governs("www.island.off.test.", 0), "+island.off.test.");
    assert_eq!(Anchors::of([ds("test.")]).closest(&name("org."), 0), Closest::Nothing);
}

#[test]
fn anchors_have_bounds_and_are_not_kept_twice() {
    let mut anchors = Anchors::default();
    assert!(anchors.add(ds("test.")) && anchors.add(ds("test.")));
    let Closest::Anchor(_, point) = anchors.closest(&name("test."), 0) else { panic!() };
    assert_eq!(point.ds.len(), 1);
    for tag in 2..=ANCHORS_AT_NAME_MAX as u16 {
        let trusted = Ds { tag, algorithm: 13, digest_type: 2, digest: vec![7; 32] };
        assert!(anchors.add(Anchor { name: name("test."), trusted: Trusted::Ds(trusted) }));
    }
    let trusted = Ds { tag: 99, algorithm: 13, digest_type: 2, digest: vec![7; 32] };
    assert!(!anchors.add(Anchor { name: name("test."), trusted: Trusted::Ds(trusted) }));
    for number in 1..ANCHORS_MAX {
        assert!(anchors.add(ds(&format!("z{number}."))), "{number}");
    }
    assert!(!anchors.add(ds("toomany.")) && !anchors.points.contains_key(&name("toomany.")));
}
