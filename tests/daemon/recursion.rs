//! Recursion through a small Internet of real servers: a root, a zone below it, zones below that.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::{Ask, Authority, Daemon, Scratch, Signed, Upstream, Zone};

use crate::load::Load;
use crate::site::{Site, address, has_line, json, logged, need_servers};

/// The root, `test.`, and the zones below it, each on addresses of its own.
pub struct Internet {
    pub site: Site,
    _servers: Vec<Authority>,
    _dead: Upstream,
    hints: Scratch,
}

impl Internet {
    pub fn new() -> Result<Self> {
        let site = Site::new()?;
        for last in [ROOT, TLD, LAB, DEAD] {
            site.upstream.address("u0", &format!("10.53.2.{last}/24"))?;
        }
        site.upstream.address("u0", "fd53:2::66/64")?;
        let root = zone(
            ".",
            "@ SOA a.root. admin. 1 3600 900 604800 60\n@ NS a.root.\n\
             a.root. A 10.53.2.10\ntest. NS ns.test.\nns.test. A 10.53.2.11\n",
        );
        let tld = zone(
            "test.",
            "@ SOA ns admin 1 3600 900 604800 60\n@ NS ns\nns A 10.53.2.11\n\
             lab NS ns1.lab\nlab NS ns2.lab\nns1.lab A 10.53.2.12\nns2.lab A 10.53.2.14\n\
             six NS ns.six\nns.six AAAA fd53:2::66\n\
             names NS host.lab\nvictim NS ns.victim\nns.victim A 10.53.2.14\n",
        );
        let lab = zone(
            "lab.test.",
            "@ SOA ns1 admin 1 3600 900 604800 60\n@ NS ns1\n@ NS ns2\n\
             ns1 A 10.53.2.12\nns2 A 10.53.2.14\nhost A 10.53.2.12\nwww A 192.0.2.1\n\
             over2 CNAME www.six.test.\n\
             tonames CNAME www.names.test.\nold DNAME six.test.\n",
        );
        let six = zone(
            "six.test.",
            "@ SOA ns admin 1 3600 900 604800 60\n@ NS ns\nns AAAA fd53:2::66\n\
             www A 192.0.2.6\n",
        );
        let names = zone(
            "names.test.",
            "@ SOA host.lab.test. admin 1 3600 900 604800 60\n@ NS host.lab.test.\n\
             www A 192.0.2.7\n*.miss A 192.0.2.8\n",
        );
        let many: String = (1..=120).map(|n| format!("many A 198.51.100.{n}\n")).collect();
        let lab = Zone { text: lab.text + &many, ..lab };
        let v4 = |last: u8| IpAddr::from(Ipv4Addr::new(10, 53, 2, last));
        let servers = vec![
            Authority::start(&site.upstream, &[v4(ROOT)], &[root])?,
            Authority::start(&site.upstream, &[v4(TLD)], &[tld])?,
            Authority::start(&site.upstream, &[v4(LAB)], &[lab, names])?,
            Authority::start(&site.upstream, &["fd53:2::66".parse()?], &[six])?,
        ];
        let dead = Upstream::start(&site.upstream, (v4(DEAD), 53).into(), |_| None)?;
        let hints = Scratch::new("hints")?;
        hints.write("root.hints", "a.root. 3600 A 10.53.2.10\n")?;
        Ok(Self { site, _servers: servers, _dead: dead, hints })
    }

    pub fn daemon(&self, more: &str) -> Result<Daemon> {
        let mut file = self.site.file(&[]);
        file.kernel = "mode = \"off\"".to_owned();
        file.resolve = format!(
            "mode = \"recurse\"\nroot-hints = \"{}\"\n{more}\n[dnssec]\nvalidate = false\n",
            self.hints.path().join("root.hints").display()
        );
        Daemon::start(&self.site.server, &file.text())
    }
}

