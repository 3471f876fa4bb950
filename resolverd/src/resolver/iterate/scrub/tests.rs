//! What servers may say, and what becomes of it.

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record { owner: name(owner), rtype, class: 1, ttl: 300, rdata: rdata.to_vec() }
}

fn a(owner: &str, last: u8) -> Record {
    record(owner, rtype::A, &[192, 0, 2, last])
}

fn ns(owner: &str, server: &str) -> Record {
    record(owner, rtype::NS, name(server).as_wire())
}

fn soa(owner: &str) -> Record {
    record(owner, rtype::SOA, &[&[0, 0][..], &[0; 16], &60_u32.to_be_bytes()].concat())
}

fn signature(owner: &str, covered: u16) -> Record {
    record(owner, rtype::RRSIG, &[&covered.to_be_bytes()[..], &[0; 17]].concat())
}

fn message(answer: Vec<Record>, authority: Vec<Record>, additional: Vec<Record>) -> Message {
    Message { authoritative: true, answer, authority, additional, ..Message::default() }
}

/// What a server of `test.` means by its answer about `www.a.test.`.
fn means(message: &Message, qtype: u16) -> Sense {
    asked(message, "test.", "www.a.test.", qtype)
}

fn asked(message: &Message, zone: &str, about: &str, qtype: u16) -> Sense {
    let question = Fetch { name: name(about), qtype };
    let zone = name(zone);
    sense(&Asked { zone: &zone, question: &question, harden_glue: true, port: 53 }, message)
}

fn show(sense: &Sense) -> String {
    let list = |records: &[Record]| {
        let shown: Vec<String> =
            records.iter().map(|r| format!("{} {}", r.owner, r.rtype)).collect();
        shown.join(", ")
    };
    match sense {
        Sense::Answer(reply) => {
            format!("{} [{}] [{}]", reply.rcode, list(&reply.answer), list(&reply.authority))
        }
        Sense::Referral(referral) => {
            let server = |s: &NameServer| format!("{} {:?}", s.name, s.addresses);
            let servers: Vec<String> = referral.cut.servers.iter().map(server).collect();
            format!("to {} {}", referral.cut.zone, servers.join(", "))
        }
        Sense::Lame(why) => format!("lame: {why}"),
        Sense::Useless(why) => format!("useless: {why}"),
    }
}

#[test]
fn answers_and_denials_are_told_apart() {
    let ok = |answer, authority| message(answer, authority, vec![]);
    let nx = |authority| Message { rcode: 3, ..ok(vec![], authority) };
    let hearsay = |message: Message| Message { authoritative: false, recursive: true, ..message };
    let silent = |message: Message| Message { authoritative: false, ..message };
    let resolver = "lame: it is a resolver, and no server of the zone";
    for (message, expected) in [
        (ok(vec![a("www.a.test.", 1)], vec![]), "0 [www.a.test. 1] []"),
        (silent(ok(vec![a("www.a.test.", 1)], vec![])), "0 [www.a.test. 1] []"),
        (hearsay(ok(vec![a("www.a.test.", 1)], vec![])), resolver),
        (ok(vec![], vec![soa("test.")]), "0 [] [test. 6]"),
        (silent(ok(vec![], vec![soa("test.")])), "0 [] [test. 6]"),
        (hearsay(ok(vec![], vec![soa("test.")])), resolver),
        (ok(vec![], vec![]), "0 [] []"),
        (silent(ok(vec![], vec![])), "lame: it says nothing, without authority"),
        (ok(vec![], vec![soa("example.")]), "lame: it serves another zone"),
        (ok(vec![], vec![soa(".")]), "lame: it serves another zone"),
        (ok(vec![], vec![soa("b.test.")]), "lame: it serves another zone"),
        (nx(vec![soa("test.")]), "3 [] [test. 6]"),
        (nx(vec![]), "3 [] []"),
        (silent(nx(vec![soa("test.")])), "3 [] [test. 6]"),
        (silent(nx(vec![soa(".")])), "lame: it denies without authority"),
        (hearsay(nx(vec![soa("test.")])), resolver),
        (
            Message { rcode: 3, ..ok(vec![a("www.a.test.", 1)], vec![]) },
            "useless: it denies a name whose records it gives",
        ),
    ] {
        assert_eq!(show(&means(&message, rtype::A)), expected, "{message:?}");
    }
}

#[test]
fn proofs_are_kept_with_what_they_prove_and_strangers_are_left_out() {
    let authority = vec![
        signature("test.", rtype::SOA),
        signature("test.", rtype::NSEC),
        record("test.", rtype::NSEC, &[0]),
        record("www.example.", rtype::NSEC, &[0]),
        ns("test.", "ns.test."),
        soa("test."),
    ];
    let denial = message(vec![], authority.clone(), vec![a("x.test.", 1)]);
    let kept = "0 [] [test. 6, test. 46, test. 46, test. 47]";
    assert_eq!(show(&means(&denial, rtype::MX)), kept);
    let wildcard = message(vec![a("www.a.test.", 1)], authority, vec![]);
    assert_eq!(show(&means(&wildcard, rtype::A)), "0 [www.a.test. 1] [test. 46, test. 47]");
}

