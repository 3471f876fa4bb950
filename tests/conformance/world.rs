//! The Internet that these tests ask: a root, `test.` and zones below it, and one daemon.
//!
//! Made once, shared by the tests that run at one time, and gone with the last of them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Ask, Authority, Daemon, Namespace, Reply, Scratch, Signed, Zone, tcp, udp};

use crate::scripted::Scripted;

/// The world, or the end of the test where there is no lab.
macro_rules! world {
    () => {
        match $crate::world::World::get()? {
            Some(world) => world,
            None => return Ok(()),
        }
    };
}
pub(crate) use world;

/// Where the scripted server is.
pub const ODD: &str = "10.53.2.13";

/// Another address of clients.
pub const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 53, 1, 1);

pub struct World {
    // The daemon goes first, the namespace last.
    pub daemon: Daemon,
    pub odd: Scripted,
    _servers: [Authority; 3],
    files: Scratch,
    pub inside: Namespace,
}

impl World {
    /// `None`, and a word on standard error: this machine has no lab.
    pub fn get() -> Result<Option<Arc<Self>>> {
        static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
        if let Err(why) = lab::available() {
            eprintln!("skipped: {why}");
            return Ok(None);
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return Ok(Some(world));
        }
        let world = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&world);
        Ok(Some(world))
    }

    fn new() -> Result<Self> {
        let inside = Namespace::new("world")?;
        for address in ["10.53.1.1", "10.53.1.2", ROOT, TLD, LEAVES, ODD] {
            inside.address("lo", &format!("{address}/32"))?;
        }
        let v4 = |text: &str| -> Result<IpAddr> { Ok(text.parse()?) };
        let leaves = [
            leaf("nsec.test.", Signed::Nsec),
            leaf("nsec3.test.", Signed::Nsec3),
            leaf("optout.test.", Signed::OptOut),
            leaf("broken.test.", Signed::Nsec),
            leaf("new-algorithm.test.", Signed::Nsec),
            leaf("new-digest.test.", Signed::Nsec),
            leaf("plain.test.", Signed::No),
            leaf("child.nsec.test.", Signed::No),
            leaf("child.optout.test.", Signed::No),
        ];
        let leaves = Authority::start(&inside, &[v4(LEAVES)?], &leaves)?;
        let mut text = format!("@ NS ns\nns A {TLD}\nodd NS ns.odd\nns.odd A {ODD}\n");
        for name in ["nsec", "nsec3", "optout", "broken", "new-algorithm", "new-digest", "plain"] {
            let _ = writeln!(text, "{name} NS ns.{name}\nns.{name} A {LEAVES}");
            if name == "plain" {
                continue;
            }
            let ds = leaves.trust_anchor(&format!("{name}.test."))?;
            // Owner, DS, key tag, algorithm, digest type, digest.
            let mut words: Vec<String> = ds.split_whitespace().map(str::to_owned).collect();
            match name {
                "broken" => words[5] = words[5].chars().rev().collect(),
                "new-algorithm" => words[3] = "200".to_owned(),
                "new-digest" => words[4] = "200".to_owned(),
                _ => {}
            }
            let _ = writeln!(text, "{}", words.join(" "));
        }
        let tld = Authority::start(&inside, &[v4(TLD)?], &[zone("test.", &text, Signed::Nsec)])?;
        let text = format!(
            "@ NS a.root.\na.root. A {ROOT}\ntest. NS ns.test.\nns.test. A {TLD}\n{}\n",
            tld.trust_anchor("test.")?
        );
        let root = Authority::start(&inside, &[v4(ROOT)?], &[zone(".", &text, Signed::Nsec)])?;
        let files = Scratch::new("conformance")?;
        files.write("root.hints", &format!("a.root. 3600 A {ROOT}\n"))?;
        files.write("anchors", &format!("{}\n", root.trust_anchor(".")?))?;
        let odd = Scripted::start(&inside, (v4(ODD)?, 53).into())?;
        let text = configuration(&files, AT, "", "");
        let daemon = Daemon::start(&inside, &text)?;
        Ok(Self { daemon, odd, _servers: [leaves, tld, root], files, inside })
    }

    /// Where the daemon is.
    pub fn at(&self) -> SocketAddr {
        self.daemon.listen()
    }

    /// Over UDP.
    pub fn ask(&self, ask: &Ask) -> Result<Reply> {
        self.ask_of(&self.daemon, ask)
    }

    pub fn ask_of(&self, daemon: &Daemon, ask: &Ask) -> Result<Reply> {
        let at = daemon.listen();
        let bytes = self.inside.enter(|| udp(at, &ask.bytes(), ANSWER))?;
        let said = || format!("{} {}\n{}", ask.name, ask.qtype, daemon.log());
        Reply::parse(&bytes.with_context(said)?)
    }

    pub fn ask_tcp(&self, ask: &Ask) -> Result<Reply> {
        let at = self.at();
        let bytes = self.inside.enter(|| tcp(at, &ask.bytes(), ANSWER))??;
        Reply::parse(&bytes)
    }

    /// Octets as they are; the answer's.
    pub fn exchange(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let at = self.at();
        Ok(self.inside.enter(|| udp(at, bytes, ANSWER))??)
    }

    /// Another daemon of this world at an address of its own, with further keys by their whole
    /// names and further lines of `[server]`.
    pub fn daemon_of(&self, more: &str, server: &str) -> Result<Daemon> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let address = format!("10.53.3.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.inside.address("lo", &format!("{address}/32"))?;
        Daemon::start(&self.inside, &configuration(&self.files, &address, server, more))
    }
}

