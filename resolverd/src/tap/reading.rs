//! What a message says, as far as operators are told of it; and what in it names its client.
//!
//! Pure. Reads what it can and stops where it cannot: a message that nobody understood is told
//! of too. Answers are ours, but queries are anybody's octets.

use std::fmt::Write as _;
use std::ops::Range;

use hickory_proto::rr::RecordType;

use crate::log::ClientPrefix;

/// What a line tells of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Lower-cased, in presentation format; `None` where there is no question.
    pub name: Option<String>,
    pub qtype: u16,
    pub class: u16,
    /// Of 12 bits.
    pub rcode: u16,
    /// DO, which a reply copies from its query (RFC 3225 section 3).
    pub dnssec_ok: bool,
    /// CD, which a reply copies from its query (RFC 4035 section 3.2.2).
    pub checking_disabled: bool,
    /// AD: validated, and the client can hear it.
    pub authentic: bool,
    pub truncated: bool,
    /// RFC 8914: the first of them.
    pub ede: Option<(u16, String)>,
}

/// Reads a reply.
#[must_use]
pub fn told(message: &[u8]) -> Told {
    let mut told = Told::default();
    let Some(header) = message.first_chunk::<HEADER_LEN>() else { return told };
    told.truncated = header[2] & 0x02 != 0;
    told.authentic = header[3] & 0x20 != 0;
    told.checking_disabled = header[3] & 0x10 != 0;
    told.rcode = (header[3] & 0x0f).into();
    if u16_at(message, 4) == Some(1)
        && let Some((name, at)) = presented(message, HEADER_LEN)
        && let (Some(qtype), Some(class)) = (u16_at(message, at), u16_at(message, at + 2))
    {
        (told.name, told.qtype, told.class) = (Some(name), qtype, class);
    }
    let Some(opt) = opt(message) else { return told };
    told.rcode |= u16::from(message[opt.ttl]) << 4;
    told.dnssec_ok = message[opt.ttl + 2] & 0x80 != 0;
    let ede = options(message, opt.options).find(|(code, value)| {
        // An INFO-CODE of two octets, then text (RFC 8914 section 2).
        *code == OPTION_EDE && value.len() >= 2
    });
    told.ede = ede.and_then(|(_, value)| {
        let text = String::from_utf8_lossy(&message[value.start + 2..value.end]).into_owned();
        Some((u16_at(message, value.start)?, text))
    });
    told
}

/// Blanks what names a client in a message that is shown: the addresses of client subnets
/// (RFC 7871) past the prefix, and cookies (RFC 7873), which are one client's alone.
pub fn hide_client(message: &mut [u8], prefix: ClientPrefix) {
    if prefix.is_whole() {
        return;
    }
    let Some(opt) = opt(message) else { return };
    let found: Vec<(u16, Range<usize>)> = options(message, opt.options).collect();
    for (code, value) in found {
        match code {
            OPTION_COOKIE => message[value].fill(0),
            OPTION_SUBNET => {
                let Some(family) = u16_at(message, value.start) else { continue };
                // FAMILY and two lengths stand before the address (RFC 7871 section 6).
                let address = (value.start + 4).min(value.end)..value.end;
                match prefix.bits_of_family(family) {
                    Some(bits) => keep_bits(&mut message[address], bits),
                    // IPv4 and IPv6 that are shown whole stay; what else there may be does not.
                    None if family == 1 || family == 2 => {}
                    None => message[address].fill(0),
                }
            }
            _ => {}
        }
    }
}

fn keep_bits(octets: &mut [u8], bits: u8) {
    for (at, octet) in octets.iter_mut().enumerate() {
        let kept = usize::from(bits).saturating_sub(8 * at).min(8);
        // Eight bits kept: the shift is over all, and the mask is whole.
        *octet &= 0xff_u8.checked_shl(8 - kept as u32).unwrap_or(0);
    }
}

/// Where an OPT stands.
struct Opt {
    /// Its TTL, which is no time.
    ttl: usize,
    options: Range<usize>,
}

