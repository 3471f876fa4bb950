//! `bench wire`: peers in turn behind the same wire and the same generator, round by round.

mod goals;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::generate::{Burst, Count, Names, dnsperf, kxdpgun};
use super::memory;
use super::meter::{Meter, Usage};
use super::minutes;
use super::peers::Peer;
use super::report;
use super::search::{Search, Shot, Wall};
use super::site::{Mode, Placement, Site};

#[derive(Args)]
pub struct Options {
    /// Rounds; the goals ask for the median of at least five.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Parts of the bench; all of them if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How many names are asked for.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hot,10k,100k")]
    names: Vec<Names>,
    /// Queries the generator sends at a time.
    #[arg(long, value_delimiter = ',', default_value = "10,32")]
    batch: Vec<u32>,
    /// How resolverd attaches to the veth. The goals are those of a driver with native XDP.
    #[arg(long, value_enum, default_value = "xdp")]
    mode: Mode,
    /// Leave resolverd out: what a machine's Unbound and reflector do.
    #[arg(long)]
    baseline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// Cache hits: reflector, Unbound, resolverd.
    Hits,
    /// The daemon's own hits: kernel path off, and attached with every query passed.
    Daemon,
    /// p50 and p99 at 5 000 queries a second, both placements.
    Latency,
    /// Memory of a cached name.
    Memory,
}

/// One peer's highest rate without loss, and what an answer costs there.
#[derive(Debug, Clone, Serialize)]
struct Throughput {
    part: Part,
    round: u32,
    peer: Peer,
    names: u32,
    batch: u32,
    /// The best shot of the search.
    answers_per_sec: f64,
    /// Again at that rate, for longer: what is quoted.
    confirmed_per_sec: f64,
    loss: f64,
    /// Of the server's core, for an answer: process and receiving.
    micros: f64,
    user_micros: f64,
    napi_micros: f64,
    generator_bound: bool,
    /// Of the answers, by the kernel; what the daemon counts itself.
    kernel_share: Option<f64>,
    foreign: f64,
    steal: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Overload {
    round: u32,
    peer: Peer,
    peak_per_sec: f64,
    offered_per_sec: f64,
    answered_per_sec: f64,
    foreign: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Latency {
    round: u32,
    peer: Peer,
    steered: bool,
    answers: usize,
    loss: f64,
    p50_micros: f64,
    p99_micros: f64,
    foreign: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Memory {
    round: u32,
    peer: Peer,
    /// Octets, resident and of maps, with 10 000 and with 100 000 names.
    small: f64,
    large: f64,
    per_name: f64,
}

#[derive(Default, Serialize)]
struct Runs {
    throughput: Vec<Throughput>,
    overload: Vec<Overload>,
    latency: Vec<Latency>,
    memory: Vec<Memory>,
}

pub fn bench(options: &Options) -> Result<()> {
    let with_resolverd = !options.baseline;
    if with_resolverd {
        super::build_daemon()?;
    }
    let plan = Plan { options, with_resolverd };
    if options.rounds == 0 {
        bail!("no rounds, no figures");
    }
    println!(
        "about {}: {} rounds; other work on this machine spoils figures, and is told",
        minutes(plan.secs() * u64::from(options.rounds)),
        options.rounds
    );
    super::rig::rig()?;
    let start = Instant::now();
    let site = Site::new(options.mode)?;
    let mut runs = Runs::default();
    for round in 1..=options.rounds {
        println!(
            "round {round} of {}, after {}",
            options.rounds,
            minutes(start.elapsed().as_secs())
        );
        plan.round(&site, round, &mut runs)?;
    }
    let goals = goals::goals(&runs, &options.batch);
    report::print(&goals);
    let value: Value = json!(runs);
    let name = match options.mode {
        Mode::Xdp => "wire".to_owned(),
        other => format!("wire-{}", other.label()),
    };
    let path = report::write(&name, &goals, &value, options.rounds)?;
    println!("\n{} in all; {}", minutes(start.elapsed().as_secs()), path.display());
    Ok(())
}

struct Plan<'a> {
    options: &'a Options,
    with_resolverd: bool,
}

impl Plan<'_> {
    fn wants(&self, part: Part) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }

