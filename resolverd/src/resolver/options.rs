//! EDNS options that belong to the way of a question, not to its meaning: padding and
//! edns-tcp-keepalive.
//!
//! Pure. `wire.rs` writes and reads messages; here is what kept connections add to a question
//! and look for in what comes.

use std::time::Duration;

use crate::dns::rtype;

/// Puts into the OPT of a question of ours what its way wants: that the server may say how long
/// it keeps the connection (RFC 7828), and padding, so that its length does not tell what is asked
/// (RFC 8467 section 4.1). A question without OPT stays as it is.
pub fn dress(question: &mut Vec<u8>, keepalive: bool, padding: bool) {
    // Ours have the OPT as their only record, and it ends with the length of no options.
    if question.get(10..12) != Some(&[0, 1]) || !question.ends_with(&[0, 0]) {
        return;
    }
    let options_at = question.len();
    if keepalive {
        question.extend([0, KEEPALIVE as u8, 0, 0]);
    }
    if padding {
        let before = question.len() + OPTION_OCTETS;
        let octets = before.next_multiple_of(BLOCK_OCTETS) - before;
        question.extend([0, PADDING as u8, 0, octets as u8]);
        question.resize(before + octets, 0);
    }
    let length = (question.len() - options_at) as u16;
    question[options_at - 2..options_at].copy_from_slice(&length.to_be_bytes());
}

/// How long the server keeps the connection while nothing is asked, if it says.
#[must_use]
pub fn keepalive(message: &[u8]) -> Option<Duration> {
    let mut options = options(message)?;
    while let Some(([c, d, l, m], rest)) = options.split_first_chunk::<4>() {
        let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l, *m])))?;
        if u16::from_be_bytes([*c, *d]) == KEEPALIVE {
            let units = u16::from_be_bytes(data.try_into().ok()?);
            // RFC 7828 section 3.1: in units of 100 ms.
            return Some(Duration::from_millis(100) * u32::from(units));
        }
        options = rest;
    }
    None
}

/// The options of a message.
fn options(message: &[u8]) -> Option<&[u8]> {
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let mut at = 12;
    for _ in 0..count(4)? {
        at = after_name(message, at)? + 4;
    }
    let records = u32::from(count(6)?) + u32::from(count(8)?) + u32::from(count(10)?);
    for _ in 0..records {
        let fixed = after_name(message, at)?;
        let head = message.get(fixed..fixed + 10)?;
        let rdata = fixed + 10;
        at = rdata + usize::from(u16::from_be_bytes([head[8], head[9]]));
        if head[..2] == rtype::OPT.to_be_bytes() {
            return message.get(rdata..at);
        }
    }
    None
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + usize::from(length),
            length if length >= 192 => return Some(at + 2),
            _ => return None,
        }
    }
}

/// RFC 8467 section 4.1: what questions are padded to a multiple of.
const BLOCK_OCTETS: usize = 128;

/// The code of an option and the length of its data.
const OPTION_OCTETS: usize = 4;

const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::Query;
    use crate::resolver::wire;

    fn question(name: &str, edns: bool) -> Vec<u8> {
        let query = Query {
            name: name.parse().unwrap(),
            qtype: 1,
            dnssec_ok: false,
            checking_disabled: false,
            view: 0,
        };
        wire::question(&query, 0, edns.then_some(1_232))
    }

    #[test]
    fn questions_are_padded_to_whole_blocks_whatever_their_name() {
        for octets in 1..60 {
            for labels in 1..4 {
                let name = format!("{}.", "a".repeat(octets)).repeat(labels);
                let mut question = question(&name, true);
                let bare = question.len();
                dress(&mut question, labels == 2, true);
                assert_eq!(question.len() % BLOCK_OCTETS, 0, "{name}");
                assert!(question.len() < bare + BLOCK_OCTETS + 2 * OPTION_OCTETS);
                let message = hickory_proto::op::Message::from_vec(&question).unwrap();
                assert_eq!(message.queries[0].name().to_ascii(), name);
            }
        }
        let mut without = question("a.test.", false);
        let before = without.clone();
        dress(&mut without, true, true);
        assert_eq!(without, before);
    }

    #[test]
    fn the_time_out_is_read_wherever_the_opt_stands() {
        let mut message = question("a.test.", true);
        assert_eq!(keepalive(&message), None);
        dress(&mut message, true, false);
        assert_eq!(keepalive(&message), None, "empty, as clients send it");
        let at = message.len();
        message.extend([0, 50]);
        message[at - 1] = 2;
        message[at - 5] = 6;
        assert_eq!(keepalive(&message), Some(Duration::from_secs(5)));
        // A record before it, with a compressed owner.
        let opt = message.split_off(at - 15);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        message.extend(opt);
        message[7] = 1;
        assert_eq!(keepalive(&message), Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn no_octets_panic(
            octets in prop::collection::vec(any::<u8>(), 0..80),
            cut in 0..60_usize,
        ) {
            let _ = keepalive(&octets);
            let mut message = question("a.test.", true);
            dress(&mut message, true, true);
            message.truncate(cut);
            message.extend_from_slice(&octets);
            let _ = keepalive(&message);
            dress(&mut message, true, true);
        }
    }
}
