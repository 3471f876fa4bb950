//! Messages good and odd, and what each is answered: a table, and what holds for every reply.
//!
//! Among them all that hickory's server layer was found to answer wrong: more than 512 octets
//! without EDNS, octets behind a truncated answer, DO unasked or not copied, class IN for other
//! classes, answers to answers, zone transfers.

use resolverd_common::counters::Cookies;

use super::super::*;
use super::always::check;
use super::house::EDNS_SIZE;
use super::{House, Seen, q};

const A: u16 = 1;
const TXT: u16 = 16;
const DO: u16 = 0x8000;

/// What a message is answered with.
enum Answered {
    Dropped,
    /// The very octets that another message is answered with.
    As(Vec<u8>),
    /// An RCODE, with the question sent back or not, and no records but OPT and TSIG.
    Refused(u16, Echo),
    /// NOERROR with so many answers, from the local zone or others.
    Data(u16, Aa),
    /// TC and nothing else.
    Truncated,
}

#[derive(PartialEq)]
enum Echo {
    Question,
    HeaderOnly,
}
#[derive(PartialEq)]
enum Aa {
    Ours,
    Others,
}
use Aa::{Others, Ours};
use Answered::{As, Data, Dropped, Refused, Truncated};
use Echo::{HeaderOnly, Question as Echoed};

/// Sets octets at a place.
fn with(mut message: Vec<u8>, at: usize, octets: &[u8]) -> Vec<u8> {
    message[at..at + octets.len()].copy_from_slice(octets);
    message
}

/// Sets bits of the flags.
fn flags(mut message: Vec<u8>, bits: u16) -> Vec<u8> {
    let [high, low] = bits.to_be_bytes();
    message[2] |= high;
    message[3] |= low;
    message
}

/// Appends octets and counts them as a record in a section: 3, 4 or 5, as in the header.
fn record(mut message: Vec<u8>, section: usize, octets: &[u8]) -> Vec<u8> {
    message.extend_from_slice(octets);
    message[section * 2 + 1] += 1;
    message
}

fn edns(message: Vec<u8>, size: u16, version: u8, z: u16, options: &[u8]) -> Vec<u8> {
    let mut opt = vec![0, 0, 41];
    opt.extend_from_slice(&size.to_be_bytes());
    opt.extend_from_slice(&[0, version]);
    opt.extend_from_slice(&z.to_be_bytes());
    opt.extend_from_slice(&(options.len() as u16).to_be_bytes());
    opt.extend_from_slice(options);
    record(message, 5, &opt)
}

/// With EDNS, as a plain client has it.
fn e(message: Vec<u8>) -> Vec<u8> {
    edns(message, 1232, 0, 0, &[])
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let mut option = code.to_be_bytes().to_vec();
    option.extend_from_slice(&(data.len() as u16).to_be_bytes());
    option.extend_from_slice(data);
    option
}

/// The data of the COOKIE option in the last record of a reply.
fn cookie_in(reply: &[u8]) -> Option<&[u8]> {
    let at = reply.windows(4).rposition(|four| four == [0, 10, 0, 24])?;
    reply.get(at + 4..)
}

#[tokio::test]
async fn who_is_refused_has_a_cookie_as_well_and_it_is_good_the_next_time() {
    let house = House::new();
    let www = || q("www.home.test", A);
    let secrets = Secrets { current: [1, 2], other: [1, 2] };
    let asked = option(10, &[7; 8]);
    let refused = [
        ("FORMERR", "127.0.0.1", 1, edns(edns(www(), 1232, 0, 0, &asked), 1232, 0, 0, &[])),
        ("NOTIMP", "127.0.0.1", 4, flags(edns(www(), 1232, 0, 0, &asked), 2 << 11)),
        ("BADVERS", "127.0.0.1", 0, edns(www(), 1232, 1, 0, &asked)),
        ("REFUSED", "10.0.0.1", 5, edns(www(), 1232, 0, 0, &asked)),
    ];
    for (what, client, rcode, message) in refused {
        house.pipeline.set_cookies(None);
        let Seen::Reply(reply) = house.ask_from(client, Transport::Udp, &message).await else {
            panic!("{what}: no reply")
        };
        assert_eq!((reply[3] & 0x0f, cookie_in(&reply)), (rcode, None), "{what}, cookies off");
        house.pipeline.set_cookies(Some(secrets));
        let Seen::Reply(reply) = house.ask_from(client, Transport::Udp, &message).await else {
            panic!("{what}: no reply")
        };
        let cookie = cookie_in(&reply).unwrap_or_else(|| panic!("{what}: no cookie"));
        assert_eq!((reply[3] & 0x0f, cookie.len(), &cookie[..8]), (rcode, 24, &[7; 8][..]));
        let again = edns(www(), 1232, 0, 0, &option(10, cookie));
        let valid = || house.metrics.policy_cookies(Cookies::Valid).get();
        let before = valid();
        house.ask_from(client, Transport::Udp, &again).await;
        // Who may not ask is turned away before.
        let known = u64::from(what != "REFUSED");
        assert_eq!(valid() - before, known, "{what}: who may ask is known by it");
    }
}

