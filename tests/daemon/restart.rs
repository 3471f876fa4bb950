//! What clients notice when the daemon is killed, stopped, or comes back another one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Authority, Daemon, wait, zones};

use crate::load::Load;
use crate::need_lab;
use crate::site::{By, File, Seen, Site, address, has_line, json, logged};
use crate::tap::{self, Tap};

/// A daemon whose kernel has [`NAMES`] names, and who was asked for them.
struct Warm {
    site: Site,
    _authority: Authority,
    tap: Tap,
    daemon: Daemon,
    file: File,
    asks: Vec<Ask>,
}

impl Warm {
    fn new(lease_secs: u32) -> Result<Self> {
        let site = Site::new()?;
        let authority = site.authority(&[zones::bench(100)])?;
        let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
        let mut file = site.file(&[tap.at()]).with_local("192.0.2.10");
        file.lease_secs = lease_secs;
        let daemon = site.daemon(&file)?;
        let asks: Vec<Ask> =
            (0..NAMES).map(|n| Ask::new(&format!("n{n:06}.bench.test."), "A")).collect();
        for ask in &asks {
            site.warm(&daemon, ask)?;
        }
        Ok(Self { site, _authority: authority, tap, daemon, file, asks })
    }

    fn load(&self, rate: u32) -> Result<Load> {
        Load::start(&self.site.client, self.site.at(), &self.asks, rate)
    }

    /// Every name is the kernel's, at the first query, and no upstream hears of it.
    fn nothing_was_forgotten(&self) -> Result<()> {
        let asked = self.tap.asked_below("bench.test.");
        for ask in &self.asks {
            let (_, by) = self.site.ask_by(&self.daemon, ask)?;
            ensure!(by == By::Kernel, "{}: {by:?}\n{}", ask.name, self.daemon.log());
        }
        ensure!(self.tap.asked_below("bench.test.") == asked, "upstreams were asked again");
        Ok(())
    }
}

#[test]
fn after_kill_9_hits_go_on_for_the_lease_and_then_stop_and_a_new_daemon_takes_over() -> Result<()> {
    need_lab!();
    let mut warm = Warm::new(LEASE)?;
    let load = warm.load(2_000)?;
    // Some of it with the daemon alive.
    load.runs_for(1_000)?;
    let killed = Instant::now();
    warm.daemon.kill9();
    stops_answering(&warm.site, &warm.asks[0])?;
    let told = load.finish()?;
    // The lease was renewed at most a second before, give or take a busy machine.
    let sure = Duration::from_secs(u64::from(LEASE)) - Duration::from_millis(1_300);
    let (sent, lost) = told.between(killed - Duration::from_millis(400), killed + sure);
    ensure!(lost == 0, "{lost} of {sent} inside the lease: {}", told.lost(killed));
    let last = told.last_answered().context("some were answered")?;
    let over = Duration::from_secs(u64::from(LEASE)) + Duration::from_millis(100);
    let past = last.saturating_duration_since(killed);
    ensure!(past <= over, "still answered {past:?} after the end of the daemon");
    println!("{sent} inside the lease, 0 lost; answered for {past:?}");

    let before = fs::read_dir(warm.daemon.dir().join("bpf"))?.count();
    ensure!(before > 0, "no pins were left");
    warm.daemon.restart()?;
    warm.nothing_was_forgotten()?;
    logged(&warm.daemon, &["taken over"])?;
    warm.site.attached(&warm.daemon)?;
    warm.nothing_was_forgotten()?;
    let told = json(&warm.daemon, &["kernel", "status"])?;
    ensure!(told["interfaces"][0]["attached"] == true, "{told}");
    // And it promotes what is new.
    warm.site.warm(&warm.daemon, &Ask::new("n000099.bench.test.", "A"))
}

/// Asks until there is no answer.
fn stops_answering(site: &Site, ask: &Ask) -> Result<()> {
    let bytes = ask.bytes();
    wait::until("the kernel to stop", Duration::from_secs(u64::from(LEASE) + 10), || {
        let asked = site.client.enter(|| lab::udp(site.at(), &bytes, Duration::from_millis(200)));
        asked.is_ok_and(|answer| answer.is_err())
    })
}

#[test]
fn a_restart_by_sigterm_has_no_gap() -> Result<()> {
    need_lab!();
    let mut warm = Warm::new(30)?;
    let load = warm.load(2_000)?;
    load.runs_for(500)?;
    let start = Instant::now();
    let status = warm.daemon.terminate()?;
    ensure!(status.success(), "{status}");
    let away = Instant::now();
    load.runs_for(500)?;
    warm.daemon.restart()?;
    let back = Instant::now();
    warm.site.attached(&warm.daemon)?;
    load.runs_for(500)?;
    let told = load.finish()?;
    let (sent, lost) = told.all();
    ensure!(lost == 0, "of {sent}: {}\n{}", told.lost(start), warm.daemon.log());
    let (meanwhile, _) = told.between(away, back);
    ensure!(meanwhile > 100, "only {meanwhile} while no daemon was there");
    println!("{sent} answered, {meanwhile} of them with no daemon; slowest {:?}", told.slowest());
    logged(&warm.daemon, &["taken over"])
}

