//! Trust anchors that follow a real zone's keys (RFC 5011), with a wall clock that the test moves:
//! a root signed by Knot DNS, whose keys are added, revoked and taken away.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Authority, Daemon, FakeTime, Scratch, Signed, Zone, wait};

use crate::site::{Site, address, json, logged, need_servers};

/// A root with one key, and a daemon that has it for an anchor.
struct Rolled {
    site: Site,
    root: Authority,
    time: FakeTime,
    files: Scratch,
}

impl Rolled {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        let at: IpAddr = site.authority_at().ip();
        let text = format!(
            "$ORIGIN .\n$TTL 3600\n@ SOA a.root. admin. 1 3600 900 604800 60\n@ NS a.root.\n\
             a.root. A {at}\nwww.test. A 192.0.2.1\nmail.test. A 192.0.2.2\n"
        );
        let zone = Zone { name: ".".to_owned(), text, signed: Signed::Nsec };
        let root = Authority::start_by_hand(&site.upstream, &[at], &[zone])?;
        let files = Scratch::new("anchors")?;
        files.write("root.hints", &format!("a.root. 3600 A {at}\n"))?;
        files.write("anchors", &format!("{}\n", root.trust_anchor(".")?))?;
        Ok(Self { site, root, time: FakeTime::new()?, files })
    }

    fn daemon(&self, resolve: &str, dnssec: &str) -> Result<Daemon> {
        let mut file = self.site.file(&[]);
        file.kernel = "mode = \"off\"".to_owned();
        let dir = self.files.path().display();
        file.resolve = format!(
            "mode = \"recurse\"\nroot-hints = \"{dir}/root.hints\"\n\
             allow-server = [\"10.53.0.0/16\"]\n{resolve}\n\
             [dnssec]\ntrust-anchor-files = [\"{dir}/anchors\"]\n{dnssec}\n"
        );
        Daemon::start_by(&self.site.server, &file.text(), &self.time.words())
    }

    /// Whether an answer is proven; without one it is not.
    fn is_secure(&self, name: &str) -> Result<bool> {
        let reply = self.site.ask(&Ask::new(name, "A").dnssec())?;
        Ok(reply.rcode() == 0 && reply.authentic())
    }
}

#[test]
fn a_roll_over_is_followed_over_a_restart_a_revocation_and_a_lost_state() -> Result<()> {
    need_servers!();
    let rolled = Rolled::new()?;
    let mut daemon = rolled.daemon("", "")?;
    keys(&daemon, "valid", 1)?;
    ensure!(rolled.is_secure("www.test.")?, "{}", daemon.log());
    let [old] = &rolled.root.keys(".")?[..] else { panic!("one key to begin with") };
    let trusted = json(&daemon, &["trust-anchors"])?;
    let zone = &trusted["zones"][0];
    assert_eq!((&zone["zone"], &zone["followed"]), (&".".into(), &true.into()), "{trusted}");
    let key = &zone["anchors"][0];
    assert_eq!((&key["state"], &key["trusted"]), (&"valid".into(), &true.into()), "{trusted}");
    assert!(key["origin"].as_str().is_some_and(|file| file.ends_with("/anchors")), "{trusted}");

    // Seen at the next look, and not trusted for thirty days, over a restart.
    rolled.root.add_key(".")?;
    rolled.time.set(2 * HOUR)?;
    keys(&daemon, "add-pend", 1)?;
    rolled.time.set(20 * DAY)?;
    daemon.terminate()?;
    daemon.restart()?;
    refreshed(&daemon, 1)?;
    keys(&daemon, "add-pend", 1)?;
    let told = json(&daemon, &["trust-anchors"])?.to_string();
    assert!(told.contains("\"add-pend\"") && told.contains("\"rfc5011\""), "{told}");
    rolled.time.set(31 * DAY)?;
    keys(&daemon, "valid", 2)?;
    logged(&daemon, &["a key is trusted"])?;
    ensure!(rolled.is_secure("www.test.")?, "{}", daemon.log());

    // The old one revokes itself, and is gone a little later: the new one stands alone.
    rolled.root.set_key(".", old, &["retire=+0", "revoke=+0"])?;
    rolled.time.set(31 * DAY + 2 * HOUR)?;
    keys(&daemon, "revoked", 1)?;
    keys(&daemon, "valid", 1)?;
    rolled.root.remove_key(".", old)?;
    daemon.cli(&["flush", "--all"])?;
    ensure!(rolled.is_secure("www.test.")?, "{}", daemon.log());
    let text = daemon.cli(&["trust-anchors"])?;
    assert!(text.contains("revoked") && text.contains("rfc5011"), "{text}");

    // What is configured is the old key alone. Without the state nothing else is trusted, and the
    // state is not made anew.
    daemon.terminate()?;
    let state = daemon.dir().join("state/trust-anchors.state");
    let aside = rolled.files.path().join("aside");
    std::fs::rename(&state, &aside)?;
    daemon.restart()?;
    logged(&daemon, &["ERROR", "trust anchors do not follow", "is missing"])?;
    assert!((alarm(&daemon)? - 1.0).abs() < 0.1);
    ensure!(!rolled.is_secure("www.test.")?, "the revoked key is the one configured");
    let told = json(&daemon, &["trust-anchors"])?;
    assert!(told["alarm"].as_str().is_some_and(|why| why.contains("is missing")), "{told}");
    rolled.time.set(31 * DAY + 4 * HOUR)?;
    std::thread::sleep(TWO_LOOKS);
    assert!(!state.exists(), "it is never silently made anew");

    // Put back, it is gone on with.
    std::fs::rename(&aside, &state)?;
    daemon.cli(&["reload"])?;
    assert!(alarm(&daemon)?.abs() < 0.1);
    keys(&daemon, "valid", 1)?;
    daemon.cli(&["flush", "--all"])?;
    ensure!(rolled.is_secure("www.test.")?, "{}", daemon.log());
    Ok(())
}

