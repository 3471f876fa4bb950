//! The DNS message, read by the contract's parser.

use resolverd_common::counters::Reason;
use resolverd_common::question::{self, HEADER_LEN, MESSAGE_MAX, START};
use resolverd_common::settings::Settings;
use resolverd_common::unknown;

use crate::frame::Frame;
use crate::maps::Scratch;
use crate::packet::Packet;

/// Copies the message to the scratch.
#[inline(always)]
pub fn load<P: Packet>(packet: &P, frame: &Frame, scratch: &mut Scratch) -> Result<(), Reason> {
    if frame.dns_len < HEADER_LEN || frame.dns_len > MESSAGE_MAX {
        return Err(Reason::Malformed);
    }
    scratch.question.name_len = frame.dns_len - HEADER_LEN;
    // Between 12 and 523 for the verifier, which needs both bounds in the code.
    let len = (unknown(&mut scratch.question.name_len) & 511) + HEADER_LEN;
    // SAFETY: the buffer of the message has `MESSAGE_MAX` octets from `START` on, and what
    // the mask would let through besides would fall on the name, which is written next.
    let loaded = unsafe {
        let buffer = (&raw mut scratch.message).cast::<u8>().add(START);
        packet.load(frame.dns(), buffer, len)
    };
    if loaded { Ok(()) } else { Err(Reason::Malformed) }
}

/// Parses the message in the scratch.
#[inline(always)]
pub fn read(
    frame: &Frame,
    view: u16,
    settings: &Settings,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    let len = frame.dns_len;
    let Scratch { message, name, question, .. } = scratch;
    question::parse(message, len, view, &settings.secret, name, question)
}
