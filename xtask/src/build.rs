//! Builds the daemon, and gives every other verb the same call of cargo.
//!
//! Installs nothing: `setup.rs` does. Without a BPF compiler the daemon is built
//! without its kernel path, and this file says so.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Result;

use crate::bpf::{self, Compiler, Parts, Way};
use crate::call;

#[derive(clap::Args)]
pub struct Options {
    /// Build for debugging, into target/debug.
    #[arg(long)]
    debug: bool,
}

pub fn verb(options: &Options) -> Result<()> {
    let program = build(if options.debug { Profile::Debug } else { Profile::Release })?;
    println!("built {}", program.display());
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Debug,
    Release,
}

/// Builds the daemon and returns where it is.
pub fn build(profile: Profile) -> Result<PathBuf> {
    println!("{}", way_in_words(compiler()));
    let mut cargo = cargo_with_bpf();
    cargo.args(["build", "--package", "resolverd", "--bin", "resolverd"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    call::run(&mut cargo)?;
    Ok(program(profile))
}

/// Builds the release daemon, unless `RESOLVERD_BIN` names another for the lab to start.
pub fn build_unless_named() -> Result<()> {
    if env::var_os("RESOLVERD_BIN").is_none() {
        build(Profile::Release)?;
    }
    Ok(())
}

/// Where cargo puts the daemon.
pub fn program(profile: Profile) -> PathBuf {
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    };
    target_folder().join(folder).join("resolverd")
}

pub fn target_folder() -> PathBuf {
    let root = call::root();
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Cargo, in the top folder, with what `resolverd/build.rs` needs to build the kernel path
/// if this machine can. Every verb calls cargo through this: a build script is run
/// again when its environment changes, and everything above it is then built twice.
pub fn cargo_with_bpf() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(call::root());
    forget_the_outer_cargo(&mut cargo);
    match compiler() {
        Some(compiler) => {
            cargo.env(bpf::TOOLCHAIN, &compiler.toolchain);
            if let Some(path) = path_with(compiler) {
                cargo.env("PATH", path);
            }
        }
        None => {
            cargo.env_remove(bpf::TOOLCHAIN);
        }
    }
    cargo
}

/// What the outer cargo set for this program is not meant for one that it starts.
pub fn forget_the_outer_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if is_of_the_outer_cargo(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
}

/// The BPF compiler of this machine, looked for once, so not before `setup` is done.
pub fn compiler() -> Option<&'static Compiler> {
    static FOUND: OnceLock<Option<Compiler>> = OnceLock::new();
    FOUND.get_or_init(|| Parts::look().compiler()).as_ref()
}

fn way_in_words(compiler: Option<&Compiler>) -> String {
    let Some(Compiler { toolchain, way, .. }) = compiler else {
        return "kernel path: not built in, for no BPF compiler is here (`cargo xtask setup` \
                says what is missing)"
            .to_owned();
    };
    let whose = match way {
        Way::Told => "named by the environment",
        Way::Nightly => "rustup's own, with rust-src",
        Way::Debian => "Debian's packages, linked into rustup",
    };
    format!("kernel path: built by toolchain `{toolchain}` ({whose})")
}

/// `PATH` with the linker's folder in it, if it is not there already.
fn path_with(compiler: &Compiler) -> Option<OsString> {
    let folder = compiler.linker.parent()?;
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|known| known == folder) {
        return None;
    }
    env::join_paths(env::split_paths(&path).chain([folder.to_path_buf()])).ok()
}

fn is_of_the_outer_cargo(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start))
        || ["CARGO_PRIMARY_PACKAGE", "CARGO_CRATE_NAME", "OUT_DIR"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler_with_linker(linker: &str) -> Compiler {
        Compiler { toolchain: "nightly".into(), way: Way::Nightly, linker: linker.into() }
    }

    #[test]
    fn the_outer_cargos_words_about_this_crate_are_not_passed_on() {
        assert!(is_of_the_outer_cargo("CARGO_PKG_NAME"));
        assert!(is_of_the_outer_cargo("CARGO_MANIFEST_DIR"));
        assert!(!is_of_the_outer_cargo("CARGO_HOME"));
        assert!(!is_of_the_outer_cargo("CARGO_TARGET_DIR"));
    }

    #[test]
    fn the_linkers_folder_is_added_to_the_path_once() {
        let strange = path_with(&compiler_with_linker("/somewhere/else/bpf-linker")).unwrap();
        assert!(env::split_paths(&strange).any(|folder| folder.ends_with("else")));
        let known = call::on_path("sh").unwrap();
        assert_eq!(path_with(&compiler_with_linker(&known.to_string_lossy())), None);
    }

    #[test]
    fn a_build_without_the_kernel_path_says_so() {
        assert!(way_in_words(None).contains("not built in"));
        assert!(way_in_words(Some(&compiler_with_linker("/x"))).contains("`nightly`"));
    }
}
