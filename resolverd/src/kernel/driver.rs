//! The kernel path as one thing: opened, attached, kept alive, and told what holds.
//!
//! Opening makes the maps and is quick; attaching waits for the verifier and is done beside a
//! daemon that already serves. Dropped, everything stays pinned and goes on until the lease is
//! over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aya::maps::{MapData, RingBuf};
use ipnet::IpNet;
use parking_lot::Mutex;
use resolverd_common::cookie::Secrets;
use resolverd_common::limits::RateLimits;
use resolverd_common::settings::{Interface, PORTS_MAX, Served, Source};
use tracing::{info, warn};

use super::attach::{Attachments, InterfaceState};
use super::maps::{KernelMaps, Told, served};
use super::netlink::{Link, Snapshot};
use super::object::{self, Pins, Unavailable};
use super::{FastPath as _, sources};
use crate::clock::{boot_now, wall_now};
use crate::config;

/// The lease is renewed so often.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);

/// The kernel path of this daemon.
pub struct Kernel {
    maps: Arc<KernelMaps>,
    attachments: Mutex<Attachments>,
    interfaces: Vec<String>,
    lease: Duration,
    taken_over: bool,
}

/// What the fast path is to serve, as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Addresses of the daemon's UDP sockets; wildcards among them.
    pub listen: Vec<SocketAddr>,
    /// Prefixes of clients, and what each is to us: whether it may ask, and its view.
    pub sources: Vec<(IpNet, Source)>,
    pub edns_size: u16,
    pub sampling: u32,
    pub prefetch: bool,
    /// A digest of all policy that is in the answers.
    pub policy_fingerprint: u64,
    pub limits: RateLimits,
    /// Free of them.
    pub exempt: Vec<IpNet>,
    /// None: cookies are off.
    pub cookies: Option<Secrets>,
}

