//! Encrypted upstreams: Unbound over TLS and HTTP/2, openssl with certificates that prove nothing,
//! servers that say nothing. What is asked of none of them in clear text is shown as well.
//!
//! Connections one by one, with servers that close, mix or withhold answers, are the resolver's
//! own tests.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Process, Scratch, Upstream, find, run, wait};

use crate::site::{File, Site, address, has_line, json, logged, need_servers};

/// A site, certificates for its upstream, and what would hear of a question in clear text.
struct House {
    site: Site,
    folder: Scratch,
    clear: Vec<Upstream>,
}

impl House {
    /// The ports in clear text are those that no server of the test has.
    fn new(clear: &[u16]) -> Result<Self> {
        let (site, folder) = (Site::new()?, Scratch::new("pki")?);
        authority(&folder, "ca")?;
        authority(&folder, "other")?;
        certify(&folder, "good", "ca", "DNS:dns.lab.test,IP:10.53.2.2", NOW)?;
        let at = |port: u16| SocketAddr::from((site.far.far, port));
        let silent = |port| Upstream::start(&site.upstream, at(port), |_: &[u8]| None);
        let clear = clear.iter().copied().map(silent).collect::<Result<_>>()?;
        Ok(Self { site, folder, clear })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A daemon with these tables of upstreams. `@pki@` is the folder of certificates.
    fn daemon(&self, upstreams: &str) -> Result<Daemon> {
        Daemon::start(&self.site.server, &self.text(upstreams))
    }

    fn text(&self, upstreams: &str) -> String {
        let mut file: File = self.site.file(&[]);
        file.kernel = "mode = \"off\"".to_owned();
        let pki = self.folder.path().display().to_string();
        file.text() + &upstreams.replace("@pki@", &pki)
    }

    fn ask(&self, name: &str) -> Result<String> {
        address(&self.site.ask(&Ask::new(name, "A"))?)
    }

    /// Datagrams that came to the upstream's address in clear text.
    fn in_clear(&self) -> usize {
        self.clear.iter().map(Upstream::asked).sum()
    }
}

fn opened(daemon: &Daemon, outcome: &str) -> Result<u64> {
    let labels = [("outcome", outcome)];
    Ok(daemon.metric("resolverd_upstream_connections_total", &labels)? as u64)
}

/// A certificate that certifies others: `NAME.pem`, with what `openssl ca` needs beside it.
fn authority(folder: &Scratch, name: &str) -> Result<()> {
    let path = |end: &str| folder.path().join(format!("{name}{end}"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-noenc", "-days", "30", "-subj", &format!("/CN=lab {name}")]);
    openssl.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
    run(openssl.arg("-keyout").arg(path(".key")).arg("-out").arg(path(".pem")))?;
    let dir = folder.path().display();
    let config = format!(
        "[ca]\ndefault_ca = it\n[it]\ndatabase = {dir}/{name}.index\nnew_certs_dir = {dir}\n\
         serial = {dir}/{name}.serial\ndefault_md = sha256\npolicy = any\n\
         copy_extensions = copy\nunique_subject = no\n[any]\ncommonName = supplied\n"
    );
    folder.write(&format!("{name}.cnf"), &config)?;
    folder.write(&format!("{name}.index"), "")?;
    folder.write(&format!("{name}.serial"), "1000\n")?;
    Ok(())
}

/// `NAME.pem` and `NAME.key`, certified by `by` for these names and this time.
fn certify(folder: &Scratch, name: &str, by: &str, names: &str, time: [&str; 2]) -> Result<()> {
    let path = |name: &str, end: &str| folder.path().join(format!("{name}{end}"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
    openssl.args(["-subj", &format!("/CN={name}")]);
    openssl.args(["-addext", &format!("subjectAltName={names}")]);
    run(openssl.arg("-keyout").arg(path(name, ".key")).arg("-out").arg(path(name, ".csr")))?;
    let mut openssl = Command::new("openssl");
    openssl.args(["ca", "-batch", "-notext", "-startdate", time[0], "-enddate", time[1]]);
    openssl.arg("-config").arg(path(by, ".cnf")).arg("-cert").arg(path(by, ".pem"));
    openssl.arg("-keyfile").arg(path(by, ".key")).arg("-in").arg(path(name, ".csr"));
    run(openssl.arg("-out").arg(path(name, ".pem"))).map(drop)
}

/// The pin of a certificate, made as the manual of operations tells.
fn pin(folder: &Scratch, name: &str) -> Result<String> {
    let certificate = folder.path().join(format!("{name}.pem")).display().to_string();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!(
        "openssl x509 -in {certificate} -noout -pubkey | openssl pkey -pubin -outform der \
         | openssl dgst -sha256 -binary | base64"
    ));
    run(&mut shell).map(|text| text.trim().to_owned())
}

/// Unbound with doors over TLS and HTTP/2; every name below `lab.test` has one address.
struct Unbound {
    process: Process,
}

impl Unbound {
    fn start(house: &House) -> Result<Self> {
        let dir = house.folder.path().display().to_string();
        let ip = house.site.far.far;
        let config = format!(
            "server:\n  interface: {ip}@853\n  interface: {ip}@443\n  interface: {ip}@5300\n  \
             tls-port: 853\n  https-port: 443\n  tls-service-key: \"{dir}/good.key\"\n  \
             tls-service-pem: \"{dir}/good.pem\"\n  access-control: 0.0.0.0/0 allow\n  \
             do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  directory: \"{dir}\"\n  \
             pidfile: \"{dir}/pid\"\n  use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n  \
             module-config: \"iterator\"\n  local-zone: \"lab.test.\" redirect\n  \
             local-data: \"lab.test. 300 A 192.0.2.1\"\n"
        );
        let config = house.folder.write("unbound.conf", &config)?;
        let unbound = find("unbound").context("this test needs `unbound`")?;
        let mut command = house.site.upstream.command(unbound);
        command.arg("-d").arg("-c").arg(&config);
        let mut process = Process::start("unbound", command, &house.folder.path().join("log"))?;
        let at = SocketAddr::from((ip, 5_300));
        process.ready("unbound answers", || {
            house.site.upstream.ask(at, &Ask::new("www.lab.test.", "A")).is_ok()
        })?;
        Ok(Self { process })
    }
}

const NOW: [&str; 2] = ["20200101000000Z", "20991231235959Z"];
const LONG_AGO: [&str; 2] = ["20200101000000Z", "20200201000000Z"];

/// The table of one upstream.
fn table(name: &str, lines: &str) -> String {
    format!("\n[[upstream]]\nname = \"{name}\"\naddress = \"10.53.2.2\"\n{lines}\n")
}

const BY_NAME: &str =
    "protocol = \"tls\"\nserver-name = \"dns.lab.test\"\nroots = \"@pki@/ca.pem\"";

#[test]
fn unbound_is_asked_over_one_connection_of_tls() -> Result<()> {
    need_servers!();
    let house = House::new(&[53])?;
    let mut unbound = Unbound::start(&house)?;
    let daemon = house.daemon(&table("office", BY_NAME))?;
    // Many at once, then one after the other.
    thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|t| {
                let house = &house;
                scope.spawn(move || {
                    (0..25).try_for_each(|n| {
                        let address = house.ask(&format!("t{t}n{n}.lab.test."))?;
                        ensure!(address == "192.0.2.1", "{address}");
                        Ok(())
                    })
                })
            })
            .collect();
        asked.into_iter().try_for_each(|asked| asked.join().expect("no panic"))
    })?;
    assert_eq!((opened(&daemon, "opened")?, opened(&daemon, "resumed")?), (1, 0));
    let told = json(&daemon, &["status"])?;
    assert_eq!(told["upstreams"][0]["protocol"], "tls", "{told}");
    assert_eq!(told["upstreams"][0]["address"], "10.53.2.2:853", "{told}");
    let told = json(&daemon, &["explain", "new.lab.test"])?;
    assert_eq!(told["next"], "the upstream office is asked, over tls", "{told}");

    // What changes beside it leaves the connection alone.
    let other = table("other", BY_NAME).replace("10.53.2.2", "10.53.2.3");
    let zoned = format!("{other}zones = [\"elsewhere.test.\"]\n");
    daemon.rewrite(&house.text(&(table("office", BY_NAME) + &zoned)))?;
    daemon.cli(&["reload"])?;
    house.ask("after-reload.lab.test.")?;
    assert_eq!(opened(&daemon, "opened")?, 1);
    // And what changes of it does not: here it would be trusted for nothing any more.
    let pins = format!("pins = [\"{}\"]", pin(&house.folder, "other")?);
    let pinned = BY_NAME.to_owned() + "\n" + &pins;
    daemon.rewrite(&house.text(&table("office", &pinned)))?;
    daemon.cli(&["reload"])?;
    ensure!(house.ask("pinned.lab.test.").is_err(), "a connection was trusted for what it was");
    ensure!(opened(&daemon, "certificate-pin")? > 0, "{}", daemon.metrics()?);
    daemon.rewrite(&house.text(&table("office", BY_NAME)))?;
    daemon.cli(&["reload"])?;
    wait::until("the upstream to be asked again", BACK, || house.ask("again.lab.test.").is_ok())?;

    // A server that is restarted is found again.
    unbound.process.terminate()?;
    drop(unbound);
    let _unbound = Unbound::start(&house)?;
    let mut names = (0..).map(|n| format!("restarted{n}.lab.test."));
    wait::until("the upstream to be back", BACK, || {
        names.next().is_some_and(|name| house.ask(&name).is_ok())
    })
    .with_context(|| daemon.log())?;
    assert_eq!(house.in_clear(), 0, "a question went in clear text");
    Ok(())
}

#[test]
fn unbound_is_asked_over_one_connection_of_http() -> Result<()> {
    need_servers!();
    let house = House::new(&[53])?;
    let mut unbound = Unbound::start(&house)?;
    let lines = BY_NAME.replace("\"tls\"", "\"https\"");
    let daemon = house.daemon(&table("office", &lines))?;
    for n in 0..20 {
        assert_eq!(house.ask(&format!("n{n}.lab.test."))?, "192.0.2.1");
    }
    assert_eq!((opened(&daemon, "opened")?, opened(&daemon, "resumed")?), (1, 0));
    // A path that the server has nothing at is an answer of HTTP, and none of DNS.
    let elsewhere = format!("{lines}\npath = \"/elsewhere\"");
    daemon.rewrite(&house.text(&table("office", &elsewhere)))?;
    daemon.cli(&["reload"])?;
    assert_eq!(house.site.ask(&Ask::new("elsewhere.lab.test.", "A"))?.rcode(), 2);
    daemon.rewrite(&house.text(&table("office", &lines)))?;
    daemon.cli(&["reload"])?;
    house.ask("back.lab.test.")?;
    unbound.process.terminate()?;
    drop(unbound);
    let _unbound = Unbound::start(&house)?;
    let mut names = (0..).map(|n| format!("restarted{n}.lab.test."));
    wait::until("the upstream to be back", BACK, || {
        names.next().is_some_and(|name| house.ask(&name).is_ok())
    })
    .with_context(|| daemon.log())?;
    assert_eq!(house.in_clear(), 0, "a question went in clear text");
    Ok(())
}

/// Ours, as there is no other server of Debian's for these: it shows `shown.pem`.
fn resolverd(house: &House, shown: &str) -> Result<Daemon> {
    let ip = house.site.far.far;
    let mut file = house.site.file(&[]);
    file.listen = vec![(ip, 5_300).into()];
    file.kernel = "mode = \"off\"".to_owned();
    file.server = format!(
        "quic-listen = [\"{ip}:853\"]\nh3-listen = [\"{ip}:443\"]\n\
         https-listen = [\"{ip}:443\"]\ntls-listen = [\"{ip}:853\"]\n\
         tls-cert = \"{}\"\ntls-key = \"{}\"",
        house.path(&format!("{shown}.pem")),
        house.path(&format!("{shown}.key"))
    );
    let records = vec!["@ A 192.0.2.1".to_owned()];
    file.zones = vec![("lab.test.".to_owned(), records)];
    let text = file.text().replace("kind = \"static\"", "kind = \"redirect\"");
    Daemon::start(&house.site.upstream, &text)
}

#[test]
fn another_resolverd_is_asked_over_each_transport() -> Result<()> {
    need_servers!();
    let house = House::new(&[53])?;
    certify(&house.folder, "name", "ca", "DNS:other.lab.test", NOW)?;
    for protocol in ["tls", "https", "h3", "quic"] {
        let mut upstream = resolverd(&house, "good")?;
        let lines = BY_NAME.replace("\"tls\"", &format!("\"{protocol}\""));
        let daemon = house.daemon(&table("office", &lines))?;
        for n in 0..20 {
            let said = house.ask(&format!("n{n}.lab.test.")).with_context(|| daemon.log())?;
            assert_eq!(said, "192.0.2.1", "{protocol}");
        }
        assert_eq!((opened(&daemon, "opened")?, opened(&daemon, "resumed")?), (1, 0));
        let labels = [("transport", protocol)];
        let came = upstream.metric("resolverd_queries_total", &labels)?;
        // And one that looks for loops, perhaps.
        ensure!((20.0..=22.0).contains(&came), "{protocol}: {came}");

        // It is restarted, and its certificate is another: nobody is believed by habit.
        ensure!(upstream.terminate()?.success());
        drop(upstream);
        let impostor = resolverd(&house, "name")?;
        let mut names = (0..).map(|n| format!("impostor{n}.lab.test."));
        wait::until("the certificate to be refused", BACK, || {
            let name = names.next().unwrap_or_default();
            let _ = house.site.ask(&Ask::new(&name, "A"));
            opened(&daemon, "certificate-name").is_ok_and(|count| count > 0)
        })
        .with_context(|| format!("{protocol}: {}", daemon.log()))?;
        assert_eq!(impostor.metric("resolverd_queries_total", &labels)? as u64, 0, "{protocol}");
    }
    assert_eq!(house.in_clear(), 0, "a question went in clear text");
    Ok(())
}

/// By aioquic, which others wrote.
fn served(house: &House, python: &std::ffi::OsStr, protocol: &str, port: u16) -> Result<Process> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("daemon/served.py");
    let mut command = house.site.upstream.command(python);
    command.arg(script).args(["10.53.2.2", &port.to_string()]);
    command.args([house.path("good.pem"), house.path("good.key"), protocol.to_owned()]);
    let log = house.folder.path().join(format!("{protocol}.log"));
    let mut process = Process::start("aioquic", command, &log)?;
    process.ready("aioquic serves", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
    })?;
    Ok(process)
}

