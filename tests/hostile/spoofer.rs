//! Forged answers from a host off the path, that knows what is asked, of whom and when.
//!
//! It has the server's address on a device of its own and a way to the resolver; reverse path
//! filters are off. What it does not see are the port and the id of a question, and the case of
//! its letters. That its messages arrive, and are believed by who is told these, is part of the
//! test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{Ask, Namespace, Wire};

use crate::authority::{Server, address};
use crate::site::{Site, TARGET};
use crate::stream::{FORGED, Stream, Times};
use crate::{campaign, need_lab};

#[test]
fn an_off_path_spoofer_lands_nothing() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let forger = Forger::new(&site)?;
    // What is asked for `told` the forger is told, and nobody else answers it.
    let (tell, told) = mpsc::sync_channel(16);
    let server = Server::start(&site.upstream, TARGET, NEAR, move |question, client| {
        if question.get(13..17).is_some_and(|label| label.eq_ignore_ascii_case(b"told")) {
            let _ = tell.try_send((question.to_vec(), client));
            return None;
        }
        address(question, TRUE)
    })?;
    let daemon = site.daemon("", "[dnssec]\nvalidate = false\n")?;
    site.warm("first.target.test.").with_context(|| daemon.log())?;

    // Its messages are good ones: with port, id and letters they are believed.
    let believed = thread::scope(|scope| -> Result<bool> {
        let client = scope.spawn(|| site.client.ask(site.at(53), &Ask::new(TOLD, "A")));
        let (question, client_of) = told.recv_timeout(Duration::from_secs(3))?;
        let forged = address(&question, FORGED).context("a question")?;
        forger.socket.send_to(&forged, client_of)?;
        let reply = client.join().map_err(|_| anyhow!("the client panicked"))??;
        Ok(reply.answer.first().is_some_and(|record| record.data == FORGED))
    })?;
    ensure!(believed, "what the spoofer sends is believed by nobody, so the test shows nothing");

    let before = received(&site.server)?;
    let asked = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&asked);
    let begun = Instant::now();
    let stream = Stream::start(&site.client, site.at(53), RATE, move |n| {
        now.store(n, Ordering::Relaxed);
        Ask::new(&name(n), "A")
    })?;
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let work = scope.spawn(|| forger.flood(&asked, &stop));
        campaign().map(sleep)?;
        stop.store(true, Ordering::Relaxed);
        work.join().map_err(|_| anyhow!("the spoofer panicked"))
    })?;
    let took = begun.elapsed();
    let all = stream.finish()?;
    let answers = Times::of(&all, begun, Instant::now());
    let arrived = received(&site.server)? - before;
    println!("{sent} forged messages in {took:?}, {arrived} datagrams came; {answers}");
    ensure!(sent as f64 >= 0.9 * f64::from(FORGERIES) * campaign()?.as_secs_f64(), "{sent} sent");
    ensure!(arrived >= sent as u64 * 9 / 10, "{arrived} of {sent} came: they are filtered");
    ensure!(answers.forged == 0, "{} forged answers were given", answers.forged);
    ensure!(answers.lost + answers.failed <= answers.asked / 1_000, "{answers}");
    // Nor does anything forged lie in the cache: all is asked again, and nobody asked for it.
    let (before, again) = (server.asked(), answers.asked);
    let from = Instant::now();
    let stream = Stream::start(&site.client, site.at(53), RATE, move |n| {
        Ask::new(&name(n % again.max(1)), "A")
    })?;
    sleep(Duration::from_secs_f64(again as f64 / f64::from(RATE)));
    let cached = Times::of(&stream.finish()?, from, Instant::now());
    println!("again: {cached}, {} of them asked of the server", server.asked() - before);
    ensure!(cached.asked >= again * 9 / 10, "{cached}");
    ensure!(cached.forged == 0, "{} forged answers are in the cache", cached.forged);
    // The address of the zone's server is what it was.
    site.warm("last.target.test.").with_context(|| daemon.log())?;
    ensure!(server.asked() > before, "the zone has another server now");
    Ok(())
}

/// A host beside the path with the address of the zone's server.
struct Forger {
    socket: UdpSocket,
    _inside: Namespace,
}

impl Forger {
    fn new(site: &Site) -> Result<Self> {
        let inside = Namespace::new("offpath")?;
        let wire = Wire::between(&inside, "o0", &site.server, "s2", 3)?;
        inside.address("lo", &format!("{TARGET}/32"))?;
        inside.ip(&["route", "add", &format!("{RESOLVER}/32"), "via", &wire.far.to_string()])?;
        for device in ["all", "s2"] {
            site.server.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0")?;
        }
        let socket = inside.enter(|| UdpSocket::bind((TARGET, 53)))??;
        // Where nobody listens, the resolver's host says so; that is not our affair.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, _inside: inside })
    }

    /// Sends forged answers to what is being asked until it is to stop, with ids and ports out of
    /// all that may be. Says how many.
    fn flood(&self, asked: &AtomicUsize, stop: &AtomicBool) -> usize {
        let (begun, mut sent, mut random) = (Instant::now(), 0, 0x2545_f491_4f6c_dd1d_u64);
        while !stop.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * f64::from(FORGERIES)) as usize;
            while sent < due {
                // Marsaglia's xorshift: any chance will do.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // One of those that are on their way.
                let newest = asked.load(Ordering::Relaxed);
                let n = newest.saturating_sub((random >> 40) as usize % UNDER_WAY);
                let question = Ask { id: Some(random as u16), ..Ask::new(&name(n), "A") }.bytes();
                let Some(forged) = address(&question, FORGED) else { break };
                let port = PORTS.0 + (random >> 16) as u16 % (PORTS.1 - PORTS.0 + 1);
                let _ = self.socket.send_to(&forged, SocketAddr::from((RESOLVER, port)));
                sent += 1;
            }
            sleep(Duration::from_micros(500));
        }
        sent
    }
}

/// Datagrams that came to a namespace, whether or not anybody wanted them.
fn received(inside: &Namespace) -> Result<u64> {
    let text = inside.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let wanted = pairs.filter(|(name, _)| ["InDatagrams", "NoPorts"].contains(name));
    Ok(wanted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
}

fn name(n: usize) -> String {
    format!("fresh-name-{n}.target.test.")
}

const TOLD: &str = "told.target.test.";
const TRUE: [u8; 4] = [192, 0, 2, 1];
/// From where the daemon asks the zone's server.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 53, 2, 1);
/// The ports that Linux gives: a spoofer knows as much.
const PORTS: (u16, u16) = (32_768, 60_999);
/// A second.
const FORGERIES: u32 = 20_000;
const RATE: u32 = 500;
/// How long the true answer takes: as long may a forged one be before it.
const NEAR: Duration = Duration::from_millis(50);
/// Questions that are on their way at one time, at this rate.
const UNDER_WAY: usize = 25;
