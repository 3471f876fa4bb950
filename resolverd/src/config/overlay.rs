//! The operator's file, laid over the defaults.
//!
//! Both are trees of TOML; tables merge key by key, everything else replaces. What is in the
//! tree and has no place in [`Spec`] is refused here by name, and so is what has the wrong
//! type. Pure: texts in, a [`Spec`] out.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::spec::{self, Section, Spec};
use super::{Position, Problem};

/// The defaults themselves.
pub const DEFAULTS: &str = include_str!("../../../config/resolverd.toml");

/// Lays `source` over the defaults. Gives what there is, and what was refused of it; nothing
/// when not even its types are right.
pub fn lay(source: &Source<'_>) -> (Option<Spec>, Vec<Problem>) {
    let defaults = DeTable::parse(DEFAULTS).expect("the defaults are TOML");
    let mut written = match DeTable::parse(source.text) {
        Ok(table) => table.into_inner(),
        Err(e) => {
            let span = e.span().unwrap_or(0..0);
            return (None, vec![source.problem(&span, syntax_message(e.message()))]);
        }
    };
    let mut problems = Vec::new();
    refuse_unknown(&mut written, source, &mut problems);
    let paths = written.clone();
    let whole = 0..source.text.len();
    let merged = merge(shift(defaults.into_inner(), source.text.len() + 1), written);
    match Spec::deserialize(Deserializer::from(Spanned::new(whole, merged))) {
        Ok(spec) => (Some(spec), problems),
        Err(e) => {
            let span = e.span().unwrap_or(0..0);
            problems.push(source.problem(&span, type_message(e.message(), &paths, &span)));
            (None, problems)
        }
    }
}

/// The operator's text, and where its lines start.
///
/// The spans of a merged tree are offsets into this text, or, past its end, into the defaults.
pub struct Source<'a> {
    pub file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, line_starts }
    }

    /// Whether the operator wrote it.
    pub fn is_written(&self, span: &Range<usize>) -> bool {
        span.start <= self.text.len()
    }

    pub fn position(&self, span: &Range<usize>) -> Position {
        let offset = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        // The first line starts at 0, so there is one at or before every offset.
        let start = self.line_starts[line - 1];
        // A span of a well-formed tree starts at a character; one of an error need not.
        let before = &self.text.as_bytes()[start..offset];
        let column = 1 + before.iter().filter(|octet| (**octet & 0xc0) != 0x80).count();
        Position { line, column }
    }

    pub fn problem(&self, span: &Range<usize>, text: impl Into<String>) -> Problem {
        Problem { file: self.file.to_owned(), at: self.position(span), text: text.into() }
    }
}

/// What could be written for a key: what the defaults write.
pub fn example(section: &str, key: &str) -> String {
    let shown = spec::EXAMPLES.iter().find(|(s, k, _)| *s == section && *k == key);
    if let Some((_, _, value)) = shown {
        return format!("{key} = {value}");
    }
    let defaults = DeTable::parse(DEFAULTS).expect("the defaults are TOML");
    let span =
        defaults.get_ref().get(section).and_then(|v| v.get_ref().get(key)).map(Spanned::span);
    let value = span.map_or("…", |span| &DEFAULTS[span]);
    format!("{key} = {value}")
}

