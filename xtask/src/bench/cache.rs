//! `bench cache`: a million answers flushed, written to disk and read back.
//!
//! The measuring is done by tests of the daemon's crate that nobody runs by chance; they print
//! `figure NAME VALUE`, and here these lines stand beside their goals.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use super::report::{self, Bound, Goal};
use crate::build;

#[derive(Args)]
pub struct Options {
    /// Rounds; a figure is their median.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

pub fn bench(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds, no figures");
    }
    let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        let mut cargo = build::cargo_with_bpf();
        cargo.args(["test", "--release", "--package", "resolverd", "--lib", "a_million"]);
        cargo.args(["--", "--ignored", "--nocapture", "--test-threads", "1"]);
        let said = lab::run(&mut cargo)?;
        for (name, value) in said.lines().filter_map(figure) {
            figures.entry(name.to_owned()).or_default().push(value);
        }
    }
    let goals = goals(&figures).context("a test did not print its figures")?;
    report::print(&goals);
    let path = report::write("cache", &goals, &json!(figures), options.rounds)?;
    println!("\n{}", path.display());
    Ok(())
}

fn goals(figures: &BTreeMap<String, Vec<f64>>) -> Option<Vec<Goal>> {
    let quiet = report::median(figures.get("look-quiet-p999-micros")?)?;
    let figure = |name: &str, measure: &str, bound| {
        let values = figures.get(name)?.clone();
        let measure = measure.to_owned();
        Some(Goal { measure, bound, values, foreign: 0.0, baseline: "" })
    };
    Some(vec![
        figure("flush-millis", "flush of a zone of 1 M answers, ms", Bound::AtMost(1.0))?,
        figure("load-secs", "1 M answers read from disk, s", Bound::AtMost(2.0))?,
        figure("save-secs", "1 M answers written to disk, s", Bound::Told)?,
        figure(
            "look-saving-p999-micros",
            "a look into the cache meanwhile, p99.9, µs",
            Bound::AtMost((quiet * STALL).max(STALL_MICROS)),
        )?,
        figure("look-quiet-p999-micros", "and in quiet", Bound::Told)?,
    ])
}

/// `figure NAME VALUE`, behind whatever the test's runner says on the same line.
fn figure(line: &str) -> Option<(&str, f64)> {
    let (_, figure) = line.split_once("figure ")?;
    let (name, value) = figure.trim().split_once(' ')?;
    Some((name, value.parse().ok()?))
}

/// A look may take so many times as long while the file is written.
const STALL: f64 = 10.0;
/// What nobody calls a stall.
const STALL_MICROS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_tests_print() {
        assert_eq!(figure("figure flush-millis 0.25"), Some(("flush-millis", 0.25)));
        assert_eq!(figure("test a ... figure load-secs 1"), Some(("load-secs", 1.0)));
        assert_eq!(figure("1 taken"), None);
        let mut figures = BTreeMap::new();
        assert!(goals(&figures).is_none());
        for name in [
            "flush-millis",
            "load-secs",
            "save-secs",
            "look-saving-p999-micros",
            "look-quiet-p999-micros",
        ] {
            figures.insert(name.to_owned(), vec![1.0]);
        }
        assert_eq!(goals(&figures).unwrap().len(), 5);
    }
}
