//! From and until when a certificate is valid.
//!
//! Pure. Reads as much of the DER as stands before and in the field `validity` (RFC 5280 section
//! 4.1); whether a certificate is worth anything is its readers' business. Octets that are none
//! give nothing.

use std::time::{Duration, SystemTime};

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: i64,
    pub until: i64,
}

/// Where a certificate stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    NotYet,
    Valid { left: Duration },
    Expired { since: Duration },
}

impl Validity {
    pub fn at(&self, now: SystemTime) -> Standing {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        if now < self.from {
            Standing::NotYet
        } else if now <= self.until {
            Standing::Valid { left: Duration::from_secs(self.until.abs_diff(now)) }
        } else {
            Standing::Expired { since: Duration::from_secs(now.abs_diff(self.until)) }
        }
    }
}

/// What a certificate says of itself.
pub fn of(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut rest, _) = value(certificate, SEQUENCE)?;
    // The version, which old ones lack.
    if let Some((_, after)) = value(rest, VERSION) {
        rest = after;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = value(rest, tag)?.1;
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// The value that a tag of one octet begins, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first != tag {
        return None;
    }
    let (len, rest) = rest.split_first()?;
    let (len, rest) = match *len {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let octets = usize::from(long & 0x7f);
            if !(1..=4).contains(&octets) || octets > rest.len() {
                return None;
            }
            let (digits, rest) = rest.split_at(octets);
            (digits.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
    };
    rest.split_at_checked(len)
}

/// UTCTime or GeneralizedTime, in the one form that each may have (RFC 5280 section 4.1.2.5).
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest, century_known) = match value(der, UTC_TIME) {
        Some((text, rest)) => (text, rest, false),
        None => {
            let (text, rest) = value(der, GENERALIZED_TIME)?;
            (text, rest, true)
        }
    };
    let (digits, zone) = text.split_last_chunk::<1>()?;
    if *zone != *b"Z" || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let years = if century_known { 4 } else { 2 };
    if digits.len() != years + 10 {
        return None;
    }
    let number = |at: usize, len: usize| {
        digits[at..at + len].iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let year = match number(0, years) {
        year if century_known => year,
        year if year < 50 => 2000 + year,
        year => 1900 + year,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(years + at, 2));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second, rest))
}

/// Days since 1970, by the civil calendar of Howard Hinnant's `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut der = vec![tag];
        match value.len() {
            len @ 0..=0x7f => der.push(len as u8),
            len => der.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        der.extend(value);
        der
    }

    fn certificate(version: bool, from: &[u8], until: &[u8]) -> Vec<u8> {
        let version = if version { tagged(VERSION, &[2, 1, 2]) } else { Vec::new() };
        let fields = [
            version,
            tagged(INTEGER, &[1; 20]),
            tagged(SEQUENCE, &[5; 10]),
            tagged(SEQUENCE, &[7; 200]),
            tagged(SEQUENCE, &[from, until].concat()),
            tagged(SEQUENCE, &[9; 300]),
        ];
        tagged(SEQUENCE, &[tagged(SEQUENCE, &fields.concat()), vec![1, 2, 3]].concat())
    }

    #[test]
    fn both_forms_of_time_are_read_with_and_without_a_version() {
        let from = tagged(UTC_TIME, b"700101000000Z");
        let until = tagged(GENERALIZED_TIME, b"20500229235959Z");
        for version in [true, false] {
            let validity = of(&certificate(version, &from, &until)).unwrap();
            // 2050 has no leap day: the day after the 28th.
            assert_eq!(validity, Validity { from: 0, until: 2_529_791_999 });
        }
        let from = tagged(UTC_TIME, b"491231235959Z");
        let until = tagged(GENERALIZED_TIME, b"99991231235959Z");
        let validity = of(&certificate(true, &from, &until)).unwrap();
        assert_eq!(validity, Validity { from: 2_524_607_999, until: 253_402_300_799 });
    }

    #[test]
    fn what_is_no_time_gives_nothing() {
        let good = tagged(UTC_TIME, b"700101000000Z");
        for bad in [&b"7001010000Z"[..], b"700101000000+0100", b"70010100000xZ", b"701301000000Z"] {
            assert_eq!(of(&certificate(true, &tagged(UTC_TIME, bad), &good)), None, "{bad:?}");
            assert_eq!(of(&certificate(true, &good, &tagged(UTC_TIME, bad))), None, "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_stands_before_in_or_after_its_time() {
        let validity = Validity { from: 100, until: 200 };
        let at = |secs| validity.at(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(99), Standing::NotYet);
        assert_eq!(at(100), Standing::Valid { left: Duration::from_secs(100) });
        assert_eq!(at(200), Standing::Valid { left: Duration::ZERO });
        assert_eq!(at(260), Standing::Expired { since: Duration::from_secs(60) });
    }

    proptest! {
        #[test]
        fn no_octets_panic(
            octets in prop::collection::vec(any::<u8>(), 0..100),
            cut in 0_usize..600,
        ) {
            let _ = of(&octets);
            let time = tagged(UTC_TIME, b"700101000000Z");
            let mut whole = certificate(true, &time, &time);
            whole.truncate(cut);
            let _ = of(&whole);
        }
    }
}
