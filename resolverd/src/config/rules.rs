//! What policy is to do: kinds of zones, views, DNS64, response policy zones.
//!
//! Words only; `policy` gives them their meaning.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv6Net};

use super::Position;
use crate::dns::Name;

/// What a zone says; the kinds are Unbound's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneKind {
    /// Answered from its records alone.
    Static,
    /// Answered from its records where it has the name; other names are resolved.
    Transparent,
    /// Answered from its records where it has name and type; all else is resolved.
    TypeTransparent,
    /// Every name in it has the records of the zone's own.
    Redirect,
    /// Every name in it does not exist.
    AlwaysNxdomain,
    /// Every name in it exists and has nothing.
    AlwaysNodata,
    /// Every name in it has addresses that lead nowhere.
    AlwaysNull,
    /// No name in it has an IPv4 address; all else is resolved.
    BlockA,
    /// Answered over streams only.
    Truncate,
    /// Questions about it are not answered, but for its records.
    Deny,
    /// Questions about it are refused, but for its records.
    Refuse,
}

impl ZoneKind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Transparent => "transparent",
            Self::TypeTransparent => "type-transparent",
            Self::Redirect => "redirect",
            Self::AlwaysNxdomain => "always-nxdomain",
            Self::AlwaysNodata => "always-nodata",
            Self::AlwaysNull => "always-null",
            Self::BlockA => "block-a",
            Self::Truncate => "truncate",
            Self::Deny => "deny",
            Self::Refuse => "refuse",
        }
    }

    /// Whether records of such a zone are ever served.
    #[must_use]
    pub const fn has_records(self) -> bool {
        matches!(
            self,
            Self::Static
                | Self::Transparent
                | Self::TypeTransparent
                | Self::Redirect
                | Self::Deny
                | Self::Refuse
        )
    }
}

/// Clients that are answered differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Unique among views.
    pub name: String,
    pub clients: Vec<IpNet>,
    /// Empty: all of them.
    pub transports: Vec<Way>,
    pub access: Access,
}

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    Udp,
    Tcp,
    Tls,
    Https,
    H3,
    Quic,
}

/// Whether the clients of a view may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// `[acl]` decides.
    #[default]
    Acl,
    Allow,
    Refuse,
}

/// IPv6 addresses for names that have IPv4 ones only (RFC 6147).
#[derive(Clone, Debug, PartialEq)]
pub struct Dns64 {
    /// Of one of the lengths of RFC 6052 section 2.2.
    pub prefix: Ipv6Net,
    /// AAAA records that count as none.
    pub exclude: Vec<IpNet>,
    /// IPv4 addresses that are not mapped.
    pub exclude_a: Vec<IpNet>,
}

/// A response policy zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Rpz {
    /// Absolute, lower-cased, with the last dot; unique among policy zones.
    pub zone: String,
    pub from: RpzFrom,
    pub policy: Override,
    pub reason: Reason,
    /// Each hit is told at level `debug`.
    pub log: bool,
    /// Names of the views it is for. Empty: everybody's.
    pub views: Vec<String>,
    /// Where its table stands in the file.
    pub at: Position,
}

/// Where a policy zone comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpzFrom {
    File(PathBuf),
    Primary {
        /// Asked in this order.
        addresses: Vec<SocketAddr>,
        tsig: Option<Tsig>,
        /// Who may say that there is something new; the primaries always may.
        notify_from: Vec<IpNet>,
    },
}

/// A key shared with a primary (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tsig {
    /// Absolute, lower-cased.
    pub name: String,
    pub algorithm: TsigAlgorithm,
    /// Has the secret in base64, and nothing else.
    pub secret_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// What takes the place of what a policy zone says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Override {
    /// Nothing does.
    Given,
    Nxdomain,
    Nodata,
    Passthru,
    Drop,
    TcpOnly,
    /// An alias to this name.
    Cname(Name),
    /// It is told and nothing more.
    Disabled,
}

/// Why something is kept from clients: the code of the extended error (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 15: the operator's own choice.
    Blocked,
    /// 16: somebody made the operator.
    Censored,
    /// 17: the client asked for it.
    Filtered,
}
