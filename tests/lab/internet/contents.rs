//! What zones say: the names that a resolver has to think about, in each of them.
//!
//! Pure. Every zone has its own numbers; not every zone has everything, so that what is there in
//! one is a near miss in another.

use super::plan::{Fault, HOSTING, HOSTS, PlannedRecord, PlannedZone, addresses};
use super::random::Random;

/// The records of a zone but for NS records, what belongs to them, and DS records.
pub fn of_zone(zones: &[PlannedZone], at: usize, random: &mut Random) -> Vec<PlannedRecord> {
    let zone = &zones[at];
    let mut page = Page { zone, ttl: 0, records: Vec::new() };
    page.ttl = 600 + 60 * random.below(60) as u32;
    let minimum = 300 + random.below(600);
    let (master, contact) = (&zone.nameservers[0].name, zone.within("hostmaster"));
    page.add("", "SOA", format!("{master} {contact} 1 7200 3600 1209600 {minimum}"));
    if zone.name == HOSTING {
        for host in 0..HOSTS {
            let [first, second, six] = addresses(host);
            page.add(&format!("h{host}"), "A", first);
            page.add(&format!("h{host}"), "A", second);
            page.add(&format!("h{host}"), "AAAA", six);
        }
    }
    page.hosts(random);
    if zone.labels() > 1 {
        page.services(random);
        page.wildcards(random);
        page.aliases(zones, at, random);
        page.trees(zones, random);
        page.large(random);
        page.odd(random);
    }
    page.records
}

struct Page<'a> {
    zone: &'a PlannedZone,
    ttl: u32,
    records: Vec<PlannedRecord>,
}

