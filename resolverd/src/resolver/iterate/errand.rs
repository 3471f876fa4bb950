//! One name and type to be found out: the client's, or an address that is needed on the way.
//!
//! Pure. Holds what one errand knows; `machine` decides what it does.

use std::sync::Arc;

use crate::clock::BootTime;
use crate::dns::records::Record;
use crate::dns::{Ede, Name, Trail};
use crate::resolver::reply::{Fetch, Reply};

use super::delegations::Cut;
use super::minimise::Minimiser;
use super::targets::Target;

/// Its place among the errands of a machine.
pub type ErrandId = usize;

#[derive(Debug)]
pub struct Errand {
    /// Who waits for it; none: the client.
    pub parent: Option<ErrandId>,
    /// How many wait above.
    pub depth: usize,
    /// What it was sent out for.
    pub fetch: Fetch,
    /// Where the aliases have led.
    pub name: Name,
    /// Names it was at, for seeing loops.
    pub seen: Vec<Name>,
    /// Aliases so far, with what signs them, and what proves them.
    pub chain: Vec<Record>,
    pub proofs: Vec<Record>,
    /// Whose servers led to them, while somebody wants to know.
    pub trail: Trail,
    /// The zone whose servers are asked.
    pub cut: Arc<Cut>,
    /// The cut came out of memory, and may be out of date.
    pub remembered: bool,
    /// Its zone was asked for anew once already.
    pub renewed: bool,
    pub minimiser: Minimiser,
    /// What is being asked of the cut's servers.
    pub question: Fetch,
    /// Counts changes of cut and question: what was asked in an earlier one is no longer waited
    /// for.
    pub round: usize,
    pub targets: Vec<Target>,
    /// Servers of the cut whose addresses nobody asked for yet.
    pub nameless: Vec<Name>,
    pub referrals: usize,
    pub wake: Option<BootTime>,
    pub over: bool,
    /// The most telling reason so far why there is no answer.
    pub reason: Reason,
}

/// Why there is no answer; a later one tells more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Silence,
    NoAddress,
    Network,
    Refusal,
    Lame(&'static str),
    /// In the words of a server, or of an earlier failure.
    Told(u16, String),
    /// A bound of ours.
    Bound(&'static str),
}

impl Errand {
    #[must_use]
    pub fn new(fetch: Fetch, parent: Option<(ErrandId, usize)>, minimise: bool) -> Self {
        Self {
            parent: parent.map(|(parent, _)| parent),
            depth: parent.map_or(0, |(_, depth)| depth + 1),
            name: fetch.name.clone(),
            seen: Vec::new(),
            chain: Vec::new(),
            proofs: Vec::new(),
            trail: Trail::default(),
            cut: Arc::new(Cut::new(Name::root(), Vec::new())),
            remembered: false,
            renewed: false,
            minimiser: Minimiser::new(fetch.clone(), minimise),
            question: fetch.clone(),
            round: 0,
            targets: Vec::new(),
            nameless: Vec::new(),
            referrals: 0,
            wake: None,
            over: false,
            reason: Reason::Silence,
            fetch,
        }
    }

    /// What is asked for at the end of the aliases.
    #[must_use]
    pub fn wanted(&self) -> Fetch {
        Fetch { name: self.name.clone(), qtype: self.fetch.qtype }
    }

    /// Goes on at the end of an alias. False: it leads round in circles, or too far.
    pub fn follow(&mut self, next: Name) -> bool {
        let left = std::mem::replace(&mut self.name, next);
        self.seen.push(left);
        !self.seen.contains(&self.name) && self.seen.len() <= ALIASES_MAX
    }

    /// The reply as a whole, with the aliases that led to `last`.
    #[must_use]
    pub fn conclude(&mut self, last: Reply) -> Reply {
        let mut answer = std::mem::take(&mut self.chain);
        answer.extend(last.answer);
        let mut authority = last.authority;
        for proof in std::mem::take(&mut self.proofs) {
            // The same proof may have been kept since different times.
            let known = authority.iter_mut().find(|known| known.is_same(&proof));
            match known {
                Some(known) => known.ttl = known.ttl.min(proof.ttl),
                None => authority.push(proof),
            }
        }
        let trail = std::mem::take(&mut self.trail);
        Reply { answer, authority, trail, ..last }
    }

    pub fn blame(&mut self, reason: Reason) {
        if reason > self.reason {
            self.reason = reason;
        }
    }
}

/// RFC 8914: 22 is No Reachable Authority, 23 is Network Error.
impl From<Reason> for Ede {
    fn from(reason: Reason) -> Self {
        let (code, text) = match reason {
            Reason::Silence => (22, "no server of the zone answered in time"),
            Reason::NoAddress => (22, "no server of the zone has an address we may ask"),
            Reason::Network => (23, "no server of the zone could be reached"),
            Reason::Refusal => (22, "every server of the zone refused or failed"),
            Reason::Lame(text) => {
                return Self { code: 22, text: format!("no server serves the zone: {text}") };
            }
            Reason::Bound(text) => (0, text),
            Reason::Told(code, text) => return Self { code, text },
        };
        Self { code, text: text.to_owned() }
    }
}

/// Aliases followed for one question. Real chains have two or three, eight at most.
const ALIASES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_that_was_kept_since_different_times_is_told_once() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let fetch = Fetch { name: name("a.test."), qtype: 1 };
        let mut errand = Errand::new(fetch, None, false);
        let nsec = |ttl, rdata: &[u8]| Record {
            owner: name("b.test."),
            rtype: 47,
            class: 1,
            ttl,
            rdata: rdata.to_vec(),
        };
        errand.proofs = vec![nsec(60, &[1]), nsec(60, &[2])];
        let last = Reply { authority: vec![nsec(90, &[1])], ..Reply::default() };
        let told = errand.conclude(last).authority;
        assert_eq!(told, [nsec(60, &[1]), nsec(60, &[2])]);
    }
}
