//! Many datagrams in one system call, each with the address it was sent to.
//!
//! `recvmmsg` and `sendmmsg` in a safe dress: no allocation after `new`, one
//! source address per reply. It knows sockets and octets, not DNS, and waits
//! for nothing. It lives in this room because no crate we use offers both
//! calls safely with a source address of its own for each message, and unsafe
//! code has its address here.
//!
//! Pointers handed to the kernel are made anew before every call and used by
//! nobody after it, so the buffers may be moved and borrowed freely between.

#![expect(unsafe_code, reason = "the two calls take pointers to pointers; no safe wrapper fits")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use self::wire::{CONTROL_OCTETS, Control, NAME_OCTETS, Name};

mod wire;

/// A datagram that came in.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub octets: &'a [u8],
    pub from: SocketAddr,
    /// Where it was sent to, when the socket tells (`tell_destination`).
    pub to: Option<Destination>,
    /// It was longer than the room we had; `octets` is only its beginning.
    pub truncated: bool,
}

/// Where a datagram was sent to, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The address in the packet.
    pub addr: IpAddr,
    /// The address to answer from: differs from `addr` for broadcast.
    pub local: IpAddr,
    /// Index of the interface it came in by.
    pub interface: u32,
}

/// What an answer shall leave from. The interface is left to the routing table
/// unless the address means nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub addr: IpAddr,
    /// 0 leaves the choice to the routing table.
    pub interface: u32,
}

/// What became of a batch of replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub sent: usize,
    /// Not sent because the socket's buffer or the device's queue was full.
    pub full: usize,
    /// Not sent because the kernel refused this one: no route, a firewall.
    pub refused: usize,
}

/// Room for a batch of datagrams to receive into.
pub struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    octets: Box<[u8]>,
    octets_max: usize,
    received: usize,
}

impl Inbox {
    /// Room for `batch` datagrams of `octets_max` octets each.
    pub fn new(batch: usize, octets_max: usize) -> Inbox {
        Inbox {
            headers: headers(batch),
            vectors: vectors(batch),
            names: vec![Name::default(); batch].into(),
            controls: vec![Control::default(); batch].into(),
            octets: vec![0; batch * (octets_max + SLOT_GAP)].into(),
            octets_max,
            received: 0,
        }
    }

    /// Takes what the socket holds, up to a batch, without waiting. An empty
    /// socket is the error `WouldBlock`.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        let slots = self.octets.chunks_exact_mut(self.octets_max + SLOT_GAP);
        for ((((header, vector), name), control), slot) in (self.headers.iter_mut())
            .zip(self.vectors.iter_mut())
            .zip(self.names.iter_mut())
            .zip(self.controls.iter_mut())
            .zip(slots)
        {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = self.octets_max;
            let message = &mut header.msg_hdr;
            message.msg_name = name.0.as_mut_ptr().cast();
            message.msg_namelen = NAME_OCTETS as libc::socklen_t;
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = CONTROL_OCTETS as _;
            message.msg_flags = 0;
        }
        // SAFETY: every header points, since the loop above, to a name, a
        // control buffer and one vector of our own of the stated lengths, all
        // alive and not borrowed until the call returns; `len` is their count.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        self.received = received as usize;
        Ok(self.received)
    }

    /// The `index`th datagram of the last batch; `None` past its end, or for a
    /// sender of a family that is not the Internet's.
    pub fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        if index >= self.received {
            return None;
        }
        let header = &self.headers[index];
        let start = index * (self.octets_max + SLOT_GAP);
        let len = (header.msg_len as usize).min(self.octets_max);
        let control_len: usize = header.msg_hdr.msg_controllen as _;
        Some(Datagram {
            octets: &self.octets[start..start + len],
            from: self.names[index].read()?,
            to: self.controls[index].read(control_len.min(CONTROL_OCTETS)),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        })
    }
}

/// Replies on their way out: filled one after another, sent together.
pub struct Outbox {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    envelopes: Box<[Envelope]>,
    replies: Box<[Vec<u8>]>,
    filled: usize,
}

impl Outbox {
    /// Room for `batch` replies, each with a buffer that begins at `octets`.
    pub fn new(batch: usize, octets: usize) -> Outbox {
        Outbox {
            headers: headers(batch),
            vectors: vectors(batch),
            envelopes: vec![Envelope::default(); batch].into(),
            replies: (0..batch).map(|_| Vec::with_capacity(octets)).collect(),
            filled: 0,
        }
    }

