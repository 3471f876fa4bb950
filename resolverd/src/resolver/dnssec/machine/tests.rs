//! Whole chains, from the root's anchor through zones that other programs signed, and every way
//! to break them.

mod forged;

use std::collections::HashMap;

use super::super::anchors::Anchors;
use super::super::vectors::{NOW, REPLIES, anchors, name, reply};
use super::*;
use crate::dns::rtype::{A, DNSKEY, DS, MX, TXT};

/// What the driver would do: answers fetches from the vectors, or as a test has it.
struct World {
    anchors: Arc<Anchors>,
    zones: Arc<Zones>,
    instead: HashMap<Fetch, Option<Arc<Reply>>>,
    fetched: Vec<Fetch>,
}

impl World {
    fn new(anchored: &[&str]) -> Self {
        Self::with(anchors(anchored))
    }

    fn with(anchors: Anchors) -> Self {
        Self {
            anchors: Arc::new(anchors),
            zones: Arc::new(Zones::default()),
            instead: HashMap::new(),
            fetched: Vec::new(),
        }
    }

    fn judge(&mut self, owner: &str, qtype: u16, reply: &Arc<Reply>) -> Verdict {
        self.judge_at(NOW, owner, qtype, reply)
    }

    fn judge_at(&mut self, now: u64, owner: &str, qtype: u16, reply: &Arc<Reply>) -> Verdict {
        let (anchors, zones) = (Arc::clone(&self.anchors), Arc::clone(&self.zones));
        let mut machine = Machine::new(name(owner), qtype, reply, anchors, zones);
        self.run(&mut machine, now)
    }

    fn run(&mut self, machine: &mut Machine, now: u64) -> Verdict {
        let mut inputs = vec![Input::Start];
        let mut verdict = None;
        while let Some(input) = inputs.pop() {
            let mut outputs = Vec::new();
            machine.step(now, input, &mut outputs);
            for output in outputs {
                match output {
                    Output::Done(told) => assert!(verdict.replace(told).is_none(), "told twice"),
                    Output::Fetch(fetch) => {
                        self.fetched.push(fetch.clone());
                        let known = || REPLIES.get(&fetch).cloned();
                        let found = self.instead.get(&fetch).cloned().unwrap_or_else(known);
                        inputs.push(match found {
                            Some(reply) => Input::Fetched(fetch, reply),
                            None => Input::Failed(fetch),
                        });
                    }
                }
            }
        }
        verdict.expect("a machine that has all it asked for says so")
    }
}

/// The reply as an iterator would put it together: aliases followed into other zones.
fn whole(owner: &str, qtype: u16) -> Arc<Reply> {
    let mut all = (*reply(owner, qtype)).clone();
    for _ in 0..4 {
        let target = all.answer.iter().rev().find_map(Record::target);
        let Some(target) = target.filter(|_| qtype != rtype::CNAME) else { break };
        let open = !all.answer.iter().any(|r| r.owner == target) && all.authority.is_empty();
        let next = REPLIES.get(&Fetch { name: target, qtype }).filter(|_| open);
        let Some(next) = next else { break };
        all.rcode = next.rcode;
        all.answer.extend(next.answer.iter().cloned());
        all.authority.extend(next.authority.iter().cloned());
    }
    Arc::new(all)
}

fn verdict(owner: &str, qtype: u16) -> Verdict {
    World::new(&["."]).judge(owner, qtype, &whole(owner, qtype))
}

#[track_caller]
fn bogus(verdict: Verdict) -> Failure {
    let Verdict::Bogus(failure) = verdict else { panic!("{verdict:?}") };
    failure
}

/// Every question that `make.sh` asks of a rich zone, and its verdict in a zone without opt-out.
fn questions(zone: &str) -> Vec<(String, u16, bool)> {
    let mut all = Vec::new();
    for (owner, secure) in [
        ("", true),
        ("www.", true),
        ("alias.", true),
        ("away.", true),
        ("lost.", true),
        ("out.", false),
        ("ent.", true),
        ("x.wild.", true),
        ("a.b.wild.", true),
        ("h.wild.", true),
        ("x.h.wild.", true),
        ("x.walias.", true),
        ("www.tree.", true),
        ("none.tree.", true),
        ("tree.", true),
        ("srv.", true),
        ("cut.", false),
        ("www.cut.", false),
        ("nothere.", true),
        ("deep.nothere.", true),
    ] {
        all.push((format!("{owner}{zone}"), A, secure));
    }
    for owner in ["", "www.", "ent.", "x.wild.", "nothere.", "tree.", "srv."] {
        all.push((format!("{owner}{zone}"), DS, true));
    }
    for (owner, qtype) in
        [("", MX), ("www.", MX), ("", rtype::SOA), ("", rtype::NS), ("", DNSKEY), ("x.wild.", TXT)]
    {
        all.push((format!("{owner}{zone}"), qtype, true));
    }
    for (owner, qtype) in [("ent.", TXT), ("srv.", rtype::SRV), ("www.", 28), ("www.", 255)] {
        all.push((format!("{owner}{zone}"), qtype, true));
    }
    all
}

