//! What operators are told of queries: the query log, and dnstap by its own receiver
//! (`fstrm_capture`) and decoder (`dnstap-ldns`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Process, Scratch, Signed, Zone, dig, kdig, run, wait, zones};
use rustix::process::Signal;
use serde_json::Value;

use crate::encrypted::{certify, doors};
use crate::load::Load;
use crate::need_lab;
use crate::site::Site;

const LOGGED: &str =
    "[log]\nqueries = \"all\"\nformat = \"json\"\nquery-target = \"@dir@/queries\"\n";

#[test]
fn each_answer_has_a_line_and_hits_of_the_kernel_have_their_share() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let mut file = site.file(&[site.authority_at()]);
    file.kernel = "event-sampling = 4".to_owned();
    let daemon = site.daemon_of(&format!("{}{LOGGED}", file.text()))?;
    let log = daemon.dir().join("queries");

    dig(&site.client, site.at(), &["WWW.lab.test", "A", "+dnssec"])?;
    dig(&site.client, site.at(), &["www.lab.test", "A", "+dnssec", "+tcp"])?;
    dig(&site.client, site.at6(), &["nothing.lab.test", "MX", "+noedns", "+noad"])?;
    let told = lines_of(&log, "www.lab.test.", 2)?;
    let (first, second) = (&told[0], &told[1]);
    for (line, transport, by) in [(first, "udp", "upstream"), (second, "tcp", "cache")] {
        assert_eq!((&line["transport"], &line["answered_by"]), (&transport.into(), &by.into()));
        assert_eq!((&line["client"], &line["type"]), (&"10.53.1.0/24".into(), &"A".into()));
        assert_eq!(
            (&line["do"], &line["ad"], &line["cd"]),
            (&true.into(), &true.into(), &false.into())
        );
        assert_eq!((&line["rcode"], &line["sample"]), (&"NOERROR".into(), &1.into()), "{line}");
        ensure!(line["octets"].as_u64() > Some(40) && line["duration_us"].is_u64(), "{line}");
        ensure!(line["port"].is_null(), "a cut client has no port: {line}");
    }
    assert_eq!(first["upstream"], "one");
    let told = lines_of(&log, "nothing.lab.test.", 1)?;
    let line = &told[0];
    assert_eq!((&line["rcode"], &line["type"]), (&"NXDOMAIN".into(), &"MX".into()), "{line}");
    ensure!(line["client"].as_str().is_some_and(|client| client.ends_with("/56")), "{line}");
    assert_eq!((&line["do"], &line["ad"]), (&false.into(), &false.into()));

    // One in four on each CPU, all told.
    let ask = Ask::new("mail.lab.test.", "A");
    site.warm(&daemon, &ask)?;
    let before = daemon.metric("resolverd_kernel_packets_total", &[("verdict", "hit")])?;
    for _ in 0..200 {
        site.ask(&ask)?;
    }
    let hits = daemon.metric("resolverd_kernel_packets_total", &[("verdict", "hit")])? - before;
    let of_kernel = || -> Result<Vec<Value>> {
        let lines = parsed(&log)?;
        Ok(lines.into_iter().filter(|line| line["answered_by"] == "kernel").collect())
    };
    wait::until("lines of hits", wait::READY, || {
        of_kernel().is_ok_and(|lines| lines.len() as f64 * 4.0 > hits - 20.0)
    })?;
    let lines = of_kernel()?;
    for line in &lines {
        assert_eq!((&line["sample"], &line["client"]), (&4.into(), &"10.53.1.0/24".into()));
        assert_eq!((&line["rcode"], &line["transport"]), (&"NOERROR".into(), &"udp".into()));
        ensure!(line["octets"].as_u64() > Some(40), "{line}");
    }
    ensure!(lines.len() as f64 * 4.0 < hits + 40.0, "{} lines of {hits} hits", lines.len());
    assert_eq!(daemon.metric("resolverd_tap_query_sampling_ratio", &[])?.round() as i64, 1);
    assert_eq!(daemon.metric("resolverd_tap_dropped_total", &[])?.round() as i64, 0);
    ensure!(!daemon.log().contains("www.lab.test"), "the daemon's log has no names");
    Ok(())
}

