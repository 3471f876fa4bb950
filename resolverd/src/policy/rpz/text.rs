//! A policy zone from a file in the form of RFC 1035 section 5.1.
//!
//! Pure. Made for files with a million lines of one form: names and aliases are read here; what
//! else a file may have goes to the reader of local zones. `$INCLUDE` and `$GENERATE` are
//! refused: what a feed says opens no file and has no end that is not in it.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::dns::records::Record;
use crate::dns::{Name, rtype};

use super::super::zone_text;
use super::zone::Zone;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TextError {
    pub line: usize,
    pub message: String,
}

/// Reads a whole file.
///
/// # Errors
///
/// The first line that is wrong, or that there is no SOA.
pub fn read(origin: &Name, text: &[u8]) -> Result<Zone, TextError> {
    let mut reader = Reader {
        zone: Zone::new(origin.clone()),
        origin: origin.clone(),
        ttl: None,
        owner: None,
        last_ttl: TTL_DEFAULT,
    };
    let mut lines = Lines { text, at: 0, line: 0 };
    let mut words = Vec::new();
    while let Some(entry) = lines.next_entry(&mut words) {
        let Entry { line, blank } = entry?;
        reader.entry(blank, &words).map_err(|message| TextError { line, message })?;
    }
    let mut zone = reader.zone;
    if zone.soa().is_none() {
        let message = format!("there is no SOA record of `{origin}` in it");
        return Err(TextError { line: lines.line, message });
    }
    zone.finish();
    Ok(zone)
}

/// One entry of a file, its words in a list beside it.
struct Entry {
    /// Where it begins.
    line: usize,
    /// Whether it begins with white space, and so has the owner of the one before.
    blank: bool,
}

/// Takes a text apart.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    /// The next entry that has words: one line, or several within parentheses.
    fn next_entry(&mut self, words: &mut Vec<&'a [u8]>) -> Option<Result<Entry, TextError>> {
        words.clear();
        let mut open = false;
        let (mut first, mut blank) = (0, false);
        loop {
            let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty());
            let Some(rest) = rest else {
                if words.is_empty() && !open {
                    return None;
                }
                let message = "a parenthesis is not closed".to_owned();
                let error = TextError { line: first, message };
                return Some(if open { Err(error) } else { Ok(Entry { line: first, blank }) });
            };
            let end = rest.iter().position(|octet| *octet == b'\n').unwrap_or(rest.len());
            let line = &rest[..end];
            self.at += end + 1;
            self.line += 1;
            if words.is_empty() && !open {
                first = self.line;
                blank = line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
            }
            if let Err(message) = split(line, words, &mut open) {
                return Some(Err(TextError { line: self.line, message }));
            }
            if !open && !words.is_empty() {
                return Some(Ok(Entry { line: first, blank }));
            }
        }
    }
}

/// The words of one line.
fn split<'a>(line: &'a [u8], words: &mut Vec<&'a [u8]>, open: &mut bool) -> Result<(), String> {
    let mut at = 0;
    while let Some(&octet) = line.get(at) {
        match octet {
            b';' => return Ok(()),
            b' ' | b'\t' | b'\r' => at += 1,
            b'(' | b')' => {
                if (octet == b'(') == *open {
                    return Err("parentheses do not match".into());
                }
                *open = octet == b'(';
                at += 1;
            }
            _ => {
                let start = at;
                let quoted = octet == b'"';
                at += usize::from(quoted);
                loop {
                    match line.get(at) {
                        None if quoted => return Err("a quotation mark is not closed".into()),
                        None => break,
                        Some(b'\\') => at += 2,
                        Some(b'"') if quoted => {
                            at += 1;
                            break;
                        }
                        Some(b' ' | b'\t' | b'\r' | b';' | b'(' | b')' | b'"') if !quoted => break,
                        Some(_) => at += 1,
                    }
                }
                at = at.min(line.len());
                if words.len() == WORDS_MAX {
                    return Err(format!("an entry has more than {WORDS_MAX} words"));
                }
                words.push(&line[start..at]);
            }
        }
    }
    Ok(())
}

