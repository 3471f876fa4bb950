//! Campaigns against the daemon: floods, forgeries, slow readers, each with what must hold.
//!
//! They are the tests of `tests/hostile`, one after the other and for longer than in a test run.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::build::{self, Profile};
use crate::call;
use crate::setup;

#[derive(clap::Args)]
pub struct Options {
    /// Run these campaigns alone.
    campaigns: Vec<Campaign>,
    /// How long each one lasts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Campaign {
    /// Names made up by the thousand, in a slow zone and in a signed one.
    RandomNames,
    /// Forged answers from a host off the path.
    Spoofer,
    /// Clients over TCP, TLS and QUIC who never read.
    SlowReaders,
    /// Large answers, each another one.
    LargeAnswers,
}

pub fn verb(options: &Options) -> Result<()> {
    ensure!(call::may_touch_the_kernel(), "needs root: the campaigns make network namespaces");
    let missing = setup::missing_test_packages();
    if !missing.is_empty() {
        bail!("needs the packages {}: `cargo xtask setup --tests`", missing.join(" "));
    }
    build::build(Profile::Release)?;
    let mut cargo = build::cargo_with_bpf();
    cargo.args(["test", "--package", "resolverd-tests", "--test", "hostile"]);
    // The one that is shipped is meant, and by one at a time.
    cargo.env("RESOLVERD_BIN", build::program(Profile::Release));
    cargo.env("RESOLVERD_HOSTILE_SECONDS", options.seconds.to_string());
    cargo.args(["--no-fail-fast", "--", "--nocapture", "--test-threads=1"]);
    cargo.args(options.campaigns.iter().map(|campaign| campaign.module()));
    call::run(&mut cargo)
}

impl Campaign {
    /// With which the names of its tests begin.
    fn module(self) -> &'static str {
        match self {
            Self::RandomNames => "random_names::",
            Self::Spoofer => "spoofer::",
            Self::SlowReaders => "slow_readers::",
            Self::LargeAnswers => "large_answers::",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_campaign_has_its_file() {
        for campaign in Campaign::value_variants() {
            let module = campaign.module().trim_end_matches(':');
            let file = call::root().join(format!("tests/hostile/{module}.rs"));
            assert!(file.is_file(), "{}", file.display());
        }
    }
}
