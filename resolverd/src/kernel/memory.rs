//! The fast path in plain memory: for machines without BPF, and for tests.
//!
//! Keeps to the same rules of epoch, barrier and generation as the maps, but nobody answers
//! from it. It keeps entries only when it is told to, for tests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use resolverd_common::entry::head_of;
use resolverd_common::key::{Key, Secret};

use super::{FastPath, Mark, PublishError};
use crate::clock::boot_now;

/// See the module.
pub struct Memory {
    secret: Secret,
    epoch: AtomicU32,
    barrier: AtomicU64,
    /// As in the maps: the last one given, held while marks are compared or barriers set.
    generation: Mutex<u64>,
    kept: Option<Mutex<HashMap<Key, Vec<u64>>>>,
}

impl Memory {
    /// Keeps nothing.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            epoch: AtomicU32::new(1),
            barrier: AtomicU64::new(0),
            generation: Mutex::default(),
            kept: None,
        }
    }

    /// Keeps what is published, so that a test can look at it.
    #[must_use]
    pub fn keeping(secret: Secret) -> Self {
        Self { kept: Some(Mutex::default()), ..Self::new(secret) }
    }
}

/// A number that grows with boot time and is never given twice.
pub(super) fn next_generation(last: &mut u64) -> u64 {
    *last = boot_now().0.max(*last + 1);
    *last
}

impl FastPath for Memory {
    fn is_live(&self) -> bool {
        false
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn publish(&self, key: Key, entry: &[u64], read_at: Mark) -> Result<usize, PublishError> {
        let mut head = head_of(entry).ok_or(PublishError::Malformed)?;
        let class = head.class().ok_or(PublishError::NotForKernel)?;
        let mut last = self.generation.lock();
        if self.mark() != read_at {
            return Err(PublishError::Overtaken);
        }
        if let Some(kept) = &self.kept {
            head.generation = next_generation(&mut last);
            head.epoch = read_at.epoch;
            let mut words = entry.to_vec();
            words[..resolverd_common::entry::HEAD_WORDS].copy_from_slice(&head.words());
            kept.lock().insert(key, words);
        }
        Ok(class)
    }

    fn withdraw(&self, key: Key) {
        if let Some(kept) = &self.kept {
            kept.lock().remove(&key);
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            epoch: self.epoch.load(Ordering::SeqCst),
            barrier: self.barrier.load(Ordering::SeqCst),
        }
    }

    fn raise_epoch(&self) -> Mark {
        let _order = self.generation.lock();
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.mark()
    }

    fn raise_barrier(&self) -> u64 {
        let mut last = self.generation.lock();
        let barrier = next_generation(&mut last);
        self.barrier.store(barrier, Ordering::SeqCst);
        barrier
    }

    fn peek(&self, key: Key) -> Option<Vec<u64>> {
        self.kept.as_ref()?.lock().get(&key).cloned()
    }
}
