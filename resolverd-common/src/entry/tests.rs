//! Entries as they are written, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::key;
use crate::time::{MILLI, SECOND};

const NAME: &[u8] = b"\x03www\x07example\x04test\0";

/// Two records with these TTLs, at these offsets.
fn body(ttls: [u32; 2]) -> (Vec<u8>, Vec<u16>) {
    let mut body = Vec::new();
    let mut offsets = Vec::new();
    for ttl in ttls {
        body.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        offsets.push(body.len() as u16);
        body.extend_from_slice(&ttl.to_be_bytes());
        body.extend_from_slice(&[0, 4, 192, 0, 2, 1]);
    }
    (body, offsets)
}

fn parts<'a>(body: &'a [u8], ttl_offsets: &'a [u16], life_millis: u32) -> Parts<'a> {
    Parts {
        stored_at: 1_000,
        meta: key::meta(1, 3, NAME.len() as u8, true, false),
        life_millis,
        name: NAME,
        counts: [1, 1, 0],
        flags: Flags(Flags::SECURE | 3),
        ede: 22,
        origin: 9,
        body,
        ttl_offsets,
    }
}

#[test]
fn an_entry_has_all_that_it_was_built_from() {
    let (body, offsets) = body([300, 60]);
    let mut out = [u64::MAX; 64];
    let len = build(&parts(&body, &offsets, 60_000), &mut out).unwrap();
    let entry = &out[..len];
    let head = head_of(entry).unwrap();
    assert_eq!(len, head.len_words());
    assert_eq!((head.generation, head.epoch), (0, 0));
    assert_eq!((head.stored_at, head.life_millis), (1_000, 60_000));
    assert_eq!((head.counts, head.ttls()), ([1, 1, 0], 2));
    assert_eq!((head.flags, head.ede, head.origin), (Flags(0x23), 22, 9));
    assert_eq!(name_of(entry, &head), NAME);
    assert_eq!(body_of(entry, &head), body);
    assert_eq!(out[HEAD_WORDS], u64::from(offsets[0]) | u64::from(offsets[1]) << 16);
    // Padding is zero, whatever stood there; what is behind is not touched.
    assert!(entry.as_bytes()[head.body_at() * 8 + body.len()..].iter().all(|octet| *octet == 0));
    assert_eq!(out[len], u64::MAX);
    assert!(head_of(&entry[..len - 1]).is_none() && head_of(&entry[..5]).is_none());
    // The sum is that of the body with its TTLs as zero.
    let mut plain = body.clone();
    offsets.iter().for_each(|at| plain[usize::from(*at)..][..4].fill(0));
    assert_eq!(head.sum, sum::fold(sum::of_bytes(&plain)));
}

#[test]
fn an_entry_lives_from_its_storing_to_its_end() {
    let (body, offsets) = body([60, 60]);
    let mut out = [0; 64];
    build(&parts(&body, &offsets, 60_000), &mut out).unwrap();
    let head = head_of(&out).unwrap();
    assert_eq!(head.expires_at(), 1_000 + 60 * SECOND);
    for (now, fresh) in [
        (999, false),
        (1_000, true),
        (1_000 + 60 * SECOND - 1, true),
        (1_000 + 60 * SECOND, false),
        (u64::MAX, false),
    ] {
        assert_eq!(head.is_fresh(now), fresh, "{now}");
    }
    let endless = Head { stored_at: u64::MAX - MILLI, ..head };
    assert_eq!(endless.expires_at(), u64::MAX);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let (body, offsets) = body([300, 60]);
    let mut out = [0; 64];
    let good = || parts(&body, &offsets, 60_000);
    let mut refused = |parts: &Parts<'_>| build(parts, &mut out).err();
    assert_eq!(refused(&good()), None);
    assert_eq!(refused(&Parts { name: &NAME[1..], ..good() }), Some(BuildError::Name));
    assert_eq!(refused(&Parts { name: &[], meta: 0, ..good() }), Some(BuildError::Name));
    assert_eq!(refused(&Parts { counts: [1, 0, 0], ..good() }), Some(BuildError::Ttls));
    assert_eq!(refused(&Parts { ttl_offsets: &offsets[..1], ..good() }), Some(BuildError::Ttls));
    for bad in [[6, 6], [6, 9], [22, 6], [6, 30], [6, 29], [6, u16::MAX]] {
        assert_eq!(
            refused(&Parts { ttl_offsets: &bad, ..good() }),
            Some(BuildError::Ttls),
            "{bad:?}"
        );
    }
    // No TTL ends before the entry does.
    assert_eq!(refused(&Parts { life_millis: 60_001, ..good() }), Some(BuildError::Ttls));
    let long = vec![0; BODY_MAX + 1];
    let long = Parts { body: &long, counts: [0; 3], ttl_offsets: &[], ..good() };
    assert_eq!(refused(&long), Some(BuildError::Body));
    let needed = build(&good(), &mut out).unwrap();
    assert_eq!(build(&good(), &mut out[..needed - 1]), Err(BuildError::Room));
    assert_eq!(build(&good(), &mut out[..needed]), Ok(needed));
}

