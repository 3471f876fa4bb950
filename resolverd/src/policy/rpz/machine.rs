//! A zone transfer, record by record: the whole zone, changes, or nothing new.
//!
//! ```text
//!             SOA            record
//!   begun ─────────▶ first ─────────▶ whole ────────▶ over
//!                      │                       SOA
//!                      │ SOA of what we have
//!                      └─────────▶ leaving ◀──▶ coming ──▶ over
//! ```
//!
//! RFC 5936 section 2.2, RFC 1995 section 4. Changes are made to a copy; nothing is in use
//! before all of it is there.

use std::sync::Arc;

use crate::dns::records::Record;
use crate::dns::{Name, rtype};

use super::zone::{RuleError, Zone};

/// See the module.
#[derive(Debug)]
pub struct Incoming {
    origin: Name,
    have: Option<Arc<Zone>>,
    state: State,
    records: usize,
}

#[derive(Debug)]
enum State {
    Begun,
    /// The version that is to come.
    First(Record),
    Whole {
        to: u32,
        zone: Zone,
    },
    /// Records of version `at` that go.
    Leaving {
        to: Record,
        zone: Zone,
    },
    /// Records that make version `at`.
    Coming {
        to: Record,
        zone: Zone,
        at: u32,
    },
    Over,
}

/// What a transfer came to.
#[derive(Debug)]
pub enum Done {
    /// We have what there is.
    Current,
    Whole(Zone),
    Changes(Zone),
}

/// Why a transfer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("it does not begin with the SOA of the zone")]
    NoSoa,
    #[error("it has changes of a version that we don't have")]
    OtherVersion,
    #[error("it has more than {RECORDS_MAX} records")]
    TooMany,
    #[error("a record follows the last one")]
    Trailing,
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl Incoming {
    /// `have`: the version that changes were asked for.
    #[must_use]
    pub fn new(origin: Name, have: Option<Arc<Zone>>) -> Self {
        Self { origin, have, state: State::Begun, records: 0 }
    }

    /// Takes in the next record.
    ///
    /// # Errors
    ///
    /// See [`TransferError`]. The transfer is over then.
    pub fn take(&mut self, record: Record) -> Result<Option<Done>, TransferError> {
        self.records += 1;
        if self.records > RECORDS_MAX {
            return Err(TransferError::TooMany);
        }
        let soa = (record.rtype == rtype::SOA && record.owner == self.origin)
            .then(|| serial(&record))
            .flatten();
        let (state, done) = match (std::mem::replace(&mut self.state, State::Over), soa) {
            (State::Begun, Some(_)) => (State::First(record), None),
            (State::Begun, None) => return Err(TransferError::NoSoa),
            (State::First(first), Some(at)) => {
                let have = self.have.as_ref().filter(|zone| zone.serial() == Some(at));
                match have {
                    Some(have) => (State::Leaving { to: first, zone: Zone::clone(have) }, None),
                    // A zone of nothing but its SOA.
                    None if serial(&first) == Some(at) => {
                        let mut zone = Zone::new(self.origin.clone());
                        zone.insert(first)?;
                        (State::Over, Some(Done::Whole(zone)))
                    }
                    None => return Err(TransferError::OtherVersion),
                }
            }
            (State::First(first), None) => {
                let mut zone = Zone::new(self.origin.clone());
                let to = serial(&first).ok_or(TransferError::NoSoa)?;
                zone.insert(first)?;
                zone.insert(record)?;
                (State::Whole { to, zone }, None)
            }
            (State::Whole { to, zone }, Some(at)) if at == to => {
                (State::Over, Some(Done::Whole(finished(zone))))
            }
            (State::Whole { .. }, Some(_)) => return Err(TransferError::OtherVersion),
            (State::Whole { to, mut zone }, None) => {
                zone.insert(record)?;
                (State::Whole { to, zone }, None)
            }
            (State::Leaving { to, zone }, Some(at)) => (State::Coming { to, zone, at }, None),
            (State::Leaving { to, mut zone }, None) => {
                zone.remove(&record)?;
                (State::Leaving { to, zone }, None)
            }
            (State::Coming { to, mut zone, at }, Some(next)) => {
                if next != at {
                    return Err(TransferError::OtherVersion);
                }
                if serial(&to) == Some(at) {
                    zone.insert(to)?;
                    (State::Over, Some(Done::Changes(finished(zone))))
                } else {
                    (State::Leaving { to, zone }, None)
                }
            }
            (State::Coming { to, mut zone, at }, None) => {
                zone.insert(record)?;
                (State::Coming { to, zone, at }, None)
            }
            (State::Over, _) => return Err(TransferError::Trailing),
        };
        self.state = state;
        Ok(done)
    }

    /// A message ended here. One SOA alone says that there is nothing newer than it.
    pub fn pause(&mut self) -> Option<Done> {
        let State::First(first) = &self.state else { return None };
        let (have, there) = (self.have.as_ref()?.serial()?, serial(first)?);
        // RFC 1982: ours is as new, or newer.
        let current = have == there || have.wrapping_sub(there) < 1 << 31;
        current.then(|| {
            self.state = State::Over;
            Done::Current
        })
    }
}

