//! Policy as clients see it, from the kernel and from the daemon: views, policy zones from a file
//! and from a primary, DNS64, private addresses.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Daemon, Process, Reply, Scratch, find, run, wait, zones};

use crate::need_lab;
use crate::site::{By, Site, address, json, logged};

/// The addresses of an answer, or its RCODE.
fn said(reply: &Reply) -> String {
    let data: Vec<String> = ["A", "AAAA", "CNAME"]
        .iter()
        .flat_map(|t| reply.of_type(t))
        .map(lab::Record::text)
        .collect();
    match (reply.rcode(), data.is_empty()) {
        (0, false) => data.join(" "),
        (0, true) => "nodata".into(),
        (rcode, _) => format!("rcode {rcode}"),
    }
}

#[test]
fn the_kernel_answers_clients_of_a_view_differently_and_none_of_another_ones_answers() -> Result<()>
{
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    // A second client on the same wire.
    site.client.address("c0", "10.53.1.66/24")?;
    let text = format!(
        "{}[[view]]\nname = \"second\"\nclients = [\"10.53.1.66\"]\n\
         [[view]]\nname = \"streams\"\nclients = [\"10.53.1.1\"]\ntransports = [\"tcp\"]\n\
         [[zone]]\nname = \"who.test.\"\nkind = \"static\"\nrecords = [\"@ 300 A 192.0.2.1\"]\n\
         [[zone]]\nname = \"who.test.\"\nkind = \"static\"\nrecords = [\"@ 300 A 192.0.2.66\"]\n\
         views = [\"second\"]\n\
         [[zone]]\nname = \"who.test.\"\nkind = \"static\"\nrecords = [\"@ 300 A 192.0.2.99\"]\n\
         views = [\"streams\"]\n",
        site.file(&[site.authority_at()]).text()
    );
    let daemon = Daemon::start(&site.server, &text)?;
    site.attached(&daemon)?;
    let ask = Ask::new("who.test.", "A");
    let bytes = ask.bytes();
    let from = |local: &str| -> Result<String> {
        let local: SocketAddr = format!("{local}:0").parse()?;
        let to = site.at();
        let answer = site.client.enter(|| -> Result<Vec<u8>> {
            let socket = std::net::UdpSocket::bind(local)?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            socket.send_to(&bytes, to)?;
            let mut answer = vec![0; 4_096];
            let length = socket.recv(&mut answer)?;
            answer.truncate(length);
            Ok(answer)
        })??;
        Ok(said(&Reply::parse(&answer)?))
    };
    let hits = || daemon.metric("resolverd_kernel_packets_total", &[("verdict", "hit")]);
    for (client, expected) in [("10.53.1.1", "192.0.2.1"), ("10.53.1.66", "192.0.2.66")] {
        let before = hits()?;
        for _ in 0..10 {
            assert_eq!(from(client)?, expected, "{client}");
        }
        ensure!(hits()? > before, "{client} is answered by the kernel\n{}", daemon.log());
    }
    let tcp = site.client.enter(|| lab::tcp(site.at(), &bytes, Duration::from_secs(3)))??;
    assert_eq!(said(&Reply::parse(&tcp)?), "192.0.2.99");
    // A reload that turns the views round holds from its end on.
    let turned = text.replace("clients = [\"10.53.1.66\"]", "clients = [\"10.53.1.1\"]");
    let turned = turned.replacen(
        "clients = [\"10.53.1.1\"]\ntransports",
        "clients = \
         [\"10.53.1.9\"]\ntransports",
        1,
    );
    daemon.rewrite(&turned)?;
    daemon.cli(&["reload"])?;
    for _ in 0..10 {
        assert_eq!(from("10.53.1.1")?, "192.0.2.66");
        assert_eq!(from("10.53.1.66")?, "192.0.2.1");
    }
    Ok(())
}

