//! Secrets of DNS cookies: written by an operator, or drawn and changed by the daemon.
//!
//! Pure. Making and checking is the contract's (`resolverd_common::cookie`), for the kernel does
//! it, too.

use resolverd_common::cookie::{Secret, Secrets};
use thiserror::Error;

/// Why a text is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a cookie secret is 32 hexadecimal digits (128 bits, RFC 9018 section 4)")]
pub struct SecretError;

/// Reads a secret as BIND, Knot and Unbound write it.
///
/// # Errors
///
/// See [`SecretError`].
pub fn secret(text: &str) -> Result<Secret, SecretError> {
    let digits = text.trim().as_bytes();
    if digits.len() != 32 {
        return Err(SecretError);
    }
    let mut octets = [0; 16];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).ok_or(SecretError);
        *octet = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&octets[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    Ok([word(0), word(8)])
}

/// The secrets of a list: the first makes cookies, a second is believed as well.
#[must_use]
pub fn secrets(list: &[Secret]) -> Option<Secrets> {
    let current = *list.first()?;
    Some(Secrets { current, other: list.get(1).copied().unwrap_or(current) })
}

/// A change to a new secret: cookies of the one before stay good (RFC 9018 section 5).
#[must_use]
pub const fn changed(old: &Secrets, new: Secret) -> Secrets {
    Secrets { current: new, other: old.current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_in_the_order_of_its_octets() {
        let read = secret("000102030405060708090a0b0c0d0E0F").unwrap();
        assert_eq!(read[0].to_ne_bytes(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(read[1].to_ne_bytes(), [8, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in
            ["", "00", "000102030405060708090a0b0c0d0e0", "g00102030405060708090a0b0c0d0e0f"]
        {
            assert_eq!(secret(text), Err(SecretError), "{text}");
        }
        assert_eq!(secret(&"é".repeat(16)), Err(SecretError));
    }

    #[test]
    fn a_change_keeps_the_secret_before_and_no_older_one() {
        let first = secrets(&[[1, 1]]).unwrap();
        assert_eq!(first, Secrets { current: [1, 1], other: [1, 1] });
        let second = changed(&first, [2, 2]);
        assert_eq!(second, Secrets { current: [2, 2], other: [1, 1] });
        assert_eq!(changed(&second, [3, 3]), Secrets { current: [3, 3], other: [2, 2] });
        assert_eq!(secrets(&[]), None);
    }
}
