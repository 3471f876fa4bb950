//! What a receiver of dnstap says to us, and what we show it: control frames, and replies whose
//! client is hidden.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resolverd::tap::fuzzed::{ClientPrefix, Control, hide_client, told};

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((control, length))) = Control::read(input) {
        assert!(length <= input.len());
        let _ = control.takes_dnstap();
        let mut written = Vec::new();
        control.write(&mut written);
        assert_eq!(written, input[..length]);
    }
    let _ = told(input);
    let mut hidden = input.to_vec();
    hide_client(&mut hidden, ClientPrefix::new(24, 56));
    assert_eq!(hidden.len(), input.len());
    // Hiding again hides no more, and what is told of the reply stays.
    let once = hidden.clone();
    hide_client(&mut hidden, ClientPrefix::new(24, 56));
    assert_eq!(hidden, once);
});
