//! The life of keys of a trust point, in days.

use super::super::rrset::group;
use super::super::vectors::{NOW, Signer, name};
use super::*;

const DAY_SECS: u64 = 86_400;

/// A DNSKEY set of these keys, signed by some of them for ever.
fn set(keys: &[&Signer], signers: &[&Signer]) -> RrSet {
    let records: Vec<_> = keys.iter().map(|signer| signer.dnskey()).collect();
    let mut set = group(&records).remove(0);
    for signer in signers {
        let signed = signer.sign_as(&records, |signature| {
            signature.inception = NOW as u32 - 1_000;
            signature.expiration = NOW as u32 + 400 * DAY;
        });
        set.signatures.extend(group(&signed).remove(0).signatures);
    }
    set
}

struct Rig {
    tracker: Tracker,
    point: Point,
}

impl Rig {
    fn new(anchor: &Signer) -> Self {
        let point = Point { ds: vec![anchor.as_ds()], keys: Vec::new() };
        Self { tracker: Tracker::new(name("t."), &point), point }
    }

    fn see(&mut self, day: u64, set: &RrSet) -> Result<Vec<Change>, Failure> {
        let now = NOW + day * DAY_SECS;
        let at = Moment { wall: now, judged: now };
        self.tracker.observe(set, &self.point, at, &mut Work::of_one_question())
    }

    fn state(&self, of: &Signer) -> Option<State> {
        let found = self.tracker.keys.iter().find(|tracked| same(&tracked.key, &of.key));
        found.map(|tracked| tracked.state)
    }
}

#[test]
fn the_configured_key_is_trusted_at_once_and_a_new_one_after_thirty_days() {
    let (old, new) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&old);
    rig.see(0, &set(&[&old], &[&old])).unwrap();
    assert_eq!(rig.state(&old), Some(State::Valid));
    let both = set(&[&old, &new], &[&old]);
    rig.see(1, &both).unwrap();
    assert_eq!(rig.state(&new), Some(State::AddPend));
    assert_eq!(rig.tracker.trusted(), std::slice::from_ref(&old.key));
    rig.see(30, &both).unwrap();
    assert_eq!(rig.state(&new), Some(State::AddPend), "29 days");
    let changes = rig.see(31, &both).unwrap();
    assert_eq!(changes, [Change { tag: new.key.tag, to: Some(State::Valid) }]);
    assert_eq!(rig.tracker.trusted().len(), 2);
}

#[test]
fn a_new_key_that_is_withdrawn_begins_anew() {
    let (old, new) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&old);
    let (alone, both) = (set(&[&old], &[&old]), set(&[&old, &new], &[&old]));
    rig.see(0, &both).unwrap();
    let changes = rig.see(10, &alone).unwrap();
    assert_eq!(changes, [Change { tag: new.key.tag, to: None }]);
    rig.see(11, &both).unwrap();
    rig.see(31, &both).unwrap();
    assert_eq!(rig.state(&new), Some(State::AddPend), "its thirty days began on day 11");
    rig.see(41, &both).unwrap();
    assert_eq!(rig.state(&new), Some(State::Valid));
}

#[test]
fn a_set_that_no_trusted_key_signs_changes_nothing() {
    let (old, thief) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&old);
    rig.see(0, &set(&[&old], &[&old])).unwrap();
    let before = rig.tracker.keys.clone();
    for forged in [set(&[&thief], &[&thief]), set(&[&old, &thief], &[&thief]), set(&[&old], &[])] {
        rig.see(40, &forged).unwrap_err();
        assert_eq!(rig.tracker.keys, before);
        assert_eq!(rig.tracker.due_at(), NOW + 40 * DAY_SECS + 3_600);
    }
    // A key in its thirty days signs nothing yet.
    rig.see(41, &set(&[&old, &thief], &[&old])).unwrap();
    rig.see(42, &set(&[&thief], &[&thief])).unwrap_err();
    assert_eq!(rig.state(&old), Some(State::Valid));
}

#[test]
fn a_key_that_is_missed_is_still_trusted_and_comes_back() {
    let (one, two) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&one);
    rig.point.ds.push(two.as_ds());
    rig.see(0, &set(&[&one, &two], &[&one])).unwrap();
    rig.see(1, &set(&[&one], &[&one])).unwrap();
    assert_eq!(rig.state(&two), Some(State::Missing));
    assert_eq!(rig.tracker.trusted().len(), 2);
    rig.see(2, &set(&[&two], &[&two])).unwrap();
    assert_eq!((rig.state(&one), rig.state(&two)), (Some(State::Missing), Some(State::Valid)));
}

