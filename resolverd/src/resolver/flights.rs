//! One flight for each question: who asks what is already under way waits for the same answer.
//!
//! Turns part those who asked before something changed from those who ask after it: nobody waits
//! for an answer that was asked for before his turn. Where there are too many flights the oldest
//! gives way: whom it is for has waited longest, and may have gone. One zone has a share of them,
//! past which its newcomers are turned away: its servers are slow, or somebody makes up names in
//! it, and neither is helped by asking them more.
//!
//! Pure: waiters and tasks are of any type. Beside saving work, this is what keeps a forger from
//! guessing against many outstanding copies of one question at once (RFC 5452 section 5).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::dns::{Name, Query};

/// Questions under way, who waits for each, and the task that answers it.
#[derive(Debug)]
pub struct Flights<W, T> {
    questions: HashMap<(Arc<Query>, Turn), FlightId>,
    /// The oldest first.
    flights: BTreeMap<FlightId, Flight<W, T>>,
    /// How many flights there are for names in a zone.
    zones: HashMap<Name, usize>,
    turn: Turn,
    next: FlightId,
    most: FlightsMax,
}

/// Flights at once: in all, and for names of one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightsMax {
    pub all: usize,
    pub zone: usize,
}

/// Flights in the order of their beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightId(u64);

/// Counts the changes after which a question is asked anew, though it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Turn(u64);

#[derive(Debug)]
struct Flight<W, T> {
    question: (Arc<Query>, Turn),
    zone: Option<Name>,
    waiters: Vec<W>,
    task: Option<T>,
}

/// What becomes of somebody who asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<W, T> {
    /// The first of this turn: a flight has to be started. The oldest may have given way to it.
    Leads(FlightId, Option<Shed<W, T>>),
    /// The answer of a flight under way is waited for.
    Follows,
    /// The waiter was not taken.
    Full(Full),
}

/// What there are too many of already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Who wait for this very question.
    Waiters,
    /// Questions for names of this zone.
    Zone,
}

/// A flight that ends without an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Shed<W, T> {
    pub waiters: Vec<W>,
    pub task: Option<T>,
}

impl<W, T> Flights<W, T> {
    #[must_use]
    pub fn new(most: FlightsMax) -> Self {
        Self {
            questions: HashMap::new(),
            flights: BTreeMap::new(),
            zones: HashMap::new(),
            turn: Turn::default(),
            next: FlightId::default(),
            most,
        }
    }

    /// `zone` says which zone a name is counted for, if any.
    pub fn join(
        &mut self,
        query: &Arc<Query>,
        waiter: W,
        zone: impl FnOnce() -> Option<Name>,
    ) -> Joined<W, T> {
        let question = (Arc::clone(query), self.turn);
        let under_way = self.questions.get(&question).and_then(|id| self.flights.get_mut(id));
        if let Some(flight) = under_way {
            if flight.waiters.len() >= WAITERS_MAX {
                return Joined::Full(Full::Waiters);
            }
            flight.waiters.push(waiter);
            return Joined::Follows;
        }
        let zone = zone();
        let of_zone = zone.as_ref().and_then(|zone| self.zones.get(zone)).copied().unwrap_or(0);
        if of_zone >= self.most.zone {
            return Joined::Full(Full::Zone);
        }
        let full = self.flights.len() >= self.most.all;
        let oldest = self.flights.keys().next().copied().filter(|_| full);
        let shed = oldest.and_then(|id| self.end(id));
        let id = self.next;
        self.next.0 += 1;
        self.questions.insert(question.clone(), id);
        if let Some(zone) = &zone {
            *self.zones.entry(zone.clone()).or_default() += 1;
        }
        self.flights.insert(id, Flight { question, zone, waiters: vec![waiter], task: None });
        Joined::Leads(id, shed)
    }

    /// Notes the task that answers a flight, so that it can be ended with it.
    pub fn started(&mut self, id: FlightId, task: T) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.task = Some(task);
        }
    }

    /// Who joins from now on waits for no flight that is under way now. Those who wait for one
    /// get its answer.
    pub fn next_turn(&mut self) {
        self.turn.0 += 1;
    }

    /// Ends a flight and hands over those who wait for it.
    #[must_use]
    pub fn land(&mut self, id: FlightId) -> Vec<W> {
        self.end(id).map(|ended| ended.waiters).unwrap_or_default()
    }

    /// Flights under way stay so, even when there are more than the new most.
    pub fn set_most(&mut self, most: FlightsMax) {
        self.most = most;
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    fn end(&mut self, id: FlightId) -> Option<Shed<W, T>> {
        let Flight { question, zone, waiters, task } = self.flights.remove(&id)?;
        self.questions.remove(&question);
        if let Some(zone) = zone
            && let Some(count) = self.zones.get_mut(&zone)
        {
            *count -= 1;
            if *count == 0 {
                self.zones.remove(&zone);
            }
        }
        Some(Shed { waiters, task })
    }
}

