//! Differences that are explained: each class with its RFC, a sentence, and when it applies.
//!
//! A class explains parts of an answer for one question and one peer, and no more. All parts that
//! differ must be explained. `docs/DIFFERENTIAL.md` lists the same, which a test holds.

use std::collections::BTreeSet;

use lab::internet::{Denial, Fault, Host, Plan, PlannedZone, is_under};

use crate::questions::Question;
use crate::told::{CNAME, DNAME, Item, NS, NSEC, NSEC3, Part, RRSIG, SERVFAIL, SOA, Section, Told};

/// One question, our answer and a peer's.
pub struct Case<'a> {
    pub plan: &'a Plan,
    pub question: &'a Question,
    pub ours: &'a Told,
    pub theirs: &'a Told,
    pub peer: Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Unbound,
    Kresd,
}

pub struct Class {
    pub name: &'static str,
    /// Where it is written that this may be, or must be, as we do it.
    pub rfc: &'static str,
    pub why: &'static str,
    /// The parts that it explains where it applies.
    parts: &'static [Part],
    applies: fn(&Case) -> bool,
}

/// The classes that are needed for all parts that differ, or the parts that are left.
pub fn explain(case: &Case) -> Result<Vec<&'static Class>, BTreeSet<Part>> {
    let mut left = case.ours.differences(case.theirs);
    let mut needed = Vec::new();
    for class in &CLASSES {
        if class.parts.iter().any(|part| left.contains(part)) && (class.applies)(case) {
            left.retain(|part| !class.parts.contains(part));
            needed.push(class);
        }
    }
    if left.is_empty() { Ok(needed) } else { Err(left) }
}

/// The one class that another try may do without.
pub const NO_SERVER_IN_TIME: &str = "no-server-in-time";

const ALL: &[Part] =
    &[Part::Rcode, Part::Authentic, Part::Answer, Part::Authority, Part::Additional];

