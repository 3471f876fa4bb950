//! Who is measured: one process, one worker, on the server's core, forwarding to the same upstream.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lab::{Ask, Daemon, Process, Scratch, run};
use serde::Serialize;

use super::generate::{FILL_PASSES_MAX, Names, ask_all};
use super::rig::{Held, attach, rig};
use super::site::{Mode, SERVER_CORE, SERVER_DEVICE, Site, on_core};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The bare XDP reflector: the least an answer can cost.
    Reflector,
    Unbound,
    /// resolverd, its hits answered in the kernel.
    Resolverd,
    /// The same with all that may stand between a query and its hit: a long access list, views, a
    /// rate limit, a bound on amplification and a policy zone.
    ResolverdGuarded,
    /// resolverd with `kernel.mode = "off"`.
    ResolverdOff,
    /// resolverd with its program attached, which is made to know no name: it reads, looks up and
    /// passes every query.
    ResolverdPassed,
    /// resolverd with `kernel.mode = "off"`, and an empty program in the kernel path's place: what
    /// a veth asks for having any program at all.
    ResolverdEmpty,
}

impl Peer {
    pub fn label(self) -> &'static str {
        match self {
            Self::Reflector => "reflector",
            Self::Unbound => "unbound",
            Self::Resolverd => "resolverd",
            Self::ResolverdGuarded => "resolverd, guarded",
            Self::ResolverdOff => "resolverd, kernel off",
            Self::ResolverdPassed => "resolverd, all passed",
            Self::ResolverdEmpty => "resolverd, empty prog.",
        }
    }

    pub fn is_resolverd(self) -> bool {
        !matches!(self, Self::Reflector | Self::Unbound)
    }

    /// Starts it, with room for `names`.
    pub fn start(self, site: &Site, names: u32) -> Result<Running> {
        let by = on_core(SERVER_CORE);
        let by: Vec<&str> = by.iter().map(String::as_str).collect();
        let what = match self {
            Self::Reflector => What::Program(attach(&site.server, "reflect", SERVER_DEVICE)?),
            Self::Unbound => unbound(site)?,
            Self::Resolverd
            | Self::ResolverdGuarded
            | Self::ResolverdOff
            | Self::ResolverdPassed
            | Self::ResolverdEmpty => {
                let mut text = self.configuration(site, names);
                if self == Self::ResolverdGuarded {
                    text = text.replace(ACL, &guards(site)?);
                }
                What::Daemon(Box::new(Daemon::start_by(&site.server, &text, &by)?))
            }
        };
        let beside = match self {
            Self::ResolverdEmpty => Some(attach(&site.server, "empty_pass", SERVER_DEVICE)?),
            _ => None,
        };
        Ok(Running { peer: self, what, _beside: beside })
    }

    fn configuration(self, site: &Site, names: u32) -> String {
        let (listen, upstream) = (site.address(), site.upstream());
        let (mode, entries) = match self {
            Self::ResolverdOff | Self::ResolverdEmpty => ("off", ENTRIES_MIN),
            _ => (site.mode.label(), entries(names)),
        };
        format!(
            "[server]\nlisten = [\"{listen}\"]\n\
             [kernel]\nmode = \"{mode}\"\ninterfaces = [\"{SERVER_DEVICE}\"]\n\
             entries = {entries}\nentries-256 = {ENTRIES_LARGE}\nentries-512 = {ENTRIES_LARGE}\n\
             entries-1280 = {ENTRIES_LARGE}\n\
             [cache]\nmemory-max = \"512MiB\"\n\
             [resolve]\nmode = \"forward\"\nupstream-from = \"none\"\n\
             [[upstream]]\nname = \"bench\"\naddress = \"{upstream}\"\nprotocol = \"udp\"\n\
             {ACL}[log]\nlevel = \"warn\"\n"
        )
    }
}

/// The access list with a hundred exceptions, three views, limits that count and let pass, and ten
/// thousand rules.
fn guards(site: &Site) -> Result<String> {
    let denied: Vec<String> = (0..100).map(|n| format!("\"10.53.200.{n}/32\"")).collect();
    let mut rules = String::from("$ORIGIN rpz.test.\n@ 60 SOA ns admin 1 60 60 60 60\n");
    for n in 0..10_000 {
        let _ = writeln!(rules, "blocked{n}.example 60 CNAME .");
    }
    let rules = site.scratch.write("rpz.zone", &rules)?;
    let views: String = (0..3)
        .map(|n| format!("[[view]]\nname = \"view{n}\"\nclients = [\"10.53.{}.0/24\"]\n", 210 + n))
        .collect();
    Ok(format!(
        "[acl]\nallow = [\"10.53.0.0/16\"]\ndeny = [{}]\n{views}\
         [rate-limit]\nresponses-per-second = 1000000\namplification-max = 20\nexempt = []\n\
         [[rpz]]\nzone = \"rpz.test.\"\nfile = \"{}\"\n",
        denied.join(", "),
        rules.display()
    ))
}

/// Room in the maps: a quarter more than there are names.
pub fn entries(names: u32) -> u32 {
    (names + names / 4).max(ENTRIES_MIN)
}

/// A peer at work; stopped when dropped.
pub struct Running {
    peer: Peer,
    what: What,
    _beside: Option<Held>,
}

enum What {
    Program(Held),
    Process { process: Process, _scratch: Scratch },
    Daemon(Box<Daemon>),
}

impl Running {
    /// Its process, if it has one that serves.
    pub fn pid(&self) -> Option<u32> {
        match &self.what {
            What::Program(_) => None,
            What::Process { process, .. } => Some(process.pid()),
            What::Daemon(daemon) => Some(daemon.pid()),
        }
    }