#[test]
fn aioquic_is_asked_a_question_a_stream_and_finds_nothing_wrong() -> Result<()> {
    need_servers!();
    let python = std::env::var_os("RESOLVERD_AIOQUIC").unwrap_or_else(|| "python3".into());
    if run(Command::new(&python).args(["-c", "import aioquic"])).is_err() {
        eprintln!("skipped: no aioquic: `pip install aioquic`, or set RESOLVERD_AIOQUIC");
        return Ok(());
    }
    let house = House::new(&[53])?;
    for (protocol, alpn, port) in [("quic", "doq", 853), ("h3", "h3", 443)] {
        let server = served(&house, &python, alpn, port)?;
        let lines = BY_NAME.replace("\"tls\"", &format!("\"{protocol}\""));
        let daemon = house.daemon(&table("office", &lines))?;
        for n in 0..20 {
            let said = house.ask(&format!("n{n}.lab.test.")).with_context(|| server.log())?;
            assert_eq!(said, "192.0.2.1", "{protocol}");
        }
        assert_eq!((opened(&daemon, "opened")?, opened(&daemon, "resumed")?), (1, 0));
        // What goes with the connection is asked once more over another, which resumes the
        // session.
        assert_eq!(house.ask("close.lab.test.").with_context(|| server.log())?, "192.0.2.1");
        assert_eq!((opened(&daemon, "opened")?, opened(&daemon, "resumed")?), (1, 1));
        let reply = house.site.ask(&Ask::new("wrong.lab.test.", "A"))?;
        assert_eq!(reply.rcode(), 2, "{protocol}");
        let reply = house.site.ask(&Ask::new("age.lab.test.", "A"))?;
        // 300, and 100 of them over in a cache of HTTP.
        let ttl = reply.of_type("A").next().context("an address")?.ttl;
        ensure!(if protocol == "h3" { (198..=200).contains(&ttl) } else { ttl > 298 }, "{ttl}");

        let log = server.log();
        let handshakes: Vec<&str> = log.lines().filter(|l| l.starts_with("handshake")).collect();
        assert_eq!(handshakes[..2], ["handshake new", "handshake resumed"], "{log}");
        let mut streams = Vec::new();
        for line in log.lines().take_while(|line| *line != "handshake resumed") {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["question", stream, octets, identifier] = words[..] {
                // RFC 9250 section 4.2.1, RFC 8484 section 4.1; RFC 8467.
                assert_eq!((octets, identifier), ("128", "0000"), "{log}");
                streams.push(stream.to_owned());
            }
        }
        let asked = streams.len();
        streams.sort_unstable();
        streams.dedup();
        assert_eq!(streams.len(), asked, "{log}");
        ensure!(asked >= 21 && !log.contains("Traceback"), "{log}");
    }
    assert_eq!(house.in_clear(), 0, "a question went in clear text");
    Ok(())
}

