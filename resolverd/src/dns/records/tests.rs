//! Records against hickory-proto, and against octets nobody meant as records.

use hickory_proto::op::{Message, MessageType, OpCode, Query as HickoryQuery};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name as HickoryName, RData, Record as HickoryRecord, RecordType};
use hickory_proto::serialize::txt::Parser;
use proptest::prelude::*;

use super::*;

/// Every type with a shape of its own that hickory reads from text.
const ZONE: &str = r#"
$TTL 300
www   A      192.0.2.1
www   A      192.0.2.2
www   AAAA   2001:db8::1
alias CNAME  www
@     NS     ns1
@     MX     10 mail
@     MX     20 Mail.Example.NET.
@     SOA    ns1 hostmaster.example.org. 7 3600 600 86400 60
txt   TXT    "one" "and a second one" ""
_s._tcp SRV  1 2 5060 www
svc   SVCB   1 www.example.org. alpn=h2,h3 port=8443 ipv4hint=192.0.2.9
web   HTTPS  0 alias.example.org.
n     NAPTR  10 20 "u" "E2U+sip" "!^.*$!sip:x@example.org!" .
@     CAA    0 issue "ca.example.net"
_443._tcp TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
1     PTR    www
h     HINFO  "cpu" "os"
k     SSHFP  2 1 123456789abcdef67890123456789abcdef67890
"#;

fn hickory(name: &str) -> HickoryName {
    HickoryName::from_ascii(name).unwrap()
}

fn raw(owner: &str, rtype: u16, rdata: &[u8]) -> HickoryRecord {
    let code = RecordType::from(rtype);
    let rdata = RData::Unknown { code, rdata: NULL::with(rdata.to_vec()) };
    HickoryRecord::from_rdata(hickory(owner), 3600, rdata)
}

/// One record of each type that matters, DNSSEC's and an unknown one among them.
fn all_types() -> Vec<HickoryRecord> {
    let (_, sets) = Parser::new(ZONE, None, Some(hickory("example.org."))).parse().unwrap();
    let mut records: Vec<_> =
        sets.values().flat_map(|set| set.records_without_rrsigs().cloned()).collect();
    let signer = b"\x07example\x03org\0";
    let rrsig = [&[0, 1, 13, 3, 0, 0, 1, 44, 9, 9, 9, 9, 8, 8, 8, 8, 1, 2][..], signer, &[7; 64]];
    let nsec = [&b"\x01a"[..], signer, &[0, 2, 0x40, 1]];
    records.extend([
        raw("www.example.org.", rtype::RRSIG, &rrsig.concat()),
        raw("www.example.org.", rtype::NSEC, &nsec.concat()),
        raw("example.org.", rtype::DS, &[1, 2, 13, 2, 5, 5, 5, 5]),
        raw("example.org.", rtype::DNSKEY, &[1, 1, 3, 13, 0xc0, 0x0c, 0xc0, 0x0c]),
        raw("q0a.example.org.", rtype::NSEC3, &[1, 0, 0, 0, 0, 2, 0xc0, 0x0c, 0, 1, 0x40]),
        raw("u.example.org.", 65_280, b"\xc0\x0c\x03www\xc0\x0c\xff"),
    ]);
    records
}

fn message(question: &str, answers: Vec<HickoryRecord>) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.add_query(HickoryQuery::query(hickory(question), RecordType::ANY));
    message.add_answers(answers);
    message
}

/// Our octets put behind a header and the question.
fn whole(question: &Name, body: &Body) -> Vec<u8> {
    let mut wire = vec![0, 7, 0x80, 0, 0, 1];
    body.counts.iter().for_each(|count| wire.extend(count.to_be_bytes()));
    wire.extend_from_slice(question.as_wire());
    wire.extend_from_slice(&[0, 255, 0, 1]);
    wire.extend_from_slice(&body.octets);
    wire
}

