//! BPF programs that only the benchmark loads: a floor to measure against, and a flood.
//!
//! `empty_pass` and `empty_tx` cost what any program costs. `reflect` is the least that an
//! answering program can do. `flood` turns frames of a live test run into queries, `sink` counts
//! the answers. None of this is in the daemon: no map or constant is shared with its program.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a BPF program reads packets and maps through raw pointers")]

use core::mem::size_of;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;

/// Costs nothing and lets the packet go on: what "pass" is measured against.
#[xdp]
pub fn empty_pass(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Costs nothing and sends the packet back: what "hit" is measured against.
#[xdp]
pub fn empty_tx(_: XdpContext) -> u32 {
    XDP_TX
}

/// The least that an answering program can do: check, swap, set QR, send back.
#[xdp]
pub fn reflect(ctx: XdpContext) -> u32 {
    let Some(frame) = at::<Frame>(&ctx) else {
        return XDP_PASS;
    };
    // SAFETY: `at` has compared the frame's end with the packet's.
    let f = unsafe { &mut *frame };
    if !f.is_dns_query() {
        return XDP_PASS;
    }
    let (source, dest) = (f.eth_source, f.eth_dest);
    f.eth_source = dest;
    f.eth_dest = source;
    let (source, dest) = (f.ip_source, f.ip_dest);
    f.ip_source = dest;
    f.ip_dest = source;
    let (source, dest) = (f.port_source, f.port_dest);
    f.port_source = dest;
    f.port_dest = source;
    f.udp_check = 0;
    f.dns_flags[0] |= QR;
    f.dns_flags[1] |= RA;
    XDP_TX
}

/// Makes a query of a live frame and sends it out of `OUT_IFINDEX`.
#[xdp]
pub fn flood(ctx: XdpContext) -> u32 {
    let (Some(tally), Some(template)) = (TALLY.get_ptr_mut(0), TEMPLATE.get(0)) else {
        return XDP_ABORTED;
    };
    // SAFETY: the element is this core's own, and a program is not interrupted by itself.
    let tally = unsafe { &mut *tally };
    // SAFETY: globals are read-only for the program; the loader set them before.
    let (gap, names, len, ifindex) = unsafe {
        (
            read_volatile(&raw const GAP_NANOS),
            read_volatile(&raw const NAMES),
            read_volatile(&raw const FRAME_LEN),
            read_volatile(&raw const OUT_IFINDEX),
        )
    };
    if gap > 0 {
        // A frame that is not due yet is dropped, and comes again.
        // SAFETY: the helper has no conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        if now < tally.next {
            tally.other += 1;
            return XDP_DROP;
        }
        let late = now - tally.next > LATE_NANOS_MAX;
        tally.next = if late { now } else { tally.next } + u64::from(gap);
    }
    let Some(bytes) = at::<[u8; TEMPLATE_LEN]>(&ctx) else {
        return XDP_ABORTED;
    };
    // The whole frame is written anew: it was recycled with what the server made of it.
    // SAFETY: `at` has compared the end of the template's length with the packet's.
    let bytes = unsafe { &mut *bytes };
    *bytes = *template;
    tally.packets += 1;
    tally.bytes += u64::from(len);
    // SAFETY: the helper has no conditions.
    let random = unsafe { bpf_get_prandom_u32() };
    bytes[DNS_OFFSET] = tally.packets as u8;
    bytes[DNS_OFFSET + 1] = (tally.packets >> 8) as u8;
    // Six digits of the first label, which is `nDDDDDD`.
    let mut rest = if names > 1 { random % names } else { 0 };
    let mut digit = DIGITS_OFFSET + 5;
    while names > 0 && digit >= DIGITS_OFFSET {
        bytes[digit] = b'0' + (rest % 10) as u8;
        rest /= 10;
        digit -= 1;
    }
    let port = 2048 + (random >> 17) as u16;
    bytes[PORT_OFFSET] = (port >> 8) as u8;
    bytes[PORT_OFFSET + 1] = port as u8;
    // Always a change of length: it makes the kernel write the frame's length anew as well.
    let delta = len as i32 - LIVE_FRAME_LEN;
    // SAFETY: the context is this run's own.
    if unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta) } != 0 {
        return XDP_ABORTED;
    }
    // SAFETY: the helper has no conditions.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}

