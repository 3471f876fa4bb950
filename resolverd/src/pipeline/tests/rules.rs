//! What policy makes of questions and answers, from the message to the upstream.

use hickory_proto::op::ResponseCode;
use resolverd_common::entry::head_of;

use super::super::*;
use super::house::{client_at, policy_of};
use super::{House, Seen, q};
use crate::config::{Override, Reason, ZoneKind};
use crate::dns::Name;
use crate::dns::records::Record;
use crate::metrics::Dropped;
use crate::policy::rpz::{self, text};
use crate::policy::{Access, Acl, Dns64, Rebinding, ViewSpec, Way, ZoneSpec, rules};

const A: u16 = 1;
const AAAA: u16 = 28;
const PTR: u16 = 12;

fn acl() -> Acl {
    let all = ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap());
    Acl::new(&all, &[]).unwrap()
}

fn zone(name: &str, kind: ZoneKind, records: &[&str], views: &[&str]) -> ZoneSpec {
    let all = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let name = name.parse().unwrap();
    ZoneSpec { name, kind, records: all(records), views: all(views), log: true }
}

fn view(name: &str, clients: &str, ways: &[Way]) -> ViewSpec {
    ViewSpec {
        name: name.into(),
        clients: vec![clients.parse().unwrap()],
        ways: ways.to_vec(),
        access: Access::Acl,
        differs: None,
    }
}

fn house(spec: rules::Spec) -> House {
    let house = House::new();
    house.pipeline.reconfigure(policy_of(rules::Spec { acl: acl(), ..spec }));
    house
}

fn feed(text: &str) -> Arc<Rpz> {
    let origin: Name = "rpz.test.".parse().unwrap();
    let text = format!("@ 60 SOA a. b. 1 60 60 60 60\n{text}");
    let zone = Arc::new(text::read(&origin, text.as_bytes()).unwrap());
    Arc::new(Rpz::new(vec![rpz::Policy {
        name: "rpz.test.".into(),
        zone,
        policy: Override::Given,
        reason: Reason::Blocked,
        log: true,
        views: Vec::new(),
    }]))
}

/// RCODE and the data of the answers.
fn said(seen: &Seen) -> String {
    if *seen == Seen::Nothing || *seen == Seen::Reply(Vec::new()) {
        return "nothing".into();
    }
    let message = seen.message();
    let cut = if message.metadata.truncation { " cut" } else { "" };
    let data: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    let rcode = match message.metadata.response_code {
        ResponseCode::NoError => "ok",
        ResponseCode::NXDomain => "nx",
        ResponseCode::Refused => "refused",
        ResponseCode::ServFail => "failed",
        _ => "other",
    };
    format!("{rcode}{cut} {}", data.join(" ")).trim_end().to_owned()
}

async fn ask(house: &House, client: &str, transport: Transport, name: &str, qtype: u16) -> String {
    said(&house.ask_from(client, transport, &q(name, qtype)).await)
}

#[tokio::test]
async fn an_alias_of_ours_to_a_name_of_others_is_followed_and_kept() {
    let house = house(rules::Spec {
        zones: vec![
            zone(
                "home.test.",
                ZoneKind::Static,
                &[
                    "www CNAME elsewhere.example.",
                    "both CNAME x.other.test.",
                    "gone CNAME nx.example.",
                ],
                &[],
            ),
            zone("other.test.", ZoneKind::Static, &["x CNAME www.home.test."], &[]),
            zone("round.test.", ZoneKind::Static, &["a CNAME b.ring.test."], &[]),
            zone("ring.test.", ZoneKind::Static, &["b CNAME a.round.test."], &[]),
        ],
        ..rules::Spec::default()
    });
    let local = |name| ask(&house, "127.0.0.1", Transport::Udp, name, A);
    for _ in 0..2 {
        assert_eq!(local("www.home.test").await, "ok elsewhere.example. 192.0.2.0");
    }
    assert_eq!(house.asked(), 1, "the whole of it is in the cache");
    // The target was kept as well.
    assert_eq!(
        local("both.home.test").await,
        "ok x.other.test. www.home.test. elsewhere.example. 192.0.2.0"
    );
    assert_eq!(local("elsewhere.example").await, "ok 192.0.2.0");
    assert_eq!(house.asked(), 1);
    assert_eq!(local("gone.home.test").await, "nx nx.example.");
    assert_eq!(local("a.round.test").await, "failed");
    let published = house.in_kernel("www.home.test", A).unwrap();
    assert!(head_of(&published).unwrap().class().is_some());
}

