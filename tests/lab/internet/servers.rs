//! The server processes of the fake Internet: Knot DNS and NSD, side by side in one namespace.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::plan::{HOSTS, NSD_HOSTS, Plan, addresses};
use crate::authority::Authority;
use crate::namespace::{Namespace, find};
use crate::process::Process;
use crate::query::Ask;
use crate::scratch::Scratch;
use crate::zones::Zone;

/// One process and the zones it has.
#[derive(Debug)]
pub enum Server {
    Knot(Authority),
    Nsd { process: Process, _scratch: Scratch },
}

impl Server {
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self {
            Self::Knot(authority) => authority.pid(),
            Self::Nsd { process, .. } => process.pid(),
        }
    }
}

/// Starts all hosts of a plan at once, and waits until they answer for each zone.
pub fn start(inside: &Namespace, plan: &Plan, zones: &[Zone], port: u16) -> Result<Vec<Server>> {
    let start_one = |host: usize| {
        let own: Vec<Zone> = plan
            .zones
            .iter()
            .zip(zones)
            .filter(|(planned, _)| planned.hosts().any(|of| of == host))
            .map(|(_, zone)| zone.clone())
            .collect();
        let at = addresses(host).map(|ip| SocketAddr::new(ip, port));
        if host < HOSTS - NSD_HOSTS {
            let scratch = Scratch::new(&format!("knot{host}"))?;
            Ok(Server::Knot(Authority::start_at(scratch, inside, &at, &own, &[])?))
        } else {
            nsd(inside, &at, &own)
        }
    };
    std::thread::scope(|scope| {
        let starting: Vec<_> =
            (0..HOSTS).map(|host| scope.spawn(move || start_one(host))).collect();
        let started = starting
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        started.collect()
    })
}

fn nsd(inside: &Namespace, at: &[SocketAddr], zones: &[Zone]) -> Result<Server> {
    let scratch = Scratch::new("nsd")?;
    let dir = scratch.path().display();
    let mut text = String::from("server:\n");
    for at in at {
        let _ = writeln!(text, "  ip-address: {}@{}", at.ip(), at.port());
    }
    let _ = write!(
        text,
        "  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  \
         zonesdir: \"{dir}\"\n  pidfile: \"{dir}/pid\"\n  xfrdfile: \"{dir}/xfrd\"\n  \
         zonelistfile: \"{dir}/list\"\n  logfile: \"{dir}/said\"\n  rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n"
    );
    for zone in zones {
        let file = scratch.write(&format!("{}zone", zone.name), &zone.text)?;
        let _ =
            write!(text, "zone:\n  name: \"{}\"\n  zonefile: \"{}\"\n", zone.name, file.display());
    }
    let config = scratch.write("nsd.conf", &text)?;
    let nsd = find("nsd").context("the lab needs `nsd`: `cargo xtask setup --tests`")?;
    let mut command = inside.command(nsd);
    command.arg("-d").arg("-c").arg(&config);
    let mut process = Process::start("nsd", command, &scratch.path().join("log"))?;
    let names: BTreeSet<&str> = zones.iter().map(|zone| zone.name.as_str()).collect();
    process
        .ready("nsd answers for its zones", || {
            names.iter().all(|name| {
                let reply = inside.ask(at[0], &Ask::new(name, "SOA"));
                reply.is_ok_and(|reply| reply.of_type("SOA").next().is_some())
            })
        })
        .with_context(|| {
            std::fs::read_to_string(scratch.path().join("said")).unwrap_or_default()
        })?;
    Ok(Server::Nsd { process, _scratch: scratch })
}
