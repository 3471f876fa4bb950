//! RFC 6672: DNAME, which renames all that is below it.

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_2_2_names_below_are_renamed_and_the_name_itself_is_not() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.old.plain.test.", "A"))?;
    let address = reply.of_type("A").next().map(|record| (record.name.clone(), record.text()));
    assert_eq!(address, Some(("www.new.plain.test.".to_owned(), "192.0.2.7".to_owned())));
    let itself = world.ask(&Ask::new("old.plain.test.", "A"))?;
    assert_eq!((itself.rcode(), itself.answer.len()), (0, 0));
    let asked = world.ask(&Ask::new("old.plain.test.", "DNAME"))?;
    assert_eq!(asked.answer.iter().map(|r| r.rtype).collect::<Vec<_>>(), [39]);
    Ok(())
}

#[test]
fn section_2_2_a_name_that_becomes_too_long_is_told_as_such() -> Result<()> {
    let world = world!();
    let label = "l".repeat(61);
    let target = format!("{label}.{label}.{label}.odd.test.");
    world.odd.say("longer", move |query| {
        vec![match query.qtype {
            39 => Said::new().answer("longer.odd.test.", "DNAME", 60, &target),
            _ if query.lower() == "longer.odd.test." => Said::new().soa(60, 60),
            _ => Said::new().rcode(6).answer("longer.odd.test.", "DNAME", 60, &target),
        }]
    });
    let reply = world.ask(&Ask::new(&format!("{label}.longer.odd.test."), "A"))?;
    assert_eq!(reply.rcode(), 6, "YXDOMAIN");
    assert!(reply.of_type("DNAME").next().is_some(), "with its reason");
    Ok(())
}

#[test]
fn section_3_1_the_alias_that_follows_from_it_is_in_the_answer() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.old.nsec.test.", "A").edns(1_232))?;
    let types: Vec<u16> = reply.answer.iter().map(|record| record.rtype).collect();
    assert_eq!(types, [39, 5, 1]);
    assert_eq!(reply.answer[0].name, "old.nsec.test.");
    assert_eq!(reply.answer[1].name, "www.old.nsec.test.");
    assert!(reply.answer[1].ttl <= reply.answer[0].ttl, "never longer than the DNAME's");
    Ok(())
}

#[test]
fn section_3_4_an_alias_that_a_server_forged_beside_it_is_not_taken() -> Result<()> {
    let world = world!();
    world.odd.say("renamed", |query| {
        let dname = |said: Said| said.answer("renamed.odd.test.", "DNAME", 60, "to.odd.test.");
        vec![match query.lower().as_str() {
            "renamed.odd.test." => Said::new().soa(60, 60),
            _ => dname(Said::new()).answer(&query.name, "CNAME", 60, "evil.odd.test."),
        }]
    });
    world.odd.say("to", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    world.odd.say("evil", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.66")]);
    let reply = world.ask(&Ask::new("x.renamed.odd.test.", "A"))?;
    assert!(reply.of_type("A").all(|record| record.text() != "192.0.2.66"), "{reply:?}");
    Ok(())
}

#[test]
fn section_5_3_1_the_dname_is_proven_and_the_alias_follows_from_it_unsigned() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.old.nsec.test.", "A").dnssec())?;
    assert!(reply.authentic());
    let types: Vec<u16> = reply.answer.iter().map(|record| record.rtype).collect();
    assert_eq!(types.iter().filter(|rtype| **rtype == 46).count(), 2, "DNAME and A: {types:?}");
    let bogus = world.ask(&Ask::new("www.old.broken.test.", "A").dnssec())?;
    assert_eq!(bogus.rcode(), 2);
    Ok(())
}
