//! SIGHUP under load: nothing is lost, a bad file changes nothing, a good one holds from the next
//! query on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, wait, zones};

use crate::load::Load;
use crate::need_lab;
use crate::site::{Seen, Site, address, has_line, json};

#[test]
fn reloads_lose_no_query_and_a_bad_file_changes_nothing() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(100)])?;
    let file = site.file(&[site.authority_at()]).with_local("192.0.2.10");
    let daemon = site.daemon(&file)?;
    let mut asks: Vec<Ask> =
        (0..20).map(|n| Ask::new(&format!("n{n:06}.bench.test."), "A")).collect();
    asks.push(Ask::new("www.local.test.", "A"));
    for ask in &asks {
        site.warm(&daemon, ask)?;
    }
    let load = Load::start(&site.client, site.at(), &asks, RATE)?;
    let start = Instant::now();
    let program = program_id(&daemon)?;

    // Some of it before, between and after each.
    load.runs_for(RATE as usize / 2)?;

    // Unchanged but for a comment.
    daemon.rewrite(&format!("# the same\n{}", file.text()))?;
    reloaded(&daemon, "unchanged")?;

    load.runs_for(RATE as usize / 2)?;

    // Bad: one key is wrong. The place is told, and nothing of the file is taken up.
    let bad =
        format!("{}\n[log]\nlevle = \"info\"\n", file.clone().with_local("192.0.2.66").text());
    daemon.rewrite(&bad)?;
    let line = 1 + std::fs::read_to_string(daemon.config())?
        .lines()
        .position(|line| line.starts_with("levle"))
        .context("the bad line")?;
    reloaded(&daemon, "refused")?;
    let place = format!("{}:{line}:1", daemon.config().display());
    let log = daemon.log();
    ensure!(has_line(&log, &["ERROR", "refused", &place, "levle"]), "no {place}: {log}");
    assert_eq!(address(&site.ask(&Ask::new("www.local.test.", "A"))?)?, "192.0.2.10");
    let refused = daemon.cli_output(&["reload"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    ensure!(said.contains(&place), "{said}");

    // Bad in a way that only the zone's own reader sees.
    let mut zone = file.clone();
    zone.zones[0].1.push("www 3600 IN A not-an-address".to_owned());
    daemon.rewrite(&zone.text())?;
    reloaded(&daemon, "refused")?;
    ensure!(has_line(&daemon.log(), &["ERROR", "not-an-address"]), "{}", daemon.log());

    // Good, again and again.
    for round in 0..5 {
        daemon.rewrite(&file.clone().with_local(&format!("192.0.2.{}", 20 + round)).text())?;
        reloaded(&daemon, "applied")?;
        load.runs_for(RATE as usize / 2)?;
    }
    let told = load.finish()?;
    let (sent, lost) = told.all();
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    println!("{sent} at {rate:.0}/s, {lost} lost, slowest {:?}", told.slowest());
    ensure!(lost == 0, "of {sent}: {}\n{}", told.lost(start), daemon.log());
    assert_eq!(program_id(&daemon)?, program, "a reload does not change the program");
    Ok(())
}

#[test]
fn a_changed_record_is_served_by_the_next_answer_kernel_and_daemon_alike() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(10)])?;
    let file = site.file(&[site.authority_at()]);
    let daemon = site.daemon(&file.clone().with_local("10.1.0.0"))?;
    let ask = Ask::new("www.local.test.", "A");
    let others = [ask.clone(), Ask::new("n000001.bench.test.", "A")];
    site.warm(&daemon, &ask)?;
    // Others ask for it all the time, so that old answers are about to be published everywhere.
    let load = Load::start(&site.client, site.at(), &others, 2_000)?;
    for round in 1..=ROUNDS {
        let new = format!("10.1.0.{round}");
        daemon.rewrite(&file.clone().with_local(&new).text())?;
        let told = json(&daemon, &["reload"])?;
        ensure!(told["applied"].as_array().is_some_and(|keys| !keys.is_empty()), "{told}");
        for n in 0..20 {
            assert_eq!(address(&site.ask(&ask)?)?, new, "round {round}, UDP, answer {n}");
        }
        let bytes = ask.bytes();
        let tcp = site.client.enter(|| lab::tcp(site.at(), &bytes, Duration::from_secs(3)))??;
        assert_eq!(address(&lab::Reply::parse(&tcp)?)?, new, "round {round}, TCP");
    }
    let start = Instant::now();
    let told = load.finish()?;
    ensure!(told.all().1 == 0, "{}", told.lost(start));
    // It is the kernel's again.
    site.warm(&daemon, &ask)?;
    // A zone that is gone is not served.
    daemon.rewrite(&file.text())?;
    daemon.cli(&["reload"])?;
    assert_eq!(site.ask(&ask)?.rcode(), 2, "the upstream was asked, and refused");
    Ok(())
}

#[test]
fn an_access_list_holds_from_the_end_of_the_reload_on() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let file = site.file(&[site.authority_at()]);
    let daemon = site.daemon(&file)?;
    let ask = Ask::new("www.lab.test.", "A");
    site.warm(&daemon, &ask)?;
    let denied = format!("{}\n", file.text())
        .replace("[acl]\n", &format!("[acl]\ndeny = [\"{}/32\"]\n", site.near.near));
    for _ in 0..5 {
        daemon.rewrite(&denied)?;
        daemon.cli(&["reload"])?;
        for _ in 0..3 {
            assert_eq!(site.ask(&ask)?.rcode(), 5, "who is denied hears REFUSED");
        }
        ensure!(site.client.ask(site.at6(), &ask)?.rcode() == 0, "by its IPv6 address it is not");
        daemon.rewrite(&file.text())?;
        daemon.cli(&["reload"])?;
        assert_eq!(address(&site.ask(&ask)?)?, "192.0.2.1");
    }
    let labels = [("verdict", "pass"), ("reason", "denied")];
    ensure!(daemon.metric("resolverd_kernel_packets_total", &labels)? >= 15.0);
    // It was no policy that is in answers: they are still the kernel's.
    site.warm(&daemon, &ask)
}

