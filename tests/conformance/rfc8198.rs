//! RFC 8198: what validated denials say of names nobody has asked for.

use anyhow::Result;
use lab::{Ask, Daemon};

use crate::world::world;

fn synthesised(daemon: &Daemon) -> Result<f64> {
    daemon.metric("resolverd_dnssec_synthesised_total", &[])
}

fn upstream_queries(daemon: &Daemon) -> Result<f64> {
    let name = "resolverd_upstream_duration_seconds_count";
    daemon.metric(name, &[("upstream", "recursion")])
}

#[test]
fn section_5_1_a_gap_of_nsec_answers_for_all_the_names_in_it() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    let first = world.ask_of(&daemon, &Ask::new("aa0.nsec.test.", "A").dnssec())?;
    assert!(first.rcode() == 3 && first.authentic());
    let asked = upstream_queries(&daemon)?;
    for n in 1..50 {
        let reply = world.ask_of(&daemon, &Ask::new(&format!("aa{n}.nsec.test."), "A").dnssec())?;
        assert!(reply.rcode() == 3 && reply.authentic(), "aa{n}");
        assert!(reply.authority.iter().any(|record| record.rtype == 47), "with its proof");
    }
    assert!((upstream_queries(&daemon)? - asked).abs() < 0.5, "no server was asked");
    assert!(synthesised(&daemon)? >= 49.0);
    Ok(())
}

#[test]
fn section_5_1_a_name_that_is_there_is_not_denied() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    for n in 0..20 {
        world.ask_of(&daemon, &Ask::new(&format!("n{n}.nsec.test."), "A").dnssec())?;
    }
    for name in ["www", "second", "mixed", "short", "x.wild", "deep.ent", "ns"] {
        let reply =
            world.ask_of(&daemon, &Ask::new(&format!("{name}.nsec.test."), "A").dnssec())?;
        assert_eq!((reply.rcode(), reply.of_type("A").count()), (0, 1), "{name}");
    }
    Ok(())
}

#[test]
fn section_5_2_hashed_gaps_do_the_same_but_not_under_opt_out() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    // Few names, so a few denials have all the gaps.
    for n in 0..200 {
        let name = format!("n{n}.nsec3.test.");
        assert_eq!(world.ask_of(&daemon, &Ask::new(&name, "A").dnssec())?.rcode(), 3);
    }
    assert!(synthesised(&daemon)? >= 100.0, "{}", synthesised(&daemon)?);
    let before = synthesised(&daemon)?;
    for n in 0..20 {
        let name = format!("n{n}.optout.test.");
        assert_eq!(world.ask_of(&daemon, &Ask::new(&name, "A").dnssec())?.rcode(), 3);
    }
    assert!((synthesised(&daemon)? - before).abs() < 0.5, "opt-out proves no absence");
    Ok(())
}

#[test]
fn section_5_4_a_made_up_denial_lives_no_longer_than_its_proof() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    let first = world.ask_of(&daemon, &Ask::new("bb0.nsec.test.", "A").dnssec())?;
    let second = world.ask_of(&daemon, &Ask::new("bb1.nsec.test.", "A").dnssec())?;
    let ttl = |reply: &lab::Reply| reply.authority.iter().map(|record| record.ttl).min();
    assert!(ttl(&second) <= ttl(&first) && ttl(&first) <= Some(60));
    Ok(())
}

#[test]
fn section_6_an_unsigned_zone_is_not_guessed_at() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    for n in 0..5 {
        let name = format!("n{n}.plain.test.");
        assert_eq!(world.ask_of(&daemon, &Ask::new(&name, "A").dnssec())?.rcode(), 3);
    }
    assert!(synthesised(&daemon)? < 0.5);
    Ok(())
}
