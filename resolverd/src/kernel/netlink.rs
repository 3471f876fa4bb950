//! Which interfaces and addresses this machine has, followed as they change.
//!
//! Knows what the kernel tells over rtnetlink and nothing of who listens
//! where: the daemon owns one watcher and feeds the doors for clients and the
//! fast path from it. An event is only a reason to look again: the whole state
//! is read anew, so a lost event cannot leave us with a wrong picture for long.
//!
//! Tasks: one that follows (ends when the `Watcher` is dropped), and below it
//! one that moves netlink messages (ends with the first).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

/// Follows the machine's interfaces and addresses until dropped.
pub struct Watcher {
    seen: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<()>,
}

/// Interfaces and addresses at one moment, ordered, so that two can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By index.
    pub links: Vec<Link>,
    /// Index of the interface, address, length of its prefix; in that order.
    pub addresses: Vec<(u32, IpAddr, u8)>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// All zero where the medium has no such address or a longer one.
    pub mac: [u8; 6],
    pub mtu: u32,
    /// Set up by the operator; says nothing about the cable.
    pub up: bool,
    pub loopback: bool,
    /// One end of a pair: what leaves here arrives at the other end.
    pub veth: bool,
    /// The XDP program on it, ours or another's.
    pub xdp_program: Option<u32>,
}

