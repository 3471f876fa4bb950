//! Files and what they mean, files and why they are refused.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Files, each followed by the lines of its refusal, which start with "! ".
const REFUSED: &str = include_str!("refused.txt");

fn refusal(text: &str) -> String {
    match Config::parse(text, "f") {
        Ok(_) => panic!("taken:\n{text}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn bad_files_are_refused_with_the_place_and_what_to_write_instead() {
    let mut cases = 0;
    for case in REFUSED.trim_end().split("\n----\n") {
        let (said, written): (Vec<&str>, Vec<&str>) =
            case.lines().partition(|line| line.starts_with("! "));
        let said: Vec<&str> = said.iter().map(|line| &line[2..]).collect();
        assert_eq!(refusal(&written.join("\n")), said.join("\n"), "in:\n{case}");
        cases += 1;
    }
    assert!(cases >= 100, "{cases}");
}

#[test]
fn the_defaults_are_what_the_documents_say() {
    let config = Config::parse("", "f").unwrap();
    let server = &config.server;
    let listen: Vec<String> = server.listen.iter().map(Listen::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:53", "[::1]:53"]);
    assert_eq!(server.edns_size, 1232);
    assert_eq!(server.state_dir, Path::new("/var/lib/resolverd"));
    assert_eq!(server.clock, Clock::Boot);
    assert_eq!(config.kernel.mode, KernelMode::Auto);
    assert_eq!(config.kernel.interfaces, ["lo"]);
    assert_eq!(config.kernel.entries, [65536, 8192, 4096, 1024]);
    assert_eq!(config.kernel.lease, Duration::from_secs(10));
    assert_eq!(config.kernel.pin_path, Path::new("/run/resolverd/bpf"));
    assert_eq!(config.kernel.event_sampling, 64);
    assert_eq!(config.cache.memory_max, 64 << 20);
    assert_eq!(config.cache.ttl_max, Duration::from_secs(86_400));
    assert_eq!(config.cache.ttl_min, Duration::ZERO);
    assert_eq!(config.cache.negative_ttl_max, Duration::from_secs(3_600));
    assert_eq!(config.cache.failure_ttl, Duration::from_secs(5));
    assert!(config.cache.prefetch);
    assert_eq!(config.cache.serve_stale, Duration::from_secs(86_400));
    assert_eq!(config.cache.stale_answer_after, Duration::from_millis(1_800));
    assert!(!config.cache.persist);
    assert_eq!(config.resolve.mode, ResolveMode::Forward);
    assert_eq!(config.resolve.upstream_from, UpstreamFrom::System);
    assert!(config.resolve.ipv4 && config.resolve.ipv6);
    assert_eq!(config.resolve.queries_in_flight_max, 4096);
    assert_eq!(config.resolve.queries_in_flight_per_zone_max, 512);
    assert_eq!(config.resolve.edns_size, 1232);
    let recursion = &config.resolve.recursion;
    assert_eq!(recursion.root_hints, None);
    assert!(recursion.prime_root && recursion.qname_minimisation && recursion.harden_glue);
    assert!(recursion.case_randomisation && recursion.background_queries);
    assert!(recursion.query_source.is_empty() && recursion.allow_server.is_empty());
    assert!(config.dnssec.rfc5011 && config.dnssec.anchor_signalling);
    assert!(config.upstreams.is_empty() && config.zones.is_empty());
    assert!(config.views.is_empty() && config.rpz.is_empty() && config.dns64.is_none());
    assert!(config.resolve.builtin_zones && config.resolve.hosts_files.is_empty());
    assert!(config.resolve.private_addresses.is_empty());
    assert_eq!(config.acl.allow, ["127.0.0.0/8", "::1/128"].map(|p| p.parse().unwrap()));
    assert!(config.acl.deny.is_empty());
    assert!(config.cookies.enabled && config.cookies.secrets.is_empty());
    let limits = &config.rate_limit;
    assert_eq!((limits.responses_per_second, limits.burst_secs, limits.slip), (0, 2, 2));
    assert_eq!((limits.ipv4_prefix, limits.ipv6_prefix), (24, 56));
    assert_eq!(limits.amplification_max, 20);
    assert_eq!(limits.exempt.len(), 9);
    assert_eq!(config.metrics.listen, Some("127.0.0.1:9853".parse().unwrap()));
    assert_eq!(config.control.socket, Path::new("/run/resolverd/control.sock"));
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!((config.log.queries, config.log.query_sampling), (Queries::Off, 64));
    assert_eq!(config.log.query_target, QueryTarget::Stderr);
    assert_eq!(config.privacy.client_prefix, (24, 56));
    let dnstap = &config.dnstap;
    assert_eq!(dnstap.receiver, None);
    assert_eq!(dnstap.messages, [DnstapMessage::ClientQuery, DnstapMessage::ClientResponse]);
    assert_eq!((&dnstap.identity, &dnstap.version), (&DnstapText::Auto, &DnstapText::Auto));
}

#[test]
fn the_query_log_and_dnstap_go_where_the_file_says() {
    let config = Config::parse(
        "[log]\nqueries = \"sampled\"\nquery-target = \"/var/log/q\"\n\
         [privacy]\nclient-prefix = \"/0, /64\"\n\
         [dnstap]\naddress = \"[2001:db8::1]:6000\"\nidentity = \"off\"\nversion = \"7\"\n\
         messages = [\"resolver-query\"]\n",
        "f",
    )
    .unwrap();
    assert_eq!(config.log.queries, Queries::Sampled);
    assert_eq!(config.log.query_target, QueryTarget::File("/var/log/q".into()));
    assert_eq!(config.privacy.client_prefix, (0, 64));
    let dnstap = &config.dnstap;
    assert_eq!(dnstap.address(), Some("[2001:db8::1]:6000".parse().unwrap()));
    assert_eq!(
        (dnstap.socket(), &dnstap.messages[..]),
        (None, &[DnstapMessage::ResolverQuery][..])
    );
    assert_eq!(dnstap.identity, DnstapText::Off);
    assert_eq!(dnstap.version, DnstapText::Text("7".to_owned()));
    let config =
        Config::parse("[privacy]\nclient-prefix = \"off\"\n[dnstap]\nsocket = \"/run/x\"\n", "f")
            .unwrap();
    assert_eq!(config.privacy.client_prefix, (32, 128));
    assert_eq!(config.dnstap.socket(), Some(Path::new("/run/x")));
}

#[test]
fn the_clock_of_test_rigs_needs_the_kernel_path_off() {
    let rig = Config::parse("[server]\nclock = \"realtime\"\n[kernel]\nmode = \"off\"\n", "f");
    assert_eq!(rig.unwrap().server.clock, Clock::Realtime);
}

#[test]
fn the_defaults_laid_over_themselves_are_the_defaults() {
    assert_eq!(Config::parse(DEFAULTS, "f"), Config::parse("", "f"));
}

#[test]
fn the_commented_examples_of_the_defaults_are_taken() {
    let example = |line: &str| {
        let line = line.strip_prefix("# ")?;
        let assignment = line.split_once(" = ").is_some_and(|(key, _)| {
            key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        });
        (assignment || line.starts_with("[[")).then(|| line.to_owned())
    };
    let text: Vec<String> =
        DEFAULTS.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned())).collect();
    let config = Config::parse(&text.join("\n"), "f").unwrap();
    assert_eq!(config.kernel.entries, [65536, 8192, 4096, 1024]);
    assert_eq!(config.upstreams[0].name, "office");
    assert_eq!(config.zones[0].records[0].text, "printer 300 IN A 192.0.2.7");
    assert_eq!(config.zones[0].views, ["guests"]);
    assert_eq!((config.views[0].name.as_str(), config.views[0].access), ("guests", Access::Acl));
    assert_eq!(config.rpz[0].policy, Override::Given);
}

#[test]
fn a_cookie_secret_is_read_in_the_order_of_its_octets() {
    let text = "[cookies]\nsecrets = [\"000102030405060708090a0b0c0d0E0F\"]\n";
    let [secret] = Config::parse(text, "f").unwrap().cookies.secrets[..] else { panic!() };
    let octets = secret.map(u64::to_ne_bytes).concat();
    assert!(octets.iter().copied().eq(0..16), "{octets:?}");
}

#[test]
fn larger_classes_follow_entries_unless_they_are_written() {
    let entries = |text: &str| Config::parse(text, "f").unwrap().kernel.entries;
    assert_eq!(entries("kernel.entries = 1024"), [1024, 256, 256, 256]);
    assert_eq!(
        entries("[kernel]\nentries = 1000000\nentries-512 = 300"),
        [1_000_000, 125_000, 300, 15_625]
    );
}

#[test]
fn upstreams_and_zones_are_read_with_their_names_made_absolute() {
    let text = "[[upstream]]\nname = \"a\"\naddress = \"192.0.2.1\"\n\
                zones = [\"Corp.Example\", \".\"]\n\
                [[zone]]\nname = \"home.ARPA\"\nkind = \"transparent\"\n\
                records = [\n  \"a 1 IN A 192.0.2.2\",\n  \"@ 1 IN TXT x\",\n]\n";
    let config = Config::parse(text, "f").unwrap();
    assert_eq!(config.upstreams[0].address, "192.0.2.1:53".parse().unwrap());
    assert_eq!(config.upstreams[0].zones, ["corp.example.", "."]);
    let zone = &config.zones[0];
    assert_eq!((zone.name.as_str(), zone.kind), ("home.arpa.", ZoneKind::Transparent));
    let at = zone.records[1].at;
    assert_eq!((at.line, at.column), (10, 3));
    let problem = config.problem(at, "no such type").to_string();
    assert_eq!(problem, "f:10:3: no such type");
    assert_eq!(zone.at.line, 5);
}

#[test]
fn metrics_can_be_off_and_the_state_directory_of_systemd_is_a_default() {
    let config = Config::parse("[metrics]\nlisten = \"off\"", "f").unwrap();
    assert_eq!(config.metrics.listen, None);
    let given = Path::new("/var/lib/private/resolverd");
    let dir = |text: &str| Config::read(text, "f", Some(given)).unwrap().server.state_dir;
    assert_eq!(dir(""), given);
    assert_eq!(dir("server.state-dir = \"/srv/x\""), Path::new("/srv/x"));
}

#[test]
fn old_answers_can_be_switched_off() {
    let stale = |text: &str| Config::parse(text, "f").unwrap().cache.serve_stale;
    assert_eq!(stale("cache.serve-stale = \"off\""), Duration::ZERO);
    assert_eq!(stale("cache.serve-stale = \"3d\""), Duration::from_secs(3 * 86_400));
}

#[test]
fn a_file_of_windows_is_read_and_its_places_are_right() {
    let config = Config::parse("[server]\r\nedns-size = 512\r\n", "f").unwrap();
    assert_eq!(config.server.edns_size, 512);
    assert!(refusal("[server]\r\nedns-size = 5\r\n").starts_with("f:2:13: "));
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Config::parse(&text, "f");
    }

    /// Near to a real file, with pieces torn out and others put in.
    #[test]
    fn no_torn_file_panics(
        file in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, ".{0,6}"), 1..6),
    ) {
        let files: Vec<&str> = REFUSED.split("\n----\n").chain([DEFAULTS]).collect();
        let mut text = files[file.index(files.len())].replace("\n! ", "\n# ");
        for (at, len, put) in cuts {
            let at = at.index(text.len() + 1);
            let from = text.floor_char_boundary(at);
            let to = text.floor_char_boundary(at + len);
            text.replace_range(from..to, &put);
            let _ = Config::parse(&text, "f");
        }
    }

    /// Any value in the place of any key's.
    #[test]
    fn no_value_panics(
        section in any::<prop::sample::Index>(),
        key in any::<prop::sample::Index>(),
        value in prop_oneof![
            "\"[a-zA-Z0-9:.%/\\[\\] ]{0,24}\"",
            "-?[0-9]{1,20}",
            "\\[(\"[a-z0-9:.%/*]{0,12}\",){0,3}\\]",
            Just("{ a = 1 }".to_owned()),
            Just("true".to_owned()),
            Just("1979-05-27".to_owned()),
            Just("inf".to_owned()),
        ],
    ) {
        let sections = spec::sections();
        let section = &sections[section.index(sections.len())];
        let key = section.keys[key.index(section.keys.len())];
        let header = if section.repeated { format!("[[{}]]", section.name) }
            else { format!("[{}]", section.name) };
        let _ = Config::parse(&format!("{header}\n{key} = {value}\n"), "f");
    }
}

