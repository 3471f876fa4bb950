//! Builds the BPF object when `cargo xtask` names a toolchain that can.
//!
//! A plain `cargo build` on bare stable names none: the daemon is then built without
//! its kernel path, and says so at start.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The rustup toolchain that compiles for BPF. Set by `cargo xtask build`.
const TOOLCHAIN: &str = "RESOLVERD_BPF_TOOLCHAIN";
/// What lets a stable compiler take `-Z build-std=core`.
const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={TOOLCHAIN}");
    let Ok(toolchain) = env::var(TOOLCHAIN) else {
        return Ok(());
    };
    if env::var_os(BOOTSTRAP).is_none() {
        // Set for the BPF build alone: for the whole workspace it would switch on
        // unstable code in host crates. This process may not change its own
        // environment safely, so it starts itself again with the variable set.
        let status = Command::new(env::current_exe()?).env(BOOTSTRAP, "1").status()?;
        if !status.success() {
            bail!("the BPF object could not be built with toolchain {toolchain}");
        }
        return Ok(());
    }
    let root = format!("{}/../resolverd-ebpf", env::var("CARGO_MANIFEST_DIR")?);
    let common = format!("{}/../resolverd-common", env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo:rerun-if-changed={common}/src");
    aya_build::build_ebpf(
        [aya_build::Package { name: "resolverd-ebpf", root_dir: &root, ..Default::default() }],
        aya_build::Toolchain::Custom(&toolchain),
    )
    .context("building resolverd-ebpf")?;
    println!("cargo:rustc-cfg=kernel_path");
    Ok(())
}
