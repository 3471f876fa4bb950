//! The same questions to resolverd, Unbound and Knot Resolver, over the same servers, and the
//! answers compared: RCODE, AD and all sections.
//!
//! The fake Internet and the questions come from a seed that is printed. Where answers differ, the
//! difference must be of a class that is written down with its RFC ([`classes`]); one that is not
//! fails the test, with all three answers. `RESOLVERD_DIFFERENTIAL_SEED` and
//! `RESOLVERD_DIFFERENTIAL_QUESTIONS` choose others.

mod classes;
mod questions;
mod resolvers;
mod told;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::internet::{Internet, Place, Plan, Random};
use lab::{Reply, tcp, udp};

use classes::{Case, Class, Peer};
use questions::Question;
use resolvers::Resolvers;
use told::Told;

#[test]
fn differences_from_unbound_and_knot_resolver_are_explained() -> Result<()> {
    if let Err(why) = lab::available() {
        eprintln!("skipped: {why}");
        return Ok(());
    }
    let (seed, count) = (from_environment("SEED", SEED)?, from_environment("QUESTIONS", COUNT)?);
    println!("seed {seed}, {count} questions");
    let plan = Plan::of_seed(seed);
    let questions =
        questions::questions(&plan, count as usize, &mut Random::of_seed(seed ^ QUESTIONS));
    let begun = Instant::now();
    let internet = Internet::start(&plan)?;
    let resolvers = Resolvers::start(&internet)?;
    println!("{} zones and three resolvers after {:?}", plan.zones.len(), begun.elapsed());
    let begun = Instant::now();
    let mut asked = ask_all(&internet, &resolvers, &questions)?;
    println!("asked for {:?}", begun.elapsed());
    let passing = ask_failed_again(&internet, &resolvers, &plan, &questions, &mut asked)?;
    let [ours, unbound, kresd] = passing;
    println!("failed and asked again: {ours} of ours, {unbound} Unbound's, {kresd} kresd's");
    let tally = Tally::of(&plan, &questions, &asked);
    tally.print();
    if !tally.unexplained.is_empty() {
        for (name, log) in resolvers.logs() {
            println!("== the end of {name}'s log\n{}", end_of(&log));
        }
    }
    ensure!(tally.unexplained.is_empty(), "{} unexplained differences", tally.unexplained.len());
    Ok(())
}

/// The answers of the three to one question, ours first.
type Answers = [Told; 3];

/// Asks all questions, several at a time, each of all three at once.
fn ask_all(
    internet: &Internet,
    resolvers: &Resolvers,
    questions: &[Question],
) -> Result<Vec<Answers>> {
    let client = internet.attach("client")?;
    let places = [&resolvers.ours, &resolvers.unbound, &resolvers.kresd];
    let answers: Vec<Mutex<Option<Answers>>> = questions.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(at) else { break };
            let told = places.map(|place| ask(place, question));
            *answers[at].lock().unwrap_or_else(|e| e.into_inner()) = Some(told);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..WORKERS).map(|_| scope.spawn(|| client.namespace.enter(work))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it reports its panics"))
    })?;
    let told = answers.into_iter().map(|one| one.into_inner().ok().flatten());
    told.collect::<Option<Vec<Answers>>>().context("all were asked")
}

/// Asks again what one failed and others did not, if nothing explains it but time, once failures
/// are no longer remembered (`cache.failure-ttl`; RFC 9520 section 3.2): on a busy machine a
/// time-out is no verdict. What fails again and again, fails. Gives how many answers failed.
fn ask_failed_again(
    internet: &Internet,
    resolvers: &Resolvers,
    plan: &Plan,
    questions: &[Question],
    asked: &mut [Answers],
) -> Result<[usize; 3]> {
    let mut times = [0; 3];
    for _ in 0..ROUNDS {
        let fails = |at: &usize| asked[*at].iter().any(|told| told.rcode == told::SERVFAIL);
        let Tally { unexplained, late, .. } = Tally::of(plan, questions, asked);
        let unexplained = unexplained.into_iter().map(|(at, _)| at);
        let again: Vec<usize> = unexplained.chain(late).filter(fails).collect();
        if again.is_empty() {
            break;
        }
        for at in &again {
            for (times, told) in times.iter_mut().zip(&asked[*at]) {
                *times += usize::from(told.rcode == told::SERVFAIL);
            }
        }
        std::thread::sleep(FAILURES_FORGOTTEN);
        let failed: Vec<Question> = again.iter().map(|at| questions[*at].clone()).collect();
        for (at, answers) in again.iter().zip(ask_all(internet, resolvers, &failed)?) {
            asked[*at] = answers;
        }
    }
    Ok(times)
}

