//! What the tour is taken on: a client, the daemon and a fake Internet, wired in a row.
//!
//! Shows what is typed and what came back; what that should be, the steps know.

use std::env;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::internet::{Internet, Place, Plan};
use lab::{Daemon, Namespace, Scratch, Wire, run, wait};

use super::names::Names;
use super::told::telling;
use crate::call;

/// Dropping it ends all that runs here, the daemon first.
pub struct Site {
    pub names: Names,
    pub daemon: Daemon,
    /// Whose address the lines are typed at, with what they name: certificate, policy zone, socket.
    client: Namespace,
    server: Place,
    internet: Internet,
    wire: Wire,
    files: Scratch,
    path: String,
}

impl Site {
    pub fn start(seed: u64) -> Result<Self> {
        let plan = Plan::of_seed(seed);
        let names = Names::of(&plan)?;
        println!("tour: signing and serving {} zones …", plan.zones.len());
        let internet = Internet::start(&plan)?;
        let server = internet.attach("server")?;
        let client = Namespace::new("client")?;
        let wire = Wire::between(&client, "c0", &server.namespace, "s0", NET)?;
        let files = Scratch::new("tour")?;
        certify(&files, &wire)?;
        files.write("rpz.zone", &policy_zone(&names))?;
        let daemon = Daemon::start(&server.namespace, &configuration(&internet, &wire, &files))?;
        let path = path(&files)?;
        Ok(Self { names, daemon, client, server, internet, wire, files, path })
    }

    /// What stands here, for who is about to see it.
    pub fn description(&self) -> String {
        let plan = self.internet.plan();
        format!(
            "\n  client {} ── {} resolverd {} ── a fake Internet of seed {}\n\n  \
             There, {} processes of Knot DNS and NSD serve a root and {} zones below it.\n  \
             resolverd recurses, validates, and keeps an answer for {TTL_MAX_SECS} s at most.\n  \
             What follows $ is typed where the client is, what follows # where resolverd is.",
            self.wire.near,
            self.wire.far,
            self.server.v4,
            plan.seed,
            self.internet.pids().len(),
            plan.zones.len() - 1
        )
    }

    /// Types a line at the client's, and gives what it printed.
    pub fn client(&self, line: &str) -> Result<String> {
        self.typed(&self.client, '$', line)
    }

    /// The same at the server's.
    pub fn server(&self, line: &str) -> Result<String> {
        self.typed(&self.server.namespace, '#', line)
    }

    /// Types a line at the client's and shows the lines of a DNS answer that are worth reading.
    pub fn ask(&self, line: &str) -> Result<String> {
        let text = self.client(line)?;
        show(telling(&text));
        Ok(text)
    }

    /// Where the daemon is asked.
    pub fn at(&self) -> String {
        self.wire.far.to_string()
    }

    /// A file that lines can name by this name.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.files.path().join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.files.path().join(name);
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// The processes of all servers that answer on this Internet.
    pub fn servers(&self) -> Vec<u32> {
        self.internet.pids()
    }

    /// Whether the kernel answers for the daemon, or why it does not.
    pub fn kernel_path(&self) -> Result<(), String> {
        let live =
            || self.daemon.metric("resolverd_kernel_available", &[]).is_ok_and(|live| live > 0.0);
        wait::until("the program to be attached", ATTACH, live).map_err(|late| {
            let status = self.daemon.cli(&["kernel", "status"]).unwrap_or_default();
            status.lines().next().map_or_else(|| late.to_string(), str::to_owned)
        })
    }

    fn typed(&self, inside: &Namespace, prompt: char, line: &str) -> Result<String> {
        println!("  {prompt} {line}");
        let mut command = inside.command("sh");
        command.args(["-c", line]).current_dir(self.files.path()).env("PATH", &self.path);
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            // Without the words that brought it into the namespace.
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {} {}", output.status, said.trim(), text.trim());
        }
        Ok(text)
    }
}