pub static CLASSES: [Class; 19] = [
    Class {
        name: "ad-with-cd",
        rfc: "RFC 6840 section 5.7, RFC 4035 section 3.2.2",
        why: "With CD a resolver need not judge; Unbound tells what it has judged before, we and \
              Knot Resolver never set AD.",
        parts: &[Part::Authentic],
        applies: |case| {
            case.question.checking_disabled && case.theirs.authentic && !case.ours.authentic
        },
    },
    Class {
        name: "addresses-of-servers",
        rfc: "RFC 1034 section 4.3.2 step 6, RFC 2181 section 9",
        why: "Unbound adds addresses to an answer of NS records; they are a courtesy.",
        parts: &[Part::Additional],
        applies: |case| {
            case.peer == Peer::Unbound
                && case.question.rtype == "NS"
                && case.ours.additional.is_empty()
                && case.theirs.additional.iter().all(|item| matches!(item.covers(), 1 | 28))
        },
    },
    Class {
        name: "proof-of-insecure-wildcard",
        rfc: "RFC 4035 sections 3.1.3.3 and 3.2.1",
        why: "Knot Resolver leaves the NSEC records out of a wildcard's answer when it is not \
              secure; who set DO may have an anchor that we have not.",
        parts: &[Part::Authority],
        applies: |case| {
            case.peer == Peer::Kresd
                && !case.theirs.authentic
                && !case.ours.answer.is_empty()
                && only_proofs_beyond(&case.ours.authority, &case.theirs.authority)
        },
    },
    Class {
        name: "more-proof-than-needed",
        rfc: "RFC 4035 section 3.1.3, RFC 5155 section 7.2",
        why: "One has an NSEC or NSEC3 record more: of a name above that was asked for on the \
              way, of the closest encloser of a wildcard's answer, or as the server sent it.",
        parts: &[Part::Authority],
        applies: |case| {
            let (ours, theirs) = (case.ours, case.theirs);
            // Less is enough for us if we say AD, and for a peer if he does where we do.
            let enough = ours.authentic == theirs.authentic;
            ours.rcode == theirs.rcode
                && ours.answer == theirs.answer
                && (only_proofs_beyond(&theirs.authority, &ours.authority)
                    || enough && only_proofs_beyond(&ours.authority, &theirs.authority))
        },
    },
    Class {
        name: "iterations-refused",
        rfc: "RFC 9276 section 3.2",
        why: "We answer SERVFAIL with EDE 27 past 500 iterations, to which both peers hold on as \
              insecure; the RFC allows both.",
        parts: ALL,
        applies: |case| {
            case.ours.rcode == SERVFAIL && case.ours.ede == [27] && case.iterations(501)
        },
    },
    Class {
        name: "iterations-insecure",
        rfc: "RFC 9276 section 3.2",
        why: "Knot Resolver takes NSEC3 with more than 50 iterations for insecure, we and Unbound \
              with more than 150; below such a zone Unbound takes zones for insecure whose DS is \
              there and signed.",
        parts: &[Part::Authentic],
        applies: |case| {
            let least = if case.peer == Peer::Kresd { 51 } else { 151 };
            !case.theirs.authentic && case.iterations(least)
        },
    },
    Class {
        name: "ad-under-opt-out",
        rfc: "RFC 5155 section 9.2",
        why: "What rests on an NSEC3 with opt-out is not authentic; Knot Resolver says so of a \
              wildcard's answer that an alias of another zone led to.",
        parts: &[Part::Authentic],
        applies: |case| {
            let rests = case.ours.authority.iter().any(|item| {
                let denial = case.plan.zone_of(&item.owner).signing.map(|signing| signing.denial);
                item.rtype == NSEC3 && matches!(denial, Some(Denial::Nsec3 { opt_out: true, .. }))
            });
            case.peer == Peer::Kresd && !case.ours.authentic && case.theirs.authentic && rests
        },
    },
    Class {
        name: "records-with-servfail",
        rfc: "RFC 6604 section 3",
        why: "Both peers at times send the aliases that led to a failure; the RCODE is the end's, \
              and we send no part of what failed.",
        parts: &[Part::Answer, Part::Authority, Part::Additional],
        applies: |case| {
            let (ours, theirs) = (case.ours, case.theirs);
            ours.rcode == SERVFAIL
                && theirs.rcode == SERVFAIL
                && ours.answer.is_empty()
                && ours.authority.is_empty()
                && theirs.answer.iter().all(|item| matches!(item.covers(), CNAME | DNAME))
        },
    },
    Class {
        name: "cname-asked-for",
        rfc: "RFC 1034 section 3.6.2",
        why: "Who asks for a CNAME is not led on; Unbound gives the RCODE and the denial of the \
              name that the CNAME points to.",
        parts: &[Part::Rcode, Part::Authority, Part::Authentic],
        applies: |case| {
            case.peer == Peer::Unbound
                && case.question.rtype == "CNAME"
                && case.ours.rcode == 0
                && (case.theirs.rcode == 3
                    || case.theirs.authority.iter().any(|item| item.rtype == SOA))
                && case.ours.answer.iter().any(|item| item.rtype == CNAME)
                && case.ours.answer == case.theirs.answer
        },
    },
    Class {
        name: "endless-alias",
        rfc: "RFC 1034 section 3.6.2",
        why: "A chain of aliases without end is an error and told as one; Unbound ends at a bound \
              of its own and gives what it has.",
        parts: ALL,
        applies: |case| case.ours.rcode == SERVFAIL && is_endless(&case.theirs.answer),
    },
    Class {
        name: "referral-taken-for-denial",
        rfc: "RFC 2308 section 2.2",
        why: "A server that is none of the zone's refers to the zone's own; both peers at times \
              answer with no more than that, without records or SOA. We ask the next, or fail.",
        parts: &[Part::Answer, Part::Authority, Part::Authentic, Part::Rcode],
        applies: |case| {
            case.theirs.rcode == 0
                && case
                    .theirs
                    .authority
                    .iter()
                    .all(|item| matches!(item.covers(), NS | NSEC | NSEC3))
                && case.theirs.answer.is_subset(&case.ours.answer)
                && case.zones().iter().any(|zone| {
                    zone.nameservers.iter().any(|server| matches!(server.host, Host::Lame(_)))
                })
        },
    },
    Class {
        name: "unsigned-beside-signed",
        rfc: "RFC 4035 sections 4.3 and 5.2",
        why: "Knot Resolver at times fails for names deep in an unsigned zone that servers of \
              the signed one above have, too: it sees no referral, and does not ask for the DS.",
        parts: ALL,
        applies: |case| {
            let beside = |zone: &&PlannedZone| {
                let above = zone.above.map(|above| &case.plan.zones[above]);
                above.is_some_and(|above| zone.hosts().any(|host| above.hosts().any(|h| h == host)))
            };
            case.peer == Peer::Kresd
                && case.theirs.rcode == SERVFAIL
                && !case.ours.authentic
                && case.zones().iter().any(|zone| !case.plan.is_chained(zone) && beside(zone))
        },
    },
    Class {
        name: "dname-asked-for",
        rfc: "RFC 6672 sections 2.3 and 3.2",
        why: "Who asks for a DNAME or a CNAME at a name that a DNAME leads on gets both, and is \
              led on if he asked for a DNAME; Unbound fails, or leaves out the denial at the end.",
        parts: ALL,
        applies: |case| {
            let theirs = case.theirs;
            let cut_short = theirs.rcode == 0
                && theirs.authority.is_empty()
                && theirs.answer.is_subset(&case.ours.answer);
            case.peer == Peer::Unbound
                && matches!(case.question.rtype, "DNAME" | "CNAME")
                && (theirs.rcode == SERVFAIL || cut_short)
                && case.ours.answer.iter().any(|item| item.rtype == DNAME)
        },
    },
    Class {
        name: "dname-left-out",
        rfc: "RFC 6672 section 3.2",
        why: "Knot Resolver gives the CNAME that a DNAME made without the DNAME when it has it in \
              its cache, and at times leaves out both; only the DNAME is signed.",
        parts: &[Part::Answer],
        applies: |case| {
            let (ours, theirs) = (&case.ours.answer, &case.theirs.answer);
            let dnames = || ours.iter().filter(|item| item.rtype == DNAME);
            let made = |item: &Item| {
                item.rtype == CNAME && dnames().any(|dname| is_under(&item.owner, &dname.owner))
            };
            case.peer == Peer::Kresd
                && theirs.is_subset(ours)
                && dnames().any(|dname| !theirs.contains(dname))
                && ours.difference(theirs).all(|item| item.covers() == DNAME || made(item))
        },
    },
    Class {
        name: "denial-by-the-zone-above",
        rfc: "RFC 1034 section 4.2.1, RFC 2308 section 3",
        why: "Knot Resolver denies the CNAME of a delegated name with the SOA of the zone above; \
              all but the DS at a zone's name is the zone's own.",
        parts: &[Part::Authority, Part::Authentic],
        applies: |case| {
            let name = case.question.name.to_ascii_lowercase();
            let zone = case.plan.zone_of(&name);
            let above = zone.above.map(|above| &case.plan.zones[above]);
            case.peer == Peer::Kresd
                && case.question.rtype == "CNAME"
                && name == zone.name
                && (case.ours.rcode, case.theirs.rcode) == (0, 0)
                && case.ours.answer.is_empty()
                && case.theirs.authority.iter().any(|item| {
                    item.rtype == SOA && above.is_some_and(|above| item.owner == above.name)
                })
        },
    },
    Class {
        name: "denial-without-soa",
        rfc: "RFC 2308 section 3",
        why: "Unbound at times denies what an alias leads to without the SOA that says for how \
              long; a resolver that has it adds it.",
        parts: &[Part::Authority],
        applies: |case| {
            let (ours, theirs) = (case.ours, case.theirs);
            case.peer == Peer::Unbound
                && ours.rcode == theirs.rcode
                && ours.answer == theirs.answer
                && ours.answer.iter().any(|item| item.rtype == CNAME)
                && ours.authority.iter().any(|item| item.rtype == SOA)
                && theirs.authority.is_empty()
        },
    },
    Class {
        name: "denial-without-authority",
        rfc: "RFC 2308 section 2.1, RFC 5155 section 7.1",
        why: "Knot DNS denies names below an empty non-terminal that opt-out left without NSEC3 by \
              a bare NXDOMAIN, without AA or SOA; Unbound believes it, we and Knot Resolver not.",
        parts: &[Part::Rcode],
        applies: |case| {
            let theirs = case.theirs;
            case.peer == Peer::Unbound
                && case.ours.rcode == SERVFAIL
                && case.ours.ede == [22]
                && theirs.rcode == 3
                && theirs.answer.is_empty()
                && theirs.authority.is_empty()
                && case.zones().iter().any(|zone| {
                    let denial = zone.signing.map(|signing| signing.denial);
                    matches!(denial, Some(Denial::Nsec3 { opt_out: true, .. }))
                })
        },
    },
    Class {
        name: "alias-of-a-name-above",
        rfc: "RFC 8020 section 2",
        why: "Unbound has asked for a name above, an alias to a name that is not there, and gives \
              that alias beside NXDOMAIN, though it does not answer what was asked.",
        parts: &[Part::Answer, Part::Authority],
        applies: |case| {
            let name = case.question.name.to_ascii_lowercase();
            case.peer == Peer::Unbound
                && case.ours.rcode == 3
                && case.theirs.rcode == 3
                && case.ours.answer.is_empty()
                && case.theirs.answer.iter().all(|item| {
                    item.covers() == CNAME && item.owner != name && is_under(&name, &item.owner)
                })
        },
    },
    Class {
        name: NO_SERVER_IN_TIME,
        rfc: "RFC 1035 section 7.2, RFC 9520 section 2",
        why: "A peer gives up where a server of the zone, or of one above, is dead or lame, and \
              others are well: how long to try is the resolver's affair.",
        parts: ALL,
        applies: |case| {
            case.theirs.rcode == SERVFAIL
                && case.ours.rcode != SERVFAIL
                && case.zones().iter().any(|zone| case.has(zone, |h| !matches!(h, Host::Alive(_))))
        },
    },
];

