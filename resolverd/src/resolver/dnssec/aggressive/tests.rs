//! Answers made of other answers' proofs, held to what the server of the zone says itself.

use std::sync::Arc;

use super::super::Verdict;
use super::super::anchors::Anchors;
use super::super::machine::{Input, Machine, Output};
use super::super::vectors::{NOW, REPLIES, anchors, name, reply};
use super::super::zones::Zones;
use super::*;
use crate::dns::rtype::{A, MX, TXT};

/// Validates a vector and has the store learn from it.
fn learn(store: &mut Aggressive, owner: &str, qtype: u16) -> Verdict {
    let machine = validated(owner, qtype, &reply(owner, qtype), anchors(&["."]));
    for proven in machine.0.proven() {
        store.learn(&proven, NOW);
    }
    machine.1
}

fn validated(owner: &str, qtype: u16, reply: &Arc<Reply>, anchors: Anchors) -> (Machine, Verdict) {
    let zones = Arc::new(Zones::default());
    let mut machine = Machine::new(name(owner), qtype, reply, Arc::new(anchors), zones);
    let mut inputs = vec![Input::Start];
    let mut verdict = None;
    while let Some(input) = inputs.pop() {
        let mut out = Vec::new();
        machine.step(NOW, input, &mut out);
        for output in out {
            match output {
                Output::Done(told) => verdict = Some(told),
                Output::Fetch(fetch) => inputs.push(match REPLIES.get(&fetch) {
                    Some(reply) => Input::Fetched(fetch, Arc::clone(reply)),
                    None => Input::Failed(fetch),
                }),
            }
        }
    }
    (machine, verdict.unwrap())
}

fn rcode_of(store: &Aggressive, owner: &str, qtype: u16) -> Option<u8> {
    store.synthesise(&name(owner), qtype, NOW).map(|made| made.reply.rcode)
}

#[test]
fn a_gap_that_was_proven_denies_all_names_in_it() {
    for zone in ["nsec.test.", "nsec3.test.", "ed.test."] {
        let mut store = Aggressive::default();
        assert_eq!(rcode_of(&store, &format!("nothere.{zone}"), A), None);
        let verdict = learn(&mut store, &format!("nothere.{zone}"), A);
        assert!(matches!(verdict, Verdict::Secure { .. }));
        assert_eq!(rcode_of(&store, &format!("nothere.{zone}"), A), Some(3), "{zone}");
        assert_eq!(rcode_of(&store, &format!("deep.nothere.{zone}"), MX), Some(3), "{zone}");
        for owner in ["www.", "alias.", "cut.", "www.cut.", "x.wild.", "ent."] {
            for qtype in [A, MX, rtype::DS] {
                let made = rcode_of(&store, &format!("{owner}{zone}"), qtype);
                let honest = REPLIES.get(&crate::resolver::reply::Fetch {
                    name: name(&format!("{owner}{zone}")),
                    qtype,
                });
                // What is made is never other than what the server says.
                if let (Some(made), Some(honest)) = (made, honest) {
                    assert!(honest.answer.is_empty() && made == honest.rcode, "{owner}{zone}");
                }
            }
        }
        assert_eq!(rcode_of(&store, &format!("www.{zone}"), A), None, "{zone}");
    }
}

#[test]
fn a_name_that_was_seen_to_lack_one_type_lacks_the_others_of_its_bitmap() {
    let mut store = Aggressive::default();
    learn(&mut store, "www.nsec.test.", MX);
    assert_eq!(rcode_of(&store, "www.nsec.test.", TXT), Some(0));
    assert_eq!(rcode_of(&store, "www.nsec.test.", A), None);
    assert_eq!(rcode_of(&store, "www.nsec.test.", 255), None, "ANY is not made");
}