/// Counts answers at the client and drops them, with all else of port 53.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    let (Some(tally), Some(frame)) = (TALLY.get_ptr_mut(0), at::<Frame>(&ctx)) else {
        return XDP_PASS;
    };
    // SAFETY: the element is this core's own; `at` has compared the frame's end.
    let (tally, f) = unsafe { (&mut *tally, &*frame) };
    if !f.is_udp() {
        return XDP_PASS;
    }
    if f.port_source == DNS_PORT && f.dns_flags[0] & QR != 0 {
        tally.packets += 1;
        tally.bytes += (ctx.data_end() - ctx.data()) as u64;
        if matches!(f.dns_flags[1] & RCODE, 1 | 2 | 4 | 5) {
            tally.failed += 1;
        }
        XDP_DROP
    } else if f.port_dest == DNS_PORT {
        // A query that `empty_tx` sent back.
        tally.other += 1;
        XDP_DROP
    } else {
        XDP_PASS
    }
}

/// Ethernet, IPv4 without options, UDP and the first octets of DNS. Words, because the compiler
/// moves what is not aligned octet by octet; a packet's start is even. Big-endian as on the wire.
#[repr(C)]
struct Frame {
    eth_dest: [u16; 3],
    eth_source: [u16; 3],
    eth_type: u16,
    ip_version_ihl_tos: [u8; 2],
    ip_len: u16,
    ip_id: u16,
    ip_fragment: u16,
    ip_ttl: u8,
    ip_protocol: u8,
    ip_check: u16,
    ip_source: [u16; 2],
    ip_dest: [u16; 2],
    port_source: u16,
    port_dest: u16,
    udp_len: u16,
    udp_check: u16,
    dns_id: u16,
    dns_flags: [u8; 2],
    dns_counts: [u16; 4],
}

impl Frame {
    #[inline(always)]
    fn is_udp(&self) -> bool {
        self.eth_type == 0x0800_u16.to_be()
            && self.ip_version_ihl_tos[0] == 0x45
            && self.ip_protocol == 17
            && self.ip_fragment & 0x3fff_u16.to_be() == 0
    }

    /// A test run repeats on the packet that the run before left: with `REPEATED` an answer of our
    /// own is reflected again. On a wire that would be a loop.
    #[inline(always)]
    fn is_dns_query(&self) -> bool {
        // SAFETY: read-only for the program; the loader set it before.
        let repeated = unsafe { read_volatile(&raw const REPEATED) } != 0;
        self.is_udp() && self.port_dest == DNS_PORT && (repeated || self.dns_flags[0] & QR == 0)
    }
}

/// What `flood` sent, or `sink` received. The loader reads it as words, in this order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tally {
    packets: u64,
    bytes: u64,
    /// `flood`: frames dropped because they were not due. `sink`: queries come back.
    other: u64,
    /// `sink`: answers with FORMERR, SERVFAIL, NOTIMP or REFUSED.
    failed: u64,
    /// `flood`: when the next frame is due.
    next: u64,
}

/// A pointer to a `T` at the packet's start, if that much is there.
#[inline(always)]
fn at<T>(ctx: &XdpContext) -> Option<*mut T> {
    let start = ctx.data();
    (start + size_of::<T>() <= ctx.data_end()).then_some(start as *mut T)
}

#[map]
static TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);

/// The query that `flood` sends, padded.
#[map]
static TEMPLATE: Array<[u8; TEMPLATE_LEN]> = Array::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static OUT_IFINDEX: u32 = 0;
/// Nanoseconds from one frame to the next; 0: as fast as it goes.
#[unsafe(no_mangle)]
static GAP_NANOS: u32 = 0;
/// Names asked for; 0: the template's own name.
#[unsafe(no_mangle)]
static NAMES: u32 = 0;
/// Octets of the template that are sent.
#[unsafe(no_mangle)]
static FRAME_LEN: u32 = 0;
/// 1: `reflect` takes answers too.
#[unsafe(no_mangle)]
static REPEATED: u32 = 0;

/// Room for a query with EDNS and a cookie.
const TEMPLATE_LEN: usize = 160;
/// What the loader gives to the test run: longer than any template.
const LIVE_FRAME_LEN: i32 = 192;
/// Falling behind by more than this is not caught up.
const LATE_NANOS_MAX: u64 = 1_000_000;
const PORT_OFFSET: usize = 34;
const DNS_OFFSET: usize = 42;
const DIGITS_OFFSET: usize = DNS_OFFSET + 12 + 2;
const DNS_PORT: u16 = 53_u16.to_be();
const QR: u8 = 0x80;
const RA: u8 = 0x80;
const RCODE: u8 = 0x0f;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
