//! `cargo xtask lab`: a small network to look around in, other kernels to load on, and a real
//! systemd to be started by.
//!
//! The tests make their own networks; this one stands until it is taken down.

mod systemd;

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use lab::{Authority, Namespace, Scratch, Wire, zones};

use crate::build::{self, Profile};
use crate::call;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make the standing lab: client, server and an authoritative server; says how to use it.
    Up,
    /// A shell in the client's namespace.
    Shell,
    /// Take the standing lab down, with all that runs in it.
    Down,
    /// Boot other kernels: does the program load there, and does it answer?
    Kernel(KernelOptions),
    /// Boot a real systemd: does the unit start, reload, restart and stop as it should?
    Systemd(systemd::Options),
}

#[derive(Args)]
struct KernelOptions {
    /// Kernel lines, a package, or SUITE:PACKAGE, as the script takes them.
    #[arg(default_values = ["5.10", "6.1", "6.12", "7.2"])]
    versions: Vec<String>,
    /// The script that boots a kernel: `SCRIPT KERNEL -f FILE… -t SECONDS -- COMMAND`.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Seconds a boot may take, with all that is done in it.
    #[arg(long, default_value_t = 300)]
    seconds: u32,
}

pub fn verb(options: &Options) -> Result<()> {
    match &options.action {
        Action::Up => up(),
        Action::Shell => shell(),
        Action::Down => down(),
        Action::Kernel(options) => kernels(options),
        Action::Systemd(options) => systemd::run(options),
    }
}

fn up() -> Result<()> {
    if Namespace::existing(CLIENT).is_some() {
        bail!("the lab stands already: `cargo xtask lab shell`, or `lab down`");
    }
    let made = make();
    if made.is_err() {
        down()?;
    }
    let daemon = build::program(Profile::Release);
    println!(
        "client {CLIENT}  10.53.1.1 fd53:1::1\n\
         server {SERVER}  10.53.1.2 fd53:1::2, device lab-s; 10.53.2.1 towards the upstream\n\
         upstream {UPSTREAM}  10.53.2.2: knotd with lab.test., signed.test. and bench.test.\n\n\
         in one terminal:  nsenter --net=/run/netns/{SERVER} {} run --config {}\n\
         in another:       cargo xtask lab shell\n\
         there:            dig @10.53.1.2 www.lab.test\n\
         at last:          cargo xtask lab down",
        daemon.display(),
        made?.display()
    );
    Ok(())
}

/// Gives the configuration for a daemon in the server's namespace.
fn make() -> Result<PathBuf> {
    let client = Namespace::standing(CLIENT)?;
    let server = Namespace::standing(SERVER)?;
    let upstream = Namespace::standing(UPSTREAM)?;
    Wire::between(&client, "lab-c", &server, "lab-s", 1)?;
    let wire = Wire::between(&server, "lab-u", &upstream, "lab-a", 2)?;
    let scratch = Scratch::standing(FOLDER)?;
    let dir = scratch.path().display();
    let config = scratch.write(
        "resolverd.toml",
        &format!(
            "[server]\nlisten = [\"10.53.1.2:53\", \"[fd53:1::2]:53\"]\n\
             state-dir = \"{dir}/state\"\n\
             [kernel]\ninterfaces = [\"lab-s\"]\npin-path = \"{dir}/bpf\"\n\
             [resolve]\nupstream-from = \"none\"\n\
             [[upstream]]\nname = \"lab\"\naddress = \"{}:53\"\n\
             [acl]\nallow = [\"10.53.0.0/16\", \"fd53::/16\"]\n\
             [control]\nsocket = \"{dir}/control.sock\"\n",
            wire.far
        ),
    )?;
    let zones = [zones::lab(), zones::signed(), zones::bench(10_000)];
    let at = [wire.far.into(), wire.far6.into()];
    Authority::start_in(scratch, &upstream, &at, &zones, &Authority::UNBOUND)?.leave();
    Ok(config)
}

fn shell() -> Result<()> {
    if Namespace::existing(CLIENT).is_none() {
        bail!("the lab does not stand: `cargo xtask lab up`");
    }
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{CLIENT}")).arg(shell);
    // The shell takes this process's place, and so its terminal and its signals.
    Err(command.exec()).context("starting a shell by nsenter")
}

fn down() -> Result<()> {
    for name in [CLIENT, SERVER, UPSTREAM] {
        if let Some(namespace) = Namespace::existing(name) {
            namespace.remove();
        }
    }
    Scratch::standing(FOLDER)?.remove();
    Ok(())
}

/// What a kernel did with the release binary.
struct Outcome {
    version: String,
    release: String,
    /// What each mode of attaching did.
    modes: Vec<Mode>,
    /// Helpers that the daemon named as missing.
    missing: Vec<String>,
    /// Why this is not what it should be.
    wrong: Option<String>,
}

