//! Calling other programs, and what this machine says about itself.
//!
//! Knows no verb: the verbs say what to call.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command to its end in the terminal of the caller.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// What a command prints, if it is there and succeeds.
pub fn output<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    words.join(" ")
}

/// Where a program is found: in `PATH`, else where `cargo install` puts programs.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(cargo_bin());
    folders.map(|folder| folder.join(program)).find(|file| is_program(file))
}

/// The folder of `cargo install`, which is not in every `PATH`.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_INSTALL_ROOT")
        .or_else(|| env::var_os("CARGO_HOME"))
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin"))
}

/// The top of the working tree. Asked at run time, for a copied `target/` may hold
/// this program as it was built in another tree.
pub fn root() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().expect("xtask has a folder above it").to_path_buf()
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether this process may make namespaces, change interfaces and load BPF programs.
/// Root in a container often may not.
pub fn may_touch_the_kernel() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| holds_capabilities(&status))
}

fn holds_capabilities(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|held| NEEDED_CAPABILITIES.iter().all(|bit| held >> bit & 1 == 1))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// `CAP_NET_ADMIN`, `CAP_SYS_ADMIN` and `CAP_BPF`, as numbered in linux/capability.h.
const NEEDED_CAPABILITIES: [u32; 3] = [12, 21, 39];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("cargo");
        command.args(["test", "a b", "it's", ""]);
        assert_eq!(shown(&command), "cargo test 'a b' 'it'\\''s' ''");
    }

    #[test]
    fn root_without_its_capabilities_may_not_touch_the_kernel() {
        assert!(holds_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!holds_capabilities("CapEff:\t00000000a80425fb\n"));
        assert!(!holds_capabilities("CapEff:\t0000000000000000\n"));
        assert!(!holds_capabilities("CapEff:\tnonsense\n"));
        assert!(!holds_capabilities(""));
    }

    #[test]
    fn a_failed_command_is_named_with_its_words() {
        let error = run(Command::new("false").arg("now")).unwrap_err();
        assert!(error.to_string().contains("`false now` failed"), "{error}");
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("could not start"), "{error}");
    }

    #[test]
    fn a_program_is_found_in_the_path_and_a_folder_is_none() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("no-such-program-here"), None);
        assert!(!is_program(Path::new("/")));
    }
}
