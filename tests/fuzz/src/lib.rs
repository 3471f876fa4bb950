//! What several fuzz targets need: an input taken apart.

use resolverd::dns::records::{self, Record};
use resolverd::dns::{Name, Query};
use resolverd::resolver::reply::Fetch;

/// The parts of an input, each behind its length in two octets; the last one may be cut short.
pub fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (part, after) = after.split_at(length);
        rest = after;
        Some(part)
    })
}

/// What a message asks, for it to be the answer to just that.
pub struct Question {
    pub id: u16,
    /// In the case in which it stands there.
    pub name: Vec<u8>,
    pub qtype: u16,
    /// Where the records begin.
    pub end: usize,
}

impl Question {
    pub fn of(message: &[u8]) -> Option<Self> {
        let (name, at) = records::read_name(message, 12).ok()?;
        let qtype = message.get(at..at + 2)?;
        Some(Self {
            id: u16::from_be_bytes([message[0], message[1]]),
            name,
            qtype: u16::from_be_bytes([qtype[0], qtype[1]]),
            end: at + 4,
        })
    }

    pub fn query(&self, dnssec_ok: bool) -> Option<Query> {
        let Fetch { name, qtype } = self.fetch()?;
        Some(Query { name, qtype, dnssec_ok, checking_disabled: false, view: 0 })
    }

    pub fn fetch(&self) -> Option<Fetch> {
        Some(Fetch { name: Name::from_wire(&self.name).ok()?, qtype: self.qtype })
    }
}

/// The three sections of a message, if it has them.
pub fn sections(message: &[u8], end: usize) -> Option<[Vec<Record>; 3]> {
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (answer, at) = records::read(message, end, count(6)?).ok()?;
    let (authority, at) = records::read(message, at, count(8)?).ok()?;
    let (additional, _) = records::read(message, at, count(10)?).ok()?;
    Some([answer, authority, additional])
}
