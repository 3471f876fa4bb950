//! What is said while nobody has a newer answer: the old one (RFC 8767).
//!
//! Where there is an answer past its time that may be used, a client waits for a newer one no
//! longer than `cache.stale-answer-after`, and looking for it goes on without him. An old answer
//! that was used is used again for 30 seconds without asking anybody: `cache::stale`.

use std::sync::Arc;

use resolverd_common::key::Key;

use super::Shared;
use crate::cache::{Seen, stale};
use crate::clock::boot_now;
use crate::dns::{Answer, Query};
use crate::metrics::StaleCause;

/// What came of looking for an answer.
pub enum Found {
    Answer(Answer),
    /// The cache's, past its time.
    Stale(Seen),
}

impl Shared {
    /// Looks for an answer outside of the cache, for as long as a client should wait.
    pub(super) async fn look_up_in_time(self: &Arc<Self>, key: Key, query: &Query) -> Found {
        let (_, meta, name) = self.key(query);
        if !self.cache.has_stale(key, meta, &name, boot_now().0) {
            return Found::Answer(self.look_up(key, query).await);
        }
        let (shared, asked) = (Arc::clone(self), query.clone());
        let looking = async move { shared.look_up(key, &asked).await };
        let answer = self.background.within(self.cache.stale_answer_after(), looking).await;
        let (cause, answer) = match answer {
            None => (StaleCause::Slow, None),
            Some(answer) if stale::may_stand_in_for(&answer) => (StaleCause::Failed, Some(answer)),
            Some(answer) => return Found::Answer(answer),
        };
        match (self.cache.use_stale(key, meta, &name, boot_now().0), answer) {
            (Some(seen), _) => {
                if seen.held.is_stale() {
                    self.metrics.cache_stale_answers(cause).inc();
                }
                Found::Stale(seen)
            }
            (None, Some(answer)) => Found::Answer(answer),
            // It was flushed, or its time was over meanwhile: back to those who wait.
            (None, None) => Found::Answer(self.look_up(key, query).await),
        }
    }
}
