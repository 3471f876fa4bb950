//! What policy says on the way of a query, and how it changes while the daemon runs.
//!
//! A change raises the kernel's epoch before the new policy answers its first query, and once
//! more when all see it: an answer that was published between is stale too. In the daemon an
//! entry is judged by the new policy when it is next asked for.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resolverd_common::question::HEADER_LEN;
use resolverd_common::reply::question_len;
use tracing::debug;

use super::bench::Bench;
use super::chase::Noted;
use super::{
    Begun, Call, Client, Pending, Pipeline, Policy, Shared, Transport, answered_by, whole,
};
use crate::cache::Scope;
use crate::clock::boot_now;
use crate::dns::{Answer, Query, Source, Trail, rcode};
use crate::metrics::{Dropped, PolicyRule};
use crate::policy::rpz::{self, Action, Feeds, Hit, Rpz};
use crate::policy::{Rule, Ruling, Said, ViewId, Way};

/// Clients of whom a policy zone knows, and their questions: answered beside the cache.
#[derive(Debug)]
pub enum Apart {
    /// As it is: no policy zone concerns this.
    Exempt,
    /// By these words.
    Said(Said),
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Answer),
    Drop,
    /// Over datagrams; who asks over a stream is exempt from the rule.
    Truncate,
}

impl Pipeline {
    /// Takes over new rules. Answers in daemon and kernel are judged anew.
    pub fn reconfigure(&self, policy: Policy) {
        let shared = &self.shared;
        let new = Arc::new(policy);
        let old = shared.policy.load();
        if old.digest == new.digest {
            // Nothing of it is in any answer.
            shared.policy.store(new);
            return;
        }
        shared.fast.raise_epoch();
        let remade = old.answers != new.answers;
        shared.policy.store(new);
        self.judge_anew(remade);
    }

    /// Who hears notifications of primaries from now on.
    pub fn take_feeds(&self, feeds: Arc<Feeds>) {
        self.shared.feeds.store(Some(feeds));
    }

    /// Takes over policy zones that say the same as those before.
    pub fn keep_rpz(&self, rpz: Arc<Rpz>) {
        self.shared.take_rpz(rpz, || {});
    }

    /// Takes over what feeds say now.
    pub fn take_rpz(&self, rpz: Arc<Rpz>) {
        self.shared.fast.raise_epoch();
        self.shared.take_rpz(rpz, || self.judge_anew(false));
    }

    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.policy.load_full()
    }

    #[must_use]
    pub fn rpz(&self) -> Arc<Rpz> {
        self.shared.rpz.load_full()
    }

    /// `remade`: answers of upstreams are made into others than before.
    fn judge_anew(&self, remade: bool) {
        let Shared { cache, fast, .. } = &*self.shared;
        if remade {
            cache.flush(&Scope::All, || boot_now().0);
        }
        cache.judge_anew(|| boot_now().0);
        fast.raise_epoch();
    }
}

impl Shared {
    /// Takes over policy zones, and has answers judged anew by `judge_anew`.
    fn take_rpz(&self, rpz: Arc<Rpz>, judge_anew: impl FnOnce()) {
        self.resolver.trace(rpz.judges_servers());
        let alike = rpz.judges_servers_like(&self.rpz.load());
        // Until it is clear which answers are still kept that were looked for before: none holds.
        if !alike {
            self.servers_judged_from.store(u64::MAX, Ordering::Release);
        }
        self.rpz.store(rpz);
        judge_anew();
        if !alike {
            self.servers_judged_from.store(boot_now().0, Ordering::Release);
        }
    }

    /// Hears a notification, and answers it. False: it is none for us.
    pub(super) fn heard(&self, client: &Client, message: &[u8], out: &mut Vec<u8>) -> bool {
        let feeds = self.feeds.load();
        let reply = feeds.as_ref().and_then(|feeds| feeds.heard(message, client.addr.ip()));
        reply.is_some_and(|reply| {
            out.extend_from_slice(&reply);
            true
        })
    }

