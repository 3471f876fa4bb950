//! What stands beside the code: the top level, the licences, the lists of metrics and features.

use std::collections::BTreeSet;

use super::{Finding, Tree};

/// The top level, apart from dot-files and `target/`.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "config",
    "docs",
    "resolverd",
    "resolverd-common",
    "resolverd-ebpf",
    "tests",
    "xtask",
];

const LICENCES: &[&str] = &["docs/LICENSE-APACHE", "docs/LICENSE-MIT"];

const METRICS: &str = "docs/METRICS.md";

const FEATURES: &str = "docs/FEATURES.md";

/// The top level stays as it is.
pub fn top_level(tree: &Tree) -> Vec<Finding> {
    let stray = tree.top_level.iter().filter(|name| {
        !name.starts_with('.') && *name != "target" && !TOP_LEVEL.contains(&name.as_str())
    });
    let stray = stray.map(|name| Finding::at(name, 1, "does not belong at the top level".into()));
    let missing = TOP_LEVEL.iter().filter(|name| !tree.top_level.iter().any(|it| it == **name));
    let missing = missing.map(|name| Finding::at(name, 1, "is missing at the top level".into()));
    stray.chain(missing).collect()
}

/// The licence texts are in docs/, and nowhere else.
pub fn licences(tree: &Tree) -> Vec<Finding> {
    let is_licence = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default().to_uppercase();
        ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"].iter().any(|start| name.starts_with(start))
    };
    let stray = tree.files.iter().filter(|path| is_licence(path));
    let stray = stray.filter(|path| !LICENCES.contains(&path.as_str()));
    let stray = stray.map(|path| Finding::at(path, 1, "licences are texts in docs/ alone".into()));
    let missing = LICENCES.iter().filter(|path| !tree.files.iter().any(|file| file == **path));
    let missing = missing.map(|path| Finding::at(path, 1, "is missing".into()));
    stray.chain(missing).collect()
}

/// The document and the code name the same metrics.
pub fn metrics(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.document(METRICS) else {
        return vec![Finding::at(METRICS, 1, "is missing".into())];
    };
    let sources: Vec<_> = tree
        .sources
        .iter()
        .filter(|source| {
            source.path == "resolverd/src/metrics.rs"
                || source.path.starts_with("resolverd/src/metrics/")
        })
        .collect();
    let told: BTreeSet<_> = names(document, '`').collect();
    let mut counted = BTreeSet::new();
    let mut findings = Vec::new();
    for source in &sources {
        for (number, line) in source.text.lines().enumerate() {
            if source.is_test_line(number + 1) {
                continue;
            }
            for name in names(line, '"') {
                counted.insert(name);
                if !told.contains(name) {
                    let text = format!("`{name}` is not in {METRICS}");
                    findings.push(Finding::at(&source.path, number + 1, text));
                }
            }
        }
    }
    if counted.is_empty() {
        let text = "no metric was found in resolverd/src/metrics: has it moved?";
        findings.push(Finding::at(METRICS, 1, text.into()));
    }
    for (number, line) in document.lines().enumerate() {
        for name in names(line, '`').filter(|name| !counted.contains(name)) {
            let text = format!("`{name}` is counted nowhere in resolverd/src/metrics");
            findings.push(Finding::at(METRICS, number + 1, text));
        }
    }
    findings
}

/// A feature that is said to be shown by a test is.
pub fn features(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.document(FEATURES) else {
        return vec![Finding::at(FEATURES, 1, "is missing".into())];
    };
    let is_test = |name: &str| {
        name.matches('_').count() >= 2
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let mut findings = Vec::new();
    let mut named = 0;
    for (number, line) in document.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2).filter(|name| is_test(name)) {
            named += 1;
            let function = format!("fn {name}(");
            if !tree.sources.iter().any(|source| source.text.contains(&function)) {
                let text = format!("there is no test `{name}`");
                findings.push(Finding::at(FEATURES, number + 1, text));
            }
        }
    }
    if named == 0 {
        findings.push(Finding::at(FEATURES, 1, "no test was found in it".into()));
    }
    findings
}

/// The names of metrics that follow this quotation mark. A name that ends with `_` is the
/// beginning of a pattern, and none of a metric.
fn names(text: &str, quote: char) -> impl Iterator<Item = &str> {
    text.split(quote).skip(1).filter_map(|words| {
        let end = words.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let name = &words[..end.unwrap_or(words.len())];
        (name.starts_with("resolverd_") && !name.ends_with('_')).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_is_strange_or_missing_at_the_top_is_found() {
        let found = |names: &[&str]| {
            top_level(&Tree { top_level: strings(names), ..Tree::default() }).len()
        };
        let good = [TOP_LEVEL, &["target", ".git", ".ci"]].concat();
        assert_eq!(found(&good), 0);
        assert_eq!(found(&[good.as_slice(), &["scripts"]].concat()), 1);
        assert_eq!(found(&good[1..]), 1);
    }

    #[test]
    fn a_licence_outside_docs_is_found_and_so_is_a_missing_one() {
        let found =
            |files: &[&str]| licences(&Tree { files: strings(files), ..Tree::default() }).len();
        assert_eq!(found(&["docs/LICENSE-APACHE", "docs/LICENSE-MIT", "docs/METRICS.md"]), 0);
        assert_eq!(found(&["docs/LICENSE-APACHE", "docs/LICENSE-MIT", "xtask/LICENSE"]), 1);
        assert_eq!(found(&["docs/LICENSE-APACHE"]), 1);
    }

    #[test]
    fn a_metric_on_one_side_alone_is_found() {
        let found = |code: &str, document: &str| {
            let sources = vec![Source::new("resolverd/src/metrics/catalogue.rs", code)];
            let documents = vec![(METRICS.to_owned(), document.to_owned())];
            metrics(&Tree { sources, documents, ..Tree::default() }).len()
        };
        let code = "const A: &str = \"resolverd_a_total\";";
        assert_eq!(found(code, "| `resolverd_a_total{x}` | `resolverd_<room>_x` |"), 0);
        assert_eq!(found(code, "| `resolverd_b_total` |"), 2);
        assert_eq!(found("", "| `resolverd_a_total` |"), 2);
        assert_eq!(found(&format!("{code}\n\"resolverd_c\";"), "`resolverd_a_total`"), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{ \"resolverd_made_up\"; }}\n{code}");
        assert_eq!(found(&tests, "`resolverd_a_total`"), 0);
        assert_eq!(metrics(&Tree::default()).len(), 1);
    }

    #[test]
    fn a_feature_whose_test_is_gone_is_found() {
        let found = |document: &str| {
            let sources = vec![Source::new("tests/daemon/a.rs", "fn a_b_c() -> Result<()> {}")];
            let documents = vec![(FEATURES.to_owned(), document.to_owned())];
            features(&Tree { sources, documents, ..Tree::default() }).len()
        };
        assert_eq!(found("| views | Y | Y `a_b_c` |"), 0);
        assert_eq!(found("| views | Y | Y `a_b_c` |\n| acl | N | Y `a_b_d` |"), 1);
        assert_eq!(found("| views | Y | Y |"), 1);
        assert_eq!(features(&Tree::default()).len(), 1);
    }
}
