//! From the first octet to the UDP payload: is this a query for an address that we serve?

use resolverd_common::counters::Reason;
use resolverd_common::settings::{MAPPED, Settings};
use resolverd_common::unknown;

use crate::flows;
use crate::maps::{SERVED, Scratch};
use crate::packet::Packet;

pub const ETH_LEN: usize = 14;
pub const UDP_LEN: usize = 8;
pub const IPV4_LEN: usize = 20;
pub const IPV6_LEN: usize = 40;
const VLAN_LEN: usize = 4;
const ETH_IPV4: u16 = 0x0800u16.to_be();
const ETH_IPV6: u16 = 0x86ddu16.to_be();
const ETH_VLAN: u16 = 0x8100u16.to_be();
const ETH_QINQ: u16 = 0x88a8u16.to_be();
const PROTO_UDP: u8 = 17;
const CACHE_LINE: usize = 64;
/// More fragments, or a fragment offset.
const FRAGMENT: u16 = 0x3fffu16.to_be();
/// IPv6 headers that stand before another one (RFC 8200 section 4.1, and IPsec's).
const EXTENSIONS: [u8; 8] = [0, 43, 50, 51, 60, 135, 139, 140];
const EXTENSION_FRAGMENT: u8 = 44;

/// Where things are in the frame. Its addresses are in the scratch.
pub struct Frame {
    /// Octets of the frame as it came.
    pub len: usize,
    /// Where the IP header starts.
    pub ip: usize,
    pub v6: bool,
    /// Octets of DNS.
    pub dns_len: usize,
    /// In network order.
    pub source_port: u16,
    /// The source was admitted before; the scratch has as whom.
    pub known: bool,
}

impl Frame {
    #[inline(always)]
    pub fn udp(&self) -> usize {
        self.ip + if self.v6 { IPV6_LEN } else { IPV4_LEN }
    }

    #[inline(always)]
    pub fn dns(&self) -> usize {
        self.udp() + UDP_LEN
    }

    /// The same frame, of which the verifier knows no more than the bounds: it has followed every
    /// combination of tags, versions and lengths up to here, and would walk the rest of the program
    /// for each. `places` are the caller's, in map memory.
    #[inline(always)]
    pub fn anew(self, places: &mut Places) -> Self {
        *places = Places {
            len: self.len,
            ip: self.ip,
            v6: self.v6 as usize,
            dns_len: self.dns_len,
            source_port: self.source_port as usize,
        };
        Self {
            len: unknown(&mut places.len) & (u16::MAX as usize),
            ip: unknown(&mut places.ip) & IP_MASK,
            v6: unknown(&mut places.v6) != 0,
            dns_len: unknown(&mut places.dns_len) & (u16::MAX as usize),
            source_port: unknown(&mut places.source_port) as u16,
            known: false,
        }
    }
}

/// What [`Frame::anew`] passes through memory.
#[repr(C)]
pub struct Places {
    len: usize,
    ip: usize,
    v6: usize,
    dns_len: usize,
    source_port: usize,
}

/// The IP header begins at 22 at the latest.
const IP_MASK: usize = 31;

/// The frame of a query to us.
#[inline(always)]
pub fn read<P: Packet>(
    packet: &P,
    settings: &Settings,
    scratch: &mut Scratch,
) -> Result<Frame, Reason> {
    // The longest way to the UDP payload, or all there is. XDP has it in reach already.
    let need = ETH_LEN + 2 * VLAN_LEN + IPV6_LEN + UDP_LEN;
    let (data, end) = packet.bounds();
    if data + need > end && packet.len() > end - data {
        let want = if packet.len() < need { packet.len() } else { need };
        if !packet.pull(want as u32) {
            return Err(Reason::NotDns);
        }
    }
    // Most questions reach into the frame's second cache line: asked for now, it comes while
    // the first one is waited for, and not after.
    if let Some(ahead) = packet.at::<u8>(CACHE_LINE) {
        // SAFETY: `at` proved the octet. Volatile, for nobody wants its value.
        let _ = unsafe { ahead.read_volatile() };
    }
    let mut at = 12;
    let mut ethertype = be16(packet, at).ok_or(Reason::NotDns)?;
    if ethertype == ETH_VLAN || ethertype == ETH_QINQ {
        at += VLAN_LEN;
        ethertype = be16(packet, at).ok_or(Reason::NotDns)?;
        if ethertype == ETH_VLAN {
            at += VLAN_LEN;
            ethertype = be16(packet, at).ok_or(Reason::NotDns)?;
        }
    }
    let ip = at + 2;
    if ethertype == ETH_IPV4 {
        ipv4(packet, settings, scratch, ip)
    } else if ethertype == ETH_IPV6 {
        ipv6(packet, settings, scratch, ip)
    } else {
        Err(Reason::NotDns)
    }
}

#[inline(always)]
fn ipv4<P: Packet>(
    packet: &P,
    settings: &Settings,
    scratch: &mut Scratch,
    ip: usize,
) -> Result<Frame, Reason> {
    let header = packet.at::<[u16; IPV4_LEN / 2]>(ip).ok_or(Reason::NotDns)?;
    // SAFETY: `at` proved the 20 octets; a frame's parts are aligned to 2. Nobody else writes
    // the packet while the program runs.
    let h = unsafe { &*header };
    let [version_ihl, _] = h[0].to_ne_bytes();
    let [_, protocol] = h[4].to_ne_bytes();
    if protocol != PROTO_UDP || version_ihl >> 4 != 4 {
        return Err(Reason::NotDns);
    }
    if version_ihl != 0x45 {
        // Where the ports are depends on the options: only a packet to a served address
        // counts, and there is one answer for all of these anyhow.
        return Err(Reason::ExtensionHeader);
    }
    if h[3] & FRAGMENT != 0 {
        return Err(Reason::Fragment);
    }
    let mut sum = 0;
    for word in h {
        sum += *word as u64;
    }
    let total = u16::from_be(h[1]) as usize;
    let checks = resolverd_common::sum::fold(sum) == 0xffff;
    let port = port(packet, settings, ip + IPV4_LEN)?;
    scratch.source.data = [0, 0, MAPPED, word(h[6], h[7])];
    scratch.served.address = [0, 0, MAPPED, word(h[8], h[9])];
    udp(packet, scratch, ip, false, total, checks, port)
}

