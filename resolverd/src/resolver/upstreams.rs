//! Remembers how upstreams behave, and chooses whom to ask.
//!
//! Pure: knows round-trip times and failures, not sockets. `driver.rs` says what happened; this
//! file only remembers and chooses. The zone with the longest suffix of the name decides which
//! upstreams may be asked; among them the fastest comes first, and those set aside last.
//!
//! ```text
//!            TROUBLES_MAX in a row                    back-off over, one probe
//!   in use ─────────────────────────▶ set aside ─────────────────────────────▶ probed
//!     ▲                                   ▲  no answer: the back-off doubles      │
//!     │                                   └───────────────────────────────────────┤
//!     └──────────────────────────────── any answer ───────────────────────────────┘
//! ```
//!
//! An upstream that sends our own question back to us (a loop) is not asked at all until the
//! next change of configuration.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::config::Protocol;
use crate::dns::Name;

use super::trust::Identity;

/// An upstream as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// Who it must prove to be. There is one if the protocol is encrypted.
    pub identity: Option<Arc<Identity>>,
    /// Empty: the root, which is every name.
    pub zones: Vec<Name>,
}

/// One upstream, as long as its name, its address and how it is asked stay what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(u32);

#[cfg(test)]
impl UpstreamId {
    pub(super) const fn test(id: u32) -> Self {
        Self(id)
    }
}

/// Whom to ask for one question, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub candidates: Vec<Candidate>,
    /// Asked beside the first candidate, to learn how it does; nobody waits for its answer.
    pub probe: Option<Candidate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: UpstreamId,
    /// Without an answer for so long, the next one is asked as well.
    pub wait: Duration,
    /// Whether it may be asked with EDNS.
    pub edns: bool,
}

/// How one question to an upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// An answer, NXDOMAIN and truncated ones included, after so long.
    Answered(Duration),
    /// It is alive and could not tell (SERVFAIL): often the fault of the name.
    Failed,
    /// It will not serve us, or says what nobody can read.
    Useless,
    Silent,
    Unreachable,
}

/// What a report changed, for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    SetAside(Duration),
    Back,
}

/// How an upstream stands; `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamState {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub zones: Vec<Name>,
    pub health: Health,
    /// Smoothed; none before the first answer.
    pub rtt: Option<Duration>,
    /// Asked without EDNS for so long yet: it answered FORMERR with it.
    pub without_edns: Option<Duration>,
    pub asked: u64,
    pub answered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Never asked yet.
    Unknown,
    Up,
    /// Only probed; the next probe is due in so long.
    SetAside(Duration),
    /// Our own question came back from it.
    Loop,
}

/// All upstreams and what is known about them.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// In the order of the configuration.
    entries: Vec<Upstream>,
    /// For each zone, the places in `entries`. Keys are names in wire form.
    zones: HashMap<Box<[u8]>, Vec<usize>>,
    next_id: u32,
    plans: u64,
}

#[derive(Debug)]
struct Upstream {
    id: UpstreamId,
    spec: UpstreamSpec,
    rtt: Option<Rtt>,
    troubles: u32,
    aside: Option<Aside>,
    without_edns_until: Option<BootTime>,
    probe_token: Option<[u8; PROBE_TOKEN_OCTETS]>,
    looped: bool,
    asked: u64,
    answered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Aside {
    until: BootTime,
    backoff: Duration,
    /// A question that will tell is on its way.
    probed: bool,
}

impl Upstreams {
    /// Takes over a new configuration. What is known about upstreams that stay is kept, but for
    /// loops: those are to be looked for anew.
    pub fn reconfigure(&mut self, specs: impl IntoIterator<Item = UpstreamSpec>) {
        let mut old = std::mem::take(&mut self.entries);
        for spec in specs {
            let known =
                old.iter().position(|u| u.spec.is_same(&spec)).map(|at| old.swap_remove(at));
            let mut upstream = known.unwrap_or_else(|| {
                self.next_id += 1;
                Upstream::new(UpstreamId(self.next_id), spec.clone())
            });
            // The same identity, so that it is found to be the same at a glance.
            let identity = upstream.spec.identity.take();
            upstream.spec = UpstreamSpec { identity, ..spec };
            upstream.looped = false;
            upstream.probe_token = None;
            self.entries.push(upstream);
        }
        self.zones.clear();
        let root = [Name::root()];
        for (at, upstream) in self.entries.iter().enumerate() {
            let zones = &upstream.spec.zones;
            for zone in if zones.is_empty() { &root[..] } else { zones } {
                self.zones.entry(zone.as_wire().into()).or_default().push(at);
            }
        }
    }

