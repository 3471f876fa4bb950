//! Has replies validated: fetches what machines ask for, keeps what they learn.
//!
//! Starts no task: fetches run in the task of the flight that validates, and end with it.
//! Machines share the store of zones and the store of denials.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tracing::debug;

use crate::clock::wall_now;
use crate::dns::records::Record;
use crate::dns::{Ede, Name};
use crate::resolver::reply::{Fetch, Reply};

use super::aggressive::{Aggressive, Synthesised};
use super::anchors::{Anchors, Closest};
use super::machine::{Blame, Input, Machine, Output, Proven};
use super::zones::Zones;
use super::{Failure, Verdict, ede};

/// What an operator wants of validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub anchors: Arc<Anchors>,
    /// Whether what upstreams say is validated as well.
    pub forwarded: bool,
    /// The second at which signatures are judged, if it is fixed.
    pub now: Option<u64>,
}

/// What all questions share.
#[derive(Default)]
pub struct Validator {
    zones: Arc<Zones>,
    aggressive: Mutex<Aggressive>,
}

/// A verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// What was fetched for it.
    pub fetched: Vec<Fetch>,
    /// If it is bogus: what of it.
    pub blame: Blame,
    /// Denials that hold, by owner and type.
    denials: Vec<(Name, u16)>,
}

/// Puts a question of the resolver's own, with DO and CD; what comes is not validated.
pub type Asker<'a> = dyn Fn(Fetch) -> BoxFuture<'static, Result<Reply, Ede>> + Send + Sync + 'a;

impl Validator {
    /// Judges a reply. Takes as long as the fetches it needs.
    pub async fn judge(
        &self,
        policy: &Policy,
        question: &Fetch,
        reply: &Arc<Reply>,
        ask: &Asker<'_>,
    ) -> Judgement {
        // With a fixed second nothing would ever end its life in the stores.
        let fixed = policy.now.is_some();
        let zones = if fixed { Arc::default() } else { Arc::clone(&self.zones) };
        let anchors = Arc::clone(&policy.anchors);
        let Fetch { name, qtype } = question.clone();
        let mut machine = Machine::new(name, qtype, reply, anchors, zones);
        let mut judgement = Judgement::of(Verdict::Indeterminate);
        let mut running = FuturesUnordered::new();
        let mut outputs = Vec::new();
        let mut input = Input::Start;
        loop {
            machine.step(policy.now(), input, &mut outputs);
            for output in outputs.drain(..) {
                match output {
                    Output::Fetch(fetch) => {
                        let reply = ask(fetch.clone());
                        judgement.fetched.push(fetch.clone());
                        running.push(reply.map(|reply| (fetch, reply)));
                    }
                    Output::Done(verdict) => {
                        let secure = matches!(verdict, Verdict::Secure { .. });
                        if secure && !fixed {
                            self.learn(&machine, policy.now());
                        }
                        judgement.blame = machine.blame(policy.now());
                        let proven = machine.proven().filter(|_| secure);
                        judgement.denials = proven.flat_map(owners_and_types).collect();
                        judgement.verdict = verdict;
                        return judgement;
                    }
                }
            }
            input = match running.next().await {
                Some((fetch, Ok(reply))) => Input::Fetched(fetch, Arc::new(reply)),
                Some((fetch, Err(error))) => {
                    debug!(?fetch, ?error, "a record that validation needs was not to be had");
                    Input::Failed(fetch)
                }
                // A machine that waits has asked; this one broke its word.
                None => {
                    let text = "validation waits for nothing".to_owned();
                    judgement.verdict = Verdict::Bogus(Failure::passing(ede::DNSSEC_BOGUS, text));
                    return judgement;
                }
            };
        }
    }

    /// The denial of a question that follows from what was proven before (RFC 8198).
    #[must_use]
    pub fn synthesise(&self, policy: &Policy, question: &Fetch) -> Option<Synthesised> {
        if policy.now.is_some() {
            return None;
        }
        let now = policy.now();
        // What is not checked any more is not denied by what was checked before.
        match policy.anchors.closest(&question.name, now) {
            Closest::Anchor(..) => {
                self.aggressive.lock().synthesise(&question.name, question.qtype, now)
            }
            Closest::Negative(_) | Closest::Nothing => None,
        }
    }

    /// Forgets that a zone's keys were found false: others may be shown.
    pub fn pardon(&self, zone: &Name) {
        self.zones.pardon(zone);
    }

    /// Forgets what was learned about a zone and all below it.
    pub fn forget_under(&self, zone: &Name) {
        self.zones.forget_under(zone);
        self.aggressive.lock().forget_under(zone);
    }

    /// Forgets everything: after a flush of all, or a change of anchors.
    pub fn forget_all(&self) {
        self.zones.forget_all();
        self.aggressive.lock().forget_all();
    }

    fn learn(&self, machine: &Machine, now: u64) {
        let mut store = self.aggressive.lock();
        for proven in machine.proven() {
            store.learn(&proven, now);
        }
    }
}

impl Judgement {
    /// One that rests on nothing.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, fetched: Vec::new(), blame: Blame::Known, denials: Vec::new() }
    }

    /// Whether a record of the authority section is one of the denials that hold, their SOA, or
    /// the signature of one.
    #[must_use]
    pub fn rests_on(&self, record: &Record) -> bool {
        let of = record.signature().map_or(record.rtype, |(covered, _)| covered);
        self.denials.iter().any(|(owner, rtype)| *rtype == of && *owner == record.owner)
    }
}

