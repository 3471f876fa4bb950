//! Finds the highest rate at which next to nothing is lost. Pure: the shots are fired elsewhere.
//!
//! From a first guess it goes up until a shot loses too much or the generator can't keep up, then
//! halves the distance. A rate is only too high if two shots at it say so: other work on the
//! machine spoils single ones. Ends when the two sides are near, or after [`SHOTS_MAX`].

/// What one shot at a rate showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shot {
    /// Asked of the generator.
    pub rate: f64,
    /// Sent a second.
    pub sent: f64,
    /// Answered a second.
    pub answered: f64,
}

impl Shot {
    pub fn loss(&self) -> f64 {
        1.0 - self.answered / self.sent.max(1.0)
    }
}

/// Who was at his end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    Server,
    Generator,
}

pub struct Search {
    next: f64,
    growth: f64,
    below: Option<f64>,
    above: Option<f64>,
    best: Option<Shot>,
    wall: Wall,
    shots: u32,
    /// The shot before lost too much: is it the rate, or was it a moment?
    doubted: bool,
    done: bool,
}

impl Search {
    /// `hint`: where the wall was found before.
    pub fn new(hint: Option<f64>) -> Self {
        Self {
            next: hint.unwrap_or(RATE_FIRST),
            growth: if hint.is_some() { GROWTH_NEAR } else { GROWTH_FAR },
            below: None,
            above: None,
            best: None,
            wall: Wall::Server,
            shots: 0,
            doubted: false,
            done: false,
        }
    }

    /// The next rate to try; `None`: it is found, or it isn't there.
    pub fn rate(&self) -> Option<f64> {
        (!self.done).then_some(self.next)
    }

    pub fn saw(&mut self, shot: Shot) {
        self.shots += 1;
        if shot.loss() < LOSS_MAX {
            if self.best.is_none_or(|best| shot.answered > best.answered) {
                self.best = Some(shot);
            }
            if shot.sent < KEPT_UP * shot.rate {
                self.wall = Wall::Generator;
                self.done = true;
            }
            self.below = Some(shot.rate);
        } else if !self.doubted && self.shots < SHOTS_MAX {
            self.doubted = true;
            return;
        } else {
            self.above = Some(shot.rate);
        }
        self.doubted = false;
        self.next = match (self.below, self.above) {
            (Some(below), None) => {
                let next = below * self.growth;
                self.growth = (self.growth * self.growth).min(GROWTH_FAR);
                next
            }
            (None, Some(above)) => above * SHRINK,
            (Some(below), Some(above)) => (below + above) / 2.0,
            (None, None) => self.next,
        };
        let near = matches!((self.below, self.above), (Some(b), Some(a)) if a / b < NEAR);
        let outside = !(RATE_MIN..=RATE_MAX).contains(&self.next);
        self.done |= near || outside || self.shots >= SHOTS_MAX;
    }

    /// The best shot without loss, and who was at his end.
    pub fn found(&self) -> Option<(Shot, Wall)> {
        self.best.map(|best| (best, self.wall))
    }
}

/// Of queries, still called none.
pub const LOSS_MAX: f64 = 0.01;
/// A generator that sends less of what it was asked to has no more.
const KEPT_UP: f64 = 0.93;
const RATE_FIRST: f64 = 100_000.0;
const RATE_MIN: f64 = 2_000.0;
const RATE_MAX: f64 = 3_000_000.0;
const GROWTH_NEAR: f64 = 1.15;
const GROWTH_FAR: f64 = 1.6;
const SHRINK: f64 = 0.85;
const NEAR: f64 = 1.07;
/// A second each.
pub const SHOTS_MAX: u32 = 18;

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers `server` a second and loses the rest, a generator that sends at most
    /// `generator`.
    fn find(server: f64, generator: f64, hint: Option<f64>) -> (Search, u32) {
        let mut search = Search::new(hint);
        while let Some(rate) = search.rate() {
            let sent = rate.min(generator);
            search.saw(Shot { rate, sent, answered: sent.min(server) });
        }
        let shots = search.shots;
        (search, shots)
    }

    #[test]
    fn a_server_is_found_from_far_below_far_above_and_nearby() {
        for hint in [None, Some(20_000.0), Some(145_000.0), Some(500_000.0)] {
            let (search, shots) = find(150_000.0, 1e6, hint);
            let (best, wall) = search.found().unwrap();
            assert!((135_000.0..=151_600.0).contains(&best.answered), "{hint:?}: {best:?}");
            assert_eq!(wall, Wall::Server);
            assert!(shots <= SHOTS_MAX);
        }
    }

    #[test]
    fn a_generator_at_its_end_is_told_apart() {
        let (search, _) = find(5e6, 800_000.0, None);
        let (best, wall) = search.found().unwrap();
        assert_eq!(wall, Wall::Generator);
        assert!(best.answered > 790_000.0);
    }

    #[test]
    fn a_single_bad_moment_is_not_believed() {
        let (mut search, mut bad) = (Search::new(None), true);
        while let Some(rate) = search.rate() {
            let sent = rate.min(1e6);
            let moment = std::mem::take(&mut bad);
            let answered = if moment { sent / 2.0 } else { sent.min(150_000.0) };
            search.saw(Shot { rate, sent, answered });
        }
        assert!(search.found().unwrap().0.answered > 135_000.0);
    }

    #[test]
    fn a_server_that_answers_nothing_is_given_up() {
        let (search, shots) = find(0.0, 1e6, None);
        assert!(search.found().is_none());
        assert!(shots <= SHOTS_MAX);
    }
}
