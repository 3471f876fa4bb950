//! Queries counted by one worker, and handed over now and then.

use std::sync::Arc;
use std::time::Duration;

use prometheus::local::LocalHistogram;

use super::register::each;
use super::{AnsweredBy, Metrics, Rcode, Transport};

/// Queries counted by one worker and handed over in batches: between two `flush`es a count
/// costs no atomic operation. What was not handed over yet goes when it is dropped.
pub struct QueryBatch {
    metrics: Arc<Metrics>,
    counts: [[[u64; Rcode::COUNT]; AnsweredBy::COUNT]; Transport::COUNT],
    durations: [LocalHistogram; AnsweredBy::COUNT],
}

impl Metrics {
    /// For a worker that answers many queries between two looks at the clock.
    #[must_use]
    pub fn query_batch(self: &Arc<Self>) -> QueryBatch {
        QueryBatch {
            metrics: Arc::clone(self),
            counts: Default::default(),
            durations: each(AnsweredBy::ALL, |a| self.query_durations[a as usize].local()),
        }
    }
}

impl QueryBatch {
    /// Counts one answer and, where it was measured, how long it took.
    pub fn count(
        &mut self,
        transport: Transport,
        by: AnsweredBy,
        rcode: Rcode,
        took: Option<Duration>,
    ) {
        self.counts[transport as usize][by as usize][rcode as usize] += 1;
        if let Some(took) = took {
            self.durations[by as usize].observe(took.as_secs_f64());
        }
    }

    /// Hands the counts over.
    pub fn flush(&mut self) {
        for &t in Transport::ALL {
            for &a in AnsweredBy::ALL {
                for &c in Rcode::ALL {
                    let count = &mut self.counts[t as usize][a as usize][c as usize];
                    if *count > 0 {
                        self.metrics.queries(t, a, c).inc_by(std::mem::take(count));
                    }
                }
            }
        }
        for histogram in &self.durations {
            histogram.flush();
        }
    }
}

impl Drop for QueryBatch {
    fn drop(&mut self) {
        self.flush();
    }
}
