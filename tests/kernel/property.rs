//! Entries that are written, flushed, written again and expire, while packets hit them.
//!
//! An upstream of our own never says the same twice: every answer carries its name, its number
//! and its length all through. So each answer tells whether it is of one piece, whose it is, how
//! old it is, and whether a flush that was done before the question should have ended it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{iter, thread};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Ask, Daemon, Reply, Upstream};
use resolverd_common::counters::Reason;

use crate::operator::Operator;
use crate::site::{Link, SERVER, needs_the_kernel};

/// Questioners at once.
const THREADS: u64 = 4;
/// How long they ask.
const TIME: Duration = Duration::from_secs(30);
/// How long nothing is flushed, and how often, in seconds: as long as the longest TTL.
const REST: u64 = 5;
const REST_EACH: u64 = 15;
/// More names than the smallest map has elements: entries push each other out.
const NAMES: usize = 500;
/// Names that every second question is about.
const HOT: u64 = 40;

#[test]
fn no_answer_is_torn_foreign_flushed_or_past_its_time() -> Result<()> {
    needs_the_kernel!("thirty seconds of writes, flushes and hits");
    let seed = match std::env::var("RESOLVERD_SEED") {
        Ok(text) => text.parse().context("RESOLVERD_SEED is a number")?,
        Err(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64,
    };
    println!("seed: RESOLVERD_SEED={seed}");
    let world: &'static World = Box::leak(Box::new(World::new(seed)));

    let link = Link::new()?;
    let at = "127.0.0.1:5353".parse()?;
    let upstream = Upstream::start(&link.server, at, |query| world.answer(query))?;
    let daemon = Daemon::start(&link.server, &config(&link, 0))?;
    let operator = Operator::of(&daemon);
    operator.attached(SERVER)?;
    let before = operator.counts()?;
    let daemon_at = SocketAddr::from((link.ends.wire.far, 53));
    let end = Instant::now() + TIME;
    let stop = AtomicBool::new(false);
    let (stop, link_, daemon_, operator_) = (&stop, &link, &daemon, &operator);
    let asked: u64 = thread::scope(|scope| -> Result<u64> {
        let disturb = scope.spawn(move || world.disturb(link_, daemon_, operator_, end, stop));
        let ask = |thread: u64| {
            let ask = move || world.ask(Random::new(seed ^ thread), daemon_at, end, stop);
            scope.spawn(move || {
                let asked = link_.client.enter(ask).and_then(|result| result);
                if asked.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                asked
            })
        };
        let threads: Vec<_> = (1..=THREADS).map(ask).collect();
        let mut asked = 0;
        for thread in threads {
            asked += thread.join().expect("a questioner does not panic")?;
        }
        let disturbed = disturb.join().expect("the disturber does not panic")?;
        println!("{asked} questions, {disturbed} flushes and reloads");
        Ok(asked)
    })?;
    let counted = operator.counts()?.since(&before).of_dns();
    println!("{counted}; upstream asked {} times", upstream.asked());
    ensure!(asked > 2_000, "only {asked} questions were answered: nothing is shown by that");
    ensure!(counted.hits() > asked / 10, "{} hits of {asked}", counted.hits());
    ensure!(counted.passed(Reason::Flushed) > 0, "{counted}: nothing was flushed under way");
    ensure!(counted.passed(Reason::Expired) > 0, "{counted}: nothing expired under way");
    Ok(())
}

fn config(link: &Link, serial: u64) -> String {
    // The smallest maps there are; the mode that makes room for every answer.
    let kernel = "mode = \"tc\"\nentries = 256\nentries-256 = 256\nentries-512 = 256\n\
                  entries-1280 = 256";
    let config = link.config(kernel).replace("192.0.2.53:53", "127.0.0.1:5353");
    format!(
        "{config}[[zone]]\nname = \"serial.test.\"\nkind = \"static\"\nrecords = [\n\
         \"@ 3600 IN SOA ns.serial.test. admin.serial.test. 1 3600 900 604800 300\",\n\
         \"@ 3600 IN TXT \\\"{serial}\\\"\",\n]\n"
    )
}

/// What was said, and what may no longer be said.
struct World {
    seed: u64,
    /// One for each answer of the upstream: its number is its place.
    said: Mutex<Vec<Said>>,
    /// Answers to a name with a lower number were flushed.
    floors: Vec<AtomicU64>,
    /// The serial of the local zone that was loaded last.
    serial: AtomicU64,
}

#[derive(Clone, Copy)]
struct Said {
    name: usize,
    ttl: u32,
    at: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let floors = iter::repeat_with(|| AtomicU64::new(0)).take(NAMES).collect();
        Self { seed, said: Mutex::new(Vec::new()), floors, serial: AtomicU64::new(0) }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Vec<Said>> {
        self.said.lock().expect("nobody panics with it")
    }

    /// The upstream: an answer that was never given before.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let end = 12 + query.get(12..)?.iter().position(|octet| *octet == 0)? + 5;
        let name = name_of(query.get(12..end)?)?;
        let number = self.said().len();
        let mut random = Random::new(self.seed.wrapping_add(number as u64));
        let ttl = 2 + random.below(4) as u32;
        self.said().push(Said { name, ttl, at: Instant::now() });
        // From the smallest size class of the maps to the largest.
        let words = [2, 12, 40, 110][random.below(4) as usize];
        let mark = mark(name, number);
        let text: Vec<u8> = iter::repeat_n(mark, words).flatten().collect();
        let mut data = Vec::new();
        for piece in text.chunks(248) {
            data.push(piece.len() as u8);
            data.extend(piece);
        }
        let mut answer = query[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend(crate::message::record(b"\xc0\x0c", 16, 1, ttl, &data));
        Some(answer)
    }

    /// Flushes one thing after the other; gives how many.
    fn disturb(
        &self,
        link: &Link,
        daemon: &Daemon,
        operator: &Operator,
        end: Instant,
        stop: &AtomicBool,
    ) -> Result<u64> {
        let mut random = Random::new(self.seed.rotate_left(32));
        let mut done = 0;
        let begun = Instant::now();
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            // Now and then nothing is flushed for as long as answers need to expire.
            if begun.elapsed().as_secs() % REST_EACH >= REST_EACH - REST {
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            let floor = self.said().len() as u64;
            let kind = random.below(40);
            let flushed = match kind {
                0 => {
                    operator.flush_all()?;
                    0..NAMES
                }
                1 => {
                    operator.flush_zone("even.test.")?;
                    0..NAMES
                }
                2 => {
                    let serial = self.serial.load(Ordering::Relaxed) + 1;
                    daemon.rewrite(&config(link, serial))?;
                    operator.reload()?;
                    self.serial.store(serial, Ordering::SeqCst);
                    0..0
                }
                3..20 => {
                    let name = random.below(HOT) as usize;
                    operator.flush_name(&text_of(name))?;
                    name..name + 1
                }
                _ => {
                    let name = random.below(NAMES as u64) as usize;
                    operator.flush_name(&text_of(name))?;
                    name..name + 1
                }
            };
            for name in flushed.filter(|name| kind != 1 || name.is_multiple_of(2)) {
                self.floors[name].fetch_max(floor, Ordering::SeqCst);
            }
            done += 1;
            thread::sleep(Duration::from_millis(random.below(40)));
        }
        Ok(done)
    }

    /// Asks one question after the other; gives how many were answered.
    fn ask(
        &self,
        mut random: Random,
        daemon: SocketAddr,
        end: Instant,
        stop: &AtomicBool,
    ) -> Result<u64> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(daemon)?;
        socket.set_read_timeout(Some(LOST))?;
        let mut buffer = [0; 4_096];
        let mut answered = 0;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            let few = random.below(2) == 0;
            let name = random.below(if few { HOT } else { NAMES as u64 }) as usize;
            let local = random.below(20) == 0;
            let text = if local { "serial.test.".to_owned() } else { text_of(name) };
            let mut ask = Ask::new(&random.casing(&text), "TXT");
            ask.checking_disabled = random.below(8) == 0;
            ask = match random.below(8) {
                0 => ask,
                1 => ask.dnssec(),
                _ => ask.edns(1232),
            };
            let query = ask.bytes();
            let serial = self.serial.load(Ordering::SeqCst);
            let floor = self.floors[name].load(Ordering::SeqCst);
            let sent = Instant::now();
            socket.send(&query)?;
            let Some(octets) = receive(&socket, &query, &mut buffer)? else { continue };
            answered += 1;
            let seen = || format!("{text}: {}", crate::message::hex(octets));
            ensure!(octets.get(12..12 + text.len() + 1) == query.get(12..12 + text.len() + 1));
            let reply = Reply::parse(octets).with_context(seen)?;
            if reply.rcode() != 0 {
                // The daemon may have been too busy; it may not make something up.
                ensure!(reply.rcode() == 2 && reply.answer.is_empty(), "{}", seen());
                continue;
            }
            if reply.truncated() {
                ensure!(ask.edns.is_none() && reply.answer.is_empty(), "{}", seen());
                continue;
            }
            let [record] = &*reply.answer else { bail!("not one record: {}", seen()) };
            if local {
                let digits = String::from_utf8(record.data[1..].to_vec())?;
                ensure!(digits.parse::<u64>()? >= serial, "before {serial}: {}", seen());
            } else {
                let fact = Fact { name, floor, sent };
                self.check(&fact, record.ttl, &record.data).with_context(seen)?;
            }
        }
        Ok(answered)
    }

    fn check(&self, fact: &Fact, ttl: u32, data: &[u8]) -> Result<()> {
        let (mut text, mut rest) = (Vec::new(), data);
        while let Some((len, after)) = rest.split_first() {
            let (piece, after) =
                after.split_at_checked((*len).into()).context("text ends early")?;
            text.extend(piece);
            rest = after;
        }
        let words: Vec<&[u8]> = text.chunks(8).collect();
        let first = *words.first().context("no text")?;
        ensure!(words.iter().all(|word| *word == first), "of more than one piece");
        let number = u64::from_be_bytes(first.try_into()?) & 0xffff_ffff;
        let said = self.said().get(number as usize).copied().context("never said")?;
        ensure!(first == mark(said.name, number as usize), "never said so");
        ensure!(said.name == fact.name, "said of {}", text_of(said.name));
        ensure!(ttl <= said.ttl, "TTL {ttl}, and {} originally", said.ttl);
        ensure!(number >= fact.floor, "{number} was flushed by a flush after {}", fact.floor);
        // The daemon had it a moment after it was said, so its time ends a moment later.
        let age = fact.sent.saturating_duration_since(said.at);
        let life = Duration::from_secs(said.ttl.into()) + SLACK;
        ensure!(age < life, "{age:?} old, with a TTL of {} originally", said.ttl);
        Ok(())
    }
}

