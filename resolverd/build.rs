//! Builds the BPF object when `cargo xtask` names a toolchain that can.
//!
//! A plain `cargo build` on bare stable names none: the daemon is then built without
//! its kernel path, and says so at start.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The rustup toolchain that compiles for BPF. Set by `cargo xtask build`.
const TOOLCHAIN: &str = "RESOLVERD_BPF_TOOLCHAIN";
/// What lets a stable compiler take `-Z build-std=core`.
const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";

/// The object's name, as its crate has it.
const OBJECT: &str = "resolverd-bpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={TOOLCHAIN}");
    let Ok(toolchain) = env::var(TOOLCHAIN) else {
        return Ok(());
    };
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo:rerun-if-changed={}", here.join("../resolverd-common/src").display());
    if env::var_os(BOOTSTRAP).is_some() {
        return build(&toolchain, &here);
    }
    // Set for the BPF build alone: for the whole workspace it would switch on unstable code in
    // host crates. This process may not change its own environment safely, so it starts itself
    // again with the variable set; and with one folder for all profiles, so that the core
    // library is compiled for BPF once and not for each of them.
    let shared = target_folder(&here).join("bpf");
    fs::create_dir_all(&shared)?;
    let status =
        Command::new(env::current_exe()?).env(BOOTSTRAP, "1").env("OUT_DIR", &shared).status()?;
    if !status.success() {
        bail!("the BPF object could not be built with toolchain {toolchain}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(shared.join(OBJECT), out.join(OBJECT)).context("copying the BPF object")?;
    println!("cargo:rustc-cfg=kernel_path");
    Ok(())
}

/// The inner run: the environment is that of the BPF build.
fn build(toolchain: &str, here: &Path) -> Result<()> {
    let root = here.join("../resolverd-ebpf");
    let root_dir = root.to_str().context("a path that is UTF-8")?;
    let package = aya_build::Package { name: "resolverd-ebpf", root_dir, ..Default::default() };
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(toolchain))
        .context("building resolverd-ebpf")
}

fn target_folder(here: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("../target"), PathBuf::from)
}
