//! What is left in the file system, who may have left it, and what happens without privilege.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Scratch, find, run, wait};
use serde_json::Value;

use crate::operator::{Operator, interface};
use crate::site::{Link, SERVER, Site, needs_the_kernel};

/// Who owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn a_pin_folder_that_others_can_write_is_refused_with_words() -> Result<()> {
    needs_the_kernel!("a pin folder that others can write");
    refused(|folder| fs::set_permissions(folder, fs::Permissions::from_mode(0o777)), &["chmod"])
}

#[test]
fn a_pin_folder_of_another_user_is_refused_with_words() -> Result<()> {
    needs_the_kernel!("a pin folder of another user");
    refused(|folder| chown(folder, Some(NOBODY), None), &["65534", "belongs"])
}

fn refused(spoil: impl Fn(&Path) -> std::io::Result<()>, words: &[&str]) -> Result<()> {
    let link = Link::new()?;
    let scratch = Scratch::new("pins")?;
    let folder = scratch.path().join("bpf");
    fs::create_dir(&folder)?;
    spoil(&folder)?;
    let kernel = format!("mode = \"xdp\"\npin-path = \"{}\"", folder.display());
    let daemon = Daemon::start(&link.server, &link.config(&kernel))?;
    let reason = serves_from_user_space(&link, &daemon, &Operator::of(&daemon))?;
    let folder = folder.display().to_string();
    for word in words.iter().chain([&folder.as_str()]) {
        ensure!(reason.contains(word), "no `{word}` in: {reason}");
        ensure!(daemon.log().contains(word), "no `{word}` in: {}", daemon.log());
    }
    Ok(())
}

#[test]
fn a_daemon_without_privilege_serves_from_user_space_and_says_so_once() -> Result<()> {
    needs_the_kernel!("a daemon without privilege");
    let link = Link::new()?;
    link.server.sysctl("net.ipv4.ip_unprivileged_port_start", "0")?;
    // Everything it reads and writes is where nobody may.
    let scratch = Scratch::new("nobody")?;
    let home = scratch.path().join("home");
    fs::create_dir(&home)?;
    chown(&home, Some(NOBODY), Some(NOBODY))?;
    let copy = scratch.path().join("resolverd");
    fs::copy(lab::binary()?, &copy)?;
    // The harness names the daemon's own binary next; where it is, nobody may be kept out.
    let script = format!("#!/bin/sh\nshift\nexec {} \"$@\"\n", copy.display());
    let wrapper = scratch.write("wrapper", &script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let home = home.display();
    let config = link.config(&format!("mode = \"auto\"\npin-path = \"{home}/bpf\"")).replacen(
        "[server]\n",
        &format!("[server]\nstate-dir = \"{home}/state\"\n"),
        1,
    ) + &format!("[control]\nsocket = \"{home}/control.sock\"\n");
    let nobody = NOBODY.to_string();
    let wrapper = wrapper.display().to_string();
    let by = ["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--", &wrapper];
    let daemon = Daemon::start_by(&link.server, &config, &by)?;
    let operator = Operator::at(format!("{home}/control.sock").into());
    let reason = serves_from_user_space(&link, &daemon, &operator)?;
    ensure!(reason.contains("CAP_BPF"), "{reason}");
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("user space")).count();
    ensure!(lines == 1, "{lines} lines say so: {log}");
    Ok(())
}

/// Looks whether all that should be said is said, and gives the reason.
fn serves_from_user_space(link: &Link, daemon: &Daemon, operator: &Operator) -> Result<String> {
    for _ in 0..2 {
        let answer = link.client.ask(daemon.listen(), &Ask::new("www.resolverd.test.", "A"))?;
        ensure!(answer.answer.len() == 1, "{answer:?}");
    }
    let kernel = operator.kernel()?;
    ensure!(kernel["available"] == false, "{kernel:#}");
    let metrics = daemon.metrics()?;
    let line = metrics.lines().find(|line| line.starts_with("resolverd_kernel_available "));
    ensure!(line == Some("resolverd_kernel_available 0"), "{line:?}");
    let state = link.server.ip(&["-d", "link", "show", SERVER])?;
    ensure!(!state.contains("xdp"), "{state}");
    let reason = kernel["reason"].as_str().with_context(|| format!("{kernel:#}"))?;
    Ok(reason.to_owned())
}

