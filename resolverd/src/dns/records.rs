//! Resource records: read out of anybody's message, written into ours.
//!
//! Pure, and never panics on octets from outside. Names inside RDATA are expanded for the types
//! that may compress them (RFC 3597 section 4); data of any other type is carried octet for
//! octet. hickory-proto is not asked here: it refuses records that are legal (no RDATA, ALPN ids
//! that are not UTF-8), and copies compressed names in types it does not know as they stand,
//! which makes them point at something else. The tests hold both against each other.

use super::{Name, rtype};

/// One record, with all names in it uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub owner: Name,
    pub rtype: u16,
    pub class: u16,
    pub ttl: u32,
    /// Names in it keep their case.
    pub rdata: Vec<u8>,
}

/// The three sections in the form an [`Answer`](super::Answer) keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub counts: [u16; 3],
    pub octets: Vec<u8>,
    pub ttl_offsets: Vec<u16>,
}

/// Why octets are no records, or records no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the message ends inside a record")]
    Short,
    #[error("a name is malformed (RFC 1035 section 4.1.4)")]
    Name,
    #[error("the data of a record of type {0} is malformed")]
    Rdata(u16),
    #[error("octets follow the last record")]
    Trailing,
    #[error("the records do not fit into 65535 octets")]
    Long,
}

/// Reads `count` records that begin at `at` in a whole message. Says where the next one begins.
pub fn read(message: &[u8], at: usize, count: u16) -> Result<(Vec<Record>, usize), RecordError> {
    let mut at = at;
    // A record has at least 11 octets, so a lying count cannot make us reserve much.
    let mut records = Vec::with_capacity(usize::from(count).min(message.len() / 11));
    for _ in 0..count {
        let (owner, fixed) = read_name(message, at)?;
        let owner = Name::from_wire(&owner).map_err(|_| RecordError::Name)?;
        let head = message.get(fixed..fixed + 10).ok_or(RecordError::Short)?;
        let rtype = u16::from_be_bytes([head[0], head[1]]);
        let start = fixed + 10;
        let end = start + usize::from(u16::from_be_bytes([head[8], head[9]]));
        if end > message.len() {
            return Err(RecordError::Short);
        }
        let mut rdata = Vec::with_capacity(end - start);
        walk_rdata(rtype, message, start, end, |piece| match piece {
            Piece::Octets(octets) => rdata.extend_from_slice(octets),
            Piece::Name { wire, .. } => rdata.extend_from_slice(wire),
        })?;
        records.push(Record {
            owner,
            rtype,
            class: u16::from_be_bytes([head[2], head[3]]),
            ttl: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            rdata,
        });
        at = end;
    }
    Ok((records, at))
}

/// Reads the name that begins at `at` in a whole message: uncompressed, its case kept. Says what
/// follows it.
pub fn read_name(message: &[u8], at: usize) -> Result<(Vec<u8>, usize), RecordError> {
    let mut wire = Vec::with_capacity(32);
    let mut next = None;
    let mut pointers = 0;
    // Each pointer must lead before the labels it follows, so there is no way round.
    let mut run = at;
    let mut at = at;
    loop {
        let len = *message.get(at).ok_or(RecordError::Short)?;
        match len {
            0 => {
                wire.push(0);
                return Ok((wire, next.unwrap_or(at + 1)));
            }
            1..=63 => {
                let end = at + 1 + usize::from(len);
                let label = message.get(at..end).ok_or(RecordError::Short)?;
                if wire.len() + label.len() >= NAME_OCTETS_MAX {
                    return Err(RecordError::Name);
                }
                wire.extend_from_slice(label);
                at = end;
            }
            0xc0.. => {
                let low = *message.get(at + 1).ok_or(RecordError::Short)?;
                let target = usize::from(u16::from_be_bytes([len & 0x3f, low]));
                pointers += 1;
                if !(HEADER_OCTETS..run).contains(&target) || pointers > POINTERS_MAX {
                    return Err(RecordError::Name);
                }
                next.get_or_insert(at + 2);
                run = target;
                at = target;
            }
            _ => return Err(RecordError::Name),
        }
    }
}

