//! Where validation joins a flight: between the reply that came and the answer of one client.
//!
//! Starts no task: what validation fetches is fetched in the flight's, and ends with it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::clock::boot_now;
use crate::dns::records::Record;
use crate::dns::{Answer, Ede, Name, Query, Trail, rcode, rtype};
use crate::metrics::DnssecVerdict;
use crate::resolver::Settings;
use crate::resolver::dnssec::aggressive::Synthesised;
use crate::resolver::dnssec::driver::{Judgement, Policy};
use crate::resolver::dnssec::rrset::bound_ttls;
use crate::resolver::dnssec::zones::BOGUS_LIFE;
use crate::resolver::dnssec::{Failure, Reason, Verdict, ede};
use crate::resolver::machine::Told;
use crate::resolver::reply::{Fetch, Reply};

use super::Shared;

impl Shared {
    /// What validation goes by, if the answer to this query is to be validated. A client that sets
    /// CD wants what came (RFC 6840 section 5.9).
    pub(super) fn policy_for(&self, query: &Query, settings: &Settings) -> Option<Arc<Policy>> {
        let policy = settings.dnssec.as_ref().filter(|_| !query.checking_disabled)?;
        self.is_validated(&query.name, policy, settings).then(|| Arc::clone(policy))
    }

    pub(in crate::resolver) fn validates(&self, name: &Name) -> bool {
        let settings = self.settings.load();
        settings.dnssec.as_ref().is_some_and(|policy| self.is_validated(name, policy, &settings))
    }

    fn is_validated(&self, name: &Name, policy: &Policy, settings: &Settings) -> bool {
        policy.forwarded || !self.is_forwarded(name, settings)
    }

    /// One question, with what came of it validated.
    pub(super) async fn fly_validated(
        self: &Arc<Self>,
        query: &Arc<Query>,
        settings: &Arc<Settings>,
        policy: &Policy,
    ) -> Answer {
        let deadline = Instant::now() + settings.timeout;
        let question = Fetch { name: query.name.clone(), qtype: query.qtype };
        if let Some(mut made) = self.validator.synthesise(policy, &question)
            && self.retrace(query, settings, &mut made.reply)
        {
            return self.answer_made(query, settings, made);
        }
        // RFC 6840 section 5.9: asked with CD, for we judge by ourselves.
        let asked = Query { dnssec_ok: true, checking_disabled: true, ..(**query).clone() };
        let Told { reply, upstream } = match self.ask(&Arc::new(asked), settings).await {
            Ok(told) => told,
            Err(ede) => return self.answer(query, settings, Err(ede)),
        };
        let reply = Arc::new(reply);
        let shared = Arc::clone(self);
        let ask = move |fetch: Fetch| {
            let shared = Arc::clone(&shared);
            async move { shared.fetch(fetch).await }.boxed()
        };
        let judging = self.validator.judge(policy, &question, &reply, &ask);
        let judgement = timeout_at(deadline, judging).await.unwrap_or_else(|_| {
            let text = format!("validation of {} took too long", question.name);
            Judgement::of(Verdict::Bogus(Failure::passing(ede::NO_REACHABLE_AUTHORITY, text)))
        });
        self.metrics.dnssec_verdicts(counted(&judgement.verdict)).inc();
        let mut reply = Arc::unwrap_or_clone(reply);
        match judgement.verdict {
            Verdict::Secure { ttl } => {
                reply.authority.retain(|record| judgement.rests_on(record));
                bound_ttls(&mut reply.answer, policy.now());
                bound_ttls(&mut reply.authority, policy.now());
                let signed_for = signed_for(&reply, policy.now());
                let answer = self.answer(query, settings, Ok(Told { reply, upstream }));
                secure(answer, ttl, signed_for)
            }
            Verdict::Insecure(reason) => {
                let answer = self.answer(query, settings, Ok(Told { reply, upstream }));
                Answer { ede: answer.ede.clone().or_else(|| told_of(&reason)), ..answer }
            }
            Verdict::Indeterminate => self.answer(query, settings, Ok(Told { reply, upstream })),
            Verdict::Bogus(failure) => {
                debug!(name = %question.name, qtype = question.qtype, %failure.text, "bogus");
                if !failure.passing {
                    self.forget(&question, &reply, &judgement.fetched);
                }
                bogus(failure, settings)
            }
        }
    }