#[test]
fn a_query_log_is_rotated_by_sighup_and_switched_by_a_reload() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let file = site.file(&[site.authority_at()]);
    let daemon = site.daemon_of(&format!("{}{LOGGED}", file.text()))?;
    let (log, moved) = (daemon.dir().join("queries"), daemon.dir().join("queries.1"));
    site.ask(&Ask::new("www.lab.test.", "A"))?;
    lines_of(&log, "www.lab.test.", 1)?;
    fs::rename(&log, &moved)?;
    daemon.hup()?;
    wait::until("a new file", wait::READY, || log.exists())?;
    site.ask(&Ask::new("mail.lab.test.", "A"))?;
    lines_of(&log, "mail.lab.test.", 1)?;
    ensure!(!fs::read_to_string(&moved)?.contains("mail.lab.test"));

    // Sampled, whole clients, as text, into another file.
    let other = "[log]\nqueries = \"sampled\"\nquery-sampling = 1000000\n\
                 query-target = \"@dir@/other\"\n[privacy]\nclient-prefix = \"off\"\n";
    daemon.rewrite(&format!("{}{other}", file.text()))?;
    daemon.cli(&["reload"])?;
    for _ in 0..3 {
        site.ask(&Ask::new("nothing.lab.test.", "A").dnssec())?;
    }
    let other = daemon.dir().join("other");
    let mut text = String::new();
    wait::until("a line of text", wait::READY, || {
        text = fs::read_to_string(&other).unwrap_or_default();
        !text.is_empty()
    })?;
    let words = ["client=10.53.1.1 ", "port=", "name=nothing.lab.test.", "sample=1000000"];
    ensure!(text.lines().count() == 1 && words.iter().all(|word| text.contains(word)), "{text}");
    ensure!(!fs::read_to_string(&log)?.contains("nothing.lab.test"));

    // And off, which is the default.
    daemon.rewrite(&file.text())?;
    daemon.cli(&["reload"])?;
    site.ask(&Ask::new("eight.lab.test.", "A"))?;
    assert_eq!(daemon.metric("resolverd_tap_query_sampling_ratio", &[])?.round() as i64, 0);
    ensure!(!fs::read_to_string(&other)?.contains("eight"));
    Ok(())
}

#[test]
fn dnstap_over_a_unix_socket_says_what_dig_saw() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let scratch = Scratch::new("dnstap")?;
    let socket = scratch.path().join("socket");
    let mut capture = Capture::at_socket(&site, &scratch, &socket, "first")?;
    let mut file = site.file(&[site.authority_at()]);
    file.kernel = "event-sampling = 1".to_owned();
    let dnstap = format!(
        "[dnstap]\nsocket = \"{}\"\nidentity = \"the node\"\n[privacy]\nclient-prefix = \"off\"\n",
        socket.display()
    );
    let daemon = site.daemon_of(&format!("{}{dnstap}", file.text()))?;
    connected(&daemon, true)?;
    let mut first = Ask::new("www.lab.test.", "A").dnssec();
    first.id = Some(0xbeef);
    let reply = site.ask(&first)?;
    dig(&site.client, site.at6(), &["nothing.lab.test", "AAAA", "+tcp"])?;
    site.warm(&daemon, &Ask::new("mail.lab.test.", "A"))?;
    let mut hits = 0.0;
    wait::until("a hit to be reported", wait::READY, || {
        let samples = daemon.metric("resolverd_kernel_events_total", &[("kind", "sample")]);
        hits = samples.unwrap_or_default();
        hits > 0.0
    })?;
    // Two of each query of the daemon's, those for its readiness among them.
    let queries = daemon.metric("resolverd_queries_total", &[])?;
    sent(&daemon, |sent| sent >= 2.0 * queries + hits)?;
    let seen = capture.finish()?;

    let of = |kind: &str, name: &str| -> Vec<&String> {
        let parts = [format!("type: {kind}"), format!(";{name}")];
        seen.iter().filter(|it| parts.iter().all(|part| it.contains(part.as_str()))).collect()
    };
    let queries = of("CLIENT_QUERY", "www.lab.test.");
    let responses = of("CLIENT_RESPONSE", "www.lab.test.");
    assert_eq!((queries.len(), responses.len()), (1, 1), "{seen:#?}");
    for one in [queries[0], responses[0]] {
        for part in [
            "identity: \"the node\"",
            "version: \"resolverd ",
            "socket_family: INET\n",
            "socket_protocol: UDP",
            "query_address: \"10.53.1.1\"",
            "response_address: \"10.53.1.2\"",
            "id: 48879",
        ] {
            ensure!(one.contains(part), "no {part}: {one}");
        }
    }
    // All of the message, and not its question alone.
    ensure!(reply.answer.len() == 1 && responses[0].contains("192.0.2.1"), "{}", responses[0]);
    ensure!(queries[0].contains("flags: do"), "{}", queries[0]);
    let tcp = of("CLIENT_RESPONSE", "nothing.lab.test.");
    ensure!(tcp.len() == 1 && tcp[0].contains("socket_protocol: TCP"), "{tcp:#?}");
    ensure!(
        tcp[0].contains("socket_family: INET6") && tcp[0].contains("rcode: NXDOMAIN"),
        "{tcp:#?}"
    );
    // The decoder leaves `extra` out; a hit has no id, and its server is not known.
    let hits = of("CLIENT_RESPONSE", "mail.lab.test.");
    let hits: Vec<_> = hits.into_iter().filter(|hit| hit.contains("id: 0\n")).collect();
    ensure!(!hits.is_empty(), "no hit of the kernel: {seen:#?}");
    for hit in hits {
        ensure!(hit.contains("query_address: \"10.53.1.1\"") && hit.contains("ANSWER: 0"), "{hit}");
        ensure!(!hit.contains("response_address") && !hit.contains("query_time"), "{hit}");
    }
    let octets = fs::read(&capture.file)?;
    for extra in [&b"kernel sample=1 octets="[..], b"question-only", b"upstream one"] {
        let found = octets.windows(extra.len()).any(|window| window == extra);
        ensure!(found, "no {}", String::from_utf8_lossy(extra));
    }

    // A receiver that was away is found again, and gets what was asked meanwhile.
    connected(&daemon, false)?;
    site.ask(&Ask::new("eight.lab.test.", "A"))?;
    let before = daemon.metric("resolverd_tap_records_total", &[("outlet", "dnstap")])?;
    let mut capture = Capture::at_socket(&site, &scratch, &socket, "second")?;
    connected(&daemon, true)?;
    sent(&daemon, |sent| sent >= before + 2.0)?;
    let seen = capture.finish()?;
    let of_eight = seen.iter().filter(|it| it.contains(";eight.lab.test.")).count();
    assert_eq!(of_eight, 2, "{seen:#?}");
    Ok(())
}

