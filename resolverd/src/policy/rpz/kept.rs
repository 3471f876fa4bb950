//! A policy zone as it is kept on disk, so that a start has it before its primary answers.
//!
//! Pure: over octets.
//!
//! ```text
//! "resolverd-policy-zone 1\n"              magic and version
//! source · origin · SOA                    each: octets (2) · octets; the SOA's TTL (4) goes first
//! rule, rule, …                            and nothing after them but
//! MAC (32)
//!
//! rule:   kind (1) · what is matched · action (1) · sets of local data
//! name:   octets (1) · name in wire form   prefix: family (1) · bits (1) · address
//! data:   records (1) · type (2) · TTL (4) · octets (2) · data …
//! ```
//!
//! The MAC is HMAC-SHA256 (RFC 2104) under a key that only this node has, of all that stands
//! before it. `source` is whom the zone is from: what another primary said is not this one's.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ring::hmac;

use super::trigger::{Kind, Trigger};
use super::zone::{Action, Datum, RuleError, SET_MAX, Zone};
use crate::dns::records::Record;
use crate::dns::{Name, rtype};

/// The first words of the file, without the version.
pub const MAGIC: &str = "resolverd-policy-zone";
/// What is written. A newer one is refused; there is no older one yet.
pub const VERSION: u32 = 1;

/// Why a file is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    #[error("it does not begin with `{MAGIC}` and a number; it is no policy zone of resolverd's")]
    NotOurs,
    #[error(
        "it is of version {0}, and this resolverd knows {VERSION}: it was written by a newer one"
    )]
    Newer(u32),
    #[error("it is of version {0}, which no resolverd writes")]
    Older(u32),
    #[error("its MAC is wrong: somebody else wrote or changed it, or the key is another one")]
    Mac,
    #[error("it came from elsewhere: {0}")]
    OtherSource(String),
    #[error("what it says makes no sense")]
    Malformed,
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// Writes a zone.
///
/// # Errors
///
/// What `out` says.
pub fn write(zone: &Zone, source: &str, key: &hmac::Key, out: impl Write) -> io::Result<()> {
    let mut out = Sealed { out, mac: hmac::Context::with_key(key) };
    out.write_all(format!("{MAGIC} {VERSION}\n").as_bytes())?;
    long(&mut out, source.as_bytes())?;
    long(&mut out, zone.origin().as_wire())?;
    let soa = zone.soa().ok_or_else(|| io::Error::other("a zone without SOA"))?;
    out.write_all(&soa.ttl.to_le_bytes())?;
    long(&mut out, &soa.rdata)?;
    for (trigger, action) in zone.rules() {
        rule(&mut out, &trigger, &action)?;
    }
    let mac = out.mac.sign();
    out.out.write_all(mac.as_ref())?;
    out.out.flush()
}

/// Reads a zone.
///
/// # Errors
///
/// See [`KeptError`].
pub fn read(
    octets: &[u8],
    origin: &Name,
    source: &str,
    key: &hmac::Key,
) -> Result<Zone, KeptError> {
    let line_end = octets.iter().take(LINE_MAX).position(|octet| *octet == b'\n');
    let line = line_end.and_then(|end| str::from_utf8(&octets[..end]).ok());
    let version = line.and_then(|line| line.strip_prefix(MAGIC)?.strip_prefix(' ')?.parse().ok());
    match version.ok_or(KeptError::NotOurs)? {
        VERSION => {}
        newer if newer > VERSION => return Err(KeptError::Newer(newer)),
        older => return Err(KeptError::Older(older)),
    }
    let (said, mac) = octets.split_last_chunk::<MAC_OCTETS>().ok_or(KeptError::Mac)?;
    hmac::verify(key, said, mac).map_err(|_| KeptError::Mac)?;
    let mut input = Input(said.get(line_end.map_or(0, |end| end + 1)..).unwrap_or_default());
    let from = input.long()?;
    if from != source.as_bytes() {
        return Err(KeptError::OtherSource(String::from_utf8_lossy(from).into_owned()));
    }
    if input.long()? != origin.as_wire() {
        return Err(KeptError::Malformed);
    }
    let ttl = u32::from_le_bytes(input.array()?);
    let rdata = input.long()?.to_vec();
    let mut zone = Zone::new(origin.clone());
    zone.insert(Record { owner: origin.clone(), rtype: rtype::SOA, class: 1, ttl, rdata })?;
    while !input.0.is_empty() {
        let (trigger, action) = input.rule()?;
        zone.put(&trigger, &action)?;
    }
    zone.finish();
    Ok(zone)
}