/// Writes the sections as they follow `question` in a message: names compressed where
/// RFC 3597 section 4 allows it.
pub fn compose(question: &Name, sections: [&[Record]; 3]) -> Result<Body, RecordError> {
    let mut writer = Writer::behind(question);
    let mut counts = [0; 3];
    let mut ttl_offsets = Vec::with_capacity(sections.iter().map(|s| s.len()).sum());
    for (count, section) in counts.iter_mut().zip(sections) {
        *count = u16::try_from(section.len()).map_err(|_| RecordError::Long)?;
        for record in section {
            ttl_offsets.push(writer.record(record)?);
        }
    }
    Ok(Body { counts, octets: writer.octets, ttl_offsets })
}

/// Finds where in `body` the TTL of each record stands. `first_offset` is where `body` begins in
/// its message, which is what compression pointers count from.
pub fn ttl_offsets(
    body: &[u8],
    first_offset: usize,
    counts: [u16; 3],
) -> Result<Vec<u16>, RecordError> {
    let records: usize = counts.iter().map(|&count| usize::from(count)).sum();
    let mut offsets = Vec::with_capacity(records.min(body.len() / 11));
    let mut at = 0;
    for _ in 0..records {
        at = skip_name(body, first_offset, at)?;
        let head = body.get(at..at + 10).ok_or(RecordError::Short)?;
        offsets.push(u16::try_from(at + 4).map_err(|_| RecordError::Long)?);
        at += 10 + usize::from(u16::from_be_bytes([head[8], head[9]]));
        if at > body.len() {
            return Err(RecordError::Short);
        }
    }
    if at == body.len() { Ok(offsets) } else { Err(RecordError::Trailing) }
}

fn skip_name(body: &[u8], first_offset: usize, start: usize) -> Result<usize, RecordError> {
    let mut at = start;
    loop {
        let len = *body.get(at).ok_or(RecordError::Short)?;
        match len {
            0 => return Ok(at + 1),
            1..=63 => at += 1 + usize::from(len),
            0xc0.. => {
                let low = *body.get(at + 1).ok_or(RecordError::Short)?;
                let target = usize::from(u16::from_be_bytes([len & 0x3f, low]));
                let before = HEADER_OCTETS..first_offset + start;
                return if before.contains(&target) { Ok(at + 2) } else { Err(RecordError::Name) };
            }
            _ => return Err(RecordError::Name),
        }
        if at - start >= NAME_OCTETS_MAX {
            return Err(RecordError::Name);
        }
    }
}

/// The record with each name in its data as `change` has it. The names are whole and uncompressed.
pub fn map_names(
    record: &Record,
    mut change: impl FnMut(&[u8]) -> Vec<u8>,
) -> Result<Record, RecordError> {
    let mut rdata = Vec::with_capacity(record.rdata.len());
    walk_rdata(record.rtype, &record.rdata, 0, record.rdata.len(), |piece| match piece {
        Piece::Octets(octets) => rdata.extend_from_slice(octets),
        Piece::Name { wire, .. } => rdata.extend_from_slice(&change(wire)),
    })?;
    Ok(Record { rdata, ..record.clone() })
}

struct Writer {
    /// Where `octets` begin in the message.
    first_offset: usize,
    octets: Vec<u8>,
    /// Names already written, each with its place in the message.
    known: Vec<(u16, Vec<u8>)>,
}

impl Writer {
    fn behind(question: &Name) -> Self {
        let wire = question.as_wire();
        let known = question
            .suffixes()
            .filter(|suffix| suffix.len() > 1)
            // A name has at most 255 octets, so the sum is small.
            .map(|suffix| ((HEADER_OCTETS + wire.len() - suffix.len()) as u16, suffix.to_vec()))
            .collect();
        Self {
            first_offset: HEADER_OCTETS + wire.len() + QTYPE_QCLASS_OCTETS,
            octets: Vec::new(),
            known,
        }
    }

