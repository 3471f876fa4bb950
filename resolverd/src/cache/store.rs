//! Where answers are kept: a map with a bound on its memory, and who has to leave.
//!
//! Pure. Sharded, so that threads seldom wait for each other; CLOCK-PRO decides who leaves. The
//! map is keyed by 64 bits of the contract's key: two questions that share them take each
//! other's place, which costs a hit and nothing more, for every entry carries its question.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use resolverd_common::entry::CLASSES;
use resolverd_common::key::Key;

use super::held::Held;
use super::promotion::Occupancy;
use crate::metrics::Metrics;

pub struct Store {
    map: Cache<u64, Held, Octets, Spread, Leaving>,
    ledger: Arc<Ledger>,
}

/// What is known about all entries together.
struct Ledger {
    occupancy: Occupancy,
    metrics: Arc<Metrics>,
}

impl Store {
    #[must_use]
    pub fn new(
        memory_max: u64,
        kernel_entries: [u32; CLASSES.len()],
        metrics: Arc<Metrics>,
    ) -> Self {
        let ledger = Arc::new(Ledger { occupancy: Occupancy::new(kernel_entries), metrics });
        let items = usize::try_from(memory_max / ITEM_OCTETS_TYPICAL).unwrap_or(usize::MAX);
        let shards = usize::try_from(memory_max / SHARD_OCTETS_MIN).unwrap_or(SHARDS_MAX);
        let options = OptionsBuilder::new()
            .weight_capacity(memory_max)
            .estimated_items_capacity(items)
            .shards(shards.clamp(1, SHARDS_MAX))
            .build()
            .expect("both capacities are set");
        let leaving = Leaving(Arc::clone(&ledger));
        Self { map: Cache::with_options(options, Octets, Spread, leaving), ledger }
    }

    /// Finds an entry and counts it as used.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<Held> {
        self.map.get(&slot(key))
    }

    /// Finds an entry without a trace.
    #[must_use]
    pub fn peek(&self, key: Key) -> Option<Held> {
        self.map.peek(&slot(key))
    }

    /// Puts an entry in. True: one that was there made place for it.
    pub fn insert(&self, key: Key, held: Held) -> bool {
        let slot = slot(key);
        let metrics = &self.ledger.metrics;
        metrics.cache_entries.inc();
        metrics.cache_bytes.add(octets(&held).cast_signed());
        let mut left = Left { coming: Some(slot), replaced: false };
        self.map.insert_with_lifecycle(slot, held, &mut left);
        left.replaced
    }

    /// All entries, one after the other; no lock is held between two.
    pub fn all(&self) -> impl Iterator<Item = Held> + '_ {
        self.map.iter().map(|(_, held)| held)
    }

    /// Walks through all entries and does with each what `fate` says. Returns how many went.
    pub fn sweep(&self, mut fate: impl FnMut(&Held) -> Fate) -> u64 {
        let mut swept = 0;
        for (slot, held) in self.map.iter() {
            match fate(&held) {
                Fate::Stays => {}
                Fate::IsNowhereElse => self.ledger.unpublished(&held),
                Fate::Goes => {
                    let same = |other: &Held| other.is(&held);
                    if let Some((_, held)) = self.map.remove_if(&slot, same) {
                        self.ledger.left(&held);
                        swept += 1;
                    }
                }
            }
        }
        swept
    }

    /// Sets another bound.
    pub fn resize(&self, memory_max: u64) {
        self.map.set_capacity(memory_max);
    }

    #[must_use]
    pub fn occupancy(&self) -> &Occupancy {
        &self.ledger.occupancy
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By our own account.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.map.weight()
    }

    #[must_use]
    pub fn octets_max(&self) -> u64 {
        self.map.capacity()
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// It stays, and is no longer taken for one that the kernel has.
    IsNowhereElse,
    Goes,
}

/// NH's lanes as one word.
const fn slot(key: Key) -> u64 {
    key.0[0] ^ key.0[1].rotate_left(32)
}

fn octets(held: &Held) -> u64 {
    held.octets() + PLACE_OCTETS
}

