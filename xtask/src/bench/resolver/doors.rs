//! Hits over streams and encrypted doors: 10 000 names, eight connections that are kept.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use lab::{Ask, Daemon, Process, Scratch, run};
use serde::Serialize;

use super::super::generate::{Names, ask_all, dnsperf};
use super::super::meter::Meter;
use super::super::report;
use super::super::site::{Placement, SERVER_CORE, Site, on_core};
use super::cold::Who;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    Tcp,
    Tls,
    Https,
    Quic,
}

impl Door {
    const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Https, Self::Quic];

    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Https => "HTTPS (HTTP/2, GET)",
            Self::Quic => "QUIC",
        }
    }
}

/// One door of one server at its end.
#[derive(Debug, Clone, Serialize)]
pub struct Passage {
    pub round: u32,
    pub who: Who,
    pub door: Door,
    pub per_sec: f64,
    /// Of the server's core.
    pub micros: f64,
    pub foreign: f64,
}

pub fn round(site: &Site, round: u32, passages: &mut Vec<Passage>) -> Result<()> {
    let files = Scratch::new("doors")?;
    certify(site, &files)?;
    for who in [Who::Unbound, Who::Resolverd] {
        let server = Server::start(site, who, &files)?;
        let _open = site.sockets(false)?;
        let names = Names::TenThousand.file(site)?;
        for _ in 0..2 {
            ask_all(site, &names)?;
        }
        site.steer(Placement::Inline)?;
        for door in Door::ALL {
            // Unbound 1.17 has no QUIC.
            if (who, door) == (Who::Unbound, Door::Quic) {
                continue;
            }
            let meter = Meter::start(Some(server.pid()), site.authority.pid());
            let (answers, secs) = match door {
                Door::Quic => over_quic(site, &files)?,
                Door::Https => over_https(site)?,
                other => {
                    let (mode, port) =
                        if other == Door::Tcp { ("tcp", "53") } else { ("dot", "853") };
                    let args =
                        ["-m", mode, "-p", port, "-c", "8", "-q", "400", "-T", "1", "-l", SECS];
                    let said = dnsperf(site, &names, &args)?;
                    (said.completed, SECS.parse::<f64>()?)
                }
            };
            let usage = meter.read();
            let found = Passage {
                round,
                who,
                door,
                per_sec: answers / secs,
                micros: usage.micros_each(answers as u64),
                foreign: usage.foreign,
            };
            println!(
                "  {who:?} over {}: {:>6}/s, {:.2} µs an answer, other work {:.0} %",
                door.label(),
                report::short(found.per_sec),
                found.micros,
                found.foreign * 100.0
            );
            passages.push(found);
        }
        site.steer(Placement::Steered)?;
    }
    Ok(())
}

/// h2load, for dnsperf 2.10 loses answers that come in one record of TLS.
fn over_https(site: &Site) -> Result<(f64, f64)> {
    let address = site.address().ip();
    let urls = site.scratch.path().join("urls");
    if !urls.is_file() {
        let mut text = String::new();
        for n in 0..Names::TenThousand.count() {
            let query = Ask { id: Some(0), ..Ask::new(&format!("n{n:06}.bench.test."), "A") };
            let coded = base64url(&query.bytes());
            let _ = writeln!(text, "https://{address}/dns-query?dns={coded}");
        }
        site.scratch.write("urls", &text)?;
    }
    let mut command = site.generator("h2load")?;
    command.args(["-c", "8", "-m", "50", "-t", "1", "-D", SECS, "-i"]).arg(urls);
    let said = run(&mut command)?;
    // `requests: 7652 total, 8052 started, 7652 done, 7652 succeeded, 0 failed, …`
    let done = said.lines().find_map(|line| {
        let (before, _) = line.strip_prefix("requests: ")?.split_once(" succeeded")?;
        before.rsplit(' ').next()?.parse::<f64>().ok()
    });
    let done = done.with_context(|| format!("h2load said {said}"))?;
    Ok((done, SECS.parse()?))
}

/// RFC 4648 section 5, without padding.
fn base64url(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let word = three.iter().fold(0_u32, |word, octet| word << 8 | u32::from(*octet));
        let word = word << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(DIGITS[(word >> (18 - 6 * digit)) as usize & 63].into());
        }
    }
    text
}

