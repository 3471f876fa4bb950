//! Cookies and limits on real packets: made, checked and kept in the kernel as in the daemon.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon};
use resolverd_common::cookie::{Cookie, Secrets};
use resolverd_common::counters::Reason;
use resolverd_common::settings::address_words;

use crate::frame::Datagram;
use crate::life::warm_by;
use crate::message::hex;
use crate::operator::Operator;
use crate::site::{CLIENT, Family, Link, needs_the_kernel};
use crate::tap::Tap;

const SECRET: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

/// A daemon with these sections in its file, attached in `mode`.
struct Place {
    link: Link,
    operator: Operator,
    _authority: lab::Authority,
    daemon: Daemon,
    file: String,
}

impl Place {
    fn new(mode: &str, sections: &str) -> Result<Self> {
        let link = Link::new()?;
        let authority = link.authority()?;
        let file = format!("{}\n{sections}", link.config(&format!("mode = \"{mode}\"")));
        let daemon = Daemon::start(&link.server, &file)?;
        let operator = Operator::of(&daemon);
        operator.attached(crate::site::SERVER)?;
        Ok(Self { link, operator, _authority: authority, daemon, file })
    }

    /// Answers of the kernel to queries with such a cookie.
    fn cookies(&self, kind: &str) -> Result<f64> {
        self.daemon.metric("resolverd_kernel_cookies_total", &[("cookie", kind)])
    }

    fn query(&self, family: Family, cookie: Option<&[u8]>) -> Datagram {
        let mut ask = Ask::new("www.lab.test.", "A");
        if let Some(cookie) = cookie {
            ask = ask.option(10, cookie);
        }
        self.link.ends.query(family, &ask.bytes())
    }
}

/// The COOKIE that an answer ends with.
fn cookie_of(answer: &[u8]) -> Option<Cookie> {
    let data = answer.last_chunk::<28>()?;
    let (head, data) = data.split_at(4);
    (head == [0, 10, 0, 24]).then_some(())?;
    let word = |at: usize| Some(u64::from_ne_bytes(data.get(at..at + 8)?.try_into().ok()?));
    Some(Cookie { len: 24, client: word(0)?, server: [word(8)?, word(16)?] })
}

fn secrets(text: &str) -> Secrets {
    let word = |at: usize| {
        let octet = |i: usize| u8::from_str_radix(&text[at + 2 * i..at + 2 * i + 2], 16);
        u64::from_ne_bytes(std::array::from_fn(|i| octet(i).unwrap_or_default()))
    };
    let secret = [word(0), word(16)];
    Secrets { current: secret, other: secret }
}

fn wall() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() as u32
}

#[test]
fn the_kernel_makes_the_cookie_that_the_secret_says_and_knows_it_again() -> Result<()> {
    needs_the_kernel!("cookies");
    for mode in ["xdp", "xdp-generic", "tc"] {
        let site = Place::new(mode, &format!("[cookies]\nsecrets = [\"{SECRET}\"]\n"))?;
        for family in [Family::V4, Family::V6] {
            cookies(&site, family).with_context(|| format!("{mode}, {family:?}"))?;
        }
    }
    Ok(())
}

fn cookies(site: &Place, family: Family) -> Result<()> {
    let inside = || -> Result<()> {
        let mut tap = Tap::open(CLIENT)?;
        let client = b"resolver";
        let query = site.query(family, Some(client));
        let from: IpAddr = query.source;
        let answer = warm_by(&site.operator, &query, &mut tap)?;
        let mut shown = cookie_of(&answer).with_context(|| hex(&answer))?;
        ensure!(shown.client.to_ne_bytes() == *client, "not the client's part");
        let made = shown;
        ensure!(
            shown.answer(&secrets(SECRET), wall(), &address_words(from)),
            "not a cookie of the secret for {from}: {}",
            hex(&answer)
        );
        // Shown again it is valid, and comes back as it is.
        let mut both = client.to_vec();
        both.extend(made.server[0].to_ne_bytes());
        both.extend(made.server[1].to_ne_bytes());
        let before = site.cookies("valid")?;
        let again = tap.ask(&site.query(family, Some(&both)), ANSWER)?.context("no answer")?;
        ensure!(cookie_of(&again.message) == Some(made), "{}", hex(&again.message));
        let after = site.cookies("valid")?;
        ensure!(after == before + 1.0, "{before} {after}");
        let before = site.cookies("invalid")?;
        // From another address, or with one bit wrong, it is not.
        both[23] ^= 1;
        let wrong = tap.ask(&site.query(family, Some(&both)), ANSWER)?.context("no answer")?;
        ensure!(cookie_of(&wrong.message).is_some_and(|new| new.server[1] != made.server[1] ^ 1));
        let after = site.cookies("invalid")?;
        ensure!(after == before + 1.0, "{before} {after}");
        Ok(())
    };
    site.link.client.enter(inside)?
}

