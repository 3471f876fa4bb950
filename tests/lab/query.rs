//! The smallest DNS client: builds a query, sends it, reads what came back.
//!
//! Deliberately not the daemon's parser and not hickory's: a test must not read an answer with the
//! code that wrote it. No validation beyond what keeps reading in bounds.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a test waits for an answer.
pub const ANSWER: Duration = Duration::from_secs(3);

/// A question and the header bits that go with it.
#[derive(Debug, Clone)]
pub struct Ask {
    pub name: String,
    pub qtype: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    pub authentic_data: bool,
    pub edns: Option<Edns>,
    /// `None`: a new one for each message.
    pub id: Option<u16>,
}

/// What goes into the OPT record.
#[derive(Debug, Clone, Default)]
pub struct Edns {
    pub size: u16,
    pub dnssec_ok: bool,
    /// Code and data.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Ask {
    /// RD set, no EDNS. An unknown `qtype` panics: it is written in a test.
    #[must_use]
    pub fn new(name: &str, qtype_name: &str) -> Self {
        Self {
            name: name.to_owned(),
            qtype: qtype(qtype_name).unwrap_or_else(|| panic!("no type {qtype_name}")),
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
            id: None,
        }
    }

    /// With EDNS of this size.
    #[must_use]
    pub fn edns(mut self, size: u16) -> Self {
        self.edns.get_or_insert_default().size = size;
        self
    }

    /// With DO set, and a size of 1232 if none was given.
    #[must_use]
    pub fn dnssec(mut self) -> Self {
        let edns = self.edns.get_or_insert_with(|| Edns { size: 1232, ..Edns::default() });
        edns.dnssec_ok = true;
        self
    }

    /// With an EDNS option, and a size of 1232 if none was given.
    #[must_use]
    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        let edns = self.edns.get_or_insert_with(|| Edns { size: 1232, ..Edns::default() });
        edns.options.push((code, data.to_vec()));
        self
    }

    /// The message. The name's letters go out in the case they are written in.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let id = self.id.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
        let flags = u16::from(self.recursion_desired) << 8
            | u16::from(self.authentic_data) << 5
            | u16::from(self.checking_disabled) << 4;
        let mut out = Vec::with_capacity(64);
        for word in [id, flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            out.extend(word.to_be_bytes());
        }
        for label in labels(&self.name) {
            out.push(label.len() as u8);
            out.extend(label);
        }
        out.push(0);
        out.extend(self.qtype.to_be_bytes());
        out.extend(1_u16.to_be_bytes());
        if let Some(edns) = &self.edns {
            out.push(0);
            out.extend(OPT.to_be_bytes());
            out.extend(edns.size.to_be_bytes());
            out.extend([0, 0, u8::from(edns.dnssec_ok) << 7, 0]);
            let len: usize = edns.options.iter().map(|(_, data)| 4 + data.len()).sum();
            out.extend((len as u16).to_be_bytes());
            for (code, data) in &edns.options {
                out.extend(code.to_be_bytes());
                out.extend((data.len() as u16).to_be_bytes());
                out.extend(data);
            }
        }
        out
    }
}

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub question: Option<(String, u16)>,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    /// Without the OPT.
    pub additional: Vec<Record>,
    pub edns: Option<Edns>,
}