fn finished(mut zone: Zone) -> Zone {
    zone.finish();
    zone
}

/// The serial of an SOA.
fn serial(soa: &Record) -> Option<u32> {
    let at = soa.rdata.len().checked_sub(20)?;
    soa.rdata.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

/// Records of one transfer: those of the largest zone, gone and come again.
pub const RECORDS_MAX: usize = 16_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn soa(serial: u32) -> Record {
        let rdata = [&b"\0\0"[..], &serial.to_be_bytes(), &[0; 16]].concat();
        Record { owner: name("rpz.test."), rtype: rtype::SOA, class: 1, ttl: 60, rdata }
    }

    fn rule(owner: &str) -> Record {
        let owner = name(&format!("{owner}.rpz.test."));
        Record { owner, rtype: rtype::CNAME, class: 1, ttl: 60, rdata: vec![0] }
    }

    fn have(serial: u32, rules: &[&str]) -> Arc<Zone> {
        let mut zone = Zone::new(name("rpz.test."));
        zone.insert(soa(serial)).unwrap();
        rules.iter().for_each(|text| zone.insert(rule(text)).unwrap());
        Arc::new(zone)
    }

    /// What the records come to: "whole 5: a b", or what is wrong.
    fn run(have: Option<Arc<Zone>>, records: Vec<Record>) -> String {
        let mut incoming = Incoming::new(name("rpz.test."), have);
        for record in records {
            match incoming.take(record) {
                Ok(None) => {}
                Ok(Some(done)) => return shown(done),
                Err(error) => return error.to_string(),
            }
        }
        incoming.pause().map_or_else(|| "more".into(), shown)
    }

    fn shown(done: Done) -> String {
        let (word, zone) = match done {
            Done::Current => return "current".into(),
            Done::Whole(zone) => ("whole", zone),
            Done::Changes(zone) => ("changes", zone),
        };
        let there = ["a", "b", "c", "d"]
            .into_iter()
            .filter(|text| zone.qname(&name(&format!("{text}."))).is_some());
        let there: Vec<&str> = there.collect();
        format!("{word} {}: {}", zone.serial().unwrap(), there.join(" "))
    }

    #[test]
    fn the_whole_table() {
        let v5 = || Some(have(5, &["a", "b"]));
        for (have, records, expected) in [
            (None, vec![], "more"),
            (None, vec![rule("a")], "it does not begin with the SOA of the zone"),
            (None, vec![soa(5)], "more"),
            (None, vec![soa(5), rule("a")], "more"),
            (None, vec![soa(5), rule("a"), rule("b"), soa(5)], "whole 5: a b"),
            (None, vec![soa(5), soa(5)], "whole 5: "),
            (
                None,
                vec![soa(5), rule("a"), soa(6)],
                "it has changes of a version that we don't have",
            ),
            (None, vec![soa(6), soa(5)], "it has changes of a version that we don't have"),
            // RFC 1995: nothing new, whole all the same, or changes.
            (v5(), vec![soa(5)], "current"),
            (v5(), vec![soa(4)], "current"),
            (v5(), vec![soa(6)], "more"),
            (v5(), vec![soa(6), rule("c"), soa(6)], "whole 6: c"),
            (v5(), vec![soa(6), soa(5), rule("a"), soa(6), rule("c"), soa(6)], "changes 6: b c"),
            (
                v5(),
                vec![
                    soa(7),
                    soa(5),
                    rule("a"),
                    soa(6),
                    rule("c"),
                    soa(6),
                    rule("c"),
                    soa(7),
                    rule("d"),
                    soa(7),
                ],
                "changes 7: b d",
            ),
            (v5(), vec![soa(6), soa(5), soa(6), soa(6)], "changes 6: a b"),
            (
                v5(),
                vec![soa(6), soa(4), rule("a")],
                "it has changes of a version that we don't have",
            ),
            (
                v5(),
                vec![soa(7), soa(5), soa(6), soa(7)],
                "it has changes of a version that we don't have",
            ),
        ] {
            let text = format!("{records:?}");
            assert_eq!(run(have, records), expected, "{text}");
        }
    }

    #[test]
    fn serials_go_round() {
        assert_eq!(run(Some(have(1, &[])), vec![soa(u32::MAX)]), "current");
        assert_eq!(run(Some(have(u32::MAX, &[])), vec![soa(1)]), "more");
    }

    #[test]
    fn after_the_last_record_there_is_none() {
        let mut incoming = Incoming::new(name("rpz.test."), None);
        for record in [soa(5), soa(5)] {
            incoming.take(record).unwrap();
        }
        assert_eq!(incoming.take(rule("a")).unwrap_err(), TransferError::Trailing);
        assert!(incoming.pause().is_none());
    }
}
