//! The servers of one zone, as one question sees them: whom to ask next, and how.
//!
//! Pure: dice are the caller's. Near servers first, one of those about as near by chance, and now
//! and then any, so that a better one is found; those set aside last.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::BootTime;
use crate::resolver::machine::Transport;

use super::servers::{Manner, Servers};

/// One address of a server of the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// It is no good for this zone, or for this question.
    pub over: bool,
    /// What it said of this zone did not bear validation: asked when nobody else is left.
    pub doubted: bool,
    /// Questions of the present round that were put to it.
    pub asked: u32,
    pub transport: Transport,
    /// It cut an answer short: over UDP it would do so again.
    pub truncates: bool,
    /// None: as it is remembered.
    pub edns: Option<bool>,
    pub scramble: Option<bool>,
}

impl Target {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            over: false,
            doubted: false,
            asked: 0,
            transport: Transport::Udp,
            truncates: false,
            edns: None,
            scramble: None,
        }
    }

    /// How the next question to it is put, if silence is all that came so far: the same once
    /// more, then over TCP, then without EDNS.
    pub fn vary(&mut self, manner: &Manner) {
        self.transport = match self.asked {
            _ if self.truncates => Transport::Tcp,
            2 => Transport::Tcp,
            _ => Transport::Udp,
        };
        if self.asked == 3 && !manner.knows_edns {
            self.edns = Some(false);
        }
    }
}

/// The next to ask: among those asked least. None: all are over, or were asked often enough.
#[must_use]
pub fn choose(
    targets: &[Target],
    now: BootTime,
    servers: &Servers,
    dice: &mut Dice,
) -> Option<usize> {
    let open = |target: &&Target| !target.over && target.asked < ASKED_MAX;
    let least = targets.iter().filter(open).map(|target| target.asked).min()?;
    let manner = |target: &Target| servers.manner(now, target.address);
    let candidates: Vec<(usize, Manner)> = targets
        .iter()
        .enumerate()
        .filter(|(_, target)| open(target) && target.asked == least)
        .map(|(at, target)| (at, manner(target)))
        .collect();
    // Silence may be over; what was false a moment ago is still.
    let rank = |(at, manner): &(usize, Manner)| (targets[*at].doubted, manner.aside);
    let best = candidates.iter().map(rank).min()?;
    let usable: Vec<_> = candidates.iter().filter(|candidate| rank(candidate) == best).collect();
    if best.1 {
        return dice.pick(&usable).map(|(at, _)| *at);
    }
    if dice.one_in(EXPLORE_EVERY) {
        return dice.pick(&usable).map(|(at, _)| *at);
    }
    let best = usable.iter().map(|(_, manner)| manner.expected).min()?;
    let near: Vec<_> = usable
        .into_iter()
        .filter(|(_, manner)| manner.expected <= best + best / NEAR_PART + NEAR_AT_LEAST)
        .collect();
    dice.pick(&near).map(|(at, _)| *at)
}

/// How long to wait before somebody else is asked as well.
#[must_use]
pub fn patience(target: &Target, manner: &Manner) -> Duration {
    manner.patience * (1 << target.asked.min(DOUBLINGS_MAX))
}

/// Chance, from a seed: the driver's is random, a test's is not.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64: for spreading load, not against anybody's guesses.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.roll().is_multiple_of(many)
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(among.len()).ok().filter(|&count| count > 0)?;
        among.get(usize::try_from(self.roll() % count).ok()?)
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let at = usize::try_from(self.roll() % (end as u64 + 1)).unwrap_or(0);
            list.swap(at, end);
        }
    }
}

/// Questions put to one address about one thing: twice over UDP, over TCP, without EDNS.
const ASKED_MAX: u32 = 4;

/// One choice in so many is of any server, not of a near one.
const EXPLORE_EVERY: u64 = 32;

/// Servers so much later than the best are still near: a quarter of its time, and some.
const NEAR_PART: u32 = 4;
const NEAR_AT_LEAST: Duration = Duration::from_millis(4);

const DOUBLINGS_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime(1_000_000_000_000);

    fn at(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 53).into()
    }

    fn targets(count: u8) -> Vec<Target> {
        (1..=count).map(|last| Target::new(at(last))).collect()
    }

    /// How often each is chosen in a thousand.
    fn shares(targets: &[Target], servers: &Servers) -> Vec<usize> {
        let mut dice = Dice::new(7);
        let mut shares = vec![0; targets.len()];
        for _ in 0..1_000 {
            shares[choose(targets, NOW, servers, &mut dice).unwrap()] += 1;
        }
        shares
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn unknown_servers_share_and_a_near_one_wins() {
        let servers = Servers::default();
        let three = targets(3);
        assert!(shares(&three, &servers).iter().all(|share| *share > 250));
        servers.answered(at(1), ms(90));
        servers.answered(at(2), ms(10));
        servers.answered(at(3), ms(12));
        let shares = shares(&three, &servers);
        assert!((1..40).contains(&shares[0]), "explored now and then: {shares:?}");
        assert!(shares[1] > 400 && shares[2] > 400, "{shares:?}");
    }

    #[test]
    fn those_set_aside_are_asked_when_nobody_else_is_left() {
        let servers = Servers::default();
        servers.unreachable(NOW, at(1));
        let mut two = targets(2);
        assert_eq!(shares(&two, &servers), [0, 1_000]);
        two[1].over = true;
        assert_eq!(shares(&two, &servers), [1_000, 0]);
        two[0].asked = ASKED_MAX;
        assert_eq!(choose(&two, NOW, &servers, &mut Dice::new(1)), None);
    }

    #[test]
    fn those_that_spoke_falsely_come_after_the_silent() {
        let servers = Servers::default();
        servers.answered(at(1), ms(1));
        servers.unreachable(NOW, at(2));
        let mut two = targets(2);
        two[0].doubted = true;
        assert_eq!(shares(&two, &servers), [0, 1_000]);
        two[1].over = true;
        assert_eq!(shares(&two, &servers), [1_000, 0]);
    }

    #[test]
    fn who_was_asked_less_comes_first() {
        let servers = Servers::default();
        let mut two = targets(2);
        servers.answered(at(1), ms(1));
        two[0].asked = 1;
        assert_eq!(shares(&two, &servers), [0, 1_000]);
    }

    #[test]
    fn silence_is_answered_by_other_manners() {
        let servers = Servers::default();
        let manner = servers.manner(NOW, at(1));
        let mut target = Target::new(at(1));
        let mut seen = Vec::new();
        for asked in 0..ASKED_MAX {
            target.asked = asked;
            target.vary(&manner);
            seen.push((target.transport, target.edns));
        }
        let (udp, tcp) = (Transport::Udp, Transport::Tcp);
        assert_eq!(seen, [(udp, None), (udp, None), (tcp, None), (udp, Some(false))]);
        assert_eq!(patience(&target, &manner), manner.patience * 8);
        servers.knows_edns(at(1));
        target = Target { asked: 3, ..Target::new(at(1)) };
        target.vary(&servers.manner(NOW, at(1)));
        assert_eq!(target.edns, None);
    }
}