#[test]
fn names_are_resolved_from_the_root_down_through_real_servers() -> Result<()> {
    need_servers!();
    let internet = Internet::new()?;
    let daemon = internet.daemon(ALLOW)?;
    let site = &internet.site;
    let ask = |name: &str| site.ask(&Ask::new(name, "A").edns(1_232));
    // One of two servers is dead: it costs its time at most.
    let start = Instant::now();
    let reply = ask("www.lab.test.").with_context(|| daemon.log())?;
    assert_eq!(address(&reply)?, "192.0.2.1", "{}", daemon.log());
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    logged(&daemon, &["the root servers are known"])?;

    // A server on IPv6 alone; a server whose address is in another zone.
    assert_eq!(address(&ask("www.six.test.")?)?, "192.0.2.6", "{}", daemon.log());
    assert_eq!(address(&ask("www.names.test.")?)?, "192.0.2.7", "{}", daemon.log());
    // Aliases over zones, and a DNAME with the CNAME that follows from it.
    let reply = ask("over2.lab.test.")?;
    assert_eq!((reply.answer.len(), address(&reply)?.as_str()), (2, "192.0.2.6"));
    let reply = ask("www.old.lab.test.")?;
    let types: Vec<String> = reply.answer.iter().map(|r| r.rtype.to_string()).collect();
    assert_eq!((reply.answer.len(), address(&reply)?.as_str()), (3, "192.0.2.6"), "{types:?}");
    // Denials, and what does not fit into a datagram.
    let reply = ask("nothing.lab.test.")?;
    assert_eq!((reply.rcode(), reply.of_type("A").count()), (3, 0));
    assert_eq!(ask("x.nowhere.")?.rcode(), 3);
    let bytes = Ask::new("many.lab.test.", "A").bytes();
    let whole = site.client.enter(|| lab::tcp(site.at(), &bytes, ANSWER))??;
    assert_eq!(lab::Reply::parse(&whole)?.answer.len(), 120);

    let count = |outcome: &str| {
        let labels = [("upstream", "recursion"), ("outcome", outcome)];
        daemon.metric("resolverd_upstream_queries_total", &labels)
    };
    assert!(count("answer")? >= 8.0 && count("truncated")? >= 1.0);
    let told = json(&daemon, &["explain", "www.lab.test."])?;
    assert!(told.to_string().contains("upstream recursion"), "{told}");
    let told = json(&daemon, &["explain", "new.lab.test."])?;
    assert!(
        told.to_string().contains("recursion asks the servers of the zone lab.test."),
        "{told}"
    );
    // A flush of the zone makes its delegation be asked for anew.
    daemon.cli(&["flush", "--zone", "lab.test."])?;
    let told = json(&daemon, &["explain", "new.lab.test."])?;
    assert!(told.to_string().contains("recursion asks the servers of the zone test."), "{told}");
    assert_eq!(address(&ask("www.lab.test.")?)?, "192.0.2.1");
    Ok(())
}

#[test]
fn a_zone_with_a_dead_server_and_one_on_private_addresses_are_told_apart() -> Result<()> {
    need_servers!();
    let internet = Internet::new()?;
    // Nothing but the hints may be asked.
    let daemon = internet.daemon("timeout = \"1s\"")?;
    let site = &internet.site;
    let reply = site.ask(&Ask::new("www.lab.test.", "A").edns(1_232))?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&22)), "{}", daemon.log());
    let told = json(&daemon, &["explain", "www.lab.test."])?;
    assert!(told.to_string().contains("an address we may ask"), "{told}");
    Ok(())
}