/// One start of the daemon in the guest.
struct Mode {
    name: String,
    answered: bool,
    hits: u64,
}

fn kernels(options: &KernelOptions) -> Result<()> {
    let script = options.script.clone().or_else(script);
    let script = script
        .with_context(|| format!("no script that boots kernels: give --script, or set {SCRIPT}"))?;
    let files = payload()?;
    let outcomes: Vec<Outcome> =
        options.versions.iter().map(|v| boot(&script, v, &files, options.seconds)).collect();
    println!("\n{:<8} {:<28} {:<32} as it should be", "kernel", "release", "hits by mode");
    for outcome in &outcomes {
        let hits = outcome.modes.iter().map(|mode| match mode.answered {
            true => format!("{} {}", mode.name, mode.hits),
            false => format!("{} silent", mode.name),
        });
        let hits = hits.collect::<Vec<_>>().join(", ");
        let stands = match (&outcome.wrong, outcome.missing.as_slice()) {
            (Some(wrong), _) => format!("NO: {wrong}"),
            (None, []) => "yes".to_owned(),
            (None, missing) => format!("yes: from user space, without {}", missing.join(", ")),
        };
        let Outcome { version, release, .. } = outcome;
        println!("{version:<8} {release:<28} {hits:<32} {stands}");
    }
    let wrong = outcomes.iter().filter(|outcome| outcome.wrong.is_some()).count();
    if wrong > 0 {
        bail!("{wrong} of {} kernels did not do as they should", outcomes.len());
    }
    Ok(())
}

/// What is shipped to the guest: the daemon, a client, a configuration, and what to do.
fn payload() -> Result<Vec<PathBuf>> {
    let daemon = build::build(Profile::Release)?;
    let mut cargo = build::cargo_with_bpf();
    cargo.args(["build", "--quiet", "--release", "--package", "resolverd-tests", "--bin", "ask"]);
    call::run(&mut cargo)?;
    let dir = build::target_folder().join("lab");
    fs::create_dir_all(&dir)?;
    let (config, steps) = (dir.join("guest.toml"), dir.join("guest.sh"));
    fs::write(&config, GUEST_CONFIG)?;
    fs::write(&steps, GUEST_STEPS)?;
    let ask = daemon.with_file_name("ask");
    Ok(vec![daemon, ask, config, steps])
}

fn boot(script: &Path, version: &str, files: &[PathBuf], seconds: u32) -> Outcome {
    println!("== {version}");
    let mut command = Command::new(script);
    command.arg(package(version));
    for file in files {
        command.arg("-f").arg(file);
    }
    command.args(["-t", &seconds.to_string(), "--", "dash guest.sh"]).stdin(Stdio::null());
    let mut outcome = Outcome {
        version: version.to_owned(),
        release: "-".to_owned(),
        modes: Vec::new(),
        missing: Vec::new(),
        wrong: None,
    };
    let said = match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            outcome.wrong = Some(format!("{}: {error}", script.display()));
            return outcome;
        }
    };
    print!("{said}");
    read(&said, &mut outcome);
    outcome
}

/// Reads what the guest said in lines of its own: `GUEST release=…`, and for each mode
/// `GUEST mode=… answered=yes|no hits=…`.
fn read(said: &str, outcome: &mut Outcome) {
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("GUEST "));
    for line in lines {
        let word = |key: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        if let Some(release) = word("release") {
            outcome.release = release.to_owned();
        }
        if let Some(name) = word("mode") {
            outcome.modes.push(Mode {
                name: name.to_owned(),
                answered: word("answered") == Some("yes"),
                hits: word("hits").and_then(|hits| hits.parse().ok()).unwrap_or(0),
            });
        }
    }
    let named = |helper: &&&str| said.contains(**helper);
    outcome.missing = HELPERS.iter().filter(named).map(|helper| (*helper).to_owned()).collect();
    outcome.wrong = wrong(outcome);
}

/// What is not as it should be.
fn wrong(outcome: &Outcome) -> Option<String> {
    if outcome.modes.len() < GUEST_MODES {
        return Some("the guest did not come to its end".to_owned());
    }
    if let Some(mode) = outcome.modes.iter().find(|mode| !mode.answered) {
        return Some(format!("no answer in mode {}", mode.name));
    }
    let idle = outcome.modes.iter().find(|mode| mode.hits == 0);
    match (has_helpers(&outcome.release), idle) {
        (true, Some(mode)) => Some(format!("the kernel answers nothing in mode {}", mode.name)),
        (true, None) => None,
        (false, None) => Some("the kernel answers, without the helpers it needs?".to_owned()),
        (false, Some(_)) => {
            outcome.missing.is_empty().then(|| "the daemon names no missing helper".to_owned())
        }
    }
}

/// Whether a kernel of this release has all helpers; Debian backports none of them.
fn has_helpers(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= HELPERS_SINCE
}

