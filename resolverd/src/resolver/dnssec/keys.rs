//! DNSKEY and DS: what they say, which of them can be used, and one check of one signature.
//!
//! Pure. The arithmetic is ring's (ADR 7). Algorithms and digests that are not known here are
//! no error: a zone that has nothing else is insecure (RFC 4035 section 5.2, RFC 6840 section
//! 5.2). So are those on SHA-1 (RFC 9905).

use ring::digest;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

use crate::dns::records::Record;
use crate::dns::{Name, rtype};

/// A DNSKEY (RFC 4034 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsKey {
    pub flags: u16,
    pub algorithm: u8,
    pub tag: u16,
    pub public: Vec<u8>,
    pub(super) protocol: u8,
}

/// A DS (RFC 4034 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ds {
    pub tag: u16,
    pub algorithm: u8,
    pub digest_type: u8,
    pub digest: Vec<u8>,
}

impl DnsKey {
    /// None if the record is no DNSKEY, or has no key in it.
    #[must_use]
    pub fn read(record: &Record) -> Option<Self> {
        (record.rtype == rtype::DNSKEY).then(|| Self::from_rdata(&record.rdata)).flatten()
    }

    #[must_use]
    pub fn from_rdata(rdata: &[u8]) -> Option<Self> {
        let (&[f1, f2, protocol, algorithm], public) = rdata.split_first_chunk()?;
        (!public.is_empty()).then(|| Self {
            flags: u16::from_be_bytes([f1, f2]),
            algorithm,
            tag: key_tag(rdata),
            public: public.to_vec(),
            protocol,
        })
    }

    #[must_use]
    pub fn rdata(&self) -> Vec<u8> {
        let [f1, f2] = self.flags.to_be_bytes();
        [&[f1, f2, self.protocol, self.algorithm][..], &self.public].concat()
    }

    /// RFC 4034 section 2.1.1: only with this bit may it verify what a zone says.
    #[must_use]
    pub fn is_zone_key(&self) -> bool {
        self.flags & FLAG_ZONE != 0 && self.protocol == PROTOCOL
    }

    /// RFC 5011 section 2.1.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.flags & FLAG_REVOKE != 0
    }

    /// RFC 4034 section 2.1.1: a hint that a parent or an anchor points here.
    #[must_use]
    pub fn is_entry_point(&self) -> bool {
        self.flags & FLAG_SEP != 0
    }

    /// Whether it may verify a zone's records, and we can do it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_zone_key() && !self.is_revoked() && supports_algorithm(self.algorithm)
    }

    /// Whether this signature over `octets` is this key's. The dear part of validation: callers
    /// count it.
    #[must_use]
    pub fn signed(&self, octets: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            algorithm::RSASHA256 => {
                let method = &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
                self.signed_by_rsa(method, octets, signature)
            }
            algorithm::RSASHA512 => {
                let method = &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY;
                self.signed_by_rsa(method, octets, signature)
            }
            algorithm::ECDSAP256SHA256 => {
                self.signed_on_curve(&signature::ECDSA_P256_SHA256_FIXED, octets, signature)
            }
            algorithm::ECDSAP384SHA384 => {
                self.signed_on_curve(&signature::ECDSA_P384_SHA384_FIXED, octets, signature)
            }
            algorithm::ED25519 => UnparsedPublicKey::new(&signature::ED25519, &self.public)
                .verify(octets, signature)
                .is_ok(),
            _ => false,
        }
    }

    fn signed_by_rsa(&self, method: &RsaParameters, octets: &[u8], signature: &[u8]) -> bool {
        let Some((e, n)) = rsa_parts(&self.public) else { return false };
        RsaPublicKeyComponents { n, e }.verify(method, octets, signature).is_ok()
    }

    fn signed_on_curve(
        &self,
        method: &'static signature::EcdsaVerificationAlgorithm,
        octets: &[u8],
        signature: &[u8],
    ) -> bool {
        // RFC 6605 section 4 leaves out the octet that says "uncompressed".
        let point = [&[POINT_UNCOMPRESSED][..], &self.public].concat();
        UnparsedPublicKey::new(method, point).verify(octets, signature).is_ok()
    }
}

impl Ds {
    /// None if the record is no DS, or has no digest.
    #[must_use]
    pub fn read(record: &Record) -> Option<Self> {
        (record.rtype == rtype::DS).then(|| Self::from_rdata(&record.rdata)).flatten()
    }

    #[must_use]
    pub fn from_rdata(rdata: &[u8]) -> Option<Self> {
        let (&[t1, t2, algorithm, digest_type], digest) = rdata.split_first_chunk()?;
        (!digest.is_empty()).then(|| Self {
            tag: u16::from_be_bytes([t1, t2]),
            algorithm,
            digest_type,
            digest: digest.to_vec(),
        })
    }

    /// Whether a key that this points to can be known and used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        supports_algorithm(self.algorithm) && supports_digest(self.digest_type)
    }

    /// Whether this points to `key` at `owner` (RFC 4034 section 5.1.4).
    #[must_use]
    pub fn points_to(&self, owner: &Name, key: &DnsKey) -> bool {
        let method = match self.digest_type {
            digest_type::SHA256 => &digest::SHA256,
            digest_type::SHA384 => &digest::SHA384,
            _ => return false,
        };
        if self.tag != key.tag || self.algorithm != key.algorithm {
            return false;
        }
        let mut context = digest::Context::new(method);
        context.update(owner.as_wire());
        context.update(&key.rdata());
        context.finish().as_ref() == self.digest
    }
}

