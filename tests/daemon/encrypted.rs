//! DNS over TLS, HTTP/2, QUIC and HTTP/3, asked by programs that others wrote: kdig, curl,
//! openssl, aioquic.
//!
//! Limits, error codes and framing one by one are the server's own tests; here is that strangers
//! are served, that a certificate can be renewed under them, and that nobody else notices those
//! who come only to hold places.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Authority, Daemon, Namespace, Scratch, kdig, run, wait, zones};

use crate::load::Load;
use crate::site::{File, Site, json, logged, need_servers};

/// A site whose daemon has all four doors, and the folder with its certificate.
struct House {
    site: Site,
    folder: Scratch,
    file: File,
    daemon: Daemon,
    _authority: Authority,
}

impl House {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        let authority = site.authority(&[zones::lab(), zones::signed()])?;
        let folder = Scratch::new("tls")?;
        certify(&folder, "one")?;
        let mut file = site.file(&[site.authority_at()]);
        file.server = doors(&site, &folder);
        file.kernel = "mode = \"off\"".to_owned();
        let daemon = Daemon::start(&site.server, &file.text())?;
        Ok(Self { site, folder, file, daemon, _authority: authority })
    }

    fn at(&self, port: u16) -> SocketAddr {
        (self.site.near.far, port).into()
    }

    fn client(&self) -> &Namespace {
        &self.site.client
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Answers given over a transport.
    fn answered(&self, transport: &str) -> Result<u64> {
        let labels = [("transport", transport)];
        Ok(self.daemon.metric("resolverd_queries_total", &labels)? as u64)
    }
}

/// The lines of `[server]` for all doors.
pub fn doors(site: &Site, folder: &Scratch) -> String {
    let ip = site.near.far;
    let path = |name: &str| folder.path().join(name).display().to_string();
    format!(
        "tls-listen = [\"{ip}:853\"]\nhttps-listen = [\"{ip}:443\"]\n\
         quic-listen = [\"{ip}:853\"]\nh3-listen = [\"{ip}:443\"]\n\
         tls-cert = \"{}\"\ntls-key = \"{}\"\n",
        path("cert.pem"),
        path("key.pem")
    )
}

/// Writes `cert.pem` and `key.pem`, as the manual of operations tells: for the name of this
/// certificate and the address of the server.
pub fn certify(folder: &Scratch, name: &str) -> Result<()> {
    let path = |name: &str| folder.path().join(name);
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-noenc", "-days", "30", "-subj", &format!("/CN={name}")]);
    openssl.args(["-addext", &format!("subjectAltName=DNS:{name}.test,IP:10.53.1.2")]);
    openssl.arg("-keyout").arg(path("key.pem")).arg("-out").arg(path("cert.pem"));
    run(&mut openssl).map(drop)
}

#[test]
fn kdig_is_answered_over_every_transport_that_it_knows() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let ca = format!("+tls-ca={}", house.path("cert.pem"));
    for (port, words, transport) in [
        (853, &["+tls"][..], "tls"),
        (443, &["+https"], "https"),
        (443, &["+https-get"], "https"),
        (853, &["+quic"], "quic"),
    ] {
        let before = house.answered(transport)?;
        // kdig 3.2 dies of a segmentation fault when it is to check a certificate over QUIC;
        // aioquic and our own tests do check it there.
        let strict: &[&str] =
            if transport == "quic" { &[] } else { &[ca.as_str(), "+tls-hostname=one.test"] };
        let strict = [words, strict].concat();
        let args = [&strict[..], &["www.lab.test", "A"]].concat();
        let text = kdig(house.client(), house.at(port), &args)?;
        ensure!(text.contains("status: NOERROR") && text.contains("192.0.2.1"), "{text}");
        // kdig pads what it asks over an encrypted way, and is answered in kind.
        ensure!(text.contains("Received 468 B"), "{words:?}: {text}");
        assert_eq!(house.answered(transport)?, before + 1, "{words:?}");
        // An answer that no datagram takes.
        let args = [&strict[..], &["many.lab.test", "A"]].concat();
        let text = kdig(house.client(), house.at(port), &args)?;
        ensure!(text.contains("ANSWER: 120") && !text.contains(" tc"), "{words:?}: {text}");
    }
    // With many queries over one connection.
    let args = ["+tls", "+keepopen", "www.lab.test", "A", "mail.lab.test", "A", "nope.lab.test"];
    let text = kdig(house.client(), house.at(853), &args)?;
    assert_eq!(text.matches("status: NOERROR").count(), 2, "{text}");
    assert_eq!(text.matches("status: NXDOMAIN").count(), 1, "{text}");
    let told = json(&house.daemon, &["status"])?;
    let listeners = told["listeners"].as_array().context("a list")?;
    for transport in ["tls", "https", "quic", "h3"] {
        let ours = listeners.iter().find(|l| l["transport"] == transport);
        assert_eq!(ours.map(|l| &l["state"]), Some(&"served".into()), "{told}");
    }
    Ok(())
}

