//! What the daemon tells the kernel program: settings, served addresses, sources, controls.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cookie::Secrets;
use crate::key::{SECRET_WORDS, Secret};
use crate::limits::RateLimits;
use crate::maps::FLOWS_MAX;

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
    /// 0: cookies are neither made nor checked.
    pub cookies: u64,
    pub cookie_secrets: Secrets,
    pub limits: RateLimits,
}

const _: () = assert!(size_of::<Settings>() == SECRET_WORDS * 4 + 4 + 12 + 8 + 8 + 32 + 32);

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
    /// The limits do not hold for it.
    pub const EXEMPT: u16 = 8;
}

/// What the program remembers of clients that it admitted. Elements of the per-CPU map `FLOWS`.
///
/// Saves the walk through the trie and the search in `SERVED` for a client that comes again.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Flow {
    pub source: [u32; 4],
    pub served: Served,
    pub interface: Interface,
    pub admitted: Source,
    /// [`control::ADMISSION`] as it was read before the maps were. It starts at 1, so that an
    /// element never written is void.
    pub read_at: u64,
}

const _: () = assert!(size_of::<Flow>() == 64);

/// Where a client's element is in `FLOWS`. Clients that share one take turns.
#[inline(always)]
#[must_use]
pub const fn flow_index(source: &[u32; 4], served: &Served) -> u32 {
    const { assert!(FLOWS_MAX.is_power_of_two()) };
    let high = source[0] as u64 | (source[1] as u64) << 32;
    let low = source[2] as u64 ^ served.address[3] as u64 | (source[3] as u64) << 32;
    // Fibonacci hashing (Knuth, volume 3, section 6.4); both halves have their say.
    let mixed = (high.wrapping_mul(GOLDEN) ^ low).wrapping_mul(GOLDEN);
    (mixed >> (64 - FLOWS_MAX.trailing_zeros())) as u32
}

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The elements of the map `CONTROLS`: one 64-bit word each, written alone.
pub mod control {
    /// Boot time until which the program answers.
    pub const LEASE: u32 = 0;
    /// Entries of this generation and older were flushed.
    pub const BARRIER: u32 = 1;
    /// Entries of another policy epoch are stale.
    pub const EPOCH: u32 = 2;
    /// Raised after each change of `SERVED` or `SOURCES`: what the program remembers of either
    /// is then void.
    pub const ADMISSION: u32 = 3;
    /// What is added to the boot time to get the wall clock's, in nanoseconds modulo 2^64.
    /// Renewed with the lease.
    pub const WALL: u32 = 4;
    /// How many there are.
    pub const CONTROLS: u32 = 5;
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn clients_of_one_subnet_have_places_of_their_own() {
        let served = |last| Served {
            address: address_words(IpAddr::from([192, 0, 2, last])),
            ifindex: 2,
            port: 53u16.to_be(),
            reserved: 0,
        };
        let v4: BTreeSet<u32> = (0..=255)
            .map(|i| flow_index(&address_words(IpAddr::from([10, 0, 0, i])), &served(1)))
            .collect();
        let v6: BTreeSet<u32> = (0..256)
            .map(|i| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, i))
            .map(|address| flow_index(&address_words(address.into()), &served(1)))
            .collect();
        for places in [v4, v6] {
            assert!(places.iter().all(|place| *place < FLOWS_MAX));
            // 256 thrown at 512 by chance would find some 202 places.
            assert!(places.len() > 180, "{}", places.len());
        }
        let client = address_words(IpAddr::from([10, 0, 0, 1]));
        assert_ne!(flow_index(&client, &served(1)), flow_index(&client, &served(2)));
    }
}
