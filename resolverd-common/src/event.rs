//! What the kernel program reports through the ring buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::key::NAME_WORDS;

/// A hit, or an entry that wants to be fetched again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// Boot time of the packet, in nanoseconds.
    pub at: u64,
    /// See [`crate::key::meta`].
    pub meta: u64,
    pub kind: u32,
    pub ifindex: u32,
    /// The client, see [`crate::settings::address_words`].
    pub source: [u32; 4],
    /// The lower-cased name, zero-padded to 8 octets. Behind that, octets of others.
    pub name: [u64; NAME_WORDS],
    /// The client's port, in network order.
    pub port: u16,
    /// The reply's length over DNS, in octets.
    pub reply_len: u16,
    /// The RCODE sent.
    pub rcode: u16,
    pub reserved: u16,
}

const _: () = assert!(size_of::<Event>() == 8 + 8 + 8 + 16 + 256 + 8);

/// [`Event::kind`]: a hit, one in so many.
pub const SAMPLE: u32 = 1;
/// [`Event::kind`]: little of a hit entry's life is left. Once an entry.
pub const PREFETCH: u32 = 2;

/// Octets of the ring buffer: some 800 events. A full one loses events, and counts them.
pub const RING_LEN: u32 = 256 * 1024;