    /// The question of a client of whom a policy zone knows.
    pub(super) fn begin_apart(
        &self,
        bench: &mut Bench,
        call: &Call<'_>,
        query: Query,
        apart: Apart,
        out: &mut Vec<u8>,
    ) -> Begun<Pending> {
        match apart {
            Apart::Said(Said::Answer(answer)) => {
                let question = bench.question;
                self.say(bench, call, &question, &query, &answer, out);
                self.count(call, answered_by(&answer.source), out);
                Begun::Reply
            }
            Apart::Said(Said::Drop) => self.drop_it(),
            Apart::Said(Said::Truncate) if !call.limits.stream => self.truncate(call, out),
            Apart::Said(Said::Truncate) => self.pending(bench, call, query, Some(Apart::Exempt)),
            apart => self.pending(bench, call, query, Some(apart)),
        }
    }

    pub(super) fn pending(
        &self,
        bench: &Bench,
        call: &Call<'_>,
        query: Query,
        apart: Option<Apart>,
    ) -> Begun<Pending> {
        let question = bench.question;
        let message = call.message[..HEADER_LEN + question_len(question.name_len)].into();
        let Call { transport, started, from, .. } = *call;
        let octets_max = call.limits.message_max;
        let apart = apart.map(Box::new);
        let told = None;
        Begun::Pending(Pending {
            question,
            query,
            message,
            transport,
            octets_max,
            started,
            from,
            told,
            apart,
        })
    }

    /// Nobody answers.
    pub(super) fn drop_it(&self) -> Begun<Pending> {
        self.metrics.packets_dropped(Dropped::Policy).inc();
        Begun::Drop
    }

    /// "Ask again over a stream": no records, and TC.
    pub(super) fn truncate(&self, call: &Call<'_>, out: &mut Vec<u8>) -> Begun<Pending> {
        let begun = self.refuse(call, &whole::glance(call.message).with(rcode::NOERROR), out);
        if let Some(octet) = out.get_mut(2) {
            *octet |= 0x02;
        }
        begun
    }

    /// What is known of a question before anybody is asked.
    pub(super) fn decide(
        &self,
        policy: &Policy,
        rpz: &Rpz,
        query: &Query,
        noted: Noted,
    ) -> Option<Said> {
        if let Some(ruling) = policy.rules.local(query) {
            if noted == Noted::No {
                self.note(&ruling, query);
            }
            return Some(ruling.said);
        }
        self.by_feeds(rpz, query, None, noted)
    }

    /// What policy zones say of a question; of all of them, or of those before `before`.
    fn by_feeds(
        &self,
        rpz: &Rpz,
        query: &Query,
        before: Option<&Hit>,
        noted: Noted,
    ) -> Option<Said> {
        if rpz.is_empty() {
            return None;
        }
        let view = ViewId(query.view);
        let mut note = |hit: &Hit| {
            if noted == Noted::No {
                self.note_hit(hit, query);
            }
        };
        let hit = rpz.question(view, &query.name, before, &mut note)?;
        rpz.carry_out(&hit, query, &query.name, Vec::new())
    }

    /// What a rule for the client itself makes of his question. None: there is none.
    pub(super) fn apart(
        &self,
        policy: &Policy,
        rpz: &Rpz,
        client: IpAddr,
        query: &Query,
    ) -> Option<Apart> {
        let view = ViewId(query.view);
        let hit = rpz.client(view, client, &mut |hit| self.note_hit(hit, query))?;
        if hit.action == Action::Passthru {
            let said = policy.rules.local(query).map(|ruling| {
                self.note(&ruling, query);
                ruling.said
            });
            let said = said.or_else(|| self.by_feeds(rpz, query, Some(&hit), Noted::No));
            return Some(said.map_or(Apart::Exempt, Apart::Said));
        }
        let earlier = self.by_feeds(rpz, query, Some(&hit), Noted::No);
        let said = earlier.or_else(|| rpz.carry_out(&hit, query, &query.name, Vec::new()));
        said.map(Apart::Said)
    }