#[test]
fn what_waits_for_a_restart_is_said() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let file = site.file(&[site.authority_at()]);
    let daemon = site.daemon(&file)?;
    let mut other = file.clone();
    other.entries = 8_192;
    other.cache = "ttl-max = \"1h\"".to_owned();
    daemon.rewrite(&other.text())?;
    let told = json(&daemon, &["reload"])?;
    assert_eq!(told["applied"], serde_json::json!(["cache.ttl-max"]), "{told}");
    let waits = told["needs_restart"].as_array().context("a list")?;
    ensure!(waits.contains(&"kernel.entries".into()), "{told}");
    Ok(())
}

#[test]
fn addresses_come_and_go_with_the_file() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let file = site.file(&[site.authority_at()]);
    let daemon = site.daemon(&file)?;
    let ask = Ask::new("www.lab.test.", "A");
    site.warm(&daemon, &ask)?;
    let load = Load::start(&site.client, site.at(), std::slice::from_ref(&ask), 1_000)?;
    let start = Instant::now();

    let other = (site.near.far, 5_301).into();
    let mut more = file.clone();
    more.listen.push(other);
    daemon.rewrite(&more.text())?;
    let told = json(&daemon, &["reload"])?;
    ensure!(told["needs_restart"] == serde_json::json!([]), "{told}");
    assert_eq!(address(&site.client.ask(other, &ask)?)?, "192.0.2.1");
    let hits = Seen::of(&daemon)?.hits;
    // By the kernel as well, whose counters the load moves: its own share is told by the daemon's.
    let before = Seen::of(&daemon)?.daemon;
    assert_eq!(address(&site.client.ask(other, &ask)?)?, "192.0.2.1");
    assert_eq!(Seen::of(&daemon)?.daemon, before, "answered by the kernel on the new port");
    ensure!(Seen::of(&daemon)?.hits > hits);

    daemon.rewrite(&file.text())?;
    daemon.cli(&["reload"])?;
    let bytes = ask.bytes();
    let quiet = site.client.enter(|| lab::udp(other, &bytes, Duration::from_millis(500)))?;
    ensure!(quiet.is_err(), "an address that was taken away still answers");
    let told = json(&daemon, &["status"])?;
    let listeners = told["listeners"].as_array().context("a list")?;
    ensure!(!listeners.iter().any(|l| l["address"] == other.to_string()), "{told}");
    let told = load.finish()?;
    ensure!(told.all().1 == 0, "{}", told.lost(start));

    // One that somebody else holds refuses the whole file.
    let holder = site.server.enter(|| std::net::UdpSocket::bind(other))??;
    daemon.rewrite(&more.text())?;
    let refused = daemon.cli_output(&["reload"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    ensure!(said.contains(&format!("pid {}", std::process::id())), "{said}");
    drop(holder);
    assert_eq!(address(&site.ask(&ask)?)?, "192.0.2.1");
    Ok(())
}

#[test]
fn an_address_that_comes_later_is_served_when_it_is_there() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let later = "10.53.1.77:53".parse()?;
    let mut file = site.file(&[site.authority_at()]);
    file.listen.push(later);
    let daemon = site.daemon(&file)?;
    let state = || -> Result<String> {
        let told = json(&daemon, &["status"])?;
        let list = told["listeners"].as_array().context("a list")?;
        let ours = list.iter().find(|l| l["address"] == "10.53.1.77:53").context("ours")?;
        Ok(ours["state"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(state()?, "waiting");
    site.server.address("s0", "10.53.1.77/24")?;
    let mac = site.server.mac("s0")?;
    site.client.neighbour("c0", "10.53.1.77", &mac)?;
    let ask = Ask::new("www.lab.test.", "A");
    assert_eq!(address(&site.client.ask(later, &ask)?)?, "192.0.2.1");
    wait::until("the kernel to serve the new address", wait::READY, || {
        let before = Seen::of(&daemon);
        let answered = site.client.ask(later, &ask);
        let (Ok(before), Ok(after), Ok(_)) = (before, Seen::of(&daemon), answered) else {
            return false;
        };
        after.hits > before.hits
    })
    .with_context(|| daemon.log())?;
    assert_eq!(state()?, "served");
    Ok(())
}

/// SIGHUP, and waits for how it ended.
fn reloaded(daemon: &Daemon, result: &str) -> Result<()> {
    let count = || daemon.metric("resolverd_config_reloads_total", &[("result", result)]);
    let before = count()?;
    daemon.hup()?;
    let what = format!("the reload to be {result}");
    wait::until(&what, wait::READY, || count().is_ok_and(|now| now > before))
        .with_context(|| daemon.log())
}

fn program_id(daemon: &Daemon) -> Result<u64> {
    let told = json(daemon, &["kernel", "status"])?;
    told["interfaces"][0]["program_id"].as_u64().with_context(|| told.to_string())
}

/// Queries a second.
const RATE: u32 = 5_000;
/// Changes of one record.
const ROUNDS: u32 = 15;