/// Prints lines of an output, each cut where it would no longer be read.
pub fn show<'a>(lines: impl IntoIterator<Item = &'a str>) {
    for line in lines {
        // dig and kdig make columns for wider terminals.
        let words = || line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = if line.contains('\t') { words() } else { line.trim().to_owned() };
        let cut: String = line.chars().take(COLUMNS).collect();
        println!("      {cut}{}", if cut.len() < line.len() { "…" } else { "" });
    }
}

fn configuration(internet: &Internet, wire: &Wire, files: &Scratch) -> String {
    let (ip, ip6) = (wire.far, wire.far6);
    let dir = files.path().display();
    format!(
        "[server]\nlisten = [\"{ip}:53\", \"[{ip6}]:53\"]\n\
         tls-listen = [\"{ip}:853\"]\nhttps-listen = [\"{ip}:443\"]\n\
         quic-listen = [\"{ip}:853\"]\nh3-listen = [\"{ip}:443\"]\n\
         tls-cert = \"{dir}/cert.pem\"\ntls-key = \"{dir}/key.pem\"\n\
         [kernel]\ninterfaces = [\"s0\"]\n\
         [cache]\nttl-max = \"{TTL_MAX_SECS}s\"\n\
         [resolve]\nmode = \"recurse\"\nroot-hints = \"{}\"\n\
         allow-server = [\"10.53.0.0/16\", \"fd53::/16\"]\n\
         [dnssec]\ntrust-anchor-files = [\"{}\"]\n\
         [acl]\nallow = [\"10.53.0.0/16\", \"fd53::/16\", \"127.0.0.0/8\"]\n\
         [control]\nsocket = \"{dir}/control.sock\"\n\
         [[rpz]]\nzone = \"rpz.test.\"\nfile = \"{dir}/rpz.zone\"\n",
        internet.hints().display(),
        internet.trust_anchor().display()
    )
}

fn policy_zone(names: &Names) -> String {
    let soa = "$TTL 300\n@ SOA localhost. root. 1 3600 600 86400 300\n";
    format!("{soa}{} CNAME .\n", names.blocked.name)
}

/// A certificate for the encrypted doors, signed by itself.
fn certify(files: &Scratch, wire: &Wire) -> Result<()> {
    let path = |name: &str| files.path().join(name);
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-noenc", "-days", "30", "-subj", "/CN=tour"]);
    openssl.args(["-addext", &format!("subjectAltName=DNS:{SERVER_NAME},IP:{}", wire.far)]);
    openssl.arg("-keyout").arg(path("key.pem")).arg("-out").arg(path("cert.pem"));
    run(&mut openssl).map(drop)
}

/// Where lines find programs: this daemon, the script that speaks HTTP/3 and the Python for it
/// first.
fn path(files: &Scratch) -> Result<String> {
    let binary = lab::binary()?.canonicalize().context("the daemon's binary")?;
    symlink(binary, files.path().join("resolverd"))?;
    symlink(call::root().join("tests/daemon/h3.py"), files.path().join("h3.py"))?;
    let mut folders = vec![files.path().to_owned()];
    if let Some(python) = lab::aioquic() {
        // The folder and not the program: a Python that is a link knows its packages by its name.
        folders.extend(python.parent().map(ToOwned::to_owned));
    }
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(folders)?.into_string();
    path.ok().context("PATH is no text")
}

/// In the certificate; `h3.py` asks for this name.
pub const SERVER_NAME: &str = "one.test";

/// How long an answer is kept here, so that one can be seen past its time.
pub const TTL_MAX_SECS: u32 = 5;

/// The third octet of client and server; places on the Internet and its servers have others.
const NET: u8 = 40;

/// The verifier takes some seconds on a busy machine.
const ATTACH: Duration = Duration::from_secs(15);

/// Of a shown line.
const COLUMNS: usize = 100;
