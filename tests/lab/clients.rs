//! Real clients, inside a namespace.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::namespace::Namespace;
use crate::process::run;

/// dig's whole output. `args` as on its command line: `["www.lab.test", "A", "+dnssec"]`.
pub fn dig(inside: &Namespace, server: SocketAddr, args: &[&str]) -> Result<String> {
    client(inside, "dig", server, args, &["+tries=1", "+timeout=3"])
}

/// kdig's whole output.
pub fn kdig(inside: &Namespace, server: SocketAddr, args: &[&str]) -> Result<String> {
    client(inside, "kdig", server, args, &["+retry=0", "+timeout=3"])
}

fn client(
    inside: &Namespace,
    program: &str,
    server: SocketAddr,
    args: &[&str],
    bounds: &[&str],
) -> Result<String> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    run(inside.command(program).args([at.as_str(), "-p", &port]).args(bounds).args(args))
}

/// A Python that has aioquic: the one `cargo xtask setup --tests` made, or another that
/// `RESOLVERD_AIOQUIC` names.
#[must_use]
pub fn aioquic() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/aioquic/bin/python");
    let python = std::env::var_os("RESOLVERD_AIOQUIC").map_or(made, PathBuf::from);
    run(Command::new(&python).args(["-c", "import aioquic"])).is_ok().then_some(python)
}
