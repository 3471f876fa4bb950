//! What is known about servers, by address: how fast they are, what they cannot do, where they
//! are lame.
//!
//! Pure. The machine says what happened; this file remembers, for a bounded time, for a bounded
//! number of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use quick_cache::sync::Cache;

use crate::clock::BootTime;
use crate::dns::Name;

/// May be used from any thread. Two threads that learn about one server in the same moment may
/// cost each other what they learnt, and no more.
pub struct Servers {
    known: Cache<SocketAddr, Server>,
    /// Until when an address is not asked about a zone.
    lame: Cache<(SocketAddr, Name), BootTime>,
    /// Until when it is asked about a zone after all others.
    doubted: Cache<(SocketAddr, Name), BootTime>,
    /// Until when IPv4, and IPv6, are taken for unreachable, in nanoseconds.
    down: [AtomicU64; 2],
    /// Addresses in a row that could not be reached at all, by family.
    unreached: [AtomicU64; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Server {
    rtt: Option<Rtt>,
    /// Questions in a row that were not answered.
    silences: u32,
    /// Asked only when nobody else is left.
    aside_until: BootTime,
    /// It understood EDNS once: silence is not taken for the lack of it.
    knows_edns: bool,
    without_edns_until: BootTime,
    keep_case_until: BootTime,
}

#[derive(Clone, Copy, Debug)]
struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

/// How a server is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// When an answer is expected: what servers are compared by.
    pub expected: Duration,
    /// How long to wait before somebody else is asked as well.
    pub patience: Duration,
    /// Never asked yet.
    pub unknown: bool,
    pub aside: bool,
    pub edns: bool,
    pub knows_edns: bool,
    /// Whether letters of the name may be sent in any case.
    pub scramble: bool,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            known: Cache::new(SERVERS_MAX),
            lame: Cache::new(LAME_MAX),
            doubted: Cache::new(DOUBTED_MAX),
            down: Default::default(),
            unreached: Default::default(),
        }
    }
}

impl Servers {
    #[must_use]
    pub fn manner(&self, now: BootTime, address: SocketAddr) -> Manner {
        let known = self.known.get(&address);
        let server = known.unwrap_or_default();
        let (expected, patience) = match server.rtt {
            Some(Rtt { smoothed, variation }) => {
                (smoothed, (smoothed + 4 * variation).clamp(PATIENCE_MIN, PATIENCE_MAX))
            }
            None => (EXPECTED_FIRST, PATIENCE_FIRST),
        };
        Manner {
            // Who was silent of late is expected late.
            expected: expected * (1 << server.silences.min(DOUBLINGS_MAX)),
            patience,
            unknown: server.rtt.is_none(),
            aside: server.aside_until > now || self.is_down(now, address.ip()),
            edns: server.without_edns_until <= now,
            knows_edns: server.knows_edns,
            scramble: server.keep_case_until <= now,
        }
    }

    /// It answered, whatever it said.
    pub fn answered(&self, address: SocketAddr, took: Duration) {
        let family = family(address.ip());
        self.unreached[family].store(0, Ordering::Relaxed);
        self.down[family].store(0, Ordering::Relaxed);
        self.change(address, |server| {
            server.rtt = Some(Rtt::smooth(server.rtt, took));
            server.silences = 0;
            server.aside_until = BootTime::default();
        });
    }

    pub fn silent(&self, now: BootTime, address: SocketAddr) {
        self.change(address, |server| {
            server.silences = server.silences.saturating_add(1);
            if let Some(over) = server.silences.checked_sub(SILENCES_MAX) {
                let backoff = (BACKOFF_MIN * (1 << over.min(DOUBLINGS_MAX))).min(BACKOFF_MAX);
                server.aside_until = now + backoff;
            }
        });
    }

    /// Nothing could be sent to it. After some in a row, the whole family is taken for missing.
    pub fn unreachable(&self, now: BootTime, address: SocketAddr) {
        self.change(address, |server| server.aside_until = now + BACKOFF_MAX);
        let family = family(address.ip());
        if self.unreached[family].fetch_add(1, Ordering::Relaxed) + 1 >= UNREACHED_MAX {
            self.down[family].store((now + FAMILY_DOWN_FOR).as_nanos(), Ordering::Relaxed);
        }
    }

    pub fn knows_edns(&self, address: SocketAddr) {
        if self.known.get(&address).is_none_or(|server| !server.knows_edns) {
            self.change(address, |server| server.knows_edns = true);
        }
    }

    /// It answers without an OPT what it does not answer with one (RFC 6891 section 7).
    pub fn avoid_edns(&self, now: BootTime, address: SocketAddr) {
        self.change(address, |server| server.without_edns_until = now + HABIT_FOR);
    }

    /// It does not give back the letters of a name as they came.
    pub fn keep_case(&self, now: BootTime, address: SocketAddr) {
        self.change(address, |server| server.keep_case_until = now + HABIT_FOR);
    }

