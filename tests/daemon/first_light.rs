//! The main thing: the first answer is an upstream's, the second the kernel's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Authority, Daemon, Reply, Scratch, dig, kdig, run, zones};
use serde_json::Value;

use crate::need_lab;
use crate::site::{By, Seen, Site, json};
use crate::tap::{self, Tap};

fn lit() -> Result<(Site, Authority, Daemon)> {
    let site = Site::new()?;
    let authority = site.authority(&[zones::lab(), zones::signed()])?;
    let daemon = site.daemon(&site.file(&[site.authority_at()]))?;
    Ok((site, authority, daemon))
}

#[test]
fn the_second_dig_is_answered_by_the_kernel_and_explain_says_so() -> Result<()> {
    need_lab!();
    let (site, _authority, daemon) = lit()?;
    let plain: (&str, &[&str], &str) = ("www.lab.test", &["A"], "192.0.2.1");
    let signed: (&str, &[&str], &str) = ("www.signed.test", &["A", "+dnssec"], "RRSIG");
    for (name, words, expected) in [plain, signed] {
        let args: Vec<&str> = [name].iter().chain(words).copied().collect();
        let first = Seen::of(&daemon)?;
        let cold = dig(&site.client, site.at(), &args)?;
        let between = Seen::of(&daemon)?;
        let warm = dig(&site.client, site.at(), &args)?;
        let last = Seen::of(&daemon)?;
        for text in [&cold, &warm] {
            assert!(text.contains("status: NOERROR") && text.contains(expected), "{text}");
        }
        assert_eq!((between.hits - first.hits, between.daemon - first.daemon), (0, 1), "{cold}");
        assert_eq!((last.hits - between.hits, last.daemon - between.daemon), (1, 0), "{warm}");
        let told = json(&daemon, &["explain", name, "A"])?;
        let entries = told["kernel"].as_array().context("a list")?;
        let dnssec_ok = words.contains(&"+dnssec");
        let ours = entries.iter().find(|entry| entry["dnssec_ok"] == dnssec_ok);
        assert_eq!(ours.map(|entry| &entry["fresh"]), Some(&Value::Bool(true)), "{told}");
        let source = told["cache"][0]["source"].as_str().unwrap_or_default();
        assert_eq!(source, "upstream one", "{told}");
        // What comes next is told of a query without DO.
        let next = told["next"].as_str().unwrap_or_default();
        assert_eq!(next.contains("kernel"), !dnssec_ok, "{told}");
    }
    // The other family has the same answers.
    let before = Seen::of(&daemon)?;
    let text = dig(&site.client, site.at6(), &["www.lab.test", "A"])?;
    assert!(text.contains("192.0.2.1"), "{text}");
    assert_eq!(Seen::of(&daemon)?.hits - before.hits, 1);
    Ok(())
}

#[test]
fn letters_come_back_in_the_case_they_were_sent_in() -> Result<()> {
    need_lab!();
    let (site, _authority, daemon) = lit()?;
    site.warm(&daemon, &Ask::new("mixed.lab.test.", "AAAA"))?;
    for name in ["MIXED.LAB.TEST.", "mIxEd.lAb.TeSt.", "mixed.lab.test."] {
        let (reply, by) = site.ask_by(&daemon, &Ask::new(name, "AAAA"))?;
        assert_eq!(by, By::Kernel, "{name}");
        assert_eq!(reply.question, Some((name.to_owned(), 28)));
        assert_eq!(reply.answer[0].text(), "2001:db8::110");
    }
    // And where the daemon answers.
    let (reply, by) = site.ask_by(&daemon, &Ask::new("WwW.lAb.tEsT.", "A"))?;
    assert_eq!((reply.question, by), (Some(("WwW.lAb.tEsT.".to_owned(), 1)), By::Daemon));
    Ok(())
}

#[test]
fn programs_of_the_machine_are_served_by_getaddrinfo() -> Result<()> {
    need_lab!();
    let (site, _authority, daemon) = lit()?;
    let scratch = Scratch::new("resolv")?;
    let file = scratch.write("resolv.conf", &format!("nameserver {}\n", site.near.far))?;
    let look_up = |name: &str| {
        let line = "mount --bind \"$1\" /etc/resolv.conf && exec getent ahosts \"$2\"";
        let mut command = site.client.command("unshare");
        command.args(["--mount", "sh", "-c", line, "sh"]).arg(&file).arg(name);
        run(&mut command)
    };
    let cold = look_up("www.lab.test")?;
    let before = Seen::of(&daemon)?;
    let warm = look_up("www.lab.test")?;
    let after = Seen::of(&daemon)?;
    for text in [cold, warm] {
        assert!(text.contains("192.0.2.1") && text.contains("2001:db8::1"), "{text}");
    }
    // A and AAAA.
    assert_eq!((after.hits - before.hits, after.daemon - before.daemon), (2, 0));
    assert!(look_up("nothing.lab.test").is_err());
    Ok(())
}

