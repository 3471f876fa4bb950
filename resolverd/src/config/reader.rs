//! Takes one written value after another, and keeps what is wrong with them.
//!
//! Pure. Gives a stand-in for what it refuses, so that the next value is looked at too;
//! `meaning.rs` lets none of them out.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::Problem;
use super::overlay::{Source, example, nearest};
use super::spec::{Number, Text};
use super::values::{self, Refusal};

/// Reads values, and keeps what was wrong with them.
pub struct Reader<'a> {
    pub source: &'a Source<'a>,
    pub problems: Vec<Problem>,
}

impl Reader<'_> {
    pub fn refuse(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.problems.push(self.source.problem(&span, text));
    }

    /// The place of the first that the operator wrote.
    pub fn written(&self, texts: &[&Text]) -> Range<usize> {
        let mut spans = texts.iter().map(|text| text.span());
        spans.clone().find(|span| self.source.is_written(span)).or(spans.next()).unwrap_or(0..0)
    }

    pub fn value<T>(
        &mut self,
        key: &str,
        text: &Text,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        match read(text.get_ref()) {
            Ok(value) => Some(value),
            Err(Refusal { message, instead }) => {
                self.refuse(text.span(), format!("`{key}`: {message}; write {instead} instead"));
                None
            }
        }
    }

    /// A name that an operator gives to one `thing` among its like; `names` has those before.
    /// `example` is one.
    pub fn own_name<'t>(
        &mut self,
        thing: &str,
        example: &str,
        text: &'t Text,
        names: &mut HashSet<&'t String>,
    ) {
        let name = text.get_ref();
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            self.refuse(
                text.span(),
                format!(
                    "`{thing}.name` is a word of 1 to {NAME_MAX} octets; \
                     write `name = \"{example}\"` instead"
                ),
            );
        } else if !names.insert(name) {
            self.refuse(
                text.span(),
                format!("a second {thing} is named `{name}`; write `name = \"{name}-2\"` instead"),
            );
        }
    }

    /// Reads a list; what stands in it twice is refused.
    pub fn each_once<T: PartialEq + Clone + Hash + Eq>(
        &mut self,
        key: &str,
        texts: &[Text],
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Vec<T> {
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for text in texts {
            let Some(value) = self.value(key, text, &read) else { continue };
            if seen.insert(value.clone()) {
                values.push(value);
            } else {
                let twice = text.get_ref();
                self.refuse(
                    text.span(),
                    format!("`{key}` has `{twice}` twice; write it once instead"),
                );
            }
        }
        values
    }

    pub fn number(&mut self, key: &str, number: &Number, range: RangeInclusive<i64>) -> i64 {
        let value = *number.get_ref();
        if !range.contains(&value) {
            let (min, max) = (range.start(), range.end());
            self.refuse(
                number.span(),
                format!(
                    "`{key}` is {value}, and may be {min} to {max}; write `{}` instead",
                    example_of(key)
                ),
            );
        }
        value.clamp(*range.start(), *range.end())
    }

    pub fn duration(
        &mut self,
        key: &str,
        text: &Text,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = self.value(key, text, values::duration) else { return *range.start() };
        if !range.contains(&value) {
            let show = values::show_duration;
            self.refuse(
                text.span(),
                format!(
                    "`{key}` is {}, and may be {} to {}; write `{}` instead",
                    text.get_ref().trim(),
                    show(*range.start()),
                    show(*range.end()),
                    example_of(key)
                ),
            );
        }
        value.clamp(*range.start(), *range.end())
    }

    pub fn size(&mut self, key: &str, text: &Text, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.value(key, text, values::size) else { return *range.start() };
        if !range.contains(&value) {
            let show = values::show_size;
            self.refuse(
                text.span(),
                format!(
                    "`{key}` is {}, and may be {} to {}; write `{}` instead",
                    show(value),
                    show(*range.start()),
                    show(*range.end()),
                    example_of(key)
                ),
            );
        }
        value.clamp(*range.start(), *range.end())
    }

    pub fn one_of<T: Copy>(&mut self, key: &str, text: &Text, known: &[(&str, T)]) -> T {
        let word = text.get_ref().as_str();
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == word) {
            return *value;
        }
        let bare = key.rsplit('.').next().unwrap_or(key);
        let names: Vec<String> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let instead = nearest(word, known.iter().map(|(name, _)| *name))
            .map_or_else(|| example_of(key), |near| format!("{bare} = \"{near}\""));
        self.refuse(
            text.span(),
            format!(
                "`{key}`: \"{word}\" is {} {}; write `{instead}` instead",
                if names.len() > 1 { "none of" } else { "not" },
                names.join(", ")
            ),
        );
        known[0].1
    }

    pub fn path(&mut self, key: &str, text: &Text) -> PathBuf {
        let path = PathBuf::from(text.get_ref());
        if text.get_ref().is_empty() || text.get_ref().contains('\0') {
            self.refuse(
                text.span(),
                format!(
                    "`{key}`: \"{}\" is not a path; write `{}` instead",
                    text.get_ref().escape_default(),
                    example_of(key)
                ),
            );
        }
        path
    }

    pub fn socket_path(&mut self, key: &str, text: &Text) -> PathBuf {
        if text.get_ref().len() > SOCKET_PATH_MAX {
            self.refuse(
                text.span(),
                format!(
                    "`{key}` has {} octets, and the system takes {SOCKET_PATH_MAX}; \
                     write `{}` instead",
                    text.get_ref().len(),
                    example_of(key)
                ),
            );
        }
        self.path(key, text)
    }

    pub fn not_empty(&mut self, key: &str, list: &Spanned<Vec<Text>>, instead: &str) {
        if list.get_ref().is_empty() {
            let bare = key.rsplit('.').next().unwrap_or(key);
            self.refuse(
                list.span(),
                format!("`{key}` is empty; write `{bare} = {instead}` instead"),
            );
        }
    }

    pub fn at_most(&mut self, key: &str, list: &Spanned<Vec<Text>>, max: usize) {
        if let Some(one_too_many) = list.get_ref().get(max) {
            self.too_many(one_too_many.span(), key, max);
        }
    }

    pub fn too_many(&mut self, span: Range<usize>, what: &str, max: usize) {
        self.refuse(span, format!("more than {max} of `{what}`; write fewer instead"));
    }
}

fn example_of(key: &str) -> String {
    key.split_once('.').map_or_else(String::new, |(section, key)| example(section, key))
}

/// `sun_path` without the octet that ends it.
const SOCKET_PATH_MAX: usize = 107;

/// Octets of a name: it is a label of metrics, and a field of log lines.
const NAME_MAX: usize = 64;
