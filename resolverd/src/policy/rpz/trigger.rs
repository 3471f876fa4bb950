//! What the owner of a record in a policy zone stands for: what is to be matched.
//!
//! Pure (draft-vixie-dnsop-dns-rpz-00, section 4). Names stand below the policy zone as they
//! are; addresses are written as `32.1.2.0.192.rpz-ip`, prefix first and octets in reverse, and
//! for IPv6 `128.1.zz.db8.2001.rpz-ip`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::dns::Name;

use super::super::addresses::labels;

/// What is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The name that is asked for, or one that an alias leads to; `*.` before it: all below.
    Qname(Name),
    /// Who asks.
    ClientIp(IpNet),
    /// An address in the answer.
    Ip(IpNet),
    /// The name of a server that had a say in the answer.
    NsDname(Name),
    /// The address of one.
    NsIp(IpNet),
}

/// The kinds of triggers, in the order in which they decide within one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ClientIp,
    Qname,
    Ip,
    NsDname,
    NsIp,
}

impl Trigger {
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Qname(_) => Kind::Qname,
            Self::ClientIp(_) => Kind::ClientIp,
            Self::Ip(_) => Kind::Ip,
            Self::NsDname(_) => Kind::NsDname,
            Self::NsIp(_) => Kind::NsIp,
        }
    }
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::ClientIp, Self::Qname, Self::Ip, Self::NsDname, Self::NsIp];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientIp => "client-ip",
            Self::Qname => "qname",
            Self::Ip => "ip",
            Self::NsDname => "nsdname",
            Self::NsIp => "nsip",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qname(name) => write!(f, "qname {name}"),
            Self::ClientIp(net) => write!(f, "client-ip {net}"),
            Self::Ip(net) => write!(f, "ip {net}"),
            Self::NsDname(name) => write!(f, "nsdname {name}"),
            Self::NsIp(net) => write!(f, "nsip {net}"),
        }
    }
}

/// Why an owner is no trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    #[error("`{0}` is not in the policy zone")]
    Outside(Name),
    #[error("`{0}` is no prefix of addresses in the form of policy zones")]
    Prefix(Name),
}

/// None: the owner is the zone itself, which has SOA and NS.
pub fn read(owner: &Name, origin: &Name) -> Result<Option<Trigger>, TriggerError> {
    let outside = || TriggerError::Outside(owner.clone());
    let whole = owner.as_wire();
    let relative = whole.strip_suffix(origin.as_wire()).ok_or_else(outside)?;
    // A suffix of octets need not be one of labels.
    let name = Name::from_wire(&[relative, &[0]].concat()).map_err(|_| outside())?;
    if !owner.is_under(origin) {
        return Err(outside());
    }
    let labels: Vec<&[u8]> = labels(&name).collect();
    let Some((last, before)) = labels.split_last() else { return Ok(None) };
    let prefix = || prefix(before).ok_or_else(|| TriggerError::Prefix(owner.clone()));
    Ok(Some(match *last {
        b"rpz-ip" => Trigger::Ip(prefix()?),
        b"rpz-client-ip" => Trigger::ClientIp(prefix()?),
        b"rpz-nsip" => Trigger::NsIp(prefix()?),
        b"rpz-nsdname" => {
            let bare = &relative[..relative.len() - 1 - last.len()];
            let name = Name::from_wire(&[bare, &[0]].concat()).map_err(|_| outside())?;
            Trigger::NsDname(name)
        }
        _ => Trigger::Qname(name),
    }))
}