#[test]
fn curl_gets_answers_with_their_age_and_errors_with_their_status() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let query = Ask { id: Some(0), ..Ask::new("www.lab.test.", "A") }.bytes();
    let message = house.folder.path().join("query");
    std::fs::write(&message, &query)?;
    let from = format!("@{}", message.display());
    let text = format!("/dns-query?dns={}", base64url(&query));
    let dns = "content-type: application/dns-message";
    let big = house.folder.path().join("big");
    std::fs::write(&big, [0; 5_000])?;
    let big = format!("@{}", big.display());
    let put = ["-X", "PUT", "-H", dns];
    for (path, words, status) in [
        (text.as_str(), &[][..], 200),
        ("/dns-query", &["-H", dns, "--data-binary", &from], 200),
        (text.as_str(), &["--head"], 200),
        ("/dns-query", &[], 400),
        ("/dns-query?dns=AAA", &[], 400),
        ("/elsewhere", &[], 404),
        ("/dns-query", &put, 405),
        ("/dns-query", &["-H", dns, "--data-binary", &big], 413),
        ("/dns-query", &["-H", "content-type: text/plain", "--data-binary", &from], 415),
    ] {
        let mut curl = house.client().command("curl");
        curl.args(["-s", "-i", "--http2", "--max-time", "5", "--cacert", &house.path("cert.pem")]);
        curl.args(["-o", &house.path("got")]).args(words);
        curl.args(["-w", "%{http_code} %{http_version}"]);
        let said = run(curl.arg(format!("https://10.53.1.2{path}")))?;
        assert_eq!(said, format!("{status} 2"), "{path} {words:?}");
        let got = std::fs::read(house.path("got"))?;
        let head = String::from_utf8_lossy(&got).to_lowercase();
        if status == 200 {
            ensure!(head.contains("content-type: application/dns-message"), "{head}");
            let age = head.split("cache-control: max-age=").nth(1).context("its age")?;
            let age: u32 = age.split_whitespace().next().unwrap_or_default().parse()?;
            // What stands in the zone, and less as it ages.
            ensure!((3_500..=3_600).contains(&age), "{head}");
        }
        if words.is_empty() && status == 200 {
            let at = got.windows(4).position(|w| w == b"\r\n\r\n").context("a content")?;
            let reply = lab::Reply::parse(&got[at + 4..])?;
            assert_eq!((reply.id(), reply.answer[0].text()), (0, "192.0.2.1".to_owned()));
        }
    }
    for status in ["400", "404", "405", "413", "415"] {
        let labels = [("transport", "https"), ("status", status)];
        ensure!(house.daemon.metric("resolverd_server_http_responses_total", &labels)? > 0.5);
    }
    Ok(())
}

#[test]
fn openssl_agrees_on_the_protocol_and_resumes_its_session() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let session = house.path("session");
    let say = |words: &[&str]| {
        let mut openssl = house.client().command("openssl");
        openssl.args(["s_client", "-connect", "10.53.1.2:853"]);
        openssl.args(["-CAfile", &house.path("cert.pem"), "-verify_return_error"]);
        run(openssl.args(words))
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let text = say(&[version, "-alpn", "dot"])?;
        ensure!(text.contains("ALPN protocol: dot"), "{text}");
        ensure!(text.contains("Verification: OK"), "{text}");
    }
    let refused = say(&["-alpn", "h2"]).unwrap_or_else(|error| format!("{error:#}"));
    ensure!(refused.contains("no application protocol"), "{refused}");
    for old in ["-tls1_1", "-tls1"] {
        ensure!(say(&[old, "-cipher", "ALL:@SECLEVEL=0"]).is_err(), "{old}");
    }
    // With TLS 1.2 the ticket is part of the handshake, so that it is there at its end.
    let first = say(&["-tls1_2", "-sess_out", &session])?;
    ensure!(first.contains("New, TLSv1.2"), "{first}");
    let second = say(&["-tls1_2", "-sess_in", &session])?;
    ensure!(second.contains("Reused, TLSv1.2"), "{second}");
    Ok(())
}

