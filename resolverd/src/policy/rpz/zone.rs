//! One policy zone in memory: triggers and what is to be done, a million of them in some
//! thirty octets each and their names.
//!
//! Pure. A copy is a few copies of memory: a changed zone is made beside the one in use and
//! takes its place. What the records of a zone say is what draft-vixie-dnsop-dns-rpz-00 has in
//! its sections 3 and 4.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::dns::records::Record;
use crate::dns::{Name, rtype};

use super::super::addresses::labels;
use super::super::names::{Full, NameTable};
use super::super::prefixes::Prefixes;
use super::trigger::{self, Trigger, TriggerError};

/// See the module.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: Name,
    soa: Option<Record>,
    /// By name, wildcards with their asterisk.
    qnames: NameTable,
    ns_names: NameTable,
    client_ips: Prefixes<u32>,
    ips: Prefixes<u32>,
    ns_ips: Prefixes<u32>,
    /// Local data; rules that say the same share it. What is no longer in use stays until the
    /// zone is read anew.
    data: Vec<Arc<[Datum]>>,
    known: HashMap<Arc<[Datum]>, u32>,
    /// Another one each time that something changed by which an answer that stood may fall to a
    /// rule about servers: such a rule, or one that kept others from deciding.
    mark: Option<Arc<()>>,
    remarked: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Nxdomain,
    Nodata,
    /// No further rule concerns this.
    Passthru,
    Drop,
    /// Answered over streams only.
    TcpOnly,
    /// These records, and no others.
    Data(Arc<[Datum]>),
}

/// A record of local data, without its owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datum {
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Box<[u8]>,
}

/// Why a record is not taken into a policy zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    #[error(transparent)]
    Full(#[from] Full),
    #[error("more than {RULES_MAX} rules")]
    TooMany,
    #[error("more than {DATA_MAX} different sets of local data")]
    TooMuchData,
    #[error("more than {CLIENTS_MAX} prefixes of clients, which the kernel has to be told")]
    TooManyClients,
    #[error("`{0}` has more than {SET_MAX} records")]
    Set(Name),
}

impl Zone {
    #[must_use]
    pub fn new(origin: Name) -> Self {
        Self {
            origin,
            soa: None,
            qnames: NameTable::default(),
            ns_names: NameTable::default(),
            client_ips: Prefixes::default(),
            ips: Prefixes::default(),
            ns_ips: Prefixes::default(),
            data: Vec::new(),
            known: HashMap::new(),
            mark: None,
            remarked: false,
        }
    }

    /// Takes a record in. Records at the zone's own name, DNSSEC and delegations say nothing.
    ///
    /// # Errors
    ///
    /// See [`RuleError`].
    pub fn insert(&mut self, record: Record) -> Result<(), RuleError> {
        let Some(trigger) = self.trigger(&record)? else {
            if record.rtype == rtype::SOA {
                self.soa = Some(record);
            }
            return Ok(());
        };
        let code = match special(&record, &trigger) {
            Some(code) => code,
            None => {
                let datum =
                    Datum { rtype: record.rtype, ttl: record.ttl, rdata: record.rdata.into() };
                let before = self.code(&trigger).and_then(|code| self.data_of(code));
                let mut set = before.map_or_else(Vec::new, |set| set.to_vec());
                if set.iter().any(|d| d.rtype == datum.rtype && d.rdata == datum.rdata) {
                    return Ok(());
                }
                if set.len() == SET_MAX {
                    return Err(RuleError::Set(record.owner));
                }
                set.push(datum);
                self.intern(set)?
            }
        };
        self.set(&trigger, code)
    }

    /// Takes a record out. One that is not there is no error: the next whole transfer mends it.
    ///
    /// # Errors
    ///
    /// See [`RuleError`].
    pub fn remove(&mut self, record: &Record) -> Result<(), RuleError> {
        let Some(trigger) = self.trigger(record)? else { return Ok(()) };
        let Some(code) = self.code(&trigger) else { return Ok(()) };
        let Some(set) = self.data_of(code) else {
            if special(record, &trigger) == Some(code) {
                self.unset(&trigger);
            }
            return Ok(());
        };
        let gone = |d: &Datum| d.rtype == record.rtype && *d.rdata == *record.rdata;
        let left: Vec<Datum> = set.iter().filter(|datum| !gone(datum)).cloned().collect();
        if left.is_empty() {
            self.unset(&trigger);
            return Ok(());
        }
        let code = self.intern(left)?;
        self.set(&trigger, code)
    }

