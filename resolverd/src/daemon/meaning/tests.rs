//! What a file comes to in the words of the rooms.

use super::*;

fn config(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap()
}

const ONE: &str = r#"
    [[zone]]
    name = "a.test."
    kind = "static"
    records = ["www A 192.0.2.1"]
"#;
const TWO: &str = r#"
    [[zone]]
    name = "a.test."
    kind = "static"
    records = ["www A 192.0.2.2"]
"#;

#[test]
fn a_changed_record_changes_the_fingerprint_and_a_moved_one_does_not() {
    let digest = |text: &str| in_answers(&config(text), &Files::default());
    assert_ne!(digest(ONE), digest(TWO));
    assert_eq!(digest(ONE), digest(&format!("\n\n{ONE}")));
    let view = "[[view]]\nname = \"v\"\nclients = [\"10.0.0.0/8\"]\n";
    assert_ne!(digest(ONE), digest(&format!("{ONE}\n{view}")));
    assert_ne!(digest(ONE), digest(&format!("{ONE}\n[dns64]\nprefix = \"64:ff9b::/96\"\n")));
    let changed = Files { digest: 1, ..Files::default() };
    assert_ne!(digest(ONE), in_answers(&config(ONE), &changed));
}

#[test]
fn a_bad_record_is_told_with_its_place() {
    let records = "records = [\n  \"www A 192.0.2.1\",\n  \"www A not-an-address\",\n]\n";
    let bad = config(&format!("[[zone]]\nname = \"a.test.\"\nkind = \"static\"\n{records}"));
    let text = policy(&bad, &Files::default()).err().unwrap().to_string();
    assert!(text.starts_with("test.toml:6:"), "{text}");
}

#[test]
fn nobody_is_told_of_queries_until_the_file_says_so() {
    let off = tap(&config(""), "host");
    assert!(off.query_log.is_none() && off.dnstap.is_none());
    let text = "[kernel]\nevent-sampling = 100\n[log]\nqueries = \"sampled\"\n\
                [dnstap]\nsocket = \"/run/x\"\nversion = \"off\"\n";
    let on = tap(&config(text), "host");
    assert_eq!(on.kernel_sample, 128, "as the program rounds it");
    assert_eq!(on.query_log.map(|log| (log.sample, log.file)), Some((64, None)));
    let dnstap = on.dnstap.unwrap();
    assert_eq!((dnstap.identity.as_deref(), dnstap.version), (Some("host"), None));
    let all = tap(&config("[log]\nqueries = \"all\"\n"), "host");
    assert_eq!(all.query_log.map(|log| log.sample), Some(1));
}

#[test]
fn an_open_access_list_is_warned_of_with_what_bounds_it() {
    assert_eq!(open_to_the_world(&config("")), None);
    assert_eq!(open_to_the_world(&config("acl.allow = [\"10.0.0.0/8\"]")), None);
    let text = open_to_the_world(&config("acl.allow = [\"0.0.0.0/0\"]")).unwrap();
    assert!(text.contains("(0.0.0.0/0)") && text.contains("no limit of answers"), "{text}");
    let limited = "acl.allow = [\"2000::/3\"]\n[rate-limit]\nresponses-per-second = 20\n";
    let text = open_to_the_world(&config(limited)).unwrap();
    assert!(text.contains("20 answers a second"), "{text}");
}

#[test]
fn the_limits_are_told_in_the_words_of_the_contract() {
    let limits = limits(&config("[rate-limit]\nresponses-per-second = 4\nburst = 3\n"));
    assert_eq!(limits.interval, SECOND / 4);
    assert_eq!(limits.burst, 3 * SECOND);
    assert_eq!((limits.prefix_v4, limits.prefix_v6, limits.slip), (24, 56, 2));
}

#[test]
fn the_systems_resolvers_are_asked_unless_the_root_has_its_own() {
    let system = ["192.0.2.53:53".parse().unwrap()];
    assert_eq!(resolver(&config(""), &system).upstreams.len(), 1);
    let own = config("[[upstream]]\nname = \"a\"\naddress = \"192.0.2.1\"\n");
    assert_eq!(resolver(&own, &system).upstreams.len(), 1);
    let recursion = resolver(&config("[resolve]\nmode = \"recurse\"\n"), &system);
    assert!(recursion.upstreams.is_empty() && recursion.recursion.is_some());
    let none = config(&format!("[resolve]\nupstream-from = \"none\"\n{ONE}"));
    assert!(resolver(&none, &system).upstreams.is_empty());
}

#[test]
fn zones_with_servers_of_their_own_are_known_to_recursion() {
    let config = config(
        "[resolve]\nmode = \"recurse\"\nbackground-queries = false\n\
         [[upstream]]\nname = \"a\"\naddress = \"192.0.2.1\"\nzones = [\"a.test.\"]\n\
         [[zone]]\nname = \"b.test.\"\nmode = \"forward\"\nupstreams = [\"192.0.2.2\"]\n\
         [[zone]]\nname = \"c.test.\"\nmode = \"stub\"\nupstreams = [\"192.0.2.3\"]\n",
    );
    let settings = resolver(&config, &[]);
    let options = &settings.recursion.as_ref().unwrap().options;
    let names =
        |names: &[&str]| -> Vec<Name> { names.iter().map(|name| name.parse().unwrap()).collect() };
    assert_eq!(options.forwarded, names(&["b.test.", "a.test."]));
    assert_eq!(options.stubs[0].zone, names(&["c.test."])[0]);
    assert_eq!(options.hints.len(), 26);
    assert!(!options.prime, "a question that no client waits for");
    let asked: Vec<&str> = settings.upstreams.iter().map(|u| &*u.name).collect();
    assert_eq!(asked, ["a", "b.test. 192.0.2.2:53"]);
}
