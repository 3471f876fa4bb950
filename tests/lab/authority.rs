//! A real authoritative server, Knot DNS, with zones of the lab.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
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
        let text = config(&scratch, addresses, zones, Keys::Drawn)?;
        let config = scratch.write("knot.conf", &text)?;
        Self::launch(scratch, config, inside, addresses, zones, by)
    }

    /// Signs for years with keys that the caller makes and moves ([`Authority::set_key`]); each
    /// signed zone has one to begin with. Counts questions ([`Authority::asked`]).
    pub fn start_by_hand(inside: &Namespace, addresses: &[IpAddr], zones: &[Zone]) -> Result<Self> {
        let scratch = Scratch::new("authority")?;
        let addresses: Vec<SocketAddr> = addresses.iter().map(|ip| (*ip, 53).into()).collect();
        let text = config(&scratch, &addresses, zones, Keys::ByHand)?;
        let config = scratch.write("knot.conf", &text)?;
        for zone in zones.iter().filter(|zone| zone.signed != Signed::No) {
            keymgr(&config, &zone.name, &NEW_KEY)?;
        }
        Self::launch(scratch, config, inside, &addresses, zones, &[])
    }

    fn launch(
        scratch: Scratch,
        config: PathBuf,
        inside: &Namespace,
        addresses: &[SocketAddr],
        zones: &[Zone],
        by: &[&str],
    ) -> Result<Self> {
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
        let text = keymgr(&self.config, zone, &["ds"])?;
        let sha256 = text.lines().find(|line| line.split_whitespace().nth(4) == Some("2"));
        sha256.map(str::to_owned).with_context(|| format!("{zone} has no DS: {text}"))
    }

    /// Of one by hand: the keys of a zone, by id, the eldest first.
    pub fn keys(&self, zone: &str) -> Result<Vec<String>> {
        let list = keymgr(&self.config, zone, &["list", "iso"])?;
        let mut keys: Vec<(String, String)> = Vec::new();
        for line in list.lines().filter(|line| !line.trim().is_empty()) {
            let id = line.split_whitespace().next().unwrap_or_default();
            let created = line.split_once("publish=").map_or("", |(_, time)| time);
            keys.push((created.to_owned(), id.to_owned()));
        }
        keys.sort();
        Ok(keys.into_iter().map(|(_, id)| id).collect())
    }

    /// Of one by hand: makes a further key, and signs with it as well.
    pub fn add_key(&self, zone: &str) -> Result<()> {
        keymgr(&self.config, zone, &NEW_KEY)?;
        self.sign(zone)
    }

    /// Of one by hand: changes times of a key (`revoke=+0`), and signs anew.
    pub fn set_key(&self, zone: &str, key: &str, times: &[&str]) -> Result<()> {
        keymgr(&self.config, zone, &[&["set", key], times].concat())?;
        self.sign(zone)
    }

    /// Of one by hand: takes a key away, with what it signed.
    pub fn remove_key(&self, zone: &str, key: &str) -> Result<()> {
        keymgr(&self.config, zone, &["delete", key])?;
        self.sign(zone)
    }

    /// Of one by hand: questions of a type that came so far.
    pub fn asked(&self, qtype: &str) -> Result<u64> {
        let text = self.knotc(&["stats", "mod-stats.query-type"])?;
        let line = text.lines().find_map(|line| line.split_once(&format!("[{qtype}] = ")));
        line.map_or(Ok(0), |(_, count)| Ok(count.trim().parse()?))
    }

    /// All records of a zone as it is served, signatures and all.
    pub fn records(&self, zone: &str) -> Result<String> {
        let text = self.knotc(&["zone-read", zone])?;
        let lines = text.lines().filter_map(|line| line.split_once("] "));
        Ok(lines.fold(String::new(), |text, (_, record)| text + record + "\n"))
    }

    fn sign(&self, zone: &str) -> Result<()> {
        self.knotc(&["-b", "zone-keys-load", zone])?;
        self.knotc(&["-b", "zone-sign", zone]).map(drop)
    }

    fn knotc(&self, words: &[&str]) -> Result<String> {
        let knotc = find("knotc").context("the lab needs `knotc`: `cargo xtask setup`")?;
        run(Command::new(knotc).arg("-c").arg(&self.config).args(words))
    }
}

fn keymgr(config: &Path, zone: &str, words: &[&str]) -> Result<String> {
    let keymgr = find("keymgr").context("the lab needs `keymgr`: `cargo xtask setup`")?;
    run(Command::new(keymgr).arg("-c").arg(config).arg(zone).args(words))
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

fn config(
    scratch: &Scratch,
    addresses: &[SocketAddr],
    zones: &[Zone],
    keys: Keys,
) -> Result<String> {
    let dir = scratch.path().display();
    let (sections, signing) = keys.words();
    let listen: Vec<String> =
        addresses.iter().map(|at| format!("{}@{}", at.ip(), at.port())).collect();
    let mut text = format!(
        "server:\n  rundir: \"{dir}\"\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\n  listen: [ {} ]\n  edns-client-subnet: off\n\
         database:\n  storage: \"{dir}\"\n\
         log:\n  - target: stderr\n    any: warning\n\
         {}policy:\n",
        listen.join(", "),
        sections
    );
    for (id, denial) in POLICIES {
        let _ = write!(
            text,
            "  - id: {id}\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    \
             nsec3-iterations: 0\n    nsec3-salt-length: 0\n{denial}{signing}"
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

/// Whence the keys come.
#[derive(Clone, Copy)]
enum Keys {
    /// knotd makes them as it needs them.
    Drawn,
    ByHand,
}

impl Keys {
    /// What stands before the policies, and in each.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Drawn => ("", ""),
            Self::ByHand => (
                "mod-stats:\n  - id: all\n    query-type: on\n\
                 template:\n  - id: default\n    global-module: mod-stats/all\n",
                "    manual: on\n    rrsig-lifetime: 1000d\n    rrsig-refresh: 30d\n",
            ),
        }
    }
}

const NEW_KEY: [&str; 3] = ["generate", "ksk=yes", "zsk=yes"];
