//! How often, and how much: the pace of a client prefix, and the size of an answer to its query.
//!
//! Both sides count by this code. The kernel keeps the pace of what it sees, hits and misses
//! alike; the daemon of what is passed to it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::settings::MAPPED;

/// What the limits are. All zero: there are none.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RateLimits {
    /// Nanoseconds from one answer to the next, for a prefix at its even pace; 0: no limit.
    pub interval: u64,
    /// How far a prefix may run ahead of it, in nanoseconds.
    pub burst: u64,
    /// One answer in so many that are over the limit is sent empty with TC instead of being
    /// dropped, so that an honest client comes again over TCP; 0: none is.
    pub slip: u32,
    /// An answer has at most so many times the octets of its query, past it TC; 0: any.
    pub amplification_max: u32,
    /// Leading bits that make a prefix, for IPv4 and IPv6 (64 at most).
    pub prefix_v4: u32,
    pub prefix_v6: u32,
}

/// A prefix of clients: its bits, and 4 or 6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Prefix {
    pub bits: [u32; 2],
    pub family: u64,
}

impl RateLimits {
    /// The prefix that an address counts for. `address` is as
    /// [`crate::settings::address_words`] has it.
    #[inline(always)]
    #[must_use]
    pub const fn prefix(&self, address: &[u32; 4]) -> Prefix {
        if address[0] | address[1] == 0 && address[2] == MAPPED {
            Prefix { bits: [address[3] & mask(self.prefix_v4), 0], family: 4 }
        } else {
            let low = self.prefix_v6.saturating_sub(32);
            Prefix { bits: [address[0] & mask(self.prefix_v6), address[1] & mask(low)], family: 6 }
        }
    }

    /// One more answer at `now`, in nanoseconds, to a prefix that is paid up until `paid`: until
    /// when it is then, or `None` when it is one too many.
    ///
    /// The generic cell rate algorithm (ITU-T I.371), in its virtual scheduling form: one word a
    /// prefix, and nothing to be refilled.
    #[inline(always)]
    #[must_use]
    pub const fn pace(&self, paid: u64, now: u64) -> Option<u64> {
        if self.interval == 0 {
            return Some(paid);
        }
        let from = if paid > now { paid } else { now };
        if from - now > self.burst {
            return None;
        }
        Some(from + self.interval)
    }

    /// The most octets of an answer to a query of `query_len` octets.
    #[inline(always)]
    #[must_use]
    pub const fn answer_max(&self, query_len: usize) -> usize {
        if self.amplification_max == 0 {
            return u16::MAX as usize;
        }
        query_len * self.amplification_max as usize
    }
}

/// So many leading bits of a word in network order; all from 32 on.
#[inline(always)]
const fn mask(bits: u32) -> u32 {
    if bits == 0 {
        0
    } else if bits >= 32 {
        u32::MAX
    } else {
        (u32::MAX << (32 - bits)).to_be()
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;
    use crate::settings::address_words;
    use crate::time::{MILLI, SECOND};

    const LIMITS: RateLimits = RateLimits {
        interval: 100 * MILLI,
        burst: SECOND,
        slip: 2,
        amplification_max: 10,
        prefix_v4: 24,
        prefix_v6: 56,
    };

    fn prefix(address: &str) -> Prefix {
        LIMITS.prefix(&address_words(address.parse::<IpAddr>().unwrap()))
    }

    #[test]
    fn neighbours_count_together_and_others_do_not() {
        assert_eq!(prefix("192.0.2.1"), prefix("192.0.2.255"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.3.1"));
        assert_eq!(prefix("2001:db8:0:12ff::1"), prefix("2001:db8:0:1200:1:2:3:4"));
        assert_ne!(prefix("2001:db8:0:1200::1"), prefix("2001:db8:0:1300::1"));
        // An IPv6 prefix that has the bits of an IPv4 one.
        assert_ne!(prefix("c000:200::"), prefix("192.0.2.0"));
        let whole = RateLimits { prefix_v4: 32, prefix_v6: 64, ..LIMITS };
        let of = |text: &str| whole.prefix(&address_words(text.parse::<IpAddr>().unwrap()));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        let none = RateLimits { prefix_v4: 0, prefix_v6: 0, ..LIMITS };
        let of = |text: &str| none.prefix(&address_words(text.parse::<IpAddr>().unwrap()));
        assert_eq!(of("192.0.2.1"), of("10.0.0.1"));
        assert_ne!(of("192.0.2.1"), of("2001:db8::1"));
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_even_pace() {
        let (mut paid, now) = (0, 50 * SECOND);
        let mut let_through = 0;
        while let Some(until) = LIMITS.pace(paid, now) {
            paid = until;
            let_through += 1;
        }
        // The burst's ten, and the one that is due.
        assert_eq!(let_through, 11);
        assert_eq!(LIMITS.pace(paid, now + 99 * MILLI), None);
        let next = LIMITS.pace(paid, now + 100 * MILLI);
        assert_eq!(next, Some(paid + 100 * MILLI));
        assert_eq!(LIMITS.pace(next.unwrap(), now + 150 * MILLI), None);
        // Who kept quiet starts anew, and gains nothing by it.
        let mut after = 0;
        while let Some(until) = LIMITS.pace(paid, now + 1_000 * SECOND) {
            paid = until;
            after += 1;
        }
        assert_eq!(after, 11);
    }

    #[test]
    fn without_a_limit_all_is_let_through() {
        let none = RateLimits::default();
        for _ in 0..1_000 {
            assert_eq!(none.pace(7, 3), Some(7));
        }
        assert_eq!(none.answer_max(17), 65_535);
        assert_eq!(LIMITS.answer_max(40), 400);
    }
}
