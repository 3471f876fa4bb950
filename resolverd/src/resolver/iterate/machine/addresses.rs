//! Addresses of servers that no referral brought: errands for them, within bounds.
//!
//! Pure. A referral to many servers without address has a resolver ask for each of them
//! (NXNSAttack); and servers whose addresses are in each other's zones have it go round for ever.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::dns::{Name, rtype};
use crate::resolver::known::Found;
use crate::resolver::reply::Fetch;

use super::super::Options;
use super::super::errand::{Errand, ErrandId, Reason};
use super::super::scrub;
use super::super::targets::Target;
use super::{
    DEPTH_MAX, ERRANDS_MAX, LOOK_UP_PATIENCE, LOOKED_UP_AT_ONCE, Machine, Moment, TARGETS_MAX,
};

impl Machine {
    /// Sends out errands for addresses of servers that have none yet. `again`: somebody could
    /// also be asked once more.
    pub(super) fn look_up(&mut self, id: ErrandId, again: bool, m: &mut Moment<'_>) -> bool {
        if self.errands[id].depth >= DEPTH_MAX || self.has_children(id) {
            return false;
        }
        let mut sent_out = Vec::new();
        let mut names = 0;
        while names < LOOKED_UP_AT_ONCE {
            let Some(name) = self.errands[id].nameless.pop() else { break };
            let families = [(self.options.ipv4, rtype::A), (self.options.ipv6, rtype::AAAA)];
            for (_, qtype) in families.into_iter().filter(|(enabled, _)| *enabled) {
                let fetch = Fetch { name: name.clone(), qtype };
                if self.errands.len() < ERRANDS_MAX && !self.is_wanted_above(id, &name) {
                    let parent = Some((id, self.errands[id].depth));
                    sent_out.push(self.errands.len());
                    self.errands.push(Errand::new(fetch, parent, self.options.minimise));
                }
            }
            names += 1;
        }
        if sent_out.is_empty() {
            return false;
        }
        self.errands[id].wake = again.then(|| m.now + LOOK_UP_PATIENCE);
        for child in sent_out {
            // One that was answered out of memory may have ended all.
            if !self.done && !self.errands[child].over {
                self.set_out(child, m);
            }
        }
        true
    }

    /// Whether an errand, or one that waits for it, is for an address of this server already: it
    /// would wait for itself.
    fn is_wanted_above(&self, id: ErrandId, server: &Name) -> bool {
        let mut at = Some(id);
        while let Some(id) = at {
            let Fetch { name, qtype } = &self.errands[id].fetch;
            if name == server && matches!(*qtype, rtype::A | rtype::AAAA) {
                return true;
            }
            at = self.errands[id].parent;
        }
        false
    }

    /// An errand for addresses came back, with some or with none.
    pub(super) fn learn(&mut self, id: ErrandId, found: &[SocketAddr], m: &mut Moment<'_>) {
        let options = Arc::clone(&self.options);
        let errand = &mut self.errands[id];
        if errand.over {
            return;
        }
        if m.world.is_traced() {
            errand.cut.note_found(found.iter().map(SocketAddr::ip));
        }
        let added = add_targets(errand, found, &options);
        if added == 0 {
            errand.blame(Reason::NoAddress);
        }
        let pending = added == 0 && self.has_children(id);
        if !pending && !self.is_answer_due(id) {
            self.ask_next(id, m);
        }
    }
}

/// Adds what may be asked and is not there yet; says how many.
pub(super) fn add_targets(
    errand: &mut Errand,
    addresses: &[SocketAddr],
    options: &Options,
) -> usize {
    let before = errand.targets.len();
    for &address in addresses {
        let new = errand.targets.iter().all(|target| target.address != address);
        if new && errand.targets.len() < TARGETS_MAX && options.may_ask(address) {
            errand.targets.push(Target::new(address));
        }
    }
    errand.targets.len() - before
}

/// Addresses of a server that were asked for before.
pub(super) fn remembered_addresses(name: &Name, port: u16, m: &Moment<'_>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for qtype in [rtype::A, rtype::AAAA] {
        let fetch = Fetch { name: name.clone(), qtype };
        if let Some(Found::Reply(reply)) = m.world.known.find(m.now, &fetch) {
            let ips = reply.answer.iter().filter_map(scrub::address);
            addresses.extend(ips.map(|ip| SocketAddr::new(ip, port)));
        }
    }
    addresses
}
