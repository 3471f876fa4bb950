//! RFC 2308: negative answers, how they are known and how long they are believed.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_2_1_a_name_error_comes_with_the_soa_of_its_zone() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("nothing.plain.test.", "A"))?;
    assert_eq!((reply.rcode(), reply.answer.len(), reply.authority.len()), (3, 0, 1));
    let soa = &reply.authority[0];
    assert_eq!((soa.rtype, soa.name.as_str()), (6, "plain.test."));
    Ok(())
}

#[test]
fn section_2_1_the_rcode_of_a_chain_is_that_of_its_end() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("dangling.plain.test.", "A"))?;
    assert_eq!((reply.rcode(), reply.answer.len(), reply.answer[0].rtype), (3, 1, 5));
    assert!(reply.authority.iter().any(|record| record.rtype == 6));
    Ok(())
}

#[test]
fn section_2_2_no_data_is_no_error_with_an_soa_and_nothing_else() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("second.plain.test.", "AAAA"))?;
    assert_eq!((reply.rcode(), reply.answer.len()), (0, 0));
    let types: Vec<u16> = reply.authority.iter().map(|record| record.rtype).collect();
    assert_eq!(types, [6]);
    Ok(())
}

#[test]
fn section_3_the_soa_lives_the_smaller_of_its_ttl_and_its_minimum() -> Result<()> {
    let world = world!();
    for (label, ttl, minimum) in [("soa-ttl", 40, 500), ("soa-minimum", 500, 40)] {
        let name = world.odd.say(label, move |_| vec![Said::new().rcode(3).soa(ttl, minimum)]);
        let reply = world.ask(&Ask::new(&name, "A"))?;
        assert_eq!(reply.rcode(), 3);
        let told = reply.authority[0].ttl;
        assert!((38..=40).contains(&told), "{label}: {told}");
    }
    Ok(())
}

#[test]
fn section_5_a_name_error_is_kept_for_every_type() -> Result<()> {
    let world = world!();
    let name = world.odd.say("gone", |_| vec![Said::new().rcode(3).soa(60, 60)]);
    for qtype in ["A", "AAAA", "MX", "TXT"] {
        assert_eq!(world.ask(&Ask::new(&name, qtype))?.rcode(), 3);
    }
    assert_eq!(world.odd.asked("gone").len(), 1);
    Ok(())
}

#[test]
fn section_5_no_data_is_kept_for_its_type_alone() -> Result<()> {
    let world = world!();
    let name = world.odd.say("one-type", |query| match query.qtype {
        16 => vec![Said::new().answer(&query.name, "TXT", 60, "here")],
        _ => vec![Said::new().soa(60, 60)],
    });
    for _ in 0..2 {
        assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 0);
    }
    assert_eq!(world.ask(&Ask::new(&name, "TXT"))?.answer.len(), 1);
    let asked = world.odd.asked("one-type");
    assert_eq!(asked.iter().filter(|query| query.qtype == 1).count(), 1);
    Ok(())
}

#[test]
fn section_5_what_is_kept_counts_down_and_ends() -> Result<()> {
    let world = world!();
    let name = world.odd.say("brief-no", |_| vec![Said::new().rcode(3).soa(2, 2)]);
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.authority[0].ttl, 2);
    thread::sleep(Duration::from_millis(1_100));
    assert!(world.ask(&Ask::new(&name, "A"))?.authority[0].ttl <= 1);
    thread::sleep(Duration::from_millis(1_200));
    world.ask(&Ask::new(&name, "A"))?;
    assert_eq!(world.odd.asked("brief-no").len(), 2);
    Ok(())
}

#[test]
fn section_5_nothing_is_kept_without_an_soa() -> Result<()> {
    let world = world!();
    let name = world.odd.say("no-soa", |_| vec![Said::new().rcode(3)]);
    for _ in 0..2 {
        assert_eq!(world.ask(&Ask::new(&name, "A"))?.rcode(), 3);
    }
    assert!(world.odd.asked("no-soa").len() >= 2, "it was believed without a time to live");
    Ok(())
}

#[test]
fn section_6_a_kept_negative_answer_still_has_its_soa() -> Result<()> {
    let world = world!();
    for _ in 0..2 {
        let reply = world.ask(&Ask::new("nothing.plain.test.", "TXT"))?;
        assert_eq!(reply.authority.iter().filter(|record| record.rtype == 6).count(), 1);
    }
    Ok(())
}

#[test]
fn section_7_2_a_dead_server_is_not_remembered_for_more_than_five_minutes() -> Result<()> {
    let world = world!();
    let said = world.daemon_of("cache.failure-ttl = \"6min\"", "");
    assert!(said.is_err(), "six minutes were taken");
    Ok(())
}
