//! One step of setup: as shown to the operator, and as the command that is run.

use std::process::Command;

use super::facts::llvm_folder;
use crate::call;

pub struct Step {
    pub purpose: Purpose,
    pub act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    KernelPath,
    Tests,
    /// What a few tests call; they say that they are skipped without it.
    SomeTests,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Apt {
        packages: Vec<&'static str>,
        sudo: bool,
    },
    Rustup(Vec<String>),
    /// `cargo install bpf-linker` against this LLVM.
    Linker {
        llvm: u32,
    },
    /// A client of QUIC that others wrote, from PyPI, in a folder of its own.
    Aioquic,
}

impl Step {
    pub fn command(&self) -> Command {
        match &self.act {
            Act::Apt { packages, sudo } => {
                let mut command = Command::new(if *sudo { "sudo" } else { "sh" });
                if *sudo {
                    command.arg("sh");
                }
                command.args(["-c", INSTALL, "install"]).args(packages);
                command
            }
            Act::Rustup(words) => {
                let mut command = Command::new("rustup");
                command.args(words);
                command
            }
            Act::Aioquic => {
                let mut command = Command::new("sh");
                command.args(["-c", AIOQUIC]).current_dir(call::root());
                command
            }
            Act::Linker { llvm } => {
                let mut command = Command::new("cargo");
                command.args(["install", "bpf-linker", "--version", LINKER_VERSION]);
                command.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
                // Not below this tree, whose settings are not meant for that crate.
                command.current_dir("/").env("LLVM_PREFIX", llvm_folder(*llvm));
                command
            }
        }
    }

    /// The step as an operator would type it.
    pub fn shown(&self) -> String {
        match &self.act {
            Act::Apt { packages, sudo } => {
                let sudo = if *sudo { "sudo " } else { "" };
                format!("{sudo}apt-get update && {sudo}apt-get install {}", packages.join(" "))
            }
            Act::Linker { llvm } => {
                format!("LLVM_PREFIX={} {}", llvm_folder(*llvm), call::shown(&self.command()))
            }
            Act::Aioquic => AIOQUIC.to_owned(),
            Act::Rustup(_) => call::shown(&self.command()),
        }
    }
}

const AIOQUIC: &str = "python3 -m venv target/aioquic && \
                       target/aioquic/bin/pip install --quiet aioquic==1.7.2";

const LINKER_VERSION: &str = "0.13.0";

/// Installs packages without starting their services: Debian asks policy-rc.d whether a
/// service may start. If nobody has one, there is one for the length of the installation.
/// All in one shell, so that one `sudo` is enough and the file goes in every case but
/// a `kill -9`; what such a one left is known by its first comment, and replaced.
const INSTALL: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
mark='# for the length of an installation by cargo xtask setup'
if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > "$policy"
    chmod 755 "$policy"
fi
apt-get update -q
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"
"#;

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The script runs with its paths moved into a folder of the test, and apt-get and
    /// the shell's own tools as they are.
    fn install(folder: &Path, apt_get: &str) -> (bool, String) {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let seen = folder.join("seen");
        let program = format!("#!/bin/sh\ncat policy-rc.d >> '{}'\n{apt_get}\n", seen.display());
        fs::write(bin.join("apt-get"), program).unwrap();
        call::run(Command::new("chmod").arg("755").arg(bin.join("apt-get"))).unwrap();
        let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
        let script = INSTALL.replace("/usr/sbin/policy-rc.d", "policy-rc.d");
        let status = Command::new("sh")
            .args(["-c", &script, "install", "knot"])
            .current_dir(folder)
            .env("PATH", path)
            .status()
            .unwrap();
        (status.success(), fs::read_to_string(seen).unwrap_or_default())
    }

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn services_are_held_back_while_packages_are_installed_and_no_longer() {
        for (name, apt_get, succeeds) in [("good", "true", true), ("bad", "exit 100", false)] {
            let folder = folder(name);
            let (success, seen) = install(&folder, apt_get);
            assert_eq!(success, succeeds);
            assert!(seen.contains("exit 101"), "{seen}");
            assert!(!folder.join("policy-rc.d").exists());
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn the_policy_of_somebody_else_stays_and_one_that_was_left_behind_goes() {
        let folder = folder("kept");
        let policy = folder.join("policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 0\n").unwrap();
        assert!(install(&folder, "true").0);
        assert_eq!(fs::read_to_string(&policy).unwrap(), "#!/bin/sh\nexit 0\n");
        let mark = INSTALL.lines().find_map(|line| line.strip_prefix("mark=")).unwrap();
        fs::write(&policy, format!("#!/bin/sh\n{}\nexit 101\n", mark.trim_matches('\''))).unwrap();
        assert!(install(&folder, "true").0);
        assert!(!policy.exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
