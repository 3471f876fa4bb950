//! The whole way of a query.
//!
//! For now only who asks: what the doors tell about a client.

use std::net::{IpAddr, SocketAddr};

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub addr: SocketAddr,
    /// The address that was asked.
    pub local: IpAddr,
    pub transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}
