//! Forgetting answers, everywhere at once.

use tracing::warn;

use super::{Pipeline, Shared};
use crate::cache::Scope;
use crate::clock::boot_now;
use crate::metrics::FlushScope;
use crate::resolver::Flushed;

impl Pipeline {
    /// Forgets answers, in the daemon and in the kernel. True: too many flushes to remember one
    /// by one, so that everything went.
    pub fn flush(&self, scope: &Scope) -> bool {
        let Shared { cache, fast, resolver, metrics, .. } = &*self.shared;
        // Before all else: an answer that is believed from after the flush was asked for after
        // this.
        resolver.flushed(&flushed(scope));
        // First here, then in the kernel: what it passes on finds the entry judged already.
        // The round that ends this has those published again that were judged between.
        let overflow = cache.flush(scope, || boot_now().0);
        if overflow || *scope == Scope::All {
            fast.raise_epoch();
        } else {
            fast.raise_barrier();
        }
        cache.next_round();
        metrics.cache_flushes(flush_scope(scope)).inc();
        if overflow {
            metrics.cache_flushes(FlushScope::Overflow).inc();
            warn!("more flushes than are remembered one by one: all answers were forgotten");
        }
        overflow
    }

    /// Gives back the memory of flushed answers and counts them, and forgets of expired ones that
    /// the kernel had them. Takes time: some 100 ns for each answer in the cache.
    #[must_use]
    pub fn sweep_flushed(&self) -> u64 {
        self.shared.cache.sweep(boot_now().0)
    }
}

const fn flush_scope(scope: &Scope) -> FlushScope {
    match scope {
        Scope::Name(_) => FlushScope::Name,
        Scope::Zone(_) => FlushScope::Zone,
        Scope::All => FlushScope::All,
    }
}

fn flushed(scope: &Scope) -> Flushed {
    match scope {
        Scope::Name(name) => Flushed::Name(name.clone()),
        Scope::Zone(zone) => Flushed::Zone(zone.clone()),
        Scope::All => Flushed::All,
    }
}