impl Case<'_> {
    /// The zones of all names on the way, with those above them.
    fn zones(&self) -> Vec<&PlannedZone> {
        let answers = self.ours.answer.iter().chain(&self.theirs.answer);
        let targets = answers.clone().filter_map(Item::target);
        let names = answers.map(|item| item.owner.clone()).chain(targets);
        let mut zones: Vec<&PlannedZone> = Vec::new();
        for name in names.chain([self.question.name.to_ascii_lowercase()]) {
            for zone in self.plan.upwards(self.plan.zone_of(&name)) {
                if zones.iter().all(|known| known.name != zone.name) {
                    zones.push(zone);
                }
            }
        }
        zones
    }

    /// Whether a server of the zone is such, not counting those that are all lame on purpose.
    fn has(&self, zone: &PlannedZone, is: impl Fn(Host) -> bool) -> bool {
        zone.fault != Some(Fault::Lame) && zone.nameservers.iter().any(|server| is(server.host))
    }

    /// Whether a zone on the way has NSEC3 with at least so many iterations.
    fn iterations(&self, least: u16) -> bool {
        self.zones().iter().any(|zone| match zone.signing.map(|signing| signing.denial) {
            Some(Denial::Nsec3 { iterations, .. }) => iterations >= least,
            _ => false,
        })
    }
}

