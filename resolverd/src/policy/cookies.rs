//! Secrets of DNS cookies: written by an operator, or drawn and changed by the daemon.
//!
//! Pure. Making and checking is the contract's (`resolverd_common::cookie`), for the kernel does
//! it, too.

use resolverd_common::cookie::{Secret, Secrets};

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
    fn a_change_keeps_the_secret_before_and_no_older_one() {
        let first = secrets(&[[1, 1]]).unwrap();
        assert_eq!(first, Secrets { current: [1, 1], other: [1, 1] });
        let second = changed(&first, [2, 2]);
        assert_eq!(second, Secrets { current: [2, 2], other: [1, 1] });
        assert_eq!(changed(&second, [3, 3]), Secrets { current: [3, 3], other: [2, 2] });
        assert_eq!(secrets(&[]), None);
    }
}
