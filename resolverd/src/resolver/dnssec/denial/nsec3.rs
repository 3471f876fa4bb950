//! Proofs by NSEC3 (RFC 5155 section 8).
//!
//! Pure; the records are verified already. Hashes are computed once a name, and what they cost is
//! taken from the question's [`Work`].

use data_encoding::BASE32HEX_NOPAD;
use ring::digest;

use crate::dns::Name;
use crate::dns::records::Record;
use crate::dns::rtype;

use super::super::Reason;
use super::super::names::{is_below, label_count, parent, rightmost, wildcard};
use super::super::verify::Work;
use super::{Proof, Types, lacks, speaks_for_below};

/// An NSEC3 with SHA-1, the only hash there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsec3 {
    pub hash: Hash,
    pub next: Hash,
    pub types: Types,
    pub opt_out: bool,
    pub iterations: u16,
    pub salt: Vec<u8>,
}

pub(in super::super) type Hash = [u8; 20];

impl Nsec3 {
    /// None if it is malformed, of an unknown hash or with unknown flags (RFC 5155 sections 8.1
    /// and 8.2), or if its owner is not one label below the zone's.
    #[must_use]
    pub fn read(zone: &Name, record: &Record) -> Option<Self> {
        let (&[algorithm, flags, i1, i2, salt_len], rest) = record.rdata.split_first_chunk()?;
        let (salt, rest) = rest.split_at_checked(usize::from(salt_len))?;
        let (&next_len, rest) = rest.split_first()?;
        let (next, types) = rest.split_at_checked(usize::from(next_len))?;
        let known = algorithm == HASH_SHA1 && flags & !FLAG_OPT_OUT == 0;
        if !known || parent(&record.owner).as_ref() != Some(zone) {
            return None;
        }
        let wire = record.owner.as_wire();
        let label = wire.get(1..1 + usize::from(wire[0]))?;
        let hash = BASE32HEX_NOPAD.decode(&label.to_ascii_uppercase()).ok()?;
        Some(Self {
            hash: hash.try_into().ok()?,
            next: next.try_into().ok()?,
            types: Types::read(types)?,
            opt_out: flags & FLAG_OPT_OUT != 0,
            iterations: u16::from_be_bytes([i1, i2]),
            salt: salt.to_vec(),
        })
    }

    pub(super) fn made_like(&self, other: &Self) -> bool {
        self.iterations == other.iterations && self.salt == other.salt
    }

    fn covers(&self, hash: &Hash) -> bool {
        if self.hash < self.next {
            self.hash < *hash && *hash < self.next
        } else {
            // The last one goes round; the only one covers all but itself.
            self.hash < *hash || *hash < self.next
        }
    }
}

/// RFC 5155 section 5, and how many SHA-1 blocks it took.
pub(in super::super) fn hash_of(name: &Name, salt: &[u8], iterations: u16) -> Hash {
    let method = &digest::SHA1_FOR_LEGACY_USE_ONLY;
    let mut hash = Hash::default();
    let mut octets = [name.as_wire(), salt].concat();
    for _ in 0..=iterations {
        // SHA-1 has 20 octets.
        hash.copy_from_slice(digest::digest(method, &octets).as_ref());
        octets.clear();
        octets.extend_from_slice(&hash);
        octets.extend_from_slice(salt);
    }
    hash
}

/// SHA-1 blocks that [`hash_of`] takes: of 64 octets, with 9 for the padding.
pub(in super::super) fn blocks_of(name: &Name, salt: &[u8], iterations: u16) -> u32 {
    let blocks = |octets: usize| ((octets + 9).div_ceil(64)) as u32;
    blocks(name.as_wire().len() + salt.len())
        + u32::from(iterations) * blocks(size_of::<Hash>() + salt.len())
}

/// The records of a proof beside the hashes of the names it is about.
pub(super) struct Hashed<'a> {
    zone: &'a Name,
    records: &'a [Nsec3],
    known: Vec<(Name, Hash)>,
    work: &'a mut Work,
}

pub(super) enum Outcome<T> {
    Shown(T),
    NotShown,
    TooMuch,
}

/// What a look for the record of a name found.
pub(super) enum Found {
    Types(Types),
    Nothing,
    TooMany(u16),
}

