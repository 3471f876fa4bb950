//! EDNS options that belong to the way of a message, not to its meaning: padding and
//! edns-tcp-keepalive.
//!
//! Pure. The pipeline knows nothing of them: the doors read them out of a query, and write them
//! into the reply that it made.

use std::time::Duration;

use super::wire::Records;

/// What the sender of a query asks of the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// RFC 7830: the reply is to be padded, where the way is encrypted.
    pub padding: bool,
    /// RFC 7828: he wants to be told how long the connection may be idle.
    pub keepalive: bool,
}

impl Wishes {
    pub fn of(query: &[u8]) -> Wishes {
        let mut wishes = Wishes::default();
        // Nothing in the additional section.
        if query.get(10..12).is_none_or(|count| count == [0, 0]) {
            return wishes;
        }
        let Some(opt) = opt(query) else { return wishes };
        let mut rest = &query[opt];
        while let Some(([c, d, l, m], data)) = rest.split_first_chunk::<4>() {
            match u16::from_be_bytes([*c, *d]) {
                PADDING => wishes.padding = true,
                KEEPALIVE => wishes.keepalive = true,
                _ => {}
            }
            let Some(next) = data.get(usize::from(u16::from_be_bytes([*l, *m]))..) else { break };
            rest = next;
        }
        wishes
    }
}

/// Puts into the OPT of a reply what was asked of the way: first the time-out, then padding to a
/// multiple of [`BLOCK_OCTETS`]. A reply without OPT stays as it is (RFC 7830 section 4).
pub fn grant(reply: &mut Vec<u8>, padding: bool, keepalive: Option<Duration>) {
    if !padding && keepalive.is_none() {
        return;
    }
    let Some(opt) = opt(reply) else { return };
    let mut options = Vec::new();
    if let Some(idle) = keepalive {
        // RFC 7828 section 3.1: in units of 100 ms.
        let units = u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX);
        let [h, l] = units.to_be_bytes();
        options.extend([0, KEEPALIVE as u8, 0, 2, h, l]);
    }
    let before = reply.len() + options.len() + OPTION_OCTETS;
    if padding && before <= MESSAGE_OCTETS_MAX {
        let padded = before.next_multiple_of(BLOCK_OCTETS).min(MESSAGE_OCTETS_MAX);
        // Below 468, or less than what a message has.
        let octets = (padded - before) as u16;
        options.extend([0, PADDING as u8]);
        options.extend(octets.to_be_bytes());
        options.resize(options.len() + usize::from(octets), 0);
    }
    let Ok(length) = u16::try_from(opt.len() + options.len()) else { return };
    if reply.len() + options.len() > MESSAGE_OCTETS_MAX {
        return;
    }
    reply[opt.start - 2..opt.start].copy_from_slice(&length.to_be_bytes());
    reply.splice(opt.end..opt.end, options);
}

/// Where the options of a message stand.
fn opt(message: &[u8]) -> Option<std::ops::Range<usize>> {
    Records::of(message)?.find(|record| record.rtype == OPT).map(|record| record.rdata)
}

/// RFC 8467 section 4.1: what answers are padded to a multiple of.
const BLOCK_OCTETS: usize = 468;

/// What the length before a message can say.
const MESSAGE_OCTETS_MAX: usize = u16::MAX as usize;

/// The code of an option and the length of its data.
const OPTION_OCTETS: usize = 4;

