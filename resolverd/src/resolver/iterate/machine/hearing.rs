//! What a server's message does to an errand: the same server in another manner, the next one,
//! a zone further down, more of the name, or the end.
//!
//! Pure. `scrub` says what a message means; here is what follows from it.

use std::sync::Arc;

use crate::dns::{rcode, rtype};
use crate::resolver::known::is_proven;
use crate::resolver::machine::Transport;
use crate::resolver::reply::{Fetch, Reply, Speaker};
use crate::resolver::wire::Message;

use super::super::errand::{ErrandId, Reason};
use super::super::scrub::{self, Asked, Referral, Sense};
use super::{Going, Machine, Moment, Purpose, REFERRALS_MAX, Sent};

impl Machine {
    pub(super) fn heard(&mut self, sent: &Sent, at: usize, message: &Message, m: &mut Moment<'_>) {
        let (id, server) = (sent.errand, sent.ask.server);
        let servers = &m.world.servers;
        let errand = &mut self.errands[id];
        let target = &mut errand.targets[at];
        if message.truncated {
            if sent.ask.transport == Transport::Tcp {
                return self.lose(id, at, Reason::Refusal, m);
            }
            // RFC 7766 section 5.
            target.truncates = true;
            return self.send(id, at, m);
        }
        if sent.ask.scramble && !message.same_case {
            target.scramble = Some(false);
            return self.send(id, at, m);
        }
        match message.rcode {
            0 | 3 | 6 => {}
            // RFC 6891 section 7. BADVERS cannot come but for an OPT.
            1 | 4 | 16 if sent.ask.edns && (!message.edns || message.rcode == 16) => {
                target.edns = Some(false);
                return self.send(id, at, m);
            }
            code => {
                let told = message.ede.clone().map(|ede| Reason::Told(ede.code, ede.text));
                if code == 5 && errand.minimiser.is_whole() {
                    servers.lame(m.now, server, &errand.cut.zone);
                }
                return self.trip(id, at, told.unwrap_or(Reason::Refusal), m);
            }
        }
        if message.edns {
            servers.knows_edns(server);
        } else if sent.downgraded {
            servers.avoid_edns(m.now, server);
        }
        if target.scramble == Some(false) {
            servers.keep_case(m.now, server);
        }
        if self.purpose == Purpose::Prime {
            return self.prime(at, message, m);
        }
        let zone = errand.cut.zone.clone();
        let asked = Asked {
            zone: &zone,
            question: &sent.ask.question,
            harden_glue: self.options.harden_glue,
            port: self.options.port,
        };
        let speaker = Some(Speaker::of(server, &zone));
        match scrub::sense(&asked, message) {
            Sense::Referral(mut referral) => {
                referral.ds.iter_mut().for_each(|ds| ds.speaker = speaker);
                self.refer(id, referral, m);
            }
            Sense::Answer(mut reply) if errand.minimiser.is_whole() => {
                let wanted = errand.wanted();
                reply.speaker = speaker;
                reply.trail = self.trail_of(id, m);
                m.world.known.keep(m.now, self.started, &wanted, &reply);
                if self.absorb(id, &wanted, reply, m) == Going::On {
                    self.set_out(id, m);
                }
            }
            Sense::Answer(reply) => self.heard_of_part(id, Reply { speaker, ..reply }, m),
            Sense::Lame(why) => {
                if errand.minimiser.is_whole() {
                    servers.lame(m.now, server, &zone);
                }
                self.trip(id, at, Reason::Lame(why), m);
            }
            Sense::Useless(why) => self.trip(id, at, Reason::Lame(why), m),
        }
    }

    /// A part of the name is there, or is not (RFC 9156 section 3).
    fn heard_of_part(&mut self, id: ErrandId, mut reply: Reply, m: &mut Moment<'_>) {
        reply.trail = self.trail_of(id, m);
        let errand = &mut self.errands[id];
        if reply.rcode == rcode::NXDOMAIN && reply.answer.is_empty() && is_proven(&reply) {
            // RFC 8020: nothing is below it.
            let question = errand.question.clone();
            m.world.known.keep(m.now, self.started, &question, &reply);
            return self.finish(id, reply, m);
        }
        if reply.rcode == rcode::NOERROR {
            errand.minimiser.reveal();
        } else {
            errand.minimiser.stop();
        }
        self.pose(id, m);
    }

    fn refer(&mut self, id: ErrandId, referral: Referral, m: &mut Moment<'_>) {
        let Referral { mut cut, life, ds } = referral;
        if m.world.is_traced() {
            cut = cut.below(Arc::clone(&self.errands[id].cut));
        }
        let cut = Arc::new(cut);
        m.world.delegations.keep(m.now, self.started, &cut, life);
        if let Some(mut ds) = ds {
            ds.trail = self.trail_of(id, m);
            let fetch = Fetch { name: cut.zone.clone(), qtype: rtype::DS };
            m.world.known.keep(m.now, self.started, &fetch, &ds);
        }
        let errand = &mut self.errands[id];
        errand.referrals += 1;
        if errand.referrals > REFERRALS_MAX {
            return self.fail(id, Reason::Bound("it takes too many referrals"), m);
        }
        self.enter(id, cut, false, m);
    }

    fn prime(&mut self, at: usize, message: &Message, m: &mut Moment<'_>) {
        let own = message.authoritative && message.rcode == 0;
        let Some((cut, life)) = scrub::primed(message, self.options.port).filter(|_| own) else {
            return self.lose(0, at, Reason::Lame("it does not describe the root"), m);
        };
        m.world.delegations.keep(m.now, self.started, &Arc::new(cut), life);
        let answer = message.answer.clone();
        self.finish(0, Reply { answer, authoritative: true, ..Reply::default() }, m);
    }
}
