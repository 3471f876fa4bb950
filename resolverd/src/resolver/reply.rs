//! What servers said about one question, record by record: the form before it becomes an answer.
//!
//! Plain data. Recursion and forwarding make it, `known` keeps it, validation reads it, and only
//! then is it written as the [`Answer`](crate::dns::Answer) of one client. DNSSEC records are in
//! it whenever the servers had them, whoever asks; what a client without DO is not sent is left
//! out when its answer is composed (RFC 4035 section 3.2.1).

use std::net::SocketAddr;

use crate::dns::records::Record;
use crate::dns::{Name, Trail};

/// The sections of one reply, without what did not belong into them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The 4-bit RCODE of the header.
    pub rcode: u8,
    /// AA, as the server at the end of the chain of aliases set it.
    pub authoritative: bool,
    /// Aliases from the question's name on, and what stands at their end; with its RRSIGs.
    pub answer: Vec<Record>,
    /// What denies: SOA, NSEC, NSEC3, and their RRSIGs. Also the proof of an expanded wildcard.
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// Whose servers led to it; empty while nobody wants to know.
    pub trail: Trail,
    /// Who said what stands at the end of the aliases. None: an upstream, or ourselves.
    pub speaker: Option<Speaker>,
}

/// A server of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub server: SocketAddr,
    /// Of the zone's name, with which the name that was asked for ends.
    zone_octets: u8,
}

impl Speaker {
    #[must_use]
    pub fn of(server: SocketAddr, zone: &Name) -> Self {
        // A name has at most 255 octets.
        Self { server, zone_octets: zone.as_wire().len() as u8 }
    }

    /// The zone that it spoke for, by a name in it.
    #[must_use]
    pub fn zone(&self, name: &Name) -> Option<Name> {
        let suffix = name.suffixes().find(|zone| zone.len() == usize::from(self.zone_octets));
        suffix.and_then(|zone| Name::from_wire(zone).ok())
    }
}

impl Reply {
    /// What was kept elsewhere for so long lives so much shorter (RFC 8484 section 5.1).
    pub fn age(&mut self, secs: u32) {
        for section in [&mut self.answer, &mut self.authority, &mut self.additional] {
            for record in section {
                record.ttl = record.ttl.saturating_sub(secs);
            }
        }
    }
}

/// A question of the resolver's own: for an address of a server, a DS, a DNSKEY.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    pub name: Name,
    /// RFC 1035 QTYPE.
    pub qtype: u16,
}