    fn trigger(&self, record: &Record) -> Result<Option<Trigger>, TriggerError> {
        // Signatures and denials of a signed policy zone are none of its rules.
        let about = matches!(
            record.rtype,
            rtype::NS | rtype::DS | rtype::DNSKEY | rtype::RRSIG | rtype::NSEC | rtype::NSEC3 | 51
        );
        if about { Ok(None) } else { trigger::read(&record.owner, &self.origin) }
    }

    /// Ends the reading: gives back what was only for it.
    pub fn finish(&mut self) {
        self.qnames.tidy();
        self.ns_names.tidy();
        self.data.shrink_to_fit();
        if std::mem::take(&mut self.remarked) {
            self.mark = Some(Arc::new(()));
        }
    }

    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    #[must_use]
    pub fn soa(&self) -> Option<&Record> {
        self.soa.as_ref()
    }

    /// The serial of its SOA (RFC 1982 arithmetic applies).
    #[must_use]
    pub fn serial(&self) -> Option<u32> {
        let rdata = &self.soa.as_ref()?.rdata;
        let numbers = rdata.len().checked_sub(20)?;
        rdata.get(numbers..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let prefixes = self.client_ips.len() + self.ips.len() + self.ns_ips.len();
        self.qnames.len() + self.ns_names.len() + prefixes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an answer has to be looked at before it is known what this zone says of it.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.ips.is_empty() || self.judges_servers()
    }

    /// Whether there is any rule about servers.
    #[must_use]
    pub fn judges_servers(&self) -> bool {
        !(self.ns_ips.is_empty() && self.ns_names.is_empty())
    }

    /// Whether no answer that stood by the other falls to a rule about servers by this one.
    #[must_use]
    pub fn is_marked_like(&self, other: &Self) -> bool {
        match (&self.mark, &other.mark) {
            (Some(mark), Some(other)) => Arc::ptr_eq(mark, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// The memory of its names, in octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.qnames.octets() + self.ns_names.octets()
    }

    /// The prefixes of clients with a rule.
    pub fn clients(&self) -> impl Iterator<Item = IpNet> {
        self.client_ips.iter().map(|(prefix, _)| *prefix)
    }

    /// The rule for a name that is asked for: its own, else the nearest wildcard's.
    #[must_use]
    pub fn qname(&self, name: &Name) -> Option<(Trigger, Action)> {
        let (name, code) = find(&self.qnames, name)?;
        Some((Trigger::Qname(name), self.action(code)))
    }

    /// The rule for one of the names of servers: for the one that comes first in the order of
    /// DNSSEC, if there are several.
    #[must_use]
    pub fn ns_name(&self, servers: &[Name]) -> Option<(Trigger, Action)> {
        let found =
            servers.iter().filter_map(|server| Some((server, find(&self.ns_names, server)?)));
        let (_, (name, code)) = found.min_by_key(|(server, _)| {
            let mut order: Vec<&[u8]> = labels(server).collect();
            order.reverse();
            order
        })?;
        Some((Trigger::NsDname(name), self.action(code)))
    }

    #[must_use]
    pub fn client(&self, address: IpAddr) -> Option<(Trigger, Action)> {
        let (prefix, code) = self.client_ips.around(address).next()?;
        Some((Trigger::ClientIp(prefix), self.action(*code)))
    }

    #[must_use]
    pub fn ip(&self, addresses: &[IpAddr]) -> Option<(Trigger, Action)> {
        let (prefix, code) = narrowest(&self.ips, addresses)?;
        Some((Trigger::Ip(prefix), self.action(code)))
    }

    #[must_use]
    pub fn ns_ip(&self, addresses: &[IpAddr]) -> Option<(Trigger, Action)> {
        let (prefix, code) = narrowest(&self.ns_ips, addresses)?;
        Some((Trigger::NsIp(prefix), self.action(code)))
    }

    /// All rules, in no order.
    pub fn rules(&self) -> impl Iterator<Item = (Trigger, Action)> {
        let name = |(wire, code): (&[u8], u32)| Some((Name::from_wire(wire).ok()?, code));
        let qnames = self.qnames.iter().filter_map(name).map(|(n, c)| (Trigger::Qname(n), c));
        let servers = self.ns_names.iter().filter_map(name).map(|(n, c)| (Trigger::NsDname(n), c));
        let prefixes = |rules: &'_ Prefixes<u32>, of: fn(IpNet) -> Trigger| {
            rules.iter().map(|(net, code)| (of(*net), *code)).collect::<Vec<_>>()
        };
        let clients = prefixes(&self.client_ips, Trigger::ClientIp);
        let ips = prefixes(&self.ips, Trigger::Ip);
        let ns_ips = prefixes(&self.ns_ips, Trigger::NsIp);
        let all = qnames.chain(servers).chain(clients).chain(ips).chain(ns_ips);
        all.map(|(trigger, code)| (trigger, self.action(code)))
    }

    /// Has a rule say this and nothing else.
    ///
    /// # Errors
    ///
    /// See [`RuleError`].
    pub fn put(&mut self, trigger: &Trigger, action: &Action) -> Result<(), RuleError> {
        let code = match action {
            Action::Nxdomain => NXDOMAIN,
            Action::Nodata => NODATA,
            Action::Passthru => PASSTHRU,
            Action::Drop => DROP,
            Action::TcpOnly => TCP_ONLY,
            Action::Data(set) => self.intern(set.to_vec())?,
        };
        self.set(trigger, code)
    }

    fn code(&self, trigger: &Trigger) -> Option<u32> {
        match trigger {
            Trigger::Qname(name) => self.qnames.find(name.as_wire()),
            Trigger::NsDname(name) => self.ns_names.find(name.as_wire()),
            Trigger::ClientIp(prefix) => self.client_ips.exact(prefix).copied(),
            Trigger::Ip(prefix) => self.ips.exact(prefix).copied(),
            Trigger::NsIp(prefix) => self.ns_ips.exact(prefix).copied(),
        }
    }

    fn set(&mut self, trigger: &Trigger, code: u32) -> Result<(), RuleError> {
        let before = self.code(trigger);
        let new = before.is_none();
        self.remark(trigger, &[before, Some(code)]);
        if new && self.len() >= RULES_MAX {
            return Err(RuleError::TooMany);
        }
        if new && matches!(trigger, Trigger::ClientIp(_)) && self.client_ips.len() >= CLIENTS_MAX {
            return Err(RuleError::TooManyClients);
        }
        match trigger {
            Trigger::Qname(name) => drop(self.qnames.insert(name.as_wire(), code)?),
            Trigger::NsDname(name) => drop(self.ns_names.insert(name.as_wire(), code)?),
            Trigger::ClientIp(prefix) => *self.client_ips.entry(*prefix, || code) = code,
            Trigger::Ip(prefix) => *self.ips.entry(*prefix, || code) = code,
            Trigger::NsIp(prefix) => *self.ns_ips.entry(*prefix, || code) = code,
        }
        Ok(())
    }

    fn unset(&mut self, trigger: &Trigger) {
        self.remark(trigger, &[self.code(trigger)]);
        match trigger {
            Trigger::Qname(name) => self.qnames.remove(name.as_wire()),
            Trigger::NsDname(name) => self.ns_names.remove(name.as_wire()),
            Trigger::ClientIp(prefix) => self.client_ips.remove(prefix),
            Trigger::Ip(prefix) => self.ips.remove(prefix),
            Trigger::NsIp(prefix) => self.ns_ips.remove(prefix),
        };
    }

    /// Notes a change of a rule that says one of `codes` before or after it. One that lets pass
    /// keeps later ones from deciding; see `mark`.
    fn remark(&mut self, trigger: &Trigger, codes: &[Option<u32>]) {
        let about_servers = matches!(trigger, Trigger::NsDname(_) | Trigger::NsIp(_));
        self.remarked |= about_servers || codes.contains(&Some(PASSTHRU));
    }

    fn intern(&mut self, set: Vec<Datum>) -> Result<u32, RuleError> {
        let set: Arc<[Datum]> = set.into();
        if let Some(code) = self.known.get(&set) {
            return Ok(*code);
        }
        if self.data.len() == DATA_MAX {
            return Err(RuleError::TooMuchData);
        }
        // DATA_MAX is far below what a code can hold.
        let code = DATA + self.data.len() as u32;
        self.data.push(Arc::clone(&set));
        self.known.insert(set, code);
        Ok(code)
    }

    fn data_of(&self, code: u32) -> Option<&Arc<[Datum]>> {
        self.data.get(code.checked_sub(DATA)? as usize)
    }

    fn action(&self, code: u32) -> Action {
        match (code, self.data_of(code)) {
            (_, Some(data)) => Action::Data(Arc::clone(data)),
            (NODATA, _) => Action::Nodata,
            (PASSTHRU, _) => Action::Passthru,
            (DROP, _) => Action::Drop,
            (TCP_ONLY, _) => Action::TcpOnly,
            _ => Action::Nxdomain,
        }
    }
}

/// The action that a CNAME stands for by its target; none: it is local data.
fn special(record: &Record, trigger: &Trigger) -> Option<u32> {
    if record.rtype != rtype::CNAME {
        return None;
    }
    Some(match record.target()?.as_wire() {
        b"\0" => NXDOMAIN,
        b"\x01*\0" => NODATA,
        b"\x0crpz-passthru\0" => PASSTHRU,
        b"\x08rpz-drop\0" => DROP,
        b"\x0crpz-tcp-only\0" => TCP_ONLY,
        // How passing was written before there was a word for it.
        target if matches!(trigger, Trigger::Qname(name) if name.as_wire() == target) => PASSTHRU,
        _ => return None,
    })
}

/// A name's own rule, else that of the longest wildcard above it. Says which it was.
fn find(table: &NameTable, name: &Name) -> Option<(Name, u32)> {
    if table.is_empty() {
        return None;
    }
    if let Some(code) = table.find(name.as_wire()) {
        return Some((name.clone(), code));
    }
    let mut key = [0; 2 + 255];
    key[..2].copy_from_slice(b"\x01*");
    name.suffixes().skip(1).find_map(|suffix| {
        let wild = key.get_mut(..2 + suffix.len())?;
        wild[2..].copy_from_slice(suffix);
        let code = table.find(wild)?;
        Some((Name::from_wire(wild).ok()?, code))
    })
}

/// The longest prefix that any of the addresses is in; of several, the lowest.
fn narrowest(rules: &Prefixes<u32>, addresses: &[IpAddr]) -> Option<(IpNet, u32)> {
    if rules.is_empty() {
        return None;
    }
    let found = addresses.iter().filter_map(|address| rules.around(*address).next());
    let bits = |prefix: &IpNet| {
        // IPv4 as IPv6 has it, so that lengths can be compared.
        prefix.prefix_len() + if prefix.addr().is_ipv4() { 96 } else { 0 }
    };
    let best = found.min_by_key(|(prefix, _)| (u8::MAX - bits(prefix), prefix.addr()));
    best.map(|(prefix, code)| (prefix, *code))
}

const NXDOMAIN: u32 = 0;
const NODATA: u32 = 1;
const PASSTHRU: u32 = 2;
const DROP: u32 = 3;
const TCP_ONLY: u32 = 4;
/// From here on a code is a place in the list of local data.
const DATA: u32 = 16;

/// Rules of one zone: several times the largest feed there is.
pub const RULES_MAX: usize = 8_000_000;
/// Different sets of local data of one zone.
pub const DATA_MAX: usize = 1_000_000;
/// Prefixes of clients of one zone: the kernel has a place for each (`SOURCES_MAX`).
pub const CLIENTS_MAX: usize = 8_192;
/// Records of one rule; more would not fit into a datagram.
pub const SET_MAX: usize = 64;

#[cfg(test)]
mod tests;
