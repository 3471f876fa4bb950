//! How a description becomes a registered metric.

use prometheus::core::Collector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::catalogue::Described;

pub(super) fn counter(registry: &Registry, about: &Described) -> IntCounter {
    let metric = IntCounter::with_opts(about.opts()).expect(VALID);
    add(registry, metric.clone());
    metric
}

pub(super) fn counters(registry: &Registry, about: &Described) -> IntCounterVec {
    let metric = IntCounterVec::new(about.opts(), about.labels).expect(VALID);
    add(registry, metric.clone());
    metric
}

/// One counter a value of the only label, all of them there from the start.
pub(super) fn labelled<T: Copy, const N: usize>(
    registry: &Registry,
    about: &Described,
    values: &[T],
    text: impl Fn(T) -> &'static str,
) -> [IntCounter; N] {
    let family = counters(registry, about);
    each(values, |value| family.with_label_values(&[text(value)]))
}

pub(super) fn gauge(registry: &Registry, about: &Described) -> IntGauge {
    let metric = IntGauge::with_opts(about.opts()).expect(VALID);
    add(registry, metric.clone());
    metric
}

pub(super) fn float_gauge(registry: &Registry, about: &Described) -> Gauge {
    let metric = Gauge::with_opts(about.opts()).expect(VALID);
    add(registry, metric.clone());
    metric
}

pub(super) fn gauges(registry: &Registry, about: &Described) -> IntGaugeVec {
    let metric = IntGaugeVec::new(about.opts(), about.labels).expect(VALID);
    add(registry, metric.clone());
    metric
}

pub(super) fn histograms(registry: &Registry, about: &Described, buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::from(about.opts()).buckets(buckets.to_vec());
    let metric = HistogramVec::new(opts, about.labels).expect(VALID);
    add(registry, metric.clone());
    metric
}

pub(super) fn add(registry: &Registry, metric: impl Collector + 'static) {
    registry.register(Box::new(metric)).expect("the catalogue names each metric once");
}

/// One handle for each variant, in their order, so that `variant as usize` finds it.
pub(super) fn each<T: Copy, U, const N: usize>(all: &[T], make: impl Fn(T) -> U) -> [U; N] {
    assert_eq!(all.len(), N);
    std::array::from_fn(|i| make(all[i]))
}

const VALID: &str = "the catalogue has valid names and labels";
