//! What the configuration says of trust: anchors with where they come from, and what validation
//! begins with. Pure.

use std::sync::Arc;

use crate::config::{AnchorFile, Config, ConfigError, Position, Problem, Validate};
use crate::dns::Name;
use crate::resolver::dnssec::anchors::{self, Anchor, Anchors};
use crate::resolver::dnssec::driver::Policy;

/// An anchor, and who brought it: [`BUILT_IN`], or the path of a file.
pub struct Configured {
    pub anchor: Anchor,
    pub origin: String,
}

/// All anchors. Those of files come beside the root's, and take their place if they have any for
/// the root.
///
/// # Errors
///
/// [`ConfigError::Refused`]; what is wrong in a file is told with its place there.
pub fn anchors(config: &Config) -> Result<Vec<Configured>, ConfigError> {
    let mut all = Vec::new();
    let mut problems = Vec::new();
    for file in &config.dnssec.trust_anchor_files {
        let origin = file.path.display().to_string();
        match anchors_of(file) {
            Ok(anchors) => all.extend(
                anchors.into_iter().map(|anchor| Configured { anchor, origin: origin.clone() }),
            ),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError::refused(problems));
    }
    if !all.iter().any(|of_file| of_file.anchor.name == Name::root()) {
        let built_in = anchors::built_in().into_iter();
        all.extend(built_in.map(|anchor| Configured { anchor, origin: BUILT_IN.to_owned() }));
    }
    Ok(all)
}

/// What validation begins with; None: nothing is validated.
///
/// # Errors
///
/// [`ConfigError::Refused`].
pub fn policy(config: &Config) -> Result<Option<Arc<Policy>>, ConfigError> {
    let dnssec = &config.dnssec;
    let mut all = Anchors::default();
    for Configured { anchor, .. } in anchors(config)? {
        let name = anchor.name.clone();
        if !all.add(anchor) {
            let text = format!(
                "`dnssec.trust-anchor-files`: too many anchors at `{name}`; {} names may have \
                 {} each: take old ones out",
                anchors::ANCHORS_MAX,
                anchors::ANCHORS_AT_NAME_MAX
            );
            return Err(ConfigError::refused(vec![config.problem(Position::default(), text)]));
        }
    }
    for (name, until) in &dnssec.negative_trust_anchors {
        // The configuration holds fewer than there is room for.
        all.add_negative(name.parse().unwrap_or_else(|_| Name::root()), *until);
    }
    let policy = Policy {
        anchors: Arc::new(all),
        forwarded: dnssec.validate == Validate::All,
        now: dnssec.now,
    };
    Ok((dnssec.validate != Validate::Nothing).then(|| Arc::new(policy)))
}

fn anchors_of(file: &AnchorFile) -> Result<Vec<Anchor>, Problem> {
    anchors::read(&file.text).map_err(|error| Problem {
        file: file.path.display().to_string(),
        at: Position { line: error.line, column: error.column },
        text: error.what,
    })
}

/// The origin of the root's anchors that come with the program.
pub const BUILT_IN: &str = "built-in";

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "test.toml").unwrap()
    }

    fn with_file(text: &str) -> Config {
        let mut config = config("");
        let at = Position::default();
        let file = AnchorFile { path: "anchors".into(), text: text.into(), at };
        config.dnssec.trust_anchor_files.push(file);
        config
    }

    const DS: &str = "IN DS 1 13 2 \
                      0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn anchors_of_files_come_beside_those_of_the_root_or_take_their_place() {
        let of = |text: &str| policy(&with_file(text));
        let names = |text: &str| of(text).unwrap().unwrap().anchors.points().count();
        assert_eq!(names(&format!("a.test. {DS}\n")), 2);
        assert_eq!(names(&format!(". {DS}\n")), 1);
        let root = of(&format!(". {DS}\n")).unwrap().unwrap();
        assert_eq!(root.anchors.points().next().unwrap().1.ds.len(), 1, "in their place");
        let error = of("a.test. IN DS 1 13 2\n").unwrap_err().to_string();
        assert!(error.starts_with("anchors:1:20: "), "{error}");
        let off = config("[dnssec]\nvalidate = false\n");
        assert_eq!(policy(&off).unwrap(), None);
    }

    #[test]
    fn each_anchor_says_where_it_comes_from() {
        let origins = |config: &Config| -> Vec<(String, String)> {
            let all = anchors(config).unwrap().into_iter();
            all.map(|of| (of.anchor.name.to_string(), of.origin)).collect()
        };
        let built_in = (".".to_owned(), "built-in".to_owned());
        assert_eq!(origins(&config("")), [built_in.clone(), built_in.clone()]);
        let of_file = ("a.test.".to_owned(), "anchors".to_owned());
        let beside = origins(&with_file(&format!("a.test. {DS}\n")));
        assert_eq!(beside, [of_file, built_in.clone(), built_in]);
    }
}
