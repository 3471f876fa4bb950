//! The record types that have a meaning here, by number (IANA "DNS Parameters").
//!
//! Pure. Types that are only carried through need no name.

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const DNAME: u16 = 39;
pub const OPT: u16 = 41;
pub const DS: u16 = 43;
pub const RRSIG: u16 = 46;
pub const NSEC: u16 = 47;
pub const DNSKEY: u16 = 48;
pub const NSEC3: u16 = 50;
pub const SVCB: u16 = 64;
pub const HTTPS: u16 = 65;
pub const ANY: u16 = 255;

/// Whether a record of this type only proves others: without DO it is sent when it was asked for
/// and not otherwise (RFC 4035 section 3.2.1).
#[must_use]
pub fn is_proof(rtype: u16) -> bool {
    matches!(rtype, RRSIG | NSEC | NSEC3)
}
