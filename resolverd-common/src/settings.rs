//! What the daemon tells the kernel program: settings, served addresses, sources, controls.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::key::{SECRET_WORDS, Secret};

/// UDP ports that the fast path looks at. A daemon that listens on more serves the rest itself.
pub const PORTS_MAX: usize = 4;

/// The one element of the map `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Settings {
    /// The secret of the map keys. Drawn when the map is made, kept while it lives.
    pub secret: Secret,
    /// One hit in so many is reported by an event, less one: a mask of low bits. All ones: none.
    pub sampling_mask: u32,
    /// `server.edns-size`, in octets.
    pub edns_size: u16,
    /// Served UDP ports in network order; 0: none.
    pub ports: [u16; PORTS_MAX],
    /// The part of its life, in 1/256, that is left when a hit entry is reported for prefetch;
    /// 0: never.
    pub prefetch_share: u16,
    /// What the daemon remembers of its policy, to know after a restart whether it changed.
    pub policy_fingerprint: u64,
}

const _: () = assert!(size_of::<Settings>() == SECRET_WORDS * 4 + 4 + 12 + 8);

/// An address as the maps have it: the octets of IPv6 in their order, IPv4 as
/// `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[must_use]
pub fn address_words(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

/// The third word of an IPv4 address.
pub const MAPPED: u32 = 0x0000_ffffu32.to_be();

/// Whom we serve: an address and port on one interface. The key of the map `SERVED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Served {
    /// See [`address_words`].
    pub address: [u32; 4],
    pub ifindex: u32,
    /// In network order.
    pub port: u16,
    pub reserved: u16,
}

/// What is known of the interface of a [`Served`] address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Interface {
    pub mac: [u8; 6],
    /// The largest IP packet that leaves here, in octets.
    pub mtu: u16,
    /// 1 on the loopback interface, whose sources are all our own.
    pub loopback: u32,
}

/// The key of the trie `SOURCES`, as the kernel wants it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SourceKey {
    /// Bits of `address` that count: 0 to 128.
    pub prefix_len: u32,
    /// See [`address_words`].
    pub address: [u32; 4],
}

/// Who may ask, and as whom. Sources of no prefix are denied.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Source {
    /// See the constants of this type.
    pub flags: u16,
    pub view: u16,
}

impl Source {
    /// The access list allows it.
    pub const ALLOWED: u16 = 1;
    /// One of our own addresses, or loopback: on `lo` only.
    pub const OWN: u16 = 2;
    /// Multicast, broadcast or unspecified: never.
    pub const INVALID: u16 = 4;
}

/// The elements of the map `CONTROLS`: one 64-bit word each, written alone.
pub mod control {
    /// Boot time until which the program answers.
    pub const LEASE: u32 = 0;
    /// Entries of this generation and older were flushed.
    pub const BARRIER: u32 = 1;
    /// Entries of another policy epoch are stale.
    pub const EPOCH: u32 = 2;
    /// How many there are.
    pub const CONTROLS: u32 = 3;
}
