//! Upstreams that come, go and lead back, in virtual time.

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn spec(name: &str, zones: &[&str]) -> UpstreamSpec {
    UpstreamSpec {
        name: name.into(),
        address: "192.0.2.1:53".parse().unwrap(),
        protocol: Protocol::Udp,
        identity: None,
        zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
    }
}

fn upstreams(specs: &[(&str, &[&str])]) -> Upstreams {
    let mut upstreams = Upstreams::default();
    upstreams.reconfigure(specs.iter().map(|(name, zones)| spec(name, zones)));
    upstreams
}

fn at(millis: u64) -> BootTime {
    BootTime(millis * 1_000_000)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Upstreams {
    fn id(&self, name: &str) -> UpstreamId {
        self.ids().find(|(_, spec)| &*spec.name == name).unwrap().0
    }

    fn named(&self, id: UpstreamId) -> &str {
        &self.ids().find(|(other, _)| *other == id).unwrap().1.name
    }

    fn order(&mut self, now: BootTime, asked: &str) -> String {
        let plan = self.plan(now, &name(asked));
        let names: Vec<_> = plan.candidates.iter().map(|c| self.named(c.id)).collect();
        names.join(" ")
    }

    fn answered(&mut self, now: BootTime, name: &str, took: u64) -> Option<Change> {
        self.report(now, self.id(name), Report::Answered(millis(took)))
    }

    fn silent(&mut self, now: BootTime, name: &str) -> Option<Change> {
        self.report(now, self.id(name), Report::Silent)
    }
}

#[test]
fn an_upstream_that_is_asked_otherwise_is_another_one() {
    let mut u = upstreams(&[("a", &["."])]);
    u.answered(at(0), "a", 10);
    let identity = |pin: u8| Identity {
        server_name: None,
        pins: vec![[pin; 32]],
        roots: None,
        path: "/".into(),
    };
    let tls = |pin: u8| UpstreamSpec {
        protocol: Protocol::Tls,
        identity: Some(Arc::new(identity(pin))),
        ..spec("a", &["."])
    };
    let mut ids = vec![u.id("a")];
    let mut rtt = Vec::new();
    for spec in [tls(1), tls(1), tls(2), UpstreamSpec { zones: vec![name("b.")], ..tls(2) }] {
        u.reconfigure([spec]);
        ids.push(u.id("a"));
        rtt.push(u.states(at(0))[0].rtt);
        u.answered(at(0), "a", 20);
    }
    assert_eq!(rtt, [None, Some(millis(20)), None, Some(millis(20))]);
    assert!(ids[0] != ids[1] && ids[1] == ids[2] && ids[2] != ids[3] && ids[3] == ids[4]);
    assert_eq!(u.first(&name("www.b.")).map(|spec| spec.protocol), Some(Protocol::Tls));
    assert_eq!(u.first(&name("www.c.")), None);
}

#[test]
fn the_longest_zone_decides_whom_to_ask() {
    let mut u = upstreams(&[
        ("all", &["."]),
        ("corp", &["corp.test."]),
        ("lab", &["lab.corp.test.", "lab.test."]),
    ]);
    assert_eq!(u.order(at(0), "www.example."), "all");
    assert_eq!(u.order(at(0), "corp.test."), "corp");
    assert_eq!(u.order(at(0), "a.b.corp.test."), "corp");
    assert_eq!(u.order(at(0), "x.lab.corp.test."), "lab");
    assert_eq!(u.order(at(0), "notcorp.test."), "all");
}

#[test]
fn a_name_that_no_upstream_is_for_has_an_empty_plan() {
    let mut u = upstreams(&[("corp", &["corp.test."])]);
    assert_eq!(u.plan(at(0), &name("www.example.")), Plan::default());
}

#[test]
fn the_fastest_is_asked_first_and_the_unmeasured_in_written_order_after_it() {
    let mut u = upstreams(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]);
    assert_eq!(u.order(at(0), "x."), "a b c d");
    u.answered(at(1), "c", 30);
    u.answered(at(1), "d", 10);
    assert_eq!(u.order(at(2), "x."), "d c a b");
}