/// The nearest of `known`, when it is near enough to be what was meant: a typing slip or two in
/// a long word, or the same word with more or less of an end.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    if word.is_empty() {
        return None;
    }
    known
        .into_iter()
        .filter_map(|candidate| {
            let slips = strsim::damerau_levenshtein(&word, candidate);
            let near = slips <= candidate.chars().count() / 3;
            let prefix = candidate.len() >= 3 && word.starts_with(candidate)
                || word.len() >= 3 && candidate.starts_with(&word);
            (near || prefix).then_some((slips, candidate))
        })
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Reports every section and key that [`Spec`] has no place for, and takes it out, so that the
/// rest can still be looked at.
fn refuse_unknown(root: &mut DeTable<'_>, source: &Source<'_>, problems: &mut Vec<Problem>) {
    let sections = spec::sections();
    let names: Vec<_> = root.iter().map(|(key, value)| (key.clone(), value.span())).collect();
    for (name, value_span) in names {
        let known = sections.iter().find(|section| section.name == name.get_ref().as_ref());
        let Some(section) = known else {
            let text = unknown_section(name.get_ref(), &sections);
            problems.push(source.problem(&name.span(), text));
            root.remove(name.get_ref().as_ref());
            continue;
        };
        let shape = match root.get_mut(section.name).map(Spanned::get_mut) {
            Some(DeValue::Table(table)) if !section.repeated => {
                refuse_keys(table, section, &sections, source, problems);
                continue;
            }
            Some(DeValue::Array(elements)) if section.repeated => {
                let mut tables = true;
                for element in elements.iter_mut() {
                    match element.get_mut() {
                        DeValue::Table(table) => {
                            refuse_keys(table, section, &sections, source, problems);
                        }
                        _ => tables = false,
                    }
                }
                if tables {
                    continue;
                }
                "a list of tables"
            }
            _ if section.repeated => "a list of tables",
            _ => "a table",
        };
        let header = if section.repeated {
            format!("[[{}]]", section.name)
        } else {
            format!("[{}]", section.name)
        };
        // A header spans itself; anything else is best pointed at by its name.
        let is_header = source.text.get(value_span.clone()).is_some_and(|t| t.starts_with('['));
        let span = if is_header && !section.repeated { value_span } else { name.span() };
        let text = format!("`{}` is {shape}; write `{header}` instead", section.name);
        problems.push(source.problem(&span, text));
        root.remove(section.name);
    }
}

fn refuse_keys(
    table: &mut DeTable<'_>,
    section: &Section,
    sections: &[Section],
    source: &Source<'_>,
    problems: &mut Vec<Problem>,
) {
    let unknown: Vec<_> =
        table.keys().filter(|k| !section.keys.contains(&k.get_ref().as_ref())).cloned().collect();
    for key in unknown {
        let text = unknown_key(key.get_ref(), section, sections);
        problems.push(source.problem(&key.span(), text));
        table.remove(key.get_ref().as_ref());
    }
}

fn unknown_section(name: &str, sections: &[Section]) -> String {
    if let Some((_, _, with)) = spec::LATER.iter().find(|(s, key, _)| *s == name && key.is_empty())
    {
        return format!(
            "`[{name}]` is known, but not built yet: it comes with {with}; remove it until then"
        );
    }
    // `[upstreams]` is meant for `[[upstream]]`, though a zone has a key of that name.
    let plural = sections.iter().any(|section| name.strip_suffix('s') == Some(section.name));
    if let Some(home) = sections.iter().find(|s| !plural && s.keys.contains(&name)) {
        return format!(
            "`{name}` stands outside its section; write it below `{}` instead",
            header(home)
        );
    }
    match nearest(name, sections.iter().map(|section| section.name)) {
        Some(near) => {
            let near = sections.iter().find(|s| s.name == near).map_or(near.to_owned(), header);
            format!("unknown section `{name}`; did you mean `{near}`?")
        }
        None => {
            let known: Vec<&str> = sections.iter().map(|section| section.name).collect();
            format!("unknown section `{name}`; there are {}", known.join(", "))
        }
    }
}

fn unknown_key(key: &str, section: &Section, sections: &[Section]) -> String {
    let Section { name, keys, .. } = section;
    if let Some((_, _, with)) = spec::LATER.iter().find(|(s, k, _)| s == name && *k == key) {
        return format!(
            "`{name}.{key}` is known, but not built yet: it comes with {with}; \
             remove it until then"
        );
    }
    if let Some(near) = nearest(key, keys.iter().copied()) {
        return format!(
            "unknown key `{name}.{key}`; did you mean `{near}`? Write `{}` instead",
            example(name, near)
        );
    }
    if let Some(home) = sections.iter().find(|other| other.keys.contains(&key)) {
        return format!(
            "unknown key `{name}.{key}`; write `{key}` below `{}` instead",
            header(home)
        );
    }
    format!("unknown key `{name}.{key}`; `{}` has {}", header(section), keys.join(", "))
}

fn header(section: &Section) -> String {
    if section.repeated { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) }
}

fn merge<'a>(mut base: DeTable<'a>, over: DeTable<'a>) -> DeTable<'a> {
    for (key, value) in over {
        let below = base.remove(key.get_ref().as_ref());
        let span = value.span();
        let merged = match (below.map(Spanned::into_inner), value.into_inner()) {
            (Some(DeValue::Table(below)), DeValue::Table(above)) => {
                DeValue::Table(merge(below, above))
            }
            (_, above) => above,
        };
        base.insert(key, Spanned::new(span, merged));
    }
    base
}

