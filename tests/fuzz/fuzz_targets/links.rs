//! What kept connections read of upstreams by themselves: whose answer a message is, and how long
//! the connection may be idle.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resolverd::clock::BootTime;
use resolverd::resolver::line::Ids;
use resolverd::resolver::options;

fuzz_target!(|input: &[u8]| {
    let _ = options::keepalive(input);
    let mut dressed = input.to_vec();
    options::dress(&mut dressed, true, true);
    assert!(dressed.starts_with(&input[..input.len().saturating_sub(2)]));
    // The first half asks, the second one answers; and what asks is its own answer.
    let (question, answer) = input.split_at(input.len() / 2);
    let (mut question, mut answer) = (question.to_vec(), answer.to_vec());
    let before = question.clone();
    let mut ids = Ids::default();
    if ids.put(BootTime::default(), 7, &mut question, ()).is_ok() {
        let _ = ids.take(&mut answer);
        if !ids.is_empty() {
            assert_eq!(ids.take(&mut question), Ok(()));
            assert_eq!(question, before);
        }
    }
});
