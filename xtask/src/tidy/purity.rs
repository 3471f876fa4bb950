//! Purity: who may touch the world, and who only decides.
//!
//! A file name can be trusted: what is no driver and in no room of doors names no runtime,
//! socket, file, random number, clock or BPF. The doors of rooms (`mod.rs`) and the pipeline
//! may name `tokio::sync`, for a handle of a driver is one end of a channel; nothing else
//! of tokio. What is built for tests is exempt.

use super::source::{PathSeen, Source};
use super::{Finding, Tree};

/// Rooms, or rooms within rooms, that touch the world in all their files.
const DOORS: &[&str] = &[
    "clock",
    "control",
    "daemon",
    "kernel",
    "log",
    "main",
    "quorum/cluster",
    "quorum/trust",
    "server",
];

/// Crates that touch the world.
const WORLDLY: &[(&str, &str)] = &[
    ("aya", "BPF"),
    ("libc", "system calls"),
    ("rand", "randomness"),
    ("rtnetlink", "interfaces"),
    ("rustix", "system calls"),
    ("socket2", "sockets"),
    ("tokio", "the runtime"),
];

/// What else is said by its last word or two, however it was imported.
const WORLDLY_ENDS: &[(&[&str], &str)] = &[
    (&["std", "fs"], "files"),
    (&["UdpSocket"], "sockets"),
    (&["UnixStream"], "sockets"),
    (&["UnixListener"], "sockets"),
    (&["UnixDatagram"], "sockets"),
    (&["TcpStream"], "sockets"),
    (&["TcpListener"], "sockets"),
    (&["thread", "sleep"], "waiting"),
    (&["Instant", "now"], "the clock"),
    (&["SystemTime", "now"], "the clock"),
];

/// Where the contract's types are made known to aya, which is all that file does.
const CONTRACTS_BRIDGE: &str = "resolverd-common/src/pod.rs";

/// Who tells the world what happened, which a machine leaves to its driver.
const TELLERS: &[&str] = &["log", "prometheus", "tracing"];
const TELLING_MACROS: &[&str] = &["trace", "debug", "info", "warn", "error", "println", "eprintln"];

/// Pure files name nothing of the world.
pub fn purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| is_pure(&source.path)) {
        for path in source.paths().iter().filter(|path| !path.test) {
            if source.path == CONTRACTS_BRIDGE && path.segments[0] == "aya" {
                continue;
            }
            if let Some(what) = worldly(path, may_hold_channels(source)) {
                let text = format!("a pure file names {what}: `{}`", path.segments.join("::"));
                findings.push(Finding::at(&source.path, path.line, text));
            }
        }
    }
    findings
}

/// Machines neither log nor count.
pub fn silent_machines(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| source.file_name() == "machine.rs") {
        for path in source.paths().iter().filter(|path| !path.test) {
            let head = path.segments[0];
            let tells = TELLERS.contains(&head) && is_path(path)
                || head == "crate" && ["log", "metrics"].contains(&second(path));
            if tells {
                let text = format!("a machine tells nobody: `{}`", path.segments.join("::"));
                findings.push(Finding::at(&source.path, path.line, text));
            }
        }
        for (at, token) in source.tokens.iter().enumerate().filter(|(_, token)| !token.test) {
            if TELLING_MACROS.contains(&token.word.as_str()) && source.calls_macro(at) {
                let text = format!("a machine tells nobody: `{}!`", token.word);
                findings.push(Finding::at(&source.path, token.line, text));
            }
        }
    }
    findings
}

fn is_pure(path: &str) -> bool {
    let Some(below) = path.strip_prefix("resolverd/src/") else {
        return path.starts_with("resolverd-common/src/");
    };
    let is_door = DOORS.iter().any(|door| {
        below.strip_prefix(door).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    });
    let is_driver = below.ends_with("/driver.rs") || below.contains("/driver/");
    !is_door && !is_driver
}

fn may_hold_channels(source: &Source) -> bool {
    source.file_name() == "mod.rs" || source.path == "resolverd/src/pipeline.rs"
}

