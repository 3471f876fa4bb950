//! Zone transfers and notifications as octets (RFC 5936, RFC 1995, RFC 1996).
//!
//! Pure. What the records of a transfer mean is `machine`'s.

use crate::dns::records::{self, Record, RecordError};
use crate::dns::{Name, rtype};

/// Why a message is no part of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a message that answers something else")]
    Foreign,
    #[error("the primary says {}", rcode_name(*.0))]
    Rcode(u8),
    #[error(transparent)]
    Records(#[from] RecordError),
}

/// A question for the changes since a version, or for the whole zone.
#[must_use]
pub fn question(zone: &Name, id: u16, since: Option<&Record>) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, u8::from(since.is_some()), 0, 0]);
    message.extend_from_slice(zone.as_wire());
    let qtype = if since.is_some() { IXFR } else { AXFR };
    message.extend_from_slice(&qtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some(soa) = since {
        message.extend_from_slice(soa.owner.as_wire());
        message.extend_from_slice(&rtype::SOA.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        // Two names and five numbers.
        message.extend_from_slice(&(soa.rdata.len() as u16).to_be_bytes());
        message.extend_from_slice(&soa.rdata);
    }
    message
}

/// The records of one message of a transfer.
///
/// # Errors
///
/// See [`WireError`].
pub fn records_of(message: &[u8], id: u16) -> Result<Vec<Record>, WireError> {
    let head = message.first_chunk::<12>().ok_or(RecordError::Short)?;
    let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    // QR, opcode 0.
    if head[..2] != id.to_be_bytes() || head[2] & 0xf8 != 0x80 {
        return Err(WireError::Foreign);
    }
    if head[3] & 0x0f != 0 {
        return Err(WireError::Rcode(head[3] & 0x0f));
    }
    let mut at = 12;
    // RFC 5936 section 2.2.1: later messages may leave the question out.
    for _ in 0..count(4) {
        at = records::read_name(message, at)?.1 + 4;
    }
    let (mut records, _) = records::read(message, at, count(6))?;
    records.retain(|record| record.class == 1);
    Ok(records)
}

/// "There is something new in this zone."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub zone: Name,
    /// Where its question ends.
    end: usize,
}

/// Reads a notification. None: it is something else.
#[must_use]
pub fn notification(message: &[u8]) -> Option<Notification> {
    let head = message.first_chunk::<12>()?;
    if head[2] & 0xf8 != NOTIFY << 3 || head[4..6] != [0, 1] {
        return None;
    }
    let (wire, at) = records::read_name(message, 12).ok()?;
    let question = message.get(at..at + 4)?;
    let zone = Name::from_wire(&wire).ok()?;
    // RFC 1996 section 3.7: SOA is the one type that there is.
    (question == [0, rtype::SOA as u8, 0, 1] && at == 12 + wire.len())
        .then_some(Notification { zone, end: at + 4 })
}

/// The answer to a notification (RFC 1996 section 3.12).
#[must_use]
pub fn heard(message: &[u8], notification: &Notification, rcode: u8) -> Vec<u8> {
    let mut reply = message[..notification.end].to_vec();
    // QR and AA.
    reply[2] = 0x80 | NOTIFY << 3 | 0x04;
    reply[3] = rcode;
    reply[6..12].fill(0);
    reply
}

const fn rcode_name(rcode: u8) -> &'static str {
    match rcode {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        _ => "an error",
    }
}

const AXFR: u16 = 252;
const IXFR: u16 = 251;
const NOTIFY: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn soa() -> Record {
        let rdata = [&b"\0\0"[..], &[0; 20]].concat();
        let owner = "rpz.test.".parse().unwrap();
        Record { owner, rtype: rtype::SOA, class: 1, ttl: 60, rdata }
    }

    #[test]
    fn a_question_is_for_the_whole_or_for_what_is_new() {
        let zone = "rpz.test.".parse().unwrap();
        let whole = question(&zone, 7, None);
        assert_eq!(whole[..12], [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(whole[12..], *b"\x03rpz\x04test\0\0\xfc\0\x01");
        let changes = question(&zone, 7, Some(&soa()));
        let (records, end) = records::read(&changes, whole.len(), 1).unwrap();
        assert_eq!((end, records[0].rdata.len()), (changes.len(), 22));
        assert_eq!(changes[8..10], [0, 1]);
    }

    #[test]
    fn only_answers_to_the_question_are_read() {
        let mut message = vec![0, 7, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        message.extend_from_slice(b"\x01a\0\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
        assert_eq!(records_of(&message, 7).unwrap().len(), 1);
        assert_eq!(records_of(&message, 8), Err(WireError::Foreign));
        let with = |at: usize, octet: u8| {
            let mut message = message.clone();
            message[at] = octet;
            records_of(&message, 7)
        };
        assert_eq!(with(2, 0x04), Err(WireError::Foreign));
        assert_eq!(with(3, 9), Err(WireError::Rcode(9)));
        assert_eq!(with(18, 3).unwrap(), []);
        for end in 0..message.len() {
            assert!(records_of(&message[..end], 7).is_err(), "{end}");
        }
    }

    #[test]
    fn a_notification_is_heard_with_its_question() {
        let mut message = vec![0xab, 0xcd, 0x24, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        message.extend_from_slice(b"\x03Rpz\x04test\0\0\x06\0\x01");
        let bare = message.len();
        message.extend_from_slice(b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\0");
        let found = notification(&message).unwrap();
        assert_eq!(found.zone, "rpz.test.".parse().unwrap());
        let reply = heard(&message, &found, 0);
        assert_eq!(reply[..12], [0xab, 0xcd, 0xa4, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply[12..], message[12..bare]);
        for (at, octet) in [(2, 0x04), (2, 0xa4), (5, 2), (bare - 3, 1), (bare - 1, 3)] {
            let mut other = message.clone();
            other[at] = octet;
            assert_eq!(notification(&other), None, "{at}");
        }
        assert_eq!(notification(&message[..bare - 1]), None);
    }
}
