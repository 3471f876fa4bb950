//! The cache as text: lines of JSON, the first and the last of which say what the others are.
//!
//! ```text
//! {"resolverd-cache-dump":1,"written_at_ms":…}             magic and version
//! {"name":"www.a.test.","type":"A",…}                      an answer, one a line
//! {"end":true,"entries":1,"more":false,"mac":"…"}          without it the dump is cut short
//! ```
//!
//! Words and types only: whose MAC it is and what becomes of an answer is the daemon's to say.
//! `wire` is what is loaded; `records` and `rcode` are the same for people.

use serde::{Deserialize, Serialize};

use super::Refused;
use super::reports::EdeReport;

/// What is written. A newer one is refused; there is no older one yet.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    #[serde(rename = "resolverd-cache-dump")]
    pub version: u32,
    /// Milliseconds since 1970: what the TTLs count from.
    pub written_at_ms: u64,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    #[serde(rename = "type")]
    pub qtype: String,
    pub view: u16,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    /// In words.
    pub rcode: String,
    /// It was proven here (DNSSEC).
    pub secure: bool,
    pub expires_in_ms: u32,
    /// Seconds that it may be used for past that, as far as its signatures go; left out where
    /// they do not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_secs_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ede: Option<EdeReport>,
    /// Who said it: "upstream NAME".
    pub source: String,
    /// Records in the answer, authority and additional sections.
    pub counts: [u16; 3],
    /// What follows the question in the message, in hexadecimal digits, with the TTLs that are
    /// left.
    pub wire: String,
    /// The same in presentation format.
    pub records: Vec<String>,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub end: bool,
    pub entries: u64,
    /// There were more than the limit.
    pub more: bool,
    /// HMAC-SHA256 of all lines before, under the key of the node that wrote it; left out where
    /// it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpRequest {
    /// Only names in this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// At most so many answers; [`LIMIT_DEFAULT`] without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// How a dump is to be loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRequest {
    /// Take it although its MAC is not this node's: it comes from another one, or was edited.
    #[serde(default)]
    pub foreign: bool,
}

/// Some megabytes of text.
pub const LIMIT_DEFAULT: u64 = 10_000;
/// More than fits into the memory of most machines.
pub const LIMIT_MAX: u64 = 100_000_000;

/// A dump, its first and last line read and all others still as they are.
#[derive(Debug)]
pub struct Dump<'a> {
    pub head: Head,
    pub end: End,
    /// All that the MAC is of.
    pub before_end: &'a str,
}

impl<'a> Dump<'a> {
    /// Takes a dump apart.
    ///
    /// # Errors
    ///
    /// [`Refused::Invalid`], where it is none, of another version, or cut short.
    pub fn read(octets: &'a [u8]) -> Result<Self, Refused> {
        let invalid = |text: &str| Refused::Invalid(text.to_owned());
        let text = str::from_utf8(octets).map_err(|_| invalid("the dump is not UTF-8"))?;
        let first = text.lines().next().unwrap_or_default();
        let head: Head = serde_json::from_str(first).map_err(|_| {
            invalid(
                "the first line does not say `resolverd-cache-dump`; write one with \
                 `resolverd cache dump --json`",
            )
        })?;
        if head.version != VERSION {
            return Err(Refused::Invalid(format!(
                "the dump is of version {}, and this resolverd knows {VERSION}",
                head.version
            )));
        }
        let whole = text.strip_suffix('\n').unwrap_or(text);
        let end_at = whole.rfind('\n').map_or(0, |at| at + 1);
        let (before_end, last) = whole.split_at(end_at);
        let end: End = serde_json::from_str(last)
            .ok()
            .filter(|end: &End| end.end)
            .ok_or_else(|| invalid("the dump is cut short: its last line does not say `end`"))?;
        let lines = before_end.lines().count().saturating_sub(1) as u64;
        if lines != end.entries {
            return Err(Refused::Invalid(format!(
                "the dump has {lines} answers, and its last line says {}",
                end.entries
            )));
        }
        Ok(Self { head, end, before_end })
    }

    /// Its answers, each with its number among the lines.
    pub fn lines(&self) -> impl Iterator<Item = Result<Line, Refused>> + 'a {
        self.before_end.lines().enumerate().skip(1).map(|(at, line)| {
            serde_json::from_str(line)
                .map_err(|error| Refused::Invalid(format!("line {}: {error}", at + 1)))
        })
    }
}

/// A line of JSON, with its end.
#[must_use]
pub fn line(of: &impl Serialize) -> String {
    let mut text = serde_json::to_string(of).expect("lines have texts for keys");
    text.push('\n');
    text
}

/// Octets as hexadecimal digits.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(*octet)]).collect()
}

/// Hexadecimal digits as octets.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let octets = pairs.map(|pair| Some((value(pair[0])? << 4 | value(pair[1])?) as u8));
    octets.collect::<Option<_>>().filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(answers: usize, says: u64) -> String {
        let mut text = line(&Head { version: VERSION, written_at_ms: 5 });
        for n in 0..answers {
            text += &line(&Line { name: format!("n{n}.test."), ..Line::default() });
        }
        text + &line(&End { end: true, entries: says, more: false, mac: Some("ab".into()) })
    }

    #[test]
    fn a_dump_is_read_with_all_its_lines() {
        let text = dump(3, 3);
        let dump = Dump::read(text.as_bytes()).unwrap();
        assert_eq!((dump.head.written_at_ms, dump.end.mac.as_deref()), (5, Some("ab")));
        assert!(text.starts_with(dump.before_end));
        let names: Vec<String> = dump.lines().map(|line| line.unwrap().name).collect();
        assert_eq!(names, ["n0.test.", "n1.test.", "n2.test."]);
        // Without the last line's end, too.
        assert!(Dump::read(text.trim_end().as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_dump_is_refused_with_words() {
        let refused = |text: &str| Dump::read(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("").contains("first line"));
        assert!(refused("{}\n").contains("first line"));
        assert!(refused(&dump(1, 1).replace("dump\":1", "dump\":2")).contains("version 2"));
        assert!(refused(&dump(2, 3)).contains("2 answers"));
        let whole = dump(2, 2);
        for lines in 1..3 {
            let cut: String = whole.split_inclusive('\n').take(lines).collect();
            assert!(refused(&cut).contains("cut short"), "{lines}");
        }
        assert!(matches!(Dump::read(b"\xff"), Err(Refused::Invalid(_))));
        let broken = whole.replace("\"name\":\"n1", "\"nome\":\"n1");
        let dump = Dump::read(broken.as_bytes()).unwrap();
        let errors: Vec<_> = dump.lines().filter_map(Result::err).collect();
        assert!(errors[0].to_string().starts_with("line 3: "), "{errors:?}");
    }

    #[test]
    fn octets_go_through_digits_unchanged() {
        let octets: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&octets)), Some(octets));
        for bad in ["a", "0g", "é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
