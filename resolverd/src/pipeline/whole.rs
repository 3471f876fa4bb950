//! The whole parser: messages that the contract's parser passes.
//!
//! Pure. A query that is only oddly written (options we do not know, a set Z bit, records that
//! mean nothing to us) is written anew in its plain form, and goes the way of a plain one. All
//! else is told what is wrong with it, or that we do not do that.

use resolverd_common::key::CLASS_IN;
use resolverd_common::question::{HEADER_LEN, OPT_LEN};

use super::refusal::{Badkey, COOKIE_MAX, CookieData, Edns, Refusal};
use crate::dns::records::{self, Record};
use crate::dns::{rcode, rtype};

/// A query in its plain form, and what is special about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Header, question, and OPT with the cookie if there was one; nothing else.
    octets: [u8; PLAIN_MAX],
    len: usize,
    pub ask: Ask,
    /// RD: without it only what we are authoritative for is answered.
    pub recursion_desired: bool,
    edns: Option<Edns>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Data,
    /// All there is (RFC 8482). The plain form asks for A.
    Any,
}

impl Plain {
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Reads a message of at least a header whose QR is 0.
///
/// # Errors
///
/// What to answer instead.
pub fn read(message: &[u8]) -> Result<Plain, Refusal> {
    let Some(header) = Header::read(message) else {
        return Err(Refusal::new(rcode::FORMERR));
    };
    let mut reader = Reader { message, at: HEADER_LEN, refusal: Refusal::new(rcode::FORMERR) };
    if header.flags & FLAGS_OPCODE != 0 {
        // Other opcodes need not have the sections of QUERY; if they do, there may be an OPT.
        let _ = reader.sections(&header);
        reader.refusal.question_len = 0;
        return Err(reader.refusal.with(rcode::NOTIMP));
    }
    reader.sections(&header)?;
    let Reader { mut refusal, at, .. } = reader;
    // RFC 7873 section 5.4: a client may ask for a cookie and nothing else.
    let for_cookie = refusal.edns.is_some_and(|edns| edns.version == 0 && edns.cookie.is_some());
    if header.counts[0] == 0 && for_cookie && at == message.len() {
        return Err(refusal.with(rcode::NOERROR));
    }
    // TC: a part of a query is none. RFC 1035 section 4.1.2: exactly one question is meant.
    if header.flags & FLAG_TC != 0 || header.counts[0] != 1 || at != message.len() {
        return Err(refusal);
    }
    if refusal.edns.is_some_and(|edns| edns.version != 0) {
        return Err(refusal.with(BADVERS));
    }
    if refusal.badkey.is_some() {
        return Err(refusal.with(NOTAUTH));
    }
    let question = &message[HEADER_LEN..HEADER_LEN + refusal.question_len];
    let Some((name, [t, u, c, d])) = question.split_last_chunk() else {
        return Err(refusal);
    };
    if u16::from_be_bytes([*c, *d]) != CLASS_IN {
        return Err(refusal.with(rcode::REFUSED));
    }
    let ask = match u16::from_be_bytes([*t, *u]) {
        rtype::ANY => Ask::Any,
        // AXFR and IXFR: we are nobody's primary.
        251 | 252 => return Err(refusal.with(rcode::REFUSED)),
        // RFC 9824 section 3.5: NXNAME is only ever in an NSEC.
        128 => {
            refusal.ede = Some(EDE_INVALID_QUERY_TYPE);
            return Err(refusal);
        }
        // Reserved; a record that is only ever in the additional section.
        0 | rtype::OPT | TSIG => return Err(refusal),
        // The rest of what is no data (RFC 6895 section 3.1).
        129..=254 => return Err(refusal.with(rcode::NOTIMP)),
        _ => Ask::Data,
    };
    let qtype = if ask == Ask::Any { [0, 1] } else { [*t, *u] };
    Ok(plain(&header, name, qtype, refusal.edns, ask))
}

/// As much as can be read of a message that is refused whatever it says.
#[must_use]
pub fn glance(message: &[u8]) -> Refusal {
    match read(message) {
        Err(refusal) => refusal,
        Ok(plain) => Refusal {
            question_len: question_len(message).unwrap_or(0),
            edns: plain.edns,
            ..Refusal::new(rcode::FORMERR)
        },
    }
}

fn question_len(message: &[u8]) -> Option<usize> {
    let (name, end) = records::read_name(message, HEADER_LEN).ok()?;
    let len = name.len() + 4;
    (end == HEADER_LEN + name.len() && HEADER_LEN + len <= message.len()).then_some(len)
}

fn plain(header: &Header, name: &[u8], qtype: [u8; 2], edns: Option<Edns>, ask: Ask) -> Plain {
    let mut octets = [0; PLAIN_MAX];
    let mut len = 0;
    let mut put = |run: &[u8]| {
        octets[len..len + run.len()].copy_from_slice(run);
        len += run.len();
    };
    let flags = FLAG_RD | header.flags & (FLAG_AD | FLAG_CD);
    put(&header.id);
    put(&flags.to_be_bytes());
    put(&[0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    put(name);
    put(&qtype);
    put(&CLASS_IN.to_be_bytes());
    if let Some(edns) = edns {
        let [s, t] = edns.udp_size.to_be_bytes();
        put(&[0, 0, 41, s, t, 0, 0, u8::from(edns.dnssec_ok) << 7, 0]);
        match &edns.cookie {
            None => put(&[0, 0]),
            Some(cookie) => {
                let len = cookie.data().len() as u8;
                let [c, d] = OPTION_COOKIE.to_be_bytes();
                put(&[0, 4 + len, c, d, 0, len]);
                put(cookie.data());
            }
        }
    }
    Plain { octets, len, ask, recursion_desired: header.flags & FLAG_RD != 0, edns }
}

struct Header {
    id: [u8; 2],
    flags: u16,
    /// Questions, answers, authorities, additionals.
    counts: [u16; 4],
}

impl Header {
    fn read(message: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_LEN] = message.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        Some(Self {
            id: [head[0], head[1]],
            flags: word(2),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }
}

/// Goes through a message. What it learns stands in `refusal`, for whatever comes of it.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    refusal: Refusal,
}

impl Reader<'_> {
    /// Reads all sections. The error is the refusal as far as it got.
    fn sections(&mut self, header: &Header) -> Result<(), Refusal> {
        let [questions, answers, authorities, additionals] = header.counts;
        let mut well_formed = true;
        for n in 0..questions {
            let start = self.at;
            let Ok((name, end)) = records::read_name(self.message, start) else {
                return Err(self.refusal.clone());
            };
            // A compressed name has nothing before it to point at.
            if end + 4 > self.message.len() || name.len() != end - start {
                return Err(self.refusal.clone());
            }
            self.at = end + 4;
            if n == 0 && questions == 1 {
                self.refusal.question_len = self.at - start;
            }
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            // No query has them, but for zone transfers and updates.
            well_formed &= matches!(header.flags & FLAGS_OPCODE, 1..) || is_transfer(self);
            self.record()?;
        }
        let mut opts = 0;
        for n in 1..=additionals {
            let record = self.record()?;
            match record.rtype {
                rtype::OPT => {
                    opts += 1;
                    well_formed &= opts == 1 && record.owner.as_wire() == [0];
                    if opts == 1 {
                        self.refusal.edns = Some(edns(&record));
                    }
                    // What other versions have there, nobody knows.
                    well_formed &= edns(&record).version != 0 || options_are_good(&record.rdata);
                }
                TSIG => {
                    // RFC 8945 section 5.1: one, and the last.
                    well_formed &= n == additionals;
                    self.refusal.badkey = Badkey::to(&record);
                    well_formed &= self.refusal.badkey.is_some();
                }
                // RFC 2931 section 3: nobody has to check a SIG(0), nor to mind the rest.
                _ => {}
            }
        }
        if well_formed { Ok(()) } else { Err(self.refusal.without_badkey()) }
    }

    fn record(&mut self) -> Result<Record, Refusal> {
        let read = records::read(self.message, self.at, 1);
        let Ok((mut one, next)) = read else { return Err(self.refusal.without_badkey()) };
        self.at = next;
        one.pop().ok_or_else(|| self.refusal.without_badkey())
    }
}

/// IXFR has its SOA in the authority section (RFC 1995 section 3).
fn is_transfer(reader: &Reader<'_>) -> bool {
    let question = reader.message.get(HEADER_LEN..HEADER_LEN + reader.refusal.question_len);
    let qtype = question.and_then(<[u8]>::last_chunk::<4>);
    qtype.is_some_and(|[t, u, ..]| matches!(u16::from_be_bytes([*t, *u]), 251 | 252))
}

fn edns(opt: &Record) -> Edns {
    let [_, version, flags, _] = opt.ttl.to_be_bytes();
    // RFC 6891 section 6.2.5: a size below 512 means 512.
    Edns {
        version,
        udp_size: opt.class.max(512),
        dnssec_ok: flags & 0x80 != 0,
        cookie: cookie(&opt.rdata),
    }
}

/// The first COOKIE, if it is one (RFC 7873 section 5.2: further ones are ignored).
fn cookie(mut rest: &[u8]) -> Option<CookieData> {
    while let Some(([c, d, l, m], data)) = rest.split_first_chunk::<4>() {
        let (data, next) = data.split_at_checked(u16::from_be_bytes([*l, *m]).into())?;
        if u16::from_be_bytes([*c, *d]) == OPTION_COOKIE {
            return CookieData::of(data);
        }
        rest = next;
    }
    None
}

/// Whether options fill the OPT to its end, and the first COOKIE has a length that cookies have
/// (RFC 7873 section 5.2.2).
fn options_are_good(mut rest: &[u8]) -> bool {
    let mut cookies = 0;
    while !rest.is_empty() {
        let Some(([c, d, l, m], data)) = rest.split_first_chunk::<4>() else { return false };
        let length = usize::from(u16::from_be_bytes([*l, *m]));
        if length > data.len() {
            return false;
        }
        if u16::from_be_bytes([*c, *d]) == OPTION_COOKIE {
            cookies += 1;
            if cookies == 1 && length != 8 && !(16..=40).contains(&length) {
                return false;
            }
        }
        rest = &data[length..];
    }
    true
}

/// Header, the longest name, type and class, OPT with the longest cookie.
const PLAIN_MAX: usize = HEADER_LEN + 255 + 4 + OPT_LEN + 4 + COOKIE_MAX;

const FLAGS_OPCODE: u16 = 0x7800;
const FLAG_TC: u16 = 0x0200;
const FLAG_RD: u16 = 0x0100;
const FLAG_AD: u16 = 0x0020;
const FLAG_CD: u16 = 0x0010;
const TSIG: u16 = 250;
const OPTION_COOKIE: u16 = 10;
const NOTAUTH: u8 = 9;
/// RFC 6891 section 6.1.3, without what stands in the OPT: see [`Refusal::with`].
const BADVERS: u8 = 16;
/// RFC 8914 section 4.31 (added by RFC 9824).
const EDE_INVALID_QUERY_TYPE: u16 = 30;
