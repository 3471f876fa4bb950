//! What is true of every reply, whatever it answers.

use super::house::EDNS_SIZE;
use crate::dns::records::{self, Record};

/// What was found in a reply.
pub struct Sections {
    pub answers: u16,
    pub additionals: Vec<Record>,
    pub opt: Option<Record>,
    pub extended_rcode: u16,
}

/// Holds a reply to what is true of every one.
pub fn check(label: &str, message: &[u8], reply: &[u8], denied: bool) -> Sections {
    let context = format!("{label}: {reply:02x?}");
    let word = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    assert!(reply.len() >= 12, "{context}");
    // Id, opcode and RD are the query's; QR and RA ours; CD copied; Z never set.
    assert_eq!(reply[..2], message[..2], "{context}");
    assert_eq!(reply[2] & 0xf9, 0x80 | message[2] & 0x79, "{context}");
    assert_eq!(reply[3] & 0xd0, u8::from(!denied) << 7 | message[3] & 0x10, "{context}");
    let mut at = 12;
    if word(4) == 1 {
        let (name, end) = records::read_name(reply, 12).unwrap();
        at = end + 4;
        assert_eq!(at, 12 + name.len() + 4, "{context}");
        assert_eq!(reply[12..at], message[12..at], "{context}");
    } else {
        assert_eq!(word(4), 0, "{context}");
    }
    let mut read = |count| {
        let (found, next) = records::read(reply, at, count).unwrap();
        at = next;
        found
    };
    let answers = read(word(6)).len() as u16;
    read(word(8));
    let additionals = read(word(10));
    assert_eq!(at, reply.len(), "{context}: octets behind");
    let mut opts = additionals.iter().filter(|record| record.rtype == 41).cloned();
    let opt = opts.next();
    assert!(opts.next().is_none(), "{context}: two OPTs");
    let mut extended_rcode = 0;
    if let Some(opt) = &opt {
        assert_eq!((opt.owner.as_wire(), opt.class), (&[0][..], EDNS_SIZE), "{context}");
        let [high, version, do_bit, zero] = opt.ttl.to_be_bytes();
        extended_rcode = high.into();
        assert!(version == 0 && zero == 0 && do_bit & 0x7f == 0, "{context}");
        // DO is copied (RFC 3225 section 3), and set for nobody else.
        let asked = find_opt(message).map(|opt| opt[7] & 0x80);
        assert_eq!(Some(do_bit), asked, "{context}");
    } else if !denied && reply[3] & 0x0f != 1 && reply[3] & 0x0f != 4 {
        // RFC 6891 section 6.1.1: an OPT for an OPT.
        assert!(find_opt(message).is_none(), "{context}: no OPT");
    }
    Sections { answers, additionals, opt, extended_rcode }
}

/// The first OPT of a message, if it is well enough formed to be found.
fn find_opt(message: &[u8]) -> Option<Vec<u8>> {
    let (name, at) = records::read_name(message, 12).ok()?;
    let mut at = (at == 12 + name.len()).then_some(at + 4)?;
    while at < message.len() {
        let (_, next) = records::read(message, at, 1).ok()?;
        let (_, fixed) = records::read_name(message, at).ok()?;
        if message[fixed..fixed + 2] == [0, 41] {
            return Some(message[fixed - 1..next].to_vec());
        }
        at = next;
    }
    None
}
