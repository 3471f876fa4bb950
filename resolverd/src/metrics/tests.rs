//! Each metric by its name, the document beside them, and what is counted in batches.

use std::time::Duration;

use prometheus::proto::{LabelPair, MetricFamily};

use super::*;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Build { version: "1.2.3", abi: 7, kernel_path: false }))
}

/// The sample's value in the text form.
fn sample(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.encode();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn every_metric_of_the_catalogue_is_registered_under_its_type_and_labels() {
    let metrics = metrics();
    // Families without fixed label values show once they have a value.
    metrics.set_kernel_packets(&[("hit", "hit", 1)]);
    metrics.set_kernel_limits(&[("valid", 1)], 0);
    metrics.set_kernel_attached("lo", Some("tc"));
    metrics.kernel_events("prefetch").inc();
    metrics.upstream("a").duration.observe(0.1);
    metrics.upstream("a").connected(Connected::Resumed).inc();
    metrics.server_connections(Transport::Tls).inc();
    metrics.server_connections_ended(Transport::Quic, Ended::Full).inc();
    metrics.server_http_responses(Transport::H3, HttpStatus::Ok).inc();
    metrics.policy_zone("rpz.test.").updates(RpzUpdate::Whole).inc();
    metrics.set_dnssec_anchor_keys(&[(".", "valid", 2)]);
    let families = metrics.registry.gather();
    let mut names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
    let mut known: Vec<&str> = CATALOGUE.iter().map(|about| about.name).collect();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
    for about in CATALOGUE {
        let family = families.iter().find(|f| f.name() == about.name).unwrap();
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        assert_eq!(kind, about.kind, "{}", about.name);
        let mut labels: Vec<&str> = about.labels.to_vec();
        labels.sort_unstable();
        let mut there: Vec<&str> =
            family.get_metric()[0].get_label().iter().map(LabelPair::name).collect();
        there.sort_unstable();
        assert_eq!(there, labels, "{}", about.name);
        assert!(about.kind != "counter" || about.name.ends_with("_total"), "{}", about.name);
    }
}

#[test]
fn the_document_has_a_row_for_each_metric_and_no_other() {
    let document = include_str!("../../../docs/METRICS.md");
    let rows: String = document.lines().filter(|l| l.starts_with("| `resolverd_")).fold(
        String::new(),
        |mut rows, line| {
            rows.push_str(line);
            rows.push('\n');
            rows
        },
    );
    assert_eq!(rows, markdown(), "docs/METRICS.md and metrics.rs differ");
}

#[test]
fn queries_are_counted_by_all_three_labels() {
    let metrics = metrics();
    metrics.queries(Transport::Tcp, AnsweredBy::Upstream, Rcode::NxDomain).inc();
    let series = "resolverd_queries_total\
                  {answered_by=\"upstream\",rcode=\"NXDOMAIN\",transport=\"tcp\"}";
    assert_eq!(sample(&metrics, series), Some(1.0));
}

#[test]
fn a_batch_counts_when_flushed_or_dropped() {
    let metrics = metrics();
    let counter = || metrics.queries(Transport::Udp, AnsweredBy::Cache, Rcode::NoError).get();
    let mut batch = metrics.query_batch();
    for _ in 0..3 {
        let took = Some(Duration::from_micros(20));
        batch.count(Transport::Udp, AnsweredBy::Cache, Rcode::NoError, took);
    }
    assert_eq!(counter(), 0);
    batch.flush();
    assert_eq!(counter(), 3);
    batch.flush();
    assert_eq!(counter(), 3);
    batch.count(Transport::Udp, AnsweredBy::Cache, Rcode::NoError, None);
    drop(batch);
    assert_eq!(counter(), 4);
    assert_eq!(metrics.query_duration(AnsweredBy::Cache).get_sample_count(), 3);
}

#[test]
fn the_kernels_counts_are_replaced_as_a_whole() {
    let metrics = metrics();
    metrics.set_kernel_packets(&[("hit", "hit", 5), ("pass", "opcode", 2)]);
    metrics.set_kernel_packets(&[("hit", "hit", 9)]);
    let hit = "resolverd_kernel_packets_total{reason=\"hit\",verdict=\"hit\"}";
    // The text form keeps the order that the collector gives.
    let hit_as_given = "resolverd_kernel_packets_total{verdict=\"hit\",reason=\"hit\"}";
    assert_eq!(sample(&metrics, hit).or(sample(&metrics, hit_as_given)), Some(9.0));
    assert!(!metrics.encode().contains("opcode"));
    metrics.set_kernel_events_lost(4);
    assert_eq!(sample(&metrics, "resolverd_kernel_events_lost_total"), Some(4.0));
}

#[test]
fn the_33rd_upstream_is_counted_as_other_and_gets_a_place_when_one_is_free() {
    let metrics = metrics();
    for i in 0..100 {
        metrics.upstream(&format!("u{i}")).queries(Outcome::Answer).inc();
    }
    let healthy = |m: &Metrics| {
        m.encode().lines().filter(|l| l.starts_with("resolverd_upstream_healthy{")).count()
    };
    assert_eq!(healthy(&metrics), LABEL_VALUES_MAX);
    let series = "resolverd_upstream_queries_total{outcome=\"answer\",upstream=\"other\"}";
    assert_eq!(sample(&metrics, series), Some(69.0));
    metrics.retain_upstreams(&["u99"]);
    metrics.upstream("u99").queries(Outcome::Timeout).inc();
    let series = "resolverd_upstream_queries_total{outcome=\"timeout\",upstream=\"u99\"}";
    assert_eq!(sample(&metrics, series), Some(1.0));
    assert!(!metrics.encode().contains("upstream=\"u5\""));
}

#[test]
fn keys_of_the_33rd_zone_are_counted_with_those_of_others() {
    let metrics = metrics();
    let zones: Vec<String> = (0..40).map(|n| format!("z{n}.")).collect();
    let keys: Vec<_> = zones.iter().map(|zone| (zone.as_str(), "valid", 2)).collect();
    metrics.set_dnssec_anchor_keys(&keys);
    let of = |zone| format!("resolverd_dnssec_anchor_keys{{state=\"valid\",zone=\"{zone}\"}}");
    assert_eq!(sample(&metrics, &of("z30.")), Some(2.0));
    assert_eq!(sample(&metrics, &of("other")), Some(18.0));
    metrics.set_dnssec_anchor_keys(&keys[39..]);
    assert_eq!(sample(&metrics, &of("z39.")), Some(2.0));
    assert_eq!(sample(&metrics, &of("z30.")), None, "it is not followed any more");
}

#[test]
fn an_interface_shows_one_mode_at_a_time() {
    let metrics = metrics();
    metrics.set_kernel_attached("eth0", Some("xdp"));
    metrics.set_kernel_attached("eth0", Some("tc"));
    let series = |mode| format!("resolverd_kernel_attached{{interface=\"eth0\",mode=\"{mode}\"}}");
    assert_eq!(sample(&metrics, &series("tc")), Some(1.0));
    assert_eq!(sample(&metrics, &series("xdp")), None);
    metrics.set_kernel_attached("eth0", None);
    assert_eq!(sample(&metrics, &series("none")), Some(0.0));
    metrics.forget_kernel_attached("eth0");
    assert!(!metrics.encode().contains("eth0"));
}