#[tokio::test]
async fn clients_of_a_view_have_answers_of_their_own_and_share_what_is_asked_of_others() {
    let house = house(rules::Spec {
        views: vec![
            view("office", "10.0.0.0/8", &[]),
            view("streams", "192.0.2.0/24", &[Way::Tcp]),
            view("plain", "198.51.100.0/24", &[]),
        ],
        zones: vec![
            zone("a.test.", ZoneKind::Static, &["@ A 10.0.0.1"], &["office"]),
            zone("a.test.", ZoneKind::Static, &["@ A 10.0.0.2"], &["streams"]),
            zone("a.test.", ZoneKind::Static, &["@ A 10.0.0.9"], &[]),
        ],
        ..rules::Spec::default()
    });
    for _ in 0..3 {
        for (client, transport, expected) in [
            ("10.1.1.1", Transport::Udp, "ok 10.0.0.1"),
            ("10.1.1.1", Transport::Tcp, "ok 10.0.0.1"),
            ("192.0.2.1", Transport::Udp, "ok 10.0.0.9"),
            ("192.0.2.1", Transport::Tcp, "ok 10.0.0.2"),
            ("198.51.100.1", Transport::Udp, "ok 10.0.0.9"),
            ("127.0.0.1", Transport::Udp, "ok 10.0.0.9"),
        ] {
            assert_eq!(ask(&house, client, transport, "a.test", A).await, expected, "{client}");
        }
    }
    let policy = house.pipeline.policy();
    let in_kernel = |client: &str, way| {
        let view = policy.rules.admit(client.parse().unwrap(), way).view;
        let query = Query {
            name: "a.test.".parse().unwrap(),
            qtype: A,
            dnssec_ok: false,
            checking_disabled: false,
            view: view.0,
        };
        house.fast.peek(house.pipeline.shared.key(&query).0).is_some()
    };
    assert!(in_kernel("10.1.1.1", Way::Udp) && in_kernel("127.0.0.1", Way::Udp));
    assert!(!in_kernel("192.0.2.1", Way::Tcp), "nobody of that view sends datagrams");
    // A view that says nothing of its own shares everybody's answers, others don't.
    ask(&house, "198.51.100.1", Transport::Udp, "www.test", A).await;
    ask(&house, "127.0.0.1", Transport::Udp, "www.test", A).await;
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_policy_zone_holds_from_its_first_answer_on_and_is_forgotten_with_it() {
    let house = house(rules::Spec::default());
    let local = |name| ask(&house, "127.0.0.1", Transport::Udp, name, A);
    for name in ["www.test", "alias.test", "other.test"] {
        local(name).await;
    }
    assert!(house.in_kernel("www.test", A).is_some());
    let (before, epoch) = (house.asked(), house.fast.mark().epoch);
    // The third by an alias, the fourth by its address.
    house.pipeline.take_rpz(feed(
        "www.test CNAME .\n*.sub.test A 10.0.0.7\ntarget.test CNAME *.\n\
         24.0.2.0.192.rpz-ip CNAME rpz-drop.\n",
    ));
    assert!(house.fast.mark().epoch > epoch);
    assert_eq!(local("www.test").await, "nx");
    assert_eq!(local("a.sub.test").await, "ok 10.0.0.7");
    assert_eq!(local("alias.test").await, "ok target.test.");
    assert_eq!(local("fresh.test").await, "nothing");
    // What the upstream said before is held against the rules.
    assert_eq!(local("other.test").await, "nothing");
    // By the question alone: fit for the kernel. By the answer: not.
    assert!(house.in_kernel("a.sub.test", A).is_some());
    let mark = house.fast.mark();
    let head = head_of(&house.in_kernel("www.test", A).unwrap()).unwrap();
    assert_eq!(head.epoch, mark.epoch);
    let alias = house.in_kernel("alias.test", A).and_then(|entry| head_of(&entry));
    assert!(alias.is_none_or(|head| head.epoch != mark.epoch));
    let asked = house.asked();
    assert!(asked > before);
    house.pipeline.take_rpz(Arc::default());
    assert_eq!(local("www.test").await, "ok 192.0.2.1", "the rule's entry is no longer good");
    assert_eq!(house.asked(), asked + 1);
    assert_eq!(local("alias.test").await, "ok target.test. 192.0.2.9");
    let count = |rule| house.metrics.policy_answers(rule).get();
    assert!(count(PolicyRule::RpzQname) > 0 && count(PolicyRule::RpzIp) > 0);
}

#[tokio::test]
async fn rules_about_servers_have_old_answers_asked_anew_and_other_changes_do_not() {
    let house = house(rules::Spec::default());
    let local = |name| ask(&house, "127.0.0.1", Transport::Udp, name, A);
    assert_eq!(local("www.test").await, "ok 192.0.2.0");
    let rpz = feed("ns.bad.rpz-nsdname CNAME .\nx.test CNAME .\n");
    house.pipeline.take_rpz(Arc::clone(&rpz));
    // Whose servers led to the one in the cache nobody knows.
    assert_eq!(local("www.test").await, "ok 192.0.2.1");
    assert_eq!(local("www.test").await, "ok 192.0.2.1");
    let changed = |owner: &str, rpz: &Rpz| {
        let mut zone = (*rpz.zones()[0].zone).clone();
        let target = Name::root().as_wire().to_vec();
        let owner = owner.parse().unwrap();
        zone.insert(Record { owner, rtype: 5, class: 1, ttl: 60, rdata: target }).unwrap();
        zone.finish();
        Arc::new(Rpz::new(vec![rpz::Policy { zone: Arc::new(zone), ..rpz.zones()[0].clone() }]))
    };
    let more = changed("y.test.rpz.test.", &rpz);
    house.pipeline.take_rpz(Arc::clone(&more));
    assert_eq!(local("www.test").await, "ok 192.0.2.1", "it was judged by these rules");
    assert_eq!(local("y.test").await, "nx");
    house.pipeline.take_rpz(changed("8.0.0.0.10.rpz-nsip.rpz.test.", &more));
    assert_eq!(local("www.test").await, "ok 192.0.2.2");
    house.pipeline.take_rpz(Arc::default());
    assert_eq!(local("www.test").await, "ok 192.0.2.2");
}

#[tokio::test]
async fn what_is_left_without_its_private_addresses_is_judged_like_any_answer() {
    let rebinding = Rebinding::new(&["192.0.2.9/32".parse().unwrap()], Vec::new());
    let house = house(rules::Spec { rebinding, ..rules::Spec::default() });
    // The second zone waits for what the first says of addresses.
    let zones = ["32.1.113.0.203.rpz-ip CNAME .\n", "alias.test CNAME .\n"].map(feed);
    let zones = zones.iter().map(|rpz| rpz.zones()[0].clone());
    house.pipeline.take_rpz(Arc::new(Rpz::new(zones.collect())));
    for _ in 0..2 {
        let seen = ask(&house, "127.0.0.1", Transport::Udp, "alias.test", A).await;
        assert_eq!(seen, "nx");
    }
}

#[tokio::test]
async fn what_a_rule_for_a_client_says_is_for_him_alone() {
    let house = house(rules::Spec::default());
    house.pipeline.take_rpz(feed(
        "32.9.0.0.10.rpz-client-ip CNAME .\n32.8.0.0.10.rpz-client-ip CNAME rpz-passthru.\n\
         32.7.0.0.10.rpz-client-ip CNAME garden.test.\n32.6.0.0.10.rpz-client-ip CNAME rpz-drop.\n\
         32.5.0.0.10.rpz-client-ip CNAME rpz-tcp-only.\nbad.test CNAME .\n",
    ));
    for turn in 0..2 {
        for (client, name, expected) in [
            ("127.0.0.1", "www.test", "ok 192.0.2.0"),
            ("10.0.0.9", "www.test", "nx"),
            ("10.0.0.8", "www.test", "ok 192.0.2.1"),
            ("10.0.0.8", "bad.test", "ok 192.0.2.0"),
            ("10.0.0.7", "www.test", "ok garden.test. 192.0.2.0"),
            ("10.0.0.6", "www.test", "nothing"),
            ("10.0.0.5", "www.test", "ok cut"),
            ("127.0.0.1", "www.test", "ok 192.0.2.0"),
            ("127.0.0.1", "bad.test", "nx"),
            ("::ffff:10.0.0.9", "www.test", "nx"),
        ] {
            let seen = ask(&house, client, Transport::Udp, name, A).await;
            assert_eq!(seen, expected, "{client} {name}, turn {turn}");
        }
    }
    assert_eq!(ask(&house, "10.0.0.5", Transport::Tcp, "www.test", A).await, "ok 192.0.2.1");
    assert_eq!(house.asked(), 4, "who is exempt has a cache as well");
    let prefixes = house.pipeline.policy().rules.prefixes(house.pipeline.rpz().clients());
    let kernel = |text: &str| {
        let client: IpAddr = text.parse().unwrap();
        let inside = prefixes.iter().filter(|(prefix, _)| prefix.contains(&client));
        inside.max_by_key(|(prefix, _)| prefix.prefix_len()).unwrap().1.verdict
    };
    assert_eq!((kernel("10.0.0.9"), kernel("10.0.0.10")), (Verdict::Refuse, Verdict::Allow));
}

#[tokio::test]
async fn over_streams_only_means_over_streams_only_every_time() {
    let house = house(rules::Spec {
        zones: vec![zone("cut.test.", ZoneKind::Truncate, &[], &[])],
        ..rules::Spec::default()
    });
    house.pipeline.take_rpz(feed("tcp.test CNAME rpz-tcp-only.\n"));
    for _ in 0..2 {
        for name in ["tcp.test", "www.cut.test"] {
            assert_eq!(ask(&house, "127.0.0.1", Transport::Udp, name, A).await, "ok cut");
            assert_eq!(ask(&house, "127.0.0.1", Transport::Tcp, name, A).await, "ok 192.0.2.0");
        }
    }
    assert!(house.in_kernel("tcp.test", A).is_none());
}

#[tokio::test]
async fn ipv6_addresses_are_made_of_ipv4_ones() {
    let prefix = "64:ff9b::/96".parse().unwrap();
    let house =
        house(rules::Spec { dns64: Dns64::new(prefix, &[], &[]), ..rules::Spec::default() });
    let local = |name, qtype| ask(&house, "127.0.0.1", Transport::Udp, name, qtype);
    for _ in 0..2 {
        assert_eq!(local("www.test", AAAA).await, "ok 64:ff9b::c000:201");
    }
    assert_eq!(house.asked(), 2);
    assert_eq!(local("www.test", A).await, "ok 192.0.2.1", "kept from the way");
    assert_eq!(house.asked(), 2);
    assert!(house.in_kernel("www.test", AAAA).is_some());
    assert_eq!(local("alias.test", AAAA).await, "ok target.test. 64:ff9b::c000:209");
    assert_eq!(local("nx.test", AAAA).await, "nx");
    assert_eq!(local("nodata.test", AAAA).await, "ok");
    let name = crate::policy::addresses::name_of("64:ff9b::192.0.2.1".parse().unwrap());
    let reverse = local(&name.to_string(), PTR).await;
    assert_eq!(reverse, "ok 1.2.0.192.in-addr.arpa.");
    // Who validates gets what there is: DO and CD.
    let mut validating = q("www.test", AAAA);
    validating[3] |= 0x10;
    validating[11] = 1;
    validating.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    assert_eq!(said(&house.ask(&validating).await), "ok");
    assert!(house.metrics.policy_answers(PolicyRule::Dns64).get() >= 2);
}

#[tokio::test]
async fn a_private_address_of_a_public_name_is_refused() {
    let private = ["192.0.2.0/24".parse().unwrap()];
    let exempt = vec!["corp.test.".parse().unwrap()];
    let house = house(rules::Spec {
        rebinding: Rebinding::new(&private, exempt),
        zones: vec![zone("home.test.", ZoneKind::Static, &["@ A 192.0.2.5"], &[])],
        ..rules::Spec::default()
    });
    let local = |name| ask(&house, "127.0.0.1", Transport::Udp, name, A);
    for _ in 0..2 {
        assert_eq!(local("www.test").await, "refused");
        assert_eq!(local("www.corp.test").await, "ok 192.0.2.0");
        assert_eq!(local("home.test").await, "ok 192.0.2.5");
    }
    assert_eq!(house.asked(), 2, "the refusal is kept");
    assert_eq!(house.metrics.policy_answers(PolicyRule::Rebinding).get(), 1);
    assert!(house.in_kernel("www.test", A).is_none());
}

#[tokio::test]
async fn a_zone_that_denies_is_silent_and_so_is_an_alias_into_it() {
    let house = house(rules::Spec {
        zones: vec![
            zone("silent.test.", ZoneKind::Deny, &["www A 192.0.2.5"], &[]),
            zone("home.test.", ZoneKind::Static, &["to CNAME x.silent.test."], &[]),
        ],
        ..rules::Spec::default()
    });
    for (name, expected) in [
        ("x.silent.test", "nothing"),
        ("www.silent.test", "ok 192.0.2.5"),
        ("to.home.test", "nothing"),
    ] {
        assert_eq!(ask(&house, "127.0.0.1", Transport::Udp, name, A).await, expected, "{name}");
        assert_eq!(
            ask(&house, "127.0.0.1", Transport::Udp, name, 255).await,
            match name {
                "to.home.test" => "ok x.silent.test.",
                _ => expected,
            }
        );
    }
    assert!(house.metrics.packets_dropped(Dropped::Policy).get() >= 3);
}

#[tokio::test]
async fn what_was_looked_for_under_the_rules_before_is_not_kept_under_these() {
    let house = Arc::new(house(rules::Spec::default()));
    let asking = {
        let house = Arc::clone(&house);
        tokio::spawn(async move { ask(&house, "127.0.0.1", Transport::Udp, "slow.test", A).await })
    };
    while house.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.pipeline.take_rpz(feed("slow.test CNAME .\n"));
    assert_eq!(asking.await.unwrap(), "ok 192.0.2.1");
    assert_eq!(ask(&house, "127.0.0.1", Transport::Udp, "slow.test", A).await, "nx");
    assert_eq!(client_at("127.0.0.1", Transport::Udp).way(), Way::Udp);
}

#[tokio::test]
async fn explain_names_the_rule_that_decides() {
    let house = house(rules::Spec {
        zones: vec![zone("home.test.", ZoneKind::AlwaysNull, &[], &[])],
        builtin: Some(Vec::new()),
        ..rules::Spec::default()
    });
    house.pipeline.take_rpz(feed("*.bad.test CNAME *.\n"));
    for (name, rule) in [
        ("a.home.test", Some("local zone home.test. (always-null)")),
        ("x.onion", Some("built-in zone onion.")),
        ("x.bad.test", Some("policy zone rpz.test.: qname *.bad.test.: nodata")),
        ("www.test", None),
    ] {
        let explained = house.pipeline.explain(&name.parse().unwrap(), A);
        assert_eq!(explained.rule.as_deref(), rule, "{name}");
    }
}
