//! What most tests stand on: a client, a wire, a server with Knot and the daemon, kernel path on.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Result, ensure};
use lab::{Authority, Daemon, Namespace, Scratch, Signed, Wire, Zone, run, zones};

use crate::frame::{Datagram, Mac, UDP, mac};
use crate::operator::Operator;
use crate::passing;

pub const CLIENT: &str = "c0";
pub const SERVER: &str = "s0";

/// Where Knot listens: on the server's own loopback.
pub const UPSTREAM: &str = "192.0.2.53";

/// The last number of an address on the wire.
pub type Host = u16;

pub const SELF: Host = 2;
/// A client that no machine is: what comes back to it troubles nobody.
pub const ASKER: Host = 77;
pub const DENIED: Host = 66;

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The two ends of the wire.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub wire: Wire,
    pub client_mac: Mac,
    pub server_mac: Mac,
}

impl Ends {
    pub fn host(&self, family: Family, host: Host) -> IpAddr {
        match family {
            Family::V4 => {
                let [a, b, c, _] = self.wire.far.octets();
                [a, b, c, host as u8].into()
            }
            Family::V6 => {
                let [a, b, c, d, e, f, g, _] = self.wire.far6.segments();
                [a, b, c, d, e, f, g, host].into()
            }
        }
    }

    /// A query from the client that no machine is.
    pub fn query(&self, family: Family, message: &[u8]) -> Datagram {
        Datagram {
            to_mac: self.server_mac,
            from_mac: self.client_mac,
            tags: Vec::new(),
            source: self.host(family, ASKER),
            target: self.host(family, SELF),
            source_port: 40_000,
            target_port: 53,
            payload: message.to_vec(),
            protocol: UDP,
            options: Vec::new(),
            extension: None,
            fragment: 0,
            ip_len_error: 0,
            udp_len_error: 0,
            ip_sum_error: 0,
            unsummed: false,
            padding: 0,
        }
    }
}

/// Two namespaces and a wire; nobody serves yet.
#[derive(Debug)]
pub struct Link {
    pub client: Namespace,
    pub server: Namespace,
    pub ends: Ends,
}

impl Link {
    pub fn new() -> Result<Self> {
        let (client, server) = (Namespace::new("client")?, Namespace::new("server")?);
        let wire = Wire::between(&client, CLIENT, &server, SERVER, 1)?;
        let ends = Ends {
            wire,
            client_mac: mac(&client.mac(CLIENT)?)?,
            server_mac: mac(&server.mac(SERVER)?)?,
        };
        let link = Self { client, server, ends };
        link.tune()?;
        Ok(link)
    }

    /// What every new wire needs.
    pub fn tune(&self) -> Result<()> {
        // What native XDP sends back through a veth stays in the peer's ring unless the peer has
        // an XDP program too: nobody else tells it to look there. (GRO is not enough.)
        passing::attach(&self.client, CLIENT, "xdpdrv")?;
        // Its listener reports would be counted; frames by hand need no address.
        self.client.sysctl(&format!("net.ipv6.conf.{CLIENT}.disable_ipv6"), "1")?;
        let to = self.client.mac(CLIENT)?;
        for host in [ASKER, DENIED] {
            for family in [Family::V4, Family::V6] {
                let address = self.ends.host(family, host).to_string();
                self.server.neighbour(SERVER, &address, &to)?;
            }
        }
        Ok(())
    }

    /// A configuration: the daemon on the wire, whose kernel path is `kernel`.
    pub fn config(&self, kernel: &str) -> String {
        self.config_with(kernel, &[])
    }

    /// The same, listening on further addresses.
    pub fn config_with(&self, kernel: &str, further: &[SocketAddr]) -> String {
        let Wire { far, far6, .. } = self.ends.wire;
        let further: String = further.iter().map(|at| format!(", \"{at}\"")).collect();
        let both = [Family::V4, Family::V6];
        let [net, net6] = both.map(|family| self.ends.host(family, 0));
        let [denied, denied6] = both.map(|family| self.ends.host(family, DENIED));
        format!(
            "[server]\nlisten = [\"{far}:53\", \"[{far6}]:53\"{further}]\n\
             [kernel]\ninterfaces = [\"{SERVER}\"]\n{kernel}\n\
             [resolve]\nupstream-from = \"none\"\n\
             [[upstream]]\nname = \"knot\"\naddress = \"{UPSTREAM}:53\"\n\
             [acl]\nallow = [\"{net}/24\", \"{net6}/64\", \"127.0.0.0/8\"]\n\
             deny = [\"{denied}/32\", \"{denied6}/128\"]\n{LOCAL_ZONE}"
        )
    }

