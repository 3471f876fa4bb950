//! RFC 9156: asking each server no more than it needs to know.

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_2_3_a_server_sees_one_label_more_than_its_zone_until_the_last() -> Result<()> {
    let world = world!();
    world.odd.say("minimal", |query| {
        vec![if query.lower() == "a.b.minimal.odd.test." {
            Said::new().answer(&query.name, "A", 60, "192.0.2.1")
        } else {
            Said::new().soa(60, 60)
        }]
    });
    assert_eq!(world.ask(&Ask::new("a.b.minimal.odd.test.", "A"))?.answer.len(), 1);
    let asked: Vec<String> =
        world.odd.asked("minimal").iter().map(crate::scripted::Query::lower).collect();
    assert_eq!(
        asked,
        ["minimal.odd.test.", "b.minimal.odd.test.", "a.b.minimal.odd.test."],
        "one label more each time"
    );
    Ok(())
}

#[test]
fn section_2_1_parts_of_a_name_are_asked_for_by_a_type_that_says_nothing() -> Result<()> {
    let world = world!();
    world.odd.say("quiet-type", |query| {
        vec![if query.lower().starts_with("x.") {
            Said::new().answer(&query.name, "TXT", 60, "here")
        } else {
            Said::new().soa(60, 60)
        }]
    });
    assert_eq!(world.ask(&Ask::new("x.quiet-type.odd.test.", "TXT"))?.answer.len(), 1);
    let asked = world.odd.asked("quiet-type");
    assert_eq!(asked.iter().map(|query| query.qtype).collect::<Vec<_>>(), [1, 16], "A, then TXT");
    Ok(())
}

#[test]
fn section_2_3_the_number_of_parts_is_bounded() -> Result<()> {
    let world = world!();
    world.odd.say("deep", |query| {
        vec![if query.lower().starts_with("end.") {
            Said::new().answer(&query.name, "A", 60, "192.0.2.1")
        } else {
            Said::new().soa(60, 60)
        }]
    });
    let name = format!("end.{}deep.odd.test.", "x.".repeat(60));
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    assert!(world.odd.asked("deep").len() <= 10, "MAX_MINIMISE_COUNT is 10");
    Ok(())
}

#[test]
fn section_2_3_a_server_that_trips_over_a_part_is_asked_for_the_whole() -> Result<()> {
    let world = world!();
    world.odd.say("tripping", |query| {
        vec![if query.lower().starts_with("whole.part.") {
            Said::new().answer(&query.name, "A", 60, "192.0.2.1")
        } else {
            Said::new().rcode(4)
        }]
    });
    assert_eq!(world.ask(&Ask::new("whole.part.tripping.odd.test.", "A"))?.answer.len(), 1);
    Ok(())
}

#[test]
fn section_3_it_can_be_switched_off() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("resolve.qname-minimisation = false", "")?;
    world
        .odd
        .say("whole-names", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    let name = "a.b.c.whole-names.odd.test.";
    assert_eq!(world.ask_of(&daemon, &Ask::new(name, "A"))?.answer.len(), 1);
    let asked = world.odd.asked("whole-names");
    assert!(asked.iter().all(|query| query.lower() == name));
    Ok(())
}
