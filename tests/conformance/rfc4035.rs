//! RFC 4035: what DNSSEC asks of a security-aware recursive server and of a validator.

use anyhow::Result;
use lab::Ask;

use crate::world::world;

const RRSIG: u16 = 46;
const NSEC: u16 = 47;

#[test]
fn section_3_2_1_signatures_are_for_those_who_ask_for_them() -> Result<()> {
    let world = world!();
    let plain = world.ask(&Ask::new("www.nsec.test.", "A").edns(1_232))?;
    assert_eq!(plain.answer.iter().map(|r| r.rtype).collect::<Vec<_>>(), [1]);
    let aware = world.ask(&Ask::new("www.nsec.test.", "A").dnssec())?;
    assert_eq!(aware.answer.iter().map(|r| r.rtype).collect::<Vec<_>>(), [1, RRSIG]);
    assert!(aware.edns.is_some_and(|edns| edns.dnssec_ok), "DO is copied");
    Ok(())
}

#[test]
fn section_3_2_1_records_of_dnssec_asked_for_by_type_are_given_without_do() -> Result<()> {
    let world = world!();
    for (name, qtype) in
        [("nsec.test.", "DNSKEY"), ("nsec.test.", "DS"), ("www.nsec.test.", "NSEC")]
    {
        let reply = world.ask(&Ask::new(name, qtype))?;
        assert!(reply.of_type(qtype).next().is_some(), "{name} {qtype}");
        assert!(reply.of_type("RRSIG").next().is_none(), "{name} {qtype}");
    }
    Ok(())
}

#[test]
fn section_3_2_2_with_checking_disabled_what_fails_is_given_and_not_called_authentic() -> Result<()>
{
    let world = world!();
    let ask = Ask { checking_disabled: true, ..Ask::new("www.broken.test.", "A").dnssec() };
    let reply = world.ask(&ask)?;
    assert_eq!((reply.rcode(), reply.of_type("A").count()), (0, 1));
    assert_eq!(reply.of_type("RRSIG").count(), 1, "for the client to judge itself");
    assert!(!reply.authentic());
    assert_ne!(reply.bytes[3] & 0x10, 0, "CD is copied");
    Ok(())
}

#[test]
fn section_3_2_2_what_was_given_unchecked_is_not_given_to_those_who_want_it_checked() -> Result<()>
{
    let world = world!();
    let name = "second.broken.test.";
    let unchecked = Ask { checking_disabled: true, ..Ask::new(name, "A").dnssec() };
    assert_eq!(world.ask(&unchecked)?.rcode(), 0);
    assert_eq!(world.ask(&Ask::new(name, "A").dnssec())?.rcode(), 2);
    assert_eq!(world.ask(&unchecked)?.rcode(), 0, "nor is the failure given to the others");
    Ok(())
}

#[test]
fn section_3_2_3_what_is_proven_is_authentic_in_answers_and_denials() -> Result<()> {
    let world = world!();
    for (name, qtype, rcode) in [
        ("www.nsec.test.", "A", 0),
        ("www.nsec.test.", "MX", 0),
        ("nothing.nsec.test.", "A", 3),
        ("alias.nsec.test.", "A", 0),
        ("nsec.test.", "DS", 0),
    ] {
        let reply = world.ask(&Ask::new(name, qtype).dnssec())?;
        assert!(reply.authentic() && reply.rcode() == rcode, "{name} {qtype}");
    }
    Ok(())
}

#[test]
fn section_3_2_3_one_insecure_part_takes_the_authenticity_of_the_whole() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("across.nsec.test.", "A").dnssec())?;
    assert_eq!(reply.of_type("A").count(), 1);
    assert!(!reply.authentic(), "the alias is signed, its target is not");
    Ok(())
}

#[test]
fn section_3_1_4_1_the_ds_of_a_zone_is_found_with_its_parent() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("nsec.test.", "DS").dnssec())?;
    assert_eq!(reply.of_type("DS").count(), 1);
    let none = world.ask(&Ask::new("plain.test.", "DS").dnssec())?;
    assert!(none.authentic() && none.answer.is_empty());
    assert!(none.authority.iter().any(|r| r.rtype == NSEC && r.name == "plain.test."));
    assert!(none.authority.iter().any(|r| r.rtype == 6 && r.name == "test."), "the parent's SOA");
    Ok(())
}