#[test]
fn a_certificate_is_renewed_by_sighup_and_open_connections_go_on() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let shown = || -> Result<String> {
        let mut openssl = house.client().command("openssl");
        openssl.args(["s_client", "-connect", "10.53.1.2:853"]);
        let text = run(&mut openssl)?;
        let line = text.lines().find(|line| line.starts_with("subject=")).context("a subject")?;
        Ok(line.to_owned())
    };
    ensure!(shown()?.contains("one"));
    let mut open = Open::dot(&house)?;
    open.answers()?;

    // The file is the same by its name.
    certify(&house.folder, "two")?;
    let told = json(&house.daemon, &["reload"])?;
    assert_eq!(told["applied"], serde_json::json!(["server.tls-cert"]), "{told}");
    ensure!(shown()?.contains("two"));
    open.answers()?;
    let told = json(&house.daemon, &["reload"])?;
    assert_eq!(told["applied"], serde_json::json!([]), "nothing is new");

    // A key that is another's: told with its place, and the old one goes on.
    let key = house.folder.path().join("key.pem");
    let good = std::fs::read(&key)?;
    let other = Scratch::new("other")?;
    certify(&other, "three")?;
    std::fs::copy(other.path().join("key.pem"), &key)?;
    let line = 1 + std::fs::read_to_string(house.daemon.config())?
        .lines()
        .position(|line| line.starts_with("tls-key"))
        .context("the line of the key")?;
    let place = format!("{}:{line}:11", house.daemon.config().display());
    for verb in ["reload", "check"] {
        let refused = match verb {
            "reload" => house.daemon.cli_output(&["reload"])?,
            _ => check(&house)?,
        };
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{verb}: {said}");
        ensure!(said.contains(&place) && said.contains("is not the key"), "{verb}: {said}");
    }
    ensure!(shown()?.contains("two"));
    open.answers()?;
    std::fs::write(&key, good)?;
    let said = String::from_utf8(check(&house)?.stdout)?;
    // Of 30, some of the first of them may be over.
    let good = ["29", "30"].map(|days| format!("cert.pem: good for {days} days"));
    ensure!(good.iter().any(|line| said.contains(line)), "{said}");
    let until = house.daemon.metric("resolverd_server_certificate_expiry_seconds", &[])?;
    ensure!(until > 1.7e9, "{until}");
    Ok(())
}

fn check(house: &House) -> Result<std::process::Output> {
    let mut command = Command::new(lab::binary()?);
    command.args(["check", "--config"]).arg(house.daemon.config());
    command.output().context("resolverd check")
}

/// One connection of openssl that stays.
struct Open {
    child: std::process::Child,
}

impl Open {
    fn dot(house: &House) -> Result<Self> {
        let mut openssl = house.client().command("openssl");
        openssl.args(["s_client", "-quiet", "-connect", "10.53.1.2:853"]);
        openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Self { child: openssl.spawn()? })
    }

    fn answers(&mut self) -> Result<()> {
        let query = Ask::new("www.lab.test.", "A").bytes();
        let into = self.child.stdin.as_mut().context("its input")?;
        into.write_all(&(query.len() as u16).to_be_bytes())?;
        into.write_all(&query)?;
        into.flush()?;
        let out = self.child.stdout.as_mut().context("its output")?;
        let mut len = [0; 2];
        out.read_exact(&mut len)?;
        let mut reply = vec![0; u16::from_be_bytes(len).into()];
        out.read_exact(&mut reply)?;
        assert_eq!(lab::Reply::parse(&reply)?.answer[0].text(), "192.0.2.1");
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn those_who_only_hold_places_cost_nobody_an_answer() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let asks = [Ask::new("www.lab.test.", "A"), Ask::new("mail.lab.test.", "A")];
    for ask in &asks {
        house.site.ask(ask)?;
    }
    let load = Load::start(house.client(), house.site.at(), &asks, 2_000)?;
    let start = Instant::now();
    let mut held = Vec::new();
    // Half of them begin a handshake and half say nothing; a client may have 64 places at each
    // kind of door, so that they push each other out all the time.
    for n in 0..600_u32 {
        let port = [853, 443][n as usize % 2];
        let at = house.at(port);
        let bound = Duration::from_secs(3);
        let stream = house.client().enter(|| TcpStream::connect_timeout(&at, bound))??;
        if n % 4 < 2 {
            // It may have been pushed out by now.
            let _ = (&stream).write_all(&[22, 3, 1, 2, 0, 1, 0, 1]);
        }
        held.push(stream);
    }
    // Who comes to ask is served beside them.
    for (port, words) in [(853, "+tls"), (443, "+https"), (853, "+quic")] {
        let text = kdig(house.client(), house.at(port), &[words, "www.lab.test", "A"])?;
        ensure!(text.contains("192.0.2.1"), "{words}: {text}");
    }
    load.runs_for(4_000)?;
    let told = load.finish()?;
    ensure!(told.all().1 == 0, "{}", told.lost(start));
    drop(held);
    let shed = [("reason", "shed")];
    ensure!(house.daemon.metric("resolverd_server_connections_ended_total", &shed)? > 300.0);
    wait::until("the places to be free", wait::READY, || {
        let open = house.daemon.metric("resolverd_server_connections", &[]);
        open.is_ok_and(|open| open < 0.5)
    })
}

