//! Answers as large as they come, each of them another: the cache's bound in octets is one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::Ask;

use crate::authority::{Server, address, text};
use crate::site::{OTHERS, Site, TARGET, memory, mib};
use crate::stream::{Stream, Times};
use crate::{campaign, need_lab};

#[test]
fn a_flood_of_large_answers_stays_in_the_bound_of_memory() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _others = Server::start(&site.upstream, OTHERS, Duration::ZERO, |question, _| {
        address(question, [192, 0, 2, 1])
    })?;
    let _large =
        Server::start(&site.upstream, TARGET, NEAR, |question, _| text(question, ANSWER_OCTETS))?;
    let sections =
        format!("[cache]\nmemory-max = \"{CACHE_MIB}MiB\"\n[dnssec]\nvalidate = false\n");
    let daemon = site.daemon("edns-size = 4096\n", &sections)?;
    site.warm("first.others.test.").with_context(|| daemon.log())?;
    let before = memory(daemon.pid(), "VmRSS")?;
    let from = Instant::now();
    let stream = Stream::start(&site.client, site.at(53), RATE, |n| {
        Ask::new(&format!("large-{n}.target.test."), "TXT").edns(4_096)
    })?;
    sleep(campaign()?);
    let answers = Times::of(&stream.finish()?, from, Instant::now());
    let peak = memory(daemon.pid(), "VmHWM")?;
    let answered = answers.asked - answers.lost - answers.failed;
    let poured = (answered * ANSWER_OCTETS) as u64;
    println!(
        "{answers}; {:.0} MiB of answers; resident before {:.1} MiB, at most {:.1} MiB",
        mib(poured),
        mib(before),
        mib(peak)
    );
    ensure!(poured > (3 * CACHE_MIB) << 20, "{:.1} MiB are no flood", mib(poured));
    let bound = (CACHE_MIB + BESIDE_MIB) << 20;
    ensure!(peak <= bound, "{:.1} MiB, and {:.1} are the most", mib(peak), mib(bound));
    Ok(())
}

/// `cache.memory-max`.
const CACHE_MIB: u64 = 16;

/// All else that the daemon has: its program, the 32 MiB of replies and 16,384 zones that recursion
/// may know, messages on their way.
const BESIDE_MIB: u64 = 96;

const ANSWER_OCTETS: usize = 3_584;
/// A second.
const RATE: u32 = 4_000;
const NEAR: Duration = Duration::from_millis(2);
