//! Names from files in the form of `/etc/hosts` (hosts(5)), with the reverse tree.
//!
//! Pure: text in, answers out. A name has the addresses of all its lines and nothing else, so
//! that a question for another type is a NODATA; an address leads back to the first name of its
//! first line. Names that are in no file are left to others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use crate::dns::records::{Record, compose};
use crate::dns::{Answer, Name, Query, Source, rcode, rtype};

use super::addresses;
use super::names::NameTable;

/// The names of all files.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: NameTable,
    /// The lists of addresses that names have; most names of a block list share one.
    lists: Vec<Vec<IpAddr>>,
    reverse: HashMap<IpAddr, Name>,
}

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct HostsError {
    pub line: usize,
    pub message: String,
}

/// Takes in one file after the other.
#[derive(Debug, Default)]
pub struct Reader {
    hosts: Hosts,
    known: HashMap<Vec<IpAddr>, u32>,
}

impl Reader {
    /// Takes in a whole file.
    ///
    /// # Errors
    ///
    /// The first line that is no line of such a file.
    pub fn read(&mut self, text: &[u8]) -> Result<(), HostsError> {
        for (at, line) in text.split(|octet| *octet == b'\n').enumerate() {
            self.line(line).map_err(|message| HostsError { line: at + 1, message })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let line = line.split(|octet| *octet == b'#').next().unwrap_or_default();
        if line.len() > LINE_OCTETS_MAX {
            return Err(format!("it has more than {LINE_OCTETS_MAX} octets"));
        }
        let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { return Ok(()) };
        // Link-local addresses come with their interface, which DNS cannot say.
        let bare = first.split_once('%').map_or(first, |(address, _)| address);
        let address = IpAddr::from_str(bare)
            .map_err(|_| format!("`{}` is no address", first.escape_default()))?;
        let mut named = false;
        for word in words {
            let name = Name::from_str(word)
                .ok()
                .filter(|_| word.is_ascii())
                .ok_or_else(|| format!("`{}` is no name", word.escape_default()))?;
            if !named && !address.is_unspecified() {
                self.hosts.reverse.entry(address).or_insert_with(|| name.clone());
            }
            named = true;
            self.add(&name, address)?;
        }
        if named { Ok(()) } else { Err(format!("there is no name after `{first}`")) }
    }

    fn add(&mut self, name: &Name, address: IpAddr) -> Result<(), String> {
        let Hosts { names, lists, .. } = &mut self.hosts;
        let before = names.find(name.as_wire()).and_then(|at| lists.get(at as usize));
        let mut list = before.cloned().unwrap_or_default();
        if list.contains(&address) {
            return Ok(());
        }
        if list.len() == ADDRESSES_MAX {
            return Err(format!("`{name}` has more than {ADDRESSES_MAX} addresses"));
        }
        if names.len() == HOSTS_MAX && before.is_none() {
            return Err(format!("there are more than {HOSTS_MAX} names"));
        }
        list.push(address);
        let at = *self.known.entry(list).or_insert_with_key(|list| {
            lists.push(list.clone());
            // There are no more lists than names and their addresses.
            (lists.len() - 1) as u32
        });
        names.insert(name.as_wire(), at).map_err(|full| full.to_string())?;
        Ok(())
    }

    #[must_use]
    pub fn finish(mut self) -> Hosts {
        self.hosts.names.tidy();
        self.hosts
    }
}

impl Hosts {
    /// None: no file has the name.
    #[must_use]
    pub fn answer(&self, query: &Query) -> Option<Answer> {
        if self.names.is_empty() {
            return None;
        }
        let record = |rtype, rdata| Record {
            owner: query.name.clone(),
            rtype,
            class: CLASS_IN,
            ttl: TTL_SECS,
            rdata,
        };
        if let Some(at) = self.names.find(query.name.as_wire()) {
            let all = self.lists.get(at as usize)?;
            let (v4, v6) = match query.qtype {
                rtype::A => (true, false),
                rtype::AAAA => (false, true),
                rtype::ANY => (true, true),
                _ => (false, false),
            };
            let records: Vec<Record> = all
                .iter()
                .filter_map(|address| match address {
                    IpAddr::V4(a) if v4 => Some(record(rtype::A, a.octets().to_vec())),
                    IpAddr::V6(a) if v6 => Some(record(rtype::AAAA, a.octets().to_vec())),
                    _ => None,
                })
                .collect();
            return Some(answer(query, &records));
        }
        let name = self.reverse.get(&addresses::of_name(&query.name)?)?;
        let wanted = matches!(query.qtype, rtype::PTR | rtype::ANY);
        let record = wanted.then(|| record(rtype::PTR, name.as_wire().to_vec()));
        Some(answer(query, record.as_slice()))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Without records, an SOA of the name itself lets clients keep the denial (RFC 2308).
fn answer(query: &Query, records: &[Record]) -> Answer {
    let mut soa = Vec::new();
    if records.is_empty() {
        let mut rdata = query.name.as_wire().to_vec();
        rdata.extend_from_slice(b"\x06nobody\x07invalid\0");
        for number in [1, 3_600, 1_200, 604_800, TTL_SECS] {
            rdata.extend_from_slice(&number.to_be_bytes());
        }
        soa.push(Record {
            owner: query.name.clone(),
            rtype: rtype::SOA,
            class: CLASS_IN,
            ttl: TTL_SECS,
            rdata,
        });
    }
    let Ok(body) = compose(&query.name, [records, &soa, &[]]) else {
        return Answer::empty(rcode::SERVFAIL, Duration::ZERO, None);
    };
    Answer {
        authoritative: true,
        counts: body.counts,
        body: body.octets,
        ttl_offsets: body.ttl_offsets,
        life: Duration::from_secs(TTL_SECS.into()),
        source: Source::Local(query.name.clone()),
        ..Answer::empty(rcode::NOERROR, Duration::ZERO, None)
    }
}

/// Names of all files: several of the large block lists.
pub const HOSTS_MAX: usize = 4_000_000;
/// Addresses of one name: more would not fit into a datagram.
pub const ADDRESSES_MAX: usize = 64;
/// A line longer than this is no line of such a file.
const LINE_OCTETS_MAX: usize = 4_096;

/// As for records of local zones without a TTL.
const TTL_SECS: u32 = 300;
const CLASS_IN: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# the machine itself
127.0.0.1\tlocalhost
::1 localhost ip6-localhost
10.0.0.1  Printer.Office.test printer   # on the left
10.0.0.2 printer.office.test
2001:db8::1 printer.office.test
0.0.0.0 ads.test tracker.test

fe80::1%eth0 near.test\r
";

    fn hosts(text: &str) -> Hosts {
        let mut reader = Reader::default();
        reader.read(text.as_bytes()).unwrap();
        reader.finish()
    }

    fn ask(hosts: &Hosts, name: &str, qtype: u16) -> Option<Vec<String>> {
        let query = Query {
            name: name.parse().unwrap(),
            qtype,
            dnssec_ok: false,
            checking_disabled: false,
            view: 0,
        };
        let answer = hosts.answer(&query)?;
        let sections = answer.sections(&query.name).unwrap();
        assert_eq!(sections.answer.is_empty(), sections.authority.len() == 1);
        let text = |record: &Record| match addresses::of_record(record) {
            Some(address) => address.to_string(),
            None => Name::from_wire(&record.rdata).unwrap().to_string(),
        };
        Some(sections.answer.iter().map(text).collect())
    }

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines_and_no_other_type() {
        let hosts = hosts(FILE);
        let some = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
        for (name, qtype, expected) in [
            ("printer.office.test.", rtype::A, some(&["10.0.0.1", "10.0.0.2"])),
            ("PRINTER.office.test.", rtype::AAAA, some(&["2001:db8::1"])),
            ("printer.", rtype::A, some(&["10.0.0.1"])),
            ("printer.", rtype::AAAA, some(&[])),
            ("printer.", rtype::MX, some(&[])),
            ("ads.test.", rtype::A, some(&["0.0.0.0"])),
            ("near.test.", rtype::AAAA, some(&["fe80::1"])),
            ("x.printer.office.test.", rtype::A, None),
            ("office.test.", rtype::A, None),
        ] {
            assert_eq!(ask(&hosts, name, qtype), expected, "{name} {qtype}");
        }
        assert_eq!(hosts.len(), 7);
    }

    #[test]
    fn an_address_leads_back_to_the_first_name_of_its_first_line() {
        let hosts = hosts(FILE);
        let ptr = |address: &str| {
            let name = addresses::name_of(address.parse().unwrap()).to_string();
            ask(&hosts, &name, rtype::PTR)
        };
        assert_eq!(ptr("10.0.0.1"), Some(vec!["printer.office.test.".into()]));
        assert_eq!(ptr("::1"), Some(vec!["localhost.".into()]));
        assert_eq!(ptr("0.0.0.0"), None, "what leads nowhere leads back to nobody");
        assert_eq!(ptr("10.0.0.3"), None);
        let name = addresses::name_of("10.0.0.1".parse().unwrap()).to_string();
        assert_eq!(ask(&hosts, &name, rtype::A), Some(Vec::new()));
    }

    #[test]
    fn a_line_that_is_none_is_told_with_its_number() {
        for (text, said) in [
            ("127.0.0.1 a\nlocalhost 127.0.0.1\n", "line 2: `localhost` is no address"),
            ("127.0.0.1\n", "line 1: there is no name after `127.0.0.1`"),
            ("127.0.0.1 a..b\n", "line 1: `a..b` is no name"),
            ("127.0.0.1 b\u{fc}cher.test\n", "is no name"),
        ] {
            let error = Reader::default().read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        assert!(Reader::default().read(&[0xff; 9]).is_err());
        let long = format!("127.0.0.1 {}", "a ".repeat(LINE_OCTETS_MAX));
        assert!(Reader::default().read(long.as_bytes()).is_err());
    }
}
