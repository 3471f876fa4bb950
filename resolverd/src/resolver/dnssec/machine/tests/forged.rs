//! For each answer that holds, the forgeries made of it; and worlds made to cost much.

use proptest::prelude::*;

use super::super::super::anchors::{Anchor, Trusted};
use super::super::super::vectors::{Signer, record};
use super::*;

type Forge = (&'static str, fn(&mut Reply) -> bool);

fn denies(record: &Record) -> bool {
    matches!(record.rtype, rtype::NSEC | rtype::NSEC3)
}

/// Changes that make a secure answer one that must not be believed. Each says whether it changed
/// anything.
const FORGERIES: &[Forge] = &[
    ("no signatures", |reply| {
        let before = reply.answer.len() + reply.authority.len();
        reply.answer.retain(|record| record.rtype != RRSIG);
        reply.authority.retain(|record| record.rtype != RRSIG);
        before > reply.answer.len() + reply.authority.len()
    }),
    ("no authority", |reply| {
        let proof = reply.authority.iter().any(denies);
        reply.authority.clear();
        proof
    }),
    ("no NSEC and no NSEC3", |reply| {
        let before = reply.authority.len();
        reply.authority.retain(|record| !denies(record));
        before > reply.authority.len()
    }),
    ("another answer", |reply| {
        let record = reply.answer.iter_mut().find(|r| r.rtype != RRSIG && r.rtype != rtype::CNAME);
        record.is_some_and(|record| {
            *record.rdata.last_mut().unwrap() ^= 1;
            true
        })
    }),
    ("another alias", |reply| {
        let record = reply.answer.iter_mut().find(|record| record.rtype == rtype::CNAME);
        record.is_some_and(|record| {
            record.rdata[1] ^= 1;
            true
        })
    }),
    ("another denial", |reply| {
        let mut count = 0;
        for record in reply.authority.iter_mut().filter(|record| denies(record)) {
            *record.rdata.last_mut().unwrap() ^= 1;
            count += 1;
        }
        count > 0
    }),
    ("nothing at all", |reply| {
        reply.answer.clear();
        reply.authority.clear();
        true
    }),
    ("YXDOMAIN without the DNAME that shows it", |reply| {
        reply.answer.clear();
        reply.authority.clear();
        reply.rcode = YXDOMAIN;
        true
    }),
    ("NXDOMAIN instead", |reply| {
        let denied = reply.answer.is_empty() && reply.rcode == rcode::NOERROR;
        reply.rcode = rcode::NXDOMAIN;
        denied
    }),
    ("a SOA that lives for ever", |reply| {
        let soa = reply.authority.iter_mut().find(|record| record.rtype == rtype::SOA);
        soa.is_some_and(|record| {
            record.rdata.last_chunk_mut::<4>().unwrap().fill(0x7f);
            true
        })
    }),
    ("signed by the parent", |reply| {
        let mut count = 0;
        for record in reply.answer.iter_mut().filter(|record| record.rtype == RRSIG) {
            let end = 18 + 1 + usize::from(record.rdata[18]);
            record.rdata.drain(18..end);
            count += 1;
        }
        count > 0
    }),
];

#[test]
fn every_forgery_of_every_answer_is_bogus() {
    let mut made = 0;
    for zone in ["nsec.test.", "nsec3.test.", "ed.test."] {
        for (owner, qtype, secure) in questions(zone) {
            // The keys come with the question itself; forging them is another test's.
            if !secure || qtype == DNSKEY {
                continue;
            }
            let honest = whole(&owner, qtype);
            for (what, forge) in FORGERIES {
                let mut forged = (*honest).clone();
                if !forge(&mut forged) {
                    continue;
                }
                let verdict = World::new(&["."]).judge(&owner, qtype, &Arc::new(forged));
                let refused = matches!(&verdict, Verdict::Bogus(_));
                assert!(refused, "{owner} {qtype}, {what}: {verdict:?}");
                made += 1;
            }
        }
    }
    assert!(made > 300, "{made}");
}

#[test]
fn a_denial_of_one_name_denies_no_other() {
    for zone in ["nsec.test.", "nsec3.test.", "ed.test.", "optout.test."] {
        let mut world = World::new(&["."]);
        for (from, qtype) in [("nothere.", A), ("www.", MX), ("ent.", A), ("x.wild.", DS)] {
            let denial = reply(&format!("{from}{zone}"), qtype);
            for (to, wanted) in
                [("www.", A), ("h.wild.", A), ("alias.", A), ("srv.", rtype::SRV), ("", MX)]
            {
                for code in [rcode::NOERROR, rcode::NXDOMAIN] {
                    let forged = Reply { rcode: code, ..(*denial).clone() };
                    let owner = format!("{to}{zone}");
                    let verdict = world.judge(&owner, wanted, &Arc::new(forged));
                    let failure = bogus(verdict);
                    assert_eq!(failure.code, ede::NSEC_MISSING, "{from} for {owner} {wanted}");
                }
            }
        }
    }
}

#[test]
fn a_denial_by_the_parent_says_nothing_of_what_is_below_a_delegation() {
    // The proof that cut.nsec.test. has no DS, given as an answer for names in it or at it.
    let mut world = World::new(&["."]);
    let denial = reply("cut.nsec.test.", DS);
    for (owner, code) in
        [("cut.nsec.test.", rcode::NOERROR), ("www.cut.nsec.test.", rcode::NXDOMAIN)]
    {
        let forged = Arc::new(Reply { rcode: code, ..(*denial).clone() });
        bogus(world.judge(owner, A, &forged));
    }
    // And the child's own proof, given for its DS.
    let child = reply("www.child.nsec.test.", DS);
    bogus(world.judge("child.nsec.test.", DS, &child));
}

#[test]
fn a_delegation_is_not_made_insecure_by_hiding_its_ds() {
    let stripped = |reply: &Reply| {
        let mut reply = reply.clone();
        reply.answer.retain(|record| record.rtype != RRSIG);
        Arc::new(reply)
    };
    for (zone, parents_denial) in
        [("nsec.test.", "nothere.test."), ("child.nsec.test.", "cut.nsec.test.")]
    {
        let www = format!("www.{zone}");
        let unsigned = stripped(&reply(&www, A));
        let fetch = Fetch { name: name(zone), qtype: DS };
        for hidden in [
            reply(parents_denial, DS),
            Arc::new(Reply::default()),
            Arc::new(Reply { rcode: rcode::NXDOMAIN, ..Reply::default() }),
            stripped(&reply(zone, DS)),
        ] {
            let mut world = World::new(&["."]);
            world.instead.insert(fetch.clone(), Some(hidden));
            bogus(world.judge(&www, A, &unsigned));
        }
    }
}

#[test]
fn a_signer_that_is_no_zone_signs_nothing() {
    let forger = Signer::new("www.nsec.test.");
    let answer = forger.sign_line("www.nsec.test. 300 IN A 203.0.113.9");
    let mut world = World::new(&["."]);
    let keys = forger.sign(&[forger.dnskey()]);
    let fetch = Fetch { name: name("www.nsec.test."), qtype: DNSKEY };
    world.instead.insert(fetch, Some(Arc::new(Reply { answer: keys, ..Reply::default() })));
    let forged = Arc::new(Reply { answer, ..Reply::default() });
    let failure = bogus(world.judge("www.nsec.test.", A, &forged));
    assert!(failure.text.contains("no zone"), "{failure:?}");
    // Nor does one above the anchor that governs the name.
    let above = Signer::new(".");
    let answer = above.sign_line("www.island.nsec.test. 300 IN A 203.0.113.9");
    let forged = Arc::new(Reply { answer, ..Reply::default() });
    bogus(World::new(&["island.nsec.test."]).judge("www.island.nsec.test.", A, &forged));
}

#[test]
fn an_nsec_made_from_a_wildcards_is_no_proof() {
    let signer = Signer::new("t.");
    let mut world = small_world(&signer);
    let soa = signer.sign_line("t. 300 IN SOA ns.t. h.t. 1 2 3 4 300");
    let apex = signer.sign_line("t. 300 IN NSEC *.t. NS SOA RRSIG NSEC DNSKEY");
    let wild = signer.sign_line("*.t. 300 IN NSEC zz.t. TXT RRSIG NSEC");
    let authority = |owner: &str| {
        let moved = wild.iter().map(|r| Record { owner: name(owner), ..r.clone() });
        soa.iter().chain(&apex).cloned().chain(moved).collect()
    };
    // At its own place it shows that b.t. has no A; moved to b.t. it must not.
    let honest = Arc::new(Reply { authority: authority("*.t."), ..Reply::default() });
    assert!(matches!(world.judge("b.t.", A, &honest), Verdict::Secure { .. }));
    let forged = Arc::new(Reply { authority: authority("b.t."), ..Reply::default() });
    bogus(world.judge("b.t.", A, &forged));
}

/// A world whose only anchor is this signer's key, at its zone.
fn small_world(signer: &Signer) -> World {
    let anchor = Anchor { name: signer.zone.clone(), trusted: Trusted::Ds(signer.as_ds()) };
    let mut world = World::with(Anchors::of([anchor]));
    let answer = signer.sign(&[signer.dnskey()]);
    let fetch = Fetch { name: signer.zone.clone(), qtype: DNSKEY };
    world.instead.insert(fetch, Some(Arc::new(Reply { answer, ..Reply::default() })));
    world
}

#[test]
fn the_keys_of_a_zone_must_be_signed_by_the_one_that_is_trusted() {
    let (trusted, other) = (Signer::new("t."), Signer::new("t."));
    let www = Arc::new(Reply {
        answer: other.sign_line("www.t. 300 IN A 192.0.2.1"),
        ..Reply::default()
    });
    let both = [trusted.dnskey(), other.dnskey()];
    let fetch = Fetch { name: name("t."), qtype: DNSKEY };
    for (signed, secure) in [(trusted.sign(&both), true), (other.sign(&both), false)] {
        let mut world = small_world(&trusted);
        let keys = Arc::new(Reply { answer: signed, ..Reply::default() });
        world.instead.insert(fetch.clone(), Some(keys));
        let verdict = world.judge("www.t.", A, &www);
        assert_eq!(matches!(verdict, Verdict::Secure { .. }), secure, "{verdict:?}");
    }
}

#[test]
fn a_trusted_key_without_the_zone_key_bit_has_its_code() {
    let signer = Signer::with_flags("t.", 1);
    let www = signer.sign_line("www.t. 300 IN A 192.0.2.1");
    let www = Arc::new(Reply { answer: www, ..Reply::default() });
    let failure = bogus(small_world(&signer).judge("www.t.", A, &www));
    assert_eq!(failure.code, ede::NO_ZONE_KEY);
}

#[test]
fn a_zone_of_a_thousand_keys_costs_little() {
    // KeyTrap (CVE-2023-50387).
    let signer = Signer::new("t.");
    let mut records = vec![signer.dnskey()];
    records.extend((0..1000u16).map(|number| {
        let mut record = signer.dnskey();
        record.rdata[10..12].copy_from_slice(&number.to_be_bytes());
        record
    }));
    let mut world = small_world(&signer);
    let keys = Arc::new(Reply { answer: signer.sign(&records), ..Reply::default() });
    world.instead.insert(Fetch { name: name("t."), qtype: DNSKEY }, Some(keys));
    let www = signer.sign_line("www.t. 300 IN A 192.0.2.1");
    let www = Arc::new(Reply { answer: www, ..Reply::default() });
    let failure = bogus(world.judge("www.t.", A, &www));
    assert!(failure.text.contains("more than 32 keys"), "{failure:?}");
}

#[test]
fn a_name_below_endless_names_ends_after_the_most_fetches() {
    let signer = Signer::new("t.");
    let mut world = small_world(&signer);
    let labels = 110;
    let deep = format!("{}t.", "x.".repeat(labels));
    for depth in 1..=labels {
        let at = format!("{}t.", "x.".repeat(depth));
        let mut authority = signer.sign_line("t. 300 IN SOA ns.t. h.t. 1 2 3 4 300");
        authority.extend(signer.sign_line(&format!(r"{at} 300 IN NSEC \000.{at} A RRSIG NSEC")));
        let reply = Arc::new(Reply { authority, ..Reply::default() });
        world.instead.insert(Fetch { name: name(&at), qtype: DS }, Some(reply));
    }
    let answer = vec![record(&format!("{deep} 300 IN A 192.0.2.1"))];
    let failure = bogus(world.judge(&deep, A, &Arc::new(Reply { answer, ..Reply::default() })));
    assert!(world.fetched.len() <= 64, "{}", world.fetched.len());
    assert!(failure.passing, "it was not shown to be false: {failure:?}");
}

#[test]
fn an_alias_made_by_a_dname_needs_no_signature_and_another_does() {
    let honest = reply("www.tree.nsec.test.", A);
    let mut world = World::new(&["."]);
    assert!(matches!(world.judge("www.tree.nsec.test.", A, &honest), Verdict::Secure { .. }));
    let mut forged = (*honest).clone();
    for record in forged.answer.iter_mut().filter(|record| record.rtype == rtype::CNAME) {
        record.rdata = name("www.elsewhere.test.").as_wire().to_vec();
    }
    bogus(world.judge("www.tree.nsec.test.", A, &Arc::new(forged)));
    let mut without = (*honest).clone();
    without.answer.retain(|record| record.owner != name("tree.nsec.test."));
    bogus(world.judge("www.tree.nsec.test.", A, &Arc::new(without)));
}

#[test]
fn a_loop_of_aliases_ends() {
    let signer = Signer::new("t.");
    let mut answer = signer.sign_line("a.t. 300 IN CNAME b.t.");
    answer.extend(signer.sign_line("b.t. 300 IN CNAME a.t."));
    let reply = Arc::new(Reply { answer, ..Reply::default() });
    let failure = bogus(small_world(&signer).judge("a.t.", A, &reply));
    assert!(failure.text.contains("aliases"), "{failure:?}");
}

#[test]
fn a_compact_denial_with_and_without_the_rcode_is_secure() {
    // RFC 9824 sections 3.1 and 5.
    let signer = Signer::new("t.");
    for code in [rcode::NOERROR, rcode::NXDOMAIN] {
        let mut authority = signer.sign_line("t. 300 IN SOA ns.t. h.t. 1 2 3 4 300");
        authority.extend(signer.sign_line(r"b.t. 300 IN NSEC \000.b.t. RRSIG NSEC TYPE128"));
        let reply = Arc::new(Reply { rcode: code, authority, ..Reply::default() });
        let verdict = small_world(&signer).judge("b.t.", A, &reply);
        assert_eq!(verdict, Verdict::Secure { ttl: 300 }, "{code}");
    }
}

/// The vectors in an order that does not change from run to run.
fn in_order() -> Vec<(&'static Fetch, &'static Arc<Reply>)> {
    let mut all: Vec<_> = REPLIES.iter().collect();
    all.sort_by_key(|(fetch, _)| (fetch.name.as_wire(), fetch.qtype));
    all
}

/// Changes one octet of one record's data, or cuts the data there. Says whether an address was
/// changed.
fn spoil(reply: &mut Reply, which: usize, at: usize, octet: u8) -> bool {
    let count = reply.answer.len() + reply.authority.len();
    let mut records = reply.answer.iter_mut().chain(&mut reply.authority);
    let Some(record) = records.nth(which.checked_rem(count).unwrap_or(0)) else { return false };
    let at = at.checked_rem(record.rdata.len()).unwrap_or(0);
    match (octet, record.rdata.get_mut(at)) {
        (0, _) => record.rdata.truncate(at),
        (_, Some(old)) => *old ^= octet,
        (_, None) => return false,
    }
    record.rtype == A
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn octets_that_are_changed_anywhere_make_nothing_secure_and_nothing_panic(
        question: prop::sample::Index,
        fetched: prop::sample::Index,
        which: usize,
        at: usize,
        octet: u8,
    ) {
        let all = in_order();
        let (fetch, honest) = all[question.index(all.len())];
        let owner = fetch.name.to_string();
        let mut forged = (**honest).clone();
        let address = spoil(&mut forged, which, at, octet);
        let verdict = World::new(&["."]).judge(&owner, fetch.qtype, &Arc::new(forged));
        let secure = matches!(verdict, Verdict::Secure { .. });
        prop_assert!(!(address && secure), "{} {}: {:?}", owner, fetch.qtype, verdict);
        // And in what is fetched for it.
        let (other, reply) = all[fetched.index(all.len())];
        let mut forged = (**reply).clone();
        spoil(&mut forged, which, at, octet);
        let mut world = World::new(&["."]);
        world.instead.insert(other.clone(), Some(Arc::new(forged)));
        world.judge(&owner, fetch.qtype, honest);
    }
}