impl Page<'_> {
    fn add(&mut self, labels: &str, rtype: &'static str, data: impl ToString) {
        let (owner, data) = (self.zone.within(labels), data.to_string());
        self.records.push(PlannedRecord { owner, ttl: self.ttl, rtype, data });
    }

    fn hosts(&mut self, random: &mut Random) {
        for _ in 0..=random.below(3) {
            self.add("www", "A", v4(random));
        }
        self.add("www", "AAAA", v6(random));
        self.add("only4", "A", v4(random));
        self.add("only6", "AAAA", v6(random));
        self.add("a.b.ent", "TXT", "\"below two empty non-terminals\"");
        if random.percent(50) {
            self.add("", "A", v4(random));
        }
    }

    fn services(&mut self, random: &mut Random) {
        let zone = self.zone;
        self.add("", "MX", format!("10 {}", zone.within("Mail")));
        self.add("mail", "A", v4(random));
        self.add("", "TXT", "\"v=spf1 -all\"");
        if random.percent(60) {
            self.add("", "CAA", format!("0 issue \"ca{}.example\"", random.below(9)));
        }
        if random.percent(60) {
            self.add("_sip._tcp", "SRV", format!("10 20 5060 {}", zone.within("www")));
            self.add("naptr", "NAPTR", "10 10 \"s\" \"SIP+D2T\" \"\" _sip._tcp.example.");
        }
        if random.percent(60) {
            self.add("www", "HTTPS", "1 . alpn=h2,h3");
            self.add("_443._tcp.www", "TLSA", format!("3 1 1 {}", "0a".repeat(32)));
        }
        if random.percent(50) {
            self.add("own", "TYPE65280", "\\# 4 01020304");
            self.add("own", "LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m");
        }
        self.add("ptr", "PTR", zone.within("WWW"));
    }

    fn wildcards(&mut self, random: &mut Random) {
        if random.percent(70) {
            self.add("*.wild", "A", v4(random));
            self.add("*.wild", "TXT", "\"any\"");
            self.add("exact.wild", "A", v4(random));
            self.add("x.y.under.wild", "A", v4(random));
        }
        if random.percent(40) {
            self.add("*.a.b.deepwild", "AAAA", v6(random));
            self.add("*.deepwild", "A", v4(random));
        }
        if random.percent(40) {
            self.add("*.wildalias", "CNAME", self.zone.within("www"));
            self.add("*.wildlost", "CNAME", self.zone.within("nothing"));
        }
        if random.percent(30) {
            // An asterisk that is a name as any other, with names below it (RFC 4592 section 2.1).
            self.add("*.star", "A", v4(random));
            self.add("below.*.star", "A", v4(random));
        }
        if random.percent(12) {
            self.add("*", "A", v4(random));
            self.add("*", "MX", "10 mail.example.");
        }
    }

    fn aliases(&mut self, zones: &[PlannedZone], at: usize, random: &mut Random) {
        let zone = self.zone;
        self.add("alias", "CNAME", zone.within("www"));
        self.add("lost", "CNAME", zone.within("nothing"));
        self.add("tonodata", "CNAME", zone.within("ent"));
        self.add("chain1", "CNAME", zone.within("chain2"));
        self.add("chain2", "CNAME", zone.within("chain3"));
        self.add("chain3", "CNAME", zone.within("alias"));
        if random.percent(30) {
            self.add("loop1", "CNAME", zone.within("loop2"));
            self.add("loop2", "CNAME", zone.within("loop1"));
            self.add("self", "CNAME", zone.within("self"));
        }
        for label in ["away", "away2"] {
            self.add(label, "CNAME", random.pick(zones).within("www"));
        }
        self.add("awaylost", "CNAME", random.pick(zones).within("nothing"));
        self.add("awaywild", "CNAME", random.pick(zones).within("some.wild"));
        self.add("awayalias", "CNAME", random.pick(zones).within("alias"));
        self.add("nowhere", "CNAME", format!("nothing.no-tld{}.", random.below(5)));
        let of = |wanted: &dyn Fn(&&PlannedZone) -> bool| {
            zones.iter().filter(|zone| zone.labels() > 1).filter(wanted).collect::<Vec<_>>()
        };
        let broken = of(&|zone| zone.fault.is_some_and(|fault| fault != Fault::Lame));
        self.add("tobroken", "CNAME", random.pick(&broken).within("www"));
        let plain = of(&|zone| zone.signing.is_none());
        self.add("toplain", "CNAME", random.pick(&plain).within("www"));
        // Two zones whose aliases point to each other.
        let partner = &zones[(at ^ 1).min(zones.len() - 1)];
        self.add("round", "CNAME", partner.within("round"));
    }

    /// DNAMEs.
    fn trees(&mut self, zones: &[PlannedZone], random: &mut Random) {
        let zone = self.zone;
        if random.percent(60) {
            self.add("tree", "DNAME", zone.within("branch"));
            self.add("tree", "TXT", "\"beside a DNAME\"");
            self.add("www.branch", "A", v4(random));
            self.add("deep.er.branch", "TXT", "\"two below\"");
            self.add("intotree", "CNAME", zone.within("www.tree"));
        }
        if random.percent(40) {
            self.add("forest", "DNAME", &random.pick(zones).name);
        }
        if random.percent(20) {
            self.add("grows", "DNAME", zone.within("x.grows"));
            self.add("desert", "DNAME", zone.within("nothing"));
        }
    }

    /// What does not fit into a datagram.
    fn large(&mut self, random: &mut Random) {
        if random.percent(40) {
            for n in 1..=100 {
                self.add("many", "A", format!("198.51.100.{n}"));
            }
        }
        if random.percent(40) {
            let piece = format!(" \"{}\"", "x".repeat(250));
            self.add("long", "TXT", piece.repeat(8).trim_start());
        }
    }

    fn odd(&mut self, random: &mut Random) {
        self.add("MiXeD", "A", v4(random));
        if random.percent(40) {
            self.add("under_score", "A", v4(random));
            self.add("dot\\.ted", "A", v4(random));
            self.add("null\\000x", "A", v4(random));
            self.add("1.2.3.4.5.6.7.8.9.10.11.12.deep", "A", v4(random));
            let label = "l".repeat(50);
            self.add(&format!("{label}.{label}.{label}"), "A", v4(random));
        }
    }
}

fn v4(random: &mut Random) -> String {
    format!("192.0.2.{}", 1 + random.below(254))
}

fn v6(random: &mut Random) -> String {
    format!("2001:db8::{:x}", 1 + random.below(0xffff))
}
