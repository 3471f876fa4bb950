//! Sets signed by other programs, in every algorithm, and what becomes of them when they are
//! touched.

use super::super::keys::algorithm;
use super::super::vectors::{NOW, Signer, keys, name, record, reply, set};
use super::*;
use crate::dns::rtype;

fn judge(set: &RrSet, zone: &str, keys: &[DnsKey], now: u64) -> Result<Verified, u16> {
    let mut work = Work::of_one_question();
    verify(set, &name(zone), keys, now, &mut work).map_err(|failure| failure.code)
}

/// A zone for each algorithm, its keys, and a set that is signed by them.
fn each_algorithm() -> Vec<(&'static str, u8, Vec<DnsKey>, RrSet)> {
    [
        ("test.", algorithm::RSASHA256),
        ("optout.test.", algorithm::RSASHA512),
        ("nsec.test.", algorithm::ECDSAP256SHA256),
        ("nsec3.test.", algorithm::ECDSAP384SHA384),
        ("ed.test.", algorithm::ED25519),
    ]
    .map(|(zone, number)| {
        let keys = keys(&reply(zone, rtype::DNSKEY));
        (zone, number, keys, set(&reply(&format!("www.{zone}"), rtype::A), rtype::A))
    })
    .into()
}

#[test]
fn a_set_of_every_algorithm_holds_and_so_do_the_keys_themselves() {
    for (zone, number, keys, set) in each_algorithm() {
        assert_eq!(set.signatures[0].algorithm, number, "{zone}");
        let verified = judge(&set, zone, &keys, NOW).unwrap();
        assert_eq!(verified, Verified { ttl: 3600, expanded_from: None }, "{zone}");
        let own = super::super::vectors::set(&reply(zone, rtype::DNSKEY), rtype::DNSKEY);
        assert!(judge(&own, zone, &keys, NOW).is_ok(), "{zone}");
    }
}