    /// It is no server of this zone, whatever the zone above says.
    pub fn lame(&self, now: BootTime, address: SocketAddr, zone: &Name) {
        self.lame.insert((address, zone.clone()), now + LAME_FOR);
    }

    #[must_use]
    pub fn is_lame(&self, now: BootTime, address: SocketAddr, zone: &Name) -> bool {
        self.lame.get(&(address, zone.clone())).is_some_and(|until| until > now)
    }

    /// What it said of this zone does not bear validation. False: that is known.
    pub fn doubt(&self, now: BootTime, address: SocketAddr, zone: &Name) -> bool {
        let news = !self.is_doubted(now, address, zone);
        if news {
            self.doubted.insert((address, zone.clone()), now + DOUBTED_FOR);
        }
        news
    }

    #[must_use]
    pub fn is_doubted(&self, now: BootTime, address: SocketAddr, zone: &Name) -> bool {
        !self.doubted.is_empty()
            && self.doubted.get(&(address, zone.clone())).is_some_and(|until| until > now)
    }

    /// Addresses that something is known about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_down(&self, now: BootTime, ip: IpAddr) -> bool {
        self.down[family(ip)].load(Ordering::Relaxed) > now.as_nanos()
    }

    fn change(&self, address: SocketAddr, change: impl FnOnce(&mut Server)) {
        let mut server = self.known.get(&address).unwrap_or_default();
        change(&mut server);
        self.known.insert(address, server);
    }
}

impl Rtt {
    /// RFC 6298 section 2, without its granularity term.
    fn smooth(known: Option<Self>, sample: Duration) -> Self {
        known.map_or(Self { smoothed: sample, variation: sample / 2 }, |rtt| Self {
            smoothed: (rtt.smoothed * 7 + sample) / 8,
            variation: (rtt.variation * 3 + rtt.smoothed.abs_diff(sample)) / 4,
        })
    }
}

/// Whether an address may be asked as the server of a zone: not one that belongs to no server on
/// the Internet, unless it is `allowed`. A zone of a stranger could else have us ask machines of
/// our own network.
#[must_use]
pub fn may_serve(ip: IpAddr, allowed: &[IpNet]) -> bool {
    allowed.iter().any(|net| net.contains(&ip)) || is_public(ip)
}

/// IANA's registries of special-purpose addresses, as far as no server has one.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a >= 224
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        // RFC 6598; IETF assignments; benchmarks (RFC 2544).
        || a == 100 && b & 0xc0 == 64
        || (a, b, c) == (192, 0, 0)
        || a == 198 && b & 0xfe == 18)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [first, second, third, .., seventh, eighth] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (first, second) {
        // NAT64 reaches IPv4 servers from hosts without it (RFC 6052), 6to4 likewise (RFC 3056).
        (0x64, 0xff9b) => is_public_v4(v4(seventh, eighth)),
        (0x2002, high) => is_public_v4(v4(high, third)),
        // Teredo (RFC 4380), documentation (RFC 3849, RFC 9637).
        (0x2001, 0 | 0xdb8) | (0x3fff, 0..0x1000) => false,
        // Global unicast.
        _ => first & 0xe000 == 0x2000,
    }
}

const fn family(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => 1,
    }
}

/// Addresses remembered. A busy resolver talks to some 50,000 in a day; each takes 100 octets.
const SERVERS_MAX: usize = 65_536;

/// Pairs of an address and a zone it does not serve.
const LAME_MAX: usize = 16_384;

/// Expected of a server that was never asked: better than a slow one, so that it is tried, and
/// worse than a near one, so that near ones stay first.
const EXPECTED_FIRST: Duration = Duration::from_millis(60);

/// How long a server is waited for before another one is asked as well: when nothing is known,
/// and at least and at most.
const PATIENCE_FIRST: Duration = Duration::from_millis(376);
const PATIENCE_MIN: Duration = Duration::from_millis(120);
const PATIENCE_MAX: Duration = Duration::from_millis(1_500);

/// Silences in a row before a server is set aside. One lost datagram is ordinary.
const SILENCES_MAX: u32 = 3;
const DOUBLINGS_MAX: u32 = 6;
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Addresses of one family in a row that cannot be reached before the family is taken for
/// missing, and for how long: hosts without IPv6 should not try it at every server.
const UNREACHED_MAX: u64 = 4;
const FAMILY_DOWN_FOR: Duration = Duration::from_secs(30);

/// What a server cannot do is tried again after so long: a lost OPT would cost DNSSEC for ever.
const HABIT_FOR: Duration = Duration::from_secs(15 * 60);

/// Pairs of an address and a zone of which it spoke falsely.
const DOUBTED_MAX: usize = 4_096;

/// As long as a failed validation is kept: then all servers of the zone are equal again.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