#[test]
fn what_is_made_is_validated_like_what_is_received() {
    for zone in ["nsec.test.", "nsec3.test."] {
        let mut store = Aggressive::default();
        learn(&mut store, &format!("nothere.{zone}"), A);
        let owner = format!("other.nothere.{zone}");
        let made = store.synthesise(&name(&owner), A, NOW).unwrap();
        assert_eq!(made.ttl, 300);
        let reply = Arc::new(made.reply);
        let (_, verdict) = validated(&owner, A, &reply, anchors(&["."]));
        assert_eq!(verdict, Verdict::Secure { ttl: 300 });
    }
}

#[test]
fn nothing_is_made_where_there_is_opt_out() {
    let mut store = Aggressive::default();
    learn(&mut store, "nothere.optout.test.", A);
    assert_eq!(rcode_of(&store, "nothere.optout.test.", A), None);
    assert!(store.is_empty());
}

#[test]
fn a_denial_ages_and_ends() {
    let mut store = Aggressive::default();
    learn(&mut store, "nothere.nsec.test.", A);
    let at = |now: u64| store.synthesise(&name("nothere.nsec.test."), A, now);
    let later = at(NOW + 100).unwrap();
    assert_eq!(later.ttl, 200);
    assert!(later.reply.authority.iter().all(|record| record.ttl <= 200));
    assert!(at(NOW + 299).is_some() && at(NOW + 300).is_none());
}

#[test]
fn a_parent_makes_no_answers_for_its_childs_names_but_for_the_ds() {
    let mut store = Aggressive::default();
    learn(&mut store, "cut.nsec.test.", rtype::DS);
    assert_eq!(rcode_of(&store, "cut.nsec.test.", rtype::DS), Some(0));
    assert_eq!(rcode_of(&store, "cut.nsec.test.", A), None);
    assert_eq!(rcode_of(&store, "www.cut.nsec.test.", A), None);
}

#[test]
fn a_flush_takes_the_zone_its_parents_and_its_children() {
    let mut store = Aggressive::default();
    learn(&mut store, "nothere.nsec.test.", A);
    learn(&mut store, "nothere.ed.test.", A);
    store.forget_under(&name("www.nsec.test."));
    assert_eq!(rcode_of(&store, "nothere.nsec.test.", A), None);
    assert_eq!(rcode_of(&store, "nothere.ed.test.", A), Some(3));
    store.forget_all();
    assert!(store.is_empty());
}

#[test]
fn the_store_has_bounds_in_a_zone_and_in_all() {
    let mut store = Aggressive::default();
    let soa = |zone: &str| {
        let line = format!("{zone} 300 IN SOA ns.{zone} h.{zone} 1 2 3 4 300");
        (super::super::rrset::group(&[super::super::vectors::record(&line)]).remove(0), 300)
    };
    let nsec = |zone: &str, number: usize| {
        let line = format!("n{number:06}.{zone} 300 IN NSEC n{number:06}a.{zone} A RRSIG NSEC");
        (super::super::rrset::group(&[super::super::vectors::record(&line)]).remove(0), 300)
    };
    for zone in ["a.", "b.", "c.", "d.", "e."] {
        let apex = name(zone);
        let soa = soa(zone);
        for number in 0..ENTRIES_IN_ZONE_MAX + 10 {
            let sets = [nsec(zone, number)];
            store.learn(&Proven { zone: &apex, sets: &sets, soa: Some(&soa) }, NOW);
            assert!(store.zones[&apex].len() <= ENTRIES_IN_ZONE_MAX);
        }
        let counted: usize = store.zones.values().map(Zone::len).sum();
        assert_eq!(store.len(), counted);
        assert!(store.len() <= ENTRIES_MAX + 1);
    }
    for number in 0..ZONES_MAX + 10 {
        let zone = format!("z{number}.");
        let sets = [nsec(&zone, 1)];
        let proven = Proven { zone: &name(&zone), sets: &sets, soa: Some(&soa(&zone)) };
        store.learn(&proven, NOW);
    }
    assert!(store.zones.len() <= ZONES_MAX);
}
