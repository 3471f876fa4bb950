//! Frames by hand: written with every field that a test may want wrong, read with smoltcp.
//!
//! Nothing of the daemon or of its program is used: the sums are computed here on the way out, and
//! by smoltcp on the way back.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet,
    Ipv6Packet, UdpPacket,
};

pub type Mac = [u8; 6];

pub const UDP: u8 = 17;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;

/// A UDP datagram in an IP packet in a frame, right unless a field says otherwise.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub to_mac: Mac,
    pub from_mac: Mac,
    /// TPID and TCI, the outer one first.
    pub tags: Vec<[u16; 2]>,
    pub source: IpAddr,
    pub target: IpAddr,
    pub source_port: u16,
    pub target_port: u16,
    pub payload: Vec<u8>,
    /// Of IPv4, or the last next-header of IPv6.
    pub protocol: u8,
    /// Of IPv4; a multiple of four octets.
    pub options: Vec<u8>,
    /// Of IPv6: its number and octets. The first octet becomes the next header.
    pub extension: Option<(u8, Vec<u8>)>,
    /// Of IPv4: flags and offset.
    pub fragment: u16,
    /// Added to what is right.
    pub ip_len_error: i32,
    pub udp_len_error: i32,
    pub ip_sum_error: u16,
    /// No UDP checksum at all (RFC 768).
    pub unsummed: bool,
    /// Octets of Ethernet padding.
    pub padding: usize,
}

