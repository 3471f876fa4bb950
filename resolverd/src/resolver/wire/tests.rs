//! What upstreams may say, and what becomes of it.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as HickoryQuery, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{
    DNSClass, Name as HickoryName, RData, Record as HickoryRecord, RecordType,
};
use hickory_proto::serialize::txt::Parser;
use proptest::prelude::*;

use super::*;

const NOW: u32 = 1_700_000_000;
const BOUNDS: TtlBounds = TtlBounds { ttl_min: 0, ttl_max: 86_400, negative_ttl_max: 3_600 };
const SOA: &str = "test. 900 IN SOA ns.test. h.test. 1 2 3 4 60";

fn query(name: &str, qtype: u16) -> Query {
    Query {
        name: name.parse().unwrap(),
        qtype,
        dnssec_ok: false,
        checking_disabled: false,
        view: 0,
    }
}

fn with_do(name: &str, qtype: u16) -> Query {
    Query { dnssec_ok: true, ..query(name, qtype) }
}

fn record(text: &str) -> HickoryRecord {
    let origin = HickoryName::root();
    let (_, sets) = Parser::new(format!("{text}\n"), None, Some(origin)).parse().unwrap();
    let set = sets.values().next().unwrap();
    set.records_without_rrsigs().next().unwrap().clone()
}

/// With what an alias of `x.old.test.` was made of.
fn with_dname(mut message: Message) -> Message {
    message.add_answer(raw("old.test.", rtype::DNAME, 60, b"\x03new\x04test\0"));
    message.add_answer(rrsig("old.test.", rtype::DNAME, NOW + 900));
    message
}

fn raw(owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> HickoryRecord {
    let code = RecordType::from(rtype);
    let rdata = RData::Unknown { code, rdata: NULL::with(rdata.to_vec()) };
    HickoryRecord::from_rdata(HickoryName::from_ascii(owner).unwrap(), ttl, rdata)
}

fn rrsig(owner: &str, covered: u16, expires: u32) -> HickoryRecord {
    let mut rdata = covered.to_be_bytes().to_vec();
    rdata.extend([13, 2, 0, 0, 0, 60]);
    rdata.extend(expires.to_be_bytes());
    rdata.extend([0, 0, 0, 0, 1, 2]);
    rdata.extend(b"\x04test\0signature");
    raw(owner, rtype::RRSIG, 60, &rdata)
}

/// An upstream's answer to `query`, from a resolver.
fn reply(query: &Query, answers: &[&str], authority: &[&str]) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.metadata.authentic_data = true;
    let question = HickoryQuery::query((&query.name).into(), query.qtype.into());
    message.add_query(question);
    message.add_answers(answers.iter().map(|text| record(text)));
    message.add_authorities(authority.iter().map(|text| record(text)));
    message.set_edns(Edns::new());
    message
}

fn accept_with(query: &Query, bounds: TtlBounds, message: &[u8]) -> Result<Answer, Reject> {
    let reply = accept(&Asked { query, id: 7, edns: true }, message)?;
    let source = Source::Upstream("up".into());
    compose(&Terms { query, source, bounds, wall_secs: NOW }, reply)
}

fn take(query: &Query, message: &Message) -> Result<Answer, Reject> {
    accept_with(query, BOUNDS, &message.to_vec().unwrap())
}

/// The answer as a client's parser reads it.
fn whole(query: &Query, answer: &Answer) -> Result<Message, String> {
    let mut wire = vec![0, 7, 0x80, answer.rcode, 0, 1];
    answer.counts.iter().for_each(|count| wire.extend(count.to_be_bytes()));
    wire.extend_from_slice(query.name.as_wire());
    wire.extend(query.qtype.to_be_bytes());
    wire.extend([0, 1]);
    let walked = records::ttl_offsets(&answer.body, wire.len(), answer.counts);
    assert_eq!(walked.as_ref(), Ok(&answer.ttl_offsets));
    wire.extend_from_slice(&answer.body);
    Message::from_vec(&wire).map_err(|error| error.to_string())
}