/// Why the program could not be told.
#[derive(Debug, thiserror::Error)]
#[error("the kernel path could not be told of a change: {0}")]
pub struct TellError(#[from] aya::maps::MapError);

impl Kernel {
    /// Opens the maps: new ones, or those that an earlier daemon left.
    ///
    /// # Errors
    ///
    /// Why there is no kernel path on this machine.
    pub fn open(config: &config::Kernel) -> Result<(Self, RingBuf<MapData>), Unavailable> {
        if config.mode == config::KernelMode::Off {
            return Err(Unavailable::Off);
        }
        let mut opened = object::open(&config.pin_path, config.entries)?;
        let (maps, events) = KernelMaps::take(&mut opened.ebpf)?;
        let attachments =
            Attachments::new(opened.ebpf, opened.pins, config.mode, &config.interfaces);
        let kernel = Self {
            maps: Arc::new(maps),
            attachments: Mutex::new(attachments),
            interfaces: config.interfaces.clone(),
            lease: config.lease,
            taken_over: opened.taken_over,
        };
        Ok((kernel, events))
    }

    #[must_use]
    pub fn maps(&self) -> &Arc<KernelMaps> {
        &self.maps
    }

    /// Whether the maps came filled from an earlier daemon.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// Loads the programs and attaches them. Blocks for as long as the verifier does.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the programs.
    pub fn attach(&self, snapshot: &Snapshot) -> Result<(), Unavailable> {
        let mut attachments = self.attachments.lock();
        attachments.load()?;
        attachments.sync(snapshot);
        self.maps.set_live(attachments.any());
        Ok(())
    }

    /// Follows interfaces that came or went. True: something changed.
    pub fn sync(&self, snapshot: &Snapshot) -> bool {
        let mut attachments = self.attachments.lock();
        let changed = attachments.sync(snapshot);
        self.maps.set_live(attachments.any());
        changed
    }

    /// Renews the lease.
    pub fn renew(&self) {
        let lease = u64::try_from(self.lease.as_nanos()).unwrap_or(u64::MAX);
        let now = boot_now().0;
        let wall = wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.maps.wall((wall.as_nanos() as u64).wrapping_sub(now));
        self.maps.lease(now.saturating_add(lease));
    }

    /// The secrets that the program has, from a daemon before us.
    #[must_use]
    pub fn cookies(&self) -> Option<Secrets> {
        let settings = self.maps.settings()?;
        (settings.cookies != 0).then_some(settings.cookie_secrets)
    }

    /// Ends the lease at once: the program passes everything.
    pub fn end_lease(&self) {
        self.maps.lease(0);
    }

    #[must_use]
    pub fn states(&self) -> Vec<InterfaceState> {
        self.attachments.lock().states()
    }

    /// Tells the program what holds now. A policy other than the one that the entries were
    /// made under makes them all stale, before any of the rest is told.
    ///
    /// # Errors
    ///
    /// When a map is full; what was told before stays.
    pub fn tell(&self, wanted: &Wanted, snapshot: &Snapshot) -> Result<(), TellError> {
        let before = self.maps.settings().map_or(0, |settings| settings.policy_fingerprint);
        if before != 0 && before != wanted.policy_fingerprint {
            let mark = self.maps.raise_epoch();
            info!(epoch = mark.epoch, "policy changed: entries of the kernel are stale");
        }
        let own: Vec<(IpAddr, u8)> =
            snapshot.addresses.iter().map(|(_, address, len)| (*address, *len)).collect();
        let sources: Vec<(IpNet, Source)> =
            sources::prefixes(&wanted.sources, &own, &wanted.exempt);
        self.maps.admit(&sources)?;
        let (list, ports) = self.served(&wanted.listen, snapshot);
        self.maps.tell(&Told {
            edns_size: wanted.edns_size,
            ports,
            sampling: wanted.sampling,
            prefetch_share: if wanted.prefetch { PREFETCH_SHARE } else { 0 },
            policy_fingerprint: wanted.policy_fingerprint,
            limits: wanted.limits,
            cookies: wanted.cookies,
        })?;
        self.maps.serve(&list)?;
        Ok(())
    }

    /// Takes programs and pins down. The daemon goes on in user space.
    pub fn detach(&self) -> Vec<String> {
        self.end_lease();
        self.maps.set_live(false);
        self.attachments.lock().detach()
    }

    fn served(
        &self,
        listen: &[SocketAddr],
        snapshot: &Snapshot,
    ) -> (Vec<(Served, Interface)>, [u16; PORTS_MAX]) {
        let links: Vec<&Link> =
            self.interfaces.iter().filter_map(|name| snapshot.link(name)).collect();
        let list = served_list(listen, &links, &snapshot.addresses);
        let mut ports = [0; PORTS_MAX];
        let mut used = 0;
        for address in listen {
            if ports.contains(&address.port()) {
                continue;
            }
            if used == PORTS_MAX {
                warn!(
                    port = address.port(),
                    limit = PORTS_MAX,
                    "more ports than the kernel path takes: this one is served from user space"
                );
                continue;
            }
            ports[used] = address.port();
            used += 1;
        }
        (list, ports)
    }
}

/// A tenth of an entry's life, in 1/256.
const PREFETCH_SHARE: u16 = 26;

/// The addresses that are served on each interface.
///
/// On loopback that is any address of the machine: its own processes reach all of them there.
/// On another interface it is the addresses of that one; packets for others that come in there
/// are left to the stack.
#[must_use]
pub fn served_list(
    listen: &[SocketAddr],
    links: &[&Link],
    addresses: &[(u32, IpAddr, u8)],
) -> Vec<(Served, Interface)> {
    let mut list: Vec<(Served, Interface)> = Vec::new();
    for link in links {
        let interface = Interface {
            mac: link.mac,
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            loopback: u32::from(link.is_loopback()),
        };
        let there = addresses
            .iter()
            .filter(|(index, _, _)| link.is_loopback() || *index == link.index)
            .map(|(index, address, _)| (*index, *address));
        for (index, address) in there {
            let is_asked = |socket: &&SocketAddr| match socket {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                    v6.scope_id() == index && IpAddr::V6(*v6.ip()) == address
                }
                other if other.ip().is_unspecified() => other.is_ipv4() == address.is_ipv4(),
                other => other.ip() == address,
            };
            for socket in listen.iter().filter(is_asked) {
                let element = (served(address, socket.port(), link.index), interface);
                if !list.contains(&element) {
                    list.push(element);
                }
            }
        }
    }
    list
}

/// Makes the folder of the pins and mounts a bpffs there: for a unit's `ExecStartPre`, and for
/// daemons that may not mount.
///
/// # Errors
///
/// [`Unavailable::PinPath`].
pub fn prepare(config: &config::Kernel) -> Result<(), Unavailable> {
    Pins::prepare(&config.pin_path).map(drop)
}

