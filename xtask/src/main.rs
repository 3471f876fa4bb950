//! The verbs of `cargo xtask`, one file each.
//!
//! Nothing here is part of the daemon: this crate sets a machine up, builds, runs and tests.

mod bench;
mod bpf;
mod build;
mod call;
mod fuzz;
mod lab;
mod run;
mod setup;
mod soak;
mod test;
mod tidy;
mod tour;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, builds, runs and tests resolverd.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks; asks once.
    Setup(setup::Options),
    /// Build the daemon, with its kernel path if a BPF compiler is here.
    Build(build::Options),
    /// Set up, build, and run the daemon in the foreground on port 5300.
    Run(run::Options),
    /// Set up, and climb the ladder of tests.
    Test(test::Options),
    /// A small network to look around in, and other kernels to load on; needs root.
    Lab(lab::Options),
    /// Measure, beside Unbound and a bare reflector; needs root and two idle cores.
    Bench(bench::Options),
    /// Show the main things in two minutes, on a fake Internet; needs root.
    Tour(tour::Options),
    /// Flood the daemon, forge answers, hold its connections, a minute each; needs root.
    Soak(soak::Options),
    /// Run the fuzz targets, ten minutes each; needs nightly and cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Check the style of the house: floors, purity, unsafe, manners, format, lints.
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    let result = match Line::parse().verb {
        Verb::Setup(options) => setup::verb(&options),
        Verb::Build(options) => build::verb(&options),
        Verb::Run(options) => run::verb(&options),
        Verb::Test(options) => test::verb(&options),
        Verb::Lab(options) => lab::verb(&options),
        Verb::Bench(options) => bench::verb(&options),
        Verb::Tour(options) => tour::verb(&options),
        Verb::Soak(options) => soak::verb(&options),
        Verb::Fuzz(options) => fuzz::verb(&options),
        Verb::Tidy(options) => tidy::verb(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