#[test]
fn a_new_secret_takes_over_with_the_old_one_still_believed() -> Result<()> {
    needs_the_kernel!("a change of secrets");
    let site = Place::new("xdp", &format!("[cookies]\nsecrets = [\"{SECRET}\"]\n"))?;
    let inside = || -> Result<()> {
        let mut tap = Tap::open(CLIENT)?;
        let query = site.query(Family::V4, Some(b"resolver"));
        let first = warm_by(&site.operator, &query, &mut tap)?;
        let first = cookie_of(&first).context("a cookie")?;
        let both = |cookie: &Cookie| {
            let mut data = b"resolver".to_vec();
            data.extend(cookie.server.iter().flat_map(|word| word.to_ne_bytes()));
            data
        };
        for (list, valid) in
            [(format!("\"{OTHER}\", \"{SECRET}\""), true), (format!("\"{OTHER}\""), false)]
        {
            let file = site.file.replace(&format!("\"{SECRET}\""), &list);
            site.daemon.rewrite(&file)?;
            site.operator.reload()?;
            let before = site.cookies("valid")?;
            let query = site.query(Family::V4, Some(&both(&first)));
            let answer = tap.ask(&query, ANSWER)?.context("no answer")?;
            let mut new = cookie_of(&answer.message).context("a cookie")?;
            ensure!(new.server != first.server, "still the old one");
            ensure!(new.answer(&secrets(OTHER), wall(), &address_words(query.source)));
            let after = site.cookies("valid")?;
            ensure!((after > before) == valid, "{list}: {before} {after}");
        }
        Ok(())
    };
    site.link.client.enter(inside)?
}

#[test]
fn over_the_limit_the_kernel_drops_and_slips_but_not_who_has_a_cookie() -> Result<()> {
    needs_the_kernel!("rate limits");
    for mode in ["xdp", "tc"] {
        let sections = format!(
            "[cookies]\nsecrets = [\"{SECRET}\"]\n\
             [rate-limit]\nresponses-per-second = 5\nburst = 2\nslip = 2\nexempt = []\n\
             amplification-max = 0\n"
        );
        let site = Place::new(mode, &sections)?;
        limited(&site).context(mode)?;
    }
    Ok(())
}

fn limited(site: &Place) -> Result<()> {
    let inside = || -> Result<()> {
        let mut tap = Tap::open(CLIENT)?;
        let mut cookie =
            Cookie { len: 8, client: u64::from_ne_bytes(*b"resolver"), server: [0; 2] };
        let plain = site.query(Family::V4, None);
        cookie.answer(&secrets(SECRET), wall(), &address_words(plain.source));
        let mut data = b"resolver".to_vec();
        data.extend(cookie.server.iter().flat_map(|word| word.to_ne_bytes()));
        let proven = site.query(Family::V4, Some(&data));
        // With a cookie nothing is counted against the prefix.
        warm_by(&site.operator, &proven, &mut tap)?;

        let before = site.operator.counts()?;
        let (mut answered, mut cut, mut silent) = (0, 0, 0);
        for _ in 0..60 {
            match tap.ask(&plain, SILENCE)? {
                None => silent += 1,
                Some(back) if back.message[2] & 0x02 != 0 => {
                    ensure!(back.message[7] == 0, "a cut answer is empty");
                    cut += 1;
                }
                Some(_) => answered += 1,
            }
        }
        let counted = site.operator.counts()?.since(&before).of_dns();
        // 10 of the burst, one that is due, and 5 a second for as long as this took.
        ensure!((11..=30).contains(&answered), "{answered} answered: {counted}");
        ensure!(cut > 0 && silent > 0, "{cut} cut, {silent} without an answer: {counted}");
        ensure!(counted.hit(Reason::RateLimited) == cut, "{counted}");
        ensure!(counted.dropped(Reason::RateLimited) == silent, "{counted}");
        for _ in 0..20 {
            let back = tap.ask(&proven, ANSWER)?.context("who has a cookie was limited")?;
            ensure!(back.message[2] & 0x02 == 0 && back.message[7] == 1);
        }
        Ok(())
    };
    site.link.client.enter(inside)?
}

#[test]
fn an_answer_too_large_for_its_query_is_cut_for_strangers_and_whole_for_friends() -> Result<()> {
    needs_the_kernel!("the bound on amplification");
    let sections = |exempt: &str| {
        format!(
            "[cookies]\nsecrets = [\"{SECRET}\"]\n\
             [rate-limit]\namplification-max = 2\nexempt = [{exempt}]\n"
        )
    };
    for (exempt, cut) in [("", true), ("\"0.0.0.0/0\"", false)] {
        let site = Place::new("tc", &sections(exempt))?;
        let inside = || -> Result<()> {
            let mut tap = Tap::open(CLIENT)?;
            let ask = Ask::new("eight.lab.test.", "A").edns(1232);
            let query = site.link.ends.query(Family::V4, &ask.bytes());
            // The same verdict by the daemon, and then by the kernel.
            for _ in 0..4 {
                let back = tap.ask(&query, ANSWER)?.context("no answer")?;
                ensure!((back.message[2] & 0x02 != 0) == cut, "{}", hex(&back.message));
                ensure!(back.message.len() <= 2 * ask.bytes().len() || !cut);
            }
            let counted = site.operator.counts()?;
            let reason = if cut { Reason::Truncated } else { Reason::Answered };
            ensure!(counted.hit(reason) > 0, "{counted}");
            Ok(())
        };
        site.link.client.enter(inside)??;
    }
    Ok(())
}

const ANSWER: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(30);