/// What is said instead where hashing takes too many iterations.
pub(super) trait Limited {
    fn too_many(iterations: u16) -> Self;
}

impl Limited for Proof {
    fn too_many(iterations: u16) -> Self {
        Self::Insecure(Reason::Iterations(iterations))
    }
}

impl Limited for Found {
    fn too_many(iterations: u16) -> Self {
        Self::TooMany(iterations)
    }
}

/// The closest encloser that was shown, and what covers the next closer name.
struct Closest<'a> {
    encloser: Name,
    covering: &'a Nsec3,
}

/// The work of the question is used up.
struct Spent;

impl<'a> Hashed<'a> {
    pub(super) fn new(zone: &'a Name, records: &'a [Nsec3], work: &'a mut Work) -> Self {
        Self { zone, records, known: Vec::new(), work }
    }

    /// RFC 5155 section 8.4.
    pub(super) fn name_error(&mut self, name: &Name) -> Outcome<Proof> {
        self.outcome(|this| {
            let Some(closest) = this.closest(name)? else { return Ok(None) };
            // No wildcard can have a name too long to be written.
            if let Some(wildcard) = wildcard(&closest.encloser)
                && this.covering(&wildcard)?.is_none()
            {
                return Ok(None);
            }
            Ok(Some(closest.proof()))
        })
    }

    /// RFC 5155 sections 8.5, 8.6 and 8.7, with erratum 3441: where opt-out covers the next
    /// closer name there may be an empty non-terminal above an unsigned delegation, whatever
    /// type is asked for.
    pub(super) fn no_data(&mut self, name: &Name, qtype: u16) -> Outcome<Proof> {
        self.outcome(|this| {
            if let Some(found) = this.record_of(name)? {
                return Ok(lacks(&found.types, name, qtype).then_some(Proof::Secure));
            }
            let Some(closest) = this.closest(name)? else { return Ok(None) };
            if let Some(wildcard) = wildcard(&closest.encloser)
                && let Some(found) = this.record_of(&wildcard)?
            {
                return Ok(lacks(&found.types, &wildcard, qtype).then(|| closest.proof()));
            }
            Ok(closest.covering.opt_out.then(|| closest.proof()))
        })
    }

    /// RFC 5155 section 8.8: the closest encloser is known from the signature.
    pub(super) fn nothing_nearer(&mut self, name: &Name, encloser: &Name) -> Outcome<Proof> {
        self.outcome(|this| {
            if !is_below(name, encloser) {
                return Ok(None);
            }
            let next_closer = rightmost(name, label_count(encloser) + 1);
            let covering = this.covering(&next_closer)?;
            Ok(covering.map(proof_of))
        })
    }

    /// The types of `name`, if a record is there for it.
    pub(super) fn matching(&mut self, name: &Name) -> Outcome<Found> {
        self.outcome(|this| {
            let found = this.record_of(name)?;
            Ok(Some(found.map_or(Found::Nothing, |record| Found::Types(record.types.clone()))))
        })
    }

    /// RFC 5155 section 8.3: the longest ancestor that has a record, if the name one label
    /// longer is covered. A delegation or a DNAME cannot be it.
    fn closest(&mut self, name: &Name) -> Result<Option<Closest<'a>>, Spent> {
        let (top, bottom) = (label_count(self.zone), label_count(name));
        for count in (top..bottom).rev() {
            let encloser = rightmost(name, count);
            let Some(record) = self.record_of(&encloser)? else { continue };
            if !speaks_for_below(&record.types) {
                return Ok(None);
            }
            let covering = self.covering(&rightmost(name, count + 1))?;
            return Ok(covering.map(|covering| Closest { encloser, covering }));
        }
        Ok(None)
    }

    fn record_of(&mut self, name: &Name) -> Result<Option<&'a Nsec3>, Spent> {
        let hash = self.hash(name)?;
        Ok(self.records.iter().find(|record| record.hash == hash))
    }

    fn covering(&mut self, name: &Name) -> Result<Option<&'a Nsec3>, Spent> {
        let hash = self.hash(name)?;
        Ok(self.records.iter().find(|record| record.covers(&hash)))
    }

    fn hash(&mut self, name: &Name) -> Result<Hash, Spent> {
        if let Some((_, hash)) = self.known.iter().find(|(known, _)| known == name) {
            return Ok(*hash);
        }
        let Some(first) = self.records.first() else { return Err(Spent) };
        if !self.work.hash(blocks_of(name, &first.salt, first.iterations)) {
            return Err(Spent);
        }
        let hash = hash_of(name, &first.salt, first.iterations);
        self.known.push((name.clone(), hash));
        Ok(hash)
    }

    fn outcome<T>(
        &mut self,
        ask: impl FnOnce(&mut Self) -> Result<Option<T>, Spent>,
    ) -> Outcome<T> {
        match ask(self) {
            Ok(Some(shown)) => Outcome::Shown(shown),
            Ok(None) => Outcome::NotShown,
            Err(Spent) => Outcome::TooMuch,
        }
    }
}

