//! Questions that somebody waits for, and since when.
//!
//! Pure. The resolver asks once for all who wait; this remembers when that began. An answer is
//! kept by one of them, and only if no flush came since the *first* began to wait.

use std::collections::HashMap;

use parking_lot::Mutex;
use resolverd_common::key::Key;

use crate::kernel::Mark;

/// As many as the resolver takes at once.
#[derive(Default)]
pub struct UnderWay {
    waits: Mutex<HashMap<Key, Wait>>,
}

struct Wait {
    began: Began,
    waiting: usize,
    kept: bool,
}

/// What was current when the answer was first looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Began {
    /// Boot time.
    pub at: u64,
    pub mark: Mark,
}

/// One who waits.
pub struct Waiting<'a> {
    house: &'a UnderWay,
    key: Key,
    pub began: Began,
}

impl UnderWay {
    /// Begins to wait. `now` is asked only for the first.
    pub fn join(&self, key: Key, now: impl FnOnce() -> Began) -> Waiting<'_> {
        let mut waits = self.waits.lock();
        let wait =
            waits.entry(key).or_insert_with(|| Wait { began: now(), waiting: 0, kept: false });
        wait.waiting += 1;
        Waiting { house: self, key, began: wait.began }
    }

    /// Whether somebody waits for this.
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.waits.lock().contains_key(&key)
    }
}

impl Waiting<'_> {
    /// True for the first who asks, which is to keep the answer for all.
    #[must_use]
    pub fn keeps(&self) -> bool {
        let mut waits = self.house.waits.lock();
        waits.get_mut(&self.key).is_some_and(|wait| !std::mem::replace(&mut wait.kept, true))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.house.waits.lock();
        if let Some(wait) = waits.get_mut(&self.key) {
            wait.waiting -= 1;
            if wait.waiting == 0 {
                waits.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(at: u64) -> Began {
        Began { at, mark: Mark { epoch: 1, barrier: at } }
    }

    #[test]
    fn all_who_wait_began_when_the_first_did_and_one_keeps_the_answer() {
        let house = UnderWay::default();
        let key = Key([1, 2]);
        let first = house.join(key, || began(10));
        let second = house.join(key, || unreachable!());
        let other = house.join(Key([3, 4]), || began(20));
        assert_eq!((first.began, second.began, other.began), (began(10), began(10), began(20)));
        assert!(second.keeps() && !first.keeps() && other.keeps());
        drop(first);
        assert!(house.contains(key));
        drop(second);
        assert!(!house.contains(key));
        let later = house.join(key, || began(30));
        assert_eq!(later.began, began(30));
        assert!(later.keeps());
    }
}
