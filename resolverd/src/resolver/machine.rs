//! One question's life: whom to ask, for how long, and when to give up.
//!
//! Pure: `driver.rs` sends what is asked for here and says what came. An upstream that does not
//! answer in its time is not given up: the next one is asked as well, and the first answer wins.
//!
//! ```text
//!            start
//!              │ ask the first candidate, over UDP
//!              ▼
//!   ┌──────▶ asking ──── an answer ─────────────────────────────▶ done: the answer
//!   │          │ ├────── nobody is left, or time is over ───────▶ done: SERVFAIL
//!   │          │ ├── no answer in its time ── the next candidate
//!   │          │ ├── TC ───────────────────── the same one, over TCP
//!   │          │ ├── OPT not understood ───── the same one, without
//!   │          │ └── it cannot or will not ── the next candidate
//!   └──────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::dns::Ede;

use super::reply::Reply;
use super::upstreams::{Candidate, UpstreamId};

/// The state of one question.
#[derive(Debug)]
pub struct Machine {
    slots: Vec<Slot>,
    /// For each attempt, its slot and whether it was made with EDNS.
    attempts: Vec<(usize, bool)>,
    /// The slot asked last.
    current: usize,
    wake: BootTime,
    deadline: BootTime,
    /// The most telling reason so far why there is no answer.
    reason: Reason,
    done: bool,
}

#[derive(Debug)]
struct Slot {
    candidate: Candidate,
    transport: Transport,
    edns: bool,
    /// It said no: not asked again.
    over: bool,
    asked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

/// One question sent to one upstream, numbered from 0.
pub type Attempt = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Start,
    /// Something came of an attempt.
    Came(Attempt, Came),
    /// The time of `wake_at` has come.
    Wake,
}

/// A reply, and which upstream gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub reply: Reply,
    pub upstream: Arc<str>,
}

/// What can come of an attempt, other than silence.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    Answer(Told),
    Truncated,
    NoEdns,
    /// An RCODE that is no answer, or what nobody can read.
    Refused(Option<Ede>),
    /// The socket failed.
    Unreachable,
    /// It did not prove to be who is meant, and was not asked.
    Distrusted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Ask(Ask),
    /// Nothing comes after it. Without a reply, the reason why.
    Done(Result<Told, Ede>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub attempt: Attempt,
    pub upstream: UpstreamId,
    pub transport: Transport,
    pub edns: bool,
    /// It has EDNS off though it may be used: a good answer shows that EDNS was the trouble.
    pub downgraded: bool,
}

/// Why there is no answer; a later one tells more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Nobody,
    Silence,
    Refusal,
    Network,
    Distrust,
    /// In the words of an upstream.
    Told(u16, String),
}

impl Machine {
    #[must_use]
    pub fn new(now: BootTime, candidates: &[Candidate], timeout: Duration) -> Self {
        let slot = |&candidate: &Candidate| Slot {
            candidate,
            transport: Transport::Udp,
            edns: candidate.edns,
            over: false,
            asked: 0,
        };
        let deadline = now + timeout;
        Self {
            slots: candidates.iter().map(slot).collect(),
            attempts: Vec::new(),
            current: 0,
            wake: deadline,
            deadline,
            reason: if candidates.is_empty() { Reason::Nobody } else { Reason::Silence },
            done: false,
        }
    }

    pub fn step(&mut self, now: BootTime, input: Input, out: &mut Vec<Output>) {
        if self.done {
            return;
        }
        match input {
            Input::Start if self.slots.is_empty() => self.fail(out),
            Input::Start => self.ask(now, 0, out),
            Input::Wake if now >= self.deadline => self.fail(out),
            Input::Wake if now >= self.wake => self.ask_next(now, out),
            Input::Wake => {}
            Input::Came(attempt, came) => self.came(now, attempt, came, out),
        }
    }

