//! Which clients are served.
//!
//! Pure. The most specific prefix decides; a client that none contains is refused. The kernel
//! decides by the same list, which is why it can be gone through.

use std::net::IpAddr;

use ipnet::IpNet;

use super::prefixes::Prefixes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Allow,
    /// Answered REFUSED.
    Refuse,
}

/// The two lists of `[acl]` as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl(Prefixes<Verdict>);

/// Why lists are no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    #[error("{0} is in both `acl.allow` and `acl.deny`; write it in one of them")]
    Both(IpNet),
    #[error("{0} prefixes are more than the {PREFIXES_MAX} that `[acl]` can hold")]
    TooMany(usize),
}

impl Acl {
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Result<Self, AclError> {
        if allow.len() + deny.len() > PREFIXES_MAX {
            return Err(AclError::TooMany(allow.len() + deny.len()));
        }
        let mut acl = Prefixes::default();
        let allow = allow.iter().map(|prefix| (*prefix, Verdict::Allow));
        let deny = deny.iter().map(|prefix| (*prefix, Verdict::Refuse));
        for (prefix, verdict) in allow.chain(deny) {
            if *acl.entry(prefix, || verdict) != verdict {
                return Err(AclError::Both(prefix.trunc()));
            }
        }
        Ok(Self(acl))
    }

    /// An IPv4 client on an IPv6 socket is an IPv4 client.
    #[must_use]
    pub fn verdict(&self, client: IpAddr) -> Verdict {
        self.0.around(client).next().map_or(Verdict::Refuse, |(_, verdict)| *verdict)
    }

    /// What holds for all clients of a prefix in which no more specific one is listed.
    #[must_use]
    pub fn verdict_of(&self, prefix: IpNet) -> Verdict {
        self.0.covering(prefix).next().map_or(Verdict::Refuse, |(_, verdict)| *verdict)
    }

    /// Each prefix once, in no order. Who is in none of them is refused.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, Verdict)> {
        self.0.iter().map(|(&prefix, &verdict)| (prefix, verdict))
    }
}

/// Prefixes of both lists. The kernel's map has room for as many.
pub const PREFIXES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn acl(allow: &[&str], deny: &[&str]) -> Acl {
        Acl::new(&nets(allow), &nets(deny)).unwrap()
    }

    #[test]
    fn the_most_specific_prefix_decides_whichever_list_it_is_in() {
        let acl = acl(
            &["10.0.0.0/8", "10.1.2.0/24", "2001:db8::/32"],
            &["10.1.0.0/16", "10.1.2.3/32", "2001:db8:bad::/48"],
        );
        for (client, verdict) in [
            ("10.9.9.9", Verdict::Allow),
            ("10.1.9.9", Verdict::Refuse),
            ("10.1.2.9", Verdict::Allow),
            ("10.1.2.3", Verdict::Refuse),
            ("11.0.0.1", Verdict::Refuse),
            ("::ffff:10.9.9.9", Verdict::Allow),
            ("::ffff:10.1.2.3", Verdict::Refuse),
            ("2001:db8::1", Verdict::Allow),
            ("2001:db8:bad::1", Verdict::Refuse),
            ("fe80::1", Verdict::Refuse),
        ] {
            assert_eq!(acl.verdict(client.parse().unwrap()), verdict, "{client}");
        }
    }

    #[test]
    fn nobody_is_served_by_empty_lists_and_everybody_by_the_empty_prefixes() {
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(Acl::default().verdict(loopback), Verdict::Refuse);
        let all = acl(&["0.0.0.0/0", "::/0"], &[]);
        assert_eq!(all.verdict(loopback), Verdict::Allow);
        assert_eq!(all.verdict("::1".parse().unwrap()), Verdict::Allow);
        assert_eq!(acl(&["0.0.0.0/0"], &[]).verdict("::1".parse().unwrap()), Verdict::Refuse);
    }

    #[test]
    fn a_prefix_is_gone_through_once_and_without_its_host_bits() {
        let acl = acl(&["10.0.0.1/8", "10.0.0.0/8"], &["fd00::1/8"]);
        let mut found: Vec<_> = acl.prefixes().collect();
        found.sort();
        let expected = nets(&["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(found, [(expected[0], Verdict::Allow), (expected[1], Verdict::Refuse)]);
    }

    #[test]
    fn a_prefix_in_both_lists_and_lists_too_long_are_refused() {
        let both = Acl::new(&nets(&["10.0.0.1/8"]), &nets(&["10.0.0.0/8"])).unwrap_err();
        assert_eq!(
            both.to_string(),
            "10.0.0.0/8 is in both `acl.allow` and `acl.deny`; write it \
            in one of them"
        );
        let many: Vec<IpNet> = (0..=PREFIXES_MAX as u32)
            .map(|n| IpNet::new(IpAddr::V4(n.into()), 32).unwrap())
            .collect();
        assert_eq!(Acl::new(&many, &[]), Err(AclError::TooMany(PREFIXES_MAX + 1)));
        assert!(Acl::new(&many[1..], &[]).is_ok());
    }
}
