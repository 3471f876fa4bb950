//! The cache's file and dumps: whatever octets stand there, reading them does no harm, and what
//! is taken of them is an entry that the contract's code can answer from.
//!
//! The first octet chooses: a file as it stands, one whose chunk bears a good MAC (so that the
//! items are reached), one answer, or a dump.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use resolverd::cache::file::{self, Header, Item, Items, Reader, Writer};
use resolverd::cache::kept::{Desk, Kept, Moment};
use resolverd::control::dump::Dump;
use resolverd_common::entry::{body_of, head_of, name_of};
use ring::hmac;

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));

const NOW: Moment = Moment { boot: 1 << 40, wall: 1_800_000_000_000_000_000 };

fuzz_target!(|input: &[u8]| {
    let Some((choice, octets)) = input.split_first() else { return };
    match choice % 4 {
        0 => {
            let _ = file::verify(octets, &KEY);
            let whole = [b"resolverd-cache 1\n", octets].concat();
            let _ = file::verify(&*whole, &KEY);
        }
        1 => sealed(octets),
        2 => drop(Kept::read(octets).map(|(kept, _)| revive(&kept))),
        _ => {
            if let Ok(dump) = Dump::read(octets) {
                assert!(dump.lines().count() as u64 == dump.end.entries);
            }
        }
    }
});

/// Items that bear a good MAC come back as they were written.
fn sealed(octets: &[u8]) {
    let header = Header { nonce: [1; 16], written_at: NOW.wall, policy: 3 };
    let mut writer = Writer::begin(Vec::new(), &KEY, &header).unwrap();
    writer.answer(|out| out.extend_from_slice(octets)).unwrap();
    let whole = writer.end().unwrap();
    assert_eq!(file::verify(&*whole, &KEY).unwrap(), header);
    let mut reader = Reader::begin(&*whole, &KEY).unwrap();
    while let Some(items) = reader.chunk().unwrap() {
        for item in items.flatten() {
            if let Item::Answer(kept) = item {
                revive(&kept);
            }
        }
    }
    assert!(Items(octets).count() <= octets.len());
}

fn revive(kept: &Kept<'_>) {
    let mut desk = Desk::default();
    let Ok(head) = kept.revive(1, NOW, &mut desk) else { return };
    assert_eq!(head_of(&desk.words), Some(head));
    assert_eq!(name_of(&desk.words, &head), kept.name);
    assert_eq!(body_of(&desk.words, &head).len(), kept.body.len());
    assert!(head.is_fresh(NOW.boot));
    assert!(head.life_millis <= kept.life_millis.max(1));
    if let Ok(query) = kept.query() {
        assert_eq!(query.meta(), head.meta);
    }
}
