//! Validation of what strangers sign, or only say they did.
//!
//! The zone `test.` has a key that is trusted, and its DNSKEY set is signed by it. The parts of
//! the input are messages: the first is judged, the others come for what is fetched on the way.
//! The first octet chooses whether the zone signs all that is in them (a hostile operator: all may
//! be believed, and nothing may do harm), or only says so (a forger: none of it may be believed).

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use resolverd::dns::records::Record;
use resolverd::dns::{Name, rtype};
use resolverd::resolver::dnssec::Verdict;
use resolverd::resolver::dnssec::aggressive::Aggressive;
use resolverd::resolver::dnssec::anchors::{Anchor, Anchors, Trusted};
use resolverd::resolver::dnssec::denial::Denial;
use resolverd::resolver::dnssec::keys::{DnsKey, Ds, key_tag};
use resolverd::resolver::dnssec::machine::{Input, Machine, Output};
use resolverd::resolver::dnssec::rfc5011::{Moment, Tracker};
use resolverd::resolver::dnssec::rrset::{RrSet, Rrsig, bound_ttls, group};
use resolverd::resolver::dnssec::verify::{Work, verify};
use resolverd::resolver::dnssec::zones::Zones;
use resolverd::resolver::reply::{Fetch, Reply};
use resolverd_fuzz::{Question, parts, sections};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

static ZONE: LazyLock<Name> = LazyLock::new(|| "test.".parse().unwrap());
static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
static KEY: LazyLock<DnsKey> = LazyLock::new(|| {
    // A zone key and entry point, protocol 3, Ed25519 (RFC 8080).
    let rdata = [&[1, 1, 3, 15], PAIR.public_key().as_ref()].concat();
    DnsKey::from_rdata(&rdata).unwrap()
});
static ANCHORS: LazyLock<Arc<Anchors>> = LazyLock::new(|| {
    let anchor = Anchor { name: ZONE.clone(), trusted: Trusted::Key(KEY.clone()) };
    Arc::new(Anchors::of([anchor]))
});

const NOW: u64 = 1_800_000_000;

fuzz_target!(|input: &[u8]| {
    let Some((choice, messages)) = input.split_first() else { return };
    let hostile_zone = choice & 1 != 0;
    let mut messages = parts(messages).filter_map(|part| Said::read(part, hostile_zone));
    let Some(first) = messages.next() else { return };
    pieces(&first);
    let verdict = judge(&first, messages.collect());
    if !hostile_zone && first.fetch.name.is_under(&ZONE) {
        assert!(!matches!(verdict, Some(Verdict::Secure { .. })), "{verdict:?}");
    }
});

/// One message: what it is about, and what it says.
struct Said {
    fetch: Fetch,
    reply: Arc<Reply>,
}

impl Said {
    fn read(message: &[u8], signed: bool) -> Option<Self> {
        let question = Question::of(message)?;
        let [mut answer, mut authority, _] = sections(message, question.end)?;
        if signed {
            (answer, authority) = (sign_all(answer), sign_all(authority));
        }
        let rcode = message[3] & 0x0f;
        let reply = Reply { rcode, authoritative: true, answer, authority, ..Reply::default() };
        Some(Self { fetch: question.fetch()?, reply: Arc::new(reply) })
    }
}

fn judge(first: &Said, later: Vec<Said>) -> Option<Verdict> {
    let Fetch { name, qtype } = first.fetch.clone();
    let zones = Arc::new(Zones::default());
    let mut machine = Machine::new(name, qtype, &first.reply, Arc::clone(&ANCHORS), zones);
    let mut inputs = vec![Input::Start];
    let mut later = later.into_iter();
    let mut verdict = None;
    let mut steps = 0;
    while let Some(input) = inputs.pop() {
        let mut outputs = Vec::new();
        machine.step(NOW, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Done(done) => verdict = Some(done),
                Output::Fetch(fetch) if fetch == (Fetch { name: ZONE.clone(), qtype: DNSKEY }) => {
                    inputs.push(Input::Fetched(fetch, Arc::clone(&KEYS)));
                }
                Output::Fetch(fetch) => inputs.push(match later.next() {
                    Some(said) => Input::Fetched(fetch, said.reply),
                    None => Input::Failed(fetch),
                }),
            }
        }
        steps += 1;
        assert!(steps < 1_000, "one question does not go on and on");
    }
    let _ = machine.blame(NOW);
    if matches!(verdict, Some(Verdict::Secure { .. })) {
        let mut aggressive = Aggressive::default();
        machine.proven().for_each(|proven| aggressive.learn(&proven, NOW));
        let Fetch { name, qtype } = &first.fetch;
        let _ = aggressive.synthesise(name, *qtype, NOW);
        let below = Name::from_wire(&[b"\x01x", name.as_wire()].concat());
        below.iter().for_each(|name| drop(aggressive.synthesise(name, *qtype, NOW)));
    }
    assert!(verdict.is_some(), "whatever comes, there is an end");
    verdict
}

