//! The clients that this CPU admitted lately, so that their next packet finds it said.
//!
//! Only admissions are kept: whoever is refused is refused by the maps, each time, with the
//! reason they give. What is kept is void as soon as the daemon has changed either map.

use resolverd_common::settings::{control, flow_index};

use crate::maps::{FLOWS, Scratch, control};

/// Whether the source in the scratch, to the address in it, was admitted and still is. Fills
/// in the interface and as whom.
#[inline(always)]
pub fn recall(scratch: &mut Scratch) -> bool {
    // Before the maps are read: a change that comes later voids what is kept of them.
    scratch.read_at = control(control::ADMISSION);
    let source = scratch.source.data;
    let Some(flow) = FLOWS.get_ptr(flow_index(&source, &scratch.served)) else {
        return false;
    };
    // SAFETY: an element of this CPU, which only the running program writes.
    let flow = unsafe { &*flow };
    if flow.read_at != scratch.read_at || flow.source != source || flow.served != scratch.served {
        return false;
    }
    scratch.interface = flow.interface;
    scratch.admitted = flow.admitted;
    true
}

/// Keeps what the maps said of the source in the scratch.
#[inline(always)]
pub fn keep(scratch: &Scratch) {
    let source = scratch.source.data;
    let Some(flow) = FLOWS.get_ptr_mut(flow_index(&source, &scratch.served)) else {
        return;
    };
    // SAFETY: as above.
    let flow = unsafe { &mut *flow };
    flow.source = source;
    flow.served = scratch.served;
    flow.interface = scratch.interface;
    flow.admitted = scratch.admitted;
    flow.read_at = scratch.read_at;
}