#[inline(always)]
fn ipv6<P: Packet>(
    packet: &P,
    settings: &Settings,
    scratch: &mut Scratch,
    ip: usize,
) -> Result<Frame, Reason> {
    let header = packet.at::<[u16; IPV6_LEN / 2]>(ip).ok_or(Reason::NotDns)?;
    // SAFETY: as for IPv4.
    let h = unsafe { &*header };
    let [version, _] = h[0].to_ne_bytes();
    let [next, _] = h[3].to_ne_bytes();
    if version >> 4 != 6 {
        return Err(Reason::NotDns);
    }
    if next != PROTO_UDP {
        if next == EXTENSION_FRAGMENT {
            return Err(Reason::Fragment);
        }
        for extension in EXTENSIONS {
            if next == extension {
                return Err(Reason::ExtensionHeader);
            }
        }
        return Err(Reason::NotDns);
    }
    let total = IPV6_LEN + u16::from_be(h[2]) as usize;
    // IPv4-mapped addresses are no addresses of packets (RFC 4942 section 2.2): here they
    // would pass for the IPv4 ones.
    let mapped = |a: usize| h[a] | h[a + 1] | h[a + 2] | h[a + 3] | h[a + 4] == 0;
    if (mapped(4) && h[9] == 0xffff) || (mapped(12) && h[17] == 0xffff) {
        return Err(Reason::SourceInvalid);
    }
    let port = port(packet, settings, ip + IPV6_LEN)?;
    let mut i = 0;
    while i < 4 {
        scratch.source.data[i] = word(h[4 + 2 * i], h[5 + 2 * i]);
        scratch.served.address[i] = word(h[12 + 2 * i], h[13 + 2 * i]);
        i += 1;
    }
    udp(packet, scratch, ip, true, total, true, port)
}

/// Two 16-bit parts of an address in one, in memory order.
#[inline(always)]
fn word(first: u16, second: u16) -> u32 {
    if cfg!(target_endian = "little") {
        first as u32 | (second as u32) << 16
    } else {
        (first as u32) << 16 | second as u32
    }
}

/// The destination port, if it is a served one: where most packets that are no DNS leave.
#[inline(always)]
fn port<P: Packet>(packet: &P, settings: &Settings, udp: usize) -> Result<u16, Reason> {
    let port = be16(packet, udp + 2).ok_or(Reason::NotDns)?;
    let [a, b, c, d] = settings.ports;
    if port == 0 || (port != a && port != b && port != c && port != d) {
        return Err(Reason::NotDns);
    }
    Ok(port)
}

#[inline(always)]
fn udp<P: Packet>(
    packet: &P,
    scratch: &mut Scratch,
    ip: usize,
    v6: bool,
    ip_len: usize,
    checks: bool,
    port: u16,
) -> Result<Frame, Reason> {
    scratch.served.ifindex = packet.ifindex();
    scratch.served.port = port;
    scratch.served.reserved = 0;
    let known = flows::recall(scratch);
    if !known {
        // SAFETY: an element of a hash map that is not preallocated stays readable for the run,
        // by RCU, even when it is removed meanwhile.
        scratch.interface = *unsafe { SERVED.get(&scratch.served) }.ok_or(Reason::NotServed)?;
    }
    let at = ip + if v6 { IPV6_LEN } else { IPV4_LEN };
    let header = packet.at::<[u16; UDP_LEN / 2]>(at).ok_or(Reason::NotDns)?;
    // SAFETY: `at` proved the 8 octets, aligned to 2.
    let [source_port, _, len, checksum] = unsafe { *header };
    let mac = packet.at::<[u16; 3]>(0).ok_or(Reason::NotDns)?;
    let [m, n, o, p, q, r] = scratch.interface.mac;
    let ours = [u16::from_ne_bytes([m, n]), u16::from_ne_bytes([o, p]), u16::from_ne_bytes([q, r])];
    // SAFETY: `at` proved the 6 octets, aligned to 2.
    if unsafe { *mac } != ours {
        return Err(Reason::Mac);
    }
    let frame_len = packet.len();
    let udp_len = u16::from_be(len) as usize;
    // Over IPv6 a datagram without a checksum is discarded (RFC 8200 section 8.1).
    let checks = checks && !(v6 && checksum == 0);
    if !checks || udp_len < UDP_LEN || at - ip + udp_len != ip_len || ip + ip_len > frame_len {
        return Err(Reason::Malformed);
    }
    let from = u16::from_be(source_port);
    if from == 0 || (from < 1024 && from != 53 && from != 853) {
        return Err(Reason::SourcePort);
    }
    Ok(Frame { len: frame_len, ip, v6, dns_len: udp_len - UDP_LEN, source_port, known })
}

#[inline(always)]
fn be16<P: Packet>(packet: &P, at: usize) -> Option<u16> {
    // SAFETY: `at` proved the 2 octets, aligned to 2.
    packet.at::<u16>(at).map(|two| unsafe { *two })
}
