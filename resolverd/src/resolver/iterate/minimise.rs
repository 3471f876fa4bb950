//! QNAME minimisation: how much of a name each server is shown (RFC 9156).
//!
//! Pure. Relaxed, as most resolvers have it: a server that trips over a part of the name is asked
//! for the whole of it.

use crate::dns::{Name, rtype};
use crate::resolver::reply::Fetch;

/// How far one question has been shown.
#[derive(Clone, Debug)]
pub struct Minimiser {
    whole: Fetch,
    /// Labels shown, of `labels`.
    shown: usize,
    labels: usize,
    /// Questions for a part of the name so far, all zones together.
    count: usize,
    off: bool,
}

impl Minimiser {
    /// `on` is the operator's wish.
    #[must_use]
    pub fn new(whole: Fetch, on: bool) -> Self {
        let labels = labels(&whole.name);
        Self { whole, shown: labels, labels, count: 0, off: !on }
    }

    /// The servers of `zone` are asked next.
    pub fn enter(&mut self, zone: &Name) {
        self.shown = labels(zone);
        self.reveal();
    }

    /// Shows some more of the name (RFC 9156 section 2.3): one label at a time for the first
    /// few, then equal parts of what is left. Labels of services (`_tcp`) are no zones, and
    /// not stopped at.
    pub fn reveal(&mut self) {
        let left = self.labels.saturating_sub(self.shown);
        let step = if self.off || self.count >= MINIMISE_COUNT_MAX {
            left
        } else if self.count < MINIMISE_ONE_LABEL {
            1
        } else {
            left.div_ceil(MINIMISE_COUNT_MAX - self.count)
        };
        self.shown = (self.shown + step.max(1)).min(self.labels);
        while self.shown < self.labels && self.leads_with_underscore() {
            self.shown += 1;
        }
        if !self.is_whole() {
            self.count += 1;
        }
    }

    /// From now on the whole name is shown.
    pub fn stop(&mut self) {
        self.off = true;
        self.shown = self.labels;
    }

    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shown >= self.labels
    }

    /// What to ask. For a part of the name the type is A, which every server is used to
    /// (RFC 9156 section 2.1).
    #[must_use]
    pub fn question(&self) -> Fetch {
        if self.is_whole() {
            return self.whole.clone();
        }
        Fetch { name: self.part(), qtype: rtype::A }
    }

    fn part(&self) -> Name {
        let suffix = self.whole.name.suffixes().nth(self.labels - self.shown);
        suffix.and_then(|wire| Name::from_wire(wire).ok()).unwrap_or_else(Name::root)
    }

    fn leads_with_underscore(&self) -> bool {
        let suffix = self.whole.name.suffixes().nth(self.labels - self.shown);
        suffix.and_then(|wire| wire.get(1)) == Some(&b'_')
    }
}

/// The root has none.
#[must_use]
pub fn labels(name: &Name) -> usize {
    name.suffixes().count() - 1
}

/// RFC 9156 section 2.3: MAX_MINIMISE_COUNT and MINIMISE_ONE_LAB. A name of 127 labels would
/// else be 127 questions.
const MINIMISE_COUNT_MAX: usize = 10;
const MINIMISE_ONE_LABEL: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(text: &str) -> Fetch {
        Fetch { name: text.parse().unwrap(), qtype: rtype::MX }
    }

    /// What the servers of a zone are asked until they have seen all.
    fn walk(name: &str, zone: &str) -> Vec<String> {
        let mut minimiser = Minimiser::new(fetch(name), true);
        minimiser.enter(&zone.parse().unwrap());
        let mut asked = Vec::new();
        loop {
            let question = minimiser.question();
            asked.push(format!("{} {}", question.name, question.qtype));
            if minimiser.is_whole() {
                return asked;
            }
            minimiser.reveal();
        }
    }

    #[test]
    fn one_label_more_is_shown_at_a_time_and_the_type_at_last() {
        assert_eq!(walk("www.a.test.", "."), ["test. 1", "a.test. 1", "www.a.test. 15"]);
        assert_eq!(walk("www.a.test.", "a.test."), ["www.a.test. 15"]);
        assert_eq!(walk("a.test.", "a.test."), ["a.test. 15"]);
        assert_eq!(walk(".", "."), [". 15"]);
    }

    #[test]
    fn labels_of_services_are_not_stopped_at() {
        assert_eq!(walk("_sip._tcp.a.test.", "a.test."), ["_sip._tcp.a.test. 15"]);
        let expected = ["b._tcp.a.test. 1", "c.b._tcp.a.test. 15"];
        assert_eq!(walk("c.b._tcp.a.test.", "a.test."), expected);
    }

    #[test]
    fn a_name_of_many_labels_takes_no_more_than_the_bound() {
        let long = "x.".repeat(100);
        let asked = walk(&long, ".");
        assert_eq!(asked.len(), MINIMISE_COUNT_MAX);
        assert_eq!(asked[..5].iter().map(|a| a.matches("x.").count()).max(), Some(20));
        assert!(asked[9].starts_with(&long));
    }

    #[test]
    fn switched_off_or_stopped_it_shows_all_at_once() {
        let mut minimiser = Minimiser::new(fetch("www.a.test."), false);
        minimiser.enter(&Name::root());
        assert_eq!(minimiser.question(), fetch("www.a.test."));
        let mut minimiser = Minimiser::new(fetch("www.a.test."), true);
        minimiser.enter(&Name::root());
        assert!(!minimiser.is_whole());
        minimiser.stop();
        assert_eq!(minimiser.question(), fetch("www.a.test."));
        minimiser.enter(&"test.".parse().unwrap());
        assert!(minimiser.is_whole());
    }
}
