//! Trust anchors in presentation form: DS and DNSKEY records, as zone files and
//! `dnssec-dsfromkey` write them.
//!
//! Pure. `$`-directives and other types are refused with their place: an anchor that was meant
//! and not read would leave a zone unchecked.

use data_encoding::{BASE64, HEXUPPER};

use crate::dns::Name;

use super::super::keys::{DnsKey, Ds, algorithm, digest_type};
use super::{Anchor, Trusted};

/// What is wrong in a file of anchors, and where; lines and columns count from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct AnchorError {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

/// Reads all anchors of a file.
pub fn read(text: &str) -> Result<Vec<Anchor>, AnchorError> {
    let mut anchors = Vec::new();
    for words in records(text)? {
        if anchors.len() == ANCHORS_IN_FILE_MAX {
            return Err(words[0].wrong(format!("more than {ANCHORS_IN_FILE_MAX} anchors")));
        }
        anchors.push(anchor(&words)?);
    }
    Ok(anchors)
}

fn anchor(words: &[Word<'_>]) -> Result<Anchor, AnchorError> {
    let owner = words[0];
    if owner.text.starts_with('$') {
        return Err(owner.wrong("directives are not taken here; write whole records".into()));
    }
    let name: Name = match owner.text {
        "@" => return Err(owner.wrong("write the name in full, and `.` for the root".into())),
        text => text.parse().map_err(|error| owner.wrong(format!("{error}")))?,
    };
    let mut rest = &words[1..];
    while let [word, after @ ..] = rest {
        let ttl = word.text.bytes().all(|octet| octet.is_ascii_digit());
        if !ttl && !word.is("IN") {
            break;
        }
        rest = after;
    }
    let [kind, data @ ..] = rest else { return Err(owner.wrong(EXAMPLE.into())) };
    let trusted = if kind.is("DS") {
        Trusted::Ds(ds(*kind, data)?)
    } else if kind.is("DNSKEY") {
        Trusted::Key(dnskey(*kind, data)?)
    } else {
        return Err(kind.wrong(format!("`{}` is neither DS nor DNSKEY; {EXAMPLE}", kind.text)));
    };
    Ok(Anchor { name, trusted })
}

fn ds(kind: Word<'_>, data: &[Word<'_>]) -> Result<Ds, AnchorError> {
    let [tag, algorithm, digest_type, digest @ ..] = data else {
        return Err(kind.wrong(EXAMPLE.into()));
    };
    let (tag, algorithm) = (tag.number()?, algorithm_of(algorithm)?);
    let [first, ..] = digest else { return Err(digest_type.wrong("the digest is missing".into())) };
    let hex = joined(digest).to_ascii_uppercase();
    let octets = HEXUPPER.decode(hex.as_bytes());
    let digest = octets.map_err(|error| first.wrong(format!("the digest is not hex: {error}")))?;
    let number = digest_type.number()?;
    let octets = match number {
        digest_type::SHA1 => 20,
        digest_type::SHA256 => 32,
        digest_type::SHA384 => 48,
        _ => digest.len(),
    };
    if digest.len() != octets || digest.is_empty() {
        let has = digest.len();
        let text = format!("the digest has {has} octets; those of type {number} have {octets}");
        return Err(first.wrong(text));
    }
    Ok(Ds { tag, algorithm, digest_type: number, digest })
}

fn dnskey(kind: Word<'_>, data: &[Word<'_>]) -> Result<DnsKey, AnchorError> {
    let [flags, protocol, algorithm, key @ ..] = data else {
        return Err(kind.wrong(EXAMPLE.into()));
    };
    let [first, ..] = key else { return Err(algorithm.wrong("the key is missing".into())) };
    let (bits, protocol, algorithm): (u16, u8, u8) =
        (flags.number()?, protocol.number()?, algorithm_of(algorithm)?);
    let octets = BASE64.decode(joined(key).as_bytes());
    let public = octets.map_err(|error| first.wrong(format!("the key is not base64: {error}")))?;
    let [high, low] = bits.to_be_bytes();
    let fixed = [high, low, protocol, algorithm];
    let key = DnsKey::from_rdata(&[&fixed[..], &public].concat());
    let key = key.ok_or_else(|| first.wrong("the key is empty".into()))?;
    if key.is_revoked() {
        return Err(flags.wrong("the key is revoked (RFC 5011); take this line out".into()));
    }
    if !key.is_zone_key() {
        let text = "this is no zone key: flags are 257 or 256, the protocol is 3";
        return Err(flags.wrong(text.into()));
    }
    Ok(key)
}