fn worldly(path: &PathSeen<'_>, channels: bool) -> Option<&'static str> {
    if channels && path.segments.starts_with(&["tokio", "sync"]) {
        return None;
    }
    let by_crate = WORLDLY.iter().find(|(name, _)| path.segments[0] == *name && is_path(path));
    let by_end = WORLDLY_ENDS
        .iter()
        .find(|(end, _)| path.segments.windows(end.len()).any(|window| window == *end));
    by_crate.map(|(_, what)| *what).or(by_end.map(|(_, what)| *what))
}

/// A word alone may be a variable; two are a path, and so is one that is imported.
fn is_path(path: &PathSeen<'_>) -> bool {
    path.segments.len() > 1 || path.imported
}

fn second<'a>(path: &PathSeen<'a>) -> &'a str {
    path.segments.get(1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        Tree { sources: vec![Source::new(path, text)], ..Tree::default() }
    }

    #[test]
    fn a_pure_file_names_nothing_of_the_world() {
        for text in [
            "use tokio::time::sleep;",
            "use tokio::sync::mpsc;",
            "use std::net::{IpAddr, UdpSocket};",
            "use std::{fmt, fs};",
            "fn f() { std::fs::read(x); }",
            "use std::net; fn f() { net::TcpStream::connect(x); }",
            "fn f() { let x = rand::random(); }",
            "use aya::Ebpf;",
            "use std::time::Instant; fn f() { Instant::now(); }",
            "fn f() { std::time::SystemTime::now(); }",
            "use rustix::time;",
            "use socket2::Socket;",
        ] {
            let found = purity(&tree("resolverd/src/cache/store.rs", text)).len();
            assert_eq!(found, 1, "{text}");
            let found = purity(&tree("resolverd-common/src/key.rs", text)).len();
            assert_eq!(found, 1, "{text}");
        }
    }

    #[test]
    fn the_contract_names_aya_in_one_file_and_nothing_else_of_the_world_there() {
        assert_eq!(purity(&tree(CONTRACTS_BRIDGE, "unsafe impl aya::Pod for X {}")).len(), 0);
        assert_eq!(purity(&tree(CONTRACTS_BRIDGE, "use std::fs;")).len(), 1);
        assert_eq!(purity(&tree("resolverd-common/src/maps.rs", "use aya::Pod;")).len(), 1);
    }

    #[test]
    fn drivers_and_rooms_of_doors_touch_the_world() {
        let text = "use tokio::net::UdpSocket;";
        for path in [
            "resolverd/src/resolver/driver.rs",
            "resolverd/src/resolver/driver/udp.rs",
            "resolverd/src/server/tcp.rs",
            "resolverd/src/kernel/maps.rs",
            "resolverd/src/daemon.rs",
            "resolverd/src/main.rs",
            "resolverd/src/clock.rs",
            "resolverd/src/quorum/cluster/quic.rs",
            "xtask/src/main.rs",
            "tests/lab/mod.rs",
        ] {
            assert_eq!(purity(&tree(path, text)).len(), 0, "{path}");
        }
        for path in ["resolverd/src/quorum/agree/rungs.rs", "resolverd/src/kernels.rs"] {
            assert!(!purity(&tree(path, text)).is_empty(), "{path}");
        }
    }

    #[test]
    fn doors_of_rooms_and_the_pipeline_hold_channels_and_nothing_else_of_tokio() {
        for path in ["resolverd/src/resolver/mod.rs", "resolverd/src/pipeline.rs"] {
            assert_eq!(purity(&tree(path, "use tokio::sync::mpsc;")).len(), 0);
            assert_eq!(purity(&tree(path, "use tokio::time::sleep;")).len(), 1);
            assert_eq!(purity(&tree(path, "use tokio::{sync::mpsc, time};")).len(), 1);
        }
    }

    #[test]
    fn tests_comments_and_variables_are_exempt() {
        for text in [
            "#[cfg(test)]\nmod tests { use tokio::time; use std::fs; }",
            "// std::fs is for drivers\nfn f(rand: u64) -> u64 { rand + 1 }",
            "fn f(at: Instant) -> Duration { at.elapsed_since(now) }",
        ] {
            assert_eq!(purity(&tree("resolverd/src/cache/store.rs", text)).len(), 0, "{text}");
        }
    }

    #[test]
    fn a_machine_neither_logs_nor_counts() {
        for text in [
            "use tracing::Level;",
            "fn f() { info!(\"x\"); }",
            "use crate::metrics::Metrics;",
            "use crate::{dns::Name, log::Site};",
            "fn f() { println!(\"x\"); }",
            "fn f() { warn!(target: \"x\", \"y\"); }",
        ] {
            let found = silent_machines(&tree("resolverd/src/resolver/machine.rs", text)).len();
            assert_eq!(found, 1, "{text}");
            let found = silent_machines(&tree("resolverd/src/resolver/driver.rs", text)).len();
            assert_eq!(found, 0, "{text}");
        }
        let text = "#[cfg(test)]\nmod tests { fn f() { println!(\"seed\"); } }";
        assert_eq!(silent_machines(&tree("resolverd/src/resolver/machine.rs", text)).len(), 0);
    }
}
