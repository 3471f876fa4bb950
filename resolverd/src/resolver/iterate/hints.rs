//! Where the root is: the built-in addresses, or an operator's, as a zone file has them.
//!
//! Pure: the driver reads files. Hints only begin; what the root says of itself takes their place
//! (priming, RFC 8109).

use std::net::{IpAddr, SocketAddr};

use crate::dns::Name;

use super::delegations::{Cut, NameServer};

/// The root as the hints have it, asked on `port`.
#[must_use]
pub fn cut(hints: &[(Name, IpAddr)], port: u16) -> Cut {
    let mut servers: Vec<NameServer> = Vec::new();
    for (name, ip) in hints {
        let address = SocketAddr::new(*ip, port);
        match servers.iter_mut().find(|server| server.name == *name) {
            Some(server) => server.addresses.push(address),
            None => servers.push(NameServer { name: name.clone(), addresses: vec![address] }),
        }
    }
    Cut::new(Name::root(), servers)
}

/// The root servers' addresses, of <https://www.internic.net/domain/named.root>.
#[must_use]
pub fn built_in() -> Vec<(Name, IpAddr)> {
    parse(BUILT_IN).unwrap_or_default()
}

/// Reads A and AAAA records out of a zone file such as `named.root`. The NS records beside them
/// may be missing: one address is enough.
pub fn parse(text: &str) -> Result<Vec<(Name, IpAddr)>, String> {
    let mut hints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(';').next().unwrap_or_default();
        if line.trim().is_empty() || line.trim_start().starts_with('$') {
            continue;
        }
        let wrong = |why: &str| format!("line {}: {why}; write {EXAMPLE} instead", number + 1);
        if line.starts_with([' ', '\t']) {
            return Err(wrong("a record begins with its owner"));
        }
        let mut words = line.split_whitespace();
        let owner = words.next().unwrap_or_default();
        let number = |word: &str| word.bytes().all(|octet| octet.is_ascii_digit());
        let mut rest = words.skip_while(|word| number(word) || word.eq_ignore_ascii_case("IN"));
        let rtype = rest.next().unwrap_or_default().to_ascii_uppercase();
        let data = rest.next().unwrap_or_default();
        let ip: IpAddr = match rtype.as_str() {
            "A" => data.parse().map(IpAddr::V4).map_err(|_| wrong("this is no IPv4 address"))?,
            "AAAA" => data.parse().map(IpAddr::V6).map_err(|_| wrong("this is no IPv6 address"))?,
            "NS" | "SOA" => continue,
            _ => return Err(wrong("only A, AAAA and NS records are hints")),
        };
        let name: Name = owner.parse().map_err(|_| wrong("the owner is no name"))?;
        let hint = (name, ip);
        if !hints.contains(&hint) {
            hints.push(hint);
        }
        if hints.len() > HINTS_MAX {
            return Err(wrong("these are more addresses than the root has"));
        }
    }
    if hints.is_empty() {
        return Err(format!("there is no address in it; write {EXAMPLE}"));
    }
    Ok(hints)
}

/// Addresses of hints. The root has 26.
const HINTS_MAX: usize = 256;

const EXAMPLE: &str = "`a.root-servers.net. 3600000 A 198.41.0.4`";

const BUILT_IN: &str = "\
a.root-servers.net. A 198.41.0.4
a.root-servers.net. AAAA 2001:503:ba3e::2:30
b.root-servers.net. A 170.247.170.2
b.root-servers.net. AAAA 2801:1b8:10::b
c.root-servers.net. A 192.33.4.12
c.root-servers.net. AAAA 2001:500:2::c
d.root-servers.net. A 199.7.91.13
d.root-servers.net. AAAA 2001:500:2d::d
e.root-servers.net. A 192.203.230.10
e.root-servers.net. AAAA 2001:500:a8::e
f.root-servers.net. A 192.5.5.241
f.root-servers.net. AAAA 2001:500:2f::f
g.root-servers.net. A 192.112.36.4
g.root-servers.net. AAAA 2001:500:12::d0d
h.root-servers.net. A 198.97.190.53
h.root-servers.net. AAAA 2001:500:1::53
i.root-servers.net. A 192.36.148.17
i.root-servers.net. AAAA 2001:7fe::53
j.root-servers.net. A 192.58.128.30
j.root-servers.net. AAAA 2001:503:c27::2:30
k.root-servers.net. A 193.0.14.129
k.root-servers.net. AAAA 2001:7fd::1
l.root-servers.net. A 199.7.83.42
l.root-servers.net. AAAA 2001:500:9f::42
m.root-servers.net. A 202.12.27.33
m.root-servers.net. AAAA 2001:dc3::35
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_hints_are_thirteen_servers_with_two_addresses_each() {
        let cut = cut(&built_in(), 53);
        assert_eq!(cut.zone, Name::root());
        assert_eq!(cut.servers.len(), 13);
        assert!(cut.servers.iter().all(|server| server.addresses.len() == 2));
        assert!(cut.servers.iter().flat_map(|s| &s.addresses).all(|address| {
            address.port() == 53 && super::super::servers::may_serve(address.ip(), &[])
        }));
    }

    #[test]
    fn a_file_is_read_as_internic_writes_it() {
        let text = ";       This file holds\n;\n.   3600000  NS  A.ROOT-SERVERS.NET.\n\
            A.ROOT-SERVERS.NET.      3600000      A     198.41.0.4 ; first\n\
            A.ROOT-SERVERS.NET.      3600000      AAAA  2001:503:ba3e::2:30\n\n\
            b.example 60 IN A 192.0.2.1\n$TTL 5\nb.example IN 60 A 192.0.2.1\n";
        let hints: Vec<_> =
            parse(text).unwrap().into_iter().map(|(n, ip)| format!("{n} {ip}")).collect();
        let expected = [
            "a.root-servers.net. 198.41.0.4",
            "a.root-servers.net. 2001:503:ba3e::2:30",
            "b.example. 192.0.2.1",
        ];
        assert_eq!(hints, expected);
    }

    #[test]
    fn one_address_is_enough_and_none_is_not() {
        assert_eq!(parse("x. AAAA fd00::1").unwrap().len(), 1);
        for (text, why) in [
            ("", "no address in it"),
            (". NS x.", "no address in it"),
            ("x. A 192.0.2", "line 1: this is no IPv4 address"),
            ("x. AAAA 192.0.2.1", "no IPv6 address"),
            ("\n A 192.0.2.1", "line 2: a record begins with its owner"),
            ("x. MX 5 y.", "only A, AAAA and NS"),
            ("..x. A 192.0.2.1", "the owner is no name"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
        let many: String =
            (0..300).map(|n| format!("x. A 10.0.{}.{}\n", n / 256, n % 256)).collect();
        assert!(parse(&many).unwrap_err().contains("more addresses"));
    }
}
