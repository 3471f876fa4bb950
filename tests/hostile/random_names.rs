//! Names made up by the thousand, all in one zone ("water torture").

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Authority, Daemon, Signed, Zone};

use crate::authority::{Server, address, denial};
use crate::site::{OTHERS, Site, TARGET};
use crate::stream::{Stream, Times};
use crate::{calm, campaign, need_lab};

#[test]
fn names_made_up_in_a_slow_zone_leave_the_others_their_times() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let slow = Server::start(&site.upstream, TARGET, SLOW, |question, _| {
        denial(question, b"\x06target\x04test\0")
    })?;
    let others = others(&site)?;
    let daemon = site.daemon("", "[dnssec]\nvalidate = false\n")?;
    let flood = flooded(&site, &daemon)?;
    let shed = daemon.metric("resolverd_resolver_flights_shed_total", &[])?;
    println!("unsigned: {} names reached the slow server, {shed} were shed", slow.asked());
    println!("unsigned: the others' server was asked {} times", others.asked());
    // More than a zone's share were under way.
    ensure!(shed > 0.0, "`resolve.queries-in-flight-per-zone-max` turned nobody away");
    // The zone itself is still served, as far as its bound lets it.
    ensure!(slow.asked() > flood.asked / 100, "nothing was asked of the zone's server");
    Ok(())
}

#[test]
fn names_made_up_in_a_signed_zone_cost_its_servers_next_to_nothing() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let text = "@ SOA ns admin 1 3600 900 604800 3600\n@ NS ns\nns A 10.53.2.3\n\
                apple A 192.0.2.1\nlemon A 192.0.2.2\nquince A 192.0.2.3\n";
    let text = format!("$ORIGIN target.test.\n$TTL 3600\n{text}");
    let zone = Zone { name: "target.test.".into(), text, signed: Signed::Nsec };
    let authority = Authority::start(&site.upstream, &[TARGET.into()], &[zone])?;
    let others = others(&site)?;
    let anchor = authority.trust_anchor("target.test.")?;
    let anchor = site.folder().write("anchors", &format!("{anchor}\n"))?;
    let sections = format!(
        "[dnssec]\nvalidate = true\nrfc5011 = false\nanchor-signalling = false\n\
         trust-anchor-files = [\"{}\"]\nnegative-trust-anchors = [\"others.test.\"]\n",
        anchor.display()
    );
    let daemon = site.daemon("", &sections)?;
    let flood = flooded(&site, &daemon)?;
    let asked = daemon.metric("resolverd_upstream_queries_total", &[])? - others.asked() as f64;
    let made = daemon.metric("resolverd_dnssec_synthesised_total", &[])?;
    println!("signed: {asked} questions for {} names, {made} answers made here", flood.asked);
    // Those that were under way before the first denials had come and were checked.
    ensure!(asked <= QUESTIONS_MAX, "{asked} questions reached the zone's server");
    ensure!(flood.failed * 100 <= flood.asked, "{flood}");
    Ok(())
}

/// The server of the names that honest clients ask for.
fn others(site: &Site) -> Result<Server> {
    Server::start(&site.upstream, OTHERS, NEAR, |question, _| address(question, [192, 0, 2, 1]))
}

/// Times of others, for names that are in the cache and for names that are not, before and
/// during the flood. Says what became of the flood.
fn flooded(site: &Site, daemon: &Daemon) -> Result<Times> {
    for n in 0..CACHED {
        site.warm(&format!("c{n}.others.test.")).with_context(|| daemon.log())?;
    }
    let start = |name: fn(usize) -> String| {
        Stream::measured(&site.client, site.at(53), 200, move |n| Ask::new(&name(n), "A"))
    };
    let cached = start(|n| format!("c{}.others.test.", n % CACHED))?;
    let fresh = start(|n| format!("f{n}.others.test."))?;
    sleep(Duration::from_secs(1));
    let begun = Instant::now();
    sleep(calm()?);
    let flooded = Instant::now();
    let flood = Stream::start(&site.client, site.at(53), FLOOD, |n| {
        Ask::new(&format!("{}.target.test.", made_up(n)), "A")
    })?;
    sleep(campaign()?);
    let ended = Instant::now();
    let flood = Times::of(&flood.finish()?, flooded, ended);
    println!("flood: {flood}");
    for (who, stream) in [("cached", cached), ("fresh", fresh)] {
        let all = stream.finish()?;
        let (before, during) = (Times::of(&all, begun, flooded), Times::of(&all, flooded, ended));
        println!("{who} names before: {before}\n{who} names during: {during}");
        ensure!(during.p99 <= before.p99_max(), "{who} names: p99 {:?}", during.p99);
        ensure!(during.lost + during.failed <= during.asked / 1_000, "{who} names: {during}");
    }
    let least = campaign()?.as_secs() as usize * FLOOD as usize * 9 / 10;
    ensure!(flood.asked >= least, "the flood was no flood: {flood}");
    Ok(flood)
}

/// A label that nobody asked for yet, anywhere in the order of names.
fn made_up(n: usize) -> String {
    format!("{:013x}", (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12)
}

/// Names a second.
const FLOOD: u32 = 10_000;
/// How long the servers take: of the zone under attack, and of the others.
const SLOW: Duration = Duration::from_millis(100);
const NEAR: Duration = Duration::from_millis(10);
const CACHED: usize = 50;

/// `resolve.queries-in-flight-per-zone-max`: a zone of few names has few gaps, and what is under
/// way when the flood begins may be asked.
const QUESTIONS_MAX: f64 = 512.0;
