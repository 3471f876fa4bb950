//! The daemon under test, as an operator runs it: its release binary and a file.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::query::{self, Ask};
use crate::scratch::Scratch;

/// `resolverd run` in a namespace of its own making.
///
/// The file given to [`Daemon::start`] may say `@dir@`: the daemon's scratch folder. What it does
/// not say is laid under it: `[server] state-dir`, `[kernel] pin-path`, `[control] socket` and
/// `[metrics] listen` point into the folder or at the namespace's loopback.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    inside: String,
    listen: SocketAddr,
    metrics: SocketAddr,
    config: PathBuf,
    by: Vec<String>,
    scratch: Scratch,
}

impl Daemon {
    /// Starts it and waits until it answers (whatever the answer is) on the first of
    /// `[server] listen`.
    pub fn start(inside: &Namespace, text: &str) -> Result<Self> {
        Self::start_by(inside, text, &[])
    }

    /// The same, begun by other words: `["taskset", "-c", "1"]`.
    pub fn start_by(inside: &Namespace, text: &str, by: &[&str]) -> Result<Self> {
        let scratch = Scratch::new("daemon")?;
        let text = complete(text, scratch.path())?;
        let listen = first_address(&text, "server", "listen")?;
        let metrics = first_address(&text, "metrics", "listen")?;
        let config = scratch.write("resolverd.toml", &text)?;
        let by: Vec<String> = by.iter().map(|word| (*word).to_owned()).collect();
        let process = spawn(inside, &by, &config, &scratch)?;
        let inside = inside.name().to_owned();
        let mut daemon = Self { process, inside, listen, metrics, config, by, scratch };
        daemon.ready()?;
        Ok(daemon)
    }

    /// Starts it again after [`Daemon::kill9`] or [`Daemon::terminate`], on the same file, state
    /// and pins.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.namespace()?, &self.by, &self.config, &self.scratch)?;
        self.ready()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The address it was found ready on.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its scratch folder: configuration, log, state, socket, pins.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Writes its file anew, completed as [`Daemon::start`] does; [`Daemon::hup`] makes it read.
    pub fn rewrite(&self, text: &str) -> Result<()> {
        let text = complete(text, self.scratch.path())?;
        fs::write(&self.config, text).context("writing the configuration")
    }

    /// Another verb of the same binary, told where the daemon is by `--config`. Standard output
    /// of one that fails is in the error.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let output = self.cli_output(args)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("resolverd {}: {}: {said}{text}", args.join(" "), output.status);
        }
        Ok(text)
    }

    /// The same, for verbs that are meant to fail.
    pub fn cli_output(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.namespace()?.command(binary()?);
        command.args(args).arg("--config").arg(&self.config);
        command.output().with_context(|| format!("{command:?}"))
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// SIGHUP: read the file again.
    pub fn hup(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What Prometheus would scrape.
    pub fn metrics(&self) -> Result<String> {
        let text = self.namespace()?.enter(|| scrape(self.metrics))?;
        text.with_context(|| format!("metrics of {}", self.metrics))
    }

    /// The sum over the series of a metric whose labels include all of `labels`
    /// (`[("verdict", "hit")]`); 0 if there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(sum(&self.metrics()?, name, labels))
    }

    fn namespace(&self) -> Result<Namespace> {
        let inside = Namespace::existing(&self.inside);
        inside.with_context(|| format!("namespace {} is gone", self.inside))
    }

    fn ready(&mut self) -> Result<()> {
        let (inside, listen) = (self.namespace()?, self.listen);
        let bytes = Ask::new("ready.invalid.", "A").bytes();
        self.process.ready("resolverd answers", || {
            let asked = inside.enter(|| query::udp(listen, &bytes, PROBE));
            asked.is_ok_and(|answer| answer.is_ok())
        })
    }
}

