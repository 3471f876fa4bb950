//! Answers that lead a browser into the house (DNS rebinding).
//!
//! Pure. A public name with a private address makes scripts of strangers speak to machines of
//! ours. Such addresses are taken out of what upstreams answer, in A and AAAA records and in the
//! hints of SVCB and HTTPS; an answer of which nothing is left is REFUSED, with EDE 15. Names
//! that may have private addresses are exempted by their zone.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::dns::records::Record;
use crate::dns::{Answer, Ede, Name, Query, RecordError, Source, rcode, rtype};

use super::addresses;
use super::prefixes::Prefixes;

/// Which addresses are private, and who may have them.
#[derive(Clone, Debug, Default)]
pub struct Rebinding {
    private: Prefixes<()>,
    /// Wire forms, sorted.
    exempt: Vec<Name>,
}

impl Rebinding {
    #[must_use]
    pub fn new(private: &[IpNet], exempt: Vec<Name>) -> Self {
        let mut prefixes = Prefixes::default();
        for prefix in private {
            prefixes.entry(*prefix, || ());
        }
        let mut exempt = exempt;
        exempt.sort_unstable();
        Self { private: prefixes, exempt }
    }

    #[must_use]
    pub fn is_off(&self) -> bool {
        self.private.is_empty()
    }

    /// What is left of an upstream's answer. None: all of it.
    ///
    /// # Errors
    ///
    /// When the answer is not one of this house.
    pub fn screen(&self, query: &Query, answer: &Answer) -> Result<Option<Answer>, RecordError> {
        if self.is_off() || answer.counts[0] == 0 {
            return Ok(None);
        }
        let mut sections = answer.sections(&query.name)?;
        let before = sections.answer.len();
        let bad: Vec<(Name, u16)> = sections
            .answer
            .iter()
            .filter(|record| self.is_bad(record))
            .map(|record| (record.owner.clone(), record.rtype))
            .collect();
        if bad.is_empty() {
            return Ok(None);
        }
        sections.answer.retain(|record| !self.is_bad(record));
        // A set that lost a member is no longer the one that was signed.
        sections.answer.retain(|record| {
            record.signature().is_none_or(|(covered, _)| {
                !bad.iter().any(|(owner, rtype)| *owner == record.owner && *rtype == covered)
            })
        });
        let wanted = |record: &Record| !matches!(record.rtype, rtype::CNAME | rtype::DNAME);
        let left = sections.answer.iter().any(|r| wanted(r) && r.signature().is_none());
        if left && sections.answer.len() < before {
            return answer.clone().with_sections(&query.name, &sections).map(Some);
        }
        let text = "a private address for a public name".to_owned();
        Ok(Some(Answer {
            source: Source::Daemon,
            ..Answer::empty(rcode::REFUSED, answer.life, Some(Ede { code: EDE_BLOCKED, text }))
        }))
    }

    fn is_bad(&self, record: &Record) -> bool {
        let private = match record.rtype {
            rtype::A | rtype::AAAA => {
                addresses::of_record(record).is_some_and(|address| self.is_private(address))
            }
            rtype::SVCB | rtype::HTTPS => hints(&record.rdata).any(|hint| self.is_private(hint)),
            _ => false,
        };
        private && !self.is_exempt(&record.owner)
    }

    fn is_private(&self, address: IpAddr) -> bool {
        self.private.around(address).next().is_some()
    }

    fn is_exempt(&self, name: &Name) -> bool {
        name.suffixes().any(|suffix| {
            self.exempt.binary_search_by(|exempt| exempt.as_wire().cmp(suffix)).is_ok()
        })
    }
}

/// The addresses in an SVCB record (RFC 9460 section 7.3); none where it is malformed.
fn hints(rdata: &[u8]) -> impl Iterator<Item = IpAddr> {
    let mut rest = rdata.get(2..).unwrap_or_default();
    // The target is not compressed.
    while let Some((&len, after)) = rest.split_first() {
        rest = after.get(usize::from(len)..).unwrap_or_default();
        if len == 0 {
            break;
        }
    }
    std::iter::from_fn(move || {
        let (&[k, e, l, n], after) = rest.split_first_chunk()?;
        let (value, next) = after.split_at_checked(usize::from(u16::from_be_bytes([l, n])))?;
        rest = next;
        Some((u16::from_be_bytes([k, e]), value))
    })
    .flat_map(|(key, value)| {
        let size = match key {
            KEY_IPV4HINT => 4,
            KEY_IPV6HINT => 16,
            // As many as there are, and none of them.
            _ => value.len() + 1,
        };
        value.chunks_exact(size).filter_map(|octets| {
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
        })
    })
}

const KEY_IPV4HINT: u16 = 4;
const KEY_IPV6HINT: u16 = 6;

