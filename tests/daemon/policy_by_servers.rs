//! Policy zones with rules about servers, where names are resolved from the root down.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use lab::{Ask, Scratch};

use crate::beside_unbound::{Unbound, compare};
use crate::recursion::{ALLOW, Internet};
use crate::site::{address, need_servers};

const SOA: &str = "$TTL 300\n@ SOA localhost. root. 1 3600 600 86400 300\n@ NS localhost.\n";

/// The first zone by a server's name, the second by a server's address, which is IPv6 only.
const RULES: &str = "host.lab.test.rpz-nsdname CNAME .\n128.66.zz.2.fd53.rpz-nsip CNAME *.\n";

fn write(path: &Path, rules: &str) -> Result<()> {
    Ok(fs::write(path, format!("{SOA}{rules}"))?)
}

#[test]
fn names_are_judged_by_their_servers_whether_they_come_from_the_cache_or_not() -> Result<()> {
    need_servers!();
    let internet = Internet::new()?;
    let scratch = Scratch::new("rpz")?;
    let path = scratch.write("rpz.zone", SOA)?;
    let more = format!("{ALLOW}\n[[rpz]]\nzone = \"rpz.test.\"\nfile = \"{}\"\n", path.display());
    let daemon = internet.daemon(&more)?;
    let site = &internet.site;
    let ask = |name: &str| site.ask(&Ask::new(name, "A").edns(1_232));
    let asked = || {
        let labels = [("upstream", "recursion"), ("outcome", "answer")];
        daemon.metric("resolverd_upstream_queries_total", &labels)
    };
    let fine = || -> Result<()> {
        for (name, expected) in [
            ("www.lab.test.", "192.0.2.1"),
            ("www.names.test.", "192.0.2.7"),
            ("www.six.test.", "192.0.2.6"),
        ] {
            assert_eq!(address(&ask(name)?)?, expected, "{name}\n{}", daemon.log());
        }
        Ok(())
    };
    fine()?;

    // What is in the cache was said by servers that nobody looked at.
    write(&path, RULES)?;
    daemon.cli(&["reload"])?;
    for turn in 0..2 {
        let reply = ask("www.names.test.")?;
        assert_eq!((reply.rcode(), reply.ede().first()), (3, Some(&15)), "turn {turn}");
        let reply = ask("www.six.test.")?;
        assert_eq!((reply.rcode(), reply.answer.len(), reply.ede().first()), (0, 0, Some(&15)));
        assert_eq!(address(&ask("www.lab.test.")?)?, "192.0.2.1");
        // Denials, and names at the end of an alias.
        assert_eq!(ask("nothing.names.test.")?.ede().first(), Some(&15));
        let reply = ask("tonames.lab.test.")?;
        assert_eq!((reply.rcode(), reply.answer.len(), reply.ede().first()), (3, 1, Some(&15)));
    }
    // A change of other rules has nobody looked at anew: two servers asked once at most.
    let before = asked()?;
    for rule in ["nsdname", "nsip"] {
        let label = format!("rpz-{rule}");
        ensure!(daemon.metric("resolverd_policy_answers_total", &[("rule", &label)])? >= 1.0);
    }
    fine().unwrap_err();
    ensure!(asked()? == before, "what is known is not asked for again");

    // An earlier rule of the same zone lets pass.
    write(&path, &format!("{RULES}www.names.test CNAME rpz-passthru.\n"))?;
    daemon.cli(&["reload"])?;
    assert_eq!(address(&ask("www.names.test.")?)?, "192.0.2.7");
    assert_eq!(ask("other.names.test.")?.rcode(), 3);
    write(&path, "")?;
    daemon.cli(&["reload"])?;
    fine()
}

#[test]
fn names_are_judged_by_their_servers_as_unbound_judges_them() -> Result<()> {
    need_servers!();
    let internet = Internet::new()?;
    let scratch = Scratch::new("rpz")?;
    let path = scratch.write("rpz.zone", SOA)?;
    write(&path, RULES)?;
    let more = format!("{ALLOW}\n[[rpz]]\nzone = \"rpz.test.\"\nfile = \"{}\"\n", path.display());
    let daemon = internet.daemon(&more)?;
    // It wants to be told the root's servers by name as well.
    let hints = scratch.write("root.hints", ". 3600 NS a.root.\na.root. 3600 A 10.53.2.10\n")?;
    let unbound = Unbound::running(&internet.site, "www.lab.test.", |_| {
        format!(
            "  root-hints: \"{}\"\n  target-fetch-policy: \"0 0 0 0 0\"\n\
             rpz:\n  name: \"rpz.test.\"\n  zonefile: \"{}\"\n",
            hints.display(),
            path.display()
        )
    })?;
    let asks = [
        ("www.names.test.", "A"),
        ("www.names.test.", "TXT"),
        ("nothing.names.test.", "A"),
        ("www.six.test.", "A"),
        ("www.six.test.", "AAAA"),
        ("www.lab.test.", "A"),
        ("host.lab.test.", "A"),
        ("nothing.lab.test.", "A"),
    ];
    compare(&internet.site, &unbound, &asks).map_err(|error| error.context(daemon.log()))
}
