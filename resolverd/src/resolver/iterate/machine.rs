//! One question's way from the root, or from the nearest zone known, to its answer.
//!
//! Pure. `driver` sends what is asked for here and says what came; what other questions may
//! profit by goes into the [`World`]. Each errand walks this way:
//!
//! ```text
//!    start ──▶ known? ── yes ──▶ an alias? ── yes ──▶ on at its end ──▶ (start)
//!                │ no                └─ no ──▶ over: the answer
//!                ▼
//!        the nearest zone cut ◀─────────────── referral ──────────────┐
//!                │ addresses known        │ none: errands for them    │
//!                ▼                        ▼ (bounded: NXNSAttack)     │
//!   ┌────▶ asking its servers ◀──── addresses                         │
//!   │        │ ├── a part of the name is there ──── more of it ───────┤
//!   │        │ ├── referral ──────────────────────────────────────────┘
//!   │        │ ├── records, alias, denial ────────▶ (known), (over)
//!   │        │ ├── TC, no EDNS, other case ──────── the same server, in another manner
//!   │        │ ├── lame, refused, unreadable ────── the next server
//!   │        │ └── no answer in its time ────────── the next server as well
//!   └────────┘    nobody is left: the zone above is asked anew, once; then over: failure
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::dns::{Ede, Name, Trail, rtype};
use crate::resolver::known::Found;
use crate::resolver::machine::{Attempt, Transport};
use crate::resolver::reply::{Fetch, Reply};
use crate::resolver::wire::Message;

use super::delegations::Cut;
use super::errand::{Errand, ErrandId, Reason};
use super::minimise::Minimiser;
use super::scrub;
use super::targets::{self, Dice, Target};
use super::{Options, Way, World, hints};

mod addresses;
mod hearing;

use addresses::{add_targets, remembered_addresses};

/// The state of one question.
#[derive(Debug)]
pub struct Machine {
    options: Arc<Options>,
    purpose: Purpose,
    /// The first is the question itself.
    errands: Vec<Errand>,
    sent: Vec<Sent>,
    /// Who waits for what upstreams are asked.
    tickets: Vec<ErrandId>,
    dice: Dice,
    started: BootTime,
    deadline: BootTime,
    /// Priming was called for already.
    called: bool,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Question,
    /// The same for the resolver's own eyes, which need no SOA to see that there is no DS.
    Proof,
    /// The root is asked to describe itself (RFC 8109).
    Prime,
}

#[derive(Clone, Debug)]
struct Sent {
    errand: ErrandId,
    round: usize,
    ask: Ask,
    at: BootTime,
    due: BootTime,
    /// EDNS is off though the server is not known to need that.
    downgraded: bool,
    /// Something came.
    over: bool,
    /// Nothing came in its time.
    silent: bool,
}

/// What upstreams are asked, numbered from 0.
pub type Ticket = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Start,
    /// Something came of an attempt.
    Came(Attempt, Came),
    /// Upstreams gave this.
    Fetched(Ticket, Result<Reply, Ede>),
    /// The time of `wake_at` has come.
    Wake,
}

/// What can come of an attempt, other than silence.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    Message(Message),
    /// What nobody can read.
    Unreadable,
    /// The socket failed.
    Unreachable,
    /// Datagrams that answer something else: somebody is guessing.
    Forged,
    /// We have no socket left. It says nothing about the server.
    NoSocket,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Ask(Ask),
    /// A name that upstreams are asked for.
    Fetch(Ticket, Fetch),
    /// Hints are in use: it is time to prime. Nobody waits for it.
    Prime,
    /// Nothing comes after it.
    Done(Result<Reply, Ede>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub attempt: Attempt,
    pub server: SocketAddr,
    pub question: Fetch,
    pub transport: Transport,
    pub edns: bool,
    /// The letters of the name are sent in random case.
    pub scramble: bool,
}

/// What a step may touch.
struct Moment<'a> {
    now: BootTime,
    world: &'a World,
    out: &'a mut Vec<Output>,
}

/// Whether an errand is still under way.
#[derive(PartialEq, Eq)]
enum Going {
    On,
    Ended,
}

impl Machine {
    #[must_use]
    pub fn new(
        now: BootTime,
        fetch: Fetch,
        purpose: Purpose,
        options: Arc<Options>,
        seed: u64,
    ) -> Self {
        let minimise = options.minimise && purpose != Purpose::Prime;
        Self {
            purpose,
            errands: vec![Errand::new(fetch, None, minimise)],
            sent: Vec::new(),
            tickets: Vec::new(),
            dice: Dice::new(seed),
            started: now,
            deadline: now + options.timeout,
            called: false,
            done: false,
            options,
        }
    }

