//! One RRset against the keys of one zone (RFC 4035 section 5.3).
//!
//! Pure: the second in which it is judged is handed in. The dear part, checking signatures, is
//! counted in [`Work`], so that a zone made to cost much (KeyTrap, CVE-2023-50387) costs little.

use crate::dns::Name;

use super::keys::{DnsKey, supports_algorithm};
use super::names::{is_wildcard, label_count, rightmost, wildcard};
use super::rrset::{RrSet, Rrsig};
use super::{Failure, ede};

/// What is true of an RRset whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many seconds it may be believed from now on: the least of its TTLs and of what is left
    /// until the signature expires (RFC 4035 section 5.3.3).
    pub ttl: u32,
    /// The name below which the wildcard stands that it was made from, if it was: then somebody
    /// must prove that nothing nearer exists (RFC 4035 section 5.3.4).
    pub expanded_from: Option<Name>,
}

/// What one question may still cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    checks_left: u32,
    failures_left: u32,
    hash_blocks_left: u32,
}

/// Judges `set` by the keys of `zone`, which are trusted.
pub fn verify(
    set: &RrSet,
    zone: &Name,
    keys: &[DnsKey],
    now: u64,
    work: &mut Work,
) -> Result<Verified, Failure> {
    let mut worst = Trouble::NoSignature;
    for signature in set.signatures.iter().take(SIGNATURES_PER_SET_MAX) {
        match check(set, signature, zone, keys, now, work) {
            Ok(verified) => return Ok(verified),
            Err(Trouble::TooMuch) => return Err(Trouble::TooMuch.tell(set, zone)),
            Err(trouble) => worst = worst.max(trouble),
        }
    }
    Err(worst.tell(set, zone))
}

fn check(
    set: &RrSet,
    signature: &Rrsig,
    zone: &Name,
    keys: &[DnsKey],
    now: u64,
    work: &mut Work,
) -> Result<Verified, Trouble> {
    if signature.signer != *zone || !set.owner.is_under(zone) {
        return Err(Trouble::Signer);
    }
    let (signed_owner, expanded_from) =
        owner_when_signed(&set.owner, signature.labels).ok_or(Trouble::Labels)?;
    if !supports_algorithm(signature.algorithm) {
        return Err(Trouble::Algorithm);
    }
    let left = in_time(signature, now)?;
    let fits = |key: &&DnsKey| {
        key.tag == signature.key_tag && key.algorithm == signature.algorithm && !key.is_revoked()
    };
    let mut trouble = Trouble::NoKey;
    let octets = set.signed_octets(signature, &signed_owner);
    for key in keys.iter().filter(fits).take(KEYS_PER_TAG_MAX) {
        if !key.is_zone_key() {
            trouble = trouble.max(Trouble::NoZoneKey);
            continue;
        }
        work.check()?;
        if key.signed(&octets, &signature.signature) {
            let ttl = set.ttl.min(signature.ttl).min(signature.original_ttl).min(left);
            return Ok(Verified { ttl, expanded_from });
        }
        work.fail()?;
        trouble = Trouble::Forged;
    }
    Err(trouble)
}

/// The owner as it was when it was signed, and where its wildcard stood if it was one
/// (RFC 4035 section 5.3.2). None if the count of labels is none that the name can have.
fn owner_when_signed(owner: &Name, labels: u8) -> Option<(Name, Option<Name>)> {
    let labels = usize::from(labels);
    // RFC 4034 section 3.1.3: neither the root's label nor a leading asterisk is counted.
    let own = label_count(owner) - usize::from(is_wildcard(owner));
    if labels == own {
        return Some((owner.clone(), None));
    }
    let encloser = (labels < own).then(|| rightmost(owner, labels))?;
    Some((wildcard(&encloser)?, Some(encloser)))
}