    /// The buffer of the next reply; it counts only after `address`.
    ///
    /// # Panics
    /// When a whole batch is filled already: send it first.
    pub fn blank(&mut self) -> &mut Vec<u8> {
        &mut self.replies[self.filled]
    }

    /// Addresses the reply in `blank` and moves on to the one after it.
    pub fn address(&mut self, to: SocketAddr, from: Option<Source>) {
        self.envelopes[self.filled].write(to, from);
        self.filled += 1;
    }

    /// How many replies are addressed and not yet sent.
    pub fn len(&self) -> usize {
        self.filled
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Forgets what was addressed.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Sends all addressed replies without waiting. What cannot be sent now is
    /// dropped and counted; one refused reply does not hold back the others.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> Sent {
        let filled = std::mem::take(&mut self.filled);
        for (((header, vector), envelope), reply) in (self.headers.iter_mut())
            .zip(self.vectors.iter_mut())
            .zip(self.envelopes.iter_mut())
            .zip(self.replies.iter_mut())
            .take(filled)
        {
            envelope.seal(&mut header.msg_hdr, vector, reply);
        }
        let mut outcome = Sent::default();
        let mut next = 0;
        while next < filled {
            let waiting = &mut self.headers[next..filled];
            // SAFETY: the loop above pointed each of these headers to its own
            // envelope and reply, which stay alive and unborrowed until this
            // function ends; `len` is the number of headers in the slice.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    waiting.as_mut_ptr(),
                    waiting.len() as libc::c_uint,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            if sent > 0 {
                outcome.sent += sent as usize;
                next += sent as usize;
                continue;
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if is_full(&error) => {
                    outcome.full += filled - next;
                    break;
                }
                _ => {
                    outcome.refused += 1;
                    next += 1;
                }
            }
        }
        outcome
    }
}

