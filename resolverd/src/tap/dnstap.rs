//! dnstap's messages: the schema of `dnstap.proto`, as far as it is used, and what fills it.
//!
//! Pure. The schema is written here by hand, so that no compiler of schemas is needed; its
//! fields, numbers and recommended contents are those of <https://dnstap.info>.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::{Enumeration, Message as _};

use super::{Dnstap as Settings, Kind, Seen};
use crate::metrics::Transport;

/// Writes the octets of one frame.
#[must_use]
pub fn encode(seen: &Seen, settings: &Settings) -> Vec<u8> {
    Dnstap {
        identity: settings.identity.as_ref().map(|text| text.as_bytes().to_vec()),
        version: settings.version.as_ref().map(|text| text.as_bytes().to_vec()),
        extra: extra(seen).map(String::into_bytes),
        message: Some(message(seen)),
        kind: DnstapType::Message.into(),
    }
    .encode_to_vec()
}

/// What the schema has no field for: who answered, and for how many a message stands.
fn extra(seen: &Seen) -> Option<String> {
    if seen.is_of_kernel() {
        let octets = seen.octets;
        return Some(format!("kernel sample={} octets={octets} question-only", seen.sample));
    }
    (!seen.by.is_empty()).then(|| match &seen.upstream {
        Some(upstream) => format!("{} {upstream}", seen.by),
        None => seen.by.to_owned(),
    })
}

fn message(seen: &Seen) -> Message {
    let (asked, answered) = match seen.kind {
        Kind::ClientQuery | Kind::ResolverQuery => (Some(seen.at), None),
        Kind::ClientResponse | Kind::ResolverResponse => {
            (seen.took.and_then(|took| seen.at.checked_sub(took)), Some(seen.at))
        }
    };
    let octets = Some(seen.message.to_vec());
    let (query_message, response_message) =
        if answered.is_none() { (octets, None) } else { (None, octets) };
    let client = seen.client.map(|client| client.addr);
    let family = client.or(seen.server).map(|addr| match addr {
        IpAddr::V4(_) => SocketFamily::Inet,
        IpAddr::V6(_) => SocketFamily::Inet6,
    });
    Message {
        kind: message_type(seen).into(),
        socket_family: family.map(Into::into),
        socket_protocol: Some(protocol(seen.transport).into()),
        query_address: client.map(octets_of),
        response_address: seen.server.map(octets_of),
        query_port: seen.client.and_then(|client| client.port).map(Into::into),
        response_port: seen.server_port.map(Into::into),
        query_time_sec: asked.map(|at| since_1970(at).as_secs()),
        query_time_nsec: asked.map(|at| since_1970(at).subsec_nanos()),
        query_message,
        response_time_sec: answered.map(|at| since_1970(at).as_secs()),
        response_time_nsec: answered.map(|at| since_1970(at).subsec_nanos()),
        response_message,
        http_protocol: http(seen.transport).map(Into::into),
    }
}

/// Who asks an upstream to recurse for him forwards; RD tells.
fn message_type(seen: &Seen) -> MessageType {
    let forwards = seen.message.get(2).is_some_and(|flags| flags & 0x01 != 0);
    match (seen.kind, forwards) {
        (Kind::ClientQuery, _) => MessageType::ClientQuery,
        (Kind::ClientResponse, _) => MessageType::ClientResponse,
        (Kind::ResolverQuery, false) => MessageType::ResolverQuery,
        (Kind::ResolverResponse, false) => MessageType::ResolverResponse,
        (Kind::ResolverQuery, true) => MessageType::ForwarderQuery,
        (Kind::ResolverResponse, true) => MessageType::ForwarderResponse,
    }
}

const fn protocol(transport: Transport) -> SocketProtocol {
    match transport {
        Transport::Udp => SocketProtocol::Udp,
        Transport::Tcp => SocketProtocol::Tcp,
        Transport::Tls => SocketProtocol::Dot,
        Transport::Https | Transport::H3 => SocketProtocol::Doh,
        Transport::Quic => SocketProtocol::Doq,
    }
}

const fn http(transport: Transport) -> Option<HttpProtocol> {
    match transport {
        Transport::Https => Some(HttpProtocol::Http2),
        Transport::H3 => Some(HttpProtocol::Http3),
        _ => None,
    }
}

fn octets_of(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub version: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub message: Option<Message>,
    #[prost(enumeration = "DnstapType", required, tag = "15")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(enumeration = "MessageType", required, tag = "1")]
    pub kind: i32,
    #[prost(enumeration = "SocketFamily", optional, tag = "2")]
    pub socket_family: Option<i32>,
    #[prost(enumeration = "SocketProtocol", optional, tag = "3")]
    pub socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    pub query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub response_message: Option<Vec<u8>>,
    #[prost(enumeration = "HttpProtocol", optional, tag = "16")]
    pub http_protocol: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum DnstapType {
    Message = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum SocketFamily {
    Inet = 1,
    Inet6 = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum SocketProtocol {
    Udp = 1,
    Tcp = 2,
    Dot = 3,
    Doh = 4,
    Doq = 7,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum HttpProtocol {
    Http2 = 2,
    Http3 = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum MessageType {
    ResolverQuery = 3,
    ResolverResponse = 4,
    ClientQuery = 5,
    ClientResponse = 6,
    ForwarderQuery = 7,
    ForwarderResponse = 8,
}
