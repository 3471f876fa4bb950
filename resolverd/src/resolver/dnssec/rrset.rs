//! Records as RRsets with the signatures over them, and what a signature is made over.
//!
//! Pure, and knows neither keys nor time: `verify` has these.

use crate::dns::records::{self, Record};
use crate::dns::{Name, rtype};

/// Records of one name and type, with the RRSIGs that came beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RrSet {
    pub owner: Name,
    pub rtype: u16,
    /// The smallest TTL (RFC 2181 section 5.2 wants them equal).
    pub ttl: u32,
    /// Never empty.
    pub records: Vec<Record>,
    pub signatures: Vec<Rrsig>,
}

/// The fields of an RRSIG (RFC 4034 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrsig {
    pub covered: u16,
    pub algorithm: u8,
    pub labels: u8,
    pub original_ttl: u32,
    pub expiration: u32,
    pub inception: u32,
    pub key_tag: u16,
    pub signer: Name,
    pub signature: Vec<u8>,
    /// The TTL of the RRSIG itself.
    pub ttl: u32,
}

/// Sorts the records of a section into sets, in the order of their first records. Signatures that
/// cover nothing here are left out; records of other classes too.
#[must_use]
pub fn group(section: &[Record]) -> Vec<RrSet> {
    let mut sets: Vec<RrSet> = Vec::new();
    let find = |sets: &mut Vec<RrSet>, owner: &Name, rtype: u16| {
        sets.iter().position(|set| set.rtype == rtype && set.owner == *owner)
    };
    let data = |record: &&Record| record.class == CLASS_IN && record.rtype != rtype::RRSIG;
    for record in section.iter().filter(data) {
        match find(&mut sets, &record.owner, record.rtype) {
            Some(at) => {
                sets[at].ttl = sets[at].ttl.min(record.ttl);
                sets[at].records.push(record.clone());
            }
            None => sets.push(RrSet {
                owner: record.owner.clone(),
                rtype: record.rtype,
                ttl: record.ttl,
                records: vec![record.clone()],
                signatures: Vec::new(),
            }),
        }
    }
    for record in section.iter().filter(|record| record.class == CLASS_IN) {
        let Some(signature) = Rrsig::read(record) else { continue };
        if let Some(at) = find(&mut sets, &record.owner, signature.covered) {
            sets[at].signatures.push(signature);
        }
    }
    sets
}

/// Bounds the TTLs of a section that was found secure: each set's and its RRSIGs' by the original
/// TTL and by what is left of the signature (RFC 4035 section 5.3.3), so that nobody who gets
/// them keeps them past its expiry.
pub fn bound_ttls(section: &mut [Record], now: u64) {
    let mut bounds: Vec<(Name, u16, u32)> = Vec::new();
    for record in section.iter() {
        let Some(signature) = Rrsig::read(record) else { continue };
        // RRSIGs count modulo 2^32.
        let left = signature.expiration.wrapping_sub(now as u32).cast_signed();
        let bound = signature.original_ttl.min(u32::try_from(left).unwrap_or(0));
        bounds.push((record.owner.clone(), signature.covered, bound));
    }
    for record in section {
        let covered = Rrsig::read(record).map_or(record.rtype, |signature| signature.covered);
        let about = bounds.iter().filter(|b| b.1 == covered && b.0 == record.owner);
        if let Some(bound) = about.map(|(_, _, bound)| *bound).min() {
            record.ttl = record.ttl.min(bound);
        }
    }
}

impl RrSet {
    /// The records as they came, then their signatures; for an answer made of this set.
    pub fn all_records(&self) -> impl Iterator<Item = Record> {
        let signatures = self.signatures.iter().map(|signature| Record {
            owner: self.owner.clone(),
            rtype: rtype::RRSIG,
            class: CLASS_IN,
            ttl: signature.ttl,
            rdata: signature.rdata(),
        });
        self.records.iter().cloned().chain(signatures)
    }

