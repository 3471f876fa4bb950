//! RFC 9018: server cookies that servers of one name can share.

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use lab::{Ask, Daemon, Reply};

use crate::world::{OTHER_CLIENT, World, world};

const COOKIE: u16 = 10;
const CLIENT: &[u8] = b"8 octets";

fn cookie(world: &World, daemon: &Daemon, sent: &[u8]) -> Result<Vec<u8>> {
    let reply = world.ask_of(daemon, &Ask::new("www.plain.test.", "A").option(COOKIE, sent))?;
    found(&reply)
}

fn found(reply: &Reply) -> Result<Vec<u8>> {
    let options = reply.edns.as_ref().map(|edns| edns.options.clone()).unwrap_or_default();
    let cookie = options.into_iter().find(|(code, _)| *code == COOKIE);
    cookie.map(|(_, data)| data).ok_or_else(|| anyhow::anyhow!("no cookie: {reply:?}"))
}

#[test]
fn section_4_a_server_cookie_is_of_version_1_with_the_time_it_was_made() -> Result<()> {
    let world = world!();
    let given = cookie(&world, &world.daemon, CLIENT)?;
    assert_eq!(given.len(), 24, "8 octets of the client, 16 of the server");
    assert_eq!(given[8..12], [1, 0, 0, 0], "the version, and what is reserved");
    let made = u32::from_be_bytes([given[12], given[13], given[14], given[15]]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    assert!((now as u32).abs_diff(made) <= 300, "{made} is not about {now}");
    Ok(())
}

#[test]
fn section_4_3_one_from_an_hour_ago_or_from_the_future_is_made_anew() -> Result<()> {
    let world = world!();
    let given = cookie(&world, &world.daemon, CLIENT)?;
    let made = u32::from_be_bytes([given[12], given[13], given[14], given[15]]);
    for moved in [made - 3_700, made + 400] {
        let mut sent = given.clone();
        sent[12..16].copy_from_slice(&moved.to_be_bytes());
        assert_ne!(cookie(&world, &world.daemon, &sent)?, sent);
    }
    Ok(())
}

#[test]
fn section_4_4_it_is_bound_to_the_address_of_its_client() -> Result<()> {
    let world = world!();
    let given = cookie(&world, &world.daemon, CLIENT)?;
    let at = world.at();
    let query = Ask::new("www.plain.test.", "A").option(COOKIE, &given).bytes();
    let answer = world.inside.enter(|| -> Result<Vec<u8>> {
        let socket = UdpSocket::bind((OTHER_CLIENT, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(&query, at)?;
        let mut buffer = [0; 4_096];
        let len = socket.recv(&mut buffer)?;
        Ok(buffer[..len].to_vec())
    })??;
    let other = found(&Reply::parse(&answer)?)?;
    assert!(other[..8] == given[..8] && other[16..] != given[16..]);
    Ok(())
}

#[test]
fn section_5_servers_with_one_secret_take_each_others_cookies_and_a_new_one_is_rolled_in()
-> Result<()> {
    let world = world!();
    let of = |secrets: &str| world.daemon_of(&format!("cookies.secrets = [{secrets}]"), "");
    let (old, new) =
        ("\"000102030405060708090a0b0c0d0e0f\"", "\"f0e1d2c3b4a5968778695a4b3c2d1e0f\"");
    let [one, two, three, four] = [of(old)?, of(old)?, of(&format!("{new}, {old}"))?, of(new)?];
    // Both are asked from one address, or a cookie could not be the same.
    let ask = |daemon: &Daemon, sent: &[u8]| -> Result<Vec<u8>> {
        let at = daemon.listen();
        let query = Ask::new("www.plain.test.", "A").option(COOKIE, sent).bytes();
        let answer = world.inside.enter(|| -> Result<Vec<u8>> {
            let socket = UdpSocket::bind((OTHER_CLIENT, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.send_to(&query, at)?;
            let mut buffer = [0; 4_096];
            let len = socket.recv(&mut buffer)?;
            Ok(buffer[..len].to_vec())
        })??;
        found(&Reply::parse(&answer)?)
    };
    let given = ask(&one, CLIENT)?;
    assert_eq!(ask(&two, &given)?, given);
    let counted = |daemon: &Daemon, result: &str| {
        daemon.metric("resolverd_policy_cookies_total", &[("cookie", result)])
    };
    ask(&three, &given)?;
    assert!(counted(&three, "valid")? >= 1.0, "the older of two is still believed");
    assert_ne!(ask(&four, &given)?, given, "and not when it is gone");
    Ok(())
}
