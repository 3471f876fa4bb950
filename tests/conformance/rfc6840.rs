//! RFC 6840: clarifications of DNSSEC.

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_4_4_a_missing_type_is_not_proven_by_the_parents_side_of_a_cut() -> Result<()> {
    // The NSEC of `child.nsec.test.` in its parent has NS and no A: it says nothing of the child.
    let world = world!();
    world.ask(&Ask::new("child.nsec.test.", "DS").dnssec())?;
    let reply = world.ask(&Ask::new("www.child.nsec.test.", "A").dnssec())?;
    assert_eq!((reply.rcode(), reply.of_type("A").count()), (0, 1));
    let apex = world.ask(&Ask::new("child.nsec.test.", "SOA").dnssec())?;
    assert_eq!(apex.of_type("SOA").count(), 1);
    Ok(())
}

#[test]
fn section_5_2_a_zone_whose_algorithms_or_digests_are_unknown_is_insecure() -> Result<()> {
    let world = world!();
    for zone in ["new-algorithm.test.", "new-digest.test."] {
        let reply = world.ask(&Ask::new(&format!("www.{zone}"), "A").dnssec())?;
        assert_eq!((reply.rcode(), reply.of_type("A").count()), (0, 1), "{zone}");
        assert!(!reply.authentic(), "{zone}");
    }
    Ok(())
}

#[test]
fn section_5_7_the_ad_bit_of_a_query_asks_for_it_without_signatures() -> Result<()> {
    let world = world!();
    let ask = Ask { authentic_data: true, ..Ask::new("www.nsec.test.", "A") };
    let reply = world.ask(&ask)?;
    assert!(reply.authentic() && reply.of_type("RRSIG").next().is_none());
    Ok(())
}

#[test]
fn section_5_8_who_asked_neither_way_is_not_told() -> Result<()> {
    let world = world!();
    for ask in [Ask::new("www.nsec.test.", "A"), Ask::new("www.nsec.test.", "A").edns(1_232)] {
        assert!(!world.ask(&ask)?.authentic());
    }
    Ok(())
}

#[test]
fn section_5_8_with_checking_disabled_nothing_unchecked_is_called_authentic() -> Result<()> {
    let world = world!();
    let unchecked = |name: &str| Ask { checking_disabled: true, ..Ask::new(name, "A").dnssec() };
    assert!(!world.ask(&unchecked("www.broken.test."))?.authentic());
    assert!(!world.ask(&unchecked("www.plain.test."))?.authentic());
    Ok(())
}

#[test]
fn section_5_9_what_an_unchecked_query_fetched_is_judged_when_a_checked_one_comes() -> Result<()> {
    let world = world!();
    let name = "mixed.nsec.test.";
    let unchecked = Ask { checking_disabled: true, ..Ask::new(name, "TXT").dnssec() };
    assert_eq!(world.ask(&unchecked)?.of_type("TXT").count(), 1);
    assert!(world.ask(&Ask::new(name, "TXT").dnssec())?.authentic());
    Ok(())
}

#[test]
fn section_5_9_servers_are_asked_with_do_set() -> Result<()> {
    let world = world!();
    let name = world
        .odd
        .say("wants-do", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    world.ask(&Ask::new(&name, "A"))?;
    let asked = world.odd.asked("wants-do");
    assert!(asked.iter().all(|query| query.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok)));
    Ok(())
}