    /// Whom to ask for `name`. Empty when no upstream is for it, or all of them lead back here.
    pub fn plan(&mut self, now: BootTime, name: &Name) -> Plan {
        let Some(places) = name.suffixes().find_map(|suffix| self.zones.get(suffix)) else {
            return Plan::default();
        };
        let mut ranked: Vec<usize> =
            places.iter().copied().filter(|&at| !self.entries[at].looped).collect();
        ranked.sort_by_key(|&at| (self.entries[at].rank(), at));
        self.plans += 1;
        let asked = ranked.iter().take(CANDIDATES_MAX);
        let candidates = asked.map(|&at| self.entries[at].candidate(now)).collect();
        let probe = self.choose_probe(now, ranked.get(1..).unwrap_or_default());
        Plan { candidates, probe }
    }

    /// Whom `name` would be put to first.
    #[must_use]
    pub fn first(&self, name: &Name) -> Option<&UpstreamSpec> {
        let places = name.suffixes().find_map(|suffix| self.zones.get(suffix))?;
        let usable = places.iter().copied().filter(|&at| !self.entries[at].looped);
        let first = usable.min_by_key(|&at| (self.entries[at].rank(), at))?;
        Some(&self.entries[first].spec)
    }

    /// Of those that would not be asked: one whose back-off is over, else one never measured,
    /// else now and then any, so that a better one is found.
    fn choose_probe(&mut self, now: BootTime, others: &[usize]) -> Option<Candidate> {
        let due = |upstream: &Upstream| upstream.aside.is_some_and(|aside| aside.until <= now);
        let entries = &mut self.entries;
        if let Some(&at) = others.iter().find(|&&at| due(&entries[at])) {
            let upstream = &mut entries[at];
            if let Some(aside) = &mut upstream.aside {
                aside.probed = true;
                // No second probe before this one can have ended.
                aside.until = now + aside.backoff;
            }
            return Some(upstream.candidate(now));
        }
        let usable: Vec<usize> =
            others.iter().copied().filter(|&at| entries[at].aside.is_none()).collect();
        let unmeasured = usable.iter().copied().find(|&at| entries[at].rtt.is_none());
        let turn = self.plans / EXPLORE_EVERY;
        let explore = || {
            let at = usize::try_from(turn).ok()?.checked_rem(usable.len())?;
            self.plans.is_multiple_of(EXPLORE_EVERY).then(|| usable[at])
        };
        unmeasured.or_else(explore).map(|at| entries[at].candidate(now))
    }

    /// Remembers how a question to `id` ended.
    pub fn report(&mut self, now: BootTime, id: UpstreamId, report: Report) -> Option<Change> {
        // A reload may have taken it away meanwhile.
        let upstream = self.entries.iter_mut().find(|u| u.id == id)?;
        match report {
            Report::Answered(took) => {
                upstream.answered += 1;
                upstream.rtt = Some(Rtt::smooth(upstream.rtt, took));
                upstream.back()
            }
            Report::Failed => upstream.back(),
            Report::Useless | Report::Silent | Report::Unreachable => upstream.trouble(now),
        }
    }

