//! Questions to upstreams as octets, and octets from upstreams as answers.
//!
//! Pure: the driver brings ids, sockets and the time. [`accept`] believes nothing that was not
//! asked for: the id, the question, and a chain of aliases that begins at the question's name.
//! What is left is written anew, so that no octet of an upstream's header, OPT or layout gets
//! into a cache.

use std::time::Duration;

use crate::dns::records::{self, Record, RecordError};
use crate::dns::{Answer, Ede, Name, Query, Source, Trail, rcode, rtype};

use super::reply::Reply;

/// The bounds on how long an answer is believed, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlBounds {
    pub ttl_min: u32,
    pub ttl_max: u32,
    pub negative_ttl_max: u32,
}

/// What was asked of an upstream, to compare with what comes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub query: &'a Query,
    pub id: u16,
    /// Whether the question had an OPT.
    pub edns: bool,
}

/// For whom an answer is written, and what is said of it.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    pub query: &'a Query,
    pub source: Source,
    pub bounds: TtlBounds,
    /// Seconds since 1970 modulo 2^32, which is how RRSIGs say when they expire.
    pub wall_secs: u32,
}

/// Why octets are not the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Not an answer to this question: late, or forged. Over UDP the true one may still come.
    Foreign(&'static str),
    /// TC: to be asked again over TCP.
    Truncated,
    /// It did not understand the OPT (RFC 6891 section 7): to be asked again without.
    NoEdns,
    /// An RCODE that says "ask somebody else", and what the upstream says about it.
    Rcode(u16, Option<Ede>),
    /// A referral: this is no resolver, or not ours.
    Referral,
    Malformed(&'static str),
    Records(RecordError),
}

/// The question to an upstream. `edns_size` is what our OPT offers; without it there is none.
#[must_use]
pub fn question(query: &Query, id: u16, edns_size: Option<u16>) -> Vec<u8> {
    let cd = if query.checking_disabled { FLAG_CD } else { 0 };
    let opt = edns_size.map(|size| (size, query.dnssec_ok));
    message(query.name.as_wire(), query.qtype, id, FLAG_RD | cd, opt)
}

/// A question to a server of a zone: RD is clear, for it is no resolver. `name` is in wire form,
/// in the case it is to be sent in. With an OPT, DNSSEC records are asked for (RFC 3225).
#[must_use]
pub fn question_to_server(name: &[u8], qtype: u16, id: u16, edns_size: Option<u16>) -> Vec<u8> {
    message(name, qtype, id, 0, edns_size.map(|size| (size, true)))
}

fn message(name: &[u8], qtype: u16, id: u16, flags: u16, opt: Option<(u16, bool)>) -> Vec<u8> {
    let mut wire = Vec::with_capacity(12 + 255 + 4 + 11);
    wire.extend_from_slice(&id.to_be_bytes());
    wire.extend_from_slice(&flags.to_be_bytes());
    for count in [1, 0, 0, u16::from(opt.is_some())] {
        wire.extend_from_slice(&count.to_be_bytes());
    }
    wire.extend_from_slice(name);
    wire.extend_from_slice(&qtype.to_be_bytes());
    wire.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some((size, dnssec_ok)) = opt {
        // RFC 6891 section 6.1.2: the root, OPT, our size, RCODE and version 0, flags, no option.
        wire.push(0);
        wire.extend_from_slice(&rtype::OPT.to_be_bytes());
        wire.extend_from_slice(&size.to_be_bytes());
        let flags: u32 = if dnssec_ok { OPT_DO } else { 0 };
        wire.extend_from_slice(&flags.to_be_bytes());
        wire.extend_from_slice(&[0; 2]);
    }
    wire
}

/// What a reply has to repeat to be one.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub id: u16,
    /// In wire form, in the case it was sent in.
    pub name: &'a [u8],
    pub qtype: u16,
}

/// A whole message that answers what was expected. What is in it is not judged yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// With the high bits that stand in the OPT (RFC 6891 section 6.1.3).
    pub rcode: u16,
    pub authoritative: bool,
    /// TC: the sections are not read then.
    pub truncated: bool,
    pub recursive: bool,
    /// Whether the question came back in the case it was sent in (draft "0x20").
    pub same_case: bool,
    /// Whether there is an OPT.
    pub edns: bool,
    /// The first extended error in it (RFC 8914).
    pub ede: Option<Ede>,
    /// Records of class IN; the OPT is not among them.
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

