//! A DNS client in one small file: `ask @SERVER[:PORT] NAME [TYPE] [+dnssec] [+tcp] [+tries=N]`.
//!
//! For guests that have nothing but what is shipped to them. Ends with 0 when an answer came, with
//! 1 when none did.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{Ask, Reply};

fn main() -> ExitCode {
    match answer() {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<String> {
    let (mut server, mut words, mut dnssec, mut tcp, mut tries) = (None, vec![], false, false, 1);
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "+dnssec" => dnssec = true,
            "+tcp" => tcp = true,
            _ if arg.starts_with("+tries=") => tries = arg["+tries=".len()..].parse::<u32>()?,
            _ if arg.starts_with('@') => server = Some(address(&arg[1..])?),
            _ => words.push(arg),
        }
    }
    let server = server.context("which server? @ADDRESS[:PORT]")?;
    let [name, rest @ ..] = words.as_slice() else { bail!("which name?") };
    let qtype = rest.first().map_or("A", String::as_str);
    lab::qtype(qtype).with_context(|| format!("no type {qtype}"))?;
    let ask = Ask::new(name, qtype);
    let ask = if dnssec { ask.dnssec() } else { ask };
    let exchange = if tcp { lab::tcp } else { lab::udp };
    let mut last = None;
    for _ in 0..tries {
        match exchange(server, &ask.bytes(), PAUSE) {
            Ok(bytes) => return Ok(show(&Reply::parse(&bytes)?)),
            Err(error) => {
                // Refused at once is no reason to have all tries at once.
                if error.kind() != ErrorKind::TimedOut {
                    thread::sleep(PAUSE);
                }
                last = Some(error);
            }
        }
    }
    Err(last.context("tries is at least 1")?).with_context(|| format!("{server}"))
}

fn address(text: &str) -> Result<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok();
    let plain = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::from((ip, 53)));
    with_port.or(plain).with_context(|| format!("{text} is no address"))
}

fn show(reply: &Reply) -> String {
    let mut text = format!(
        "rcode={} aa={} ad={} tc={} answers={} octets={}",
        reply.rcode(),
        u8::from(reply.authoritative()),
        u8::from(reply.authentic()),
        u8::from(reply.truncated()),
        reply.answer.len(),
        reply.bytes.len(),
    );
    for record in &reply.answer {
        let (name, rtype, ttl) = (&record.name, record.rtype, record.ttl);
        text.push_str(&format!("\n{name} {ttl} TYPE{rtype} {}", record.text()));
    }
    text
}
/// For an answer, and between two tries.
const PAUSE: Duration = Duration::from_secs(1);
