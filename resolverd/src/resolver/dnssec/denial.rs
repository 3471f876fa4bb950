//! What does not exist, proven by NSEC or NSEC3 (RFC 4035 section 5.4, RFC 5155 section 8).
//!
//! Pure. A [`Denial`] holds the records of one zone that were verified already; it says what
//! follows from them, and the traps of RFC 6840 section 4 are told at the methods that
//! avoid them. `aggressive` asks the same methods, so that what is made here is held to what is
//! received.

pub(super) mod nsec;
pub(super) mod nsec3;
mod types;

use crate::dns::{Name, rtype};

use super::names::{is_below, parent};
use super::rrset::RrSet;
use super::verify::Work;
use super::{Failure, Reason, ede};

pub use nsec::Nsec;
pub use nsec3::Nsec3;
pub use types::Types;

/// Verified records of one zone that deny. Made of one reply, or of what was kept of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    zone: Name,
    nsec: Vec<Nsec>,
    nsec3: Vec<Nsec3>,
}

/// How much a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// What was to be shown.
    Secure,
    /// There may be an unsigned delegation in the gap, or the proof costs too much: neither
    /// proven nor disproven (RFC 5155 section 9.2, RFC 9276 section 3.2).
    Insecure(Reason),
}

/// What stands at a name, as its parent zone's denial of a DS shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A delegation without DS: all below is insecure.
    Insecure(Reason),
    /// No delegation: the name is of the same zone.
    None,
    /// The name does not exist, so that nothing below it does.
    NoName,
}