/// Reads a message, if it answers what was expected.
pub fn read(expected: &Expected<'_>, message: &[u8]) -> Result<Message, Reject> {
    let header = Header::read(message)?;
    let (at, same_case) = header.check(expected, message)?;
    let flag = |flag: u16| header.flags & flag != 0;
    let mut read = Message {
        rcode: header.flags & FLAGS_RCODE,
        authoritative: flag(FLAG_AA),
        truncated: flag(FLAG_TC),
        recursive: flag(FLAG_RA),
        same_case,
        ..Message::default()
    };
    if read.truncated {
        return Ok(read);
    }
    let [_, an, ns, ar] = header.counts;
    let (answer, at) = records::read(message, at, an)?;
    let (authority, at) = records::read(message, at, ns)?;
    let (additional, _) = records::read(message, at, ar)?;
    if let Some(opt) = additional.iter().find(|record| record.rtype == rtype::OPT) {
        read.rcode |= u16::from(opt.ttl.to_be_bytes()[0]) << 4;
        read.edns = true;
        read.ede = extended_error(opt);
    }
    let ours = |record: &Record| record.class == CLASS_IN && record.rtype != rtype::OPT;
    read.answer = answer;
    read.authority = authority;
    read.additional = additional;
    for section in [&mut read.answer, &mut read.authority, &mut read.additional] {
        section.retain(ours);
    }
    Ok(read)
}

/// The reply in what an upstream said, or why there is none.
pub fn accept(asked: &Asked<'_>, message: &[u8]) -> Result<Reply, Reject> {
    let query = asked.query;
    let expected = Expected { id: asked.id, name: query.name.as_wire(), qtype: query.qtype };
    let came = read(&expected, message)?;
    if came.truncated {
        return Err(Reject::Truncated);
    }
    match came.rcode {
        0 | 3 => {}
        // BADVERS cannot come but for an OPT; the others are meant so by servers without EDNS.
        16 if asked.edns => return Err(Reject::NoEdns),
        1 | 4 if asked.edns && !came.edns => return Err(Reject::NoEdns),
        other => return Err(Reject::Rcode(other, came.ede)),
    }
    let nxdomain = came.rcode == u16::from(rcode::NXDOMAIN);
    let chain = Chain::follow(query, came.answer)?;
    if nxdomain && chain.complete {
        return Err(Reject::Malformed("NXDOMAIN with the records that do not exist"));
    }
    let has = |rtype: u16| came.authority.iter().any(|record| record.rtype == rtype);
    let refers = !came.recursive && has(rtype::NS) && !has(rtype::SOA);
    if chain.kept.is_empty() && !nxdomain && refers {
        return Err(Reject::Referral);
    }
    Ok(Reply {
        rcode: if nxdomain { rcode::NXDOMAIN } else { rcode::NOERROR },
        authoritative: came.authoritative,
        answer: chain.kept,
        authority: came.authority,
        ..Reply::default()
    })
}

/// Writes a reply as the answer to one client's question: the times are set, and without DO
/// nothing is in it that only proves (RFC 4035 section 3.2.1).
pub fn compose(terms: &Terms<'_>, reply: Reply) -> Result<Answer, Reject> {
    let chain = Chain::follow(terms.query, reply.answer)?;
    let answer = conclude(terms, chain, reply.authority, reply.rcode)?;
    Ok(Answer { trail: reply.trail, ..answer })
}