#[test]
fn single_zones_have_servers_of_their_own_and_families_can_be_off() -> Result<()> {
    need_servers!();
    let internet = Internet::new()?;
    let zones = format!(
        "{ALLOW}\nipv6 = false\ncase-randomisation = false\nprime-root = false\n\
         query-source = [\"10.53.2.1\"]\n\
         [[zone]]\nname = \"six.test.\"\nmode = \"stub\"\nupstreams = [\"10.53.2.12\"]\n\
         [[zone]]\nname = \"names.test.\"\nmode = \"forward\"\nupstreams = [\"10.53.2.12\"]\n"
    );
    let daemon = internet.daemon(&zones)?;
    let site = &internet.site;
    assert_eq!(address(&site.ask(&Ask::new("www.lab.test.", "A"))?)?, "192.0.2.1");
    // A forwarded zone, and an alias that recursion follows into it.
    assert_eq!(address(&site.ask(&Ask::new("www.names.test.", "A"))?)?, "192.0.2.7");
    let reply = site.ask(&Ask::new("tonames.lab.test.", "A"))?;
    assert_eq!((reply.answer.len(), address(&reply)?.as_str()), (2, "192.0.2.7"));
    let labels = [("upstream", "names.test. 10.53.2.12:53"), ("outcome", "answer")];
    assert!(daemon.metric("resolverd_upstream_queries_total", &labels)? >= 2.0);
    // That server does not have the zone, and says so: 20 is Not Authoritative (RFC 8914).
    let reply = site.ask(&Ask::new("www.six.test.", "A").edns(1_232))?;
    assert_eq!((reply.rcode(), reply.ede().first()), (2, Some(&20)), "{}", daemon.log());
    assert!(!has_line(&daemon.log(), &["the root servers are known"]));
    Ok(())
}

#[test]
fn names_made_up_in_a_zone_whose_servers_are_silent_keep_other_names_no_longer_waiting()
-> Result<()> {
    need_servers!();
    let internet = Internet::new()?;
    let daemon = internet.daemon(ALLOW)?;
    let site = &internet.site;
    assert_eq!(address(&site.ask(&Ask::new("www.names.test.", "A"))?)?, "192.0.2.7");
    // Names that nobody asked for, one after the other.
    let others = |turn: &str| -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for n in 0..OTHERS {
            let start = Instant::now();
            let reply = site.ask(&Ask::new(&format!("{turn}{n}.miss.names.test."), "A"))?;
            assert_eq!(address(&reply)?, "192.0.2.8", "{turn} {n}");
            took.push(start.elapsed());
        }
        took.sort();
        Ok(took)
    };
    let quiet = others("quiet")?;
    let flood: Vec<Ask> =
        (0..50_000).map(|n| Ask::new(&format!("n{n}.victim.test."), "A")).collect();
    let load = Load::start(&site.client, site.at(), &flood, 10_000)?;
    load.runs_for(5_000)?;
    let flooded = others("flooded")?;
    load.finish()?;
    let p99 = |took: &[Duration]| took[took.len() * 99 / 100];
    println!("p99 {:?} in quiet, {:?} in the flood", p99(&quiet), p99(&flooded));
    // Not a benchmark: both have the same two cores, and the flood's sender as well.
    assert!(p99(&flooded) < Duration::from_millis(500), "{flooded:?}\n{}", daemon.log());
    let shed = |cause| daemon.metric("resolverd_resolver_flights_shed_total", &[("cause", cause)]);
    assert!(shed("zone")? > 1_000.0, "{}", daemon.log());
    assert!(shed("oldest")? < 1.0);
    let waiting = daemon.metric("resolverd_resolver_flights", &[])?;
    // A few began before anybody knew that there is such a zone.
    assert!(waiting < 600.0, "{waiting}");
    Ok(())
}

const OTHERS: usize = 200;

fn zone(name: &str, text: &str) -> Zone {
    let text = format!("$ORIGIN {name}\n$TTL 3600\n{text}");
    Zone { name: name.to_owned(), text, signed: Signed::No }
}

const ROOT: u8 = 10;
const TLD: u8 = 11;
const LAB: u8 = 12;
const DEAD: u8 = 14;

pub const ALLOW: &str = "allow-server = [\"10.53.0.0/16\", \"fd53::/16\"]";
const ANSWER: Duration = Duration::from_secs(5);
