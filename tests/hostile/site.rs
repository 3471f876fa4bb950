//! A client, a resolver and a network of servers, each in a namespace of its own.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use lab::{Ask, Daemon, Namespace, Scratch, Wire, wait};

pub struct Site {
    pub client: Namespace,
    pub server: Namespace,
    pub upstream: Namespace,
    folder: Scratch,
}

/// Where zones are served: one that everybody asks about, and one that is attacked.
pub const OTHERS: Ipv4Addr = Ipv4Addr::new(10, 53, 2, 2);
pub const TARGET: Ipv4Addr = Ipv4Addr::new(10, 53, 2, 3);

impl Site {
    pub fn new() -> Result<Self> {
        let client = Namespace::new("client")?;
        let server = Namespace::new("server")?;
        let upstream = Namespace::new("upstream")?;
        Wire::between(&client, "c0", &server, "s0", 1)?;
        Wire::between(&server, "s1", &upstream, "u0", 2)?;
        upstream.address("u0", &format!("{TARGET}/24"))?;
        let folder = Scratch::new("hostile")?;
        folder.write("root.hints", &format!("a.root. 3600 A {OTHERS}\n"))?;
        Ok(Self { client, server, upstream, folder })
    }

    /// Where clients find the daemon.
    pub fn at(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::new(10, 53, 1, 2), port).into()
    }

    pub fn folder(&self) -> &Scratch {
        &self.folder
    }

    /// A daemon that asks the two servers for `others.test.` and `target.test.`, with further lines
    /// of `[server]`, and further sections.
    pub fn daemon(&self, server: &str, sections: &str) -> Result<Daemon> {
        let hints = self.folder.path().join("root.hints");
        let mut text = format!(
            "[server]\nlisten = [\"{}\"]\n{server}\n\
             [kernel]\nmode = \"off\"\n\
             [resolve]\nmode = \"recurse\"\nroot-hints = \"{}\"\nprime-root = false\n\
             background-queries = false\n\
             [acl]\nallow = [\"10.53.0.0/16\", \"127.0.0.0/8\"]\n{sections}\n",
            self.at(53),
            hints.display(),
        );
        for (zone, at) in [("others.test.", OTHERS), ("target.test.", TARGET)] {
            text += &format!(
                "[[zone]]\nname = \"{zone}\"\nmode = \"stub\"\nupstreams = [\"{at}:53\"]\n"
            );
        }
        Daemon::start(&self.server, &text)
    }

    /// Asks until there is an answer with records.
    pub fn warm(&self, name: &str) -> Result<()> {
        let what = format!("an answer for {name}");
        let ask = Ask::new(name, "A");
        wait::until(&what, wait::READY, || {
            let reply = self.client.ask(self.at(53), &ask);
            reply.is_ok_and(|reply| !reply.answer.is_empty())
        })
    }
}

/// A line of `/proc/PID/status` in octets: `VmRSS`, `VmHWM`.
pub fn memory(pid: u32, line: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {line}"))? * 1_024)
}

pub fn mib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}
