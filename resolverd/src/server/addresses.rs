//! From `listen` as configured to the addresses to bind, given what the machine
//! has at the moment. Pure: the daemon asks again when that changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::config::Listen;
use crate::kernel::netlink;

/// The addresses of the machine's interfaces, and the interfaces without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Name and index.
    pub links: Vec<(String, u32)>,
    /// Name and index of the interface, and one of its addresses.
    pub addresses: Vec<(String, u32, IpAddr)>,
}

/// What `listen` comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// Each once, in the order they were named.
    pub addresses: Vec<SocketAddr>,
    /// Items that come to nothing now: their interface is missing or bare.
    pub waiting: Vec<Listen>,
}

/// Expands `listen`: `eth0:53` into all addresses of that interface, a scoped
/// address into one with the interface's index, the rest into themselves.
pub fn expand(listen: &[Listen], interfaces: &Interfaces) -> Expansion {
    let mut expansion = Expansion::default();
    let mut seen = BTreeSet::new();
    for item in listen {
        let mut found = false;
        let mut add = |address| {
            found = true;
            if seen.insert(address) {
                expansion.addresses.push(address);
            }
        };
        match item {
            Listen::Socket(address) => add(*address),
            Listen::Scoped { addr, interface, port } => {
                if let Some((_, index)) = interfaces.links.iter().find(|(n, _)| n == interface) {
                    add(SocketAddrV6::new(*addr, *port, 0, *index).into());
                }
            }
            Listen::Interface { name, port } => (interfaces.addresses.iter())
                .filter(|(of, ..)| of == name)
                .for_each(|(_, index, addr)| add(on_interface(*addr, *index, *port))),
        }
        if !found {
            expansion.waiting.push(item.clone());
        }
    }
    expansion
}

/// A link-local address means something only together with its interface.
fn on_interface(addr: IpAddr, index: u32, port: u16) -> SocketAddr {
    match addr {
        IpAddr::V6(addr) if is_link_local(addr) => SocketAddrV6::new(addr, port, 0, index).into(),
        addr => SocketAddr::new(addr, port),
    }
}

/// fe80::/10 (RFC 4291 section 2.4).
pub(super) fn is_link_local(addr: Ipv6Addr) -> bool {
    addr.segments()[0] & 0xffc0 == 0xfe80
}

impl From<&netlink::Snapshot> for Interfaces {
    fn from(snapshot: &netlink::Snapshot) -> Interfaces {
        let links: Vec<(String, u32)> =
            snapshot.links.iter().map(|link| (link.name.clone(), link.index)).collect();
        let addresses = (snapshot.addresses.iter())
            .filter_map(|(index, addr, _)| {
                let (name, _) = links.iter().find(|(_, of)| of == index)?;
                Some((name.clone(), *index, *addr))
            })
            .collect();
        Interfaces { links, addresses }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_stands_for_all_its_addresses() {
        let expansion = expand(&[eth0(53)], &machine());
        assert_eq!(
            expansion.addresses,
            addresses(&["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"])
        );
        assert!(expansion.waiting.is_empty());
    }

    #[test]
    fn an_address_named_twice_is_bound_once_and_order_is_kept() {
        let listen = [Listen::Socket("192.0.2.1:53".parse().unwrap()), eth0(53), eth0(5300)];
        assert_eq!(
            expand(&listen, &machine()).addresses,
            addresses(&[
                "192.0.2.1:53",
                "[2001:db8::1]:53",
                "[fe80::1%2]:53",
                "192.0.2.1:5300",
                "[2001:db8::1]:5300",
                "[fe80::1%2]:5300",
            ])
        );
    }

    #[test]
    fn a_scoped_address_takes_the_index_of_its_interface_and_need_not_be_there() {
        let scoped = Listen::Scoped {
            addr: "fe80::53".parse().unwrap(),
            interface: "eth1".into(),
            port: 53,
        };
        let expansion = expand(&[scoped], &machine());
        assert_eq!(expansion.addresses, addresses(&["[fe80::53%3]:53"]));
    }

    #[test]
    fn what_is_missing_or_bare_waits_and_holds_nobody_back() {
        let scoped =
            Listen::Scoped { addr: "fe80::1".parse().unwrap(), interface: "eth9".into(), port: 53 };
        let bare = Listen::Interface { name: "eth1".into(), port: 53 };
        let there = Listen::Socket("0.0.0.0:53".parse().unwrap());
        let expansion = expand(&[scoped.clone(), bare.clone(), there], &machine());
        assert_eq!(expansion.addresses, addresses(&["0.0.0.0:53"]));
        assert_eq!(expansion.waiting, [scoped, bare]);
    }

    #[test]
    fn a_snapshot_of_the_machine_is_read() {
        let link = netlink::Link {
            index: 2,
            name: "eth0".into(),
            mac: [2; 6],
            mtu: 9,
            up: true,
            loopback: false,
            veth: false,
            xdp_program: None,
        };
        let snapshot = netlink::Snapshot {
            links: vec![link],
            addresses: vec![
                (2, "192.0.2.1".parse().unwrap(), 24),
                (7, "192.0.2.7".parse().unwrap(), 24),
            ],
        };
        let interfaces = Interfaces::from(&snapshot);
        assert_eq!(interfaces.links, [("eth0".to_owned(), 2)]);
        assert_eq!(
            interfaces.addresses,
            [("eth0".to_owned(), 2, "192.0.2.1".parse::<IpAddr>().unwrap())]
        );
    }

    fn machine() -> Interfaces {
        let at = |addr: &str| ("eth0".to_owned(), 2, addr.parse().unwrap());
        Interfaces {
            links: vec![("lo".into(), 1), ("eth0".into(), 2), ("eth1".into(), 3)],
            addresses: vec![
                ("lo".into(), 1, "127.0.0.1".parse().unwrap()),
                at("192.0.2.1"),
                at("2001:db8::1"),
                at("fe80::1"),
            ],
        }
    }

    fn eth0(port: u16) -> Listen {
        Listen::Interface { name: "eth0".into(), port }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}
