//! Network namespaces and the wires between them.
//!
//! Commands enter by `nsenter --net`, not by `ip netns exec`: that one has a mount namespace of its
//! own, and BPF pins made in it would be gone with the process. What needs the namespace's own view
//! of /sys goes through [`Namespace::sys`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{bound_command, run};
use crate::query::{self, Ask, Reply};
use crate::scratch;

/// What every name made here begins with; then the process id, a number, a label.
pub(crate) const PREFIX: &str = "rdlab-";

/// Programs without which there is no lab.
const NEEDED: [&str; 6] = ["ethtool", "ip", "nsenter", "setpriv", "taskset", "chrt"];

/// Why this machine has no lab, if it hasn't.
pub fn available() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab makes network namespaces: it needs root");
    }
    for program in NEEDED {
        if find(program).is_none() {
            bail!("the lab needs `{program}`: `cargo xtask setup` installs it");
        }
    }
    Ok(())
}

/// Where a program is; Debian has servers in sbin, which is not on everybody's path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A network namespace, removed on drop unless it is [kept](Namespace::standing).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    standing: bool,
}

impl Namespace {
    /// Makes one with `lo` up. The first call of a process sweeps what dead runs left.
    pub fn new(label: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        available()?;
        SWEPT.call_once(sweep);
        let seq = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{seq}-{label}", std::process::id());
        Self::make(Self { name, standing: false })
    }

    /// One that outlives this process: for a lab somebody looks around in.
    pub fn standing(name: &str) -> Result<Self> {
        available()?;
        Self::make(Self { name: name.to_owned(), standing: true })
    }

    /// One that [`Namespace::standing`] made; `None`: there is no such namespace.
    #[must_use]
    pub fn existing(name: &str) -> Option<Self> {
        let there = Path::new(NETNS).join(name).exists();
        there.then(|| Self { name: name.to_owned(), standing: true })
    }

    /// Removes a standing one, and ends what runs in it.
    pub fn remove(self) {
        remove(&self.name);
    }

    fn make(made: Self) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", &made.name]))?;
        made.ip(&["link", "set", "lo", "up"])?;
        // No duplicate address detection: an address is there as soon as it is given.
        made.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
        made.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(made)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command inside the namespace. It ends when this process does.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let name = program.as_ref();
        let found = name.to_str().filter(|n| !n.contains('/')).and_then(find);
        let mut command = bound_command("nsenter");
        command.arg(format!("--net={NETNS}/{}", self.name)).arg("--");
        command.arg(found.as_deref().map_or(name, Path::as_os_str));
        command
    }

    /// `ip …` on the namespace.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Sets a sysctl of the namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("{key} = {value}"))
    }

    /// A shell line that sees the namespace's own devices in /sys.
    pub fn sys(&self, line: &str) -> Result<String> {
        let mut command = Command::new("ip");
        run(command.args(["netns", "exec", &self.name, "sh", "-ec", line]))
    }

    /// Runs `work` on a thread inside the namespace: sockets it opens are the namespace's, also
    /// after it returned them. A panic in it goes on here.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(Path::new(NETNS).join(&self.name))
            .with_context(|| format!("namespace {}", self.name))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), network).context("setns")?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Adds an address, IPv4 or IPv6, in `addr/len` form.
    pub fn address(&self, device: &str, address: &str) -> Result<()> {
        let mut args = vec!["addr", "add", address, "dev", device];
        if address.contains(':') {
            args.push("nodad");
        }
        self.ip(&args).map(drop)
    }

    /// A neighbour that needs no ARP or neighbour discovery.
    pub fn neighbour(&self, device: &str, address: &str, mac: &str) -> Result<()> {
        let args = ["neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent"];
        self.ip(&args).map(drop)
    }

    /// The device's hardware address in text form.
    pub fn mac(&self, device: &str) -> Result<String> {
        let text = self.ip(&["-o", "link", "show", device])?;
        let at = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        at.map(str::to_owned).with_context(|| format!("{device} has no hardware address"))
    }

    /// Asks over UDP from inside, with the usual bound.
    pub fn ask(&self, server: SocketAddr, ask: &Ask) -> Result<Reply> {
        let bytes = self.exchange(server, &ask.bytes())?;
        Reply::parse(&bytes)
    }

    /// Sends octets over UDP from inside and gives what came back.
    pub fn exchange(&self, server: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(self.enter(|| query::udp(server, bytes, query::ANSWER))??)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.standing {
            remove(&self.name);
        }
    }
}

/// A veth pair between two namespaces. It goes when either namespace does.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    pub near: Ipv4Addr,
    pub far: Ipv4Addr,
    pub near6: Ipv6Addr,
    pub far6: Ipv6Addr,
}

impl Wire {
    /// Joins `near` and `far`. The ends are 10.53.`net`.1 and .2 (/24) and fd53:`net`::1 and ::2
    /// (/64); each knows the other for good, so no packet is spent on finding it.
    pub fn between(
        near: &Namespace,
        near_device: &str,
        far: &Namespace,
        far_device: &str,
        net: u8,
    ) -> Result<Self> {
        let wire = Self {
            near: Ipv4Addr::new(10, 53, net, 1),
            far: Ipv4Addr::new(10, 53, net, 2),
            near6: Ipv6Addr::new(0xfd53, net.into(), 0, 0, 0, 0, 0, 1),
            far6: Ipv6Addr::new(0xfd53, net.into(), 0, 0, 0, 0, 0, 2),
        };
        let mut command = Command::new("ip");
        command.args(["link", "add", near_device, "netns", near.name(), "type", "veth", "peer"]);
        run(command.args(["name", far_device, "netns", far.name()]))?;
        let (near_mac, far_mac) = (near.mac(near_device)?, far.mac(far_device)?);
        let ends = [
            (near, near_device, wire.near, wire.near6, wire.far, wire.far6, &far_mac),
            (far, far_device, wire.far, wire.far6, wire.near, wire.near6, &near_mac),
        ];
        for (namespace, device, own, own6, other, other6, mac) in ends {
            namespace.address(device, &format!("{own}/24"))?;
            namespace.address(device, &format!("{own6}/64"))?;
            namespace.ip(&["link", "set", device, "up"])?;
            // What a native XDP program at the other end sends back comes in by NAPI, which a veth
            // runs for GRO; without it the answers are dropped.
            run(namespace.command("ethtool").args(["-K", device, "gro", "on"]))?;
            namespace.neighbour(device, &other.to_string(), mac)?;
            namespace.neighbour(device, &other6.to_string(), mac)?;
        }
        Ok(wire)
    }
}

/// Removes namespaces and folders whose process is gone.
fn sweep() {
    for name in names(Path::new(NETNS)) {
        remove(&name);
    }
    let temporary = std::env::temp_dir();
    for name in names(&temporary) {
        scratch::remove(&temporary.join(name));
    }
}

/// The entries of a folder that a dead run made.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| is_dead(n)).collect()
}

fn is_dead(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    pid.and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

fn remove(name: &str) {
    // Whatever still runs in it belongs to it, and would keep it alive without a name.
    let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = run(Command::new("ip").args(["netns", "del", name]));
}

/// Where iproute2 keeps them.
const NETNS: &str = "/run/netns";
