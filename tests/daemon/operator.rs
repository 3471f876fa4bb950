//! What an operator types, and what he is told when something is wrong.

use std::net::UdpSocket;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Namespace, Scratch, binary, zones};
use serde_json::Value;

use crate::need_lab;
use crate::site::{Site, has_line, json};

/// A file that a test writes, and verbs on it.
struct Desk {
    inside: Namespace,
    scratch: Scratch,
}

impl Desk {
    fn new() -> Result<Self> {
        Ok(Self { inside: Namespace::new("desk")?, scratch: Scratch::new("desk")? })
    }

    /// Runs a verb with `--config` on this text; `by` are words before it.
    fn run(&self, by: &[&str], verb: &[&str], text: &str) -> Result<Said> {
        let file = self.scratch.write("resolverd.toml", &self.complete(text))?;
        let binary = binary()?.display().to_string();
        let words: Vec<&str> = by.iter().copied().chain([binary.as_str()]).collect();
        let mut command = self.inside.command(words[0]);
        command.args(&words[1..]).args(verb).arg("--config").arg(&file);
        let output = command.output().with_context(|| format!("{command:?}"))?;
        Ok(Said::new(&output, &file.display().to_string()))
    }

    fn complete(&self, text: &str) -> String {
        let dir = self.scratch.path().display();
        format!("{text}\n[control]\nsocket = \"{dir}/control.sock\"\n[metrics]\nlisten = \"off\"\n")
    }
}

/// How a verb ended; the file's name is left out of what it said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn new(output: &Output, file: &str) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).replace(file, "FILE");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

#[test]
fn check_says_what_a_good_file_does_and_where_a_bad_one_is_wrong() -> Result<()> {
    need_lab!();
    let desk = Desk::new()?;
    let good = desk.run(&[], &["check"], "[kernel]\ninterfaces = [\"lo\"]")?;
    assert_eq!(good.code, Some(0), "{good:?}");
    for part in ["FILE: good", "locked memory", "interface lo", "MTU"] {
        ensure!(good.out.contains(part), "no {part}: {good:?}");
    }
    for (text, place, words) in [
        ("[server]\nlisten = [\"nonsense\"]", "FILE:2:", "nonsense"),
        ("[server]\nlisten = [\"127.0.0.1:5300\"]\nlisen = 1", "FILE:3:1:", "did you mean"),
        ("[kernel]\nlease = \"10 parsecs\"", "FILE:2:9", "lease"),
        ("[kernel]\nentries = 3", "FILE:2:11", "256"),
        (
            "[[zone]]\nname = \"a.test.\"\nkind = \"static\"\nrecords = [\n \"x A 1.2.3\",\n]",
            "FILE:5:",
            "1.2.3",
        ),
        ("[server\n", "FILE:1:", "TOML"),
    ] {
        let bad = desk.run(&[], &["check"], text)?;
        assert_eq!(bad.code, Some(1), "{text}: {bad:?}");
        ensure!(bad.err.contains(place) && bad.err.contains(words), "{text}: {bad:?}");
        // For machines.
        let bad = desk.run(&[], &["check", "--json"], text)?;
        let told: Value = serde_json::from_str(&bad.out).with_context(|| format!("{bad:?}"))?;
        assert_eq!(bad.code, Some(1));
        ensure!(told["problems"][0]["line"].is_u64(), "{told}");
        // And it is not run either.
        let run = desk.run(&[], &["run"], text)?;
        assert_eq!(run.code, Some(1), "{text}: {run:?}");
        ensure!(run.err.contains(place), "{text}: {run:?}");
    }
    let good = desk.run(&[], &["check", "--json"], "")?;
    let told: Value = serde_json::from_str(&good.out)?;
    assert_eq!(told["problems"], Value::Array(Vec::new()), "{told}");
    let words = desk.run(&[], &["chekc"], "")?;
    assert_eq!(words.code, Some(2), "{words:?}");
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named() -> Result<()> {
    need_lab!();
    let desk = Desk::new()?;
    for verb in ["check", "run"] {
        let mut command = desk.inside.command(binary()?);
        let output = command.args([verb, "--config", "/nowhere/resolverd.toml"]).output()?;
        let said = Said::new(&output, "-");
        assert_eq!(said.code, Some(1), "{said:?}");
        ensure!(said.err.contains("/nowhere/resolverd.toml"), "{said:?}");
    }
    Ok(())
}

#[test]
fn an_address_in_use_names_who_has_it() -> Result<()> {
    need_lab!();
    let desk = Desk::new()?;
    let text = "[server]\nlisten = [\"127.0.0.1:5300\"]\n[kernel]\nmode = \"off\"";
    let holder = desk.inside.enter(|| UdpSocket::bind("127.0.0.1:5300"))??;
    let said = desk.run(&[], &["run"], text)?;
    assert_eq!(said.code, Some(1), "{said:?}");
    let pid = format!("pid {}", std::process::id());
    ensure!(said.err.contains("127.0.0.1:5300") && said.err.contains(&pid), "{said:?}");
    drop(holder);
    Ok(())
}

#[test]
fn a_port_below_1024_without_the_privilege_names_it() -> Result<()> {
    need_lab!();
    let desk = Desk::new()?;
    let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[kernel]\nmode = \"off\"";
    let by = ["setpriv", "--bounding-set", "-net_bind_service", "--"];
    let said = desk.run(&by, &["run"], text)?;
    assert_eq!(said.code, Some(1), "{said:?}");
    ensure!(said.err.contains("CAP_NET_BIND_SERVICE"), "{said:?}");
    Ok(())
}

#[test]
fn without_privilege_the_daemon_serves_from_user_space_and_says_so() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    // CAP_PERFMON is 38, CAP_BPF 39: older tools know them by number only.
    let without = "-cap_38,-cap_39,-net_admin,-sys_admin";
    let by = ["setpriv", "--bounding-set", without, "--"];
    let file = site.file(&[site.authority_at()]);
    let daemon = Daemon::start_by(&site.server, &file.text(), &by)?;
    for _ in 0..2 {
        assert_eq!(site.ask(&Ask::new("www.lab.test.", "A"))?.rcode(), 0);
    }
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("no kernel path")).count();
    assert_eq!(lines, 1, "one line of it: {log}");
    ensure!(has_line(&log, &["WARN", "no kernel path", "served from user space"]), "{log}");
    assert_eq!(daemon.metric("resolverd_kernel_available", &[])?.round() as i64, 0);
    let told = json(&daemon, &["status"])?;
    ensure!(told["kernel"]["available"] == false, "{told}");
    ensure!(told["kernel"]["reason"].is_string(), "{told}");
    let text = daemon.cli(&["status"])?;
    ensure!(text.contains("user space"), "{text}");
    Ok(())
}