/// The package of a kernel line.
fn package(version: &str) -> &str {
    match version {
        "5.10" => "bullseye:linux-image-cloud-amd64",
        "7.2" => "trixie-backports:linux-image-cloud-amd64",
        other => other,
    }
}

fn script() -> Option<PathBuf> {
    let told = env::var_os(SCRIPT).map(PathBuf::from);
    let beside = call::root().join("../shared/lab/kernel-matrix.sh");
    told.or_else(|| beside.is_file().then_some(beside))
}

const CLIENT: &str = "resolverd-client";
const SERVER: &str = "resolverd-server";
const UPSTREAM: &str = "resolverd-upstream";
const FOLDER: &str = "resolverd-lab";

/// Names the script that boots kernels.
const SCRIPT: &str = "RESOLVERD_KERNEL_MATRIX";

/// The helper that decides, and the kernel it came with.
const HELPERS: [&str; 1] = ["bpf_xdp_store_bytes"];
const HELPERS_SINCE: (u32, u32) = (5, 18);

const GUEST_CONFIG: &str = r#"
[server]
listen = ["10.77.0.1:53"]
state-dir = "/tmp/state"
[kernel]
mode = "MODE"
interfaces = ["veth0"]
pin-path = "/run/resolverd/bpf"
[resolve]
upstream-from = "none"
[[zone]]
name = "resolverd.test."
kind = "static"
records = ["@ 3600 IN SOA ns hostmaster 1 3600 900 604800 300", "www 300 IN A 192.0.2.80"]
[acl]
allow = ["10.77.0.0/24", "127.0.0.0/8"]
[control]
socket = "/run/resolverd/control.sock"
"#;

/// Starts of the daemon in the guest.
const GUEST_MODES: usize = 2;

/// Runs in the guest, which has a busybox, ip and what is shipped. The client is in a namespace
/// of its own, so that queries come over the wire. Generic XDP, because a veth delivers what native
/// XDP sends back only to an end with a program of its own; the program is the same. Waits are
/// long: the guest is emulated.
const GUEST_STEPS: &str = r#"
echo "GUEST release=$(uname -r)"
mkdir -p /var /run/netns /run/resolverd /tmp/state
[ -e /var/run ] || ln -s /run /var/run
ip netns add client
ip link set veth1 netns client
ip -n client addr add 10.77.0.2/24 dev veth1
ip -n client link set veth1 up
hits() {
    wget -q -O - http://127.0.0.1:9853/metrics |
        awk '/^resolverd_kernel_packets_total\{.*verdict="hit"/ { n += $NF } END { printf "%d", n }'
}
ask() { ip netns exec client ./ask @10.77.0.1 www.resolverd.test A "$@"; }
for mode in xdp-generic tc; do
    sed "s/MODE/$mode/" guest.toml >mode.toml
    ./resolverd run --config mode.toml >daemon.log 2>&1 &
    daemon=$!
    answered=no
    ask +tries=60 >answer.txt 2>&1 && answered=yes
    tries=0
    while [ "$tries" -lt 60 ] && [ "$(hits)" = 0 ] && ! grep -q "no kernel path" daemon.log; do
        tries=$((tries + 1))
        ask >answer.txt 2>&1
        sleep 0.5
    done
    echo "GUEST mode=$mode answered=$answered hits=$(hits)"
    cat answer.txt
    tail -n 5 daemon.log
    kill "$daemon"
    wait "$daemon"
    ./resolverd kernel detach --config mode.toml
done
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_in(said: &str) -> Option<String> {
        let mut outcome = Outcome {
            version: "x".into(),
            release: "-".into(),
            modes: Vec::new(),
            missing: Vec::new(),
            wrong: None,
        };
        read(said, &mut outcome);
        outcome.wrong
    }

    fn guest(release: &str, modes: &str, log: &str) -> String {
        format!("GUEST release={release}\nGUEST mode=a {modes}\nGUEST mode=b {modes}\n{log}\n")
    }

    #[test]
    fn a_kernel_with_the_helpers_must_answer_itself() {
        assert_eq!(wrong_in(&guest("6.1.0-56", "answered=yes hits=3", "")), None);
        assert!(wrong_in(&guest("6.12.1", "answered=yes hits=0", "")).is_some());
        assert!(wrong_in("GUEST release=6.12.1\nGUEST mode=a answered=yes hits=3").is_some());
        assert!(wrong_in("").is_some());
    }

    #[test]
    fn a_kernel_without_them_must_be_told_and_the_daemon_must_serve() {
        let log = "no kernel path: this kernel lacks the helper bpf_xdp_store_bytes";
        assert_eq!(wrong_in(&guest("5.10.0-33", "answered=yes hits=0", log)), None);
        assert!(wrong_in(&guest("5.10.0-33", "answered=yes hits=0", "")).is_some());
        assert!(wrong_in(&guest("5.10.0-33", "answered=no hits=0", log)).is_some());
    }
}
