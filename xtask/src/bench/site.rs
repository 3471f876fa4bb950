//! Where the bench happens: client, server and upstream, and which core does what.
//!
//! ```text
//! client  benchc ── benchs  server  benchu ── bencha  upstream (knotd)
//! core 0             core 1                    core 0
//! ```
//!
//! On a veth the sender's core does the receiver's work, unless it is steered; then a figure says
//! more about the generator than about the server. So for throughput plain packets get RPS, and
//! the XDP path gets threaded NAPI, both on the receiver's core: the server's core pays for what it
//! receives, as behind a queue of a network card. For latency both placements are quoted.
//!
//! Server and generator run SCHED_RR and the NAPI threads SCHED_FIFO: other work on the machine
//! gets what they leave. It still has the caches, which is why `meter.rs` tells of it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use lab::{Authority, Namespace, Scratch, Wire, run, zones};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::meter::napi_threads;
use super::rig::{Held, attach};

/// The namespaces, the wires and the upstream. Gone when dropped.
pub struct Site {
    pub client: Namespace,
    pub server: Namespace,
    pub upstream_side: Namespace,
    pub authority: Authority,
    pub client_wire: Wire,
    pub upstream_wire: Wire,
    /// How resolverd attaches.
    pub mode: Mode,
    /// For query files and logs.
    pub scratch: Scratch,
}

/// Who does the receiver's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The receiver's core.
    Steered,
    /// The sender's core: a veth's default.
    Inline,
}

/// `kernel.mode` of resolverd where its kernel path is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Xdp,
    XdpGeneric,
    Tc,
}

impl Mode {
    pub fn label(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// How many names of which zone are asked for.
pub const NAMES: u32 = 100_000;
/// Of `signed-bench.test.`.
pub const NAMES_SIGNED: u32 = 1_000;

pub const GENERATOR_CORE: usize = 0;
pub const SERVER_CORE: usize = 1;

pub const CLIENT_DEVICE: &str = "benchc";
pub const SERVER_DEVICE: &str = "benchs";
const SERVER_UPSTREAM_DEVICE: &str = "benchu";
const UPSTREAM_DEVICE: &str = "bencha";

/// Every device with NAPI threads of the bench.
pub const DEVICES: [&str; 4] =
    [CLIENT_DEVICE, SERVER_DEVICE, SERVER_UPSTREAM_DEVICE, UPSTREAM_DEVICE];

impl Site {
    pub fn new(mode: Mode) -> Result<Self> {
        let client = Namespace::new("client")?;
        let server = Namespace::new("server")?;
        let upstream = Namespace::new("upstream")?;
        let client_wire = Wire::between(&client, CLIENT_DEVICE, &server, SERVER_DEVICE, 1)?;
        let upstream_wire =
            Wire::between(&server, SERVER_UPSTREAM_DEVICE, &upstream, UPSTREAM_DEVICE, 2)?;
        let zones = [zones::bench(NAMES), zones::signed_bench(NAMES_SIGNED)];
        let by = on_core(GENERATOR_CORE);
        let by: Vec<&str> = by.iter().map(String::as_str).collect();
        let address = [upstream_wire.far.into()];
        let authority = Authority::start_by(&upstream, &address, &zones, &by)?;
        let scratch = Scratch::new("bench")?;
        let site = Self {
            client,
            server,
            upstream_side: upstream,
            authority,
            client_wire,
            upstream_wire,
            mode,
            scratch,
        };
        site.steer(Placement::Steered)?;
        Ok(site)
    }

    /// Where peers listen.
    pub fn address(&self) -> SocketAddr {
        (self.client_wire.far, 53).into()
    }

    /// Where peers forward to.
    pub fn upstream(&self) -> SocketAddr {
        (self.upstream_wire.far, 53).into()
    }

    /// Puts the client's device in the state that a client with plain sockets needs, as long as
    /// what is returned lives. A veth delivers what a native XDP program at its other end sends
    /// back only if this end has a program of its own; for all others a program is a burden.
    /// kxdpgun leaves its own attached.
    pub fn sockets(&self, xdp_sends_back: bool) -> Result<Option<Held>> {
        self.client.ip(&["link", "set", CLIENT_DEVICE, "xdp", "off"])?;
        if !xdp_sends_back {
            return Ok(None);
        }
        attach(&self.client, "empty_pass", CLIENT_DEVICE).map(Some)
    }

    pub fn steer(&self, placement: Placement) -> Result<()> {
        for (namespace, device, core) in self.devices() {
            let (mask, threaded) = match placement {
                Placement::Steered => (1 << core, 1),
                Placement::Inline => (0, 0),
            };
            namespace.sys(&format!(
                "printf %x {mask} > /sys/class/net/{device}/queues/rx-0/rps_cpus; \
                 echo {threaded} > /sys/class/net/{device}/threaded"
            ))?;
            if placement == Placement::Inline {
                continue;
            }
            lab::wait::until("NAPI threads to appear", Duration::from_secs(5), || {
                !napi_threads(device).is_empty()
            })?;
            for pid in napi_threads(device) {
                let mut set = CpuSet::new();
                set.set(core);
                let thread = Pid::from_raw(pid as i32).context("a thread's id is not 0")?;
                sched_setaffinity(Some(thread), &set)
                    .with_context(|| format!("core of the NAPI thread of {device}"))?;
                // Like softirq: ahead of processes.
                run(Command::new("chrt").args(["-f", "-p", "50", &pid.to_string()]))?;
            }
        }
        Ok(())
    }

    /// A command of the generator: in the client's namespace, on its core.
    pub fn generator(&self, program: &str) -> Result<Command> {
        let path = lab::find(program)
            .with_context(|| format!("the bench needs `{program}`: `cargo xtask setup`"))?;
        Ok(self.on(&self.client, GENERATOR_CORE, path.as_os_str()))
    }

    /// A command in a namespace, on a core, in real time.
    pub fn on(
        &self,
        namespace: &Namespace,
        core: usize,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Command {
        let by = on_core(core);
        let mut command = namespace.command(&by[0]);
        command.args(&by[1..]).arg(program);
        command
    }

    fn devices(&self) -> [(&Namespace, &'static str, usize); 4] {
        [
            (&self.client, CLIENT_DEVICE, GENERATOR_CORE),
            (&self.server, SERVER_DEVICE, SERVER_CORE),
            (&self.server, SERVER_UPSTREAM_DEVICE, SERVER_CORE),
            (&self.upstream_side, UPSTREAM_DEVICE, GENERATOR_CORE),
        ]
    }
}

/// The words that begin a command on a core, in real time.
pub fn on_core(core: usize) -> Vec<String> {
    let core = core.to_string();
    ["taskset", "-c", &core, "chrt", "-r", "10"].map(str::to_owned).to_vec()
}
