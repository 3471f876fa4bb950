//! Three namespaces in a row, and a daemon in the middle one.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, ensure};
use lab::{Ask, Authority, Daemon, Namespace, Reply, Wire, Zone, run, wait};
use serde_json::Value;

/// Why these tests cannot be run here, if they cannot.
pub fn available() -> Result<()> {
    static KERNEL_PATH: OnceLock<Result<(), String>> = OnceLock::new();
    lab::available()?;
    let tried = KERNEL_PATH.get_or_init(|| {
        let said = lab::binary()
            .and_then(|binary| run(Command::new(binary).arg("check")))
            .map_err(|error| format!("{error:#}"))?;
        let line = said.lines().find(|line| line.contains("kernel path: not available"));
        line.map_or(Ok(()), |line| Err(line.to_owned()))
    });
    tried.clone().map_err(Error::msg)
}

/// Ends the test here where there is no lab. Whether there is a kernel path does not matter.
macro_rules! need_servers {
    () => {
        if let Err(why) = lab::available() {
            eprintln!("skipped: {why}");
            return Ok(());
        }
    };
}
pub(crate) use need_servers;

/// Client, server and upstream, wired up. The daemon listens on `s0`, where its program is.
pub struct Site {
    pub client: Namespace,
    pub server: Namespace,
    pub upstream: Namespace,
    /// Client to server.
    pub near: Wire,
    /// Server to upstream.
    pub far: Wire,
}

impl Site {
    pub fn new() -> Result<Self> {
        let client = Namespace::new("client")?;
        let server = Namespace::new("server")?;
        let upstream = Namespace::new("upstream")?;
        let near = Wire::between(&client, "c0", &server, "s0", 1)?;
        let far = Wire::between(&server, "s1", &upstream, "u0", 2)?;
        // What a native program on one end of a veth sends back is taken at the other end only
        // where NAPI runs: with GRO it does.
        run(client.command("ethtool").args(["-K", "c0", "gro", "on"]))?;
        Ok(Self { client, server, upstream, near, far })
    }

    /// Where the daemon is found by the client.
    pub fn at(&self) -> SocketAddr {
        (self.near.far, 53).into()
    }

    pub fn at6(&self) -> SocketAddr {
        (self.near.far6, 53).into()
    }

    /// Where the authority is found by the daemon.
    pub fn authority_at(&self) -> SocketAddr {
        (self.far.far, 53).into()
    }

    /// Knot DNS with these zones.
    pub fn authority(&self, zones: &[Zone]) -> Result<Authority> {
        Authority::start(&self.upstream, &[self.far.far.into()], zones)
    }

    /// A file for a daemon here that asks `upstreams`, named `one`, `two`, …
    pub fn file(&self, upstreams: &[SocketAddr]) -> File {
        File {
            listen: vec![self.at(), self.at6()],
            lease_secs: 10,
            entries: 4_096,
            server: String::new(),
            kernel: String::new(),
            cache: String::new(),
            resolve: "upstream-from = \"none\"".to_owned(),
            upstreams: upstreams.to_vec(),
            zones: Vec::new(),
        }
    }

    /// A daemon whose program is attached.
    pub fn daemon(&self, file: &File) -> Result<Daemon> {
        self.daemon_of(&file.text())
    }

    /// The same for a file with sections of its own.
    pub fn daemon_of(&self, text: &str) -> Result<Daemon> {
        let daemon = Daemon::start(&self.server, text)?;
        self.attached(&daemon)?;
        Ok(daemon)
    }

    /// Waits until the kernel answers for a daemon.
    pub fn attached(&self, daemon: &Daemon) -> Result<()> {
        let live = || daemon.metric("resolverd_kernel_available", &[]).is_ok_and(|v| v > 0.0);
        wait::until("the program to be attached", wait::READY, live).with_context(|| daemon.log())
    }

    pub fn ask(&self, ask: &Ask) -> Result<Reply> {
        self.client.ask(self.at(), ask)
    }

    /// Asks once and says whether the kernel answered.
    pub fn ask_by(&self, daemon: &Daemon, ask: &Ask) -> Result<(Reply, By)> {
        let before = Seen::of(daemon)?;
        let reply = self.ask(ask)?;
        let after = Seen::of(daemon)?;
        Ok((reply, if after.hits > before.hits { By::Kernel } else { By::Daemon }))
    }