#[test]
fn a_load_generator_loses_nothing_and_is_served_by_the_kernel() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(500)])?;
    let daemon = site.daemon(&site.file(&[site.authority_at()]))?;
    let scratch = Scratch::new("dnsperf")?;
    let names: String = (0..500).map(|n| format!("n{n:06}.bench.test A\n")).collect();
    let file = scratch.write("names", &names)?;
    let before = Seen::of(&daemon)?;
    let server = site.near.far.to_string();
    let mut command = site.client.command("dnsperf");
    command.args(["-s", &server, "-n", "10", "-Q", "3000", "-q", "50", "-d"]).arg(&file);
    let text = run(&mut command)?;
    let after = Seen::of(&daemon)?;
    ensure!(text.contains("Queries completed:    5000 (100.00%)"), "{text}");
    ensure!(text.contains("NOERROR 5000 (100.00%)"), "{text}");
    // The first round is the upstream's, and what was asked for again before it had answered.
    let hits = after.hits - before.hits;
    ensure!(hits >= 4_400, "{hits} of 5000 by the kernel\n{text}");
    Ok(())
}

#[test]
fn what_does_not_fit_into_a_datagram_is_had_over_tcp() -> Result<()> {
    need_lab!();
    let (site, _authority, daemon) = lit()?;
    for round in ["cold", "warm"] {
        let text = dig(&site.client, site.at(), &["many.lab.test", "A"])?;
        assert!(text.contains("retrying in TCP mode"), "{round}: {text}");
        assert!(text.contains("ANSWER: 120"), "{round}: {text}");
        let cut = site.ask(&Ask::new("many.lab.test.", "A").edns(1_232))?;
        assert!(cut.truncated() && cut.bytes.len() <= 1_232, "{round}");
    }
    // Sixty fit into 1232 octets, and not into the 512 of a client without EDNS.
    let whole = Ask::new("sixty.lab.test.", "A").edns(1_232);
    for _ in 0..2 {
        assert_eq!(site.ask(&whole)?.answer.len(), 60);
        let cut = site.ask(&Ask::new("sixty.lab.test.", "A"))?;
        assert!(cut.truncated() && cut.bytes.len() <= 512);
    }
    let queries = daemon.metric("resolverd_queries_total", &[("transport", "tcp")])?;
    assert!((queries - 2.0).abs() < 0.5, "{queries} queries over TCP");
    Ok(())
}

#[test]
fn one_connection_takes_many_queries_and_none_waits_for_a_slow_one() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let authority = site.authority(&[zones::lab()])?;
    let tap = Tap::before(&site.upstream, tap::at(site.authority_at())?, site.authority_at())?;
    let daemon = site.daemon(&site.file(&[tap.at()]))?;
    let text = kdig(
        &site.client,
        site.at(),
        &[
            "+tcp",
            "+keepopen",
            "www.lab.test",
            "A",
            "mail.lab.test",
            "A",
            "eight.lab.test",
            "A",
            "www.lab.test",
            "AAAA",
        ],
    )?;
    assert_eq!(text.matches("status: NOERROR").count(), 4, "{text}");

    // All in one write, the slow one first.
    tap.delay(Duration::from_millis(700));
    let asks = [("ttl30.lab.test.", "A"), ("www.lab.test.", "A"), ("mail.lab.test.", "A")];
    let asks: Vec<Ask> = asks.map(|(name, qtype)| Ask::new(name, qtype)).into();
    let replies = site.client.enter(|| pipelined(site.at(), &asks))??;
    let names: Vec<String> =
        replies.iter().filter_map(|reply| Some(reply.question.clone()?.0)).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[2], "ttl30.lab.test.", "what was in the cache did not wait: {names:?}");
    drop((daemon, authority));
    Ok(())
}

/// The replies in the order they came in.
fn pipelined(server: std::net::SocketAddr, asks: &[Ask]) -> Result<Vec<Reply>> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut octets = Vec::new();
    for ask in asks {
        let bytes = ask.bytes();
        octets.extend((bytes.len() as u16).to_be_bytes());
        octets.extend(bytes);
    }
    stream.write_all(&octets)?;
    let one = |_| -> Result<Reply> {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut bytes = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut bytes)?;
        Reply::parse(&bytes)
    };
    asks.iter().map(one).collect()
}

const ANSWER: Duration = Duration::from_secs(5);
