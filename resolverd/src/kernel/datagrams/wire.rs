//! Addresses and packet information in the form the system calls have them.
//!
//! Octets only, no pointers: what is read here was written by the kernel, and
//! what is written here is checked by it.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{Destination, Source};

/// A `sockaddr_in` or `sockaddr_in6`, as octets.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
pub struct Name(pub [u8; NAME_OCTETS]);

impl Name {
    pub fn read(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.array(2));
        match i32::from(u16::from_ne_bytes(self.array(0))) {
            libc::AF_INET => {
                let addr = Ipv4Addr::from(self.array::<4>(4));
                Some(SocketAddr::V4(SocketAddrV4::new(addr, port)))
            }
            libc::AF_INET6 => {
                let addr = Ipv6Addr::from(self.array::<16>(8));
                let scope = u32::from_ne_bytes(self.array(24));
                Some(SocketAddr::V6(SocketAddrV6::new(addr, port, 0, scope)))
            }
            _ => None,
        }
    }

    /// Writes the address and returns how many octets it takes.
    pub fn write(&mut self, addr: SocketAddr) -> usize {
        self.0[2..4].copy_from_slice(&addr.port().to_be_bytes());
        match addr {
            SocketAddr::V4(addr) => {
                self.0[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.0[4..8].copy_from_slice(&addr.ip().octets());
                self.0[8..16].fill(0);
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(addr) => {
                self.0[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.0[4..8].fill(0);
                self.0[8..24].copy_from_slice(&addr.ip().octets());
                self.0[24..28].copy_from_slice(&addr.scope_id().to_ne_bytes());
                size_of::<libc::sockaddr_in6>()
            }
        }
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[at + i])
    }
}

/// One control message with packet information, as octets: a `cmsghdr`, then
/// an `in_pktinfo` (index, local address, address in the packet) or an
/// `in6_pktinfo` (address, index).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control(pub [u8; CONTROL_OCTETS]);

impl Default for Control {
    fn default() -> Control {
        Control([0; CONTROL_OCTETS])
    }
}

impl Control {
    pub fn read(&self, len: usize) -> Option<Destination> {
        if len < CMSG_HEADER {
            return None;
        }
        let level = i32::from_ne_bytes(self.array(CMSG_LEVEL_AT));
        let kind = i32::from_ne_bytes(self.array(CMSG_LEVEL_AT + 4));
        let said = usize::from_ne_bytes(self.array(0));
        let data = CMSG_HEADER;
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if said >= data + 12 && len >= data + 12 => {
                Some(Destination {
                    interface: u32::from_ne_bytes(self.array(data)),
                    local: Ipv4Addr::from(self.array::<4>(data + 4)).into(),
                    addr: Ipv4Addr::from(self.array::<4>(data + 8)).into(),
                })
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if said >= data + 20 && len >= data + 20 => {
                let addr = Ipv6Addr::from(self.array::<16>(data)).into();
                let interface = u32::from_ne_bytes(self.array(data + 16));
                Some(Destination { addr, local: addr, interface })
            }
            _ => None,
        }
    }

    /// Writes the source and returns how many octets the message takes.
    pub fn write(&mut self, source: Source) -> usize {
        let data = CMSG_HEADER;
        let (level, kind, len) = match source.addr {
            IpAddr::V4(addr) => {
                self.0[data..data + 4].copy_from_slice(&source.interface.to_ne_bytes());
                self.0[data + 4..data + 8].copy_from_slice(&addr.octets());
                self.0[data + 8..data + 12].fill(0);
                (libc::IPPROTO_IP, libc::IP_PKTINFO, data + 12)
            }
            IpAddr::V6(addr) => {
                self.0[data..data + 16].copy_from_slice(&addr.octets());
                self.0[data + 16..data + 20].copy_from_slice(&source.interface.to_ne_bytes());
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data + 20)
            }
        };
        self.0[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
        self.0[CMSG_LEVEL_AT..CMSG_LEVEL_AT + 4].copy_from_slice(&level.to_ne_bytes());
        self.0[CMSG_LEVEL_AT + 4..data].copy_from_slice(&kind.to_ne_bytes());
        len.next_multiple_of(size_of::<usize>())
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[at + i])
    }
}

/// A `sockaddr_in6`, the longer of the two.
pub const NAME_OCTETS: usize = size_of::<libc::sockaddr_in6>();

/// A `cmsghdr`: the length, then level and kind.
const CMSG_LEVEL_AT: usize = size_of::<usize>();
const CMSG_HEADER: usize = CMSG_LEVEL_AT + 8;

/// Room for one control message with the longer of the two payloads.
pub const CONTROL_OCTETS: usize = (CMSG_HEADER + 20).next_multiple_of(size_of::<usize>());

const _: () = assert!(size_of::<libc::cmsghdr>() == CMSG_HEADER);
const _: () = assert!(size_of::<libc::in_pktinfo>() == 12);
const _: () = assert!(size_of::<libc::in6_pktinfo>() == 20);
const _: () = assert!(NAME_OCTETS == 28);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_it_was_written() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:5353", "[fe80::1%3]:53", "0.0.0.0:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut name = Name::default();
            name.write(addr);
            assert_eq!(name.read(), Some(addr));
        }
        assert_eq!(Name::default().read(), None);
    }

    #[test]
    fn packet_information_of_the_wrong_kind_or_length_is_none() {
        let source = Source { addr: "2001:db8::1".parse().unwrap(), interface: 7 };
        let mut control = Control::default();
        let len = control.write(source);
        let read = control.read(len).unwrap();
        assert_eq!((read.addr, read.interface), (source.addr, 7));
        for short in 0..CMSG_HEADER + 20 {
            assert_eq!(control.read(short), None);
        }
        control.0[CMSG_LEVEL_AT] ^= 1;
        assert_eq!(control.read(len), None);
    }
}
