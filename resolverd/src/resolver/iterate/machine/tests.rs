//! The transition table of recursion: one server at a time, input by input. Whole ways from the
//! root down are `tests/scenarios`'.

use std::net::IpAddr;

use super::*;
use crate::dns::records::Record;

const NOW: BootTime = BootTime(1_000_000_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record { owner: name(owner), rtype, class: 1, ttl: 300, rdata: rdata.to_vec() }
}

fn options(servers: usize) -> Options {
    let hint = |n: usize| (name(&format!("h{n}.")), IpAddr::from([10, 0, 0, n as u8 + 1]));
    Options {
        hints: (0..servers).map(hint).collect(),
        prime: false,
        minimise: false,
        scramble: true,
        harden_glue: true,
        ipv4: true,
        ipv6: false,
        allow_server: vec!["10.0.0.0/8".parse().unwrap()],
        stubs: Vec::new(),
        forwarded: Vec::new(),
        port: 53,
        timeout: Duration::from_secs(4),
        failure_ttl: Duration::from_secs(5),
    }
}

/// A machine, and what it did since it was last looked at.
struct Rig {
    machine: Machine,
    world: World,
    now: BootTime,
}

impl Rig {
    fn new(options: Options) -> Self {
        let fetch = Fetch { name: name("www.test."), qtype: rtype::A };
        let machine = Machine::new(NOW, fetch, Purpose::Question, Arc::new(options), 1);
        Self { machine, world: World::new(1 << 20), now: NOW }
    }

    fn step(&mut self, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.step(self.now, input, &self.world, &mut out);
        out.iter().map(show).collect()
    }

    fn came(&mut self, attempt: Attempt, came: Came) -> Vec<String> {
        self.step(Input::Came(attempt, came))
    }

    /// Sleeps for as long as the machine wants to, and says how many milliseconds that was.
    fn sleep(&mut self) -> (u128, Vec<String>) {
        let wake = self.machine.wake_at().unwrap();
        let slept = wake.saturating_since(self.now).as_millis();
        self.now = wake;
        (slept, self.step(Input::Wake))
    }
}

fn show(output: &Output) -> String {
    match output {
        Output::Ask(ask) => {
            let Ask { attempt, transport, edns, scramble, .. } = ask;
            let flag = |on: bool, word: &str| if on { String::new() } else { format!(" {word}") };
            let words = flag(*edns, "plain") + &flag(*scramble, "steady");
            let transport = format!("{transport:?}").to_lowercase();
            format!("{attempt} {} {transport}{words}", ask.question.name)
        }
        Output::Fetch(ticket, fetch) => format!("fetch {ticket} {}", fetch.name),
        Output::Prime => "prime".to_owned(),
        Output::Done(Ok(reply)) => format!("done {} {}", reply.rcode, reply.answer.len()),
        Output::Done(Err(ede)) => format!("failed {} {}", ede.code, ede.text),
    }
}

fn message() -> Message {
    Message { authoritative: true, same_case: true, edns: true, ..Message::default() }
}

fn answer() -> Came {
    let answer = vec![record("www.test.", rtype::A, &[192, 0, 2, 1])];
    Came::Message(Message { answer, ..message() })
}

fn code(rcode: u16) -> Came {
    Came::Message(Message { rcode, ..message() })
}

fn referral(ttl: u32) -> Came {
    let mut ns = record("test.", rtype::NS, name("ns.test.").as_wire());
    ns.ttl = ttl;
    let glue = record("ns.test.", rtype::A, &[10, 0, 1, 1]);
    let (authority, additional) = (vec![ns], vec![glue]);
    Came::Message(Message { authoritative: false, authority, additional, ..message() })
}

/// The cuts on the trail of an answer, and the addresses of the nearest one's servers.
fn trail(reply: &Reply) -> String {
    let Some(cut) = reply.trail.cut_of(&[name("www.test.")]) else { return "none".into() };
    let zones: Vec<String> = cut.upwards().map(|cut| cut.zone.to_string()).collect();
    format!("{} {:?}", zones.join(" "), cut.addresses())
}

#[test]
fn an_answer_says_whose_servers_led_to_it_if_that_is_wanted_and_so_does_what_is_kept() {
    for wanted in [false, true] {
        let mut rig = Rig::new(options(1));
        assert_eq!(rig.world.trace(wanted), wanted);
        assert_eq!(rig.step(Input::Start), ["0 www.test. udp"]);
        assert_eq!(rig.came(0, referral(300)), ["1 www.test. udp"]);
        let mut out = Vec::new();
        let come = Input::Came(1, answer());
        rig.machine.step(rig.now, come, &rig.world, &mut out);
        let [Output::Done(Ok(reply))] = out.as_slice() else { panic!("{out:?}") };
        let expected = if wanted { "test. . [10.0.1.1]" } else { "none" };
        assert_eq!(trail(reply), expected);
        // Who asks again is told the same out of memory.
        let again = Rig { world: rig.world, ..Rig::new(options(1)) };
        let Rig { mut machine, world, now } = again;
        let mut out = Vec::new();
        machine.step(now, Input::Start, &world, &mut out);
        let [Output::Done(Ok(reply))] = out.as_slice() else { panic!("{out:?}") };
        assert_eq!(trail(reply), expected);
        assert!(!world.trace(wanted), "once");
    }
}

