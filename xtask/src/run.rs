//! Sets up, builds, and becomes the daemon, in the foreground on port 5300.
//!
//! Insists on nothing: without root or without a BPF compiler the daemon serves
//! from user space, and one line here says so first.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::build::{self, Profile};
use crate::call;
use crate::setup::{self, Consent, Wanted};

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Words for the daemon, after `run --config FILE`.
    #[arg(last = true)]
    words: Vec<String>,
}

pub fn verb(options: &Options) -> Result<()> {
    setup::setup(Wanted::Run, &options.consent)?;
    let daemon = build::build(Profile::Release)?;
    let config = write_config(&call::root())?;
    if !call::may_touch_the_kernel() {
        println!(
            "no privilege for the kernel path: every answer comes from user space; for the \
             kernel's, run as root `{} run --config {}`",
            daemon.display(),
            config.display()
        );
    }
    println!("first question: dig @127.0.0.1 -p 5300 www.resolverd.test");
    let mut command = Command::new(&daemon);
    command.arg("run").arg("--config").arg(&config).args(&options.words);
    // Becomes the daemon, so that signals and the exit status are its own.
    Err(command.exec()).with_context(|| format!("could not start `{}`", call::shown(&command)))
}

/// Lays the template's paths under this tree's `target/run`, wherever the tree is.
fn write_config(root: &Path) -> Result<PathBuf> {
    let folder = root.join(RUN_FOLDER);
    let template = root.join(TEMPLATE);
    let text = fs::read_to_string(&template)
        .with_context(|| format!("could not read {}", template.display()))?;
    fs::create_dir_all(folder.join("state"))
        .with_context(|| format!("could not make {}", folder.display()))?;
    let config = folder.join("resolverd.toml");
    fs::write(&config, with_folder(&text, &folder))
        .with_context(|| format!("could not write {}", config.display()))?;
    Ok(config)
}

fn with_folder(template: &str, folder: &Path) -> String {
    template.replace(&format!("\"{RUN_FOLDER}"), &format!("\"{}", folder.display()))
}

/// The template stands as a configuration of its own for one who starts the daemon at
/// the top of the tree, so it names this folder as seen from there.
const RUN_FOLDER: &str = "target/run";
const TEMPLATE: &str = "config/run.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_template_is_laid_under_the_tree() {
        let text = fs::read_to_string(call::root().join(TEMPLATE)).unwrap();
        let laid = with_folder(&text, Path::new("/somewhere/target/run"));
        let paths = |text: &str, start: &str| text.matches(start).count();
        assert!(paths(&text, "\"target/run/") >= 3);
        assert_eq!(paths(&laid, "\"/somewhere/target/run/"), paths(&text, "\"target/run/"));
        assert_eq!(paths(&laid, "\"target/run"), 0);
    }
}