#[test]
fn over_ipv6_alone_and_from_the_address_that_is_given() -> Result<()> {
    need_servers!();
    let house = House::new(&[53])?;
    let (us, them) = ("fd53:2::77", house.site.far.far6);
    certify(&house.folder, "good", "ca", &format!("IP:{them}"), NOW)?;
    // Deprecated: the system would never choose it.
    let add = ["addr", "add", &format!("{us}/64"), "dev", "s1", "preferred_lft", "0"];
    house.site.server.ip(&add)?;
    // Nobody else is answered, and there is no IPv4 on the way.
    let mut file = house.site.file(&[]);
    file.listen = vec![(them, 5_300).into()];
    file.kernel = "mode = \"off\"".to_owned();
    file.server = format!(
        "quic-listen = [\"[{them}]:853\"]\nh3-listen = [\"[{them}]:443\"]\n\
         https-listen = [\"[{them}]:443\"]\ntls-listen = [\"[{them}]:853\"]\n\
         tls-cert = \"{}\"\ntls-key = \"{}\"",
        house.path("good.pem"),
        house.path("good.key")
    );
    let records = vec!["@ A 192.0.2.1".to_owned()];
    file.zones = vec![("lab.test.".to_owned(), records)];
    let text = file.text().replace("kind = \"static\"", "kind = \"redirect\"");
    let text = text.replace("\"10.53.0.0/16\", \"fd53::/16\"", &format!("\"{us}\", \"{them}\""));
    let _upstream = Daemon::start(&house.site.upstream, &text)?;
    house.site.server.ip(&["-4", "addr", "flush", "dev", "s1"])?;
    for protocol in ["tls", "https", "h3", "quic", "tcp", "udp"] {
        let lines = match protocol {
            "udp" | "tcp" => format!("protocol = \"{protocol}\""),
            _ => format!(
                "protocol = \"{protocol}\"\nserver-name = \"{them}\"\nroots = \"@pki@/ca.pem\""
            ),
        };
        let at = match protocol {
            "udp" | "tcp" => format!("[{them}]:5300"),
            _ => them.to_string(),
        };
        let upstream = table("office", &lines).replace("10.53.2.2", &at);
        for (from, ours) in [(format!("query-source = [\"{us}\"]"), true), (String::new(), false)] {
            let resolve = format!("[resolve]\nipv4 = false\n{from}\n");
            let text = house.text(&upstream).replace("[resolve]\n", &resolve);
            let daemon = Daemon::start(&house.site.server, &text)?;
            let reply = house.site.ask(&Ask::new("www.lab.test.", "A"))?;
            let said = (reply.rcode() == 0 && reply.of_type("A").count() == 1) == ours;
            ensure!(said, "{protocol} from {from:?}: {}", daemon.log());
        }
    }
    Ok(())
}