/// One record. Names inside `data` keep their compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub rtype: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl Reply {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u16> {
            let pair = bytes.get(at..at + 2).context("the message ends early")?;
            Ok(u16::from_be_bytes([pair[0], pair[1]]))
        };
        if bytes.len() < 12 || bytes[2] & 0x80 == 0 {
            bail!("{} octets that are no answer: {bytes:02x?}", bytes.len());
        }
        let mut reply = Self {
            bytes: bytes.to_vec(),
            question: None,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            edns: None,
        };
        let mut at = 12;
        for _ in 0..word(4)? {
            let (name, next) = name_at(bytes, at)?;
            reply.question = Some((name, word(next)?));
            at = next + 4;
        }
        for section in 0..3 {
            for _ in 0..word(6 + 2 * section)? {
                let (name, next) = name_at(bytes, at)?;
                let (rtype, class) = (word(next)?, word(next + 2)?);
                let ttl = u32::from(word(next + 4)?) << 16 | u32::from(word(next + 6)?);
                let start = next + 10;
                at = start + usize::from(word(next + 8)?);
                let data = bytes.get(start..at).context("a record ends early")?.to_vec();
                if rtype == OPT {
                    reply.edns = Some(Edns {
                        size: class,
                        dnssec_ok: ttl & 0x8000 != 0,
                        options: options(&data)?,
                    });
                    continue;
                }
                let record = Record { name, rtype, ttl, data };
                match section {
                    0 => reply.answer.push(record),
                    1 => reply.authority.push(record),
                    _ => reply.additional.push(record),
                }
            }
        }
        if at != bytes.len() {
            bail!("{} octets after the last record", bytes.len() - at);
        }
        Ok(reply)
    }

    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The four bits of the header.
    #[must_use]
    pub fn rcode(&self) -> u8 {
        self.bytes[3] & 0x0f
    }

    #[must_use]
    pub fn truncated(&self) -> bool {
        self.bytes[2] & 0x02 != 0
    }

    #[must_use]
    pub fn authoritative(&self) -> bool {
        self.bytes[2] & 0x04 != 0
    }

    #[must_use]
    pub fn recursion_available(&self) -> bool {
        self.bytes[3] & 0x80 != 0
    }

    #[must_use]
    pub fn authentic(&self) -> bool {
        self.bytes[3] & 0x20 != 0
    }

    /// The records of a type in the answer section.
    pub fn of_type(&self, name: &str) -> impl Iterator<Item = &Record> {
        let rtype = qtype(name);
        self.answer.iter().filter(move |record| Some(record.rtype) == rtype)
    }

    /// Extended DNS error codes (RFC 8914).
    #[must_use]
    pub fn ede(&self) -> Vec<u16> {
        let options = self.edns.iter().flat_map(|edns| &edns.options);
        options
            .filter(|(code, data)| *code == 15 && data.len() >= 2)
            .map(|(_, data)| u16::from_be_bytes([data[0], data[1]]))
            .collect()
    }
}

impl Record {
    /// A or AAAA in text form, else the data in hex.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.rtype, self.data.as_slice()) {
            (1, &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
            (28, data) if data.len() == 16 => {
                let octets: [u8; 16] = std::array::from_fn(|i| data[i]);
                Ipv6Addr::from(octets).to_string()
            }
            (_, data) => data.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }
}

/// Sends octets and gives the first answer with the same id. Fails past `bound`.
pub fn udp(server: SocketAddr, bytes: &[u8], bound: Duration) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(bytes)?;
    let end = Instant::now() + bound;
    let mut buffer = vec![0; 65_535];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(len) if buffer.get(..2) == bytes.get(..2) => return Ok(buffer[..len].to_vec()),
            Ok(_) => {}
            // A time-out of the socket; the loop looks at the clock.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Sends octets over a TCP connection of its own and gives the answer.
pub fn tcp(server: SocketAddr, bytes: &[u8], bound: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, bound)?;
    stream.set_read_timeout(Some(bound))?;
    stream.set_write_timeout(Some(bound))?;
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A type's number, by its name or as `TYPE65280`.
#[must_use]
pub fn qtype(name: &str) -> Option<u16> {
    let name = name.to_ascii_uppercase();
    let known = TYPES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| name.strip_prefix("TYPE")?.parse().ok())
}