#[test]
fn the_round_trip_time_is_smoothed_and_sets_the_wait() {
    let mut u = upstreams(&[("a", &[])]);
    assert_eq!(u.plan(at(0), &name("x.")).candidates[0].wait, WAIT_FIRST);
    u.answered(at(1), "a", 100);
    assert_eq!(u.plan(at(1), &name("x.")).candidates[0].wait, millis(300));
    u.answered(at(2), "a", 180);
    assert_eq!(u.states(at(2))[0].rtt, Some(millis(110)));
    for _ in 0..50 {
        u.answered(at(3), "a", 1);
    }
    assert_eq!(u.plan(at(3), &name("x.")).candidates[0].wait, WAIT_MIN);
    for _ in 0..50 {
        u.answered(at(3), "a", 9_000);
    }
    assert_eq!(u.plan(at(3), &name("x.")).candidates[0].wait, WAIT_MAX);
}

#[test]
fn a_silent_upstream_is_set_aside_probed_with_growing_pauses_and_taken_back() {
    let mut u = upstreams(&[("dead", &[]), ("good", &[])]);
    u.answered(at(0), "dead", 1);
    u.answered(at(0), "good", 50);
    for _ in 1..TROUBLES_MAX {
        assert_eq!(u.silent(at(10), "dead"), None);
    }
    assert_eq!(u.order(at(10), "x."), "dead good");
    assert_eq!(u.silent(at(10), "dead"), Some(Change::SetAside(BACKOFF_MIN)));
    // Those still under way when it was set aside do not count twice.
    assert_eq!(u.silent(at(11), "dead"), None);
    assert_eq!(u.states(at(10))[0].health, Health::SetAside(BACKOFF_MIN));
    assert_eq!(u.order(at(20), "x."), "good dead");
    assert_eq!(u.plan(at(2_009), &name("x.")).probe, None);
    // The back-off is over: one question, and one only, goes there as well.
    let probe = u.plan(at(2_010), &name("x.")).probe.unwrap();
    assert_eq!(u.named(probe.id), "dead");
    assert_eq!(u.plan(at(2_011), &name("x.")).probe, None);
    // In vain: twice as long, and no second log line.
    assert_eq!(u.silent(at(3_000), "dead"), None);
    assert_eq!(u.states(at(3_000))[0].health, Health::SetAside(2 * BACKOFF_MIN));
    assert_eq!(u.plan(at(6_999), &name("x.")).probe, None);
    assert!(u.plan(at(7_000), &name("x.")).probe.is_some());
    assert_eq!(u.answered(at(7_001), "dead", 1), Some(Change::Back));
    assert_eq!(u.order(at(7_002), "x."), "dead good");
}

#[test]
fn the_pause_between_probes_is_bounded() {
    let mut u = upstreams(&[("dead", &[]), ("good", &[])]);
    u.answered(at(0), "good", 1);
    for _ in 0..TROUBLES_MAX {
        u.silent(at(0), "dead");
    }
    let mut now = at(0);
    for _ in 0..20 {
        now = now + BACKOFF_MAX;
        assert!(u.plan(now, &name("x.")).probe.is_some());
        u.silent(now, "dead");
    }
    assert_eq!(u.states(now)[0].health, Health::SetAside(BACKOFF_MAX));
}

#[test]
fn when_all_are_set_aside_they_are_asked_anyway() {
    let mut u = upstreams(&[("a", &[]), ("b", &[])]);
    for _ in 0..TROUBLES_MAX {
        u.silent(at(5), "a");
    }
    for _ in 0..TROUBLES_MAX {
        u.silent(at(1), "b");
    }
    assert_eq!(u.order(at(6), "x."), "b a");
}

#[test]
fn a_servfail_is_a_sign_of_life_but_no_measurement() {
    let mut u = upstreams(&[("a", &[])]);
    for _ in 1..TROUBLES_MAX {
        u.silent(at(0), "a");
    }
    u.report(at(1), u.id("a"), Report::Failed);
    assert_eq!(u.silent(at(2), "a"), None);
    assert_eq!(u.states(at(2))[0].rtt, None);
}