fn read_back(message: &[u8], question: &Name) -> (Vec<Record>, Body) {
    let at = 12 + question.as_wire().len() + 4;
    let count = u16::from_be_bytes([message[6], message[7]]);
    let (records, end) = read(message, at, count).unwrap();
    assert_eq!(end, message.len());
    let body = compose(question, [&records, &[], &[]]).unwrap();
    (records, body)
}

#[test]
fn every_type_means_the_same_to_hickory_after_our_round_trip() {
    let question: Name = "www.example.org.".parse().unwrap();
    for record in all_types() {
        let sent = message("www.example.org.", vec![record.clone()]);
        let (_, body) = read_back(&sent.to_vec().unwrap(), &question);
        let seen = Message::from_vec(&whole(&question, &body)).unwrap();
        assert_eq!(seen.answers, [record]);
    }
    let sent = message("www.example.org.", all_types());
    let (records, body) = read_back(&sent.to_vec().unwrap(), &question);
    let seen = Message::from_vec(&whole(&question, &body)).unwrap();
    assert_eq!(seen.answers, sent.answers);
    let first_offset = 12 + question.as_wire().len() + 4;
    assert_eq!(ttl_offsets(&body.octets, first_offset, body.counts).unwrap(), body.ttl_offsets);
    for (record, &at) in records.iter().zip(&body.ttl_offsets) {
        let ttl = &body.octets[usize::from(at)..][..4];
        assert_eq!(ttl, record.ttl.to_be_bytes());
    }
}

#[test]
fn an_owner_equal_to_the_question_is_the_pointer_c00c() {
    let question: Name = "www.example.org.".parse().unwrap();
    let sent = message("www.example.org.", vec![all_types()[0].clone(), all_types()[1].clone()]);
    let (records, _) = read_back(&sent.to_vec().unwrap(), &question);
    let www = Record { owner: question.clone(), ..records[0].clone() };
    let body = compose(&question, [&[www], &[], &[]]).unwrap();
    assert_eq!(body.octets[..2], [0xc0, 0x0c]);
}

#[test]
fn names_in_old_types_are_compressed_and_in_newer_ones_are_not() {
    let question: Name = "a.test.".parse().unwrap();
    let record = |rtype, rdata: &[u8]| Record {
        owner: question.clone(),
        rtype,
        class: 1,
        ttl: 1,
        rdata: rdata.to_vec(),
    };
    let ns = compose(&question, [&[record(rtype::NS, b"\x01b\x01a\x04test\0")], &[], &[]]);
    assert_eq!(ns.unwrap().octets[12..], *b"\x01b\xc0\x0c");
    let srv = record(rtype::SRV, b"\0\0\0\0\0\0\x01b\x01a\x04test\0");
    let srv = compose(&question, [&[srv], &[], &[]]).unwrap();
    assert!(srv.octets.ends_with(b"\x01b\x01a\x04test\0"));
}