/// As a client does: over UDP, once more if nothing comes, over TCP if it does not fit.
fn ask(place: &Place, question: &Question) -> Told {
    let bytes = question.ask().bytes();
    let over_udp = || {
        let reply = Reply::parse(&udp(place.at(), &bytes, PATIENCE)?)?;
        anyhow::Ok(reply)
    };
    let reply = over_udp().or_else(|_| over_udp());
    let reply = match reply {
        Ok(reply) if reply.truncated() => {
            tcp(place.at(), &bytes, PATIENCE).map_err(Into::into).and_then(|b| Reply::parse(&b))
        }
        reply => reply,
    };
    reply.map_or_else(|_| Told::nothing(), |reply| Told::of(&reply))
}

/// What came of it.
struct Tally<'a> {
    asked: usize,
    alike: usize,
    /// How many questions a class was needed for: where we are alone, and where we agree with one.
    explained: BTreeMap<&'static str, [usize; 2]>,
    /// The places of questions that a peer had no time for, as it seems.
    late: Vec<usize>,
    /// The places of their questions, and who differs in what.
    unexplained: Vec<(usize, String)>,
    questions: &'a [Question],
    answers: &'a [Answers],
}

impl<'a> Tally<'a> {
    fn of(plan: &Plan, questions: &'a [Question], asked: &'a [Answers]) -> Self {
        let mut tally = Self {
            asked: asked.len(),
            alike: 0,
            explained: BTreeMap::new(),
            late: Vec::new(),
            unexplained: Vec::new(),
            questions,
            answers: asked,
        };
        for (at, (question, answers)) in questions.iter().zip(asked).enumerate() {
            let [ours, unbound, kresd] = answers;
            let pairs = [(Peer::Unbound, unbound), (Peer::Kresd, kresd)];
            let alone = pairs.iter().all(|(_, theirs)| !ours.differences(theirs).is_empty());
            if pairs.iter().all(|(_, theirs)| ours.differences(theirs).is_empty()) {
                tally.alike += 1;
                continue;
            }
            let mut needed: Vec<&'static Class> = Vec::new();
            let mut left = String::new();
            for (peer, theirs) in pairs {
                let case = Case { plan, question, ours, theirs, peer };
                match classes::explain(&case) {
                    Ok(classes) => needed.extend(classes),
                    Err(parts) => left += &format!(" {peer:?}: {parts:?}"),
                }
            }
            if left.is_empty() {
                needed.sort_by_key(|class| class.name);
                needed.dedup_by_key(|class| class.name);
                if needed.iter().any(|class| class.name == classes::NO_SERVER_IN_TIME) {
                    tally.late.push(at);
                }
                for class in needed {
                    tally.explained.entry(class.name).or_default()[usize::from(!alone)] += 1;
                }
            } else {
                tally.unexplained.push((at, left));
            }
        }
        tally
    }

    fn print(&self) {
        println!("{} asked, {} answered alike by all three", self.asked, self.alike);
        println!("{:<34} {:>9} {:>13}", "explained", "we alone", "peers differ");
        for (name, [alone, with_one]) in &self.explained {
            println!("{name:<34} {alone:>9} {with_one:>13}");
        }
        println!("{} unexplained", self.unexplained.len());
        let is_alone = |at: usize| {
            let [ours, others @ ..] = &self.answers[at];
            others.iter().all(|other| !ours.differences(other).is_empty())
        };
        let mut order: Vec<_> = self.unexplained.iter().collect();
        // First those that nobody shares with us.
        order.sort_by_key(|(at, _)| !is_alone(*at));
        for (at, left) in order.into_iter().take(SHOWN_MAX) {
            let alone = if is_alone(*at) { "we alone" } else { "peers differ" };
            println!("== {} -- {alone},{left}", self.questions[*at]);
            let [ours, unbound, kresd] = &self.answers[*at];
            println!("   ours    {ours}\n   unbound {unbound}\n   kresd   {kresd}");
        }
    }
}

/// Of a log.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

fn from_environment(name: &str, default: u64) -> Result<u64> {
    let name = format!("RESOLVERD_DIFFERENTIAL_{name}");
    std::env::var(&name).map_or(Ok(default), |text| {
        text.parse().with_context(|| format!("{name} = {text} is no number"))
    })
}

const SEED: u64 = 7;
/// Of a short run.
const COUNT: u64 = 1_000;
/// So that questions do not follow the numbers that the plan was made of.
const QUESTIONS: u64 = 0x7175_6573_7469_6f6e;
/// Questions on their way at once.
const WORKERS: usize = 8;
/// Longer than any of the three works on a question.
const PATIENCE: Duration = Duration::from_secs(12);
/// How often that is done.
const ROUNDS: usize = 3;
/// Ours are remembered for 5 s, Unbound's and Knot Resolver's for no longer.
const FAILURES_FORGOTTEN: Duration = Duration::from_secs(6);
/// Unexplained differences that are shown in full.
const SHOWN_MAX: usize = 60;
const LOG_LINES_SHOWN: usize = 20;
