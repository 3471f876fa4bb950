//! What is told of a message: lines and dnstap's messages, of the daemon's answers and of hits.

use std::time::UNIX_EPOCH;

use prost::Message as _;
use resolverd_common::key::{NAME_WORDS, meta};
use resolverd_common::settings::address_words;

use super::*;
use crate::metrics::Build;

const AT: Duration = Duration::new(1_795_167_045, 42_000);

/// NOERROR with AD to `www.test. A`, one record, an OPT with DO and the error 3, "stale".
const REPLY: &[u8] = b"\x12\x34\x81\xa0\0\x01\0\x01\0\0\0\x01\x03wWw\x04test\0\0\x01\0\x01\
    \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01\
    \0\0\x29\x04\xd0\0\0\x80\0\0\x0b\0\x0f\0\x07\0\x03stale";

/// `www.test. A` with a client subnet of 192.0.2.77/32 and a cookie.
const QUERY: &[u8] = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x03wWw\x04test\0\0\x01\0\x01\
    \0\0\x29\x04\xd0\0\0\x80\0\0\x18\0\x08\0\x08\0\x01\x20\0\xc0\0\x02\x4d\0\x0a\0\x0812345678";

pub(super) fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }))
}

pub(super) fn way() -> Way {
    Way {
        client: "192.0.2.77:4711".parse().unwrap(),
        server: "192.0.2.53".parse().unwrap(),
        transport: Transport::Udp,
    }
}

/// The daemon's reply to [`QUERY`], as it waits in a queue.
pub(super) fn seen(prefix: ClientPrefix) -> Seen {
    Seen {
        took: Some(Duration::from_micros(1_234)),
        authentic_data: Some(true),
        by: AnsweredBy::Upstream.as_str(),
        upstream: Some("the office".into()),
        sample: 64,
        ..Seen::of(Kind::ClientResponse, way(), UNIX_EPOCH + AT, REPLY, prefix)
    }
}

fn line_of(seen: &Seen, format: LogFormat) -> String {
    let mut out = String::new();
    line::write(seen, format, &mut out);
    out
}

fn hit(client: &str) -> Event {
    let mut name = [0_u64; NAME_WORDS];
    name.as_mut_bytes()[..10].copy_from_slice(b"\x03www\x04test\0");
    Event {
        at: 0,
        meta: meta(28, 0, 10, true, false),
        kind: resolverd_common::event::SAMPLE,
        ifindex: 1,
        source: address_words(client.parse().unwrap()),
        name,
        port: 4_711_u16.to_be(),
        reply_len: 321,
        rcode: 3,
        reserved: 0,
    }
}

/// All that an outlet of this kind is given by `work`, as it would come out of its queue.
async fn told(settings: Settings, work: impl FnOnce(&Tap)) -> Vec<serde_json::Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("queries");
    let query_log = settings.query_log.map(|log| QueryLog { file: Some(file.clone()), ..log });
    let tap = Tap::new(Settings { query_log, ..settings }, metrics());
    work(&tap);
    tap.stop().await;
    let text = std::fs::read_to_string(&file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn logging(sample: u32) -> Settings {
    Settings {
        client_prefix: ClientPrefix::new(24, 56),
        kernel_sample: 128,
        query_log: Some(QueryLog { sample, format: LogFormat::Json, file: None }),
        dnstap: None,
    }
}

fn answered(reply: &[u8]) -> Answered<'_> {
    Answered {
        way: way(),
        authentic_data: false,
        reply,
        by: AnsweredBy::Cache,
        upstream: None,
        took: Duration::from_micros(7),
    }
}

#[test]
fn a_line_of_json_has_all_that_is_known() {
    let line = line_of(&seen(ClientPrefix::new(24, 56)), LogFormat::Json);
    assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "timestamp": "2026-11-20T09:30:45.000042Z", "message": "query",
        "client": "192.0.2.0/24", "transport": "udp",
        "name": "www.test.", "type": "A", "class": "IN",
        "do": true, "cd": false, "ad": true,
        "rcode": "NOERROR", "secure": true, "truncated": false, "octets": REPLY.len(),
        "answered_by": "upstream", "upstream": "the office", "duration_us": 1_234,
        "ede": 3, "ede_text": "stale", "sample": 64,
    });
    assert_eq!(line, expected);
}

#[test]
fn a_line_of_text_has_the_same_and_quotes_what_has_spaces() {
    let line = line_of(&seen(ClientPrefix::WHOLE), LogFormat::Text);
    let expected = format!(
        "2026-11-20T09:30:45.000042Z query client=192.0.2.77 port=4711 transport=udp \
         name=www.test. type=A class=IN do=true cd=false ad=true rcode=NOERROR secure=true \
         truncated=false octets={} answered_by=upstream upstream=\"the office\" \
         duration_us=1234 ede=3 ede_text=stale sample=64\n",
        REPLY.len()
    );
    assert_eq!(line, expected);
}

