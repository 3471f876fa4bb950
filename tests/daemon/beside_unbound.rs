//! Local zones and policy zones beside Unbound's, which has the same kinds and the same rules.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use lab::{Ask, Daemon, Process, Reply, Scratch, find, zones};

use crate::need_lab;
use crate::site::Site;

/// Unbound in the namespace of the upstream, which it asks like the daemon does.
pub struct Unbound {
    _process: Process,
    _scratch: Scratch,
    pub at: SocketAddr,
}

impl Unbound {
    fn start(site: &Site, clauses: impl FnOnce(&Path) -> String) -> Result<Self> {
        let forward = format!("forward-zone:\n  name: \".\"\n  forward-addr: {}\n", site.far.far);
        Self::running(site, "www.lab.test.", |dir| format!("{}\n{forward}", clauses(dir)))
    }

    /// With clauses that say how names are resolved; ready when it answers for `first`.
    pub fn running(
        site: &Site,
        first: &str,
        clauses: impl FnOnce(&Path) -> String,
    ) -> Result<Self> {
        let scratch = Scratch::new("unbound")?;
        let dir = scratch.path().display().to_string();
        let at = SocketAddr::from((site.far.far, 5_300));
        let config = format!(
            "server:\n  interface: {}@5300\n  access-control: 0.0.0.0/0 allow\n  \
             do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  directory: \"{dir}\"\n  \
             pidfile: \"{dir}/pid\"\n  use-syslog: no\n  logfile: \"\"\n  \
             module-config: \"respip iterator\"\n  do-not-query-localhost: no\n  \
             num-threads: 1\n  minimal-responses: yes\n  local-zone: \"test.\" nodefault\n{}\n",
            site.far.far,
            clauses(scratch.path()),
        );
        let config = scratch.write("unbound.conf", &config)?;
        let unbound = find("unbound").context("this test needs `unbound`")?;
        let mut command = site.upstream.command(unbound);
        command.arg("-d").arg("-c").arg(&config);
        let mut process = Process::start("unbound", command, &scratch.path().join("log"))?;
        process.ready("unbound answers", || {
            site.upstream.ask(at, &Ask::new(first, "A")).is_ok_and(|reply| reply.rcode() != 2)
        })?;
        Ok(Self { _process: process, _scratch: scratch, at })
    }
}

/// What a client makes of an answer: RCODE, TC and the records that answer, less their TTLs.
pub fn told(reply: &Result<Reply>) -> String {
    let Ok(reply) = reply else { return "nothing".into() };
    // Names in data may be compressed differently: of aliases it counts how many there are.
    let data: BTreeSet<String> =
        ["A", "AAAA", "TXT"].iter().flat_map(|t| reply.of_type(t)).map(lab::Record::text).collect();
    let aliases = reply.of_type("CNAME").count();
    format!("{} tc={} aliases={aliases} {data:?}", reply.rcode(), reply.truncated())
}

