//! The figures of `bench resolver` beside their goals. Pure.

use super::cold::Who;
use super::doors::{Door, Passage};
use super::{Peer, Runs};
use crate::bench::report::{Bound, Goal, collect};

pub fn goals(runs: &Runs) -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut add = |measure: String, bound, (values, foreign): (Vec<f64>, f64), baseline| {
        goals.push(Goal { measure, bound, values, foreign, baseline });
    };
    let of = |peer| runs.misses.iter().filter(move |run| run.peer == peer);
    for (peer, bound) in
        [(Peer::ResolverdOff, Bound::AtMost(1.0)), (Peer::Resolverd, Bound::AtMost(1.0))]
    {
        let pairs = of(peer).filter_map(|a| {
            let b = of(Peer::Unbound).find(|b| b.round == a.round)?;
            Some((a.micros / b.micros, a.foreign.max(b.foreign)))
        });
        let title = format!("CPU a miss, {} / Unbound", peer.label());
        add(title, bound, collect(pairs), "0.79 kresd");
    }
    for peer in super::MISSES {
        let title = format!("{}: µs a miss", peer.label());
        add(title, Bound::Told, collect(of(peer).map(|r| (r.micros, r.foreign))), "34.5 Unbound");
        let title = format!("{}: misses/s", peer.label());
        add(title, Bound::Told, collect(of(peer).map(|r| (r.per_sec, r.foreign))), "27.8k Unbound");
    }
    let cold = |who| runs.cold.iter().filter(move |run| run.who == who);
    type Value = fn(&super::cold::Cold) -> f64;
    let values: [(&str, Value); 2] = [("p50", |run| run.p50), ("p99", |run| run.p99)];
    for (at, value) in values {
        let pairs = cold(Who::Resolverd).filter_map(|a| {
            let b = cold(Who::Unbound).find(|b| b.round == a.round)?;
            Some((value(a) / value(b), 0.0))
        });
        let title = format!("first validated answer, {at}, resolverd / Unbound");
        add(title, Bound::AtMost(1.0), collect(pairs), "-");
        for who in [Who::Unbound, Who::Resolverd] {
            let title = format!("{who:?}: first validated answer, {at}, ms");
            add(title, Bound::Told, collect(cold(who).map(|run| (value(run), 0.0))), "-");
        }
    }
    let through = |who, door| {
        runs.doors.iter().filter(move |run: &&Passage| run.who == who && run.door == door)
    };
    for (door, bound, seen) in [
        (Door::Tcp, Bound::AtLeast(1.0), "-"),
        (Door::Tls, Bound::AtLeast(1.0), "1.8 kresd"),
        (Door::Https, Bound::Told, "-"),
    ] {
        let pairs = through(Who::Resolverd, door).filter_map(|a| {
            let b = through(Who::Unbound, door).find(|b| b.round == a.round)?;
            Some((a.per_sec / b.per_sec, a.foreign.max(b.foreign)))
        });
        add(
            format!("answers/s over {}, resolverd / Unbound", door.label()),
            bound,
            collect(pairs),
            seen,
        );
    }
    for door in [Door::Tcp, Door::Tls, Door::Https, Door::Quic] {
        for who in [Who::Unbound, Who::Resolverd] {
            if through(who, door).next().is_none() {
                continue;
            }
            let title = format!("{who:?}: µs an answer over {}", door.label());
            let values = collect(through(who, door).map(|run| (run.micros, run.foreign)));
            add(title, Bound::Told, values, "-");
        }
    }
    goals
}