    /// Peers of a part, in the order they take turns.
    fn peers<'p>(&self, all: &'p [Peer]) -> impl Iterator<Item = Peer> + use<'p> {
        let with_resolverd = self.with_resolverd;
        all.iter().copied().filter(move |peer| with_resolverd || !peer.is_resolverd())
    }

    /// Of a round, as seen.
    fn secs(&self) -> u64 {
        let count = |all: &[Peer]| self.peers(all).count() as u64;
        let combinations = (self.options.names.len() * self.options.batch.len()) as u64;
        let mut secs = 0;
        if self.wants(Part::Hits) {
            secs += combinations * count(&HITS) * SEARCH_SECS;
        }
        if self.wants(Part::Daemon) {
            secs += count(&DAEMON) * (SEARCH_SECS + 5);
        }
        if self.wants(Part::Latency) {
            secs += 2 * count(&SERVERS) * 8;
        }
        if self.wants(Part::Memory) {
            secs += count(&SERVERS) * 25;
        }
        secs
    }

    fn round(&self, site: &Site, round: u32, runs: &mut Runs) -> Result<()> {
        if self.wants(Part::Hits) {
            for &names in &self.options.names {
                for &batch in &self.options.batch {
                    for peer in self.peers(&HITS) {
                        let part = Part::Hits;
                        let what = Measured { part, round, peer, names, batch };
                        what.throughput(site, runs)?;
                    }
                }
            }
        }
        if self.wants(Part::Daemon) {
            for peer in self.peers(&DAEMON) {
                let (part, names) = (Part::Daemon, Names::TenThousand);
                let what = Measured { part, round, peer, names, batch: DAEMON_BATCH };
                what.throughput(site, runs)?;
            }
        }
        if self.wants(Part::Latency) {
            for placement in [Placement::Inline, Placement::Steered] {
                for peer in self.peers(&SERVERS) {
                    latency(site, round, peer, placement, runs)?;
                }
            }
        }
        if self.wants(Part::Memory) {
            for peer in self.peers(&SERVERS) {
                memory(site, round, peer, runs)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Measured {
    part: Part,
    round: u32,
    peer: Peer,
    names: Names,
    batch: u32,
}

impl Measured {
    fn throughput(self, site: &Site, runs: &mut Runs) -> Result<()> {
        let Self { part, round, peer, names, batch } = self;
        site.steer(Placement::Steered)?;
        let running = peer.start(site, names.count())?;
        running.fill(site, names)?;
        let queries = names.file(site)?;
        let shoot = |rate: f64, secs: u32| kxdpgun(site, &queries, &Burst { rate, secs, batch });

        let mut search = Search::new(self.hint(runs));
        while let Some(rate) = search.rate() {
            search.saw(shoot(rate, 1)?.shot);
        }
        let Some((best, wall)) = search.found() else {
            bail!("{}: no rate at which next to nothing is lost", peer.label());
        };
        // A second without loss may have been luck, and a server past its wall answers less.
        let (mut rate, mut confirmed) = (best.rate, None);
        for _ in 0..CONFIRM_TRIES {
            let hits = running.kernel_hits()?;
            let meter = Meter::start(running.pid(), site.authority.pid());
            let count = shoot(rate, CONFIRM_SECS)?;
            let usage = meter.read();
            let hits = running.kernel_hits()?.zip(hits).map(|(after, before)| after - before);
            let better =
                confirmed.as_ref().is_none_or(|(before, ..): &(Count, Usage, Option<f64>)| {
                    count.shot.answered > before.shot.answered
                });
            if better {
                confirmed = Some((count, usage, hits));
            }
            if count.shot.loss() < CONFIRM_LOSS_MAX {
                break;
            }
            rate *= CONFIRM_STEP;
        }
        let (count, usage, hits) = confirmed.context("there was a try")?;
        let each = |nanos: f64| nanos / 1e3 / count.replies.max(1) as f64;
        let found = Throughput {
            part,
            round,
            peer,
            names: names.count(),
            batch,
            answers_per_sec: best.answered,
            confirmed_per_sec: count.shot.answered,
            loss: count.shot.loss(),
            micros: usage.micros_each(count.replies),
            user_micros: each(usage.user_nanos),
            napi_micros: each(usage.napi_nanos),
            generator_bound: wall == Wall::Generator,
            kernel_share: hits.map(|hits| hits / count.replies.max(1) as f64),
            foreign: usage.foreign,
            steal: usage.steal,
        };
        println!(
            "  {:<22} {:>4} names, batch {batch:>2}: {:>6}/s, {:.2} µs an answer{}, loss {:.1} %, \
             other work {:.0} %",
            peer.label(),
            names.label(),
            report::short(found.confirmed_per_sec),
            found.micros,
            if found.generator_bound { " (generator at its end)" } else { "" },
            found.loss * 100.0,
            found.foreign * 100.0
        );
        if matches!(peer, Peer::ResolverdOff | Peer::Unbound) && part == Part::Daemon {
            let offered = best.answered * OVERLOAD;
            let meter = Meter::start(running.pid(), site.authority.pid());
            let Shot { sent, answered, .. } = shoot(offered, CONFIRM_SECS)?.shot;
            runs.overload.push(Overload {
                round,
                peer,
                peak_per_sec: best.answered,
                offered_per_sec: sent,
                answered_per_sec: answered,
                foreign: meter.read().foreign,
            });
        }
        runs.throughput.push(found);
        Ok(())
    }

    /// Where the wall was for this peer before.
    fn hint(self, runs: &Runs) -> Option<f64> {
        let same = |run: &&Throughput| run.peer == self.peer && run.batch == self.batch;
        let near = |run: &&Throughput| run.names == self.names.count();
        let mut before = runs.throughput.iter().rev().filter(same);
        let exact = runs.throughput.iter().rev().filter(same).find(near);
        exact.or_else(|| before.next()).map(|run| run.answers_per_sec)
    }
}

fn latency(
    site: &Site,
    round: u32,
    peer: Peer,
    placement: Placement,
    runs: &mut Runs,
) -> Result<()> {
    let names = Names::TenThousand;
    let running = peer.start(site, names.count())?;
    running.fill(site, names)?;
    let _open = site.sockets(running.sends_back_by_xdp(site))?;
    site.steer(placement)?;
    let meter = Meter::start(running.pid(), site.authority.pid());
    let rate = LATENCY_RATE.to_string();
    let args = ["-Q", &rate, "-q", "1000", "-l", "3", "-t", "1", "-c", "1", "-v"];
    let said = dnsperf(site, &names.file(site)?, &args)?;
    let usage = meter.read();
    site.steer(Placement::Steered)?;
    let (Some(p50), Some(p99)) = (said.quantile(0.5), said.quantile(0.99)) else {
        bail!("{}: dnsperf got no answer", peer.label());
    };
    println!(
        "  {:<22} {placement:?}: p50 {p50:.0} µs, p99 {p99:.0} µs, other work {:.0} %",
        peer.label(),
        usage.foreign * 100.0
    );
    runs.latency.push(Latency {
        round,
        peer,
        steered: placement == Placement::Steered,
        answers: said.micros.len(),
        loss: 1.0 - said.completed / said.sent.max(1.0),
        p50_micros: p50,
        p99_micros: p99,
        foreign: usage.foreign,
    });
    Ok(())
}

/// A process of its own for each size: maps are sized at the start, and memory that was freed would
/// count as resident.
fn memory(site: &Site, round: u32, peer: Peer, runs: &mut Runs) -> Result<()> {
    let with = |names: Names| -> Result<f64> {
        let running = peer.start(site, names.count())?;
        running.fill(site, names)?;
        let Some(pid) = running.pid() else { bail!("{} has no process", peer.label()) };
        Ok(memory::resident(pid)? + memory::maps(pid)?)
    };
    let (small, large) = (with(Names::TenThousand)?, with(Names::HundredThousand)?);
    let more = Names::HundredThousand.count() - Names::TenThousand.count();
    let per_name = (large - small) / f64::from(more);
    println!("  {:<22} {per_name:.0} octets a name", peer.label());
    runs.memory.push(Memory { round, peer, small, large, per_name });
    Ok(())
}

const HITS: [Peer; 3] = [Peer::Reflector, Peer::Unbound, Peer::Resolverd];
const DAEMON: [Peer; 4] =
    [Peer::Unbound, Peer::ResolverdOff, Peer::ResolverdPassed, Peer::ResolverdEmpty];
const SERVERS: [Peer; 2] = [Peer::Unbound, Peer::Resolverd];

const DAEMON_BATCH: u32 = 10;
const CONFIRM_SECS: u32 = 2;
const CONFIRM_TRIES: u32 = 4;
const CONFIRM_LOSS_MAX: f64 = 0.02;
const CONFIRM_STEP: f64 = 0.95;
const OVERLOAD: f64 = 1.5;
const LATENCY_RATE: u32 = 5_000;
/// Start, fill, some shots of a second, the confirmation.
const SEARCH_SECS: u64 = 20;