/// A line for each record, a bar between sections.
fn lines(query: &Query, answer: &Answer) -> Vec<String> {
    let message = whole(query, answer).unwrap();
    assert_eq!(message.additionals, []);
    let line = |r: &HickoryRecord| {
        let rtype = r.record_type();
        let data =
            if let RData::Unknown { .. } = r.data { String::new() } else { r.data.to_string() };
        format!("{} {} {rtype} {data}", r.name, r.ttl).trim_end().to_owned()
    };
    let answers = message.answers.iter().map(line);
    let bar = (!message.authorities.is_empty()).then(|| "|".to_owned());
    answers.chain(bar).chain(message.authorities.iter().map(line)).collect()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_question_has_rd_our_size_and_the_clients_do_and_cd() {
    let wire = question(&query("a.test.", rtype::A), 0x1234, Some(1_232));
    let seen = Message::from_vec(&wire).unwrap();
    assert_eq!((seen.id, seen.recursion_desired, seen.checking_disabled), (0x1234, true, false));
    assert_eq!(seen.queries[0].name().to_ascii(), "a.test.");
    let edns = seen.edns.as_ref().unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1_232, false));
    let both = Query { checking_disabled: true, ..with_do("a.test.", rtype::DS) };
    let seen = Message::from_vec(&question(&both, 1, Some(512))).unwrap();
    assert!(seen.checking_disabled && seen.edns.as_ref().unwrap().flags().dnssec_ok);
    let seen = Message::from_vec(&question(&both, 1, None)).unwrap();
    assert_eq!((seen.edns, seen.additionals.len()), (None, 0));
}

#[test]
fn a_positive_answer_is_kept_without_header_bits_opt_and_additional_records() {
    let query = query("a.test.", rtype::A);
    let mut message = reply(
        &query,
        &["a.test. 300 IN A 192.0.2.1", "A.Test. 200 IN A 192.0.2.2"],
        &["test. 300 IN NS ns.test."],
    );
    message.add_additional(record("ns.test. 300 IN A 192.0.2.9"));
    let answer = take(&query, &message).unwrap();
    assert_eq!(lines(&query, &answer), ["a.test. 300 A 192.0.2.1", "a.test. 200 A 192.0.2.2"]);
    assert_eq!((answer.counts, answer.life), ([2, 0, 0], secs(200)));
    assert!(!answer.secure && !answer.authoritative);
    assert_eq!(answer.source, Source::Upstream("up".into()));
    assert_eq!(answer.body[..2], [0xc0, 0x0c]);
}

#[test]
fn a_chain_of_aliases_is_kept_in_order_and_strangers_are_dropped() {
    let query = query("a.test.", rtype::AAAA);
    let message = reply(
        &query,
        &[
            "c.test. 30 IN AAAA 2001:db8::1",
            "evil.test. 3 IN AAAA 2001:db8::bad",
            "b.test. 20 IN CNAME c.test.",
            "c.test. 3 IN A 192.0.2.1",
            "a.test. 10 IN CNAME b.test.",
            "a.test. 9 IN CNAME evil.test.",
        ],
        &[],
    );
    let answer = take(&query, &message).unwrap();
    let expected =
        ["a.test. 10 CNAME b.test.", "b.test. 20 CNAME c.test.", "c.test. 30 AAAA 2001:db8::1"];
    assert_eq!(lines(&query, &answer), expected);
    assert_eq!(answer.life, secs(10));
}

#[test]
fn an_alias_that_is_asked_for_is_not_followed() {
    let query = query("a.test.", rtype::CNAME);
    let answers = ["a.test. 10 IN CNAME b.test.", "b.test. 20 IN CNAME c.test."];
    let answer = take(&query, &reply(&query, &answers, &[])).unwrap();
    assert_eq!(lines(&query, &answer), ["a.test. 10 CNAME b.test."]);
}

#[test]
fn a_loop_of_aliases_is_refused() {
    let query = query("a.test.", rtype::A);
    let message = reply(&query, &["a.test. 1 IN CNAME b.test.", "b.test. 1 IN CNAME a.test."], &[]);
    assert!(matches!(take(&query, &message), Err(Reject::Malformed(_))));
}

#[test]
fn a_dname_comes_with_the_alias_made_of_it() {
    let query = with_do("x.old.test.", rtype::A);
    let message = with_dname(reply(
        &query,
        &["x.old.test. 60 IN CNAME x.new.test.", "x.new.test. 60 IN A 192.0.2.1"],
        &[],
    ));
    let answer = take(&query, &message).unwrap();
    let types: Vec<_> =
        lines(&query, &answer).iter().map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(types, ["DNAME", "RRSIG", "CNAME", "A"]);
    // Also when the alias is all that is asked for.
    let query = with_do("x.old.test.", rtype::CNAME);
    let message = reply(&query, &["x.old.test. 60 IN CNAME x.new.test."], &[]);
    let message = with_dname(message);
    let answer = take(&query, &message).unwrap();
    let types: Vec<_> =
        lines(&query, &answer).iter().map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(types, ["DNAME", "RRSIG", "CNAME"]);
}

