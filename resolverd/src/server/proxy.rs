//! PROXY protocol, version 2: who a connection is really from, as a load balancer before us
//! tells it.
//!
//! The header is read only from sources that the configuration names, and from those it must
//! come: anybody else could say that he is somebody else. It stands before all else, TLS
//! included.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The connection is the balancer's own: a health check.
    Local,
    /// It is between these two.
    Between { client: SocketAddr, local: IpAddr },
}

/// Why octets are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHeader {
    #[error("not PROXY protocol version 2")]
    Signature,
    #[error("a command or family that has no meaning here")]
    Unknown,
    #[error("shorter than the addresses it should have, or longer than any header")]
    Length,
}

/// The fixed part of a header, which says how long the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    local: bool,
    family: u8,
    pub rest: usize,
}

impl Head {
    pub fn parse(octets: &[u8; HEAD_OCTETS]) -> Result<Head, NoHeader> {
        let (signature, [version, family, len @ ..]) = octets.split_at(SIGNATURE.len()) else {
            return Err(NoHeader::Signature);
        };
        if signature != SIGNATURE || version >> 4 != 2 {
            return Err(NoHeader::Signature);
        }
        let local = match version & 0x0f {
            0 => true,
            1 => false,
            _ => return Err(NoHeader::Unknown),
        };
        let rest = len.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
        if rest > REST_OCTETS_MAX {
            return Err(NoHeader::Length);
        }
        Ok(Head { local, family: *family, rest })
    }

    /// `rest` are the octets behind the head, of which there are as many as it says.
    pub fn told(&self, rest: &[u8]) -> Result<Told, NoHeader> {
        // What stands in one of its own does not matter (section 2.2).
        if self.local {
            return Ok(Told::Local);
        }
        match self.family {
            UNSPECIFIED => Ok(Told::Local),
            TCP_OVER_IPV4 => {
                let [a, b, c, d, e, f, g, h, p, q, ..] = rest else { return Err(NoHeader::Length) };
                if rest.len() < 12 {
                    return Err(NoHeader::Length);
                }
                let client = IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d));
                let local = IpAddr::V4(Ipv4Addr::new(*e, *f, *g, *h));
                between(client, u16::from_be_bytes([*p, *q]), local)
            }
            TCP_OVER_IPV6 => {
                let Some((client, more)) = rest.split_first_chunk::<16>() else {
                    return Err(NoHeader::Length);
                };
                let Some((local, more)) = more.split_first_chunk::<16>() else {
                    return Err(NoHeader::Length);
                };
                let [p, q, _, _, ..] = more else { return Err(NoHeader::Length) };
                // A family of sockets that has both may write IPv4 so.
                let plain = |octets: [u8; 16]| Ipv6Addr::from(octets).to_canonical();
                between(plain(*client), u16::from_be_bytes([*p, *q]), plain(*local))
            }
            // Datagrams and local sockets do not come over TCP.
            _ => Err(NoHeader::Unknown),
        }
    }
}

fn between(client: IpAddr, port: u16, local: IpAddr) -> Result<Told, NoHeader> {
    Ok(Told::Between { client: SocketAddr::new(client, port), local })
}

/// Reads a header and no octet more. The caller bounds the time.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Told> {
    let bad = |error: NoHeader| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut head = [0; HEAD_OCTETS];
    stream.read_exact(&mut head).await?;
    let head = Head::parse(&head).map_err(bad)?;
    let mut rest = vec![0; head.rest];
    stream.read_exact(&mut rest).await?;
    head.told(&rest).map_err(bad)
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
pub const HEAD_OCTETS: usize = 16;

/// Addresses, and what else a balancer tells: the longest of those in use have some hundred
/// octets.
const REST_OCTETS_MAX: usize = 2_048;

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([command, family]);
        octets.extend((rest.len() as u16).to_be_bytes());
        octets.extend(rest);
        octets
    }

    fn parse(octets: &[u8]) -> Result<Told, NoHeader> {
        let (head, rest) = octets.split_first_chunk::<HEAD_OCTETS>().unwrap();
        Head::parse(head)?.told(rest)
    }

    #[test]
    fn both_families_are_read_with_whatever_follows_the_addresses() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 53];
        let told = Told::Between {
            client: "192.0.2.7:12345".parse().unwrap(),
            local: "10.0.0.1".parse().unwrap(),
        };
        assert_eq!(parse(&header(0x21, 0x11, &four)), Ok(told));
        let more = [&four[..], &[4, 0, 1, 0]].concat();
        assert_eq!(parse(&header(0x21, 0x11, &more)), Ok(told));
        let client: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let local: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let six = [&client.octets()[..], &local.octets(), &[0x30, 0x39, 0, 53]].concat();
        let told =
            Told::Between { client: "[2001:db8::7]:12345".parse().unwrap(), local: local.into() };
        assert_eq!(parse(&header(0x21, 0x21, &six)), Ok(told));
        let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
        let six = [&mapped.octets()[..], &local.octets(), &[0x30, 0x39, 0, 53]].concat();
        let Ok(Told::Between { client, .. }) = parse(&header(0x21, 0x21, &six)) else { panic!() };
        assert_eq!(client, "192.0.2.7:12345".parse().unwrap());
    }

    #[test]
    fn health_checks_are_the_balancers_own() {
        assert_eq!(parse(&header(0x20, 0x00, &[])), Ok(Told::Local));
        assert_eq!(parse(&header(0x20, 0x11, &[1; 12])), Ok(Told::Local));
        assert_eq!(parse(&header(0x21, 0x00, &[1; 3])), Ok(Told::Local));
    }

    #[test]
    fn what_is_no_header_is_told_apart() {
        let mut first = header(0x21, 0x11, &[0; 12]);
        first[0] = b'P';
        assert_eq!(parse(&first), Err(NoHeader::Signature));
        assert_eq!(parse(&header(0x11, 0x11, &[0; 12])), Err(NoHeader::Signature));
        assert_eq!(parse(&header(0x22, 0x11, &[0; 12])), Err(NoHeader::Unknown));
        for family in [0x12, 0x22, 0x31, 0x41, 0xff] {
            assert_eq!(parse(&header(0x21, family, &[0; 216])), Err(NoHeader::Unknown));
        }
        for len in 0..12 {
            assert_eq!(parse(&header(0x21, 0x11, &[0; 12][..len])), Err(NoHeader::Length));
        }
        for len in 0..36 {
            assert_eq!(parse(&header(0x21, 0x21, &[0; 36][..len])), Err(NoHeader::Length));
        }
        assert_eq!(parse(&header(0x21, 0x11, &[0; 2_049])), Err(NoHeader::Length));
    }

    #[tokio::test]
    async fn no_octet_behind_the_header_is_taken() {
        let octets = [header(0x20, 0, &[7; 9]), b"rest".to_vec()].concat();
        let mut stream = &octets[..];
        assert_eq!(read(&mut stream).await.unwrap(), Told::Local);
        assert_eq!(stream, b"rest");
        for cut in 0..25 {
            assert!(read(&mut &octets[..cut]).await.is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_panic(
            head in any::<[u8; 4]>(),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let octets = [&SIGNATURE[..], &head, &rest].concat();
            let _ = parse(&octets);
        }
    }
}
