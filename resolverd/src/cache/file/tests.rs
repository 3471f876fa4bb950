//! Files that are whole, and all the ways in which they are not.

use proptest::prelude::*;
use resolverd_common::entry::Flags;
use resolverd_common::key as contract;

use super::*;

const HEADER: Header = Header { nonce: [7; 16], written_at: 1, policy: 2 };

fn key(octet: u8) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &[octet; 32])
}

/// An answer for `aNNNNNN.` with so many octets of body, as it stands in a file.
fn answer(n: u32, body: u16) -> Vec<u8> {
    let mut octets = vec![0; 40];
    let meta = contract::meta(1, 0, 9, false, false);
    octets[8..16].copy_from_slice(&meta.to_le_bytes());
    octets[36..38].copy_from_slice(&body.to_le_bytes());
    octets.extend_from_slice(format!("\x07a{n:06}\0").as_bytes());
    octets.resize(octets.len() + usize::from(body), 1);
    octets
}

fn file(answers: u32, body: u16) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &key(1), &HEADER).unwrap();
    writer.origin(5, "upstream one").unwrap();
    for n in 0..answers {
        writer.answer(|out| out.extend(answer(n, body))).unwrap();
    }
    writer.end().unwrap()
}

/// Origins and answers of a file.
fn items(octets: &[u8], with: u8) -> Result<(usize, usize), FileError> {
    let mut reader = Reader::begin(octets, &key(with))?;
    let (mut origins, mut answers) = (0, 0);
    while let Some(items) = reader.chunk()? {
        for item in items {
            match item? {
                Item::Origin(number, text) => {
                    assert_eq!((number, text), (5, "upstream one"));
                    origins += 1;
                }
                Item::Answer(kept) => {
                    assert_eq!((kept.name.len(), kept.flags), (9, Flags(0)));
                    answers += 1;
                }
            }
        }
    }
    Ok((origins, answers))
}

#[test]
fn what_is_written_is_read_in_one_chunk_or_in_many() {
    for (answers, body) in [(0, 0), (1, 10), (100, 60_000), (20_000, 100)] {
        let file = file(answers, body);
        assert!(file.starts_with(b"resolverd-cache 1\n"));
        assert_eq!(verify(&*file, &key(1)).unwrap(), HEADER);
        assert_eq!(items(&file, 1).unwrap(), (1, answers as usize));
    }
}

#[test]
fn another_key_a_changed_octet_and_a_short_file_are_found_wherever_they_are() {
    let whole = file(3, 20);
    assert!(matches!(verify(&*whole, &key(2)), Err(FileError::Mac)));
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(verify(&*changed, &key(1)).is_err(), "octet {at}");
        assert!(items(&changed, 1).is_err(), "octet {at}");
        assert!(verify(&whole[..at], &key(1)).is_err(), "{at} octets");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(verify(&*longer, &key(1)), Err(FileError::Trailing)));
}

#[test]
fn chunks_that_are_left_out_moved_or_from_another_file_are_found() {
    let whole = file(80, 60_000);
    let first = b"resolverd-cache 1\n".len() + HEADER_OCTETS;
    let mut starts = vec![first];
    let mut at = first;
    while at < whole.len() {
        let octets = u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        at += 5 + MAC_OCTETS + octets;
        starts.push(at);
    }
    let chunks: Vec<&[u8]> = starts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
    assert!(chunks.len() >= 4, "{}", chunks.len());
    let of = |order: &[usize]| {
        let mut file = whole[..first].to_vec();
        order.iter().for_each(|n| file.extend_from_slice(chunks[*n]));
        file
    };
    let all: Vec<usize> = (0..chunks.len()).collect();
    assert!(verify(&*of(&all), &key(1)).is_ok());
    for order in [&all[1..], &all[..all.len() - 1], &[1, 0, 2, 3][..], &[0, 0, 1, 2, 3][..]] {
        assert!(verify(&*of(order), &key(1)).is_err(), "{order:?}");
    }
    // The same key, another file.
    let other = Header { nonce: [8; 16], ..HEADER };
    let other = Writer::begin(Vec::new(), &key(1), &other).unwrap().end().unwrap();
    let mixed = [&other[..first], chunks[0]].concat();
    assert!(matches!(verify(&*mixed, &key(1)), Err(FileError::Mac)));
}

#[test]
fn files_of_others_and_of_other_versions_are_told_apart() {
    let rest = file(1, 1)[b"resolverd-cache 1\n".len()..].to_vec();
    let with = |line: &str| [line.as_bytes(), &rest].concat();
    let error = |line: &str| verify(&*with(line), &key(1)).unwrap_err();
    assert!(matches!(error("resolverd-cache 2\n"), FileError::Newer(2)));
    assert!(matches!(error("resolverd-cache 4294967295\n"), FileError::Newer(u32::MAX)));
    assert!(matches!(error("resolverd-cache 0\n"), FileError::Older(0)));
    for line in ["", "\n", "resolverd-cache\n", "resolverd-cache x\n", "unbound 1\n"] {
        assert!(matches!(error(line), FileError::NotOurs), "{line:?}");
    }
    assert!(matches!(verify(&[b'r'; 100][..], &key(1)), Err(FileError::NotOurs)));
    let newer = error("resolverd-cache 2\n").to_string();
    assert!(newer.contains("version 2") && newer.contains("newer"), "{newer}");
}

#[test]
fn a_chunk_that_says_it_is_vast_is_refused_before_there_is_room_for_it() {
    let mut changed = file(1, 1);
    let at = b"resolverd-cache 1\n".len() + HEADER_OCTETS;
    changed[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(verify(&*changed, &key(1)), Err(FileError::Malformed)));
}

proptest! {
    #[test]
    fn no_octets_behind_a_good_beginning_do_harm(
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let file = [b"resolverd-cache 1\n", &rest[..]].concat();
        prop_assert!(verify(&*file, &key(1)).is_err());
    }

    #[test]
    fn no_items_do_harm(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let read = Items(&octets).count();
        prop_assert!(read <= octets.len());
    }
}
