//! How often a prefix of clients is answered over UDP, and with how much.
//!
//! Pure. The kernel keeps the same limits for what it sees, by the same code
//! (`resolverd_common::limits`), so a client that came past the kernel has paid there as well,
//! and never less than here.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ipnet::IpNet;
use quick_cache::sync::Cache;
use resolverd_common::limits::{Prefix, RateLimits};
use resolverd_common::maps::LIMITS_MAX;
use resolverd_common::settings::address_words;

use super::prefixes::Prefixes;

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Its answer has at most so many octets.
    Answer {
        octets_max: u16,
    },
    /// One of the answers over the limit that go out empty, with TC.
    Slip,
    Drop,
}

/// The limits, and until when each prefix is paid up.
pub struct Limiter {
    limits: RateLimits,
    exempt: Prefixes<()>,
    /// As many as the kernel remembers; the least used makes room.
    paid: Cache<Prefix, Arc<AtomicU64>>,
    limited: AtomicU32,
}

impl Limiter {
    #[must_use]
    pub fn new(limits: RateLimits, exempt: &[IpNet]) -> Self {
        // Without a limit nobody is counted.
        let places = if limits.interval == 0 { 0 } else { LIMITS_MAX as usize };
        let mut free = Prefixes::default();
        for prefix in exempt {
            free.entry(*prefix, || ());
        }
        Self { limits, exempt: free, paid: Cache::new(places), limited: AtomicU32::new(0) }
    }

    /// Judges a query over UDP of `query_len` octets at `now`, in nanoseconds. `proven`: it has
    /// a cookie of ours for that address.
    pub fn judge(&self, client: IpAddr, query_len: usize, proven: bool, now: u64) -> Judged {
        let unlimited = self.limits.interval == 0 && self.limits.amplification_max == 0;
        if proven || unlimited || self.exempt.around(client).next().is_some() {
            return Judged::Answer { octets_max: u16::MAX };
        }
        let octets_max = self.limits.answer_max(query_len).try_into().unwrap_or(u16::MAX);
        if self.limits.interval == 0 || self.pay(client, now) {
            return Judged::Answer { octets_max };
        }
        let nth = self.limited.fetch_add(1, Ordering::Relaxed);
        match self.limits.slip {
            0 => Judged::Drop,
            slip if nth.is_multiple_of(slip) => Judged::Slip,
            _ => Judged::Drop,
        }
    }

    fn pay(&self, client: IpAddr, now: u64) -> bool {
        let prefix = self.limits.prefix(&address_words(client.to_canonical()));
        let new = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(paid) = self.paid.get_or_insert_with(&prefix, new);
        let step = |until| self.limits.pace(until, now);
        paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use resolverd_common::time::{MILLI, SECOND};

    use super::*;

    const LIMITS: RateLimits = RateLimits {
        interval: 100 * MILLI,
        burst: SECOND,
        slip: 2,
        amplification_max: 10,
        prefix_v4: 24,
        prefix_v6: 56,
    };

    fn limiter(limits: RateLimits) -> Limiter {
        Limiter::new(limits, &["10.0.0.0/8".parse().unwrap()])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const ALL: Judged = Judged::Answer { octets_max: u16::MAX };

    #[test]
    fn a_prefix_that_asks_too_much_is_dropped_or_sent_to_tcp_in_turns() {
        let limiter = limiter(LIMITS);
        let now = 5 * SECOND;
        let judged: Vec<Judged> =
            (0..20).map(|i| limiter.judge(ip(&format!("192.0.2.{i}")), 40, false, now)).collect();
        assert!(judged[..11].iter().all(|j| *j == Judged::Answer { octets_max: 400 }));
        let over = &judged[11..];
        assert_eq!(over.iter().filter(|j| **j == Judged::Slip).count(), 5);
        assert_eq!(over.iter().filter(|j| **j == Judged::Drop).count(), 4);
        // Neither the next prefix nor IPv6 pays for it.
        let fine = Judged::Answer { octets_max: 400 };
        assert_eq!(limiter.judge(ip("192.0.3.1"), 40, false, now), fine);
        assert_eq!(limiter.judge(ip("2001:db8::1"), 40, false, now), fine);
        assert_eq!(limiter.judge(ip("192.0.2.1"), 40, false, now + 100 * MILLI), fine);
    }

    #[test]
    fn who_is_proven_or_exempt_is_neither_paced_nor_cut() {
        let limiter = limiter(LIMITS);
        for _ in 0..100 {
            assert_eq!(limiter.judge(ip("192.0.2.1"), 40, true, SECOND), ALL);
            assert_eq!(limiter.judge(ip("10.1.2.3"), 40, false, SECOND), ALL);
            assert_eq!(limiter.judge(ip("::ffff:10.1.2.3"), 40, false, SECOND), ALL);
        }
    }

    #[test]
    fn slip_0_drops_all_and_slip_1_none() {
        for (slip, expected) in [(0, Judged::Drop), (1, Judged::Slip)] {
            let limiter = limiter(RateLimits { slip, ..LIMITS });
            let last = (0..30).map(|_| limiter.judge(ip("192.0.2.1"), 40, false, SECOND)).last();
            assert_eq!(last, Some(expected));
        }
    }

    #[test]
    fn the_bound_on_answers_holds_without_a_pace_and_the_pace_without_a_bound() {
        let cut = limiter(RateLimits { interval: 0, ..LIMITS });
        for _ in 0..100 {
            let judged = cut.judge(ip("192.0.2.1"), 30, false, SECOND);
            assert_eq!(judged, Judged::Answer { octets_max: 300 });
        }
        let paced = limiter(RateLimits { amplification_max: 0, ..LIMITS });
        assert_eq!(paced.judge(ip("192.0.2.1"), 30, false, SECOND), ALL);
    }

    #[test]
    fn prefixes_beyond_the_bound_make_room_for_each_other() {
        let limiter = limiter(LIMITS);
        for i in 0..4 * LIMITS_MAX {
            let [_, a, b, c] = i.to_be_bytes();
            limiter.judge(IpAddr::from([198, a, b, c]), 40, false, SECOND);
            let address =
                std::net::Ipv6Addr::new(0x2001, a.into(), b.into(), u16::from(c) << 8, 0, 0, 0, 1);
            limiter.judge(address.into(), 40, false, SECOND);
        }
        assert!(limiter.paid.len() <= LIMITS_MAX as usize, "{}", limiter.paid.len());
    }
}
