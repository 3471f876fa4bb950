//! When a further connection to a server is set up, and what those are told who wait for one.
//!
//! Pure: `driver/links.rs` sets up, and says how it ended. One is set up at a time, so that a
//! hundred questions at once do not make a hundred connections; a server that was not reached is
//! left alone for a while, and who asks meanwhile hears at once why.

use std::time::Duration;

use crate::clock::BootTime;

/// How setting up connections to one server goes. `F` says why one failed.
#[derive(Debug)]
pub struct SetUps<F> {
    under_way: usize,
    failures: u64,
    failed: Option<Failed<F>>,
    /// How many questions one connection is good for, and until when that is believed.
    good_for: Option<(u64, BootTime)>,
}

#[derive(Debug)]
struct Failed<F> {
    why: F,
    pause: Duration,
    until: BootTime,
}

/// What one is to do who found no connection that takes his question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<F> {
    /// Set one up.
    Start,
    /// Look again when something changed.
    Wait,
    /// There is none, and will not be in time.
    Fail(F),
}

/// When somebody came to wait.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u64);

impl<F> Default for SetUps<F> {
    fn default() -> Self {
        Self { under_way: 0, failures: 0, failed: None, good_for: None }
    }
}

impl<F: Clone> SetUps<F> {
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket(self.failures)
    }

    /// `open` connections are there.
    pub fn next(&mut self, now: BootTime, ticket: Ticket, open: usize) -> Next<F> {
        if let Some(failed) = &self.failed
            && (self.failures > ticket.0 || now < failed.until)
        {
            return Next::Fail(failed.why.clone());
        }
        // Where each takes a question or a few, those who wait need several.
        let at_once = if self.good_for(now) == u64::MAX { 1 } else { LINKS_MAX };
        if self.under_way < at_once && open + self.under_way < LINKS_MAX {
            self.under_way += 1;
            return Next::Start;
        }
        Next::Wait
    }

    pub fn succeeded(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.failed = None;
    }

    pub fn failed(&mut self, now: BootTime, why: F) {
        self.under_way = self.under_way.saturating_sub(1);
        self.failures += 1;
        let before = self.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        let pause = (before * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.failed = Some(Failed { why, pause, until: now + pause });
    }

    /// The server closed a connection after so many answers, and others waited.
    pub fn learn(&mut self, now: BootTime, good_for: u64) {
        self.good_for = Some((good_for, now + BELIEVED_FOR));
    }

    /// How many questions a connection takes before another is opened in its place.
    #[must_use]
    pub fn good_for(&self, now: BootTime) -> u64 {
        self.good_for.filter(|&(_, until)| now < until).map_or(u64::MAX, |(good_for, _)| good_for)
    }

    /// Whether nothing is to be remembered.
    #[must_use]
    pub fn is_idle(&self, now: BootTime) -> bool {
        self.under_way == 0 && self.failed.as_ref().is_none_or(|failed| failed.until <= now)
    }
}

/// Connections to one server, those included that are left and wait for their last answers.
/// Eight times what one takes at once is more than a resolver should have to bear of us.
pub const LINKS_MAX: usize = 8;

/// After a connection could not be set up: another is tried soon for one that was restarted, and
/// seldom for one that is gone. Beside this, `upstreams` sets it aside.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A server that closes early may have done so for once.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::default() + Duration::from_millis(millis)
    }

    #[test]
    fn one_is_set_up_at_a_time_and_all_hear_how_it_ended() {
        let mut setups = SetUps::default();
        let (first, second) = (setups.ticket(), setups.ticket());
        assert_eq!(setups.next(at(0), first, 0), Next::Start);
        assert_eq!(setups.next(at(0), second, 0), Next::Wait);
        setups.failed(at(10), "refused");
        for ticket in [first, second] {
            assert_eq!(setups.next(at(10), ticket, 0), Next::Fail("refused"));
        }
        // Who comes later hears it at once, until it is tried again.
        let third = setups.ticket();
        assert_eq!(setups.next(at(109), third, 0), Next::Fail("refused"));
        assert_eq!(setups.next(at(110), third, 0), Next::Start);
        setups.succeeded();
        assert_eq!(setups.next(at(110), first, 1), Next::Start, "what failed is forgotten");
    }

    #[test]
    fn a_server_that_is_gone_is_tried_less_and_less_often() {
        let mut setups = SetUps::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let ticket = setups.ticket();
            assert_eq!(setups.next(at(now), ticket, 0), Next::Start);
            setups.failed(at(now), ());
            let ticket = setups.ticket();
            let pause = (1..).find(|ms| setups.next(at(now + ms), ticket, 0) == Next::Start);
            setups.under_way = 0;
            pauses.extend(pause);
            now += pause.unwrap();
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_000, 3_000, 3_000]);
        assert!(!setups.is_idle(at(now - 1)) && setups.is_idle(at(now)));
    }

    #[test]
    fn connections_are_bounded_also_where_each_takes_one_question() {
        let mut setups = SetUps::<()>::default();
        let ticket = setups.ticket();
        assert_eq!(setups.next(at(0), ticket, LINKS_MAX), Next::Wait);
        setups.learn(at(0), 1);
        assert_eq!(setups.good_for(at(0)), 1);
        for _ in 0..LINKS_MAX - 2 {
            assert_eq!(setups.next(at(0), ticket, 2), Next::Start);
        }
        assert_eq!(setups.next(at(0), ticket, 2), Next::Wait);
        assert_eq!(setups.good_for(at(60_000)), u64::MAX, "it is forgotten");
    }
}