/// RFC 8914 section 4.16.
const EDE_BLOCKED: u16 = 15;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::Sections;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn address(owner: &str, address: &str) -> Record {
        let (rtype, rdata) = match address.parse().unwrap() {
            IpAddr::V4(v4) => (rtype::A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (rtype::AAAA, v6.octets().to_vec()),
        };
        Record { owner: name(owner), rtype, class: 1, ttl: 60, rdata }
    }

    fn house() -> Rebinding {
        let private = ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8", "127.0.0.0/8"];
        let private: Vec<IpNet> = private.map(|text| text.parse().unwrap()).to_vec();
        Rebinding::new(&private, vec![name("corp.example."), name("b.test.")])
    }

    fn query(text: &str, qtype: u16) -> Query {
        let name = name(text);
        Query { name, qtype, dnssec_ok: false, checking_disabled: false, view: 0 }
    }

    /// What is left: "all", "refused", or the number of records.
    fn left(house: &Rebinding, text: &str, records: &[Record]) -> String {
        let query = query(text, rtype::A);
        let sections = Sections { answer: records.to_vec(), ..Sections::default() };
        let bare = Answer::empty(rcode::NOERROR, Duration::from_secs(60), None);
        let answer = bare.with_sections(&query.name, &sections).unwrap();
        match house.screen(&query, &answer).unwrap() {
            None => "all".into(),
            Some(answer) if answer.rcode == rcode::REFUSED => "refused".into(),
            Some(answer) => answer.counts[0].to_string(),
        }
    }

    #[test]
    fn private_addresses_of_public_names_are_taken_out() {
        let house = house();
        for (records, expected) in [
            (&["192.0.2.1"][..], "all"),
            (&["10.1.2.3"], "refused"),
            (&["192.0.2.1", "10.1.2.3", "127.0.0.1"], "1"),
            (&["fd00::1"], "refused"),
            (&["::ffff:10.1.2.3"], "refused"),
            (&["2001:db8::1", "fd00::1"], "1"),
            (&[], "all"),
        ] {
            let records: Vec<Record> =
                records.iter().map(|text| address("www.evil.test.", text)).collect();
            assert_eq!(left(&house, "www.evil.test.", &records), expected, "{records:?}");
        }
        let off = Rebinding::default();
        assert_eq!(left(&off, "a.test.", &[address("a.test.", "10.0.0.1")]), "all");
    }

    #[test]
    fn it_is_the_owner_of_the_address_that_may_have_it() {
        let house = house();
        for (owner, expected) in [
            ("www.corp.example.", "all"),
            ("corp.example.", "all"),
            ("b.test.", "all"),
            ("mycorp.example.", "refused"),
            ("example.", "refused"),
        ] {
            assert_eq!(left(&house, "a.test.", &[address(owner, "10.0.0.1")]), expected, "{owner}");
        }
    }

    #[test]
    fn an_alias_alone_is_no_answer_and_signatures_go_with_their_set() {
        let house = house();
        let alias = Record {
            rtype: rtype::CNAME,
            rdata: name("x.evil.test.").as_wire().to_vec(),
            ..address("www.evil.test.", "10.0.0.1")
        };
        let bad = address("x.evil.test.", "10.0.0.1");
        assert_eq!(left(&house, "www.evil.test.", &[alias.clone(), bad.clone()]), "refused");
        let mut rdata = rtype::A.to_be_bytes().to_vec();
        rdata.extend_from_slice(&[0; 16]);
        rdata.extend_from_slice(b"\x04test\0sig");
        let signature = Record { rtype: rtype::RRSIG, rdata, ..bad.clone() };
        let good = address("x.evil.test.", "192.0.2.1");
        let all = [alias, good, bad, signature];
        assert_eq!(left(&house, "www.evil.test.", &all), "2");
        assert_eq!(left(&house, "www.evil.test.", &all[2..]), "refused");
    }

    #[test]
    fn hints_are_addresses_as_well() {
        let house = house();
        let https = |params: &[u8]| Record {
            rtype: rtype::HTTPS,
            rdata: [b"\0\x01\x03www\x04test\0", params].concat(),
            ..address("www.evil.test.", "192.0.2.1")
        };
        for (params, expected) in [
            (&b"\0\x03\0\x02\x20\xfb"[..], "all"),
            (b"\0\x04\0\x04\xc0\0\x02\x01", "all"),
            (b"\0\x04\0\x08\xc0\0\x02\x01\x0a\0\0\x01", "refused"),
            (b"\0\x06\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", "refused"),
            (b"\0\x04\0\x09", "all"),
            (b"", "all"),
        ] {
            assert_eq!(left(&house, "www.evil.test.", &[https(params)]), expected, "{params:?}");
        }
    }
}
