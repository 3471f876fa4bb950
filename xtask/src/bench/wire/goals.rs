//! The figures of `bench wire` beside their goals. Pure.

use super::{DAEMON_BATCH, Latency, Names, Peer, Runs, SERVERS, Throughput};
use crate::bench::report::{Bound, Goal, collect};

/// The table of "what it must reach", as far as the wire shows it.
pub fn goals(runs: &Runs, batches: &[u32]) -> Vec<Goal> {
    let ten = Names::TenThousand.count();
    let mut goals = Vec::new();
    let mut add = |measure: &str, bound, (values, foreign): (Vec<f64>, f64), baseline| {
        let measure = measure.to_owned();
        goals.push(Goal { measure, bound, values, foreign, baseline });
    };
    let ratio = |of: Peer, to: Peer, names: u32, batch: u32, value: fn(&Throughput) -> f64| {
        let find = |peer: Peer| {
            runs.throughput
                .iter()
                .filter(move |run| run.peer == peer && run.names == names && run.batch == batch)
        };
        let pairs = find(of).filter_map(|a| {
            let b = find(to).find(|b| b.round == a.round && b.part == a.part)?;
            Some((value(a) / value(b), a.foreign.max(b.foreign)))
        });
        collect(pairs)
    };
    let micros = |run: &Throughput| run.micros;
    let rate = |run: &Throughput| run.confirmed_per_sec;
    for &batch in batches {
        let title = format!("CPU a hit, resolverd / reflector, 10k names, batch {batch}");
        let values = ratio(Peer::Resolverd, Peer::Reflector, ten, batch, micros);
        add(&title, Bound::AtMost(1.7), values, "1.36");
        let title = format!("CPU a hit, resolverd / Unbound, 10k names, batch {batch}");
        let seen = if batch == 32 { "0.149" } else { "0.169" };
        add(
            &title,
            Bound::AtMost(0.25),
            ratio(Peer::Resolverd, Peer::Unbound, ten, batch, micros),
            seen,
        );
        let title = format!("hits/s, resolverd / Unbound, 10k names, batch {batch}");
        let (least, seen) = if batch == 32 { (5.0, "6.6") } else { (4.0, "5.2") };
        add(
            &title,
            Bound::AtLeast(least),
            ratio(Peer::Resolverd, Peer::Unbound, ten, batch, rate),
            seen,
        );
        let title = format!("hits/s, reflector / Unbound, 10k names, batch {batch}");
        add(
            &title,
            Bound::Told,
            ratio(Peer::Reflector, Peer::Unbound, ten, batch, rate),
            "5.9, 6.9",
        );
    }
    let daemon = |of, to| ratio(of, to, ten, DAEMON_BATCH, rate);
    add(
        "daemon's own hits/s, kernel off / Unbound",
        Bound::AtLeast(1.0),
        daemon(Peer::ResolverdOff, Peer::Unbound),
        "0.98 dnsdist",
    );
    add(
        "daemon's own hits/s, all passed / kernel off",
        Bound::AtLeast(0.95),
        daemon(Peer::ResolverdPassed, Peer::ResolverdOff),
        "-",
    );
    add(
        "daemon's own hits/s, empty program attached / kernel off",
        Bound::Told,
        daemon(Peer::ResolverdEmpty, Peer::ResolverdOff),
        "-",
    );
    for (peer, bound) in [(Peer::ResolverdOff, Bound::AtLeast(0.8)), (Peer::Unbound, Bound::Told)] {
        let over = runs.overload.iter().filter(|run| run.peer == peer);
        let values =
            collect(over.map(|run| (run.answered_per_sec / run.peak_per_sec, run.foreign)));
        add(&format!("{}: at 1.5x its peak / the peak", peer.label()), bound, values, "-");
    }
    for (steered, most, seen) in [(false, 0.5, "0.33"), (true, 1.0, "0.85")] {
        let of = |peer| runs.latency.iter().filter(move |r| r.peer == peer && r.steered == steered);
        let pairs = of(Peer::Resolverd).filter_map(|a| {
            let b = of(Peer::Unbound).find(|b| b.round == a.round)?;
            Some((a.p50_micros / b.p50_micros, a.foreign.max(b.foreign)))
        });
        let place = if steered { "server's" } else { "sender's" };
        let title = format!("p50 at 5k/s, resolverd / Unbound, received on the {place} core");
        add(&title, Bound::AtMost(most), collect(pairs), seen);
        for peer in SERVERS {
            for (at, value) in [
                ("p50", (|r: &Latency| r.p50_micros) as fn(&Latency) -> f64),
                ("p99", |r: &Latency| r.p99_micros),
            ] {
                let values = collect(of(peer).map(|run| (value(run), run.foreign)));
                let title = format!("{}: {at} in µs, received on the {place} core", peer.label());
                add(&title, Bound::Told, values, "-");
            }
        }
    }
    let of = |peer| runs.memory.iter().filter(move |run| run.peer == peer);
    let pairs = of(Peer::Resolverd).filter_map(|a| {
        let b = of(Peer::Unbound).find(|b| b.round == a.round)?;
        Some((a.per_name / b.per_name, 0.0))
    });
    let values = collect(pairs);
    add("memory of a cached short A, resolverd / Unbound", Bound::AtMost(1.0), values, "0.48 BIND");
    for peer in SERVERS {
        let values = collect(of(peer).map(|run| (run.per_name, 0.0)));
        add(&format!("{}: octets a cached name", peer.label()), Bound::Told, values, "642 Unbound");
    }
    goals
}
