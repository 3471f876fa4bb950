//! Who may ask, as one list of prefixes: clients with their views, own addresses, and sources
//! that no honest packet has.
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
/// `clients` are prefixes of clients, each with all that holds for it: the most specific one
/// decides, and none denies. `own` are this machine's addresses with the lengths of their
/// prefixes. `exempt` are free of the limits.
#[must_use]
pub fn prefixes(
    clients: &[(IpNet, Source)],
    own: &[(IpAddr, u8)],
    exempt: &[IpNet],
) -> Vec<(IpNet, Source)> {
    let mut ours: Vec<IpNet> = own.iter().map(|(address, _)| IpNet::from(*address)).collect();
    ours.extend(LOOPBACK.iter().filter_map(|text| text.parse::<IpNet>().ok()));
    let mut invalid: Vec<IpNet> = INVALID.iter().filter_map(|text| text.parse().ok()).collect();
    invalid.extend(own.iter().filter_map(|(address, len)| broadcast(*address, *len)));

    // The default route of IPv4 keeps IPv4 out of the reach of IPv6's: they share a trie.
    let ends = ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok());
    let mut said: BTreeMap<IpNet, Said> = ends.map(|end: IpNet| (end, Said::default())).collect();
    for (prefix, source) in clients {
        said.entry(prefix.trunc()).or_default().client = Some(*source);
    }
    for prefix in &ours {
        said.entry(prefix.trunc()).or_default().flags |= Source::OWN;
    }
    for prefix in &invalid {
        said.entry(prefix.trunc()).or_default().flags |= Source::INVALID;
    }
    for prefix in exempt {
        said.entry(prefix.trunc()).or_default().flags |= Source::EXEMPT;
    }
    // In their order a prefix comes after all that hold it, and before all that it holds.
    let mut around: Vec<(IpNet, Source)> = Vec::new();
    let mut list = Vec::with_capacity(said.len());
    for (prefix, said) in said {
        while around.last().is_some_and(|(wide, _)| !wide.contains(&prefix)) {
            around.pop();
        }
        let wide = around.last().map_or(NOBODY, |(_, source)| *source);
        let client = said.client.unwrap_or(wide);
        let flags = client.flags & Source::ALLOWED
            | wide.flags & (Source::OWN | Source::INVALID | Source::EXEMPT)
            | said.flags;
        let source = Source { flags, view: client.view };
        around.push((prefix, source));
        list.push((prefix, source));
    }
    list
}

/// What is said of a prefix itself, and not of those around it.
#[derive(Clone, Copy, Default)]
struct Said {
    client: Option<Source>,
    flags: u16,
}

const NOBODY: Source = Source { flags: 0, view: 0 };

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

    fn source_of(list: &[(IpNet, Source)], source: &str) -> Source {
        let source: IpAddr = source.parse().unwrap();
        list.iter()
            .filter(|(prefix, _)| prefix.contains(&source))
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(NOBODY, |(_, s)| *s)
    }

    fn flags_of(list: &[(IpNet, Source)], source: &str) -> u16 {
        source_of(list, source).flags
    }

    fn client(prefix: &str, may: bool, view: u16) -> (IpNet, Source) {
        let flags = if may { Source::ALLOWED } else { 0 };
        (prefix.parse().unwrap(), Source { flags, view })
    }

    #[test]
    fn a_prefix_in_a_view_has_its_number_and_so_have_addresses_of_ours_in_it() {
        let clients = [
            client("10.0.0.0/8", true, 0),
            client("10.1.0.0/16", true, 7),
            client("10.1.2.0/24", false, 9),
        ];
        let own = [("10.1.0.1".parse().unwrap(), 16)];
        let list = prefixes(&clients, &own, &[]);
        for (source, view, flags) in [
            ("10.2.0.1", 0, Source::ALLOWED),
            ("10.1.0.2", 7, Source::ALLOWED),
            ("10.1.0.1", 7, Source::ALLOWED | Source::OWN),
            ("10.1.255.255", 7, Source::ALLOWED | Source::INVALID),
            ("10.1.2.3", 9, 0),
            ("192.0.2.1", 0, 0),
        ] {
            assert_eq!(source_of(&list, source), Source { flags, view }, "{source}");
        }
    }

    #[test]
    fn the_most_specific_prefix_carries_all_that_holds() {
        let acl = [
            ("10.0.0.0/8", true),
            ("10.1.0.0/16", false),
            ("10.1.2.0/24", true),
            ("127.0.0.0/8", true),
            ("::/0", true),
            ("224.0.0.1/32", true),
        ]
        .map(|(prefix, may)| client(prefix, may, 0));
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
        let acl = [client("0.0.0.0/0", true, 0), client("10.1.0.0/16", false, 0)];
        let list = prefixes(&acl, &[], &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(flags_of(&list, "10.2.0.1"), Source::ALLOWED | Source::EXEMPT);
        assert_eq!(flags_of(&list, "10.1.0.1"), Source::EXEMPT);
        assert_eq!(flags_of(&list, "11.0.0.1"), Source::ALLOWED);
    }

    #[test]
    fn a_default_route_of_ipv6_says_nothing_about_ipv4() {
        let list = prefixes(&[client("::/0", true, 0)], &[], &[]);
        assert_eq!(flags_of(&list, "192.0.2.1"), 0);
        assert_eq!(flags_of(&list, "2001:db8::1"), Source::ALLOWED);
    }
}
