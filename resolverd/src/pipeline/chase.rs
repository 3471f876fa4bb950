//! Looks for an answer outside of the cache: what policy says, what the resolver finds, and
//! where an alias leads from one to the other.
//!
//! Each step is one name. Policy says what it has to say of it, before it is asked for and when
//! it is answered; an alias that policy makes is the beginning of an answer, and the next step is
//! its target.

use std::sync::Arc;
use std::time::Duration;

use resolverd_common::entry::Head;
use resolverd_common::key::Key;
use tracing::debug;

use super::bench::BENCH;
use super::policy::{Outcome, failure};
use super::under_way::Began;
use super::{Policy, Shared};
use crate::cache::Held;
use crate::clock::boot_now;
use crate::dns::{Answer, Ede, Query, rcode};
use crate::metrics::PolicyRule;
use crate::policy::local_zones::CHAIN_MAX;
use crate::policy::{Alias, Rpz, Said, ViewId};

/// Whether what policy says of a question was counted and told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    No,
    Yes,
}

/// On whose behalf a name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrutiny {
    Full,
    /// For clients that a rule exempts from policy zones.
    Exempt,
}

impl Shared {
    /// Looks for an answer outside of the cache, and keeps it.
    pub(super) async fn look_up(&self, key: Key, query: &Query, noted: Noted) -> Outcome {
        let waiting = self.under_way.join(key, self.fast.mark(), || boot_now().0);
        let began = waiting.began;
        let outcome = self.find_out(query, None, Scrutiny::Full, noted, began).await;
        if let Outcome::Answer(answer) = &outcome
            && waiting.keeps()
        {
            self.keep_apart(key, query, answer, began);
        }
        outcome
    }

    /// The same for a client whose answers are for nobody else: nothing of it is kept under the
    /// question.
    pub(super) async fn look_up_apart(&self, query: &Query, said: Option<Said>) -> Outcome {
        let began = Began { at: boot_now().0, mark: self.fast.mark() };
        self.find_out(query, said, Scrutiny::Exempt, Noted::Yes, began).await
    }

    /// `said`: what policy said of the question already.
    async fn find_out(
        &self,
        query: &Query,
        said: Option<Said>,
        scrutiny: Scrutiny,
        noted: Noted,
        began: Began,
    ) -> Outcome {
        let policy = self.policy.load_full();
        let rpz = match scrutiny {
            Scrutiny::Full => self.rpz.load_full(),
            Scrutiny::Exempt => Arc::default(),
        };
        let mut way: Option<Alias> = None;
        let mut at = query.clone();
        let mut said = said.or_else(|| self.decide(&policy, &rpz, &at, noted));
        for _ in 0..=CHAIN_MAX {
            if scrutiny == Scrutiny::Exempt && said == Some(Said::Truncate) {
                said = None;
            }
            let said_now = match said.take() {
                Some(said) => said,
                None => {
                    let apart = way.is_some() || scrutiny == Scrutiny::Exempt;
                    self.ask(&policy, &rpz, &at, scrutiny, apart, began).await
                }
            };
            let next = match said_now {
                Said::Answer(answer) => return Outcome::Answer(answer).behind(way, query),
                Said::Drop => return Outcome::Drop,
                Said::Truncate => return Outcome::Truncate,
                Said::Alias(next) => next,
            };
            at.name = next.target.clone();
            match &mut way {
                Some(way) => way.lengthen(next),
                None => way = Some(next),
            }
            said = self.decide(&policy, &rpz, &at, Noted::No);
        }
        debug!(name = %query.name, "aliases of policy lead round");
        let text = "local aliases have no end".to_owned();
        let ede = Some(Ede { code: EDE_OTHER, text });
        Outcome::Answer(Answer::empty(rcode::SERVFAIL, LOOP_LIFE, ede))
    }

