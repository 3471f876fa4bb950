//! Values by prefix of addresses; the most specific one is found.
//!
//! Pure. A look-up costs one hash for each length that occurs in the list, and there are few.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes<T> {
    /// Keys have no bit set below their length.
    values: HashMap<IpNet, T>,
    /// The lengths that occur, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), lengths_v4: Vec::new(), lengths_v6: Vec::new() }
    }
}

impl<T> Prefixes<T> {
    /// The value of a prefix, made if there is none.
    pub fn entry(&mut self, prefix: IpNet, make: impl FnOnce() -> T) -> &mut T {
        let prefix = prefix.trunc();
        let lengths = match prefix {
            IpNet::V4(_) => &mut self.lengths_v4,
            IpNet::V6(_) => &mut self.lengths_v6,
        };
        let len = prefix.prefix_len();
        if let Err(at) = lengths.binary_search_by(|other| len.cmp(other)) {
            lengths.insert(at, len);
        }
        self.values.entry(prefix).or_insert_with(make)
    }

    /// Takes a prefix out. Its length stays on the list, which costs a look-up a hash.
    pub fn remove(&mut self, prefix: &IpNet) -> Option<T> {
        self.values.remove(&prefix.trunc())
    }

    /// The value of a prefix itself.
    #[must_use]
    pub fn exact(&self, prefix: &IpNet) -> Option<&T> {
        self.values.get(&prefix.trunc())
    }

    /// The values of the prefixes that an address is in, the most specific first. An IPv4
    /// address in IPv6's clothes is an IPv4 address.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, &T)> {
        let address = address.to_canonical();
        let full = if address.is_ipv4() { 32 } else { 128 };
        // A prefix as long as the address is one.
        let whole = IpNet::new(address, full).unwrap_or(IpNet::from(address));
        self.covering(whole)
    }

    /// The values of the prefixes that hold all of this one, the most specific first.
    pub fn covering(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        let lengths = match prefix {
            IpNet::V4(_) => &self.lengths_v4,
            IpNet::V6(_) => &self.lengths_v6,
        };
        let at_most = prefix.prefix_len();
        let wider = lengths.iter().filter(move |&&len| len <= at_most);
        wider.filter_map(move |&len| {
            let wide = IpNet::new(prefix.addr(), len).ok()?.trunc();
            self.values.get(&wide).map(|value| (wide, value))
        })
    }

    /// Each prefix once, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&IpNet, &T)> {
        self.values.iter()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn list() -> Prefixes<&'static str> {
        let mut list = Prefixes::default();
        for text in ["10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32", "10.1.0.0/16", "2001:db8::/32"] {
            list.entry(net(text), || text);
        }
        list
    }

    #[test]
    fn the_most_specific_comes_first_and_families_do_not_meet() {
        let list = list();
        let found = |address: &str| -> Vec<&str> {
            list.around(address.parse().unwrap()).map(|(_, value)| *value).collect()
        };
        assert_eq!(found("10.1.2.3"), ["10.1.2.3/32", "10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]);
        assert_eq!(found("::ffff:10.1.9.9"), ["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]);
        assert_eq!(found("2001:db8::1"), ["2001:db8::/32"]);
        assert!(found("2001:db9::1").is_empty());
    }

    #[test]
    fn a_prefix_is_covered_by_wider_ones_and_by_itself() {
        let list = list();
        let found = |prefix: &str| list.covering(net(prefix)).next().map(|(_, value)| *value);
        assert_eq!(found("10.1.0.0/16"), Some("10.1.0.0/16"));
        assert_eq!(found("10.1.2.0/24"), Some("10.1.0.0/16"));
        assert_eq!(found("10.0.0.0/7"), Some("0.0.0.0/0"));
        assert_eq!(found("2001::/16"), None);
    }

    #[test]
    fn what_is_taken_out_is_not_found() {
        let mut list = list();
        assert_eq!(list.remove(&net("10.1.0.0/16")), Some("10.1.0.0/16"));
        let found = list.around("10.1.9.9".parse().unwrap()).next();
        assert_eq!(found, Some((net("10.0.0.0/8"), &"10.0.0.0/8")));
        assert_eq!(list.exact(&net("10.0.0.1/8")), Some(&"10.0.0.0/8"));
        assert_eq!((list.len(), list.is_empty()), (4, false));
    }
}
