//! Which answers are worth a place in the kernel's maps.
//!
//! Pure. While a map has room, an answer goes in when it is stored: the second client is then
//! the kernel's. When it fills up, only names that were asked for more than once go in, so that
//! those asked for once do not push out the others.
//!
//! An LRU map forgets without a word. What was published and is asked of the daemon all the
//! same may have been forgotten, so it is published again each time its hits have doubled:
//! often enough to come back at once, seldom enough to cost nothing where the daemon is asked
//! for other reasons (TCP, another interface).

use std::sync::atomic::{AtomicU64, Ordering};

use resolverd_common::entry::{CLASSES, Head};
use resolverd_common::time::MILLI;

/// Below this, publishing costs more than the kernel can save.
pub const LIFE_LEFT_MIN_MILLIS: u64 = 1_000;

/// A map has room while less than so many quarters of it are taken. The rest is for names that
/// are known to be asked for again, and for what the estimate does not know.
const ROOM_QUARTERS: u64 = 3;

/// Answers that were published and are still in the daemon's cache, by size class: at most so
/// many are in the maps, which evict without telling.
#[derive(Debug)]
pub struct Occupancy {
    /// Elements of each map.
    entries: [u32; CLASSES.len()],
    published: [AtomicU64; CLASSES.len()],
}

impl Occupancy {
    #[must_use]
    pub fn new(entries: [u32; CLASSES.len()]) -> Self {
        Self { entries, published: Default::default() }
    }

    pub fn entered(&self, class: usize) {
        self.published[class].fetch_add(1, Ordering::Relaxed);
    }

    pub fn left(&self, class: usize) {
        self.published[class].fetch_sub(1, Ordering::Relaxed);
    }

    /// Published answers of each class.
    #[must_use]
    pub fn published(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|class| self.published[class].load(Ordering::Relaxed))
    }

    /// Whether a new name of this class takes nobody's place.
    #[must_use]
    pub fn has_room(&self, class: usize) -> bool {
        let published = self.published();
        let below = |taken: u64, class: usize| {
            taken.saturating_mul(4) < u64::from(self.entries[class]) * ROOM_QUARTERS
        };
        // Every answer has an element in the map of the smallest, if only to say where to look.
        below(published.iter().sum(), 0) && (class == 0 || below(published[class], class))
    }
}

/// Why an answer is not in the kernel's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It has more than the kernel can say, or is too large.
    NotForKernel,
    /// It is about to expire.
    ShortLived,
    /// The maps fill up, and it was asked for once.
    OneHit,
}

impl Withheld {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotForKernel => "it has more than the kernel can say, or is too large",
            Self::ShortLived => "it expires in less than a second",
            Self::OneHit => "the maps fill up, and it was asked for once",
        }
    }
}

/// Whether an answer that is stored now is to be published: its class, or why not. `known`: the
/// name was asked for before.
pub fn when_stored(
    head: &Head,
    known: bool,
    now: u64,
    occupancy: &Occupancy,
) -> Result<usize, Withheld> {
    let class = eligible(head, now)?;
    if known || occupancy.has_room(class) { Ok(class) } else { Err(Withheld::OneHit) }
}

/// Whether the hit that makes them `hits` is an occasion to publish, seen by itself.
#[must_use]
pub const fn when_hit(hits: u64) -> bool {
    hits.is_power_of_two()
}

/// The class of an answer that the kernel may have.
pub fn eligible(head: &Head, now: u64) -> Result<usize, Withheld> {
    let class = head.class().ok_or(Withheld::NotForKernel)?;
    if head.expires_at().saturating_sub(now) < LIFE_LEFT_MIN_MILLIS * MILLI {
        return Err(Withheld::ShortLived);
    }
    Ok(class)
}

#[cfg(test)]
mod tests {
    use resolverd_common::entry::{Flags, TTLS_MAX};
    use resolverd_common::key;

    use super::*;

    fn head(body_len: u16, flags: u16, answers: u16) -> Head {
        Head {
            generation: 0,
            stored_at: 0,
            meta: key::meta(1, 0, 10, false, false),
            life_millis: 10_000,
            epoch: 0,
            body_len,
            counts: [answers, 0, 0],
            flags: Flags(flags),
            sum: 0,
            ede: 0,
            origin: 0,
        }
    }

    #[test]
    fn a_map_with_room_takes_first_comers_and_one_that_fills_up_takes_known_names() {
        let occupancy = Occupancy::new([8, 4, 4, 4]);
        let small = head(16, 0, 1);
        for _ in 0..6 {
            assert_eq!(when_stored(&small, false, 0, &occupancy), Ok(0));
            occupancy.entered(0);
        }
        assert_eq!(when_stored(&small, false, 0, &occupancy), Err(Withheld::OneHit));
        assert_eq!(when_stored(&small, true, 0, &occupancy), Ok(0));
        occupancy.left(0);
        assert_eq!(when_stored(&small, false, 0, &occupancy), Ok(0));
    }

    #[test]
    fn a_large_answer_needs_room_in_two_maps() {
        let large = head(300, 0, 1);
        let occupancy = Occupancy::new([8, 4, 4, 4]);
        assert_eq!(when_stored(&large, false, 0, &occupancy), Ok(2));
        (0..3).for_each(|_| occupancy.entered(2));
        assert_eq!(when_stored(&large, false, 0, &occupancy), Err(Withheld::OneHit));
        let occupancy = Occupancy::new([8, 4, 4, 4]);
        (0..6).for_each(|_| occupancy.entered(0));
        assert_eq!(when_stored(&large, false, 0, &occupancy), Err(Withheld::OneHit));
    }

    #[test]
    fn what_the_kernel_cannot_say_or_only_for_a_moment_stays_here() {
        let occupancy = Occupancy::new([8; 4]);
        let decide = |head: &Head, now| when_stored(head, true, now, &occupancy);
        assert_eq!(decide(&head(16, Flags::DAEMON_ONLY, 1), 0), Err(Withheld::NotForKernel));
        let many = head(600, 0, TTLS_MAX as u16 + 1);
        assert_eq!(decide(&many, 0), Err(Withheld::NotForKernel));
        assert_eq!(decide(&head(1_300, 0, 1), 0), Err(Withheld::NotForKernel));
        assert_eq!(decide(&head(16, 0, 1), 9_000 * MILLI), Ok(0));
        assert_eq!(decide(&head(16, 0, 1), 9_000 * MILLI + 1), Err(Withheld::ShortLived));
    }

    #[test]
    fn hits_are_an_occasion_each_time_they_doubled() {
        let occasions: Vec<u64> = (1..40).filter(|hits| when_hit(*hits)).collect();
        assert_eq!(occasions, [1, 2, 4, 8, 16, 32]);
    }
}
