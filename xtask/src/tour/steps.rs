//! What the tour shows, in order, a function for each.
//!
//! A step types what a person would, shows what tells, and is an error if that is not what it
//! should be. It leans on no step before it. A new one gets a line in [`STEPS`]; the last ends all
//! servers.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Reply};

use super::names::Planned;
use super::site::{SERVER_NAME, Site, TTL_MAX_SECS, show};
use super::told::Told;

pub struct Step {
    /// One sentence.
    pub heading: &'static str,
    pub show: fn(&Site) -> Result<Outcome>,
}

pub enum Outcome {
    Shown,
    /// It cannot be shown here, and this is why.
    Skipped(String),
}

pub const STEPS: [Step; 10] = [
    Step {
        heading: "The first dig is resolved from the root, the second is answered by the kernel.",
        show: kernel_hit,
    },
    Step { heading: "A signed name is validated down from the root (AD).", show: signed },
    Step { heading: "A broken one is refused, and the error says why (EDE).", show: broken },
    Step { heading: "kdig asks over TLS (DoT).", show: tls },
    Step { heading: "kdig asks over HTTP/2 (DoH).", show: https },
    Step {
        heading: "curl asks over HTTP/2, and is told how long it may keep the answer.",
        show: curl,
    },
    Step { heading: "kdig asks over QUIC (DoQ).", show: quic },
    Step { heading: "aioquic asks over HTTP/3 (DoH3).", show: h3 },
    Step {
        heading: "A policy zone (RPZ) blocks one name, and explain names the rule.",
        show: policy,
    },
    Step { heading: "All servers are dead, and an old answer is better than none.", show: stale },
];

fn kernel_hit(site: &Site) -> Result<Outcome> {
    if let Err(why) = site.kernel_path() {
        return Ok(Outcome::Skipped(why));
    }
    let Planned { name, .. } = &site.names.cached;
    let line = format!("dig @{} {name} A", site.at());
    let hits = || site.daemon.metric("resolverd_kernel_packets_total", &[("verdict", "hit")]);
    Told::of(&site.ask(&line)?)?.says(&site.names.cached)?;
    let before = hits()?;
    Told::of(&site.ask(&line)?)?.says(&site.names.cached)?;
    let by_kernel = hits()? - before;
    ensure!(by_kernel > 0.5, "the kernel did not answer the second");
    let text = site.server(&format!("resolverd explain {name} A --socket control.sock"))?;
    show(text.lines().filter(|line| starts_with_any(line, &["next", "kernel", "cache"])));
    ensure!(text.contains("the kernel answers"), "explain does not say that the kernel answers");
    let line = "curl -s http://127.0.0.1:9853/metrics | grep '\"hit\",reason=\"answered\"'";
    show(site.server(line)?.lines());
    Ok(Outcome::Shown)
}

fn signed(site: &Site) -> Result<Outcome> {
    let planned = &site.names.signed;
    let text = site.ask(&format!("dig @{} {} A +dnssec", site.at(), planned.name))?;
    let told = Told::of(&text)?;
    told.says(planned)?;
    ensure!(told.has_flag("ad"), "no AD flag");
    ensure!(text.contains("\tRRSIG\t"), "no signature in the answer");
    Ok(Outcome::Shown)
}

fn broken(site: &Site) -> Result<Outcome> {
    let planned = &site.names.broken;
    let line = format!("dig @{} {} A", site.at(), planned.name);
    let told = Told::of(&site.ask(&line)?)?;
    told.has_status("SERVFAIL")?;
    told.has_ede(SIGNATURE_EXPIRED)?;
    // Who checks for himself gets what there is, and no word that it is good.
    let told = Told::of(&site.ask(&format!("{line} +cd"))?)?;
    told.says(planned)?;
    ensure!(!told.has_flag("ad"), "AD on what has expired");
    Ok(Outcome::Shown)
}

fn tls(site: &Site) -> Result<Outcome> {
    kdig(site, "tls", &format!("+tls {}", strictly()))
}

fn https(site: &Site) -> Result<Outcome> {
    kdig(site, "https", &format!("+https {}", strictly()))
}

fn quic(site: &Site) -> Result<Outcome> {
    // Without a look at the certificate: kdig 3.2 dies of that over QUIC.
    kdig(site, "quic", "+quic")
}

fn kdig(site: &Site, transport: &str, words: &str) -> Result<Outcome> {
    counted(site, transport, |planned| {
        let text = site.ask(&format!("kdig @{} {words} {} A", site.at(), planned.name))?;
        ensure!(text.contains(" session ("), "kdig says nothing of a session");
        Told::of(&text)?.says(planned)
    })
}

fn strictly() -> String {
    format!("+tls-ca=cert.pem +tls-hostname={SERVER_NAME}")
}

fn curl(site: &Site) -> Result<Outcome> {
    counted(site, "https", |planned| {
        site.write("query", &question(planned))?;
        let text = site.client(&format!(
            "curl -s --http2 --max-time 5 --cacert cert.pem -D - -o reply \
             -H 'content-type: application/dns-message' --data-binary @query \
             https://{}/dns-query",
            site.at()
        ))?;
        show(text.lines().filter(|line| {
            starts_with_any(&line.to_lowercase(), &["http", "content-type", "cache-control"])
        }));
        ensure!(text.starts_with("HTTP/2 200"), "{}", text.trim());
        ensure!(text.to_lowercase().contains("cache-control: max-age="), "no age");
        octets(&site.read("reply")?, planned)
    })
}

