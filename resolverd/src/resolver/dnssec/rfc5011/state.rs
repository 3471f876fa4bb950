//! The state of a tracker as text: what is stored between two lives of the daemon.
//!
//! Pure. The first line has the magic and the version; a newer version is refused with words, and
//! so is a file that is cut short or was changed by hand into something else. Whoever stores it
//! replaces the file as a whole, and treats a missing one as an alarm.

use data_encoding::BASE64;

use crate::dns::Name;

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
    #[error("the state ends before its last line, `end`")]
    Short,
}

impl Tracker {
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{MAGIC} {VERSION}\nzone {}\ndue {}\n", self.zone, self.due);
        for tracked in &self.keys {
            let (state, since) = (word(tracked.state), tracked.since);
            let key = BASE64.encode(&tracked.key.rdata());
            text.push_str(&format!("key {state} {since} {key}\n"));
        }
        text.push_str("end\n");
        text
    }

    pub fn from_text(text: &str) -> Result<Self, StateError> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let (_, first) = lines.next().ok_or(StateError::Magic)?;
        let version = first.strip_prefix(MAGIC).and_then(|rest| rest.trim().parse::<u32>().ok());
        match version {
            None | Some(0) => return Err(StateError::Magic),
            Some(newer) if newer > VERSION => return Err(StateError::Newer(newer)),
            Some(_) => {}
        }
        let mut zone: Option<Name> = None;
        let mut due = None;
        let mut keys = Vec::new();
        for (number, line) in lines {
            let wrong = |what| StateError::Line(number, what);
            let mut words = line.split(' ');
            match words.next().unwrap_or_default() {
                "zone" => {
                    let name = words.next().and_then(|word| word.parse().ok());
                    zone = Some(name.ok_or(wrong("no name of a zone"))?);
                }
                "due" => {
                    let second = words.next().and_then(|word| word.parse().ok());
                    due = Some(second.ok_or(wrong("no second"))?);
                }
                "key" if keys.len() == KEYS_MAX => return Err(wrong("too many keys")),
                "key" => keys.push(tracked(words).ok_or(wrong("no key"))?),
                "end" => {
                    let zone = zone.ok_or(wrong("there is no zone before it"))?;
                    let due = due.ok_or(wrong("there is no `due` before it"))?;
                    return Ok(Self { zone, keys, due });
                }
                _ => return Err(wrong("an unknown word begins it")),
            }
        }
        Err(StateError::Short)
    }
}

fn tracked<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Tracked> {
    let name = words.next()?;
    let state = STATES.iter().find(|(_, word)| *word == name).map(|(state, _)| *state)?;
    let since = words.next()?.parse().ok()?;
    let rdata = BASE64.decode(words.next()?.as_bytes()).ok()?;
    let key = DnsKey::from_rdata(&rdata)?;
    words.next().is_none().then_some(Tracked { key, state, since })
}

fn word(state: State) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, word)| word)
}

const STATES: &[(State, &str)] = &[
    (State::AddPend, "add-pend"),
    (State::Valid, "valid"),
    (State::Missing, "missing"),
    (State::Revoked, "revoked"),
    (State::Removed, "removed"),
];

const MAGIC: &str = "resolverd-rfc5011";
const VERSION: u32 = 1;