/// Sends one datagram without waiting.
pub fn send(
    socket: BorrowedFd<'_>,
    octets: &[u8],
    to: SocketAddr,
    from: Option<Source>,
) -> io::Result<()> {
    let mut envelope = Envelope::default();
    envelope.write(to, from);
    let mut vector = empty_vector();
    let mut header = empty_header();
    envelope.seal(&mut header.msg_hdr, &mut vector, octets);
    loop {
        // SAFETY: `seal` pointed the header to the envelope, the vector and the
        // octets, which all outlive the call; sending writes to none of them.
        let sent = unsafe {
            libc::sendmsg(
                socket.as_raw_fd(),
                &header.msg_hdr,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether sending failed for want of room, and not because of this datagram.
pub fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Asks the kernel to report with each datagram where it was sent to. Needed on
/// sockets bound to a wildcard address, which otherwise answer from an address
/// that the client did not ask.
pub fn tell_destination(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let (level, option) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int; the pointer and the length are `on`'s.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where a reply goes to and comes from, in the kernel's form.
#[derive(Clone, Copy, Default)]
struct Envelope {
    name: Name,
    name_len: usize,
    control: Control,
    control_len: usize,
}

impl Envelope {
    fn write(&mut self, to: SocketAddr, from: Option<Source>) {
        self.name_len = self.name.write(to);
        self.control_len = from.map_or(0, |source| self.control.write(source));
    }

    fn seal(&mut self, message: &mut libc::msghdr, vector: &mut libc::iovec, octets: &[u8]) {
        vector.iov_base = octets.as_ptr().cast_mut().cast();
        vector.iov_len = octets.len();
        message.msg_name = self.name.0.as_mut_ptr().cast();
        message.msg_namelen = self.name_len as libc::socklen_t;
        message.msg_iov = vector;
        message.msg_iovlen = 1;
        message.msg_control = match self.control_len {
            0 => std::ptr::null_mut(),
            _ => self.control.0.as_mut_ptr().cast(),
        };
        message.msg_controllen = self.control_len as _;
        message.msg_flags = 0;
    }
}

fn headers(count: usize) -> Box<[libc::mmsghdr]> {
    (0..count).map(|_| empty_header()).collect()
}

fn vectors(count: usize) -> Box<[libc::iovec]> {
    (0..count).map(|_| empty_vector()).collect()
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: integers and raw pointers, for which zero is a value. Some C
    // libraries have private padding here, so it cannot be written as a literal.
    unsafe { zeroed() }
}

fn empty_vector() -> libc::iovec {
    libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }
}

/// Between two datagrams of a batch: without it all begin at the same offset
/// of a page and fight for one set of the first-level cache.
const SLOT_GAP: usize = 192;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_batch_comes_in_order_and_an_empty_socket_would_block() {
        let (server, client) = pair();
        for n in 0..5_u8 {
            client.send_to(&[n; 3], server.local_addr().unwrap()).unwrap();
        }
        let mut inbox = Inbox::new(4, 64);
        assert_eq!(inbox.receive(server.as_fd()).unwrap(), 4);
        for n in 0..4_u8 {
            let datagram = inbox.datagram(n.into()).unwrap();
            assert_eq!(datagram.octets, [n; 3]);
            assert_eq!(datagram.from, client.local_addr().unwrap());
            assert_eq!(datagram.to, None);
            assert!(!datagram.truncated);
        }
        assert_eq!(inbox.receive(server.as_fd()).unwrap(), 1);
        assert_eq!(inbox.datagram(0).unwrap().octets, [4; 3]);
        assert!(inbox.datagram(1).is_none());
        let error = inbox.receive(server.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(inbox.datagram(0).is_none());
    }

    #[test]
    fn a_datagram_longer_than_its_room_is_marked() {
        let (server, client) = pair();
        client.send_to(&[7; 65], server.local_addr().unwrap()).unwrap();
        client.send_to(&[7; 64], server.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new(2, 64);
        assert_eq!(inbox.receive(server.as_fd()).unwrap(), 2);
        assert!(inbox.datagram(0).unwrap().truncated);
        assert_eq!(inbox.datagram(0).unwrap().octets.len(), 64);
        assert!(!inbox.datagram(1).unwrap().truncated);
    }

    #[test]
    fn each_reply_of_a_batch_has_its_own_source() {
        for (wildcard, asked) in
            [("0.0.0.0:0", ["127.0.0.2", "127.0.0.3"]), ("[::]:0", ["::1", "::1"])]
        {
            let server = UdpSocket::bind(wildcard).unwrap();
            tell_destination(server.as_fd(), wildcard.starts_with('[')).unwrap();
            let port = server.local_addr().unwrap().port();
            let client = UdpSocket::bind((asked[0], 0)).unwrap();
            for addr in asked {
                client.send_to(b"?", (addr, port)).unwrap();
            }
            // Twice, for a batch must not inherit lengths from the one before.
            for _ in 0..2 {
                client.send_to(b"?", (asked[0], port)).unwrap();
            }
            let mut inbox = Inbox::new(4, 64);
            let mut outbox = Outbox::new(4, 64);
            assert_eq!(inbox.receive(server.as_fd()).unwrap(), 4);
            for i in 0..4 {
                let datagram = inbox.datagram(i).unwrap();
                let to = datagram.to.unwrap();
                assert_eq!(to.addr, to.local);
                assert_ne!(to.interface, 0);
                outbox.blank().clear();
                outbox.blank().extend([i as u8; 2]);
                outbox.address(datagram.from, Some(Source { addr: to.local, interface: 0 }));
            }
            assert_eq!(outbox.len(), 4);
            assert_eq!(outbox.send(server.as_fd()), Sent { sent: 4, full: 0, refused: 0 });
            assert!(outbox.is_empty());
            for (i, addr) in [asked[0], asked[1], asked[0], asked[0]].into_iter().enumerate() {
                let mut buffer = [0; 8];
                let (len, from) = client.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], [i as u8; 2]);
                assert_eq!(from, SocketAddr::new(addr.parse().unwrap(), port));
            }
            send(
                server.as_fd(),
                b"late",
                client.local_addr().unwrap(),
                Some(Source { addr: asked[1].parse().unwrap(), interface: 0 }),
            )
            .unwrap();
            let (_, from) = client.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from.ip(), asked[1].parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn a_refused_reply_does_not_hold_back_the_others() {
        let (server, client) = pair();
        let mut outbox = Outbox::new(3, 64);
        // Broadcast without leave is refused by the kernel.
        let refused = "255.255.255.255:9".parse().unwrap();
        for to in [client.local_addr().unwrap(), refused, client.local_addr().unwrap()] {
            outbox.blank().clear();
            outbox.blank().push(1);
            outbox.address(to, None);
        }
        assert_eq!(outbox.send(server.as_fd()), Sent { sent: 2, full: 0, refused: 1 });
    }

    fn pair() -> (UdpSocket, UdpSocket) {
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap())
    }
}
