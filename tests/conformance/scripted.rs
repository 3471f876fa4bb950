//! A server that says what a test wants, and remembers what it was asked.
//!
//! It serves `odd.test.` over UDP and TCP. A test writes down what is said of one label of that
//! zone ([`Scripted::say`]), and no other test has that label.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context as _, Result};
use lab::{Namespace, Reply, qtype};

/// The zone that this server has.
pub const ZONE: &str = "odd.test.";

/// What came, taken apart; the bytes are the query's own.
#[derive(Debug, Clone)]
pub struct Query {
    pub bytes: Vec<u8>,
    /// As it was written.
    pub name: String,
    pub qtype: u16,
    pub tcp: bool,
    /// Size and DO of its OPT.
    pub edns: Option<(u16, bool)>,
}

impl Query {
    fn read(bytes: &[u8], tcp: bool) -> Option<Self> {
        // Read as what it will be answered with.
        let mut reply = bytes.to_vec();
        *reply.get_mut(2)? |= 0x80;
        let reply = Reply::parse(&reply).ok()?;
        let (name, qtype) = reply.question?;
        let edns = reply.edns.map(|edns| (edns.size, edns.dnssec_ok));
        Some(Self { bytes: bytes.to_vec(), name, qtype, tcp, edns })
    }

    pub fn recursion_desired(&self) -> bool {
        self.bytes[2] & 1 != 0
    }