    /// Says where among the octets the record's TTL stands.
    fn record(&mut self, record: &Record) -> Result<u16, RecordError> {
        self.name(record.owner.as_wire(), true);
        self.octets.extend_from_slice(&record.rtype.to_be_bytes());
        self.octets.extend_from_slice(&record.class.to_be_bytes());
        let ttl_offset = self.octets.len();
        self.octets.extend_from_slice(&record.ttl.to_be_bytes());
        let length_offset = self.octets.len();
        self.octets.extend_from_slice(&[0; 2]);
        let rdata = &record.rdata;
        walk_rdata(record.rtype, rdata, 0, rdata.len(), |piece| match piece {
            Piece::Octets(octets) => self.octets.extend_from_slice(octets),
            Piece::Name { wire, compress } => self.name(wire, compress),
        })?;
        let length = self.octets.len() - length_offset - 2;
        let length = u16::try_from(length).map_err(|_| RecordError::Long)?;
        self.octets[length_offset..length_offset + 2].copy_from_slice(&length.to_be_bytes());
        if self.first_offset + self.octets.len() > MESSAGE_OCTETS_MAX {
            return Err(RecordError::Long);
        }
        u16::try_from(ttl_offset).map_err(|_| RecordError::Long)
    }

    /// `wire` is one whole uncompressed name.
    fn name(&mut self, wire: &[u8], compress: bool) {
        let mut at = 0;
        while wire[at] != 0 {
            let rest = &wire[at..];
            let known = self.known.iter().find(|(_, name)| compress && name == rest);
            if let Some((place, _)) = known {
                self.octets.extend_from_slice(&(0xc000 | place).to_be_bytes());
                return;
            }
            let place = self.first_offset + self.octets.len();
            if place < POINTER_REACH && self.known.len() < KNOWN_NAMES_MAX {
                self.known.push((place as u16, rest.to_vec()));
            }
            let end = at + 1 + usize::from(wire[at]);
            self.octets.extend_from_slice(&wire[at..end]);
            at = end;
        }
        self.octets.push(0);
    }
}