/// Writes, and takes note of what was written.
struct Sealed<W> {
    out: W,
    mac: hmac::Context,
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.out.write(octets)?;
        self.mac.update(&octets[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn long(out: &mut impl Write, octets: &[u8]) -> io::Result<()> {
    let len = u16::try_from(octets.len()).map_err(io::Error::other)?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(octets)
}

fn rule(out: &mut impl Write, trigger: &Trigger, action: &Action) -> io::Result<()> {
    match trigger {
        Trigger::Qname(name) | Trigger::NsDname(name) => {
            let wire = name.as_wire();
            // A name has at most 255 octets.
            out.write_all(&[trigger.kind() as u8, wire.len() as u8])?;
            out.write_all(wire)?;
        }
        Trigger::ClientIp(net) | Trigger::Ip(net) | Trigger::NsIp(net) => {
            let kind = trigger.kind() as u8;
            match net.addr() {
                IpAddr::V4(ip) => {
                    out.write_all(&[kind, 4, net.prefix_len()])?;
                    out.write_all(&ip.octets())?;
                }
                IpAddr::V6(ip) => {
                    out.write_all(&[kind, 6, net.prefix_len()])?;
                    out.write_all(&ip.octets())?;
                }
            }
        }
    }
    let Action::Data(data) = action else { return out.write_all(&[code(action)]) };
    // SET_MAX is below what an octet can hold.
    out.write_all(&[DATA, data.len() as u8])?;
    for datum in data.iter() {
        out.write_all(&datum.rtype.to_le_bytes())?;
        out.write_all(&datum.ttl.to_le_bytes())?;
        long(out, &datum.rdata)?;
    }
    Ok(())
}

const fn code(action: &Action) -> u8 {
    match action {
        Action::Nxdomain => 0,
        Action::Nodata => 1,
        Action::Passthru => 2,
        Action::Drop => 3,
        Action::TcpOnly => 4,
        Action::Data(_) => DATA,
    }
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], KeptError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(KeptError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KeptError> {
        self.take(N)?.try_into().map_err(|_| KeptError::Malformed)
    }

    fn octet(&mut self) -> Result<u8, KeptError> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn long(&mut self) -> Result<&'a [u8], KeptError> {
        let len = u16::from_le_bytes(self.array()?);
        self.take(len.into())
    }

    fn rule(&mut self) -> Result<(Trigger, Action), KeptError> {
        let kind = self.octet()?;
        let kind = Kind::ALL.into_iter().find(|of| *of as u8 == kind);
        let trigger = match kind.ok_or(KeptError::Malformed)? {
            Kind::Qname => Trigger::Qname(self.name()?),
            Kind::NsDname => Trigger::NsDname(self.name()?),
            Kind::ClientIp => Trigger::ClientIp(self.prefix()?),
            Kind::Ip => Trigger::Ip(self.prefix()?),
            Kind::NsIp => Trigger::NsIp(self.prefix()?),
        };
        Ok((trigger, self.action()?))
    }

    fn name(&mut self) -> Result<Name, KeptError> {
        let len = self.octet()?;
        Name::from_wire(self.take(len.into())?).map_err(|_| KeptError::Malformed)
    }

    fn prefix(&mut self) -> Result<IpNet, KeptError> {
        let [family, bits] = self.array()?;
        let ip = match family {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(KeptError::Malformed),
        };
        IpNet::new(ip, bits).map_err(|_| KeptError::Malformed)
    }

    fn action(&mut self) -> Result<Action, KeptError> {
        Ok(match self.octet()? {
            0 => Action::Nxdomain,
            1 => Action::Nodata,
            2 => Action::Passthru,
            3 => Action::Drop,
            4 => Action::TcpOnly,
            DATA => {
                let count = usize::from(self.octet()?);
                if !(1..=SET_MAX).contains(&count) {
                    return Err(KeptError::Malformed);
                }
                let mut set = Vec::with_capacity(count);
                for _ in 0..count {
                    let rtype = u16::from_le_bytes(self.array()?);
                    let ttl = u32::from_le_bytes(self.array()?);
                    set.push(Datum { rtype, ttl, rdata: self.long()?.into() });
                }
                Action::Data(Arc::from(set))
            }
            _ => return Err(KeptError::Malformed),
        })
    }
}

const MAC_OCTETS: usize = 32;
/// Magic, a blank, a number of ten digits, the end of the line.
const LINE_MAX: usize = MAGIC.len() + 12;
const DATA: u8 = 5;

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    const RULES: &str = "@ 300 SOA localhost. root. 7 60 60 60 120\n\
        nx CNAME .\n*.nodata CNAME *.\npass CNAME rpz-passthru.\ndrop CNAME rpz-drop.\n\
        tcp CNAME rpz-tcp-only.\ndata 60 A 192.0.2.1\ndata 60 AAAA 2001:db8::1\n\
        garden 5 CNAME *.garden.example.\n24.0.2.0.192.rpz-ip CNAME .\n\
        48.zz.1.db8.2001.rpz-ip CNAME *.\n32.1.0.0.10.rpz-client-ip CNAME rpz-drop.\n\
        8.0.0.0.10.rpz-nsip CNAME .\n*.bad.example.rpz-nsdname CNAME .\n";
    const FROM: &str = "192.0.2.53:53";

    fn origin() -> Name {
        "rpz.test.".parse().unwrap()
    }

    fn key(octet: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[octet; 32])
    }

