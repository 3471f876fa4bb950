//! For tests: zones signed by other programs, and records signed here.
//!
//! `tests/vectors/dnssec/replies.txt` is what NSD answered from zones that BIND's, ldns's and
//! Knot's tools signed; `make.sh` beside it says how. What no honest program makes (forgeries, odd
//! proofs) is signed by [`Signer`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXUPPER};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::dns::records::Record;
use crate::dns::{Name, rtype};
use crate::resolver::reply::{Fetch, Reply};

use super::anchors::{Anchors, read};
use super::denial::Types;
use super::keys::{DnsKey, Ds, digest_type};
use super::rrset::{RrSet, Rrsig, group};

/// 2026-11-01, when the vectors are in force.
pub(in crate::resolver) const NOW: u64 = 1_793_491_200;

pub(in crate::resolver) fn name(text: &str) -> Name {
    Name::from_wire(&wire(text)).unwrap()
}

/// What NSD answered.
pub(in crate::resolver) static REPLIES: LazyLock<HashMap<Fetch, Arc<Reply>>> =
    LazyLock::new(|| {
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/vectors/dnssec/replies.txt"
        ));
        let mut replies = HashMap::new();
        let mut question = None;
        let mut reply = Reply::default();
        let mut in_answer = true;
        for line in text.lines().chain([";; RCODE end"]) {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                [";;", "RCODE", code] => {
                    if let Some(question) = question.take() {
                        replies.insert(question, Arc::new(std::mem::take(&mut reply)));
                    }
                    reply.rcode = match *code {
                        "NOERROR" | "end" => 0,
                        "NXDOMAIN" => 3,
                        other => panic!("{other}"),
                    };
                }
                [";;", "QUESTION", owner, qtype] => {
                    question = Some(Fetch { name: name(owner), qtype: type_of(qtype) });
                }
                [";;", section] => in_answer = *section == "ANSWER",
                _ if in_answer => reply.answer.push(record(line)),
                _ => reply.authority.push(record(line)),
            }
        }
        replies
    });

/// The reply to a question that `make.sh` asks.
pub(in crate::resolver) fn reply(owner: &str, qtype: u16) -> Arc<Reply> {
    let fetch = Fetch { name: name(owner), qtype };
    Arc::clone(REPLIES.get(&fetch).unwrap_or_else(|| panic!("no vector for {fetch:?}")))
}

/// The root's anchor alone, or with that of an island and of a zone without DS.
pub(in crate::resolver) fn anchors(which: &[&str]) -> Anchors {
    let text =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/dnssec/anchors.txt"));
    let wanted: Vec<Name> = which.iter().map(|text| name(text)).collect();
    Anchors::of(read(text).unwrap().into_iter().filter(|anchor| wanted.contains(&anchor.name)))
}

/// The keys in a reply's answer, all of them.
pub(in crate::resolver) fn keys(reply: &Reply) -> Vec<DnsKey> {
    reply.answer.iter().filter_map(DnsKey::read).collect()
}

/// The set of a reply's answer that has this type.
pub(in crate::resolver) fn set(reply: &Reply, wanted: u16) -> RrSet {
    group(&reply.answer).into_iter().find(|set| set.rtype == wanted).unwrap()
}

