//! What time it is: the boot clock for what expires, the wall clock for what is valid.
//!
//! The only file, besides drivers, that asks the system for a time. Machines are given
//! theirs. It sets no timers: those are tokio's.
//!
//! The wall clock is asked for through libc, and so moved by whoever stands in for libc
//! (libfaketime). The boot clock is read past libc, as the kernel's program reads it, and is not.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, time asleep included (`CLOCK_BOOTTIME`).
///
/// The kernel's program reads the same clock by `bpf_ktime_get_boot_ns`, so that both
/// sides agree on when an entry was stored and when it expires. It never goes back and
/// is not moved by NTP steps. 64 bits hold 584 years.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

/// From now on what expires does so by the wall clock: for test rigs that move it. Times of before
/// mean nothing then; to be called before any is taken, and without the kernel path.
pub fn expire_by_wall() {
    BY_WALL.store(true, Ordering::Relaxed);
}

/// The boot clock, now. A vDSO call of some tens of nanoseconds.
#[must_use]
pub fn boot_now() -> BootTime {
    if BY_WALL.load(Ordering::Relaxed) {
        return BootTime(nanos(wall_now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    }
    let now = clock_gettime(ClockId::Boottime);
    // The kernel never reports a negative time since boot, and tv_nsec is below 10^9.
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    BootTime(secs.saturating_mul(NANOS_PER_SEC).saturating_add(nanos))
}

/// The wall clock, through libc, so that a test rig may shift it. For validity and for
/// people only: it jumps.
#[must_use]
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// A wall-clock time as people read it: RFC 3339 in UTC. `{:.6}` adds microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc(pub SystemTime);

/// By the civil calendar of Howard Hinnant's `civil_from_days`.
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // A `SystemTime` of Linux counts seconds in 63 bits: days have room to spare.
        let z = days as i64 + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if f.precision().is_some() {
            write!(f, ".{:06}", since.subsec_micros())?;
        }
        f.write_str("Z")
    }
}

impl BootTime {
    /// The value as the kernel keeps it.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it is still to come.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `duration` before now; the boot itself when there was not so much time.
    #[must_use]
    pub fn saturating_before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// Saturates at the end of the clock: nothing we add comes near it.
impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// Seconds and milliseconds since boot, as in the kernel's log.
impl fmt::Debug for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{}.{:03}s", self.0 / NANOS_PER_SEC, self.0 % NANOS_PER_SEC / 1_000_000)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Whether [`boot_now`] is the wall clock. Never unset.
static BY_WALL: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_goes_forward_and_counts_since_boot() {
        let first = boot_now();
        let second = boot_now();
        assert!(first.0 > 0 && second >= first);
        let uptime: f64 = std::fs::read_to_string("/proc/uptime")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let ours = second.0 as f64 / 1e9;
        assert!((uptime - ours).abs() < 5.0, "{uptime} in /proc/uptime, {ours} by the clock");
    }

    #[test]
    fn times_are_told_in_utc() {
        let at = |secs| Utc(UNIX_EPOCH + Duration::from_secs(secs)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_167_045), "2026-11-20T09:30:45Z");
        let fine = Utc(UNIX_EPOCH + Duration::from_nanos(1_000_042_999));
        assert_eq!(format!("{fine:.6}"), "1970-01-01T00:00:01.000042Z");
    }

    #[test]
    fn adding_and_subtracting_saturate_at_both_ends() {
        let second = Duration::from_secs(1);
        let now = BootTime(1_500_000_000);
        assert_eq!(now + second, BootTime(2_500_000_000));
        assert_eq!(BootTime(u64::MAX) + second, BootTime(u64::MAX));
        assert_eq!(now + Duration::MAX, BootTime(u64::MAX));
        assert_eq!((now + second).saturating_since(now), second);
        assert_eq!(now.saturating_since(now + second), Duration::ZERO);
        assert_eq!(now.saturating_before(second), BootTime(500_000_000));
        assert_eq!(now.saturating_before(2 * second), BootTime(0));
        assert_eq!(format!("{now:?}"), "boot+1.500s");
    }
}