    /// Asks the resolver, and policy about what it found. `apart`: this is not the question
    /// itself, so that the cache was not asked for it, and keeps it from here.
    async fn ask(
        &self,
        policy: &Policy,
        rpz: &Rpz,
        query: &Query,
        scrutiny: Scrutiny,
        apart: bool,
        began: Began,
    ) -> Said {
        let view = match scrutiny {
            Scrutiny::Full => query.view,
            Scrutiny::Exempt => ViewId::EXEMPT.0,
        };
        let kept_as = Query { view, ..query.clone() };
        if apart && let Some(answer) = self.known(&kept_as) {
            return Said::Answer(answer);
        }
        let mut said = self.resolve(policy, rpz, query).await;
        if let (Some(dns64), Said::Answer(aaaa)) = (&policy.rules.dns64, &said)
            && let Ok(Some(a)) = dns64.needs(query, aaaa)
        {
            let kept_as = Query { view, ..a.clone() };
            let found = match self.known(&kept_as) {
                Some(answer) => Said::Answer(answer),
                None => {
                    let found = self.resolve(policy, rpz, &a).await;
                    if let Said::Answer(answer) = &found {
                        self.keep_apart(self.key(&kept_as).0, &kept_as, answer, began);
                    }
                    found
                }
            };
            match found {
                Said::Answer(found) => match dns64.synthesise(query, aaaa, found) {
                    Ok(Some(made)) => {
                        self.metrics.policy_answers(PolicyRule::Dns64).inc();
                        said = Said::Answer(made);
                    }
                    Ok(None) => {}
                    Err(error) => debug!(%error, "no IPv6 addresses could be made"),
                },
                // A rule about the addresses is one about what is made of them.
                ruled => said = ruled,
            }
        }
        if let Said::Answer(answer) = &said
            && apart
        {
            self.keep_apart(self.key(&kept_as).0, &kept_as, answer, began);
        }
        said
    }

    /// What others say, and what is to become of it.
    async fn resolve(&self, policy: &Policy, rpz: &Rpz, query: &Query) -> Said {
        // Who asks is nobody's business: clients of all views share what is under way.
        let asked = Query { view: ViewId::EVERYBODY.0, ..query.clone() };
        let answer = self.resolver.resolve(asked).await;
        self.review(policy, rpz, query, &answer).unwrap_or(Said::Answer(answer))
    }

    /// A good answer that is in the cache.
    fn known(&self, query: &Query) -> Option<Answer> {
        let (key, meta, name) = self.key(query);
        let now = boot_now().0;
        let judge = |held: &Held, head: &Head| self.passes(query, held, head, now);
        let hit = self.cache.find_judged(key, meta, &name, now, judge)?;
        self.cache.answer(&hit.held, &hit.head, &query.name, now)
    }

    /// Whether the policy of now would have made of a question what an entry says.
    pub(super) fn passes(&self, query: &Query, held: &Held, head: &Head, now: u64) -> bool {
        let answer = || self.cache.answer(held, head, &query.name, now);
        !self.cache.is_made_here(head) && self.still_holds(query, head.stored_at, answer)
    }

    fn keep_apart(&self, key: Key, query: &Query, answer: &Answer, began: Began) {
        let now = boot_now().0;
        BENCH.with_borrow_mut(|bench| {
            if self.cache.build(query, answer, now, &mut bench.words).is_ok() {
                self.keep(bench, key, answer, began, now);
            }
        });
    }
}

impl Outcome {
    /// The whole answer of an alias and what is known of its target.
    fn behind(self, way: Option<Alias>, query: &Query) -> Self {
        match (self, way) {
            (Self::Answer(answer), Some(alias)) => {
                let whole = alias.complete(&query.name, answer);
                Self::Answer(whole.unwrap_or_else(|error| {
                    debug!(%error, "an alias and its answer make no message");
                    failure()
                }))
            }
            (outcome, _) => outcome,
        }
    }
}

/// A loop of aliases is a slip of the operator's; he will want to see it mended.
const LOOP_LIFE: Duration = Duration::from_secs(5);
/// RFC 8914 section 4.1.
const EDE_OTHER: u16 = 0;
