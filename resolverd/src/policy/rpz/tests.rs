//! Policy zones in their order, as a client sees them.

use super::*;
use crate::dns::NameServer;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn zone(origin: &str, text: &str) -> Arc<Zone> {
    let soa = "@ 300 SOA localhost. root. 1 60 60 60 120\n";
    Arc::new(text::read(&name(origin), format!("{soa}{text}").as_bytes()).unwrap())
}

fn policy(origin: &str, text: &str) -> Policy {
    Policy {
        name: origin.into(),
        zone: zone(origin, text),
        policy: Override::Given,
        reason: Reason::Blocked,
        log: false,
        views: Vec::new(),
    }
}

fn rpz(zones: &[(&str, &str)]) -> Rpz {
    Rpz::new(zones.iter().map(|(origin, text)| policy(origin, text)).collect())
}

fn query(text: &str, qtype: u16) -> Query {
    Query { name: name(text), qtype, dnssec_ok: false, checking_disabled: false, view: 0 }
}

fn said(said: Option<Said>, question: &Name) -> String {
    match said {
        None => "pass".into(),
        Some(Said::Drop) => "drop".into(),
        Some(Said::Truncate) => "truncate".into(),
        Some(Said::Alias(alias)) => format!("{} on, to {}", alias.records.len(), alias.target),
        Some(Said::Answer(answer)) => {
            assert_eq!(answer.ede.as_ref().map(|ede| ede.code), Some(15));
            let sections = answer.sections(question).unwrap();
            let show = |record: &Record| match addresses::of_record(record) {
                Some(address) => format!("{} {address}", record.owner),
                None => format!("{} TYPE{}", record.owner, record.rtype),
            };
            let all = sections.answer.iter().chain(&sections.authority).map(show);
            let all: Vec<String> = all.collect();
            format!("{}: {}", answer.rcode, all.join(", "))
        }
    }
}

/// What is said before anybody is asked.
fn before(rpz: &Rpz, text: &str, qtype: u16) -> String {
    let query = query(text, qtype);
    let hit = rpz.question(ViewId(query.view), &query.name, None, &mut |_| {});
    let carried = hit.and_then(|hit| rpz.carry_out(&hit, &query, &query.name, Vec::new()));
    said(carried, &query.name)
}

/// What is said of an answer of these records.
fn after(rpz: &Rpz, text: &str, records: &[Record]) -> String {
    let query = query(text, rtype::A);
    let sections = Sections { answer: records.to_vec(), ..Sections::default() };
    let hit = rpz.answer(ViewId(0), &query.name, &sections, &Trail::default(), &mut |_| {});
    let carried = hit.and_then(|(n, hit)| {
        let (name, way) = way(&query.name, records, n);
        rpz.carry_out(&hit, &query, &name, way)
    });
    said(carried, &query.name)
}

fn cname(owner: &str, target: &str) -> Record {
    let rdata = name(target).as_wire().to_vec();
    Record { owner: name(owner), rtype: rtype::CNAME, class: 1, ttl: 60, rdata }
}

fn a(owner: &str, octets: [u8; 4]) -> Record {
    Record { rtype: rtype::A, rdata: octets.to_vec(), ..cname(owner, ".") }
}

const ONE: &str = "\
nx.test CNAME .
*.nx.test CNAME *.
nodata.test CNAME *.
pass.test CNAME rpz-passthru.
drop.test CNAME rpz-drop.
tcp.test CNAME rpz-tcp-only.
data.test A 192.0.2.1
data.test A 192.0.2.2
data.test AAAA 2001:db8::1
garden.test CNAME garden.example.
*.wild.test CNAME *.garden.example.
";

#[test]
fn each_action_is_carried_out() {
    let rpz = rpz(&[("rpz.test.", ONE)]);
    for (text, qtype, expected) in [
        ("nx.test.", rtype::A, "3: rpz.test. TYPE6"),
        ("x.nx.test.", rtype::A, "0: rpz.test. TYPE6"),
        ("nodata.test.", rtype::A, "0: rpz.test. TYPE6"),
        ("pass.test.", rtype::A, "pass"),
        ("drop.test.", rtype::A, "drop"),
        ("tcp.test.", rtype::A, "truncate"),
        ("data.test.", rtype::A, "0: data.test. 192.0.2.1, data.test. 192.0.2.2"),
        ("data.test.", rtype::AAAA, "0: data.test. 2001:db8::1"),
        ("data.test.", rtype::MX, "0: rpz.test. TYPE6"),
        ("garden.test.", rtype::A, "1 on, to garden.example."),
        ("garden.test.", rtype::CNAME, "0: garden.test. TYPE5"),
        ("a.b.wild.test.", rtype::A, "1 on, to a.b.wild.test.garden.example."),
        ("wild.test.", rtype::A, "pass"),
        ("fine.test.", rtype::A, "pass"),
    ] {
        assert_eq!(before(&rpz, text, qtype), expected, "{text} {qtype}");
    }
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(50)].join(".");
    assert!(before(&rpz, &format!("{long}.wild.test."), rtype::A).starts_with("3: "));
}

