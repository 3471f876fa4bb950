//! A Rust file as the rules see it: its words and its paths, without comments and strings.
//!
//! Not a parser: it knows comments, strings, braces, attributes and `use` trees, which is
//! what the rules need. What it reads has passed rustfmt, so it meets no odd spelling.

/// One source file of the tree.
pub struct Source {
    /// From the top of the tree, with `/`.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub word: String,
    /// From 1.
    pub line: usize,
    /// Inside an item that is only built for tests.
    pub test: bool,
    /// Names of the inline modules around it.
    pub modules: Vec<String>,
}

/// A path as written, with the branches of a `use` tree told apart.
#[derive(Debug, PartialEq, Eq)]
pub struct PathSeen<'a> {
    pub segments: Vec<&'a str>,
    pub line: usize,
    pub test: bool,
    /// How many inline modules are around it.
    pub depth: usize,
    /// Whether it stands in a `use` item.
    pub imported: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut tokens = tokens(&without_comments_and_strings(text));
        mark_modules(&mut tokens);
        mark_tests(&mut tokens);
        if is_test_file(path) {
            tokens.iter_mut().for_each(|token| token.test = true);
        }
        Self { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether a macro of this name is called at a place; `name != …` is no call.
    pub fn calls_macro(&self, at: usize) -> bool {
        self.word(at + 1) == "!" && self.word(at + 2) != "="
    }

    /// Whether a line is built for tests alone. One without words is as the line above it.
    pub fn is_test_line(&self, line: usize) -> bool {
        let after = self.tokens.partition_point(|token| token.line <= line);
        self.tokens[..after].last().is_some_and(|token| token.test)
    }

    /// The word at a place, or nothing past the ends.
    pub fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.word.as_str())
    }

    /// Every path in the file, also those of one segment.
    pub fn paths(&self) -> Vec<PathSeen<'_>> {
        let mut paths = Vec::new();
        let mut at = 0;
        let mut imported = false;
        while at < self.tokens.len() {
            let before = if at == 0 { "" } else { self.word(at - 1) };
            match self.word(at) {
                "use" => imported = true,
                ";" => imported = false,
                word if is_name(word) && before != "::" && before != "." => {
                    at = self.path_from(at, &[], imported, &mut paths);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        paths
    }

    /// Reads a path or a branch of one; returns the place after it.
    fn path_from<'a>(
        &'a self,
        mut at: usize,
        stem: &[&'a str],
        imported: bool,
        paths: &mut Vec<PathSeen<'a>>,
    ) -> usize {
        let mut segments = stem.to_vec();
        let first = &self.tokens[at.min(self.tokens.len() - 1)];
        loop {
            match self.word(at) {
                "{" => {
                    at += 1;
                    while !["}", ""].contains(&self.word(at)) {
                        if self.word(at) == "," {
                            at += 1;
                        } else {
                            let after = self.path_from(at, &segments, imported, paths);
                            at = after.max(at + 1);
                        }
                    }
                    return at + 1;
                }
                word if is_name(word) || word == "*" => segments.push(word),
                // A generic argument: the path is over, its arguments are paths of their own.
                _ => break,
            }
            at += 1;
            if self.word(at) != "::" {
                break;
            }
            at += 1;
        }
        if self.word(at) == "as" && imported {
            at += 2;
        }
        if segments.len() > stem.len() {
            let depth = first.modules.len();
            let (line, test) = (first.line, first.test);
            paths.push(PathSeen { segments, line, test, depth, imported });
        }
        at
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The same text with spaces for what is in comments and quotes; lines stay where they are.
pub fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if !follows_word(&chars, at) => raw_string_end(&chars, at).unwrap_or(at),
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 1;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 1;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The `b` or `c` before a quote may stand: it is then a word of one letter. An `r` in
/// `br"` follows such a letter.
fn follows_word(chars: &[char], at: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b' | 'c') => at >= 2 && is_word(chars[at - 2]),
        Some(before) => is_word(before),
        None => false,
    }
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |end: &usize| {
        chars[*end] == '"'
            && chars.get(end + 1..end + 1 + hashes).is_some_and(|it| it.iter().all(|c| *c == '#'))
    };
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |end| end + 1 + hashes))
}

/// The end of a character in quotes; none for a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars.get(at + 3..)?.iter().position(|c| *c == '\'')?;
        Some(at + 3 + close + 1)
    } else {
        (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
    }
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            let length = match word.unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => rest.chars().next().map_or(1, char::len_utf8),
                length => length,
            };
            let (word, after) = rest.split_at(length);
            let word = word.to_owned();
            tokens.push(Token { word, line: number + 1, test: false, modules: Vec::new() });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Tells each token the inline modules it stands in.
