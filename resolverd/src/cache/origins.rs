//! Who said so, as a number of 16 bits.
//!
//! Pure. Entries say whom they come from by number; this is the table of the numbers. It only
//! grows: upstreams and zones come from the configuration, and there are few.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dns::Source;

/// Names that have a number of their own; further ones are "other". Reloads may add names as
/// long as the daemon runs, and the numbers of old ones are still in entries.
pub const ORIGINS_MAX: usize = 4_096;

/// Number 0: made here.
const DAEMON: u16 = 0;
/// Number 1: past the bound.
const OTHER: u16 = 1;

#[derive(Debug)]
pub struct Origins {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

impl Default for Origins {
    fn default() -> Self {
        let names = vec![Arc::from("daemon"), Arc::from("other")];
        Self { names, numbers: HashMap::new() }
    }
}

impl Origins {
    /// The number of a source that is known already.
    #[must_use]
    pub fn known(&self, source: &Source) -> Option<u16> {
        match label(source) {
            None => Some(DAEMON),
            Some(text) => self.numbers.get(&*text).copied(),
        }
    }

    /// The number of a source.
    pub fn number(&mut self, source: &Source) -> u16 {
        if let Some(number) = self.known(source) {
            return number;
        }
        label(source).map_or(DAEMON, |text| self.number_of(&text))
    }

    /// The number of a source that is known already, by its words.
    #[must_use]
    pub fn known_as(&self, text: &str) -> Option<u16> {
        if text == &*self.names[usize::from(DAEMON)] {
            return Some(DAEMON);
        }
        self.numbers.get(text).copied()
    }

    /// The number of a source, by its words.
    pub fn number_of(&mut self, text: &str) -> u16 {
        if let Some(number) = self.known_as(text) {
            return number;
        }
        if self.names.len() == ORIGINS_MAX {
            return OTHER;
        }
        let name: Arc<str> = Arc::from(text);
        // ORIGINS_MAX is far below what a number can hold.
        let number = self.names.len() as u16;
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    /// All names, by their numbers.
    #[must_use]
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// "upstream NAME", "zone NAME", "daemon".
    #[must_use]
    pub fn name(&self, number: u16) -> Arc<str> {
        let name = self.names.get(usize::from(number));
        Arc::clone(name.unwrap_or(&self.names[usize::from(OTHER)]))
    }
}

fn label(source: &Source) -> Option<String> {
    match source {
        Source::Daemon => None,
        Source::Upstream(name) => Some(format!("upstream {name}")),
        Source::Local(zone) => Some(format!("zone {zone}")),
        Source::Rpz(zone) => Some(format!("rpz {zone}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_number_and_a_zone_is_no_upstream() {
        let mut origins = Origins::default();
        let upstream = Source::Upstream("a.test.".into());
        let zone = Source::Local("a.test".parse().unwrap());
        assert_eq!(origins.known(&upstream), None);
        let first = origins.number(&upstream);
        let second = origins.number(&zone);
        assert_ne!(first, second);
        assert_eq!(origins.number(&upstream), first);
        assert_eq!(origins.known(&zone), Some(second));
        assert_eq!(&*origins.name(first), "upstream a.test.");
        assert_eq!(&*origins.name(second), "zone a.test.");
        assert_eq!(&*origins.name(origins.known(&Source::Daemon).unwrap()), "daemon");
    }

    #[test]
    fn names_past_the_bound_share_a_number() {
        let mut origins = Origins::default();
        for n in 0..ORIGINS_MAX + 10 {
            origins.number(&Source::Upstream(format!("u{n}").into()));
        }
        assert_eq!(origins.names.len(), ORIGINS_MAX);
        let last = origins.number(&Source::Upstream("new".into()));
        assert_eq!(&*origins.name(last), "other");
        assert_eq!(&*origins.name(u16::MAX), "other");
    }
}