impl Closest<'_> {
    fn proof(&self) -> Proof {
        proof_of(self.covering)
    }
}

/// RFC 5155 section 9.2: only the record around the next closer name counts.
fn proof_of(covering: &Nsec3) -> Proof {
    if covering.opt_out { Proof::Insecure(Reason::OptOut) } else { Proof::Secure }
}

/// Iterations up to which hashes are computed. RFC 9276 section 3.2 lets validators choose; this
/// is Unbound's and has been everybody's. Past it zones are insecure.
pub(in super::super) const ITERATIONS_BELIEVED: u16 = 150;

/// Past this the proof is refused: nobody means such a zone to work (RFC 9276 section 3.2).
pub(super) const ITERATIONS_REFUSED: u16 = 500;

const HASH_SHA1: u8 = 1;
const FLAG_OPT_OUT: u8 = 1;

const _: () = assert!(rtype::NSEC3 == 50);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn hashes_are_those_of_rfc_5155_appendix_a() {
        let salt = [0xaa, 0xbb, 0xcc, 0xdd];
        for (text, hash) in [
            ("example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("xx.example.", "t644ebqk9bibcna874givr6joj62mlhv"),
        ] {
            let made = BASE32HEX_NOPAD.encode(&hash_of(&name(text), &salt, 12));
            assert_eq!(made.to_ascii_lowercase(), hash, "{text}");
        }
    }

    #[test]
    fn the_cost_of_a_hash_is_counted_in_blocks() {
        assert_eq!(blocks_of(&name("a.example."), &[], 0), 1);
        assert_eq!(blocks_of(&name("a.example."), &[1; 8], 150), 151);
        assert_eq!(blocks_of(&name("a.example."), &[1; 255], 1), 5 + 5);
    }

    #[test]
    fn octets_of_an_nsec3_are_read_whole_or_not_at_all() {
        let zone = name("example.");
        let owner = name("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.");
        let rdata = [&[1, 1, 0, 12, 2, 0xaa, 0xbb, 20][..], &[7; 20], &[0, 1, 0x40]].concat();
        let record = |owner: &Name, rdata: &[u8]| Record {
            owner: owner.clone(),
            rtype: rtype::NSEC3,
            class: 1,
            ttl: 1,
            rdata: rdata.to_vec(),
        };
        let read = Nsec3::read(&zone, &record(&owner, &rdata)).unwrap();
        assert!(read.opt_out && read.types.has(1) && read.iterations == 12);
        for len in 0..rdata.len() {
            // Without types it is one of an empty non-terminal.
            let whole = len == rdata.len() - 3;
            let read = Nsec3::read(&zone, &record(&owner, &rdata[..len]));
            assert_eq!(read.is_some(), whole, "{len}");
        }
        let mut other = rdata.clone();
        other[0] = 2;
        assert_eq!(Nsec3::read(&zone, &record(&owner, &other)), None, "an unknown hash");
        other[..2].copy_from_slice(&[1, 2]);
        assert_eq!(Nsec3::read(&zone, &record(&owner, &other)), None, "an unknown flag");
        for stranger in ["example.", "a.0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.", "xyz.example."]
        {
            assert_eq!(Nsec3::read(&zone, &record(&name(stranger), &rdata)), None, "{stranger}");
        }
    }
}
