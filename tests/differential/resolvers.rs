//! The three who are asked, each in a place of its own on the fake Internet, each recursing from
//! its hints and validating from its anchor.

use std::fs;

use anyhow::{Context as _, Result};
use lab::internet::{Internet, Place};
use lab::{Ask, Daemon, Process, Scratch, find};

/// The three, at work; stopped when dropped.
pub struct Resolvers {
    pub ours: Place,
    pub unbound: Place,
    pub kresd: Place,
    daemon: Daemon,
    processes: Vec<(Process, Scratch)>,
}

impl Resolvers {
    pub fn start(internet: &Internet) -> Result<Self> {
        let [ours, unbound, kresd] = ["resolverd", "unbound", "kresd"].map(|n| internet.attach(n));
        let (ours, unbound, kresd) = (ours?, unbound?, kresd?);
        let daemon = Daemon::start(&ours.namespace, &configuration(internet, &ours))?;
        let processes = vec![start_unbound(internet, &unbound)?, start_kresd(internet, &kresd)?];
        Ok(Self { ours, unbound, kresd, daemon, processes })
    }

    /// What they have logged, by file.
    pub fn logs(&self) -> Vec<(&'static str, String)> {
        let of = |n: usize| self.processes[n].0.log();
        vec![("resolverd", self.daemon.log()), ("unbound", of(0)), ("kresd", of(1))]
    }
}

fn configuration(internet: &Internet, place: &Place) -> String {
    format!(
        "[server]\nlisten = [\"{}\"]\n\
         [kernel]\nmode = \"off\"\n\
         [resolve]\nmode = \"recurse\"\nroot-hints = \"{}\"\n\
         allow-server = [\"10.53.0.0/16\", \"fd53::/16\"]\n\
         [dnssec]\ntrust-anchor-files = [\"{}\"]\n\
         [acl]\nallow = [\"10.53.0.0/16\", \"127.0.0.0/8\"]\n",
        place.at(),
        internet.hints().display(),
        internet.trust_anchor().display()
    )
}

fn start_unbound(internet: &Internet, place: &Place) -> Result<(Process, Scratch)> {
    let scratch = Scratch::new("unbound")?;
    let dir = scratch.path().display();
    let config = format!(
        "server:\n  interface: {}@53\n  access-control: 10.53.0.0/16 allow\n  \
         do-daemonize: no\n  num-threads: 1\n  chroot: \"\"\n  username: \"\"\n  \
         directory: \"{dir}\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  \
         verbosity: 0\n  val-log-level: 2\n  module-config: \"validator iterator\"\n  \
         root-hints: \"{}\"\n  trust-anchor-file: \"{}\"\n  minimal-responses: yes\n  \
         qname-minimisation: yes\n  aggressive-nsec: yes\n  edns-buffer-size: 1232\n  \
         trust-anchor-signaling: no\n\
         remote-control:\n  control-enable: no\n",
        place.v4,
        internet.hints().display(),
        internet.trust_anchor().display()
    );
    let config = scratch.write("unbound.conf", &config)?;
    let program = find("unbound").context("this test needs `unbound`")?;
    let mut command = place.namespace.command(program);
    command.arg("-d").arg("-c").arg(config);
    ready("unbound", command, scratch, place)
}

fn start_kresd(internet: &Internet, place: &Place) -> Result<(Process, Scratch)> {
    let scratch = Scratch::new("kresd")?;
    let dir = scratch.path().display();
    let anchor = fs::read_to_string(internet.trust_anchor())?;
    // Its own anchors and hints are the real root's.
    let config = format!(
        "log_target('stderr')\nlog_level('notice')\nnet.ipv6 = true\n\
         net.listen('{}', 53, {{ kind = 'dns' }})\n\
         cache.storage = 'lmdb://{dir}/cache'\ncache.size = 100 * MB\n\
         modules = {{ 'hints' }}\nhints.root_file('{}')\n\
         modules.unload('ta_signal_query')\nmodules.unload('ta_update')\n\
         trust_anchors.remove('.')\ntrust_anchors.add('{}')\n",
        place.v4,
        internet.hints().display(),
        anchor.trim()
    );
    let config = scratch.write("kresd.conf", &config)?;
    let program = find("kresd").context("this test needs `kresd`")?;
    let mut command = place.namespace.command(program);
    command.arg("-n").arg("-c").arg(config).arg(scratch.path());
    ready("kresd", command, scratch, place)
}

fn ready(
    name: &str,
    command: std::process::Command,
    scratch: Scratch,
    place: &Place,
) -> Result<(Process, Scratch)> {
    let mut process = Process::start(name, command, &scratch.path().join("log"))?;
    process.ready(&format!("{name} validates"), || {
        let reply = place.namespace.ask(place.at(), &Ask::new("h0.hosting.net.", "A").dnssec());
        reply.is_ok_and(|reply| reply.authentic())
    })?;
    Ok((process, scratch))
}