/// aioquic is no generator: what is quoted is what a query costs the server. Gives how many were
/// answered, and in how many seconds.
fn over_quic(site: &Site, files: &Scratch) -> Result<(f64, f64)> {
    let Some(python) = lab::aioquic() else {
        bail!("the bench needs aioquic: `cargo xtask setup --tests`");
    };
    let mut command = site.on(&site.client, 0, python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bench/resolver/doq.py"));
    command.arg(site.address().ip().to_string()).arg(files.path().join("cert.pem")).arg(SECS);
    let said = run(&mut command)?;
    let mut words = said.split_whitespace().map(str::parse::<f64>);
    let (Some(Ok(answers)), Some(Ok(secs))) = (words.next(), words.next()) else {
        bail!("doq.py said {said}");
    };
    Ok((answers, secs))
}

struct Server(Running);

enum Running {
    Unbound(Process),
    Daemon(Box<Daemon>),
}

impl Server {
    fn start(site: &Site, who: Who, files: &Scratch) -> Result<Self> {
        let by = on_core(SERVER_CORE);
        let by: Vec<&str> = by.iter().map(String::as_str).collect();
        let (ip, upstream) = (site.address().ip(), site.upstream());
        let path = |name: &str| files.path().join(name).display().to_string();
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        if who == Who::Resolverd {
            let text = format!(
                "[server]\nlisten = [\"{ip}:53\"]\ntls-listen = [\"{ip}:853\"]\n\
                 https-listen = [\"{ip}:443\"]\nquic-listen = [\"{ip}:853\"]\n\
                 tls-cert = \"{cert}\"\ntls-key = \"{key}\"\n\
                 [kernel]\nmode = \"off\"\n[resolve]\nmode = \"forward\"\n\
                 upstream-from = \"none\"\n[[upstream]]\nname = \"bench\"\n\
                 address = \"{upstream}\"\n[acl]\nallow = [\"10.53.0.0/16\"]\n\
                 [log]\nlevel = \"warn\"\n"
            );
            let daemon = Daemon::start_by(&site.server, &text, &by)?;
            return Ok(Self(Running::Daemon(Box::new(daemon))));
        }
        let config = files.write(
            "unbound.conf",
            &format!(
                "server:\n  interface: {ip}@53\n  interface: {ip}@853\n  interface: {ip}@443\n  \
                 tls-port: 853\n  https-port: 443\n  tls-service-pem: \"{cert}\"\n  \
                 tls-service-key: \"{key}\"\n  access-control: 10.53.0.0/16 allow\n  \
                 num-threads: 1\n  incoming-num-tcp: 100\n  msg-cache-size: 256m\n  \
                 rrset-cache-size: 256m\n  chroot: \"\"\n  username: \"\"\n  \
                 directory: \"{}\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  \
                 module-config: \"iterator\"\n  do-ip6: no\n  local-zone: \"test.\" transparent\n\
                 remote-control:\n  control-enable: no\n\
                 forward-zone:\n  name: \".\"\n  forward-addr: {}\n",
                files.path().display(),
                upstream.ip()
            ),
        )?;
        let program = lab::find("unbound").context("the bench needs `unbound`")?;
        let mut command = site.on(&site.server, SERVER_CORE, program.as_os_str());
        command.arg("-d").arg("-c").arg(&config);
        let mut process = Process::start("unbound", command, &files.path().join("log"))?;
        process.ready("unbound answers", || {
            let ask = Ask::new("n000007.bench.test.", "A");
            site.client.ask(site.address(), &ask).is_ok_and(|reply| reply.answer.len() == 1)
        })?;
        Ok(Self(Running::Unbound(process)))
    }

    fn pid(&self) -> u32 {
        match &self.0 {
            Running::Unbound(process) => process.pid(),
            Running::Daemon(daemon) => daemon.pid(),
        }
    }
}

fn certify(site: &Site, files: &Scratch) -> Result<()> {
    let path = |name: &str| files.path().join(name);
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-noenc", "-days", "2", "-subj", "/CN=bench"]);
    openssl.args(["-addext", &format!("subjectAltName=IP:{}", site.address().ip())]);
    openssl.arg("-keyout").arg(path("key.pem")).arg("-out").arg(path("cert.pem"));
    run(&mut openssl).map(drop)
}

/// Of one measurement, in seconds.
const SECS: &str = "4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_the_rfc() {
        // RFC 4648 section 10, without padding.
        for (plain, coded) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}