/// Seconds until the signature expires, if it is in force (RFC 4034 section 3.1.5: serial
/// numbers, RFC 1982).
fn in_time(signature: &Rrsig, now: u64) -> Result<u32, Trouble> {
    // Serial numbers are the time modulo 2^32.
    let now = now as u32;
    let since = |from: u32, to: u32| to.wrapping_sub(from).cast_signed();
    if since(signature.inception, signature.expiration) < 0 {
        return Err(Trouble::NeverValid);
    }
    if since(signature.inception, now) < 0 {
        return Err(Trouble::NotYet);
    }
    u32::try_from(since(now, signature.expiration)).map_err(|_| Trouble::Expired)
}

/// Why no signature holds, from what says least to what says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    NoSignature,
    Signer,
    Algorithm,
    Labels,
    NoKey,
    NoZoneKey,
    NeverValid,
    NotYet,
    Expired,
    Forged,
    TooMuch,
}

impl Trouble {
    fn tell(self, set: &RrSet, zone: &Name) -> Failure {
        let (code, why) = match self {
            Self::NoSignature => (ede::RRSIGS_MISSING, "has no signature"),
            Self::Signer => (ede::DNSSEC_BOGUS, "is signed by no zone it can be in"),
            Self::Algorithm => (ede::RRSIGS_MISSING, "has no signature of a known algorithm"),
            Self::Labels => (ede::DNSSEC_BOGUS, "has a signature over a longer name"),
            Self::NoKey => (ede::DNSKEY_MISSING, "is signed by a key that is not published"),
            Self::NoZoneKey => (ede::NO_ZONE_KEY, "is signed by a key that is no zone key"),
            Self::NeverValid => {
                (ede::EXPIRED_BEFORE_VALID, "has a signature that expires before it begins")
            }
            Self::NotYet => (ede::NOT_YET_VALID, "has a signature that is not valid yet"),
            Self::Expired => (ede::EXPIRED, "has a signature that has expired"),
            Self::Forged => (ede::DNSSEC_BOGUS, "has a signature that does not fit it"),
            Self::TooMuch => (ede::DNSSEC_BOGUS, "would take too many signature checks"),
        };
        Failure::new(code, format!("{} type {} {why}, zone {zone}", set.owner, set.rtype))
    }
}

impl Work {
    /// The bounds of one question.
    #[must_use]
    pub fn of_one_question() -> Self {
        Self {
            checks_left: CHECKS_MAX,
            failures_left: FAILED_CHECKS_MAX,
            hash_blocks_left: HASH_BLOCKS_MAX,
        }
    }

    fn check(&mut self) -> Result<(), Trouble> {
        self.checks_left = self.checks_left.checked_sub(1).ok_or(Trouble::TooMuch)?;
        Ok(())
    }

    fn fail(&mut self) -> Result<(), Trouble> {
        self.failures_left = self.failures_left.checked_sub(1).ok_or(Trouble::TooMuch)?;
        Ok(())
    }

    /// Takes the blocks of one NSEC3 hash; false if they are used up.
    pub(super) fn hash(&mut self, blocks: u32) -> bool {
        match self.hash_blocks_left.checked_sub(blocks) {
            Some(left) => {
                self.hash_blocks_left = left;
                true
            }
            None => false,
        }
    }
}

/// Signature checks for one question: a chain of eight aliases, each in its own zone four deep
/// with two keys a zone, needs fewer.
const CHECKS_MAX: u32 = 128;

/// Checks that did not hold, of one question. In an honest zone there are none but for two keys
/// with one tag (KeyTrap).
const FAILED_CHECKS_MAX: u32 = 16;

/// Signatures of one set that are looked at. Two algorithms in a roll-over make two or four.
pub(super) const SIGNATURES_PER_SET_MAX: usize = 8;

/// Keys with one tag and algorithm that are tried for one signature. Two happen by chance, more
/// do not.
const KEYS_PER_TAG_MAX: usize = 4;

/// SHA-1 blocks for the NSEC3 hashes of one question: a hundred hashes at the most iterations
/// that are believed, thousands at the none that RFC 9276 asks for. Some three milliseconds.
const HASH_BLOCKS_MAX: u32 = 16_384;

#[cfg(test)]
mod tests;
