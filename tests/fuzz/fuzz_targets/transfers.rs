//! What a primary sends of a policy zone: notifications, the messages of a transfer, signatures.
//!
//! The parts of the input are messages. All are answers to what was asked but for what their
//! sender has wrong: the id is set right, so that the rest is reached.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use resolverd::dns::Name;
use resolverd::policy::rpz::machine::{Done, Incoming};
use resolverd::policy::rpz::tsig::{Key, TsigAlgorithm, Verifier, is_signed};
use resolverd::policy::rpz::{Zone, kept, text, wire};
use resolverd_fuzz::parts;
use ring::hmac;

static ORIGIN: LazyLock<Name> = LazyLock::new(|| "rpz.test.".parse().unwrap());
static KEY: LazyLock<Key> =
    LazyLock::new(|| Key::new("key.test.".parse().unwrap(), TsigAlgorithm::Sha256, &[7; 32]));
static SEAL: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
/// The version that there is already.
static HAVE: LazyLock<Arc<Zone>> = LazyLock::new(|| {
    let zone = b"@ SOA . . 1 3600 600 86400 60\nbad.example CNAME .\n32.1.2.0.192.rpz-ip CNAME .\n";
    Arc::new(text::read(&ORIGIN, zone).unwrap())
});

const NOW: u64 = 1_800_000_000;
const ID: u16 = 7;

fuzz_target!(|input: &[u8]| {
    let Some((choice, messages)) = input.split_first() else { return };
    let messages: Vec<_> = parts(messages).map(<[u8]>::to_vec).collect();
    if let Some(message) = messages.first() {
        notified(message);
    }
    signed(&messages);
    transferred(messages, *choice & 1 != 0);
});

fn notified(message: &[u8]) {
    if let Some(notification) = wire::notification(message) {
        let heard = wire::heard(message, &notification, 0);
        assert!(wire::notification(&heard).is_none(), "an answer is not heard as a question");
    }
}

/// Nobody without the secret signs, and what is signed is believed as it was and not otherwise.
fn signed(messages: &[Vec<u8>]) {
    let mut verifier = Verifier::new(KEY.clone(), &[1; 32]);
    for message in messages {
        let _ = is_signed(message);
        assert!(KEY.check_request(message, NOW).is_err());
        assert!(verifier.check(message, NOW).is_err());
        assert!(!verifier.is_complete());
    }
    let Some(message) = messages.first().filter(|message| message.len() >= 12) else { return };
    let mut message = message.clone();
    if is_signed(&message) || message[10..12] == [0xff; 2] {
        return;
    }
    let mac = KEY.sign(&mut message, None, NOW);
    if let Ok(believed) = KEY.check_request(&message, NOW) {
        assert_eq!(believed, mac);
        message[2] ^= 1;
        assert!(KEY.check_request(&message, NOW).is_err());
    }
}

fn transferred(messages: Vec<Vec<u8>>, changes: bool) {
    let mut incoming = Incoming::new(ORIGIN.clone(), changes.then(|| Arc::clone(&HAVE)));
    for mut message in messages {
        if let Some(id) = message.first_chunk_mut() {
            *id = ID.to_be_bytes();
        }
        let Ok(records) = wire::records_of(&message, ID) else { return };
        for record in records {
            match incoming.take(record) {
                Err(_) => return,
                Ok(None | Some(Done::Current)) => {}
                Ok(Some(Done::Whole(zone) | Done::Changes(zone))) => keeps(zone),
            }
        }
        let _ = incoming.pause();
    }
}

/// What was taken can be put away and comes back with the same rules.
fn keeps(mut zone: Zone) {
    zone.finish();
    assert!(zone.serial().is_some());
    let mut file = Vec::new();
    kept::write(&zone, "fuzz", &SEAL, &mut file).unwrap();
    let again = kept::read(&file, &ORIGIN, "fuzz", &SEAL).expect("ours can be read");
    assert_eq!(again.len(), zone.len());
    assert_eq!(again.serial(), zone.serial());
}