fn owners_and_types(proven: Proven<'_>) -> Vec<(Name, u16)> {
    let sets = proven.sets.iter().chain(proven.soa);
    sets.map(|(set, _)| (set.owner.clone(), set.rtype)).collect()
}

impl Policy {
    /// The second since 1970 at which signatures are judged.
    #[must_use]
    pub fn now(&self) -> u64 {
        let wall = || wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.now.unwrap_or_else(|| wall().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{NOW, REPLIES, anchors, name, reply};
    use super::*;
    use crate::dns::{rcode, rtype};

    fn policy(now: Option<u64>) -> Policy {
        Policy { anchors: Arc::new(anchors(&["."])), forwarded: true, now }
    }

    /// Answers from the vectors, a moment later.
    fn ask(fetch: Fetch) -> BoxFuture<'static, Result<Reply, Ede>> {
        async move {
            tokio::task::yield_now().await;
            let found = REPLIES.get(&fetch).map(|reply| (**reply).clone());
            found.ok_or(Ede { code: 22, text: "no vector".into() })
        }
        .boxed()
    }

    async fn judge(validator: &Validator, policy: &Policy, owner: &str, qtype: u16) -> Verdict {
        let question = Fetch { name: name(owner), qtype };
        validator.judge(policy, &question, &reply(owner, qtype), &ask).await.verdict
    }

    #[tokio::test]
    async fn a_reply_is_judged_with_what_is_fetched_for_it() {
        let (validator, policy) = (Validator::default(), policy(Some(NOW)));
        for (owner, qtype) in [("www.nsec.test.", rtype::A), ("nothere.nsec3.test.", rtype::A)] {
            let verdict = judge(&validator, &policy, owner, qtype).await;
            assert!(matches!(verdict, Verdict::Secure { .. }), "{owner} {verdict:?}");
        }
        let verdict = judge(&validator, &policy, "www.expired.test.", rtype::A).await;
        assert!(matches!(verdict, Verdict::Bogus(_)), "{verdict:?}");
        assert!(validator.zones.is_empty(), "nothing is kept at a second that does not pass");
    }

    #[tokio::test]
    async fn what_is_bogus_is_blamed_on_the_reply_or_on_the_keys_and_on_these_only_once() {
        // By the real clock, so that what is found out is kept.
        let (validator, policy) = (Validator::default(), policy(None));
        let blame = async |owner: &str| {
            let question = Fetch { name: name(owner), qtype: rtype::A };
            let judgement =
                validator.judge(&policy, &question, &reply(owner, rtype::A), &ask).await;
            assert!(matches!(judgement.verdict, Verdict::Bogus(_)), "{owner} {judgement:?}");
            judgement.blame
        };
        assert_eq!(blame("www.expired.test.").await, Blame::Keys(name("expired.test.")));
        assert_eq!(blame("www.expired.test.").await, Blame::Known);
        validator.pardon(&name("expired.test."));
        assert_eq!(blame("www.expired.test.").await, Blame::Keys(name("expired.test.")));
        // A reply without its signatures, from a zone whose keys are good.
        let question = Fetch { name: name("www.nsec.test."), qtype: rtype::A };
        let mut bare = (*reply("www.nsec.test.", rtype::A)).clone();
        bare.answer.retain(|record| record.rtype == rtype::A);
        let judgement = validator.judge(&policy, &question, &Arc::new(bare), &ask).await;
        assert!(matches!(judgement.verdict, Verdict::Bogus(_)), "{judgement:?}");
        assert_eq!(judgement.blame, Blame::Reply);
    }

    #[tokio::test]
    async fn what_cannot_be_fetched_ends_the_wait() {
        let (validator, policy) = (Validator::default(), policy(Some(NOW)));
        let nobody = |_| async { Err(Ede { code: 22, text: String::new() }) }.boxed();
        let question = Fetch { name: name("www.nsec.test."), qtype: rtype::A };
        let www = reply("www.nsec.test.", rtype::A);
        let verdict = validator.judge(&policy, &question, &www, &nobody).await.verdict;
        assert!(matches!(verdict, Verdict::Bogus(failure) if failure.passing));
    }

    #[tokio::test]
    async fn denials_are_used_again_until_they_are_forgotten() {
        // By the real clock; the vectors are in force until 2090.
        let (validator, policy) = (Validator::default(), policy(None));
        let question = Fetch { name: name("deep.nothere.nsec.test."), qtype: rtype::MX };
        assert_eq!(validator.synthesise(&policy, &question), None);
        let verdict = judge(&validator, &policy, "nothere.nsec.test.", rtype::A).await;
        assert!(matches!(verdict, Verdict::Secure { .. }), "{verdict:?}");
        let made = validator.synthesise(&policy, &question).unwrap();
        assert_eq!(made.reply.rcode, rcode::NXDOMAIN);
        assert!(!validator.zones.is_empty());
        let mut unchecked = (*policy.anchors).clone();
        unchecked.add_negative(name("nsec.test."), None);
        let unchecked = Policy { anchors: Arc::new(unchecked), ..policy.clone() };
        assert_eq!(validator.synthesise(&unchecked, &question), None);
        validator.forget_under(&name("nsec.test."));
        assert_eq!(validator.synthesise(&policy, &question), None);
        validator.forget_all();
        assert!(validator.zones.is_empty());
    }
}