    /// What is to become of an upstream's answer. None: it stands.
    pub(super) fn review(
        &self,
        policy: &Policy,
        rpz: &Rpz,
        query: &Query,
        answer: &Answer,
    ) -> Option<Said> {
        let screened = policy.rules.rebinding.screen(query, answer).unwrap_or_else(|error| {
            debug!(%error, "an answer cannot be read again");
            None
        });
        if screened.is_some() {
            self.metrics.policy_answers(PolicyRule::Rebinding).inc();
            debug!(name = %query.name, "private addresses taken out of an answer");
        }
        // What is left of it is judged like any.
        let said = self.by_answer(rpz, query, screened.as_ref().unwrap_or(answer), &answer.trail);
        said.or(screened.map(Said::Answer))
    }

    /// What policy zones say of an upstream's answer.
    fn by_answer(&self, rpz: &Rpz, query: &Query, answer: &Answer, trail: &Trail) -> Option<Said> {
        if rpz.is_empty() {
            return None;
        }
        let sections = answer.sections(&query.name).ok()?;
        let mut note = |hit: &Hit| self.note_hit(hit, query);
        let view = ViewId(query.view);
        let (n, hit) = rpz.answer(view, &query.name, &sections, trail, &mut note)?;
        let (name, way) = rpz::way(&query.name, &sections.answer, n);
        rpz.carry_out(&hit, query, &name, way)
    }

    /// Whether an answer of others that is in the cache since `stored_at` is what the policy of
    /// now makes of it.
    pub(super) fn still_holds(
        &self,
        query: &Query,
        stored_at: u64,
        answer: impl FnOnce() -> Option<Answer>,
    ) -> bool {
        let (policy, rpz) = (self.policy.load(), self.rpz.load());
        if policy.rules.local(query).is_some() {
            return false;
        }
        if rpz.is_empty() {
            return true;
        }
        // Whose servers led to it is not kept with it: the resolver finds that out anew.
        if rpz.judges_servers() && stored_at <= self.servers_judged_from.load(Ordering::Acquire) {
            return false;
        }
        let view = ViewId(query.view);
        let changes = |hit: Hit| hit.action != Action::Passthru;
        let asked = rpz.question(view, &query.name, None, &mut |_| {});
        if asked.is_some_and(changes) {
            return false;
        }
        let sections = answer().and_then(|answer| answer.sections(&query.name).ok());
        sections.is_some_and(|sections| {
            let none = Trail::default();
            let hit = rpz.answer(view, &query.name, &sections, &none, &mut |_| {});
            !hit.is_some_and(|(_, hit)| changes(hit))
        })
    }

    fn note(&self, ruling: &Ruling, query: &Query) {
        self.metrics.policy_answers(ruling.rule.label()).inc();
        if ruling.log {
            debug!(name = %query.name, qtype = query.qtype, rule = %ruling.rule, "by a local zone");
        }
    }

    fn note_hit(&self, hit: &Hit, query: &Query) {
        self.metrics.policy_answers(Rule::Rpz(hit.clone()).label()).inc();
        if hit.log {
            debug!(name = %query.name, qtype = query.qtype, rule = %hit, "by a policy zone");
        }
    }
}

pub(super) fn failure() -> Answer {
    Answer {
        source: Source::Daemon,
        ..Answer::empty(rcode::SERVFAIL, std::time::Duration::ZERO, None)
    }
}

impl Client {
    /// How it came, in the words of policy.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.transport.way()
    }
}

impl Transport {
    #[must_use]
    pub const fn way(self) -> Way {
        match self {
            Self::Udp => Way::Udp,
            Self::Tcp => Way::Tcp,
            Self::Tls => Way::Tls,
            Self::Https => Way::Https,
            Self::Quic => Way::Quic,
            Self::H3 => Way::H3,
        }
    }
}
