//! `flush`: from the moment it returns nothing older is served, and what is not covered is not
//! asked for again.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{Ask, Authority, Daemon, zones};

use crate::load::Load;
use crate::need_lab;
use crate::site::{By, Site, address, has_line, json};
use crate::tap::{self, Tap};

const NAMES: [&str; 5] = [
    "www.lab.test.",
    "mail.lab.test.",
    "star.wild.lab.test.",
    "any.wild.lab.test.",
    "deep.ent.lab.test.",
];

/// A daemon whose kernel has [`NAMES`], each asked for once upstream.
fn warm() -> Result<(Site, Authority, Tap, Daemon)> {
    let site = Site::new()?;
    let authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    for name in NAMES {
        site.warm(&daemon, &Ask::new(name, "A"))?;
        ensure!(tap.asked(name) == 1, "{name}: asked {} times", tap.asked(name));
    }
    Ok((site, authority, tap, daemon))
}

/// Covered names are asked for once more, the others not at all; all become the kernel's again.
fn judged(site: &Site, tap: &Tap, daemon: &Daemon, covered: impl Fn(&str) -> bool) -> Result<()> {
    for name in NAMES {
        let before = tap.asked(name);
        let (reply, by) = site.ask_by(daemon, &Ask::new(name, "A"))?;
        assert_eq!((reply.rcode(), by), (0, By::Daemon), "{name}: the next query is a miss");
        let asked = tap.asked(name) - before;
        assert_eq!(asked, usize::from(covered(name)), "{name}: questions upstream");
        let (_, by) = site.ask_by(daemon, &Ask::new(name, "A"))?;
        assert_eq!(by, By::Kernel, "{name}: promoted again");
    }
    Ok(())
}

#[test]
fn a_flushed_name_is_asked_for_again_and_the_others_are_not() -> Result<()> {
    need_lab!();
    let (site, _authority, tap, daemon) = warm()?;
    let told = json(&daemon, &["flush", "www.lab.test"])?;
    assert_eq!(told["overflow"], false, "{told}");
    judged(&site, &tap, &daemon, |name| name == "www.lab.test.")
}

#[test]
fn a_flushed_zone_is_a_name_and_all_below_it() -> Result<()> {
    need_lab!();
    let (site, _authority, tap, daemon) = warm()?;
    json(&daemon, &["flush", "--zone", "wild.lab.test"])?;
    judged(&site, &tap, &daemon, |name| name.contains("wild"))
}

#[test]
fn flushing_all_leaves_nothing() -> Result<()> {
    need_lab!();
    let (site, _authority, tap, daemon) = warm()?;
    json(&daemon, &["flush", "--all"])?;
    judged(&site, &tap, &daemon, |_| true)
}

#[test]
fn more_flushes_than_are_remembered_flush_all_and_say_so() -> Result<()> {
    need_lab!();
    let (site, _authority, tap, daemon) = warm()?;
    for n in 0..FLUSHES_REMEMBERED {
        let told = json(&daemon, &["flush", &format!("n{n}.elsewhere.test")])?;
        assert_eq!(told["overflow"], false, "flush {n}: {told}");
    }
    judged(&site, &tap, &daemon, |_| false)?;
    let told = json(&daemon, &["flush", "one.more.test"])?;
    assert_eq!(told["overflow"], true, "{told}");
    judged(&site, &tap, &daemon, |_| true)?;
    let log = daemon.log();
    ensure!(has_line(&log, &["flush"]), "no word of it in the log: {log}");
    let labels = [("scope", "overflow")];
    let overflows = daemon.metric("resolverd_cache_flushes_total", &labels)?;
    assert_eq!(overflows.round() as u64, 1);
    Ok(())
}

#[test]
fn nothing_older_than_a_flush_is_ever_served_however_busy_the_name() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let tap = Tap::generations(&site.upstream, (site.far.far, 53).into())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    let ask = Ask::new("busy.test.", "A");
    site.warm(&daemon, &ask)?;
    let others = [ask.clone(), Ask::new("quiet.test.", "A")];
    let loads = [2_000, 500].map(|rate| Load::start(&site.client, site.at(), &others, rate));
    let scopes: [&[&str]; 3] =
        [&["flush", "busy.test"], &["flush", "--zone", "test"], &["flush", "--all"]];
    for round in 0..ROUNDS {
        let new = tap.next_generation();
        let scope = scopes[round % scopes.len()];
        daemon.cli(scope)?;
        for n in 0..10 {
            let reply = site.ask(&ask)?;
            assert_eq!(address(&reply)?, new, "round {round}, {scope:?}, answer {n}");
        }
    }
    for load in loads {
        let (sent, lost) = load?.finish()?.all();
        ensure!(lost == 0, "{lost} of {sent} lost");
    }
    let told = json(&daemon, &["explain", "busy.test"])?;
    ensure!(told["kernel"][0]["fresh"] == true, "{told}");
    Ok(())
}

#[test]
fn a_flush_is_for_what_is_under_way_as_well() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let tap = Tap::generations(&site.upstream, (site.far.far, 53).into())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    tap.delay(Duration::from_millis(600));
    let ask = Ask::new("slow.test.", "A");
    std::thread::scope(|scope| -> Result<()> {
        let first = scope.spawn(|| address(&site.ask(&ask)?));
        lab::wait::until("the question upstream", lab::wait::READY, || {
            tap.asked("slow.test.") >= 1
        })?;
        // The answer that is on its way was made before the flush.
        let new = tap.next_generation();
        daemon.cli(&["flush", "slow.test"])?;
        tap.delay(Duration::ZERO);
        let now = address(&site.ask(&ask)?)?;
        let old = first.join().map_err(|_| anyhow!("panicked"))??;
        ensure!(now == new, "{now} after the flush, want {new}; before it {old}");
        assert_eq!(address(&site.ask(&ask)?)?, new, "and it was not kept either");
        Ok(())
    })
    .with_context(|| daemon.log())
}

#[test]
fn a_flush_under_load_costs_a_few_questions_and_not_one_for_each_client() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let tap = Tap::generations(&site.upstream, (site.far.far, 53).into())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    tap.delay(Duration::from_millis(100));
    let ask = Ask::new("busy.test.", "A");
    site.warm(&daemon, &ask)?;
    let load = Load::start(&site.client, site.at(), std::slice::from_ref(&ask), 2_000)?;
    for round in 0..10 {
        let new = tap.next_generation();
        let asked = tap.asked("busy.test.");
        daemon.cli(&["flush", "busy.test"])?;
        for _ in 0..5 {
            assert_eq!(address(&site.ask(&ask)?)?, new, "round {round}");
        }
        site.warm(&daemon, &ask)?;
        let questions = tap.asked("busy.test.") - asked;
        // Some 200 clients wait; a busy machine may ask again before the answer is there.
        ensure!((1..=8).contains(&questions), "round {round}: {questions} questions upstream");
    }
    let (sent, lost) = load.finish()?.all();
    ensure!(lost == 0, "{lost} of {sent} lost");
    Ok(())
}

/// One by one.
const FLUSHES_REMEMBERED: usize = 64;
const ROUNDS: usize = 30;