    /// None when there is nothing left to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<BootTime> {
        (!self.done).then_some(self.wake)
    }

    fn came(&mut self, now: BootTime, attempt: Attempt, came: Came, out: &mut Vec<Output>) {
        let Some(&(at, with_edns)) = self.attempts.get(attempt) else { return };
        let slot = &mut self.slots[at];
        match came {
            Came::Answer(told) => {
                self.done = true;
                out.push(Output::Done(Ok(told)));
            }
            // RFC 7766 section 5. A slot that is asked over TCP already need not be so twice.
            Came::Truncated if slot.transport == Transport::Udp => {
                slot.transport = Transport::Tcp;
                self.ask(now, at, out);
            }
            Came::Truncated => {}
            // RFC 6891 section 7.
            Came::NoEdns if with_edns => {
                if std::mem::replace(&mut slot.edns, false) {
                    self.ask(now, at, out);
                }
            }
            Came::NoEdns => self.lose(now, at, Reason::Refusal, out),
            Came::Refused(ede) => {
                let reason = ede.map_or(Reason::Refusal, |ede| Reason::Told(ede.code, ede.text));
                self.lose(now, at, reason, out);
            }
            Came::Unreachable => self.lose(now, at, Reason::Network, out),
            Came::Distrusted => self.lose(now, at, Reason::Distrust, out),
        }
    }

    /// The slot is no good for this question. If it was the one we waited for, the next one is
    /// asked at once.
    fn lose(&mut self, now: BootTime, at: usize, reason: Reason, out: &mut Vec<Output>) {
        self.slots[at].over = true;
        self.reason = std::mem::replace(&mut self.reason, Reason::Nobody).max(reason);
        if self.slots.iter().all(|slot| slot.over) {
            self.fail(out);
        } else if at == self.current {
            self.ask_next(now, out);
        }
    }

    fn ask_next(&mut self, now: BootTime, out: &mut Vec<Output>) {
        let count = self.slots.len();
        let after = (1..=count).map(|step| (self.current + step) % count);
        let next = after.into_iter().find(|&at| !self.slots[at].over);
        match next {
            Some(at) if self.attempts.len() < ATTEMPTS_MAX => self.ask(now, at, out),
            // What is under way may still bring something.
            _ => self.wake = self.deadline,
        }
    }

    fn ask(&mut self, now: BootTime, at: usize, out: &mut Vec<Output>) {
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.wake = self.deadline;
            return;
        }
        let slot = &mut self.slots[at];
        let patience = slot.candidate.wait * (1 << slot.asked.min(DOUBLINGS_MAX));
        slot.asked += 1;
        self.wake = (now + patience).min(self.deadline);
        self.current = at;
        let attempt = self.attempts.len();
        self.attempts.push((at, slot.edns));
        out.push(Output::Ask(Ask {
            attempt,
            upstream: slot.candidate.id,
            transport: slot.transport,
            edns: slot.edns,
            downgraded: slot.candidate.edns && !slot.edns,
        }));
    }

    fn fail(&mut self, out: &mut Vec<Output>) {
        self.done = true;
        let reason = std::mem::replace(&mut self.reason, Reason::Nobody);
        out.push(Output::Done(Err(reason.into())));
    }
}

/// RFC 8914: 22 is No Reachable Authority, "or they refused to reply"; 23 is Network Error.
impl From<Reason> for Ede {
    fn from(reason: Reason) -> Self {
        let (code, text) = match reason {
            Reason::Nobody => (22, "no upstream is for this name, or all lead back here"),
            Reason::Silence => (22, "no upstream answered in time"),
            Reason::Refusal => (22, "every upstream refused or failed"),
            Reason::Network => (23, "no upstream could be reached"),
            Reason::Distrust => (23, "no upstream proved who it is"),
            Reason::Told(code, text) => return Self { code, text },
        };
        Self { code, text: text.to_owned() }
    }
}

/// Questions sent to upstreams for one of ours. What ten could not bring, an eleventh will not.
pub const ATTEMPTS_MAX: usize = 10;

/// Each further time an upstream is asked, it is waited for twice as long; up to so many times.
const DOUBLINGS_MAX: u32 = 4;

#[cfg(test)]
mod tests;
