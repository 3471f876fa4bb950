//! RFC 1035: names, messages, TTLs and transports on the wire.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_2_3_4_a_name_of_255_octets_is_one_and_of_256_is_not() -> Result<()> {
    let world = world!();
    let label = "l".repeat(63);
    // With its length octets and the root's: 3 * 64 + (n + 1) + 11 + 1.
    let name = |rest| format!("{label}.{label}.{label}.{}.plain.test.", "l".repeat(rest));
    for (rest, octets, rcode) in [(50, 255, 3), (51, 256, 1)] {
        let query = Ask::new(&name(rest), "A").bytes();
        assert_eq!(query.len(), 12 + octets + 4);
        assert_eq!(world.exchange(&query)?[3] & 15, rcode, "{octets} octets");
    }
    Ok(())
}

#[test]
fn section_3_2_1_a_ttl_of_zero_is_told_and_not_kept() -> Result<()> {
    let world = world!();
    let name =
        world.odd.say("zero", |query| vec![Said::new().answer(&query.name, "A", 0, "192.0.2.1")]);
    for _ in 0..2 {
        assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer[0].ttl, 0);
    }
    let asked = world.odd.asked("zero").iter().filter(|query| query.qtype == 1).count();
    assert_eq!(asked, 2, "each question is for this one transaction");
    Ok(())
}

#[test]
fn section_3_2_1_a_record_is_discarded_after_its_ttl() -> Result<()> {
    let world = world!();
    let name =
        world.odd.say("brief", |query| vec![Said::new().answer(&query.name, "A", 1, "192.0.2.1")]);
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    thread::sleep(Duration::from_millis(1_200));
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    let asked = world.odd.asked("brief").iter().filter(|query| query.qtype == 1).count();
    assert_eq!(asked, 2);
    Ok(())
}

#[test]
fn section_4_1_1_the_id_the_opcode_and_the_question_come_back() -> Result<()> {
    let world = world!();
    let ask = Ask { id: Some(0xbeef), ..Ask::new("www.plain.test.", "AAAA") };
    let reply = world.ask(&ask)?;
    assert_eq!(reply.id(), 0xbeef);
    assert_eq!(reply.bytes[2] & 0xf8, 0x80, "QR, and opcode QUERY");
    assert_eq!(reply.bytes[3] & 0x40, 0, "Z is zero");
    assert_eq!(reply.question, Some(("www.plain.test.".to_owned(), 28)));
    Ok(())
}

#[test]
fn section_4_1_1_an_opcode_that_is_not_known_is_not_implemented() -> Result<()> {
    let world = world!();
    for opcode in [1, 2, 4, 5, 6, 15] {
        let mut query = Ask::new("www.plain.test.", "A").bytes();
        query[2] |= opcode << 3;
        let reply = world.exchange(&query)?;
        assert_eq!((reply[2] >> 3 & 15, reply[3] & 15), (opcode, 4), "opcode {opcode}");
    }
    Ok(())
}

#[test]
fn section_4_1_1_a_message_that_cannot_be_read_is_a_format_error() -> Result<()> {
    let world = world!();
    let whole = Ask::new("www.plain.test.", "A").bytes();
    let mut two = whole.clone();
    two[5] = 2;
    for (broken, why) in [
        (&whole[..whole.len() - 1], "the question ends early"),
        (&whole[..20], "the name ends early"),
        (&two, "a second question is announced"),
    ] {
        assert_eq!(world.exchange(broken)?[3] & 15, 1, "{why}");
    }
    Ok(())
}

#[test]
fn section_4_1_1_an_answer_is_not_answered() -> Result<()> {
    let world = world!();
    let mut query = Ask::new("www.plain.test.", "A").bytes();
    query[2] |= 0x80;
    assert!(world.exchange(&query).is_err());
    Ok(())
}

