//! Which zone may have signed a set, and what the denials of an authority section hold.
//!
//! Pure. Shared by `chain`, which judges what zones say of their children, and `machine`, which
//! judges answers.

use crate::dns::{Name, rtype};

use super::denial::{Denial, SETS_MAX};
use super::keys::DnsKey;
use super::rrset::RrSet;
use super::verify::{SIGNATURES_PER_SET_MAX, Verified, Work, verify};
use super::{Failure, ede};

/// NSEC and NSEC3 sets of one zone that hold.
pub(super) struct Held {
    pub(super) denial: Denial,
    pub(super) sets: Vec<(RrSet, u32)>,
    /// The least TTL of them.
    pub(super) ttl: u32,
    /// Why one of them does not hold.
    pub(super) failure: Option<Failure>,
}

/// Verifies what denies among the sets of an authority section.
pub(super) fn verify_denials(
    authority: &[RrSet],
    zone: &Name,
    keys: &[DnsKey],
    now: u64,
    work: &mut Work,
) -> Held {
    let mut held =
        Held { denial: Denial::of(zone, []), sets: Vec::new(), ttl: u32::MAX, failure: None };
    let denies = |set: &&RrSet| matches!(set.rtype, rtype::NSEC | rtype::NSEC3);
    for set in authority.iter().filter(denies).take(SETS_MAX) {
        match verify(set, zone, keys, now, work) {
            // An NSEC expanded from a wildcard's could be moved to any name.
            Ok(Verified { ttl, expanded_from: None }) => {
                held.ttl = held.ttl.min(ttl);
                held.sets.push((set.clone(), ttl));
            }
            Ok(_) => {}
            Err(failure) => held.failure = Some(failure),
        }
    }
    held.denial = Denial::of(zone, held.sets.iter().map(|(set, _)| set));
    held
}

/// The zones that may have signed `set`: at or above its owner, or above it alone, and not above
/// the anchor `top` that governs it.
pub(super) fn signers(set: &RrSet, top: &Name, strictly_above: bool) -> Vec<Name> {
    let mut signers: Vec<Name> = Vec::new();
    for signature in set.signatures.iter().take(SIGNATURES_PER_SET_MAX) {
        let signer = &signature.signer;
        let fits = set.owner.is_under(signer)
            && signer.is_under(top)
            && !(strictly_above && *signer == set.owner);
        if fits && !signers.contains(signer) && signers.len() < SIGNERS_MAX {
            signers.push(signer.clone());
        }
    }
    signers
}

/// A signer that is shown to be no zone.
pub(super) fn no_zone(set: &RrSet, signer: &Name) -> Failure {
    let text = format!("{} type {} is signed by {signer}, which is no zone", set.owner, set.rtype);
    Failure::new(ede::DNSSEC_BOGUS, text)
}

/// Zones that are held to have signed one set: a second one only where a parent's signature came
/// with a child's.
const SIGNERS_MAX: usize = 2;
