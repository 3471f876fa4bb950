//! Whom the daemon asks, and what it does when they are silent, cut their answers, or lead back
//! to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use lab::{Ask, Daemon, Scratch, Upstream, wait, zones};
use serde_json::Value;

use crate::need_lab;
use crate::site::{Site, address, has_line, json};
use crate::tap::{self, Tap};

#[test]
fn when_one_upstream_is_silent_the_next_is_asked_and_the_first_is_taken_back_later() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(200)])?;
    let one = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    one.die();
    let daemon = site.daemon(&site.file(&[one.at(), site.authority_at()]))?;
    let healthy = |wanted: f64| {
        let labels = [("upstream", "one")];
        let now = daemon.metric("resolverd_upstream_healthy", &labels);
        now.is_ok_and(|now| (now - wanted).abs() < 0.1)
    };
    let mut names = (0..200).map(|n| format!("n{n:06}.bench.test."));
    // Until it is set aside nobody's question goes without an answer.
    wait::until("the silent upstream to be set aside", BACK, || {
        let name = names.next();
        name.is_some_and(|name| site.ask(&Ask::new(&name, "A")).is_ok_and(|r| r.rcode() == 0))
            && seen_within(PAUSE, || healthy(0.0))
    })
    .with_context(|| daemon.log())?;
    let told = upstream(&json(&daemon, &["status"])?, "one")?;
    assert_eq!(told["healthy"], false, "{told}");
    // Now nobody waits for it.
    let name = names.next().context("names left")?;
    let asked = Instant::now();
    assert_eq!(site.ask(&Ask::new(&name, "A"))?.rcode(), 0);
    assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());

    one.revive();
    wait::until("the first upstream to be back", BACK, || {
        let name = names.next();
        name.is_some_and(|name| site.ask(&Ask::new(&name, "A")).is_ok())
            && seen_within(PAUSE, || healthy(1.0))
    })
    .with_context(|| daemon.log())?;
    assert!(has_line(&daemon.log(), &["upstream set aside", "one"]), "{}", daemon.log());
    assert!(has_line(&daemon.log(), &["upstream is back", "one"]), "{}", daemon.log());
    Ok(())
}

/// Looks for a while; says whether it was seen.
fn seen_within(bound: Duration, look: impl FnMut() -> bool) -> bool {
    wait::until("it", bound, look).is_ok()
}

#[test]
fn when_all_are_silent_the_failure_is_told_and_kept_for_a_while() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let closed = (site.far.far, 5_399).into();
    let mut file = site.file(&[tap.at(), closed]);
    file.resolve.push_str("\ntimeout = \"1s\"");
    file.cache = "failure-ttl = \"3s\"".to_owned();
    tap.die();
    let daemon = site.daemon(&file)?;
    let ask = Ask::new("www.lab.test.", "A").edns(1_232);
    let start = Instant::now();
    let reply = site.ask(&ask)?;
    assert!(start.elapsed() < Duration::from_millis(2_500), "{:?}", start.elapsed());
    assert_eq!(reply.rcode(), 2);
    assert!(reply.ede().iter().any(|code| [22, 23].contains(code)), "EDE {:?}", reply.ede());
    // Within failure-ttl nobody is asked again, even though it would answer now.
    let asked = tap.asked("www.lab.test.");
    tap.revive();
    let again = Instant::now();
    let reply = site.ask(&ask)?;
    assert_eq!(reply.rcode(), 2);
    assert!(!reply.ede().is_empty());
    assert!(again.elapsed() < Duration::from_millis(500));
    assert_eq!(tap.asked("www.lab.test."), asked);
    // Clients without EDNS get the bare failure.
    let bare = site.ask(&Ask::new("www.lab.test.", "A"))?;
    assert!(bare.edns.is_none() && bare.rcode() == 2);
    // And then it is.
    wait::until("the failure to be forgotten", Duration::from_secs(10), || {
        site.ask(&ask).is_ok_and(|reply| reply.rcode() == 0)
    })
    .with_context(|| daemon.log())?;
    assert!(start.elapsed() > Duration::from_millis(2_900), "kept for {:?}", start.elapsed());
    Ok(())
}

#[test]
fn what_an_upstream_cut_short_is_asked_for_over_tcp() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let daemon = site.daemon(&site.file(&[site.authority_at()]))?;
    let bytes = Ask::new("many.lab.test.", "A").bytes();
    let whole = site.client.enter(|| lab::tcp(site.at(), &bytes, ANSWER))??;
    assert_eq!(lab::Reply::parse(&whole)?.answer.len(), 120);
    let labels = [("upstream", "one"), ("outcome", "truncated")];
    assert!(daemon.metric("resolverd_upstream_queries_total", &labels)? >= 1.0);
    Ok(())
}

