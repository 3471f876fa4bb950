//! Which answers are still good: the flushes that are remembered, and whom they took.
//!
//! Pure: times come from outside. A flush is one line in a short list; entries are judged
//! against it when they are asked for, so that no flush walks through the cache. An entry that
//! survives is as good as before.

use std::time::Duration;

use crate::dns::Name;

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One name, all types.
    Name(Name),
    /// A name and everything below it.
    Zone(Name),
    All,
}

/// Flushes of names and zones that are remembered one by one. Past this everything goes: with
/// more of them, judging an entry would cost more than asking for it anew.
pub const FLUSHES_MAX: usize = 64;

/// No entry lives longer, so that no flush need be remembered for longer (RFC 8767 section 4
/// names the same bound for TTLs).
pub const LIFE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How long a flush can concern somebody: an answer may be used past its life, too.
const REMEMBERED: Duration = LIFE_MAX.saturating_add(super::stale::STALE_MAX);

/// The flushes that can still concern somebody.
#[derive(Clone, Debug, Default)]
pub struct Flushes {
    list: Vec<Flush>,
    /// Everything from then or before is gone.
    all_at: Option<u64>,
    /// What was looked for then or before is not kept; what was kept by then stays.
    keep_from: Option<u64>,
}

#[derive(Clone, Debug)]
struct Flush {
    zone: bool,
    name: Name,
    at: u64,
}

impl Flushes {
    /// Forgets what `scope` names and what is as old as `now` or older. True: the list was full,
    /// and everything went.
    pub fn add(&mut self, scope: &Scope, now: u64) -> bool {
        let (name, zone) = match scope {
            Scope::All => {
                self.all(now);
                return false;
            }
            Scope::Name(name) => (name, false),
            Scope::Zone(name) => (name, true),
        };
        let life = u64::try_from(REMEMBERED.as_nanos()).unwrap_or(u64::MAX);
        self.list.retain(|flush| {
            let taken_over = if zone {
                covers(name.as_wire(), flush.name.as_wire())
            } else {
                !flush.zone && flush.name == *name
            };
            !taken_over && now.saturating_sub(flush.at) <= life
        });
        if self.list.len() == FLUSHES_MAX {
            self.all(now);
            return true;
        }
        self.list.push(Flush { zone, name: name.clone(), at: now });
        false
    }

    /// Whether an answer from `since` for a name in wire form is still good.
    #[must_use]
    pub fn spare(&self, since: u64, name: &[u8]) -> bool {
        self.all_at.is_none_or(|at| since > at)
            && !self.list.iter().any(|flush| {
                since <= flush.at
                    && if flush.zone {
                        covers(flush.name.as_wire(), name)
                    } else {
                        flush.name.as_wire() == name
                    }
            })
    }

    /// From now on nothing is kept that was looked for by `now`.
    pub fn keep_from(&mut self, now: u64) {
        self.keep_from = Some(now);
    }

    /// Whether an answer that was looked for from `since` on may be kept.
    #[must_use]
    pub fn keeps(&self, since: u64) -> bool {
        self.keep_from.is_none_or(|at| since > at)
    }

    fn all(&mut self, now: u64) {
        self.all_at = Some(now);
        self.list.clear();
    }
}

/// Whether a name is `zone` or below it; both lower-cased and in wire form.
fn covers(zone: &[u8], name: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        let label = usize::from(rest[0]);
        match rest.get(1 + label..) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest == zone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn spares(flushes: &Flushes, since: u64, text: &str) -> bool {
        flushes.spare(since, name(text).as_wire())
    }

    #[test]
    fn a_name_goes_alone_and_a_zone_with_all_below() {
        let mut flushes = Flushes::default();
        assert!(!flushes.add(&Scope::Name(name("a.test")), 10));
        assert!(!flushes.add(&Scope::Zone(name("zone.test")), 20));
        for (since, text, good) in [
            (9, "a.test", false),
            (10, "a.test", false),
            (11, "a.test", true),
            (5, "b.a.test", true),
            (5, "test", true),
            (5, "aa.test", true),
            (20, "zone.test", false),
            (20, "x.y.zone.test", false),
            (21, "x.y.zone.test", true),
            (5, "myzone.test", true),
            (5, "est", true),
        ] {
            assert_eq!(spares(&flushes, since, text), good, "{since} {text}");
        }
    }

    #[test]
    fn all_takes_everything_and_the_list_with_it() {
        let mut flushes = Flushes::default();
        flushes.add(&Scope::Name(name("a.test")), 10);
        assert!(!flushes.add(&Scope::All, 20));
        assert!(flushes.list.is_empty());
        assert!(!spares(&flushes, 20, "b.test"));
        assert!(spares(&flushes, 21, "a.test"));
        // The root's zone is everything too.
        flushes.add(&Scope::Zone(Name::root()), 30);
        assert!(!spares(&flushes, 30, "a.test") && !spares(&flushes, 30, "."));
    }

    #[test]
    fn a_full_list_flushes_all_once_and_is_empty_again() {
        let mut flushes = Flushes::default();
        for n in 0..FLUSHES_MAX as u64 {
            assert!(!flushes.add(&Scope::Name(name(&format!("n{n}.test"))), n));
        }
        assert!(spares(&flushes, 100, "other.test"));
        // One that is there already needs no new line.
        assert!(!flushes.add(&Scope::Name(name("n0.test")), 100));
        assert!(flushes.add(&Scope::Name(name("one.more")), 200));
        assert!(!spares(&flushes, 200, "other.test"));
        assert!(spares(&flushes, 201, "one.more"));
        assert!(flushes.list.is_empty());
    }

    #[test]
    fn lines_that_concern_nobody_any_more_make_room() {
        let mut flushes = Flushes::default();
        for n in 0..FLUSHES_MAX as u64 {
            flushes.add(&Scope::Name(name(&format!("n{n}.zone.test"))), n);
        }
        flushes.add(&Scope::Zone(name("zone.test")), 1_000);
        assert_eq!(flushes.list.len(), 1);
        let later = 1_001 + REMEMBERED.as_nanos() as u64;
        flushes.add(&Scope::Name(name("a.test")), later);
        assert_eq!(flushes.list.len(), 1);
        // A name inside a flushed zone is a line of its own: it is younger.
        flushes.add(&Scope::Zone(name("test")), later + 1);
        flushes.add(&Scope::Name(name("a.test")), later + 2);
        assert_eq!(flushes.list.len(), 2);
    }
}
