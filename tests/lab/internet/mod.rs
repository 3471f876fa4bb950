//! A fake Internet: a signed root, zones below it to three levels, and real servers for them, made
//! from a seed in a few seconds.
//!
//! ```text
//!   a resolver's namespace ── r0 ═ port on ── the Internet's bridge, with all servers' addresses
//!     10.53.N.1, fd53::N:1                      10.53.16.1 … 10.53.24.2, fd53::10:1 …
//! ```
//!
//! What there is, is in [`Plan`]: it is made before anything is started, and says what is right
//! and what is broken. Nine processes serve it, seven of Knot DNS and two of NSD, each with three
//! addresses and zones of several levels. One more address never answers.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lab::internet::{Internet, Plan};
//! let internet = Internet::start(&Plan::of_seed(7))?;
//! let place = internet.attach("unbound")?;
//! let config = format!("root-hints: {}", internet.hints().display());
//! # drop((place, config)); Ok(()) }
//! ```

mod contents;
mod faults;
mod plan;
mod random;
mod servers;
mod signing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Result, ensure};

pub use plan::{
    Algorithm, Denial, Fault, HOSTS, Host, Link, Nameserver, Plan, PlannedRecord, PlannedZone,
    Signing, addresses, is_under,
};
pub use random::Random;

use crate::namespace::Namespace;
use crate::process::run;
use crate::scratch::Scratch;
use crate::upstream::Upstream;
use servers::Server;

/// The running Internet. Dropping it ends all servers; namespaces that were attached live on.
#[derive(Debug)]
pub struct Internet {
    plan: Plan,
    hints: PathBuf,
    anchor: PathBuf,
    servers: Vec<Server>,
    _dead: Vec<Upstream>,
    places: AtomicU8,
    namespace: Namespace,
    _files: Scratch,
}

impl Internet {
    /// Signs and serves all zones of a plan on port 53.
    pub fn start(plan: &Plan) -> Result<Self> {
        Self::start_on(plan, 53)
    }

    /// The same on another port, so that something in between can listen on port 53 of the same
    /// addresses, such as a relay that takes its time.
    pub fn start_on(plan: &Plan, port: u16) -> Result<Self> {
        let namespace = Namespace::new("internet")?;
        namespace.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        namespace.ip(&["link", "set", BRIDGE, "up"])?;
        let servers = (0..HOSTS).flat_map(addresses).chain([IpAddr::from(plan::DEAD)]);
        for address in servers {
            let len = if address.is_ipv4() { 16 } else { 64 };
            namespace.address(BRIDGE, &format!("{address}/{len}"))?;
        }
        let signed = signing::sign(plan)?;
        let files = Scratch::new("internet")?;
        let hints = files.write("root.hints", &hints(plan))?;
        let anchor = files.write("root.anchor", &format!("{}\n", signed.anchor))?;
        // Silent, not absent: nobody is told that there is nobody.
        let dead = vec![Upstream::start(&namespace, (plan::DEAD, port).into(), |_| None)?];
        let servers = servers::start(&namespace, plan, &signed.zones, port)?;
        Ok(Self {
            plan: plan.clone(),
            hints,
            anchor,
            servers,
            _dead: dead,
            places: AtomicU8::new(0),
            namespace,
            _files: files,
        })
    }

    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A file of root hints: all addresses of all root servers.
    #[must_use]
    pub fn hints(&self) -> &Path {
        &self.hints
    }

    /// A file with the root's DS record.
    #[must_use]
    pub fn trust_anchor(&self) -> &Path {
        &self.anchor
    }

    /// Where the servers are. Who speaks from here needs no place of its own.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The process ids of the servers, to measure or to stop some of them.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(Server::pid).collect()
    }

    /// A namespace of its own for somebody who uses this Internet, wired to the bridge.
    pub fn attach(&self, label: &str) -> Result<Place> {
        let number = 1 + self.places.fetch_add(1, Ordering::Relaxed);
        ensure!(number <= PLACES_MAX, "no more than {PLACES_MAX} places on one Internet");
        let namespace = Namespace::new(label)?;
        let port = format!("p{number}");
        let mut command = Command::new("ip");
        command.args(["link", "add", DEVICE, "netns", namespace.name(), "type", "veth", "peer"]);
        run(command.args(["name", &port, "netns", self.namespace.name()]))?;
        let place = Place {
            v4: Ipv4Addr::new(10, 53, number, 1),
            v6: Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, number.into(), 1),
            namespace,
        };
        place.namespace.address(DEVICE, &format!("{}/16", place.v4))?;
        place.namespace.address(DEVICE, &format!("{}/64", place.v6))?;
        place.namespace.ip(&["link", "set", DEVICE, "up"])?;
        self.namespace.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        Ok(place)
    }
}

/// Where a resolver is, or a client.
#[derive(Debug)]
pub struct Place {
    pub namespace: Namespace,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Place {
    /// Where a server here is asked.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        (self.v4, 53).into()
    }

    /// The network device that leads to the Internet.
    #[must_use]
    pub fn device(&self) -> &'static str {
        DEVICE
    }
}

fn hints(plan: &Plan) -> String {
    let mut text = String::new();
    for server in &plan.zones[0].nameservers {
        text += &format!(". 3600000 IN NS {}\n", server.name);
        for address in &server.addresses {
            let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
            text += &format!("{} 3600000 IN {rtype} {address}\n", server.name);
        }
    }
    text
}

const BRIDGE: &str = "net0";
const DEVICE: &str = "r0";
/// The servers' addresses begin after them.
const PLACES_MAX: u8 = 14;
