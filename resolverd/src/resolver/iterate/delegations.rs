//! Zone cuts: which servers a zone was delegated to, as the zone above says.
//!
//! Pure. What a zone says of itself is not kept here: a zone that was taken away from its servers
//! could else keep itself alive with them (a "ghost domain"). Addresses that came with a referral
//! serve to follow it and nothing else.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use quick_cache::sync::Cache;

pub use crate::dns::{Cut, NameServer};

use crate::clock::BootTime;
use crate::dns::Name;
use crate::resolver::flushes::{Flushed, Flushes, REMEMBERED_FOR};

/// May be used from any thread.
pub struct Delegations {
    map: Cache<Name, Arc<Held>>,
    flushes: RwLock<Flushes>,
}

struct Held {
    cut: Arc<Cut>,
    asked: BootTime,
    expires: BootTime,
}

impl Default for Delegations {
    fn default() -> Self {
        Self { map: Cache::new(DELEGATIONS_MAX), flushes: RwLock::default() }
    }
}

impl Delegations {
    /// The cut nearest to `name`: its own zone, or the one above it, or that one's. None: not even
    /// the root's is known.
    #[must_use]
    pub fn closest(&self, now: BootTime, name: &Name) -> Option<Arc<Cut>> {
        name.suffixes().find_map(|suffix| self.of(now, &Name::from_wire(suffix).ok()?))
    }

    /// The cut of this very zone.
    #[must_use]
    pub fn of(&self, now: BootTime, zone: &Name) -> Option<Arc<Cut>> {
        let held = self.map.get(zone)?;
        let flushed = self.flushes.read().cover(zone, held.asked);
        (held.expires > now && !flushed).then(|| Arc::clone(&held.cut))
    }

    /// Keeps a cut for as long as its records live; `asked` is when its question was begun.
    pub fn keep(&self, now: BootTime, asked: BootTime, cut: &Arc<Cut>, life: Duration) {
        if life.is_zero() || self.flushes.read().cover(&cut.zone, asked) {
            return;
        }
        let expires = now + life.min(REMEMBERED_FOR);
        let held = Held { cut: Arc::clone(cut), asked, expires };
        self.map.insert(cut.zone.clone(), Arc::new(held));
    }

    /// Its servers turned out to be no good: the zone above is to be asked anew.
    pub fn forget(&self, zone: &Name) {
        self.map.remove(zone);
    }

    pub fn flush(&self, now: BootTime, what: Flushed) {
        self.flushes.write().note(now, what);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Zones whose servers are remembered. Each takes about 1 KiB.
const DELEGATIONS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime(1_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn cut(zone: &str) -> Arc<Cut> {
        Arc::new(Cut::new(name(zone), Vec::new()))
    }

    fn closest(delegations: &Delegations, now: BootTime, text: &str) -> Option<String> {
        delegations.closest(now, &name(text)).map(|cut| cut.zone.to_string())
    }

    #[test]
    fn the_nearest_cut_that_lives_is_found() {
        let delegations = Delegations::default();
        assert_eq!(closest(&delegations, NOW, "www.a.test."), None);
        delegations.keep(NOW, NOW, &cut("."), 9 * MINUTE);
        delegations.keep(NOW, NOW, &cut("test."), 2 * MINUTE);
        delegations.keep(NOW, NOW, &cut("a.test."), MINUTE);
        delegations.keep(NOW, NOW, &cut("b.test."), Duration::ZERO);
        assert_eq!(closest(&delegations, NOW, "www.a.test.").as_deref(), Some("a.test."));
        assert_eq!(closest(&delegations, NOW, "a.test.").as_deref(), Some("a.test."));
        assert_eq!(closest(&delegations, NOW, "b.test.").as_deref(), Some("test."));
        assert_eq!(closest(&delegations, NOW + MINUTE, "a.test.").as_deref(), Some("test."));
        assert_eq!(closest(&delegations, NOW + 2 * MINUTE, "a.test.").as_deref(), Some("."));
        delegations.forget(&name("a.test."));
        assert_eq!(closest(&delegations, NOW, "a.test.").as_deref(), Some("test."));
    }

    #[test]
    fn a_flushed_cut_is_learnt_anew() {
        let delegations = Delegations::default();
        delegations.keep(NOW, NOW, &cut("a.test."), 9 * MINUTE);
        delegations.keep(NOW, NOW, &cut("test."), 9 * MINUTE);
        delegations.flush(NOW, Flushed::Zone(name("a.test.")));
        assert_eq!(closest(&delegations, NOW, "www.a.test.").as_deref(), Some("test."));
        let late = NOW + MINUTE;
        delegations.keep(late, NOW, &cut("a.test."), 9 * MINUTE);
        assert_eq!(closest(&delegations, late, "www.a.test.").as_deref(), Some("test."));
        delegations.keep(late, late, &cut("a.test."), 9 * MINUTE);
        assert_eq!(closest(&delegations, late, "www.a.test.").as_deref(), Some("a.test."));
    }
}
