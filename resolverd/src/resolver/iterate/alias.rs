//! Aliases: the chain of CNAMEs and DNAMEs in an answer section, link by link.
//!
//! Pure. Takes what leads on from the question's name and leaves the rest: what an answer has
//! beside it was not asked for.

use crate::dns::records::Record;
use crate::dns::{Name, rtype};

/// How far the records of one section lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// In their order: for each link the alias and what signs it; then the records asked for.
    pub kept: Vec<Record>,
    /// Where it ends.
    pub end: Name,
    pub ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With records of the type asked for.
    Complete,
    /// With a name that nothing here is about.
    Open,
    /// A DNAME made a name of more than 255 octets (RFC 6672 section 2.2: YXDOMAIN).
    TooLong,
    /// It comes round to a name it has been at, or goes on and on.
    Loop,
}

/// Follows the records that `owns` lets pass, from `name` on.
#[must_use]
pub fn follow(records: &[Record], name: &Name, qtype: u16, owns: impl Fn(&Name) -> bool) -> Chain {
    let mut kept: Vec<Record> = Vec::new();
    let mut end = name.clone();
    let mut seen: Vec<Name> = Vec::new();
    loop {
        if !owns(&end) {
            return Chain { kept, end, ending: Ending::Open };
        }
        let dname = records.iter().find(|record| {
            record.rtype == rtype::DNAME
                && record.owner != end
                && end.is_under(&record.owner)
                && owns(&record.owner)
        });
        // Who asks for the CNAME that a DNAME makes gets the DNAME as well, which is what is
        // signed (RFC 6672 section 5.3.1).
        let made = dname.is_some() && qtype == rtype::CNAME;
        let found = if made { Vec::new() } else { set(records, &end, qtype) };
        if !found.is_empty() {
            kept.extend(found);
            return Chain { kept, end, ending: Ending::Complete };
        }
        let next =
            if let Some(dname) = dname {
                kept.extend(set(records, &dname.owner, rtype::DNAME));
                // RFC 6672 section 3.1: the CNAME follows from it, whether it came along or
                // not, and whatever it says.
                let Some(cname) = synthesise(dname, &end) else {
                    return Chain { kept, end, ending: Ending::TooLong };
                };
                let target = cname.target();
                kept.push(cname);
                if made {
                    return Chain { kept, end, ending: Ending::Complete };
                }
                target
            } else {
                let aliases = set(records, &end, rtype::CNAME);
                let target = aliases.first().and_then(Record::target);
                // A name has one alias; a second one is nobody's (RFC 2181 section 10.1).
                let first = aliases.first().cloned();
                kept.extend(aliases.into_iter().filter(|record| {
                    record.rtype != rtype::CNAME || first.as_ref() == Some(record)
                }));
                target
            };
        let Some(next) = next else { return Chain { kept, end, ending: Ending::Open } };
        seen.push(std::mem::replace(&mut end, next));
        if seen.contains(&end) || seen.len() > LINKS_MAX {
            return Chain { kept, end, ending: Ending::Loop };
        }
    }
}

/// The records of one type at one name, and what signs them.
fn set(records: &[Record], owner: &Name, wanted: u16) -> Vec<Record> {
    let here = || records.iter().filter(|record| record.owner == *owner);
    let wants = |record: &&Record| record.rtype == wanted || wanted == rtype::ANY;
    let mut found: Vec<Record> = here().filter(wants).cloned().collect();
    if !found.is_empty() && wanted != rtype::ANY {
        let signs = |record: &&Record| record.signature().is_some_and(|(of, _)| of == wanted);
        found.extend(here().filter(|record| !wants(record)).filter(signs).cloned());
    }
    found
}

/// The CNAME that a DNAME means for one name below it (RFC 6672 section 3.1). None: it would be
/// too long.
fn synthesise(dname: &Record, name: &Name) -> Option<Record> {
    let whole = name.as_wire();
    let prefix = whole.strip_suffix(dname.owner.as_wire())?;
    let wire = [prefix, &dname.rdata].concat();
    Name::from_wire(&wire).ok()?;
    Some(Record { owner: name.clone(), rtype: rtype::CNAME, rdata: wire, ..dname.clone() })
}