impl Datagram {
    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128 + self.payload.len());
        frame.extend(self.to_mac);
        frame.extend(self.from_mac);
        for word in self.tags.iter().flatten() {
            frame.extend(word.to_be_bytes());
        }
        let udp = self.udp();
        match (self.source, self.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                frame.extend([0x08, 0x00]);
                let header = 20 + self.options.len();
                let len = (header + udp.len()) as i32 + self.ip_len_error;
                let mut ip = vec![0x40 | (header / 4) as u8, 0];
                ip.extend((len as u16).to_be_bytes());
                ip.extend([0x12, 0x34]);
                ip.extend(self.fragment.to_be_bytes());
                ip.extend([37, self.protocol, 0, 0]);
                ip.extend(source.octets());
                ip.extend(target.octets());
                ip.extend(&self.options);
                let sum = (!sum(&ip)).wrapping_add(self.ip_sum_error);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(ip);
            }
            (source, target) => {
                frame.extend([0x86, 0xdd]);
                let mut extension = Vec::new();
                let mut next = self.protocol;
                if let Some((number, octets)) = &self.extension {
                    extension = octets.clone();
                    extension[0] = self.protocol;
                    next = *number;
                }
                let len = (extension.len() + udp.len()) as i32 + self.ip_len_error;
                frame.extend([0x60, 0, 0, 0]);
                frame.extend((len as u16).to_be_bytes());
                frame.extend([next, 37]);
                frame.extend(octets(source));
                frame.extend(octets(target));
                frame.extend(extension);
            }
        }
        frame.extend(udp);
        frame.extend(std::iter::repeat_n(0, self.padding));
        frame
    }

    fn udp(&self) -> Vec<u8> {
        let len = (8 + self.payload.len()) as i32 + self.udp_len_error;
        let mut udp = Vec::with_capacity(8 + self.payload.len());
        udp.extend(self.source_port.to_be_bytes());
        udp.extend(self.target_port.to_be_bytes());
        udp.extend((len as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        if !self.unsummed {
            let mut pseudo = octets(self.source);
            pseudo.extend(octets(self.target));
            pseudo.extend([0, UDP]);
            pseudo.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            pseudo.extend(&udp);
            let sum = match !sum(&pseudo) {
                0 => 0xffff,
                sum => sum,
            };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        udp
    }

    /// The message in `frame`, if it is a datagram back to where this one came from, with `id`.
    pub fn answer<'a>(&self, frame: &'a [u8], id: u16) -> Option<&'a [u8]> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let back = ethernet.src_addr() == EthernetAddress(self.to_mac)
            && ethernet.dst_addr() == EthernetAddress(self.from_mac);
        let octets = payload(&frame[14..], self.source.is_ipv4())?;
        let udp = UdpPacket::new_checked(octets).ok()?;
        let message = octets.get(8..udp.len().into())?;
        let ours = back
            && udp.src_port() == self.target_port
            && udp.dst_port() == self.source_port
            && message.starts_with(&id.to_be_bytes());
        ours.then_some(message)
    }

    /// Whether `frame`, an answer by the kernel's program, is right in all that is below DNS.
    pub fn check_answer(&self, frame: &[u8]) -> Result<()> {
        let ethernet = EthernetFrame::new_checked(frame)?;
        ensure!(ethernet.src_addr() == EthernetAddress(self.to_mac), "from {ethernet}");
        ensure!(ethernet.dst_addr() == EthernetAddress(self.from_mac), "to {ethernet}");
        let ip = &frame[14..];
        let (source, target) = match (self.source, self.target) {
            (IpAddr::V4(_), IpAddr::V4(_)) => {
                ensure!(ethernet.ethertype() == EthernetProtocol::Ipv4, "{ethernet}");
                let packet = Ipv4Packet::new_checked(ip)?;
                ensure!(packet.verify_checksum(), "IPv4 header checksum: {ip:02x?}");
                ensure!(packet.header_len() == 20, "a header of {}", packet.header_len());
                ensure!(usize::from(packet.total_len()) == ip.len(), "length: {packet}");
                ensure!(packet.hop_limit() == 64, "TTL {}", packet.hop_limit());
                ensure!(packet.next_header() == IpProtocol::Udp, "{packet}");
                ensure!(!packet.more_frags() && packet.frag_offset() == 0, "{packet}");
                (IpAddress::from(packet.src_addr()), IpAddress::from(packet.dst_addr()))
            }
            _ => {
                ensure!(ethernet.ethertype() == EthernetProtocol::Ipv6, "{ethernet}");
                let packet = Ipv6Packet::new_checked(ip)?;
                ensure!(40 + usize::from(packet.payload_len()) == ip.len(), "length: {packet}");
                ensure!(packet.hop_limit() == 64, "hop limit {}", packet.hop_limit());
                ensure!(packet.next_header() == IpProtocol::Udp, "{packet}");
                (IpAddress::from(packet.src_addr()), IpAddress::from(packet.dst_addr()))
            }
        };
        ensure!(source == IpAddress::from(self.target), "from {source}");
        ensure!(target == IpAddress::from(self.source), "to {target}");
        let udp = payload(ip, self.source.is_ipv4()).context("no UDP")?;
        let len = udp.len();
        let udp = UdpPacket::new_checked(udp)?;
        ensure!(udp.src_port() == self.target_port, "{udp}");
        ensure!(udp.dst_port() == self.source_port, "{udp}");
        ensure!(usize::from(udp.len()) == len, "{udp} in {len} octets");
        ensure!(udp.checksum() != 0, "no UDP checksum");
        ensure!(udp.verify_checksum(&source, &target), "UDP checksum: {frame:02x?}");
        Ok(())
    }
}

/// What follows the header of a UDP packet of this family.
fn payload(ip: &[u8], v4: bool) -> Option<&[u8]> {
    let header = match (ip.first()? >> 4, v4) {
        (4, true) if *ip.get(9)? == UDP => usize::from(ip[0] & 15) * 4,
        (6, false) if *ip.get(6)? == UDP => 40,
        _ => return None,
    };
    ip.get(header..)
}

/// An address in text form.
pub fn mac(text: &str) -> Result<Mac> {
    let octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16));
    let octets: Vec<u8> = octets.collect::<Result<_, _>>().context("a hardware address")?;
    match octets.try_into() {
        Ok(mac) => Ok(mac),
        Err(_) => bail!("{text} is no hardware address"),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The Internet sum (RFC 1071), not yet inverted.
fn sum(octets: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