#[test]
fn zones_are_told_which_keys_are_trusted_and_no_question_is_asked_that_is_switched_off()
-> Result<()> {
    need_servers!();
    let rolled = Rolled::new()?;
    let sent = |daemon: &Daemon| -> Result<f64> {
        daemon.metric("resolverd_dnssec_anchor_signals_total", &[("result", "sent")])
    };
    let mut daemon = rolled.daemon("background-queries = false", "")?;
    assert_eq!(address(&rolled.site.ask(&Ask::new("www.test.", "A"))?)?, "192.0.2.1");
    std::thread::sleep(TWO_LOOKS);
    assert!(sent(&daemon)?.abs() < 0.1 && rolled.root.asked("NULL")? == 0);
    assert!(daemon.metric("resolverd_dnssec_anchor_refreshes_total", &[])?.abs() < 0.1);
    daemon.terminate()?;

    let mut daemon = rolled.daemon("", "anchor-signalling = false")?;
    refreshed(&daemon, 1)?;
    assert!(sent(&daemon)?.abs() < 0.1 && rolled.root.asked("NULL")? == 0);
    daemon.terminate()?;

    // Without RFC 5011 as well, and once a day.
    let daemon = rolled.daemon("", "rfc5011 = false")?;
    until("a signal", || Ok(sent(&daemon)? > 0.5)).with_context(|| daemon.log())?;
    assert_eq!(rolled.root.asked("NULL")?, 1);
    assert!(!daemon.dir().join("state/trust-anchors.state").exists());
    rolled.time.set(25 * HOUR)?;
    until("another", || Ok(sent(&daemon)? > 1.5)).with_context(|| daemon.log())?;
    assert_eq!(rolled.root.asked("NULL")?, 2);
    assert!(daemon.metric("resolverd_dnssec_anchor_refreshes_total", &[])?.abs() < 0.1);
    Ok(())
}

/// Waits for so many keys in a state.
fn keys(daemon: &Daemon, state: &str, number: u32) -> Result<()> {
    let labels = [("zone", "."), ("state", state)];
    until(&format!("{number} keys {state}"), || {
        let there = daemon.metric("resolverd_dnssec_anchor_keys", &labels)?;
        Ok((there - f64::from(number)).abs() < 0.1)
    })
    .with_context(|| daemon.log())
}

/// Waits until the keys were looked at so often since the start.
fn refreshed(daemon: &Daemon, times: u32) -> Result<()> {
    until("a look at the keys", || {
        let labels = [("result", "believed")];
        let looks = daemon.metric("resolverd_dnssec_anchor_refreshes_total", &labels)?;
        Ok(looks > f64::from(times) - 0.1)
    })
    .with_context(|| daemon.log())
}

fn until(what: &str, look: impl Fn() -> Result<bool>) -> Result<()> {
    wait::until(what, wait::READY, || look().unwrap_or(false))
}

fn alarm(daemon: &Daemon) -> Result<f64> {
    daemon.metric("resolverd_dnssec_anchor_state_alarm", &[])
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// The daemon looks at the clock every five seconds.
const TWO_LOOKS: std::time::Duration = std::time::Duration::from_secs(11);