#[test]
fn a_policy_zone_from_a_file_is_the_kernels_too_and_a_reload_of_it_holds_at_once() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let scratch = Scratch::new("rpz")?;
    let soa = "$TTL 300\n@ SOA localhost. root. 1 3600 600 86400 300\n";
    let path = scratch.write("rpz.zone", &format!("{soa}www.lab.test CNAME .\n"))?;
    let text = format!(
        "{}[[rpz]]\nzone = \"rpz.test.\"\nfile = \"{}\"\n",
        site.file(&[site.authority_at()]).text(),
        path.display()
    );
    let daemon = Daemon::start(&site.server, &text)?;
    site.attached(&daemon)?;
    let (www, alias) = (Ask::new("www.lab.test.", "A"), Ask::new("alias.lab.test.", "A"));
    site.warm(&daemon, &www)?;
    let (reply, by) = site.ask_by(&daemon, &www.clone().edns(1_232))?;
    assert_eq!((said(&reply), by), ("rcode 3".into(), By::Kernel));
    assert_eq!(reply.ede(), [15], "the kernel says why as well");
    let told = json(&daemon, &["explain", "www.lab.test", "A"])?;
    assert_eq!(told["rule"], "policy zone rpz.test.: qname www.lab.test.: nxdomain", "{told}");

    // By its address, in place of by its name; the kernel gives none of either away.
    fs::write(&path, format!("{soa}32.1.2.0.192.rpz-ip A 198.51.100.1\n"))?;
    daemon.cli(&["reload"])?;
    for _ in 0..10 {
        let (reply, by) = site.ask_by(&daemon, &www)?;
        assert_eq!((said(&reply), by), ("198.51.100.1".into(), By::Daemon));
    }
    ensure!(site.ask(&alias)?.rcode() == 0);

    // A bad file refuses the reload, and the old content goes on.
    fs::write(&path, format!("{soa}www.lab.test CNAME\n"))?;
    let refused = daemon.cli_output(&["reload"])?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    ensure!(why.contains("line 3"), "{why}");
    assert_eq!(said(&site.ask(&www)?), "198.51.100.1");

    // Without rules all is as it was.
    fs::write(&path, soa)?;
    daemon.cli(&["reload"])?;
    assert_eq!(address(&site.ask(&www)?)?, "192.0.2.1");
    site.warm(&daemon, &www)?;
    ensure!(daemon.metric("resolverd_policy_answers_total", &[("rule", "rpz-qname")])? >= 1.0);
    Ok(())
}

/// knotd with one policy zone, which it transfers to who has the key.
struct Primary {
    _process: Process,
    config: PathBuf,
    zone: PathBuf,
    _scratch: Scratch,
}

const SECRET: &str = "c2VjcmV0IG9mIHRoZSBsYWI6IG5vYm9keSBrbm93cw==";

impl Primary {
    fn start(site: &Site, rules: &[&str]) -> Result<Self> {
        let scratch = Scratch::new("primary")?;
        let dir = scratch.path().display().to_string();
        let zone = scratch.write("rpz.zone", &Self::text(1, rules))?;
        let mut config = format!(
            "server:\n  rundir: \"{dir}\"\n  listen: {}@5353\n\
             database:\n  storage: \"{dir}\"\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: transfer.test.\n    algorithm: hmac-sha256\n    secret: {SECRET}\n",
            site.far.far
        );
        let _ = write!(
            config,
            "remote:\n  - id: resolver\n    address: {}@53\n    key: transfer.test.\n\
             acl:\n  - id: transfer\n    key: transfer.test.\n    action: transfer\n\
             zone:\n  - domain: rpz.test.\n    file: \"{}\"\n    notify: resolver\n    \
             acl: transfer\n    zonefile-load: difference\n    zonefile-sync: -1\n    \
             journal-content: changes\n    semantic-checks: off\n",
            site.far.near,
            zone.display()
        );
        let config = scratch.write("knot.conf", &config)?;
        let knotd = find("knotd").context("the lab needs `knotd`: `cargo xtask setup`")?;
        let mut command = site.upstream.command(knotd);
        command.arg("-c").arg(&config);
        let mut process = Process::start("knotd", command, &scratch.path().join("log"))?;
        let at = (site.far.far, 5_353).into();
        process.ready("knotd answers for the policy zone", || {
            let asked = site.upstream.ask(at, &Ask::new("rpz.test.", "SOA"));
            asked.is_ok_and(|reply| reply.of_type("SOA").next().is_some())
        })?;
        Ok(Self { _process: process, config, zone, _scratch: scratch })
    }

