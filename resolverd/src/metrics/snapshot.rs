//! Counters whose values are kept elsewhere: in the kernel's maps, in the log.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter as ProtoCounter, LabelPair, Metric, MetricFamily, MetricType};

use super::catalogue::Described;
use super::register::add;

/// Counters whose values are kept elsewhere and replaced as a whole.
pub(super) struct Snapshot {
    about: &'static Described,
    desc: Desc,
    rows: Mutex<Vec<Row>>,
}

/// The values of the labels, and the count.
pub(super) type Row = (Vec<&'static str>, u64);

impl Snapshot {
    pub(super) fn register(registry: &Registry, about: &'static Described) -> Arc<Self> {
        let labels = about.labels.iter().map(|l| (*l).to_owned()).collect();
        let desc = Desc::new(about.name.into(), about.help.into(), labels, HashMap::new())
            .expect("the catalogue has valid names");
        let start = if about.labels.is_empty() { vec![(Vec::new(), 0)] } else { Vec::new() };
        let snapshot = Arc::new(Self { about, desc, rows: Mutex::new(start) });
        add(registry, Shared(Arc::clone(&snapshot)));
        snapshot
    }

    pub(super) fn set(&self, rows: Vec<Row>) {
        *self.rows.lock() = rows;
    }
}

/// What the registry holds of a [`Snapshot`].
struct Shared(Arc<Snapshot>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let rows = self.0.rows.lock().clone();
        let metrics = rows.into_iter().map(|(values, count)| {
            let pairs = self.0.about.labels.iter().zip(values).map(|(label, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*label).to_owned());
                pair.set_value(value.to_owned());
                pair
            });
            let mut counter = ProtoCounter::default();
            counter.set_value(count as f64);
            let mut metric = Metric::from_label(pairs.collect());
            metric.set_counter(counter);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.0.about.name.into());
        family.set_help(self.0.about.help.into());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(metrics.collect());
        vec![family]
    }
}