#[test]
fn section_4_3_an_unsigned_delegation_that_is_proven_makes_a_zone_insecure() -> Result<()> {
    let world = world!();
    for name in ["www.plain.test.", "www.child.nsec.test."] {
        let reply = world.ask(&Ask::new(name, "A").dnssec())?;
        assert_eq!((reply.rcode(), reply.of_type("A").count()), (0, 1), "{name}");
        assert!(!reply.authentic(), "{name}");
    }
    Ok(())
}

#[test]
fn section_4_7_a_failure_is_kept_for_a_while_and_no_longer() -> Result<()> {
    let world = world!();
    let name = "www.broken.test.";
    assert_eq!(world.ask(&Ask::new(name, "A"))?.rcode(), 2);
    let told = world.daemon.cli(&["explain", name, "--json"])?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let left = told["cache"][0]["expires_in_secs"].as_u64();
    assert!(matches!(left, Some(1..=60)), "{told}");
    Ok(())
}

#[test]
fn section_5_2_a_key_that_the_parent_does_not_name_makes_everything_below_bogus() -> Result<()> {
    let world = world!();
    for (name, qtype) in [
        ("www.broken.test.", "A"),
        ("www.broken.test.", "MX"),
        ("nothing.broken.test.", "A"),
        ("broken.test.", "SOA"),
        ("x.wild.broken.test.", "A"),
    ] {
        let reply = world.ask(&Ask::new(name, qtype).dnssec())?;
        assert_eq!((reply.rcode(), reply.answer.len()), (2, 0), "{name} {qtype}");
    }
    Ok(())
}

#[test]
fn section_5_3_1_a_signature_past_its_time_proves_nothing() -> Result<()> {
    let world = world!();
    for (now, ede) in [("2037-01-01T00:00:00Z", 7), ("2017-01-01T00:00:00Z", 8)] {
        let daemon = world.daemon_of(&format!("dnssec.now = \"{now}\""), "")?;
        let reply = world.ask_of(&daemon, &Ask::new("www.nsec.test.", "A").dnssec())?;
        assert_eq!((reply.rcode(), reply.ede()), (2, vec![ede]), "{now}");
        let plain = world.ask_of(&daemon, &Ask::new("www.nsec.test.", "A"))?;
        assert_eq!(plain.rcode(), 2, "with or without DO");
    }
    Ok(())
}

#[test]
fn section_5_3_4_a_wildcard_is_proven_with_the_denial_of_the_name_itself() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("x.wild.nsec.test.", "A").dnssec())?;
    assert!(reply.authentic());
    assert_eq!(reply.answer[0].name, "x.wild.nsec.test.");
    assert!(reply.authority.iter().any(|r| r.rtype == NSEC), "so that a client can check it");
    Ok(())
}

#[test]
fn section_5_3_3_an_answer_lives_no_longer_than_its_signature() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.nsec.test.", "A").dnssec())?;
    let signature = reply.of_type("RRSIG").next().map(|r| (r.ttl, r.data.clone()));
    let (ttl, data) = signature.expect("there is a signature");
    let original = u32::from_be_bytes([data[4], data[5], data[6], data[7]]);
    assert!(ttl <= original && ttl == reply.answer[0].ttl);
    Ok(())
}

#[test]
fn section_5_4_a_denial_has_its_proofs_for_those_who_ask() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("nothing.nsec.test.", "A").dnssec())?;
    let proofs = reply.authority.iter().filter(|r| r.rtype == NSEC).count();
    let signatures = reply.authority.iter().filter(|r| r.rtype == RRSIG).count();
    assert!(reply.authentic() && proofs >= 1 && signatures == proofs + 1, "{reply:?}");
    let plain = world.ask(&Ask::new("nothing.nsec.test.", "A"))?;
    assert!(plain.authority.iter().all(|r| r.rtype == 6));
    Ok(())
}

#[test]
fn section_5_5_what_fails_is_a_server_failure_and_not_an_answer() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("mixed.broken.test.", "TXT"))?;
    assert_eq!((reply.rcode(), reply.answer.len(), reply.authority.len()), (2, 0, 0));
    Ok(())
}
