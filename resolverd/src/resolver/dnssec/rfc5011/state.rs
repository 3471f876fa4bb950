//! The state of trackers as text: what is stored between two lives of the daemon.
//!
//! Pure. The first line has the magic and the version; a newer version is refused with words, and
//! so is a file that is cut short or was changed. The last line has the SHA-256 of all before it:
//! it finds damage, and is no MAC, for who may write in the daemon's folder may read a key there.
//! Whoever stores it replaces the file as a whole, and treats a missing one as an alarm.
//!
//! ```text
//! resolverd-rfc5011 1
//! zone .
//! configured <SHA-256 of the configured anchors>
//! begun <second> | never          when its keys were seen first
//! seen <second> | never           when they were seen last
//! due <second>
//! key <state> <since> <DNSKEY in base64>
//! zone …
//! sum <SHA-256 of the lines before>
//! ```

use std::str::SplitAsciiWhitespace;

use data_encoding::{BASE64, HEXLOWER};
use ring::digest;

use crate::dns::Name;

use super::super::anchors::Digest;
use super::super::keys::DnsKey;
use super::{KEYS_MAX, State, Tracked, Tracker};

/// Why a stored state is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("this is no state of RFC 5011: the first line is not `{MAGIC} {VERSION}`")]
    Magic,
    #[error(
        "the state has version {0}, and this program knows up to {VERSION}; run a newer one, \
         or put the older state back"
    )]
    Newer(u32),
    #[error("line {0} of the state is malformed: {1}")]
    Line(usize, &'static str),
    #[error("the state ends before its last line, `sum`")]
    Short,
    #[error("the state was changed or is damaged: its last line, `sum`, does not fit the others")]
    Sum,
}

/// All trackers as one text.
#[must_use]
pub fn write<'a>(trackers: impl IntoIterator<Item = &'a Tracker>) -> String {
    let mut text = format!("{MAGIC} {VERSION}\n");
    let second = |at: Option<u64>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    for tracker in trackers {
        let Tracker { zone, from, begun, seen, keys, due } = tracker;
        let (from, begun, seen) = (HEXLOWER.encode(from), second(*begun), second(*seen));
        text.push_str(&format!(
            "zone {zone}\nconfigured {from}\nbegun {begun}\nseen {seen}\ndue {due}\n"
        ));
        for tracked in keys {
            let (state, since) = (tracked.state.as_str(), tracked.since);
            let key = BASE64.encode(&tracked.key.rdata());
            text.push_str(&format!("key {state} {since} {key}\n"));
        }
    }
    let sum = sum(&text);
    text.push_str(&format!("{SUM}{sum}\n"));
    text
}

/// What [`write()`] wrote.
///
/// # Errors
///
/// [`StateError`]; nothing of such a text is to be used.
pub fn read(text: &str) -> Result<Vec<Tracker>, StateError> {
    let first = text.lines().next().ok_or(StateError::Magic)?;
    let version = first.strip_prefix(MAGIC).and_then(|rest| rest.trim().parse::<u32>().ok());
    match version {
        None | Some(0) => return Err(StateError::Magic),
        Some(newer) if newer > VERSION => return Err(StateError::Newer(newer)),
        Some(_) => {}
    }
    let (body, last) = text.rsplit_once(SUM).ok_or(StateError::Short)?;
    if !last.ends_with('\n') {
        return Err(StateError::Short);
    }
    if last.trim_end() != sum(body) {
        return Err(StateError::Sum);
    }
    let mut trackers: Vec<Tracker> = Vec::new();
    for (at, line) in body.lines().enumerate().skip(1) {
        let wrong = |what| StateError::Line(at + 1, what);
        let mut words = line.split_ascii_whitespace();
        let word = words.next().unwrap_or_default();
        if word == "zone" {
            if trackers.len() == FOLLOWED_MAX {
                return Err(wrong("too many zones"));
            }
            let zone = words.next().and_then(|word| word.parse().ok());
            trackers.push(empty(zone.ok_or(wrong("no name of a zone"))?));
            continue;
        }
        let tracker = trackers.last_mut().ok_or(wrong("there is no zone before it"))?;
        let done = match word {
            "configured" => digest_of(&mut words).map(|from| tracker.from = from),
            "begun" => second_of(&mut words).map(|begun| tracker.begun = begun),
            "seen" => second_of(&mut words).map(|seen| tracker.seen = seen),
            "due" => second_of(&mut words).flatten().map(|due| tracker.due = due),
            "key" if tracker.keys.len() == KEYS_MAX => return Err(wrong("too many keys")),
            "key" => tracked(&mut words).map(|key| tracker.keys.push(key)),
            _ => return Err(wrong("an unknown word begins it")),
        };
        done.filter(|()| words.next().is_none()).ok_or(wrong("what follows the word is not it"))?;
    }
    Ok(trackers)
}

fn empty(zone: Name) -> Tracker {
    Tracker { zone, from: Digest::default(), begun: None, seen: None, keys: Vec::new(), due: 0 }
}

fn digest_of(words: &mut SplitAsciiWhitespace<'_>) -> Option<Digest> {
    HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()
}

fn second_of(words: &mut SplitAsciiWhitespace<'_>) -> Option<Option<u64>> {
    match words.next()? {
        NEVER => Some(None),
        second => second.parse().ok().map(Some),
    }
}

fn tracked(words: &mut SplitAsciiWhitespace<'_>) -> Option<Tracked> {
    let name = words.next()?;
    let state = STATES.into_iter().find(|state| state.as_str() == name)?;
    let since = words.next()?.parse().ok()?;
    let rdata = BASE64.decode(words.next()?.as_bytes()).ok()?;
    Some(Tracked { key: DnsKey::from_rdata(&rdata)?, state, since })
}

fn sum(text: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

impl State {
    /// As the state and operators' reports have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddPend => "add-pend",
            Self::Valid => "valid",
            Self::Missing => "missing",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
        }
    }
}

/// Zones whose keys are followed. Operators have the root, and a few of their own.
pub const FOLLOWED_MAX: usize = 64;

const STATES: [State; 5] =
    [State::AddPend, State::Valid, State::Missing, State::Revoked, State::Removed];
const MAGIC: &str = "resolverd-rfc5011";
/// What is written. A newer one is refused; there is no older one yet.
const VERSION: u32 = 1;
const NEVER: &str = "never";
const SUM: &str = "sum ";