#[test]
fn dnstap_over_tcp_hides_clients_and_sees_upstreams() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let scratch = Scratch::new("dnstap")?;
    let mut capture = Capture::start(&site, &scratch, "tcp", &["-a", "127.0.0.1", "-p", "6000"])?;
    let dnstap = "[dnstap]\naddress = \"127.0.0.1:6000\"\nmessages = [\"client-query\", \
                  \"client-response\", \"resolver-query\", \"resolver-response\"]\n";
    let file = site.file(&[site.authority_at()]);
    let daemon = site.daemon_of(&format!("{}{dnstap}", file.text()))?;
    connected(&daemon, true)?;
    let subnet = [&[0, 1, 32, 0][..], &[10, 53, 1, 1]].concat();
    site.ask(&Ask::new("www.lab.test.", "A").option(8, &subnet).option(10, b"mycookie"))?;
    sent(&daemon, |sent| sent >= 4.0)?;
    let seen = capture.finish()?;
    let of_www: Vec<_> = seen.iter().filter(|it| it.contains(";www.lab.test.")).collect();
    let one = |kind: &str| {
        let found = of_www.iter().find(|it| it.contains(&format!("type: {kind}\n")));
        found.with_context(|| format!("no {kind}: {seen:#?}"))
    };
    for kind in ["CLIENT_QUERY", "CLIENT_RESPONSE"] {
        let told = one(kind)?;
        ensure!(told.contains("query_address: \"10.53.1.0\""), "{told}");
        ensure!(!told.contains("10.53.1.1") && !told.contains("query_port"), "{told}");
        // The text of the cookie's and the subnet's octets.
        ensure!(!told.contains("6d79636f6f6b6965") && !told.contains("10.53.1.1/"), "{told}");
    }
    for kind in ["FORWARDER_QUERY", "FORWARDER_RESPONSE"] {
        let told = one(kind)?;
        ensure!(told.contains("response_address: \"10.53.2.2\""), "{told}");
        ensure!(told.contains("response_port: 53\n") && !told.contains("query_address"), "{told}");
    }
    ensure!(one("FORWARDER_RESPONSE")?.contains("192.0.2.1"));
    Ok(())
}

