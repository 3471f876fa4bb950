//! A hot name with a short life is renewed before it ends, while only the kernel is asked.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, wait, zones};

use crate::load::Load;
use crate::need_lab;
use crate::site::{Seen, Site};
use crate::tap::{self, Tap};

#[test]
fn a_hot_name_is_renewed_before_it_ends_and_no_client_waits_for_it() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    // Ten seconds of life: the least that is renewed.
    let ask = Ask::new("mixed.lab.test.", "A");
    site.warm(&daemon, &ask)?;
    assert_eq!(tap.asked("mixed.lab.test."), 1);
    let before = Seen::of(&daemon)?;
    let load = Load::start(&site.client, site.at(), std::slice::from_ref(&ask), 100)?;
    wait::until("the name to be renewed twice", Duration::from_secs(30), || {
        tap.asked("mixed.lab.test.") >= 3
    })
    .with_context(|| daemon.log())?;
    let told = load.finish()?;
    let after = Seen::of(&daemon)?;
    let (sent, lost) = told.all();
    println!(
        "{sent} sent, {} by the kernel, {} by the daemon",
        after.hits - before.hits,
        after.daemon - before.daemon
    );
    ensure!(lost == 0, "{lost} of {sent} lost");
    ensure!(after.daemon - before.daemon <= 1, "{} asked the daemon", after.daemon - before.daemon);
    ensure!(daemon.metric("resolverd_kernel_events_total", &[("kind", "prefetch")])? >= 2.0);
    Ok(())
}

#[test]
fn a_name_that_nobody_asks_for_is_let_go() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    let ask = Ask::new("ttl5.lab.test.", "A");
    site.warm(&daemon, &ask)?;
    // Another name moves the daemon's clock; this one ends unasked.
    wait::until("its life to end", Duration::from_secs(15), || {
        site.ask(&Ask::new("www.lab.test.", "A")).is_ok()
            && crate::site::json(&daemon, &["explain", "ttl5.lab.test"]).is_ok_and(|told| {
                !told["kernel"].as_array().is_some_and(|k| k.iter().any(|e| e["fresh"] == true))
            })
    })?;
    assert_eq!(tap.asked("ttl5.lab.test."), 1);
    let reply = site.ask(&ask)?;
    assert_eq!(tap.asked("ttl5.lab.test."), 2, "what has expired is asked for anew");
    assert_eq!(reply.answer[0].ttl, 5);
    Ok(())
}
