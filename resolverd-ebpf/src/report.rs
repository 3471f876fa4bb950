//! Counts every packet by what became of it, and tells the daemon of some.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP};
use resolverd_common::counters::{Cookies, Counters, REASONS, Reason};
use resolverd_common::event::{Event, PREFETCH, RING_LEN, SAMPLE};
use resolverd_common::key::NAME_WORDS;
use resolverd_common::settings::Settings;

use crate::maps::{COUNTERS, EVENTS, Scratch};

/// Counts a packet that is passed.
#[inline(always)]
pub fn passed(reason: Reason) {
    if let Some(counters) = counters() {
        counters.passes[reason as usize & (REASONS - 1)] += 1;
    }
}

/// Counts a packet that is dropped.
#[inline(always)]
pub fn dropped(reason: Reason) {
    if let Some(counters) = counters() {
        counters.drops[reason as usize & (REASONS - 1)] += 1;
    }
}

/// Counts a packet that is answered; reports one in so many, and entries near their end.
#[inline(always)]
pub fn answered(
    source_port: u16,
    claim: *mut u32,
    settings: &Settings,
    scratch: &Scratch,
    now: u64,
) {
    let Some(counters) = counters() else {
        return;
    };
    let mut reason = Reason::Answered as usize;
    if scratch.reply.truncated {
        reason = Reason::Truncated as usize;
        if scratch.answer_max == 0 {
            reason = Reason::RateLimited as usize;
        } else {
            // The tightest of what bounds an answer.
            let size = scratch.question.udp_size.min(settings.edns_size) as usize;
            counters.amplified += (scratch.answer_max < size) as u64;
        }
    }
    counters.hits[reason & (REASONS - 1)] += 1;
    counters.cookies[scratch.cookie as usize & (Cookies::ALL.len() - 1)] += 1;
    counters.sampled += 1;
    let mut kind = 0;
    // Samples never wake the daemon, nor take the half of the buffer that is kept for who wants
    // to be fetched.
    if counters.sampled as u32 & settings.sampling_mask == 0 {
        if EVENTS.query(BPF_RB_AVAIL_DATA.into()) < RING_LEN as u64 / 2 {
            kind = SAMPLE;
        } else {
            counters.events_lost += 1;
        }
    }
    let head = &scratch.head;
    let left = head.expires_at() - now;
    let life = head.life_millis as u64 * resolverd_common::time::MILLI;
    if left <= (life >> 8) * settings.prefetch_share as u64 {
        // SAFETY: an aligned half-word of a live value. Nothing but claims is ever stored
        // there beside whole values: an element that was reused meanwhile loses one report, and
        // two CPUs that meet here send two, which the daemon's single flight makes one again.
        unsafe {
            if claim.read_volatile() == 0 {
                claim.write_volatile(1);
                kind = PREFETCH;
            }
        }
    }
    if kind != 0 {
        send(kind, counters, source_port, scratch, now);
    }
}

#[inline(always)]
fn counters() -> Option<&'static mut Counters> {
    let counters = COUNTERS.get_ptr_mut(0)?;
    // SAFETY: this CPU's element, which only the running program writes.
    Some(unsafe { &mut *counters })
}

#[inline(always)]
fn send(kind: u32, counters: &mut Counters, source_port: u16, scratch: &Scratch, now: u64) {
    let Some(mut place) = EVENTS.reserve::<Event>(0) else {
        counters.events_lost += 1;
        return;
    };
    let event = place.as_mut_ptr();
    // SAFETY: the reserved place holds an `Event`; every field is written before it is sent.
    unsafe {
        (&raw mut (*event).at).write(now);
        (&raw mut (*event).meta).write(scratch.question.meta);
        (&raw mut (*event).kind).write(kind);
        (&raw mut (*event).ifindex).write(scratch.served.ifindex);
        (&raw mut (*event).source).write(scratch.source.data);
        let name = (&raw mut (*event).name).cast::<u64>();
        let mut i = 0;
        while i < NAME_WORDS {
            name.add(i).write(scratch.name[i]);
            i += 1;
        }
        (&raw mut (*event).port).write(source_port);
        (&raw mut (*event).reply_len).write(scratch.reply.len as u16);
        (&raw mut (*event).rcode).write(scratch.head.flags.rcode() as u16);
        (&raw mut (*event).reserved).write(0);
    }
    place.submit(if kind == SAMPLE { BPF_RB_NO_WAKEUP.into() } else { 0 });
}