/// What a zone's text has; tests ask for these names.
fn leaf(name: &str, signed: Signed) -> Zone {
    let many: String = (1..=120).map(|n| format!("many A 198.51.100.{n}\n")).collect();
    let child = if matches!(name, "nsec.test." | "optout.test.") {
        format!("child NS ns.child\nns.child A {LEAVES}\n")
    } else {
        String::new()
    };
    zone(name, &format!("@ NS ns\nns A {LEAVES}\n{NAMES}{many}{child}"), signed)
}

fn zone(name: &str, text: &str, signed: Signed) -> Zone {
    let soa = "@ SOA ns admin 1 3600 900 604800 60";
    let text = format!("$ORIGIN {name}\n$TTL 3600\n{soa}\n{text}");
    Zone { name: name.to_owned(), text, signed }
}

/// `more` has further keys by their whole names: `cache.serve-stale = "off"`.
fn configuration(files: &Scratch, address: &str, server: &str, more: &str) -> String {
    let dir = files.path().display();
    format!(
        "{more}\nacl.allow = [\"10.53.0.0/16\"]\n\
         dnssec.trust-anchor-files = [\"{dir}/anchors\"]\n\
         resolve.mode = \"recurse\"\nresolve.root-hints = \"{dir}/root.hints\"\n\
         resolve.allow-server = [\"10.53.0.0/16\"]\n\
         [kernel]\nmode = \"off\"\n[metrics]\nlisten = \"{address}:9853\"\n\
         [server]\nlisten = [\"{address}:53\"]\n{server}\n"
    )
}

/// Longer than the daemon tries (`resolve.timeout`).
const ANSWER: Duration = Duration::from_secs(6);

const AT: &str = "10.53.1.2";
const ROOT: &str = "10.53.2.10";
const TLD: &str = "10.53.2.11";
const LEAVES: &str = "10.53.2.12";

const NAMES: &str = "\
www A 192.0.2.1
www AAAA 2001:db8::1
second A 192.0.2.2
mixed A 192.0.2.3
mixed TXT \"text\"
MiXeD-case A 192.0.2.4
short 2 A 192.0.2.5
zero 0 A 192.0.2.6
alias CNAME www
chain CNAME alias
across CNAME www.plain.test.
dangling CNAME nothing
old DNAME new
www.new A 192.0.2.7
*.wild A 192.0.2.8
here.wild TXT \"no address\"
deep.ent A 192.0.2.9
";
