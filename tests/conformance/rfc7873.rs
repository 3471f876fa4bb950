//! RFC 7873: DNS cookies, as a server.

use anyhow::Result;
use lab::{Ask, Reply};

use crate::world::world;

const COOKIE: u16 = 10;

const CLIENT: &[u8] = b"8 octets";

fn cookie(reply: &Reply) -> Option<Vec<u8>> {
    let options = &reply.edns.as_ref()?.options;
    options.iter().find(|(code, _)| *code == COOKIE).map(|(_, data)| data.clone())
}

#[test]
fn section_5_2_1_without_a_cookie_none_is_sent() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.plain.test.", "A").edns(1_232))?;
    assert_eq!((reply.answer.len(), cookie(&reply)), (1, None));
    Ok(())
}

#[test]
fn section_5_2_2_a_cookie_of_an_impossible_length_is_a_format_error() -> Result<()> {
    let world = world!();
    for len in [0, 1, 7, 9, 15, 41] {
        let ask = Ask::new("www.plain.test.", "A").option(COOKIE, &vec![1; len]);
        assert_eq!(world.ask(&ask)?.rcode(), 1, "{len} octets");
    }
    Ok(())
}

#[test]
fn section_5_2_3_a_client_that_is_new_is_given_a_whole_cookie() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.plain.test.", "A").option(COOKIE, CLIENT))?;
    let given = cookie(&reply).expect("a cookie");
    assert!(given.starts_with(CLIENT) && (16..=40).contains(&given.len()));
    assert_eq!((reply.rcode(), reply.answer.len()), (0, 1));
    Ok(())
}

#[test]
fn section_5_2_4_a_server_cookie_that_is_not_ours_is_answered_with_ours() -> Result<()> {
    let world = world!();
    let wrong = [CLIENT, &[7; 16]].concat();
    let reply = world.ask(&Ask::new("www.plain.test.", "A").option(COOKIE, &wrong))?;
    let given = cookie(&reply).expect("a cookie");
    assert!(given.starts_with(CLIENT) && given != wrong);
    Ok(())
}

#[test]
fn section_5_2_5_a_good_cookie_comes_back() -> Result<()> {
    let world = world!();
    let first = world.ask(&Ask::new("www.plain.test.", "A").option(COOKIE, CLIENT))?;
    let given = cookie(&first).expect("a cookie");
    let reply = world.ask(&Ask::new("www.plain.test.", "A").option(COOKIE, &given))?;
    assert_eq!(cookie(&reply), Some(given), "it is young, and stays what it is");
    Ok(())
}

#[test]
fn section_5_4_a_cookie_may_be_asked_for_alone() -> Result<()> {
    let world = world!();
    let whole = Ask::new(".", "A").option(COOKIE, CLIENT).bytes();
    // Without the question: the header, then the OPT behind the root's five octets.
    let mut query = [&whole[..12], &whole[17..]].concat();
    query[5] = 0;
    let reply = Reply::parse(&world.exchange(&query)?)?;
    assert_eq!((reply.rcode(), reply.question.is_none()), (0, true));
    assert!(cookie(&reply).is_some_and(|given| given.len() > CLIENT.len()));
    Ok(())
}

#[test]
fn section_5_2_3_who_is_refused_is_given_a_cookie_as_well() -> Result<()> {
    let world = world!();
    for ask in [Ask::new("www.plain.test.", "AXFR"), Ask::new("www.plain.test.", "TYPE200")] {
        let reply = world.ask(&ask.clone().option(COOKIE, CLIENT))?;
        assert_ne!(reply.rcode(), 0, "{}", ask.qtype);
        assert!(cookie(&reply).is_some_and(|given| given.len() == 24), "{}", ask.qtype);
    }
    Ok(())
}
