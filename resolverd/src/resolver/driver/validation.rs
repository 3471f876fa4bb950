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
use crate::metrics::{DnssecVerdict, OthersAsked};
use crate::resolver::Settings;
use crate::resolver::dnssec::aggressive::Synthesised;
use crate::resolver::dnssec::driver::{Judgement, Policy};
use crate::resolver::dnssec::machine::Blame;
use crate::resolver::dnssec::rrset::bound_ttls;
use crate::resolver::dnssec::zones::BOGUS_LIFE;
use crate::resolver::dnssec::{Failure, Reason, Verdict, ede};
use crate::resolver::known::Found;
use crate::resolver::machine::Told;
use crate::resolver::reply::{Fetch, Reply, Speaker};

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
        let mut others = OTHERS_ASKED_MAX;
        let mut told_before = None;
        loop {
            let (told, judgement) =
                match self.ask_and_judge(query, settings, policy, deadline).await {
                    Ok(done) => done,
                    // What was false is worth more than nothing: it has a reason.
                    Err(ede) => {
                        return match told_before {
                            Some(failure) => bogus(failure, settings),
                            None => self.answer(query, settings, Err(ede)),
                        };
                    }
                };
            if let Verdict::Bogus(failure) = &judgement.verdict
                && !failure.passing
            {
                debug!(name = %question.name, qtype = question.qtype, %failure.text, "bogus");
                let doubted = self.doubt(&question, &told.reply, &judgement);
                self.forget(&question, &told.reply, &judgement.fetched);
                if doubted && others > 0 && Instant::now() < deadline {
                    others -= 1;
                    if let Blame::Keys(zone) = &judgement.blame {
                        self.validator.pardon(zone);
                    }
                    told_before = Some(failure.clone());
                    continue;
                }
            }
            if told_before.is_some() {
                let mended = !matches!(judgement.verdict, Verdict::Bogus(_));
                let outcome = if mended { OthersAsked::Mended } else { OthersAsked::Bogus };
                self.metrics.dnssec_others_asked(outcome).inc();
            }
            self.metrics.dnssec_verdicts(counted(&judgement.verdict)).inc();
            return self.answer_judged(query, settings, policy, told, judgement);
        }
    }

    /// What comes of a question, and what validation says of it.
    async fn ask_and_judge(
        self: &Arc<Self>,
        query: &Arc<Query>,
        settings: &Arc<Settings>,
        policy: &Policy,
        deadline: Instant,
    ) -> Result<(Told, Judgement), Ede> {
        let question = Fetch { name: query.name.clone(), qtype: query.qtype };
        // RFC 6840 section 5.9: asked with CD, for we judge by ourselves.
        let asked = Query { dnssec_ok: true, checking_disabled: true, ..(**query).clone() };
        let Told { reply, upstream } = self.ask(&Arc::new(asked), settings).await?;
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
        Ok((Told { reply: Arc::unwrap_or_clone(reply), upstream }, judgement))
    }

    fn answer_judged(
        &self,
        query: &Query,
        settings: &Settings,
        policy: &Policy,
        told: Told,
        judgement: Judgement,
    ) -> Answer {
        let Told { mut reply, upstream } = told;
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
            Verdict::Bogus(failure) => bogus(failure, settings),
        }
    }

    /// Puts who said what is bogus behind the other servers of its zone, so that the next who is
    /// asked is another (RFC 4035 section 4.7 has us ask briefly, and not give up at one). True:
    /// there is somebody who was not doubted before, and it is worth asking anew.
    fn doubt(&self, question: &Fetch, reply: &Reply, judgement: &Judgement) -> bool {
        let world = self.recursor.world();
        let now = boot_now();
        let said = |fetch: &Fetch| match world.known.find(now, fetch) {
            Some(Found::Reply(reply)) => reply.speaker.map(|speaker| (speaker, fetch.name.clone())),
            _ => None,
        };
        let speakers: Vec<(Speaker, Name)> = match &judgement.blame {
            Blame::Known => return false,
            Blame::Keys(zone) => {
                let of = |qtype| Fetch { name: zone.clone(), qtype };
                [rtype::DNSKEY, rtype::DS].map(of).iter().filter_map(said).collect()
            }
            Blame::Reply => {
                let ends: Vec<Name> = reply.answer.iter().filter_map(Record::target).collect();
                let last = ends.last().unwrap_or(&question.name).clone();
                let hop = |name| Fetch { name, qtype: question.qtype };
                let hops = ends.into_iter().map(hop).chain([question.clone()]);
                let known = hops.filter_map(|hop| said(&hop));
                // What may not be kept is not known there.
                known.chain(reply.speaker.map(|speaker| (speaker, last))).collect()
            }
        };
        let doubt = |(speaker, name): (Speaker, Name)| {
            let zone = speaker.zone(&name);
            zone.is_some_and(|zone| world.servers.doubt(now, speaker.server, &zone))
        };
        speakers.into_iter().map(doubt).fold(false, |news, new| news | new)
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

/// How often other servers are asked for what was bogus, for one question. A zone of which two
/// servers are broken in the same way is rare, and each time costs its operator and us the same.
const OTHERS_ASKED_MAX: u32 = 2;

/// The upstream of answers that were made of denials known before.
const SYNTHESISED: &str = "denials";

/// Of an extended error's text; the cache keeps no more.
const TEXT_OCTETS_MAX: usize = 256;

#[cfg(test)]
mod tests;