/// A lame server is asked about the zone again after so long.
const LAME_FOR: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime(1_000_000_000_000);

    fn at(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 53).into()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_server_is_known_by_its_times() {
        let servers = Servers::default();
        let manner = servers.manner(NOW, at(1));
        assert!(manner.unknown && !manner.aside && manner.edns && manner.scramble);
        assert_eq!((manner.expected, manner.patience), (EXPECTED_FIRST, PATIENCE_FIRST));
        servers.answered(at(1), ms(100));
        let manner = servers.manner(NOW, at(1));
        assert_eq!((manner.expected, manner.patience), (ms(100), ms(300)));
        for _ in 0..50 {
            servers.answered(at(1), ms(20));
        }
        let manner = servers.manner(NOW, at(1));
        assert!(manner.expected < ms(21) && manner.patience == PATIENCE_MIN, "{manner:?}");
    }

    #[test]
    fn a_silent_server_is_expected_late_then_set_aside_and_later_tried_again() {
        let servers = Servers::default();
        servers.answered(at(1), ms(100));
        servers.silent(NOW, at(1));
        assert_eq!(servers.manner(NOW, at(1)).expected, ms(200));
        servers.silent(NOW, at(1));
        assert!(!servers.manner(NOW, at(1)).aside);
        servers.silent(NOW, at(1));
        assert!(servers.manner(NOW + ms(1_999), at(1)).aside);
        assert!(!servers.manner(NOW + ms(2_000), at(1)).aside);
        for _ in 0..20 {
            servers.silent(NOW, at(1));
        }
        assert!(servers.manner(NOW + ms(59_999), at(1)).aside);
        assert!(!servers.manner(NOW + ms(60_000), at(1)).aside);
        servers.answered(at(1), ms(100));
        assert_eq!(servers.manner(NOW, at(1)).expected, ms(100));
        assert!(!servers.manner(NOW, at(1)).aside);
    }

    #[test]
    fn what_a_server_cannot_do_is_remembered_for_a_while() {
        let servers = Servers::default();
        servers.avoid_edns(NOW, at(1));
        servers.keep_case(NOW, at(1));
        let manner = servers.manner(NOW, at(1));
        assert!(!manner.edns && !manner.scramble);
        let manner = servers.manner(NOW + HABIT_FOR, at(1));
        assert!(manner.edns && manner.scramble);
        let (a, b): (Name, Name) = ("a.test.".parse().unwrap(), "b.test.".parse().unwrap());
        servers.lame(NOW, at(1), &a);
        assert!(servers.is_lame(NOW, at(1), &a) && !servers.is_lame(NOW, at(1), &b));
        assert!(!servers.is_lame(NOW + LAME_FOR, at(1), &a));
        assert!(!servers.is_lame(NOW, at(2), &a));
    }

    #[test]
    fn who_spoke_falsely_of_a_zone_is_doubted_about_it_for_a_minute() {
        let servers = Servers::default();
        let (a, b): (Name, Name) = ("a.test.".parse().unwrap(), "b.test.".parse().unwrap());
        assert!(servers.doubt(NOW, at(1), &a), "news");
        assert!(!servers.doubt(NOW, at(1), &a));
        assert!(servers.is_doubted(NOW, at(1), &a) && !servers.is_doubted(NOW, at(1), &b));
        assert!(!servers.is_doubted(NOW, at(2), &a));
        assert!(!servers.is_doubted(NOW + DOUBTED_FOR, at(1), &a));
        assert!(servers.doubt(NOW + DOUBTED_FOR, at(1), &a), "news again");
    }

    #[test]
    fn a_family_that_is_not_there_is_not_tried_at_every_server() {
        let servers = Servers::default();
        let v6 = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 53));
        for n in 0..UNREACHED_MAX as u16 {
            assert!(!servers.manner(NOW, v6(99)).aside);
            servers.unreachable(NOW, v6(n));
        }
        assert!(servers.manner(NOW, v6(99)).aside);
        assert!(!servers.manner(NOW, at(1)).aside);
        assert!(!servers.manner(NOW + FAMILY_DOWN_FOR, v6(99)).aside);
        servers.answered(v6(50), ms(9));
        assert!(!servers.manner(NOW, v6(99)).aside, "one answer shows that it is there");
    }

    #[test]
    fn addresses_that_no_server_has_are_refused_unless_allowed() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.9",
            "198.18.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
            "2001:0:a00:1::1",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert!(!may_serve(ip, &[]), "{text}");
            assert!(may_serve(ip, &[IpNet::from(ip)]), "{text}");
        }
        for text in
            ["198.41.0.4", "8.8.8.8", "2001:503:ba3e::2:30", "64:ff9b::8.8.8.8", "2002:808:808::1"]
        {
            assert!(may_serve(text.parse().unwrap(), &[]), "{text}");
        }
    }
}