#[test]
fn signatures_and_proofs_come_with_do_or_when_asked_for_and_not_otherwise() {
    let plain = query("a.test.", rtype::A);
    let dnssec = with_do("a.test.", rtype::A);
    let mut message = reply(&plain, &["a.test. 60 IN A 192.0.2.1"], &[]);
    message.add_answer(rrsig("a.test.", rtype::A, NOW + 900));
    message.add_answer(rrsig("a.test.", rtype::MX, NOW + 900));
    message.add_authority(raw("b.test.", rtype::NSEC, 60, b"\x04test\0\0\x01\x40"));
    message.add_authority(rrsig("b.test.", rtype::NSEC, NOW + 900));
    message.add_authority(rrsig("test.", rtype::NS, NOW + 900));
    let answer = take(&plain, &message).unwrap();
    assert_eq!(lines(&plain, &answer), ["a.test. 60 A 192.0.2.1"]);
    let answer = take(&dnssec, &message).unwrap();
    let expected =
        ["a.test. 60 A 192.0.2.1", "a.test. 60 RRSIG", "|", "b.test. 60 NSEC", "b.test. 60 RRSIG"];
    assert_eq!(lines(&dnssec, &answer), expected);
    let asked = query("a.test.", rtype::RRSIG);
    message.queries[0].set_query_type(RecordType::RRSIG);
    let answer = take(&asked, &message).unwrap();
    assert_eq!(answer.counts, [2, 0, 0]);
    let any = query("a.test.", rtype::ANY);
    message.queries[0].set_query_type(RecordType::ANY);
    assert_eq!(take(&any, &message).unwrap().counts, [1, 0, 0]);
}

#[test]
fn rfc_2308_negative_answers_live_by_the_soa() {
    let query = query("no.test.", rtype::A);
    // TTL and MINIMUM of the SOA, the configured bound, and what comes of it.
    for (ttl, minimum, bound, life) in
        [(900, 60, 3_600, 60), (30, 60, 3_600, 30), (900, 900, 100, 100), (0, 60, 100, 0)]
    {
        let soa = format!("test. {ttl} IN SOA ns.test. h.test. 1 2 3 4 {minimum}");
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let mut message = reply(&query, &[], &[&soa, "test. 5 IN NS ns.test."]);
            message.metadata.response_code = code;
            let bounds = TtlBounds { negative_ttl_max: bound, ..BOUNDS };
            let answer = accept_with(&query, bounds, &message.to_vec().unwrap()).unwrap();
            assert_eq!(u16::from(answer.rcode), u16::from(code));
            assert_eq!((answer.life, answer.counts), (secs(life), [0, 1, 0]));
            let line = format!("test. {life} SOA ns.test. h.test. 1 2 3 4 {minimum}");
            assert_eq!(lines(&query, &answer), ["|".to_owned(), line]);
        }
    }
}

#[test]
fn a_negative_answer_without_a_fitting_soa_is_passed_on_and_not_cached() {
    let query = query("no.test.", rtype::A);
    for authority in [&[][..], &["other. 900 IN SOA ns.test. h.test. 1 2 3 4 60"]] {
        let answer = take(&query, &reply(&query, &[], authority)).unwrap();
        assert_eq!((answer.rcode, answer.counts, answer.life), (0, [0; 3], Duration::ZERO));
    }
}

#[test]
fn an_alias_to_nothing_keeps_the_alias_and_the_shorter_time() {
    let query = query("a.test.", rtype::A);
    let mut message = reply(&query, &["a.test. 20 IN CNAME gone.test."], &[SOA]);
    message.metadata.response_code = ResponseCode::NXDomain;
    let answer = take(&query, &message).unwrap();
    let expected = ["a.test. 20 CNAME gone.test.", "|", "test. 60 SOA ns.test. h.test. 1 2 3 4 60"];
    assert_eq!(lines(&query, &answer), expected);
    assert_eq!((answer.rcode, answer.life), (rcode::NXDOMAIN, secs(20)));
}

#[test]
fn a_signed_denial_keeps_its_proofs_for_do_at_the_time_of_the_soa() {
    let query = with_do("no.test.", rtype::A);
    let mut message = reply(&query, &[], &[SOA]);
    message.add_authority(rrsig("test.", rtype::SOA, NOW + 900));
    message.add_authority(raw("q.test.", rtype::NSEC3, 3_600, &[1, 0, 0, 0, 0, 1, 9]));
    message.add_authority(rrsig("q.test.", rtype::NSEC3, NOW + 900));
    message.add_authority(record("test. 300 IN NS ns.test."));
    let answer = take(&query, &message).unwrap();
    let expected = [
        "|",
        "test. 60 SOA ns.test. h.test. 1 2 3 4 60",
        "test. 60 RRSIG",
        "q.test. 60 NSEC3",
        "q.test. 60 RRSIG",
    ];
    assert_eq!(lines(&query, &answer), expected);
    let plain = Query { dnssec_ok: false, ..query };
    assert_eq!(take(&plain, &message).unwrap().counts, [0, 1, 0]);
}

