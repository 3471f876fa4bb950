//! Turns the packet into its answer, in place.
//!
//! Resizes before it touches an octet: a packet that cannot be resized is passed as it came.
//! The question, its casing and the identifier stay where they are.

use resolverd_common::counters::Reason;
use resolverd_common::entry::TTLS_MAX;
use resolverd_common::question::HEADER_LEN;
use resolverd_common::reply::{self, Limits, OPT_WORDS};
use resolverd_common::settings::Settings;
use resolverd_common::{sum, unknown};

use crate::frame::{Frame, IPV4_LEN, IPV6_LEN, UDP_LEN};
use crate::maps::{ENTRY_WORDS, Scratch};
use crate::packet::{Packet, Verdict};

/// TTL and hop limit of a reply (RFC 1700).
const HOPS: u8 = 64;
const PROTO_UDP: u8 = 17;
/// Where the checksum is in the UDP header.
const CHECKSUM: usize = 6;

/// Offsets and lengths in the copied entry, in octets, as the verifier sees them.
const OCTETS_MASK: usize = ENTRY_WORDS * 4 - 1;
const OPT_MASK: usize = OPT_WORDS * 8 - 1;

/// Drops the packet, half-written, only where the kernel refuses to write what it has just
/// made room for.
#[inline(always)]
pub fn write<P: Packet>(
    packet: &P,
    frame: &Frame,
    settings: &Settings,
    scratch: &mut Scratch,
    now: u64,
) -> Result<Verdict, Reason> {
    let headers = UDP_LEN + if frame.v6 { IPV6_LEN } else { IPV4_LEN };
    let answer_max = scratch.answer_max.min(u16::MAX as usize) as u16;
    let limits = Limits {
        edns_size: settings.edns_size,
        message_max: scratch.interface.mtu.saturating_sub(headers as u16).min(answer_max),
        stream: false,
    };
    let Scratch { entry, head, question, reply, .. } = scratch;
    reply::compose::<ENTRY_WORDS, TTLS_MAX>(entry, head, question, &limits, now, reply);
    let dns = frame.dns();
    if !packet.resize(frame.len, dns + reply.len) {
        return Err(Reason::Grow);
    }

    let body_at = dns + HEADER_LEN + reply::question_len(question.name_len);
    let opt_at = body_at + reply.body_len;
    if reply.body_len > 0 {
        let from = unknown(&mut reply.body_at) & OCTETS_MASK;
        let len = (unknown(&mut reply.body_len).wrapping_sub(1) & OCTETS_MASK) + 1;
        // SAFETY: offset and length are half of the place for the entry at most each.
        let stored = unsafe {
            let octets = (&raw const *entry).cast::<u8>().add(from);
            packet.store(body_at, octets, len)
        };
        if !stored {
            return Ok(Verdict::Drop);
        }
    }
    if reply.opt_len > 0 {
        let len = (unknown(&mut reply.opt_len).wrapping_sub(1) & OPT_MASK) + 1;
        // SAFETY: the place has one octet more than the mask lets through.
        let stored = unsafe {
            let octets = (&raw const reply.opt).cast::<u8>();
            packet.store(opt_at, octets, len)
        };
        if !stored {
            return Ok(Verdict::Drop);
        }
    }

    let Some(eth) = packet.at::<[[u16; 3]; 2]>(0) else {
        return Ok(Verdict::Drop);
    };
    // SAFETY: `at` proved the 12 octets, aligned to 2.
    unsafe { *eth = [(*eth)[1], (*eth)[0]] };

    let udp_len = UDP_LEN + reply.len;
    let mut pseudo = (udp_len as u16).to_be() as u64 + (PROTO_UDP as u16).to_be() as u64;
    if frame.v6 {
        let Some(header) = packet.at::<[u16; IPV6_LEN / 2]>(frame.ip) else {
            return Ok(Verdict::Drop);
        };
        // SAFETY: `at` proved the 40 octets, aligned to 2.
        let h = unsafe { &mut *header };
        h[2] = (udp_len as u16).to_be();
        h[3] = u16::from_ne_bytes([PROTO_UDP, HOPS]);
        for i in 0..8 {
            let (source, target) = (h[4 + i], h[12 + i]);
            pseudo += source as u64 + target as u64;
            h[4 + i] = target;
            h[12 + i] = source;
        }
    } else {
        let Some(header) = packet.at::<[u16; IPV4_LEN / 2]>(frame.ip) else {
            return Ok(Verdict::Drop);
        };
        // SAFETY: `at` proved the 20 octets, aligned to 2.
        let h = unsafe { &mut *header };
        let (source, target) = ([h[6], h[7]], [h[8], h[9]]);
        // DF, no identification: an atomic datagram (RFC 6864 section 4.1).
        *h = [
            h[0],
            ((IPV4_LEN + udp_len) as u16).to_be(),
            0,
            0x4000u16.to_be(),
            u16::from_ne_bytes([HOPS, PROTO_UDP]),
            0,
            target[0],
            target[1],
            source[0],
            source[1],
        ];
        pseudo += source[0] as u64 + source[1] as u64 + target[0] as u64 + target[1] as u64;
        let mut header_sum = 0;
        for word in h.iter() {
            header_sum += *word as u64;
        }
        h[5] = !sum::fold(header_sum);
    }

    let summed_later = packet.is_summed_later(frame.udp() + CHECKSUM);
    let Some(header) = packet.at::<[u16; (UDP_LEN + HEADER_LEN) / 2]>(frame.udp()) else {
        return Ok(Verdict::Drop);
    };
    // SAFETY: `at` proved the 20 octets, aligned to 2.
    let h = unsafe { &mut *header };
    let (from, to) = (h[0], h[1]);
    let ports = from as u64 + to as u64 + (udp_len as u16).to_be() as u64;
    let whole = !sum::fold(pseudo + ports + reply.sum);
    let checksum = if summed_later { sum::fold(pseudo) } else { whole };
    h[0] = to;
    h[1] = from;
    h[2] = (udp_len as u16).to_be();
    // 0 means that there is none (RFC 768).
    h[3] = if checksum == 0 { 0xffff } else { checksum };
    let mut i = 0;
    while i < 5 {
        h[5 + i] = reply.header[i];
        i += 1;
    }
    Ok(Verdict::Reply)
}