#[test]
fn earlier_zones_go_first_and_what_passes_there_passes() {
    let rpz = rpz(&[
        ("one.rpz.", "a.test CNAME rpz-passthru.\nb.test CNAME .\n"),
        ("two.rpz.", "a.test CNAME .\nb.test CNAME *.\nc.test CNAME *.\n"),
    ]);
    assert_eq!(before(&rpz, "a.test.", rtype::A), "pass");
    assert_eq!(after(&rpz, "a.test.", &[a("a.test.", [192, 0, 2, 1])]), "pass");
    assert_eq!(before(&rpz, "b.test.", rtype::A), "3: one.rpz. TYPE6");
    assert_eq!(before(&rpz, "c.test.", rtype::A), "0: two.rpz. TYPE6");
}

#[test]
fn addresses_and_aliases_of_an_answer_are_looked_at() {
    let rpz = rpz(&[("rpz.test.", "24.0.2.0.192.rpz-ip CNAME .\ncloak.example CNAME *.\n")]);
    let bad = [192, 0, 2, 7];
    assert_eq!(before(&rpz, "www.test.", rtype::A), "pass");
    assert_eq!(after(&rpz, "www.test.", &[a("www.test.", [198, 51, 100, 1])]), "pass");
    assert_eq!(after(&rpz, "www.test.", &[a("www.test.", bad)]), "3: rpz.test. TYPE6");
    let chain = [cname("www.test.", "b.test."), a("b.test.", bad)];
    assert_eq!(after(&rpz, "www.test.", &chain), "3: www.test. TYPE5, rpz.test. TYPE6");
    let cloaked = [cname("www.test.", "cloak.example."), a("cloak.example.", [198, 51, 100, 1])];
    assert_eq!(after(&rpz, "www.test.", &cloaked), "0: www.test. TYPE5, rpz.test. TYPE6");
    let round = [cname("www.test.", "b.test."), cname("b.test.", "www.test.")];
    assert_eq!(after(&rpz, "www.test.", &round), "pass");
}

#[test]
fn a_later_zone_waits_for_what_an_earlier_one_says_of_the_answer() {
    let rpz = rpz(&[
        ("ips.rpz.", "24.0.2.0.192.rpz-ip CNAME rpz-passthru.\n"),
        ("names.rpz.", "www.test CNAME .\n"),
    ]);
    assert_eq!(before(&rpz, "www.test.", rtype::A), "pass");
    assert_eq!(after(&rpz, "www.test.", &[a("www.test.", [192, 0, 2, 1])]), "pass");
    let other = [a("www.test.", [198, 51, 100, 1])];
    assert_eq!(after(&rpz, "www.test.", &other), "3: names.rpz. TYPE6");
    assert_eq!(after(&rpz, "www.test.", &[]), "3: names.rpz. TYPE6");
}

#[test]
fn an_override_takes_the_place_of_what_the_zone_says_and_disabled_only_looks() {
    let with = |over: Override| {
        let first = Policy { policy: over, ..policy("one.rpz.", "a.test CNAME .\n") };
        Rpz::new(vec![first, policy("two.rpz.", "a.test CNAME rpz-drop.\n")])
    };
    for (over, expected) in [
        (Override::Given, "3: one.rpz. TYPE6"),
        (Override::Nodata, "0: one.rpz. TYPE6"),
        (Override::Passthru, "pass"),
        (Override::Drop, "drop"),
        (Override::TcpOnly, "truncate"),
        (Override::Cname(name("garden.example.")), "1 on, to garden.example."),
        (Override::Disabled, "drop"),
    ] {
        assert_eq!(before(&with(over.clone()), "a.test.", rtype::A), expected, "{over:?}");
    }
    let mut noted = Vec::new();
    let rpz = with(Override::Disabled);
    rpz.question(ViewId(0), &name("a.test."), None, &mut |hit| noted.push(hit.to_string()));
    assert_eq!(
        noted,
        ["one.rpz.: qname a.test.: nxdomain, seen only", "two.rpz.: qname a.test.: drop"]
    );
}

