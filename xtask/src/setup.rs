//! Finds what this machine lacks, lists the steps, asks once, and takes them.
//!
//! Root is used for apt alone; rustup and cargo run as the user. Nothing is removed and
//! no service is started. A machine without a BPF compiler is no error: the daemon is
//! then built without its kernel path.

mod facts;
mod plan;
mod step;

use std::env;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Result, bail};

use crate::call;
use facts::{Machine, installed};
use plan::{NO_COMPILER, TEST_PACKAGES, plan};
use step::Purpose;

#[derive(clap::Args)]
pub struct Options {
    /// Also install what only the tests and benches need.
    #[arg(long)]
    tests: bool,
    #[command(flatten)]
    consent: Consent,
}

#[derive(clap::Args)]
pub struct Consent {
    /// Take the steps without asking, as with CI=true in the environment.
    #[arg(long, short)]
    yes: bool,
}

pub fn verb(options: &Options) -> Result<()> {
    let wanted = if options.tests { Wanted::Tests } else { Wanted::Run };
    let lacking = setup(wanted, &options.consent)?;
    if !lacking.is_empty() {
        bail!("not set up: {}", lacking.join(", "));
    }
    println!("setup: nothing is missing");
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What it takes to build and to run.
    Run,
    /// That, and what the tests call.
    Tests,
}

/// Sets the machine up. Returns the steps that failed, other than those for a
/// BPF compiler, which the daemon can do without.
pub fn setup(wanted: Wanted, consent: &Consent) -> Result<Vec<String>> {
    let plan = plan(&Machine::look(wanted), wanted);
    for remark in &plan.remarks {
        println!("setup: {remark}");
    }
    if plan.steps.is_empty() {
        return Ok(plan.lacking);
    }
    println!("setup: this machine lacks something; the steps are");
    for step in &plan.steps {
        println!("  {}", step.shown());
    }
    if !consent.given()? {
        bail!("nothing was done");
    }
    let mut lacking = plan.lacking;
    let mut kernel_path = true;
    for step in &plan.steps {
        if step.purpose == Purpose::KernelPath && !kernel_path {
            continue;
        }
        println!("setup: {}", step.shown());
        if let Err(error) = call::run(&mut step.command()) {
            println!("setup: {error:#}");
            match step.purpose {
                Purpose::KernelPath => {
                    kernel_path = false;
                    println!("setup: {NO_COMPILER}");
                }
                Purpose::Tests => lacking.push(step.shown()),
                Purpose::SomeTests => println!("setup: tests that need it will be skipped"),
            }
        }
    }
    Ok(lacking)
}

/// The packages among those the tests call that are not installed.
pub fn missing_test_packages() -> Vec<&'static str> {
    let installed = installed(TEST_PACKAGES);
    TEST_PACKAGES.iter().copied().filter(|package| !installed.contains(package)).collect()
}

impl Consent {
    fn given(&self) -> Result<bool> {
        if self.yes || env::var("CI").is_ok_and(|value| value == "true") {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            bail!("these steps need a yes, and there is no terminal to ask: call with --yes");
        }
        print!("Take these steps? [Y/n] ");
        io::stdout().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(["", "y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
    }
}