    /// What `signature` was made over (RFC 4034 section 3.1.8.1), if the owner was `owner` when
    /// it was: the set's own, or the wildcard it was expanded from.
    #[must_use]
    pub fn signed_octets(&self, signature: &Rrsig, owner: &Name) -> Vec<u8> {
        let mut datas: Vec<Vec<u8>> = self.records.iter().map(canonical_rdata).collect();
        // RFC 4034 section 6.3: as unsigned octets, and each only once.
        datas.sort_unstable();
        datas.dedup();
        let mut octets = signature.fixed();
        octets.extend_from_slice(signature.signer.as_wire());
        for data in datas {
            octets.extend_from_slice(owner.as_wire());
            octets.extend_from_slice(&self.rtype.to_be_bytes());
            octets.extend_from_slice(&CLASS_IN.to_be_bytes());
            octets.extend_from_slice(&signature.original_ttl.to_be_bytes());
            // Data that came in a message has at most 65,535 octets.
            octets.extend_from_slice(&(data.len() as u16).to_be_bytes());
            octets.extend_from_slice(&data);
        }
        octets
    }
}

impl Rrsig {
    /// None if the record is no RRSIG, or is malformed.
    #[must_use]
    pub fn read(record: &Record) -> Option<Self> {
        if record.rtype != rtype::RRSIG {
            return None;
        }
        let data = &record.rdata;
        let fixed = data.first_chunk::<FIXED_OCTETS>()?;
        let short = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let long = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let (signer, end) = name_at(data, FIXED_OCTETS)?;
        Some(Self {
            covered: short(0),
            algorithm: fixed[2],
            labels: fixed[3],
            original_ttl: long(4),
            expiration: long(8),
            inception: long(12),
            key_tag: short(16),
            signer,
            signature: data[end..].to_vec(),
            ttl: record.ttl,
        })
    }

    fn rdata(&self) -> Vec<u8> {
        [&self.fixed()[..], self.signer.as_wire(), &self.signature].concat()
    }

    fn fixed(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(FIXED_OCTETS + 32);
        octets.extend_from_slice(&self.covered.to_be_bytes());
        octets.extend_from_slice(&[self.algorithm, self.labels]);
        octets.extend_from_slice(&self.original_ttl.to_be_bytes());
        octets.extend_from_slice(&self.expiration.to_be_bytes());
        octets.extend_from_slice(&self.inception.to_be_bytes());
        octets.extend_from_slice(&self.key_tag.to_be_bytes());
        octets
    }
}

/// The uncompressed name that begins at `at` in RDATA, and where it ends.
pub(super) fn name_at(data: &[u8], at: usize) -> Option<(Name, usize)> {
    let mut end = at;
    loop {
        match *data.get(end)? {
            0 => break,
            len @ 1..=63 => end += 1 + usize::from(len),
            _ => return None,
        }
    }
    let name = Name::from_wire(&data[at..=end]).ok()?;
    Some((name, end + 1))
}

/// RDATA in canonical form (RFC 4034 section 6.2 as RFC 6840 section 5.1 has it).
fn canonical_rdata(record: &Record) -> Vec<u8> {
    if !lower_cases_names(record.rtype) {
        return record.rdata.clone();
    }
    // Data that is not of its type's shape has no names to find; it is signed as it is.
    records::map_names(record, <[u8]>::to_ascii_lowercase)
        .map_or_else(|_| record.rdata.clone(), |record| record.rdata)
}

/// The types of RFC 4034 section 6.2, item 3, without HINFO (it holds no name), A6 (historic) and
/// NSEC (RFC 6840 section 5.1: its next name keeps its case).
fn lower_cases_names(rtype: u16) -> bool {
    // NS MD MF CNAME SOA MB MG MR PTR MINFO MX RP AFSDB RT SIG PX NXT NAPTR KX SRV DNAME RRSIG
    const TYPES: &[u16] =
        &[2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 21, 24, 26, 30, 33, 35, 36, 39, 46];
    TYPES.contains(&rtype)
}

/// An RRSIG's RDATA before the signer's name.
const FIXED_OCTETS: usize = 18;

