//! Figures beside their goals, and the file they go to.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::rig::folder;

/// One line of "what it must reach".
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    pub measure: String,
    pub bound: Bound,
    /// One of each round.
    pub values: Vec<f64>,
    /// The highest share of the cores that other work had in a run that counts here.
    pub foreign: f64,
    /// Seen on the rig that the goals were set by.
    pub baseline: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Quoted, without a goal.
    Told,
}

/// How a goal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Met,
    Missed,
    Told,
    NotMeasured,
}

impl Goal {
    pub fn standing(&self) -> Standing {
        match (median(&self.values), self.bound) {
            (None, _) => Standing::NotMeasured,
            (_, Bound::Told) => Standing::Told,
            (Some(value), Bound::AtMost(most)) if value <= most => Standing::Met,
            (Some(value), Bound::AtLeast(least)) if value >= least => Standing::Met,
            _ => Standing::Missed,
        }
    }

    /// Whether the figure was taken as the goals ask: five rounds, next to no other work.
    pub fn is_sound(&self) -> bool {
        self.values.len() >= ROUNDS_SOUND && self.foreign < FOREIGN_SOUND
    }
}

/// Prints the goals, one a line.
pub fn print(goals: &[Goal]) {
    println!();
    println!(
        "{:<66} {:>9} {:>8} {:>17} {:>13}  stands",
        "measure", "goal", "median", "range", "baseline"
    );
    for goal in goals {
        let bound = match goal.bound {
            Bound::AtMost(most) => format!("<= {most}"),
            Bound::AtLeast(least) => format!(">= {least}"),
            Bound::Told => "-".to_owned(),
        };
        let (middle, range) = match (median(&goal.values), extent(&goal.values)) {
            (Some(middle), Some((low, high))) => {
                (short(middle), format!("{}..{}", short(low), short(high)))
            }
            _ => ("-".to_owned(), "-".to_owned()),
        };
        let stands = match goal.standing() {
            Standing::Met => "met",
            Standing::Missed => "MISSED",
            Standing::Told => "",
            Standing::NotMeasured => "not measured",
        };
        let doubt = match goal.standing() {
            Standing::NotMeasured => String::new(),
            _ if goal.is_sound() => String::new(),
            _ => format!(
                " (unsound: {} rounds, other work had {:.0} % of the cores)",
                goal.values.len(),
                goal.foreign * 100.0
            ),
        };
        println!(
            "{:<66} {bound:>9} {middle:>8} {range:>17} {:>13}  {stands}{doubt}",
            goal.measure, goal.baseline
        );
    }
}

/// Writes `target/bench/NAME.json`.
pub fn write(name: &str, goals: &[Goal], runs: &Value, rounds: u32) -> Result<PathBuf> {
    let path = folder()?.join(format!("{name}.json"));
    let goals: Vec<Value> = goals
        .iter()
        .map(|goal| {
            json!({
                "measure": goal.measure, "bound": goal.bound, "median": median(&goal.values),
                "values": goal.values, "standing": goal.standing(), "sound": goal.is_sound(),
                "foreign": goal.foreign, "baseline": goal.baseline,
            })
        })
        .collect();
    let all = json!({ "conditions": conditions(rounds), "goals": goals, "runs": runs });
    fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(path)
}

/// What the figures were taken on.
pub fn conditions(rounds: u32) -> BTreeMap<&'static str, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let said = |program: &str, args: &[&str]| {
        let program = lab::find(program).unwrap_or_else(|| program.into());
        let output = Command::new(program).args(args).output();
        let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or_else(String::new, |rest| rest.trim_matches([' ', '\t', ':']).into());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    BTreeMap::from([
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("processor", format!("{model}, {cores} cores")),
        ("load average at the end", read("/proc/loadavg")),
        ("rounds", rounds.to_string()),
        ("revision", said("git", &["describe", "--always", "--dirty"])),
        ("time", said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])),
        ("unbound", said("unbound", &["-V"])),
        ("kxdpgun", said("kxdpgun", &["-V"])),
    ])
}

/// Values of rounds, and the highest share that other work had in one of them.
pub fn collect(pairs: impl Iterator<Item = (f64, f64)>) -> (Vec<f64>, f64) {
    let (values, foreign): (Vec<f64>, Vec<f64>) = pairs.unzip();
    (values, foreign.into_iter().fold(0.0, f64::max))
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut ordered = values.to_vec();
    ordered.sort_by(f64::total_cmp);
    let middle = ordered.len() / 2;
    match ordered.len() {
        0 => None,
        len if len % 2 == 1 => Some(ordered[middle]),
        _ => Some((ordered[middle - 1] + ordered[middle]) / 2.0),
    }
}

/// The lowest and the highest.
pub fn extent(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some((low, high))
}

/// Three digits that say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.0}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// As the goals ask.
const ROUNDS_SOUND: usize = 5;
/// Share of both cores.
const FOREIGN_SOUND: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(bound: Bound, values: &[f64], foreign: f64) -> Goal {
        let measure = "x".to_owned();
        Goal { measure, bound, values: values.to_vec(), foreign, baseline: "" }
    }

    #[test]
    fn a_goal_is_judged_by_the_median_of_its_rounds() {
        let values = [1.0, 9.0, 2.0, 3.0, 0.5];
        assert_eq!(median(&values), Some(2.0));
        assert_eq!(goal(Bound::AtMost(2.0), &values, 0.0).standing(), Standing::Met);
        assert_eq!(goal(Bound::AtLeast(2.1), &values, 0.0).standing(), Standing::Missed);
        assert_eq!(goal(Bound::AtLeast(2.1), &[], 0.0).standing(), Standing::NotMeasured);
    }

    #[test]
    fn few_rounds_and_a_busy_machine_are_told() {
        let values = [1.0; 5];
        assert!(goal(Bound::AtMost(2.0), &values, 0.01).is_sound());
        assert!(!goal(Bound::AtMost(2.0), &values[..4], 0.01).is_sound());
        assert!(!goal(Bound::AtMost(2.0), &values, 0.2).is_sound());
    }
}