pub fn compare(site: &Site, unbound: &Unbound, asks: &[(&str, &str)]) -> Result<()> {
    let mut differences = Vec::new();
    for (name, qtype) in asks {
        let ask = Ask::new(name, qtype);
        let ours = told(&site.ask(&ask));
        let theirs = told(&site.upstream.ask(unbound.at, &ask));
        println!("{name} {qtype}: {ours}");
        if ours != theirs {
            differences.push(format!("{name} {qtype}: ours {ours}, Unbound's {theirs}"));
        }
    }
    anyhow::ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// Ours, Unbound's (of 1.17, which knows neither `block_a` nor `truncate`), and the records of each
/// zone below `lab.test`.
const KINDS: [(&str, &str, &[&str]); 9] = [
    ("static", "static", &["www A 192.0.2.7", "a.b A 192.0.2.8"]),
    ("transparent", "transparent", &["www A 192.0.2.7"]),
    ("type-transparent", "typetransparent", &["www A 192.0.2.7"]),
    ("redirect", "redirect", &["@ A 192.0.2.7", "@ TXT x"]),
    ("always-nxdomain", "always_nxdomain", &[]),
    ("always-nodata", "always_nodata", &[]),
    ("always-null", "always_null", &[]),
    ("deny", "deny", &["www A 192.0.2.7"]),
    ("refuse", "refuse", &["www A 192.0.2.7"]),
];

#[test]
fn local_zones_of_one_kind_answer_alike() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let mut text = site.file(&[site.authority_at()]).text();
    let mut clauses = String::new();
    let mut asks: Vec<(String, &str)> = Vec::new();
    for (ours, theirs, records) in KINDS {
        // `*.wild.lab.test` has addresses: what passes is seen to pass.
        let zone = format!("{ours}.wild.lab.test.");
        let quoted: Vec<String> = records.iter().map(|record| format!("\"{record}\"")).collect();
        text += &format!(
            "[[zone]]\nname = \"{zone}\"\nkind = \"{ours}\"\nrecords = [{}]\n",
            quoted.join(", ")
        );
        clauses += &format!("  local-zone: \"{zone}\" {theirs}\n");
        for record in records {
            let (owner, data) = record.split_once(' ').context("an owner")?;
            let owner = if owner == "@" { zone.clone() } else { format!("{owner}.{zone}") };
            clauses += &format!("  local-data: '{owner} 300 IN {data}'\n");
        }
        for (label, qtype) in [
            ("www.", "A"),
            ("www.", "AAAA"),
            ("www.", "TXT"),
            ("no.", "A"),
            ("no.", "TXT"),
            ("x.www.", "A"),
            ("b.", "A"),
            ("", "A"),
            ("", "MX"),
        ] {
            asks.push((format!("{label}{zone}"), qtype));
        }
    }
    let daemon = Daemon::start(&site.server, &text)?;
    site.attached(&daemon)?;
    let unbound = Unbound::start(&site, |_| clauses)?;
    let asks: Vec<(&str, &str)> = asks.iter().map(|(name, t)| (name.as_str(), *t)).collect();
    compare(&site, &unbound, &asks)
}

#[test]
fn policy_zones_with_the_same_rules_answer_alike() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let first = "$TTL 300\n@ SOA localhost. root. 1 3600 600 86400 300\n@ NS localhost.\n\
        www.lab.test CNAME .\n*.wild.lab.test CNAME *.\nstar.wild.lab.test CNAME rpz-passthru.\n\
        mail.lab.test A 198.51.100.1\nmail.lab.test TXT \"blocked\"\n\
        v6only.lab.test CNAME rpz-drop.\nns.lab.test CNAME rpz-tcp-only.\n\
        eight.lab.test CNAME mixed.lab.test.\n\
        32.200.2.0.192.rpz-ip CNAME .\n24.100.51.198.rpz-ip CNAME .\n\
        32.201.2.0.192.rpz-ip CNAME rpz-passthru.\n";
    let first = first.replace("24.100.51.198.rpz-ip", "24.0.100.51.198.rpz-ip");
    let second = "$TTL 300\n@ SOA localhost. root. 1 3600 600 86400 300\n@ NS localhost.\n\
        star.wild.lab.test CNAME .\ndeep.ent.lab.test CNAME .\n";
    let scratch = Scratch::new("rpz")?;
    let one = scratch.write("one.zone", &first)?;
    let two = scratch.write("two.zone", second)?;
    let text = format!(
        "{}[[rpz]]\nzone = \"one.rpz.\"\nfile = \"{}\"\n\
         [[rpz]]\nzone = \"two.rpz.\"\nfile = \"{}\"\n",
        site.file(&[site.authority_at()]).text(),
        one.display(),
        two.display()
    );
    let daemon = Daemon::start(&site.server, &text)?;
    site.attached(&daemon)?;
    let unbound = Unbound::start(&site, |_| {
        format!(
            "rpz:\n  name: \"one.rpz.\"\n  zonefile: \"{}\"\nrpz:\n  name: \"two.rpz.\"\n  \
             zonefile: \"{}\"\n",
            one.display(),
            two.display()
        )
    })?;
    let asks = [
        ("www.lab.test.", "A"),
        ("www.lab.test.", "TXT"),
        ("x.wild.lab.test.", "A"),
        ("x.y.wild.lab.test.", "TXT"),
        ("star.wild.lab.test.", "A"),
        ("mail.lab.test.", "A"),
        ("mail.lab.test.", "TXT"),
        ("mail.lab.test.", "AAAA"),
        ("v6only.lab.test.", "AAAA"),
        ("ns.lab.test.", "A"),
        ("eight.lab.test.", "A"),
        ("under_score.lab.test.", "A"),
        ("dot\\.ted.lab.test.", "A"),
        ("deep.ent.lab.test.", "A"),
        ("ttlday.lab.test.", "A"),
    ];
    compare(&site, &unbound, &asks)
}