/// Goes through RDATA field by field; a name is handed over expanded.
fn walk_rdata(
    rtype: u16,
    message: &[u8],
    start: usize,
    end: usize,
    mut each: impl FnMut(Piece<'_>),
) -> Result<(), RecordError> {
    let bad = RecordError::Rdata(rtype);
    let mut at = start;
    for field in layout(rtype) {
        let next = match field {
            Field::Octets(count) => at + count,
            Field::Text => at + 1 + usize::from(*message.get(at).ok_or(bad)?),
            Field::Texts => {
                let mut to = at;
                while to < end {
                    to += 1 + usize::from(*message.get(to).ok_or(bad)?);
                }
                // At least one string, be it empty (RFC 1035 section 3.3.14).
                if to == at {
                    return Err(bad);
                }
                to
            }
            Field::Rest => end,
            Field::Name | Field::OldName => {
                let (wire, next) = read_name(message, at).map_err(|_| bad)?;
                if next > end {
                    return Err(bad);
                }
                each(Piece::Name { wire: &wire, compress: matches!(field, Field::OldName) });
                at = next;
                continue;
            }
        };
        if next > end {
            return Err(bad);
        }
        each(Piece::Octets(message.get(at..next).ok_or(bad)?));
        at = next;
    }
    if at == end { Ok(()) } else { Err(bad) }
}

enum Piece<'a> {
    Octets(&'a [u8]),
    Name { wire: &'a [u8], compress: bool },
}

#[derive(Clone, Copy)]
enum Field {
    Octets(usize),
    /// One character-string.
    Text,
    /// Character-strings up to the end.
    Texts,
    /// A name that is never written compressed.
    Name,
    /// A name in one of the types of RFC 1035, which may be.
    OldName,
    Rest,
}

/// What RDATA is made of, for the types whose shape we hold to. Types that somebody compresses in
/// spite of their specification are here as well: we expand them.
fn layout(rtype: u16) -> &'static [Field] {
    use Field::{Name, Octets, OldName, Rest, Text, Texts};
    match rtype {
        rtype::A => &[Octets(4)],
        rtype::AAAA => &[Octets(16)],
        // Also MD, MF, MB, MG, MR.
        rtype::NS | 3 | 4 | rtype::CNAME | 7 | 8 | 9 | rtype::PTR => &[OldName],
        rtype::SOA => &[OldName, OldName, Octets(SOA_NUMBERS_OCTETS)],
        // HINFO; MINFO.
        13 => &[Text, Text],
        14 => &[OldName, OldName],
        rtype::MX => &[Octets(2), OldName],
        // TXT and SPF.
        rtype::TXT | 99 => &[Texts],
        // RP and TALINK; NSAP-PTR and DNAME.
        17 | 58 => &[Name, Name],
        23 | rtype::DNAME => &[Name],
        // AFSDB, RT, KX, LP; PX.
        18 | 21 | 36 | 107 => &[Octets(2), Name],
        26 => &[Octets(2), Name, Name],
        // SIG and RRSIG; NXT and NSEC.
        24 | rtype::RRSIG => &[Octets(18), Name, Rest],
        30 | rtype::NSEC => &[Name, Rest],
        rtype::SRV => &[Octets(6), Name],
        // NAPTR; SVCB and HTTPS.
        35 => &[Octets(4), Text, Text, Text, Name],
        64 | 65 => &[Octets(2), Name, Rest],
        _ => &[Rest],
    }
}

impl Record {
    /// The MINIMUM of an SOA (RFC 2308 section 4: the TTL of a negative answer).
    #[must_use]
    pub fn soa_minimum(&self) -> Option<u32> {
        let last = self.rdata.last_chunk::<4>()?;
        (self.rtype == rtype::SOA).then(|| u32::from_be_bytes(*last))
    }

    /// Whether two differ in nothing but their TTL (RFC 2181 section 5: one of them is enough).
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.rtype, self.class) == (other.rtype, other.class)
            && self.rdata == other.rdata
            && self.owner == other.owner
    }

    /// The name that a CNAME or DNAME leads to.
    #[must_use]
    pub fn target(&self) -> Option<Name> {
        let leads = matches!(self.rtype, rtype::CNAME | rtype::DNAME);
        leads.then(|| Name::from_wire(&self.rdata).ok()).flatten()
    }

    /// The type that an RRSIG covers, and the second in which it expires (RFC 4034 section 3.1).
    #[must_use]
    pub fn signature(&self) -> Option<(u16, u32)> {
        let fixed = self.rdata.first_chunk::<12>()?;
        (self.rtype == rtype::RRSIG).then(|| {
            let covered = u16::from_be_bytes([fixed[0], fixed[1]]);
            (covered, u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]))
        })
    }
}

/// The octets of a name, the root's included (RFC 1035 section 2.3.4).
const NAME_OCTETS_MAX: usize = 255;

/// Pointers followed in one name. A name has at most 127 labels, and nobody needs more than one
/// pointer a label; without a bound, chains of pointers make reading quadratic.
const POINTERS_MAX: usize = 127;

/// Names remembered while writing. Past this, names are written out in full: only answers with
/// dozens of different names get there.
const KNOWN_NAMES_MAX: usize = 128;

/// A pointer has 14 bits.
const POINTER_REACH: usize = 0x4000;

const HEADER_OCTETS: usize = 12;
const QTYPE_QCLASS_OCTETS: usize = 4;
const SOA_NUMBERS_OCTETS: usize = 20;
const MESSAGE_OCTETS_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
