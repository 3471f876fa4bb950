//! Who may ask, and as whom: before a hit, always.

use resolverd_common::counters::Reason;
use resolverd_common::settings::Source;

use crate::flows;
use crate::frame::Frame;
use crate::maps::{SOURCES, Scratch};

/// The most specific prefix of the source decides. A source of no prefix is denied.
#[inline(always)]
pub fn admit(frame: &Frame, scratch: &mut Scratch) -> Result<Source, Reason> {
    if frame.known {
        return Ok(scratch.admitted);
    }
    scratch.source.prefix_len = 128;
    let source = *SOURCES.get(&scratch.source).ok_or(Reason::Denied)?;
    if source.flags & Source::INVALID != 0 {
        return Err(Reason::SourceInvalid);
    }
    if source.flags & Source::OWN != 0 && scratch.interface.loopback == 0 {
        return Err(Reason::SourceOwn);
    }
    if source.flags & Source::ALLOWED == 0 {
        return Err(Reason::Denied);
    }
    scratch.admitted = source;
    flows::keep(scratch);
    Ok(source)
}