#[derive(Clone)]
struct Octets;

impl Weighter<u64, Held> for Octets {
    fn weight(&self, _: &u64, held: &Held) -> u64 {
        octets(held)
    }
}

/// Hears of every entry that leaves the map: pushed out, replaced, or too large to get in.
#[derive(Clone)]
struct Leaving(Arc<Ledger>);

/// What one insertion did.
#[derive(Default)]
struct Left {
    coming: Option<u64>,
    replaced: bool,
}

impl Lifecycle<u64, Held> for Leaving {
    type RequestState = Left;

    fn on_evict(&self, left: &mut Left, slot: u64, held: Held) {
        if left.coming == Some(slot) {
            left.replaced = true;
        } else {
            self.0.metrics.cache_evictions.inc();
        }
        self.0.left(&held);
    }
}

impl Ledger {
    fn left(&self, held: &Held) {
        self.metrics.cache_entries.dec();
        self.metrics.cache_bytes.sub(octets(held).cast_signed());
        self.unpublished(held);
    }

    fn unpublished(&self, held: &Held) {
        if held.unmark_published()
            && let Some(class) = held.head().class()
        {
            self.occupancy.left(class);
        }
    }
}

/// The keys are keyed hashes already; this only spreads them over all bits.
#[derive(Clone, Copy)]
struct Spread;

struct Spreading(u64);

impl BuildHasher for Spread {
    type Hasher = Spreading;

    fn build_hasher(&self) -> Spreading {
        Spreading(0)
    }
}

