//! What is said while nobody has a newer answer: the old one (RFC 8767).
//!
//! Where there is an answer past its time that may be used, a client waits for a newer one no
//! longer than `cache.stale-answer-after`, and looking for it goes on without him. An old answer
//! that was used is used again for 30 seconds without asking anybody: `cache::stale`.

use std::sync::Arc;

use resolverd_common::key::Key;

use super::Shared;
use super::chase::Noted;
use super::policy::Outcome;
use crate::cache::{Seen, State, stale};
use crate::clock::boot_now;
use crate::dns::Query;
use crate::metrics::StaleCause;

/// What came of looking for an answer.
pub enum Found {
    Outcome(Outcome),
    /// The cache's, past its time.
    Stale(Seen),
}

impl Shared {
    /// Looks for an answer outside of the cache, for as long as a client should wait.
    pub(super) async fn look_up_in_time(self: &Arc<Self>, key: Key, query: &Query) -> Found {
        let (_, meta, name) = self.key(query);
        // One from before a change of policy is held against the new one.
        let is_spoiled = |now: u64| {
            self.cache.peek(key, meta, &name, now).is_some_and(|seen| {
                seen.state == State::Stale && !self.passes(query, &seen.held, &seen.head, now)
            })
        };
        let now = boot_now().0;
        if !self.cache.has_stale(key, meta, &name, now) || is_spoiled(now) {
            return Found::Outcome(self.look_up(key, query, Noted::Yes).await);
        }
        let (shared, asked) = (Arc::clone(self), query.clone());
        let looking = async move { shared.look_up(key, &asked, Noted::Yes).await };
        let outcome = self.background.within(self.cache.stale_answer_after(), looking).await;
        let (cause, outcome) = match outcome {
            None => (StaleCause::Slow, None),
            Some(Outcome::Answer(answer)) if stale::may_stand_in_for(&answer) => {
                (StaleCause::Failed, Some(Outcome::Answer(answer)))
            }
            Some(outcome) => return Found::Outcome(outcome),
        };
        let now = boot_now().0;
        let seen = if is_spoiled(now) { None } else { self.cache.use_stale(key, meta, &name, now) };
        match (seen, outcome) {
            (Some(seen), _) => {
                if seen.held.is_stale() {
                    self.metrics.cache_stale_answers(cause).inc();
                }
                Found::Stale(seen)
            }
            (None, Some(outcome)) => Found::Outcome(outcome),
            // It was flushed, or its time was over meanwhile: back to those who wait.
            (None, None) => Found::Outcome(self.look_up(key, query, Noted::Yes).await),
        }
    }
}
