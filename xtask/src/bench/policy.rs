//! `bench policy`: a policy zone of a million rules is taken over while clients ask.
//!
//! From a file at a reload, and from a primary (knotd) by AXFR. The kernel path is off, so that
//! every query is one of the daemon's; they are hits, which nothing but the daemon can delay.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lab::{Ask, Daemon, Process, wait};
use serde::Serialize;
use serde_json::json;

use super::generate::{Names, ask_all, dnsperf};
use super::memory;
use super::report::{self, Bound, Goal};
use super::site::{Mode, SERVER_CORE, Site};

#[derive(Args)]
pub struct Options {
    /// Rules of the zone.
    #[arg(long, default_value_t = 1_000_000)]
    rules: u32,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

/// What clients saw while something was done, and how long that took.
#[derive(Debug, Clone, Copy, Serialize)]
struct Phase {
    secs: f64,
    p50_micros: f64,
    p99_micros: f64,
    most_micros: f64,
    lost: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    quiet: Phase,
    file: Phase,
    transfer: Phase,
    /// Octets for each rule, resident.
    per_rule: f64,
}

pub fn bench(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds, no figures");
    }
    super::build_daemon()?;
    let site = Site::new(Mode::Xdp)?;
    let zone = site.scratch.path().join("rpz.zone");
    write_zone(&zone, options.rules)?;
    let primary = Primary::start(&site, &zone)?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        rounds.push(one_round(&site, &zone, options.rules)?);
    }
    drop(primary);
    let goals = goals(&rounds);
    report::print(&goals);
    let path = report::write("policy", &goals, &json!(rounds), options.rounds)?;
    println!("\n{}", path.display());
    Ok(())
}

fn one_round(site: &Site, zone: &Path, rules: u32) -> Result<Round> {
    // Not in real time: threads of one core would take turns of 100 ms.
    let core = SERVER_CORE.to_string();
    let by = ["taskset", "-c", &core];
    let daemon = Daemon::start_by(&site.server, &configuration(site, ""), &by)?;
    let queries = Names::TenThousand.file(site)?;
    (0..2).try_for_each(|_| ask_all(site, &queries).map(drop))?;
    let all_there = || {
        let now = daemon.metric("resolverd_policy_rpz_rules", &[("zone", ZONE)]);
        now.is_ok_and(|now| now >= f64::from(rules))
    };
    let before = memory::resident(daemon.pid())?;
    let quiet = during(site, &queries, || Ok(()))?;
    let file = during(site, &queries, || {
        let rpz = format!("file = \"{}\"", zone.display());
        daemon.rewrite(&configuration(site, &rpz))?;
        daemon.cli(&["reload"]).map(drop)
    })?;
    let per_rule = (memory::resident(daemon.pid())? - before) / f64::from(rules);
    anyhow::ensure!(all_there(), "the zone is not there after its reload\n{}", daemon.log());
    daemon.rewrite(&configuration(site, ""))?;
    daemon.cli(&["reload"])?;
    let transfer = during(site, &queries, || {
        let rpz = format!("primaries = [\"{}:{PORT}\"]", site.upstream().ip());
        daemon.rewrite(&configuration(site, &rpz))?;
        daemon.cli(&["reload"])?;
        wait::until("the transfer's end", Duration::from_secs(60), all_there)
            .with_context(|| daemon.log())
    })?;
    let round = Round { quiet, file, transfer, per_rule };
    println!("  {round:?}");
    Ok(round)
}

/// Asks at a steady pace while `change` is done, and a moment before and after.
fn during(site: &Site, queries: &Path, change: impl FnOnce() -> Result<()>) -> Result<Phase> {
    let secs = ASKING.as_secs().to_string();
    let rate = RATE.to_string();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            dnsperf(site, queries, &["-Q", &rate, "-q", "1000", "-l", &secs, "-c", "1", "-v"])
        });
        thread::sleep(BEFORE);
        let start = Instant::now();
        change()?;
        let took = start.elapsed();
        let said = asking.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??;
        if took + BEFORE > ASKING {
            bail!("it took {took:?}, longer than was asked");
        }
        let at = |share| said.quantile(share).context("dnsperf got no answer");
        Ok(Phase {
            secs: took.as_secs_f64(),
            p50_micros: at(0.5)?,
            p99_micros: at(0.99)?,
            most_micros: at(1.0)?,
            lost: said.sent - said.completed,
        })
    })
}

