//! Reads scenarios. The language is in `README.md`.

use std::net::IpAddr;
use std::time::Duration;

use resolverd::dns::Name;
use resolverd::dns::records::Record;

use crate::records::{name, record, rtype};
use crate::servers::{Habit, Said, Server, Zone};

/// A small Internet, and what happens in it.
#[derive(Debug, Clone)]
pub struct Scene {
    pub title: String,
    pub steps: Vec<(usize, Step)>,
}

#[derive(Debug, Clone)]
pub enum Step {
    Option(String, Vec<String>),
    Zone(Zone),
    Server(Server),
    /// What one server says to one question, whatever it serves.
    Said(Said),
    Wait(Duration),
    Flush(Name),
    Ask(Name, u16, Vec<(usize, Expect)>),
}

#[derive(Debug, Clone)]
pub enum Expect {
    Rcode(u8),
    /// The whole of the answer section, signatures included, one line each.
    Answer(String),
    /// Something that the authority section has.
    Authority(String),
    /// It fails, and this is said of it.
    Fails(String),
    Within(Duration),
    After(Duration),
    QueriesAtMost(usize),
    QueriesAtLeast(usize),
    /// This was asked, after what earlier lines say.
    Asked(String),
    /// Nothing like this was asked.
    Never(String),
    Primes,
}

type Wrong = (usize, String);

pub fn parse(text: &str) -> Result<Vec<Scene>, Wrong> {
    // What stands before the first title is the Internet of all scenes of the file.
    let mut common = Scene { title: String::new(), steps: Vec::new() };
    let mut scenes: Vec<Scene> = Vec::new();
    for (at, whole) in text.lines().enumerate() {
        let at = at + 1;
        if let Some(title) = whole.strip_prefix("## ") {
            scenes.push(Scene { title: title.to_owned(), ..common.clone() });
            continue;
        }
        let line = whole.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        let scene = scenes.last_mut().unwrap_or(&mut common);
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        let read = if indented { detail(scene, at, line) } else { step(scene, at, line) };
        read.map_err(|why| (at, why))?;
    }
    Ok(scenes)
}

fn step(scene: &mut Scene, at: usize, line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let word = |n: usize| words.get(n).copied().ok_or_else(|| format!("`{line}` is too short"));
    let root = Name::root();
    let step = match words[0] {
        "option" => {
            let rest = words[2..].iter().map(|word| (*word).to_owned()).collect();
            Step::Option(word(1)?.to_owned(), rest)
        }
        "zone" => Step::Zone(Zone { name: name(word(1)?, &root)?, records: Vec::new() }),
        "server" => {
            let mut server = Server {
                address: address(word(1)?)?,
                zones: Vec::new(),
                habits: Vec::new(),
                delay: Duration::from_millis(10),
            };
            let mut rest = words[2..].iter();
            while let Some(word) = rest.next() {
                if word.ends_with('.') {
                    server.zones.push(name(word, &root)?);
                } else if let Some(delay) = duration(word) {
                    server.delay = delay;
                } else if *word == "drops" {
                    let count = rest.next().and_then(|n| n.parse().ok());
                    server.habits.push(Habit::Drops(count.ok_or("`drops` takes a number")?));
                } else {
                    server.habits.push(habit(word)?);
                }
            }
            Step::Server(server)
        }
        "on" => Step::Said(Said {
            address: address(word(1)?)?,
            name: name(word(2)?, &root)?,
            rtype: rtype(word(3)?)?,
            ..Said::default()
        }),
        "wait" => Step::Wait(duration(word(1)?).ok_or("a time, such as `10s`")?),
        "flush" => Step::Flush(name(word(1)?, &root)?),
        "ask" => Step::Ask(name(word(1)?, &root)?, rtype(word(2)?)?, Vec::new()),
        other => return Err(format!("`{other}` is no step")),
    };
    scene.steps.push((at, step));
    Ok(())
}

/// An indented line belongs to the step above it.
fn detail(scene: &mut Scene, at: usize, line: &str) -> Result<(), String> {
    let Some((_, step)) = scene.steps.last_mut() else { return Err("of what?".to_owned()) };
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let root = Name::root();
    match step {
        Step::Zone(zone) => zone.records.push(record(line, &zone.name)?),
        Step::Said(said) => {
            let mut push = |to: fn(&mut Said) -> &mut Vec<Record>| -> Result<(), String> {
                to(said).push(record(rest, &root)?);
                Ok(())
            };
            match first {
                "answer" => push(|said| &mut said.answer)?,
                "authority" => push(|said| &mut said.authority)?,
                "additional" => push(|said| &mut said.additional)?,
                "rcode" => said.rcode = rcode(rest)?.into(),
                "no-aa" => said.authoritative = false,
                "ra" => said.recursive = true,
                other => return Err(format!("`{other}` is nothing a server says")),
            }
        }
        Step::Ask(_, _, expects) => {
            let time = || duration(rest).ok_or_else(|| format!("`{rest}` is no time"));
            let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
            let expect = match first {
                "rcode" => Expect::Rcode(rcode(rest)?),
                "answer" => Expect::Answer(rest.to_owned()),
                "authority" => Expect::Authority(rest.to_owned()),
                "fails" => Expect::Fails(rest.to_owned()),
                "within" => Expect::Within(time()?),
                "after" => Expect::After(time()?),
                "queries" => match rest.split_once(' ') {
                    Some(("at-most", count)) => Expect::QueriesAtMost(number(count)?),
                    Some(("at-least", count)) => Expect::QueriesAtLeast(number(count)?),
                    _ => {
                        let count = number(rest)?;
                        expects.push((at, Expect::QueriesAtLeast(count)));
                        Expect::QueriesAtMost(count)
                    }
                },
                "asked" => Expect::Asked(rest.to_owned()),
                "never" => Expect::Never(rest.to_owned()),
                "primes" => Expect::Primes,
                other => return Err(format!("`{other}` is nothing to expect")),
            };
            expects.push((at, expect));
        }
        _ => return Err("this step has no details".to_owned()),
    }
    Ok(())
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address"))
}

fn habit(word: &str) -> Result<Habit, String> {
    Ok(match word {
        "dead" => Habit::Dead,
        "unreachable" => Habit::Unreachable,
        "refuses" => Habit::Rcode(5),
        "servfails" => Habit::Rcode(2),
        "notimps" => Habit::Rcode(4),
        "formerr-edns" => Habit::RcodeOnEdns(1),
        "notimp-edns" => Habit::RcodeOnEdns(4),
        "badvers" => Habit::RcodeOnEdns(16),
        "drops-edns" => Habit::DropsEdns,
        "truncates" => Habit::Truncates,
        "no-udp" => Habit::NoUdp,
        "no-tcp" => Habit::NoTcp,
        "lower-cases" => Habit::LowerCases,
        "denies-parts" => Habit::DeniesParts,
        "refuses-parts" => Habit::RefusesParts,
        "resolver" => Habit::Resolver,
        "upward" => Habit::Upward,
        "garbage" => Habit::Garbage,
        "forged" => Habit::Forged,
        other => return Err(format!("`{other}` is no habit of a server")),
    })
}

fn rcode(text: &str) -> Result<u8, String> {
    let known = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN"];
    let at = known.iter().position(|known| *known == text);
    at.map(|at| at as u8).ok_or_else(|| format!("`{text}` is no RCODE known here"))
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}
