//! Metrics by configured name: upstreams, interfaces. A bounded number of names has a place.

use std::collections::{BTreeSet, HashMap};

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::UpstreamMetrics;
use super::labels::{Connected, Outcome, RpzUpdate};
use super::register::each;

/// Configured names that have a label value of their own.
#[derive(Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The value to use for `name`: itself, or [`OTHER`] when all places are taken.
    pub(super) fn place<'a>(&mut self, name: &'a str) -> &'a str {
        // One value is kept for OTHER.
        if self.0.contains(name) {
            name
        } else if self.0.len() + 1 < LABEL_VALUES_MAX {
            self.0.insert(name.to_owned());
            name
        } else {
            OTHER
        }
    }
}

pub(super) struct Upstreams {
    pub(super) names: Names,
    pub(super) handles: HashMap<String, UpstreamMetrics>,
    pub(super) durations: HistogramVec,
    pub(super) queries: IntCounterVec,
    pub(super) connections: IntCounterVec,
    pub(super) healthy: IntGaugeVec,
}

impl Upstreams {
    pub(super) fn handles(&mut self, name: &str) -> UpstreamMetrics {
        let value = self.names.place(name);
        let Self { handles, durations, queries, connections, healthy, .. } = self;
        handles
            .entry(value.to_owned())
            .or_insert_with(|| UpstreamMetrics {
                duration: durations.with_label_values(&[value]),
                name: value.into(),
                connections: connections.clone(),
                healthy: healthy.with_label_values(&[value]),
                outcomes: each(Outcome::ALL, |o| queries.with_label_values(&[value, o.as_str()])),
            })
            .clone()
    }

    pub(super) fn retain(&mut self, names: &[&str]) {
        let gone: Vec<String> =
            self.names.0.iter().filter(|n| !names.contains(&n.as_str())).cloned().collect();
        for name in &gone {
            self.names.0.remove(name);
            self.handles.remove(name);
            // A value that is not there is as gone as it can be.
            let _ = self.durations.remove_label_values(&[name]);
            let _ = self.healthy.remove_label_values(&[name]);
            for outcome in Outcome::ALL {
                let _ = self.queries.remove_label_values(&[name.as_str(), outcome.as_str()]);
            }
            for outcome in Connected::ALL {
                let _ = self.connections.remove_label_values(&[name.as_str(), outcome.as_str()]);
            }
        }
    }
}

/// The handles of one policy zone.
#[derive(Clone)]
pub struct RpzMetrics {
    pub rules: IntGauge,
    pub serial: IntGauge,
    updates: [IntCounter; RpzUpdate::COUNT],
}

impl RpzMetrics {
    #[must_use]
    pub fn updates(&self, result: RpzUpdate) -> &IntCounter {
        &self.updates[result as usize]
    }
}

pub(super) struct PolicyZones {
    pub(super) names: Names,
    pub(super) rules: IntGaugeVec,
    pub(super) serials: IntGaugeVec,
    pub(super) updates: IntCounterVec,
}

impl PolicyZones {
    pub(super) fn handles(&mut self, zone: &str) -> RpzMetrics {
        let value = self.names.place(zone);
        RpzMetrics {
            rules: self.rules.with_label_values(&[value]),
            serial: self.serials.with_label_values(&[value]),
            updates: each(RpzUpdate::ALL, |u| self.updates.with_label_values(&[value, u.as_str()])),
        }
    }

    pub(super) fn retain(&mut self, zones: &[&str]) {
        let gone: Vec<String> =
            self.names.0.iter().filter(|n| !zones.contains(&n.as_str())).cloned().collect();
        for zone in &gone {
            self.names.0.remove(zone);
            // A value that is not there is as gone as it can be.
            let _ = self.rules.remove_label_values(&[zone]);
            let _ = self.serials.remove_label_values(&[zone]);
            for result in RpzUpdate::ALL {
                let _ = self.updates.remove_label_values(&[zone.as_str(), result.as_str()]);
            }
        }
    }
}

pub(super) struct Attachments {
    pub(super) names: Names,
    pub(super) gauges: IntGaugeVec,
}

impl Attachments {
    pub(super) fn set(&mut self, interface: &str, mode: Option<&'static str>) {
        let value = self.names.place(interface);
        self.remove(value);
        let attached = i64::from(mode.is_some());
        self.gauges.with_label_values(&[value, mode.unwrap_or(MODE_NONE)]).set(attached);
    }

    pub(super) fn forget(&mut self, interface: &str) {
        if self.names.0.remove(interface) {
            self.remove(interface);
        }
    }

    fn remove(&self, value: &str) {
        for mode in MODES.into_iter().chain([MODE_NONE]) {
            // Most of them are not there.
            let _ = self.gauges.remove_label_values(&[value, mode]);
        }
    }
}

/// Values a label made of configured names may have, [`OTHER`] among them. A scrape of a
/// node with hundreds of upstreams would cost more than it tells.
pub const LABEL_VALUES_MAX: usize = 32;
/// The value that the names past the bound share.
pub const OTHER: &str = "other";

const MODES: [&str; 3] = ["xdp", "xdp-generic", "tc"];
const MODE_NONE: &str = "none";
