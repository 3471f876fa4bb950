//! Validation through real servers: a root, a zone below it and zones below that, signed by
//! Knot DNS, with one whose parent points to a key it has not got.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use lab::{Ask, Authority, Daemon, Scratch, Signed, Zone};

use crate::site::{Site, address, json, need_servers};

struct Tree {
    site: Site,
    _servers: Vec<Authority>,
    files: Scratch,
}

impl Tree {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        for last in [ROOT, TLD, LEAF] {
            site.upstream.address("u0", &format!("10.53.2.{last}/24"))?;
        }
        let v4 = |last: u8| IpAddr::from(Ipv4Addr::new(10, 53, 2, last));
        let leaf = |name: &str, signed: Signed| {
            let text = "@ SOA ns admin 1 3600 900 604800 60\n@ NS ns\nns A 10.53.2.12\n\
                        www A 192.0.2.1\n*.wild A 192.0.2.2\n";
            zone(name, text, signed)
        };
        // From the leaves up: each zone has the DS of those below it.
        let leaves = [
            leaf("good.test.", Signed::Nsec),
            leaf("broken.test.", Signed::Nsec),
            leaf("plain.test.", Signed::No),
        ];
        let leaves = Authority::start(&site.upstream, &[v4(LEAF)], &leaves)?;
        let good = leaves.trust_anchor("good.test.")?;
        // A digit of the digest is another.
        let mut broken = leaves.trust_anchor("broken.test.")?;
        let last = broken.trim_end().chars().last().context("a DS ends with a digit")?;
        broken.truncate(broken.trim_end().len() - 1);
        broken.push(if last == '0' { '1' } else { '0' });
        let text = format!(
            "@ SOA ns admin 1 3600 900 604800 60\n@ NS ns\nns A 10.53.2.11\n\
             good NS ns.good\nns.good A 10.53.2.12\nbroken NS ns.broken\nns.broken A 10.53.2.12\n\
             plain NS ns.plain\nns.plain A 10.53.2.12\n{good}\n{broken}\n"
        );
        let tld =
            Authority::start(&site.upstream, &[v4(TLD)], &[zone("test.", &text, Signed::Nsec)])?;
        let text = format!(
            "@ SOA a.root. admin. 1 3600 900 604800 60\n@ NS a.root.\na.root. A 10.53.2.10\n\
             test. NS ns.test.\nns.test. A 10.53.2.11\n{}\n",
            tld.trust_anchor("test.")?
        );
        let root =
            Authority::start(&site.upstream, &[v4(ROOT)], &[zone(".", &text, Signed::Nsec)])?;
        let files = Scratch::new("anchors")?;
        files.write("root.hints", "a.root. 3600 A 10.53.2.10\n")?;
        files.write("anchors", &format!("{}\n", root.trust_anchor(".")?))?;
        Ok(Self { site, _servers: vec![leaves, tld, root], files })
    }

    fn daemon(&self, dnssec: &str) -> Result<Daemon> {
        let mut file = self.site.file(&[]);
        file.kernel = "mode = \"off\"".to_owned();
        let dir = self.files.path().display();
        file.resolve = format!(
            "mode = \"recurse\"\nroot-hints = \"{dir}/root.hints\"\n\
             allow-server = [\"10.53.0.0/16\"]\n\
             [dnssec]\ntrust-anchor-files = [\"{dir}/anchors\"]\n{dnssec}\n"
        );
        Daemon::start(&self.site.server, &file.text())
    }
}

#[test]
fn answers_of_signed_zones_are_authentic_and_false_ones_fail_with_their_reason() -> Result<()> {
    need_servers!();
    let signed = Tree::new()?;
    let daemon = signed.daemon("")?;
    let ask = |name: &str| signed.site.ask(&Ask::new(name, "A").dnssec());
    let reply = ask("www.good.test.").with_context(|| daemon.log())?;
    assert_eq!(address(&reply)?, "192.0.2.1", "{}", daemon.log());
    assert!(reply.authentic() && reply.of_type("RRSIG").count() == 1);
    // Only who asks for it is told (RFC 6840 sections 5.7 and 5.8).
    let plain = signed.site.ask(&Ask::new("www.good.test.", "A"))?;
    assert!(!plain.authentic() && plain.of_type("RRSIG").count() == 0);
    let aware = Ask { authentic_data: true, ..Ask::new("www.good.test.", "A") };
    assert!(signed.site.ask(&aware)?.authentic());
    for (name, rcode) in [("x.wild.good.test.", 0), ("nothing.good.test.", 3), ("nothere.", 3)] {
        let reply = ask(name)?;
        assert!(reply.authentic() && reply.rcode() == rcode, "{name}\n{}", daemon.log());
    }
    // Names of the same gap cost nobody a question.
    assert_eq!(ask("a.nothing.good.test.")?.rcode(), 3);
    assert!(daemon.metric("resolverd_dnssec_synthesised_total", &[])? >= 1.0);

    let reply = ask("www.plain.test.")?;
    assert!(!reply.authentic() && address(&reply)? == "192.0.2.1", "{}", daemon.log());

    let reply = ask("www.broken.test.")?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&9)), "{}", daemon.log());
    let unchecked = Ask { checking_disabled: true, ..Ask::new("www.broken.test.", "A") };
    let reply = signed.site.ask(&unchecked)?;
    assert!(!reply.authentic() && address(&reply)? == "192.0.2.1");
    let told = json(&daemon, &["explain", "www.good.test."])?.to_string();
    assert!(told.contains("\"secure\""), "{told}");
    let told = json(&daemon, &["explain", "www.broken.test."])?.to_string();
    assert!(told.contains("no DNSKEY of broken.test."), "{told}");
    for (verdict, least) in [("secure", 4.0), ("insecure", 1.0), ("bogus", 1.0)] {
        let count = daemon.metric("resolverd_dnssec_verdicts_total", &[("verdict", verdict)])?;
        assert!(count >= least, "{verdict} {count}");
    }
    Ok(())
}

