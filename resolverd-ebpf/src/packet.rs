//! The two kinds of packet: XDP's buffer and traffic control's socket buffer.
//!
//! The steps are written once, over [`Packet`]; the kinds differ in how they load, store and
//! resize, and in how a reply leaves.

use aya_ebpf::helpers::generated::{
    bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
    bpf_skb_store_bytes, bpf_xdp_adjust_tail, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use resolverd_common::question::MESSAGE_MAX;

/// What becomes of the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// It is the reply now: back where it came from.
    Reply,
    Drop,
}

/// Let the next program or the stack have it.
pub const TC_ACT_UNSPEC: i32 = -1;
pub const TC_ACT_SHOT: i32 = 2;

/// What is copied out at once, in octets.
const WORD: usize = size_of::<u32>();
/// The most that is copied out, in octets.
const LOAD_MAX: usize = MESSAGE_MAX;
/// Bounds an index below [`LOAD_MAX`] where the verifier sees it.
const LOAD_MASK: usize = LOAD_MAX.next_power_of_two() - 1;

pub trait Packet {
    /// The first octet of the part that can be read directly, and the one behind its last.
    fn bounds(&self) -> (usize, usize);
    /// Octets of the whole frame.
    fn len(&self) -> usize;
    fn ifindex(&self) -> u32;
    /// Makes `len` octets directly readable where that is not so by itself.
    fn pull(&self, len: u32) -> bool;
    /// Copies `len` octets out, from `offset` of the frame.
    ///
    /// # Safety
    ///
    /// `to` takes `len` octets.
    unsafe fn load(&self, offset: usize, to: *mut u8, len: usize) -> bool;
    /// Copies `len` octets in.
    ///
    /// # Safety
    ///
    /// `from` has `len` octets.
    unsafe fn store(&self, offset: usize, from: *const u8, len: usize) -> bool;
    /// Whether the datagram whose checksum is at `offset` gets its sum only when it leaves the
    /// machine: the field is then to hold the sum of the pseudo-header and no more. The field
    /// means nothing thereafter, and all pointers into the packet are void.
    fn is_summed_later(&self, offset: usize) -> bool;
    /// Grows or trims the end of the frame. All pointers into it are void thereafter.
    fn resize(&self, from: usize, to: usize) -> bool;

    /// A pointer to a `T` at `offset`, if the directly readable part holds it.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let (data, end) = self.bounds();
        if data + offset + size_of::<T>() > end {
            return None;
        }
        Some((data + offset) as *mut T)
    }
}

pub struct XdpPacket(pub XdpContext);
pub struct TcPacket(pub TcContext);

impl Packet for XdpPacket {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.0.data(), self.0.data_end())
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.data_end() - self.0.data()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn pull(&self, _len: u32) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn load(&self, offset: usize, to: *mut u8, len: usize) -> bool {
        // Word by word and not by the helper, whose string move cannot be overlapped with what
        // stands around it: a tenth of a hit.
        let (data, end) = self.bounds();
        let mut from = data + offset;
        let mut done = 0;
        while done < LOAD_MAX {
            if done + WORD > len {
                break;
            }
            if from + WORD > end {
                return false;
            }
            // SAFETY: checked against the end of the packet; the caller vouches for `to`. This
            // target and the machines it runs on load and store words at any address.
            unsafe { to.add(done).cast::<u32>().write(*(from as *const u32)) };
            from += WORD;
            done += WORD;
        }
        let mut rest = 0;
        while rest < WORD - 1 {
            if done >= len {
                break;
            }
            if from + 1 > end {
                return false;
            }
            // SAFETY: as above. `done` is below `LOAD_MAX` here: the mask changes nothing.
            unsafe { to.add(done & LOAD_MASK).write(*(from as *const u8)) };
            from += 1;
            done += 1;
            rest += 1;
        }
        true
    }

    #[inline(always)]
    unsafe fn store(&self, offset: usize, from: *const u8, len: usize) -> bool {
        // SAFETY: the context is the kernel's; the caller vouches for `from`, which the
        // helper only reads.
        unsafe {
            bpf_xdp_store_bytes(self.0.ctx, offset as u32, from.cast_mut().cast(), len as u32) == 0
        }
    }

    #[inline(always)]
    fn is_summed_later(&self, _offset: usize) -> bool {
        // What is sent back from here is not summed again.
        false
    }

    #[inline(always)]
    fn resize(&self, from: usize, to: usize) -> bool {
        // SAFETY: the context is the kernel's. Pointers are taken anew after this.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, to as i32 - from as i32) == 0 }
    }
}

impl TcPacket {
    /// Sends the packet out of the interface it came in by.
    #[inline(always)]
    pub fn send_back(&self) -> i32 {
        // SAFETY: the helper takes numbers only.
        unsafe { bpf_redirect(self.ifindex(), 0) as i32 }
    }
}

impl Packet for TcPacket {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.0.data(), self.0.data_end())
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel's context is readable for the length of the run.
        unsafe { (*self.0.skb.skb).ifindex }
    }

    #[inline(always)]
    fn pull(&self, len: u32) -> bool {
        // SAFETY: the context is the kernel's. Pointers are taken anew after this.
        unsafe { bpf_skb_pull_data(self.0.skb.skb, len) == 0 }
    }

    #[inline(always)]
    unsafe fn load(&self, offset: usize, to: *mut u8, len: usize) -> bool {
        // SAFETY: the context is the kernel's; the caller vouches for `to`.
        unsafe {
            bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, to.cast(), len as u32) == 0
        }
    }

    #[inline(always)]
    unsafe fn store(&self, offset: usize, from: *const u8, len: usize) -> bool {
        // SAFETY: the context is the kernel's; the caller vouches for `from`.
        unsafe {
            bpf_skb_store_bytes(self.0.skb.skb, offset as u32, from.cast(), len as u32, 0) == 0
        }
    }

    #[inline(always)]
    fn is_summed_later(&self, offset: usize) -> bool {
        // A sender on this machine, or in a guest of it, leaves the sum to the device
        // (CHECKSUM_PARTIAL). Nothing tells so but this helper: there it changes nothing.
        let Some(before) = self.at::<u16>(offset) else {
            return false;
        };
        // SAFETY: `at` proved the 2 octets, aligned to 2.
        let before = unsafe { before.read() };
        // SAFETY: the context is the kernel's. Pointers are taken anew after this.
        if unsafe { bpf_l4_csum_replace(self.0.skb.skb, offset as u32, 0, 1, 2) } != 0 {
            return false;
        }
        // SAFETY: as above.
        self.at::<u16>(offset).is_some_and(|after| unsafe { after.read() } == before)
    }

    #[inline(always)]
    fn resize(&self, _from: usize, to: usize) -> bool {
        // SAFETY: the context is the kernel's. Pointers are taken anew after this.
        unsafe { bpf_skb_change_tail(self.0.skb.skb, to as u32, 0) == 0 }
    }
}