/// Whether `more` is `less` with NSEC, NSEC3 and what signs them, and nothing else, beside it.
fn only_proofs_beyond(more: &Section, less: &Section) -> bool {
    less.is_subset(more)
        && more.difference(less).all(|item| matches!(item.covers(), NSEC | NSEC3))
        && more.iter().any(|item| item.rtype == SOA) == less.iter().any(|item| item.rtype == SOA)
}

/// Whether a section is aliases alone, of which one leads back to where others began.
fn is_endless(section: &Section) -> bool {
    let aliases = || section.iter().filter(|item| matches!(item.rtype, CNAME | DNAME));
    let only = section.iter().all(|item| matches!(item.covers(), CNAME | DNAME));
    only && aliases().any(|item| {
        let Some(target) = item.target() else { return false };
        aliases().any(|begin| match begin.rtype {
            CNAME => begin.owner == target,
            _ => begin.owner != target && is_under(&target, &begin.owner),
        }) && !aliases().any(|item| item.rtype == CNAME && !leads_on(item, section))
    })
}

/// Whether a CNAME's target is an alias of the same section again, by itself or by a DNAME.
fn leads_on(cname: &Item, section: &Section) -> bool {
    let Some(target) = cname.target() else { return false };
    section.iter().any(|item| match item.rtype {
        CNAME => item.owner == target,
        DNAME => item.owner != target && is_under(&target, &item.owner),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_in_the_document() {
        let text = include_str!("../../docs/DIFFERENTIAL.md");
        for class in &CLASSES {
            for part in [class.name, class.rfc, class.why] {
                assert!(text.contains(part), "docs/DIFFERENTIAL.md lacks: {part}");
            }
        }
    }

    #[test]
    fn an_alias_that_ends_is_not_endless() {
        let wire = |name: &str| {
            let labels = name.split('.').filter(|label| !label.is_empty());
            let mut wire: Vec<u8> =
                labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
            wire.push(0);
            wire
        };
        let item = |owner: &str, rtype, target| Item {
            owner: owner.to_owned(),
            rtype,
            data: wire(target),
        };
        let section = |items: &[Item]| items.iter().cloned().collect::<Section>();
        let ends = section(&[item("a.", CNAME, "b."), item("b.", CNAME, "c.")]);
        assert!(!is_endless(&ends));
        let grows = [item("x.a.", CNAME, "x.b.a."), item("a.", DNAME, "b.a.")];
        assert!(is_endless(&section(&grows)));
        let round = [item("a.", CNAME, "b."), item("b.", CNAME, "a.")];
        assert!(is_endless(&section(&round)));
        let last = item("c.", RRSIG, "x.");
        assert!(!is_endless(&section(&[round[0].clone(), round[1].clone(), last])));
    }
}
