//! What is found is kept, published for the kernel, and asked for anew in time.

use std::sync::Arc;
use std::time::Duration;

use resolverd_common::entry;
use resolverd_common::key::{Key, Meta};
use resolverd_common::question::Question;
use tracing::debug;

use super::Shared;
use super::bench::Bench;
use super::chase::Noted;
use super::under_way::Began;
use super::whole::Ask;
use crate::cache::{Held, Hit, State, promotion};
use crate::dns::{Answer, Query};
use crate::kernel::{Mark, PublishError};
use crate::metrics::SizeClass;
use crate::policy::ViewId;

impl Shared {
    /// Keeps the entry that stands in `words`, and publishes it if it is worth it.
    pub(super) fn keep(&self, bench: &Bench, key: Key, answer: &Answer, began: Began, now: u64) {
        let text = answer.ede.as_ref().map_or("", |ede| &ede.text);
        // Seconds past its life; an entry's life may be shorter than the answer's.
        let signed_secs = answer.signed_for.and_then(|signed_for| {
            let life = entry::head_of(&bench.words)?.life_millis;
            let past = signed_for.saturating_sub(Duration::from_millis(life.into()));
            Some(u32::try_from(past.as_secs()).unwrap_or(u32::MAX))
        });
        if let Ok(stored) = self.cache.insert_signed(key, &bench.words, text, began.at, signed_secs)
            && self.cache.promotes(&stored, now).is_ok()
        {
            self.publish(key, &stored.held, &bench.words, began.mark);
        }
    }

    /// What a hit is an occasion for, once its reply is written.
    pub(super) fn after(self: &Arc<Self>, bench: &mut Bench, hit: &Hit, now: u64) {
        let Question { key, meta, .. } = bench.question;
        if hit.publish && promotion::eligible(&hit.head, now).is_ok() {
            // A flush may have come since it was found: the mark is from before another look.
            let mark = self.fast.mark();
            let seen = self.cache.peek(key, meta, &bench.name, now);
            if let Some(seen) = seen.filter(|seen| seen.state == State::Fresh) {
                bench.words.clear();
                bench.words.resize(seen.head.len_words(), 0);
                seen.held.copy_to(&mut bench.words);
                self.publish(key, &seen.held, &bench.words, mark);
            }
        }
        if hit.refresh
            && let Some(query) = bench.query(Ask::Data)
        {
            self.refresh(key, query);
        }
    }

    fn publish(&self, key: Key, held: &Held, entry: &[u64], read_at: Mark) {
        // The kernel answers datagrams: of a view that nobody is in who sends any, it needs none.
        let view = ViewId(Meta::of(held.head().meta).view);
        if view != ViewId::EVERYBODY && !self.policy.load().rules.views.is_for_datagrams(view) {
            return;
        }
        match self.fast.publish(key, entry, read_at) {
            Ok(class) => {
                self.cache.published(held, class);
                if let Some(label) = SizeClass::ALL.get(class) {
                    self.metrics.kernel_entries_published(*label).inc();
                }
            }
            Err(error @ PublishError::Map(_)) => {
                self.metrics.kernel_writes_failed.inc();
                debug!(%error, "answer not published");
            }
            Err(error) => debug!(%error, "answer not published"),
        }
    }

    /// Looks for an answer anew, in the background.
    pub(super) fn refresh(self: &Arc<Self>, key: Key, query: Query) {
        if !self.under_way.contains(key, self.fast.mark()) {
            let shared = Arc::clone(self);
            self.background.spawn(async move {
                shared.look_up(key, &query, Noted::No).await;
            });
        }
    }
}