    pub fn step(&mut self, now: BootTime, input: Input, world: &World, out: &mut Vec<Output>) {
        if self.done {
            return;
        }
        let m = &mut Moment { now, world, out };
        match input {
            Input::Start if self.purpose == Purpose::Prime => {
                let cut = Arc::new(hints::cut(&self.options.hints, self.options.port));
                self.enter(0, cut, false, m);
            }
            Input::Start => self.set_out(0, m),
            Input::Wake if now >= self.deadline => {
                let reason = self.errands[0].reason.clone();
                self.fail(0, reason, m);
            }
            Input::Wake => self.wake(m),
            Input::Came(attempt, came) => self.came(attempt, came, m),
            Input::Fetched(ticket, result) => self.fetched(ticket, result, m),
        }
    }

    /// None when there is nothing left to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<BootTime> {
        let wakes = self.errands.iter().filter(|errand| !errand.over).filter_map(|e| e.wake);
        (!self.done).then(|| wakes.fold(self.deadline, BootTime::min))
    }

    /// Questions sent to servers so far.
    #[must_use]
    pub fn questions(&self) -> usize {
        self.sent.len()
    }

    fn wake(&mut self, m: &mut Moment<'_>) {
        for id in 0..self.errands.len() {
            let errand = &mut self.errands[id];
            if errand.over || errand.wake.is_none_or(|wake| wake > m.now) {
                continue;
            }
            errand.wake = None;
            let round = errand.round;
            let waited = self.sent.iter_mut().filter(|sent| {
                sent.errand == id && sent.round == round && !sent.over && !sent.silent
            });
            for sent in waited.filter(|sent| sent.due <= m.now) {
                sent.silent = true;
                m.world.servers.silent(m.now, sent.ask.server);
            }
            self.ask_next(id, m);
        }
    }

    /// Begins an errand, or goes on with it at the end of an alias.
    fn set_out(&mut self, id: ErrandId, m: &mut Moment<'_>) {
        let wanted = loop {
            let wanted = self.errands[id].wanted();
            match m.world.known.find(m.now, &wanted) {
                // The proof of a referral lacks what a client's denial has (RFC 2308 section 3).
                Some(Found::Reply(reply)) if self.purpose != Purpose::Proof && is_bare(&reply) => {
                    break wanted;
                }
                Some(Found::Reply(reply)) => {
                    if self.absorb(id, &wanted, reply, m) == Going::Ended {
                        return;
                    }
                }
                Some(Found::Failed(ede)) => {
                    return self.fail(id, Reason::Told(ede.code, ede.text), m);
                }
                None => break wanted,
            }
        };
        if let Some(denial) = m.world.known.denied_above(m.now, &wanted.name) {
            return self.finish(id, denial, m);
        }
        self.errands[id].minimiser = Minimiser::new(wanted.clone(), self.options.minimise);
        // RFC 4035 section 3.1.4.1: a DS is the upper zone's.
        let within = match wanted.qtype {
            rtype::DS => above(&wanted.name),
            _ => wanted.name.clone(),
        };
        let Some((cut, remembered)) = self.closest(&within, m) else {
            let ticket = self.tickets.len();
            self.tickets.push(id);
            self.errands[id].round += 1;
            self.errands[id].wake = None;
            return m.out.push(Output::Fetch(ticket, wanted));
        };
        self.enter(id, cut, remembered, m);
    }

    /// The nearest zone cut, and whether it was remembered. None: upstreams are asked.
    fn closest(&mut self, name: &Name, m: &mut Moment<'_>) -> Option<(Arc<Cut>, bool)> {
        let remembered = || m.world.delegations.closest(m.now, name);
        match self.options.way(name) {
            Way::Forward => None,
            Way::Stub(stub) => {
                let below = |cut: &Arc<Cut>| cut.zone != stub.zone && cut.zone.is_under(&stub.zone);
                let remembered = remembered().filter(below);
                Some(remembered.map_or_else(|| (Arc::new(stub), false), |cut| (cut, true)))
            }
            Way::Root => {
                if let Some(cut) = remembered() {
                    return Some((cut, true));
                }
                if self.options.prime && !std::mem::replace(&mut self.called, true) {
                    m.out.push(Output::Prime);
                }
                let hints = hints::cut(&self.options.hints, self.options.port);
                Some((Arc::new(hints), false))
            }
        }
    }

    /// The servers that an errand is at, as the trail of what they say.
    fn trail_of(&self, id: ErrandId, m: &Moment<'_>) -> Trail {
        let errand = &self.errands[id];
        match m.world.is_traced() {
            true => Trail::of(errand.name.clone(), Arc::clone(&errand.cut)),
            false => Trail::default(),
        }
    }

    /// Takes in the reply to what an errand wanted. If it is an alias, the errand is at its end.
    fn absorb(&mut self, id: ErrandId, asked: &Fetch, reply: Reply, m: &mut Moment<'_>) -> Going {
        let Some(next) = scrub::onward(&reply, asked) else {
            self.finish(id, reply, m);
            return Going::Ended;
        };
        let errand = &mut self.errands[id];
        if m.world.is_traced() {
            errand.trail.push(errand.name.clone(), reply.trail.first().cloned());
        }
        errand.chain.extend(reply.answer);
        errand.proofs.extend(reply.authority);
        if errand.follow(next) {
            return Going::On;
        }
        self.fail(id, Reason::Bound("aliases lead round in circles, or too far"), m);
        Going::Ended
    }

    /// Turns to the servers of a zone.
    fn enter(&mut self, id: ErrandId, cut: Arc<Cut>, remembered: bool, m: &mut Moment<'_>) {
        self.abandon(id);
        let options = Arc::clone(&self.options);
        let errand = &mut self.errands[id];
        errand.targets.clear();
        errand.nameless.clear();
        for server in &cut.servers {
            let mut addresses = server.addresses.clone();
            if addresses.is_empty() {
                addresses = remembered_addresses(&server.name, options.port, m);
                if m.world.is_traced() {
                    cut.note_found(addresses.iter().map(SocketAddr::ip));
                }
            }
            addresses.retain(|address| options.has_family(*address));
            // A server within the zone it serves, without address, cannot be found.
            if addresses.is_empty() && !server.name.is_under(&cut.zone) {
                errand.nameless.push(server.name.clone());
            }
            add_targets(errand, &addresses, &options);
        }
        let lame = |target: &Target| m.world.servers.is_lame(m.now, target.address, &cut.zone);
        if !errand.targets.iter().all(lame) {
            errand.targets.iter_mut().for_each(|target| target.over = lame(target));
        }
        self.dice.shuffle(&mut errand.nameless);
        if errand.targets.is_empty() {
            errand.blame(Reason::NoAddress);
        }
        errand.minimiser.enter(&cut.zone);
        errand.cut = cut;
        errand.remembered = remembered;
        self.pose(id, m);
    }

    /// Puts the errand's next question to the servers of its zone.
    fn pose(&mut self, id: ErrandId, m: &mut Moment<'_>) {
        let errand = &mut self.errands[id];
        errand.question = errand.minimiser.question();
        errand.round += 1;
        errand.targets.iter_mut().for_each(|target| target.asked = 0);
        self.ask_next(id, m);
    }

    /// Asks somebody: who was not asked yet, else whose address can be found out, else again.
    fn ask_next(&mut self, id: ErrandId, m: &mut Moment<'_>) {
        let errand = &mut self.errands[id];
        for target in &mut errand.targets {
            let zone = &errand.cut.zone;
            target.doubted = m.world.servers.is_doubted(m.now, target.address, zone);
        }
        let next = targets::choose(&errand.targets, m.now, &m.world.servers, &mut self.dice);
        if let Some(at) = next.filter(|&at| errand.targets[at].asked == 0) {
            return self.send(id, at, m);
        }
        // Who is silent may have been replaced since the zone above was asked.
        let tried = |target: &Target| target.over || target.asked >= RENEWED_AFTER;
        if next.is_some() && errand.targets.iter().all(tried) && self.renew(id, m) {
            return;
        }
        if self.look_up(id, next.is_some(), m) {
            return;
        }
        match next {
            Some(at) => self.send(id, at, m),
            None if self.is_waiting(id) => self.errands[id].wake = None,
            None if self.renew(id, m) => {}
            None => {
                let reason = self.errands[id].reason.clone();
                self.fail(id, reason, m);
            }
        }
    }

    /// Whether something may still come of what the errand did.
    fn is_waiting(&self, id: ErrandId) -> bool {
        let round = self.errands[id].round;
        self.sent.iter().any(|sent| sent.errand == id && sent.round == round && !sent.over)
            || self.has_children(id)
    }

    fn has_children(&self, id: ErrandId) -> bool {
        self.errands.iter().any(|errand| errand.parent == Some(id) && !errand.over)
    }

    /// Asks the zone above anew who serves this one, once, if that was not asked just now.
    fn renew(&mut self, id: ErrandId, m: &mut Moment<'_>) -> bool {
        let errand = &mut self.errands[id];
        let zone = errand.cut.zone.clone();
        if !errand.remembered || errand.renewed || zone == Name::root() {
            return false;
        }
        errand.renewed = true;
        m.world.delegations.forget(&zone);
        let Some((cut, remembered)) = self.closest(&above(&zone), m) else { return false };
        self.enter(id, cut, remembered, m);
        true
    }

    fn send(&mut self, id: ErrandId, at: usize, m: &mut Moment<'_>) {
        if self.sent.len() >= QUERIES_MAX {
            return self.fail(0, Reason::Bound("it takes too many questions to servers"), m);
        }
        let errand = &mut self.errands[id];
        let target = &mut errand.targets[at];
        let manner = m.world.servers.manner(m.now, target.address);
        target.vary(&manner);
        let udp = target.transport == Transport::Udp;
        let edns = target.edns.unwrap_or(manner.edns);
        let scramble = self.options.scramble && udp && target.scramble.unwrap_or(manner.scramble);
        // TCP shakes hands first.
        let patience =
            if udp { targets::patience(target, &manner) } else { manner.patience * TCP_PATIENCE };
        target.asked += 1;
        let due = (m.now + patience).min(self.deadline);
        errand.wake = Some(due);
        let ask = Ask {
            attempt: self.sent.len(),
            server: target.address,
            question: errand.question.clone(),
            transport: target.transport,
            edns,
            scramble,
        };
        self.sent.push(Sent {
            errand: id,
            round: errand.round,
            ask: ask.clone(),
            at: m.now,
            due,
            downgraded: manner.edns && !edns,
            over: false,
            silent: false,
        });
        m.out.push(Output::Ask(ask));
    }

    fn came(&mut self, attempt: Attempt, came: Came, m: &mut Moment<'_>) {
        let Some(sent) = self.sent.get_mut(attempt) else { return };
        if std::mem::replace(&mut sent.over, true) {
            return;
        }
        let sent = sent.clone();
        let servers = &m.world.servers;
        let (server, took) = (sent.ask.server, m.now.saturating_since(sent.at));
        let udp = sent.ask.transport == Transport::Udp;
        match came {
            // Over TCP there and back is gone twice.
            Came::Message(_) | Came::Unreadable => {
                servers.answered(server, if udp { took } else { took / 2 });
            }
            Came::Unreachable if udp => servers.unreachable(m.now, server),
            Came::Unreachable | Came::Forged | Came::NoSocket => {}
        }
        let errand = &mut self.errands[sent.errand];
        if errand.over || errand.round != sent.round {
            return;
        }
        let Some(at) = errand.targets.iter().position(|target| target.address == server) else {
            return;
        };
        match came {
            Came::Message(message) => self.heard(&sent, at, &message, m),
            Came::Unreadable => self.trip(sent.errand, at, Reason::Refusal, m),
            // TCP was a try, because UDP is silent: there is one more manner to try.
            Came::Unreachable if !udp && !errand.targets[at].truncates => {
                errand.blame(Reason::Network);
                self.ask_next(sent.errand, m);
            }
            Came::Unreachable | Came::NoSocket => {
                self.lose(sent.errand, at, Reason::Network, m);
            }
            Came::Forged if udp => {
                // Over TCP he would have to guess more.
                errand.targets[at].truncates = true;
                self.send(sent.errand, at, m);
            }
            Came::Forged => self.lose(sent.errand, at, Reason::Refusal, m),
        }
    }

    /// A server fell over the question. If it was shown a part of the name, the whole may do.
    fn trip(&mut self, id: ErrandId, at: usize, reason: Reason, m: &mut Moment<'_>) {
        let errand = &mut self.errands[id];
        if errand.minimiser.is_whole() {
            return self.lose(id, at, reason, m);
        }
        errand.blame(reason);
        errand.minimiser.stop();
        self.pose(id, m);
    }

    /// A server is no good for this question. If nobody else is waited for, the next is asked.
    fn lose(&mut self, id: ErrandId, at: usize, reason: Reason, m: &mut Moment<'_>) {
        let errand = &mut self.errands[id];
        errand.targets[at].over = true;
        errand.blame(reason);
        if !self.is_answer_due(id) {
            self.ask_next(id, m);
        }
    }

    /// Whether somebody was asked whose time is not over yet.
    fn is_answer_due(&self, id: ErrandId) -> bool {
        let round = self.errands[id].round;
        self.sent
            .iter()
            .any(|sent| sent.errand == id && sent.round == round && !sent.over && !sent.silent)
    }

    /// The end of an errand: the client's answer, or addresses for who waits.
    fn finish(&mut self, id: ErrandId, reply: Reply, m: &mut Moment<'_>) {
        self.abandon(id);
        let errand = &mut self.errands[id];
        errand.over = true;
        if m.world.is_traced() {
            errand.trail.push(errand.name.clone(), reply.trail.first().cloned());
        }
        let reply = errand.conclude(reply);
        match errand.parent {
            None => self.conclude(Ok(reply), m),
            Some(parent) => {
                let ips = reply.answer.iter().filter_map(scrub::address);
                let port = self.options.port;
                let found: Vec<_> = ips.map(|ip| SocketAddr::new(ip, port)).collect();
                self.learn(parent, &found, m);
            }
        }
    }

    fn fail(&mut self, id: ErrandId, reason: Reason, m: &mut Moment<'_>) {
        self.abandon(id);
        let errand = &mut self.errands[id];
        errand.over = true;
        errand.blame(reason);
        let ede: Ede = errand.reason.clone().into();
        match errand.parent {
            None => self.conclude(Err(ede), m),
            Some(parent) => {
                let life = self.options.failure_ttl;
                m.world.known.keep_failure(m.now, self.started, &errand.fetch, ede, life);
                self.learn(parent, &[], m);
            }
        }
    }

    fn conclude(&mut self, result: Result<Reply, Ede>, m: &mut Moment<'_>) {
        self.done = true;
        m.out.push(Output::Done(result));
    }

    fn fetched(&mut self, ticket: Ticket, result: Result<Reply, Ede>, m: &mut Moment<'_>) {
        let Some(&id) = self.tickets.get(ticket) else { return };
        if self.errands[id].over {
            return;
        }
        match result {
            Ok(reply) => self.finish(id, reply, m),
            Err(ede) => self.fail(id, Reason::Told(ede.code, ede.text), m),
        }
    }

    /// Nobody waits for the errands below this one any more.
    fn abandon(&mut self, id: ErrandId) {
        for child in id + 1..self.errands.len() {
            if self.errands[child].parent == Some(id) && !self.errands[child].over {
                self.errands[child].over = true;
                self.abandon(child);
            }
        }
    }
}

