//! First answers: a resolver that knows nothing, on a fake Internet whose servers are far away.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::internet::{HOSTS, Internet, Place, Plan, addresses};
use lab::{Ask, Daemon, Delay, Process, Scratch};
use serde::Serialize;

use super::super::site::{GENERATOR_CORE, SERVER_CORE};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    Unbound,
    Resolverd,
}

/// Times of all first answers of a round, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Cold {
    pub round: u32,
    pub who: Who,
    pub answers: usize,
    pub asked: usize,
    pub p50: f64,
    pub p99: f64,
    pub mean: f64,
}

pub fn round(round: u32, runs: &mut Vec<Cold>) -> Result<()> {
    // Another Internet each round, the same for both.
    let plan = Plan::of_seed(SEED + u64::from(round));
    let internet = Internet::start_on(&plan, BEHIND)?;
    let paths: Vec<_> = (0..HOSTS)
        .flat_map(|host| addresses(host).map(|address| (address, PATHS[host % PATHS.len()])))
        .collect();
    let _delay = Delay::start(internet.namespace(), BEHIND, &paths)?;
    let questions = questions(&plan);
    // Who goes first differs, so that what the first leaves in the machine is shared out.
    let order = [Who::Unbound, Who::Resolverd];
    for n in 0..order.len() {
        let who = order[(n + round as usize) % order.len()];
        runs.push(measure(&internet, round, who, &questions)?);
    }
    Ok(())
}

/// What the Internet has and nothing is wrong with, in an order by chance that is the plan's.
fn questions(plan: &Plan) -> String {
    let mut lines: Vec<String> = Vec::new();
    for zone in plan.zones.iter().filter(|zone| {
        plan.upwards(zone).all(|above| above.fault.is_none()) && zone.above.is_some()
    }) {
        for record in &zone.records {
            let plain = !record.owner.contains('*') && !record.owner.contains('\\');
            if plain && matches!(record.rtype, "A" | "AAAA" | "MX" | "TXT") {
                lines.push(format!("{} {}", record.owner, record.rtype));
            }
        }
    }
    lines.sort();
    lines.dedup();
    let mut random = lab::internet::Random::of_seed(plan.seed);
    for at in (1..lines.len()).rev() {
        lines.swap(at, random.below(at + 1));
    }
    lines.truncate(QUESTIONS_MAX);
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    })
}

fn measure(internet: &Internet, round: u32, who: Who, questions: &str) -> Result<Cold> {
    let place = internet.attach(if who == Who::Unbound { "unbound" } else { "resolverd" })?;
    let files = Scratch::new("cold")?;
    let _running: Box<dyn std::any::Any> = match who {
        Who::Unbound => Box::new(unbound(internet, &place, &files)?),
        Who::Resolverd => Box::new(resolverd(internet, &place)?),
    };
    let path = files.write("questions", questions)?;
    let dnsperf = lab::find("dnsperf").context("the bench needs `dnsperf`")?;
    let core = GENERATOR_CORE.to_string();
    let mut command = place.namespace.command("taskset");
    command.args(["-c", &core]).arg(dnsperf).args(["-s", &place.v4.to_string(), "-d"]).arg(path);
    command.args(["-q", UNDER_WAY, "-c", "1", "-n", "1", "-t", "10", "-v", "-D"]);
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // `> NOERROR www.example.com. A 0.081233`
    let lines = said.lines().filter_map(|line| line.strip_prefix("> ")?.rsplit_once(' '));
    let mut millis: Vec<f64> =
        lines.filter_map(|(_, secs)| Some(secs.parse::<f64>().ok()? * 1e3)).collect();
    millis.sort_by(f64::total_cmp);
    if millis.is_empty() {
        bail!("dnsperf got no answer: {said}");
    }
    let at = |share: f64| millis[((share * millis.len() as f64) as usize).min(millis.len() - 1)];
    let found = Cold {
        round,
        who,
        answers: millis.len(),
        asked: questions.lines().count(),
        p50: at(0.5),
        p99: at(0.99),
        mean: millis.iter().sum::<f64>() / millis.len() as f64,
    };
    println!(
        "  {who:?}: {} first answers of {}, p50 {:.1} ms, p99 {:.0} ms, mean {:.1} ms",
        found.answers, found.asked, found.p50, found.p99, found.mean
    );
    Ok(found)
}

fn resolverd(internet: &Internet, place: &Place) -> Result<Daemon> {
    let text = format!(
        "[server]\nlisten = [\"{}\"]\n[kernel]\nmode = \"off\"\n\
         [acl]\nallow = [\"10.53.0.0/16\"]\n\
         [resolve]\nmode = \"recurse\"\nroot-hints = \"{}\"\n\
         allow-server = [\"10.53.0.0/16\", \"fd53::/16\"]\n\
         [dnssec]\ntrust-anchor-files = [\"{}\"]\nrfc5011 = false\n[log]\nlevel = \"warn\"\n",
        place.at(),
        internet.hints().display(),
        internet.trust_anchor().display()
    );
    let core = SERVER_CORE.to_string();
    Daemon::start_by(&place.namespace, &text, &["taskset", "-c", &core])
}

fn unbound(internet: &Internet, place: &Place, files: &Scratch) -> Result<Process> {
    let config = files.write(
        "unbound.conf",
        &format!(
            "server:\n  interface: {}@53\n  access-control: 10.53.0.0/16 allow\n  \
             num-threads: 1\n  chroot: \"\"\n  username: \"\"\n  directory: \"{}\"\n  \
             pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  \
             module-config: \"validator iterator\"\n  root-hints: \"{}\"\n  \
             trust-anchor-file: \"{}\"\n  local-zone: \"test.\" transparent\n\
             remote-control:\n  control-enable: no\n",
            place.v4,
            files.path().display(),
            internet.hints().display(),
            internet.trust_anchor().display()
        ),
    )?;
    let program = lab::find("unbound").context("the bench needs `unbound`")?;
    let core = SERVER_CORE.to_string();
    let mut command = place.namespace.command("taskset");
    command.args(["-c", &core]).arg(program).arg("-d").arg("-c").arg(&config);
    let mut process = Process::start("unbound", command, &files.path().join("log"))?;
    // `version.bind` needs no Internet.
    process.ready("unbound answers", || {
        place.namespace.ask(place.at(), &Ask::new("localhost.", "A")).is_ok()
    })?;
    Ok(process)
}

/// Of a round trip, by the number of the host.
const PATHS: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(80)];
const SEED: u64 = 100;
/// Where the servers really listen.
const BEHIND: u16 = 5_353;
const QUESTIONS_MAX: usize = 400;
/// So that what is quoted is the time of an answer, and not of waiting for a turn.
const UNDER_WAY: &str = "4";