/// Takes down what a daemon that is gone left behind. Names the pins that there were.
#[must_use]
pub fn detach_leftovers(config: &config::Kernel) -> Vec<String> {
    Pins::existing(&config.pin_path)
        .map_or_else(Vec::new, |pins| super::attach::detach_all(&pins, &config.interfaces))
}

/// What attaching would take and do, for `check`.
#[must_use]
pub fn report(config: &config::Kernel) -> Vec<String> {
    let mut lines = Vec::new();
    if config.mode == config::KernelMode::Off {
        lines.push("kernel path: off by kernel.mode".to_owned());
        return lines;
    }
    match object::probe() {
        Ok(()) => lines.push("kernel path: this kernel has what it needs".to_owned()),
        Err(reason) => lines.push(format!("kernel path: not available: {reason}")),
    }
    let mib = object::locked_memory(config.entries) as f64 / f64::from(1 << 20);
    lines.push(format!(
        "locked memory: about {mib:.1} MiB for {} + {} + {} + {} entries",
        config.entries[0], config.entries[1], config.entries[2], config.entries[3]
    ));
    for name in &config.interfaces {
        let folder = std::path::Path::new("/sys/class/net").join(name);
        if !folder.exists() {
            lines.push(format!("interface {name}: not there now; attached when it comes"));
            continue;
        }
        let mtu = std::fs::read_to_string(folder.join("mtu")).unwrap_or_default();
        let driver = std::fs::read_link(folder.join("device/driver"))
            .ok()
            .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "virtual".to_owned());
        let does = match (config.mode, name.as_str()) {
            (config::KernelMode::Tc, _) | (config::KernelMode::Auto, "lo") => {
                "a program at the ingress of traffic control; the interface stays up"
            }
            (config::KernelMode::XdpGeneric, _) => {
                "generic XDP: packets are copied, segmentation offloads on receive end; long \
                 signed answers may not fit and go to user space"
            }
            _ => {
                "native XDP where the driver has it: some drivers reset their queues for a \
                 moment, and large MTUs may be refused; else traffic control"
            }
        };
        lines.push(format!("interface {name}: driver {driver}, MTU {}: {does}", mtu.trim()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, loopback: bool) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: [index as u8; 6],
            mtu: 1_500,
            up: true,
            loopback,
            veth: false,
            xdp_program: None,
        }
    }

    #[test]
    fn each_interface_serves_its_own_addresses_and_loopback_all() {
        let (lo, eth0, eth1) =
            (link(1, "lo", true), link(2, "eth0", false), link(3, "eth1", false));
        let addresses: Vec<(u32, IpAddr, u8)> = [
            (1, "127.0.0.1", 8),
            (1, "::1", 128),
            (2, "10.0.0.1", 24),
            (2, "fe80::2", 64),
            (3, "10.0.1.1", 24),
            (3, "fe80::2", 64),
        ]
        .map(|(index, address, len)| (index, address.parse().unwrap(), len))
        .to_vec();
        let listen: Vec<SocketAddr> =
            ["0.0.0.0:53", "[fe80::2%2]:53", "10.0.1.1:5353", "192.0.2.1:53"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        let list = served_list(&listen, &[&lo, &eth0, &eth1], &addresses);
        let has = |address: &str, port, index| {
            let wanted = served(address.parse().unwrap(), port, index);
            list.iter().any(|(served, _)| *served == wanted)
        };
        assert!(has("127.0.0.1", 53, 1) && has("10.0.0.1", 53, 1) && has("10.0.1.1", 53, 1));
        assert!(has("10.0.0.1", 53, 2) && has("fe80::2", 53, 2));
        assert!(has("10.0.1.1", 53, 3) && has("10.0.1.1", 5353, 3));
        assert!(!has("10.0.1.1", 53, 2), "an address of another interface");
        assert!(!has("fe80::2", 53, 3), "a link-local address of another link");
        assert!(!has("::1", 53, 1), "no IPv6 wildcard was asked for");
        assert!(!has("192.0.2.1", 53, 2), "an address that is not there yet");
        assert!(list.iter().all(|(s, i)| (i.loopback == 1) == (s.ifindex == 1)));
    }
}