    /// Knot, on an address of the server's own.
    pub fn authority(&self) -> Result<Authority> {
        self.server.address("lo", &format!("{UPSTREAM}/32"))?;
        Authority::start(&self.server, &[UPSTREAM.parse()?], &all_zones())
    }
}

/// A daemon that answers on the wire, with its upstream.
#[derive(Debug)]
pub struct Site {
    pub link: Link,
    pub daemon: Daemon,
    pub operator: Operator,
    _authority: Authority,
}

impl Site {
    /// Ready when the program is attached in this `mode` of the configuration.
    pub fn new(mode: &str) -> Result<Self> {
        let link = Link::new()?;
        let authority = link.authority()?;
        let kernel = format!("mode = \"{mode}\"\nlease = \"{LEASE_SECS}s\"");
        let daemon = Daemon::start(&link.server, &link.config(&kernel))?;
        let operator = Operator::of(&daemon);
        let found = operator.attached(SERVER)?;
        ensure!(mode == "auto" || mode == found, "{found} where {mode} was asked for");
        Ok(Self { link, daemon, operator, _authority: authority })
    }
}

/// The zones of the lab, and a root.
fn all_zones() -> [Zone; 3] {
    let text = "$ORIGIN .\n$TTL 3600\n@ SOA ns.lab.test. admin.lab.test. 1 3600 900 604800 300\n\
                @ NS ns.lab.test.\n";
    let root = Zone { name: ".".to_owned(), text: text.to_owned(), signed: Signed::No };
    [zones::lab(), zones::signed(), root]
}

/// Says once a test, whatever becomes of its output, that it cannot be run here, and why.
pub fn out_of_reach(test: &str) -> bool {
    let Err(why) = &*MISSING else { return false };
    // Not by `eprintln!`, which is shown for tests that fail and no others.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
    true
}

/// What is missing for packets to be answered in the kernel.
static MISSING: LazyLock<Result<(), String>> =
    LazyLock::new(|| available().map_err(|error| format!("{error:#}")));

fn available() -> Result<()> {
    lab::available()?;
    for program in ["knotd", "ethtool", "tcpdump", "clang", "bpftool", "dig"] {
        ensure!(lab::find(program).is_some(), "needs `{program}`: `cargo xtask setup`");
    }
    let scratch = Scratch::new("available")?;
    let config = scratch.write("resolverd.toml", "")?;
    let mut check = Command::new(lab::binary()?);
    let said = run(check.arg("check").arg("--config").arg(config))?;
    let kernel = said.lines().find(|line| line.contains("kernel path:")).unwrap_or(&said);
    ensure!(kernel.contains("has what it needs"), "{}", kernel.trim());
    Ok(())
}

/// Begins a test: says so and returns when it cannot be run here.
macro_rules! needs_the_kernel {
    ($test:literal) => {
        if crate::site::out_of_reach($test) {
            return Ok(());
        }
    };
}
pub(crate) use needs_the_kernel;

/// Short, because a test waits until it is over; long beside the second in which it is renewed.
pub const LEASE_SECS: u64 = 5;

const LOCAL_ZONE: &str = r#"
[[zone]]
name = "resolverd.test."
kind = "static"
records = [
    "@ 3600 IN SOA ns.resolverd.test. hostmaster.resolverd.test. 1 3600 900 604800 300",
    "@ 3600 IN NS ns.resolverd.test.",
    "ns 3600 IN A 192.0.2.53",
    "www 300 IN A 192.0.2.80",
    "www 300 IN AAAA 2001:db8::80",
    "web 300 IN CNAME www.resolverd.test.",
    "text 300 IN TXT \"the daemon's own\"",
]
"#;
