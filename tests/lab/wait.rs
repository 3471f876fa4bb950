//! Waiting for something, with a bound.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a server may take from its start to its first answer. Generous, because other work may
/// have both cores; a quick machine never waits so long.
pub const READY: Duration = Duration::from_secs(20);

/// How long a process may take to stop after it was asked to.
pub const STOP: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` says true. `what` completes "… in N s".
pub fn until(what: &str, bound: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        if look() {
            return Ok(());
        }
        if start.elapsed() > bound {
            bail!("{what}: not in {} s", bound.as_secs());
        }
        thread::sleep(PAUSE);
    }
}
