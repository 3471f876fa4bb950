//! What was found out about zones: their keys, or that there are none to trust.
//!
//! Pure, bounded, and shared by all machines. The driver makes one; machines look here before
//! they ask for a DS or a DNSKEY, and leave here what they learn.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::dns::Name;

use super::keys::DnsKey;
use super::{Failure, Reason};

/// How a name stands, as the chain from its trust anchor shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A signed zone, with the keys that may verify its records.
    Secure(Arc<[DnsKey]>),
    /// Nothing at or below it can be verified.
    Insecure(Reason),
    /// It should be signed, and its keys cannot be trusted.
    Bogus(Failure),
    /// No zone of its own: it belongs to the zone above.
    Inside,
}

/// A bounded store of [`Standing`]s, each with the second until which it holds.
pub struct Zones {
    cache: Cache<Name, (Standing, u64)>,
}

impl Default for Zones {
    fn default() -> Self {
        Self { cache: Cache::new(ZONES_MAX) }
    }
}

impl Zones {
    #[must_use]
    pub fn standing(&self, name: &Name, now: u64) -> Option<Standing> {
        let (standing, until) = self.cache.get(name)?;
        // A wall clock that was set back must not keep anything for longer than it was meant.
        let holds = now < until && until <= now + u64::from(LIFE_MAX);
        holds.then_some(standing)
    }

    /// Keeps what is true of `name` for `ttl` seconds, and not for longer than [`LIFE_MAX`].
    pub fn keep(&self, name: &Name, standing: Standing, ttl: u32, now: u64) {
        let bound = match &standing {
            // Nothing was shown: whoever asks next shall try anew.
            Standing::Bogus(failure) if failure.passing => 0,
            Standing::Bogus(_) => BOGUS_LIFE,
            _ => LIFE_MAX,
        };
        let life = ttl.min(bound);
        if life > 0 {
            self.cache.insert(name.clone(), (standing, now + u64::from(life)));
        }
    }

    /// Forgets a zone that was found bogus, and nothing else.
    pub fn pardon(&self, zone: &Name) {
        if matches!(self.cache.peek(zone), Some((Standing::Bogus(_), _))) {
            self.cache.remove(zone);
        }
    }

    /// After a change of trust anchors, or a flush of everything.
    pub fn forget_all(&self) {
        self.cache.clear();
    }

    /// After a flush of a zone: what is known at and below `zone`.
    pub fn forget_under(&self, zone: &Name) {
        self.cache.retain(|name, _| !name.is_under(zone));
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }
}

/// Names whose standing is kept; the least used leave. Keys of a zone take about half a KiB.
const ZONES_MAX: usize = 16_384;

/// Nothing is believed for longer, whatever its TTL: a key that was withdrawn is gone in a day.
const LIFE_MAX: u32 = 86_400;

/// How long broken keys of a zone are not asked for again: short, for its operator mends it now.
pub const BOGUS_LIFE: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_known_ends_with_its_time_and_when_the_clock_is_set_back() {
        let zones = Zones::default();
        zones.keep(&name("a.test."), Standing::Inside, 300, 1_000_000);
        assert_eq!(zones.standing(&name("a.test."), 1_000_299), Some(Standing::Inside));
        assert_eq!(zones.standing(&name("a.test."), 1_000_300), None);
        assert_eq!(zones.standing(&name("a.test."), 900_000), None, "the clock was set back");
        zones.keep(&name("b.test."), Standing::Inside, u32::MAX, 1_000_000);
        assert_eq!(zones.standing(&name("b.test."), 1_086_400), None, "a day at most");
    }

    #[test]
    fn a_failure_is_kept_briefly_and_one_of_fetching_not_at_all() {
        let zones = Zones::default();
        let bogus = Standing::Bogus(Failure::new(6, String::new()));
        zones.keep(&name("a.test."), bogus.clone(), 3600, 1_000_000);
        assert_eq!(zones.standing(&name("a.test."), 1_000_059), Some(bogus));
        assert_eq!(zones.standing(&name("a.test."), 1_000_060), None);
        let passing = Standing::Bogus(Failure::passing(22, String::new()));
        zones.keep(&name("b.test."), passing, 3600, 1_000_000);
        assert_eq!(zones.standing(&name("b.test."), 1_000_000), None);
    }

    #[test]
    fn a_flushed_zone_is_forgotten_with_all_below_it() {
        let zones = Zones::default();
        for zone in ["test.", "a.test.", "b.a.test.", "xa.test."] {
            zones.keep(&name(zone), Standing::Inside, 300, 1_000_000);
        }
        zones.forget_under(&name("a.test."));
        let known = |zone: &str| zones.standing(&name(zone), 1_000_000).is_some();
        assert!(known("test.") && known("xa.test.") && !known("a.test.") && !known("b.a.test."));
        zones.forget_all();
        assert!(zones.is_empty() && !known("test."));
    }

    #[test]
    fn the_store_has_a_bound() {
        let zones = Zones::default();
        for number in 0..2 * ZONES_MAX {
            zones.keep(&name(&format!("z{number}.test.")), Standing::Inside, 300, 1_000_000);
        }
        assert!(zones.len() <= ZONES_MAX, "{}", zones.len());
    }
}
