//! Answers past their time, over a restart, and by way of a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Upstream, dig, wait, zones};

use crate::site::{File, Site, address, has_line, json, logged, need_servers};
use crate::tap::{self, Tap};

fn file(site: &Site, upstream: std::net::SocketAddr, cache: &str) -> File {
    let mut file = site.file(&[upstream]);
    file.kernel = "mode = \"off\"".to_owned();
    file.cache = cache.to_owned();
    file
}

#[test]
fn while_its_server_is_dead_a_name_has_its_old_answer_and_dig_is_told() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    let mut authority = site.authority(&[zones::lab()])?;
    let daemon = Daemon::start(&site.server, &file(&site, site.authority_at(), "").text())?;
    let first = dig(&site.client, site.at(), &["ttl1.lab.test", "A"])?;
    ensure!(first.contains("192.0.2.101") && !first.contains("EDE"), "{first}");
    let name = "nothing.lab.test";
    let nothing = dig(&site.client, site.at(), &[name, "A"])?;
    ensure!(nothing.contains("NXDOMAIN"), "{nothing}");

    authority.process().kill();
    let mut said = String::new();
    wait::until("the old answer", Duration::from_secs(10), || {
        said = dig(&site.client, site.at(), &["ttl1.lab.test", "A"]).unwrap_or_default();
        said.contains("EDE: 3")
    })
    .with_context(|| format!("{said}\n{}", daemon.log()))?;
    ensure!(said.contains("NOERROR") && said.contains("192.0.2.101"), "{said}");
    ensure!(said.contains("Stale Answer"), "{said}");
    let ttl = |text: &str| -> Option<u32> {
        let line = text.lines().find(|line| line.starts_with("ttl1.lab.test."))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    ensure!(ttl(&said).is_some_and(|ttl| (1..=30).contains(&ttl)), "{said}");

    // For half a minute nobody is asked, and it comes at once.
    let start = Instant::now();
    let again = dig(&site.client, site.at(), &["ttl1.lab.test", "A"])?;
    ensure!(again.contains("EDE: 3"), "{again}");
    ensure!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    for cause in ["failed", "recheck"] {
        let name = "resolverd_cache_stale_answers_total";
        ensure!(daemon.metric(name, &[("cause", cause)])? >= 1.0, "{cause}");
    }
    let told = json(&daemon, &["explain", "ttl1.lab.test"])?;
    ensure!(told["cache"][0]["stale"] == true && told["cache"][0]["ede"]["code"] == 3, "{told}");
    ensure!(told["next"].as_str().is_some_and(|next| next.contains("old answer")), "{told}");
    // A name that nobody asked for before has none.
    let unknown = dig(&site.client, site.at(), &["www.lab.test", "A"])?;
    ensure!(unknown.contains("SERVFAIL"), "{unknown}");
    Ok(())
}

#[test]
fn a_slow_server_is_not_waited_for_where_there_is_an_old_answer() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let cache = "stale-answer-after = \"400ms\"";
    let daemon = Daemon::start(&site.server, &file(&site, tap.at(), cache).text())?;
    let ask = Ask::new("ttl1.lab.test.", "A").edns(1_232);
    ensure!(site.ask(&ask)?.ede().is_empty());
    tap.die();
    let mut took = Duration::ZERO;
    wait::until("the old answer", Duration::from_secs(10), || {
        let start = Instant::now();
        let old = site.ask(&ask).is_ok_and(|reply| reply.ede() == [3]);
        took = start.elapsed();
        old
    })
    .with_context(|| daemon.log())?;
    ensure!(took < Duration::from_millis(1_500), "{took:?}");
    let name = "resolverd_cache_stale_answers_total";
    ensure!(daemon.metric(name, &[("cause", "slow")])? >= 1.0);
    Ok(())
}

#[test]
fn a_restart_finds_its_answers_and_asks_nobody_for_them() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(100)])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let file = file(&site, tap.at(), "persist = true");
    let mut daemon = Daemon::start(&site.server, &file.text())?;
    let asks: Vec<Ask> = (0..50).map(|n| Ask::new(&format!("n{n:06}.bench.test."), "A")).collect();
    let mut before = Vec::new();
    for ask in &asks {
        before.push(address(&site.ask(ask)?)?);
    }
    let asked = tap.asked_below("bench.test.");
    let start = Instant::now();
    ensure!(daemon.terminate()?.success());
    ensure!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let state = daemon.dir().join("state");
    for name in ["cache.bin", "cache.key"] {
        let mode = fs::metadata(state.join(name))?.permissions().mode() & 0o7777;
        ensure!(mode == 0o600, "{name}: {mode:o}");
    }

    // Nobody who could be asked is there.
    tap.die();
    daemon.restart()?;
    logged(&daemon, &["cache read from disk", "taken=50"])?;
    for (ask, before) in asks.iter().zip(&before) {
        let reply = site.ask(ask)?;
        ensure!(address(&reply)? == *before && reply.answer[0].ttl <= 3_600, "{}", ask.name);
    }
    ensure!(tap.asked_below("bench.test.") == asked, "upstreams were asked again");
    ensure!(daemon.metric("resolverd_cache_loaded_entries_total", &[])?.round() as i64 == 50);

    // One octet that somebody changed: nothing of it is used.
    tap.revive();
    daemon.terminate()?;
    let mut octets = fs::read(state.join("cache.bin"))?;
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(state.join("cache.bin"), &octets)?;
    daemon.restart()?;
    logged(&daemon, &["WARN", "the cache on disk is not used", "MAC is wrong"])?;
    ensure!(address(&site.ask(&asks[0])?)? == before[0]);
    ensure!(tap.asked_below("bench.test.") > asked);

    // A key that others can read is no key.
    daemon.terminate()?;
    fs::set_permissions(state.join("cache.key"), fs::Permissions::from_mode(0o644))?;
    daemon.restart()?;
    logged(&daemon, &["WARN", "0644", "chmod 600"])?;
    Ok(())
}

