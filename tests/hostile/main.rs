//! What becomes of everybody else while somebody means harm: names made up by the thousand, forged
//! answers, clients who never read, answers as large as they come.
//!
//! Each campaign runs for `RESOLVERD_HOSTILE_SECONDS` (`cargo xtask soak --seconds`), prints what
//! it saw, and asserts. Speed is a ratio within one run: the same clients before and during. The
//! daemon's kernel path is off, for what the kernel answers never meets these troubles.

mod authority;
mod large_answers;
mod random_names;
mod site;
mod slow_readers;
mod spoofer;
mod stream;

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Ends the test here where there is no lab.
macro_rules! need_lab {
    () => {
        if let Err(why) = lab::available() {
            eprintln!("skipped: {why}");
            return Ok(());
        }
    };
}
pub(crate) use need_lab;

/// How long a campaign lasts.
fn campaign() -> Result<Duration> {
    let seconds = match std::env::var("RESOLVERD_HOSTILE_SECONDS") {
        Ok(text) => text.parse().with_context(|| format!("`{text}` is no number of seconds"))?,
        Err(_) => SECONDS,
    };
    Ok(Duration::from_secs(seconds))
}

/// And how long the time before it that it is compared with.
fn calm() -> Result<Duration> {
    Ok(campaign()?.min(Duration::from_secs(15)))
}

/// Of a short run.
const SECONDS: u64 = 5;
