//! How long an answer is the kernel's: till it expires, till it is flushed, while the lease runs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, wait};
use resolverd_common::counters::Reason;
use rustix::process::{Pid, Signal, kill_process};

use crate::frame::Datagram;
use crate::message::compare;
use crate::operator::{Counts, Operator};
use crate::site::{CLIENT, Family, LEASE_SECS, Site};
use crate::tap::Tap;

/// The whole life, in the mode that the site has.
pub fn run(site: &Site) -> Result<()> {
    let inside = || -> Result<()> {
        let mut tap = Tap::open(CLIENT)?;
        expires(site, &mut tap).context("an entry that expires")?;
        is_flushed(site, &mut tap).context("an entry that is flushed")?;
        outlives_the_daemon_by_the_lease(site, &mut tap).context("the lease")
    };
    site.link.client.enter(inside)?
}

fn expires(site: &Site, tap: &mut Tap) -> Result<()> {
    // TTL 5: the kernel has it for five seconds and no longer.
    let query = query(site, "ttl5.lab.test.");
    site.operator.flush_all()?;
    let start = Instant::now();
    let first = warm(site, &query, tap)?;
    let warm_for = start.elapsed();
    ensure!(warm_for < Duration::from_millis(4_500), "too busy a machine: {warm_for:?}");
    thread::sleep(Duration::from_millis(5_100).saturating_sub(start.elapsed()));
    let before = site.operator.counts()?;
    let again = tap.ask(&query, ANSWER)?.context("no answer")?;
    let counted = site.operator.counts()?.since(&before).of_dns();
    ensure!(counted.is_one_pass(Reason::Expired), "{counted}");
    // A new one, with its TTL whole again.
    compare(&query.payload, &again.message, &first, Duration::from_secs(5))
}

fn is_flushed(site: &Site, tap: &mut Tap) -> Result<()> {
    let (www, mail) = (query(site, "www.lab.test."), query(site, "mail.lab.test."));
    warm(site, &www, tap)?;
    warm(site, &mail, tap)?;
    site.operator.flush_name("www.lab.test.")?;
    for query in [&www, &mail] {
        let before = site.operator.counts()?;
        tap.ask(query, ANSWER)?.context("no answer")?;
        let counted = site.operator.counts()?.since(&before).of_dns();
        ensure!(counted.is_one_pass(Reason::Flushed), "{counted}");
        // Both come back: the one asked for anew, the other from the daemon's cache.
        warm(site, query, tap)?;
    }
    site.operator.flush_zone("lab.test.")?;
    let before = site.operator.counts()?;
    tap.ask(&mail, ANSWER)?.context("no answer")?;
    let counted = site.operator.counts()?.since(&before).of_dns();
    ensure!(counted.is_one_pass(Reason::Flushed), "{counted}");
    Ok(())
}

fn outlives_the_daemon_by_the_lease(site: &Site, tap: &mut Tap) -> Result<()> {
    let query = query(site, "www.lab.test.");
    warm(site, &query, tap)?;
    let before = site.operator.counts()?;
    let daemon = Pid::from_raw(site.daemon.pid().cast_signed()).context("a process")?;
    kill_process(daemon, Signal::STOP)?;
    let stopped = Instant::now();
    let while_leased = tap.ask(&query, Duration::from_secs(1));
    thread::sleep((LEASE + Duration::from_millis(500)).saturating_sub(stopped.elapsed()));
    let after_it = tap.ask(&query, Duration::from_millis(300));
    kill_process(daemon, Signal::CONT)?;
    ensure!(while_leased?.is_some(), "nobody answers while the lease runs");
    ensure!(after_it?.is_none(), "the kernel answers when the lease is over");
    let counted = site.operator.counts()?.since(&before).of_dns();
    ensure!(counted.hit(Reason::Answered) == 1, "{counted}");
    ensure!(counted.passed(Reason::Lease) == 1, "{counted}");
    warm(site, &query, tap).context("the daemon is back").map(drop)
}

/// Asks until the answer is the kernel's.
pub fn warm(site: &Site, query: &Datagram, tap: &mut Tap) -> Result<Vec<u8>> {
    warm_by(&site.operator, query, tap)
}

/// The same, by what this operator counts.
pub fn warm_by(operator: &Operator, query: &Datagram, tap: &mut Tap) -> Result<Vec<u8>> {
    let (mut answer, mut counted) = (None, Counts::default());
    let mut ask = || -> Result<bool> {
        let before = operator.counts()?;
        answer = tap.ask(query, ANSWER)?;
        counted = operator.counts()?.since(&before).of_dns();
        Ok(counted.is_one_hit(Reason::Answered))
    };
    let waited = wait::until("answered by the kernel", ANSWER, || ask().unwrap_or(false));
    waited.with_context(|| counted.to_string())?;
    Ok(answer.context("an answer was seen")?.message)
}

fn query(site: &Site, name: &str) -> Datagram {
    site.link.ends.query(Family::V4, &Ask::new(name, "A").bytes())
}

const ANSWER: Duration = Duration::from_secs(5);

const LEASE: Duration = Duration::from_secs(LEASE_SECS);
