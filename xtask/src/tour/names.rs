//! Which names of the fake Internet are shown, by what its plan says of them.
//!
//! Pure: no name is written here, so that every seed has a tour.

use anyhow::{Context as _, Result};
use lab::internet::{Denial, Fault, Host, Plan, PlannedZone};

/// One for each thing to show, each in a zone of its own: what one step leaves in the cache is not
/// in the way of another.
pub struct Names {
    /// Asked twice.
    pub cached: Planned,
    /// Asked for with its signatures.
    pub signed: Planned,
    /// Its signatures have expired.
    pub broken: Planned,
    /// Asked over every encrypted way.
    pub private: Planned,
    /// A policy zone says that it does not exist.
    pub blocked: Planned,
    /// The same of a zone that policy says nothing of.
    pub spared: Planned,
    /// Asked again when all servers are dead.
    pub stale: Planned,
}

/// A name and the IPv4 addresses that its zone is planned to give it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Without its last dot, as one would type it.
    pub name: String,
    pub addresses: Vec<String>,
}

impl Names {
    pub fn of(plan: &Plan) -> Result<Self> {
        let mut good = plan.zones.iter().filter(|zone| is_good(plan, zone));
        let mut next = |label| {
            let zone = good.next().context("the plan has too few zones that are signed well")?;
            planned(zone, label)
        };
        let (cached, signed, private, stale) =
            (next("www")?, next("www")?, next("www")?, next("www")?);
        let blocked = good.next().context("the plan has no zone to block a name of")?;
        let broken = plan.zones.iter().find(|zone| is_expired(plan, zone));
        Ok(Self {
            cached,
            signed,
            broken: planned(broken.context("the plan has no zone that expired")?, "www")?,
            private,
            blocked: planned(blocked, "www")?,
            spared: planned(blocked, "mail")?,
            stale,
        })
    }
}

/// Signed well from the root down, and served without a fault.
fn is_good(plan: &Plan, zone: &PlannedZone) -> bool {
    zone.labels() > 1
        && plan.is_chained(zone)
        && plan.upwards(zone).all(|zone| {
            let alive = |host| matches!(host, Host::Alive(_));
            zone.fault.is_none()
                && zone.nameservers.iter().all(|server| alive(server.host))
                && zone.signing.is_some_and(|signing| is_cheap(signing.denial))
        })
}

/// The zone itself is what is wrong, and nothing above it.
fn is_expired(plan: &Plan, zone: &PlannedZone) -> bool {
    zone.fault == Some(Fault::Expired)
        && plan.is_chained(zone)
        && plan.upwards(zone).skip(1).all(|above| above.fault.is_none())
}

/// No rounds that a validator may take for too many.
fn is_cheap(denial: Denial) -> bool {
    !matches!(denial, Denial::Nsec3 { iterations: 1.., .. })
}

fn planned(zone: &PlannedZone, label: &str) -> Result<Planned> {
    let owner = zone.within(label);
    let records = zone.records.iter();
    let mut addresses: Vec<String> = records
        .filter(|record| record.owner == owner && record.rtype == "A")
        .map(|record| record.data.clone())
        .collect();
    addresses.sort();
    // The plan may give a name the same address twice; a set of records has it once.
    addresses.dedup();
    let name = owner.trim_end_matches('.').to_owned();
    (!addresses.is_empty()).then_some(()).with_context(|| format!("{name} has no address"))?;
    Ok(Planned { name, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_a_name_for_each_thing_to_show() {
        for seed in 0..200 {
            let plan = Plan::of_seed(seed);
            let names = Names::of(&plan).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
            let zone = |planned: &Planned| plan.zone_of(&format!("{}.", planned.name));
            let good = [&names.cached, &names.signed, &names.private, &names.blocked, &names.stale];
            for (at, planned) in good.iter().enumerate() {
                assert!(is_good(&plan, zone(planned)), "seed {seed}: {}", planned.name);
                assert!(!good[..at].contains(planned), "seed {seed}: {} twice", planned.name);
            }
            assert_eq!(zone(&names.broken).fault, Some(Fault::Expired), "seed {seed}");
            assert_eq!(zone(&names.spared).name, zone(&names.blocked).name, "seed {seed}");
        }
    }

    #[test]
    fn a_zone_is_not_good_below_a_broken_one_or_with_a_dead_server() {
        let mut plan = Plan::of_seed(1);
        let at = plan.zones.iter().position(|zone| is_good(&plan, zone)).unwrap();
        let above = plan.zones[at].above.unwrap();
        plan.zones[above].fault = Some(Fault::Garbled);
        assert!(!is_good(&plan, &plan.zones[at]));
        plan.zones[above].fault = None;
        assert!(is_good(&plan, &plan.zones[at]));
        plan.zones[at].nameservers[0].host = Host::Dead;
        assert!(!is_good(&plan, &plan.zones[at]));
    }
}
