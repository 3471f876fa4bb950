//! What the encrypted doors parse by themselves: the GET parameter of DNS over HTTPS, the header
//! of the PROXY protocol, EDNS options of the way, the validity of a certificate.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resolverd::server::fuzzed::{HEAD_OCTETS, Head, Records, Wishes, found, grant, of, parameter};

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(query) = parameter(text)
    {
        assert!(query.len() <= 4_096);
    }
    if let Some((head, rest)) = input.split_first_chunk::<HEAD_OCTETS>()
        && let Ok(head) = Head::parse(head)
        && let Some(rest) = rest.get(..head.rest)
    {
        let _ = head.told(rest);
    }
    let _ = of(input);
    let _ = Wishes::of(input);
    let _ = found(input);
    // What is put into a message leaves it as readable as it was.
    let seen = |message: &[u8]| Records::of(message).map_or(0, Iterator::count);
    let mut reply = input.to_vec();
    grant(&mut reply, true, Some(Duration::from_secs(10)));
    assert!(reply.len() <= usize::from(u16::MAX).max(input.len()));
    assert_eq!(seen(&reply), seen(input));
});
