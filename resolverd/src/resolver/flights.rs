//! One flight for each question: who asks what is already under way waits for the same answer.
//!
//! Turns part those who asked before something changed from those who ask after it: nobody waits
//! for an answer that was asked for before his turn.
//!
//! Pure: waiters are of any type. Beside saving work, this is what keeps a forger from guessing
//! against many outstanding copies of one question at once (RFC 5452 section 5).

use std::collections::HashMap;
use std::sync::Arc;

use crate::dns::Query;

/// Questions under way, and who waits for each.
#[derive(Debug)]
pub struct Flights<W> {
    waiting: HashMap<(Arc<Query>, Turn), Vec<W>>,
    turn: Turn,
    flights_max: usize,
}

/// Counts the changes after which a question is asked anew, though it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turn(u64);

/// What becomes of somebody who asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// The first of this turn: a flight has to be started.
    Leads(Turn),
    /// The answer of a flight under way is waited for.
    Follows,
    /// Too many already: the waiter was not taken.
    Shed,
}

impl<W> Flights<W> {
    #[must_use]
    pub fn new(flights_max: usize) -> Self {
        Self { waiting: HashMap::new(), turn: Turn::default(), flights_max }
    }

    pub fn join(&mut self, query: &Arc<Query>, waiter: W) -> Joined {
        let flight = (Arc::clone(query), self.turn);
        if let Some(waiters) = self.waiting.get_mut(&flight) {
            if waiters.len() >= WAITERS_MAX {
                return Joined::Shed;
            }
            waiters.push(waiter);
            return Joined::Follows;
        }
        if self.waiting.len() >= self.flights_max {
            return Joined::Shed;
        }
        self.waiting.insert(flight, vec![waiter]);
        Joined::Leads(self.turn)
    }

    /// Who joins from now on waits for no flight that is under way now. Those who wait for one
    /// get its answer.
    pub fn next_turn(&mut self) {
        self.turn.0 += 1;
    }

    /// Ends a flight and hands over those who wait for it.
    #[must_use]
    pub fn land(&mut self, query: &Arc<Query>, turn: Turn) -> Vec<W> {
        self.waiting.remove(&(Arc::clone(query), turn)).unwrap_or_default()
    }

    /// Flights under way stay so, even when there are more than the new bound.
    pub fn set_max(&mut self, flights_max: usize) {
        self.flights_max = flights_max;
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Those who wait for one answer. Past this, a client hears "no" at once: so many for one name
/// within the life of a flight are no honest crowd, or will be served by the cache in a moment.
const WAITERS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Turn = Turn(0);

    fn query(name: &str) -> Arc<Query> {
        Arc::new(Query {
            name: name.parse().unwrap(),
            qtype: 1,
            dnssec_ok: false,
            checking_disabled: false,
            view: 0,
        })
    }

    #[test]
    fn the_first_leads_the_others_follow_and_all_land_together() {
        let mut flights = Flights::new(10);
        assert_eq!(flights.join(&query("a."), 1), Joined::Leads(NOW));
        assert_eq!(flights.join(&query("a."), 2), Joined::Follows);
        assert_eq!(flights.join(&query("b."), 3), Joined::Leads(NOW));
        assert_eq!(flights.land(&query("a."), NOW), [1, 2]);
        assert!(flights.land(&query("a."), NOW).is_empty());
        assert_eq!(flights.join(&query("a."), 4), Joined::Leads(NOW));
        assert_eq!(flights.len(), 2);
    }

    #[test]
    fn after_a_turn_nobody_waits_for_what_was_asked_before_it() {
        let mut flights = Flights::new(10);
        assert_eq!(flights.join(&query("a."), 1), Joined::Leads(NOW));
        flights.next_turn();
        assert_eq!(flights.join(&query("a."), 2), Joined::Leads(Turn(1)));
        assert_eq!(flights.join(&query("a."), 3), Joined::Follows);
        assert_eq!(flights.len(), 2);
        assert_eq!(flights.land(&query("a."), NOW), [1]);
        assert_eq!(flights.land(&query("a."), Turn(1)), [2, 3]);
    }

    #[test]
    fn questions_that_differ_in_anything_fly_apart() {
        let mut flights = Flights::new(10);
        let base = query("a.");
        let others = [
            Query { qtype: 28, ..(*base).clone() },
            Query { dnssec_ok: true, ..(*base).clone() },
            Query { checking_disabled: true, ..(*base).clone() },
            Query { view: 1, ..(*base).clone() },
        ];
        assert_eq!(flights.join(&base, 0), Joined::Leads(NOW));
        for other in others {
            assert_eq!(flights.join(&Arc::new(other), 0), Joined::Leads(NOW));
        }
    }

    #[test]
    fn past_the_bounds_askers_are_shed_and_flights_under_way_go_on() {
        let mut flights = Flights::new(2);
        flights.join(&query("a."), 0);
        flights.join(&query("b."), 0);
        assert_eq!(flights.join(&query("c."), 0), Joined::Shed);
        assert_eq!(flights.join(&query("a."), 0), Joined::Follows);
        flights.set_max(1);
        assert_eq!(flights.join(&query("b."), 0), Joined::Follows);
        let _ = flights.land(&query("a."), NOW);
        assert_eq!(flights.join(&query("c."), 0), Joined::Shed);
        for _ in flights.waiting[&(query("b."), NOW)].len()..WAITERS_MAX {
            assert_eq!(flights.join(&query("b."), 0), Joined::Follows);
        }
        assert_eq!(flights.join(&query("b."), 0), Joined::Shed);
    }
}
