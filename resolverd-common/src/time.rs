//! The one clock of the contract: nanoseconds since boot, suspends included.
//!
//! The kernel reads `bpf_ktime_get_boot_ns`, the daemon `CLOCK_BOOTTIME`: the same counter.

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLI: u64 = 1_000_000;
