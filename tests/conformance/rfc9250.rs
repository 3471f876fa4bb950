//! RFC 9250: DNS over dedicated QUIC connections, asked by aioquic.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lab::{Ask, Daemon, Reply, Scratch, run};
use serde_json::Value;

use crate::world::{World, world};

/// DOQ_PROTOCOL_ERROR (section 8.4).
const PROTOCOL_ERROR: u64 = 2;

/// A daemon with a door for QUIC, and the client for it.
struct Door {
    world: Arc<World>,
    daemon: Daemon,
    python: std::path::PathBuf,
    folder: Scratch,
}

impl Door {
    fn new(world: Arc<World>) -> Result<Option<Self>> {
        let Some(python) = lab::aioquic() else {
            eprintln!("skipped: no aioquic: `cargo xtask setup --tests`");
            return Ok(None);
        };
        let folder = Scratch::new("doq")?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-noenc", "-days", "30", "-subj", "/CN=doq.test"]);
        openssl.args(["-addext", "subjectAltName=IP:10.53.1.3"]);
        run(openssl.args(["-keyout", &path("key"), "-out", &path("cert")]))?;
        // Another address may be there already: from a test that runs at this time.
        let _ = world.inside.address("lo", "10.53.1.3/32");
        let port = free_port();
        let daemon = world.daemon_of(
            "",
            &format!(
                "quic-listen = [\"10.53.1.3:{port}\"]\ntls-cert = \"{}\"\ntls-key = \"{}\"",
                path("cert"),
                path("key")
            ),
        )?;
        folder.write("port", &port.to_string())?;
        Ok(Some(Self { world, daemon, python, folder }))
    }

    fn exchange(&self, what: &str, query: &[u8]) -> Result<Value> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/doq.py");
        let port = std::fs::read_to_string(self.folder.path().join("port"))?;
        let hex: String = query.iter().map(|octet| format!("{octet:02x}")).collect();
        let mut command = self.world.inside.command(&self.python);
        command.arg(script).args(["10.53.1.3", &port]).arg(self.folder.path().join("cert"));
        let text = run(command.args([what, &hex])).with_context(|| self.daemon.log())?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Ports differ, so that the doors of tests that run at once do not meet.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(8_530);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn query() -> Vec<u8> {
    Ask { id: Some(0), ..Ask::new("www.plain.test.", "A") }.bytes()
}

fn unframed(answer: &Value) -> Result<Reply> {
    let text = answer.as_str().context("hexadecimal digits")?;
    let octets: Vec<u8> = (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16))
        .collect::<Result<_, _>>()?;
    let len = usize::from(u16::from_be_bytes([octets[0], octets[1]]));
    assert_eq!(octets.len(), 2 + len, "one answer, and nothing behind it");
    Reply::parse(&octets[2..])
}

/// The world and its door, or the end of the test.
macro_rules! door {
    () => {
        match Door::new(world!())? {
            Some(door) => door,
            None => return Ok(()),
        }
    };
}

#[test]
fn section_4_2_a_query_is_answered_on_its_stream_which_then_ends() -> Result<()> {
    let door = door!();
    let came = door.exchange("ask", &query())?;
    let reply = unframed(&came["answers"][0])?;
    assert_eq!((reply.id(), reply.answer.len()), (0, 1));
    assert_eq!(came["ended"][0], true, "FIN follows the last answer");
    Ok(())
}

#[test]
fn section_4_2_each_query_has_a_stream_of_its_own() -> Result<()> {
    let door = door!();
    let came = door.exchange("twice", &query())?;
    for n in 0..2 {
        assert_eq!(unframed(&came["answers"][n])?.answer.len(), 1);
    }
    Ok(())
}

#[test]
fn section_4_2_1_an_id_that_is_not_zero_ends_the_connection() -> Result<()> {
    let door = door!();
    assert_eq!(door.exchange("id", &query())?["closed"].as_u64(), Some(PROTOCOL_ERROR));
    Ok(())
}

#[test]
fn section_5_5_2_the_option_of_tcp_keepalive_ends_the_connection() -> Result<()> {
    let door = door!();
    let ask = Ask { id: Some(0), ..Ask::new("www.plain.test.", "A").option(11, &[]) };
    assert_eq!(door.exchange("ask", &ask.bytes())?["closed"].as_u64(), Some(PROTOCOL_ERROR));
    Ok(())
}

#[test]
fn section_4_2_two_queries_on_one_stream_are_a_breach() -> Result<()> {
    let door = door!();
    assert_eq!(door.exchange("two", &query())?["closed"].as_u64(), Some(PROTOCOL_ERROR));
    Ok(())
}

#[test]
fn section_4_2_a_stream_that_is_not_ended_is_not_waited_for_without_end() -> Result<()> {
    // Whether the query is answered at once or when FIN comes is the server's choice; it must not
    // take it for a mistake of the connection while FIN may still come.
    let door = door!();
    assert_eq!(door.exchange("no-fin", &query())?["closed"], Value::Null);
    Ok(())
}
