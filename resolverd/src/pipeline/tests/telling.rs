//! Who listens hears of each query and each reply, as they were on the wire.

use super::super::*;
use super::house::{House, q};
use crate::config::LogFormat;
use crate::log::ClientPrefix;
use crate::tap;

async fn lines(house: &House, file: &std::path::Path) -> Vec<serde_json::Value> {
    house.tap.stop().await;
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_has_a_line_that_says_who_gave_it() {
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("queries");
    house.ask(&q("before.test.", 1)).await;
    house.tap.reconfigure(tap::Settings {
        client_prefix: ClientPrefix::new(8, 56),
        query_log: Some(tap::QueryLog {
            sample: 1,
            format: LogFormat::Json,
            file: Some(file.clone()),
        }),
        ..tap::Settings::off()
    });
    let asks = [
        ("before.test.", "cache", "NOERROR"),
        ("fresh.test.", "upstream", "NOERROR"),
        ("www.home.test.", "local", "NOERROR"),
    ];
    let mut octets = Vec::new();
    for (name, ..) in asks {
        octets.push(house.ask(&q(name, 1)).await.reply().len());
    }
    // Refused by the access list, and what is no query at all.
    house.ask_from("127.0.0.66", Transport::Tcp, &q("www.home.test.", 1)).await;
    house.ask(b"rubbish").await;
    let lines = lines(&house, &file).await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    for ((line, (name, by, rcode)), octets) in lines.iter().zip(asks).zip(octets) {
        assert_eq!(line["name"], name);
        assert_eq!((&line["answered_by"], &line["rcode"]), (&by.into(), &rcode.into()), "{line}");
        assert_eq!((&line["octets"], &line["client"]), (&octets.into(), &"127.0.0.0/8".into()));
        assert_eq!(line["transport"], "udp");
        assert!(line["duration_us"].is_u64());
    }
    assert_eq!((&lines[1]["upstream"], &lines[0]["upstream"]), (&"up".into(), &().into()));
    let refused = &lines[3];
    assert_eq!((&refused["answered_by"], &refused["transport"]), (&"daemon".into(), &"tcp".into()));
    assert_eq!(refused["rcode"], "REFUSED");
}

/// The price is then that of a branch or two.
#[tokio::test]
async fn while_nobody_listens_nothing_is_noted() {
    let house = House::new();
    for _ in 0..2 {
        assert!(house.ask_now(&q("www.home.test.", 1)).is_some());
        assert_eq!(telling::noted(), None);
    }
}