/// One line of a zone file: owner, TTL, class, type, data.
pub(in crate::resolver) fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [owner, ttl, "IN", kind, data @ ..] = words.as_slice() else { panic!("{line}") };
    let rtype = type_of(kind);
    let rdata = match rtype {
        rtype::A => data[0].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
        rtype::AAAA => data[0].parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec(),
        rtype::NS | rtype::CNAME | rtype::DNAME => wire(data[0]),
        rtype::MX => [&short(data[0])[..], &wire(data[1])].concat(),
        rtype::SRV => {
            [&short(data[0])[..], &short(data[1]), &short(data[2]), &wire(data[3])].concat()
        }
        rtype::TXT => {
            let text = line.split('"').nth(1).unwrap();
            [&[text.len() as u8][..], text.as_bytes()].concat()
        }
        rtype::SOA => {
            let numbers = data[2..].iter().flat_map(|word| long(word));
            [wire(data[0]), wire(data[1])].concat().into_iter().chain(numbers).collect()
        }
        rtype::DS => {
            let digest = HEXUPPER.decode(data[3..].concat().as_bytes()).unwrap();
            [&short(data[0])[..], &[byte(data[1]), byte(data[2])], &digest].concat()
        }
        rtype::DNSKEY => {
            let key = BASE64.decode(data[3..].concat().as_bytes()).unwrap();
            [&short(data[0])[..], &[byte(data[1]), byte(data[2])], &key].concat()
        }
        rtype::RRSIG => [
            &type_of(data[0]).to_be_bytes()[..],
            &[byte(data[1]), byte(data[2])],
            &long(data[3]),
            &second(data[4]).to_be_bytes(),
            &second(data[5]).to_be_bytes(),
            &short(data[6]),
            &wire(data[7]),
            &BASE64.decode(data[8..].concat().as_bytes()).unwrap(),
        ]
        .concat(),
        rtype::NSEC => [wire(data[0]), bitmap(&data[1..])].concat(),
        rtype::NSEC3 => {
            let salt = match data[3] {
                "-" => Vec::new(),
                hex => HEXUPPER.decode(hex.to_ascii_uppercase().as_bytes()).unwrap(),
            };
            let next = BASE32HEX_NOPAD.decode(data[4].to_ascii_uppercase().as_bytes()).unwrap();
            [
                &[byte(data[0]), byte(data[1])][..],
                &short(data[2]),
                &[salt.len() as u8],
                &salt,
                &[next.len() as u8],
                &next,
                &bitmap(&data[5..]),
            ]
            .concat()
        }
        51 => {
            let salt = HEXUPPER.decode(data[3].replace('-', "").to_ascii_uppercase().as_bytes());
            let salt = salt.unwrap();
            let fixed = [byte(data[0]), byte(data[1])];
            [&fixed[..], &short(data[2]), &[salt.len() as u8], &salt].concat()
        }
        _ => panic!("{line}"),
    };
    Record { owner: name(owner), rtype, class: 1, ttl: ttl.parse().unwrap(), rdata }
}

fn type_of(word: &str) -> u16 {
    const NAMES: &[(&str, u16)] = &[
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("DNAME", 39),
        ("DS", 43),
        ("RRSIG", 46),
        ("NSEC", 47),
        ("DNSKEY", 48),
        ("NSEC3", 50),
        ("NSEC3PARAM", 51),
        ("CDS", 59),
        ("CDNSKEY", 60),
        ("ANY", 255),
    ];
    let known = NAMES.iter().find(|(name, _)| *name == word);
    let number = || word.strip_prefix("TYPE").and_then(|number| number.parse().ok());
    known.map(|(_, number)| *number).or_else(number).unwrap_or_else(|| panic!("{word}"))
}

fn bitmap(words: &[&str]) -> Vec<u8> {
    let types: Vec<u16> = words.iter().map(|word| type_of(word)).collect();
    Types::of(&types).octets().to_vec()
}

/// A name with its case kept; `\DDD` in it is an octet.
pub(in crate::resolver) fn wire(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        let mut plain = Vec::new();
        let mut rest = label;
        while let Some(c) = rest.chars().next() {
            if c == '\\' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
                plain.push(rest[1..4].parse().unwrap());
                rest = &rest[4..];
            } else {
                let skip = usize::from(c == '\\');
                plain.push(rest.as_bytes()[skip]);
                rest = &rest[skip + 1..];
            }
        }
        octets.push(plain.len() as u8);
        octets.extend(plain);
    }
    octets.push(0);
    octets
}

fn byte(word: &str) -> u8 {
    word.parse().unwrap()
}

fn short(word: &str) -> [u8; 2] {
    word.parse::<u16>().unwrap().to_be_bytes()
}

