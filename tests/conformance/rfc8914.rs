//! RFC 8914: extended errors, that say why.

use anyhow::Result;
use lab::Ask;

use crate::world::world;

#[test]
fn section_2_an_extended_error_needs_an_opt_to_be_in() -> Result<()> {
    let world = world!();
    let with = world.ask(&Ask::new("www.broken.test.", "A").edns(1_232))?;
    assert_eq!((with.rcode(), with.ede().len()), (2, 1));
    let without = world.ask(&Ask::new("www.broken.test.", "A"))?;
    assert_eq!((without.rcode(), without.edns.is_none()), (2, true));
    Ok(())
}

#[test]
fn section_2_its_text_is_utf_8_without_an_end_of_its_own() -> Result<()> {
    let world = world!();
    let reply = world.ask(&Ask::new("www.broken.test.", "A").edns(1_232))?;
    let options = reply.edns.map(|edns| edns.options).unwrap_or_default();
    for (_, data) in options.iter().filter(|(code, _)| *code == 15) {
        let text = std::str::from_utf8(&data[2..])?;
        assert!(!text.ends_with('\0'), "{text:?}");
    }
    Ok(())
}

#[test]
fn section_4_each_cause_has_its_code() -> Result<()> {
    let world = world!();
    world.odd.say("silent", |_| Vec::new());
    world.odd.say("refusing", |_| vec![crate::scripted::Said::new().rcode(5)]);
    for (name, codes) in [
        // DNSKEY Missing; No Reachable Authority, Network Error.
        ("www.broken.test.", &[9][..]),
        ("silent.odd.test.", &[22, 23]),
        ("refusing.odd.test.", &[22, 23]),
    ] {
        let reply = world.ask(&Ask::new(name, "A").edns(1_232))?;
        assert_eq!(reply.rcode(), 2, "{name}");
        assert!(reply.ede().iter().any(|code| codes.contains(code)), "{name}: {:?}", reply.ede());
    }
    Ok(())
}

#[test]
fn section_2_a_failure_that_was_kept_still_has_its_cause() -> Result<()> {
    let world = world!();
    let name = world.odd.say("kept-failure", |_| Vec::new());
    let ask = Ask::new(&name, "A").edns(1_232);
    let first = world.ask(&ask)?.ede();
    assert_eq!(world.ask(&ask)?.ede(), first);
    assert!(!first.is_empty());
    Ok(())
}

#[test]
fn section_4_19_a_client_that_is_not_served_is_told_so() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("acl.deny = [\"10.53.3.0/24\"]", "")?;
    // From the daemon's own address: that is where a local client's packets come from.
    let reply = world.ask_of(&daemon, &Ask::new("www.plain.test.", "A").edns(1_232))?;
    assert_eq!((reply.rcode(), reply.ede()), (5, vec![18]), "Prohibited");
    Ok(())
}