#[test]
fn pins_are_for_their_owner_alone_and_detach_leaves_no_program_and_no_pin() -> Result<()> {
    needs_the_kernel!("detach");
    for mode in ["xdp", "xdp-generic", "tc"] {
        detached_by_a_running_daemon(mode).with_context(|| format!("{mode}, running"))?;
        detached_after_the_daemon(mode).with_context(|| format!("{mode}, stopped"))?;
    }
    Ok(())
}

fn detached_by_a_running_daemon(mode: &str) -> Result<()> {
    let site = Site::new(mode)?;
    let pins = site.daemon.dir().join("bpf");
    let found = names(&pins)?;
    ensure!(found.iter().any(|name| name.contains("link")), "{found:?}");
    for name in &found {
        let bits = fs::metadata(pins.join(name))?.permissions().mode() & 0o777;
        ensure!(bits == 0o600, "{name}: {bits:04o}");
    }
    let program = program(&site)?;
    ensure!(is_linked(program)?, "it is attached before");
    let said: Value = serde_json::from_str(&site.daemon.cli(&["kernel", "detach", "--json"])?)?;
    let interfaces = said["interfaces"].as_array().context("interfaces")?;
    ensure!(interfaces.iter().any(|name| name == SERVER), "{said:#}");
    let removed = said["pins"].as_array().context("pins")?;
    ensure!(removed.len() == found.len(), "{said:#}: of {found:?}");
    nothing_left(program, &pins)?;
    let kernel = site.operator.kernel()?;
    ensure!(kernel["available"] == false, "{kernel:#}");
    ensure!(interface(&kernel, SERVER)["attached"] == false, "{kernel:#}");
    // It goes on in user space, and does not attach again by itself.
    for host in [31, 32] {
        site.link.server.address(SERVER, &format!("10.53.1.{host}/24"))?;
        let ask = Ask::new("www.resolverd.test.", "A");
        ensure!(site.link.client.ask(site.daemon.listen(), &ask)?.answer.len() == 1);
    }
    nothing_left(program, &pins)
}

fn detached_after_the_daemon(mode: &str) -> Result<()> {
    let mut site = Site::new(mode)?;
    let pins = site.daemon.dir().join("bpf");
    let program = program(&site)?;
    ensure!(site.daemon.terminate()?.success(), "{}", site.daemon.log());
    ensure!(is_linked(program)?, "the program outlives the daemon");
    ensure!(!names(&pins)?.is_empty(), "pins outlive the daemon");
    site.daemon.cli(&["kernel", "detach"])?;
    nothing_left(program, &pins)
}

fn nothing_left(program: u64, pins: &Path) -> Result<()> {
    ensure!(names(pins)?.is_empty(), "pins left: {:?}", names(pins)?);
    // The kernel takes a link down a moment after its last pin.
    let gone = || is_linked(program).is_ok_and(|linked| !linked);
    wait::until("the program is taken off", wait::STOP, gone)
}

/// The number of the attached program.
fn program(site: &Site) -> Result<u64> {
    let kernel = site.operator.kernel()?;
    interface(&kernel, SERVER)["program_id"].as_u64().with_context(|| format!("{kernel:#}"))
}

/// Whether a link holds the program on any interface, by the kernel's own word.
fn is_linked(program: u64) -> Result<bool> {
    let bpftool = find("bpftool").context("needs bpftool")?;
    let links: Value = serde_json::from_str(&run(Command::new(bpftool).args(["-j", "link"]))?)?;
    let links = links.as_array().context("no list of links")?;
    Ok(links.iter().any(|link| link["prog_id"] == program))
}

/// The pins, without what the kernel itself puts into every bpffs.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| !["maps.debug", "progs.debug"].contains(&name.as_str())).collect())
}