#[test]
fn a_key_is_proof_enough_and_so_is_an_address() -> Result<()> {
    need_servers!();
    let house = House::new(&[53])?;
    let _unbound = Unbound::start(&house)?;
    let pin = pin(&house.folder, "good")?;
    for (n, proof) in [
        format!("pins = [\"{pin}\"]"),
        format!(
            "pins = [\"sha256/{pin}\"]\nserver-name = \"dns.lab.test\"\nroots = \"@pki@/ca.pem\""
        ),
        "server-name = \"10.53.2.2\"\nroots = \"@pki@/ca.pem\"".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let daemon = house.daemon(&table("office", &format!("protocol = \"tls\"\n{proof}")))?;
        let said = house.ask(&format!("n{n}.lab.test.")).with_context(|| daemon.log())?;
        assert_eq!((said.as_str(), opened(&daemon, "opened")?), ("192.0.2.1", 1));
    }
    assert_eq!(house.in_clear(), 0);
    Ok(())
}

#[test]
fn who_does_not_prove_it_is_asked_nothing_and_nothing_goes_in_clear_text() -> Result<()> {
    need_servers!();
    let house = House::new(&[53, 443, 853])?;
    certify(&house.folder, "name", "ca", "DNS:other.lab.test,IP:10.53.2.9", NOW)?;
    certify(&house.folder, "expired", "ca", "DNS:dns.lab.test", LONG_AGO)?;
    certify(&house.folder, "stranger", "other", "DNS:dns.lab.test", NOW)?;
    let pinned = format!("{BY_NAME}\npins = [\"{}\"]", pin(&house.folder, "name")?);
    for (shown, proof, rule, outcome) in [
        ("name", BY_NAME, "rule=\"name\"", "certificate-name"),
        ("expired", BY_NAME, "rule=\"time\"", "certificate-time"),
        ("stranger", BY_NAME, "rule=\"issuer\"", "certificate-issuer"),
        ("good", pinned.as_str(), "rule=\"pin\"", "certificate-pin"),
    ] {
        let mut openssl = house.site.upstream.command("openssl");
        openssl.args(["s_server", "-accept", "10.53.2.2:853", "-alpn", "dot", "-msg", "-rev"]);
        openssl.args(["-cert", &house.path(&format!("{shown}.pem"))]);
        openssl.args(["-key", &house.path(&format!("{shown}.key"))]);
        let log = house.folder.path().join(format!("{shown}.log"));
        let mut server = Process::start("openssl", openssl, &log)?;
        server.ready("openssl accepts", || server_accepts(&log))?;
        let daemon = house.daemon(&table("office", proof))?;
        let reply = house.site.ask(&Ask::new("www.lab.test.", "A").edns(1_232))?;
        assert_eq!(reply.rcode(), 2, "{shown}");
        ensure!(reply.ede().contains(&23), "EDE {:?}", reply.ede());
        let words = ["WARN", "upstream did not prove who it is", "office", rule];
        logged(&daemon, &words).with_context(|| daemon.log())?;
        ensure!(opened(&daemon, outcome)? > 0, "{outcome}");
        assert_eq!((opened(&daemon, "opened")?, opened(&daemon, "resumed")?), (0, 0));
        // The server heard why, and no question: the handshake never ended.
        let heard = fs::read_to_string(&log)?;
        ensure!(heard.contains("<<< TLS 1.3, Alert"), "{heard}");
        ensure!(!has_line(&heard, &["<<<", "Finished"]), "{heard}");
        ensure!(!has_line(&daemon.log(), &["panicked"]), "{}", daemon.log());
    }
    assert_eq!(house.in_clear(), 0, "a question went in clear text");
    Ok(())
}

