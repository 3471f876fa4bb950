//! Shows the main things in two minutes, without the Internet: a fake one in network namespaces,
//! the daemon as it is built, and the programs that people ask resolvers with.
//!
//! Every line with `$` is run as it stands, and what comes back is checked: this file takes the
//! steps in order and counts, `tour/steps.rs` has them, `tour/site.rs` what they are taken on.

mod names;
mod site;
mod steps;
mod told;

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::build;
use crate::call;
use crate::setup::{self, Consent, Wanted};
use site::Site;
use steps::{Outcome, STEPS, Step};

#[derive(clap::Args)]
pub struct Options {
    /// What the fake Internet is made of.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    #[command(flatten)]
    consent: Consent,
}

pub fn verb(options: &Options) -> Result<()> {
    if !call::is_root() {
        bail!("the tour makes network namespaces: it needs root");
    }
    for lacking in setup::setup(Wanted::Tests, &options.consent)? {
        println!("tour: not set up: {lacking}");
    }
    lab::available()?;
    build::build_unless_named()?;
    let begun = Instant::now();
    let site = Site::start(options.seed)?;
    println!("{}", site.description());
    let mut tally = Tally::default();
    for (at, step) in STEPS.iter().enumerate() {
        println!("\n{}/{}  {}", at + 1, STEPS.len(), step.heading);
        let outcome = (step.show)(&site);
        match &outcome {
            Ok(Outcome::Shown) => {}
            Ok(Outcome::Skipped(why)) => println!("  skipped: {why}"),
            Err(error) => println!("  NOT AS IT SHOULD BE: {error:#}"),
        }
        tally.count(at + 1, step, &outcome);
    }
    println!("\n{tally}, in {} seconds", begun.elapsed().as_secs());
    if !tally.failed.is_empty() {
        bail!("not as it should be: {}", tally.failed.join(" "));
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    shown: usize,
    skipped: usize,
    /// Numbers and headings.
    failed: Vec<String>,
}

impl Tally {
    fn count(&mut self, number: usize, step: &Step, outcome: &Result<Outcome>) {
        match outcome {
            Ok(Outcome::Shown) => self.shown += 1,
            Ok(Outcome::Skipped(_)) => self.skipped += 1,
            Err(_) => self.failed.push(format!("{number}. {}", step.heading)),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, skipped, failed } = self;
        write!(f, "{shown} steps shown, {skipped} skipped")?;
        match failed.len() {
            0 => Ok(()),
            failed => write!(f, ", {failed} NOT AS IT SHOULD BE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_a_skipped_one_is_not_shown() {
        let mut tally = Tally::default();
        tally.count(1, &STEPS[0], &Ok(Outcome::Shown));
        tally.count(2, &STEPS[1], &Ok(Outcome::Skipped("no aioquic".into())));
        assert_eq!(tally.to_string(), "1 steps shown, 1 skipped");
        tally.count(3, &STEPS[2], &Err(anyhow::anyhow!("SERVFAIL")));
        assert_eq!(tally.to_string(), "1 steps shown, 1 skipped, 1 NOT AS IT SHOULD BE");
        assert_eq!(tally.failed, [format!("3. {}", STEPS[2].heading)]);
    }

    #[test]
    fn a_heading_is_one_sentence_and_the_servers_die_last() {
        for step in &STEPS {
            assert!(
                step.heading.ends_with('.') && !step.heading.contains(". "),
                "{}",
                step.heading
            );
        }
        assert!(STEPS.last().is_some_and(|step| step.heading.contains("dead")));
    }
}
