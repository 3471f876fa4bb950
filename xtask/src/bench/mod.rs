//! `cargo xtask bench VERB`: figures that mean something, on a machine with two cores.
//!
//! Server and generator stand in namespaces of their own, each on its own core, and the work of
//! receiving is put on the receiver's core (`site.rs` says how and why). All figures that count are
//! ratios of peers measured in turn, round by round; a figure says how much other work had the
//! cores while it was taken. Results go to `target/bench/*.json`.

mod cache;
mod generate;
mod kernel;
mod memory;
mod meter;
mod peers;
mod policy;
mod report;
mod resolver;
mod rig;
mod search;
mod site;
mod wire;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::build;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Answers per second, CPU per answer, latency and memory, beside Unbound.
    Wire(wire::Options),
    /// Nanoseconds a packet costs in the kernel program, by outcome, and a flood of frames.
    Kernel(kernel::Options),
    /// Misses, first answers over long paths, and streams, beside Unbound.
    Resolver(resolver::Options),
    /// A policy zone of a million rules, taken over while clients ask.
    Policy(policy::Options),
    /// A million answers: flushed, written to disk, read back.
    Cache(cache::Options),
}

pub fn verb(options: &Options) -> Result<()> {
    lab::available()?;
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        bail!("the bench needs two cores: one for the server, one for the generator");
    }
    let _alone = rig::lock()?;
    match &options.bench {
        Bench::Wire(options) => wire::bench(options),
        Bench::Kernel(options) => kernel::bench(options),
        Bench::Resolver(options) => resolver::bench(options),
        Bench::Policy(options) => policy::bench(options),
        Bench::Cache(options) => cache::bench(options),
    }
}

/// What is measured is what the tree says now, unless a binary is named.
fn build_daemon() -> Result<()> {
    build::build_unless_named()
}

/// `12 min 30 s`.
fn minutes(secs: u64) -> String {
    format!("{} min {:02} s", secs / 60, secs % 60)
}