fn h3(site: &Site) -> Result<Outcome> {
    let Some(python) = lab::aioquic() else {
        return Ok(Outcome::Skipped("no aioquic: `cargo xtask setup --tests` fetches it".into()));
    };
    let python = python.file_name().context("a program has a name")?.display();
    counted(site, "h3", |planned| {
        let content = hex(&question(planned));
        let (at, words) = (site.at(), "443 cert.pem POST /dns-query");
        let text = site.client(&format!("{python} h3.py {at} {words} {content}"))?;
        show(text.lines());
        let content = text.trim().strip_prefix("200 ").context("the status is not 200")?;
        octets(&unhex(content), planned)
    })
}

fn policy(site: &Site) -> Result<Outcome> {
    let (blocked, spared) = (&site.names.blocked, &site.names.spared);
    show(site.server("grep CNAME rpz.zone")?.lines());
    let told = Told::of(&site.ask(&format!("dig @{} {} A", site.at(), blocked.name))?)?;
    told.has_status("NXDOMAIN")?;
    told.has_ede(BLOCKED)?;
    let explain = format!("resolverd explain {} A --socket control.sock", blocked.name);
    let text = site.server(&explain)?;
    show(text.lines().filter(|line| starts_with_any(line, &["rule"])));
    ensure!(text.contains("policy zone rpz.test."), "explain does not name the policy zone");
    Told::of(&site.ask(&format!("dig @{} {} A", site.at(), spared.name))?)?.says(spared)?;
    Ok(Outcome::Shown)
}

fn stale(site: &Site) -> Result<Outcome> {
    let planned = &site.names.stale;
    let line = format!("dig @{} {} A", site.at(), planned.name);
    let told = Told::of(&site.ask(&line)?)?;
    told.says(planned)?;
    ensure!(told.ede.is_empty(), "EDE {:?} on a fresh answer", told.ede);
    let pids: Vec<String> = site.servers().iter().map(u32::to_string).collect();
    site.server(&format!("kill -KILL {}", pids.join(" ")))?;
    println!("  … until the answer is past its time, {TTL_MAX_SECS} s");
    thread::sleep(Duration::from_secs(u64::from(TTL_MAX_SECS) + 1));
    let told = Told::of(&site.ask(&line)?)?;
    told.says(planned)?;
    told.has_ede(STALE_ANSWER)?;
    let ttl_secs = told.ttl_secs.context("no TTL")?;
    ensure!(ttl_secs <= STALE_TTL_SECS_MAX, "its TTL is {ttl_secs} s");
    Ok(Outcome::Shown)
}

/// Asks by `ask`, and looks that the daemon counted that at the door it is about.
fn counted(
    site: &Site,
    transport: &str,
    ask: impl FnOnce(&Planned) -> Result<()>,
) -> Result<Outcome> {
    let answered = || site.daemon.metric("resolverd_queries_total", &[("transport", transport)]);
    let before = answered()?;
    ask(&site.names.private)?;
    let more = answered()? - before;
    ensure!(more > 0.5, "the daemon has counted no query over {transport}");
    Ok(Outcome::Shown)
}

/// The message that asks for a name's addresses, with the identifier that DoH wants.
fn question(planned: &Planned) -> Vec<u8> {
    Ask { id: Some(0), ..Ask::new(&format!("{}.", planned.name), "A") }.bytes()
}

/// Shows a reply that no program has put into words, and checks it.
fn octets(bytes: &[u8], planned: &Planned) -> Result<()> {
    let reply = Reply::parse(bytes)?;
    let mut told: Vec<String> = reply.of_type("A").map(lab::Record::text).collect();
    told.sort();
    println!("      = {} octets: {} A {}", bytes.len(), planned.name, told.join(" "));
    ensure!(reply.rcode() == 0, "RCODE {}", reply.rcode());
    ensure!(told == planned.addresses, "the zone says {:?}", planned.addresses);
    Ok(())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn starts_with_any(line: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| line.trim_start().starts_with(start))
}

/// Extended errors (RFC 8914 section 4).
const STALE_ANSWER: u16 = 3;
const SIGNATURE_EXPIRED: u16 = 7;
const BLOCKED: u16 = 15;

/// What RFC 8767 section 4 recommends.
const STALE_TTL_SECS_MAX: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_in_octets_is_held_against_the_plan() {
        let mut planned = Planned { name: "www.x.org".into(), addresses: vec!["192.0.2.1".into()] };
        let mut reply = question(&planned);
        assert_eq!(unhex(&hex(&reply)), reply);
        assert!(octets(&reply, &planned).is_err(), "a question is no reply");
        // QR, one answer: its name is the question's, A, IN, 5 s.
        (reply[2], reply[7]) = (0x81, 1);
        reply.extend(unhex("c00c00010001000000050004c0000201"));
        octets(&reply, &planned).unwrap();
        planned.addresses = vec!["192.0.2.2".into()];
        assert!(octets(&reply, &planned).is_err());
        // SERVFAIL.
        reply[3] = 2;
        planned.addresses = vec!["192.0.2.1".into()];
        assert!(octets(&reply, &planned).unwrap_err().to_string().contains("RCODE 2"));
    }
}
