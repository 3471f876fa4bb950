//! Questions that somebody waits for, and since when.
//!
//! Pure. The resolver asks once for all who wait; this remembers when that began. An answer is
//! kept by one of them, and only if no flush came since the *first* began to wait. Who comes after
//! a flush waits for another answer, with others.

use std::collections::HashMap;

use parking_lot::Mutex;
use resolverd_common::key::Key;

use crate::kernel::Mark;

/// As many as the resolver takes at once.
#[derive(Default)]
pub struct UnderWay {
    waits: Mutex<HashMap<(Key, Mark), Wait>>,
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
    /// Begins to wait, where `mark` is current. `now` is asked only for the first: boot time.
    pub fn join(&self, key: Key, mark: Mark, now: impl FnOnce() -> u64) -> Waiting<'_> {
        let mut waits = self.waits.lock();
        let wait = waits.entry((key, mark)).or_insert_with(|| {
            let began = Began { at: now(), mark };
            Wait { began, waiting: 0, kept: false }
        });
        wait.waiting += 1;
        Waiting { house: self, key, began: wait.began }
    }

    /// Whether somebody waits for this since `mark` is current.
    #[must_use]
    pub fn contains(&self, key: Key, mark: Mark) -> bool {
        self.waits.lock().contains_key(&(key, mark))
    }
}

impl Waiting<'_> {
    /// True for the first who asks, which is to keep the answer for all.
    #[must_use]
    pub fn keeps(&self) -> bool {
        let mut waits = self.house.waits.lock();
        waits
            .get_mut(&(self.key, self.began.mark))
            .is_some_and(|wait| !std::mem::replace(&mut wait.kept, true))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.house.waits.lock();
        if let Some(wait) = waits.get_mut(&(self.key, self.began.mark)) {
            wait.waiting -= 1;
            if wait.waiting == 0 {
                waits.remove(&(self.key, self.began.mark));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { epoch: 1, barrier: 1 };

    #[test]
    fn all_who_wait_began_when_the_first_did_and_one_keeps_the_answer() {
        let house = UnderWay::default();
        let key = Key([1, 2]);
        let first = house.join(key, MARK, || 10);
        let second = house.join(key, MARK, || unreachable!());
        let other = house.join(Key([3, 4]), MARK, || 20);
        assert_eq!((first.began.at, second.began.at, other.began.at), (10, 10, 20));
        assert!(second.keeps() && !first.keeps() && other.keeps());
        drop(first);
        assert!(house.contains(key, MARK));
        drop(second);
        assert!(!house.contains(key, MARK));
        let later = house.join(key, MARK, || 30);
        assert_eq!(later.began, Began { at: 30, mark: MARK });
        assert!(later.keeps());
    }

    #[test]
    fn who_comes_after_a_flush_waits_apart_and_keeps_what_he_gets() {
        let house = UnderWay::default();
        let (key, flushed) = (Key([1, 2]), Mark { epoch: 1, barrier: 2 });
        let before = house.join(key, MARK, || 10);
        assert!(!house.contains(key, flushed));
        let after = house.join(key, flushed, || 20);
        assert_eq!(after.began, Began { at: 20, mark: flushed });
        assert!(before.keeps() && after.keeps());
        drop(before);
        assert!(house.contains(key, flushed) && !house.contains(key, MARK));
    }
}