struct Reader {
    zone: Zone,
    /// What completes names: `$ORIGIN`.
    origin: Name,
    /// `$TTL`.
    ttl: Option<u32>,
    owner: Option<Name>,
    last_ttl: u32,
}

impl Reader {
    fn entry(&mut self, blank: bool, words: &[&[u8]]) -> Result<(), String> {
        let mut words = words;
        if let [word @ [b'$', ..], arguments @ ..] = words {
            return self.directive(word, arguments);
        }
        if !blank && let Some((word, rest)) = words.split_first() {
            self.owner = Some(self.name(word)?);
            words = rest;
        }
        let owner = self.owner.clone().ok_or("there is no owner before it")?;
        let mut ttl = None;
        // Class and TTL come in any order.
        while let Some((word, rest)) = words.split_first() {
            if word.eq_ignore_ascii_case(b"IN") {
            } else if let Some(seconds) = duration(word) {
                ttl = Some(seconds);
            } else {
                break;
            }
            words = rest;
        }
        let ttl = ttl.or(self.ttl).unwrap_or(self.last_ttl).min(TTL_MAX);
        self.last_ttl = ttl;
        let (kind, data) = words.split_first().ok_or("there is no type")?;
        let known = match (kind.to_ascii_uppercase().as_slice(), data) {
            (b"CNAME", [target]) => Some((rtype::CNAME, self.name(target)?.as_wire().to_vec())),
            (b"A", [address]) => {
                Some((rtype::A, parse::<Ipv4Addr>(address, "IPv4 address")?.octets().to_vec()))
            }
            (b"AAAA", [address]) => {
                Some((rtype::AAAA, parse::<Ipv6Addr>(address, "IPv6 address")?.octets().to_vec()))
            }
            (b"SOA", [primary, hostmaster, numbers @ ..]) => {
                let mut rdata = self.name(primary)?.as_wire().to_vec();
                rdata.extend_from_slice(self.name(hostmaster)?.as_wire());
                let numbers: Option<Vec<u32>> = numbers.iter().map(|word| duration(word)).collect();
                let numbers = numbers.filter(|numbers| numbers.len() == 5);
                for number in numbers.ok_or("an SOA has two names and five numbers")? {
                    rdata.extend_from_slice(&number.to_be_bytes());
                }
                Some((rtype::SOA, rdata))
            }
            // Nobody is asked for a policy zone by its delegation.
            (b"NS", [_]) => return Ok(()),
            _ => None,
        };
        let record = match known {
            Some((rtype, rdata)) => Record { owner, rtype, class: CLASS_IN, ttl, rdata },
            None => {
                let mut line = format!("{owner} {ttl} IN");
                for word in words {
                    line.push(' ');
                    line += text(word)?.as_ref();
                }
                // Relative names are completed with what is in force here.
                let within = owner.is_under(&self.origin);
                let zone = if within { self.origin.clone() } else { Name::root() };
                zone_text::parse(&zone, &line)?
            }
        };
        self.zone.insert(record).map_err(|error| error.to_string())
    }

    fn directive(&mut self, word: &[u8], arguments: &[&[u8]]) -> Result<(), String> {
        match (word.to_ascii_uppercase().as_slice(), arguments) {
            (b"$ORIGIN", [origin]) => self.origin = self.name(origin)?,
            (b"$TTL", [ttl]) => {
                let seconds = duration(ttl).ok_or("`$TTL` is followed by a time")?;
                self.ttl = Some(seconds);
            }
            _ => {
                let word = String::from_utf8_lossy(word);
                return Err(format!("`{word}` is not taken here; $ORIGIN and $TTL are"));
            }
        }
        Ok(())
    }

