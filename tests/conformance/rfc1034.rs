//! RFC 1034: concepts of domain names, as far as they bind a resolver.

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_3_1_letters_of_either_case_are_the_same() -> Result<()> {
    let world = world!();
    for name in ["mixed-CASE.plain.test.", "MIXED-case.PLAIN.Test.", "MiXeD-case.plain.test."] {
        let reply = world.ask(&Ask::new(name, "A"))?;
        assert_eq!(reply.answer.len(), 1, "{name}");
        assert_eq!(reply.answer[0].text(), "192.0.2.4");
        assert_eq!(reply.question.map(|(name, _)| name).as_deref(), Some(name));
    }
    Ok(())
}

#[test]
fn section_3_6_2_an_alias_is_followed_but_not_when_it_is_asked_for() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("chain.plain.test.", "A"))?;
    let types: Vec<u16> = reply.answer.iter().map(|record| record.rtype).collect();
    assert_eq!(types, [5, 5, 1], "both aliases, in their order, then the address");
    assert_eq!(reply.answer[0].name, "chain.plain.test.");
    assert_eq!(reply.answer[2].name, "www.plain.test.");
    let reply = world.ask(&Ask::new("chain.plain.test.", "CNAME"))?;
    let types: Vec<u16> = reply.answer.iter().map(|record| record.rtype).collect();
    assert_eq!(types, [5], "the alias alone");
    Ok(())
}

#[test]
fn section_3_6_2_an_alias_into_another_zone_is_followed_there() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("across.nsec.test.", "A"))?;
    assert_eq!(reply.answer.len(), 2);
    assert_eq!(reply.answer[1].text(), "192.0.2.1");
    Ok(())
}

#[test]
fn section_3_6_2_a_loop_of_aliases_is_a_failure_and_ends() -> Result<()> {
    let world = world!();
    let one = "loop-one.odd.test.";
    let two = world
        .odd
        .say("loop-two", move |query| vec![Said::new().answer(&query.name, "CNAME", 60, one)]);
    world
        .odd
        .say("loop-one", move |query| vec![Said::new().answer(&query.name, "CNAME", 60, &two)]);
    let reply = world.ask(&Ask::new(one, "A"))?;
    assert_eq!(reply.rcode(), 2);
    let asked = world.odd.asked("loop-one").len() + world.odd.asked("loop-two").len();
    assert!(asked <= 8, "asked {asked} times");
    Ok(())
}

#[test]
fn section_4_3_1_recursion_is_available_and_the_wish_for_it_comes_back() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.plain.test.", "A"))?;
    assert!(reply.recursion_available());
    assert_eq!(reply.bytes[2] & 1, 1, "RD is copied");
    Ok(())
}

#[test]
fn section_4_3_1_without_the_wish_for_recursion_nobody_is_asked() -> Result<()> {
    let world = world!();
    let name = world
        .odd
        .say("no-recursion", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    let ask = Ask { recursion_desired: false, ..Ask::new(&name, "A") };
    let reply = world.ask(&ask)?;
    assert!(reply.answer.is_empty() && reply.bytes[2] & 1 == 0);
    assert!(world.odd.asked("no-recursion").is_empty(), "a local query stays local");
    Ok(())
}

#[test]
fn section_5_3_3_servers_are_asked_without_the_wish_for_recursion() -> Result<()> {
    let world = world!();
    let name = world
        .odd
        .say("iterative", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    let asked = world.odd.asked("iterative");
    assert!(!asked.is_empty() && asked.iter().all(|query| !query.recursion_desired()));
    Ok(())
}

#[test]
fn section_5_3_3_an_answer_is_kept_and_its_server_not_asked_again() -> Result<()> {
    let world = world!();
    let name =
        world.odd.say("kept", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    for _ in 0..3 {
        assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    }
    let asked = world.odd.asked("kept").iter().filter(|query| query.qtype == 1).count();
    assert_eq!(asked, 1);
    Ok(())
}

#[test]
fn section_6_2_7_an_answer_from_a_cache_is_not_authoritative() -> Result<()> {
    let world = world!();
    for _ in 0..2 {
        assert!(!world.ask(&Ask::new("www.plain.test.", "A"))?.authoritative());
    }
    Ok(())
}