/// The parts that the machine is made of, whether or not it gets to them.
fn pieces(said: &Said) {
    let Fetch { name, qtype } = &said.fetch;
    let mut work = Work::of_one_question();
    let mut sets = group(&said.reply.answer);
    sets.extend(group(&said.reply.authority));
    for set in &sets {
        let _ = verify(set, &ZONE, std::slice::from_ref(&KEY), NOW, &mut work);
        let keys: Vec<_> = set.records.iter().filter_map(DnsKey::read).collect();
        let _ = verify(set, &ZONE, &keys, NOW, &mut work);
        for ds in set.records.iter().filter_map(Ds::read) {
            let _ = (ds.is_usable(), ds.points_to(&set.owner, &KEY));
        }
    }
    let denial = Denial::of(&ZONE, &sets);
    let _ = denial.name_error(name, &mut work);
    let _ = denial.no_data(name, *qtype, &mut work);
    let _ = denial.expansion(name, &ZONE, &mut work);
    let _ = denial.cut(name, said.reply.rcode == 0, &mut work);
    bound_ttls(&mut said.reply.answer.clone(), NOW);
    let point = ANCHORS.at(&ZONE).unwrap();
    for set in sets.iter().filter(|set| set.rtype == DNSKEY) {
        let mut tracker = Tracker::new(ZONE.clone(), point);
        let at = Moment { wall: NOW, judged: NOW };
        let _ = tracker.observe(set, point, at, &mut Work::of_one_question());
        let _ = tracker.observe(set, point, at, &mut Work::of_one_question());
    }
}

/// The sets in a section, each signed by the zone's key, beside the signatures that were there.
fn sign_all(section: Vec<Record>) -> Vec<Record> {
    let mut sets = group(&section);
    sets.retain(|set| set.rtype != rtype::RRSIG);
    // Enough to get everywhere; signing more only takes time.
    sets.truncate(8);
    sets.into_iter().flat_map(|set| sign(set).all_records().collect::<Vec<_>>()).collect()
}

fn sign(mut set: RrSet) -> RrSet {
    let wildcard = usize::from(set.owner.as_wire().starts_with(b"\x01*"));
    let labels = set.owner.suffixes().count() - 1 - wildcard;
    let mut signature = Rrsig {
        covered: set.rtype,
        algorithm: KEY.algorithm,
        labels: labels as u8,
        original_ttl: set.ttl,
        expiration: NOW as u32 + 100_000,
        inception: NOW as u32 - 100_000,
        key_tag: key_tag(&KEY.rdata()),
        signer: ZONE.clone(),
        signature: Vec::new(),
        ttl: set.ttl,
    };
    let octets = set.signed_octets(&signature, &set.owner);
    signature.signature = PAIR.sign(&octets).as_ref().to_vec();
    set.signatures.insert(0, signature);
    set
}

/// The zone's true keys.
static KEYS: LazyLock<Arc<Reply>> = LazyLock::new(|| {
    let (owner, rdata) = (ZONE.clone(), KEY.rdata());
    let key = Record { owner, rtype: DNSKEY, class: 1, ttl: 3_600, rdata };
    let answer = sign_all(vec![key]);
    Arc::new(Reply { authoritative: true, answer, ..Reply::default() })
});

const DNSKEY: u16 = rtype::DNSKEY;
