//! A real authoritative server, Knot DNS, with zones of the lab.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::namespace::{Namespace, find};
use crate::process::{Process, run};
use crate::query::Ask;
use crate::scratch::Scratch;
use crate::zones::{Signed, Zone};

/// knotd in a namespace, ready when it answers for every zone.
#[derive(Debug)]
pub struct Authority {
    process: Process,
    addresses: Vec<SocketAddr>,
    config: PathBuf,
    // After the process: it writes there until it is gone.
    _scratch: Scratch,
}

impl Authority {
    /// Serves `zones` on port 53 of `addresses`, which the namespace has.
    pub fn start(inside: &Namespace, addresses: &[IpAddr], zones: &[Zone]) -> Result<Self> {
        Self::start_by(inside, addresses, zones, &[])
    }

    /// The same, begun by other words: `["taskset", "-c", "0"]`.
    pub fn start_by(
        inside: &Namespace,
        addresses: &[IpAddr],
        zones: &[Zone],
        by: &[&str],
    ) -> Result<Self> {
        Self::start_in(Scratch::new("authority")?, inside, addresses, zones, by)
    }

    /// The same, with its files in a folder of the caller's.
    pub fn start_in(
        scratch: Scratch,
        inside: &Namespace,
        addresses: &[IpAddr],
        zones: &[Zone],
        by: &[&str],
    ) -> Result<Self> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|ip| (*ip, 53).into()).collect();
        Self::start_at(scratch, inside, &addresses, zones, by)
    }

    /// The same, on ports of the caller's choice.
    pub fn start_at(
        scratch: Scratch,
        inside: &Namespace,
        addresses: &[SocketAddr],
        zones: &[Zone],
        by: &[&str],
    ) -> Result<Self> {
        let config = scratch.write("knot.conf", &config(&scratch, addresses, zones)?)?;
        let knotd = find("knotd").context("the lab needs `knotd`: `cargo xtask setup`")?;
        let mut words = by.iter().map(Into::into).chain([knotd.into_os_string()]);
        let mut command = inside.command(words.next().context("a command has a first word")?);
        command.args(words).arg("-c").arg(&config);
        let mut process = Process::start("knotd", command, &scratch.path().join("log"))?;
        process.ready("knotd answers for its zones", || {
            zones.iter().all(|zone| addresses.iter().all(|at| serves(inside, *at, zone)))
        })?;
        Ok(Self { process, addresses: addresses.to_vec(), config, _scratch: scratch })
    }

    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process, to stop or kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it run on after this process: for a standing lab. It must have been begun by
    /// [`Authority::UNBOUND`], and in a standing folder.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// Words that undo the binding of a child to this process.
    pub const UNBOUND: [&'static str; 4] = ["setpriv", "--pdeathsig", "clear", "--"];

    /// The DS record of a signed zone in presentation form: a trust anchor for it.
    pub fn trust_anchor(&self, zone: &str) -> Result<String> {
        let keymgr = find("keymgr").context("the lab needs `keymgr`: `cargo xtask setup`")?;
        let text = run(Command::new(keymgr).arg("-c").arg(&self.config).args([zone, "ds"]))?;
        let sha256 = text.lines().find(|line| line.split_whitespace().nth(4) == Some("2"));
        sha256.map(str::to_owned).with_context(|| format!("{zone} has no DS: {text}"))
    }
}

fn serves(inside: &Namespace, server: SocketAddr, zone: &Zone) -> bool {
    let ask = Ask::new(&zone.name, "SOA");
    let signed = zone.signed != Signed::No;
    let ask = if signed { ask.dnssec() } else { ask };
    inside.ask(server, &ask).is_ok_and(|reply| {
        reply.of_type("SOA").next().is_some()
            && (!signed || reply.of_type("RRSIG").next().is_some())
    })
}

fn config(scratch: &Scratch, addresses: &[SocketAddr], zones: &[Zone]) -> Result<String> {
    let dir = scratch.path().display();
    let listen: Vec<String> =
        addresses.iter().map(|at| format!("{}@{}", at.ip(), at.port())).collect();
    let mut text = format!(
        "server:\n  rundir: \"{dir}\"\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\n  listen: [ {} ]\n  edns-client-subnet: off\n\
         database:\n  storage: \"{dir}\"\n\
         log:\n  - target: stderr\n    any: warning\n\
         policy:\n",
        listen.join(", ")
    );
    for (id, denial) in POLICIES {
        let _ = write!(
            text,
            "  - id: {id}\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    \
             nsec3-iterations: 0\n    nsec3-salt-length: 0\n{denial}"
        );
    }
    text.push_str("zone:\n");
    for zone in zones {
        let file = scratch.write(&format!("{}zone", zone.name), &zone.text)?;
        let _ = write!(
            text,
            "  - domain: {}\n    file: \"{}\"\n    zonefile-sync: -1\n    \
             journal-content: none\n    semantic-checks: off\n",
            zone.name,
            file.display()
        );
        let policy = match zone.signed {
            Signed::No => continue,
            Signed::Nsec => "nsec",
            Signed::Nsec3 => "nsec3",
            Signed::OptOut => "opt-out",
        };
        let _ = write!(text, "    dnssec-signing: on\n    dnssec-policy: {policy}\n");
    }
    Ok(text)
}

/// The ways of signing: their names in the configuration, and what each says of denial.
const POLICIES: [(&str, &str); 3] = [
    ("nsec", "    nsec3: off\n"),
    ("nsec3", "    nsec3: on\n"),
    ("opt-out", "    nsec3: on\n    nsec3-opt-out: on\n"),
];