#[test]
fn every_answer_of_zones_signed_by_three_programs_is_judged_as_it_should_be() {
    // dnssec-signzone with NSEC, ldns-signzone with NSEC3, kzonesign with NSEC.
    for zone in ["nsec.test.", "nsec3.test.", "ed.test."] {
        for (owner, qtype, secure) in questions(zone) {
            let verdict = verdict(&owner, qtype);
            match (&verdict, secure) {
                (Verdict::Secure { ttl: 1..=3600 }, true) => {}
                (Verdict::Insecure(Reason::Delegation(..)), false) => {}
                _ => panic!("{owner} {qtype}: {verdict:?}"),
            }
        }
    }
}

#[test]
fn with_opt_out_what_is_denied_is_insecure_and_what_is_there_is_secure() {
    for (owner, secure) in [
        ("optout.test.", true),
        ("www.optout.test.", true),
        ("alias.optout.test.", true),
        ("ent.optout.test.", true),
        ("h.wild.optout.test.", true),
        ("x.wild.optout.test.", false),
        ("nothere.optout.test.", false),
        ("lost.optout.test.", false),
        ("www.cut.optout.test.", false),
    ] {
        let verdict = verdict(owner, A);
        assert_eq!(matches!(verdict, Verdict::Secure { .. }), secure, "{owner} {verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Insecure(_)), !secure, "{owner} {verdict:?}");
    }
}

#[test]
fn zones_that_are_signed_in_special_ways_are_judged_by_the_rfcs() {
    for (zone, secure, why) in [
        ("child.nsec.test.", true, "four zones deep"),
        ("digest4.test.", true, "SHA-384"),
        ("odd.test.", true, "SHA-1 beside SHA-256"),
        ("rollalg.test.", true, "two algorithms"),
        ("standby.test.", true, "a DS of a key that does not sign yet"),
        ("iter151.test.", true, "what is there needs no hash"),
        ("ed448.test.", false, "an unknown algorithm alone (RFC 4035 section 5.2)"),
        ("sha1.test.", false, "SHA-1 signatures (RFC 9905)"),
        ("digest1.test.", false, "a SHA-1 digest alone"),
        ("unsigned.test.", false, "no DS"),
        ("bare.test.", false, "signed, and no DS"),
        ("island.nsec.test.", false, "signed, and no DS"),
    ] {
        let verdict = verdict(&format!("www.{zone}"), A);
        assert_eq!(matches!(verdict, Verdict::Secure { .. }), secure, "{why}: {verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Insecure(_)), !secure, "{why}: {verdict:?}");
    }
    let reason = |zone: &str| match verdict(&format!("www.{zone}"), A) {
        Verdict::Insecure(Reason::Delegation(at, why)) => (at, why.map(|why| why.code)),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("ed448.test."), (name("ed448.test."), Some(ede::UNSUPPORTED_ALGORITHM)));
    assert_eq!(reason("digest1.test."), (name("digest1.test."), Some(ede::UNSUPPORTED_DIGEST)));
    assert_eq!(reason("unsigned.test."), (name("unsigned.test."), None));
}

#[test]
fn each_kind_of_failure_has_its_code() {
    for (owner, qtype, code) in [
        ("www.expired.test.", A, ede::EXPIRED),
        ("nothere.expired.test.", A, ede::EXPIRED),
        ("www.future.test.", A, ede::NOT_YET_VALID),
        ("www.badds.test.", A, ede::DNSKEY_MISSING),
        ("www.nosig.test.", A, ede::DNSKEY_MISSING),
        ("nothere.nosig.test.", A, ede::DNSKEY_MISSING),
        ("nothere.iter600.test.", A, ede::UNSUPPORTED_ITERATIONS),
    ] {
        let failure = bogus(verdict(owner, qtype));
        assert_eq!(failure.code, code, "{owner}: {failure:?}");
        assert!(!failure.passing && failure.text.len() > 20, "{failure:?}");
    }
    let past = verdict("nothere.iter151.test.", A);
    assert_eq!(past, Verdict::Insecure(Reason::Iterations(151)));
}

#[test]
fn an_anchor_below_begins_a_chain_and_a_negative_one_ends_it() {
    let island = reply("www.island.nsec.test.", A);
    for (anchored, secure) in
        [(&["."][..], false), (&[".", "island.nsec.test."], true), (&["island.nsec.test."], true)]
    {
        let verdict = World::new(anchored).judge("www.island.nsec.test.", A, &island);
        assert_eq!(matches!(verdict, Verdict::Secure { .. }), secure, "{anchored:?} {verdict:?}");
    }
    let bare = reply("nothere.bare.test.", A);
    let verdict = World::new(&[".", "bare.test."]).judge("nothere.bare.test.", A, &bare);
    assert!(matches!(verdict, Verdict::Secure { .. }), "a DNSKEY as anchor: {verdict:?}");
    let elsewhere =
        World::new(&["island.nsec.test."]).judge("www.test.", A, &reply("www.test.", A));
    assert_eq!(elsewhere, Verdict::Indeterminate);

    let mut negative = anchors(&["."]);
    negative.add_negative(name("expired.test."), Some(NOW + 10));
    let mut world = World::with(negative);
    let expired = reply("www.expired.test.", A);
    let verdict = world.judge("www.expired.test.", A, &expired);
    assert_eq!(verdict, Verdict::Insecure(Reason::NegativeAnchor(name("expired.test."))));
    assert!(world.fetched.is_empty());
    let later = world.judge_at(NOW + 10, "www.expired.test.", A, &expired);
    assert_eq!(bogus(later).code, ede::EXPIRED, "it has come to its end");
}

#[test]
fn the_ds_of_an_anchored_zone_is_governed_by_what_is_above_it() {
    let ds = reply("bare.test.", DS);
    let verdict = World::new(&[".", "bare.test."]).judge("bare.test.", DS, &ds);
    assert!(matches!(verdict, Verdict::Insecure(Reason::OptOut)), "{verdict:?}");
    let alone = World::new(&["bare.test."]).judge("bare.test.", DS, &ds);
    assert_eq!(alone, Verdict::Indeterminate);
    let signed = World::new(&["."]).judge("nsec.test.", DS, &reply("nsec.test.", DS));
    assert!(matches!(signed, Verdict::Secure { .. }), "{signed:?}");
    let root = World::new(&["."]).judge(".", DS, &reply(".", DS));
    assert!(matches!(root, Verdict::Secure { .. }), "{root:?}");
}

#[test]
fn what_was_learned_of_zones_is_not_asked_for_again() {
    let mut world = World::new(&["."]);
    let www = reply("www.nsec.test.", A);
    assert!(matches!(world.judge("www.nsec.test.", A, &www), Verdict::Secure { .. }));
    let mut asked: Vec<_> =
        world.fetched.iter().map(|fetch| (fetch.name.to_string(), fetch.qtype)).collect();
    asked.sort();
    let expected = [
        (".", DNSKEY),
        ("nsec.test.", DS),
        ("nsec.test.", DNSKEY),
        ("test.", DS),
        ("test.", DNSKEY),
    ];
    assert_eq!(asked, expected.map(|(zone, qtype)| (zone.to_owned(), qtype)));
    world.fetched.clear();
    for (owner, qtype) in
        [("www.nsec.test.", A), ("nothere.nsec.test.", A), ("x.wild.nsec.test.", A)]
    {
        let verdict = world.judge(owner, qtype, &reply(owner, qtype));
        assert!(matches!(verdict, Verdict::Secure { .. }), "{owner} {verdict:?}");
    }
    assert_eq!(world.fetched, []);
    // An insecure delegation takes one question, and none the next time.
    for expected in [1, 0] {
        world.fetched.clear();
        let verdict = world.judge("www.unsigned.test.", A, &reply("www.unsigned.test.", A));
        assert!(matches!(verdict, Verdict::Insecure(_)), "{verdict:?}");
        assert_eq!(world.fetched.len(), expected, "{:?}", world.fetched);
    }
}

#[test]
fn the_ds_and_the_keys_of_a_signer_are_asked_for_at_once() {
    let mut machine = Machine::new(
        name("www.nsec.test."),
        A,
        &reply("www.nsec.test.", A),
        Arc::new(anchors(&["."])),
        Arc::new(Zones::default()),
    );
    let mut out = Vec::new();
    machine.step(NOW, Input::Start, &mut out);
    let fetch = |qtype| Output::Fetch(Fetch { name: name("nsec.test."), qtype });
    assert_eq!(out, [fetch(DS), fetch(DNSKEY)]);
    out.clear();
    // What nobody asked for is not listened to; what came says what is next.
    let stray = Fetch { name: name("test."), qtype: DNSKEY };
    machine.step(NOW, Input::Fetched(stray, reply("test.", DNSKEY)), &mut out);
    assert_eq!(out, []);
    let ds = Fetch { name: name("nsec.test."), qtype: DS };
    machine.step(NOW, Input::Fetched(ds, reply("nsec.test.", DS)), &mut out);
    assert_eq!(out.len(), 2, "those of test.: {out:?}");
}

#[test]
fn keys_of_the_question_itself_are_not_asked_for_again() {
    let mut world = World::new(&["."]);
    let verdict = world.judge("nsec.test.", DNSKEY, &reply("nsec.test.", DNSKEY));
    assert!(matches!(verdict, Verdict::Secure { .. }), "{verdict:?}");
    assert!(!world.fetched.contains(&Fetch { name: name("nsec.test."), qtype: DNSKEY }));
}

#[test]
fn what_cannot_be_fetched_is_no_verdict_on_the_zone_and_not_remembered() {
    let mut world = World::new(&["."]);
    for qtype in [DS, DNSKEY] {
        let fetch = Fetch { name: name("nsec.test."), qtype };
        world.instead.insert(fetch.clone(), None);
        let www = reply("www.nsec.test.", A);
        let failure = bogus(world.judge("www.nsec.test.", A, &www));
        assert!(failure.passing, "{failure:?}");
        world.instead.remove(&fetch);
        assert!(matches!(world.judge("www.nsec.test.", A, &www), Verdict::Secure { .. }));
        world.zones.forget_all();
    }
}

#[test]
fn the_life_of_what_is_secure_ends_before_its_signatures_do() {
    let www = reply("www.nsec.test.", A);
    let expires = super::super::vectors::set(&www, A).signatures[0].expiration;
    let verdict = World::new(&["."]).judge_at(u64::from(expires) - 7, "www.nsec.test.", A, &www);
    assert_eq!(verdict, Verdict::Secure { ttl: 7 });
    let denied = reply("nothere.nsec.test.", A);
    let verdict = World::new(&["."]).judge("nothere.nsec.test.", A, &denied);
    assert_eq!(verdict, Verdict::Secure { ttl: 300 }, "the SOA's minimum (RFC 9077)");
}

#[test]
fn signatures_that_are_asked_for_are_insecure() {
    let verdict =
        World::new(&["."]).judge("www.nsec.test.", RRSIG, &reply("www.nsec.test.", RRSIG));
    assert_eq!(verdict, Verdict::Insecure(Reason::Unsignable));
}

const RRSIG: u16 = rtype::RRSIG;

#[test]
fn an_unsigned_zone_may_have_the_last_word_beside_what_denies_its_ds() {
    // As a server of both zones puts it: the alias, the denial of the DS, the SOA of the other.
    let mut all = (*reply("out.nsec.test.", A)).clone();
    all.answer.retain(|record| record.owner == name("out.nsec.test."));
    let denied = reply("unsigned.test.", DS);
    let proofs = denied.authority.iter().filter(|record| record.rtype != rtype::SOA);
    let of_soa =
        |record: &&Record| record.signature().is_none_or(|(covered, _)| covered != rtype::SOA);
    all.authority = proofs.filter(of_soa).cloned().collect();
    all.authority.extend(reply("www.unsigned.test.", MX).authority.iter().cloned());
    let verdict = World::new(&["."]).judge("out.nsec.test.", MX, &Arc::new(all));
    assert!(matches!(verdict, Verdict::Insecure(_)), "{verdict:?}");
    // In a signed zone nobody has it without a signature.
    let mut bare = (*reply("www.nsec.test.", MX)).clone();
    bare.authority.retain(|record| of_soa(&record));
    bogus(World::new(&["."]).judge("www.nsec.test.", MX, &Arc::new(bare)));
}