#[test]
fn the_systems_resolvers_are_asked_but_never_ourselves() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let scratch = Scratch::new("resolv")?;
    let (us, them) = (site.near.far, site.far.far);
    let resolv = scratch.write("resolv.conf", &format!("nameserver {us}\n"))?;
    let mut file = site.file(&[]);
    file.kernel = "mode = \"off\"".to_owned();
    file.resolve = "upstream-from = \"system\"".to_owned();
    let line = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let path = resolv.display().to_string();
    let by = ["unshare", "--mount", "sh", "-c", line, &path];
    let daemon = Daemon::start_by(&site.server, &file.text(), &by)?;
    // We alone are in the file: nobody is left, and that is said at once.
    assert_eq!(json(&daemon, &["status"])?["upstreams"], Value::Array(Vec::new()));
    let start = Instant::now();
    let reply = site.ask(&Ask::new("www.lab.test.", "A").edns(1_232))?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&22)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    // The file is followed.
    std::fs::write(&resolv, format!("nameserver {us}\nnameserver {them}\n"))?;
    let addresses = || -> Result<Vec<String>> {
        let told = json(&daemon, &["status"])?;
        let list = told["upstreams"].as_array().context("a list")?;
        Ok(list.iter().filter_map(|u| Some(u["address"].as_str()?.to_owned())).collect())
    };
    wait::until("the new resolver to be taken up", Duration::from_secs(15), || {
        addresses().is_ok_and(|list| list == [format!("{them}:53")])
    })
    .with_context(|| format!("{:?}", addresses()))?;
    let reply = site.ask(&Ask::new("mail.lab.test.", "A"))?;
    assert_eq!(address(&reply)?, "192.0.2.25");
    Ok(())
}

#[test]
fn two_resolvers_that_forward_to_each_other_find_out() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let (first_at, second_at) = ((site.far.near, 53).into(), (site.far.far, 53).into());
    let mut file = site.file(&[second_at]);
    file.listen.push(first_at);
    file.kernel = "mode = \"off\"".to_owned();
    let first = Daemon::start(&site.server, &file.text())?;
    let mut file = site.file(&[first_at]);
    file.listen = vec![second_at];
    file.kernel = "mode = \"off\"".to_owned();
    let second = Daemon::start(&site.upstream, &file.text())?;
    wait::until("the loop to be found", Duration::from_secs(15), || {
        [&first, &second].iter().any(|daemon| is_looped(daemon).unwrap_or(false))
    })
    .with_context(|| format!("{}\n--\n{}", first.log(), second.log()))?;
    let found = |daemon: &Daemon| daemon.metric("resolverd_upstream_loops_total", &[]);
    assert!(found(&first)? + found(&second)? >= 1.0);
    // It stays found, and questions end at once instead of going round.
    let asked = |daemon: &Daemon| daemon.metric("resolverd_queries_total", &[]);
    let before = asked(&first)? + asked(&second)?;
    let start = Instant::now();
    for n in 0..5 {
        let reply = site.ask(&Ask::new(&format!("n{n}.lab.test."), "A"))?;
        assert_eq!(reply.rcode(), 2);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let went_round = asked(&first)? + asked(&second)? - before;
    assert!(went_round <= 20.0, "5 questions became {went_round}");
    Ok(())
}

fn is_looped(daemon: &Daemon) -> Result<bool> {
    Ok(upstream(&json(daemon, &["status"])?, "one")?["loop"] == true)
}

#[test]
fn an_answer_to_something_else_is_not_taken() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let liar = Upstream::start(&site.upstream, (site.far.far, 53).into(), |query| {
        // The right id and the wrong question, as a blind forger would.
        let mut answer = Ask::new("evil.test.", "A").bytes();
        answer[..2].copy_from_slice(query.get(..2)?);
        answer[2] |= 0x80;
        Some(answer)
    })?;
    let mut file = site.file(&[liar.address()]);
    file.resolve.push_str("\ntimeout = \"1s\"");
    let daemon = site.daemon(&file)?;
    assert_eq!(site.ask(&Ask::new("www.lab.test.", "A"))?.rcode(), 2);
    let told = json(&daemon, &["explain", "evil.test"])?;
    assert_eq!(told["cache"], Value::Array(Vec::new()), "nothing was learnt by it: {told}");
    Ok(())
}

/// An upstream in `status`, by its name.
fn upstream(status: &Value, name: &str) -> Result<Value> {
    let list = status["upstreams"].as_array().context("a list of upstreams")?;
    let found = list.iter().find(|upstream| upstream["name"] == name);
    found.cloned().ok_or_else(|| anyhow!("no upstream {name}: {status}"))
}

/// Set aside and back: the first back-off is a few seconds.
const BACK: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_secs(5);
