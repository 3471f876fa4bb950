//! How much of a client's address is shown: in log lines, in the query log, in dnstap.
//!
//! One function for all of them, [`ClientPrefix::shown`]. It hides nothing from the daemon
//! itself: access lists and limits see whole addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// Bits of addresses that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefix {
    v4: u8,
    v6: u8,
}

/// A client as it is shown. Whole, or a prefix: then without its port, by which the flow records
/// of a router would name it after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// With zeros behind the prefix.
    pub addr: IpAddr,
    /// `None`: whole.
    pub bits: Option<u8>,
    pub port: Option<u16>,
}

impl ClientPrefix {
    /// Addresses are shown whole.
    pub const WHOLE: Self = Self { v4: 32, v6: 128 };

    /// Past the length of an address it is whole.
    #[must_use]
    pub fn new(v4: u8, v6: u8) -> Self {
        Self { v4: v4.min(32), v6: v6.min(128) }
    }

    /// A client as it may be shown. An IPv4 address in IPv6's clothes is an IPv4 address.
    #[must_use]
    pub fn shown(self, client: SocketAddr) -> Shown {
        let (addr, bits, whole) = match client.ip().to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                (Ipv4Addr::from_bits(v4.to_bits() & mask).into(), self.v4, self.v4 == 32)
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0);
                (Ipv6Addr::from_bits(v6.to_bits() & mask).into(), self.v6, self.v6 == 128)
            }
        };
        if whole {
            Shown { addr, bits: None, port: Some(client.port()) }
        } else {
            Shown { addr, bits: Some(bits), port: None }
        }
    }

    /// Bits of an address of this family (as EDNS client subnet numbers them: 1 is IPv4, 2 is
    /// IPv6), if not all are shown.
    #[must_use]
    pub fn bits_of_family(self, family: u16) -> Option<u8> {
        match family {
            1 => (self.v4 < 32).then_some(self.v4),
            2 => (self.v6 < 128).then_some(self.v6),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }
}

/// `192.0.2.0/24`, or `192.0.2.7`. The port is for who wants it.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            Some(bits) => write!(f, "{}/{bits}", self.addr),
            None => write!(f, "{}", self.addr),
        }
    }
}

/// A client for a line of the log, by the prefix that was set last.
#[must_use]
pub fn client(client: SocketAddr) -> Shown {
    let [v4, v6] = PREFIX.load(Ordering::Relaxed).to_be_bytes();
    ClientPrefix { v4, v6 }.shown(client)
}

/// From now on lines of the log show so much.
pub fn set_client_prefix(ClientPrefix { v4, v6 }: ClientPrefix) {
    PREFIX.store(u16::from_be_bytes([v4, v6]), Ordering::Relaxed);
}

/// Until it is set, what the default of `privacy.client-prefix` says.
static PREFIX: AtomicU16 = AtomicU16::new(u16::from_be_bytes([24, 56]));

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(v4: u8, v6: u8, client: &str) -> String {
        ClientPrefix::new(v4, v6).shown(client.parse().unwrap()).to_string()
    }

    #[test]
    fn what_is_behind_the_prefix_is_zero_and_the_port_is_not_told() {
        assert_eq!(shown(24, 56, "192.0.2.77:4711"), "192.0.2.0/24");
        assert_eq!(shown(24, 56, "[2001:db8:1:2ff:3:4:5:6]:53"), "2001:db8:1:200::/56");
        assert_eq!(shown(31, 127, "192.0.2.77:1"), "192.0.2.76/31");
        assert_eq!(shown(31, 127, "[2001:db8::f]:1"), "2001:db8::e/127");
        let shown = ClientPrefix::new(24, 56).shown("192.0.2.77:4711".parse().unwrap());
        assert_eq!((shown.bits, shown.port), (Some(24), None));
    }

    #[test]
    fn nothing_is_shown_at_zero_and_everything_at_the_full_length() {
        assert_eq!(shown(0, 0, "192.0.2.77:4711"), "0.0.0.0/0");
        assert_eq!(shown(0, 0, "[2001:db8::1]:53"), "::/0");
        assert_eq!(shown(32, 128, "192.0.2.77:4711"), "192.0.2.77");
        assert_eq!(shown(200, 200, "[2001:db8::1]:53"), "2001:db8::1");
        let shown = ClientPrefix::WHOLE.shown("192.0.2.77:4711".parse().unwrap());
        assert_eq!((shown.bits, shown.port), (None, Some(4711)));
        assert!(ClientPrefix::WHOLE.is_whole() && !ClientPrefix::new(32, 56).is_whole());
    }

    #[test]
    fn one_family_may_be_whole_and_the_other_not() {
        let prefix = ClientPrefix::new(32, 56);
        assert_eq!(prefix.shown("192.0.2.77:9".parse().unwrap()).port, Some(9));
        assert_eq!(prefix.shown("[2001:db8::1]:9".parse().unwrap()).port, None);
        assert_eq!((prefix.bits_of_family(1), prefix.bits_of_family(2)), (None, Some(56)));
        assert_eq!(prefix.bits_of_family(3), None);
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_cut_as_an_ipv4_client() {
        assert_eq!(shown(24, 56, "[::ffff:192.0.2.77]:53"), "192.0.2.0/24");
    }
}