fn prefix(labels: &[&[u8]]) -> Option<IpNet> {
    let texts: Vec<&str> =
        labels.iter().map(|label| std::str::from_utf8(label).ok()).collect::<Option<_>>()?;
    let (length, groups) = texts.split_first()?;
    let length = number(length, 10, 128)? as u8;
    let address: IpAddr = if groups.len() == 4 && !groups.contains(&"zz") && length <= 32 {
        let octets: Option<Vec<u8>> =
            groups.iter().rev().map(|group| number(group, 10, 255).map(|n| n as u8)).collect();
        Ipv4Addr::from(<[u8; 4]>::try_from(octets?).ok()?).into()
    } else {
        let gaps = groups.iter().filter(|group| **group == "zz").count();
        let missing = 8_usize.checked_sub(groups.len() - gaps)?;
        // `zz` stands for one zero at least, as `::` does.
        if gaps > 1 || gaps == 1 && missing == 0 || gaps == 0 && missing != 0 {
            return None;
        }
        let mut words = Vec::with_capacity(8);
        for group in groups.iter().rev() {
            if *group == "zz" {
                words.extend(std::iter::repeat_n(0, missing));
            } else {
                words.push(number(group, 16, 0xffff)? as u16);
            }
        }
        Ipv6Addr::from(<[u16; 8]>::try_from(words).ok()?).into()
    };
    let net = IpNet::new(address, length).ok()?;
    // Bits behind the prefix are a slip of whoever wrote it.
    (net.trunc().addr() == address).then_some(net)
}

fn number(text: &str, radix: u32, max: u32) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|o| o.is_ascii_hexdigit());
    let number = plain.then(|| u32::from_str_radix(text, radix).ok()).flatten()?;
    (number <= max).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(owner: &str) -> String {
        let owner = format!("{owner}rpz.test.").parse().unwrap();
        match read(&owner, &"rpz.test.".parse().unwrap()) {
            Ok(None) => "zone".into(),
            Ok(Some(trigger)) => trigger.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_form_of_an_owner_is_the_trigger_that_it_stands_for() {
        for (owner, expected) in [
            ("", "zone"),
            ("Evil.Example.", "qname evil.example."),
            ("*.evil.example.", "qname *.evil.example."),
            ("*.", "qname *."),
            ("24.0.2.0.192.rpz-ip.", "ip 192.0.2.0/24"),
            ("32.1.2.0.192.rpz-client-ip.", "client-ip 192.0.2.1/32"),
            ("8.0.0.0.10.rpz-nsip.", "nsip 10.0.0.0/8"),
            ("0.0.0.0.0.rpz-ip.", "ip 0.0.0.0/0"),
            ("128.1.zz.db8.2001.rpz-ip.", "ip 2001:db8::1/128"),
            ("48.zz.1.db8.2001.rpz-ip.", "ip 2001:db8:1::/48"),
            ("128.8.7.6.5.4.3.2.1.rpz-ip.", "ip 1:2:3:4:5:6:7:8/128"),
            ("128.57.zz.8.db8.2001.rpz-ip.", "ip 2001:db8:8::57/128"),
            ("64.0.0.0.0.4.3.2.1.rpz-ip.", "ip 1:2:3:4::/64"),
            ("ns.evil.example.rpz-nsdname.", "nsdname ns.evil.example."),
            ("*.evil.example.rpz-nsdname.", "nsdname *.evil.example."),
            // A label of such a name elsewhere is a label.
            ("rpz-ip.example.", "qname rpz-ip.example."),
        ] {
            assert_eq!(shown(owner), expected, "{owner}");
        }
    }

    #[test]
    fn what_is_no_prefix_and_what_is_elsewhere_is_refused() {
        for owner in [
            "rpz-ip.",
            "33.1.2.0.192.rpz-ip.",
            "24.1.2.0.192.rpz-ip.",
            "32.1.2.0.256.rpz-ip.",
            "32.2.0.192.rpz-ip.",
            "x.1.2.0.192.rpz-ip.",
            "128.1.zz.zz.2001.rpz-ip.",
            "128.8.7.6.5.4.3.2.1.0.rpz-ip.",
            "128.zz.8.7.6.5.4.3.2.1.rpz-ip.",
            "128.1.zz.12345.rpz-ip.",
            "129.1.zz.1.rpz-ip.",
            "128.g.zz.1.rpz-ip.",
        ] {
            assert!(shown(owner).contains("no prefix"), "{owner}: {}", shown(owner));
        }
        let (other, origin) = ("a.rpz.example.".parse().unwrap(), "rpz.test.".parse().unwrap());
        assert_eq!(read(&other, &origin), Err(TriggerError::Outside(other)));
        // The octets of the origin, but not its labels.
        let odd = Name::from_wire(b"\x03b\x01a\0").unwrap();
        assert_eq!(read(&odd, &"a.".parse().unwrap()), Err(TriggerError::Outside(odd)));
    }
}
