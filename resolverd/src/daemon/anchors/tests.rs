//! What is followed, trusted and written, without anybody being asked.

use std::fs;

use data_encoding::HEXLOWER;
use ring::digest;

use super::*;
use crate::metrics::Build;
use crate::resolver::dnssec::anchors::{self, Anchor};

fn config(text: &str) -> Config {
    Config::parse(text, "f").unwrap()
}

fn metrics() -> Metrics {
    Metrics::new(Build { version: "0", abi: 0, kernel_path: false })
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Anchors at these names.
fn anchors_at(names: &[&str]) -> Anchors {
    let zeros = "0".repeat(64);
    let text: String = names.iter().map(|n| format!("{n} IN DS 1 13 2 {zeros}\n")).collect();
    let all: Vec<Anchor> = anchors::read(&text).unwrap();
    Anchors::of(all)
}

fn zones_of(anchors: &Anchors) -> Vec<(Name, Point)> {
    let mut all: Vec<_> = anchors.points().map(|(n, p)| (n.clone(), p.clone())).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// A state that trusts a key of its own at the root, begun from `point`.
fn state(point: &Point) -> String {
    let from = HEXLOWER.encode(&point.digest());
    let body = format!(
        "resolverd-rfc5011 1\nzone .\nconfigured {from}\nbegun 1\nseen 1\ndue 1\n\
         key valid 1 AQEDDwE=\n"
    );
    let sum = digest::digest(&digest::SHA256, body.as_bytes());
    format!("{body}sum {}\n", HEXLOWER.encode(sum.as_ref()))
}

#[test]
fn what_was_seen_is_trusted_in_the_place_of_what_it_began_from_and_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (on, off) = (config(""), config("[dnssec]\nrfc5011 = false\n"));
    let built_in = configured::policy(&on).unwrap().unwrap();
    let root = Name::root();
    let text = state(built_in.anchors.at(&root).unwrap());
    fs::write(dir.path().join("trust-anchors.state"), text).unwrap();
    let follower = Follower::new(dir.path());
    assert!(!follower.read(&off, &metrics()), "nobody wants it");
    assert_eq!(follower.lay_over(&on, Arc::clone(&built_in)), built_in);
    assert!(follower.read(&on, &metrics()));
    assert!(!follower.read(&on, &metrics()), "once");
    let trusted = follower.lay_over(&on, Arc::clone(&built_in));
    let point = trusted.anchors.at(&root).unwrap();
    assert_eq!((point.ds.len(), point.keys.len()), (0, 1));
    assert_eq!(follower.lay_over(&off, Arc::clone(&built_in)), built_in);
    // The operator's newer word.
    let other = Arc::new(Policy { anchors: Arc::new(anchors_at(&["."])), ..(*built_in).clone() });
    assert_eq!(follower.lay_over(&on, Arc::clone(&other)), other);
    assert!(follower.due(&root, wall_secs()).is_some(), "asked for at each start");
}

#[test]
fn what_is_known_of_a_zone_outlives_a_time_in_which_it_is_not_validated() {
    let dir = tempfile::tempdir().unwrap();
    let follower = Follower::new(dir.path());
    follower.read(&config(""), &metrics());
    let both = anchors_at(&[".", "a.test."]);
    let followed = || -> Vec<String> {
        follower.inner.lock().trackers.iter().map(|t| t.zone().to_string()).collect()
    };
    assert!(follower.attune(&zones_of(&both), &both));
    assert_eq!(followed(), [".", "a.test."]);
    assert!(follower.attune(&zones_of(&anchors_at(&["."])), &both));
    assert_eq!(followed(), [".", "a.test."], "it is still configured");
    let root = anchors_at(&["."]);
    assert!(follower.attune(&zones_of(&root), &root));
    assert_eq!(followed(), ["."], "the operator took it away");
}

#[test]
fn past_the_bound_zones_stay_as_they_are_configured() {
    let dir = tempfile::tempdir().unwrap();
    let follower = Follower::new(dir.path());
    follower.read(&config(""), &metrics());
    let names: Vec<String> = (0..=FOLLOWED_MAX).map(|n| format!("z{n}.")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (most, all) = (anchors_at(&names[1..]), anchors_at(&names));
    assert!(follower.attune(&zones_of(&most), &all));
    assert!(!follower.attune(&zones_of(&all), &all));
    assert_eq!(follower.inner.lock().trackers.len(), FOLLOWED_MAX);
    assert!(follower.due(&name("z0."), wall_secs()).is_none());
    assert!(follower.is_to_be_told(&name("z0."), wall_secs()));
}

#[test]
fn a_state_that_cannot_be_written_is_an_alarm_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state");
    fs::write(&folder, "in the way").unwrap();
    let metrics = metrics();
    let follower = Follower::new(&folder);
    // A file where the folder should be is no state, and no missing one.
    follower.read(&config(""), &metrics);
    follower.inner.lock().disk = Disk::Good;
    let root = anchors_at(&["."]);
    follower.attune(&zones_of(&root), &root);
    follower.store(&metrics);
    assert_eq!(metrics.dnssec_anchor_state_alarm.get(), 1);
    fs::remove_file(&folder).unwrap();
    follower.store(&metrics);
    assert_eq!(metrics.dnssec_anchor_state_alarm.get(), 0);
    assert!(folder.join("trust-anchors.state").exists());
    assert!(folder.join("trust-anchors.kept").exists());
}
