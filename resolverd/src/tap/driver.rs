//! Carries what was seen out of the daemon: queues, and who empties them.
//!
//! Threads: `query-log`, one for the query log, because files are written by waiting. Tasks: one
//! for dnstap's receiver. Each ends when nobody can fill its queue any more, after it has written
//! what is left; dropped with the runtime, a queue is lost.

mod query_log;
mod receiver;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error};

use super::{Dnstap, QueryLog, Seen};
use crate::metrics::{Metrics, TapDropped, TapOutlet};

/// The end that is filled. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::Sender<Seen>,
    octets: Arc<AtomicUsize>,
    full: IntCounter,
    /// Dropped with the last clone, which ends waits that look at no queue.
    _open: Arc<oneshot::Sender<()>>,
}

/// The end that is emptied.
struct Inlet {
    receiver: mpsc::Receiver<Seen>,
    octets: Arc<AtomicUsize>,
    /// Comes when nobody fills the queue any more.
    closed: oneshot::Receiver<()>,
}

/// Those who empty queues.
#[derive(Default)]
pub struct Writers {
    reopen: Mutex<Option<Arc<Notify>>>,
    /// One for each, until it has ended.
    ended: Mutex<Vec<oneshot::Receiver<()>>>,
}

/// Counts of one outlet.
struct Counts {
    written: IntCounter,
    failed: IntCounter,
}

impl Queue {
    fn new(metrics: &Metrics, outlet: TapOutlet) -> (Self, Inlet) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let (open, closed) = oneshot::channel();
        let octets = Arc::new(AtomicUsize::new(0));
        let full = metrics.tap_dropped(outlet, TapDropped::Full).clone();
        let inlet = Inlet { receiver, octets: Arc::clone(&octets), closed };
        (Self { sender, octets, full, _open: Arc::new(open) }, inlet)
    }

    /// Never waits: what has no room is dropped and counted.
    pub fn put(&self, seen: Seen) {
        let cost = seen.cost();
        // Threads that are here at once may all find the same room: the bound then holds but for
        // a message each.
        if self.octets.fetch_add(cost, Ordering::Relaxed) > QUEUE_OCTETS_MAX
            || self.sender.try_send(seen).is_err()
        {
            self.octets.fetch_sub(cost, Ordering::Relaxed);
            self.full.inc();
        }
    }
}

impl Inlet {
    /// Waits for some, at most [`BATCH`]. False: there will be no more.
    async fn take(&mut self, batch: &mut Vec<Seen>) -> bool {
        let before = batch.len();
        let taken = self.receiver.recv_many(batch, BATCH).await;
        let octets = batch[before..].iter().map(Seen::cost).sum();
        self.octets.fetch_sub(octets, Ordering::Relaxed);
        taken > 0
    }
}

impl Writers {
    /// Starts a thread that writes lines.
    pub fn query_log(&self, settings: &QueryLog, metrics: &Metrics) -> Queue {
        let (queue, inlet) = Queue::new(metrics, TapOutlet::QueryLog);
        let reopen = Arc::new(Notify::new());
        *self.reopen.lock() = Some(Arc::clone(&reopen));
        let writer =
            query_log::Writer::new(settings.clone(), Counts::of(metrics, TapOutlet::QueryLog));
        let ending = self.ending();
        let runtime = Handle::current();
        // It waits for the queue alone, which needs nothing of a runtime that may be gone.
        let thread = std::thread::Builder::new().name("query-log".to_owned()).spawn(move || {
            runtime.block_on(writer.run(inlet, &reopen));
            drop(ending);
        });
        if let Err(error) = thread {
            error!(%error, "no thread for the query log: its lines are dropped");
        }
        queue
    }

    /// Starts a task that sends frames.
    pub fn dnstap(&self, settings: &Dnstap, metrics: &Metrics) -> Queue {
        let (queue, inlet) = Queue::new(metrics, TapOutlet::Dnstap);
        let counts = Counts::of(metrics, TapOutlet::Dnstap);
        let connected = metrics.tap_dnstap_connected.clone();
        let ending = self.ending();
        let task = receiver::Sender { settings: settings.clone(), counts, connected };
        tokio::spawn(async move {
            task.run(inlet).await;
            drop(ending);
        });
        queue
    }

    /// Has the file of the query log opened anew, if there is one.
    pub fn reopen(&self) {
        if let Some(reopen) = &*self.reopen.lock() {
            reopen.notify_one();
        }
    }

    /// Waits until all whose queues were closed have ended, but no longer than [`ENDING`].
    pub async fn ended(&self) {
        let until = Instant::now() + ENDING;
        let ended = std::mem::take(&mut *self.ended.lock());
        for one in ended {
            // It ends by dropping its end, so that the error is the good news.
            if timeout_at(until, one).await.is_err() {
                debug!("stopped before all that was seen was told");
            }
        }
    }

    fn ending(&self) -> oneshot::Sender<()> {
        let (ending, ended) = oneshot::channel();
        let mut all = self.ended.lock();
        // Those of earlier configurations that are gone.
        all.retain_mut(|one| matches!(one.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        all.push(ended);
        ending
    }
}

impl Counts {
    fn of(metrics: &Metrics, outlet: TapOutlet) -> Self {
        Self {
            written: metrics.tap_records(outlet).clone(),
            failed: metrics.tap_dropped(outlet, TapDropped::Failed).clone(),
        }
    }
}

/// Messages that wait for one outlet: a second of a busy daemon, so that a receiver may be
/// restarted. Past it they are dropped and counted.
const QUEUE_MAX: usize = 16_384;

/// The same in octets, for messages over TCP may be long.
const QUEUE_OCTETS_MAX: usize = 16 << 20;

/// Taken at once: written by one system call.
const BATCH: usize = 256;

/// For writing what is left at a stop, which as a whole has two seconds.
const ENDING: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests;