/// RFC 4034 appendix B. That of algorithm 1 was another, and is not supported.
#[must_use]
pub fn key_tag(rdata: &[u8]) -> u16 {
    let sum: u32 = rdata
        .iter()
        .enumerate()
        .map(|(at, &octet)| if at % 2 == 0 { u32::from(octet) << 8 } else { u32::from(octet) })
        .fold(0, u32::wrapping_add);
    // The carries are added once; the appendix keeps the low 16 bits.
    (sum.wrapping_add(sum >> 16) & 0xffff) as u16
}

/// Exponent and modulus (RFC 3110 section 2).
fn rsa_parts(public: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match public.split_first()? {
        (0, rest) => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        (&len, rest) => (usize::from(len), rest),
    };
    let (exponent, modulus) = rest.split_at_checked(len)?;
    // ring takes numbers in their shortest form; some keys in use have zeros before them.
    let short = |number: &'_ [u8]| number.iter().take_while(|&&octet| octet == 0).count();
    Some((&exponent[short(exponent)..], &modulus[short(modulus)..]))
}

#[must_use]
pub fn supports_algorithm(number: u8) -> bool {
    use algorithm::{ECDSAP256SHA256, ECDSAP384SHA384, ED25519, RSASHA256, RSASHA512};
    matches!(number, RSASHA256 | RSASHA512 | ECDSAP256SHA256 | ECDSAP384SHA384 | ED25519)
}

/// SHA-1 is none: where another digest stands beside it, it says nothing new (RFC 4509 section
/// 3); alone it is not to be trusted (RFC 9905).
#[must_use]
pub fn supports_digest(number: u8) -> bool {
    matches!(number, digest_type::SHA256 | digest_type::SHA384)
}

/// IANA "DNS Security Algorithm Numbers".
pub mod algorithm {
    /// The two on SHA-1 have names to be spoken of; they are not supported.
    pub const RSASHA1: u8 = 5;
    pub const RSASHA1_NSEC3_SHA1: u8 = 7;
    pub const RSASHA256: u8 = 8;
    pub const RSASHA512: u8 = 10;
    pub const ECDSAP256SHA256: u8 = 13;
    pub const ECDSAP384SHA384: u8 = 14;
    pub const ED25519: u8 = 15;
    pub const ED448: u8 = 16;
}

/// IANA "Delegation Signer (DS) Resource Record (RR) Type Digest Algorithms".
pub mod digest_type {
    pub const SHA1: u8 = 1;
    pub const SHA256: u8 = 2;
    pub const SHA384: u8 = 4;
}

const FLAG_ZONE: u16 = 0x0100;
pub(super) const FLAG_REVOKE: u16 = 0x0080;
const FLAG_SEP: u16 = 0x0001;

/// RFC 4034 section 2.1.2: always this.
const PROTOCOL: u8 = 3;

const POINT_UNCOMPRESSED: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_key_is_that_of_rfc_4034_appendix_b() {
        assert_eq!(key_tag(&[1, 0, 3, 13]), 0x0100 + 0x030d);
        assert_eq!(key_tag(&[0xff, 0xff, 0xff, 0xff]), 0xffff);
        assert_eq!(key_tag(&[0, 1, 2]), 0x0201, "an odd last octet is a high one");
    }

    #[test]
    fn parts_of_an_rsa_key_are_found_or_not() {
        assert_eq!(rsa_parts(&[1, 3, 9, 9]), Some((&[3][..], &[9, 9][..])));
        assert_eq!(rsa_parts(&[0, 0, 2, 1, 1, 7]), Some((&[1, 1][..], &[7][..])));
        assert_eq!(rsa_parts(&[2, 0, 3, 0, 9]), Some((&[3][..], &[9][..])));
        for short in [&[][..], &[0], &[0, 0], &[5, 1], &[0, 1, 0, 1]] {
            assert_eq!(rsa_parts(short), None, "{short:?}");
        }
    }

    #[test]
    fn data_of_any_length_is_a_key_or_none_and_verifies_nothing() {
        for number in 0..=20 {
            for len in 0..80 {
                let rdata = [&[1, 0, 3, number][..], &vec![0x5a; len]].concat();
                let Some(key) = DnsKey::from_rdata(&rdata) else {
                    assert_eq!(len, 0);
                    continue;
                };
                assert!(!key.signed(b"octets", &[0; 64]));
                assert!(!key.signed(b"octets", &[]));
                assert_eq!(key.rdata(), rdata);
            }
        }
        assert_eq!(DnsKey::from_rdata(&[1, 0, 3]), None);
        assert_eq!(Ds::from_rdata(&[1, 0, 3]), None);
        assert_eq!(Ds::from_rdata(&[1, 0, 8, 2]), None);
    }

    #[test]
    fn flags_say_what_a_key_is_for() {
        let key = |flags: u16, protocol: u8, number: u8| {
            let [high, low] = flags.to_be_bytes();
            DnsKey::from_rdata(&[high, low, protocol, number, 1]).unwrap()
        };
        assert!(key(256, 3, 13).is_usable() && key(257, 3, 8).is_usable());
        assert!(key(257, 3, 8).is_entry_point() && !key(256, 3, 8).is_entry_point());
        assert!(!key(1, 3, 13).is_usable(), "no zone key");
        assert!(!key(256, 2, 13).is_usable(), "RFC 4034 section 2.1.2");
        assert!(!key(256 + 128, 3, 13).is_usable(), "revoked");
        for old in [1, 3, algorithm::RSASHA1, 6, algorithm::RSASHA1_NSEC3_SHA1, 12, 16, 253] {
            assert!(!key(256, 3, old).is_usable(), "{old}");
        }
        assert!(!supports_digest(digest_type::SHA1) && !supports_digest(3));
    }
}