/// The binary under test: `RESOLVERD_BIN`, else the workspace's release build, else its debug one.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RESOLVERD_BIN") {
        return Ok(path.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("resolverd"));
    let found = built.into_iter().find(|path| path.is_file());
    found.context("no resolverd binary: `cargo xtask build`, or set RESOLVERD_BIN")
}

fn spawn(inside: &Namespace, by: &[String], config: &Path, scratch: &Scratch) -> Result<Process> {
    let binary = binary()?;
    let mut words = by.iter().map(Into::into).chain([binary.into_os_string()]);
    let mut command = inside.command(words.next().context("a command has a first word")?);
    command.args(words).arg("run").arg("--config").arg(config);
    Process::start("resolverd", command, &scratch.path().join("log"))
}

/// Lays what the text leaves out under it, so that two daemons of one machine don't meet.
fn complete(text: &str, dir: &Path) -> Result<String> {
    let text = text.replace("@dir@", &dir.display().to_string());
    let Ok(table) = text.parse::<toml::Table>() else {
        // A test may want a file that is refused: it stays as it is.
        return Ok(text);
    };
    let dir = dir.display();
    let wanted = [
        ("server", "state-dir", format!("{dir}/state")),
        ("kernel", "pin-path", format!("{dir}/bpf")),
        ("control", "socket", format!("{dir}/control.sock")),
        ("metrics", "listen", METRICS.to_owned()),
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (section, key, value) in wanted {
        let line = format!("{key} = \"{value}\"");
        match table.get(section).and_then(toml::Value::as_table) {
            Some(keys) if keys.contains_key(key) => {}
            Some(_) => {
                let header = format!("[{section}]");
                let at = lines.iter().position(|l| l.trim() == header);
                let at = at.with_context(|| format!("write {header} on a line of its own"))?;
                lines.insert(at + 1, line);
            }
            None => lines.extend([format!("[{section}]"), line]),
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn first_address(text: &str, section: &str, key: &str) -> Result<SocketAddr> {
    let table: toml::Table = text.parse().context("a daemon is started with a good file")?;
    let value = table.get(section).and_then(|s| s.get(key));
    let first = value.and_then(|v| v.as_str().or_else(|| v.as_array()?.first()?.as_str()));
    let first = first.with_context(|| format!("[{section}] {key} is not there"))?;
    first.parse().with_context(|| format!("[{section}] {key}: {first} is no address with a port"))
}

/// One HTTP/1.0 request: the connection's end is the answer's end.
fn scrape(server: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, query::ANSWER)?;
    stream.set_read_timeout(Some(query::ANSWER))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: lab\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(head.to_owned()));
    }
    Ok(body.to_owned())
}

fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (found, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        wanted.iter().all(|want| found.contains(want)).then(|| value.trim().parse::<f64>().ok())?
    });
    values.sum()
}

/// For one probe of readiness.
const PROBE: Duration = Duration::from_millis(500);

/// Where a daemon that wasn't told serves its metrics; each namespace has a loopback of its own.
const METRICS: &str = "127.0.0.1:9853";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_completed_where_it_says_nothing() {
        let text = "[server]\nlisten = [\"10.0.0.1:53\"]\n[metrics]\nlisten = \"[::1]:1\"\n";
        let done = complete(text, Path::new("/x")).unwrap();
        let table: toml::Table = done.parse().unwrap();
        assert_eq!(table["server"]["state-dir"].as_str(), Some("/x/state"));
        assert_eq!(table["control"]["socket"].as_str(), Some("/x/control.sock"));
        assert_eq!(table["metrics"]["listen"].as_str(), Some("[::1]:1"));
        assert_eq!(first_address(&done, "server", "listen").unwrap().port(), 53);
    }

    #[test]
    fn series_are_summed_by_their_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nab 100\nb 7\n";
        assert!((sum(text, "a", &[("x", "1")]) - 7.0).abs() < 1e-9);
        assert!((sum(text, "a", &[("x", "1"), ("y", "3")]) - 4.0).abs() < 1e-9);
        assert!((sum(text, "b", &[]) - 7.0).abs() < 1e-9);
    }
}