fn goals(rounds: &[Round]) -> Vec<Goal> {
    let goal = |measure: &str, bound, value: fn(&Round) -> f64| Goal {
        measure: measure.to_owned(),
        bound,
        values: rounds.iter().map(value).collect(),
        foreign: 0.0,
        baseline: "",
    };
    vec![
        goal("octets a rule, resident", Bound::Told, |r| r.per_rule),
        goal("a reload with the zone's file, s", Bound::Told, |r| r.file.secs),
        goal("from the reload to the transferred zone, s", Bound::Told, |r| r.transfer.secs),
        goal("p99 of hits in quiet, µs", Bound::Told, |r| r.quiet.p99_micros),
        goal("p99 with the file read ÷ in quiet", Bound::AtMost(2.0), |r| {
            r.file.p99_micros / r.quiet.p99_micros
        }),
        goal("p99 with the transfer ÷ in quiet", Bound::AtMost(2.0), |r| {
            r.transfer.p99_micros / r.quiet.p99_micros
        }),
        goal("the slowest hit with the file read, ms", Bound::AtMost(STALL_MILLIS), |r| {
            r.file.most_micros / 1e3
        }),
        goal("the slowest hit with the transfer, ms", Bound::AtMost(STALL_MILLIS), |r| {
            r.transfer.most_micros / 1e3
        }),
        goal("queries lost", Bound::AtMost(0.0), |r| r.file.lost + r.transfer.lost),
    ]
}

fn configuration(site: &Site, rpz: &str) -> String {
    let rpz = match rpz {
        "" => String::new(),
        from => format!("[[rpz]]\nzone = \"{ZONE}\"\n{from}\n"),
    };
    format!(
        "[server]\nlisten = [\"{}\"]\n[kernel]\nmode = \"off\"\n\
         [resolve]\nmode = \"forward\"\nupstream-from = \"none\"\n\
         [[upstream]]\nname = \"bench\"\naddress = \"{}\"\nprotocol = \"udp\"\n\
         [acl]\nallow = [\"10.53.0.0/16\"]\n[log]\nlevel = \"warn\"\n{rpz}",
        site.address(),
        site.upstream()
    )
}

/// Names like those of real feeds, of which none is asked for.
fn write_zone(path: &Path, rules: u32) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    write!(out, "$ORIGIN {ZONE}\n$TTL 300\n@ SOA ns root 1 3600 600 86400 60\n@ NS localhost.\n")?;
    let mut line = String::new();
    for n in 0..rules {
        line.clear();
        let _ = writeln!(line, "host{n:07}.advertising-{}.example CNAME .", n % 997);
        out.write_all(line.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// knotd with the policy zone.
struct Primary {
    _process: Process,
}

impl Primary {
    fn start(site: &Site, zone: &Path) -> Result<Self> {
        let dir: PathBuf = site.scratch.path().join("primary");
        std::fs::create_dir_all(&dir)?;
        let at = site.upstream().ip();
        let text = format!(
            "server:\n  rundir: \"{dir}\"\n  listen: {at}@{PORT}\ndatabase:\n  storage: \"{dir}\"\n\
             log:\n  - target: stderr\n    any: warning\n\
             acl:\n  - id: all\n    address: 10.53.0.0/16\n    action: transfer\n\
             zone:\n  - domain: {ZONE}\n    file: \"{}\"\n    acl: all\n    \
             semantic-checks: off\n",
            zone.display(),
            dir = dir.display(),
        );
        let config = site.scratch.write("primary.conf", &text)?;
        let knotd = lab::find("knotd").context("the bench needs `knotd`: `cargo xtask setup`")?;
        let mut command = site.upstream_side.command(knotd);
        command.arg("-c").arg(&config);
        let mut process = Process::start("knotd", command, &dir.join("log"))?;
        process.ready("knotd answers for the policy zone", || {
            let asked = site.upstream_side.ask((at, PORT).into(), &Ask::new(ZONE, "SOA"));
            asked.is_ok_and(|reply| reply.of_type("SOA").next().is_some())
        })?;
        Ok(Self { _process: process })
    }
}

const ZONE: &str = "rpz.test.";
const PORT: u16 = 5_353;
/// Queries a second: what a busy site asks.
const RATE: u32 = 5_000;
const ASKING: Duration = Duration::from_secs(15);
const BEFORE: Duration = Duration::from_secs(1);
/// A hit that takes longer waits for the change.
const STALL_MILLIS: f64 = 50.0;
