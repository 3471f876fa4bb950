//! `bench resolver`: what is not a hit in the kernel, beside Unbound in one run: a miss, a first
//! validated answer over long paths, streams and encrypted doors.

mod cold;
mod doors;
mod goals;

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::generate::dnsperf;
use super::meter::Meter;
use super::minutes;
use super::peers::Peer;
use super::report;
use super::site::{Mode, Placement, Site};

#[derive(Args)]
pub struct Options {
    /// Rounds; the goals ask for the median of at least five.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Parts of the bench; all of them if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// Questions that nobody asked before, forwarded to one upstream.
    Miss,
    /// First answers, validated from the root down, over paths of 5, 20 and 80 ms.
    Cold,
    /// Hits over TCP, TLS, HTTP/2 and QUIC.
    Doors,
}

/// What one question that is not in any cache costs.
#[derive(Debug, Clone, Serialize)]
struct Miss {
    round: u32,
    peer: Peer,
    per_sec: f64,
    /// Of the server's core.
    micros: f64,
    user_micros: f64,
    lost: f64,
    foreign: f64,
}

#[derive(Default, Serialize)]
struct Runs {
    misses: Vec<Miss>,
    cold: Vec<cold::Cold>,
    doors: Vec<doors::Passage>,
}

pub fn bench(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds, no figures");
    }
    super::build_daemon()?;
    super::rig::rig()?;
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    let start = Instant::now();
    let mut runs = Runs::default();
    for round in 1..=options.rounds {
        let since = minutes(start.elapsed().as_secs());
        println!("round {round} of {}, after {since}", options.rounds);
        if wants(Part::Miss) || wants(Part::Doors) {
            let site = Site::new(Mode::Xdp)?;
            if wants(Part::Miss) {
                for peer in MISSES {
                    runs.misses.push(miss(&site, round, peer)?);
                }
            }
            if wants(Part::Doors) {
                doors::round(&site, round, &mut runs.doors)?;
            }
        }
        if wants(Part::Cold) {
            cold::round(round, &mut runs.cold)?;
        }
    }
    let goals = goals::goals(&runs);
    report::print(&goals);
    let path = report::write("resolver", &goals, &json!(runs), options.rounds)?;
    println!("\n{} in all; {}", minutes(start.elapsed().as_secs()), path.display());
    Ok(())
}

/// Every name once, as fast as they are answered with 500 under way.
fn miss(site: &Site, round: u32, peer: Peer) -> Result<Miss> {
    let name = "queries-miss";
    let path = site.scratch.path().join(name);
    if !path.is_file() {
        let mut text = String::new();
        for n in 0..MISS_NAMES {
            let _ = writeln!(text, "m{n:06}.miss.bench.test. A");
        }
        site.scratch.write(name, &text)?;
    }
    site.steer(Placement::Inline)?;
    let running = peer.start(site, MISS_NAMES)?;
    let _open = site.sockets(running.sends_back_by_xdp(site))?;
    let meter = Meter::start(running.pid(), site.authority.pid());
    let began = Instant::now();
    let said = dnsperf(site, &path, &["-q", "500", "-c", "8", "-n", "1"])?;
    let secs = began.elapsed().as_secs_f64();
    let usage = meter.read();
    site.steer(Placement::Steered)?;
    let found = Miss {
        round,
        peer,
        per_sec: said.completed / secs,
        micros: usage.micros_each(said.completed as u64),
        user_micros: usage.user_nanos / 1e3 / said.completed.max(1.0),
        lost: 1.0 - said.completed / said.sent.max(1.0),
        foreign: usage.foreign,
    };
    println!(
        "  {:<22} miss: {:>6}/s, {:.1} µs each, lost {:.2} %, other work {:.0} %",
        peer.label(),
        report::short(found.per_sec),
        found.micros,
        found.lost * 100.0,
        found.foreign * 100.0
    );
    Ok(found)
}

const MISSES: [Peer; 3] = [Peer::Unbound, Peer::ResolverdOff, Peer::Resolverd];
const MISS_NAMES: u32 = 100_000;
