//! IPv6 addresses for names that have IPv4 ones only (RFC 6147), by the mapping of RFC 6052.
//!
//! Pure: says whether a second question is needed, and makes one answer of both. The reverse
//! tree of the prefix leads to that of IPv4 by an alias.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::dns::records::Record;
use crate::dns::{Answer, Query, RecordError, Sections, Source, rcode, rtype};

use super::addresses;
use super::prefixes::Prefixes;
use super::said::Alias;

/// How addresses are mapped, and which are not.
#[derive(Clone, Debug)]
pub struct Dns64 {
    prefix: Ipv6Net,
    /// AAAA records that count as none.
    exclude: Prefixes<()>,
    /// IPv4 addresses that are not mapped.
    exclude_a: Prefixes<()>,
}

impl Dns64 {
    /// None: the prefix has none of the lengths of RFC 6052 section 2.2.
    #[must_use]
    pub fn new(prefix: Ipv6Net, exclude: &[IpNet], exclude_a: &[IpNet]) -> Option<Self> {
        if !LENGTHS.contains(&prefix.prefix_len()) {
            return None;
        }
        let list = |nets: &[IpNet]| {
            let mut list = Prefixes::default();
            nets.iter().for_each(|net| {
                list.entry(*net, || ());
            });
            list
        };
        let mut exclude_a = list(exclude_a);
        // RFC 6052 section 3.1: the well-known prefix stands for global addresses only.
        if prefix.addr() == WELL_KNOWN {
            for net in PRIVATE {
                if let Ok(net) = net.parse() {
                    exclude_a.entry(net, || ());
                }
            }
        }
        let mut exclude = list(exclude);
        // RFC 6147 section 5.1.4: an IPv4 address in IPv6's clothes is none.
        if let Ok(mapped) = MAPPED.parse() {
            exclude.entry(mapped, || ());
        }
        Some(Self { prefix: prefix.trunc(), exclude, exclude_a })
    }

    /// The question whose answer is needed as well, given the answer for AAAA.
    ///
    /// # Errors
    ///
    /// When the answer is not one of this house.
    pub fn needs(&self, query: &Query, answer: &Answer) -> Result<Option<Query>, RecordError> {
        // RFC 6147 section 5.5: who validates by himself gets what there is.
        let validates = query.dnssec_ok && query.checking_disabled;
        // Section 5.1.2: NXDOMAIN is believed; any other failure is as good as "no data".
        if query.qtype != rtype::AAAA || validates || answer.rcode == rcode::NXDOMAIN {
            return Ok(None);
        }
        if answer.rcode == rcode::REFUSED {
            // Ours, or an upstream's word on who may ask: A would end the same way.
            return Ok(None);
        }
        if answer.rcode == rcode::NOERROR && answer.counts[0] > 0 {
            let sections = answer.sections(&query.name)?;
            let counts = |r: &Record| r.rtype == rtype::AAAA && !self.is_excluded(r);
            if sections.answer.iter().any(counts) {
                return Ok(None);
            }
        }
        Ok(Some(Query { qtype: rtype::A, ..query.clone() }))
    }

    /// The answer for AAAA made of the one for A. None: there is nothing to make it of, and the
    /// one for AAAA stands.
    ///
    /// # Errors
    ///
    /// When an answer is not one of this house, or the new one is too long.
    pub fn synthesise(
        &self,
        query: &Query,
        aaaa: &Answer,
        a: Answer,
    ) -> Result<Option<Answer>, RecordError> {
        if a.rcode != rcode::NOERROR {
            return Ok(None);
        }
        let found = a.sections(&query.name)?;
        // Section 5.1.7: no longer than the denial would have been believed.
        let denied = aaaa.sections(&query.name)?;
        let soa = denied.authority.iter().find(|record| record.rtype == rtype::SOA);
        let ttl_max = soa.map_or(TTL_MAX_SECS, |soa| soa.ttl);
        let mut made = false;
        let answer: Vec<Record> = found
            .answer
            .iter()
            .filter_map(|record| match record.rtype {
                rtype::A => {
                    let mapped = self.map(<[u8; 4]>::try_from(&*record.rdata).ok()?.into())?;
                    made = true;
                    Some(Record {
                        rtype: rtype::AAAA,
                        ttl: record.ttl.min(ttl_max),
                        rdata: mapped.octets().to_vec(),
                        ..record.clone()
                    })
                }
                rtype::CNAME | rtype::DNAME => Some(record.clone()),
                // Signatures are of records that are not sent.
                _ => None,
            })
            .collect();
        if !made {
            return Ok(None);
        }
        let sections = Sections { answer, ..Sections::default() };
        a.with_sections(&query.name, &sections).map(Some)
    }

