//! Reads the system's own resolvers; `system.rs` understands the text.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

use crate::resolver::system::{self, Nameserver};

/// The name servers of a resolv.conf(5), in its order. A scope that is no interface of ours is
/// left out.
pub fn read_system_resolvers(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let text = fs::read_to_string(path)?;
    Ok(system::parse(&text).iter().filter_map(socket_address).collect())
}

fn socket_address(nameserver: &Nameserver) -> Option<SocketAddr> {
    match (nameserver.address, &nameserver.scope) {
        (IpAddr::V6(ip), Some(scope)) => {
            let index = interface_index(scope)?;
            Some(SocketAddrV6::new(ip, DNS_PORT, 0, index).into())
        }
        (ip, _) => Some(SocketAddr::new(ip, DNS_PORT)),
    }
}

fn interface_index(scope: &str) -> Option<u32> {
    if let Ok(index) = scope.parse() {
        return Some(index);
    }
    // The text comes from a file: it must not lead to another one.
    if scope.contains('/') || scope.starts_with('.') {
        return None;
    }
    let text = fs::read_to_string(Path::new("/sys/class/net").join(scope).join("ifindex"));
    text.ok()?.trim().parse().ok()
}

const DNS_PORT: u16 = 53;