fn server_accepts(log: &std::path::Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.contains("ACCEPT"))
}

#[test]
fn when_one_says_nothing_the_other_is_asked_within_a_second() -> Result<()> {
    need_servers!();
    let house = House::new(&[53])?;
    let _unbound = Unbound::start(&house)?;
    // It takes connections, and says nothing on them.
    let silent = SocketAddr::from((house.site.far.far, 8_853));
    let listener = house.site.upstream.enter(|| TcpListener::bind(silent))??;
    let (heard, counter) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (octets, count) = (Arc::clone(&heard), Arc::clone(&counter));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let octets = Arc::clone(&octets);
            thread::spawn(move || {
                let mut stream = stream;
                let mut read = [0; 4_096];
                while let Ok(n @ 1..) = stream.read(&mut read) {
                    octets.fetch_add(n, Ordering::SeqCst);
                }
            });
        }
    });
    let first = table("silent", BY_NAME).replace("10.53.2.2", "10.53.2.2:8853");
    let daemon = house.daemon(&(first + &table("office", BY_NAME)))?;
    for n in 0..20 {
        let asked = Instant::now();
        assert_eq!(house.ask(&format!("n{n}.lab.test."))?, "192.0.2.1");
        ensure!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    logged(&daemon, &["no connection to upstream", "silent", "no connection within 4s"])?;
    // It was tried, again and again, but not by each question; and got a hello each time.
    let tried = counter.load(Ordering::SeqCst);
    ensure!((1..=4).contains(&tried), "tried {tried} times");
    ensure!(heard.load(Ordering::SeqCst) > 100 * tried, "no hello");
    assert_eq!(house.in_clear(), 0, "a question went in clear text");
    Ok(())
}

/// For an upstream that was set aside to be asked again.
const BACK: Duration = Duration::from_secs(20);
