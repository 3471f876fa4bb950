//! RFC 5155: hashed denial of existence, as a validator meets it.

use anyhow::Result;
use lab::{Ask, Reply};

use crate::world::world;

const NSEC3: u16 = 50;

fn proofs(reply: &Reply) -> usize {
    reply.authority.iter().filter(|record| record.rtype == NSEC3).count()
}

#[test]
fn section_8_4_a_name_error_is_proven_by_its_closest_encloser() -> Result<()> {
    let world = world!();
    for name in ["nothing.nsec3.test.", "a.b.c.nothing.nsec3.test.", "x.www.nsec3.test."] {
        let reply = world.ask(&Ask::new(name, "A").dnssec())?;
        assert!(reply.rcode() == 3 && reply.authentic(), "{name}");
        assert!((1..=3).contains(&proofs(&reply)), "{name}");
    }
    Ok(())
}

#[test]
fn section_8_5_no_data_is_proven_by_the_name_itself() -> Result<()> {
    let world = world!();
    for (name, qtype) in
        [("www.nsec3.test.", "MX"), ("ent.nsec3.test.", "A"), ("deep.ent.nsec3.test.", "AAAA")]
    {
        let reply = world.ask(&Ask::new(name, qtype).dnssec())?;
        assert!(reply.rcode() == 0 && reply.authentic() && reply.answer.is_empty(), "{name}");
        assert_eq!(proofs(&reply), 1, "{name}");
    }
    Ok(())
}

#[test]
fn section_8_6_under_opt_out_no_ds_is_proven_but_not_authentic() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("child.optout.test.", "DS").dnssec())?;
    assert!(reply.rcode() == 0 && reply.answer.is_empty() && proofs(&reply) >= 1);
    assert!(!reply.authentic(), "section 9.2: what opt-out covers may exist");
    Ok(())
}

#[test]
fn section_8_7_no_data_of_a_wildcard_is_proven() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("x.wild.nsec3.test.", "MX").dnssec())?;
    assert!(reply.rcode() == 0 && reply.authentic() && reply.answer.is_empty());
    assert!(proofs(&reply) >= 2, "the wildcard, and that the name itself is not there");
    Ok(())
}

#[test]
fn section_8_8_an_answer_of_a_wildcard_comes_with_the_denial_of_the_name() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("x.wild.nsec3.test.", "A").dnssec())?;
    assert!(reply.authentic() && reply.of_type("A").count() == 1);
    assert_eq!(proofs(&reply), 1);
    Ok(())
}

#[test]
fn section_8_9_a_delegation_without_ds_is_followed_as_insecure() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.child.optout.test.", "A").dnssec())?;
    assert_eq!((reply.rcode(), reply.of_type("A").count()), (0, 1));
    assert!(!reply.authentic());
    Ok(())
}

#[test]
fn section_9_2_a_name_error_that_rests_on_opt_out_is_not_authentic() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("nothing.optout.test.", "A").dnssec())?;
    assert!(reply.rcode() == 3 && !reply.authentic(), "{reply:?}");
    let there = world.ask(&Ask::new("www.optout.test.", "A").dnssec())?;
    assert!(there.authentic(), "what is there is signed");
    Ok(())
}