#[test]
fn the_largest_entry_has_no_more_words_than_promised() {
    let records = BODY_MAX / 11;
    let mut body = Vec::with_capacity(BODY_MAX);
    let mut offsets = Vec::new();
    for _ in 0..records {
        offsets.push(body.len() as u16 + 5);
        body.extend_from_slice(&[0, 0, 16, 0, 1, 0, 0, 1, 0, 0, 0]);
    }
    body.resize(BODY_MAX, 0);
    let name = [&[1, b'a'].repeat(127)[..], &[0]].concat();
    let parts = Parts {
        meta: key::meta(1, 0, 255, false, false),
        name: &name,
        counts: [records as u16, 0, 0],
        ..parts(&body, &offsets, 1_000)
    };
    let mut out = vec![0; WORDS_MAX];
    let len = build(&parts, &mut out).unwrap();
    assert!(WORDS_MAX - len <= 2, "{len} of {WORDS_MAX}");
}

#[test]
fn an_entry_goes_into_the_smallest_class_that_holds_it() {
    let head = |body_len: usize, flags: u16, ttls: u16| Head {
        generation: 0,
        stored_at: 0,
        meta: key::meta(1, 0, 15, false, false),
        life_millis: 0,
        epoch: 0,
        body_len: body_len as u16,
        counts: [0, 0, ttls],
        flags: Flags(flags),
        sum: 0,
        ede: 0,
        origin: 0,
    };
    for (class, octets) in CLASSES.into_iter().enumerate() {
        // Six words of head, one of offsets, two of name, one at the end.
        let body = octets - 10 * 8;
        assert_eq!(head(body, 0, 4).class(), Some(class));
        assert_ne!(head(body + 1, 0, 4).class(), Some(class));
        assert_eq!(head(body, Flags::DAEMON_ONLY, 4).class(), None);
    }
    assert_eq!(head(1_280, 0, 1).class(), None);
    assert_eq!(head(100, 0, TTLS_MAX as u16).class(), Some(1));
    assert_eq!(head(100, 0, TTLS_MAX as u16 + 1).class(), None);
}

#[test]
fn the_last_word_of_a_value_belongs_to_one_generation() {
    let tail = tail(0x1_2345_6789);
    assert!(tail_agrees(tail, 0x1_2345_6789) && tail_agrees(tail | 1, 0x1_2345_6789));
    assert!(!tail_agrees(tail, 0x1_2345_678a));
}

proptest! {
    #[test]
    fn a_head_is_the_same_after_its_words(words in any::<[u64; HEAD_WORDS]>()) {
        let head = Head::read(&words);
        prop_assert_eq!(head.words(), words);
        prop_assert_eq!(Head::read(&head.words()), head);
    }

    #[test]
    fn any_words_are_looked_at_without_harm(
        words in proptest::collection::vec(any::<u64>(), 0..40),
    ) {
        if let Some(head) = head_of(&words) {
            let _ = (name_of(&words, &head), body_of(&words, &head));
        }
        if let Some(first) = words.first_chunk() {
            let head = Head::read(first);
            let _ = (name_of(&words, &head), body_of(&words, &head), head.class());
        }
    }
}
