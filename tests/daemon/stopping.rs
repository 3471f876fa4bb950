//! SIGTERM: what was asked is answered, and then it is over.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{Ask, wait, zones};

use crate::need_lab;
use crate::site::{Site, address, has_line};
use crate::tap::{self, Tap};

#[test]
fn it_ends_within_two_seconds_with_0_and_what_was_asked_is_answered() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let mut daemon = site.daemon(&site.file(&[tap.at()]))?;
    // One after the other, so the second takes twice as long.
    tap.delay(Duration::from_millis(350));
    let (udp, tcp) = (Ask::new("www.lab.test.", "A"), Ask::new("mail.lab.test.", "A"));
    thread::scope(|scope| -> Result<()> {
        let by_udp = scope.spawn(|| site.ask(&udp));
        wait::until("the first question", wait::READY, || tap.asked("www.lab.test.") >= 1)?;
        let by_tcp = scope.spawn(|| -> Result<lab::Reply> {
            let bound = Duration::from_secs(4);
            let bytes = tcp.bytes();
            lab::Reply::parse(&site.client.enter(|| lab::tcp(site.at(), &bytes, bound))??)
        });
        wait::until("the second question", wait::READY, || tap.asked("mail.lab.test.") >= 1)?;
        let start = Instant::now();
        let status = daemon.terminate()?;
        let took = start.elapsed();
        let log = daemon.log();
        ensure!(status.code() == Some(0), "{status}: {log}");
        ensure!(took < Duration::from_secs(2), "it took {took:?}: {log}");
        let joined = |reply: thread::Result<Result<lab::Reply>>| -> Result<String> {
            address(&reply.map_err(|_| anyhow!("panicked"))??)
        };
        assert_eq!(joined(by_udp.join()).context("UDP")?, "192.0.2.1");
        assert_eq!(joined(by_tcp.join()).context("TCP")?, "192.0.2.25");
        ensure!(has_line(&log, &["stopping"]), "{log}");
        Ok(())
    })
}

#[test]
fn an_upstream_that_is_silent_does_not_hold_up_the_end() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let mut daemon = site.daemon(&site.file(&[tap.at()]))?;
    tap.die();
    let bytes = Ask::new("www.lab.test.", "A").bytes();
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            // Nobody will answer this one.
            let bound = Duration::from_millis(100);
            let _ = site.client.enter(|| lab::udp(site.at(), &bytes, bound));
        });
        wait::until("the question", wait::READY, || tap.asked("www.lab.test.") >= 1)?;
        let start = Instant::now();
        let status = daemon.terminate()?;
        let took = start.elapsed();
        ensure!(status.code() == Some(0), "{status}: {}", daemon.log());
        ensure!(took < Duration::from_millis(2_500), "it took {took:?}: {}", daemon.log());
        Ok(())
    })
}
