//! Recursion: from the root down, asking the servers of each zone (RFC 1034 section 5.3.3).
//!
//! The door. A [`Machine`](machine::Machine) decides what one question needs; what all questions
//! learn is in a [`World`]. Pure but for `driver`, which has the sockets.
//!
//! ```text
//!   machine ──▶ errand      one for the question, one for each address it needs on the way
//!      │          ├─ minimise   how much of the name is shown
//!      │          ├─ targets    whom of the zone's servers to ask
//!      │          └─ scrub      what a message means, and what of it is believed
//!      │               └─ alias    CNAME and DNAME
//!      └─ World: delegations (zone cuts) · servers (how they behave) · known (replies)
//! ```

pub mod alias;
pub mod delegations;
pub mod driver;
pub mod errand;
pub mod hints;
pub mod machine;
pub mod minimise;
pub mod scrub;
pub mod servers;
pub mod targets;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::BootTime;
use crate::dns::Name;

use super::flushes::Flushed;
use super::known::Known;
use delegations::{Cut, Delegations, NameServer};
use servers::Servers;

/// What all questions learn from each other.
pub struct World {
    pub known: Known,
    pub delegations: Delegations,
    pub servers: Servers,
    /// Whether what is learned says whose servers led to it.
    traced: AtomicBool,
}

impl World {
    #[must_use]
    pub fn new(known_octets_max: u64) -> Self {
        Self {
            known: Known::new(known_octets_max),
            delegations: Delegations::default(),
            servers: Servers::default(),
            traced: AtomicBool::new(false),
        }
    }

    /// Whether trails are left.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Acquire)
    }

    /// Has trails left from now on, or no longer. True: they were not before, and what is known
    /// has none.
    pub fn trace(&self, wanted: bool) -> bool {
        !self.traced.swap(wanted, Ordering::AcqRel) && wanted
    }

    /// Forgets what an operator flushed.
    pub fn flush(&self, now: BootTime, what: &Flushed) {
        self.known.flush(now, what.clone());
        self.delegations.flush(now, what.clone());
    }
}

/// What an operator wants of recursion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The root, until it has described itself.
    pub hints: Vec<(Name, IpAddr)>,
    /// Whether the root is asked to describe itself (RFC 8109).
    pub prime: bool,
    pub minimise: bool,
    /// Whether letters of a question are sent in random case.
    pub scramble: bool,
    pub harden_glue: bool,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Addresses that may be asked though no server on the Internet has them.
    pub allow_server: Vec<IpNet>,
    /// Zones whose servers are known beforehand.
    pub stubs: Vec<Stub>,
    /// Zones that upstreams are asked for.
    pub forwarded: Vec<Name>,
    /// Where servers listen: 53, but in tests.
    pub port: u16,
    /// For one question with all that it needs.
    pub timeout: Duration,
    /// How long a failure on the way is remembered (RFC 9520 section 3.2).
    pub failure_ttl: Duration,
}

/// A zone whose servers the operator names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    pub zone: Name,
    pub servers: Vec<SocketAddr>,
}

/// Who is to be asked about a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// Upstreams.
    Forward,
    /// The servers of a stub, or those below it.
    Stub(Cut),
    /// The servers that the root leads to.
    Root,
}

impl Options {
    /// The zone with the longest suffix decides.
    #[must_use]
    pub fn way(&self, name: &Name) -> Way {
        for suffix in name.suffixes() {
            if self.forwarded.iter().any(|zone| zone.as_wire() == suffix) {
                return Way::Forward;
            }
            if let Some(stub) = self.stubs.iter().find(|stub| stub.zone.as_wire() == suffix) {
                let server = NameServer { name: Name::root(), addresses: stub.servers.clone() };
                return Way::Stub(Cut::new(stub.zone.clone(), vec![server]));
            }
        }
        Way::Root
    }

    /// Whether addresses of this family are asked.
    #[must_use]
    pub fn has_family(&self, address: SocketAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }

    /// Whether an address may be asked as a server of a zone. Addresses of stubs are the
    /// operator's own words.
    #[must_use]
    pub fn may_ask(&self, address: SocketAddr) -> bool {
        self.has_family(address)
            && (servers::may_serve(address.ip(), &self.allow_server)
                || self.stubs.iter().any(|stub| stub.servers.contains(&address))
                || self.hints.iter().any(|(_, ip)| *ip == address.ip()))
    }
}