    /// Section 5.3.1: the name of a mapped address is the name of the address that it stands for.
    #[must_use]
    pub fn reverse(&self, query: &Query) -> Option<Alias> {
        let Some(IpAddr::V6(address)) = addresses::of_name(&query.name) else { return None };
        let target = addresses::name_of(self.unmap(address)?.into());
        Some(Alias {
            records: vec![Record {
                owner: query.name.clone(),
                rtype: rtype::CNAME,
                class: 1,
                ttl: TTL_MAX_SECS,
                rdata: target.as_wire().to_vec(),
            }],
            target,
            authoritative: false,
            ede: None,
            source: Source::Daemon,
        })
    }

    fn is_excluded(&self, record: &Record) -> bool {
        // An IPv4-mapped address is meant as it is written here.
        let Ok(octets) = <[u8; 16]>::try_from(&*record.rdata) else { return true };
        let whole = IpNet::from(IpAddr::V6(octets.into()));
        self.exclude.covering(whole).next().is_some()
    }

    /// RFC 6052 section 2.2: octet 8 stays zero.
    fn map(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        if self.exclude_a.around(address.into()).next().is_some() {
            return None;
        }
        let mut octets = self.prefix.addr().octets();
        for (place, octet) in self.places().zip(address.octets()) {
            octets[place] = octet;
        }
        Some(octets.into())
    }

    fn unmap(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !self.prefix.contains(&address) {
            return None;
        }
        let octets = address.octets();
        let mut v4 = [0; 4];
        for (octet, place) in v4.iter_mut().zip(self.places()) {
            *octet = octets[place];
        }
        let whole = self.map(v4.into())?;
        // Bits behind the address stand for nothing that we know.
        (whole == address).then(|| v4.into())
    }

    /// Where the octets of an IPv4 address stand.
    fn places(&self) -> impl Iterator<Item = usize> {
        let first = usize::from(self.prefix.prefix_len() / 8);
        (first..16).filter(|&place| place != 8).take(4)
    }
}

/// How long an answer without SOA for AAAA may be believed (RFC 6147 section 5.1.7).
const TTL_MAX_SECS: u32 = 600;