/// Moves the spans of the defaults out of the way of those of the operator's text.
fn shift(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    fn value(v: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
        let span = moved(&v.span(), by);
        let inner = match v.into_inner() {
            DeValue::Array(elements) => {
                DeValue::Array(elements.into_iter().map(|element| value(element, by)).collect())
            }
            DeValue::Table(table) => DeValue::Table(shift(table, by)),
            plain => plain,
        };
        Spanned::new(span, inner)
    }
    fn moved(span: &Range<usize>, by: usize) -> Range<usize> {
        span.start + by..span.end + by
    }
    table
        .into_iter()
        .map(|(key, v)| {
            let span = moved(&key.span(), by);
            (Spanned::new(span, key.into_inner()), value(v, by))
        })
        .collect()
}

fn syntax_message(message: &str) -> String {
    if message.starts_with("duplicate key") {
        return "this is written a second time; write it once instead".to_owned();
    }
    let message = message.replace('\n', ", ");
    format!(
        "this is not TOML: {message}; write `key = value` lines below `[section]` lines instead"
    )
}

/// A wrong type or a missing key, in the words of somebody who writes files.
fn type_message(message: &str, written: &DeTable<'_>, span: &Range<usize>) -> String {
    let plain = message
        .replace(" as i128", "")
        .replace("expected i64", "expected a whole number")
        .replace("expected a sequence", "expected a list")
        .replace("expected a boolean", "expected true or false");
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match (path(written, span), missing) {
        (Some((section, _)), Some(key)) => format!(
            "this `{section}` has no `{key}`; write `{}` below its header instead",
            example(&section, key)
        ),
        (Some((section, Some(key))), None) => {
            format!("`{section}.{key}`: {plain}; write `{}` instead", example(&section, &key))
        }
        _ => format!("{plain}; write what the commented defaults show instead"),
    }
}

/// The section, and the key in it, whose value the span lies in.
fn path(root: &DeTable<'_>, span: &Range<usize>) -> Option<(String, Option<String>)> {
    let inside = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (section, value) in root {
        let tables: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(elements) => elements.iter().collect(),
            _ => vec![value],
        };
        for table in tables {
            let keys = table.get_ref().as_table().into_iter().flatten();
            for (key, value) in keys {
                if inside(value.span()) {
                    let key = key.get_ref().to_string();
                    return Some((section.get_ref().to_string(), Some(key)));
                }
            }
            if inside(table.span()) {
                return Some((section.get_ref().to_string(), None));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_merge_key_by_key_and_lists_replace() {
        let text = "[server]\nlisten = [\"192.0.2.1:53\"]\n[cache]\nprefetch = false\n";
        let spec = lay(&Source::new("f", text)).0.unwrap();
        assert_eq!(spec.server.listen.get_ref().len(), 1);
        assert_eq!(*spec.server.edns_size.get_ref(), 1232);
        assert!(!spec.cache.prefetch);
    }

    #[test]
    fn places_are_counted_in_characters_from_one() {
        let text = "# ä\nä = 1\n\nx";
        let source = Source::new("f", text);
        let at = |offset: usize| {
            let Position { line, column } = source.position(&(offset..offset));
            (line, column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(text.find("= 1").unwrap()), (2, 3));
        assert_eq!(at(text.len() - 1), (4, 1));
        assert_eq!(at(text.len() + 100), (4, 2));
    }

    #[test]
    fn what_is_left_out_has_the_places_of_the_defaults() {
        let source = Source::new("f", "[server]\nedns-size = 512\n");
        let spec = lay(&source).0.unwrap();
        assert!(source.is_written(&spec.server.edns_size.span()));
        assert!(!source.is_written(&spec.server.listen.span()));
        assert!(!source.is_written(&spec.log.level.span()));
    }

    #[test]
    fn an_example_is_what_the_defaults_write() {
        assert_eq!(example("kernel", "lease"), "lease = \"10s\"");
        assert_eq!(example("server", "edns-size"), "edns-size = 1232");
        for section in spec::sections() {
            for key in section.keys {
                assert!(!example(section.name, key).contains('…'), "{}.{key}", section.name);
            }
        }
    }
}
