//! RFC 8767: old answers where no new ones are to be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::{World, world};

/// A name with a TTL of a second, whose server can be silenced.
fn name(world: &World, label: &str) -> (String, Arc<AtomicBool>) {
    let dead = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&dead);
    let name = world.odd.say(label, move |query| {
        if silent.load(Ordering::Relaxed) {
            return Vec::new();
        }
        vec![Said::new().answer(&query.name, "A", 1, "192.0.2.1")]
    });
    (name, dead)
}

#[test]
fn section_4_a_stale_answer_has_a_ttl_above_zero_and_is_marked() -> Result<()> {
    let world = world!();
    let (name, dead) = name(&world, "stale");
    let ask = Ask::new(&name, "A").edns(1_232);
    assert_eq!(world.ask(&ask)?.answer.len(), 1);
    dead.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(1_200));
    let reply = world.ask(&ask)?;
    assert_eq!((reply.answer.len(), reply.answer[0].ttl), (1, 30), "30 s are recommended");
    assert_eq!(reply.ede(), [3], "Stale Answer");
    Ok(())
}

#[test]
fn section_5_a_new_answer_goes_before_an_old_one() -> Result<()> {
    let world = world!();
    let mut count = 0_u8;
    let name = world.odd.say("fresh", move |query| {
        count += u8::from(query.qtype == 1);
        vec![Said::new().answer(&query.name, "A", 1, &format!("192.0.2.{count}"))]
    });
    let ask = Ask::new(&name, "A").edns(1_232);
    let first = world.ask(&ask)?.answer[0].text();
    thread::sleep(Duration::from_millis(1_200));
    let reply = world.ask(&ask)?;
    assert!(reply.answer[0].text() != first && reply.ede().is_empty());
    Ok(())
}

#[test]
fn section_5_a_denial_by_the_authority_ends_the_old_answer() -> Result<()> {
    let world = world!();
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let name = world.odd.say("removed", move |query| {
        vec![if is_gone.load(Ordering::Relaxed) {
            Said::new().rcode(3).soa(60, 60)
        } else {
            Said::new().answer(&query.name, "A", 1, "192.0.2.1")
        }]
    });
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    gone.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(1_200));
    let reply = world.ask(&Ask::new(&name, "A").edns(1_232))?;
    assert_eq!((reply.rcode(), reply.answer.len()), (3, 0));
    Ok(())
}

#[test]
fn section_5_what_is_older_than_allowed_is_not_served() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("cache.serve-stale = \"off\"", "")?;
    let (name, dead) = name(&world, "too-old");
    let ask = Ask::new(&name, "A").edns(1_232);
    assert_eq!(world.ask_of(&daemon, &ask)?.answer.len(), 1);
    dead.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(1_200));
    let reply = world.ask_of(&daemon, &ask)?;
    assert_eq!((reply.rcode(), reply.answer.len()), (2, 0));
    Ok(())
}
