//! DNSSEC: whether what came can be believed (RFC 4033, 4034, 4035, 5155, 6840).
//!
//! The door. Everything here is pure: what is missing is asked for by [`machine::Machine`] with
//! [`machine::Output::Fetch`], and the second in which signatures are judged is handed in.
//!
//! ```text
//!   machine ──▶ chain ──▶ anchors          what is trusted to begin with
//!     one        zones'    zones           what was found out before (shared)
//!     reply      keys      keys, verify    one set, one signature (rrset)
//!        ╰─────▶ denial ──▶ nsec, nsec3    what does not exist
//!                  ╰─────▶ aggressive      denials used again (RFC 8198)
//!   rfc5011                                anchors that follow the zone's keys
//!   signalling                             which are told to the zone (RFC 8145)
//! ```
//!
//! A verdict is the weakest of all that an answer is made of. Negative answers are held to the
//! same rules as positive ones: an answer without proof in a signed zone is bogus, whatever it
//! says.

pub mod aggressive;
pub mod anchors;
mod chain;
pub mod denial;
pub mod driver;
pub mod keys;
pub mod machine;
mod names;
mod proofs;
pub mod rfc5011;
pub mod rrset;
pub mod signalling;
#[cfg(test)]
pub(super) mod vectors;
pub mod verify;
pub mod zones;

/// What validation says of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A chain of signatures leads from a trust anchor to all of it. It may be believed for so
    /// many seconds from now: never past the expiry of a signature.
    Secure { ttl: u32 },
    /// It is proven that there is nothing to check it by; the reason is for operators.
    Insecure(Reason),
    /// It should be signed, and is not as it should be.
    Bogus(Failure),
    /// No trust anchor is above the name (RFC 4035 section 4.3): nothing is claimed.
    Indeterminate,
}

/// Why an answer is insecure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An unsigned delegation, by its name; or a zone signed in a way that is not known here.
    Delegation(crate::dns::Name, Option<Failure>),
    /// A negative trust anchor (RFC 7646), by its name.
    NegativeAnchor(crate::dns::Name),
    /// An NSEC3 record with opt-out stands where the name would (RFC 5155 section 9.2).
    OptOut,
    /// More NSEC3 iterations than are worth computing (RFC 9276 section 3.2).
    Iterations(u16),
    /// Records that cannot be signed were asked for.
    Unsignable,
}

/// Why an answer cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// RFC 8914.
    pub code: u16,
    /// A sentence for the operator, and for the client's extended error.
    pub text: String,
    /// Something could not be fetched: nothing is shown about the zone, and it is worth asking
    /// again soon.
    pub passing: bool,
}

impl Failure {
    #[must_use]
    pub fn new(code: u16, text: String) -> Self {
        Self { code, text, passing: false }
    }

    #[must_use]
    pub fn passing(code: u16, text: String) -> Self {
        Self { code, text, passing: true }
    }
}

/// Extended DNS errors about DNSSEC (RFC 8914 section 4, RFC 9276 section 3.2).
pub mod ede {
    pub const UNSUPPORTED_ALGORITHM: u16 = 1;
    pub const UNSUPPORTED_DIGEST: u16 = 2;
    pub const DNSSEC_BOGUS: u16 = 6;
    pub const EXPIRED: u16 = 7;
    pub const NOT_YET_VALID: u16 = 8;
    pub const DNSKEY_MISSING: u16 = 9;
    pub const RRSIGS_MISSING: u16 = 10;
    pub const NO_ZONE_KEY: u16 = 11;
    pub const NSEC_MISSING: u16 = 12;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub const EXPIRED_BEFORE_VALID: u16 = 25;
    pub const UNSUPPORTED_ITERATIONS: u16 = 27;
    pub const SYNTHESISED: u16 = 29;
}