    /// Finds the trail of a denial that was made here: the servers of its zone. False: it is not
    /// known any more, and somebody wants it.
    fn retrace(&self, query: &Query, settings: &Settings, made: &mut Reply) -> bool {
        let world = self.recursor.world();
        if !world.is_traced() || self.is_forwarded(&query.name, settings) {
            return true;
        }
        let soa = made.authority.iter().find(|record| record.rtype == rtype::SOA);
        let cut = soa.and_then(|soa| world.delegations.of(boot_now(), &soa.owner));
        cut.is_some_and(|cut| {
            made.trail = Trail::of(query.name.clone(), cut);
            true
        })
    }

    /// A denial that follows from others (RFC 8198).
    fn answer_made(&self, query: &Query, settings: &Settings, made: Synthesised) -> Answer {
        self.metrics.dnssec_synthesised.inc();
        let told = Told { reply: made.reply, upstream: SYNTHESISED.into() };
        // It can be made again for as long as what it is made of holds.
        secure(self.answer(query, settings, Ok(told)), made.ttl, None)
    }

    /// What is bogus is asked for anew by who asks next: the zone may have been mended.
    fn forget(&self, question: &Fetch, reply: &Reply, fetched: &[Fetch]) {
        let known = &self.recursor.world().known;
        let owners = reply
            .answer
            .iter()
            .map(|record| Fetch { name: record.owner.clone(), qtype: record.rtype });
        let ends = reply.answer.iter().filter_map(Record::target);
        let ends = ends.map(|name| Fetch { name, qtype: question.qtype });
        for fetch in owners.chain(ends).chain(fetched.iter().cloned()) {
            known.forget(&fetch);
        }
        known.forget(question);
    }
}

/// AD for who asks for it, no longer than what was validated holds.
fn secure(answer: Answer, ttl: u32, signed_for: Option<Duration>) -> Answer {
    let secure = matches!(answer.rcode, rcode::NOERROR | rcode::NXDOMAIN);
    let life = answer.life.min(Duration::from_secs(ttl.into()));
    Answer { secure, life, signed_for, ..answer }
}

/// How long from the second `now` on all signatures of a reply hold that was found secure. RFC
/// 4034 section 3.1.5: serial numbers.
fn signed_for(reply: &Reply, now: u64) -> Option<Duration> {
    let records = reply.answer.iter().chain(&reply.authority);
    let left = records.filter_map(Record::signature).map(|(_, expires)| {
        let left = expires.wrapping_sub(now as u32).cast_signed();
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    });
    left.min()
}

fn bogus(failure: Failure, settings: &Settings) -> Answer {
    // RFC 4035 section 4.7: briefly, for its operator may be mending it.
    let life = match failure.passing {
        true => settings.failure_ttl,
        false => Duration::from_secs(BOGUS_LIFE.into()),
    };
    let mut text = failure.text;
    // Names may hold anything, and are escaped to ASCII.
    text.truncate(text.floor_char_boundary(TEXT_OCTETS_MAX));
    Answer::empty(rcode::SERVFAIL, life, Some(Ede { code: failure.code, text }))
}

/// What a client is told of an answer that is insecure for a reason that somebody should mend.
/// Without text, so that the kernel can answer it.
fn told_of(reason: &Reason) -> Option<Ede> {
    let code = match reason {
        Reason::Delegation(_, Some(failure)) => failure.code,
        Reason::Iterations(_) => ede::UNSUPPORTED_ITERATIONS,
        _ => return None,
    };
    Some(Ede { code, text: String::new() })
}

fn counted(verdict: &Verdict) -> DnssecVerdict {
    match verdict {
        Verdict::Secure { .. } => DnssecVerdict::Secure,
        Verdict::Insecure(_) => DnssecVerdict::Insecure,
        Verdict::Bogus(failure) if failure.passing => DnssecVerdict::Unknown,
        Verdict::Bogus(_) => DnssecVerdict::Bogus,
        Verdict::Indeterminate => DnssecVerdict::Indeterminate,
    }
}

/// The upstream of answers that were made of denials known before.
const SYNTHESISED: &str = "denials";

/// Of an extended error's text; the cache keeps no more.
const TEXT_OCTETS_MAX: usize = 256;

#[cfg(test)]
mod tests;