    /// Counts a question sent, and says where to.
    pub fn sent(&mut self, id: UpstreamId) -> Option<UpstreamSpec> {
        let upstream = self.entries.iter_mut().find(|u| u.id == id)?;
        upstream.asked += 1;
        Some(upstream.spec.clone())
    }

    /// Remembers for a while that `id` answers without EDNS what it did not answer with it.
    pub fn avoid_edns(&mut self, now: BootTime, id: UpstreamId) {
        if let Some(upstream) = self.entries.iter_mut().find(|u| u.id == id) {
            upstream.without_edns_until = Some(now + WITHOUT_EDNS_FOR);
        }
    }

    /// Gives each upstream the name by which a loop through it will be known. The tokens must
    /// not be guessable.
    pub fn expect_probes(
        &mut self,
        mut token: impl FnMut() -> [u8; PROBE_TOKEN_OCTETS],
    ) -> Vec<(UpstreamId, Name)> {
        let entries = self.entries.iter_mut();
        entries
            .map(|upstream| {
                let token = token();
                upstream.probe_token = Some(token);
                (upstream.id, probe_name(&token))
            })
            .collect()
    }

    /// If `name` is one that we asked an upstream for: that upstream leads back to us. Says its
    /// name, and whether that is news.
    pub fn recognise(&mut self, name: &Name) -> Option<(Arc<str>, bool)> {
        let token = probe_token(name)?;
        let upstream = self.entries.iter_mut().find(|u| u.probe_token == Some(token))?;
        let news = !std::mem::replace(&mut upstream.looped, true);
        Some((Arc::clone(&upstream.spec.name), news))
    }

    /// For `status`, in the order of the configuration.
    #[must_use]
    pub fn states(&self, now: BootTime) -> Vec<UpstreamState> {
        self.entries.iter().map(|upstream| upstream.state(now)).collect()
    }

    pub fn ids(&self) -> impl Iterator<Item = (UpstreamId, &UpstreamSpec)> {
        self.entries.iter().map(|upstream| (upstream.id, &upstream.spec))
    }
}

impl UpstreamSpec {
    /// Whether it is the same upstream, though perhaps for other zones.
    fn is_same(&self, other: &Self) -> bool {
        let by = |spec: &Self| (spec.address, spec.protocol);
        self.name == other.name && by(self) == by(other) && self.identity == other.identity
    }
}

impl Upstream {
    fn new(id: UpstreamId, spec: UpstreamSpec) -> Self {
        Self {
            id,
            spec,
            rtt: None,
            troubles: 0,
            aside: None,
            without_edns_until: None,
            probe_token: None,
            looped: false,
            asked: 0,
            answered: 0,
        }
    }

    /// Smaller is asked earlier: measured ones by their time, then unmeasured ones, then, last,
    /// those set aside, the one that is due soonest first.
    fn rank(&self) -> (u8, Duration) {
        match (self.aside, self.rtt) {
            (Some(aside), _) => (2, Duration::from_nanos(aside.until.as_nanos())),
            (None, Some(rtt)) => (0, rtt.smoothed),
            (None, None) => (1, Duration::ZERO),
        }
    }

    fn candidate(&self, now: BootTime) -> Candidate {
        let wait = self
            .rtt
            .map_or(WAIT_FIRST, |rtt| (rtt.smoothed + 4 * rtt.variation).clamp(WAIT_MIN, WAIT_MAX));
        let edns = self.without_edns_until.is_none_or(|until| until <= now);
        Candidate { id: self.id, wait, edns }
    }

    fn back(&mut self) -> Option<Change> {
        self.troubles = 0;
        self.aside.take().map(|_| Change::Back)
    }

    fn trouble(&mut self, now: BootTime) -> Option<Change> {
        self.troubles = self.troubles.saturating_add(1);
        let backoff = match self.aside {
            None if self.troubles < TROUBLES_MAX => return None,
            None => BACKOFF_MIN,
            Some(aside) if aside.probed => (aside.backoff * 2).min(BACKOFF_MAX),
            // Questions sent before it was set aside, or because nobody else was left.
            Some(_) => return None,
        };
        let news = self.aside.is_none();
        self.aside = Some(Aside { until: now + backoff, backoff, probed: false });
        news.then_some(Change::SetAside(backoff))
    }