#[test]
fn zones_with_a_mode_are_asked_for_elsewhere() {
    let text = "[resolve]\nmode = \"recurse\"\nallow-server = [\"10.0.0.0/8\"]\n\
                [[zone]]\nname = \"Corp.Example\"\nmode = \"stub\"\n\
                upstreams = [\"10.0.0.1\", \"[fd00::1]:5300\"]\n";
    let config = Config::parse(text, "f").unwrap();
    assert_eq!(config.resolve.mode, ResolveMode::Recurse);
    assert!(config.zones.is_empty());
    let stub = &config.delegated[0];
    assert_eq!((stub.name.as_str(), stub.how), ("corp.example.", Delegation::Stub));
    let upstreams = ["10.0.0.1:53", "[fd00::1]:5300"].map(|at| at.parse().unwrap());
    assert_eq!(stub.upstreams, upstreams);
}

#[test]
fn root_hints_are_read_with_the_file_and_missing_ones_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (path, hints) = (dir.path().join("c.toml"), dir.path().join("root.hints"));
    let text = format!("[resolve]\nroot-hints = {:?}\n", hints.display().to_string());
    std::fs::write(&path, text).unwrap();
    let refused = Config::load(Some(&path)).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("{}:2:14: ", path.display())), "{refused}");
    assert!(refused.contains("can't be read"), "{refused}");
    std::fs::write(&hints, "x. A 10.0.0.1\n").unwrap();
    let config = Config::load(Some(&path)).unwrap();
    assert_eq!(config.resolve.recursion.root_hints.unwrap().text, "x. A 10.0.0.1\n");
}