#[test]
fn clients_have_rules_and_an_earlier_zone_may_still_go_first() {
    let rpz = rpz(&[
        ("names.rpz.", "evil.test CNAME .\n"),
        ("clients.rpz.", "32.9.0.0.10.rpz-client-ip CNAME rpz-passthru.\nbad.test CNAME .\n"),
    ]);
    let client = |text: &str| rpz.client(ViewId(0), text.parse().unwrap(), &mut |_| {});
    assert_eq!(client("10.0.0.8"), None);
    let hit = client("10.0.0.9").unwrap();
    assert_eq!((hit.action.clone(), hit.kind()), (Action::Passthru, Kind::ClientIp));
    let earlier = |text: &str| {
        rpz.question(ViewId(0), &name(text), Some(&hit), &mut |_| {}).map(|hit| hit.zone)
    };
    assert_eq!(earlier("evil.test."), Some("names.rpz.".into()));
    assert_eq!(earlier("bad.test."), None);
    let prefixes: Vec<String> = rpz.clients().map(|net| net.to_string()).collect();
    assert_eq!(prefixes, ["10.0.0.9/32"]);
}

#[test]
fn a_zone_of_some_views_says_nothing_to_others() {
    let views = vec![ViewId(7)];
    let rpz = Rpz::new(vec![Policy { views, ..policy("rpz.test.", "a.test CNAME .\n") }]);
    let told = |view| rpz.question(ViewId(view), &name("a.test."), None, &mut |_| {}).is_some();
    assert!(told(7) && !told(0) && !told(ViewId::EXEMPT.0));
}

/// A cut with these servers: names, and addresses of the first.
fn cut(zone: &str, names: &[&str], addresses: &[&str], above: Option<Arc<Cut>>) -> Arc<Cut> {
    let mut servers: Vec<NameServer> =
        names.iter().map(|text| NameServer { name: name(text), addresses: Vec::new() }).collect();
    let ip = |text: &&str| std::net::SocketAddr::new(text.parse().unwrap(), 53);
    servers[0].addresses = addresses.iter().map(ip).collect();
    let cut = Cut::new(name(zone), servers);
    Arc::new(match above {
        Some(above) => cut.below(above),
        None => cut,
    })
}

/// Which rule decides over an address for `www.a.test` that servers of this cut gave.
fn judged(rpz: &Rpz, cut: Arc<Cut>) -> Option<String> {
    let www = name("www.a.test.");
    let answer = vec![a("www.a.test.", [198, 51, 100, 9])];
    let sections = Sections { answer, ..Sections::default() };
    let trail = Trail::of(www.clone(), cut);
    rpz.answer(ViewId(0), &www, &sections, &trail, &mut |_| {}).map(|(_, hit)| hit.to_string())
}

#[test]
fn servers_are_matched_by_name_and_address() {
    let rpz = rpz(&[(
        "rpz.test.",
        "*.bad.example.rpz-nsdname CNAME .\nns.worse.example.rpz-nsdname CNAME *.\n\
         24.0.2.0.192.rpz-nsip CNAME *.\n",
    )]);
    let told =
        |names: &[&str], servers: &[&str]| judged(&rpz, cut("a.test.", names, servers, None));
    assert_eq!(told(&["ns.good.example."], &["198.51.100.1"]), None);
    assert_eq!(
        told(&["ns.good.example.", "ns.bad.example."], &["192.0.2.1"]),
        Some("rpz.test.: nsdname *.bad.example.: nxdomain".into()),
        "names go before addresses"
    );
    assert_eq!(
        told(&["ns.worse.example.", "x.bad.example."], &[]),
        Some("rpz.test.: nsdname *.bad.example.: nxdomain".into()),
        "of several the first in the order of DNSSEC"
    );
    let by_address = Some("rpz.test.: nsip 192.0.2.0/24: nodata".to_owned());
    assert_eq!(told(&["ns."], &["192.0.2.1"]), by_address);
    // Servers of zones above had a say; those of the root and of its children are left alone.
    let bad = |zone: &str, above| cut(zone, &["ns.x."], &["192.0.2.1"], above);
    let good = |zone: &str, above| cut(zone, &["ns.x."], &["198.51.100.1"], Some(above));
    assert_eq!(judged(&rpz, good("www.a.test.", bad("a.test.", None))), by_address);
    assert_eq!(judged(&rpz, good("a.test.", bad("test.", Some(bad(".", None))))), None);
    // An address that a server was found to have by asking for it.
    let found = good("a.test.", bad("test.", None));
    found.note_found(["192.0.2.77".parse().unwrap()].into_iter());
    assert_eq!(judged(&rpz, found), by_address);
}