/// The first OPT, if all before it can be read.
fn opt(message: &[u8]) -> Option<Opt> {
    let mut at = HEADER_LEN;
    for _ in 0..u16_at(message, 4)? {
        at = after_name(message, at)? + 4;
    }
    // Each record takes eleven octets at least, so that the message bounds the loop.
    let records: usize =
        [6, 8, 10].iter().filter_map(|at| u16_at(message, *at)).map(usize::from).sum();
    for _ in 0..records {
        let fixed = after_name(message, at)?;
        let data = fixed + 10;
        let end = data + usize::from(u16_at(message, fixed + 8)?);
        if end > message.len() {
            return None;
        }
        if u16_at(message, fixed)? == u16::from(RecordType::OPT) {
            return Some(Opt { ttl: fixed + 4, options: data..end });
        }
        at = end;
    }
    None
}

/// Code and place of each option that is whole.
fn options(message: &[u8], within: Range<usize>) -> impl Iterator<Item = (u16, Range<usize>)> {
    let mut at = within.start;
    std::iter::from_fn(move || {
        let inside = message.get(..within.end)?;
        let (code, len) = (u16_at(inside, at)?, u16_at(inside, at + 2)?);
        let value = at + 4..at + 4 + usize::from(len);
        inside.get(value.clone())?;
        at = value.end;
        Some((code, value))
    })
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// An uncompressed name in presentation format (RFC 1035 section 5.1), and where it ends.
fn presented(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut text, start) = (String::new(), at);
    loop {
        let len = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + len).filter(|_| len <= 63)?;
        at += 1 + len;
        if at - start > NAME_OCTETS_MAX {
            return None;
        }
        if len == 0 {
            let text = if text.is_empty() { ".".to_owned() } else { text };
            return Some((text, at));
        }
        for octet in label {
            match octet.to_ascii_lowercase() {
                special @ (b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$') => {
                    text.extend(['\\', char::from(special)]);
                }
                plain @ 0x21..=0x7e => text.push(char::from(plain)),
                // Writing to a string does not fail.
                other => drop(write!(text, "\\{other:03}")),
            }
        }
        text.push('.');
    }
}

/// A type's mnemonic, or RFC 3597's word for it.
#[must_use]
pub fn type_text(qtype: u16) -> String {
    match RecordType::from(qtype) {
        RecordType::Unknown(_) | RecordType::ZERO => format!("TYPE{qtype}"),
        known => known.to_string(),
    }
}

#[must_use]
pub fn class_text(class: u16) -> String {
    match class {
        1 => "IN".to_owned(),
        3 => "CH".to_owned(),
        4 => "HS".to_owned(),
        254 => "NONE".to_owned(),
        255 => "ANY".to_owned(),
        other => format!("CLASS{other}"),
    }
}

/// An RCODE by the IANA's registry.
#[must_use]
pub fn rcode_text(rcode: u16) -> String {
    let known = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => return format!("RCODE{other}"),
    };
    known.to_owned()
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

