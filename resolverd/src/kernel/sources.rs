//! Who may ask, as one list of prefixes: access list, own addresses, and sources that no
//! honest packet has.
//!
//! Pure. The kernel takes the most specific prefix of a source and nothing else, so each
//! prefix carries all that holds for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use resolverd_common::settings::Source;

/// Sources that are loopback (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Unspecified, multicast and broadcast sources (RFC 1122 section 3.2.1.3, RFC 4291).
const INVALID: [&str; 5] = ["0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8"];

/// The list for the kernel.
///
/// `allowed` is the access list: prefixes and whether they may ask; the most specific decides,
/// and none denies. `own` are this machine's addresses with the lengths of their prefixes.
/// `exempt` are free of the limits.
#[must_use]
pub fn prefixes(
    allowed: &[(IpNet, bool)],
    own: &[(IpAddr, u8)],
    exempt: &[IpNet],
) -> Vec<(IpNet, Source)> {
    let mut ours: Vec<IpNet> = own.iter().map(|(address, _)| IpNet::from(*address)).collect();
    ours.extend(LOOPBACK.iter().filter_map(|text| text.parse::<IpNet>().ok()));
    let mut invalid: Vec<IpNet> = INVALID.iter().filter_map(|text| text.parse().ok()).collect();
    invalid.extend(own.iter().filter_map(|(address, len)| broadcast(*address, *len)));

    let mut list = BTreeMap::new();
    // The default route of IPv4 keeps IPv4 out of the reach of IPv6's: they share a trie.
    let ends: Vec<IpNet> =
        ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok()).collect();
    let all = allowed.iter().map(|(prefix, _)| prefix);
    for prefix in all.chain(&ours).chain(&invalid).chain(&ends).chain(exempt) {
        let prefix = prefix.trunc();
        let mut flags = 0;
        if may_ask(allowed, &prefix) {
            flags |= Source::ALLOWED;
        }
        if ours.iter().any(|wide| wide.contains(&prefix)) {
            flags |= Source::OWN;
        }
        if invalid.iter().any(|wide| wide.contains(&prefix)) {
            flags |= Source::INVALID;
        }
        if exempt.iter().any(|wide| wide.contains(&prefix)) {
            flags |= Source::EXEMPT;
        }
        list.insert(prefix, Source { flags, view: 0 });
    }
    list.into_iter().collect()
}

/// What the most specific prefix that covers this one says.
fn may_ask(allowed: &[(IpNet, bool)], prefix: &IpNet) -> bool {
    allowed
        .iter()
        .filter(|(wide, _)| wide.contains(prefix))
        .max_by_key(|(wide, _)| wide.prefix_len())
        .is_some_and(|(_, may)| *may)
}

/// The directed broadcast address of an IPv4 subnet (RFC 919). Subnets of one or two have none.
fn broadcast(address: IpAddr, prefix_len: u8) -> Option<IpNet> {
    let IpAddr::V4(v4) = address else {
        return None;
    };
    (prefix_len < 31).then_some(())?;
    let net = ipnet::Ipv4Net::new(v4, prefix_len).ok()?;
    Some(IpNet::from(IpAddr::V4(net.broadcast())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_of(list: &[(IpNet, Source)], source: &str) -> u16 {
        let source: IpAddr = source.parse().unwrap();
        list.iter()
            .filter(|(prefix, _)| prefix.contains(&source))
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(0, |(_, s)| s.flags)
    }

    #[test]
    fn the_most_specific_prefix_carries_all_that_holds() {
        let acl: Vec<(IpNet, bool)> = [
            ("10.0.0.0/8", true),
            ("10.1.0.0/16", false),
            ("10.1.2.0/24", true),
            ("127.0.0.0/8", true),
            ("::/0", true),
            ("224.0.0.1/32", true),
        ]
        .map(|(p, may)| (p.parse().unwrap(), may))
        .to_vec();
        let own = [("10.0.0.1".parse().unwrap(), 24), ("fd00::1".parse().unwrap(), 64)];
        let list = prefixes(&acl, &own, &[]);
        const A: u16 = Source::ALLOWED;
        const O: u16 = Source::OWN;
        const I: u16 = Source::INVALID;
        for (source, flags) in [
            ("10.2.3.4", A),
            ("10.1.3.4", 0),
            ("10.1.2.4", A),
            ("192.0.2.1", 0),
            ("10.0.0.1", A | O),
            ("10.0.0.2", A),
            ("10.0.0.255", A | I),
            ("127.0.0.1", A | O),
            ("127.9.9.9", A | O),
            ("::1", A | O),
            ("fd00::1", A | O),
            ("fd00::2", A),
            ("2001:db8::1", A),
            ("::", A | I),
            ("ff02::1", A | I),
            ("224.0.0.1", A | I),
            ("224.0.0.2", I),
            ("255.255.255.255", I),
            ("0.0.0.0", I),
        ] {
            assert_eq!(flags_of(&list, source), flags, "{source}");
        }
    }

    #[test]
    fn what_is_exempt_is_so_within_and_beside_other_prefixes() {
        let acl: Vec<(IpNet, bool)> = [("0.0.0.0/0", true), ("10.1.0.0/16", false)]
            .map(|(p, m)| (p.parse().unwrap(), m))
            .to_vec();
        let list = prefixes(&acl, &[], &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(flags_of(&list, "10.2.0.1"), Source::ALLOWED | Source::EXEMPT);
        assert_eq!(flags_of(&list, "10.1.0.1"), Source::EXEMPT);
        assert_eq!(flags_of(&list, "11.0.0.1"), Source::ALLOWED);
    }

    #[test]
    fn a_default_route_of_ipv6_says_nothing_about_ipv4() {
        let list = prefixes(&[("::/0".parse().unwrap(), true)], &[], &[]);
        assert_eq!(flags_of(&list, "192.0.2.1"), 0);
        assert_eq!(flags_of(&list, "2001:db8::1"), Source::ALLOWED);
    }
}
