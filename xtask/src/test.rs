//! Climbs the ladder of tests, rung by rung, and counts.
//!
//! A rung that this machine cannot climb says so and is counted as skipped. Every later rung
//! is climbed also when an earlier one failed: one run shows all there is to mend.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::build::{self, Profile};
use crate::call;
use crate::setup::{self, Consent, Wanted};
use crate::tidy;

#[derive(clap::Args)]
pub struct Options {
    /// Climb these rungs alone, in the order of the ladder.
    rungs: Vec<Rung>,
    /// What the fake Internet and the questions of the rung `differential` are made of.
    #[arg(long)]
    seed: Option<u64>,
    /// How many questions the rung `differential` asks: by default 20000 if it is named alone,
    /// and 1000 on the way up.
    #[arg(long)]
    questions: Option<u64>,
    #[command(flatten)]
    consent: Consent,
}

pub fn verb(options: &Options) -> Result<()> {
    let started = Instant::now();
    for lacking in setup::setup(Wanted::Tests, &options.consent)? {
        println!("test: not set up: {lacking}");
    }
    let rungs = Rung::value_variants();
    let chosen =
        rungs.iter().filter(|rung| options.rungs.is_empty() || options.rungs.contains(rung));
    let mut climbed = Vec::new();
    for rung in chosen {
        println!("== {rung}");
        let since = Instant::now();
        let climb = rung.climb(options).unwrap_or_else(|error| {
            println!("rung {rung}: {error:#}");
            Climb::Counted(Count { failed: 1, ..Count::default() })
        });
        if !matches!(climb, Climb::Counted(_)) {
            println!("rung {rung}: {climb}");
        }
        climbed.push((*rung, climb, since.elapsed()));
    }
    println!("== summary, {} s", started.elapsed().as_secs());
    let mut total = Count::default();
    for (rung, climb, took) in &climbed {
        println!("{:<13} {climb} ({} s)", rung.to_string(), took.as_secs());
        total.add(climb.count());
    }
    println!("{total}");
    if total.failed > 0 {
        // Not an error with words of its own: the last line is the sum.
        std::process::exit(1);
    }
    Ok(())
}

/// The ladder, from its lowest rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rung {
    /// The style of the house, format and lints.
    Tidy,
    /// What decides, in virtual time.
    Pure,
    /// Nodes among themselves.
    Cluster,
    /// The fast path in real kernels; needs root and a BPF compiler.
    Kernel,
    /// The whole daemon with real servers and clients; needs root and a BPF compiler.
    Daemon,
    /// The same question to others, and the answers compared.
    Differential,
}

impl Rung {
    fn climb(self, options: &Options) -> Result<Climb> {
        match self {
            Self::Tidy => {
                let tally = tidy::check(true)?;
                let (passed, failed) = (tally.passed, tally.failed);
                Ok(Climb::Counted(Count { passed, failed, skipped: 0 }))
            }
            Self::Pure => {
                let packages = ["resolverd-common", "resolverd", "xtask"];
                let packages = packages.iter().flat_map(|package| ["--package", package]);
                let mut count = cargo_test(packages, &[], &[])?;
                let of_tests = ["--package", TESTS, "--lib", "--test", "scenarios"];
                count.add(cargo_test(of_tests, &[], &[])?);
                Ok(Climb::Counted(count))
            }
            Self::Cluster => Ok(Climb::Nothing("before the cluster exists")),
            Self::Kernel | Self::Daemon => self.climb_in_the_lab(&[]),
            Self::Differential => {
                let alone = options.rungs == [Self::Differential];
                let short = if alone { QUESTIONS } else { QUESTIONS_ON_THE_WAY };
                let questions = options.questions.unwrap_or(short).to_string();
                let seed = options.seed.map(|seed| seed.to_string());
                let seed = seed.as_deref().map(|seed| ("RESOLVERD_DIFFERENTIAL_SEED", seed));
                let questions = ("RESOLVERD_DIFFERENTIAL_QUESTIONS", questions.as_str());
                self.climb_in_the_lab(&seed.into_iter().chain([questions]).collect::<Vec<_>>())
            }
        }
    }

