//! The daemon's control socket, and the counters behind it.
//!
//! The command line says the same (`status --json`); hundreds of looks are quicker this way.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{Daemon, wait};
use resolverd_common::counters::Reason;
use serde_json::{Value, json};

/// A way to talk to a daemon.
#[derive(Debug, Clone)]
pub struct Operator {
    socket: PathBuf,
}

impl Operator {
    pub fn of(daemon: &Daemon) -> Self {
        Self::at(daemon.dir().join("control.sock"))
    }

    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub fn kernel(&self) -> Result<Value> {
        self.call("GET", "/v1/kernel", None)
    }

    pub fn flush_all(&self) -> Result<()> {
        self.call("POST", "/v1/flush", Some(&json!({ "all": true }))).map(drop)
    }

    pub fn flush_name(&self, name: &str) -> Result<()> {
        self.call("POST", "/v1/flush", Some(&json!({ "name": name }))).map(drop)
    }

    pub fn flush_zone(&self, zone: &str) -> Result<()> {
        self.call("POST", "/v1/flush", Some(&json!({ "zone": zone }))).map(drop)
    }

    pub fn reload(&self) -> Result<()> {
        self.call("POST", "/v1/reload", None).map(drop)
    }

    pub fn counts(&self) -> Result<Counts> {
        Counts::read(&self.kernel()?)
    }

    /// Waits until the program is attached to `device`, and says how.
    pub fn attached(&self, device: &str) -> Result<String> {
        let mut mode = None;
        let mut last = Value::Null;
        let waited = wait::until(&format!("attached to {device}"), wait::READY, || {
            last = self.kernel().unwrap_or_default();
            mode = interface(&last, device)["mode"].as_str().map(str::to_owned);
            mode.is_some()
        });
        waited.with_context(|| format!("{last:#}"))?;
        mode.context("a mode was seen")
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("{}", self.socket.display()))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("{method} {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer with a head")?;
        if head.split(' ').nth(1) != Some("200") {
            bail!("{method} {path}: {answer}");
        }
        serde_json::from_str(body).with_context(|| format!("{method} {path}: {body}"))
    }
}

/// What `status` says of an interface.
pub fn interface<'a>(kernel: &'a Value, device: &str) -> &'a Value {
    let list = kernel["interfaces"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().find(|interface| interface["name"] == device).unwrap_or(&Value::Null)
}

/// Packets by verdict and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(String, String), u64>);

impl Counts {
    /// From the `kernel` part of a status.
    pub fn read(kernel: &Value) -> Result<Self> {
        let list = kernel["packets"].as_array().context("the status has no packets")?;
        let counts = list.iter().map(|one| {
            let text = |key: &str| one[key].as_str().map(str::to_owned);
            Some(((text("verdict")?, text("reason")?), one["packets"].as_u64()?))
        });
        let counts = counts.collect::<Option<_>>().context("packets by verdict and reason")?;
        Ok(Self(counts))
    }

    /// What was counted between `before` and now.
    pub fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().filter_map(|(which, now)| {
            let more = now - before.0.get(which).unwrap_or(&0);
            (more > 0).then(|| (which.clone(), more))
        });
        Self(grown.collect())
    }

    /// Without what is no DNS: neighbours and multicast listeners come by at any time.
    pub fn of_dns(mut self) -> Self {
        self.0.remove(&("pass".to_owned(), Reason::NotDns.as_str().to_owned()));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn hits(&self) -> u64 {
        self.0.iter().filter(|((verdict, _), _)| verdict == "hit").map(|(_, n)| n).sum()
    }

    pub fn hit(&self, reason: Reason) -> u64 {
        self.count("hit", reason)
    }

    pub fn passed(&self, reason: Reason) -> u64 {
        self.count("pass", reason)
    }

    pub fn dropped(&self, reason: Reason) -> u64 {
        self.count("drop", reason)
    }

    /// Whether this one packet and no other was counted.
    pub fn is_one_pass(&self, reason: Reason) -> bool {
        self.passed(reason) == 1 && self.0.len() == 1
    }

    pub fn is_one_hit(&self, reason: Reason) -> bool {
        self.hit(reason) == 1 && self.0.len() == 1
    }

    fn count(&self, verdict: &str, reason: Reason) -> u64 {
        let which = (verdict.to_owned(), reason.as_str().to_owned());
        self.0.get(&which).copied().unwrap_or(0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing counted");
        }
        for (i, ((verdict, reason), n)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{verdict}/{reason} {n}")?;
        }
        Ok(())
    }
}

/// A call of the control socket ends within this.
const ANSWER: Duration = Duration::from_secs(10);