#[test]
fn dnstap_tells_forwarding_from_recursion() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let root = "@ SOA a.root. admin. 1 3600 900 604800 60\n@ NS a.root.\n\
                a.root. A 10.53.2.2\nwww.direct. A 192.0.2.9\n";
    let root = Zone {
        name: ".".to_owned(),
        text: format!("$ORIGIN .\n$TTL 300\n{root}"),
        signed: Signed::No,
    };
    let _authority = site.authority(&[root])?;
    let scratch = Scratch::new("dnstap")?;
    let hints = scratch.write("hints", "a.root. 3600 A 10.53.2.2\n")?;
    let socket = scratch.path().join("socket");
    let mut capture = Capture::at_socket(&site, &scratch, &socket, "recursion")?;
    let mut file = site.file(&[]);
    file.kernel = "mode = \"off\"".to_owned();
    file.resolve = format!(
        "mode = \"recurse\"\nroot-hints = \"{}\"\n[dnssec]\nvalidate = false",
        hints.display()
    );
    let dnstap = format!(
        "[dnstap]\nsocket = \"{}\"\nidentity = \"off\"\n\
         messages = [\"resolver-query\", \"resolver-response\"]\n",
        socket.display()
    );
    let daemon = Daemon::start(&site.server, &format!("{}{dnstap}", file.text()))?;
    connected(&daemon, true)?;
    assert_eq!(site.ask(&Ask::new("www.direct.", "A"))?.answer[0].text(), "192.0.2.9");
    sent(&daemon, |sent| sent >= 2.0)?;
    let seen = capture.finish()?;
    for (kind, flags) in [("RESOLVER_QUERY", "flags: ;"), ("RESOLVER_RESPONSE", "qr aa")] {
        let told = seen.iter().find(|it| {
            let one = it.to_ascii_lowercase();
            it.contains(&format!("type: {kind}\n")) && one.contains(";www.direct.")
        });
        let told = told.with_context(|| format!("no {kind}: {seen:#?}"))?;
        ensure!(told.contains("response_address: \"10.53.2.2\"") && told.contains(flags), "{told}");
        ensure!(!told.contains("identity"), "{told}");
    }
    ensure!(!seen.iter().any(|it| it.contains("CLIENT_")), "{seen:#?}");
    Ok(())
}

#[test]
fn both_outlets_at_once_say_by_which_transport_a_client_came() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let scratch = Scratch::new("dnstap")?;
    certify(&scratch, "one")?;
    let socket = scratch.path().join("socket");
    let mut capture = Capture::at_socket(&site, &scratch, &socket, "encrypted")?;
    let mut file = site.file(&[site.authority_at()]);
    file.server = doors(&site, &scratch);
    file.kernel = "mode = \"off\"".to_owned();
    let dnstap =
        format!("[dnstap]\nsocket = \"{}\"\nmessages = [\"client-response\"]\n", socket.display());
    let daemon = Daemon::start(&site.server, &format!("{}{LOGGED}{dnstap}", file.text()))?;
    connected(&daemon, true)?;
    let ways = [
        ("+tls", 853, "tls", "mail"),
        ("+https", 443, "https", "eight"),
        ("+quic", 853, "quic", "www"),
    ];
    for (word, port, _, name) in ways {
        let at = (site.near.far, port).into();
        kdig(&site.client, at, &[word, &format!("{name}.lab.test"), "A"])?;
    }
    let log = daemon.dir().join("queries");
    for (_, _, transport, name) in ways {
        let lines = lines_of(&log, &format!("{name}.lab.test."), 1)?;
        assert_eq!(lines[0]["transport"], transport, "{lines:?}");
        assert_eq!(lines[0]["client"], "10.53.1.0/24");
    }
    sent(&daemon, |sent| sent >= 3.0)?;
    // This decoder is older than these transports. In the octets: a client's response, INET, and
    // then the protocol, which is DOT, DOH and DOQ.
    let octets = capture.end()?;
    for (protocol, (word, ..)) in [3, 4, 7].into_iter().zip(ways) {
        let start = [0x08, 6, 0x10, 1, 0x18, protocol];
        let found = octets.windows(start.len()).filter(|window| *window == start).count();
        assert_eq!(found, 1, "{word}");
    }
    Ok(())
}

