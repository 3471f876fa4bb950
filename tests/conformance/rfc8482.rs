//! RFC 8482: small answers to questions for everything.

use anyhow::Result;
use lab::Ask;

use crate::world::world;

#[test]
fn section_4_any_over_udp_is_answered_with_little() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("mixed.plain.test.", "ANY").edns(1_232))?;
    assert_eq!(reply.rcode(), 0);
    let mut types: Vec<u16> = reply.answer.iter().map(|record| record.rtype).collect();
    types.dedup();
    assert_eq!(types.len(), 1, "one RRset or one HINFO, not all: {types:?}");
    assert!(reply.bytes.len() < 128, "{} octets", reply.bytes.len());
    Ok(())
}

#[test]
fn section_4_2_a_made_up_hinfo_says_which_rfc_it_is_of() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.plain.test.", "ANY"))?;
    for hinfo in reply.of_type("HINFO") {
        assert!(hinfo.data.starts_with(b"\x07RFC8482"), "{hinfo:?}");
        assert_eq!(hinfo.name, "www.plain.test.");
    }
    Ok(())
}

#[test]
fn section_4_4_any_does_not_stand_in_for_a_type_later() -> Result<()> {
    let world = world!();
    world.ask(&Ask::new("here.wild.plain.test.", "ANY"))?;
    let reply = world.ask(&Ask::new("here.wild.plain.test.", "TXT"))?;
    assert_eq!(reply.of_type("TXT").count(), 1);
    Ok(())
}
