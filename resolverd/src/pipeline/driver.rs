//! Asks anew in the background for answers that are about to expire.
//!
//! Tasks: one for each answer asked for, at most [`REFRESHES_MAX`]; each ends with its answer,
//! and is dropped with the runtime.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

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
