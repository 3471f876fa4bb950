//! The table of packets: good, odd and hostile, and what must become of each.
//!
//! A good one is asked twice. The first answer is the daemon's, for everything was flushed; the
//! second is the kernel's. They must be the same but for the identifier and aged TTLs. All others
//! must be passed, and counted under exactly one reason.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::wait;
use resolverd_common::counters::Reason;

use crate::cases::{Case, Fate, cases};
use crate::frame::Datagram;
use crate::message::{compare, hex};
use crate::operator::Counts;
use crate::site::{CLIENT, Family, Site};
use crate::tap::{Back, Tap};

/// Sends the whole table, and tells all that went wrong.
pub fn run(site: &Site, mode: &str, family: Family) -> Result<()> {
    let inside = || -> Result<()> {
        let mut tap = Tap::open(CLIENT)?;
        let cases = cases(&site.link.ends, mode, family);
        ensure!(cases.len() >= CASES_MIN, "{} packets in the table", cases.len());
        let mut wrong = Vec::new();
        for case in &cases {
            if let Err(error) = check(case, site, mode, family, &mut tap) {
                wrong.push(format!("{mode}, {family:?}, {case}: {error:#}"));
            }
            if wrong.len() == WRONG_MAX {
                // Each may wait for an answer that does not come.
                break;
            }
        }
        ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        Ok(())
    };
    site.link.client.enter(inside)?
}

fn check(case: &Case, site: &Site, mode: &str, family: Family, tap: &mut Tap) -> Result<()> {
    let mut query = site.link.ends.query(family, &case.message);
    (case.shape)(&mut query);
    match case.fate {
        Fate::Hit(reason) => check_hit(site, mode, &query, reason, tap),
        Fate::Pass(Reason::Miss) => {
            // The daemon keeps it for itself, however often it is asked.
            for _ in 0..2 {
                let before = site.operator.counts()?;
                tap.ask(&query, ANSWER)?.context("the daemon does not answer")?;
                let counted = site.operator.counts()?.since(&before).of_dns();
                ensure!(counted.is_one_pass(Reason::Miss), "{counted}");
            }
            Ok(())
        }
        Fate::Pass(reason) => {
            let frame = case.raw.clone().unwrap_or_else(|| query.bytes());
            check_pass(site, &frame, reason, tap).with_context(|| hex(&frame))
        }
    }
}

fn check_hit(
    site: &Site,
    mode: &str,
    query: &Datagram,
    reason: Reason,
    tap: &mut Tap,
) -> Result<()> {
    let operator = &site.operator;
    let (start, cold) = ask_cold(site, query, tap)?;
    for _ in 0..WARM_TRIES {
        let before = operator.counts()?;
        let warm = tap.ask(query, ANSWER)?.context("no answer when asked again")?;
        let counted = operator.counts()?.since(&before).of_dns();
        if counted.is_one_hit(reason) {
            query.check_answer(&warm.frame)?;
            return compare(&query.payload, &cold.message, &warm.message, start.elapsed());
        }
        if counted.is_one_pass(Reason::Grow) && mode != "tc" {
            compare(&query.payload, &cold.message, &warm.message, start.elapsed())?;
            return check_with_room(site, query, &cold.message, reason, tap);
        }
        let again = [Reason::Miss, Reason::Flushed].map(|reason| counted.is_one_pass(reason));
        ensure!(again.contains(&true), "warm: {counted}");
        // The daemon publishes when it has answered.
        thread::sleep(PAUSE);
    }
    bail!("never the kernel's; the daemon says {}", hex(&cold.message))
}

/// Flushes everything and asks: the answer is the daemon's.
fn ask_cold(site: &Site, query: &Datagram, tap: &mut Tap) -> Result<(Instant, Back)> {
    let mut counted = Counts::default();
    for _ in 0..COLD_TRIES {
        site.operator.flush_all()?;
        let before = site.operator.counts()?;
        let start = Instant::now();
        let cold = tap.ask(query, ANSWER)?.context("the daemon does not answer")?;
        counted = site.operator.counts()?.since(&before).of_dns();
        let passed = [Reason::Miss, Reason::Flushed].map(|reason| counted.is_one_pass(reason));
        if passed.contains(&true) {
            return Ok((start, cold));
        }
        // A packet before this one may have been for the same name, and the daemon may come to
        // it only now, after the flush.
    }
    bail!("cold: {counted}")
}

/// A veth and generic XDP leave little room behind a frame. One that has the room already, as
/// padding, is answered all the same.
fn check_with_room(
    site: &Site,
    query: &Datagram,
    answer: &[u8],
    reason: Reason,
    tap: &mut Tap,
) -> Result<()> {
    ensure!(answer.len() > query.payload.len() + query.padding, "there was room enough");
    let padding = FRAME_MAX - query.bytes().len() + query.padding;
    let roomy = Datagram { padding, ..query.clone() };
    let before = site.operator.counts()?;
    let back = tap.ask(&roomy, ANSWER)?.context("no answer to a frame with room")?;
    let counted = site.operator.counts()?.since(&before).of_dns();
    ensure!(counted.is_one_hit(reason), "with room: {counted}");
    roomy.check_answer(&back.frame)?;
    compare(&query.payload, answer, &back.message, ANSWER)
}

/// Sends a frame that must be passed for `reason`.
pub fn check_pass(site: &Site, frame: &[u8], reason: Reason, tap: &mut Tap) -> Result<()> {
    let before = site.operator.counts()?;
    tap.send(frame)?;
    let mut counted = Counts::default();
    let waited = wait::until("counted", COUNTED, || {
        let now = site.operator.counts().map(|now| now.since(&before));
        counted = now.unwrap_or_default();
        if reason != Reason::NotDns {
            counted = counted.clone().of_dns();
        }
        !counted.is_empty()
    });
    waited?;
    let neighbours = reason == Reason::NotDns && counted.clone().of_dns().is_empty();
    ensure!(neighbours || counted.is_one_pass(reason), "{counted}");
    Ok(())
}

/// What the table has for each family at least.
const CASES_MIN: usize = 60;

/// Octets of a frame that every interface takes.
const FRAME_MAX: usize = 1_400;

/// Past this the rest is not worth its time.
const WRONG_MAX: usize = 8;

/// For an answer: the daemon may have to ask its upstream, and both cores may be busy.
const ANSWER: Duration = Duration::from_secs(5);

/// For a packet to be counted.
const COUNTED: Duration = Duration::from_secs(3);

/// How often an answer is asked for until it is the daemon's, and until it is the kernel's.
const COLD_TRIES: usize = 3;
const WARM_TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);
