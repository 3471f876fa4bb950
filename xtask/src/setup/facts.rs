//! What setup finds on this machine.
//!
//! Looks, and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Wanted;
use super::plan::{COMPILER_PACKAGES, TEST_PACKAGES};
use crate::bpf::{self, LINKER_LLVMS, Parts};
use crate::call;

/// What was found on this machine.
pub struct Machine {
    pub parts: Parts,
    pub rustup: bool,
    pub apt: Apt,
    /// Those packages of the two lists below that are installed.
    pub packages: BTreeSet<&'static str>,
    /// Whether apt knows Debian's packaged Rust, or was never asked and may know it.
    pub debian_rust: bool,
    /// LLVMs whose headers and libraries are here.
    pub llvms: Vec<u32>,
    pub formatter: bool,
    pub linter: bool,
    pub aioquic: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Apt {
    AsRoot,
    BySudo,
    /// Not a Debian machine, or neither root nor sudo.
    No,
}

impl Machine {
    pub fn look(wanted: Wanted) -> Self {
        let parts = Parts::look();
        let rustup = call::on_path("rustup").is_some();
        let apt = match (call::on_path("apt-get"), call::is_root(), call::on_path("sudo")) {
            (None, ..) | (_, false, None) => Apt::No,
            (_, true, _) => Apt::AsRoot,
            (_, false, Some(_)) => Apt::BySudo,
        };
        let tests = wanted == Wanted::Tests;
        let compiles = parts.compiler().is_some();
        Self {
            packages: installed(&[COMPILER_PACKAGES, TEST_PACKAGES].concat()),
            debian_rust: !compiles && apt != Apt::No && may_know_debian_rust(),
            llvms: LINKER_LLVMS.into_iter().filter(|llvm| is_llvm_here(*llvm)).collect(),
            formatter: !tests || call::output("cargo", ["fmt", "--version"]).is_some(),
            linter: !tests || call::output("cargo", ["clippy", "--version"]).is_some(),
            aioquic: !tests || ::lab::aioquic().is_some(),
            parts,
            rustup,
            apt,
        }
    }

    pub fn lacks(&self, packages: &[&'static str]) -> Vec<&'static str> {
        packages.iter().copied().filter(|package| !self.packages.contains(package)).collect()
    }
}

/// Those of the packages that are installed.
pub fn installed(asked: &[&'static str]) -> BTreeSet<&'static str> {
    // dpkg-query fails as a whole when it does not know one of the names, so ask for all.
    let listed = call::output("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Abbrev}\n"]);
    let listed = listed.unwrap_or_default();
    let here: BTreeSet<_> =
        listed.lines().filter_map(|line| line.trim_end().strip_suffix(" ii")).collect();
    asked.iter().copied().filter(|package| here.contains(package)).collect()
}

/// A machine whose package lists were never fetched knows nothing yet; the step itself
/// fetches them, and fails in one line if the packages are not there after all.
fn may_know_debian_rust() -> bool {
    let known = call::output("apt-cache", ["policy", "bash"]).unwrap_or_default();
    let fetched = known.lines().any(|line| line.contains("://"));
    let policy = call::output("apt-cache", ["policy", "rustc-web"]).unwrap_or_default();
    !fetched || candidate(&policy).is_some_and(|release| release >= bpf::RELEASE_MIN) || is_debian()
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release")
        .is_ok_and(|release| release.lines().any(|line| line == "ID=debian"))
}

/// Major and minor version of what apt would install.
fn candidate(policy: &str) -> Option<(u32, u32)> {
    let version = policy.lines().find_map(|line| line.trim_start().strip_prefix("Candidate: "))?;
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn is_llvm_here(llvm: u32) -> bool {
    Path::new(&llvm_folder(llvm)).join("include/llvm-c/Core.h").exists()
}

/// Where Debian has an LLVM.
pub fn llvm_folder(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read_as_apt_prints_it() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n";
        assert_eq!(candidate(policy), Some((1, 96)));
        assert_eq!(candidate("rustc-web:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }
}
