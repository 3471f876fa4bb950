//! Whether an answer that was just used is to be asked for again before it expires.
//!
//! Pure. The kernel decides by the same share of life: `settings::prefetch_share`.

use resolverd_common::entry::Head;
use resolverd_common::time::MILLI;

/// Answers that live shorter are not worth it: they would be asked for all the time.
pub const LIFE_MIN_MILLIS: u32 = 10_000;

/// The part of its life that is left when an answer is asked for anew, in 1/256: 10 %.
pub const SHARE: u16 = 26;

/// Whether a hit at `now` falls into the last part of the entry's life.
#[must_use]
pub const fn is_due(head: &Head, now: u64) -> bool {
    let life = head.life_millis as u64 * MILLI;
    head.life_millis >= LIFE_MIN_MILLIS
        && head.expires_at().saturating_sub(now) <= (life >> 8) * SHARE as u64
}

#[cfg(test)]
mod tests {
    use resolverd_common::entry::Flags;

    use super::*;

    fn head(life_millis: u32) -> Head {
        Head {
            generation: 0,
            stored_at: 0,
            meta: 0,
            life_millis,
            epoch: 0,
            body_len: 0,
            counts: [0; 3],
            flags: Flags(0),
            sum: 0,
            ede: 0,
            origin: 0,
        }
    }

    #[test]
    fn the_last_tenth_of_a_life_is_due() {
        let head_100s = head(100_000);
        assert!(!is_due(&head_100s, 0));
        assert!(!is_due(&head_100s, 89_800 * MILLI));
        assert!(is_due(&head_100s, 90_000 * MILLI));
        assert!(is_due(&head_100s, 99_999 * MILLI));
    }

    #[test]
    fn a_short_life_is_not_worth_it() {
        assert!(!is_due(&head(9_999), 9_990 * MILLI));
        assert!(is_due(&head(10_000), 9_990 * MILLI));
    }
}