#[test]
fn rules_about_servers_come_last_in_their_zone_and_zones_in_their_order() {
    let bad = || cut("a.test.", &["ns.bad.example."], &["192.0.2.1"], None);
    let told = |zones: &[(&str, &str)]| judged(&rpz(zones), bad()).unwrap_or_default();
    let (nsdname, nsip) =
        ("ns.bad.example.rpz-nsdname CNAME .\n", "32.1.2.0.192.rpz-nsip CNAME .\n");
    let ip = "32.9.100.51.198.rpz-ip CNAME rpz-passthru.\n";
    let qname = "www.a.test CNAME *.\n";
    let all = [nsip, nsdname, ip, qname];
    let within = |rules: &[&str]| told(&[("one.", &rules.concat())]);
    assert_eq!(within(&all), "one.: qname www.a.test.: nodata");
    assert_eq!(within(&all[..3]), "one.: ip 198.51.100.9/32: passthru");
    assert_eq!(within(&all[..2]), "one.: nsdname ns.bad.example.: nxdomain");
    assert_eq!(within(&all[..1]), "one.: nsip 192.0.2.1/32: nxdomain");
    assert_eq!(told(&[("one.", nsip), ("two.", qname)]), "one.: nsip 192.0.2.1/32: nxdomain");
    assert_eq!(told(&[("one.", ip), ("two.", nsdname)]), "one.: ip 198.51.100.9/32: passthru");
    // A name is judged by the servers of its own zone, and the chain from its beginning.
    let rpz = rpz(&[("one.", nsdname)]);
    let records = [cname("www.ok.test.", "x.a.test."), a("x.a.test.", [198, 51, 100, 9])];
    let sections = Sections { answer: records.to_vec(), ..Sections::default() };
    let mut trail = Trail::of(name("www.ok.test."), cut("ok.test.", &["ns.x."], &[], None));
    trail.push(name("x.a.test."), Some(bad()));
    let hit = rpz.answer(ViewId(0), &name("www.ok.test."), &sections, &trail, &mut |_| {});
    assert_eq!(hit.map(|(n, hit)| (n, hit.kind())), Some((1, Kind::NsDname)));
}

#[test]
fn what_changes_no_rule_about_servers_and_lets_nothing_more_be_judged_is_alike() {
    let server = "ns.bad.example.rpz-nsdname CNAME .\n";
    let first = policy("one.", &format!("{server}a.test CNAME rpz-passthru.\nb.test CNAME .\n"));
    let changed = |remove: &str, insert: &str| {
        let mut zone = (*first.zone).clone();
        let record = |owner: &str, target: &str| cname(&format!("{owner}.one."), target);
        if let Some((owner, target)) = remove.split_once(' ') {
            zone.remove(&record(owner, target)).unwrap();
        }
        if let Some((owner, target)) = insert.split_once(' ') {
            zone.insert(record(owner, target)).unwrap();
        }
        zone.finish();
        let new = Rpz::new(vec![Policy { zone: Arc::new(zone), ..first.clone() }]);
        new.judges_servers_like(&Rpz::new(vec![first.clone()]))
    };
    assert!(changed("", ""));
    assert!(changed("b.test .", "c.test ."));
    assert!(!changed("a.test rpz-passthru.", ""), "it kept servers from being looked at");
    assert!(!changed("", "8.0.0.0.10.rpz-nsip ."));
    assert!(!changed("ns.bad.example.rpz-nsdname .", "ns.bad.example.rpz-nsdname *."));
    let old = Rpz::new(vec![first.clone()]);
    let over = Rpz::new(vec![Policy { policy: Override::Nodata, ..first.clone() }]);
    assert!(!over.judges_servers_like(&old));
    assert!(!Rpz::new(vec![policy("one.", server)]).judges_servers_like(&old));
    assert!(rpz(&[("one.", "b.test CNAME .\n")]).judges_servers_like(&old), "nobody is looked at");
}

#[test]
fn only_what_depends_on_the_question_alone_is_fit_for_the_kernel() {
    let rpz = rpz(&[("rpz.test.", "a.test CNAME .\n24.0.2.0.192.rpz-ip CNAME .\n")]);
    let query = query("a.test.", rtype::A);
    let text = |hit: &Hit| match rpz.carry_out(hit, &query, &query.name, Vec::new()) {
        Some(Said::Answer(answer)) => answer.ede.unwrap().text,
        other => panic!("{other:?}"),
    };
    let by_name = rpz.zones[0].hit(0, rpz.zones[0].zone.qname(&query.name).unwrap());
    assert_eq!(text(&by_name), "");
    let ip = "192.0.2.1".parse().unwrap();
    let by_address = rpz.zones[0].hit(0, rpz.zones[0].zone.ip(&[ip]).unwrap());
    assert_eq!(text(&by_address), "rpz.test.: ip");
}