fn class(message: Vec<u8>, class: u16) -> Vec<u8> {
    let at = message.len() - 2;
    with(message, at, &class.to_be_bytes())
}

fn rdless(owner: &[u8], rtype: u16, class: u16) -> Vec<u8> {
    [owner, &rtype.to_be_bytes(), &class.to_be_bytes(), &[0; 4], &[0; 2]].concat()
}

fn tsig() -> Vec<u8> {
    let mut rdata = b"\x0bhmac-sha256\0".to_vec();
    rdata.extend_from_slice(&[0, 0, 0x66, 0, 0, 1, 1, 0x2c]);
    rdata.extend_from_slice(&[0, 4, 1, 2, 3, 4]);
    rdata.extend_from_slice(&[0xab, 0xcd, 0, 0, 0, 0]);
    let mut record = b"\x03key\0\0\xfa\0\xff\0\0\0\0".to_vec();
    record.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
    record.extend_from_slice(&rdata);
    record
}

fn sig0() -> Vec<u8> {
    let mut record = b"\0\0\x18\0\xff\0\0\0\0\0\x19".to_vec();
    record.extend_from_slice(&[0; 18]);
    record.extend_from_slice(b"\x01k\0\x01\x02\x03\x04");
    record
}

fn table() -> Vec<(&'static str, Vec<u8>, Answered)> {
    let www = || q("www.test", A);
    let cookie = option(10, &[7; 8]);
    let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let any_padding = option(12, &[0; 200]);
    let nothing = rdless(&[0], 1, 1);
    let soa_rdata = [&[0, 0][..], &[0; 20]].concat();
    let soa = [&b"\0\0\x06\0\x01\0\0\0\0\0\x16"[..], &soa_rdata].concat();
    vec![
        // As it should be.
        ("plain", www(), Data(1, Others)),
        ("with EDNS", e(www()), Data(1, Others)),
        ("with DO", edns(www(), 1232, 0, DO, &[]), Data(1, Others)),
        ("with CD", flags(www(), 0x10), Data(1, Others)),
        ("with AD", flags(www(), 0x20), As(www())),
        ("mixed case", q("wWw.TeSt", A), Data(1, Others)),
        ("the longest name", q(&longest, A), Data(1, Others)),
        ("the root", q("", TXT), Data(0, Others)),
        ("a chain of aliases", q("alias.test", A), Data(2, Others)),
        ("a name that is not", q("nx.test", A), Refused(3, Echoed)),
        ("no data", q("nodata.test", A), Data(0, Others)),
        ("TTL 0", q("zero.test", A), Data(1, Others)),
        ("a local name", q("www.home.test", A), Data(1, Ours)),
        ("no local data", q("www.home.test", TXT), Data(0, Ours)),
        ("not in the local zone", q("no.home.test", A), Refused(3, Echoed)),
        ("a blocked zone", e(q("x.blocked.test", A)), Refused(3, Echoed)),
        ("a refused zone", e(q("x.refused.test", A)), Refused(5, Echoed)),
        ("an upstream that fails", e(q("fail.test", A)), Refused(2, Echoed)),
        ("a type nobody knows", q("www.test", 4_711), Data(0, Others)),
        // Sizes.
        ("large without EDNS", q("large.test", TXT), Truncated),
        ("large with EDNS", e(q("large.test", TXT)), Data(1, Others)),
        ("large, EDNS says 512", edns(q("large.test", TXT), 512, 0, 0, &[]), Truncated),
        ("large, EDNS says 0", edns(q("large.test", TXT), 0, 0, 0, &[]), Truncated),
        ("huge with EDNS", edns(q("huge.test", TXT), 4_096, 0, DO, &[]), Truncated),
        ("vast", edns(q("vast.test", TXT), 65_535, 0, 0, &[]), Truncated),
        ("more records than the kernel takes", e(q("many.test", A)), Data(30, Others)),
        // Odd, and meant the same.
        ("COOKIE", edns(www(), 1232, 0, 0, &cookie), As(e(www()))),
        (
            "two COOKIEs",
            edns(www(), 1232, 0, 0, &[cookie.clone(), option(10, &[7; 3])].concat()),
            As(e(www())),
        ),
        ("NSID", edns(www(), 1232, 0, 0, &option(3, &[])), As(e(www()))),
        ("ECS", edns(www(), 1232, 0, 0, &option(8, &[0, 1, 24, 0, 192, 0, 2])), As(e(www()))),
        ("padding", edns(www(), 1232, 0, 0, &any_padding), As(e(www()))),
        ("keepalive", edns(www(), 1232, 0, 0, &option(11, &[])), As(e(www()))),
        ("an option nobody knows", edns(www(), 1232, 0, 0, &option(65_001, b"?")), As(e(www()))),
        ("padding of 3 KiB", edns(www(), 1232, 0, 0, &option(12, &[0; 3_000])), As(e(www()))),
        (
            "NSID and DO",
            edns(www(), 1232, 0, DO, &option(3, &[])),
            As(edns(www(), 1232, 0, DO, &[])),
        ),
        ("set Z bits in the OPT", edns(www(), 1232, 0, 0x7fff, &[]), As(e(www()))),
        ("an extended RCODE in a query", with(e(www()), www().len() + 5, &[9]), As(e(www()))),
        ("a set Z bit", flags(www(), 0x40), As(www())),
        ("a set RA bit", flags(www(), 0x80), As(www())),
        ("a set AA bit", flags(www(), 0x0400), As(www())),
        ("an RCODE in a query", flags(www(), 5), As(www())),
        ("SIG(0)", record(www(), 5, &sig0()), As(www())),
        ("a SIG without data", record(www(), 5, &rdless(&[0], 24, 255)), Refused(1, Echoed)),
        (
            "a record that means nothing",
            record(www(), 5, b"\0\0\x10\0\x01\0\0\0\0\0\x02\x01a"),
            As(www()),
        ),
        (
            "OPT and a record that means nothing",
            record(e(www()), 5, b"\x01x\0\x2f\x01\0\x01\0\0\0\0\0\0"),
            As(e(www())),
        ),
        // RD=0: what is ours, and nothing else.
        ("RD=0, ours", with(q("www.home.test", A), 2, &[0]), Data(1, Ours)),
        ("RD=0, others'", with(www(), 2, &[0]), Refused(5, Echoed)),
        ("RD=0, others', EDNS", with(e(www()), 2, &[0]), Refused(5, Echoed)),
        // Everything.
        ("ANY", q("www.test", 255), Data(1, Others)),
        ("ANY, EDNS", e(q("www.test", 255)), Data(1, Others)),
        ("ANY, ours", q("www.home.test", 255), Data(1, Ours)),
        ("ANY, RD=0", with(q("www.test", 255), 2, &[0]), Refused(5, Echoed)),
        // What we do not do.
        ("AXFR", q("test", 252), Refused(5, Echoed)),
        ("IXFR", record(q("test", 251), 4, &soa), Refused(5, Echoed)),
        ("CHAOS", class(q("version.bind", TXT), 3), Refused(5, Echoed)),
        ("HESIOD", class(www(), 4), Refused(5, Echoed)),
        ("class NONE", class(www(), 254), Refused(5, Echoed)),
        ("class ANY", class(www(), 255), Refused(5, Echoed)),
        ("CHAOS, EDNS", e(class(q("id.server", TXT), 3)), Refused(5, Echoed)),
        ("an OPT longer than the message", class(e(www()), 255), Refused(1, Echoed)),
        ("class 0", class(www(), 0), Refused(5, Echoed)),
        ("MAILB", q("www.test", 253), Refused(4, Echoed)),
        ("MAILA", q("www.test", 254), Refused(4, Echoed)),
        ("TKEY", q("www.test", 249), Refused(4, Echoed)),
        ("a question type nobody knows", q("www.test", 200), Refused(4, Echoed)),
        ("NXNAME", e(q("www.test", 128)), Refused(1, Echoed)),
        ("type 0", q("www.test", 0), Refused(1, Echoed)),
        ("type OPT", q("www.test", 41), Refused(1, Echoed)),
        ("type TSIG", q("www.test", 250), Refused(1, Echoed)),
        ("IQUERY", flags(www(), 1 << 11), Refused(4, HeaderOnly)),
        ("STATUS", flags(www(), 2 << 11), Refused(4, HeaderOnly)),
        ("NOTIFY", flags(record(www(), 3, &soa), 4 << 11), Refused(4, HeaderOnly)),
        ("UPDATE", flags(record(q("test", 6), 4, &nothing), 5 << 11), Refused(4, HeaderOnly)),
        ("DSO", flags(e(www()), 6 << 11), Refused(4, HeaderOnly)),
        ("opcode 15", flags(www(), 15 << 11), Refused(4, HeaderOnly)),
        ("EDNS 1", edns(www(), 1232, 1, 0, &[]), Refused(16, Echoed)),
        ("EDNS 255, and options of its own", edns(www(), 1232, 255, DO, &[1]), Refused(16, Echoed)),
        ("TSIG", record(www(), 5, &tsig()), Refused(9, Echoed)),
        ("OPT and TSIG", record(e(www()), 5, &tsig()), Refused(9, Echoed)),
        // What nobody can mean.
        ("QR=1", flags(www(), 0x8000), Dropped),
        ("a header of an answer", flags(www()[..12].to_vec(), 0x8000), Dropped),
        ("nothing", Vec::new(), Dropped),
        ("11 octets", www()[..11].to_vec(), Dropped),
        ("a header", www()[..12].to_vec(), Refused(1, HeaderOnly)),
        ("QDCOUNT=0", with(www()[..12].to_vec(), 5, &[0]), Refused(1, HeaderOnly)),
        (
            "QDCOUNT=2",
            record(with(www(), 5, &[1]), 2, b"\x01a\0\0\x01\0\x01"),
            Refused(1, HeaderOnly),
        ),
        ("QDCOUNT=65535", with(www(), 4, &[255, 255]), Refused(1, HeaderOnly)),
        ("TC=1", flags(www(), 0x0200), Refused(1, Echoed)),
        (
            "TSIG that is not the last",
            record(record(www(), 5, &tsig()), 5, &nothing),
            Refused(1, Echoed),
        ),
        (
            "TSIG without time",
            record(www(), 5, b"\0\0\xfa\0\xff\0\0\0\0\0\x01\0"),
            Refused(1, Echoed),
        ),
        ("two OPTs", e(e(www())), Refused(1, Echoed)),
        ("an OPT with a name", record(www(), 5, &rdless(b"\x01x\0", 41, 1232)), Refused(1, Echoed)),
        ("an OPT among the answers", record(www(), 3, &rdless(&[0], 41, 1232)), Refused(1, Echoed)),
        (
            "an answer in a query",
            record(www(), 3, b"\0\0\x01\0\x01\0\0\0\0\0\x04\x01\x02\x03\x04"),
            Refused(1, Echoed),
        ),
        ("an authority in a query", record(www(), 4, &soa), Refused(1, Echoed)),
        ("an octet behind", [www(), vec![0]].concat(), Refused(1, Echoed)),
        ("octets behind the OPT", [e(www()), vec![1, 2, 3]].concat(), Refused(1, Echoed)),
        ("ARCOUNT and nothing there", with(www(), 11, &[1]), Refused(1, Echoed)),
        (
            "half an OPT",
            {
                let m = e(www());
                m[..m.len() - 4].to_vec()
            },
            Refused(1, Echoed),
        ),
        ("an option that runs out", edns(www(), 1232, 0, 0, &[0, 3, 0, 9, 1]), Refused(1, Echoed)),
        ("half an option", edns(www(), 1232, 0, 0, &[0, 3, 0]), Refused(1, Echoed)),
        ("a COOKIE of 7 octets", edns(www(), 1232, 0, 0, &option(10, &[7; 7])), Refused(1, Echoed)),
        ("a COOKIE of 41", edns(www(), 1232, 0, 0, &option(10, &[7; 41])), Refused(1, Echoed)),
        ("a compressed name", with(www(), 12, &[0xc0, 12]), Refused(1, HeaderOnly)),
        ("a name that points at itself", with(www(), 16, &[0xc0, 16]), Refused(1, HeaderOnly)),
        ("a label of type 0x40", with(www(), 12, &[0x43]), Refused(1, HeaderOnly)),
        ("a label of type 0x80", with(www(), 12, &[0x83]), Refused(1, HeaderOnly)),
        ("a name that runs out", with(www(), 16, &[60]), Refused(1, HeaderOnly)),
        ("a name of 256 octets", q(&format!("{longest}e"), A), Refused(1, HeaderOnly)),
        (
            "no class",
            {
                let m = www();
                m[..m.len() - 2].to_vec()
            },
            Refused(1, HeaderOnly),
        ),
    ]
}