#[test]
fn pins_of_another_contract_are_removed_and_it_is_said_aloud() -> Result<()> {
    need_lab!();
    let mut warm = Warm::new(30)?;
    let pins = warm.daemon.dir().join("bpf");
    for abi in ["0", "999"] {
        warm.daemon.kill9();
        let renamed = rename_pins(&pins, abi)?;
        ensure!(renamed > 5, "{renamed} pins");
        warm.daemon.restart()?;
        warm.site.attached(&warm.daemon)?;
        let left: Vec<String> = pin_names(&pins)?;
        let foreign = format!("resolverd-{abi}-");
        ensure!(!left.iter().any(|name| name.starts_with(&foreign)), "{left:?}");
        let log = warm.daemon.log();
        ensure!(has_line(&log, &["WARN", "pins of another contract", &foreign]), "{log}");
        // It begins with nothing, and works.
        let (_, by) = warm.site.ask_by(&warm.daemon, &warm.asks[0])?;
        ensure!(by == By::Daemon, "an entry of another contract was served");
        warm.site.warm(&warm.daemon, &warm.asks[0])?;
    }
    Ok(())
}

/// Gives the pins the number of another contract: that is how an older or newer daemon left them.
fn rename_pins(pins: &Path, abi: &str) -> Result<usize> {
    let mut renamed = 0;
    for name in pin_names(pins)? {
        let rest = name.strip_prefix("resolverd-").and_then(|name| name.split_once('-'));
        let (_, rest) = rest.with_context(|| format!("a pin named {name}"))?;
        fs::rename(pins.join(&name), pins.join(format!("resolverd-{abi}-{rest}")))?;
        renamed += 1;
    }
    Ok(renamed)
}

fn pin_names(pins: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(pins)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("resolverd-")).collect())
}

#[test]
fn maps_of_another_size_are_made_anew_and_it_is_said() -> Result<()> {
    need_lab!();
    let mut warm = Warm::new(30)?;
    let mut file = warm.file.clone();
    file.entries = 8_192;
    warm.daemon.terminate()?;
    warm.daemon.rewrite(&file.text())?;
    warm.daemon.restart()?;
    warm.site.attached(&warm.daemon)?;
    let log = warm.daemon.log();
    ensure!(has_line(&log, &["WARN", "size changed", "8192"]), "{log}");
    let (_, by) = warm.site.ask_by(&warm.daemon, &warm.asks[0])?;
    ensure!(by == By::Daemon, "answered from maps of the old size");
    warm.site.warm(&warm.daemon, &warm.asks[0])
}

#[test]
fn a_policy_that_changed_between_two_runs_is_the_only_one_that_is_served() -> Result<()> {
    need_lab!();
    let mut warm = Warm::new(30)?;
    let local = Ask::new("www.local.test.", "A");
    warm.site.warm(&warm.daemon, &local)?;
    warm.daemon.terminate()?;
    // Between the two the old policy holds, for the lease.
    assert_eq!(address(&warm.site.ask(&local)?)?, "192.0.2.10");
    let file = warm.file.clone().with_local("192.0.2.20");
    warm.daemon.rewrite(&file.text())?;
    warm.daemon.restart()?;
    assert_eq!(address(&warm.site.ask(&local)?)?, "192.0.2.20");
    warm.site.attached(&warm.daemon)?;
    warm.site.warm(&warm.daemon, &local)?;
    assert_eq!(address(&warm.site.ask(&local)?)?, "192.0.2.20");
    Ok(())
}

#[test]
fn detached_by_an_operator_the_daemon_goes_on_alone() -> Result<()> {
    need_lab!();
    let mut warm = Warm::new(30)?;
    let told = json(&warm.daemon, &["kernel", "detach"])?;
    ensure!(told["pins"].as_array().is_some_and(|pins| !pins.is_empty()), "{told}");
    ensure!(pin_names(&warm.daemon.dir().join("bpf"))?.is_empty());
    let before = Seen::of(&warm.daemon)?;
    for ask in &warm.asks {
        assert_eq!(warm.site.ask(ask)?.rcode(), 0);
    }
    let after = Seen::of(&warm.daemon)?;
    assert_eq!(after.hits, before.hits);
    assert_eq!(warm.daemon.metric("resolverd_kernel_available", &[])?.round() as i64, 0);
    let told = json(&warm.daemon, &["kernel", "status"])?;
    ensure!(told["available"] == false && told["reason"].is_string(), "{told}");
    // What a daemon that is gone left is taken down without one.
    warm.daemon.restart()?;
    warm.site.attached(&warm.daemon)?;
    warm.daemon.kill9();
    warm.daemon.cli(&["kernel", "detach"])?;
    ensure!(pin_names(&warm.daemon.dir().join("bpf"))?.is_empty());
    let link = warm.site.server.ip(&["-d", "link", "show", "s0"])?;
    ensure!(!link.contains("xdp"), "{link}");
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_file_ends_and_the_first_goes_on() -> Result<()> {
    need_lab!();
    let warm = Warm::new(30)?;
    let pins = pin_names(&warm.daemon.dir().join("bpf"))?.len();
    // Also when the file asks for other maps by now.
    let mut file = warm.file.clone();
    for entries in [file.entries, 8_192] {
        file.entries = entries;
        warm.daemon.rewrite(&file.text())?;
        let second = warm.daemon.cli_output(&["run"])?;
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(1), "{said}");
        ensure!(said.contains("another resolverd answers at"), "{said}");
        assert_eq!(pin_names(&warm.daemon.dir().join("bpf"))?.len(), pins, "{said}");
        warm.nothing_was_forgotten()?;
    }
    Ok(())
}

/// What the kernel has.
const NAMES: usize = 20;
/// In seconds.
const LEASE: u32 = 3;
