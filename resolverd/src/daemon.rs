//! Builds each part once, joins them, and stops them in reverse.
//!
//! The way of a query is `pipeline.rs`'s. So far this only reads the configuration.

use std::path::Path;

use anyhow::{Result, bail};

use crate::config::{Config, ConfigError};
use crate::control::reports::DetachReport;

/// Runs until SIGTERM.
pub fn run(config: Option<&Path>) -> Result<()> {
    let config = Config::load(config)?;
    bail!("{}: good, but the parts of the daemon are not joined yet", config.file);
}

/// What `check` adds for a good file: what it would do to this machine, one line each.
pub fn check_report(_config: &Config) -> Result<Vec<String>, ConfigError> {
    Ok(Vec::new())
}

/// Makes the folder of pins. Gives a line for each thing done.
pub fn kernel_prepare(_config: &Config) -> Result<Vec<String>> {
    bail!("the kernel path is not built in")
}

/// Takes down what a daemon that is gone left in the kernel.
pub fn kernel_detach(_config: &Config) -> Result<DetachReport> {
    bail!("the kernel path is not built in")
}