/// Links in one message. Real chains have two or three, eight at most.
const LINKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn alias(owner: &str, rtype: u16, target: &str) -> Record {
        let rdata = name(target).as_wire().to_vec();
        Record { owner: name(owner), rtype, class: 1, ttl: 60, rdata }
    }

    fn address(owner: &str) -> Record {
        Record { owner: name(owner), rtype: rtype::A, class: 1, ttl: 60, rdata: vec![192, 0, 2, 1] }
    }

    fn signature(owner: &str, covered: u16) -> Record {
        let mut rdata = covered.to_be_bytes().to_vec();
        rdata.extend([0; 17]);
        Record { owner: name(owner), rtype: rtype::RRSIG, class: 1, ttl: 60, rdata }
    }

    fn walk(records: &[Record], from: &str) -> (Vec<String>, String, Ending) {
        let chain = follow(records, &name(from), rtype::A, |owner| owner.is_under(&name("test.")));
        let show = |record: &Record| match record.target() {
            Some(target) => format!("{} > {target}", record.owner),
            None => format!("{} {}", record.owner, record.rtype),
        };
        (chain.kept.iter().map(show).collect(), chain.end.to_string(), chain.ending)
    }

    #[test]
    fn a_chain_is_followed_in_any_order_and_strangers_are_left_out() {
        let records = [
            address("c.test."),
            address("other.test."),
            alias("b.test.", rtype::CNAME, "c.test."),
            signature("a.test.", rtype::CNAME),
            signature("a.test.", rtype::A),
            alias("a.test.", rtype::CNAME, "b.test."),
            alias("a.test.", rtype::CNAME, "evil.test."),
        ];
        let (kept, end, ending) = walk(&records, "a.test.");
        assert_eq!(kept, ["a.test. > b.test.", "a.test. 46", "b.test. > c.test.", "c.test. 1"]);
        assert_eq!((end.as_str(), ending), ("c.test.", Ending::Complete));
    }

    #[test]
    fn a_chain_ends_where_the_zone_does() {
        let records = [alias("a.test.", rtype::CNAME, "b.example."), address("b.example.")];
        let (kept, end, ending) = walk(&records, "a.test.");
        assert_eq!(kept, ["a.test. > b.example."]);
        assert_eq!((end.as_str(), ending), ("b.example.", Ending::Open));
    }

    #[test]
    fn a_dname_makes_the_cname_whatever_came_along() {
        let records = [
            alias("old.test.", rtype::DNAME, "new.test."),
            signature("old.test.", rtype::DNAME),
            alias("x.old.test.", rtype::CNAME, "evil.test."),
            address("x.new.test."),
        ];
        let (kept, end, ending) = walk(&records, "x.old.test.");
        let expected =
            ["old.test. > new.test.", "old.test. 46", "x.old.test. > x.new.test.", "x.new.test. 1"];
        assert_eq!(kept, expected);
        assert_eq!((end.as_str(), ending), ("x.new.test.", Ending::Complete));
        // At its own owner it means nothing (RFC 6672 section 2.1).
        assert_eq!(walk(&records, "old.test."), (vec![], "old.test.".into(), Ending::Open));
    }

    #[test]
    fn who_asks_for_the_cname_that_a_dname_makes_gets_both() {
        let records = [
            alias("old.test.", rtype::DNAME, "new.test."),
            signature("old.test.", rtype::DNAME),
            alias("x.old.test.", rtype::CNAME, "x.new.test."),
        ];
        let chain = follow(&records, &name("x.old.test."), rtype::CNAME, |_| true);
        assert_eq!((&chain.kept[..], chain.ending), (&records[..], Ending::Complete));
        assert_eq!(chain.end, name("x.old.test."));
    }

    #[test]
    fn a_dname_that_makes_too_long_a_name_says_so() {
        let long = format!("{0}.{0}.{0}.test.", "x".repeat(60));
        let records = [alias("o.test.", rtype::DNAME, &long)];
        let from = format!("{}.{}.o.test.", "y".repeat(60), "y".repeat(60));
        assert_eq!(walk(&records, &from).2, Ending::TooLong);
    }

    #[test]
    fn a_loop_is_seen() {
        let records =
            [alias("a.test.", rtype::CNAME, "b.test."), alias("b.test.", rtype::CNAME, "a.test.")];
        assert_eq!(walk(&records, "a.test.").2, Ending::Loop);
        let own = [alias("a.test.", rtype::CNAME, "a.test.")];
        assert_eq!(walk(&own, "a.test.").2, Ending::Loop);
        let grows = [alias("test.", rtype::DNAME, "x.test.")];
        assert_eq!(walk(&grows, "a.test.").2, Ending::Loop);
    }
}