    fn name(&self, word: &[u8]) -> Result<Name, String> {
        let bad = || format!("`{}` is no name", String::from_utf8_lossy(word).escape_default());
        let origin = self.origin.as_wire();
        if word == b"@" {
            return Ok(self.origin.clone());
        }
        if word == b"." {
            return Ok(Name::root());
        }
        let mut wire = Vec::with_capacity(word.len() + 2 + origin.len());
        let mut rest = word;
        let mut absolute = false;
        while !rest.is_empty() {
            let length_at = wire.len();
            wire.push(0);
            loop {
                match rest {
                    [] => break,
                    [b'.', after @ ..] => {
                        absolute = after.is_empty();
                        rest = after;
                        break;
                    }
                    [b'\\', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ ..] => {
                        let digits = [a, b, c].map(|digit| u32::from(digit - b'0'));
                        let octet = digits[0] * 100 + digits[1] * 10 + digits[2];
                        wire.push(u8::try_from(octet).map_err(|_| bad())?);
                        rest = after;
                    }
                    [b'\\', octet, after @ ..] => {
                        wire.push(*octet);
                        rest = after;
                    }
                    [b'\\'] => return Err(bad()),
                    [octet, after @ ..] => {
                        wire.push(*octet);
                        rest = after;
                    }
                }
            }
            let length = wire.len() - length_at - 1;
            if length == 0 || length > 63 {
                return Err(bad());
            }
            // At most 63.
            wire[length_at] = length as u8;
        }
        if absolute {
            wire.push(0);
        } else {
            wire.extend_from_slice(origin);
        }
        Name::from_wire(&wire).map_err(|_| bad())
    }
}

/// Seconds, plain or as `1h30m` (BIND's form).
fn duration(word: &[u8]) -> Option<u32> {
    if !word.first()?.is_ascii_digit() {
        return None;
    }
    let (mut whole, mut part) = (0_u32, 0_u32);
    for (at, octet) in word.iter().enumerate() {
        let unit = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                part = part.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !word[at - 1].is_ascii_digit() {
            return None;
        }
        whole = whole.checked_add(part.checked_mul(unit)?)?;
        part = 0;
    }
    whole.checked_add(part)
}

fn parse<T: std::str::FromStr>(word: &[u8], what: &str) -> Result<T, String> {
    let text = text(word)?;
    text.parse().map_err(|_| format!("`{}` is no {what}", text.escape_default()))
}

fn text(word: &[u8]) -> Result<Cow<'_, str>, String> {
    std::str::from_utf8(word).map(Cow::from).map_err(|_| "it is not UTF-8".to_owned())
}

/// Words of one entry: more strings than a TXT record has in practice.
const WORDS_MAX: usize = 1_024;

/// As for records of local zones without a TTL.
const TTL_DEFAULT: u32 = 300;
/// RFC 2181 section 8.
const TTL_MAX: u32 = i32::MAX.cast_unsigned();
const CLASS_IN: u16 = 1;

#[cfg(test)]
mod tests {
    use super::super::zone::Action;
    use super::*;

