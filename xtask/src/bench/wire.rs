//! `bench wire`: peers in turn behind the same wire and the same generator, round by round.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::generate::{Burst, Names, dnsperf, kxdpgun};
use super::memory;
use super::meter::Meter;
use super::minutes;
use super::peers::Peer;
use super::report::{self, Bound, Goal};
use super::search::{Search, Shot, Wall};
use super::site::{Placement, Site};

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
    /// Share of the fill's last pass that the kernel answered.
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
    let with_resolverd = !options.baseline && has_resolverd();
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
    let site = Site::new()?;
    let mut runs = Runs::default();
    for round in 1..=options.rounds {
        println!(
            "round {round} of {}, after {}",
            options.rounds,
            minutes(start.elapsed().as_secs())
        );
        plan.round(&site, round, &mut runs)?;
    }
    let goals = goals(&runs, options);
    report::print(&goals);
    let value: Value = json!(runs);
    let path = report::write("wire", &goals, &value, options.rounds)?;
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
        let kernel_share = running.fill(site, names)?;
        let queries = names.file(site)?;
        let shoot = |rate: f64, secs: u32| kxdpgun(site, &queries, &Burst { rate, secs, batch });

        let mut search = Search::new(self.hint(runs));
        while let Some(rate) = search.rate() {
            search.saw(shoot(rate, 1)?.shot);
        }
        let Some((best, wall)) = search.found() else {
            bail!("{}: no rate at which next to nothing is lost", peer.label());
        };
        let meter = Meter::start(running.pid(), site.authority.pid());
        let count = shoot(best.rate, CONFIRM_SECS)?;
        let usage = meter.read();
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
            kernel_share,
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

fn has_resolverd() -> bool {
    let binary = lab::binary();
    if let Err(why) = &binary {
        println!("resolverd is left out: {why}");
    }
    binary.is_ok()
}