    /// Asks until the kernel answers.
    pub fn warm(&self, daemon: &Daemon, ask: &Ask) -> Result<()> {
        let what = format!("the kernel to answer for {}", ask.name);
        let mut last = None;
        let warm = wait::until(&what, wait::READY, || match self.ask_by(daemon, ask) {
            Ok((_, By::Kernel)) => true,
            other => {
                last = Some(other);
                false
            }
        });
        warm.with_context(|| format!("last: {last:?}\n{}", daemon.log()))
    }
}

/// Who gave an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Kernel,
    Daemon,
}

/// How many answers there were, by who gave them.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub hits: u64,
    pub daemon: u64,
}

impl Seen {
    pub fn of(daemon: &Daemon) -> Result<Self> {
        let count = |name, labels: &[(&str, &str)]| -> Result<u64> {
            Ok(daemon.metric(name, labels)? as u64)
        };
        Ok(Self {
            hits: count("resolverd_kernel_packets_total", &[("verdict", "hit")])?,
            daemon: count("resolverd_queries_total", &[])?,
        })
    }
}

/// A configuration, to be changed and written again.
#[derive(Debug, Clone)]
pub struct File {
    pub listen: Vec<SocketAddr>,
    pub lease_secs: u32,
    pub entries: u32,
    /// Further lines of `[server]`, `[kernel]`, `[cache]`, `[resolve]`.
    pub server: String,
    pub kernel: String,
    pub cache: String,
    pub resolve: String,
    pub upstreams: Vec<SocketAddr>,
    /// Name and records of static zones.
    pub zones: Vec<(String, Vec<String>)>,
}

impl File {
    pub fn text(&self) -> String {
        let listen: Vec<String> = self.listen.iter().map(|at| format!("\"{at}\"")).collect();
        let mut text = format!(
            "[server]\nlisten = [{}]\n{}\n\
             [kernel]\ninterfaces = [\"s0\"]\nentries = {}\nlease = \"{}s\"\n{}\n\
             [cache]\n{}\n[resolve]\n{}\n\
             [acl]\nallow = [\"10.53.0.0/16\", \"fd53::/16\", \"127.0.0.0/8\"]\n",
            listen.join(", "),
            self.server,
            self.entries,
            self.lease_secs,
            self.kernel,
            self.cache,
            self.resolve
        );
        for (name, at) in ["one", "two", "three"].iter().zip(&self.upstreams) {
            let _ = writeln!(text, "[[upstream]]\nname = \"{name}\"\naddress = \"{at}\"");
        }
        for (name, records) in &self.zones {
            let records: Vec<String> = records.iter().map(|r| format!("\"{r}\"")).collect();
            let _ = writeln!(
                text,
                "[[zone]]\nname = \"{name}\"\nkind = \"static\"\nrecords = [\n    {}\n]",
                records.join(",\n    ")
            );
        }
        text
    }

    /// With a zone `local.test.` whose name `www` has this address.
    pub fn with_local(mut self, address: &str) -> Self {
        let soa = "@ 3600 IN SOA ns hostmaster 1 3600 900 604800 300".to_owned();
        let www = format!("www 3600 IN A {address}");
        self.zones = vec![("local.test.".to_owned(), vec![soa, www])];
        self
    }
}

/// What a verb says with `--json`.
pub fn json(daemon: &Daemon, args: &[&str]) -> Result<Value> {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let text = daemon.cli(&args)?;
    serde_json::from_str(&text).with_context(|| format!("{args:?}: {text}"))
}

/// Waits for a line of the log that has all of `parts`.
pub fn logged(daemon: &Daemon, parts: &[&str]) -> Result<()> {
    let what = format!("a line of the log with {parts:?}");
    wait::until(&what, LOG, || has_line(&daemon.log(), parts)).with_context(|| daemon.log())
}

pub fn has_line(log: &str, parts: &[&str]) -> bool {
    log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// The one address in an answer.
pub fn address(reply: &Reply) -> Result<String> {
    let addresses: Vec<String> =
        reply.of_type("A").chain(reply.of_type("AAAA")).map(lab::Record::text).collect();
    ensure!(addresses.len() == 1, "rcode {}, addresses {addresses:?}", reply.rcode());
    Ok(addresses[0].clone())
}

const LOG: Duration = Duration::from_secs(5);
