//! What a resolver told, in a form that can be compared: sections as sets of records with their
//! data, names in lower case and whole, TTLs left out (each resolver has asked at another time).

use std::collections::BTreeSet;
use std::fmt;

use lab::Reply;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub rcode: u8,
    pub authentic: bool,
    pub answer: Section,
    pub authority: Section,
    pub additional: Section,
    pub ede: Vec<u16>,
}

pub type Section = BTreeSet<Item>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub owner: String,
    pub rtype: u16,
    pub data: Vec<u8>,
}

/// A part of an answer that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Rcode,
    Authentic,
    Answer,
    Authority,
    Additional,
}

impl Told {
    /// Silence is told as SERVFAIL: a client hears neither an answer nor a denial.
    pub fn nothing() -> Self {
        Self {
            rcode: SERVFAIL,
            authentic: false,
            answer: Section::new(),
            authority: Section::new(),
            additional: Section::new(),
            ede: Vec::new(),
        }
    }

    pub fn of(reply: &Reply) -> Self {
        let section = |records: &[lab::Record]| {
            let items = records.iter().map(|record| Item {
                owner: record.name.to_ascii_lowercase(),
                rtype: record.rtype,
                data: plain(&reply.bytes, record.rtype, &record.data),
            });
            items.collect::<Section>()
        };
        Self {
            rcode: reply.rcode(),
            authentic: reply.authentic(),
            answer: section(&reply.answer),
            authority: section(&reply.authority),
            additional: section(&reply.additional),
            ede: reply.ede(),
        }
    }

    /// Where two differ.
    pub fn differences(&self, other: &Self) -> BTreeSet<Part> {
        let parts = [
            (Part::Rcode, self.rcode != other.rcode),
            (Part::Authentic, self.authentic != other.authentic),
            (Part::Answer, self.answer != other.answer),
            (Part::Authority, self.authority != other.authority),
            (Part::Additional, self.additional != other.additional),
        ];
        parts.into_iter().filter(|(_, differ)| *differ).map(|(part, _)| part).collect()
    }
}

impl Item {
    /// The type of the set that it belongs to: a signature is of what it covers.
    pub fn covers(&self) -> u16 {
        match (self.rtype, self.data.get(..2)) {
            (RRSIG, Some([high, low])) => u16::from_be_bytes([*high, *low]),
            (rtype, _) => rtype,
        }
    }

    /// Where an alias leads, in lower case.
    pub fn target(&self) -> Option<String> {
        if !matches!(self.rtype, CNAME | DNAME) {
            return None;
        }
        let (mut text, mut at) = (String::new(), 0);
        while let Some(len @ 1..) = self.data.get(at).copied() {
            let end = at + 1 + usize::from(len);
            for octet in self.data.get(at + 1..end)? {
                match octet {
                    b'.' | b'\\' => text.extend(['\\', char::from(*octet)]),
                    b'!'..=b'~' => text.push(char::from(*octet)),
                    other => text.push_str(&format!("\\{other:03}")),
                }
            }
            text.push('.');
            at = end;
        }
        Some(if text.is_empty() { ".".to_owned() } else { text })
    }
}

/// Data with the names in it whole and in lower case (RFC 4034 section 6.2).
fn plain(message: &[u8], rtype: u16, data: &[u8]) -> Vec<u8> {
    let (before, names) = match rtype {
        // NS, CNAME, PTR, DNAME, NSEC
        2 | 5 | 12 | 39 | 47 => (0, 1),
        // SOA
        6 => (0, 2),
        // MX
        15 => (2, 1),
        // SRV
        33 => (6, 1),
        // RRSIG
        46 => (18, 1),
        _ => return data.to_vec(),
    };
    let mut out = data[..before.min(data.len())].to_vec();
    let mut at = before;
    for _ in 0..names {
        at = name(message, data, at, &mut out);
    }
    out.extend(data.get(at..).unwrap_or_default());
    out
}

/// Appends the name at `at` of the data; its rest may be elsewhere in the message. Gives where the
/// data goes on.
fn name(message: &[u8], data: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let (mut within, mut at, mut goes_on) = (data, at, None);
    for _ in 0..POINTERS_MAX {
        match within.get(at).copied().unwrap_or(0) {
            0 => {
                out.push(0);
                break;
            }
            len @ 0xc0.. => {
                goes_on = goes_on.or(Some(at + 2));
                let low = within.get(at + 1).copied().unwrap_or(0);
                (within, at) = (message, usize::from(len & 0x3f) << 8 | usize::from(low));
            }
            len => {
                let end = at + 1 + usize::from(len);
                out.extend(within.get(at..end).unwrap_or_default().to_ascii_lowercase());
                at = end;
            }
        }
    }
    goes_on.unwrap_or(at + 1)
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rcode, authentic, ede, .. } = self;
        write!(f, "rcode {rcode}, ad {}", u8::from(*authentic))?;
        if !ede.is_empty() {
            write!(f, ", ede {ede:?}")?;
        }
        let sections = [("an", &self.answer), ("au", &self.authority), ("ad", &self.additional)];
        for (label, section) in sections {
            for item in section {
                write!(f, "\n      {label} {item}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, rtype, data } = self;
        if *rtype == RRSIG {
            return write!(f, "{owner} RRSIG {}", self.covers());
        }
        let shown: String = data
            .iter()
            .take(DATA_SHOWN)
            .map(|octet| match octet {
                b'!'..=b'~' => char::from(*octet),
                _ => '.',
            })
            .collect();
        write!(f, "{owner} TYPE{rtype} {shown}")?;
        if *rtype == 1 { write!(f, " {data:?}") } else { Ok(()) }
    }
}

pub const SERVFAIL: u8 = 2;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const DNAME: u16 = 39;
pub const RRSIG: u16 = 46;
pub const NSEC: u16 = 47;
pub const NSEC3: u16 = 50;
/// More than a name of 127 labels takes, with a pointer after each.
const POINTERS_MAX: usize = 256;
/// Octets of data that a report has.
const DATA_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_data_are_whole_and_in_lower_case() {
        let message = b"\0\0\0\0\x03WWW\x01x\0";
        assert_eq!(plain(message, 15, b"\0\x0a\x01M\xc0\x08"), b"\0\x0a\x01m\x01x\0");
        assert_eq!(plain(message, 6, b"\xc0\x04\xc0\x08rest"), b"\x03www\x01x\0\x01x\0rest");
        assert_eq!(plain(message, 16, b"\x01M"), b"\x01M");
    }
}