fn algorithm_of(word: &Word<'_>) -> Result<u8, AnchorError> {
    match NAMES.iter().find(|(name, _)| word.is(name)) {
        Some((_, number)) => Ok(*number),
        None => word.number(),
    }
}

/// An algorithm as zone files may write it; its number, if it is not known here.
#[must_use]
pub fn algorithm_name(number: u8) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Digests and keys may be written in several words.
fn joined(words: &[Word<'_>]) -> String {
    words.iter().map(|word| word.text).collect()
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    line: usize,
    column: usize,
}

impl Word<'_> {
    fn is(&self, other: &str) -> bool {
        self.text.eq_ignore_ascii_case(other)
    }

    fn number<T: TryFrom<u32>>(&self) -> Result<T, AnchorError> {
        let number = self.text.parse::<u32>().ok().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.wrong(format!("`{}` is no number that fits here", self.text)))
    }

    fn wrong(&self, what: String) -> AnchorError {
        AnchorError { line: self.line, column: self.column, what }
    }
}

/// The words of each record: lines, or more of them between brackets; `;` begins a comment.
fn records(text: &str) -> Result<Vec<Vec<Word<'_>>>, AnchorError> {
    let mut records = Vec::new();
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut open: Option<Word<'_>> = None;
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        let code = line.split(';').next().unwrap_or_default();
        let begins_blank = words.is_empty() && code.starts_with([' ', '\t']);
        for (at, piece) in pieces(code) {
            let word = Word { text: piece, line: line_number, column: at + 1 };
            match piece {
                "(" if open.is_some() => return Err(word.wrong("a bracket in brackets".into())),
                "(" => open = Some(word),
                ")" if open.take().is_none() => {
                    return Err(word.wrong("a bracket that was not opened".into()));
                }
                ")" => {}
                _ if words.is_empty() && begins_blank => {
                    let text = "the line begins with a blank; write the name on each line";
                    return Err(word.wrong(text.into()));
                }
                _ => words.push(word),
            }
        }
        if open.is_none() && !words.is_empty() {
            records.push(std::mem::take(&mut words));
        }
    }
    match open {
        Some(bracket) => Err(bracket.wrong("this bracket is not closed".into())),
        None => Ok(records),
    }
}

/// Words and brackets, each with the octet it begins at.
fn pieces(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let blank = |c: char| c.is_ascii_whitespace();
        at += code[at..].len() - code[at..].trim_start_matches(blank).len();
        let rest = &code[at..];
        let end = match rest.chars().next()? {
            '(' | ')' => 1,
            _ => rest.find(|c| blank(c) || c == '(' || c == ')').unwrap_or(rest.len()),
        };
        let piece = (at, &rest[..end]);
        at += end;
        Some(piece)
    })
}

const NAMES: &[(&str, u8)] = &[
    ("RSASHA1", algorithm::RSASHA1),
    ("RSASHA1-NSEC3-SHA1", algorithm::RSASHA1_NSEC3_SHA1),
    ("RSASHA256", algorithm::RSASHA256),
    ("RSASHA512", algorithm::RSASHA512),
    ("ECDSAP256SHA256", algorithm::ECDSAP256SHA256),
    ("ECDSAP384SHA384", algorithm::ECDSAP384SHA384),
    ("ED25519", algorithm::ED25519),
    ("ED448", algorithm::ED448),
];

const EXAMPLE: &str = "write `example.com. IN DS 12345 13 2 <hex>` or \
     `example.com. IN DNSKEY 257 3 13 <base64>`";

/// Anchors in one file.
const ANCHORS_IN_FILE_MAX: usize = 4_096;