/// Those who wait for one answer. Past this, a client hears "no" at once: so many for one name
/// within the life of a flight are no honest crowd, or will be served by the cache in a moment.
const WAITERS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    type Joined = super::Joined<u32, &'static str>;

    fn flights(all: usize, zone: usize) -> Flights<u32, &'static str> {
        Flights::new(FlightsMax { all, zone })
    }

    fn query(name: &str) -> Arc<Query> {
        Arc::new(Query {
            name: name.parse().unwrap(),
            qtype: 1,
            dnssec_ok: false,
            checking_disabled: false,
            view: 0,
        })
    }

    fn leads(id: u64) -> Joined {
        Joined::Leads(FlightId(id), None)
    }

    #[test]
    fn the_first_leads_the_others_follow_and_all_land_together() {
        let mut flights = flights(10, 10);
        let mut join = |name: &str, waiter| flights.join(&query(name), waiter, || None);
        assert_eq!(join("a.", 1), leads(0));
        assert_eq!(join("a.", 2), Joined::Follows);
        assert_eq!(join("b.", 3), leads(1));
        assert_eq!(flights.land(FlightId(0)), [1, 2]);
        assert!(flights.land(FlightId(0)).is_empty());
        assert_eq!(flights.join(&query("a."), 4, || None), leads(2));
        assert_eq!(flights.len(), 2);
    }

    #[test]
    fn after_a_turn_nobody_waits_for_what_was_asked_before_it() {
        let mut flights = flights(10, 10);
        assert_eq!(flights.join(&query("a."), 1, || None), leads(0));
        flights.next_turn();
        assert_eq!(flights.join(&query("a."), 2, || None), leads(1));
        assert_eq!(flights.join(&query("a."), 3, || None), Joined::Follows);
        assert_eq!(flights.len(), 2);
        assert_eq!(flights.land(FlightId(0)), [1]);
        assert_eq!(flights.land(FlightId(1)), [2, 3]);
    }

    #[test]
    fn questions_that_differ_in_anything_fly_apart() {
        let mut flights = flights(10, 10);
        let base = query("a.");
        let others = [
            Query { qtype: 28, ..(*base).clone() },
            Query { dnssec_ok: true, ..(*base).clone() },
            Query { checking_disabled: true, ..(*base).clone() },
            Query { view: 1, ..(*base).clone() },
        ];
        assert_eq!(flights.join(&base, 0, || None), leads(0));
        for (other, id) in others.into_iter().zip(1..) {
            assert_eq!(flights.join(&Arc::new(other), 0, || None), leads(id));
        }
    }

    #[test]
    fn past_the_bound_the_oldest_gives_way_with_its_task_and_all_who_wait_for_it() {
        let mut flights = flights(2, 10);
        flights.join(&query("a."), 1, || None);
        flights.started(FlightId(0), "task");
        flights.join(&query("b."), 2, || None);
        assert_eq!(flights.join(&query("a."), 3, || None), Joined::Follows);
        let shed = Shed { waiters: vec![1, 3], task: Some("task") };
        assert_eq!(flights.join(&query("c."), 4, || None), Joined::Leads(FlightId(2), Some(shed)));
        assert_eq!(flights.len(), 2);
        // The same name again is another flight: the end of the old one is none of its matter.
        let shed = Shed { waiters: vec![2], task: None };
        assert_eq!(flights.join(&query("a."), 5, || None), Joined::Leads(FlightId(3), Some(shed)));
        assert!(flights.land(FlightId(0)).is_empty());
        assert_eq!(flights.land(FlightId(3)), [5]);
    }

    #[test]
    fn past_its_share_a_zones_newcomers_are_turned_away_and_others_are_not() {
        let mut flights = flights(10, 2);
        let zone = |text: &str| text.parse().ok();
        let mut join = |name: &str, of: &str| flights.join(&query(name), 0, || zone(of));
        assert_eq!(join("a.x.", "x."), leads(0));
        assert_eq!(join("b.x.", "x."), leads(1));
        assert_eq!(join("c.x.", "x."), Joined::Full(Full::Zone));
        assert_eq!(join("a.x.", "x."), Joined::Follows);
        assert_eq!(join("a.y.", "y."), leads(2));
        assert_eq!(flights.land(FlightId(0)), [0, 0]);
        assert_eq!(flights.join(&query("c.x."), 0, || zone("x.")), leads(3));
        for id in 1..=3 {
            let _ = flights.land(FlightId(id));
        }
        assert!(flights.zones.is_empty() && flights.questions.is_empty() && flights.is_empty());
    }

    #[test]
    fn too_many_for_one_question_are_turned_away_and_flights_under_way_go_on() {
        let mut flights = flights(2, 2);
        flights.join(&query("a."), 0, || None);
        flights.join(&query("b."), 0, || None);
        flights.set_most(FlightsMax { all: 1, zone: 1 });
        assert_eq!(flights.len(), 2);
        for _ in 1..WAITERS_MAX {
            assert_eq!(flights.join(&query("b."), 0, || None), Joined::Follows);
        }
        assert_eq!(flights.join(&query("b."), 0, || None), Joined::Full(Full::Waiters));
    }
}
