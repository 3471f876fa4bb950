//! Interfaces and addresses that come and go under a running daemon.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Wire, wait};
use resolverd_common::counters::Reason;
use serde_json::Value;

use crate::frame::{Datagram, mac};
use crate::operator::{Operator, interface};
use crate::site::{CLIENT, Family, Host, Link, SERVER, needs_the_kernel};
use crate::tap::Tap;

/// An address that comes late.
const LATE: Host = 50;

#[test]
fn an_interface_that_is_made_anew_is_attached_to_again() -> Result<()> {
    needs_the_kernel!("an interface that is made anew");
    for mode in ["xdp", "xdp-generic", "tc"] {
        made_anew(mode).context(mode)?;
    }
    Ok(())
}

fn made_anew(mode: &str) -> Result<()> {
    let mut link = Link::new()?;
    let daemon = Daemon::start(&link.server, &link.config(&format!("mode = \"{mode}\"")))?;
    let operator = Operator::of(&daemon);
    ensure!(operator.attached(SERVER)? == mode);
    hit(&link, &operator, &query(&link, Family::V4))?;
    let before = interface(&operator.kernel()?, SERVER)["index"].as_u64();

    link.server.ip(&["link", "del", SERVER])?;
    let mut kernel = Value::Null;
    wait::until("seen to be gone", wait::READY, || {
        kernel = operator.kernel().unwrap_or_default();
        interface(&kernel, SERVER)["attached"] == false
    })
    .with_context(|| format!("{kernel:#}"))?;
    ensure!(kernel["available"] == false, "{kernel:#}");
    ensure!(interface(&kernel, SERVER)["reason"].is_string(), "{kernel:#}");

    link.ends.wire = Wire::between(&link.client, CLIENT, &link.server, SERVER, 1)?;
    link.ends.client_mac = mac(&link.client.mac(CLIENT)?)?;
    link.ends.server_mac = mac(&link.server.mac(SERVER)?)?;
    link.tune()?;
    ensure!(operator.attached(SERVER)? == mode);
    let after = interface(&operator.kernel()?, SERVER)["index"].as_u64();
    ensure!(before != after, "{before:?} {after:?}: it was made anew");
    for family in [Family::V4, Family::V6] {
        hit(&link, &operator, &query(&link, family))?;
    }
    Ok(())
}

#[test]
fn an_address_that_comes_late_is_served_when_it_comes() -> Result<()> {
    needs_the_kernel!("an address that comes late");
    let link = Link::new()?;
    let late = [Family::V4, Family::V6].map(|family| link.ends.host(family, LATE));
    let config = link.config_with("mode = \"xdp\"", &late.map(|address| (address, 53).into()));
    let daemon = Daemon::start(&link.server, &config)?;
    let operator = Operator::of(&daemon);
    operator.attached(SERVER)?;
    hit(&link, &operator, &query(&link, Family::V4))?;
    for (family, address) in [Family::V4, Family::V6].into_iter().zip(late) {
        let to_it = Datagram { target: address, ..query(&link, family) };
        let inside = || -> Result<()> {
            let mut tap = Tap::open(CLIENT)?;
            let before = operator.counts()?;
            ensure!(tap.ask(&to_it, QUIET)?.is_none(), "somebody has {address} already");
            let counted = operator.counts()?.since(&before).of_dns();
            ensure!(counted.is_one_pass(Reason::NotServed), "{counted}");
            Ok(())
        };
        link.client.enter(inside)??;
        let len = if address.is_ipv4() { 24 } else { 64 };
        link.server.address(SERVER, &format!("{address}/{len}"))?;
        hit(&link, &operator, &to_it)?;
        link.server.ip(&["addr", "del", &format!("{address}/{len}"), "dev", SERVER])?;
        let mut counted = String::new();
        let gone = || -> Result<bool> {
            let mut tap = Tap::open(CLIENT)?;
            let before = operator.counts()?;
            tap.ask(&to_it, QUIET)?;
            let now = operator.counts()?.since(&before).of_dns();
            counted = now.to_string();
            Ok(now.is_one_pass(Reason::NotServed))
        };
        let waited = link.client.enter(|| {
            let mut gone = gone;
            wait::until("no longer served", wait::READY, || gone().unwrap_or(false))
        })?;
        waited.context(counted)?;
    }
    Ok(())
}

fn query(link: &Link, family: Family) -> Datagram {
    link.ends.query(family, &Ask::new("www.resolverd.test.", "A").bytes())
}

/// Asks until the kernel answers.
fn hit(link: &Link, operator: &Operator, query: &Datagram) -> Result<()> {
    let inside = || -> Result<()> {
        let mut tap = Tap::open(CLIENT)?;
        let mut last = String::new();
        let mut ask = || -> Result<bool> {
            let before = operator.counts()?;
            let back = tap.ask(query, QUIET)?;
            let counted = operator.counts()?.since(&before).of_dns();
            last = format!("answered: {}; {counted}", back.is_some());
            let Some(back) = back.filter(|_| counted.is_one_hit(Reason::Answered)) else {
                return Ok(false);
            };
            query.check_answer(&back.frame)?;
            Ok(true)
        };
        let waited = wait::until("a hit", wait::READY, || ask().unwrap_or(false));
        waited.context(last)
    };
    link.client.enter(inside)?
}

/// For an answer that may never come.
const QUIET: Duration = Duration::from_millis(500);
