//! Runs the fuzz targets of `tests/fuzz` one after the other, and says what each did and found.
//!
//! They need a nightly toolchain and cargo-fuzz; nothing else here does. What a target finds is an
//! input that stays in `tests/fuzz/artifacts`: it becomes a test beside the code.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{bpf, build, call};

#[derive(clap::Args)]
pub struct Options {
    /// Run these targets alone.
    targets: Vec<String>,
    /// How long each one runs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// Say which targets there are, and run none.
    #[arg(long)]
    list: bool,
}

pub fn verb(options: &Options) -> Result<()> {
    let dir = call::root().join("tests/fuzz");
    let all = targets(&fs::read_to_string(dir.join("Cargo.toml"))?);
    if options.list {
        all.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    if let Some(unknown) = options.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target `{unknown}`: there are {}", all.join(" "));
    }
    let mend =
        "install it: `rustup toolchain install nightly && cargo install --locked cargo-fuzz`";
    ensure!(call::on_path("cargo-fuzz").is_some(), "cargo-fuzz is missing; {mend}");
    let chosen = if options.targets.is_empty() { &all } else { &options.targets };
    // All are built before the first is run: what does not build is told at once.
    call::run(&mut cargo_fuzz(&dir, "build", &[])).context(mend)?;
    let mut told = Vec::new();
    for target in chosen {
        println!("== {target}, {} min", options.minutes);
        told.push((target, run(&dir, target, options.minutes * 60)?));
    }
    println!("== summary");
    for (target, run) in &told {
        let found = run.finding.as_deref().unwrap_or("nothing");
        println!("{target:<12} {:>12} inputs, found: {found}", run.inputs);
    }
    let findings = told.iter().filter(|(_, run)| run.finding.is_some()).count();
    println!("{} targets, {findings} findings", told.len());
    ensure!(findings == 0, "{findings} targets found something");
    Ok(())
}

/// What one target did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    inputs: u64,
    /// The file of an input that fails, or how the target ended without one.
    finding: Option<String>,
}

impl Run {
    /// Takes in a line that libFuzzer wrote.
    fn hear(&mut self, line: &str) {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.inputs = count.trim().parse().unwrap_or(0);
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.finding = Some(file.trim().to_owned());
        }
    }
}

fn run(dir: &Path, target: &str, seconds: u64) -> Result<Run> {
    let corpus = format!("corpus/{target}");
    fs::create_dir_all(dir.join(&corpus))?;
    let seeds = format!("seeds/{target}");
    let seeds = dir.join(&seeds).is_dir().then_some(seeds);
    let time = format!("-max_total_time={seconds}");
    let length = format!("-max_len={}", octets_max(target));
    let mut words = vec![target, &corpus];
    words.extend(seeds.as_deref());
    words.extend(["--", &time, &length, TIMEOUT, "-print_final_stats=1"]);
    let mut command = cargo_fuzz(dir, "run", &words);
    let shown = call::shown(&command);
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("could not start `{shown}`"))?;
    let mut run = Run::default();
    let lines = BufReader::new(child.stderr.take().context("its output is piped")?);
    for line in lines.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        // Its pulse is not worth a line each.
        if !line.starts_with('#') {
            eprintln!("{line}");
        }
        run.hear(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        run.finding.get_or_insert_with(|| format!("`{shown}` failed ({status})"));
    }
    Ok(run)
}

/// By way of rustup: the cargo that runs this program is one of stable.
fn cargo_fuzz(dir: &Path, verb: &str, words: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", verb, "--fuzz-dir", "."]).args(words);
    command.current_dir(dir);
    build::forget_the_outer_cargo(&mut command);
    // Nothing here is loaded into a kernel.
    command.env_remove(bpf::TOOLCHAIN);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(call::cargo_bin());
    if let Ok(path) = std::env::join_paths(folders.collect::<Vec<PathBuf>>()) {
        command.env("PATH", path);
    }
    command
}

/// The names of the programs in a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let programs = manifest.split("[[bin]]").skip(1);
    let names = programs.filter_map(|program| {
        let line = program.lines().find(|line| line.starts_with("name = "))?;
        line.split('"').nth(1)
    });
    names.map(str::to_owned).collect()
}

/// The longest input that a target is given: what is longer takes time and shows nothing new.
fn octets_max(target: &str) -> u32 {
    if target == "question" { 700 } else { 4_096 }
}

/// An input that takes so many seconds is a finding as well.
const TIMEOUT: &str = "-timeout=10";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_programs_of_the_manifest() {
        let manifest = "[package]\nname = \"no\"\n[[bin]]\nname = \"a\"\npath = \"a.rs\"\n\n\
                        [[bin]]\nname = \"b\"\n";
        assert_eq!(targets(manifest), ["a", "b"]);
    }

    #[test]
    fn every_target_has_its_file() {
        let dir = call::root().join("tests/fuzz");
        let all = targets(&fs::read_to_string(dir.join("Cargo.toml")).unwrap());
        assert!(!all.is_empty());
        for target in all {
            assert!(dir.join(format!("fuzz_targets/{target}.rs")).is_file(), "{target}");
        }
    }

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let mut run = Run::default();
        run.hear("stat::number_of_executed_units: 1234");
        assert_eq!(run, Run { inputs: 1234, finding: None });
        run.hear("artifact_prefix='./a/'; Test unit written to ./a/crash-0b");
        assert_eq!(run.finding.as_deref(), Some("./a/crash-0b"));
    }
}
