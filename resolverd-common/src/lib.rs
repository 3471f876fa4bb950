//! The contract between the kernel program and the daemon.
//!
//! One question parser, one key, one entry, one reply, one clock: both sides run the code of
//! this crate, so that what the kernel answers is what the daemon would have answered in that
//! moment. Knows nothing of maps, sockets or runtimes. All loops are bounded and all indexes
//! masked, for the oldest verifier that is promised as much as for the reader.

#![cfg_attr(not(test), no_std)]

pub mod cookie;
pub mod counters;
pub mod entry;
pub mod event;
pub mod key;
pub mod limits;
pub mod maps;
mod pod;
pub mod question;
pub mod reply;
pub mod settings;
pub mod sum;
pub mod time;

/// The number of this contract. It stands in the path of every pin: a daemon never touches
/// maps whose layout it does not know. Raise it with any change to a type of this crate.
pub const ABI: u32 = 3;

/// Reads a number back from the caller's place, as if anything might stand there.
///
/// The verifier follows every value that a number can have and would walk the rest of the
/// program anew for each. A number that comes out of a map is unknown to it, once; the mask
/// that the caller puts on it then stays in the code, where the verifier can see the bound.
#[inline(always)]
#[must_use]
pub fn unknown(place: &mut usize) -> usize {
    if cfg!(target_arch = "bpf") { *core::hint::black_box(place) } else { *place }
}