    fn kept() -> Vec<u8> {
        let zone = text::read(&origin(), RULES.as_bytes()).unwrap();
        let mut out = Vec::new();
        write(&zone, FROM, &key(1), &mut out).unwrap();
        out
    }

    fn sorted(zone: &Zone) -> Vec<String> {
        let mut rules: Vec<String> =
            zone.rules().map(|(trigger, action)| format!("{trigger} {action:?}")).collect();
        rules.sort();
        rules
    }

    #[test]
    fn what_was_written_is_read_again() {
        let before = text::read(&origin(), RULES.as_bytes()).unwrap();
        let after = read(&kept(), &origin(), FROM, &key(1)).unwrap();
        assert_eq!(sorted(&after), sorted(&before));
        assert_eq!((after.len(), after.serial()), (12, Some(7)));
        assert_eq!(after.soa(), before.soa());
    }

    #[test]
    fn what_is_not_ours_or_not_this_zones_is_refused() {
        let whole = kept();
        let refused = |octets: &[u8]| read(octets, &origin(), FROM, &key(1)).unwrap_err();
        for at in (MAGIC.len() + 3)..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(refused(&changed), KeptError::Mac, "octet {at}");
        }
        for len in LINE_MAX..whole.len() {
            assert_eq!(refused(&whole[..len]), KeptError::Mac, "{len} octets");
        }
        assert_eq!(refused(b""), KeptError::NotOurs);
        assert_eq!(refused(b"resolverd-cache 1\n"), KeptError::NotOurs);
        assert_eq!(refused(b"resolverd-policy-zone 2\n"), KeptError::Newer(2));
        assert_eq!(refused(b"resolverd-policy-zone 0\n"), KeptError::Older(0));
        let other = |origin: &str, from: &str, octet| {
            read(&whole, &origin.parse().unwrap(), from, &key(octet)).unwrap_err()
        };
        assert_eq!(other("rpz.test.", FROM, 2), KeptError::Mac);
        assert_eq!(other("rpz.test.", "else", 1), KeptError::OtherSource(FROM.into()));
        assert_eq!(other("other.test.", FROM, 1), KeptError::Malformed);
    }

    #[test]
    fn no_octets_panic_even_with_a_good_mac() {
        let whole = kept();
        let said = &whole[..whole.len() - MAC_OCTETS];
        let start = MAGIC.len() + 3;
        for len in start..said.len() {
            for flip in [0, 1, 0x80, 0xff] {
                let mut torn = said[..len].to_vec();
                if let Some(last) = torn.last_mut().filter(|_| len > start) {
                    *last ^= flip;
                }
                let mac = hmac::sign(&key(1), &torn);
                torn.extend_from_slice(mac.as_ref());
                let _ = read(&torn, &origin(), FROM, &key(1));
            }
        }
    }
}
