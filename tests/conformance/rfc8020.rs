//! RFC 8020: there is nothing below what does not exist.

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_2_nothing_is_asked_for_below_a_name_that_does_not_exist() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    let asked = || {
        let name = "resolverd_upstream_duration_seconds_count";
        daemon.metric(name, &[("upstream", "recursion")])
    };
    let ask = |name: &str| world.ask_of(&daemon, &Ask::new(name, "A"));
    assert_eq!(ask("cut.nsec3.test.")?.rcode(), 3);
    let before = asked()?;
    for below in ["a", "b.a", "c.b.a"] {
        assert_eq!(ask(&format!("{below}.cut.nsec3.test."))?.rcode(), 3, "{below}");
    }
    assert!((asked()? - before).abs() < 0.5, "servers were asked");
    Ok(())
}

#[test]
fn section_5_an_unsigned_denial_is_not_held_against_what_is_below() -> Result<()> {
    // Servers that deny names which only have names below them are met, and only a proof tells
    // that one is not of this kind.
    let world = world!();
    world.odd.say("denied-ent", |query| {
        vec![match query.lower().as_str() {
            "there.denied-ent.odd.test." => Said::new().answer(&query.name, "A", 60, "192.0.2.1"),
            _ => Said::new().rcode(3).soa(60, 60),
        }]
    });
    assert_eq!(world.ask(&Ask::new("denied-ent.odd.test.", "A"))?.rcode(), 3);
    assert_eq!(world.ask(&Ask::new("there.denied-ent.odd.test.", "A"))?.answer.len(), 1);
    Ok(())
}

#[test]
fn section_2_what_is_beside_it_is_another_matter() -> Result<()> {
    let world = world!();
    world.odd.say("cut-one", |_| vec![Said::new().rcode(3).soa(60, 60)]);
    let beside = world
        .odd
        .say("xcut-one", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    assert_eq!(world.ask(&Ask::new("cut-one.odd.test.", "A"))?.rcode(), 3);
    assert_eq!(world.ask(&Ask::new(&beside, "A"))?.answer.len(), 1);
    Ok(())
}

#[test]
fn section_2_a_name_without_records_may_have_names_below_it() -> Result<()> {
    let world = world!();
    let ent = world.ask(&Ask::new("ent.plain.test.", "A"))?;
    assert_eq!((ent.rcode(), ent.answer.len()), (0, 0));
    assert_eq!(world.ask(&Ask::new("deep.ent.plain.test.", "A"))?.answer.len(), 1);
    Ok(())
}

#[test]
fn section_3_1_an_alias_is_no_reason_to_deny_what_is_below_its_owner() -> Result<()> {
    let world = world!();
    // NXDOMAIN is of the alias's target, not of the alias.
    let target = world.odd.say("no-target", |_| vec![Said::new().rcode(3).soa(60, 60)]);
    world.odd.say("has-alias", move |query| {
        vec![match query.lower().as_str() {
            "has-alias.odd.test." => Said::new().answer(&query.name, "CNAME", 60, &target),
            _ => Said::new().answer(&query.name, "A", 60, "192.0.2.1"),
        }]
    });
    assert_eq!(world.ask(&Ask::new("has-alias.odd.test.", "A"))?.rcode(), 3);
    let below = world.ask(&Ask::new("below.has-alias.odd.test.", "A"))?;
    assert_eq!((below.rcode(), below.answer.len()), (0, 1));
    Ok(())
}
