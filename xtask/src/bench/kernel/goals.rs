//! The figures of `bench kernel` beside their goals. Pure.

use super::{Cost, Loss, Names, Outcome, PASSES, Program, Runs};
use crate::bench::report::{Bound, Goal};

/// The table of "what it must reach", as far as the program shows it.
pub fn goals(runs: &Runs) -> Vec<Goal> {
    let mut goals = Vec::new();
    let nanos = |round: u32, program: Program, outcome: Outcome| {
        let of = |cost: &&Cost| {
            cost.round == round && cost.program == program && cost.outcome == outcome
        };
        runs.costs.iter().find(of)
    };
    // Net of the empty program of the same round, measured the same way.
    let net = |program: Program, outcome: Outcome| {
        let empty = if PASSES.contains(&outcome) { Outcome::PassDns } else { Outcome::Hit10k };
        let of = runs.costs.iter().filter(|c| c.program == program && c.outcome == outcome);
        let pairs = of.filter_map(|cost| {
            let base = nanos(cost.round, Program::Empty, empty)?;
            Some((cost.nanos - base.nanos, cost.foreign.max(base.foreign)))
        });
        let (values, foreign): (Vec<f64>, Vec<f64>) = pairs.unzip();
        (values, foreign.into_iter().fold(0.0, f64::max))
    };
    let costs = [
        (Program::Reflector, Outcome::Hit10k, Bound::Told, "13"),
        (Program::Resolverd, Outcome::HitHot, Bound::AtMost(250.0), "113"),
        (Program::Resolverd, Outcome::Hit10k, Bound::AtMost(350.0), "164"),
        (Program::Resolverd, Outcome::Hit100k, Bound::AtMost(550.0), "344"),
        (Program::Resolverd, Outcome::HitEight, Bound::Told, "-"),
        (Program::Resolverd, Outcome::HitSigned, Bound::Told, "-"),
        (Program::Resolverd, Outcome::HitNxdomain, Bound::Told, "-"),
        (Program::Resolverd, Outcome::PassDns, Bound::Told, "-"),
        (Program::Resolverd, Outcome::PassUdp, Bound::AtMost(20.0), "-"),
        (Program::Resolverd, Outcome::PassTcp, Bound::AtMost(20.0), "-"),
        (Program::Guarded, Outcome::HitHot, Bound::AtMost(250.0), "-"),
        (Program::Guarded, Outcome::Hit10k, Bound::AtMost(350.0), "-"),
        (Program::Guarded, Outcome::Hit100k, Bound::AtMost(550.0), "-"),
        (Program::Guarded, Outcome::HitCookie, Bound::Told, "-"),
    ];
    for (program, outcome, bound, baseline) in costs {
        let (values, foreign) = net(program, outcome);
        let measure = format!("{}, {}, ns net of empty", program.label(), outcome.words());
        goals.push(Goal { measure, bound, values, foreign, baseline });
    }
    for (names, most, baseline) in
        [(Names::TenThousand, 0.01, "0.002"), (Names::HundredThousand, 0.02, "0.005")]
    {
        for (program, bound) in
            [(Program::Reflector, Bound::Told), (Program::Resolverd, Bound::AtMost(most))]
        {
            let of = |loss: &&Loss| loss.program == program && loss.names == names.count();
            let of = runs.losses.iter().filter(of);
            let (values, foreign): (Vec<f64>, Vec<f64>) = of.map(|l| (l.loss, l.foreign)).unzip();
            let foreign = foreign.into_iter().fold(0.0, f64::max);
            let label = names.label();
            let measure = format!("{}, lost of 1.5 M/s, {label} names", program.label());
            goals.push(Goal { measure, bound, values, foreign, baseline });
        }
    }
    goals
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::HitHot => "hit A, one name",
            Self::Hit10k => "hit A, 10k names",
            Self::Hit100k => "hit A, 100k names",
            Self::HitEight => "hit, eight records",
            Self::HitSigned => "hit, signed, DO",
            Self::HitNxdomain => "hit, NXDOMAIN",
            Self::HitCookie => "hit A, 10k names, cookie",
            Self::PassDns => "DNS passed",
            Self::PassUdp => "other UDP passed",
            Self::PassTcp => "TCP passed",
        }
    }
}