/// What was known when a question was sent.
struct Fact {
    name: usize,
    floor: u64,
    sent: Instant,
}

fn receive<'a>(socket: &UdpSocket, query: &[u8], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    loop {
        match socket.recv(buffer) {
            Ok(len) if buffer.get(..2) == query.get(..2) => return Ok(Some(&buffer[..len])),
            // The answer to a question before, that came too late.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A name by its number; half of them are below `even.test.`
fn text_of(name: usize) -> String {
    let zone = if name.is_multiple_of(2) { "even" } else { "odd" };
    format!("n{name:04}.{zone}.test.")
}

fn name_of(question: &[u8]) -> Option<usize> {
    let digits = question.get(2..6)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Eight octets that say which answer to which name they belong to.
fn mark(name: usize, number: usize) -> [u8; 8] {
    ((name as u64) << 32 | number as u64).to_be_bytes()
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// The same name with letters of either case.
    fn casing(&mut self, name: &str) -> String {
        let mut bits = self.next();
        let turn = |letter: char| {
            bits = bits.rotate_right(1);
            if bits & 1 == 0 { letter } else { letter.to_ascii_uppercase() }
        };
        name.chars().map(turn).collect()
    }
}

/// An answer that did not come within this was lost: the load is meant to be too much at times.
const LOST: Duration = Duration::from_millis(500);

/// Between what the upstream said and what the daemon stored lies a moment, and a busy machine.
const SLACK: Duration = Duration::from_secs(1);