impl Denial {
    /// Takes what NSEC and NSEC3 records there are among sets that were verified by `zone`'s
    /// keys and are not expanded from wildcards. Records that make no sense are left out: they
    /// prove nothing (RFC 5155 section 8.1).
    #[must_use]
    pub fn of<'a>(zone: &Name, sets: impl IntoIterator<Item = &'a RrSet>) -> Self {
        let mut denial = Self { zone: zone.clone(), nsec: Vec::new(), nsec3: Vec::new() };
        for set in sets.into_iter().take(SETS_MAX) {
            // A name has one NSEC; two at one name would say two things. The same one may have
            // come twice, at different ages, to two links of a chain of aliases.
            let [record, others @ ..] = set.records.as_slice() else { continue };
            if others.iter().any(|other| other.rdata != record.rdata) {
                continue;
            }
            match set.rtype {
                rtype::NSEC => denial.nsec.extend(Nsec::read(zone, record)),
                rtype::NSEC3 => denial.nsec3.extend(Nsec3::read(zone, record)),
                _ => {}
            }
        }
        // RFC 5155 section 8.2: all of one proof are made in one way.
        if let Some(first) = denial.nsec3.first().cloned() {
            denial.nsec3.retain(|other| other.made_like(&first));
        }
        denial
    }

    #[must_use]
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nsec.is_empty() && self.nsec3.is_empty()
    }

    /// Shows that `name` does not exist, and no wildcard that would stand for it.
    pub fn name_error(&self, name: &Name, work: &mut Work) -> Result<Proof, Failure> {
        self.within(name)?;
        if nsec::name_error(&self.nsec, name) {
            return Ok(Proof::Secure);
        }
        self.by_nsec3(work, |hashed| hashed.name_error(name))
            .unwrap_or_else(|| self.fail(name, "the name does not exist"))
    }

    /// Shows that `name`, or the wildcard that stands for it, has no records of `qtype`. Names
    /// that are only on the way to others (empty non-terminals) are shown so too.
    pub fn no_data(&self, name: &Name, qtype: u16, work: &mut Work) -> Result<Proof, Failure> {
        self.within(name)?;
        if nsec::no_data(&self.nsec, name, qtype) {
            return Ok(Proof::Secure);
        }
        self.by_nsec3(work, |hashed| hashed.no_data(name, qtype))
            .unwrap_or_else(|| self.fail(name, "there is no such type"))
    }

    /// Shows that nothing is nearer to `name` than the wildcard below `encloser`, from which
    /// its answer was made (RFC 4035 section 5.3.4, RFC 5155 section 8.8).
    pub fn expansion(
        &self,
        name: &Name,
        encloser: &Name,
        work: &mut Work,
    ) -> Result<Proof, Failure> {
        self.within(name)?;
        if nsec::nothing_nearer(&self.nsec, name, encloser) {
            return Ok(Proof::Secure);
        }
        self.by_nsec3(work, |hashed| hashed.nothing_nearer(name, encloser))
            .unwrap_or_else(|| self.fail(name, "nothing is nearer than the wildcard"))
    }

    /// What this parent zone shows about `name` by denying its DS (RFC 4035 section 5.2,
    /// RFC 5155 section 8.9). `exists` is what the RCODE said.
    pub fn cut(&self, name: &Name, exists: bool, work: &mut Work) -> Result<Cut, Failure> {
        if !is_below(name, &self.zone) {
            return self.fail(name, "there is no DS");
        }
        if !exists {
            return self.name_error(name, work).map(|proof| match proof {
                Proof::Secure => Cut::NoName,
                Proof::Insecure(reason) => Cut::Insecure(reason),
            });
        }
        if let Some(found) = self.nsec.iter().find(|nsec| nsec.owner == *name) {
            return self.cut_of(name, &found.types);
        }
        let matching = self.by_nsec3(work, |hashed| hashed.matching(name));
        match matching.transpose()? {
            Some(nsec3::Found::Types(types)) => return self.cut_of(name, &types),
            Some(nsec3::Found::TooMany(count)) => {
                return Ok(Cut::Insecure(Reason::Iterations(count)));
            }
            Some(nsec3::Found::Nothing) | None => {}
        }
        // An empty non-terminal, a wildcard's expansion, or a gap with opt-out.
        self.no_data(name, rtype::DS, work).map(|proof| match proof {
            Proof::Secure => Cut::None,
            Proof::Insecure(Reason::OptOut) => {
                Cut::Insecure(Reason::Delegation(name.clone(), None))
            }
            Proof::Insecure(reason) => Cut::Insecure(reason),
        })
    }

    fn cut_of(&self, name: &Name, types: &Types) -> Result<Cut, Failure> {
        // RFC 6840 section 4.4: the SOA bit is the child's own, which cannot deny its DS.
        if types.has(rtype::DS) || types.has(rtype::SOA) || types.has(rtype::CNAME) {
            return self.fail(name, "there is no DS");
        }
        Ok(match types.has(rtype::NS) {
            true => Cut::Insecure(Reason::Delegation(name.clone(), None)),
            false => Cut::None,
        })
    }

    fn by_nsec3<T>(
        &self,
        work: &mut Work,
        ask: impl FnOnce(&mut nsec3::Hashed<'_>) -> nsec3::Outcome<T>,
    ) -> Option<Result<T, Failure>>
    where
        T: nsec3::Limited,
    {
        let first = self.nsec3.first()?;
        if first.iterations > nsec3::ITERATIONS_REFUSED {
            let text = format!(
                "NSEC3 with {} iterations in zone {}: more than {} are refused",
                first.iterations,
                self.zone,
                nsec3::ITERATIONS_REFUSED
            );
            return Some(Err(Failure::new(ede::UNSUPPORTED_ITERATIONS, text)));
        }
        if first.iterations > nsec3::ITERATIONS_BELIEVED {
            return Some(Ok(T::too_many(first.iterations)));
        }
        let mut hashed = nsec3::Hashed::new(&self.zone, &self.nsec3, work);
        match ask(&mut hashed) {
            nsec3::Outcome::Shown(shown) => Some(Ok(shown)),
            nsec3::Outcome::NotShown => None,
            nsec3::Outcome::TooMuch => {
                let text = format!("proof by NSEC3 takes too many hashes, zone {}", self.zone);
                Some(Err(Failure::new(ede::DNSSEC_BOGUS, text)))
            }
        }
    }

    fn within(&self, name: &Name) -> Result<(), Failure> {
        if name.is_under(&self.zone) { Ok(()) } else { self.fail(name, "it is not here") }
    }

    fn fail<T>(&self, name: &Name, what: &str) -> Result<T, Failure> {
        let text = format!("no proof that {what}: {name}, zone {}", self.zone);
        Err(Failure::new(ede::NSEC_MISSING, text))
    }
}

/// Whether records with these types may deny what is below their owner: not those of a
/// delegation's parent side, nor of a DNAME (RFC 6840 section 4.1, RFC 5155 section 8.3).
fn speaks_for_below(types: &Types) -> bool {
    let delegation = types.has(rtype::NS) && !types.has(rtype::SOA);
    !delegation && !types.has(rtype::DNAME)
}

/// Whether these types of a name show that it has no `qtype` (RFC 6840 sections 4.3 and 4.4):
/// a CNAME would have been the answer; the parent side of a delegation speaks for DS alone, and
/// the child's side for all but DS. The root has no parent. ANY is lacking where there is
/// nothing but the proof itself.
fn lacks(types: &Types, owner: &Name, qtype: u16) -> bool {
    if types.has(qtype) || types.has(rtype::CNAME) {
        return false;
    }
    match qtype {
        rtype::ANY => types.only(&[rtype::RRSIG, rtype::NSEC, NXNAME]),
        rtype::DS => !types.has(rtype::SOA) || parent(owner).is_none(),
        _ => !types.has(rtype::NS) || types.has(rtype::SOA),
    }
}

/// Sets of one reply that are looked at. A proof needs three.
pub(super) const SETS_MAX: usize = 16;

/// RFC 9824 section 3: stands in the NSEC of a name that does not exist.
pub(super) const NXNAME: u16 = 128;

#[cfg(test)]
mod tests;