    fn text(serial: u32, rules: &[&str]) -> String {
        let mut text = format!(
            "$ORIGIN rpz.test.\n$TTL 300\n\
             @ SOA ns.rpz.test. root.rpz.test. {serial} 3600 5 86400 60\n@ NS ns\nns A 192.0.2.53\n"
        );
        for rule in rules {
            text.push_str(rule);
            text.push('\n');
        }
        text
    }

    /// Another version, of which the resolver is notified.
    fn publish(&self, site: &Site, serial: u32, rules: &[&str]) -> Result<()> {
        fs::write(&self.zone, Self::text(serial, rules))?;
        let knotc = find("knotc").context("the lab needs `knotc`")?;
        let mut command = site.upstream.command(knotc);
        run(command.arg("-c").arg(&self.config).args(["zone-reload", "rpz.test."])).map(drop)
    }
}

#[test]
fn a_policy_zone_of_a_primary_comes_by_axfr_and_ixfr_with_notify_and_tsig() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let first = ["www.lab.test CNAME .", "*.deep.lab.test CNAME *.", "rpz-a.test A 198.51.100.7"];
    let primary = Primary::start(&site, &first)?;
    let scratch = Scratch::new("key")?;
    let key = scratch.write("key", &format!("{SECRET}\n"))?;
    let wrong = scratch.write("wrong", "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=")?;
    let text = |key: &std::path::Path| {
        let file = site.file(&[site.authority_at()]);
        let listen = SocketAddr::from((site.far.near, 53));
        let file =
            crate::site::File { listen: [file.listen.clone(), vec![listen]].concat(), ..file };
        format!(
            "{}[[rpz]]\nzone = \"rpz.test.\"\nprimaries = [\"{}:5353\"]\n\
             tsig-name = \"transfer.test.\"\ntsig-secret-file = \"{}\"\n",
            file.text(),
            site.far.far,
            key.display()
        )
    };
    let daemon = Daemon::start(&site.server, &text(&wrong))?;
    site.attached(&daemon)?;
    let www = Ask::new("www.lab.test.", "A");
    let updates =
        |result: &str| daemon.metric("resolverd_policy_rpz_updates_total", &[("result", result)]);
    let serial = |wanted: f64| -> Result<()> {
        let there = || {
            let now = daemon.metric("resolverd_policy_rpz_serial", &[("zone", "rpz.test.")]);
            now.is_ok_and(|now| now == wanted)
        };
        wait::until("the policy zone's version", wait::READY, there).with_context(|| daemon.log())
    };
    // Another secret: nothing is believed, and names are served without it.
    logged(&daemon, &["WARN", "policy zone not updated"])?;
    ensure!(updates("failed")? >= 1.0);
    assert_eq!(address(&site.ask(&www)?)?, "192.0.2.1");
    site.warm(&daemon, &www)?;

    // The right one: the whole zone comes.
    daemon.rewrite(&text(&key))?;
    daemon.cli(&["reload"])?;
    serial(1.0)?;
    ensure!(updates("whole")? >= 1.0);
    wait::until("the rule to hold", wait::READY, || {
        site.ask(&www).is_ok_and(|reply| reply.rcode() == 3)
    })?;
    site.warm(&daemon, &www)?;
    assert_eq!(site.ask(&www)?.rcode(), 3);
    assert_eq!(said(&site.ask(&Ask::new("a.deep.lab.test.", "A"))?), "nodata");

    // A change, by notification: the kernel's answers of before are gone with it.
    let second =
        ["alias.lab.test CNAME .", "*.deep.lab.test CNAME *.", "rpz-a.test A 198.51.100.8"];
    primary.publish(&site, 2, &second)?;
    serial(2.0)?;
    ensure!(updates("changes")? >= 1.0, "{}", daemon.log());
    wait::until("the change to hold", wait::READY, || {
        site.ask(&www).is_ok_and(|reply| reply.rcode() == 0)
    })?;
    for _ in 0..5 {
        assert_eq!(address(&site.ask(&www)?)?, "192.0.2.1");
        assert_eq!(site.ask(&Ask::new("alias.lab.test.", "A"))?.rcode(), 3);
        assert_eq!(said(&site.ask(&Ask::new("rpz-a.test.", "A"))?), "198.51.100.8");
    }
    let rules = daemon.metric("resolverd_policy_rpz_rules", &[("zone", "rpz.test.")])?;
    // The primary's own name is a rule like any: it stands in the zone.
    assert_eq!(rules, 4.0);
    // The primary goes: what it said goes on.
    drop(primary);
    assert_eq!(site.ask(&Ask::new("alias.lab.test.", "A"))?.rcode(), 3);
    Ok(())
}

