//! Asks anew in the background for answers that are about to expire, or that clients did not
//! wait for.
//!
//! Tasks: one for each answer asked for, at most [`REFRESHES_MAX`]; each ends with its answer,
//! and is dropped with the runtime.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Where background work is done.
pub struct Background {
    runtime: Handle,
    places: Arc<Semaphore>,
}

impl Background {
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn here() -> Self {
        Self { runtime: Handle::current(), places: Arc::new(Semaphore::new(REFRESHES_MAX)) }
    }

    /// Waits for `work` for as long as it is given. Past it, it goes on in the background, if
    /// there is room.
    pub async fn within<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut work = Box::pin(work);
        let done = timeout(time, work.as_mut()).await;
        if done.is_err() {
            self.spawn(async move { drop(work.await) });
        }
        done.ok()
    }

    /// Starts `work` if there is room; else the answer expires and the next client waits for it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.runtime.spawn(async move {
                work.await;
                drop(place);
            });
        }
    }
}

/// Answers asked for in the background at once. Clients who wait come first: this is a
/// fraction of the flights that the resolver has room for.
const REFRESHES_MAX: usize = 256;
