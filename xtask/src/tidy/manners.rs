//! Manners of a single file: unsafe, lint exceptions, its first line, its size, its leftovers.

use super::source::{Source, attribute_end};
use super::{Finding, Tree};

/// Where `unsafe` may stand: files, or folders with all below.
const UNSAFE_ADDRESSES: &[&str] =
    &["resolverd-ebpf/", "resolverd-common/src/pod.rs", "resolverd/src/kernel/"];

/// Columns of a line, in characters.
const COLUMNS_MAX: usize = 100;
/// Past this many lines, ask which second idea moved in.
const LINES_ASKED: usize = 500;
/// Past this many, it did.
const LINES_MAX: usize = 900;

/// `unsafe` has an address, and each block there says why it holds.
pub fn unsafe_has_an_address(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let allowed = UNSAFE_ADDRESSES.iter().any(|address| source.path.starts_with(address));
        for (at, token) in source.tokens.iter().enumerate() {
            if token.word != "unsafe" {
                continue;
            }
            if !allowed {
                let text = "`unsafe` lives in resolverd-ebpf, resolverd-common/src/pod.rs and \
                            resolverd/src/kernel alone";
                findings.push(Finding::at(&source.path, token.line, text.into()));
            } else if needs_reason(source, at) && !has_reason(source, token.line) {
                let text = "`unsafe` without `// SAFETY:` (or `# Safety`, on a function) above it";
                findings.push(Finding::at(&source.path, token.line, text.into()));
            }
        }
    }
    findings
}

/// Blocks and implementations do, and public functions. Not a private function or one that
/// a trait asked for, whose blocks have their own; not the type of a function pointer, nor an
/// attribute such as `#[unsafe(no_mangle)]`.
fn needs_reason(source: &Source, at: usize) -> bool {
    match source.word(at + 1) {
        "{" | "impl" | "trait" => true,
        // `pub` or `pub(crate)`; in types a bracket may stand before a pointer, and no name
        // after it.
        "fn" => {
            let before = at.checked_sub(1).map_or("", |before| source.word(before));
            ["pub", ")"].contains(&before) && source.word(at + 2) != "("
        }
        _ => false,
    }
}

/// Looks upwards through the statement that holds the block, and through the comment and
/// the attributes above it.
fn has_reason(source: &Source, line: usize) -> bool {
    let lines: Vec<&str> = source.text.lines().take(line).map(str::trim).collect();
    let says = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    if says(lines[line - 1]) {
        return true;
    }
    for above in lines[..line - 1].iter().rev() {
        if above.starts_with("//") {
            if says(above) {
                return true;
            }
        } else if above.is_empty() || above.ends_with([';', '{', '}']) && !above.starts_with("#[") {
            return false;
        }
    }
    false
}

/// An exception to a lint is expected, and says why: it goes when its reason went.
pub fn exceptions_have_reasons(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let tokens = &source.tokens;
        for at in 0..tokens.len() {
            let open = if source.word(at + 1) == "!" { at + 2 } else { at + 1 };
            if tokens[at].word != "#" || source.word(open) != "[" {
                continue;
            }
            let words = &tokens[open..attribute_end(tokens, open)];
            let calls = |name: &str| {
                words.windows(2).any(|pair| pair[0].word == name && pair[1].word == "(")
            };
            let line = tokens[at].line;
            if calls("allow") {
                let text = "`allow` outlives its reason: `#[expect(lint, reason = \"…\")]`";
                findings.push(Finding::at(&source.path, line, text.into()));
            }
            if calls("expect") && !words.iter().any(|token| token.word == "reason") {
                findings.push(Finding::at(&source.path, line, "`expect` without a reason".into()));
            }
        }
    }
    findings
}

/// A file begins by saying what it is.
pub fn headers(tree: &Tree) -> Vec<Finding> {
    let silent = tree.sources.iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|words| words.trim().is_empty())
    });
    let text = "the first line is no `//!` that says what the file is";
    silent.map(|source| Finding::at(&source.path, 1, text.into())).collect()
}

pub fn columns(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !is_one_long_address(line) {
                let text = format!("{columns} columns, and {COLUMNS_MAX} are the most");
                findings.push(Finding::at(&source.path, number + 1, text));
            }
        }
    }
    findings
}

/// An address on the Internet in a comment cannot be broken.
fn is_one_long_address(line: &str) -> bool {
    let words = line.trim_start().strip_prefix("//").unwrap_or_default();
    words.split_whitespace().filter(|word| !["!", "/"].contains(word)).count() == 1
        && words.contains("://")
}

pub fn lengths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let lines = source.text.lines().count();
        let finding = |text| Finding::at(&source.path, lines, text);
        if lines > LINES_MAX {
            findings.push(finding(format!("{lines} lines: more than one idea lives here")));
        } else if lines > LINES_ASKED {
            let text = format!("{lines} lines: which second idea moved in?");
            findings.push(Finding { warning: true, ..finding(text) });
        }
    }
    findings
}

