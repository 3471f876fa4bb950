//! `bench kernel`: what a packet costs in the program, and a flood that has no socket in it.
//!
//! Answers are measured by the kernel's own accounting (`bpf_stats`) under a flood of live frames:
//! a test run does not give the packet back as it was, so its second repeat would be no query.
//! Packets that are passed stay as they are, and are measured by test runs. Both ways cost some
//! nanoseconds themselves: an empty program, measured the same way in the same round, is taken off.

mod frames;
mod goals;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use lab::Ask;
use serde::Serialize;
use serde_json::json;

use super::generate::{Flood, Names, dnsperf, flood};
use super::meter::Meter;
use super::minutes;
use super::peers::{Peer, Running};
use super::report;
use super::rig::{self, Held, accounted};
use super::site::{Mode, NAMES, SERVER_CORE, SERVER_DEVICE, Site};
use frames::{Ends, hex, octets};

#[derive(Args)]
pub struct Options {
    /// Rounds; the goals ask for the median of at least five.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Parts of the bench; all of them if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Leave resolverd out.
    #[arg(long)]
    baseline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds a packet, by outcome.
    Outcomes,
    /// 1.5 million frames a second: what is lost.
    Flood,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// A, one of one name.
    HitHot,
    /// A, one of 10 000 names.
    Hit10k,
    /// A, one of 100 000 names.
    Hit100k,
    /// Eight A records.
    HitEight,
    /// A with its signature, DO set.
    HitSigned,
    /// A name that is not there.
    HitNxdomain,
    /// A, one of 10 000 names, with a cookie of ours.
    HitCookie,
    /// A query nobody asked before.
    PassDns,
    /// UDP to another port.
    PassUdp,
    /// TCP.
    PassTcp,
}

const HITS: [Outcome; 7] = [
    Outcome::HitHot,
    Outcome::Hit10k,
    Outcome::Hit100k,
    Outcome::HitEight,
    Outcome::HitSigned,
    Outcome::HitNxdomain,
    Outcome::HitCookie,
];
const GUARDED: [Outcome; 5] =
    [Outcome::HitHot, Outcome::Hit10k, Outcome::Hit100k, Outcome::HitCookie, Outcome::PassDns];
const PASSES: [Outcome; 3] = [Outcome::PassDns, Outcome::PassUdp, Outcome::PassTcp];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Program {
    Empty,
    Reflector,
    Resolverd,
    /// With an access list, views, limits and a policy zone.
    Guarded,
}

#[derive(Debug, Clone, Serialize)]
struct Cost {
    round: u32,
    program: Program,
    outcome: Outcome,
    /// As measured, the empty program's included.
    nanos: f64,
    /// Of the runs, by what resolverd counts itself.
    hit_share: Option<f64>,
    foreign: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Loss {
    round: u32,
    program: Program,
    names: u32,
    sent_per_sec: f64,
    loss: f64,
    /// Of the server's core, for a frame.
    micros: f64,
    foreign: f64,
}

#[derive(Default, Serialize)]
struct Runs {
    costs: Vec<Cost>,
    losses: Vec<Loss>,
}

pub fn bench(options: &Options) -> Result<()> {
    let with_resolverd = !options.baseline;
    if with_resolverd {
        super::build_daemon()?;
    }
    if options.rounds == 0 {
        bail!("no rounds, no figures");
    }
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    let programs: &[Program] = if with_resolverd {
        &[Program::Empty, Program::Reflector, Program::Resolverd, Program::Guarded]
    } else {
        &[Program::Empty, Program::Reflector]
    };
    let secs = programs.iter().map(|program| program.secs(&wants)).sum::<u64>();
    println!(
        "about {}: {} rounds; other work on this machine spoils figures, and is told",
        minutes(secs * u64::from(options.rounds)),
        options.rounds
    );
    rig::rig()?;
    let start = Instant::now();
    let site = Site::new(Mode::Xdp)?;
    let mut runs = Runs::default();
    for round in 1..=options.rounds {
        println!(
            "round {round} of {}, after {}",
            options.rounds,
            minutes(start.elapsed().as_secs())
        );
        for &program in programs {
            let turn = Turn { site: &site, round, program };
            turn.take(&wants, &mut runs)?;
        }
    }
    let goals = goals::goals(&runs);
    report::print(&goals);
    let path = report::write("kernel", &goals, &json!(runs), options.rounds)?;
    println!("\n{} in all; {}", minutes(start.elapsed().as_secs()), path.display());
    Ok(())
}

impl Program {
    /// Of a round, as seen.
    fn secs(self, wants: &impl Fn(Part) -> bool) -> u64 {
        let outcomes = match self {
            Self::Resolverd => 60,
            Self::Guarded => 45,
            Self::Empty | Self::Reflector => 6,
        };
        let floods = if self == Self::Empty { 0 } else { 8 };
        u64::from(wants(Part::Outcomes)) * outcomes + u64::from(wants(Part::Flood)) * floods
    }

    fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty program",
            Self::Reflector => "reflector",
            Self::Resolverd => "resolverd",
            Self::Guarded => "guarded",
        }
    }

    /// Without an own look at the name, one outcome is like another.
    fn measures(self, outcome: Outcome) -> bool {
        match self {
            Self::Empty | Self::Reflector => {
                matches!(outcome, Outcome::Hit10k | Outcome::PassDns)
            }
            Self::Resolverd => outcome != Outcome::HitCookie,
            Self::Guarded => GUARDED.contains(&outcome),
        }
    }
}

impl Attached {
    /// What the kernel has answered by resolverd's program so far.
    fn hits(&self) -> Result<Option<f64>> {
        match self {
            Self::Empty(_) => Ok(None),
            Self::Peer(running) => running.kernel_hits(),
        }
    }
}

/// One program's turn in a round.
struct Turn<'a> {
    site: &'a Site,
    round: u32,
    program: Program,
}

/// What is attached while it lasts.
enum Attached {
    Empty(Held),
    Peer(Running),
}

impl Turn<'_> {
    fn take(&self, wants: &impl Fn(Part) -> bool, runs: &mut Runs) -> Result<()> {
        let attached = self.attach()?;
        if wants(Part::Outcomes) {
            // The accounting costs a little itself: only for as long as it is read.
            let _accounting = Held::start(&self.site.server, &["account"])?;
            for outcome in HITS.into_iter().filter(|outcome| self.program.measures(*outcome)) {
                self.under_flood(&attached, outcome, runs)?;
            }
            drop(_accounting);
            for outcome in PASSES.into_iter().filter(|outcome| self.program.measures(*outcome)) {
                self.repeated(&attached, outcome, runs)?;
            }
        }
        if wants(Part::Flood) && self.program != Program::Empty {
            for names in [Names::TenThousand, Names::HundredThousand] {
                self.lost(&attached, names, runs)?;
            }
        }
        Ok(())
    }

    fn attach(&self) -> Result<Attached> {
        let peer = match self.program {
            Program::Empty => {
                let held = rig::attach(&self.site.server, "empty_tx", SERVER_DEVICE)?;
                return Ok(Attached::Empty(held));
            }
            Program::Reflector => Peer::Reflector,
            Program::Resolverd => Peer::Resolverd,
            Program::Guarded => Peer::ResolverdGuarded,
        };
        let running = peer.start(self.site, NAMES)?;
        running.fill(self.site, Names::HundredThousand)?;
        let _open = self.site.sockets(running.sends_back_by_xdp(self.site))?;
        if running.daemon().is_some() {
            let others =
                [Outcome::HitEight, Outcome::HitSigned, Outcome::HitNxdomain, Outcome::HitCookie];
            for outcome in others.into_iter().filter(|outcome| self.program.measures(*outcome)) {
                fill(self.site, outcome)?;
            }
        }
        Ok(Attached::Peer(running))
    }

    fn under_flood(&self, attached: &Attached, outcome: Outcome, runs: &mut Runs) -> Result<()> {
        let id = match attached {
            Attached::Empty(held) => rig::word(&held.said, "id")? as u32,
            Attached::Peer(running) => running.program(self.site)?,
        };
        let frame = self.frame(outcome)?;
        let meter = self.meter(attached);
        let hits = attached.hits()?;
        let before = accounted(id)?;
        let plan = Flood { frame: &frame, names: outcome.names(), secs: 2.0, rate: RATE_COSTS };
        let flooded = flood(self.site, &plan)?;
        let after = accounted(id)?;
        let usage = meter.read();
        let nanos = (after.0 - before.0) / (after.1 - before.1).max(1.0);
        let hits = attached.hits()?.zip(hits).map(|(after, before)| after - before);
        let share = hits.map(|hits| hits / (after.1 - before.1).max(1.0));
        if let Some(share) = share.filter(|share| *share < HITS_SHARE_MIN) {
            println!("  {outcome:?}: only {:.1} % are hits", share * 100.0);
        }
        if flooded.failed > 0 {
            bail!("{outcome:?}: {} answers said that something failed", flooded.failed);
        }
        self.push(runs, outcome, nanos, share, usage.foreign);
        Ok(())
    }

    /// A test run of a packet that the program passes.
    fn repeated(&self, attached: &Attached, outcome: Outcome, runs: &mut Runs) -> Result<()> {
        let frame = hex(&self.frame(outcome)?);
        let rig = rig::rig()?;
        let meter = self.meter(attached);
        let (which, what) = self.repeatable(attached, rig)?;
        let mut command = self.site.on(&self.site.server, SERVER_CORE, &rig.program);
        command.args(["repeat", &which, &what, SERVER_DEVICE, &frame, &REPEATS.to_string()]);
        let said = lab::run(&mut command)?;
        if rig::word(&said, "verdict")? as u32 != XDP_PASS && self.program != Program::Reflector {
            bail!("{outcome:?} of {}: not passed: {said}", self.program.label());
        }
        self.push(runs, outcome, rig::word(&said, "nanos")?, None, meter.read().foreign);
        Ok(())
    }

    /// What `bench-rig repeat` may be told: an object and a program, or `pin` and a path.
    fn repeatable(&self, attached: &Attached, rig: &rig::Rig) -> Result<(String, String)> {
        let object = rig.object.display().to_string();
        Ok(match attached {
            Attached::Empty(_) => (object, "empty_pass".to_owned()),
            Attached::Peer(running) => match running.daemon() {
                None => (object, "reflect".to_owned()),
                Some(daemon) => {
                    // The daemon pins its links and maps, not its program. Beside its pins is a
                    // file system that takes one, and that goes with the daemon's guard.
                    let path = daemon.dir().join("bpf/bench-program").display().to_string();
                    if !Path::new(&path).exists() {
                        let id = running.program(self.site)?.to_string();
                        lab::run(Command::new("bpftool").args(["prog", "pin", "id", &id, &path]))?;
                    }
                    ("pin".to_owned(), path)
                }
            },
        })
    }

    fn lost(&self, attached: &Attached, names: Names, runs: &mut Runs) -> Result<()> {
        let frame = self.frame(Outcome::Hit10k)?;
        let meter = self.meter(attached);
        let plan = Flood { frame: &frame, names: names.count(), secs: 2.0, rate: RATE_FLOOD };
        let flooded = flood(self.site, &plan)?;
        let usage = meter.read();
        let loss = Loss {
            round: self.round,
            program: self.program,
            names: names.count(),
            sent_per_sec: flooded.sent as f64 / flooded.secs,
            loss: flooded.loss(),
            micros: usage.micros_each(flooded.replies),
            foreign: usage.foreign,
        };
        println!(
            "  {:<14} flood of {:>4} names: {}/s sent, {:.2} % lost, {:.2} µs a frame, \
             other work {:.0} %",
            self.program.label(),
            names.label(),
            report::short(loss.sent_per_sec),
            loss.loss * 100.0,
            loss.micros,
            loss.foreign * 100.0
        );
        runs.losses.push(loss);
        Ok(())
    }

    fn push(
        &self,
        runs: &mut Runs,
        outcome: Outcome,
        nanos: f64,
        hit_share: Option<f64>,
        foreign: f64,
    ) {
        println!(
            "  {:<14} {:<12} {nanos:>6.1} ns as measured, other work {:.0} %",
            self.program.label(),
            format!("{outcome:?}"),
            foreign * 100.0
        );
        let (round, program) = (self.round, self.program);
        runs.costs.push(Cost { round, program, outcome, nanos, hit_share, foreign });
    }

    fn meter(&self, attached: &Attached) -> Meter {
        let pid = match attached {
            Attached::Empty(_) => None,
            Attached::Peer(running) => running.pid(),
        };
        Meter::start(pid, self.site.authority.pid())
    }

    fn frame(&self, outcome: Outcome) -> Result<Vec<u8>> {
        let source = octets(&self.site.client.mac(super::site::CLIENT_DEVICE)?)?;
        let dest = octets(&self.site.server.mac(SERVER_DEVICE)?)?;
        let wire = self.site.client_wire;
        let ends = Ends { source, dest, from: wire.near.octets(), to: wire.far.octets() };
        Ok(match outcome {
            Outcome::PassUdp => ends.udp(9_999, &[0; 32]),
            Outcome::PassTcp => ends.tcp(443),
            Outcome::HitCookie => {
                let given = cookie(self.site)?;
                ends.udp(53, &outcome.ask().option(COOKIE, &given).bytes())
            }
            _ => ends.udp(53, &outcome.ask().bytes()),
        })
    }
}