#[test]
fn what_a_primary_said_is_there_at_a_start_without_it_and_a_changed_file_is_not_used() -> Result<()>
{
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let primary = Primary::start(&site, &["www.lab.test CNAME .", "mail.lab.test CNAME *."])?;
    let scratch = Scratch::new("key")?;
    let key = scratch.write("key", &format!("{SECRET}\n"))?;
    let text = format!(
        "{}[[rpz]]\nzone = \"rpz.test.\"\nprimaries = [\"{}:5353\"]\n\
         tsig-name = \"transfer.test.\"\ntsig-secret-file = \"{}\"\n",
        site.file(&[site.authority_at()]).text(),
        site.far.far,
        key.display()
    );
    let mut daemon = Daemon::start(&site.server, &text)?;
    let www = Ask::new("www.lab.test.", "A");
    logged(&daemon, &["policy zone taken over"])?;
    let folder = daemon.dir().join("state/policy-zones");
    let file = || -> Option<PathBuf> {
        let mut paths = fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path());
        paths.find(|path| path.extension() == Some("zone".as_ref()))
    };
    wait::until("the zone to be on disk", wait::READY, || file().is_some())?;
    let path = file().context("it is there")?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    drop(primary);
    daemon.kill9();
    daemon.restart()?;
    // From the first query on.
    assert_eq!(site.ask(&www)?.rcode(), 3, "{}", daemon.log());
    logged(&daemon, &["policy zone read from disk", "serial=1"])?;
    let updates =
        |result| daemon.metric("resolverd_policy_rpz_updates_total", &[("result", result)]);
    assert_eq!((updates("disk")?, updates("whole")?), (1.0, 0.0));

    let mut octets = fs::read(&path)?;
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&path, octets)?;
    daemon.kill9();
    daemon.restart()?;
    logged(&daemon, &["a policy zone on disk is not used", "its MAC is wrong"])?;
    assert_eq!(address(&site.ask(&www)?)?, "192.0.2.1");
    Ok(())
}

#[test]
fn ipv6_addresses_are_made_and_private_ones_refused() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::lab()])?;
    let mut file = site.file(&[site.authority_at()]);
    file.resolve += "\nprivate-addresses = [\"198.51.100.0/24\"]\n\
                     private-domains = [\"seventeen.lab.test\"]";
    let text = format!("{}[dns64]\nprefix = \"2001:db8:64::/96\"\n", file.text());
    let daemon = Daemon::start(&site.server, &text)?;
    site.attached(&daemon)?;
    let ask = Ask::new("eight.lab.test.", "AAAA");
    site.warm(&daemon, &ask)?;
    let reply = site.ask(&ask)?;
    let mut made: Vec<String> = reply.of_type("AAAA").map(lab::Record::text).collect();
    made.sort();
    assert_eq!(made.len(), 8);
    assert_eq!(made[0], "2001:db8:64::c000:201");
    // Names with addresses of their own keep them; names that don't exist don't.
    assert_eq!(site.ask(&Ask::new("nowhere.lab.test.", "AAAA"))?.rcode(), 3);
    let reverse = "1.0.2.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    let reply = site.ask(&Ask::new(reverse, "PTR"))?;
    // `1.2.0.192.in-addr.arpa`, up to where it may be compressed.
    let alias: Vec<String> = reply.of_type("CNAME").map(lab::Record::text).collect();
    ensure!(alias.len() == 1 && alias[0].starts_with("013101320130033139320769"), "{alias:?}");
    for _ in 0..2 {
        let (reply, by) = site.ask_by(&daemon, &Ask::new("many.lab.test.", "A").edns(1_232))?;
        assert_eq!((reply.rcode(), by), (5, By::Daemon));
        assert_eq!(reply.ede(), [15]);
    }
    Ok(())
}
