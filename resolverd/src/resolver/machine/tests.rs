//! The transition table of a question, in virtual time.

use super::*;
use crate::dns::rcode;

const A: UpstreamId = UpstreamId::test(1);
const B: UpstreamId = UpstreamId::test(2);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A machine, and what it did since it was last looked at.
struct Rig {
    machine: Machine,
    now: BootTime,
}

impl Rig {
    fn new(candidates: &[Candidate]) -> Self {
        let now = BootTime(1_000_000_000);
        Self { machine: Machine::new(now, candidates, TIMEOUT), now }
    }

    fn step(&mut self, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.step(self.now, input, &mut out);
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
            let name = if ask.upstream == A { 'a' } else { 'b' };
            let plain = if ask.edns { "" } else { " plain" };
            let down = if ask.downgraded { " downgraded" } else { "" };
            format!("{} {name} {:?}{plain}{down}", ask.attempt, ask.transport).to_lowercase()
        }
        Output::Done(result) => match result {
            Err(ede) => format!("done 2 {} {}", ede.code, ede.text),
            Ok(told) => format!("done {}", told.reply.rcode),
        },
    }
}

fn candidate(id: UpstreamId) -> Candidate {
    Candidate { id, wait: Duration::from_millis(400), edns: true }
}

fn answer() -> Came {
    let reply = Reply { rcode: rcode::NXDOMAIN, ..Reply::default() };
    Came::Answer(Told { reply, upstream: "a".into() })
}

fn refused() -> Came {
    Came::Refused(None)
}

/// Who is there, what happens one after the other, and what the machine does each time.
fn table(name: &str, candidates: &[Candidate], rows: &[(Input, &[&str])]) {
    let mut rig = Rig::new(candidates);
    for (at, (input, expected)) in rows.iter().enumerate() {
        assert_eq!(rig.step(input.clone()), *expected, "{name}, row {at}");
    }
}

#[test]
fn the_transition_table() {
    use Input::{Came as I, Start, Wake};
    let one = &[candidate(A)][..];
    let two = &[candidate(A), candidate(B)][..];
    let plain = &[Candidate { edns: false, ..candidate(A) }][..];
    let asked = &["0 a udp"][..];
    let nothing = &[][..];
    let told = || Came::Refused(Some(Ede { code: 6, text: "bogus".into() }));

    table(
        "nobody",
        &[],
        &[(Start, &["done 2 22 no upstream is for this name, or all lead back here"])],
    );
    table("answered", one, &[(Start, asked), (I(0, answer()), &["done 3"])]);
    table(
        "nothing comes after the end",
        one,
        &[
            (Start, asked),
            (I(0, answer()), &["done 3"]),
            (I(0, answer()), nothing),
            (I(0, refused()), nothing),
            (Wake, nothing),
        ],
    );
    table("too early", one, &[(Start, asked), (Wake, nothing)]);
    table("an attempt never made", one, &[(Start, asked), (I(3, answer()), nothing)]);
    table(
        "refused by the only one",
        one,
        &[(Start, asked), (I(0, refused()), &["done 2 22 every upstream refused or failed"])],
    );
    table(
        "refused by one, answered by the other",
        two,
        &[(Start, asked), (I(0, refused()), &["1 b udp"]), (I(1, answer()), &["done 3"])],
    );
    table(
        "unreachable, then refused: the network is what to look at",
        two,
        &[
            (Start, asked),
            (I(0, Came::Unreachable), &["1 b udp"]),
            (I(1, refused()), &["done 2 23 no upstream could be reached"]),
        ],
    );
    table(
        "none proves who it is: that tells more than that none is reached",
        two,
        &[
            (Start, asked),
            (I(0, Came::Distrusted), &["1 b udp"]),
            (I(1, Came::Unreachable), &["done 2 23 no upstream proved who it is"]),
        ],
    );
    table(
        "an upstream's own words are passed on",
        two,
        &[
            (Start, asked),
            (I(0, told()), &["1 b udp"]),
            (I(1, Came::Unreachable), &["done 2 6 bogus"]),
        ],
    );
    table(
        "truncated",
        one,
        &[(Start, asked), (I(0, Came::Truncated), &["1 a tcp"]), (I(1, answer()), &["done 3"])],
    );
    table(
        "truncated, and over TCP as well",
        one,
        &[(Start, asked), (I(0, Came::Truncated), &["1 a tcp"]), (I(1, Came::Truncated), nothing)],
    );
    table(
        "truncated, and TCP is closed",
        two,
        &[
            (Start, asked),
            (I(0, Came::Truncated), &["1 a tcp"]),
            (I(1, Came::Unreachable), &["2 b udp"]),
            (I(2, answer()), &["done 3"]),
        ],
    );
    table(
        "EDNS not understood",
        one,
        &[
            (Start, asked),
            (I(0, Came::NoEdns), &["1 a udp plain downgraded"]),
            (I(1, answer()), &["done 3"]),
        ],
    );
    table(
        "FORMERR with EDNS and without",
        one,
        &[
            (Start, asked),
            (I(0, Came::NoEdns), &["1 a udp plain downgraded"]),
            (I(0, Came::NoEdns), nothing),
            (I(1, Came::NoEdns), &["done 2 22 every upstream refused or failed"]),
        ],
    );
    table(
        "without EDNS, known before",
        plain,
        &[
            (Start, &["0 a udp plain"]),
            (I(0, Came::Truncated), &["1 a tcp plain"]),
            (I(1, answer()), &["done 3"]),
        ],
    );
}

