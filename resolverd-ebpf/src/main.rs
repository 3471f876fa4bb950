//! The fast path: answers DNS queries out of LRU maps, before the kernel's own stack sees them.
//!
//! The modules stand in the order in which a packet meets them: `frame` → `question` →
//! `policy` → `limits` → `score` → `lookup` → `reply` → `report`. What is not
//! fully understood is passed on untouched, with a counter that says why. Answers are only read
//! here; the daemon alone writes them.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "packets, maps and helpers are raw pointers here")]

mod flows;
mod frame;
mod limits;
mod lookup;
mod maps;
mod packet;
mod policy;
mod question;
mod reply;
mod report;
mod score;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use resolverd_common::counters::Reason;

use crate::packet::{Packet, TcPacket, Verdict, XdpPacket};

/// The XDP program, native or generic.
#[xdp]
pub fn resolverd_xdp(ctx: XdpContext) -> u32 {
    match path(&XdpPacket(ctx)) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Reply => xdp_action::XDP_TX,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// The same steps at the ingress of traffic control.
#[classifier]
pub fn resolverd_tc(ctx: TcContext) -> i32 {
    let packet = TcPacket(ctx);
    match path(&packet) {
        Verdict::Pass => packet::TC_ACT_UNSPEC,
        Verdict::Reply => packet.send_back(),
        Verdict::Drop => packet::TC_ACT_SHOT,
    }
}

/// The whole way of a packet.
#[inline(always)]
fn path<P: Packet>(packet: &P) -> Verdict {
    match answer(packet) {
        Ok(Verdict::Reply) => Verdict::Reply,
        Ok(other) => other,
        Err(reason) => {
            report::passed(reason);
            Verdict::Pass
        }
    }
}

#[inline(always)]
fn answer<P: Packet>(packet: &P) -> Result<Verdict, Reason> {
    let settings = maps::settings().ok_or(Reason::Lease)?;
    let scratch = maps::scratch().ok_or(Reason::Lease)?;
    let frame = frame::read(packet, settings, scratch)?;
    let source = policy::admit(&frame, scratch)?;
    let now = maps::alive()?;
    question::load(packet, &frame, scratch)?;
    let frame = frame.anew(&mut scratch.frame);
    question::read(&frame, source.view, settings, scratch)?;
    if limits::judge(source, frame.dns_len, settings, scratch, now) == limits::Judged::Drop {
        report::dropped(Reason::RateLimited);
        return Ok(Verdict::Drop);
    }
    score::judge();
    let claim = lookup::find(scratch, now)?;
    let verdict = reply::write(packet, &frame, settings, scratch, now)?;
    report::answered(frame.source_port, claim, settings, scratch, now);
    Ok(verdict)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
