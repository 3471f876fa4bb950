//! The harness on itself: what it makes works, and is gone afterwards.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::internet::{Fault, Host, Internet, Link, Nameserver, Plan};
use lab::{Ask, Authority, Delay, Namespace, Reply, Upstream, Wire, dig, kdig, tcp, zones};

/// Says why the lab isn't there, once a test.
fn no_lab() -> bool {
    let missing = lab::available();
    if let Err(why) = &missing {
        eprintln!("skipped: {why}");
    }
    missing.is_err()
}

#[test]
fn knot_answers_for_every_zone_over_ipv4_and_ipv6() -> Result<()> {
    if no_lab() {
        return Ok(());
    }
    let (client, server) = (Namespace::new("client")?, Namespace::new("auth")?);
    let wire = Wire::between(&client, "c0", &server, "a0", 9)?;
    let at: [IpAddr; 2] = [wire.far.into(), wire.far6.into()];
    let zones = [zones::lab(), zones::signed(), zones::bench(50)];
    let authority = Authority::start(&server, &at, &zones)?;
    for &address in authority.addresses() {
        let reply = client.ask(address, &Ask::new("WWW.lab.test.", "AAAA"))?;
        assert_eq!(reply.answer[0].text(), "2001:db8::1");
        assert_eq!(reply.question, Some(("WWW.lab.test.".to_owned(), 28)));
        let reply = client.ask(address, &Ask::new("n000049.bench.test.", "A"))?;
        assert_eq!(reply.answer[0].text(), "198.51.0.49");
        let reply = client.ask(address, &Ask::new("nothing.signed.test.", "A").dnssec())?;
        assert_eq!(reply.rcode(), 3);
        assert!(reply.authority.iter().any(|record| record.rtype == 47), "an NSEC denies it");
    }
    let reply = client.ask(authority.addresses()[0], &Ask::new("many.lab.test.", "A"))?;
    assert!(reply.truncated());
    assert!(authority.trust_anchor("signed.test.")?.contains(" DS "));
    let text = dig(&client, authority.addresses()[0], &["svc.lab.test", "HTTPS", "+short"])?;
    assert!(text.contains("alpn"), "{text}");
    let text = kdig(&client, authority.addresses()[1], &["eight.lab.test", "A", "+short"])?;
    assert_eq!(text.lines().count(), 8);
    Ok(())
}

#[test]
fn a_guard_removes_the_namespace_and_what_runs_in_it() -> Result<()> {
    if no_lab() {
        return Ok(());
    }
    let inside = Namespace::new("gone")?;
    let name = inside.name().to_owned();
    let mut child = inside.command("sleep").arg("60").spawn()?;
    let own = inside.enter(|| std::fs::read_link("/proc/thread-self/ns/net"))??;
    let of_child = format!("/proc/{}/ns/net", child.id());
    lab::wait::until("the child to be inside", lab::wait::READY, || {
        std::fs::read_link(&of_child).is_ok_and(|namespace| namespace == own)
    })?;
    drop(inside);
    assert!(Namespace::existing(&name).is_none());
    assert!(!child.wait()?.success(), "it was killed");
    Ok(())
}

#[test]
fn a_silent_upstream_counts_what_it_was_asked() -> Result<()> {
    if no_lab() {
        return Ok(());
    }
    let inside = Namespace::new("silent")?;
    let mut first = true;
    let upstream = Upstream::start(&inside, "127.0.0.1:0".parse()?, move |query| {
        let silent = std::mem::take(&mut first);
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        (!silent).then_some(answer)
    })?;
    let at: SocketAddr = upstream.address();
    let bytes = Ask::new("a.test.", "A").bytes();
    let bound = Duration::from_millis(100);
    assert!(inside.enter(|| lab::udp(at, &bytes, bound))?.is_err());
    assert_eq!(inside.ask(at, &Ask::new("a.test.", "A"))?.rcode(), 0);
    assert_eq!(upstream.asked(), 2);
    Ok(())
}