/// Nothing is left for later.
pub fn leftovers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        for (at, token) in source.tokens.iter().enumerate() {
            let word = token.word.as_str();
            if ["todo", "unimplemented", "dbg"].contains(&word) && source.calls_macro(at) {
                let text = format!("`{word}!` is for work that is not finished");
                findings.push(Finding::at(&source.path, token.line, text));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        Tree { sources: vec![Source::new(path, text)], ..Tree::default() }
    }

    #[test]
    fn unsafe_elsewhere_is_found_with_a_reason_or_without() {
        for path in
            ["resolverd/src/cache/store.rs", "resolverd-common/src/key.rs", "tests/lab/x.rs"]
        {
            let text = "// SAFETY: none.\nlet x = unsafe { f() };";
            assert_eq!(unsafe_has_an_address(&tree(path, text)).len(), 1);
        }
        let text = "// unsafe\nlet x = \"unsafe\"; fn is_unsafe_code() {}";
        assert_eq!(unsafe_has_an_address(&tree("resolverd/src/cache/store.rs", text)).len(), 0);
    }

    #[test]
    fn unsafe_at_its_address_says_why() {
        let path = "resolverd/src/kernel/maps.rs";
        for text in [
            "fn f() {\n    unsafe { g() }\n}",
            "// SAFETY: of another.\nlet y = unsafe { g() };\nlet x = unsafe { g() };",
            "// SAFETY: too far away.\n\nunsafe impl Pod for X {}",
            "pub unsafe fn f() {}",
            "pub(crate) unsafe fn f() {}",
            "unsafe trait X {}",
        ] {
            assert_eq!(unsafe_has_an_address(&tree(path, text)).len(), 1, "{text}");
        }
        for text in [
            "// SAFETY: it holds.\nlet x = unsafe { g() };",
            "// SAFETY: it holds,\n// and here is why.\nlet x =\n    f(a,\n    unsafe { g() });",
            "// SAFETY: it holds.\n#[inline]\nunsafe impl Pod for X {}",
            "/// # Safety\n///\n/// Call once.\npub unsafe fn f() {}",
            "#[unsafe(no_mangle)]\nfn f() {}",
            "impl X for Y {\n    unsafe fn f() {}\n}",
            "struct X(unsafe fn(u8), unsafe extern \"C\" fn());",
            "let x = unsafe { g() }; // SAFETY: it holds.",
        ] {
            assert_eq!(unsafe_has_an_address(&tree(path, text)).len(), 0, "{text}");
        }
    }

    #[test]
    fn an_exception_without_a_reason_is_found_and_so_is_every_allow() {
        for text in [
            "#[allow(dead_code)]\nfn f() {}",
            "#![allow(unused, reason = \"x\")]",
            "#[cfg_attr(test, allow(dead_code))]\nfn f() {}",
            "#[expect(dead_code)]\nfn f() {}",
        ] {
            assert_eq!(exceptions_have_reasons(&tree("x.rs", text)).len(), 1, "{text}");
        }
        for text in [
            "#[expect(dead_code, reason = \"for the next floor\")]\nfn f() {}",
            "fn f(x: Acl) { x.allow(y); x.expect(\"z\"); }",
            "#[derive(Debug)]\nstruct X;",
        ] {
            assert_eq!(exceptions_have_reasons(&tree("x.rs", text)).len(), 0, "{text}");
        }
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_found() {
        for text in ["", "#![no_std]\n//! Late.", "//!\n//! After a blank.", "// A comment."] {
            assert_eq!(headers(&tree("x.rs", text)).len(), 1, "{text}");
        }
        assert_eq!(headers(&tree("x.rs", "//! What it is.")).len(), 0);
    }

    #[test]
    fn a_line_past_the_last_column_is_found() {
        assert_eq!(columns(&tree("x.rs", &"é".repeat(COLUMNS_MAX))).len(), 0);
        assert_eq!(columns(&tree("x.rs", &"é".repeat(COLUMNS_MAX + 1))).len(), 1);
        let address = format!("/// https://example.org/{}", "x".repeat(COLUMNS_MAX));
        assert_eq!(columns(&tree("x.rs", &address)).len(), 0);
        assert_eq!(columns(&tree("x.rs", &format!("{address} and words"))).len(), 1);
    }

    #[test]
    fn a_long_file_is_asked_about_and_a_longer_one_refused() {
        let found = |lines| lengths(&tree("x.rs", &"x\n".repeat(lines)));
        assert!(found(LINES_ASKED).is_empty());
        assert!(found(LINES_ASKED + 1)[0].warning && found(LINES_MAX)[0].warning);
        assert!(!found(LINES_MAX + 1)[0].warning);
    }

    #[test]
    fn unfinished_work_is_found() {
        for text in ["fn f() { todo!() }", "unimplemented!(\"x\");", "let x = dbg!(y);"] {
            assert_eq!(leftovers(&tree("x.rs", text)).len(), 1, "{text}");
        }
        assert_eq!(leftovers(&tree("x.rs", "// todo!\nlet todo = 1; if todo != 2 {}")).len(), 0);
    }
}