#[test]
fn addresses_that_servers_were_found_to_have_are_on_the_trail() {
    let mut rig = Rig::new(options(1));
    rig.world.trace(true);
    rig.step(Input::Start);
    // To a server of another zone, without glue.
    let ns = record("test.", rtype::NS, name("ns.other.").as_wire());
    let glueless = Message { authoritative: false, authority: vec![ns], ..message() };
    assert_eq!(rig.came(0, Came::Message(glueless)), ["1 ns.other. udp"]);
    let mut found = record("ns.other.", rtype::A, &[10, 0, 2, 2]);
    // Even if it is to be forgotten at once.
    found.ttl = 0;
    let address = Message { answer: vec![found], ..message() };
    assert_eq!(rig.came(1, Came::Message(address)), ["2 www.test. udp"]);
    let mut out = Vec::new();
    rig.machine.step(rig.now, Input::Came(2, answer()), &rig.world, &mut out);
    let [Output::Done(Ok(reply))] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(trail(reply), "test. . [10.0.2.2]");
}

/// How many servers there are, what happens one after the other, and what the machine does.
fn table(what: &str, servers: usize, rows: &[(Came, &[&str])]) {
    let mut rig = Rig::new(options(servers));
    assert_eq!(rig.step(Input::Start), ["0 www.test. udp"], "{what}");
    for (at, (came, expected)) in rows.iter().enumerate() {
        assert_eq!(rig.came(at, came.clone()), *expected, "{what}, row {at}");
    }
}

#[test]
fn the_transition_table() {
    let truncated = || Came::Message(Message { truncated: true, ..message() });
    let mangled = || Came::Message(Message { same_case: false, ..message() });
    let no_edns = |rcode| Came::Message(Message { rcode, edns: false, ..message() });
    let refused = "failed 22 every server of the zone refused or failed";
    table("an answer", 1, &[(answer(), &["done 0 1"])]);
    table("a denial", 1, &[(code(3), &["done 3 0"])]);
    table("nothing there", 1, &[(code(0), &["done 0 0"])]);
    table("cut short", 1, &[(truncated(), &["1 www.test. tcp steady"]), (answer(), &["done 0 1"])]);
    table(
        "cut short twice",
        1,
        &[(truncated(), &["1 www.test. tcp steady"]), (truncated(), &[refused])],
    );
    table(
        "other letters",
        1,
        &[(mangled(), &["1 www.test. udp steady"]), (answer(), &["done 0 1"])],
    );
    for rcode in [1, 4, 16] {
        table(
            "no EDNS",
            1,
            &[(no_edns(rcode), &["1 www.test. udp plain"]), (answer(), &["done 0 1"])],
        );
        table(
            "no EDNS, nor without",
            1,
            &[(no_edns(rcode), &["1 www.test. udp plain"]), (no_edns(rcode), &[refused])],
        );
    }
    for rcode in [1, 2, 4, 5, 9] {
        table(
            "a failure, and another server",
            2,
            &[(code(rcode), &["1 www.test. udp"]), (answer(), &["done 0 1"])],
        );
        table("failures", 2, &[(code(rcode), &["1 www.test. udp"]), (code(rcode), &[refused])]);
    }
    table("unreadable", 2, &[(Came::Unreadable, &["1 www.test. udp"]), (answer(), &["done 0 1"])]);
    table(
        "unreachable",
        1,
        &[(Came::Unreachable, &["failed 23 no server of the zone could be reached"])],
    );
    table("no socket", 2, &[(Came::NoSocket, &["1 www.test. udp"]), (answer(), &["done 0 1"])]);
    table("forged", 1, &[(Came::Forged, &["1 www.test. tcp steady"]), (answer(), &["done 0 1"])]);
    table(
        "forged over TCP",
        1,
        &[(Came::Forged, &["1 www.test. tcp steady"]), (Came::Forged, &[refused])],
    );
    table("a referral", 1, &[(referral(60), &["1 www.test. udp"]), (answer(), &["done 0 1"])]);
    let told = Ede { code: 18, text: "not for you".into() };
    table(
        "words",
        1,
        &[(
            Came::Message(Message { rcode: 5, ede: Some(told), ..message() }),
            &["failed 18 not for you"],
        )],
    );
}