#[test]
fn times_are_kept_in_bounds_in_the_records_as_well() {
    let query = query("a.test.", rtype::A);
    let bounds = TtlBounds { ttl_min: 5, ttl_max: 100, negative_ttl_max: 50 };
    // RFC 2181 section 8: with the top bit set it is zero.
    for (ttl, kept) in [(1, 5), (50, 50), (1_000, 100), (u32::MAX, 5), (0x8000_0000, 5)] {
        let mut message = reply(&query, &["a.test. 1 IN A 192.0.2.1"], &[]);
        message.answers[0].ttl = ttl;
        let answer = accept_with(&query, bounds, &message.to_vec().unwrap()).unwrap();
        assert_eq!(lines(&query, &answer), [format!("a.test. {kept} A 192.0.2.1")]);
        assert_eq!(answer.life, secs(kept));
    }
}

#[test]
fn an_answer_does_not_outlive_its_signatures() {
    let query = with_do("a.test.", rtype::A);
    // Expiry, and the life that is left; one that is over does not count.
    for (expires, life) in [(NOW + 900, 60), (NOW + 20, 20), (NOW - 20, 60), (NOW, 60)] {
        let mut message = reply(&query, &["a.test. 60 IN A 192.0.2.1"], &[]);
        message.add_answer(rrsig("a.test.", rtype::A, expires));
        assert_eq!(take(&query, &message).unwrap().life, secs(life));
    }
}

#[test]
fn what_was_not_asked_for_is_foreign() {
    let query = query("a.test.", rtype::A);
    let good = reply(&query, &["a.test. 60 IN A 192.0.2.1"], &[]);
    let foreign = |change: fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        let result = take(&query, &message);
        assert!(matches!(result, Err(Reject::Foreign(_))), "{result:?}");
    };
    foreign(|m| m.metadata.id = 8);
    foreign(|m| m.metadata.message_type = MessageType::Query);
    foreign(|m| m.metadata.op_code = OpCode::Status);
    foreign(|m| m.queries.clear());
    foreign(|m| m.queries.push(m.queries[0].clone()));
    foreign(|m| _ = m.queries[0].set_query_type(RecordType::AAAA));
    foreign(|m| _ = m.queries[0].set_name(HickoryName::from_ascii("b.test.").unwrap()));
    foreign(|m| _ = m.queries[0].set_query_class(DNSClass::CH));
    for length in 0..12 {
        let short = accept_with(&query, BOUNDS, &good.to_vec().unwrap()[..length]);
        assert!(matches!(short, Err(Reject::Foreign(_))));
    }
    let mut shouting = good.clone();
    shouting.queries[0].set_name(HickoryName::from_ascii("A.TEST.").unwrap());
    assert!(take(&query, &shouting).is_ok());
}

#[test]
fn truncation_is_seen_before_the_octets_end() {
    let query = query("a.test.", rtype::A);
    let mut message = reply(&query, &["a.test. 60 IN A 192.0.2.1"], &[]);
    message.metadata.truncation = true;
    let wire = message.to_vec().unwrap();
    assert_eq!(accept_with(&query, BOUNDS, &wire[..wire.len() - 14]), Err(Reject::Truncated));
}