#[test]
fn a_compressed_name_in_a_type_that_hickory_does_not_know_is_expanded() {
    // RP, allowed to be compressed by RFC 3597 section 4, at offset 12 + 8 + 4.
    let mut wire = vec![0, 7, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    wire.extend_from_slice(b"\x01a\x04test\0\0\xff\0\x01");
    wire.extend_from_slice(b"\xc0\x0c\0\x11\0\x01\0\0\0\x05\0\x06\x01m\xc0\x0e\xc0\x0c");
    let (records, _) = read(&wire, 24, 1).unwrap();
    assert_eq!(records[0].rdata, b"\x01m\x04test\0\x01a\x04test\0");
}

#[test]
fn data_without_octets_is_carried_in_types_that_allow_it() {
    // An APL that lists nothing (RFC 3123 section 4).
    let wire = b"............\0\0\x2a\0\x01\0\0\0\x05\0\0";
    let (records, end) = read(wire, 12, 1).unwrap();
    assert_eq!((records[0].rtype, records[0].rdata.len(), end), (42, 0, wire.len()));
    let wire = b"............\0\0\x01\0\x01\0\0\0\x05\0\0";
    assert_eq!(read(wire, 12, 1), Err(RecordError::Rdata(rtype::A)));
}

#[test]
fn malformed_names_and_records_are_refused_by_reason() {
    let name = |wire: &[u8]| read_name(wire, 12).map(|(name, _)| name);
    assert_eq!(name(b"............"), Err(RecordError::Short));
    assert_eq!(name(b"............\x03ww"), Err(RecordError::Short));
    assert_eq!(name(b"............\xc0"), Err(RecordError::Short));
    // To itself, forwards, into the header, and the two reserved label types.
    for octets in [b"\xc0\x0c", b"\xc0\x0e", b"\xc0\x02", b"\x40\x00", b"\x80\x00"] {
        let wire = [&b"............"[..], octets, b"\0\0"].concat();
        assert_eq!(name(&wire), Err(RecordError::Name), "{octets:?}");
    }
    let long = [&b"............"[..], &[&[63][..], &[b'a'; 63]].concat().repeat(4), b"\0"];
    assert_eq!(name(&long.concat()), Err(RecordError::Name));
    let body = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04";
    assert_eq!(ttl_offsets(body, 24, [1, 0, 0]), Ok(vec![6]));
    assert_eq!(ttl_offsets(body, 24, [0, 1, 1]), Err(RecordError::Short));
    assert_eq!(ttl_offsets(body, 24, [0, 0, 0]), Err(RecordError::Trailing));
    assert_eq!(ttl_offsets(&body[..15], 24, [0, 1, 0]), Err(RecordError::Short));
    assert_eq!(ttl_offsets(body, 12, [1, 0, 0]), Err(RecordError::Name));
}

#[test]
fn a_chain_of_pointers_is_bounded() {
    let mut wire = vec![0; 13];
    for hop in 0..1_000_u16 {
        let target = if hop == 0 { 12 } else { 13 + 2 * (hop - 1) };
        wire.extend_from_slice(&(0xc000 | target).to_be_bytes());
    }
    assert_eq!(read_name(&wire, wire.len() - 2), Err(RecordError::Name));
    assert!(read_name(&wire, 13 + 2 * 100).is_ok());
}

proptest! {
    #[test]
    fn any_octets_are_read_walked_and_written_without_a_panic(
        octets in prop::collection::vec(any::<u8>(), 0..300),
        counts in any::<[u8; 3]>(),
        first_offset in 0..400_usize,
    ) {
        let counts = counts.map(u16::from);
        let _ = ttl_offsets(&octets, first_offset, counts);
        if let Ok((records, _)) = read(&octets, first_offset % 20, counts[0] % 8) {
            let question = "a.b.test.".parse().unwrap();
            let body = compose(&question, [&records, &[], &[]]).unwrap();
            let base = 12 + question.as_wire().len() + 4;
            prop_assert_eq!(ttl_offsets(&body.octets, base, body.counts), Ok(body.ttl_offsets));
        }
    }

    /// Real messages with a few octets changed get further than noise does.
    #[test]
    fn what_we_read_out_of_a_damaged_message_survives_our_own_round_trip(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let question: Name = "www.example.org.".parse().unwrap();
        let mut wire = message("www.example.org.", all_types()).to_vec().unwrap();
        for (at, octet) in changes {
            let at = at.index(wire.len());
            wire[at] = octet;
        }
        let at = 12 + question.as_wire().len() + 4;
        if let Ok((records, _)) = read(&wire, at, all_types().len() as u16) {
            let body = compose(&question, [&records, &[], &[]]).unwrap();
            let again = whole(&question, &body);
            let (seen, end) = read(&again, at, body.counts[0]).unwrap();
            prop_assert_eq!(end, again.len());
            prop_assert_eq!(&seen, &records);
            prop_assert_eq!(ttl_offsets(&body.octets, at, body.counts), Ok(body.ttl_offsets));
        }
    }
}
