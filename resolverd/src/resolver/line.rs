//! One kept connection: who waits on it, whether it takes more, and for how long it is kept.
//!
//! Pure: `driver/links/` moves the octets and says what came. [`Ids`] are for connections on
//! which answers come in any order and an identifier tells whose they are (RFC 7766 section 7).
//!
//! ```text
//!             full · silent · as many questions as it is good for · sent away
//!   taking ──────────────────────────────────────────────────────────────────▶ leaving
//!     │                                                                           │
//!     └── nobody waited for the idle time ──▶ over ◀── nobody waits any more ──────┘
//! ```

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::BootTime;

/// What is known of one connection.
#[derive(Debug)]
pub struct Line {
    waiting: usize,
    /// Since when nobody waits.
    quiet: Option<BootTime>,
    /// The last octets of an answer; before that, the first question.
    heard: BootTime,
    taken: u64,
    answered: u64,
    /// Past so many questions it is left: the server has shown to close it then.
    taken_max: u64,
    idle: Duration,
    leaving: bool,
}

impl Line {
    #[must_use]
    pub fn new(now: BootTime, taken_max: u64) -> Self {
        Self {
            waiting: 0,
            quiet: Some(now),
            heard: now,
            taken: 0,
            answered: 0,
            taken_max,
            idle: IDLE,
            leaving: false,
        }
    }

    /// Takes one question more, if it may.
    pub fn take(&mut self, now: BootTime) -> bool {
        let silent = self.waiting > 0 && now.saturating_since(self.heard) > SILENT_FOR;
        let idle = self.quiet.is_some_and(|since| now.saturating_since(since) >= self.idle);
        if silent || idle || self.taken >= self.taken_max {
            self.leaving = true;
        }
        if self.leaving || self.is_full() {
            return false;
        }
        if self.waiting == 0 {
            self.heard = now;
        }
        self.quiet = None;
        self.waiting += 1;
        self.taken += 1;
        true
    }

    /// An answer came.
    pub fn heard(&mut self, now: BootTime) {
        self.answered += 1;
        self.heard = now;
    }

    /// One who waited does so no more, with an answer or without.
    pub fn left(&mut self, now: BootTime) {
        if now.saturating_since(self.heard) > SILENT_FOR {
            self.leaving = true;
        }
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.quiet = Some(now);
        }
    }

    /// For how long the server keeps it while nobody waits (RFC 7828 section 3.3.2); zero: it
    /// wants it closed.
    pub fn kept_for(&mut self, idle: Duration) {
        self.idle = idle.min(IDLE_MAX);
        if idle.is_zero() {
            self.leaving = true;
        }
    }

    /// Takes nothing further; who waits goes on waiting.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether it may be closed: nobody will miss it.
    #[must_use]
    pub fn is_over(&self, now: BootTime) -> bool {
        let Some(since) = self.quiet else { return false };
        self.leaving || now.saturating_since(since) >= self.idle
    }

    /// When it will be over, if nothing happens.
    #[must_use]
    pub fn over_at(&self) -> Option<BootTime> {
        self.quiet.map(|since| if self.leaving { since } else { since + self.idle })
    }

    /// Whether it is one that another may be opened beside.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// After the server closed it, and so many questions with it: how many one is good for. A
    /// server that answered none tells nothing by that.
    #[must_use]
    pub fn good_for(&self, lost: usize) -> Option<u64> {
        (lost > 0 && self.answered > 0).then_some(self.answered)
    }

    /// Whether one more would be too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting >= WAITING_MAX
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.waiting == 0
    }
}

/// Whose answer an identifier is.
#[derive(Debug)]
pub struct Ids<W> {
    places: HashMap<u16, Place<W>>,
    strays: usize,
}

#[derive(Debug)]
struct Place<W> {
    waiter: W,
    /// The identifier that the waiter chose.
    own: [u8; 2],
    question: Box<[u8]>,
    asked: BootTime,
}

/// A message that cannot be sent or is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It answers nobody's question.
    Foreign,
    /// So many of these came that the server is not to be believed.
    TooMany,
}

impl<W> Default for Ids<W> {
    fn default() -> Self {
        Self { places: HashMap::new(), strays: 0 }
    }
}

impl<W> Ids<W> {
    /// Gives the question an identifier that no other has, from `dice` on. The waiter comes back
    /// if there is no place, or no question in the message.
    pub fn put(
        &mut self,
        now: BootTime,
        dice: u16,
        message: &mut [u8],
        waiter: W,
    ) -> Result<(), W> {
        if self.places.len() >= IDS_MAX {
            // Who gave up long ago: an answer that late is nobody's.
            self.places.retain(|_, place| now.saturating_since(place.asked) < ASKED_FOR);
        }
        let Some(question) = question(message).map(Box::from) else { return Err(waiter) };
        if self.places.len() >= IDS_MAX {
            return Err(waiter);
        }
        let mut id = dice;
        while self.places.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        let own = [message[0], message[1]];
        message[..2].copy_from_slice(&id.to_be_bytes());
        self.places.insert(id, Place { waiter, own, question, asked: now });
        Ok(())
    }