    fn climb_in_the_lab(self, told: &[(&str, &str)]) -> Result<Climb> {
        let manifest = fs::read_to_string(call::root().join("tests/Cargo.toml"))?;
        let exists = |target: &&str| manifest.contains(&format!("name = \"{target}\""));
        // The harness is tried on itself before the daemon is tried in it.
        let targets: &[&str] = match self {
            Self::Kernel => &["kernel"],
            Self::Differential => &["differential"],
            _ => &["harness", "daemon", "conformance"],
        };
        let targets: Vec<_> = targets.iter().copied().filter(exists).collect();
        if targets.is_empty() {
            return Ok(Climb::Nothing("before its tests exist"));
        }
        if let Some(why) = self.out_of_reach() {
            return Ok(Climb::Skipped(why));
        }
        build::build(Profile::Release)?;
        let targets = targets.iter().flat_map(|target| ["--test", target]);
        // What the rung counted is its result, also when all went well.
        let shown: &[&str] = if self == Self::Differential { &["--", "--nocapture"] } else { &[] };
        let words = ["--package", TESTS].into_iter().chain(targets);
        Ok(Climb::Counted(cargo_test(words, shown, told)?))
    }

    fn out_of_reach(self) -> Option<String> {
        if !call::may_touch_the_kernel() {
            return Some("needs root, with CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF".into());
        }
        // Without one the daemon is built without its kernel path.
        if build::compiler().is_none() {
            return Some("needs a BPF compiler".into());
        }
        let missing = setup::missing_test_packages();
        (!missing.is_empty()).then(|| format!("needs the packages {}", missing.join(" ")))
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no rung is hidden").get_name())
    }
}