    fn state(&self, now: BootTime) -> UpstreamState {
        let health = match (self.looped, self.aside) {
            (true, _) => Health::Loop,
            (_, Some(aside)) => Health::SetAside(aside.until.saturating_since(now)),
            _ if self.answered == 0 && self.troubles == 0 => Health::Unknown,
            _ => Health::Up,
        };
        let until = self.without_edns_until.filter(|&until| until > now);
        UpstreamState {
            name: Arc::clone(&self.spec.name),
            address: self.spec.address,
            protocol: self.spec.protocol,
            zones: self.spec.zones.clone(),
            health,
            rtt: self.rtt.map(|rtt| rtt.smoothed),
            without_edns: until.map(|until| until.saturating_since(now)),
            asked: self.asked,
            answered: self.answered,
        }
    }
}

impl Rtt {
    /// RFC 6298 section 2, without its granularity term.
    fn smooth(known: Option<Self>, sample: Duration) -> Self {
        known.map_or(Self { smoothed: sample, variation: sample / 2 }, |rtt| Self {
            smoothed: (rtt.smoothed * 7 + sample) / 8,
            variation: (rtt.variation * 3 + rtt.smoothed.abs_diff(sample)) / 4,
        })
    }
}

/// `<16 hexadecimal digits>.loop.resolverd.test.`
fn probe_name(token: &[u8; PROBE_TOKEN_OCTETS]) -> Name {
    let mut wire = vec![PROBE_LABEL_OCTETS as u8];
    for octet in token {
        wire.extend([octet >> 4, octet & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    wire.extend_from_slice(PROBE_ZONE);
    Name::from_wire(&wire).unwrap_or_else(|_| Name::root())
}

/// Whether a name is one by which somebody looks for loops.
pub fn is_probe(name: &Name) -> bool {
    probe_token(name).is_some()
}

fn probe_token(name: &Name) -> Option<[u8; PROBE_TOKEN_OCTETS]> {
    let label = name.as_wire().strip_suffix(PROBE_ZONE)?;
    let (&len, digits) = label.split_first()?;
    // A sign would be taken by the number's parser.
    let hexadecimal = digits.iter().all(u8::is_ascii_hexdigit);
    if usize::from(len) != PROBE_LABEL_OCTETS || digits.len() != PROBE_LABEL_OCTETS || !hexadecimal
    {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok().map(u64::to_be_bytes)
}

/// Below it, names are our own questions looking for loops.
const PROBE_ZONE: &[u8] = b"\x04loop\x09resolverd\x04test\0";
const PROBE_TOKEN_OCTETS: usize = 8;
const PROBE_LABEL_OCTETS: usize = 2 * PROBE_TOKEN_OCTETS;

/// Upstreams that one question may be put to. Who has not answered after eight is not there.
const CANDIDATES_MAX: usize = 8;

/// Questions in a row that came to nothing before an upstream is set aside. One lost datagram is
/// ordinary, four in a row are not.
const TROUBLES_MAX: u32 = 4;

/// The first back-off, and the longest. An upstream that comes back is in use a minute later.
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// One question in so many also goes to an upstream that is not the fastest known.
const EXPLORE_EVERY: u64 = 32;

/// How long we wait for an upstream before the next is asked as well: at least, when nothing is
/// known, and at most. The lower bound leaves room for a name its cache does not have; the upper
/// one has another upstream asked within a second.
const WAIT_MIN: Duration = Duration::from_millis(150);
const WAIT_FIRST: Duration = Duration::from_millis(400);
const WAIT_MAX: Duration = Duration::from_millis(900);

/// A downgrade must not outlive what made it necessary: a lost OPT would cost DNSSEC for ever.
const WITHOUT_EDNS_FOR: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests;
