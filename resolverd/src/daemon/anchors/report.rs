//! What is trusted, for operators. Pure but for the clock.

use std::time::{Duration, UNIX_EPOCH};

use super::configured::{self, Configured};
use super::{Disk, Joined, wall_secs};
use crate::clock::Utc;
use crate::config::Config;
use crate::control::reports::{
    AnchorReport, AnchoredZoneReport, NegativeAnchorReport, TrustAnchorsReport,
};
use crate::dns::Name;
use crate::resolver::dnssec::anchors::{Anchor, Point, Trusted, algorithm_name};
use crate::resolver::dnssec::rfc5011::{State, Tracked, Tracker};

impl Joined {
    /// Every anchor, positive and negative, and how it stands.
    pub(in crate::daemon) fn trust_anchors_report(&self) -> TrustAnchorsReport {
        let config = self.config.load_full();
        let inner = self.anchors.inner.lock();
        let follows = config.dnssec.rfc5011 && !matches!(inner.disk, Disk::Lost(_));
        let trackers = if follows { &inner.trackers[..] } else { &[] };
        // Refused before, if an anchor is wrong.
        let all = configured::anchors(&config).unwrap_or_default();
        let mut names: Vec<&Name> = all.iter().map(|of| &of.anchor.name).collect();
        names.sort();
        names.dedup();
        let zone = |name: &&Name| {
            let of_zone = all.iter().filter(|of| of.anchor.name == **name).collect::<Vec<_>>();
            let tracker = trackers.iter().find(|tracker| tracker.zone() == *name);
            zone(name, &of_zone, tracker, self.resolver.validates(name))
        };
        TrustAnchorsReport {
            zones: names.iter().map(zone).collect(),
            negative: negative(&config, wall_secs()),
            state_file: config
                .dnssec
                .rfc5011
                .then(|| self.anchors.file.path().display().to_string()),
            alarm: match &inner.disk {
                Disk::Failing(why) | Disk::Lost(why) => Some(why.clone()),
                Disk::Unread | Disk::Good | Disk::Behind => None,
            },
        }
    }
}

fn zone(
    name: &Name,
    all: &[&Configured],
    tracker: Option<&Tracker>,
    validated: bool,
) -> AnchoredZoneReport {
    let begun = tracker.filter(|tracker| tracker.has_begun());
    let mut anchors: Vec<AnchorReport> = begun
        .iter()
        .flat_map(|tracker| tracker.keys())
        .map(|tracked| key(name, tracked, all))
        .collect();
    for of in all {
        let seen = |tracked: &Tracked| trusts(&of.anchor, name, tracked);
        if !begun.is_some_and(|tracker| tracker.keys().iter().any(seen)) {
            // Once a zone's keys were seen, one that was not among them counts for nothing.
            let state = if begun.is_some() { "unseen" } else { "configured" };
            anchors.push(anchor(of, state, begun.is_none()));
        }
    }
    AnchoredZoneReport {
        zone: name.to_string(),
        validated,
        followed: tracker.is_some(),
        last_refresh: tracker.and_then(Tracker::seen_at).map(time),
        next_refresh: tracker.map(Tracker::due_at).filter(|due| *due > 0).map(time),
        anchors,
    }
}

fn key(name: &Name, tracked: &Tracked, all: &[&Configured]) -> AnchorReport {
    let brought = all.iter().find(|of| trusts(&of.anchor, name, tracked));
    AnchorReport {
        key_tag: tracked.key.tag,
        algorithm: algorithm_name(tracked.key.algorithm),
        form: "DNSKEY".to_owned(),
        origin: brought.map_or_else(|| "rfc5011".to_owned(), |of| of.origin.clone()),
        state: tracked.state.as_str().to_owned(),
        trusted: matches!(tracked.state, State::Valid | State::Missing),
        since: Some(time(tracked.since)),
    }
}

fn anchor(of: &Configured, state: &str, trusted: bool) -> AnchorReport {
    let (key_tag, algorithm, form) = match &of.anchor.trusted {
        Trusted::Ds(ds) => (ds.tag, ds.algorithm, "DS"),
        Trusted::Key(key) => (key.tag, key.algorithm, "DNSKEY"),
    };
    AnchorReport {
        key_tag,
        algorithm: algorithm_name(algorithm),
        form: form.to_owned(),
        origin: of.origin.clone(),
        state: state.to_owned(),
        trusted,
        since: None,
    }
}

fn trusts(anchor: &Anchor, name: &Name, tracked: &Tracked) -> bool {
    let point = match anchor.trusted.clone() {
        Trusted::Ds(ds) => Point { ds: vec![ds], keys: Vec::new() },
        Trusted::Key(key) => Point { ds: Vec::new(), keys: vec![key] },
    };
    point.trusts(name, &tracked.key)
}

fn negative(config: &Config, now: u64) -> Vec<NegativeAnchorReport> {
    let all = config.dnssec.negative_trust_anchors.iter();
    all.map(|(zone, until)| NegativeAnchorReport {
        zone: zone.clone(),
        until: until.map(time),
        in_force: until.is_none_or(|until| now < until),
    })
    .collect()
}

fn time(secs: u64) -> String {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(secs))
        .map(Utc)
        .map_or_else(String::new, |utc| utc.to_string())
}