#[test]
fn section_4_1_2_a_class_that_is_not_served_is_not_answered_with_data_of_another() -> Result<()> {
    let world = world!();
    for class in [3_u16, 4, 254, 1_000] {
        let mut query = Ask::new("www.plain.test.", "A").bytes();
        let at = query.len() - 2;
        query[at..].copy_from_slice(&class.to_be_bytes());
        let reply = world.exchange(&query)?;
        assert!(matches!(reply[3] & 15, 4 | 5), "class {class}: {}", reply[3] & 15);
        assert_eq!(reply[6..8], [0, 0]);
    }
    Ok(())
}

#[test]
fn section_4_1_3_a_ttl_counts_down_while_it_is_kept() -> Result<()> {
    let world = world!();
    let ask = Ask::new("second.plain.test.", "A");
    let first = world.ask(&ask)?.answer[0].ttl;
    assert!(first <= 3_600);
    thread::sleep(Duration::from_millis(2_100));
    let later = world.ask(&ask)?.answer[0].ttl;
    assert!((2..=3).contains(&(first - later)), "{first}, then {later}");
    Ok(())
}

#[test]
fn section_4_1_4_a_name_that_points_at_itself_is_a_format_error() -> Result<()> {
    let world = world!();
    let mut query = Ask::new("www.plain.test.", "A").bytes()[..12].to_vec();
    query.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(world.exchange(&query)?[3] & 15, 1);
    Ok(())
}

#[test]
fn section_4_2_1_a_datagram_without_edns_is_of_512_octets_at_most_and_says_what_it_lacks()
-> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("many.plain.test.", "A"))?;
    assert!(reply.bytes.len() <= 512 && reply.truncated());
    Ok(())
}

#[test]
fn section_4_2_2_a_stream_has_the_whole_of_what_a_datagram_cannot_take() -> Result<()> {
    let world = world!();
    let reply = world.ask_tcp(&Ask::new("many.plain.test.", "A"))?;
    assert!(!reply.truncated());
    assert_eq!(reply.answer.len(), 120);
    Ok(())
}

#[test]
fn section_7_1_a_timeout_leads_to_another_try_and_not_to_silence() -> Result<()> {
    let world = world!();
    let mut first = true;
    let name = world.odd.say("second-try", move |query| {
        if std::mem::take(&mut first) {
            return Vec::new();
        }
        vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]
    });
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    Ok(())
}

#[test]
fn section_7_3_an_answer_under_another_id_or_to_another_question_is_not_one() -> Result<()> {
    let world = world!();
    let name = world.odd.say("forged", |query| {
        let said = |address| Said::new().answer(&query.name, "A", 60, address);
        vec![
            said("192.0.2.66").wrong_id(),
            said("192.0.2.66").to("else.odd.test."),
            said("192.0.2.1"),
        ]
    });
    let reply = world.ask(&Ask::new(&name, "A"))?;
    assert_eq!(reply.answer[0].text(), "192.0.2.1");
    Ok(())
}

#[test]
fn section_7_4_what_was_not_asked_for_is_not_kept() -> Result<()> {
    let world = world!();
    let victim = world
        .odd
        .say("victim", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    let poison = victim.clone();
    let name = world.odd.say("poisoner", move |query| {
        let said = Said::new().answer(&query.name, "A", 60, "192.0.2.2");
        let said = said.answer(&poison, "A", 60, "192.0.2.66");
        vec![said.additional("www.plain.test.", "A", 60, "192.0.2.66")]
    });
    let reply = world.ask(&Ask::new(&name, "A"))?;
    assert!(reply.answer.iter().all(|record| record.text() == "192.0.2.2"), "{reply:?}");
    assert_eq!(world.ask(&Ask::new(&victim, "A"))?.answer[0].text(), "192.0.2.1");
    assert_eq!(world.ask(&Ask::new("www.plain.test.", "A"))?.answer[0].text(), "192.0.2.1");
    Ok(())
}