const CLASS_IN: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Record {
        Record { owner: owner.parse().unwrap(), rtype, class: 1, ttl, rdata: rdata.to_vec() }
    }

    fn rrsig(owner: &str, covered: u16) -> Record {
        let fixed = [0, 0, 13, 2, 0, 0, 1, 44, 0, 0, 0, 9, 0, 0, 0, 3, 1, 2];
        let mut rdata = [&fixed[..], b"\x04Test\0", &[7; 64]].concat();
        rdata[..2].copy_from_slice(&covered.to_be_bytes());
        record(owner, rtype::RRSIG, 300, &rdata)
    }

    #[test]
    fn records_are_sorted_into_sets_with_their_signatures() {
        let section = [
            rrsig("a.test.", rtype::A),
            record("a.test.", rtype::A, 300, &[192, 0, 2, 1]),
            record("b.test.", rtype::A, 60, &[192, 0, 2, 2]),
            record("A.test.", rtype::A, 200, &[192, 0, 2, 3]),
            rrsig("a.test.", rtype::MX),
            Record { class: 3, ..record("a.test.", rtype::A, 1, &[192, 0, 2, 9]) },
        ];
        let sets = group(&section);
        assert_eq!(sets.len(), 2);
        assert_eq!((sets[0].records.len(), sets[0].ttl), (2, 200));
        assert_eq!(sets[0].signatures.len(), 1);
        assert_eq!(sets[0].signatures[0].signer, "test.".parse().unwrap());
        assert!(sets[1].signatures.is_empty());
        let all: Vec<_> = sets[0].all_records().collect();
        assert_eq!(all.len(), 3);
        let signer = b"\x04test\0";
        assert_eq!(all[2].rdata[18..24], signer[..], "a signer's name is lower-cased");
    }

    #[test]
    fn the_ttls_of_what_is_secure_end_with_the_signature() {
        // The signature's original TTL is 300, and it expires in second 9.
        let section = || {
            vec![
                record("a.test.", rtype::A, 1_000, &[192, 0, 2, 1]),
                rrsig("a.test.", rtype::A),
                record("a.test.", rtype::MX, 1_000, b"\0\x05\0"),
                record("b.test.", rtype::A, 1_000, &[192, 0, 2, 2]),
            ]
        };
        for (now, ttl) in [(2, 7), (9, 0), (99, 0), ((1 << 32) - 500, 300)] {
            let mut section = section();
            bound_ttls(&mut section, now);
            let ttls: Vec<u32> = section.iter().map(|record| record.ttl).collect();
            assert_eq!(ttls, [ttl, ttl.min(300), 1_000, 1_000], "{now}");
        }
    }

    #[test]
    fn an_rrsig_cut_short_is_none() {
        let whole = rrsig("a.test.", rtype::A);
        assert!(Rrsig::read(&whole).is_some());
        for len in 0..24 {
            let cut = Record { rdata: whole.rdata[..len].to_vec(), ..whole.clone() };
            assert_eq!(Rrsig::read(&cut), None, "{len}");
        }
    }

    #[test]
    fn names_in_data_are_lower_cased_for_the_old_types_and_not_for_nsec() {
        let mx = record("a.test.", rtype::MX, 1, b"\0\x05\x04MAIL\x04Test\0");
        assert_eq!(canonical_rdata(&mx), b"\0\x05\x04mail\x04test\0");
        let nsec = record("a.test.", rtype::NSEC, 1, b"\x01B\x04Test\0\0\x01\x40");
        assert_eq!(canonical_rdata(&nsec), nsec.rdata);
        let svcb = record("a.test.", rtype::HTTPS, 1, b"\0\x01\x01B\x04Test\0");
        assert_eq!(canonical_rdata(&svcb), svcb.rdata, "RFC 3597 section 7");
        let broken = record("a.test.", rtype::MX, 1, b"\0");
        assert_eq!(canonical_rdata(&broken), broken.rdata);
    }

    #[test]
    fn a_set_is_signed_in_canonical_order_without_duplicates() {
        let section = [
            record("a.test.", rtype::A, 1, &[192, 0, 2, 3]),
            record("a.test.", rtype::A, 1, &[192, 0, 2, 1]),
            record("a.test.", rtype::A, 1, &[192, 0, 2, 3]),
            rrsig("a.test.", rtype::A),
        ];
        let set = group(&section).remove(0);
        let octets = set.signed_octets(&set.signatures[0], &set.owner);
        let each = 8 + 2 + 2 + 4 + 2 + 4;
        assert_eq!(octets.len(), 18 + 6 + 2 * each);
        assert_eq!(octets[24 + each - 1], 1);
        assert_eq!(octets[24 + 2 * each - 1], 3);
        let ttl_at = 24 + 8 + 4;
        assert_eq!(octets[ttl_at..ttl_at + 4], 300u32.to_be_bytes(), "the original TTL");
    }
}