impl Outcome {
    /// The question, whose first label `nDDDDDD` the flood changes.
    fn ask(self) -> Ask {
        match self {
            Self::HitEight => Ask::new("e000000.bench.test.", "A"),
            Self::HitSigned => Ask::new("n000000.signed-bench.test.", "A").dnssec(),
            Self::HitNxdomain => Ask::new("x000000.bench.test.", "A"),
            Self::PassDns => Ask::new("z999999.never-asked.bench.test.", "A"),
            _ => Ask::new("n000000.bench.test.", "A"),
        }
    }

    fn names(self) -> u32 {
        match self {
            Self::HitHot => 1,
            Self::Hit10k | Self::HitCookie => Names::TenThousand.count(),
            Self::Hit100k => Names::HundredThousand.count(),
            // Answers of a larger class have fewer places.
            _ => NAMES_OF_SETS,
        }
    }
}

/// Asks for all names of an outcome until they have been published. Whether the kernel answers them
/// shows under the flood: on a veth a packet that came from a socket may have no room to grow.
fn fill(site: &Site, outcome: Outcome) -> Result<()> {
    let ask = outcome.ask();
    let mut text = String::new();
    for i in 0..outcome.names() {
        let (first, rest) = (&ask.name[..1], &ask.name[7..]);
        let _ = writeln!(text, "{first}{i:06}{rest} A");
    }
    let file = site.scratch.write(&format!("queries-{outcome:?}"), &text)?;
    let mut args = vec!["-n", "1", "-q", "50", "-t", "2"];
    if ask.edns.is_some_and(|edns| edns.dnssec_ok) {
        args.push("-D");
    } else if outcome == Outcome::HitCookie {
        args.push("-e");
    }
    for _ in 0..PASSES_OF_SETS {
        dnsperf(site, &file, &args)?;
    }
    Ok(())
}

/// What the daemon gives a client for the address that the floods come from.
fn cookie(site: &Site) -> Result<Vec<u8>> {
    let _open = site.sockets(true)?;
    let ask = Ask::new("n000000.bench.test.", "A").option(COOKIE, b"8 octets");
    let reply = site.client.ask(site.address(), &ask)?;
    let options = reply.edns.map(|edns| edns.options).unwrap_or_default();
    let given = options.into_iter().find(|(code, _)| *code == COOKIE);
    given.map(|(_, data)| data).context("resolverd gave no cookie")
}

/// RFC 7873 section 4.
const COOKIE: u16 = 10;
/// Offered while costs are read: below what anybody loses.
const RATE_COSTS: u64 = 1_000_000;
const RATE_FLOOD: u64 = 1_500_000;
const REPEATS: u32 = 5_000_000;
const NAMES_OF_SETS: u32 = 200;
/// As often as the daemon needs to be asked to take a name for one that is asked for.
const PASSES_OF_SETS: u32 = 5;
/// Of the runs that a cost is the mean of.
const HITS_SHARE_MIN: f64 = 0.98;
const XDP_PASS: u32 = 2;
