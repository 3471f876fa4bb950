//! The generators, as they are called and what they say: kxdpgun, dnsperf and our flood.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::rig;
use super::search::Shot;
use super::site::{CLIENT_DEVICE, GENERATOR_CORE, NAMES, Site};

/// Which names are asked for. All are in the upstream's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Names {
    /// One name.
    Hot,
    /// 10 000, each as often.
    #[value(name = "10k")]
    TenThousand,
    /// 100 000, each as often.
    #[value(name = "100k")]
    HundredThousand,
}

impl Names {
    pub fn count(self) -> u32 {
        match self {
            Self::Hot => 1,
            Self::TenThousand => 10_000,
            Self::HundredThousand => NAMES,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::TenThousand => "10k",
            Self::HundredThousand => "100k",
        }
    }

    /// A file of `name type` lines in an order without a pattern; kxdpgun and dnsperf read both.
    pub fn file(self, site: &Site) -> Result<PathBuf> {
        let name = format!("queries-{}", self.label());
        let path = site.scratch.path().join(&name);
        if path.is_file() {
            return Ok(path);
        }
        let mut text = String::new();
        let count = self.count();
        for i in 0..count.max(LINES_MIN) {
            let _ = writeln!(text, "n{:06}.bench.test. A", shuffled(i % count, count));
        }
        site.scratch.write(&name, &text)
    }
}

/// One burst of kxdpgun.
pub struct Burst {
    pub rate: f64,
    pub secs: u32,
    pub batch: u32,
}

/// What a burst sent and got.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    pub shot: Shot,
    pub replies: u64,
}

pub fn kxdpgun(site: &Site, queries: &Path, burst: &Burst) -> Result<Count> {
    let mut said = String::new();
    for _ in 0..BUSY_TRIES {
        let mut command = site.generator("timeout")?;
        command.arg((burst.secs + 10).to_string()).arg(found("kxdpgun")?);
        command.args(["-t", &burst.secs.to_string(), "-b", &burst.batch.to_string()]);
        command.args(["-Q", &format!("{:.0}", burst.rate), "-F", &GENERATOR_CORE.to_string()]);
        command.args(["-I", CLIENT_DEVICE, "-i"]).arg(queries);
        said = both(command.arg(site.address().ip().to_string()))?;
        // The kernel may still be taking down the socket of the burst before.
        if !said.contains("busy") {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    let total = |what: &str| -> Option<(f64, f64)> {
        let rest = said.split_once(&format!("total {what}:"))?.1;
        let (number, rest) = rest.split_once('(')?;
        let rate = rest.split_whitespace().next()?;
        Some((number.trim().parse().ok()?, rate.parse().ok()?))
    };
    let (Some((queries, rate)), Some((replies, _))) = (total("queries"), total("replies")) else {
        bail!("kxdpgun: {}", said.trim());
    };
    let answered = rate * replies / queries.max(1.0);
    Ok(Count { shot: Shot { rate: burst.rate, sent: rate, answered }, replies: replies as u64 })
}

/// What dnsperf says at its end.
#[derive(Debug, Clone)]
pub struct Dnsperf {
    pub sent: f64,
    pub completed: f64,
    /// Of each answer, in microseconds, ordered; empty unless they were asked for.
    pub micros: Vec<f64>,
}

impl Dnsperf {
    pub fn quantile(&self, at: f64) -> Option<f64> {
        let last = self.micros.len().checked_sub(1)?;
        let index = (at * self.micros.len() as f64) as usize;
        self.micros.get(index.min(last)).copied()
    }
}

pub fn dnsperf(site: &Site, queries: &Path, args: &[&str]) -> Result<Dnsperf> {
    let mut command = site.generator("dnsperf")?;
    command.args(["-s", &site.address().ip().to_string(), "-d"]).arg(queries).args(args);
    let said = both(&mut command)?;
    let number = |label: &str| -> Option<f64> {
        let line = said.lines().find(|line| line.trim_start().starts_with(label))?;
        line.split_once(':')?.1.split_whitespace().next()?.parse().ok()
    };
    let sent = number("Queries sent").with_context(|| format!("dnsperf: {}", said.trim()))?;
    let completed = number("Queries completed").unwrap_or(0.0);
    // With -v: `> NOERROR n000001.bench.test A 0.000053`.
    let times = said.lines().filter_map(|line| line.strip_prefix("> ")?.rsplit_once(' '));
    let mut micros: Vec<f64> =
        times.filter_map(|(_, secs)| Some(secs.parse::<f64>().ok()? * 1e6)).collect();
    micros.sort_by(f64::total_cmp);
    Ok(Dnsperf { sent, completed, micros })
}

/// Asks for every name once, with few questions at a time.
pub fn ask_all(site: &Site, queries: &Path) -> Result<Dnsperf> {
    dnsperf(site, queries, &["-n", "1", "-q", "50", "-t", "2"])
}

/// One flood of live frames.
pub struct Flood<'a> {
    pub frame: &'a [u8],
    /// 0: the frame's own name.
    pub names: u32,
    pub secs: f64,
    /// Frames a second; 0: as many as go.
    pub rate: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Flooded {
    pub sent: u64,
    pub secs: f64,
    pub replies: u64,
    /// Queries that came back as they were.
    pub back: u64,
    /// Answers that say something failed.
    pub failed: u64,
}

impl Flooded {
    pub fn loss(&self) -> f64 {
        1.0 - (self.replies + self.back) as f64 / self.sent.max(1) as f64
    }
}

pub fn flood(site: &Site, flood: &Flood<'_>) -> Result<Flooded> {
    let rig = rig::rig()?;
    let mut command = site.on(&site.client, GENERATOR_CORE, &rig.program);
    let hex: String = flood.frame.iter().map(|octet| format!("{octet:02x}")).collect();
    command.arg("flood").arg(&rig.object).args([CLIENT_DEVICE, &hex]);
    command.args([flood.secs.to_string(), flood.names.to_string()]);
    command.args([FLOOD_BATCH.to_string(), flood.rate.to_string()]);
    let said = lab::run(&mut command)?;
    let word = |key: &str| rig::word(&said, key);
    Ok(Flooded {
        sent: word("sent")? as u64,
        secs: word("secs")?,
        replies: word("replies")? as u64,
        back: word("back")? as u64,
        failed: word("failed")? as u64,
    })
}

/// Both outputs, whatever the exit status: the caller looks for what it needs.
fn both(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("starting {command:?}"))?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(format!("{out}{err}"))
}

fn found(program: &str) -> Result<PathBuf> {
    lab::find(program).with_context(|| format!("the bench needs `{program}`: `cargo xtask setup`"))
}

/// A bijection on `0..count` without an order a cache would like: an affine step by a number that
/// has no factor in common with the counts in use.
fn shuffled(index: u32, count: u32) -> u32 {
    (u64::from(index) * STEP % u64::from(count)) as u32
}

const STEP: u64 = 61_803_399;
/// A file of one line would be read again for every batch.
const LINES_MIN: u32 = 1_000;
const BUSY_TRIES: u32 = 6;
/// Promotion goes by how often a name is asked for: the first passes are its evidence.
pub const FILL_PASSES_MAX: u32 = 12;
const FLOOD_BATCH: u32 = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_in_the_file_once() {
        for count in [1, 1_000, 10_000, 100_000] {
            let seen: HashSet<u32> = (0..count).map(|i| shuffled(i, count)).collect();
            assert_eq!(seen.len() as u32, count);
        }
    }
}
