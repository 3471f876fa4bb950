//! RFC 6891: EDNS(0), towards clients and towards servers.

use anyhow::Result;
use lab::{Ask, Reply};

use crate::scripted::Said;
use crate::world::world;

const OPT_OCTETS: usize = 11;

#[test]
fn section_6_1_1_an_opt_is_answered_with_one_and_its_absence_with_none() -> Result<()> {
    let world = world!();
    let with = world.ask(&Ask::new("www.plain.test.", "A").edns(1_232))?;
    assert!(with.edns.is_some());
    assert!(world.ask(&Ask::new("www.plain.test.", "A"))?.edns.is_none());
    // Whatever the RCODE is.
    let mut notimp = Ask::new("www.plain.test.", "A").edns(1_232).bytes();
    notimp[2] |= 2 << 3;
    assert!(Reply::parse(&world.exchange(&notimp)?)?.edns.is_some());
    Ok(())
}

#[test]
fn section_6_1_1_two_of_them_are_a_format_error() -> Result<()> {
    let world = world!();
    let mut query = Ask::new("www.plain.test.", "A").edns(1_232).bytes();
    let opt = query[query.len() - OPT_OCTETS..].to_vec();
    query.extend(opt);
    query[11] = 2;
    assert_eq!(world.exchange(&query)?[3] & 15, 1);
    Ok(())
}

#[test]
fn section_6_1_2_an_option_that_is_not_known_is_passed_over() -> Result<()> {
    let world = world!();
    let ask = Ask::new("www.plain.test.", "A").option(65_001, b"anything");
    let reply = world.ask(&ask)?;
    assert_eq!((reply.rcode(), reply.answer.len()), (0, 1));
    assert!(reply.edns.is_some_and(|edns| edns.options.iter().all(|(code, _)| *code != 65_001)));
    Ok(())
}

#[test]
fn section_6_1_3_a_later_version_is_badvers_and_ours_is_told() -> Result<()> {
    let world = world!();
    let mut query = Ask::new("www.plain.test.", "A").edns(1_232).bytes();
    let version = query.len() - 5;
    query[version] = 1;
    let reply = world.exchange(&query)?;
    let opt = &reply[reply.len() - OPT_OCTETS..];
    // The upper octets of the RCODE, then the version.
    assert_eq!((opt[5], opt[6], reply[3] & 15), (1, 0, 0), "BADVERS is 16");
    assert_eq!(reply[6..8], [0, 0], "and nothing is answered");
    Ok(())
}

#[test]
fn section_6_2_3_less_than_512_is_taken_for_512() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("many.plain.test.", "A").edns(100))?;
    assert!(reply.truncated() && reply.bytes.len() <= 512);
    let fits = world.ask(&Ask::new("www.plain.test.", "A").edns(0))?;
    assert!(!fits.truncated());
    Ok(())
}

#[test]
fn section_6_2_4_a_larger_buffer_is_used_up_to_our_own() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("many.plain.test.", "A").edns(4_096))?;
    assert!(reply.bytes.len() <= 1_232 && reply.truncated(), "2 kB do not go in one datagram");
    assert_eq!(reply.edns.map(|edns| edns.size), Some(1_232));
    Ok(())
}

#[test]
fn section_6_2_5_4096_octets_go_both_ways_where_the_file_says_so() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("resolve.edns-size = 4096", "edns-size = 4096")?;
    let reply = world.ask_of(&daemon, &Ask::new("many.plain.test.", "A").edns(4_096))?;
    assert!(!reply.truncated() && reply.answer.len() == 120);
    assert_eq!(reply.edns.map(|edns| edns.size), Some(4_096));
    let name =
        world.odd.say("large", |query| vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")]);
    world.ask_of(&daemon, &Ask::new(&name, "A"))?;
    let sizes: Vec<_> = world.odd.asked("large").iter().map(|query| query.edns).collect();
    assert!(sizes.iter().all(|edns| matches!(edns, Some((4_096, _)))), "{sizes:?}");
    Ok(())
}

#[test]
fn section_7_a_server_that_knows_no_edns_is_asked_without() -> Result<()> {
    let world = world!();
    let name = world.odd.say("old-server", |query| match query.edns {
        Some(_) => vec![Said::new().rcode(1).without_opt()],
        None => vec![Said::new().answer(&query.name, "A", 60, "192.0.2.1")],
    });
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.answer.len(), 1);
    assert!(world.odd.asked("old-server").iter().any(|query| query.edns.is_none()));
    Ok(())
}