/// How a rung ended.
enum Climb {
    Counted(Count),
    /// It cannot be climbed here, and this is why.
    Skipped(String),
    /// There is nothing on it yet.
    Nothing(&'static str),
}

impl Climb {
    fn count(&self) -> Count {
        match self {
            Self::Counted(count) => *count,
            Self::Skipped(_) => Count { skipped: 1, ..Count::default() },
            Self::Nothing(_) => Count::default(),
        }
    }
}

impl fmt::Display for Climb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counted(count) => count.fmt(f),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Nothing(until) => write!(f, "nothing to climb {until}"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`, as one test program
    /// ends; other lines count nothing.
    fn from_line(line: &str) -> Self {
        let mut count = Self::default();
        let Some((_, result)) = line.split_once("test result: ") else { return count };
        for part in result.split(['.', ';']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => count.passed = number,
                "failed" => count.failed = number,
                "ignored" => count.skipped = number,
                _ => {}
            }
        }
        count
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Builds these tests, then runs them under a bound of time, with further words and variables.
fn cargo_test<'a>(
    words: impl IntoIterator<Item = &'a str>,
    shown: &[&str],
    told: &[(&str, &str)],
) -> Result<Count> {
    let words: Vec<&str> = words.into_iter().collect();
    let cargo = || {
        let mut cargo = build::cargo_with_bpf();
        cargo.arg("test").args(&words);
        // Tests that start the daemon start the one that is shipped.
        cargo.env(DAEMON, build::program(Profile::Release)).envs(told.iter().copied());
        cargo
    };
    call::run(cargo().arg("--no-run"))?;
    // With --no-fail-fast one failing program does not hide the next.
    counted(cargo().arg("--no-fail-fast").args(shown), RUN_TIME_MAX)
}

/// Runs a command whose output is shown and counted. A failure that no test reported, such
/// as a crash, counts as one.
fn counted(command: &mut Command, time_max: Duration) -> Result<Count> {
    let shown = call::shown(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{shown}`"))?;
    let lines = lines_of(&mut child);
    let ends_at = Instant::now() + time_max;
    let mut count = Count::default();
    loop {
        match lines.recv_timeout(ends_at.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                count.add(Count::from_line(&line));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                end_with_children(&mut child);
                bail!("`{shown}` was ended after {} s; until then {count}", time_max.as_secs());
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        println!("`{shown}` failed ({status}), and no test says why");
        count.failed = 1;
    }
    Ok(count)
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let output = BufReader::new(child.stdout.take().expect("its output is piped"));
    // A reader ahead of its printer by more waits for it.
    let (sender, lines) = mpsc::sync_channel(256);
    thread::spawn(move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

/// Ends a child and all below it: cargo does not end its tests when it is ended.
fn end_with_children(child: &mut Child) {
    let parents = parents();
    let mut doomed = vec![child.id()];
    let mut at = 0;
    while at < doomed.len() {
        let parent = doomed[at];
        doomed.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    let _ = Command::new("kill").arg("-KILL").args(doomed.iter().map(u32::to_string)).status();
    let _ = child.wait();
}

/// Every process of this machine with its parent.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
    })
    .collect()
}

/// The fourth field of /proc/PID/stat; the second is a name that may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The crate of the tests that need a lab.
const TESTS: &str = "resolverd-tests";

/// Of the rung `differential`: a whole run takes minutes, a short one less than one.
const QUESTIONS: u64 = 20_000;
const QUESTIONS_ON_THE_WAY: u64 = 1_000;

/// Tells tests where the daemon is.
const DAEMON: &str = "RESOLVERD_BIN";

/// The longest a set of tests may run, once built. It hangs when it is not done by then: the
/// whole ladder takes less than 25 minutes.
const RUN_TIME_MAX: Duration = Duration::from_secs(12 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn results_are_read_as_cargo_prints_them() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; \
                    3 filtered out; finished in 0.52s";
        assert_eq!(Count::from_line(line), Count { passed: 12, failed: 2, skipped: 1 });
        assert_eq!(Count::from_line("test tests::x ... ok"), Count::default());
        assert_eq!(Count::from_line("running 12 tests"), Count::default());
    }

    #[test]
    fn the_last_line_has_its_form() {
        let count = Count { passed: 12, failed: 0, skipped: 1 };
        assert_eq!(count.to_string(), "12 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn the_results_of_several_programs_are_added_up() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
                      echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101";
        let count = counted(&mut sh(script), RUN_TIME_MAX).unwrap();
        assert_eq!(count, Count { passed: 3, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_crash_that_no_test_reports_is_a_failure() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; kill -SEGV $$";
        assert_eq!(counted(&mut sh(script), RUN_TIME_MAX).unwrap().failed, 1);
    }

    #[test]
    fn tests_that_hang_are_ended_with_all_they_started() {
        let mut child = sh("sleep 1000 & echo $!; wait");
        let error = counted(&mut child, Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("was ended after"), "{error}");
        let own = std::process::id();
        let left = parents();
        assert!(!left.values().any(|parent| *parent == own), "{left:?}");
    }

    #[test]
    fn a_parent_is_read_past_a_name_with_brackets() {
        assert_eq!(parent("12 (a) b) S 7 12 12"), Some(7));
        assert_eq!(parent("nonsense"), None);
    }

    #[test]
    fn a_skipped_rung_is_counted_as_skipped_and_an_empty_one_as_nothing() {
        assert_eq!(Climb::Skipped("needs root".into()).count().skipped, 1);
        assert_eq!(Climb::Nothing("yet").count(), Count::default());
    }

    #[test]
    fn the_ladder_is_in_order() {
        let names: Vec<_> = Rung::value_variants().iter().map(Rung::to_string).collect();
        assert_eq!(names, ["tidy", "pure", "cluster", "kernel", "daemon", "differential"]);
    }
}
