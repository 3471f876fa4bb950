//! When an old answer is used, in virtual time.

use resolverd_common::key;

use super::*;
use crate::dns::Ede;

const HOUR: u32 = 3_600;

fn head(rcode: u8, flags: u16) -> Head {
    Head {
        generation: 0,
        stored_at: 1_000 * SECOND,
        meta: key::meta(1, 0, 3, false, false),
        life_millis: 60_000,
        epoch: 0,
        body_len: 0,
        counts: [0; 3],
        flags: Flags(u16::from(rcode) | flags),
        sum: 0,
        ede: 0,
        origin: 0,
    }
}

#[test]
fn an_answer_is_used_as_long_as_all_who_have_a_say_allow_it() {
    let end = 1_060 * SECOND;
    // RCODE, flags, what the signatures say, what the configuration says: seconds past the end.
    for (rcode, flags, signed, allowed, past) in [
        (rcode::NOERROR, 0, None, HOUR, HOUR),
        (rcode::NXDOMAIN, 0, None, HOUR, HOUR),
        (rcode::NOERROR, 0, None, 0, 0),
        (rcode::SERVFAIL, 0, None, HOUR, 0),
        (rcode::REFUSED, 0, None, HOUR, 0),
        // Past the expiry of its signatures a secure answer is nobody's.
        (rcode::NOERROR, Flags::SECURE, Some(10), HOUR, 10),
        (rcode::NOERROR, Flags::SECURE, Some(2 * HOUR), HOUR, HOUR),
        (rcode::NOERROR, Flags::SECURE, Some(0), HOUR, 0),
        (rcode::NXDOMAIN, Flags::SECURE, None, HOUR, 0),
        (rcode::NOERROR, 0, Some(5), HOUR, 5),
    ] {
        let head = head(rcode, flags);
        let until = usable_until(&head, secs_max(&head, signed), allowed);
        assert_eq!(until, end + u64::from(past) * SECOND, "{rcode} {flags} {signed:?} {allowed}");
    }
}

/// An entry for `a.` with two records of TTL 60.
fn words(rcode: u8) -> Vec<u64> {
    let body = [[0; 4], [0, 0, 0, 60], [1; 4], [0, 0, 0, 60], [2; 4]].concat();
    let parts = entry::Parts {
        stored_at: 1_000 * SECOND,
        meta: key::meta(1, 0, 3, false, false),
        life_millis: 60_000,
        name: b"\x01a\x00",
        counts: [2, 0, 0],
        flags: Flags(u16::from(rcode)),
        ede: 0,
        origin: 7,
        body: &body,
        ttl_offsets: &[4, 12],
    };
    let mut words = vec![0; 64];
    let len = entry::build(&parts, &mut words).unwrap();
    words.truncate(len);
    words
}

#[test]
fn what_is_used_says_so_lives_for_half_a_minute_and_stays_out_of_the_kernel() {
    let now = 2_000 * SECOND;
    for (rcode, ede) in [(rcode::NOERROR, EDE_STALE), (rcode::NXDOMAIN, EDE_STALE_NXDOMAIN)] {
        let mut entry = words(rcode);
        let sum = entry::head_of(&entry).unwrap().sum;
        let (head, beyond) = renew(&mut entry, now, now + 100 * SECOND).unwrap();
        assert_eq!(entry::head_of(&entry), Some(head));
        assert_eq!((head.stored_at, head.life_millis, head.ede), (now, 30_000, ede));
        assert_eq!((head.flags.rcode(), head.class(), head.sum), (rcode, None, sum));
        assert!(head.flags.has(Flags::EDE) && head.origin == 7);
        assert_eq!(beyond, 70);
        let body = entry::body_of(&entry, &head);
        assert_eq!(body, [[0; 4], [0, 0, 0, 30], [1; 4], [0, 0, 0, 30], [2; 4]].concat());
    }
}

#[test]
fn it_is_renewed_until_its_last_second_and_never_past_it() {
    let (start, until) = (2_000 * SECOND, 2_071 * SECOND + SECOND / 2);
    let mut entry = words(rcode::NOERROR);
    let mut now = start;
    let mut lives = Vec::new();
    // As the cache does it: past each life it is looked at again.
    let mut end = until;
    while let Some((head, beyond)) = renew(&mut entry, now, end) {
        lives.push(head.life_millis);
        assert!(head.expires_at() <= until);
        let ttl = entry::body_of(&entry, &head)[7];
        assert!(u32::from(ttl) * 1_000 >= head.life_millis, "no TTL ends before the life");
        now = head.expires_at();
        end = usable_until(&head, beyond, u32::MAX);
    }
    assert_eq!(lives, [30_000, 30_000, 11_000]);
    assert_eq!(renew(&mut words(rcode::NOERROR), 10, 10), None);
    assert_eq!(renew(&mut words(rcode::NOERROR), 11, 10), None);
    assert_eq!(renew(&mut [0; 2], 1, SECOND), None);
}

#[test]
fn it_stands_in_for_failures_and_for_nothing_that_somebody_means() {
    let answer = |rcode, ede: Option<u16>, source| {
        let ede = ede.map(|code| Ede { code, text: String::new() });
        Answer { source, ..Answer::empty(rcode, Duration::ZERO, ede) }
    };
    let up = || Source::Upstream("up".into());
    for (rcode, ede, source, may) in [
        (rcode::SERVFAIL, None, up(), true),
        (rcode::SERVFAIL, Some(22), Source::Daemon, true),
        (rcode::SERVFAIL, Some(23), Source::Daemon, true),
        (rcode::REFUSED, None, up(), true),
        (rcode::FORMERR, None, up(), true),
        (rcode::NOERROR, None, up(), false),
        (rcode::NXDOMAIN, None, up(), false),
        // Bogus, expired signatures, blocked, prohibited.
        (rcode::SERVFAIL, Some(6), Source::Daemon, false),
        (rcode::SERVFAIL, Some(7), Source::Daemon, false),
        (rcode::REFUSED, Some(15), Source::Daemon, false),
        (rcode::REFUSED, Some(18), Source::Daemon, false),
        (rcode::REFUSED, None, Source::Local("a.test".parse().unwrap()), false),
    ] {
        let answer = answer(rcode, ede, source);
        assert_eq!(may_stand_in_for(&answer), may, "{answer:?}");
    }
}