#[test]
fn aioquic_is_answered_over_http3() -> Result<()> {
    need_servers!();
    let Some(python) = lab::aioquic() else {
        eprintln!("skipped: no aioquic: `cargo xtask setup --tests`");
        return Ok(());
    };
    let house = House::new()?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("daemon/h3.py");
    let query = Ask { id: Some(0), ..Ask::new("www.lab.test.", "A") }.bytes();
    let ask = |method: &str, path: &str, content: &[u8]| {
        let mut command = house.client().command(&python);
        command.arg(&script).args(["10.53.1.2", "443", &house.path("cert.pem"), method, path]);
        run(command.arg(hex(content)))
    };
    let get = format!("/dns-query?dns={}", base64url(&query));
    for (method, path, content) in [("GET", get.as_str(), &[][..]), ("POST", "/dns-query", &query)]
    {
        let text = ask(method, path, content)?;
        let (status, rest) = text.split_once(' ').context(text.clone())?;
        assert_eq!(status, "200", "{text}");
        let reply = lab::Reply::parse(&unhex(rest.trim()))?;
        assert_eq!(reply.answer[0].text(), "192.0.2.1");
    }
    ensure!(ask("GET", "/nowhere", &[])?.starts_with("404 "));
    ensure!(ask("PUT", "/dns-query", &query)?.starts_with("405 "));
    assert_eq!(house.answered("h3")?, 2);
    Ok(())
}

#[test]
fn clients_are_told_of_the_doors_where_there_is_a_name_to_tell() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let named = format!("name = \"one.test\"\n{}", house.file.server);
    house.daemon.rewrite(&File { server: named, ..house.file.clone() }.text())?;
    house.daemon.cli(&["reload"])?;
    let ask =
        |qtype: &str| kdig(house.client(), house.at(53), &["_dns.resolver.arpa", qtype, "+short"]);
    let text = ask("SVCB")?;
    // kdig 3.2 has no name for `dohpath`.
    for told in [
        "1 one.test. alpn=dot port=853",
        "2 one.test. alpn=doq port=853",
        "3 one.test. alpn=h2 port=443 key7=\"/dns-query{?dns}\"",
        "4 one.test. alpn=h3 port=443 key7=\"/dns-query{?dns}\"",
    ] {
        ensure!(text.lines().any(|line| line.trim() == told), "no {told}: {text}");
    }
    assert_eq!(ask("A")?.trim(), "", "and of nothing else");
    // Without a name nothing is told, nor kept of what was.
    house.daemon.rewrite(&house.file.text())?;
    house.daemon.cli(&["reload"])?;
    assert_eq!(ask("SVCB")?.trim(), "");
    Ok(())
}

#[test]
fn doors_come_and_go_with_the_file() -> Result<()> {
    need_servers!();
    let house = House::new()?;
    let without = house.file.clone();
    let fewer = File { server: String::new(), ..without };
    house.daemon.rewrite(&fewer.text())?;
    house.daemon.cli(&["reload"])?;
    let refused = house
        .client()
        .enter(|| TcpStream::connect_timeout(&house.at(853), Duration::from_secs(2)).is_err())?;
    ensure!(refused, "a door that was taken away is still open");
    house.daemon.rewrite(&house.file.text())?;
    house.daemon.cli(&["reload"])?;
    for words in ["+tls", "+quic"] {
        let text = kdig(house.client(), house.at(853), &[words, "www.lab.test", "A"])?;
        ensure!(text.contains("192.0.2.1"), "{words}: {text}");
    }
    // One without a certificate is refused, with its place.
    let bare = File { server: "tls-listen = [\"10.53.1.2:853\"]\n".into(), ..fewer };
    house.daemon.rewrite(&bare.text())?;
    house.daemon.hup()?;
    logged(&house.daemon, &["ERROR", "needs a certificate"])?;
    let text = kdig(house.client(), house.at(853), &["+tls", "www.lab.test", "A"])?;
    ensure!(text.contains("192.0.2.1"), "{text}");
    Ok(())
}

/// RFC 4648 section 5, without padding.
fn base64url(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let word = chunk.iter().fold(0, |word, octet| word << 8 | u32::from(*octet))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(LETTERS[(word >> (18 - 6 * at) & 63) as usize].into());
        }
    }
    text
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}