/// Labels of a name in text form; `\DDD` and `\C` are understood.
fn labels(name: &str) -> Vec<Vec<u8>> {
    let mut labels = vec![Vec::new()];
    let mut octets = name.bytes();
    while let Some(octet) = octets.next() {
        let last = labels.len() - 1;
        match octet {
            b'.' => labels.push(Vec::new()),
            b'\\' => {
                let first = octets.next().unwrap_or(b'\\');
                let escaped = if first.is_ascii_digit() {
                    let rest = [octets.next(), octets.next()].map(|d| d.unwrap_or(b'0') - b'0');
                    (first - b'0') * 100 + rest[0] * 10 + rest[1]
                } else {
                    first
                };
                labels[last].push(escaped);
            }
            other => labels[last].push(other),
        }
    }
    labels.retain(|label| !label.is_empty());
    labels
}

/// Reads a name that may be compressed: its text, and where the next thing begins.
fn name_at(bytes: &[u8], start: usize) -> Result<(String, usize)> {
    let (mut text, mut at, mut next) = (String::new(), start, None);
    for _ in 0..LABELS_MAX {
        let len = usize::from(*bytes.get(at).context("a name ends early")?);
        match len {
            0 => {
                let text = if text.is_empty() { ".".to_owned() } else { text };
                return Ok((text, next.unwrap_or(at + 1)));
            }
            1..=63 => {
                let label = bytes.get(at + 1..at + 1 + len).context("a label ends early")?;
                for &octet in label {
                    match octet {
                        b'.' | b'\\' => text.extend(['\\', char::from(octet)]),
                        0x21..=0x7e => text.push(char::from(octet)),
                        other => text.push_str(&format!("\\{other:03}")),
                    }
                }
                text.push('.');
                at += 1 + len;
            }
            0xc0.. => {
                let low = usize::from(*bytes.get(at + 1).context("a pointer ends early")?);
                next = next.or(Some(at + 2));
                at = (len & 0x3f) << 8 | low;
            }
            _ => bail!("a label of an unknown kind at {at}"),
        }
    }
    bail!("a name of more than {LABELS_MAX} labels at {start}")
}

fn options(data: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
    let (mut options, mut rest) = (Vec::new(), data);
    while let [c0, c1, l0, l1, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = after.get(..len).context("an EDNS option ends early")?;
        options.push((u16::from_be_bytes([*c0, *c1]), value.to_vec()));
        rest = &after[len..];
    }
    Ok(options)
}

const OPT: u16 = 41;

/// More steps than a name of 255 octets has, pointers included.
const LABELS_MAX: usize = 256;

const TYPES: [(&str, u16); 31] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("NULL", 10),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DNAME", 39),
    ("OPT", 41),
    ("DS", 43),
    ("SSHFP", 44),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("CDS", 59),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("IXFR", 251),
    ("AXFR", 252),
    ("ANY", 255),
    ("URI", 256),
    ("CAA", 257),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_as_rfc_1035_says() {
        let mut ask = Ask::new("wWw.a\\.b\\0012.test.", "AAAA").dnssec().option(10, b"12345678");
        ask.id = Some(0x0102);
        let mut expected = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        expected.extend(b"\x03wWw\x05a.b\x012\x04test\x00\x00\x1c\x00\x01");
        expected.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x0c\x00\x0a\x00\x0812345678");
        assert_eq!(ask.bytes(), expected);
    }

    #[test]
    fn an_answer_is_read_back_with_its_compression() {
        let mut bytes = Ask::new("a.test.", "A").bytes();
        bytes[2] |= 0x80;
        bytes[3] |= 0x80;
        bytes[7] = 1;
        bytes.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01");
        let reply = Reply::parse(&bytes).unwrap();
        assert_eq!(reply.question, Some(("a.test.".to_owned(), 1)));
        assert_eq!(reply.answer[0].text(), "192.0.2.1");
        assert_eq!((reply.answer[0].name.as_str(), reply.answer[0].ttl), ("a.test.", 60));
        bytes.push(0);
        assert!(Reply::parse(&bytes).is_err(), "trailing octets are told");
    }

    #[test]
    fn a_pointer_to_itself_ends() {
        let mut bytes = vec![0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(b"\xc0\x0c\x00\x01\x00\x01");
        assert!(Reply::parse(&bytes).is_err());
    }
}
