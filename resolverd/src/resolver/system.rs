//! The system's own resolvers, out of the text of resolv.conf(5).
//!
//! Pure: `driver.rs` reads the file and turns interface names into numbers. Lines other than
//! `nameserver` do not concern a forwarder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One `nameserver` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    pub address: IpAddr,
    /// The interface of a link-local address, by name or number.
    pub scope: Option<String>,
}

/// The name servers in their order. Lines that are no address are passed over, as libc does.
#[must_use]
pub fn parse(text: &str) -> Vec<Nameserver> {
    let mut found: Vec<Nameserver> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(nameserver) = words.next().and_then(nameserver) else { continue };
        if !found.contains(&nameserver) {
            found.push(nameserver);
        }
        if found.len() == NAMESERVERS_MAX {
            break;
        }
    }
    found
}

fn nameserver(word: &str) -> Option<Nameserver> {
    let (address, scope) = match word.split_once('%') {
        Some((address, scope)) if !scope.is_empty() => (address, Some(scope.to_owned())),
        Some(_) => return None,
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    // libc takes the unspecified addresses for this host.
    let address = match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    (scope.is_none() || address.is_ipv6()).then_some(Nameserver { address, scope })
}

/// Takes out the addresses we listen on ourselves: asking them is asking us. A wildcard among
/// `listening` stands for the loopback addresses; what else it stands for, the look for loops
/// finds.
pub fn exclude(resolvers: &mut Vec<SocketAddr>, listening: &[SocketAddr]) {
    resolvers.retain(|resolver| {
        let (ip, port) = (resolver.ip().to_canonical(), resolver.port());
        !listening.iter().any(|ours| {
            let own = ours.ip().to_canonical();
            // [::] usually takes IPv4 as well.
            let wild = own.is_unspecified() && ip.is_loopback() && (own.is_ipv6() || ip.is_ipv4());
            ours.port() == port && (own == ip || wild)
        })
    });
}

/// libc reads three; tools that write more exist. Further ones would hardly ever be asked.
const NAMESERVERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_taken_in_order_and_once() {
        let text = "# by hand\n; too\nsearch example.test\nnameserver 192.0.2.1 \n\
            nameserver\t2001:db8::1 # trailing\noptions edns0\nnameserver 192.0.2.1\n\
            nameserver fe80::1%eth0\nnameserver  fe80::2%3\n nameserver 192.0.2.9\n";
        let found: Vec<_> =
            parse(text).into_iter().map(|n| (n.address.to_string(), n.scope)).collect();
        let expected = [
            ("192.0.2.1", None),
            ("2001:db8::1", None),
            ("fe80::1", Some("eth0")),
            ("fe80::2", Some("3")),
            ("192.0.2.9", None),
        ];
        let expected = expected.map(|(a, s)| (a.to_owned(), s.map(str::to_owned)));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_address_is_passed_over_and_the_number_is_bounded() {
        let text = "nameserver\nnameserver localhost\nnameserver 1.2.3\nnameserver fe80::1%\n\
            nameserver 192.0.2.1%eth0\nnameservers 192.0.2.1\n";
        assert_eq!(parse(text), []);
        let many: String = (1..30).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(parse(&many).len(), NAMESERVERS_MAX);
        assert_eq!(parse("nameserver 0.0.0.0")[0].address, Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn we_are_not_our_own_upstream() {
        let sockets = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let mut resolvers = sockets(&["127.0.0.1:53", "127.0.0.53:53", "192.0.2.1:53", "[::1]:53"]);
        exclude(&mut resolvers, &sockets(&["127.0.0.1:53", "[::1]:5300", "[fe80::1]:53"]));
        assert_eq!(resolvers, sockets(&["127.0.0.53:53", "192.0.2.1:53", "[::1]:53"]));
        exclude(&mut resolvers, &sockets(&["0.0.0.0:53"]));
        assert_eq!(resolvers, sockets(&["192.0.2.1:53", "[::1]:53"]));
        exclude(&mut resolvers, &sockets(&["[::]:53"]));
        assert_eq!(resolvers, sockets(&["192.0.2.1:53"]));
    }
}
