//! Others' programs on our interface: never replaced, and named.

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Namespace, wait};
use resolverd_common::counters::Reason;
use serde_json::Value;

use crate::operator::{Counts, Operator, interface};
use crate::passing;
use crate::site::{CLIENT, Family, Link, SERVER, needs_the_kernel};
use crate::tap::Tap;

#[test]
fn a_foreign_xdp_program_stays_and_traffic_control_runs_beside_it() -> Result<()> {
    needs_the_kernel!("a foreign XDP program");
    for mode in ["auto", "tc"] {
        let link = Link::new()?;
        passing::attach(&link.server, SERVER, "xdpdrv")?;
        let foreign = program(&link.server, SERVER)?;
        let daemon = Daemon::start(&link.server, &link.config(&format!("mode = \"{mode}\"")))?;
        let operator = Operator::of(&daemon);
        ensure!(operator.attached(SERVER)? == "tc", "{:#}", operator.kernel()?);
        ensure!(program(&link.server, SERVER)? == foreign, "it was replaced");
        let query = link.ends.query(Family::V4, &Ask::new("www.resolverd.test.", "A").bytes());
        let ask = || -> Result<()> {
            let mut tap = Tap::open(CLIENT)?;
            wait::until("answered by the kernel", wait::READY, || {
                let before = operator.counts().unwrap_or_default();
                let answered = tap.ask(&query, wait::STOP).is_ok_and(|back| back.is_some());
                let counted = operator.counts().unwrap_or_default().since(&before);
                answered && counted.hit(Reason::Answered) == 1
            })
        };
        link.client.enter(ask)??;
    }
    Ok(())
}

#[test]
fn a_foreign_xdp_program_is_named_where_its_place_was_wanted() -> Result<()> {
    needs_the_kernel!("a foreign XDP program where ours was to be");
    for (theirs, ours) in [
        ("xdpdrv", "xdp"),
        ("xdpgeneric", "xdp-generic"),
        ("xdpgeneric", "xdp"),
        ("xdpdrv", "xdp-generic"),
    ] {
        named(theirs, ours).with_context(|| format!("theirs {theirs}, ours {ours}"))?;
    }
    Ok(())
}

fn named(theirs: &str, ours: &str) -> Result<()> {
    let link = Link::new()?;
    passing::attach(&link.server, SERVER, theirs)?;
    let foreign = program(&link.server, SERVER)?;
    let daemon = Daemon::start(&link.server, &link.config(&format!("mode = \"{ours}\"")))?;
    let operator = Operator::of(&daemon);
    wait::until("tried", wait::READY, || {
        let kernel = operator.kernel().unwrap_or_default();
        interface(&kernel, SERVER)["reason"].is_string()
    })?;
    // What an operator sees on the command line.
    let status: Value = serde_json::from_str(&daemon.cli(&["status", "--json"])?)?;
    ensure!(status["kernel"]["available"] == false, "{status:#}");
    Counts::read(&status["kernel"])?;
    let reason = interface(&status["kernel"], SERVER)["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains(passing::NAME), "it is not named: {reason}");
    ensure!(reason.contains("tc"), "no other way is offered: {reason}");
    ensure!(daemon.log().contains(passing::NAME), "{}", daemon.log());
    ensure!(program(&link.server, SERVER)? == foreign, "it was replaced");
    let answer = link.client.ask(daemon.listen(), &Ask::new("www.resolverd.test.", "A"))?;
    ensure!(answer.answer.len() == 1, "served from user space all the same");

    // It goes away, and the place is taken when interfaces are looked at again.
    link.server.ip(&["link", "set", "dev", SERVER, theirs, "off"])?;
    link.server.address(SERVER, "10.53.1.9/24")?;
    ensure!(operator.attached(SERVER)? == ours);
    Ok(())
}

/// The number of the XDP program on a device.
fn program(inside: &Namespace, device: &str) -> Result<u64> {
    let text = inside.ip(&["-j", "-d", "link", "show", device])?;
    let json: Value = serde_json::from_str(&text)?;
    json[0]["xdp"]["prog"]["id"].as_u64().with_context(|| format!("no XDP program: {text}"))
}