#[test]
fn rcodes_are_sorted_into_no_edns_and_ask_somebody_else() {
    let query = query("a.test.", rtype::A);
    let rejected = |code: ResponseCode, opt: bool, edns: bool| {
        let mut message = reply(&query, &[], &[]);
        message.metadata.response_code = code;
        message.edns = opt.then(Edns::new);
        let asked = Asked { query: &query, id: 7, edns };
        accept(&asked, &message.to_vec().unwrap()).unwrap_err()
    };
    use ResponseCode::{BADVERS, FormErr, NotImp, Refused, ServFail};
    for (code, opt, edns, expected) in [
        (FormErr, false, true, Reject::NoEdns),
        (FormErr, true, true, Reject::Rcode(1, None)),
        (FormErr, false, false, Reject::Rcode(1, None)),
        (NotImp, false, true, Reject::NoEdns),
        (BADVERS, true, true, Reject::NoEdns),
        (ServFail, true, true, Reject::Rcode(2, None)),
        (Refused, false, true, Reject::Rcode(5, None)),
    ] {
        assert_eq!(rejected(code, opt, edns), expected, "{code:?}");
    }
    // A FORMERR of twelve octets, as servers send that read no further.
    assert_eq!(
        accept_with(&query, BOUNDS, &[0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        Err(Reject::NoEdns)
    );
}

#[test]
fn an_upstreams_extended_error_is_read_and_cleaned() {
    let query = query("a.test.", rtype::A);
    let mut message = reply(&query, &[], &[]);
    message.metadata.response_code = ResponseCode::ServFail;
    let edns = message.edns.as_mut().unwrap();
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x06sig\x07 expired".to_vec()));
    let ede = Ede { code: 6, text: "sig expired".into() };
    assert_eq!(take(&query, &message), Err(Reject::Rcode(2, Some(ede))));
}

#[test]
fn a_referral_is_no_answer() {
    let query = query("a.test.", rtype::A);
    let mut message = reply(&query, &[], &["test. 300 IN NS ns.test."]);
    assert!(take(&query, &message).is_ok());
    message.metadata.recursion_available = false;
    assert_eq!(take(&query, &message), Err(Reject::Referral));
}

#[test]
fn nxdomain_with_the_records_themselves_is_refused() {
    let query = query("a.test.", rtype::A);
    let mut message = reply(&query, &["a.test. 60 IN A 192.0.2.1"], &[]);
    message.metadata.response_code = ResponseCode::NXDomain;
    assert!(matches!(take(&query, &message), Err(Reject::Malformed(_))));
}

#[test]
fn garbage_in_any_section_is_refused() {
    let query = query("a.test.", rtype::A);
    let wire = reply(&query, &["a.test. 60 IN A 192.0.2.1"], &[SOA]).to_vec().unwrap();
    for length in 24..wire.len() {
        let result = accept_with(&query, BOUNDS, &wire[..length]);
        assert_eq!(result, Err(Reject::Records(RecordError::Short)), "{length}");
    }
}

/// Every octet of a rich message may be another.
fn rich() -> (Query, Vec<u8>) {
    let query = with_do("a.test.", rtype::HTTPS);
    let mut message = reply(
        &query,
        &["a.test. 10 IN CNAME b.test.", "b.test. 20 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1"],
        &[SOA, "test. 9 IN NS ns.test."],
    );
    message.add_answer(rrsig("b.test.", rtype::HTTPS, NOW + 900));
    message.add_authority(raw("b.test.", rtype::NSEC, 60, b"\x04test\0\0\x01\x40"));
    message.add_additional(record("ns.test. 300 IN A 192.0.2.9"));
    (query, message.to_vec().unwrap())
}

proptest! {
    #[test]
    fn no_octets_make_accept_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = accept_with(&with_do("a.test.", rtype::ANY), BOUNDS, &octets);
    }

    #[test]
    fn what_is_accepted_of_a_damaged_message_is_well_formed_and_bounded(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (query, mut wire) = rich();
        for (at, octet) in changes {
            // The id and the question stay: everything else was tested above.
            let at = at.index(wire.len());
            if !(12..24).contains(&at) && at > 1 {
                wire[at] = octet;
            }
        }
        if let Ok(answer) = accept_with(&query, BOUNDS, &wire) {
            let first_offset = 12 + query.name.as_wire().len() + 4;
            let walked = records::ttl_offsets(&answer.body, first_offset, answer.counts);
            prop_assert_eq!(walked.as_ref(), Ok(&answer.ttl_offsets));
            prop_assert!(answer.life <= Duration::from_secs(BOUNDS.ttl_max.into()));
            // What hickory can read as well, it reads as the same.
            if let (Ok(theirs), Ok(ours)) = (Message::from_vec(&wire), whole(&query, &answer)) {
                for record in &ours.answers {
                    let same = |other: &&HickoryRecord| {
                        other.name == record.name && other.data == record.data
                    };
                    let unknown = matches!(record.data, RData::Unknown { .. });
                    let found = theirs.answers.iter().find(same);
                    prop_assert!(unknown || found.is_some(), "{} of {}", record, theirs);
                }
            }
            for &at in &answer.ttl_offsets {
                let ttl = answer.body[usize::from(at)..].first_chunk::<4>().unwrap();
                prop_assert!(Duration::from_secs(u32::from_be_bytes(*ttl).into()) >= answer.life);
            }
        }
    }
}