    /// Who waits for this message; it gets the identifier back that he chose.
    pub fn take(&mut self, message: &mut [u8]) -> Result<W, Stray> {
        let Some(&[high, low]) = message.first_chunk::<2>() else { return Err(self.stray()) };
        let id = u16::from_be_bytes([high, low]);
        let theirs = self.places.get(&id).is_some_and(|place| place.is_answered_by(message));
        match self.places.remove(&id) {
            Some(place) if theirs => {
                message[..2].copy_from_slice(&place.own);
                Ok(place.waiter)
            }
            Some(place) => {
                self.places.insert(id, place);
                Err(self.stray())
            }
            None => Err(self.stray()),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn stray(&mut self) -> Stray {
        self.strays += 1;
        if self.strays > STRAYS_MAX { Stray::TooMany } else { Stray::Foreign }
    }
}

impl<W> Place<W> {
    /// A late answer to who had the identifier before must not be taken for this one's. A server
    /// that could not read a question may send none back.
    fn is_answered_by(&self, message: &[u8]) -> bool {
        if message.get(4..6) == Some(&[0, 0]) {
            return true;
        }
        let (name, kind) = self.question.split_at(self.question.len() - KIND_OCTETS);
        let Some(rest) = message.get(HEADER_OCTETS..) else { return false };
        rest.len() >= self.question.len()
            && rest[..name.len()].eq_ignore_ascii_case(name)
            && rest[name.len()..].starts_with(kind)
    }
}

/// Name, type and class of the first question, which is not compressed.
fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER_OCTETS;
    loop {
        match *message.get(at)? {
            0 => break,
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    message.get(HEADER_OCTETS..at + 1 + KIND_OCTETS)
}

const HEADER_OCTETS: usize = 12;
const KIND_OCTETS: usize = 4;

/// Questions that wait on one connection; further ones get another. What servers allow of
/// streams is rarely less.
pub const WAITING_MAX: usize = 100;

/// Identifiers of one connection, those included whose waiters gave up: a server that never
/// answers them has the connection closed.
const IDS_MAX: usize = 256;

/// No waiter waits longer: `resolve.timeout` is at most half of it.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// Messages on one connection that are nobody's.
const STRAYS_MAX: usize = 64;

/// A connection on which somebody waits and nothing comes for so long may be dead without
/// anybody having said so: the next question gets a new one.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// How long a connection is kept that nobody needs, where the server does not say; and at most
/// (RFC 7766 section 6.2.3).
pub const IDLE: Duration = Duration::from_secs(20);
const IDLE_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> BootTime {
        BootTime::default()
    }

    fn at(millis: u64) -> BootTime {
        start() + Duration::from_millis(millis)
    }

    fn message(id: u16, name: &str, qtype: u8) -> Vec<u8> {
        let mut message = vec![0; HEADER_OCTETS];
        message[..2].copy_from_slice(&id.to_be_bytes());
        message[5] = 1;
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.extend([0, 0, qtype, 0, 1]);
        message
    }

    /// One asks and is answered.
    fn exchange(line: &mut Line, asked: u64, answered: u64) {
        assert!(line.take(at(asked)));
        line.heard(at(answered));
        line.left(at(answered));
    }

    #[test]
    fn a_connection_that_nobody_needs_is_over_after_the_idle_time() {
        let mut line = Line::new(start(), u64::MAX);
        assert!(line.take(at(0)));
        assert_eq!((line.over_at(), line.is_over(at(3_600_000))), (None, false));
        line.heard(at(100));
        line.left(at(100));
        assert_eq!(line.over_at(), Some(at(100) + IDLE));
        assert!(!line.is_over(at(20_099)) && line.is_over(at(20_100)));
        // The server may have closed it by now, and we are about to.
        assert!(!line.take(at(20_100)));
    }

    #[test]
    fn the_servers_word_on_idleness_is_kept_within_bounds() {
        let mut line = Line::new(start(), u64::MAX);
        line.kept_for(Duration::from_secs(2));
        assert!(line.is_over(at(2_000)) && !line.is_over(at(1_999)));
        line.kept_for(Duration::from_secs(6_553));
        assert!(line.is_over(at(120_000)) && !line.is_over(at(119_999)));
        assert!(line.take(at(0)) && line.take(at(0)));
        line.kept_for(Duration::ZERO);
        assert!(!line.take(at(1)), "it wants it closed");
        line.left(at(2));
        assert!(!line.is_over(at(3)), "one still waits");
        line.left(at(3));
        assert!(line.is_over(at(3)));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut line = Line::new(start(), u64::MAX);
        assert!((0..WAITING_MAX).all(|_| line.take(at(0))));
        assert!(!line.take(at(0)) && line.is_full() && !line.is_leaving());
        line.left(at(1));
        assert!(line.take(at(1)));
    }

    #[test]
    fn a_silent_connection_is_left_and_its_waiters_go_on_waiting() {
        let mut line = Line::new(start(), u64::MAX);
        assert!(line.take(at(10_000)), "nobody waited before: that was no silence");
        assert!(line.take(at(11_000)));
        assert!(!line.take(at(11_001)) && line.is_leaving());
        assert!(!line.is_over(at(15_000)));
        line.heard(at(15_000));
        line.left(at(15_000));
        line.left(at(15_100));
        assert!(line.is_over(at(15_100)));
        let mut heard = Line::new(start(), u64::MAX);
        assert!(heard.take(at(0)) && heard.take(at(0)));
        heard.heard(at(900));
        assert!(heard.take(at(1_800)), "it answered somebody meanwhile");
        // Who gave up after a silence leaves nobody behind to notice it.
        let mut alone = Line::new(start(), u64::MAX);
        assert!(alone.take(at(0)));
        alone.left(at(2_000));
        assert!(!alone.take(at(2_000)));
    }

    #[test]
    fn a_server_that_closes_after_some_answers_is_given_no_more_questions_at_once() {
        let mut line = Line::new(start(), u64::MAX);
        assert_eq!(line.good_for(3), None, "it answered none");
        exchange(&mut line, 0, 1);
        assert_eq!((line.good_for(0), line.good_for(2)), (None, Some(1)));
        let mut next = Line::new(at(2), 1);
        assert!(next.take(at(2)) && !next.take(at(2)));
        next.heard(at(3));
        next.left(at(3));
        assert!(next.is_over(at(3)), "it is worn out");
    }

    #[test]
    fn answers_in_any_order_find_who_asked_and_his_identifier() {
        let mut ids = Ids::default();
        let mut sent = Vec::new();
        for (waiter, name) in ["a.test", "b.test", "c.test"].into_iter().enumerate() {
            let mut message = message(7, name, 1);
            ids.put(start(), 0xffff, &mut message, waiter).unwrap();
            sent.push(message);
        }
        let id = |message: &[u8]| u16::from_be_bytes([message[0], message[1]]);
        assert_eq!(sent.iter().map(|m| id(m)).collect::<Vec<_>>(), [0xffff, 0, 1]);
        for waiter in [2, 0, 1] {
            assert_eq!(ids.take(&mut sent[waiter]), Ok(waiter));
            assert_eq!(id(&sent[waiter]), 7);
        }
        assert!(ids.is_empty());
        assert_eq!(ids.take(&mut sent[0]), Err(Stray::Foreign), "twice");
    }

    #[test]
    fn an_answer_to_another_question_is_nobodys() {
        let mut ids = Ids::default();
        let mut asked = message(1, "www.a.test", 65);
        ids.put(start(), 5, &mut asked, ()).unwrap();
        for mut other in [message(5, "www.b.test", 65), message(5, "www.a.test", 97)] {
            assert_eq!(ids.take(&mut other), Err(Stray::Foreign));
        }
        assert_eq!(ids.take(&mut [5]), Err(Stray::Foreign));
        assert_eq!(ids.take(&mut message(5, "WWW.a.TEST", 65)), Ok(()));
        ids.put(start(), 5, &mut asked, ()).unwrap();
        let mut bare = [0, 5, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(ids.take(&mut bare), Ok(()), "FORMERR without the question");
        for _ in 0..STRAYS_MAX - 3 {
            assert_eq!(ids.take(&mut message(9, "x", 1)), Err(Stray::Foreign));
        }
        assert_eq!(ids.take(&mut message(9, "x", 1)), Err(Stray::TooMany));
    }

    #[test]
    fn identifiers_are_bounded_and_those_of_who_gave_up_come_free() {
        let mut ids = Ids::default();
        for n in 0..IDS_MAX {
            ids.put(at(0), 0, &mut message(0, "a.test", 1), n).unwrap();
        }
        assert_eq!(ids.put(at(59_999), 0, &mut message(0, "a.test", 1), 999), Err(999));
        assert_eq!(ids.put(at(60_000), 0, &mut message(0, "a.test", 1), 999), Ok(()));
        assert_eq!(ids.len(), 1);
        for bad in [vec![], vec![0; 12], [vec![0; 12], vec![64, 0, 0, 1, 0, 1]].concat()] {
            assert_eq!(ids.put(at(0), 0, &mut bad.clone(), 1), Err(1), "{bad:?}");
        }
    }
}