#[test]
fn verbs_without_a_daemon_end_with_3_and_say_where_they_looked() -> Result<()> {
    need_lab!();
    let desk = Desk::new()?;
    let verbs: [&[&str]; 6] = [
        &["status"],
        &["explain", "www.lab.test"],
        &["flush", "www.lab.test"],
        &["flush", "--all"],
        &["reload"],
        &["kernel", "status"],
    ];
    for verb in verbs {
        let said = desk.run(&[], verb, "")?;
        assert_eq!(said.code, Some(3), "{verb:?}: {said:?}");
        ensure!(said.err.contains("control.sock"), "{verb:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn every_verb_speaks_to_people_and_to_machines() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let file = site.file(&[site.authority_at()]).with_local("192.0.2.10");
    let daemon = site.daemon(&file)?;
    site.warm(&daemon, &Ask::new("www.lab.test.", "A"))?;
    let verbs: [(&[&str], &str, &str); 8] = [
        (&["status"], "listeners", "10.53.1.2:53"),
        (&["kernel", "status"], "interfaces", "s0"),
        (&["explain", "www.lab.test"], "question", "www.lab.test"),
        (&["explain", "www.local.test", "A"], "zone", "local.test"),
        (&["flush", "nothing.lab.test"], "flushed", "nothing.lab.test"),
        (&["flush", "--zone", "elsewhere.test"], "flushed", "elsewhere.test"),
        (&["reload"], "applied", "nothing changed"),
        (&["check"], "report", "locked memory"),
    ];
    for (verb, key, words) in verbs {
        let told = json(&daemon, verb)?;
        ensure!(!told[key].is_null(), "{verb:?} has no {key}: {told}");
        let text = daemon.cli(verb)?;
        ensure!(text.contains(words), "{verb:?} does not say {words}: {text}");
    }
    let told = json(&daemon, &["status"])?;
    assert_eq!(told["pid"], daemon.pid());
    assert_eq!(told["kernel"]["available"], true, "{told}");
    assert_eq!(told["kernel"]["interfaces"][0]["name"], "s0", "{told}");
    ensure!(told["kernel"]["lease_left_ms"].as_u64().is_some_and(|ms| ms <= 10_000), "{told}");
    assert_eq!(told["upstreams"][0]["name"], "one", "{told}");
    assert_eq!(told["upstreams"][0]["healthy"], true, "{told}");
    ensure!(told["cache"]["entries"].as_u64().is_some_and(|n| n > 0), "{told}");
    let reasons = told["kernel"]["packets"].as_array().context("a list")?;
    ensure!(reasons.iter().any(|r| r["verdict"] == "hit" && r["reason"] == "answered"), "{told}");
    ensure!(reasons.iter().any(|r| r["verdict"] == "pass" && r["reason"] == "miss"), "{told}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_by_the_daemon_as_well() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let daemon = site.daemon(&site.file(&[site.authority_at()]))?;
    for verb in [&["explain", "a..b"][..], &["explain", "a", "NONSENSE"], &["flush", "a..b"]] {
        let output = daemon.cli_output(verb)?;
        let said = Said::new(&output, "-");
        assert_eq!(said.code, Some(1), "{verb:?}: {said:?}");
        ensure!(!said.err.is_empty(), "{verb:?}");
    }
    Ok(())
}

#[test]
fn explain_tells_where_an_answer_is_and_what_comes_next() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let daemon = site.daemon(&site.file(&[site.authority_at()]).with_local("192.0.2.10"))?;
    let none = json(&daemon, &["explain", "www.lab.test"])?;
    assert_eq!(none["kernel"], Value::Array(Vec::new()), "{none}");
    assert_eq!(none["upstreams"][0], "one", "{none}");
    ensure!(none["next"].as_str().is_some_and(|next| next.contains("upstream")), "{none}");
    // Seventeen TTLs are more than the kernel can say: the daemon keeps them.
    for _ in 0..3 {
        site.ask(&Ask::new("seventeen.lab.test.", "A").edns(1_232))?;
    }
    let kept = json(&daemon, &["explain", "seventeen.lab.test"])?;
    ensure!(kept["not_in_kernel"].is_string(), "{kept}");
    assert_eq!(kept["cache"][0]["records"].as_array().map(Vec::len), Some(17), "{kept}");
    assert_eq!(kept["cache"][0]["promoted"], false, "{kept}");
    let local = json(&daemon, &["explain", "www.local.test"])?;
    ensure!(local["zone"].as_str().is_some_and(|zone| zone.starts_with("local.test")), "{local}");
    Ok(())
}