    pub fn daemon(&self) -> Option<&Daemon> {
        match &self.what {
            What::Daemon(daemon) => Some(daemon),
            _ => None,
        }
    }

    /// The kernel's number of the reflector's program.
    pub fn program(&self, site: &Site) -> Result<u32> {
        if let What::Program(held) = &self.what {
            return Ok(super::rig::word(&held.said, "id")? as u32);
        }
        attached(site)
    }

    /// See [`Site::sockets`].
    pub fn sends_back_by_xdp(&self, site: &Site) -> bool {
        let by_program = [Peer::Resolverd, Peer::ResolverdGuarded, Peer::ResolverdPassed];
        site.mode == Mode::Xdp && by_program.contains(&self.peer)
    }

    /// How many queries the kernel has answered for it so far.
    pub fn kernel_hits(&self) -> Result<Option<f64>> {
        let hits = |daemon: &Daemon| daemon.metric(PACKETS, &[("verdict", "hit")]);
        self.daemon().map(hits).transpose()
    }

    /// Asks for all names until they are where this peer's hits come from.
    pub fn fill(&self, site: &Site, names: Names) -> Result<()> {
        let file = names.file(site)?;
        let _open = site.sockets(self.sends_back_by_xdp(site))?;
        let by_program = [Peer::Resolverd, Peer::ResolverdGuarded, Peer::ResolverdPassed];
        let in_kernel = by_program.contains(&self.peer);
        if !in_kernel {
            let passes = if self.pid().is_some() { 2 } else { 0 };
            return (0..passes).try_for_each(|_| ask_all(site, &file).map(drop));
        }
        let mut share = 0.0;
        for _ in 0..FILL_PASSES_MAX {
            let before = self.kernel_hits()?.unwrap_or(0.0);
            let asked = ask_all(site, &file)?;
            let after = self.kernel_hits()?.unwrap_or(0.0);
            share = (after - before) / asked.completed.max(1.0);
            if share > FILLED {
                if let (Peer::ResolverdPassed, Some(daemon)) = (self.peer, self.daemon()) {
                    blind(daemon)?;
                }
                return Ok(());
            }
        }
        bail!("after {FILL_PASSES_MAX} passes the kernel answers {:.1} % only", share * 100.0)
    }
}

/// Gives the program another secret than the daemon has.
fn blind(daemon: &Daemon) -> Result<()> {
    let entries = std::fs::read_dir(daemon.dir().join("bpf"))?.flatten();
    let mut paths = entries.map(|entry| entry.path());
    let settings = paths.find(|path| path.to_string_lossy().ends_with("-SETTINGS"));
    let settings = settings.context("the daemon has no pinned settings")?;
    run(Command::new(&rig()?.program).arg("blind").arg(settings)).map(drop)
}

/// The program on the server's device, as `ip` shows it: `prog/xdp id 42`.
fn attached(site: &Site) -> Result<u32> {
    let text = site.server.ip(&["-d", "link", "show", SERVER_DEVICE])?;
    let after = text.split_once("prog/xdp id ").map(|(_, after)| after);
    let id = after.and_then(|after| after.split_whitespace().next()?.parse().ok());
    id.with_context(|| format!("no program on {SERVER_DEVICE}: {text}"))
}

fn unbound(site: &Site) -> Result<What> {
    let scratch = Scratch::new("unbound")?;
    let (dir, listen, upstream) =
        (scratch.path().display(), site.address().ip(), site.upstream().ip());
    let config = scratch.write(
        "unbound.conf",
        &format!(
            "server:\n  interface: {listen}@53\n  access-control: 10.53.0.0/16 allow\n  \
             num-threads: 1\n  so-rcvbuf: 4m\n  msg-cache-size: 256m\n  rrset-cache-size: 256m\n  \
             outgoing-range: 4096\n  num-queries-per-thread: 2048\n  chroot: \"\"\n  \
             username: \"\"\n  directory: \"{dir}\"\n  pidfile: \"\"\n  use-syslog: no\n  \
             logfile: \"\"\n  verbosity: 0\n  module-config: \"iterator\"\n  do-ip6: no\n  \
             local-zone: \"test.\" transparent\n\
             remote-control:\n  control-enable: no\n\
             forward-zone:\n  name: \".\"\n  forward-addr: {upstream}\n"
        ),
    )?;
    let program = lab::find("unbound").context("the bench needs `unbound`: `cargo xtask setup`")?;
    let mut command = site.on(&site.server, SERVER_CORE, program.as_os_str());
    command.arg("-d").arg("-c").arg(&config);
    let mut process = Process::start("unbound", command, &scratch.path().join("log"))?;
    process.ready("unbound answers", || {
        let reply = site.client.ask(site.address(), &Ask::new("n000007.bench.test.", "A"));
        reply.is_ok_and(|reply| reply.answer.len() == 1)
    })?;
    Ok(What::Process { process, _scratch: scratch })
}

const ACL: &str = "[acl]\nallow = [\"10.53.0.0/16\"]\n";
const PACKETS: &str = "resolverd_kernel_packets_total";
/// The least the configuration takes.
const ENTRIES_MIN: u32 = 256;
/// Places for larger answers, whatever the names: the kernel takes places of a small LRU map back
/// long before it is full.
const ENTRIES_LARGE: u32 = 4_096;
/// Of a pass, answered by the kernel, so that what is measured is hits.
const FILLED: f64 = 0.99;