/// One difference between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    LinkCame(Link),
    LinkWent(Link),
    /// Same index, other name, MAC, MTU or state.
    LinkChanged {
        was: Link,
        is: Link,
    },
    AddressCame {
        interface: u32,
        addr: IpAddr,
        prefix_len: u8,
    },
    AddressWent {
        interface: u32,
        addr: IpAddr,
        prefix_len: u8,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    #[error("cannot read interfaces and addresses over netlink: {0}")]
    Read(#[source] rtnetlink::Error),
    #[error("the kernel did not list interfaces and addresses within {} s", READ_TIME.as_secs())]
    Late,
}

impl Watcher {
    /// Takes the first snapshot and follows from there. Call it inside a tokio
    /// runtime; it watches the network namespace of the calling thread.
    pub async fn start() -> Result<Watcher, WatchError> {
        let mut line = Line::open()?;
        let (tell, seen) = watch::channel(Arc::new(line.read().await?));
        Ok(Watcher { seen, task: tokio::spawn(follow(line, tell)) })
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.seen.borrow().clone()
    }

    /// Waits until something is different from what this or `snapshot_seen`
    /// returned last, and returns it. Safe to cancel. Changes that come
    /// together are told together.
    pub async fn changed(&mut self) -> Arc<Snapshot> {
        if self.seen.changed().await.is_err() {
            // The task ends only with us; a panic in it must not make the
            // caller spin.
            std::future::pending::<()>().await;
        }
        self.seen.borrow_and_update().clone()
    }

    /// Another pair of eyes on the same watcher.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.seen.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl Snapshot {
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The addresses of one interface.
    pub fn addresses_of(&self, interface: u32) -> impl Iterator<Item = IpAddr> {
        (self.addresses.iter())
            .filter(move |(index, _, _)| *index == interface)
            .map(|(_, addr, _)| *addr)
    }

    /// What is different in this snapshot from an older one. Departures come
    /// first, so that an interface made anew under its old name is let go
    /// before it is taken up.
    pub fn changes_since(&self, older: &Snapshot) -> Vec<Change> {
        let was: BTreeMap<u32, &Link> = older.links.iter().map(|link| (link.index, link)).collect();
        let is: BTreeMap<u32, &Link> = self.links.iter().map(|link| (link.index, link)).collect();
        let mut changes = Vec::new();
        for (interface, addr, prefix_len) in &older.addresses {
            if !self.addresses.contains(&(*interface, *addr, *prefix_len)) {
                let (interface, addr, prefix_len) = (*interface, *addr, *prefix_len);
                changes.push(Change::AddressWent { interface, addr, prefix_len });
            }
        }
        for (index, link) in &was {
            if !is.contains_key(index) {
                changes.push(Change::LinkWent((*link).clone()));
            }
        }
        for (index, link) in &is {
            match was.get(index) {
                None => changes.push(Change::LinkCame((*link).clone())),
                Some(before) if before != link => changes
                    .push(Change::LinkChanged { was: (*before).clone(), is: (*link).clone() }),
                Some(_) => {}
            }
        }
        for (interface, addr, prefix_len) in &self.addresses {
            if !older.addresses.contains(&(*interface, *addr, *prefix_len)) {
                let (interface, addr, prefix_len) = (*interface, *addr, *prefix_len);
                changes.push(Change::AddressCame { interface, addr, prefix_len });
            }
        }
        changes
    }
}

/// Looks again after every event, and tells when the picture is another.
async fn follow(mut line: Line, tell: watch::Sender<Arc<Snapshot>>) {
    loop {
        if !line.event().await {
            line = reopen().await;
        }
        line.settle().await;
        match line.read().await {
            Ok(snapshot) => {
                tell.send_if_modified(|seen| {
                    let differs = **seen != snapshot;
                    if differs {
                        *seen = Arc::new(snapshot);
                    }
                    differs
                });
            }
            Err(error) => {
                warn!(%error, "interfaces not read, trying again");
                sleep(REOPEN_AFTER).await;
                line = reopen().await;
                // Whatever happened meanwhile went unheard.
                line.heard = true;
            }
        }
    }
}

async fn reopen() -> Line {
    loop {
        match Line::open() {
            Ok(mut line) => {
                line.heard = true;
                return line;
            }
            Err(error) => warn!(%error, "netlink not opened, trying again"),
        }
        sleep(REOPEN_AFTER).await;
    }
}

/// A netlink socket that hears events and answers requests.
struct Line {
    handle: Handle,
    events: Events,
    task: JoinHandle<()>,
    /// An event came that nobody has looked after yet.
    heard: bool,
}

type Events = std::pin::Pin<Box<dyn futures_util::Stream<Item = ()> + Send>>;

impl Line {
    fn open() -> Result<Line, WatchError> {
        let (connection, handle, events) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])
        .map_err(WatchError::Open)?;
        let task = tokio::spawn(connection);
        // What the event says is not asked: an overrun is as good a reason.
        Ok(Line { handle, events: Box::pin(events.map(|_| ())), task, heard: false })
    }

    /// Waits for an event; false when the line is dead.
    async fn event(&mut self) -> bool {
        if std::mem::take(&mut self.heard) {
            return true;
        }
        self.events.next().await.is_some()
    }

    /// Waits until events have stopped coming, or for long enough.
    async fn settle(&mut self) {
        let until = Instant::now() + SETTLE_MAX;
        while timeout_at(until, timeout(SETTLE_QUIET, self.events.next()))
            .await
            .is_ok_and(|quiet| quiet.is_ok_and(|event| event.is_some()))
        {}
    }

    /// Reads the whole state. Events are taken in meanwhile, so that they
    /// cannot pile up behind a slow answer.
    async fn read(&mut self) -> Result<Snapshot, WatchError> {
        let read = timeout(READ_TIME, dump(&self.handle));
        tokio::pin!(read);
        loop {
            tokio::select! {
                result = &mut read => return result.map_err(|_| WatchError::Late)?,
                event = self.events.next(), if !self.heard => self.heard |= event.is_some(),
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn dump(handle: &Handle) -> Result<Snapshot, WatchError> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(WatchError::Read)?;
    let addresses: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.map_err(WatchError::Read)?;
    debug!(links = links.len(), addresses = addresses.len(), "interfaces read");
    let mut snapshot = Snapshot {
        links: links.into_iter().filter_map(link).collect(),
        addresses: addresses.into_iter().filter_map(address).collect(),
    };
    snapshot.links.sort_by_key(|link| link.index);
    snapshot.addresses.sort();
    snapshot.addresses.dedup();
    Ok(snapshot)
}

fn link(message: LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        veth: false,
        xdp_program: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(octets) => link.mac = octets.try_into().unwrap_or_default(),
            LinkAttribute::LinkInfo(parts) => {
                link.veth = parts.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            LinkAttribute::Xdp(parts) => {
                link.xdp_program = parts.into_iter().find_map(|part| match part {
                    LinkXdp::ProgId(id) => Some(id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn address(message: AddressMessage) -> Option<(u32, IpAddr, u8)> {
    // Another machine has it: nobody can be served there.
    if message.header.flags.contains(AddressHeaderFlags::Dadfailed) {
        return None;
    }
    let mut ours = None;
    for attribute in message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the other end.
            AddressAttribute::Local(addr) => ours = Some(addr),
            AddressAttribute::Address(addr) => ours = ours.or(Some(addr)),
            _ => {}
        }
    }
    Some((message.header.index, ours?, message.header.prefix_len))
}

/// How long events must be silent before we look: an interface comes with a
/// handful of them, and an IPv6 address is announced again when it is usable.
const SETTLE_QUIET: Duration = Duration::from_millis(100);

/// How long a stream of events can keep us from looking.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// What a listing may take: milliseconds as a rule, more with ten thousand
/// interfaces.
const READ_TIME: Duration = Duration::from_secs(10);

/// Between two attempts on a netlink socket that does not work.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_interface_is_seen_with_its_addresses() {
        let watcher = Watcher::start().await.unwrap();
        let snapshot = watcher.snapshot();
        let lo = snapshot.link("lo").unwrap();
        assert!(lo.up);
        assert!(lo.mtu >= 1_500);
        assert_eq!(lo.mac, [0; 6]);
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(snapshot.addresses_of(lo.index).any(|addr| addr == loopback));
    }

    #[test]
    fn changes_name_departures_before_arrivals() {
        let link = |index, mtu| Link {
            index,
            name: "eth0".into(),
            mac: [2; 6],
            mtu,
            up: true,
            loopback: false,
            veth: false,
            xdp_program: None,
        };
        let addr: IpAddr = "192.0.2.1".parse().unwrap();
        let older = Snapshot {
            links: vec![link(1, 1_500), link(2, 1_500)],
            addresses: vec![(2, addr, 24)],
        };
        let newer = Snapshot {
            links: vec![link(1, 9_000), link(3, 1_500)],
            addresses: vec![(3, addr, 24)],
        };
        assert_eq!(
            newer.changes_since(&older),
            [
                Change::AddressWent { interface: 2, addr, prefix_len: 24 },
                Change::LinkWent(link(2, 1_500)),
                Change::LinkChanged { was: link(1, 1_500), is: link(1, 9_000) },
                Change::LinkCame(link(3, 1_500)),
                Change::AddressCame { interface: 3, addr, prefix_len: 24 },
            ]
        );
        assert!(newer.changes_since(&newer).is_empty());
    }

    /// In a network namespace of its own; without the privilege for one it
    /// says so and passes.
    #[test]
    fn an_interface_and_an_address_that_come_and_go_are_told() {
        use rustix::thread::{UnshareFlags, unshare_unsafe};

        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        std::thread::spawn(move || {
            // SAFETY: only the network namespace of this thread is left, which
            // shares no memory, files or signals that other code relies on.
            #[expect(unsafe_code, reason = "rustix marks every unshare unsafe")]
            if unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.is_err() {
                eprintln!("not run: no privilege for a network namespace");
                return;
            }
            runtime().unwrap().block_on(async {
                let mut watcher = Watcher::start().await.unwrap();
                let empty = watcher.snapshot();
                assert!(!empty.link("lo").unwrap().up);
                ip("link set lo up");
                let up = watcher.changed().await;
                assert!(up.link("lo").unwrap().up);
                ip("addr add 192.0.2.7/24 dev lo");
                let with = watcher.changed().await;
                let addr: IpAddr = "192.0.2.7".parse().unwrap();
                assert_eq!(
                    with.changes_since(&up),
                    [Change::AddressCame { interface: 1, addr, prefix_len: 24 }]
                );
                ip("addr del 192.0.2.7/24 dev lo");
                let without = watcher.changed().await;
                assert_eq!(without, up);
            });
        })
        .join()
        .unwrap();
    }

    fn ip(arguments: &str) {
        let status = std::process::Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
    }
}