/// Sets the times and writes the answer.
fn conclude(
    terms: &Terms<'_>,
    chain: Chain,
    authority: Vec<Record>,
    rcode: u8,
) -> Result<Answer, Reject> {
    let TtlBounds { ttl_min, ttl_max, negative_ttl_max } = terms.bounds;
    let mut answers = chain.kept;
    for record in &mut answers {
        record.ttl = believable(record.ttl).max(ttl_min).min(ttl_max);
    }
    let mut proofs = Vec::new();
    let mut cacheable = true;
    if chain.complete {
        // With DO, what proves that a wildcard was rightly expanded (RFC 4035 section 3.1.3.3).
        if terms.query.dnssec_ok {
            proofs = authority;
            proofs.retain(|record| is_denial(record, false));
        }
        for record in &mut proofs {
            record.ttl = believable(record.ttl).max(ttl_min).min(ttl_max);
        }
    } else {
        // RFC 2308 section 5: the SOA's TTL or its MINIMUM, and without SOA not at all.
        let about = |record: &Record| chain.end.is_under(&record.owner);
        let soa = authority.iter().find(|r| r.rtype == rtype::SOA && about(r)).cloned();
        let limit = soa.as_ref().and_then(|soa| {
            let minimum = believable(soa.soa_minimum()?);
            Some(believable(soa.ttl).min(minimum).max(ttl_min).min(negative_ttl_max))
        });
        cacheable = limit.is_some();
        let soas = usize::from(soa.is_some());
        proofs.extend(soa);
        if terms.query.dnssec_ok {
            proofs.extend(authority.into_iter().filter(|record| is_denial(record, true)));
        }
        // The SOA says how long: its own TTL is shown as just that (RFC 2308 section 5).
        for (at, record) in proofs.iter_mut().enumerate() {
            let ttl = if at < soas { u32::MAX } else { believable(record.ttl).max(ttl_min) };
            record.ttl = ttl.min(limit.unwrap_or(0));
        }
    }
    let all = || answers.iter().chain(&proofs);
    let shortest = all().map(|record| record.ttl).min().unwrap_or(0);
    let expiry = all().filter_map(Record::signature).filter_map(|(_, expires)| {
        // RFC 4034 section 3.1.5: serial numbers. One that is over is not ours to judge: either
        // the upstream did not validate, or our clock is wrong.
        u32::try_from(expires.wrapping_sub(terms.wall_secs).cast_signed()).ok().filter(|&s| s > 0)
    });
    let life = if cacheable { expiry.fold(shortest, u32::min) } else { 0 };
    let body = records::compose(&terms.query.name, [&answers, &proofs, &[]])?;
    Ok(Answer {
        rcode,
        authoritative: false,
        secure: false,
        counts: body.counts,
        body: body.octets,
        ttl_offsets: body.ttl_offsets,
        life: Duration::from_secs(life.into()),
        signed_for: None,
        ede: None,
        source: terms.source.clone(),
        trail: Trail::default(),
    })
}

/// The records of an answer section that answer the question: aliases from its name on, and
/// what stands at their end.
struct Chain {
    kept: Vec<Record>,
    end: Name,
    /// Whether there are records of the type asked for at the end.
    complete: bool,
}

impl Chain {
    fn follow(query: &Query, answers: Vec<Record>) -> Result<Self, Reject> {
        let mut picked = vec![false; answers.len()];
        let mut order = Vec::with_capacity(answers.len());
        let mut pick = |at: usize| {
            if !std::mem::replace(&mut picked[at], true) {
                order.push(at);
            }
        };
        // The records of one type at one name and, with DO, what signs them.
        let set = |owner: &Name, wanted: u16| {
            let mut found: Vec<usize> = Vec::new();
            let mut signatures = Vec::new();
            for (at, record) in answers.iter().enumerate() {
                if record.owner != *owner {
                    continue;
                }
                let covered = record.signature().map(|(covered, _)| covered);
                if record.rtype == wanted
                    || wanted == rtype::ANY && (query.dnssec_ok || !rtype::is_proof(record.rtype))
                {
                    found.push(at);
                } else if query.dnssec_ok && covered == Some(wanted) {
                    signatures.push(at);
                }
            }
            let some = !found.is_empty();
            found.extend(signatures.into_iter().filter(|_| some));
            found
        };

        let mut end = query.name.clone();
        let mut complete = false;
        for links in 0.. {
            // RFC 6672 section 3.1: a DNAME comes with the CNAME made of it.
            let above = answers.iter().find(|record| {
                record.rtype == rtype::DNAME && record.owner != end && end.is_under(&record.owner)
            });
            let found = set(&end, query.qtype);
            complete = !found.is_empty();
            // Without a CNAME where the name would be too long (section 2.2): it says why.
            if let Some(dname) = above.filter(|_| !complete || query.qtype == rtype::CNAME) {
                set(&dname.owner, rtype::DNAME).into_iter().for_each(&mut pick);
            }
            found.into_iter().for_each(&mut pick);
            if complete {
                break;
            }
            let aliases = set(&end, rtype::CNAME);
            let Some(next) = aliases.first().and_then(|&at| answers[at].target()) else { break };
            // A name has one alias; a second one is nobody's.
            let second = |at: &usize| answers[*at].rtype == rtype::CNAME && *at != aliases[0];
            aliases.iter().copied().filter(|at| !second(at)).for_each(&mut pick);
            end = next;
            if links == CHAIN_MAX {
                return Err(Reject::Malformed("a loop of CNAMEs, or a chain too long"));
            }
        }
        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        let kept = order.into_iter().filter_map(|at| answers[at].take()).collect();
        Ok(Self { kept, end, complete })
    }
}

struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

impl Header {
    fn read(message: &[u8]) -> Result<Self, Reject> {
        let head: &[u8; 12] = message.first_chunk().ok_or(Reject::Foreign("no header"))?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        Ok(Self { id: word(0), flags: word(2), counts: [word(4), word(6), word(8), word(10)] })
    }

    /// Whether this answers what was asked; says where the records begin, and whether the question
    /// came back letter by letter.
    fn check(&self, expected: &Expected<'_>, message: &[u8]) -> Result<(usize, bool), Reject> {
        if self.id != expected.id {
            return Err(Reject::Foreign("another id"));
        }
        if self.flags & FLAG_QR == 0 {
            return Err(Reject::Foreign("a question"));
        }
        if self.flags & FLAGS_OPCODE != 0 {
            return Err(Reject::Foreign("another opcode"));
        }
        // Who cannot read a question cannot copy it.
        let unread = matches!(self.flags & FLAGS_RCODE, 1 | 4);
        match self.counts[0] {
            0 if unread => return Ok((12, true)),
            1 => {}
            _ => return Err(Reject::Foreign("not one question")),
        }
        let other = Reject::Foreign("another question");
        let (name, at) = records::read_name(message, 12).map_err(|_| other.clone())?;
        let end = at + 4;
        let fixed = message.get(at..end).ok_or(other.clone())?;
        let same = name.eq_ignore_ascii_case(expected.name)
            && fixed[..2] == expected.qtype.to_be_bytes()
            && fixed[2..] == CLASS_IN.to_be_bytes();
        if same { Ok((end, name == expected.name)) } else { Err(other) }
    }
}

/// The first extended error in an OPT (RFC 8914).
fn extended_error(opt: &Record) -> Option<Ede> {
    let mut rest = &opt.rdata[..];
    while let Some((head, data)) = rest.split_first_chunk::<4>() {
        let code = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (value, after) = data.split_at_checked(length)?;
        if code == OPTION_EDE
            && let Some((info, text)) = value.split_first_chunk::<2>()
        {
            let text = String::from_utf8_lossy(text);
            let printable = text.chars().filter(|c| !c.is_control()).take(EDE_TEXT_CHARS_MAX);
            return Some(Ede { code: u16::from_be_bytes(*info), text: printable.collect() });
        }
        rest = after;
    }
    None
}

/// Records of an authority section that deny: NSEC, NSEC3 and what signs them; with `soa` also
/// what signs the SOA.
fn is_denial(record: &Record, soa: bool) -> bool {
    let denies = |rtype| matches!(rtype, rtype::NSEC | rtype::NSEC3);
    let covered = record.signature().map(|(covered, _)| covered);
    denies(record.rtype)
        || covered.is_some_and(|covered| denies(covered) || soa && covered == rtype::SOA)
}

/// RFC 2181 section 8: a TTL with its top bit set is zero.
fn believable(ttl: u32) -> u32 {
    if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl }
}

impl From<RecordError> for Reject {
    fn from(error: RecordError) -> Self {
        Self::Records(error)
    }
}

/// Aliases followed in one answer. Real chains have two or three, eight at most.
const CHAIN_MAX: usize = 16;

/// As much of an upstream's explanation as we pass on.
const EDE_TEXT_CHARS_MAX: usize = 100;

const CLASS_IN: u16 = 1;
const FLAG_QR: u16 = 0x8000;
const FLAG_AA: u16 = 0x0400;
const FLAGS_OPCODE: u16 = 0x7800;
const FLAG_TC: u16 = 0x0200;
const FLAG_RD: u16 = 0x0100;
const FLAG_RA: u16 = 0x0080;
const FLAG_CD: u16 = 0x0010;
const FLAGS_RCODE: u16 = 0x000f;
const OPT_DO: u32 = 0x8000;
const OPTION_EDE: u16 = 15;

#[cfg(test)]
mod tests;