#[tokio::test]
async fn each_message_of_the_table_is_answered_as_the_rfcs_say() {
    let house = House::new();
    let table = table();
    assert!(table.len() >= 60);
    for (label, message, answered) in &table {
        // Cold from the upstream, then from the cache.
        for turn in ["cold", "warm"] {
            let seen = house.ask(message).await;
            let Seen::Reply(reply) = &seen else {
                assert!(matches!(answered, Dropped), "{label}, {turn}: no reply");
                continue;
            };
            let sections = check(label, message, reply, false);
            let rcode = u16::from(reply[3] & 0x0f) | sections.extended_rcode << 4;
            let truncated = reply[2] & 0x02 != 0;
            let context = format!("{label}, {turn}: {reply:02x?}");
            match answered {
                Dropped => panic!("{context}"),
                As(other) => {
                    let other = house.ask(other).await;
                    assert_eq!(seen, other, "{context}");
                }
                Refused(code, echo) => {
                    assert_eq!(rcode, *code, "{context}");
                    let question = reply[4..6] == [0, 1];
                    assert_eq!(question, *echo == Echoed, "{context}");
                    assert!(sections.answers == 0 && !truncated, "{context}");
                }
                Data(answers, aa) => {
                    assert_eq!((rcode, sections.answers), (0, *answers), "{context}");
                    assert_eq!(reply[2] & 0x04 != 0, *aa == Ours, "{context}");
                    assert!(!truncated, "{context}");
                }
                Truncated => {
                    assert!(truncated && rcode == 0 && sections.answers == 0, "{context}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_kept_out_is_refused_whatever_it_says() {
    let house = House::new();
    for (label, message, answered) in &table() {
        for client in ["127.0.0.66", "192.0.2.1", "2001:db8::1", "::ffff:127.0.0.66"] {
            match house.ask_from(client, Transport::Udp, message).await {
                Seen::Nothing => assert!(matches!(answered, Dropped), "{label}"),
                Seen::Reply(reply) => {
                    let sections = check(label, message, &reply, true);
                    assert_eq!(reply[3] & 0x0f, 5, "{label}");
                    assert_eq!(sections.extended_rcode, 0, "{label}");
                    assert_eq!(sections.answers, 0, "{label}");
                    let prohibited = b"\x00\x0f\x00\x02\x00\x12";
                    assert!(sections.opt.is_none_or(|opt| opt.rdata == prohibited), "{label}");
                }
            }
        }
    }
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn over_a_stream_nothing_is_cut() {
    let house = House::new();
    for (name, octets) in [("large.test", 800), ("huge.test", 2_000), ("vast.test", 60_000)] {
        for message in [q(name, TXT), edns(q(name, TXT), 512, 0, 0, &[])] {
            for _ in 0..2 {
                let seen = house.ask_from("127.0.0.1", Transport::Tcp, &message).await;
                let reply = seen.reply();
                assert!(reply.len() > octets && reply[2] & 0x02 == 0, "{name}: {}", reply.len());
                let sections = check(name, &message, reply, false);
                assert_eq!(sections.answers, 1);
            }
        }
    }
}

#[tokio::test]
async fn an_error_says_no_more_than_it_may_to_who_has_no_edns() {
    let house = House::new();
    let plain = house.ask(&q("fail.test", A)).await;
    assert_eq!(plain.reply().len(), q("fail.test", A).len());
    let explained = house.ask(&e(q("fail.test", A))).await;
    let sections = check("fail", &e(q("fail.test", A)), explained.reply(), false);
    let opt = sections.opt.unwrap();
    assert_eq!(opt.rdata[..2], [0, 15]);
    let text = String::from_utf8_lossy(&opt.rdata[6..]).into_owned();
    assert!(text.is_ascii() && !text.is_empty(), "{text:?}");
    // From the cache it says the same, and where there is no room for text it has the code.
    assert_eq!(house.ask(&e(q("fail.test", A))).await, explained);
    let long = ["fail", &"a".repeat(60), &"b".repeat(60), &"c".repeat(60), "test"].join(".");
    let tight = house.ask(&edns(q(&long, A), 512, 0, 0, &[])).await;
    check("tight", &edns(q(&long, A), 512, 0, 0, &[]), tight.reply(), false);
}

#[tokio::test]
async fn the_tsig_of_an_error_is_unsigned_and_names_its_key() {
    let house = House::new();
    let message = record(q("www.test", A), 5, &tsig());
    let seen = house.ask(&message).await;
    let sections = check("tsig", &message, seen.reply(), false);
    let tsig = sections.additionals.into_iter().find(|record| record.rtype == 250).unwrap();
    assert_eq!(tsig.owner, "key".parse().unwrap());
    assert_eq!((tsig.class, tsig.ttl), (255, 0));
    let expected = b"\x0bhmac-sha256\0\0\0\x66\0\0\x01\x01\x2c\0\0\xab\xcd\0\x11\0\0";
    assert_eq!(tsig.rdata, expected);
}

#[tokio::test]
async fn a_probe_of_ours_that_comes_back_is_refused_and_never_kept() {
    let house = House::new();
    // Nobody can guess the names of probes: this is none.
    let guessed = house.ask(&q("0123456789abcdef.loop.resolverd.test", TXT)).await;
    assert_eq!(guessed.reply()[3] & 0x0f, 0);
    house.pipeline.resolver().look_for_loops();
    let probe = loop {
        let seen = house.asked.lock().last().cloned();
        match seen.filter(|name| name.contains(".loop.") && !name.starts_with("01234567")) {
            Some(probe) => break probe,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    for _ in 0..2 {
        let reply = house.ask(&e(q(&probe, TXT))).await;
        assert_eq!(reply.reply()[3] & 0x0f, 5);
    }
    assert!(house.in_kernel(&probe, TXT).is_none());
    assert!(house.metrics.upstream_loops.get() > 0);
}

/// A query that a client on this transport sends never makes a reply larger than it takes.
#[tokio::test]
async fn a_datagram_is_never_larger_than_its_client_takes() {
    let house = House::new();
    for name in ["large.test", "huge.test", "vast.test", "many.test", "alias.test", "fail.test"] {
        for size in [0, 511, 512, 513, 900, 1_232, 4_096, 65_535] {
            let message = edns(q(name, if name == "many.test" { A } else { TXT }), size, 0, 0, &[]);
            let reply = house.ask(&message).await;
            let limit = size.clamp(512, EDNS_SIZE);
            assert!(reply.reply().len() <= usize::from(limit), "{name} {size}");
        }
        assert!(house.ask(&q(name, TXT)).await.reply().len() <= 512, "{name}");
    }
}