impl Hasher for Spreading {
    fn write_u64(&mut self, word: u64) {
        // The golden ratio: what Fibonacci hashing multiplies by (Knuth, TAOCP 6.4).
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What an entry takes beside its own words: its place in the slab (40 octets) and in the table
/// (5), each with its share of what is free.
const PLACE_OCTETS: u64 = 64;

/// A short A name. Only sizes what is remembered of entries that left.
const ITEM_OCTETS_TYPICAL: u64 = 256;

/// Parts that are locked by themselves. Twice the cores of a large machine.
const SHARDS_MAX: usize = 64;

/// A shard must hold the largest entry, of some 80 KiB, and others beside.
const SHARD_OCTETS_MIN: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use resolverd_common::entry::{self, Flags, Parts};
    use resolverd_common::key;

    use super::super::held::Beside;
    use super::*;
    use crate::metrics::Build;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }))
    }

    /// An entry for the name "nNNNNNN." with so many octets of body.
    fn held(n: u32, body: usize) -> Held {
        let label = format!("n{n:06}");
        let name = [&[label.len() as u8], label.as_bytes(), &[0]].concat();
        let parts = Parts {
            stored_at: 1,
            meta: key::meta(1, 0, name.len() as u8, false, false),
            life_millis: 1_000,
            name: &name,
            counts: [0; 3],
            flags: Flags(0),
            ede: 0,
            origin: 0,
            body: &vec![0; body],
            ttl_offsets: &[],
        };
        let mut words = vec![0; 10_000];
        let len = entry::build(&parts, &mut words).unwrap();
        Held::new(&words[..len], &Beside::default())
    }

    fn key(n: u32) -> Key {
        Key([u64::from(n), u64::from(n) << 7])
    }

    #[test]
    fn what_was_put_in_is_found_until_another_takes_its_place() {
        let metrics = metrics();
        let store = Store::new(1 << 20, [8; 4], Arc::clone(&metrics));
        assert!(!store.insert(key(1), held(1, 10)));
        assert!(store.get(key(1)).is_some() && store.peek(key(2)).is_none());
        let octets = metrics.cache_bytes.get();
        assert!(store.insert(key(1), held(1, 1_000)));
        assert_eq!(metrics.cache_entries.get(), 1);
        assert_eq!(metrics.cache_evictions.get(), 0);
        assert!(metrics.cache_bytes.get() > octets + 900);
        assert_eq!(metrics.cache_bytes.get(), store.octets().cast_signed());
    }

    #[test]
    fn memory_stays_within_its_bound_and_used_entries_stay_longer() {
        let metrics = metrics();
        let store = Store::new(1 << 20, [8; 4], Arc::clone(&metrics));
        (0..1_000).for_each(|n| {
            store.insert(key(n), held(n, 100));
        });
        for n in 1_000..40_000 {
            store.insert(key(n), held(n, 100));
            // The first hundred are asked for all the time.
            let _ = store.get(key(n % 100));
        }
        assert!(store.octets() <= 1 << 20, "{}", store.octets());
        let hot = (0..100).filter(|n| store.peek(key(*n)).is_some()).count();
        assert!(hot > 90, "{hot} of the used ones are left");
        assert!(metrics.cache_evictions.get() > 30_000);
        assert_eq!(metrics.cache_entries.get(), store.len() as i64);
        store.resize(512 << 10);
        assert!(store.octets() <= 512 << 10);
        assert_eq!(metrics.cache_entries.get(), store.len() as i64);
    }

    #[test]
    fn a_flood_of_large_answers_stays_within_the_bound_at_every_moment() {
        let metrics = metrics();
        let store = Store::new(4 << 20, [8; 4], Arc::clone(&metrics));
        for n in 0..2_000 {
            // From one that hardly has a place to ones that fill a shard by a few.
            store.insert(key(n), held(n, [100, 1_400, 60_000, 65_000][n as usize % 4]));
            assert!(store.octets() <= 4 << 20, "{n}: {}", store.octets());
        }
        assert!(store.len() > 20);
        let sum: u64 = store.all().map(|held| octets(&held)).sum();
        assert_eq!(sum, store.octets());
        assert_eq!(metrics.cache_bytes.get(), sum.cast_signed());
    }

    #[test]
    fn an_entry_that_grows_in_place_pushes_others_out() {
        let store = Store::new(1 << 20, [8; 4], metrics());
        (0..3_000).for_each(|n| {
            store.insert(key(n), held(n, 100));
        });
        (0..3_000).for_each(|n| {
            store.insert(key(n), held(n, 4_000));
        });
        assert!(store.octets() <= 1 << 20, "{}", store.octets());
    }

    #[test]
    fn whoever_leaves_is_no_longer_counted_as_published() {
        let store = Store::new(1 << 20, [8; 4], metrics());
        let publish = |n| {
            let held = held(n, 10);
            store.insert(key(n), held.clone());
            assert!(held.mark_published());
            store.occupancy().entered(0);
        };
        (0..10).for_each(publish);
        assert_eq!(store.occupancy().published(), [10, 0, 0, 0]);
        store.insert(key(3), held(3, 10));
        assert_eq!(store.occupancy().published(), [9, 0, 0, 0]);
        let published = |held: &Held, fate| if held.is_published() { fate } else { Fate::Stays };
        assert_eq!(store.sweep(|held| published(held, Fate::Goes)), 9);
        assert_eq!(store.occupancy().published(), [0; 4]);
        assert_eq!(store.len(), 1);
        (0..10).for_each(publish);
        assert_eq!(store.sweep(|held| published(held, Fate::IsNowhereElse)), 0);
        assert_eq!(store.occupancy().published(), [0; 4]);
        assert_eq!(store.len(), 10);
        (0..10).for_each(publish);
        (100..20_000).for_each(|n| {
            store.insert(key(n), held(n, 100));
        });
        let left = (0..10).filter(|n| store.peek(key(*n)).is_some()).count();
        assert_eq!(store.occupancy().published(), [left as u64, 0, 0, 0]);
    }

    #[test]
    fn keys_that_differ_little_do_not_crowd() {
        let hash = |word| Spread.hash_one(word);
        let low: HashSet<u64> = (0..4_096_u64).map(|n| hash(n) & 0xffff).collect();
        let high: HashSet<u64> = (0..4_096_u64).map(|n| hash(n) >> 48).collect();
        assert!(low.len() > 3_500 && high.len() > 3_500, "{} {}", low.len(), high.len());
    }
}
