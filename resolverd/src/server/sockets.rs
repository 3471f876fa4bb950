//! Opens the sockets that clients find us by, and says plainly why one cannot
//! be opened. Sets every option they have; what happens on them is not its.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    set_socket_recv_buffer_size_force,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::ServerError;
use super::holder::{self, Held};
use crate::kernel::datagrams;
use crate::pipeline::Transport;

/// A UDP socket on `address`, one of several that share it.
pub fn udp(address: SocketAddr) -> Result<Socket, ServerError> {
    let failed = |error| failure(address, Transport::Udp, error);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(failed)?;
    prepare_udp(&socket, address).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    Ok(socket)
}

/// A UDP socket on `address` for QUIC. It shares the address with nobody: datagrams of one
/// connection must come to one socket.
pub fn quic(address: SocketAddr, transport: Transport) -> Result<UdpSocket, ServerError> {
    let failed = |error| failure(address, transport, error);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(failed)?;
    prepare(&socket, address).map_err(failed)?;
    grow(&socket);
    socket.bind(&address.into()).map_err(failed)?;
    Ok(socket.into())
}

/// A listening TCP socket on `address`, for what is spoken over TCP.
pub fn tcp(address: SocketAddr, transport: Transport) -> Result<TcpListener, ServerError> {
    let failed = |error| failure(address, transport, error);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(failed)?;
    prepare(&socket, address).map_err(failed)?;
    // A restart must not wait for connections of the one before to die.
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_reuse_port(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(socket.into())
}

/// Makes sure that nobody else has `address`. Our sockets share theirs, and the
/// kernel would let any process of our user share it too, each getting some of
/// the queries; so a socket that shares with nobody is tried first.
pub fn check_free(address: SocketAddr, transport: Transport) -> Result<(), ServerError> {
    let mut tries_left = FREE_TRIES;
    loop {
        let error = match try_alone(address, transport) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Errno::from_io_error(&error) != Some(Errno::ADDRINUSE) {
            return Err(failure(address, transport, error));
        }
        let held = holder::find(address, transport);
        // A wildcard beside one of its own addresses.
        if held == Some(Held::Ourselves) {
            return Ok(());
        }
        tries_left -= 1;
        if tries_left == 0 {
            let held = held.unwrap_or(Held::Hidden);
            return Err(ServerError::InUse { address, transport, held });
        }
        // It may be in the middle of being let go, by the daemon before us or
        // by a door of our own that is still emptied.
        std::thread::sleep(FREE_PAUSE);
    }
}

fn try_alone(address: SocketAddr, transport: Transport) -> io::Result<()> {
    let kind = if is_over_udp(transport) { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    prepare(&socket, address)?;
    if !is_over_udp(transport) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}

/// Whether it takes a UDP socket; else one of TCP.
pub fn is_over_udp(transport: Transport) -> bool {
    match transport {
        Transport::Udp | Transport::Quic | Transport::H3 => true,
        Transport::Tcp | Transport::Tls | Transport::Https => false,
    }
}

/// Whether the machine has this address now. Asked of the kernel, which knows
/// about local routes and namespaces what a list of interfaces does not show.
pub fn is_present(address: SocketAddr) -> bool {
    let mut anywhere = address;
    anywhere.set_port(0);
    let tried = Socket::new(Domain::for_address(address), Type::DGRAM, None)
        .and_then(|socket| socket.bind(&anywhere.into()));
    // Other errors (no descriptors left) say nothing about the address.
    !tried.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL))
}

fn prepare_udp(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    prepare(socket, address)?;
    socket.set_reuse_port(true)?;
    // Answers fit a packet or are truncated by us. Path MTU messages are not
    // believed, for a forged one makes us send fragments, and fragments can be
    // replaced on their way (RFC 9715 section 3.1).
    if address.is_ipv4() {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT)?;
    } else {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::OMIT)?;
    }
    if address.ip().is_unspecified() {
        datagrams::tell_destination(socket.as_fd(), address.is_ipv6())?;
    }
    grow(socket);
    Ok(())
}

/// Past the system's limit with the privilege for it, else up to the limit. With neither we have
/// what we have.
fn grow(socket: &Socket) {
    if set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_OCTETS).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_OCTETS);
    }
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true),
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)
        }
    }
}

fn failure(address: SocketAddr, transport: Transport, error: io::Error) -> ServerError {
    match Errno::from_io_error(&error) {
        Some(Errno::ADDRINUSE) => {
            let held = holder::find(address, transport).unwrap_or(Held::Hidden);
            ServerError::InUse { address, transport, held }
        }
        Some(Errno::ACCESS | Errno::PERM) => ServerError::Denied { address, transport },
        Some(Errno::AFNOSUPPORT) => ServerError::NoFamily { address, transport },
        _ => ServerError::Open { address, transport, error },
    }
}

/// Queries waiting in one UDP socket, by memory: some 10 ms of full load. More
/// would only be answered after the client asked again.
const RECEIVE_BUFFER_OCTETS: usize = 1 << 20;

/// Looks at an address that is taken, and the time between them: together a
/// fifth of a second.
const FREE_TRIES: usize = 10;
const FREE_PAUSE: Duration = Duration::from_millis(20);

/// TCP connections waiting to be accepted; the system may have a lower limit.
const BACKLOG: i32 = 1_024;