/// Whether a reply denies, and has no SOA to say how long that is to be believed.
fn is_bare(reply: &Reply) -> bool {
    reply.answer.is_empty() && reply.authority.iter().all(|record| record.rtype != rtype::SOA)
}

/// The name above; the root's is the root.
fn above(name: &Name) -> Name {
    let suffix = name.suffixes().nth(1);
    suffix.and_then(|wire| Name::from_wire(wire).ok()).unwrap_or_else(Name::root)
}

/// Questions sent to servers for one of a client's, all errands together. A name of ten labels
/// with servers in five other zones takes some 40.
pub const QUERIES_MAX: usize = 100;

/// Errands for one question: each server without address takes two. NXNSAttack
/// (CVE-2020-12662) is a referral to many such servers.
pub const ERRANDS_MAX: usize = 20;

/// Errands that wait for each other. Three are seen in the wild.
pub const DEPTH_MAX: usize = 4;

/// Servers whose addresses are asked for at a time.
const LOOKED_UP_AT_ONCE: usize = 2;

/// TCP takes so many times as long as a datagram, and is not tried twice.
const TCP_PATIENCE: u32 = 3;

/// How long addresses are waited for before a silent server is asked once more.
const LOOK_UP_PATIENCE: Duration = Duration::from_millis(376);

/// Referrals followed by one errand. Each leads further down.
const REFERRALS_MAX: usize = 32;

/// Addresses of one zone that one question may be put to.
const TARGETS_MAX: usize = 32;

/// Times that all servers of a remembered cut were asked before the zone above is asked anew.
const RENEWED_AFTER: u32 = 2;

#[cfg(test)]
mod tests;