/// The table of "what it must reach", as far as the wire shows it.
fn goals(runs: &Runs, options: &Options) -> Vec<Goal> {
    let ten = Names::TenThousand.count();
    let mut goals = Vec::new();
    let mut add = |measure: &str, bound, (values, foreign): (Vec<f64>, f64), baseline| {
        let measure = measure.to_owned();
        goals.push(Goal { measure, bound, values, foreign, baseline });
    };
    let ratio = |of: Peer, to: Peer, names: u32, batch: u32, value: fn(&Throughput) -> f64| {
        let find = |peer: Peer| {
            runs.throughput
                .iter()
                .filter(move |run| run.peer == peer && run.names == names && run.batch == batch)
        };
        let pairs = find(of).filter_map(|a| {
            let b = find(to).find(|b| b.round == a.round && b.part == a.part)?;
            Some((value(a) / value(b), a.foreign.max(b.foreign)))
        });
        collect(pairs)
    };
    let micros = |run: &Throughput| run.micros;
    let rate = |run: &Throughput| run.confirmed_per_sec;
    for &batch in &options.batch {
        let title = format!("CPU a hit, resolverd / reflector, 10k names, batch {batch}");
        let values = ratio(Peer::Resolverd, Peer::Reflector, ten, batch, micros);
        add(&title, Bound::AtMost(1.7), values, "1.36");
        let title = format!("CPU a hit, resolverd / Unbound, 10k names, batch {batch}");
        let seen = if batch == 32 { "0.149" } else { "0.169" };
        add(
            &title,
            Bound::AtMost(0.25),
            ratio(Peer::Resolverd, Peer::Unbound, ten, batch, micros),
            seen,
        );
        let title = format!("hits/s, resolverd / Unbound, 10k names, batch {batch}");
        let (least, seen) = if batch == 32 { (5.0, "6.6") } else { (4.0, "5.2") };
        add(
            &title,
            Bound::AtLeast(least),
            ratio(Peer::Resolverd, Peer::Unbound, ten, batch, rate),
            seen,
        );
        let title = format!("hits/s, reflector / Unbound, 10k names, batch {batch}");
        add(
            &title,
            Bound::Told,
            ratio(Peer::Reflector, Peer::Unbound, ten, batch, rate),
            "5.9, 6.9",
        );
    }
    let daemon = |of, to| ratio(of, to, ten, DAEMON_BATCH, rate);
    add(
        "daemon's own hits/s, kernel off / Unbound",
        Bound::AtLeast(1.0),
        daemon(Peer::ResolverdOff, Peer::Unbound),
        "0.98 dnsdist",
    );
    add(
        "daemon's own hits/s, all passed / kernel off",
        Bound::AtLeast(0.95),
        daemon(Peer::ResolverdPassed, Peer::ResolverdOff),
        "-",
    );
    for (peer, bound) in [(Peer::ResolverdOff, Bound::AtLeast(0.8)), (Peer::Unbound, Bound::Told)] {
        let over = runs.overload.iter().filter(|run| run.peer == peer);
        let values =
            collect(over.map(|run| (run.answered_per_sec / run.peak_per_sec, run.foreign)));
        add(&format!("{}: at 1.5x its peak / the peak", peer.label()), bound, values, "-");
    }
    for (steered, most, seen) in [(false, 0.5, "0.33"), (true, 1.0, "0.85")] {
        let of = |peer| runs.latency.iter().filter(move |r| r.peer == peer && r.steered == steered);
        let pairs = of(Peer::Resolverd).filter_map(|a| {
            let b = of(Peer::Unbound).find(|b| b.round == a.round)?;
            Some((a.p50_micros / b.p50_micros, a.foreign.max(b.foreign)))
        });
        let place = if steered { "server's" } else { "sender's" };
        let title = format!("p50 at 5k/s, resolverd / Unbound, received on the {place} core");
        add(&title, Bound::AtMost(most), collect(pairs), seen);
        for peer in SERVERS {
            for (at, value) in [
                ("p50", (|r: &Latency| r.p50_micros) as fn(&Latency) -> f64),
                ("p99", |r: &Latency| r.p99_micros),
            ] {
                let values = collect(of(peer).map(|run| (value(run), run.foreign)));
                let title = format!("{}: {at} in µs, received on the {place} core", peer.label());
                add(&title, Bound::Told, values, "-");
            }
        }
    }
    let of = |peer| runs.memory.iter().filter(move |run| run.peer == peer);
    let pairs = of(Peer::Resolverd).filter_map(|a| {
        let b = of(Peer::Unbound).find(|b| b.round == a.round)?;
        Some((a.per_name / b.per_name, 0.0))
    });
    let values = collect(pairs);
    add("memory of a cached short A, resolverd / Unbound", Bound::AtMost(1.0), values, "0.48 BIND");
    for peer in SERVERS {
        let values = collect(of(peer).map(|run| (run.per_name, 0.0)));
        add(&format!("{}: octets a cached name", peer.label()), Bound::Told, values, "642 Unbound");
    }
    goals
}

/// Values, and the worst of what goes with them.
fn collect(pairs: impl Iterator<Item = (f64, f64)>) -> (Vec<f64>, f64) {
    let (values, foreign): (Vec<f64>, Vec<f64>) = pairs.unzip();
    (values, foreign.into_iter().fold(0.0, f64::max))
}

const HITS: [Peer; 3] = [Peer::Reflector, Peer::Unbound, Peer::Resolverd];
const DAEMON: [Peer; 3] = [Peer::Unbound, Peer::ResolverdOff, Peer::ResolverdPassed];
const SERVERS: [Peer; 2] = [Peer::Unbound, Peer::Resolverd];

const DAEMON_BATCH: u32 = 10;
const CONFIRM_SECS: u32 = 2;
const OVERLOAD: f64 = 1.5;
const LATENCY_RATE: u32 = 5_000;
/// Start, fill, some shots of a second, the confirmation.
const SEARCH_SECS: u64 = 16;