#[test]
fn a_receiver_that_hangs_costs_no_query_and_what_it_missed_is_counted() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(100)])?;
    let scratch = Scratch::new("dnstap")?;
    let socket = scratch.path().join("socket");
    let mut capture = Capture::at_socket(&site, &scratch, &socket, "hung")?;
    let mut file = site.file(&[site.authority_at()]);
    // Each query is the daemon's, so that each has two messages.
    file.kernel = "mode = \"off\"".to_owned();
    let dnstap = format!("[dnstap]\nsocket = \"{}\"\n", socket.display());
    let daemon = Daemon::start(&site.server, &format!("{}{dnstap}", file.text()))?;
    connected(&daemon, true)?;
    capture.process.signal(Signal::STOP)?;
    let asks: Vec<Ask> = (0..100).map(|n| Ask::new(&format!("n{n:06}.bench.test."), "A")).collect();
    let load = Load::start(&site.client, site.at(), &asks, RATE)?;
    let dropped = || daemon.metric("resolverd_tap_dropped_total", &[("outlet", "dnstap")]);
    // More than its queue and the socket hold.
    let full = wait::until("messages to be dropped", Duration::from_secs(40), || {
        dropped().is_ok_and(|dropped| dropped >= 1_000.0)
    });
    load.runs_for(RATE as usize)?;
    let told = load.finish()?;
    full?;
    let (all, lost) = told.all();
    ensure!(lost == 0, "{lost} of {all} queries lost");
    // It wakes up, and is told of what comes from now on.
    capture.process.signal(Signal::CONT)?;
    connected(&daemon, true)?;
    site.ask(&Ask::new("awake.bench.test.", "A"))?;
    let waiting = || daemon.metric("resolverd_tap_records_total", &[("outlet", "dnstap")]);
    let mut before = -1.0;
    wait::until("the queue to be empty", wait::READY, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = waiting().unwrap_or_default();
        std::mem::replace(&mut before, now) == now
    })?;
    let seen = capture.finish()?;
    ensure!(seen.iter().any(|it| it.contains(";awake.bench.test.")), "{} messages", seen.len());
    Ok(())
}

/// `fstrm_capture`, and what it wrote.
struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    fn at_socket(site: &Site, scratch: &Scratch, socket: &Path, name: &str) -> Result<Self> {
        let _ = fs::remove_file(socket);
        let path = socket.display().to_string();
        let capture = Self::start(site, scratch, name, &["-u", &path])?;
        wait::until("the receiver's socket", wait::READY, || socket.exists())?;
        Ok(capture)
    }

    fn start(site: &Site, scratch: &Scratch, name: &str, at: &[&str]) -> Result<Self> {
        let file = scratch.path().join(name);
        let mut command = site.server.command("fstrm_capture");
        command.args(["-t", "protobuf:dnstap.Dnstap", "-w"]).arg(&file).args(at);
        let log = scratch.path().join(format!("{name}.log"));
        Ok(Self { process: Process::start("fstrm_capture", command, &log)?, file })
    }

    /// Ends it, and gives what it wrote.
    fn end(&mut self) -> Result<Vec<u8>> {
        // What was sent is read, or will be in a moment: it does not say.
        std::thread::sleep(Duration::from_millis(300));
        let status = self.process.terminate();
        status.with_context(|| self.process.log())?;
        fs::read(&self.file).with_context(|| self.process.log())
    }

    /// Ends it, and gives each message in words.
    fn finish(&mut self) -> Result<Vec<String>> {
        self.end()?;
        let mut decoder = std::process::Command::new("dnstap-ldns");
        let text = run(decoder.arg("-y").arg("-r").arg(&self.file)).context(self.process.log())?;
        // One YAML document a message.
        Ok(text.split("---").map(str::to_owned).filter(|it| !it.trim().is_empty()).collect())
    }
}

fn connected(daemon: &Daemon, wanted: bool) -> Result<()> {
    let what = format!("dnstap to be connected: {wanted}");
    wait::until(&what, wait::READY, || {
        daemon.metric("resolverd_tap_dnstap_connected", &[]).is_ok_and(|it| (it > 0.0) == wanted)
    })
    .with_context(|| daemon.log())
}

fn sent(daemon: &Daemon, enough: impl Fn(f64) -> bool) -> Result<()> {
    wait::until("dnstap to be sent", wait::READY, || {
        daemon.metric("resolverd_tap_records_total", &[("outlet", "dnstap")]).is_ok_and(&enough)
    })
}

fn parsed(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log)?;
    // The last may be half written.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

/// Waits for so many lines about a name.
fn lines_of(log: &Path, name: &str, count: usize) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    wait::until(&format!("{count} lines about {name}"), wait::READY, || {
        let lines = parsed(log).unwrap_or_default();
        found = lines.into_iter().filter(|line| line["name"] == name).collect();
        found.len() >= count
    })
    .with_context(|| fs::read_to_string(log).unwrap_or_default())?;
    Ok(found)
}

const RATE: u32 = 1_500;
