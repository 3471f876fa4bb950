//! An answer goes to disk and comes back, older.

use proptest::prelude::*;
use resolverd_common::key;
use resolverd_common::time::SECOND;

use super::super::held::Beside;
use super::*;

const WROTE: Moment = Moment { boot: 5_000 * SECOND, wall: 1_800_000_000 * SECOND };

/// One address of `a.test.`, with a TTL of 60, stored 10.25 s before [`WROTE`].
fn held(flags: u16, text: &str) -> Held {
    let name = b"\x01a\x04test\x00";
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    let parts = Parts {
        stored_at: WROTE.boot - 10_250 * MILLI,
        meta: key::meta(1, 0, name.len() as u8, true, false),
        life_millis: 60_000,
        name,
        counts: [1, 0, 0],
        flags: Flags(flags),
        ede: 7,
        origin: 3,
        body: &record,
        ttl_offsets: &[6],
    };
    let mut words = vec![0; 64];
    let len = entry::build(&parts, &mut words).unwrap();
    let beside = Beside { text, stale_secs_max: 99, ..Beside::default() };
    Held::new(&words[..len], &beside)
}

fn written(held: &Held) -> Vec<u8> {
    let mut out = Vec::new();
    write(held, &held.head(), WROTE, &mut Desk::default(), &mut out);
    out
}

#[test]
fn an_answer_comes_back_as_it_was_but_for_its_age_and_its_proof() {
    let octets = written(&held(Flags::SECURE | Flags::EDE | Flags::DAEMON_ONLY, "why"));
    let (kept, rest) = Kept::read(&octets).unwrap();
    assert!(rest.is_empty());
    assert_eq!(kept.stored_at, WROTE.wall - 10_250 * MILLI);
    assert_eq!((kept.text, kept.origin, kept.signed_secs()), ("why", 3, Some(0)));
    let query = kept.query().unwrap();
    assert_eq!((query.name.to_string().as_str(), query.dnssec_ok), ("a.test.", true));

    // 20 seconds later, on a machine that was started 3 seconds ago.
    let now = Moment { boot: 3 * SECOND, wall: WROTE.wall + 20 * SECOND };
    let mut desk = Desk::default();
    let head = kept.revive(9, now, &mut desk).unwrap();
    // 30.25 seconds went by: the 31st is over.
    assert_eq!(head.stored_at, now.boot);
    assert_eq!(head.expires_at(), now.boot + 29 * SECOND);
    assert_eq!(entry::body_of(&desk.words, &head)[6..10], [0, 0, 0, 29]);
    assert!(!head.flags.has(Flags::SECURE), "it is proven no more");
    assert!(head.flags.has(Flags::EDE) && head.flags.has(Flags::DAEMON_ONLY));
    assert_eq!((head.ede, head.origin, head.meta), (7, 9, kept.meta));
}

#[test]
fn what_ended_meanwhile_is_not_revived_and_a_clock_set_back_makes_nothing_younger() {
    let octets = written(&held(0, ""));
    let (kept, _) = Kept::read(&octets).unwrap();
    let revive = |secs: i64| {
        let wall = WROTE.wall.saturating_add_signed(secs * SECOND as i64);
        kept.revive(0, Moment { boot: WROTE.boot, wall }, &mut Desk::default())
    };
    assert!(revive(48).is_ok());
    assert_eq!(revive(49), Err(NotRevived::Expired));
    assert_eq!(revive(1 << 30), Err(NotRevived::Expired));
    // At most what it had when it was stored.
    let head = revive(-1_000).unwrap();
    assert_eq!(head.life_millis, 60_000);
    assert_eq!(kept.signed_secs(), Some(99));
}

#[test]
fn only_what_somebody_else_said_and_may_say_again_is_kept() {
    let now = WROTE.boot;
    let is = |held: &Held| is_worth_keeping(held, &held.head(), now);
    assert!(is(&held(0, "")) && is(&held(3, "")));
    assert!(!is(&held(2, "")), "a failure");
    assert!(!is(&held(Flags::AUTHORITATIVE, "")), "a local zone's");
    let held = held(0, "");
    assert!(!is_worth_keeping(&held, &held.head(), now + 50 * SECOND), "expired");
}

#[test]
fn names_types_and_records_that_do_not_fit_are_found() {
    let good = written(&held(0, ""));
    let broken = |at: usize, octet: u8| {
        let mut octets = good.clone();
        octets[at] = octet;
        octets
    };
    let (now, mut desk) = (WROTE, Desk::default());
    // A capital letter, a label too long, another count of records, a failure.
    for (at, octet) in [(41, b'A'), (40, 63), (24, 2), (24, 0), (30, 2)] {
        let octets = broken(at, octet);
        let kept = Kept::read(&octets).map(|(kept, _)| kept);
        let query = kept.as_ref().map(Kept::query);
        let revived = kept.as_ref().map(|kept| kept.revive(0, now, &mut desk));
        let refused = |is_err: Option<bool>| is_err.unwrap_or(true);
        assert!(
            refused(query.map(|query| query.is_err()))
                || refused(revived.map(|head| head.is_err())),
            "{at} {octet}"
        );
    }
    for len in 0..good.len() {
        assert!(Kept::read(&good[..len]).is_none(), "{len}");
    }
}

proptest! {
    #[test]
    fn no_octets_do_harm(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some((kept, _)) = Kept::read(&octets) {
            let _ = (kept.query(), kept.revive(0, WROTE, &mut Desk::default()));
        }
    }

    #[test]
    fn no_changed_octet_does_harm(at in 0_usize..71, octet in any::<u8>(), ahead in any::<u32>()) {
        let mut octets = written(&held(0, ""));
        let at = at % octets.len();
        octets[at] = octet;
        if let Some((kept, _)) = Kept::read(&octets) {
            let now = Moment { wall: WROTE.wall + u64::from(ahead), ..WROTE };
            let mut desk = Desk::default();
            if let (Ok(query), Ok(head)) = (kept.query(), kept.revive(0, now, &mut desk)) {
                prop_assert_eq!(query.meta(), head.meta);
                prop_assert_eq!(head.len_words(), desk.words.len());
            }
        }
    }
}
