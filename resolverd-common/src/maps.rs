//! The maps by name, and the sizes of their values.

/// Answers in values of 128 octets; for larger ones, the class to look in.
pub const ANSWERS_128: &str = "ANSWERS_128";
pub const ANSWERS_256: &str = "ANSWERS_256";
pub const ANSWERS_512: &str = "ANSWERS_512";
pub const ANSWERS_1280: &str = "ANSWERS_1280";
pub const SETTINGS: &str = "SETTINGS";
pub const CONTROLS: &str = "CONTROLS";
pub const SERVED: &str = "SERVED";
pub const SOURCES: &str = "SOURCES";
pub const FLOWS: &str = "FLOWS";
pub const LIMITS: &str = "LIMITS";
pub const COUNTERS: &str = "COUNTERS";
pub const EVENTS: &str = "EVENTS";
pub const SCRATCH: &str = "SCRATCH";

/// All of them.
pub const ALL: [&str; 13] = [
    ANSWERS_128,
    ANSWERS_256,
    ANSWERS_512,
    ANSWERS_1280,
    SETTINGS,
    CONTROLS,
    SERVED,
    SOURCES,
    FLOWS,
    LIMITS,
    COUNTERS,
    EVENTS,
    SCRATCH,
];

/// Addresses times interfaces that can be served at once.
pub const SERVED_MAX: u32 = 4_096;
/// Prefixes of the access list, own addresses and views together.
pub const SOURCES_MAX: u32 = 65_536;
/// Clients that each CPU remembers as admitted: 32 KiB, half of a first-level cache.
pub const FLOWS_MAX: u32 = 512;
/// Prefixes of clients whose pace is kept, in the kernel and in the daemon each; the least used
/// makes room, and starts anew when it comes again.
pub const LIMITS_MAX: u32 = 16_384;