const HEADER_LEN: usize = resolverd_common::question::HEADER_LEN;
/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;
const OPTION_SUBNET: u16 = 8;
const OPTION_COOKIE: u16 = 10;
const OPTION_EDE: u16 = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reply to `WwW.a\.b.test. AAAA`: one A record by a pointer, an OPT with these options.
    fn reply(options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 7, 0x81, 0xb3, 0, 1, 0, 1, 0, 0, 0, 1];
        message.extend(b"\x03WwW\x04a.\x01b\x04test\0\0\x1c\0\x01");
        message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
        let len: usize = options.iter().map(|(_, value)| 4 + value.len()).sum();
        message.extend(b"\0\0\x29\x04\xd0\x01\0\x80\0");
        message.extend((len as u16).to_be_bytes());
        for (code, value) in options {
            message.extend(code.to_be_bytes());
            message.extend((value.len() as u16).to_be_bytes());
            message.extend(*value);
        }
        message
    }

    #[test]
    fn a_reply_is_read_with_its_question_flags_and_extended_error() {
        let told = told(&reply(&[(3, b"id"), (15, b"\0\x16no \"luck\"")]));
        assert_eq!(told.name.as_deref(), Some("www.a\\.\\001b.test."));
        assert_eq!((told.qtype, told.class), (28, 1));
        assert_eq!(told.rcode, 3 | 1 << 4);
        assert!(told.dnssec_ok && told.checking_disabled && told.authentic && !told.truncated);
        assert_eq!(told.ede, Some((22, "no \"luck\"".to_owned())));
    }

    #[test]
    fn what_is_not_there_is_not_told() {
        assert_eq!(told(b"short"), Told::default());
        let refusal = told(&[0, 7, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refusal, Told { rcode: 1, ..Told::default() });
        let root = told(b"\0\x07\x83\x80\0\x01\0\0\0\0\0\0\0\0\x02\0\x01");
        assert_eq!(root.name.as_deref(), Some("."));
        assert!(root.truncated && !root.dnssec_ok && root.ede.is_none());
    }

    #[test]
    fn subnets_are_cut_and_cookies_blanked_and_nothing_else_is_touched() {
        let v4 = b"\0\x01\x20\0\xc0\0\x02\x4d";
        let v6 = b"\0\x02\x80\0\x20\x01\x0d\xb8\0\x01\x02\xff\0\x03\0\x04\0\x05\0\x06";
        let shown =
            [(8, &v4[..]), (8, &v6[..]), (10, b"12345678"), (12, b"pad"), (8, b"\0\x09..1")];
        let mut message = reply(&shown);
        hide_client(&mut message, ClientPrefix::new(24, 56));
        let cut = [
            (8, &b"\0\x01\x20\0\xc0\0\x02\0"[..]),
            (8, b"\0\x02\x80\0\x20\x01\x0d\xb8\0\x01\x02\0\0\0\0\0\0\0\0\0"),
            (10, b"\0\0\0\0\0\0\0\0"),
            (12, b"pad"),
            (8, b"\0\x09..\0"),
        ];
        assert_eq!(message, reply(&cut));
        let mut message = reply(&shown);
        hide_client(&mut message, ClientPrefix::new(31, 128));
        let cut = [(8, &b"\0\x01\x20\0\xc0\0\x02\x4c"[..]), (8, v6), (10, &[0; 8]), (12, b"pad")];
        assert_eq!(message, reply(&[&cut[..], &[(8, b"\0\x09..\0")]].concat()));
        let mut message = reply(&shown);
        hide_client(&mut message, ClientPrefix::WHOLE);
        assert_eq!(message, reply(&shown));
    }

    #[test]
    fn numbers_have_words() {
        assert_eq!(
            [1, 28, 65, 65_280, 0].map(type_text),
            ["A", "AAAA", "HTTPS", "TYPE65280", "TYPE0"]
        );
        assert_eq!([1, 3, 255, 7].map(class_text), ["IN", "CH", "ANY", "CLASS7"]);
        assert_eq!([0, 3, 16, 11].map(rcode_text), ["NOERROR", "NXDOMAIN", "BADVERS", "RCODE11"]);
    }

    proptest! {
        /// And what is hidden keeps its length.
        #[test]
        fn no_octets_panic(
            octets in prop::collection::vec(any::<u8>(), 0..80),
            cut in any::<prop::sample::Index>(),
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let _ = told(&octets);
            let mut torn = reply(&[(8, b"\0\x01\x20\0\xc0\0\x02\x4d"), (10, b"12345678")]);
            let at = flip.0.index(torn.len());
            torn[at] ^= flip.1;
            torn.truncate(cut.index(torn.len() + 1));
            let before = torn.len();
            hide_client(&mut torn, ClientPrefix::new(24, 56));
            let _ = told(&torn);
            prop_assert_eq!(torn.len(), before);
        }
    }
}
