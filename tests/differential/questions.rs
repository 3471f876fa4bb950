//! Questions from a seed: names that are there and names that nearly are, of types that they have
//! and have not.

use lab::Ask;
use lab::internet::{Plan, PlannedZone, Random};

/// One question with the bits that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub rtype: &'static str,
    pub dnssec_ok: bool,
    pub authentic_data: bool,
    pub checking_disabled: bool,
}

impl Question {
    pub fn ask(&self) -> Ask {
        let ask = Ask::new(&self.name, self.rtype).edns(SIZE);
        let mut ask = if self.dnssec_ok { ask.dnssec() } else { ask };
        ask.authentic_data = self.authentic_data;
        ask.checking_disabled = self.checking_disabled;
        ask
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, rtype, dnssec_ok, authentic_data, checking_disabled } = self;
        write!(f, "{name} {rtype}")?;
        for (bit, set) in [("do", dnssec_ok), ("ad", authentic_data), ("cd", checking_disabled)] {
            if *set {
                write!(f, " +{bit}")?;
            }
        }
        Ok(())
    }
}

/// So many questions. One in five was asked before, so that what is known answers as well.
pub fn questions(plan: &Plan, count: usize, random: &mut Random) -> Vec<Question> {
    let mut questions: Vec<Question> = Vec::with_capacity(count);
    while questions.len() < count {
        let mut question = if !questions.is_empty() && random.percent(20) {
            questions[random.below(questions.len())].clone()
        } else {
            let (name, rtype) = name_and_type(plan, random);
            let name = if random.percent(25) { scrambled(&name, random) } else { name };
            Question {
                name,
                rtype,
                dnssec_ok: false,
                authentic_data: false,
                checking_disabled: false,
            }
        };
        question.dnssec_ok = random.percent(80);
        question.authentic_data = random.percent(30);
        question.checking_disabled = random.percent(8);
        questions.push(question);
    }
    questions
}

fn name_and_type(plan: &Plan, random: &mut Random) -> (String, &'static str) {
    // Not so often the zones with few names.
    let zone = loop {
        let zone = random.pick(&plan.zones);
        if zone.labels() > 1 || random.percent(25) {
            break zone;
        }
    };
    let record = random.pick(&zone.records);
    let any = |random: &mut Random| *random.pick(&TYPES);
    match random.below(100) {
        // What is there. Names below wildcards and DNAMEs come of them.
        0..=29 => (instance(&record.owner, random), record.rtype),
        30..=42 => (instance(&record.owner, random), any(random)),
        43..=52 => (below(&record.owner, random), any(random)),
        53..=60 => (near(&record.owner, random), any(random)),
        // What is above it: empty non-terminals, the zone, the zone above.
        61..=66 => (above(&record.owner, random), any(random)),
        67..=73 => (zone.name.clone(), *random.pick(&APEX_TYPES)),
        74..=76 => (zone.nameservers[0].name.clone(), *random.pick(&["A", "AAAA", "TXT"])),
        // Known labels in a zone that may not have them.
        77..=90 => {
            let label = *random.pick(&LABELS);
            (zone.within(label), any(random))
        }
        91..=97 => (chance(zone, random), any(random)),
        _ => (format!("{}.", word(random)), any(random)),
    }
}

/// A wildcard's name stands for others, sometimes for itself.
fn instance(owner: &str, random: &mut Random) -> String {
    match owner.strip_prefix("*.") {
        Some(rest) if random.percent(85) => {
            let mut name = format!("{}.{rest}", word(random));
            if random.percent(25) {
                name = format!("{}.{name}", word(random));
            }
            name
        }
        _ => owner.to_owned(),
    }
}

fn below(owner: &str, random: &mut Random) -> String {
    let label = *random.pick(&["www", "x", "*", "a.b", "ns1", "nothing", "_tcp", "deep.er"]);
    format!("{label}.{}", if owner == "." { "" } else { owner })
}

/// A letter more, a letter other.
fn near(owner: &str, random: &mut Random) -> String {
    let (first, rest) = owner.split_once('.').unwrap_or((owner, ""));
    let letter = *random.pick(&["a", "m", "z", "-", "0"]);
    let rest = if rest.is_empty() && first.is_empty() { "com." } else { rest };
    // What is escaped may go on past the dot.
    if random.percent(50) && !first.contains('\\') {
        format!("{first}{letter}.{rest}")
    } else {
        format!("{letter}{first}.{rest}")
    }
}

fn above(owner: &str, random: &mut Random) -> String {
    let mut name = owner;
    for _ in 0..=random.below(2) {
        name = name.split_once('.').map_or(name, |(_, rest)| rest);
    }
    if name.is_empty() { ".".to_owned() } else { name.to_owned() }
}

fn chance(zone: &PlannedZone, random: &mut Random) -> String {
    let labels: Vec<String> = (0..=random.below(3)).map(|_| word(random)).collect();
    zone.within(&labels.join("."))
}

fn word(random: &mut Random) -> String {
    (0..3 + random.below(6)).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

/// Letters in the case of chance. What is escaped stays as it is.
fn scrambled(name: &str, random: &mut Random) -> String {
    if name.contains('\\') {
        return name.to_owned();
    }
    let other = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c };
    name.chars().map(|c| if random.percent(50) { other(c) } else { c }).collect()
}

const SIZE: u16 = 1_232;

/// What names are asked for; A more often than others, as everywhere. No ANY: how little of it a
/// resolver gives is its own affair (RFC 8482).
const TYPES: [&str; 22] = [
    "A",
    "A",
    "A",
    "A",
    "AAAA",
    "AAAA",
    "AAAA",
    "MX",
    "TXT",
    "TXT",
    "NS",
    "SOA",
    "CNAME",
    "SRV",
    "CAA",
    "HTTPS",
    "PTR",
    "DS",
    "DNSKEY",
    "DNAME",
    "NAPTR",
    "TYPE65280",
];

const APEX_TYPES: [&str; 12] =
    ["SOA", "NS", "DNSKEY", "DS", "DS", "MX", "TXT", "A", "CAA", "NSEC3PARAM", "CDS", "AAAA"];

const LABELS: [&str; 24] = [
    "www",
    "only4",
    "ent",
    "b.ent",
    "a.b.ent",
    "some.wild",
    "exact.wild",
    "x.exact.wild",
    "y.under.wild",
    "q.y.under.wild",
    "z.wildalias",
    "z.wildlost",
    "alias",
    "chain1",
    "lost",
    "away",
    "tobroken",
    "toplain",
    "www.tree",
    "no.tree",
    "www.forest",
    "many",
    "q.star",
    "below.q.star",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_questions() {
        let plan = Plan::of_seed(3);
        let of = |seed| questions(&plan, 500, &mut Random::of_seed(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let asked = of(1);
        assert!(asked.iter().all(|question| question.name.ends_with('.')));
        assert!(asked.iter().any(|question| question.checking_disabled && !question.dnssec_ok));
    }
}