#[test]
fn a_fake_internet_is_there_in_seconds_and_each_server_has_its_zones() -> Result<()> {
    if no_lab() {
        return Ok(());
    }
    let plan = Plan::of_seed(7);
    let begun = Instant::now();
    // On another port, as a relay in between would have it.
    let internet = Internet::start_on(&plan, 1_053)?;
    println!("{} zones after {:?}", plan.zones.len(), begun.elapsed());
    let place = internet.attach("client")?;
    let ask = |server: &Nameserver, ask: &Ask| {
        // Those without addresses of their own are named by another zone.
        let at = server.addresses.first().map(|ip| (*ip, 1_053).into());
        at.map(|at| place.namespace.ask(at, ask))
    };
    let mut silent = 0;
    for zone in &plan.zones {
        for server in &zone.nameservers {
            // All that are dead are so at one address: one wait is enough.
            silent += usize::from(server.host == Host::Dead);
            if server.host == Host::Dead && silent > 1 {
                continue;
            }
            let Some(reply) = ask(server, &Ask::new(&zone.name, "SOA").dnssec()) else { continue };
            match server.host {
                Host::Alive(_) => {
                    let reply = reply?;
                    assert!(reply.authoritative() && reply.of_type("SOA").count() == 1);
                    let signed = zone.signing.is_some() && zone.fault != Some(Fault::Unsigned);
                    assert_eq!(reply.of_type("RRSIG").count() > 0, signed, "{}", zone.name);
                }
                // It refuses, or has the zone above and refers to itself.
                Host::Lame(_) => {
                    let reply = reply?;
                    assert!(reply.rcode() == 5 || !reply.authoritative(), "{}", zone.name);
                }
                Host::Dead => assert!(reply.is_err(), "{}", zone.name),
            }
        }
        // The DS is at the zone above, or is not.
        let Some(above) = zone.above else { continue };
        let server = plan.zones[above].nameservers.iter().find(|s| !s.addresses.is_empty());
        let Some(Ok(reply)) = server.and_then(|s| ask(s, &Ask::new(&zone.name, "DS").dnssec()))
        else {
            continue;
        };
        let shown = zone.signing.is_some() && zone.link != Link::None;
        assert_eq!(reply.of_type("DS").count() > 0, shown, "{}", zone.name);
    }
    assert!(std::fs::read_to_string(internet.hints())?.contains(" A 10.53.16."));
    assert!(std::fs::read_to_string(internet.trust_anchor())?.starts_with(". 3600 IN DS "));
    Ok(())
}

#[test]
fn a_path_takes_its_time_over_udp_and_tcp() -> Result<()> {
    if no_lab() {
        return Ok(());
    }
    let inside = Namespace::new("path")?;
    let at: IpAddr = "10.53.9.1".parse()?;
    inside.address("lo", "10.53.9.1/32")?;
    let _server = Upstream::start(&inside, (at, 5_353).into(), |query| {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        Some(reply)
    })?;
    let length = Duration::from_millis(60);
    let _path = Delay::start(&inside, 5_353, &[(at, length)])?;
    let start = Instant::now();
    let ask = Ask { id: Some(0x1234), ..Ask::new("www.test.", "A") };
    let reply = inside.ask((at, 53).into(), &ask)?;
    assert_eq!(reply.id(), 0x1234, "its own id is back");
    assert!(start.elapsed() >= length, "{:?}", start.elapsed());
    // Over TCP: one round trip for the connection, one for the question.
    let echo = inside.enter(|| TcpListener::bind((at, 5_353)))??;
    let echo = std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = echo.accept()?;
        let mut message = [0; 2 + 12 + 10 + 4];
        stream.read_exact(&mut message)?;
        message[4] |= 0x80;
        Ok(stream.write_all(&message)?)
    });
    let start = Instant::now();
    let reply = inside.enter(|| tcp((at, 53).into(), &ask.bytes(), Duration::from_secs(3)))??;
    assert!(start.elapsed() >= 2 * length, "{:?}", start.elapsed());
    assert_eq!(Reply::parse(&reply)?.question, Some(("www.test.".to_owned(), 1)));
    assert!(echo.join().is_ok_and(|done| done.is_ok()));
    Ok(())
}
