//! Finds the compiler for BPF: a rustup toolchain with its own sources, and `bpf-linker`.
//!
//! Looks and chooses; installs nothing. `setup.rs` installs, `build.rs` uses.
//! There are two ways to a compiler: rustup's nightly with the component `rust-src`,
//! or Debian's packaged Rust, which brings its sources and is linked into rustup.

use std::env;
use std::path::{Path, PathBuf};

use crate::call;

/// The name under which Debian's packaged Rust is linked into rustup.
pub const LINKED: &str = "resolverd-bpf";
/// Where Debian's packaged Rust lives.
pub const LINKED_SYSROOT: &str = "/usr";
/// Says which toolchain to use; set and empty, it says none. `resolverd/build.rs` reads it.
pub const TOOLCHAIN: &str = "RESOLVERD_BPF_TOOLCHAIN";
/// LLVM's major versions that `bpf-linker` 0.13 can be built with. It reads what a
/// compiler with the same or an older LLVM wrote.
pub const LINKER_LLVMS: [u32; 3] = [21, 22, 23];

/// A compiler that can build the kernel path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    pub toolchain: String,
    pub way: Way,
    /// Where `bpf-linker` is: perhaps not in `PATH`.
    pub linker: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The environment names the toolchain.
    Told,
    /// rustup's nightly with `rust-src`.
    Nightly,
    /// Debian's packages, linked into rustup.
    Debian,
}

/// What there is of a BPF compiler on this machine.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The toolchain that the environment names.
    pub told: Option<String>,
    pub nightly: Option<Toolchain>,
    pub linked: Option<Toolchain>,
    /// Whether rustup knows the link at all, though it may lead nowhere.
    pub link_exists: bool,
    pub linker: Option<PathBuf>,
}

/// What a toolchain says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Major and minor version of Rust.
    pub release: (u32, u32),
    /// Major version of the LLVM inside.
    pub llvm: u32,
    /// Whether the sources of `core` are here, to be built for BPF.
    pub sources: bool,
}

impl Parts {
    pub fn look() -> Self {
        let known = call::output("rustup", ["toolchain", "list"]).unwrap_or_default();
        let knows = |name: &str| {
            known.lines().any(|line| {
                let word = line.split_whitespace().next().unwrap_or_default();
                word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
            })
        };
        let link_exists = knows(LINKED);
        Self {
            told: env::var(TOOLCHAIN).ok(),
            nightly: if knows("nightly") { Toolchain::look("nightly") } else { None },
            linked: if link_exists { Toolchain::look(LINKED) } else { None },
            link_exists,
            linker: call::on_path("bpf-linker")
                .filter(|linker| call::output(&linker.to_string_lossy(), ["--version"]).is_some()),
        }
    }

    /// The compiler these parts make, if they make one.
    pub fn compiler(&self) -> Option<Compiler> {
        let (toolchain, way) = match &self.told {
            Some(told) if told.is_empty() => return None,
            Some(told) => (told.clone(), Way::Told),
            None if self.nightly.is_some_and(Toolchain::can_build) => {
                ("nightly".to_owned(), Way::Nightly)
            }
            None if self.linked.is_some_and(Toolchain::can_build) => {
                (LINKED.to_owned(), Way::Debian)
            }
            None => return None,
        };
        Some(Compiler { toolchain, way, linker: self.linker.clone()? })
    }
}

impl Toolchain {
    fn look(name: &str) -> Option<Self> {
        let (release, llvm) = parse_version(&call::output("rustc", [&format!("+{name}"), "-vV"])?)?;
        let sysroot = call::output("rustc", [&format!("+{name}"), "--print", "sysroot"])?;
        let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
        Some(Self { release, llvm, sources: sources.exists() })
    }

    /// A nightly whose LLVM is newer than every linker writes what none can read; a Rust
    /// older than the workspace asks for cannot compile it.
    pub fn can_build(self) -> bool {
        self.sources && self.llvm <= LINKER_LLVM_USED && self.release >= RELEASE_MIN
    }
}

/// Release and LLVM from the output of `rustc -vV`.
fn parse_version(text: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let mut release = field("release: ")?.split('.').map_while(|part| part.parse().ok());
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some(((release.next()?, release.next()?), llvm))
}

/// The LLVM that `setup` builds the linker with where it can choose: Debian has it.
pub const LINKER_LLVM_USED: u32 = 22;
/// `rust-version` of the workspace.
pub const RELEASE_MIN: (u32, u32) = (1, 95);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Toolchain = Toolchain { release: (1, 96), llvm: 22, sources: true };

    fn parts() -> Parts {
        Parts { linker: Some("/bin/bpf-linker".into()), ..Parts::default() }
    }

    fn way(parts: &Parts) -> Option<Way> {
        parts.compiler().map(|compiler| compiler.way)
    }

    #[test]
    fn nightly_with_its_sources_comes_first_and_debians_rust_second() {
        let both = Parts { nightly: Some(GOOD), linked: Some(GOOD), ..parts() };
        assert_eq!(way(&both), Some(Way::Nightly));
        let bare = Toolchain { sources: false, ..GOOD };
        let second = Parts { nightly: Some(bare), linked: Some(GOOD), ..parts() };
        assert_eq!(way(&second), Some(Way::Debian));
        assert_eq!(second.compiler().unwrap().toolchain, LINKED);
    }

    #[test]
    fn a_nightly_with_an_llvm_no_linker_reads_is_left_alone() {
        let newer = Toolchain { llvm: 23, ..GOOD };
        assert_eq!(way(&Parts { nightly: Some(newer), ..parts() }), None);
        let both = Parts { nightly: Some(newer), linked: Some(GOOD), ..parts() };
        assert_eq!(way(&both), Some(Way::Debian));
    }

    #[test]
    fn a_rust_older_than_the_workspace_asks_for_is_no_compiler() {
        let old = Toolchain { release: (1, 85), ..GOOD };
        assert_eq!(way(&Parts { linked: Some(old), ..parts() }), None);
    }

    #[test]
    fn without_a_linker_there_is_no_compiler() {
        assert_eq!(way(&Parts { nightly: Some(GOOD), linker: None, ..parts() }), None);
    }

    #[test]
    fn the_environment_has_the_last_word_also_when_it_says_none() {
        let told =
            |word: &str| Parts { told: Some(word.to_owned()), nightly: Some(GOOD), ..parts() };
        assert_eq!(way(&told("nightly-2026-05-19")), Some(Way::Told));
        assert_eq!(way(&told("")), None);
    }

    #[test]
    fn the_version_is_read_as_rustc_prints_it() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
                    release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(parse_version(text), Some(((1, 97), 22)));
        assert_eq!(parse_version("rustc 1.97.0\n"), None);
    }
}