#[test]
fn a_key_revokes_itself_and_nobody_else_does() {
    let (one, two) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&one);
    rig.point.ds.push(two.as_ds());
    rig.see(0, &set(&[&one, &two], &[&one, &two])).unwrap();
    let one = one.turned(257 | FLAG_REVOKE);
    // Not signed by itself: it is merely missed.
    rig.see(1, &set(&[&one, &two], &[&two])).unwrap();
    assert_eq!(rig.state(&one), Some(State::Missing));
    let revoked = set(&[&one, &two], &[&one, &two]);
    let changes = rig.see(2, &revoked).unwrap();
    assert_eq!(changes, [Change { tag: changes[0].tag, to: Some(State::Revoked) }]);
    assert_eq!(rig.tracker.trusted(), std::slice::from_ref(&two.key));
    // For good: it is removed after thirty days, and never comes back.
    let one = one.turned(257);
    rig.see(20, &set(&[&one, &two], &[&two])).unwrap();
    assert_eq!(rig.state(&one), Some(State::Revoked));
    rig.see(32, &set(&[&one, &two], &[&two])).unwrap();
    assert_eq!(rig.state(&one), Some(State::Removed));
    rig.see(80, &set(&[&one, &two], &[&two])).unwrap();
    assert_eq!(rig.state(&one), Some(State::Removed), "while it is published it is remembered");
    rig.see(81, &set(&[&two], &[&two])).unwrap();
    assert_eq!(rig.state(&one), None);
}

#[test]
fn the_only_key_can_revoke_itself_and_brings_no_other_in() {
    let (one, two) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&one);
    rig.see(0, &set(&[&one], &[&one])).unwrap();
    let one = one.turned(257 | FLAG_REVOKE);
    let changes = rig.see(1, &set(&[&one, &two], &[&one])).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((rig.state(&one), rig.state(&two)), (Some(State::Revoked), None));
    assert!(rig.tracker.trusted().is_empty());
}

#[test]
fn zone_signing_keys_are_not_followed_and_keys_are_bounded() {
    let old = Signer::new("t.");
    let zsk = Signer::with_flags("t.", 256);
    let mut rig = Rig::new(&old);
    rig.see(0, &set(&[&old, &zsk], &[&old])).unwrap();
    assert_eq!(rig.state(&zsk), None);
    let many: Vec<Signer> = (0..KEYS_MAX + 4).map(|_| Signer::new("t.")).collect();
    let all: Vec<&Signer> = std::iter::once(&old).chain(&many).collect();
    rig.see(1, &set(&all, &[&old])).unwrap();
    assert_eq!(rig.tracker.keys.len(), KEYS_MAX);
}

#[test]
fn keys_are_asked_for_between_an_hour_and_fifteen_days() {
    let old = Signer::new("t.");
    let mut rig = Rig::new(&old);
    let mut long = set(&[&old], &[&old]);
    rig.see(0, &long).unwrap();
    assert_eq!(rig.tracker.due_at(), NOW + 3_600, "half of a TTL of an hour is less than an hour");
    long.ttl = 172_800;
    rig.see(0, &long).unwrap();
    assert_eq!(rig.tracker.due_at(), NOW + DAY_SECS);
    long.ttl = 10_000_000;
    rig.see(0, &long).unwrap();
    assert_eq!(rig.tracker.due_at(), NOW + 15 * DAY_SECS);
    rig.tracker.failed(NOW);
    assert_eq!(rig.tracker.due_at(), NOW + 3_600);
}

#[test]
fn other_configured_anchors_are_the_operators_newer_word_and_revocations_stay() {
    let (one, two, three) = (Signer::new("t."), Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&one);
    rig.point.ds.push(two.as_ds());
    rig.tracker.begin_anew(&rig.point);
    rig.see(0, &set(&[&one, &two], &[&one, &two])).unwrap();
    assert!(rig.tracker.follows(&rig.point) && rig.tracker.has_begun());
    let one = one.turned(257 | FLAG_REVOKE);
    rig.see(1, &set(&[&one, &two], &[&one, &two])).unwrap();
    let one = one.turned(257);
    rig.point.ds.push(three.as_ds());
    assert!(!rig.tracker.follows(&rig.point));
    rig.tracker.begin_anew(&rig.point);
    assert!(rig.tracker.follows(&rig.point) && !rig.tracker.has_begun());
    assert!(rig.tracker.is_due(NOW), "the new anchors are tried at once");
    // The first is still configured, and signs, and is not believed.
    rig.see(2, &set(&[&one], &[&one])).unwrap_err();
    rig.see(2, &set(&[&one, &three], &[&one, &three])).unwrap();
    assert_eq!(rig.state(&one), Some(State::Revoked));
    assert_eq!(rig.tracker.trusted(), std::slice::from_ref(&three.key));
}