#[test]
fn what_was_dumped_can_be_loaded_and_what_was_touched_only_when_it_is_said() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab(), zones::bench(100)])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let file = file(&site, tap.at(), "").with_local("192.0.2.10");
    let daemon = Daemon::start(&site.server, &file.text())?;
    let names = ["www.lab.test.", "alias.lab.test.", "nothing.lab.test.", "n000001.bench.test."];
    let asks = names.map(|name| Ask::new(name, "A"));
    for ask in &asks {
        site.ask(ask)?;
    }
    site.ask(&Ask::new("www.local.test.", "A"))?;
    let text = daemon.cli(&["cache", "dump", "--zone", "lab.test"])?;
    ensure!(text.contains("; 3 answers") && text.contains("192.0.2.1"), "{text}");
    ensure!(!text.contains("bench.test"), "{text}");
    let cut = daemon.cli(&["cache", "dump", "--limit", "2"])?;
    ensure!(cut.contains("; 2 answers, and there are more"), "{cut}");

    let dump = daemon.cli(&["cache", "dump", "--json"])?;
    let path = daemon.dir().join("dump.jsonl");
    fs::write(&path, &dump)?;
    let path = path.display().to_string();
    let load = |more: &[&str]| {
        let args: Vec<&str> = ["cache", "load", &path].iter().chain(more).copied().collect();
        daemon.cli_output(&args)
    };
    daemon.cli(&["flush", "--all"])?;
    tap.die();
    let loaded = load(&["--json"])?;
    let said = String::from_utf8_lossy(&loaded.stdout).into_owned();
    let report: serde_json::Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    // What the local zone says, and a failure, are not for a file to say.
    let kept_out = report["kept_out"].as_u64();
    ensure!(report["taken"] == 4 && kept_out >= Some(1), "{report}");
    for (ask, rcode) in asks.iter().zip([0, 0, 3, 0]) {
        let reply = site.ask(ask)?;
        ensure!(reply.rcode() == rcode, "{}: {}", ask.name, reply.rcode());
    }
    ensure!(address(&site.ask(&asks[3])?)? == "198.51.0.1");
    // Once more: all is known.
    let again = load(&[])?;
    ensure!(again.status.success());
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    ensure!(said.contains("loaded 0 answers") && said.contains("known already"), "{said}");

    // Edited by hand: refused, unless the operator says that he means it.
    fs::write(&path, dump.replace("192.0.2.1\"", "192.0.2.9\""))?;
    let refused = load(&[])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("--foreign"), "{said}");
    ensure!(load(&["--foreign"])?.status.success());
    // Cut short: refused in any case.
    let lines: Vec<&str> = dump.lines().collect();
    fs::write(&path, lines[..lines.len() - 1].join("\n"))?;
    let refused = load(&["--foreign"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("cut short"), "{said}");
    ensure!(!has_line(&daemon.log(), &["panicked"]), "{}", daemon.log());
    Ok(())
}

#[test]
fn a_flood_of_large_answers_does_not_pass_the_bound_on_memory() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    // Every question for a text has 3,500 octets of it.
    let at = site.authority_at();
    let upstream = Upstream::start(&site.upstream, at, |query| Some(large(query)))?;
    let mut file = file(&site, upstream.address(), "memory-max = \"1MiB\"");
    file.resolve.push_str("\nedns-size = 4096");
    let daemon = Daemon::start(&site.server, &file.text())?;
    let ask = |n: u32| site.ask(&Ask::new(&format!("n{n}.flood.test."), "TXT"));
    // What it takes by itself: buffers, tasks, what the allocator keeps.
    for n in 0..500 {
        ask(n)?;
    }
    let before = resident(&daemon)?;
    for n in 500..12_000 {
        ask(n)?;
    }
    let (after, cached) = (resident(&daemon)?, daemon.metric("resolverd_cache_bytes", &[])?);
    let entries = daemon.metric("resolverd_cache_entries", &[])?;
    println!("{before} octets resident before, {after} after; {cached} cached in {entries}");
    ensure!(cached <= f64::from(1 << 20) && entries > 100.0, "{cached} octets, {entries} answers");
    ensure!(daemon.metric("resolverd_cache_evictions_total", &[])? > 10_000.0);
    // 40 MB went by.
    ensure!(after < before + (12 << 20), "{before} octets before, {after} after");
    Ok(())
}

/// The question with 3,500 octets of text.
fn large(query: &[u8]) -> Vec<u8> {
    let labels = query[12..].iter().position(|octet| *octet == 0).unwrap_or_default();
    let mut answer = query[..12 + labels + 5].to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80;
    answer[4..12].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    let text = [&[249][..], &[b'x'; 249]].concat().repeat(14);
    answer.extend(b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x0e\x10");
    answer.extend((text.len() as u16).to_be_bytes());
    answer.extend(text);
    answer
}

/// What the daemon has in memory, in octets.
fn resident(daemon: &Daemon) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/statm", daemon.pid()))?;
    let pages = text.split(' ').nth(1).context("a second number")?;
    Ok(pages.parse::<u64>()? * 4_096)
}