    /// In lower case.
    pub fn lower(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

/// An answer to be.
#[derive(Debug, Clone, Default)]
pub struct Said {
    rcode: u8,
    truncated: bool,
    id_off_by: u16,
    without_opt: bool,
    question: Option<String>,
    sections: [Vec<Vec<u8>>; 3],
}

impl Said {
    /// NOERROR with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn rcode(mut self, rcode: u8) -> Self {
        self.rcode = rcode;
        self
    }

    pub fn truncated(mut self) -> Self {
        self.truncated = true;
        self
    }

    /// Under another id than the query's.
    pub fn wrong_id(mut self) -> Self {
        self.id_off_by = 1;
        self
    }

    /// To another question.
    pub fn to(mut self, name: &str) -> Self {
        self.question = Some(name.to_owned());
        self
    }

    pub fn without_opt(mut self) -> Self {
        self.without_opt = true;
        self
    }

    pub fn answer(self, name: &str, rtype: &str, ttl: u32, data: &str) -> Self {
        self.record(0, name, rtype, ttl, data)
    }

    pub fn authority(self, name: &str, rtype: &str, ttl: u32, data: &str) -> Self {
        self.record(1, name, rtype, ttl, data)
    }

    pub fn additional(self, name: &str, rtype: &str, ttl: u32, data: &str) -> Self {
        self.record(2, name, rtype, ttl, data)
    }

    /// With the zone's SOA: a negative answer.
    pub fn soa(self, ttl: u32, minimum: u32) -> Self {
        let data = format!("ns.odd.test. admin.odd.test. 1 3600 900 604800 {minimum}");
        self.authority(ZONE, "SOA", ttl, &data)
    }

    fn record(mut self, section: usize, name: &str, rtype: &str, ttl: u32, data: &str) -> Self {
        let mut out = wire_name(name);
        let number = qtype(rtype).unwrap_or_else(|| panic!("no type {rtype}"));
        out.extend(number.to_be_bytes());
        out.extend(1_u16.to_be_bytes());
        out.extend(ttl.to_be_bytes());
        let data = wire_data(rtype, data);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
        self.sections[section].push(out);
        self
    }

    pub fn bytes(&self, query: &Query) -> Vec<u8> {
        let id = u16::from_be_bytes([query.bytes[0], query.bytes[1]]).wrapping_add(self.id_off_by);
        let opt = query.edns.is_some() && !self.without_opt;
        // QR, AA, TC; RD as it came.
        let flags = 0x84 | u8::from(self.truncated) << 1 | query.bytes[2] & 1;
        let mut out = id.to_be_bytes().to_vec();
        out.extend([flags, self.rcode]);
        let additional = self.sections[2].len() + usize::from(opt);
        for count in [1, self.sections[0].len(), self.sections[1].len(), additional] {
            out.extend((count as u16).to_be_bytes());
        }
        out.extend(wire_name(self.question.as_ref().unwrap_or(&query.name)));
        out.extend(query.qtype.to_be_bytes());
        out.extend(1_u16.to_be_bytes());
        self.sections.iter().flatten().for_each(|record| out.extend(record));
        if opt {
            out.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
        }
        out
    }
}

type Script = Box<dyn FnMut(&Query) -> Vec<Vec<u8>> + Send>;

#[derive(Default)]
struct Book {
    scripts: HashMap<String, Script>,
    asked: Vec<Query>,
}

pub struct Scripted {
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Scripted {
    pub fn start(inside: &Namespace, at: SocketAddr) -> Result<Self> {
        let (udp, tcp) = inside
            .enter(|| -> io::Result<_> { Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?)) })?
            .with_context(|| format!("a scripted server on {at}"))?;
        udp.set_read_timeout(Some(LOOK_UP))?;
        tcp.set_nonblocking(true)?;
        let (book, stop) = (Arc::<Mutex<Book>>::default(), Arc::new(AtomicBool::new(false)));
        let serve_udp = {
            let (book, stop) = (Arc::clone(&book), Arc::clone(&stop));
            move || {
                let mut buffer = [0; 65_535];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, client)) = udp.recv_from(&mut buffer) else { continue };
                    for reply in answers(&book, &buffer[..len], false) {
                        let _ = udp.send_to(&reply, client);
                    }
                }
            }
        };
        let serve_tcp = {
            let (book, stop) = (Arc::clone(&book), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        Ok((stream, _)) => drop(converse(&book, stream)),
                        Err(_) => thread::sleep(LOOK_UP / 5),
                    }
                }
            }
        };
        let threads = vec![thread::spawn(serve_udp), thread::spawn(serve_tcp)];
        Ok(Self { book, stop, threads })
    }

    /// From now on, this is said to questions for `label` of the zone and for what is below it:
    /// any number of messages, none for silence.
    pub fn say(
        &self,
        label: &str,
        mut script: impl FnMut(&Query) -> Vec<Said> + Send + 'static,
    ) -> String {
        let script: Script = Box::new(move |query| {
            script(query).iter().map(|said| said.bytes(query)).collect::<Vec<_>>()
        });
        self.book().scripts.insert(label.to_owned(), script);
        format!("{label}.{ZONE}")
    }

    /// What it was asked for `label` and below, in order.
    pub fn asked(&self, label: &str) -> Vec<Query> {
        let book = self.book();
        book.asked.iter().filter(|query| label_of(query) == label).cloned().collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answers(book: &Mutex<Book>, bytes: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let Some(query) = Query::read(bytes, tcp) else { return Vec::new() };
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    book.asked.push(query.clone());
    if let Some(script) = book.scripts.get_mut(&label_of(&query)) {
        return script(&query);
    }
    let said = match query.lower().as_str() {
        ZONE if query.qtype == 2 => Said::new().answer(ZONE, "NS", 3600, "ns.odd.test."),
        "ns.odd.test." if query.qtype == 1 => {
            Said::new().answer(&query.name, "A", 3600, crate::world::ODD)
        }
        ZONE | "ns.odd.test." => Said::new().soa(60, 60),
        _ => Said::new().rcode(3).soa(60, 60),
    };
    vec![said.bytes(&query)]
}

/// One connection, until its other end closes it or nothing comes.
fn converse(book: &Mutex<Book>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut query = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut query)?;
        for reply in answers(book, &query, true) {
            stream.write_all(&(reply.len() as u16).to_be_bytes())?;
            stream.write_all(&reply)?;
        }
    }
}

/// The label that is the zone's child in the name of a query, in lower case.
fn label_of(query: &Query) -> String {
    let name = query.lower();
    let below = name.strip_suffix(ZONE).unwrap_or_default();
    below.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_owned()
}

fn wire_name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// The types that tests say; a word that is not understood is the test's mistake.
fn wire_data(rtype: &str, data: &str) -> Vec<u8> {
    match rtype {
        "A" => data.parse::<std::net::Ipv4Addr>().expect("an address").octets().to_vec(),
        "CNAME" | "NS" | "DNAME" => wire_name(data),
        "TXT" => [&[data.len() as u8], data.as_bytes()].concat(),
        "SOA" => {
            let words: Vec<&str> = data.split(' ').collect();
            let mut out = [wire_name(words[0]), wire_name(words[1])].concat();
            for number in &words[2..] {
                out.extend(number.parse::<u32>().expect("a number").to_be_bytes());
            }
            out
        }
        other => panic!("no data of type {other} is said here"),
    }
}

/// How often a thread looks whether to stop.
const LOOK_UP: Duration = Duration::from_millis(50);
