//! Addresses as names: `in-addr.arpa` and `ip6.arpa` (RFC 1035 section 3.5, RFC 3596).
//!
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dns::records::Record;
use crate::dns::{Name, rtype};

/// The address that a name of the reverse tree stands for, if it stands for a whole one.
#[must_use]
pub fn of_name(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = labels(name).collect();
    match labels.as_slice() {
        [octets @ .., b"in-addr", b"arpa"] => {
            let octets: [u8; 4] = octets
                .iter()
                .rev()
                .map(|label| decimal(label))
                .collect::<Option<Vec<u8>>>()?
                .try_into()
                .ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        [nibbles @ .., b"ip6", b"arpa"] if nibbles.len() == 32 => {
            let mut bits = 0_u128;
            for label in nibbles.iter().rev() {
                let [digit] = label else { return None };
                bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
            }
            Some(Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}

/// The name of an address in the reverse tree.
#[must_use]
pub fn name_of(address: IpAddr) -> Name {
    let mut wire = Vec::with_capacity(74);
    let mut put = |label: &[u8]| {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    };
    match address {
        IpAddr::V4(v4) => {
            v4.octets().iter().rev().for_each(|octet| put(octet.to_string().as_bytes()));
            put(b"in-addr");
        }
        IpAddr::V6(v6) => {
            for octet in v6.octets().iter().rev() {
                for nibble in [octet & 0x0f, octet >> 4] {
                    put(&[b"0123456789abcdef"[usize::from(nibble)]]);
                }
            }
            put(b"ip6");
        }
    }
    put(b"arpa");
    wire.push(0);
    Name::from_wire(&wire).unwrap_or_else(|_| Name::root())
}

/// The address that an A or AAAA record has.
#[must_use]
pub fn of_record(record: &Record) -> Option<IpAddr> {
    match record.rtype {
        rtype::A => <[u8; 4]>::try_from(&*record.rdata).ok().map(IpAddr::from),
        rtype::AAAA => <[u8; 16]>::try_from(&*record.rdata).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The labels of a name, the root's left out.
pub fn labels(name: &Name) -> impl Iterator<Item = &[u8]> {
    name.suffixes().filter_map(|suffix| {
        let len = usize::from(*suffix.first()?);
        (len > 0).then(|| &suffix[1..=len])
    })
}

/// One octet as the reverse tree writes it: without needless zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let plain = text.bytes().all(|octet| octet.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_name_are_two_forms_of_one_thing() {
        for (address, name) in [
            ("192.0.2.10", "10.2.0.192.in-addr.arpa."),
            ("0.0.0.0", "0.0.0.0.in-addr.arpa."),
            (
                "2001:db8::567:89ab",
                "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
            ),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(name_of(address).to_string(), name);
            assert_eq!(of_name(&name.parse().unwrap()), Some(address));
        }
    }

    #[test]
    fn other_names_are_no_addresses() {
        for name in [
            "2.0.192.in-addr.arpa.",
            "1.10.2.0.192.in-addr.arpa.",
            "010.2.0.192.in-addr.arpa.",
            "256.2.0.192.in-addr.arpa.",
            "1x.2.0.192.in-addr.arpa.",
            "b.a.9.8.ip6.arpa.",
            "10.2.0.192.example.",
            "in-addr.arpa.",
            ".",
        ] {
            assert_eq!(of_name(&name.parse().unwrap()), None, "{name}");
        }
    }
}
