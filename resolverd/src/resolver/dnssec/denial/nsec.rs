//! Proofs by NSEC (RFC 4035 section 5.4).
//!
//! Pure; the records are verified already.

use std::cmp::Ordering;

use crate::dns::Name;
use crate::dns::records::Record;

use super::super::names::{
    canonical_cmp, common_ancestor, is_below, label_count, rightmost, wildcard,
};
use super::super::rrset::name_at;
use super::{NXNAME, Types, lacks, speaks_for_below};

/// An NSEC, with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsec {
    pub owner: Name,
    pub next: Name,
    pub types: Types,
}

impl Nsec {
    /// None if it is malformed or leads out of its zone.
    #[must_use]
    pub fn read(zone: &Name, record: &Record) -> Option<Self> {
        let (next, end) = name_at(&record.rdata, 0)?;
        let types = Types::read(&record.rdata[end..])?;
        let within = record.owner.is_under(zone) && next.is_under(zone);
        within.then(|| Self { owner: record.owner.clone(), next, types })
    }

    /// Whether no name stands at `name`: it is in the gap, and this record may speak for it. The
    /// name may still be on the way to the next one, and so exist without records.
    fn covers(&self, name: &Name) -> bool {
        // The last of a zone leads to its apex: all that comes after it is in its gap.
        let last = canonical_cmp(&self.owner, &self.next) != Ordering::Less;
        let after = canonical_cmp(&self.owner, name) == Ordering::Less;
        let before = last || canonical_cmp(name, &self.next) == Ordering::Less;
        let speaks = speaks_for_below(&self.types) || !is_below(name, &self.owner);
        after && before && speaks
    }

    /// Whether `name` does not exist at all.
    fn denies(&self, name: &Name) -> bool {
        self.covers(name) && !is_below(&self.next, name)
    }

    /// The longest ancestor of `name` that exists, if this record covers it.
    fn encloser(&self, name: &Name) -> Name {
        let left = common_ancestor(name, &self.owner);
        let right = common_ancestor(name, &self.next);
        if label_count(&left) > label_count(&right) { left } else { right }
    }
}

/// RFC 4035 section 5.4, first case; or RFC 9824: the name is there for the proof alone.
pub(super) fn name_error(records: &[Nsec], name: &Name) -> bool {
    if matching(records, name).is_some_and(|nsec| nsec.types.has(NXNAME)) {
        return true;
    }
    let Some(gap) = records.iter().find(|nsec| nsec.denies(name)) else { return false };
    // No wildcard can have a name too long to be written.
    let Some(wildcard) = wildcard(&gap.encloser(name)) else { return true };
    records.iter().any(|nsec| nsec.denies(&wildcard))
}

pub(super) fn no_data(records: &[Nsec], name: &Name, qtype: u16) -> bool {
    if let Some(found) = matching(records, name) {
        return lacks(&found.types, name, qtype);
    }
    let Some(gap) = records.iter().find(|nsec| nsec.covers(name)) else { return false };
    // RFC 4592 section 2.2.2: an empty non-terminal has no types.
    if is_below(&gap.next, name) {
        return true;
    }
    let Some(wildcard) = wildcard(&gap.encloser(name)) else { return false };
    matching(records, &wildcard).is_some_and(|found| lacks(&found.types, &wildcard, qtype))
}

/// The name that is one label longer than `encloser` on the way to `name` is in a gap, and with
/// it everything below it.
pub(super) fn nothing_nearer(records: &[Nsec], name: &Name, encloser: &Name) -> bool {
    if !is_below(name, encloser) {
        return false;
    }
    let next_closer = rightmost(name, label_count(encloser) + 1);
    records.iter().any(|nsec| nsec.denies(&next_closer))
}

fn matching<'a>(records: &'a [Nsec], name: &Name) -> Option<&'a Nsec> {
    records.iter().find(|nsec| nsec.owner == *name)
}