fn mark_modules(tokens: &mut [Token]) {
    let mut depth = 0_usize;
    let mut open: Vec<(String, usize)> = Vec::new();
    for at in 0..tokens.len() {
        tokens[at].modules = open.iter().map(|(name, _)| name.clone()).collect();
        match tokens[at].word.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2].word == "mod" {
                    open.push((tokens[at - 1].word.clone(), depth));
                }
            }
            "}" => {
                open.retain(|(_, opened)| *opened < depth);
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
}

/// Marks the items behind `#[cfg(test)]` and `#[test]`.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].word != "#" {
            at += 1;
            continue;
        }
        let end = attribute_end(tokens, at);
        let words: Vec<&str> = tokens[at..end].iter().map(|token| token.word.as_str()).collect();
        let named = |start: &[&str]| words.windows(start.len()).any(|window| window == start);
        let for_tests = named(&["[", "test", "]"])
            || words.get(2) == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not");
        if for_tests && words.get(1) == Some(&"[") {
            let after = item_end(tokens, end);
            tokens[at..after].iter_mut().for_each(|token| token.test = true);
            at = after;
        } else {
            at = end;
        }
    }
}

/// The place after the bracket that closes the attribute.
pub fn attribute_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.word.as_str() {
            "[" => depth += 1,
            "]" if depth == 1 => return place + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The place after the item: its closing brace, or a semicolon before any brace.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.word.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && token.word == "}" {
                    return place + 1;
                }
            }
            ";" if depth == 0 => return place + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("x.rs", text);
        let paths = source.paths();
        paths.iter().map(|path| path.segments.join("::")).filter(|it| it.contains("::")).collect()
    }

    #[test]
    fn comments_strings_and_characters_hold_no_words() {
        let text = "a // b\n/* c /* d */ e */ f \"g \\\" h\" 'i' '\\n' '\\u{41}' j\n\
                    r#\"k \" l\"# br\"m\" x'";
        let source = Source::new("x.rs", text);
        let words: Vec<_> = source.tokens.iter().map(|token| token.word.as_str()).collect();
        assert_eq!(words, ["a", "f", "j", "b", "x", "'"]);
        assert_eq!(source.tokens[2].line, 2);
    }

    #[test]
    fn a_lifetime_is_no_character() {
        let source = Source::new("x.rs", "fn f<'a>(x: &'a str) -> &'a str { tokio::x() }");
        assert!(source.tokens.iter().any(|token| token.word == "tokio"));
    }

    #[test]
    fn a_use_tree_is_told_apart_into_its_paths() {
        let text = "use std::{fs, net::{UdpSocket as U, IpAddr}, io::{self, Read}};";
        let expected = ["std::fs", "std::net::UdpSocket", "std::net::IpAddr", "std::io::self"]
            .map(String::from);
        assert_eq!(paths(text)[..4], expected);
        assert_eq!(paths(text).len(), 5);
    }

    #[test]
    fn paths_are_found_in_types_calls_and_generic_arguments() {
        let text = "fn f(x: Vec<crate::dns::Name>) { a::b::<c::d>(); x.y(); }";
        assert_eq!(paths(text), ["crate::dns::Name", "a::b", "c::d"]);
    }

    #[test]
    fn what_is_built_for_tests_is_marked_and_what_follows_is_not() {
        let text = "#[cfg(test)]\nuse a::b;\n#[cfg(test)]\n#[expect(x)]\nmod tests { fn f() {} }\n\
                    fn g() {}\n#[cfg(not(test))]\nfn h() {}\n#[test]\nfn t() {}\n";
        let source = Source::new("x.rs", text);
        let test = |word: &str| source.tokens.iter().find(|it| it.word == word).unwrap().test;
        assert!(test("b") && test("f") && test("t"));
        assert!(!test("g") && !test("h"));
    }

    #[test]
    fn a_token_knows_the_modules_around_it() {
        let source = Source::new("x.rs", "mod a { mod b { x } y } z");
        let modules = |word: &str| {
            source.tokens.iter().find(|it| it.word == word).unwrap().modules.join("::")
        };
        assert_eq!((modules("x"), modules("y"), modules("z")).0, "a::b");
        assert_eq!(modules("y"), "a");
        assert_eq!(modules("z"), "");
    }
}