#[test]
fn whatever_is_changed_in_a_set_or_its_signature_breaks_it() {
    for (zone, _, keys, set) in each_algorithm() {
        type Change = (&'static str, fn(&mut RrSet), u16);
        let changes: [Change; 12] = [
            ("data", |set| set.records[0].rdata[3] ^= 1, ede::DNSSEC_BOGUS),
            (
                "a record more",
                |set| {
                    let mut more = set.records[0].clone();
                    more.rdata = vec![203, 0, 113, 1];
                    set.records.push(more);
                },
                ede::DNSSEC_BOGUS,
            ),
            ("owner", |set| set.owner = name("www2.test."), ede::DNSSEC_BOGUS),
            ("type", |set| set.rtype = 99, ede::DNSSEC_BOGUS),
            ("signature", |set| set.signatures[0].signature[5] ^= 0x40, ede::DNSSEC_BOGUS),
            ("signature cut", |set| set.signatures[0].signature.truncate(9), ede::DNSSEC_BOGUS),
            ("signature gone", |set| set.signatures.clear(), ede::RRSIGS_MISSING),
            ("original TTL", |set| set.signatures[0].original_ttl += 1, ede::DNSSEC_BOGUS),
            ("expiry", |set| set.signatures[0].expiration += 1, ede::DNSSEC_BOGUS),
            ("tag", |set| set.signatures[0].key_tag ^= 0x5555, ede::DNSKEY_MISSING),
            ("labels", |set| set.signatures[0].labels += 1, ede::DNSSEC_BOGUS),
            ("signer", |set| set.signatures[0].signer = name("w."), ede::DNSSEC_BOGUS),
        ];
        for (what, change, code) in changes {
            let mut touched = set.clone();
            change(&mut touched);
            if what == "owner" {
                // A zone of another name says nothing about it.
                touched.owner = name(&format!("www2.{zone}"));
            }
            assert_eq!(judge(&touched, zone, &keys, NOW), Err(code), "{zone} {what}");
        }
    }
}

#[test]
fn a_signature_of_the_parent_or_by_a_key_of_another_zone_does_not_hold() {
    let (_, _, keys, set) = each_algorithm().swap_remove(2);
    assert_eq!(judge(&set, "test.", &keys, NOW), Err(ede::DNSSEC_BOGUS));
    let others = super::super::vectors::keys(&reply("child.nsec.test.", rtype::DNSKEY));
    assert!(judge(&set, "nsec.test.", &others, NOW).is_err());
}

#[test]
fn a_signature_holds_from_its_first_second_to_its_last() {
    let (zone, _, keys, set) = each_algorithm().swap_remove(2);
    let (from, until) = (set.signatures[0].inception, set.signatures[0].expiration);
    let at = |second: u32| judge(&set, zone, &keys, second.into());
    assert!(at(from).is_ok() && at(until).is_ok());
    assert_eq!(at(from - 1), Err(ede::NOT_YET_VALID));
    assert_eq!(at(until + 1), Err(ede::EXPIRED));
    assert_eq!(at(until - 10).unwrap().ttl, 10, "never past the expiry");
    assert_eq!(at(until).unwrap().ttl, 0);
}

#[test]
fn time_is_a_serial_number_that_goes_round() {
    let signer = Signer::new("test.");
    let records = [record("a.test. 300 IN A 192.0.2.1")];
    let round = signer.sign_as(&records, |signature| {
        signature.inception = u32::MAX - 10;
        signature.expiration = 1_000;
    });
    let set = super::super::rrset::group(&round).remove(0);
    let keys = [signer.key.clone()];
    for (now, holds) in [(u32::MAX - 10, true), (u32::MAX, true), (5, true), (1_001, false)] {
        assert_eq!(judge(&set, "test.", &keys, now.into()).is_ok(), holds, "{now}");
    }
    let never =
        signer.sign_as(&records, |signature| signature.expiration = signature.inception - 1);
    let set = super::super::rrset::group(&never).remove(0);
    assert_eq!(judge(&set, "test.", &keys, NOW), Err(ede::EXPIRED_BEFORE_VALID));
}

#[test]
fn the_least_of_all_ttls_is_the_life() {
    let (zone, _, keys, set) = each_algorithm().swap_remove(2);
    let life = |change: fn(&mut RrSet)| {
        let mut set = set.clone();
        change(&mut set);
        judge(&set, zone, &keys, NOW).unwrap().ttl
    };
    assert_eq!(life(|set| set.ttl = 60), 60);
    assert_eq!(life(|set| set.signatures[0].ttl = 30), 30);
    assert_eq!(life(|set| set.ttl = 1_000_000), 3600, "the original TTL bounds it");
}

#[test]
fn a_wildcard_says_where_it_stands_and_an_asterisk_that_was_asked_for_does_not() {
    for (zone, _, keys, _) in each_algorithm() {
        let expanded = set(&reply(&format!("x.wild.{zone}"), rtype::A), rtype::A);
        let verified = judge(&expanded, zone, &keys, NOW).unwrap();
        assert_eq!(verified.expanded_from, Some(name(&format!("wild.{zone}"))));
        let mut asked = expanded.clone();
        asked.owner = name(&format!("*.wild.{zone}"));
        let verified = judge(&asked, zone, &keys, NOW).unwrap();
        assert_eq!(verified.expanded_from, None, "the wildcard itself");
        asked.owner = name(&format!("wild.{zone}"));
        assert!(judge(&asked, zone, &keys, NOW).is_err(), "not at its own parent");
        asked.owner = name("x.other.");
        assert!(judge(&asked, zone, &keys, NOW).is_err(), "nor in another zone");
    }
}

#[test]
fn the_order_and_doubles_of_records_mean_nothing_and_neither_does_the_case_of_old_names() {
    let (zone, _, keys, mut set) = each_algorithm().swap_remove(2);
    set.records.reverse();
    set.records.push(set.records[0].clone());
    assert!(judge(&set, zone, &keys, NOW).is_ok());
    let mut mx = super::super::vectors::set(&reply(zone, rtype::MX), rtype::MX);
    assert!(judge(&mx, zone, &keys, NOW).is_ok());
    mx.records[0].rdata[3..].make_ascii_uppercase();
    assert!(judge(&mx, zone, &keys, NOW).is_ok());
}

#[test]
fn a_key_that_is_no_zone_key_or_is_revoked_verifies_nothing() {
    let records = [record("a.test. 300 IN A 192.0.2.1")];
    for (flags, code) in [(1, ede::NO_ZONE_KEY), (0x0180, ede::DNSKEY_MISSING)] {
        let signer = Signer::with_flags("test.", flags);
        let set = super::super::rrset::group(&signer.sign(&records)).remove(0);
        assert_eq!(
            judge(&set, "test.", std::slice::from_ref(&signer.key), NOW),
            Err(code),
            "{flags}"
        );
    }
}

#[test]
fn one_good_signature_is_enough_and_an_unknown_algorithm_beside_it_does_no_harm() {
    let signer = Signer::new("test.");
    let signed = signer.sign(&[record("a.test. 300 IN A 192.0.2.1")]);
    let mut set = super::super::rrset::group(&signed).remove(0);
    let good = set.signatures[0].clone();
    let unknown = Rrsig { algorithm: 200, ..good.clone() };
    let forged = Rrsig { signature: vec![0; 64], ..good.clone() };
    let keys = [signer.key.clone()];
    set.signatures = vec![unknown.clone(), forged.clone(), good.clone()];
    assert!(judge(&set, "test.", &keys, NOW).is_ok(), "RFC 6840 section 5.4");
    set.signatures = vec![unknown];
    assert_eq!(judge(&set, "test.", &keys, NOW), Err(ede::RRSIGS_MISSING));
    set.signatures = vec![forged; SIGNATURES_PER_SET_MAX];
    set.signatures.push(good);
    assert!(judge(&set, "test.", &keys, NOW).is_err(), "no more than the bound is looked at");
}

#[test]
fn keys_with_one_tag_are_tried_up_to_the_bound() {
    let signer = Signer::new("test.");
    let signed = signer.sign(&[record("a.test. 300 IN A 192.0.2.1")]);
    let set = super::super::rrset::group(&signed).remove(0);
    let alike = |count: usize| -> Vec<DnsKey> {
        let other = |_| DnsKey { tag: signer.key.tag, ..Signer::new("test.").key };
        (0..count).map(other).chain([signer.key.clone()]).collect()
    };
    assert!(judge(&set, "test.", &alike(KEYS_PER_TAG_MAX - 1), NOW).is_ok());
    assert!(judge(&set, "test.", &alike(KEYS_PER_TAG_MAX), NOW).is_err());
}

#[test]
fn a_question_ends_when_too_many_signatures_do_not_hold() {
    let signer = Signer::new("test.");
    let signed = signer.sign(&[record("a.test. 300 IN A 192.0.2.1")]);
    let good = super::super::rrset::group(&signed).remove(0);
    let mut forged = good.clone();
    forged.signatures[0].signature = vec![0; 64];
    let mut work = Work::of_one_question();
    let zone = name("test.");
    let keys = [signer.key.clone()];
    let mut told = None;
    for _ in 0..=FAILED_CHECKS_MAX {
        told = verify(&forged, &zone, &keys, NOW, &mut work).err();
    }
    assert!(told.unwrap().text.contains("too many signature checks"));
    let mut work = Work::of_one_question();
    for _ in 0..CHECKS_MAX {
        assert!(verify(&good, &zone, &keys, NOW, &mut work).is_ok());
    }
    assert!(verify(&good, &zone, &keys, NOW, &mut work).is_err());
}