#[test]
fn the_unmeasured_are_probed_and_the_measured_now_and_then() {
    let mut u = upstreams(&[("a", &[]), ("b", &[]), ("c", &[])]);
    u.answered(at(0), "a", 1);
    let probe = u.plan(at(0), &name("x.")).probe.unwrap();
    assert_eq!(u.named(probe.id), "b");
    u.answered(at(0), "b", 2);
    u.answered(at(0), "c", 3);
    let mut probed: Vec<String> = Vec::new();
    for _ in 0..4 * EXPLORE_EVERY {
        if let Some(probe) = u.plan(at(1), &name("x.")).probe {
            probed.push(u.named(probe.id).into());
        }
    }
    probed.sort();
    assert_eq!(probed, ["b", "b", "c", "c"]);
}

#[test]
fn edns_is_avoided_for_a_bounded_time() {
    let mut u = upstreams(&[("old", &[])]);
    let id = u.id("old");
    u.avoid_edns(at(0), id);
    assert!(!u.plan(at(1), &name("x.")).candidates[0].edns);
    assert_eq!(u.states(at(0))[0].without_edns, Some(WITHOUT_EDNS_FOR));
    let later = at(0) + WITHOUT_EDNS_FOR;
    assert!(u.plan(later, &name("x.")).candidates[0].edns);
    assert_eq!(u.states(later)[0].without_edns, None);
}

#[test]
fn an_upstream_that_leads_back_to_us_is_not_asked_until_the_next_change() {
    let mut u = upstreams(&[("a", &[]), ("b", &[])]);
    let mut next = 0;
    let probes = u.expect_probes(|| {
        next += 1;
        [next; 8]
    });
    assert_eq!(probes[1].1, name("0202020202020202.loop.resolverd.test."));
    assert_eq!(u.recognise(&name("0303030303030303.loop.resolverd.test.")), None);
    assert_eq!(u.recognise(&name("02.loop.resolverd.test.")), None);
    let signed = Name::from_wire(b"\x10+202020202020202\x04loop\x09resolverd\x04test\0");
    assert_eq!(u.recognise(&signed.unwrap()), None);
    assert_eq!(u.recognise(&name("x.0202020202020202.loop.resolverd.test.")), None);
    assert_eq!(u.recognise(&probes[1].1), Some(("b".into(), true)));
    assert_eq!(u.recognise(&probes[1].1), Some(("b".into(), false)));
    assert_eq!(u.order(at(0), "x."), "a");
    assert_eq!(u.states(at(0))[1].health, Health::Loop);
    u.recognise(&probes[0].1);
    assert_eq!(u.plan(at(0), &name("x.")), Plan::default());
    u.reconfigure([spec("a", &[]), spec("b", &[])]);
    assert_eq!(u.order(at(0), "x."), "a b");
    assert_eq!(u.recognise(&probes[0].1), None);
}

#[test]
fn a_reload_keeps_what_is_known_about_those_that_stay() {
    let mut u = upstreams(&[("a", &[]), ("b", &[])]);
    u.answered(at(0), "a", 7);
    let (a, b) = (u.id("a"), u.id("b"));
    u.reconfigure([spec("c", &[]), spec("a", &["test."])]);
    assert_eq!(u.id("a"), a);
    assert_eq!(u.states(at(0))[1].rtt, Some(millis(7)));
    assert_eq!(u.order(at(0), "x.test."), "a");
    assert_eq!(u.report(at(0), b, Report::Silent), None);
    assert_eq!(u.sent(b), None);
}

#[test]
fn of_many_upstreams_some_are_asked_and_every_one_gets_its_probe() {
    let names: Vec<String> = (0..20).map(|n| format!("u{n}")).collect();
    let mut u = upstreams(&names.iter().map(|name| (&**name, &[][..])).collect::<Vec<_>>());
    assert_eq!(u.plan(at(0), &name("x.")).candidates.len(), CANDIDATES_MAX);
    for _ in 0..TROUBLES_MAX {
        u.silent(at(0), "u7");
    }
    let later = at(0) + BACKOFF_MIN;
    let probe = u.plan(later, &name("x.")).probe.unwrap();
    assert_eq!(u.named(probe.id), "u7");
}
