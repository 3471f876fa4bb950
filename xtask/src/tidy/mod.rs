//! Holds the style of the house, so that a file name can be trusted.
//!
//! The rules are functions from a tree that was read once to what they found. They run in the
//! verb and as a test of this crate; format and lints are cargo's and run in the verb alone.

mod floors;
mod manners;
mod papers;
mod purity;
mod source;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::call;
use source::Source;

#[derive(clap::Args)]
pub struct Options {
    /// Leave out format and lints: the rules alone take no time.
    #[arg(long)]
    rules: bool,
}

pub fn verb(options: &Options) -> Result<()> {
    let tally = check(!options.rules)?;
    println!("tidy: {} checks passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("not tidy");
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
}

/// Holds the tree against every rule, and prints what was found.
pub fn check(with_cargo: bool) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut count = |good: bool| match good {
        true => tally.passed += 1,
        false => tally.failed += 1,
    };
    let tree = Tree::read(&call::root())?;
    for rule in RULES {
        let findings = (rule.find)(&tree);
        for finding in &findings {
            let kind = if finding.warning { "warning" } else { "tidy" };
            println!("{kind}: {}:{}: {}", finding.path, finding.line, finding.text);
        }
        let good = findings.iter().all(|finding| finding.warning);
        if !good {
            println!("tidy: rule broken: {}", rule.says);
        }
        count(good);
    }
    if with_cargo {
        for words in CARGO_CHECKS {
            let result = call::run(build::cargo_with_bpf().args(*words));
            if let Err(error) = &result {
                println!("tidy: {error:#}");
            }
            count(result.is_ok());
        }
    }
    Ok(tally)
}

struct Rule {
    says: &'static str,
    find: fn(&Tree) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule { says: "the top level stays as it is", find: papers::top_level },
    Rule { says: "licences are in docs/", find: papers::licences },
    Rule { says: "a room names lower floors only", find: floors::floors },
    Rule { says: "the table of floors is the one in STYLE.md", find: floors::floors_as_documented },
    Rule { says: "pure files touch nothing of the world", find: purity::purity },
    Rule { says: "machines neither log nor count", find: purity::silent_machines },
    Rule { says: "unsafe has an address and a reason", find: manners::unsafe_has_an_address },
    Rule { says: "lint exceptions have reasons", find: manners::exceptions_have_reasons },
    Rule { says: "a file begins by saying what it is", find: manners::headers },
    Rule { says: "lines end by column 100", find: manners::columns },
    Rule { says: "one file, one idea", find: manners::lengths },
    Rule { says: "nothing is left for later", find: manners::leftovers },
    Rule { says: "METRICS.md and metrics.rs agree", find: papers::metrics },
    Rule { says: "what FEATURES.md calls a test is one", find: papers::features },
];

/// The fast path is built for another target by another compiler: its lints come with
/// its build.
const CARGO_CHECKS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        "resolverd-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
];

/// What a rule found, and where.
#[derive(Debug)]
struct Finding {
    path: String,
    line: usize,
    text: String,
    /// Shown, and no failure.
    warning: bool,
}

impl Finding {
    fn at(path: &str, line: usize, text: String) -> Self {
        Self { path: path.to_owned(), line, text, warning: false }
    }
}

/// The tree as the rules see it.
#[derive(Default)]
struct Tree {
    /// Names at the top.
    top_level: Vec<String>,
    /// Every file but those of git, of tools and of `target/`, from the top.
    files: Vec<String>,
    sources: Vec<Source>,
    /// The texts in docs/, with their paths.
    documents: Vec<(String, String)>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { top_level: names(root)?, ..Self::default() };
        tree.read_folder(root, "", 0)?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, path: &str, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            bail!("{path} is more than {DEPTH_MAX} folders deep");
        }
        for name in names(folder)? {
            let entry = folder.join(&name);
            let path = format!("{path}{name}");
            let kind = fs::symlink_metadata(&entry).with_context(|| path.clone())?;
            if name.starts_with('.') || name == "target" {
                continue;
            } else if kind.is_dir() {
                self.read_folder(&entry, &format!("{path}/"), depth + 1)?;
                continue;
            }
            let read = || fs::read_to_string(&entry).with_context(|| path.clone());
            if name.ends_with(".rs") {
                self.sources.push(Source::new(&path, &read()?));
            } else if path.starts_with("docs/") && name.ends_with(".md") {
                self.documents.push((path.clone(), read()?));
            }
            self.files.push(path);
        }
        Ok(())
    }

    fn document(&self, path: &str) -> Option<&str> {
        self.documents.iter().find(|(known, _)| known == path).map(|(_, text)| text.as_str())
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Folders within folders. A tree deeper than this is a mistake, or a loop.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let tree = Tree::read(&call::root()).unwrap();
        let broken: Vec<_> = RULES
            .iter()
            .flat_map(|rule| (rule.find)(&tree))
            .filter(|finding| !finding.warning)
            .map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.text))
            .collect();
        assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    }

    #[test]
    fn every_part_of_the_house_is_read() {
        let tree = Tree::read(&call::root()).unwrap();
        for path in [
            "resolverd/src/lib.rs",
            "resolverd-common/src/lib.rs",
            "resolverd-ebpf/src/main.rs",
            "tests/lab/mod.rs",
            "xtask/src/tidy/mod.rs",
        ] {
            assert!(tree.sources.iter().any(|source| source.path == path), "{path}");
        }
        assert!(!tree.files.iter().any(|path| path.contains("target/")));
    }

    #[test]
    fn a_tree_with_nothing_in_it_breaks_rules() {
        let broken = RULES.iter().filter(|rule| !(rule.find)(&Tree::default()).is_empty());
        assert!(broken.count() >= 3);
    }
}