#[test]
fn silence_is_answered_by_the_next_server_and_by_other_manners() {
    let mut rig = Rig::new(options(1));
    assert_eq!(rig.step(Input::Start), ["0 www.test. udp"]);
    let mut seen = Vec::new();
    while rig.machine.wake_at().is_some() {
        let (slept, did) = rig.sleep();
        seen.push(format!("{slept} {}", did.join(", ")));
    }
    let expected = [
        "376 1 www.test. udp",
        "752 2 www.test. tcp steady",
        "1128 3 www.test. udp plain",
        "1744 failed 22 no server of the zone answered in time",
    ];
    assert_eq!(seen, expected);
    assert_eq!(rig.now, NOW + Duration::from_secs(4));
    // A late answer changes nothing.
    assert_eq!(rig.came(0, answer()), [""; 0]);
}

#[test]
fn an_answer_that_comes_while_another_server_is_asked_is_taken() {
    let mut rig = Rig::new(options(2));
    rig.step(Input::Start);
    assert_eq!(rig.sleep(), (376, vec!["1 www.test. udp".to_owned()]));
    assert_eq!(rig.came(0, answer()), ["done 0 1"]);
}

#[test]
fn what_was_asked_before_a_referral_is_no_longer_waited_for() {
    let mut rig = Rig::new(options(2));
    rig.step(Input::Start);
    rig.sleep();
    assert_eq!(rig.came(0, referral(60)), ["2 www.test. udp"]);
    assert_eq!(rig.came(1, answer()), [""; 0], "of the zone above, and late");
    assert_eq!(rig.came(2, answer()), ["done 0 1"]);
    assert!(!rig.world.delegations.is_empty());
}

#[test]
fn a_referral_without_life_is_followed_and_not_kept() {
    let mut rig = Rig::new(options(1));
    rig.step(Input::Start);
    assert_eq!(rig.came(0, referral(0)), ["1 www.test. udp"]);
    assert!(rig.world.delegations.is_empty());
}

#[test]
fn priming_is_called_for_once_while_hints_are_in_use() {
    let mut rig = Rig::new(Options { prime: true, ..options(1) });
    assert_eq!(rig.step(Input::Start), ["prime", "0 www.test. udp"]);
    let cut = Arc::new(hints::cut(&options(2).hints, 53));
    let mut rig = Rig::new(Options { prime: true, ..options(1) });
    rig.world.delegations.keep(NOW, NOW, &cut, Duration::from_secs(60));
    assert_eq!(rig.step(Input::Start), ["0 www.test. udp"]);
}

#[test]
fn a_forwarded_name_is_fetched() {
    let forwarded = vec![name("test.")];
    let mut rig = Rig::new(Options { forwarded: forwarded.clone(), ..options(1) });
    assert_eq!(rig.step(Input::Start), ["fetch 0 www.test."]);
    let fetched = Input::Fetched(0, Ok(Reply { rcode: 3, ..Reply::default() }));
    assert_eq!(rig.step(fetched), ["done 3 0"]);
    let mut rig = Rig::new(Options { forwarded, ..options(1) });
    rig.step(Input::Start);
    let ede = Ede { code: 23, text: "gone".into() };
    assert_eq!(rig.step(Input::Fetched(0, Err(ede))), ["failed 23 gone"]);
}

#[test]
fn the_number_of_questions_is_bounded() {
    let mut rig = Rig::new(Options { minimise: true, ..options(1) });
    // A zone that refers one label further down for ever, with servers that were never asked.
    let long = format!("{}test.", "x.".repeat(100));
    let fetch = Fetch { name: name(&long), qtype: rtype::A };
    rig.machine = Machine::new(NOW, fetch.clone(), Purpose::Question, Arc::new(options(1)), 1);
    let mut out = Vec::new();
    rig.machine.step(NOW, Input::Start, &rig.world, &mut out);
    let mut depth = 1;
    loop {
        let last = out.pop().unwrap();
        let ask = match last {
            Output::Ask(ask) => ask,
            Output::Done(result) => {
                assert_eq!(result.unwrap_err().text, "it takes too many referrals");
                break;
            }
            other => panic!("{other:?}"),
        };
        let suffixes: Vec<&[u8]> = fetch.name.suffixes().collect();
        let zone = Name::from_wire(suffixes[suffixes.len() - 1 - depth]).unwrap().to_string();
        depth += 1;
        let server = format!("ns.{zone}");
        let authority = vec![record(&zone, rtype::NS, name(&server).as_wire())];
        let additional = vec![record(&server, rtype::A, &[10, 1, 0, depth as u8])];
        let came = Came::Message(Message { authority, additional, ..message() });
        rig.machine.step(NOW, Input::Came(ask.attempt, came), &rig.world, &mut out);
    }
    assert_eq!(rig.machine.questions(), REFERRALS_MAX + 1);
}