#[test]
fn waits_pass_by_the_wall_clock_and_signatures_are_judged_at_the_second_that_is_fixed() {
    let (old, new) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&old);
    let both = set(&[&old, &new], &[&old]);
    let mut see = |wall, judged| {
        let at = Moment { wall, judged };
        rig.tracker.observe(&both, &rig.point, at, &mut Work::of_one_question())
    };
    see(1_000, NOW).unwrap();
    see(1_000 + ADD_HOLD_SECS - 1, NOW).unwrap();
    let changes = see(1_000 + ADD_HOLD_SECS, NOW).unwrap();
    assert_eq!(changes, [Change { tag: new.key.tag, to: Some(State::Valid) }]);
    // Where it is judged, not by the wall clock, they have expired.
    see(1_000 + ADD_HOLD_SECS, NOW + 500 * DAY_SECS).unwrap_err();
}

#[test]
fn a_question_is_due_when_its_time_has_come_or_the_clock_was_set_back() {
    let old = Signer::new("t.");
    let mut rig = Rig::new(&old);
    assert!(rig.tracker.is_due(NOW), "at once");
    rig.see(0, &set(&[&old], &[&old])).unwrap();
    let due = rig.tracker.due_at();
    assert!(!rig.tracker.is_due(due - 1) && rig.tracker.is_due(due));
    assert!(rig.tracker.is_due(due - 16 * DAY_SECS));
    assert!(!rig.tracker.is_due(NOW));
    rig.tracker.hasten();
    assert!(rig.tracker.is_due(NOW));
}

#[test]
fn the_state_survives_being_written_and_read() {
    let (old, new) = (Signer::new("t."), Signer::new("t."));
    let mut rig = Rig::new(&old);
    rig.see(0, &set(&[&old, &new], &[&old])).unwrap();
    let other = Tracker::new(Name::root(), &rig.point);
    let text = write([&rig.tracker, &other]);
    assert!(text.starts_with("resolverd-rfc5011 1\nzone t.\nconfigured "), "{text}");
    assert_eq!(read(&text), Ok(vec![rig.tracker.clone(), other]));
    assert_eq!(read(&write([])), Ok(Vec::new()));
    rig.tracker = read(&text).unwrap().remove(0);
    rig.see(30, &set(&[&old, &new], &[&old])).unwrap();
    assert_eq!(rig.state(&new), Some(State::Valid), "its wait went on");
}

#[test]
fn a_state_that_is_not_one_is_refused_with_words() {
    let tracker = Rig::new(&Signer::new("t.")).tracker;
    let good = write([&tracker]);
    let refused = |text: &str| read(text).unwrap_err();
    assert_eq!(refused(""), StateError::Magic);
    assert_eq!(refused("something else\n"), StateError::Magic);
    assert_eq!(refused(&good.replace(" 1\n", " 2\n")), StateError::Newer(2));
    let (body, _) = good.split_once("sum ").unwrap();
    for short in [body, &body[..40], good.trim_end()] {
        assert_eq!(refused(short), StateError::Short, "{short}");
    }
    // Each octet counts.
    for at in "resolverd-rfc5011 1\n".len()..body.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] ^= 1;
        assert_eq!(refused(str::from_utf8(&changed).unwrap()), StateError::Sum, "{at}");
    }
    // Somebody who mends the sum is told of what is wrong besides.
    let sealed = |body: &str| {
        let sum = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        format!("{body}sum {}\n", data_encoding::HEXLOWER.encode(sum.as_ref()))
    };
    for (line, bad) in [
        (2, body.replace("zone t.", "zone ..")),
        (2, body.replace("zone t.\n", "")),
        (3, body.replace("configured ", "configured 00")),
        (4, body.replace("begun never", "begun today")),
        (5, body.replace("seen never", "seen 1 2")),
        (6, body.replace("due 0", "due never")),
        (7, format!("{body}key valid 1 !!!\n")),
        (7, format!("{body}key happy 1 AQEDDwE=\n")),
        (7, format!("{body}what is this\n")),
        (7 + KEYS_MAX, body.to_owned() + &"key valid 1 AQEDDwE=\n".repeat(KEYS_MAX + 1)),
        (2 + FOLLOWED_MAX, "resolverd-rfc5011 1\n".to_owned() + &"zone t.\n".repeat(65)),
    ] {
        let refused = refused(&sealed(&bad));
        assert!(matches!(refused, StateError::Line(at, _) if at == line), "{refused:?}\n{bad}");
    }
}