    const FILE: &str = "\
$TTL 1h
@ IN SOA localhost. root.localhost. (
        2026112001 ; serial
        1h 15m 30d 2h )
   IN NS localhost.
; a comment
evil.example            CNAME .
*.evil.example  60 IN   CNAME .
nothing.example IN 60   CNAME *.
good.example            CNAME rpz-passthru.
32.7.2.0.192.rpz-ip     CNAME rpz-drop.
garden.example          CNAME garden.home.test.
other.example           A     192.0.2.1
                        A     192.0.2.2
                        AAAA  2001:db8::1
                        TXT   \"no; (really)\" \"two\"
                        MX    10 mail.home.test.
$ORIGIN below.rpz.test.
name                    CNAME .
odd\\046dot.x            CNAME .
absolute.rpz.test.      CNAME .
";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn zone(text: &str) -> Result<Zone, TextError> {
        read(&name("rpz.test."), text.as_bytes())
    }

    #[test]
    fn a_file_as_feeds_have_them_is_read() {
        let zone = zone(FILE).unwrap();
        assert_eq!(zone.serial(), Some(2_026_112_001));
        let soa = zone.soa().unwrap();
        assert_eq!((soa.ttl, soa.soa_minimum()), (3_600, Some(7_200)));
        let action = |text: &str| zone.qname(&name(text)).map(|(_, action)| action);
        assert_eq!(action("evil.example."), Some(Action::Nxdomain));
        assert_eq!(action("x.y.evil.example."), Some(Action::Nxdomain));
        assert_eq!(action("nothing.example."), Some(Action::Nodata));
        assert_eq!(action("good.example."), Some(Action::Passthru));
        assert_eq!(action("name.below."), Some(Action::Nxdomain));
        assert_eq!(action("absolute."), Some(Action::Nxdomain));
        assert_eq!(action("odd\\.dot.x.below."), Some(Action::Nxdomain));
        assert_eq!(action("fine.example."), None);
        let Some(Action::Data(data)) = action("other.example.") else { panic!("no data") };
        let types: Vec<(u16, u32)> = data.iter().map(|datum| (datum.rtype, datum.ttl)).collect();
        assert_eq!(types, [1, 1, 28, 16, 15].map(|rtype| (rtype, 3_600)));
        assert_eq!(*data[3].rdata, *b"\x0cno; (really)\x03two");
        let Some(Action::Data(data)) = action("garden.example.") else { panic!("no data") };
        assert_eq!(*data[0].rdata, *name("garden.home.test.").as_wire());
        assert!(zone.ip(&["192.0.2.7".parse().unwrap()]).is_some());
        assert_eq!(zone.len(), 10);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let soa = "@ SOA a. b. 1 2 3 4 5\n";
        for (text, said) in [
            ("a CNAME .\n".into(), "line 1: there is no SOA record of `rpz.test.` in it"),
            (format!("{soa}a CNAME .\na CNAME\n"), "line 3: "),
            (format!("{soa}  CNAME .\n").replace("@", "b"), "SOA"),
            ("  CNAME .\n".into(), "line 1: there is no owner"),
            (format!("{soa}a..b CNAME .\n"), "line 2: `a..b` is no name"),
            (format!("{soa}a A 192.0.2.256\n"), "line 2: `192.0.2.256` is no IPv4 address"),
            (format!("{soa}$INCLUDE /etc/passwd\n"), "line 2: `$INCLUDE` is not taken here"),
            (format!("{soa}$GENERATE 1-9 a$ CNAME .\n"), "line 2: `$GENERATE` is not"),
            (format!("{soa}a TXT \"x\n"), "line 2: a quotation mark"),
            (format!("{soa}a TXT ( x\n\n\n"), "line 2: a parenthesis is not closed"),
            (format!("{soa}a TXT x )\n"), "line 2: parentheses"),
            (format!("{soa}{}.x CNAME .\n", "a".repeat(64)), "is no name"),
            (format!("{soa}a FOO bar\n"), "line 2: "),
            (format!("{soa}x.example. CNAME .\n"), "`x.example.` is not in the policy zone"),
            (format!("{soa}99.1.2.0.192.rpz-ip CNAME .\n"), "no prefix"),
            (format!("{soa}a 60\n"), "line 2: there is no type"),
            ("@ SOA a. b. 1 2 3 4\n".into(), "line 1: an SOA has two names and five numbers"),
        ] {
            let error = zone(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        assert!(read(&name("rpz.test."), b"\xff\xfe CNAME .").is_err());
    }

    #[test]
    fn times_have_units_or_none() {
        for (text, seconds) in [
            ("60", Some(60)),
            ("1h30m", Some(5_400)),
            ("1W", Some(604_800)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("1hm", None),
            ("h", None),
            ("", None),
            ("9999999w", None),
        ] {
            assert_eq!(duration(text.as_bytes()), seconds, "{text}");
        }
    }
}
