//! When the cache is read from disk, and when it is written there.
//!
//! Read once before anybody is answered, and written every [`SAVE_EVERY`] and at the stop. Tasks:
//! one that waits for the time to write, which ends with the runtime. Threads: one each time,
//! beside those that answer and below them in priority; it ends with what it does.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::Joined;
use crate::cache::driver::{Loaded, Shelf, ShelfError};
use crate::cache::kept::Desk;
use crate::metrics::{Metrics, Saved};
use crate::pipeline::{Pipeline, shelf};

/// What a crash loses at most. Writing a million answers takes about a second of one core.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// Between two chunks of a file, where nobody waits for it.
const REST: Duration = Duration::from_millis(2);
/// How long a stop waits for the file; the whole has two seconds. Past it the one before stays.
const SAVE_AT_STOP_MAX: Duration = Duration::from_millis(1_200);
/// How long a start waits for the file. Past it clients are answered, and reading goes on.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(3);
/// So that whoever answers comes first.
const NICE: i32 = 10;

/// Fills the cache from the file, if there is a good one.
pub async fn load(shelf: &Shelf, pipeline: &Arc<Pipeline>, policy: u64, metrics: &Arc<Metrics>) {
    let (shelf, pipeline, metrics) = (shelf.clone(), Arc::clone(pipeline), Arc::clone(metrics));
    let loading = beside("cache-load", move || {
        let start = Instant::now();
        let mut desk = Desk::default();
        let loaded = shelf.load(policy, |kept, origin, now| {
            pipeline.take_back(shelf::Shelf::Own, kept, origin, now, &mut desk)
        });
        // What was judged by the rules of another time is judged by those of now.
        pipeline.cache().next_round();
        metrics
            .cache_loaded
            .inc_by(loaded.as_ref().map_or(0, |loaded| loaded.map_or(0, |loaded| loaded.taken)));
        tell(&shelf, loaded, start.elapsed());
    });
    if timeout(LOAD_WAIT_MAX, loading).await.is_err() {
        info!("the cache's file is large: clients are answered while it is read");
    }
}

fn tell(shelf: &Shelf, loaded: Result<Option<Loaded>, ShelfError>, took: Duration) {
    match loaded {
        Ok(Some(Loaded { taken, expired, left })) => {
            info!(taken, expired, left, ?took, "cache read from disk");
        }
        Ok(None) => debug!(file = %shelf.path().display(), "no cache on disk yet"),
        Err(error @ ShelfError::OtherPolicy { .. }) => {
            info!(%error, "the cache starts empty");
        }
        Err(error) => warn!(%error, "the cache on disk is not used, and the cache starts empty"),
    }
}

/// Writes the cache from time to time, for as long as the runtime lives.
pub async fn keep(joined: Arc<Joined>) {
    let mut tick = interval(SAVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is at once.
    tick.tick().await;
    loop {
        tick.tick().await;
        if joined.config.load().cache.persist {
            save(&joined, || {
                thread::sleep(REST);
                true
            })
            .await;
        }
    }
}

/// Writes the cache once more.
pub async fn save_at_stop(joined: &Arc<Joined>) {
    if joined.config.load().cache.persist {
        let until = Instant::now() + SAVE_AT_STOP_MAX;
        let saving = save(joined, move || Instant::now() < until);
        // A disk that does not take what is written.
        if timeout(SAVE_AT_STOP_MAX + GRACE, saving).await.is_err() {
            warn!("the disk is slow: the cache's file of some minutes ago stays");
        }
    }
}

async fn save(joined: &Arc<Joined>, go_on: impl FnMut() -> bool + Send + 'static) {
    let joined = Arc::clone(joined);
    beside("cache-save", move || {
        let _alone = joined.saving.lock();
        let start = Instant::now();
        let policy = joined.fingerprint();
        let result = match joined.shelf.save(joined.pipeline.cache(), policy, go_on) {
            Ok(answers) => {
                debug!(answers, took = ?start.elapsed(), "cache written to disk");
                Saved::Written
            }
            Err(error) => {
                warn!(%error, "the cache is not on disk");
                Saved::Failed
            }
        };
        joined.metrics.cache_saves(result).inc();
    })
    .await;
}

/// Does `work` on a thread of its own, and waits for it.
async fn beside(name: &str, work: impl FnOnce() + Send + 'static) {
    let (done, wait) = oneshot::channel::<()>();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Not being allowed to be modest is no harm.
        let _ = setpriority_process(Some(gettid()), NICE);
        work();
        drop(done);
    });
    match started {
        // The sender is dropped when it is done, and when it panicked.
        Ok(_) => drop(wait.await),
        Err(error) => warn!(%error, "no thread for the cache on disk"),
    }
}

/// For the end of a thread that was told to stop.
const GRACE: Duration = Duration::from_millis(200);
