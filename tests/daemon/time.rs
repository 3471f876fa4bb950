//! What time does to a daemon: its clocks, moved by the test. No kernel path, which has but the
//! boot clock.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Ask, Authority, Daemon, FakeTime, Reply, Scratch, Signed, Zone};

use crate::site::{Site, need_servers};

/// A signed root whose signatures hold for two weeks and whose answers for an hour.
struct Timed {
    site: Site,
    _root: Authority,
    time: FakeTime,
    files: Scratch,
}

impl Timed {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        let at: IpAddr = site.authority_at().ip();
        let text = format!(
            "$ORIGIN .\n$TTL 3600\n@ SOA a.root. admin. 1 3600 900 604800 60\n@ NS a.root.\n\
             a.root. A {at}\nwww.test. A 192.0.2.1\nmail.test. A 192.0.2.2\n"
        );
        let zone = Zone { name: ".".to_owned(), text, signed: Signed::Nsec };
        let root = Authority::start(&site.upstream, &[at], &[zone])?;
        let files = Scratch::new("anchors")?;
        files.write("root.hints", &format!("a.root. 3600 A {at}\n"))?;
        files.write("anchors", &format!("{}\n", root.trust_anchor(".")?))?;
        Ok(Self { site, _root: root, time: FakeTime::new()?, files })
    }

    fn daemon(&self, server: &str, dnssec: &str) -> Result<Daemon> {
        let mut file = self.site.file(&[]);
        file.server = server.to_owned();
        file.kernel = "mode = \"off\"".to_owned();
        file.cache = "serve-stale = \"off\"\nprefetch = false".to_owned();
        let dir = self.files.path().display();
        file.resolve = format!(
            "mode = \"recurse\"\nroot-hints = \"{dir}/root.hints\"\n\
             allow-server = [\"10.53.0.0/16\"]\nbackground-queries = false\n\
             [dnssec]\ntrust-anchor-files = [\"{dir}/anchors\"]\n{dnssec}\n"
        );
        Daemon::start_by(&self.site.server, &file.text(), &self.time.words())
    }

    /// The answer, and whether it was in the cache.
    fn ask(&self, daemon: &Daemon, name: &str) -> Result<(Reply, bool)> {
        let cached = || daemon.metric("resolverd_queries_total", &[("answered_by", "cache")]);
        let before = cached()?;
        let reply = self.site.ask(&Ask::new(name, "A").dnssec())?;
        Ok((reply, cached()? > before))
    }
}

#[test]
fn by_the_clock_on_the_wall_answers_expire_and_signatures_after_them() -> Result<()> {
    need_servers!();
    let timed = Timed::new()?;
    let daemon = timed.daemon("clock = \"realtime\"", "")?;
    let look = |ahead: u64| {
        timed.time.set(ahead)?;
        timed.ask(&daemon, "www.test.")
    };
    let (reply, cached) = look(0)?;
    ensure!(reply.authentic() && !cached, "{}", daemon.log());
    let (reply, cached) = look(HOUR / 2)?;
    ensure!(reply.authentic() && cached, "half of its hour has passed\n{}", daemon.log());
    assert!((1_700..=1_800).contains(&reply.answer[0].ttl), "{}", reply.answer[0].ttl);
    let (reply, cached) = look(2 * HOUR)?;
    ensure!(reply.authentic() && !cached, "its hour is over\n{}", daemon.log());
    let (reply, _) = look(20 * DAY)?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&EXPIRED)), "{}", daemon.log());
    Ok(())
}

#[test]
fn by_the_clock_since_the_boot_answers_stay_and_what_is_new_is_judged_by_the_wall() -> Result<()> {
    need_servers!();
    let timed = Timed::new()?;
    let daemon = timed.daemon("clock = \"boot\"", "")?;
    ensure!(timed.ask(&daemon, "www.test.")?.0.authentic(), "{}", daemon.log());
    timed.time.set(20 * DAY)?;
    let (reply, cached) = timed.ask(&daemon, "www.test.")?;
    ensure!(reply.authentic() && cached, "nothing of its hour has passed\n{}", daemon.log());
    let (reply, _) = timed.ask(&daemon, "mail.test.")?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&EXPIRED)), "{}", daemon.log());
    Ok(())
}

#[test]
fn where_the_time_of_signatures_is_fixed_answers_expire_all_the_same() -> Result<()> {
    need_servers!();
    let timed = Timed::new()?;
    let now = lab::run(std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?;
    let fixed = format!("now = \"{}\"", now.trim());
    let daemon = timed.daemon("clock = \"realtime\"", &fixed)?;
    ensure!(timed.ask(&daemon, "www.test.")?.0.authentic(), "{}", daemon.log());
    ensure!(timed.ask(&daemon, "www.test.")?.1, "it is kept");
    timed.time.set(20 * DAY)?;
    let (reply, cached) = timed.ask(&daemon, "www.test.")?;
    ensure!(reply.authentic() && !cached, "asked for anew, and judged as then\n{}", daemon.log());
    Ok(())
}

#[test]
fn a_drawn_cookie_secret_has_its_day_and_is_believed_for_another() -> Result<()> {
    need_servers!();
    let timed = Timed::new()?;
    let daemon = timed.daemon("clock = \"realtime\"", "")?;
    let show = |cookie: &[u8]| -> Result<(Vec<u8>, bool)> {
        let valid = || daemon.metric("resolverd_policy_cookies_total", &[("cookie", "valid")]);
        let before = valid()?;
        let reply = timed.site.ask(&Ask::new("www.test.", "A").option(COOKIE, cookie))?;
        let options = reply.edns.map(|edns| edns.options).unwrap_or_default();
        let ours = options.into_iter().find(|(code, _)| *code == COOKIE);
        Ok((ours.map(|(_, data)| data).unwrap_or_default(), valid()? > before))
    };
    let (first, _) = show(b"mycookie")?;
    assert_eq!(first.len(), 24, "the client's part and ours");
    assert!(show(&first)?.1);
    // Its time is looked at as well: back in the hour it was made in, its secret alone decides.
    for (hours, believed) in [(25, true), (50, false)] {
        timed.time.set(hours * HOUR)?;
        thread::sleep(TWO_LOOKS);
        assert!(!show(&first)?.1, "{hours} hours old");
        timed.time.set(0)?;
        assert_eq!(show(&first)?.1, believed, "after {hours} hours\n{}", daemon.log());
    }
    Ok(())
}

const COOKIE: u16 = 10;
/// The extended error (RFC 8914).
const EXPIRED: u16 = 7;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// The daemon looks at its secrets every five seconds.
const TWO_LOOKS: Duration = Duration::from_secs(11);
