//! Which of the things kept here were flushed: a list, so that no flush walks through a cache.
//!
//! Pure. What was asked for before a flush of its name is not believed after it.

use std::time::Duration;

use crate::clock::BootTime;
use crate::dns::Name;

/// What an operator flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flushed {
    Name(Name),
    /// The name and all below it.
    Zone(Name),
    All,
}

/// Flushes, each with its time.
#[derive(Debug, Default)]
pub struct Flushes {
    list: Vec<(Flushed, BootTime)>,
    /// All that was asked for up to then is gone.
    all: Option<BootTime>,
}

impl Flushes {
    pub fn note(&mut self, now: BootTime, what: Flushed) {
        self.list.retain(|(_, at)| now.saturating_since(*at) < REMEMBERED_FOR);
        if what == Flushed::All || self.list.len() >= FLUSHES_MAX {
            self.list.clear();
            self.all = Some(now);
        } else {
            self.list.push((what, now));
        }
    }

    /// Whether what is known of `name` since `asked` was flushed.
    #[must_use]
    pub fn cover(&self, name: &Name, asked: BootTime) -> bool {
        self.all.is_some_and(|all| asked <= all)
            || self.list.iter().any(|(what, at)| {
                asked <= *at
                    && match what {
                        Flushed::Name(flushed) => name == flushed,
                        Flushed::Zone(zone) => name.is_under(zone),
                        Flushed::All => true,
                    }
            })
    }
}

/// Flushes judged one by one. Past it all is flushed: judging would cost more than asking anew.
const FLUSHES_MAX: usize = 64;

/// Nothing kept in this room lives longer.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    const fn at(secs: u64) -> BootTime {
        BootTime(secs * 1_000_000_000)
    }

    #[test]
    fn what_was_asked_for_before_a_flush_of_its_name_is_gone() {
        let mut flushes = Flushes::default();
        flushes.note(at(10), Flushed::Zone(name("a.test.")));
        flushes.note(at(20), Flushed::Name(name("www.b.test.")));
        for (text, asked, gone) in [
            ("a.test.", 10, true),
            ("x.a.test.", 9, true),
            ("x.a.test.", 11, false),
            ("www.b.test.", 20, true),
            ("x.www.b.test.", 1, false),
            ("b.test.", 1, false),
        ] {
            assert_eq!(flushes.cover(&name(text), at(asked)), gone, "{text} {asked}");
        }
        flushes.note(at(30), Flushed::All);
        assert!(flushes.cover(&name("b.test."), at(30)));
        assert!(!flushes.cover(&name("b.test."), at(31)));
    }

    #[test]
    fn more_flushes_than_are_remembered_flush_all() {
        let mut flushes = Flushes::default();
        for n in 0..=FLUSHES_MAX as u64 {
            assert!(!flushes.cover(&name("other.test."), at(1)));
            flushes.note(at(2 + n), Flushed::Name(name(&format!("n{n}.test."))));
        }
        assert!(flushes.cover(&name("other.test."), at(1)));
    }
}