fn long(word: &str) -> [u8; 4] {
    word.parse::<u32>().unwrap().to_be_bytes()
}

/// `YYYYMMDDHHMMSS` as a second since 1970.
fn second(word: &str) -> u32 {
    let part = |range: std::ops::Range<usize>| word[range].parse::<u64>().unwrap();
    let (year, month, day) = (part(0..4), part(4..6), part(6..8));
    // Days since 1970 by the civil calendar, with years that begin in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days - 719_469;
    (((days * 24 + part(8..10)) * 60 + part(10..12)) * 60 + part(12..14)) as u32
}

/// Signs what no tool would.
pub(in crate::resolver) struct Signer {
    pub(in crate::resolver) zone: Name,
    pub(in crate::resolver) key: DnsKey,
    pair: Ed25519KeyPair,
}

impl Signer {
    pub(in crate::resolver) fn new(zone: &str) -> Self {
        Self::with_flags(zone, 257)
    }

    pub(in crate::resolver) fn with_flags(zone: &str, flags: u16) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let rdata = [&flags.to_be_bytes()[..], &[3, 15], pair.public_key().as_ref()].concat();
        Self { zone: name(zone), key: DnsKey::from_rdata(&rdata).unwrap(), pair }
    }

    /// The same key with other flags, as when it is revoked.
    pub(in crate::resolver) fn turned(self, flags: u16) -> Self {
        let mut rdata = self.key.rdata();
        rdata[..2].copy_from_slice(&flags.to_be_bytes());
        Self { key: DnsKey::from_rdata(&rdata).unwrap(), ..self }
    }

    /// These records, which are one set, and an RRSIG that is in force at [`NOW`].
    pub(in crate::resolver) fn sign(&self, records: &[Record]) -> Vec<Record> {
        self.sign_as(records, |_| ())
    }

    /// The same with fields of the RRSIG changed before it is signed.
    pub(in crate::resolver) fn sign_as(
        &self,
        records: &[Record],
        change: impl FnOnce(&mut Rrsig),
    ) -> Vec<Record> {
        let mut set = group(records).remove(0);
        let labels = set.owner.suffixes().count() - 1;
        let labels = labels - usize::from(set.owner.as_wire().starts_with(b"\x01*"));
        let mut signature = Rrsig {
            covered: set.rtype,
            algorithm: 15,
            labels: labels as u8,
            original_ttl: set.ttl,
            expiration: NOW as u32 + 100_000,
            inception: NOW as u32 - 100_000,
            key_tag: self.key.tag,
            signer: self.zone.clone(),
            signature: Vec::new(),
            ttl: set.ttl,
        };
        change(&mut signature);
        let octets = set.signed_octets(&signature, &set.owner);
        signature.signature = self.pair.sign(&octets).as_ref().to_vec();
        set.signatures = vec![signature];
        set.all_records().collect()
    }

    pub(in crate::resolver) fn sign_line(&self, line: &str) -> Vec<Record> {
        self.sign(&[record(line)])
    }

    pub(in crate::resolver) fn dnskey(&self) -> Record {
        Record {
            owner: self.zone.clone(),
            rtype: rtype::DNSKEY,
            class: 1,
            ttl: 3600,
            rdata: self.key.rdata(),
        }
    }

    /// The DS record that points to this key.
    pub(in crate::resolver) fn ds(&self) -> Record {
        let octets = [self.zone.as_wire(), &self.key.rdata()].concat();
        let digest = ring::digest::digest(&ring::digest::SHA256, &octets);
        let [high, low] = self.key.tag.to_be_bytes();
        let fixed = [high, low, self.key.algorithm, digest_type::SHA256];
        Record {
            owner: self.zone.clone(),
            rtype: rtype::DS,
            class: 1,
            ttl: 3600,
            rdata: [&fixed[..], digest.as_ref()].concat(),
        }
    }

    pub(in crate::resolver) fn as_ds(&self) -> Ds {
        Ds::read(&self.ds()).unwrap()
    }
}
