//! RFC 7766: DNS over TCP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use lab::{Ask, Reply};

use crate::scripted::Said;
use crate::world::{World, world};

fn connect(world: &World) -> Result<TcpStream> {
    let at = world.at();
    let stream = world.inside.enter(|| TcpStream::connect(at))??;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn framed(ask: &Ask) -> Vec<u8> {
    let bytes = ask.bytes();
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

fn read(stream: &mut TcpStream) -> Result<Reply> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut reply = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut reply)?;
    Reply::parse(&reply)
}

#[test]
fn section_5_a_truncated_answer_is_asked_for_again_over_tcp() -> Result<()> {
    let world = world!();
    let name = world.odd.say("truncated", |query| {
        let said = Said::new().answer(&query.name, "A", 60, "192.0.2.1");
        vec![if query.tcp { said } else { Said::new().truncated() }]
    });
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    assert!(world.odd.asked("truncated").iter().any(|query| query.tcp));
    Ok(())
}

#[test]
fn section_6_2_1_a_connection_takes_one_query_after_another() -> Result<()> {
    let world = world!();
    let mut stream = connect(&world)?;
    for name in ["www.plain.test.", "second.plain.test.", "nothing.plain.test."] {
        stream.write_all(&framed(&Ask::new(name, "A")))?;
        assert_eq!(read(&mut stream)?.question.map(|(name, _)| name).as_deref(), Some(name));
    }
    Ok(())
}

#[test]
fn section_6_2_1_1_queries_are_sent_at_once_and_no_answer_waits_for_a_slower_one() -> Result<()> {
    let world = world!();
    world.ask(&Ask::new("www.plain.test.", "A"))?;
    let slow = world.odd.say("slow-stream", |_| Vec::new());
    let mut stream = connect(&world)?;
    let (first, second) = (Ask::new(&slow, "A"), Ask::new("www.plain.test.", "A"));
    let (first, second) = (Ask { id: Some(1), ..first }, Ask { id: Some(2), ..second });
    stream.write_all(&[framed(&first), framed(&second)].concat())?;
    assert_eq!(read(&mut stream)?.id(), 2);
    assert_eq!((read(&mut stream)?.id(), "the slow one is answered as well").0, 1);
    Ok(())
}

#[test]
fn section_6_2_3_an_idle_connection_is_closed() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "tcp-idle-timeout = \"1s\"")?;
    let at = daemon.listen();
    let mut stream = world.inside.enter(|| TcpStream::connect(at))??;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    assert_eq!(stream.read(&mut [0; 1])?, 0, "it is closed, and not reset");
    Ok(())
}

#[test]
fn section_7_an_answer_has_the_id_and_question_of_its_query() -> Result<()> {
    let world = world!();
    let mut stream = connect(&world)?;
    let asks: Vec<Ask> = (0..20)
        .map(|n| Ask { id: Some(n), ..Ask::new(&format!("n{n}.wild.plain.test."), "A") })
        .collect();
    stream.write_all(&asks.iter().flat_map(framed).collect::<Vec<u8>>())?;
    let mut seen = Vec::new();
    for _ in &asks {
        let reply = read(&mut stream)?;
        let name = format!("n{}.wild.plain.test.", reply.id());
        assert_eq!(reply.question.as_ref().map(|(name, _)| name.clone()), Some(name));
        seen.push(reply.id());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<u16>>());
    Ok(())
}

#[test]
fn section_8_a_message_may_come_octet_by_octet() -> Result<()> {
    let world = world!();
    let mut stream = connect(&world)?;
    stream.set_nodelay(true)?;
    for octet in framed(&Ask::new("www.plain.test.", "A")) {
        stream.write_all(&[octet])?;
    }
    assert_eq!(read(&mut stream)?.answer.len(), 1);
    Ok(())
}