#[test]
fn a_referral_is_followed_down_and_nowhere_else() {
    let refer = |owner: &str, glue: Vec<Record>| Message {
        authoritative: false,
        ..message(vec![], vec![ns(owner, "ns.a.test."), ns(owner, "ns.example.")], glue)
    };
    let away = "lame: its referral leads away from the question";
    for (owner, expected) in [
        ("a.test.", "to a.test. ns.a.test. [192.0.2.1:53], ns.example. []"),
        ("www.a.test.", "to www.a.test. ns.a.test. [192.0.2.1:53], ns.example. []"),
        ("test.", away),
        (".", away),
        ("b.test.", away),
        ("example.", away),
        ("x.www.a.test.", away),
    ] {
        let glue = vec![a("ns.a.test.", 1), a("ns.example.", 6), a("other.a.test.", 6)];
        assert_eq!(show(&means(&refer(owner, glue), rtype::A)), expected, "{owner}");
    }
    let own = message(vec![], vec![ns("test.", "ns.test.")], vec![]);
    assert_eq!(show(&means(&own, rtype::A)), "0 [] []", "AA: nothing is there");
    let ds = asked(&refer("a.test.", vec![]), "test.", "a.test.", rtype::DS);
    assert_eq!(show(&ds), "useless: it refers a question for a DS to the zone itself");
}

#[test]
fn a_referral_is_bounded_and_lives_as_short_as_its_shortest_record() {
    let mut authority: Vec<Record> =
        (0..40).map(|n| ns("a.test.", &format!("n{n}.a.test."))).collect();
    authority[0].ttl = 77;
    let glue: Vec<Record> = (0..40).map(|last| a("n0.a.test.", last)).collect();
    let Sense::Referral(referral) = means(&message(vec![], authority, glue), rtype::A) else {
        panic!("no referral");
    };
    assert_eq!(referral.cut.servers.len(), SERVERS_MAX);
    assert_eq!(referral.cut.servers[0].addresses.len(), ADDRESSES_MAX);
    assert_eq!(referral.life, Duration::from_secs(77));
}

#[test]
fn the_ds_of_a_referral_is_taken_along_if_it_is_signed() {
    let ds = |more: Vec<Record>| {
        let mut authority = vec![ns("a.test.", "ns.a.test.")];
        authority.extend(more);
        let Sense::Referral(referral) = means(&message(vec![], authority, vec![]), rtype::A) else {
            panic!("no referral");
        };
        referral.ds.map(|reply| (reply.answer.len(), reply.authority.len()))
    };
    let set = record("a.test.", rtype::DS, &[0, 1, 13, 2, 9]);
    assert_eq!(ds(vec![]), None);
    assert_eq!(ds(vec![set.clone()]), None);
    assert_eq!(ds(vec![set.clone(), signature("a.test.", rtype::DS)]), Some((2, 0)));
    assert_eq!(ds(vec![set, signature("b.test.", rtype::DS)]), None);
    let proof = vec![record("a.test.", rtype::NSEC, &[0]), signature("a.test.", rtype::NSEC)];
    assert_eq!(ds(proof), Some((0, 2)));
}

#[test]
fn the_end_of_a_chain_is_asked_for_unless_it_is_answered_or_denied() {
    let cname = record("www.a.test.", rtype::CNAME, name("x.test.").as_wire());
    let question = Fetch { name: name("www.a.test."), qtype: rtype::A };
    let next = |message: &Message| match means(message, rtype::A) {
        Sense::Answer(reply) => (reply.rcode, onward(&reply, &question).map(|n| n.to_string())),
        other => panic!("{other:?}"),
    };
    let open = message(vec![cname.clone()], vec![], vec![]);
    assert_eq!(next(&open), (0, Some("x.test.".into())));
    let whole = message(vec![cname.clone(), a("x.test.", 1)], vec![], vec![]);
    assert_eq!(next(&whole), (0, None));
    let denied = Message { rcode: 3, ..message(vec![cname.clone()], vec![soa("test.")], vec![]) };
    assert_eq!(next(&denied), (3, None));
    let bare = Message { rcode: 3, ..message(vec![cname], vec![], vec![]) };
    assert_eq!(next(&bare), (0, Some("x.test.".into())));
}

#[test]
fn the_root_is_what_it_says_with_addresses() {
    let answer = vec![ns(".", "a.root."), ns(".", "b.root."), ns("test.", "c.root.")];
    let additional = vec![a("a.root.", 1), a("c.root.", 3), a("x.", 4)];
    let whole = message(answer.clone(), vec![], additional);
    let (cut, life) = primed(&whole, 53).unwrap();
    assert_eq!((cut.servers.len(), cut.servers[0].addresses.len()), (1, 1));
    assert_eq!(life, Duration::from_secs(300));
    assert_eq!(primed(&message(answer, vec![], vec![]), 53), None);
}