#[test]
fn the_time_is_fixed_and_a_zone_is_left_unchecked_where_the_file_says_so() -> Result<()> {
    need_servers!();
    let signed = Tree::new()?;
    let daemon = signed.daemon("negative-trust-anchors = [\"broken.test.\"]")?;
    let ask = |name: &str| signed.site.ask(&Ask::new(name, "A").dnssec());
    let reply = ask("www.broken.test.")?;
    assert!(!reply.authentic() && address(&reply)? == "192.0.2.1", "{}", daemon.log());
    assert!(ask("www.good.test.")?.authentic(), "{}", daemon.log());
    // In ten years all signatures have expired.
    let later = std::fs::read_to_string(daemon.config())?
        .replace("[dnssec]", "[dnssec]\nnow = \"2037-01-01T00:00:00Z\"");
    daemon.rewrite(&later)?;
    daemon.cli(&["reload"])?;
    let reply = ask("www.good.test.")?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&7)), "{}", daemon.log());
    Ok(())
}

#[test]
fn a_server_with_broken_signatures_is_passed_over_for_another_of_its_zone() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    let v4 = |last: u8| IpAddr::from(Ipv4Addr::new(10, 53, 2, last));
    for last in [ROOT, LEAF, STALE] {
        site.upstream.address("u0", &format!("10.53.2.{last}/24"))?;
    }
    let names: String = (0..NAMES).map(|n| format!("n{n} A 192.0.2.{n}\n")).collect();
    let text = format!(
        "@ SOA ns1 admin 1 3600 900 604800 60\n@ NS ns1\n@ NS ns2\nns1 A 10.53.2.12\n\
         ns2 A 10.53.2.13\n{names}"
    );
    let signed = zone("two.test.", &text, Signed::Nsec);
    let mut good = Authority::start(&site.upstream, &[v4(LEAF)], &[signed])?;
    // The other has a copy whose signatures ended years ago.
    let records = good.records("two.test.")?;
    let stale: String = records
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.iter().position(|word| *word == "RRSIG").filter(|at| at + 8 < words.len()) {
                // Not the end of an NSEC's list. Type, algorithm, labels, TTL, end, beginning.
                Some(at) => {
                    let mut words = words;
                    (words[at + 5], words[at + 6]) = ("20200201000000", "20200101000000");
                    words.join(" ") + "\n"
                }
                None => format!("{line}\n"),
            }
        })
        .collect();
    assert!(stale.contains(" 20200201000000 "), "{records}");
    let stale = Zone { text: stale, ..zone("two.test.", "", Signed::No) };
    let _stale = Authority::start(&site.upstream, &[v4(STALE)], &[stale])?;
    let text = format!(
        "@ SOA a.root. admin. 1 3600 900 604800 60\n@ NS a.root.\na.root. A 10.53.2.10\n\
         two.test. NS ns1.two.test.\ntwo.test. NS ns2.two.test.\nns1.two.test. A 10.53.2.12\n\
         ns2.two.test. A 10.53.2.13\n{}\n",
        good.trust_anchor("two.test.")?
    );
    let root = Authority::start(&site.upstream, &[v4(ROOT)], &[zone(".", &text, Signed::Nsec)])?;
    let files = Scratch::new("anchors")?;
    files.write("root.hints", "a.root. 3600 A 10.53.2.10\n")?;
    files.write("anchors", &format!("{}\n", root.trust_anchor(".")?))?;
    let lab = Tree { site, _servers: vec![root], files };
    let ask = |n: u32| lab.site.ask(&Ask::new(&format!("n{n}.two.test."), "A").dnssec());
    // Which of the two is asked first is chance, and then the one that is known to be near.
    let mut met = None;
    for _ in 0..DAEMONS_MAX {
        let daemon = lab.daemon("")?;
        for n in 0..NAMES - 1 {
            let reply = ask(n)?;
            assert!(reply.authentic() && reply.rcode() == 0, "n{n}: {reply:?}\n{}", daemon.log());
        }
        let asked =
            |outcome| daemon.metric("resolverd_dnssec_others_asked_total", &[("outcome", outcome)]);
        assert!(asked("bogus")?.abs() < 0.1, "{}", daemon.log());
        if asked("mended")? > 0.5 {
            met = Some(daemon);
            break;
        }
    }
    let daemon = met.context("no daemon met the stale server first")?;
    // When nobody else is left, there is a reason, and it is not sought for long.
    good.process().kill();
    let reply = ask(NAMES - 1)?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&7)), "{}", daemon.log());
    Ok(())
}

fn zone(name: &str, text: &str, signed: Signed) -> Zone {
    let text = format!("$ORIGIN {name}\n$TTL 3600\n{text}");
    Zone { name: name.to_owned(), text, signed }
}

const ROOT: u8 = 10;
const TLD: u8 = 11;
const LEAF: u8 = 12;
const STALE: u8 = 13;
/// Of the zone with two servers.
const NAMES: u32 = 6;
/// All of them choose the good server first one time in 4,096.
const DAEMONS_MAX: u32 = 12;