const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
const MAPPED: &str = "::ffff:0:0/96";
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
/// Addresses that are not global (RFC 6890), as far as a name could have one.
const PRIVATE: [&str; 8] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::Name;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn dns64(prefix: &str) -> Dns64 {
        let exclude = ["2001:db8:bad::/48".parse().unwrap()];
        let exclude_a = ["198.51.100.0/24".parse().unwrap()];
        Dns64::new(prefix.parse().unwrap(), &exclude, &exclude_a).unwrap()
    }

    fn query(text: &str, qtype: u16) -> Query {
        let name = name(text);
        Query { name, qtype, dnssec_ok: false, checking_disabled: false, view: 0 }
    }

    fn record(owner: &str, ttl: u32, address: &str) -> Record {
        let (rtype, rdata) = match address.parse() {
            Ok(IpAddr::V4(v4)) => (rtype::A, v4.octets().to_vec()),
            Ok(IpAddr::V6(v6)) => (rtype::AAAA, v6.octets().to_vec()),
            Err(_) => (rtype::CNAME, name(address).as_wire().to_vec()),
        };
        Record { owner: name(owner), rtype, class: 1, ttl, rdata }
    }

    fn answer(rcode: u8, records: &[Record], soa_ttl: Option<u32>) -> Answer {
        let soa = |ttl| Record {
            rtype: rtype::SOA,
            rdata: [&b"\x04test\0\x01h\0"[..], &[0; 20]].concat(),
            ..record("test.", ttl, "test.")
        };
        let sections = Sections {
            answer: records.to_vec(),
            authority: soa_ttl.map(soa).into_iter().collect(),
            ..Sections::default()
        };
        let bare = Answer::empty(rcode, Duration::from_secs(3_600), None);
        bare.with_sections(&name("www.test."), &sections).unwrap()
    }

    #[test]
    fn rfc_6052_section_2_4_every_length_of_prefix_maps_there_and_back() {
        for (prefix, mapped) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let dns64 = dns64(prefix);
            let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 33), mapped.parse().unwrap());
            assert_eq!(dns64.map(v4), Some(v6), "{prefix}");
            assert_eq!(dns64.unmap(v6), Some(v4), "{prefix}");
        }
        assert!(Dns64::new("2001:db8::/33".parse().unwrap(), &[], &[]).is_none());
    }

    #[test]
    fn rfc_6147_section_5_1_a_second_question_is_asked_where_there_is_no_aaaa() {
        let dns64 = dns64("64:ff9b::/96");
        let real = record("www.test.", 60, "2001:db8::1");
        let excluded = record("www.test.", 60, "2001:db8:bad::1");
        let mapped = record("www.test.", 60, "::ffff:192.0.2.1");
        let alias = record("www.test.", 60, "b.test.");
        for (rcode, records, needed) in [
            (rcode::NOERROR, vec![], true),
            (rcode::NOERROR, vec![real.clone()], false),
            (rcode::NOERROR, vec![excluded.clone()], true),
            (rcode::NOERROR, vec![mapped], true),
            (rcode::NOERROR, vec![excluded, real], false),
            (rcode::NOERROR, vec![alias], true),
            (rcode::NXDOMAIN, vec![], false),
            (rcode::SERVFAIL, vec![], true),
            (rcode::REFUSED, vec![], false),
        ] {
            let needs =
                dns64.needs(&query("www.test.", rtype::AAAA), &answer(rcode, &records, None));
            assert_eq!(needs.unwrap().is_some(), needed, "{rcode} {records:?}");
        }
        let none = answer(rcode::NOERROR, &[], None);
        assert_eq!(dns64.needs(&query("www.test.", rtype::A), &none), Ok(None));
        // Section 5.5: DO and CD together.
        for (dnssec_ok, checking_disabled, needed) in
            [(true, true, false), (true, false, true), (false, true, true)]
        {
            let query = Query { dnssec_ok, checking_disabled, ..query("www.test.", rtype::AAAA) };
            assert_eq!(dns64.needs(&query, &none).unwrap().is_some(), needed);
        }
    }

    #[test]
    fn addresses_are_mapped_the_aliases_kept_and_the_shorter_time_taken() {
        let dns64 = dns64("2001:db8:64::/96");
        let query = query("www.test.", rtype::AAAA);
        let a = [
            record("www.test.", 500, "b.test."),
            record("b.test.", 400, "192.0.2.1"),
            record("b.test.", 400, "198.51.100.7"),
            record("b.test.", 400, "10.0.0.1"),
        ];
        let a = answer(rcode::NOERROR, &a, None);
        let denial = answer(rcode::NOERROR, &[], Some(30));
        let made = dns64.synthesise(&query, &denial, a.clone()).unwrap().unwrap();
        assert!(!made.secure);
        let found = made.sections(&query.name).unwrap().answer;
        assert_eq!(
            found,
            [
                record("www.test.", 500, "b.test."),
                record("b.test.", 30, "2001:db8:64::192.0.2.1"),
                record("b.test.", 30, "2001:db8:64::10.0.0.1"),
            ]
        );
        let without = answer(rcode::SERVFAIL, &[], None);
        let made = dns64.synthesise(&query, &without, a).unwrap().unwrap();
        assert_eq!(made.sections(&query.name).unwrap().answer[1].ttl, 400);
        for useless in [
            answer(rcode::NOERROR, &[], Some(30)),
            answer(rcode::NXDOMAIN, &[], Some(30)),
            answer(rcode::NOERROR, &[record("www.test.", 9, "198.51.100.7")], None),
        ] {
            assert_eq!(dns64.synthesise(&query, &denial, useless), Ok(None));
        }
    }

    #[test]
    fn the_well_known_prefix_stands_for_global_addresses_only() {
        let dns64 = dns64("64:ff9b::/96");
        assert_eq!(dns64.map(Ipv4Addr::new(10, 0, 0, 1)), None);
        assert!(dns64.map(Ipv4Addr::new(192, 0, 2, 1)).is_some());
    }

    #[test]
    fn rfc_6147_section_5_3_1_the_reverse_tree_of_the_prefix_is_an_alias() {
        let dns64 = dns64("64:ff9b::/96");
        let reverse = |address: &str| {
            let name = addresses::name_of(address.parse().unwrap());
            let query = Query { name, ..query(".", rtype::PTR) };
            dns64.reverse(&query).map(|alias| alias.target.to_string())
        };
        assert_eq!(reverse("64:ff9b::192.0.2.1"), Some("1.2.0.192.in-addr.arpa.".into()));
        assert_eq!(reverse("64:ff9b:1::192.0.2.1"), None);
        assert_eq!(reverse("192.0.2.1"), None);
        assert_eq!(reverse("64:ff9b::198.51.100.1"), None, "an address that is not mapped");
    }
}
