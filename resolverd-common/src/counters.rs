//! Why a packet was answered or passed; one counter each.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the kernel program did with a packet, and why.
///
/// The daemon's use of the same parser yields the same reasons. Their texts are the values of
/// the label `reason` of `resolverd_kernel_packets_total`, 32 at most.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Answered from a map.
    Answered = 0,
    /// Not UDP to a served port.
    NotDns = 1,
    /// A served port, but an address that is not served on this interface.
    NotServed = 2,
    /// The destination MAC address is not the interface's.
    Mac = 3,
    /// The source is multicast, broadcast or unspecified.
    SourceInvalid = 4,
    /// The source is one of our addresses, or loopback, on an interface other than `lo`.
    SourceOwn = 5,
    /// Source port 0, or below 1024 other than 53 and 853.
    SourcePort = 6,
    /// Lengths or the IPv4 header checksum do not fit, or the message is shorter or longer
    /// than what the parser takes.
    Malformed = 7,
    /// An IP fragment.
    Fragment = 8,
    /// Over the rate limit: dropped, or sent back empty with TC (hit).
    RateLimited = 9,
    /// An IPv4 header with options, or an IPv6 extension header.
    ExtensionHeader = 10,
    /// QR=1.
    Response = 11,
    /// An OPCODE other than QUERY.
    Opcode = 12,
    /// TC: set in a query (passed), or set by us in an answer that did not fit (hit).
    Truncated = 13,
    /// RD=0.
    RecursionNotDesired = 14,
    /// AA, RA, Z or an RCODE in a query, or records in its answer or authority section.
    Header = 15,
    /// QDCOUNT is not 1.
    QuestionCount = 16,
    /// QNAME is compressed, too long, of a reserved label type, or runs out of the message.
    Name = 17,
    /// A class other than IN.
    Class = 18,
    /// ANY, AXFR, IXFR and other types that are no data.
    Type = 19,
    /// TSIG, SIG(0), or another additional record that is not OPT.
    Signature = 20,
    /// Octets behind the last record.
    Trailing = 21,
    /// More than one OPT.
    TwoOpts = 22,
    /// An EDNS version other than 0, or flags or an extended RCODE that no query carries.
    EdnsVersion = 23,
    /// An EDNS option other than one well-formed COOKIE.
    EdnsOption = 24,
    /// The access list does not allow this source.
    Denied = 25,
    /// The daemon's lease has run out.
    Lease = 26,
    /// Not in the maps.
    Miss = 27,
    /// Stored, but past its life.
    Expired = 28,
    /// Stored before a flush or a change of policy.
    Flushed = 29,
    /// The element was reused for another question while it was read, or its key collided.
    Reused = 30,
    /// The driver refused to resize the packet.
    Grow = 31,
}

/// How many reasons there are.
pub const REASONS: usize = 32;

/// What a query had by way of a COOKIE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cookies {
    /// None, or cookies are off.
    Absent = 0,
    /// The client's part alone.
    Client = 1,
    /// With a server's part that is not ours, or too old, or made for another address.
    Invalid = 2,
    /// With one of ours.
    Valid = 3,
}

impl Cookies {
    pub const ALL: [Self; 4] = [Self::Absent, Self::Client, Self::Invalid, Self::Valid];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Client => "client",
            Self::Invalid => "invalid",
            Self::Valid => "valid",
        }
    }
}

/// Per CPU: packets answered in full or cut, packets passed, and packets dropped, by [`Reason`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counters {
    pub hits: [u64; REASONS],
    pub passes: [u64; REASONS],
    pub drops: [u64; REASONS],
    /// Answers by the COOKIE of their query, see [`Cookies`].
    pub cookies: [u64; Cookies::ALL.len()],
    /// Answers that were cut for being too large for their query.
    pub amplified: u64,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
    /// Answers counted for the sampling of events.
    pub sampled: u64,
}

impl Reason {
    pub const ALL: [Self; REASONS] = [
        Self::Answered,
        Self::NotDns,
        Self::NotServed,
        Self::Mac,
        Self::SourceInvalid,
        Self::SourceOwn,
        Self::SourcePort,
        Self::Malformed,
        Self::Fragment,
        Self::RateLimited,
        Self::ExtensionHeader,
        Self::Response,
        Self::Opcode,
        Self::Truncated,
        Self::RecursionNotDesired,
        Self::Header,
        Self::QuestionCount,
        Self::Name,
        Self::Class,
        Self::Type,
        Self::Signature,
        Self::Trailing,
        Self::TwoOpts,
        Self::EdnsVersion,
        Self::EdnsOption,
        Self::Denied,
        Self::Lease,
        Self::Miss,
        Self::Expired,
        Self::Flushed,
        Self::Reused,
        Self::Grow,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotDns => "not_dns",
            Self::NotServed => "not_served",
            Self::Mac => "mac",
            Self::SourceInvalid => "source_invalid",
            Self::SourceOwn => "source_own",
            Self::SourcePort => "source_port",
            Self::Malformed => "malformed",
            Self::Fragment => "fragment",
            Self::RateLimited => "rate_limited",
            Self::ExtensionHeader => "extension_header",
            Self::Response => "response",
            Self::Opcode => "opcode",
            Self::Truncated => "truncated",
            Self::RecursionNotDesired => "recursion_not_desired",
            Self::Header => "header",
            Self::QuestionCount => "question_count",
            Self::Name => "name",
            Self::Class => "class",
            Self::Type => "type",
            Self::Signature => "signature",
            Self::Trailing => "trailing",
            Self::TwoOpts => "two_opts",
            Self::EdnsVersion => "edns_version",
            Self::EdnsOption => "edns_option",
            Self::Denied => "denied",
            Self::Lease => "lease",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Flushed => "flushed",
            Self::Reused => "reused",
            Self::Grow => "grow",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_at_its_own_number_and_has_its_own_text() {
        let mut texts = std::collections::BTreeSet::new();
        for (i, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            assert!(texts.insert(reason.as_str()), "{reason:?}");
        }
    }
}