#[test]
fn a_silent_upstream_is_asked_again_with_more_patience_and_then_given_up() {
    let mut rig = Rig::new(&[candidate(A)]);
    rig.step(Input::Start);
    assert_eq!(rig.sleep(), (400, vec!["1 a udp".into()]));
    assert_eq!(rig.sleep(), (800, vec!["2 a udp".into()]));
    assert_eq!(rig.sleep(), (1_600, vec!["3 a udp".into()]));
    assert_eq!(rig.sleep(), (2_200, vec!["done 2 22 no upstream answered in time".into()]));
    assert_eq!(rig.machine.wake_at(), None);
}

#[test]
fn while_one_is_silent_the_other_is_asked_and_the_first_answer_wins() {
    let mut rig = Rig::new(&[candidate(A), candidate(B)]);
    rig.step(Input::Start);
    assert_eq!(rig.sleep(), (400, vec!["1 b udp".into()]));
    assert_eq!(rig.sleep(), (400, vec!["2 a udp".into()]));
    // The very first attempt still counts.
    assert_eq!(rig.came(0, answer()), ["done 3"]);
}

#[test]
fn a_refusal_of_one_not_waited_for_any_more_moves_nothing() {
    let mut rig = Rig::new(&[candidate(A), candidate(B)]);
    rig.step(Input::Start);
    rig.sleep();
    assert_eq!(rig.came(0, refused()), [""; 0]);
    // A is not asked again.
    assert_eq!(rig.sleep(), (400, vec!["2 b udp".into()]));
    assert_eq!(rig.came(2, refused()), ["done 2 22 every upstream refused or failed"]);
}

#[test]
fn the_number_of_attempts_is_bounded_and_the_deadline_holds() {
    let quick = Candidate { wait: Duration::from_millis(10), ..candidate(A) };
    let others = (2..5).map(|id| Candidate { id: UpstreamId::test(id), ..quick });
    let all: Vec<_> = [quick].into_iter().chain(others).collect();
    let mut rig = Rig::new(&all);
    let start = rig.now;
    let mut asked = rig.step(Input::Start).len();
    let mut last = Vec::new();
    while rig.machine.wake_at().is_some() {
        last = rig.sleep().1;
        asked += last.len();
    }
    assert_eq!(asked - 1, ATTEMPTS_MAX);
    assert_eq!(last, ["done 2 22 no upstream answered in time"]);
    assert_eq!(rig.now, start + TIMEOUT);
}