const OPT: u16 = 41;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: [u8; 12] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];

    fn query(options: &[u8]) -> Vec<u8> {
        let mut message = [&HEADER[..], &[1, b'a', 0, 0, 1, 0, 1]].concat();
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        message.extend((options.len() as u16).to_be_bytes());
        message.extend(options);
        message
    }

    #[test]
    fn options_are_found_wherever_they_stand() {
        let of = |options: &[u8]| Wishes::of(&query(options));
        assert_eq!(of(&[]), Wishes::default());
        assert_eq!(of(&[0, 12, 0, 0]), Wishes { padding: true, keepalive: false });
        assert_eq!(of(&[0, 11, 0, 0]), Wishes { padding: false, keepalive: true });
        let both = of(&[0, 10, 0, 1, 9, 0, 11, 0, 0, 0, 12, 0, 2, 0, 0]);
        assert_eq!(both, Wishes { padding: true, keepalive: true });
        // Data that goes past the end.
        assert_eq!(of(&[0, 10, 0, 9, 0, 12, 0, 0]), Wishes::default());
        let mut without = query(&[]);
        without.truncate(19);
        without[11] = 0;
        assert_eq!(Wishes::of(&without), Wishes::default());
    }

    #[test]
    fn a_reply_is_padded_to_whole_blocks_and_can_still_be_read() {
        for options in 0..1_000 {
            let mut reply = query(&[&[0, 15, 0, 2, 0, 3][..], &vec![0; options]].concat());
            let before = reply.clone();
            grant(&mut reply, true, None);
            assert_eq!(reply.len() % BLOCK_OCTETS, 0, "{}", before.len());
            assert!(reply.len() - before.len() < BLOCK_OCTETS + OPTION_OCTETS);
            // All but the length of the options is as it was.
            assert_eq!(reply[..28], before[..28]);
            assert_eq!(reply[30..before.len()], before[30..]);
            let opt = opt(&reply).unwrap();
            assert_eq!(opt.end, reply.len());
        }
    }

    #[test]
    fn an_option_goes_into_an_opt_that_is_not_the_last_record() {
        let mut reply = query(&[]);
        reply[11] = 2;
        let tail = [0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 1, 9];
        reply.extend(tail);
        grant(&mut reply, true, Some(Duration::from_secs(10)));
        assert_eq!(reply.len(), BLOCK_OCTETS);
        assert!(reply.ends_with(&tail));
        assert_eq!(Records::of(&reply).unwrap().count(), 2);
        let wishes = Wishes::of(&reply);
        assert_eq!(wishes, Wishes { padding: true, keepalive: true });
    }

    #[test]
    fn the_time_out_is_told_in_tenths_of_a_second() {
        let told = |idle| {
            let mut reply = query(&[]);
            grant(&mut reply, false, Some(idle));
            reply[30..].to_vec()
        };
        assert_eq!(told(Duration::from_secs(10)), [0, 11, 0, 2, 0, 100]);
        assert_eq!(told(Duration::from_millis(1_250)), [0, 11, 0, 2, 0, 12]);
        assert_eq!(told(Duration::from_secs(86_400)), [0, 11, 0, 2, 255, 255]);
    }

    #[test]
    fn what_cannot_be_padded_stays_as_it_is() {
        let mut without = query(&[])[..19].to_vec();
        without[11] = 0;
        let before = without.clone();
        grant(&mut without, true, Some(Duration::ZERO));
        assert_eq!(without, before);
        // As long as a message can be: what fits is padded, what does not is not.
        for (octets, expected) in [(65_000, 65_052), (65_510 - 30, 65_520), (65_531 - 30, 65_535)] {
            let mut long = query(&vec![0; octets]);
            grant(&mut long, true, None);
            assert_eq!(long.len(), expected, "{octets}");
        }
        let mut full = query(&vec![0; 65_535 - 30]);
        let before = full.clone();
        grant(&mut full, true, Some(Duration::ZERO));
        assert_eq!(full, before);
    }

    proptest! {
        #[test]
        fn no_octets_panic_or_grow_past_a_message(
            octets in prop::collection::vec(any::<u8>(), 0..300),
            options in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for message in [octets, query(&options)] {
                let _ = Wishes::of(&message);
                let seen = |octets: &[u8]| Records::of(octets).map_or(0, Iterator::count);
                let before = seen(&message);
                let mut reply = message;
                grant(&mut reply, true, Some(Duration::from_secs(1)));
                prop_assert!(reply.len() <= MESSAGE_OCTETS_MAX);
                prop_assert_eq!(seen(&reply), before);
            }
        }
    }
}