#[test]
fn a_name_cannot_end_its_line_or_forge_a_field() {
    let mut reply = b"\0\0\x81\x83\0\x01\0\0\0\0\0\0".to_vec();
    reply.extend(b"\x0fa\n\"x\" rcode=b\\c\0\0\x01\0\x01");
    let seen = Seen { message: reply.into(), ..seen(ClientPrefix::new(24, 56)) };
    let text = line_of(&seen, LogFormat::Text);
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains(r#" name="a\\010\\\"x\\\"\\032rcode=b\\\\c." type=A"#), "{text}");
    assert!(text.contains(" rcode=NXDOMAIN "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&line_of(&seen, LogFormat::Json)).unwrap();
    assert_eq!(json["name"], r#"a\010\"x\"\032rcode=b\\c."#);
}

#[test]
fn an_answer_to_what_nobody_understood_is_a_line_without_a_name() {
    let reply = b"\0\0\x80\x01\0\0\0\0\0\0\0\0";
    let seen = Seen { message: reply[..].into(), ..seen(ClientPrefix::new(24, 56)) };
    let line = line_of(&seen, LogFormat::Text);
    assert!(!line.contains("name=") && line.contains("rcode=FORMERR"), "{line}");
}

#[test]
fn dnstap_is_told_of_a_reply_with_both_times_and_a_cut_client() {
    let settings = Dnstap {
        to: Receiver::Unix("/x".into()),
        messages: vec![Kind::ClientResponse],
        identity: Some("host".to_owned()),
        version: None,
    };
    let frame = dnstap::encode(&seen(ClientPrefix::new(24, 56)), &settings);
    let told = dnstap::Dnstap::decode(&frame[..]).unwrap();
    assert_eq!((told.identity.as_deref(), told.version), (Some(&b"host"[..]), None));
    assert_eq!(told.kind, 1);
    assert_eq!(told.extra.as_deref(), Some(&b"upstream the office"[..]));
    let message = told.message.unwrap();
    assert_eq!(
        (message.kind, message.socket_family, message.socket_protocol),
        (6, Some(1), Some(1))
    );
    assert_eq!(message.query_address.as_deref(), Some(&[192, 0, 2, 0][..]));
    assert_eq!(message.response_address.as_deref(), Some(&[192, 0, 2, 53][..]));
    assert_eq!(message.query_port, None, "a port names who a prefix hides");
    assert_eq!(message.response_time_sec, Some(AT.as_secs()));
    assert_eq!(message.response_time_nsec, Some(42_000));
    // 1.234 ms before.
    assert_eq!(message.query_time_sec, Some(AT.as_secs() - 1));
    assert_eq!(message.query_time_nsec, Some(998_808_000));
    assert_eq!((message.query_message, message.response_message.as_deref()), (None, Some(REPLY)));
    let whole = dnstap::encode(&seen(ClientPrefix::WHOLE), &settings);
    let whole = dnstap::Dnstap::decode(&whole[..]).unwrap().message.unwrap();
    assert_eq!((whole.query_port, whole.query_address), (Some(4_711), Some(vec![192, 0, 2, 77])));
}

/// Field numbers and wire types by hand, after the schema.
#[test]
fn the_octets_of_a_message_are_those_of_the_schema() {
    let settings = Dnstap {
        to: Receiver::Unix("/x".into()),
        messages: Vec::new(),
        identity: None,
        version: Some("v".to_owned()),
    };
    let query = Seen::of(Kind::ClientQuery, way(), UNIX_EPOCH + AT, b"abc", ClientPrefix::WHOLE);
    let mut message =
        b"\x08\x05\x10\x01\x18\x01\x22\x04\xc0\0\x02\x4d\x2a\x04\xc0\0\x02\x35".to_vec();
    // 4711, and 1795167045 in seven bits a piece.
    message.extend(b"\x30\xe7\x24\x40\xc5\xa6\x80\xd8\x06");
    message.extend(b"\x4d\x10\xa4\0\0\x52\x03abc");
    let mut expected = b"\x12\x01v\x72".to_vec();
    expected.push(message.len() as u8);
    expected.extend(&message);
    expected.extend(b"\x78\x01");
    assert_eq!(dnstap::encode(&query, &settings), expected);
}

#[test]
fn encrypted_transports_have_their_numbers() {
    let settings = Dnstap {
        to: Receiver::Unix("/x".into()),
        messages: Vec::new(),
        identity: None,
        version: None,
    };
    let told: Vec<_> = Transport::ALL
        .iter()
        .map(|transport| {
            let seen = Seen { transport: *transport, ..seen(ClientPrefix::WHOLE) };
            let told = dnstap::Dnstap::decode(&dnstap::encode(&seen, &settings)[..]).unwrap();
            let message = told.message.unwrap();
            (transport.as_str(), message.socket_protocol.unwrap(), message.http_protocol)
        })
        .collect();
    let expected = [
        ("udp", 1, None),
        ("tcp", 2, None),
        ("tls", 3, None),
        ("https", 4, Some(2)),
        ("quic", 7, None),
        ("h3", 4, Some(3)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_question_to_an_upstream_is_a_forwarders_if_it_asks_for_recursion() {
    let settings = Dnstap {
        to: Receiver::Unix("/x".into()),
        messages: Vec::new(),
        identity: None,
        version: None,
    };
    let kind = |kind, flags: u8| {
        let seen = Seen::of(kind, way(), UNIX_EPOCH, &[0, 0, flags, 0], ClientPrefix::WHOLE);
        dnstap::Dnstap::decode(&dnstap::encode(&seen, &settings)[..]).unwrap().message.unwrap().kind
    };
    assert_eq!((kind(Kind::ResolverQuery, 0x01), kind(Kind::ResolverResponse, 0x81)), (7, 8));
    assert_eq!((kind(Kind::ResolverQuery, 0x00), kind(Kind::ResolverResponse, 0x80)), (3, 4));
}

#[tokio::test]
async fn nobody_listens_by_default() {
    let tap = Tap::off(metrics());
    assert!(!tap.hears_clients() && !tap.hears_answers() && !tap.hears_upstreams());
    // And what is told all the same goes nowhere.
    tap.answer(&answered(REPLY), UNIX_EPOCH);
    tap.query(way(), QUERY, UNIX_EPOCH);
}

#[tokio::test]
async fn one_answer_in_so_many_has_a_line_and_says_for_how_many() {
    let lines = told(logging(3), |tap| {
        assert!(tap.hears_answers() && !tap.hears_upstreams());
        for _ in 0..7 {
            tap.answer(&answered(REPLY), UNIX_EPOCH);
        }
    })
    .await;
    assert_eq!(lines.len(), 3, "the first, the fourth, the seventh");
    assert!(lines.iter().all(|line| line["sample"] == 3 && line["client"] == "192.0.2.0/24"));
    let all = told(logging(1), |tap| {
        for _ in 0..7 {
            tap.answer(&answered(REPLY), UNIX_EPOCH);
        }
    });
    assert_eq!(all.await.len(), 7);
}

#[tokio::test]
async fn a_hit_of_the_kernel_has_a_line_with_its_own_rate_and_nothing_made_up() {
    let lines = told(logging(1_000), |tap| {
        tap.kernel_hit(&hit("192.0.2.77"), UNIX_EPOCH + AT);
        tap.kernel_hit(&hit("2001:db8:1:2ff::1"), UNIX_EPOCH + AT);
    })
    .await;
    let expected = serde_json::json!({
        "timestamp": "2026-11-20T09:30:45.000042Z", "message": "query",
        "client": "192.0.2.0/24", "transport": "udp",
        "name": "www.test.", "type": "AAAA", "class": "IN", "do": true, "cd": false,
        "rcode": "NXDOMAIN", "octets": 321, "answered_by": "kernel", "sample": 128,
    });
    assert_eq!(lines[0], expected);
    assert_eq!(lines[1]["client"], "2001:db8:1:200::/56");
}

#[test]
fn dnstap_is_told_of_a_hit_by_its_question_and_its_rate() {
    let way = Way { server: "0.0.0.0".parse().unwrap(), ..way() };
    let event = hit("192.0.2.77");
    let message = outline(&event).unwrap();
    let seen = Seen {
        server: None,
        by: KERNEL,
        octets: 321,
        sample: 128,
        ..Seen::of(Kind::ClientResponse, way, UNIX_EPOCH, &message, ClientPrefix::WHOLE)
    };
    let settings = Dnstap {
        to: Receiver::Unix("/x".into()),
        messages: Vec::new(),
        identity: None,
        version: None,
    };
    let told = dnstap::Dnstap::decode(&dnstap::encode(&seen, &settings)[..]).unwrap();
    assert_eq!(told.extra.as_deref(), Some(&b"kernel sample=128 octets=321 question-only"[..]));
    let message = told.message.unwrap();
    assert_eq!((message.response_address, message.query_time_sec), (None, None));
    let reply = hickory_proto::op::Message::from_vec(&message.response_message.unwrap()).unwrap();
    assert_eq!(reply.queries[0].name().to_ascii(), "www.test.");
    assert_eq!(u16::from(reply.queries[0].query_type()), 28);
    assert_eq!(reply.metadata.response_code, hickory_proto::op::ResponseCode::NXDomain);
    assert!(reply.answers.is_empty() && reply.edns.unwrap().flags().dnssec_ok);
}

#[test]
fn a_name_longer_than_its_words_is_no_hit() {
    let mut event = hit("192.0.2.77");
    event.meta = meta(28, 0, 255, true, false);
    assert_eq!(outline(&event).map(|message| message.len()), Some(12 + 255 + 4 + 11));
}
