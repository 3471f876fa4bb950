//! The values that labels may have: closed sets, so that nothing a packet says becomes one.

/// Makes an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            pub const COUNT: usize = Self::ALL.len();

            /// The label's value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// How the client came.
    Transport {
        Udp = "udp",
        Tcp = "tcp",
        /// DNS over TLS (RFC 7858).
        Tls = "tls",
        /// DNS over HTTP/2 (RFC 8484).
        Https = "https",
        /// DNS over QUIC (RFC 9250).
        Quic = "quic",
        /// DNS over HTTP/3.
        H3 = "h3",
    }
}
label! {
    /// Who had the answer, among the parts of the daemon.
    AnsweredBy {
        /// The daemon's cache, failures kept there included.
        Cache = "cache",
        /// A `[[zone]]` of the configuration.
        Local = "local",
        /// An upstream was asked.
        Upstream = "upstream",
        /// Made here: refusals, format errors, failures.
        Daemon = "daemon",
    }
}
label! {
    /// RCODEs we send; the extended BADVERS included.
    Rcode {
        NoError = "NOERROR",
        FormErr = "FORMERR",
        ServFail = "SERVFAIL",
        NxDomain = "NXDOMAIN",
        NotImp = "NOTIMP",
        Refused = "REFUSED",
        BadVers = "BADVERS",
        Other = "other",
    }
}
label! {
    /// The classes of map elements, by octets of value.
    SizeClass { To128 = "128", To256 = "256", To512 = "512", To1280 = "1280", }
}
label! {
    /// Why a question that waits for others, or would, was answered SERVFAIL.
    ShedCause {
        /// It gave way to a newer one.
        Oldest = "oldest",
        /// Too many of its zone wait already.
        Zone = "zone",
        /// Too many wait for this very question.
        Waiters = "waiters",
    }
}
label! {
    /// What a flush took away.
    FlushScope {
        Name = "name",
        Zone = "zone",
        All = "all",
        /// More names and zones were flushed than are remembered one by one: all went.
        Overflow = "overflow",
    }
}
label! {
    /// Why an answer was used past its time.
    StaleCause {
        /// Nobody gave a newer one.
        Failed = "failed",
        /// None came within `cache.stale-answer-after`.
        Slow = "slow",
        /// It was so less than 30 seconds ago, and nobody was asked again.
        Recheck = "recheck",
    }
}
label! {
    /// What became of writing the cache to disk.
    Saved { Written = "written", Failed = "failed", }
}
label! {
    /// How one question to an upstream ended.
    Outcome {
        /// An answer was accepted, NXDOMAIN included.
        Answer = "answer",
        /// SERVFAIL, REFUSED and other RCODEs that say "ask somebody else".
        Failure = "failure",
        Timeout = "timeout",
        /// The socket failed: no route, port unreachable, connection reset.
        Unreachable = "unreachable",
        /// It came truncated and was asked for again over TCP.
        Truncated = "truncated",
        /// Octets that are no answer to what was asked.
        Malformed = "malformed",
    }
}
label! {
    /// How setting up a connection to an upstream ended.
    Connected {
        /// With a whole handshake, or without any where there is none.
        Opened = "opened",
        /// A session was resumed.
        Resumed = "resumed",
        Unreachable = "unreachable",
        Timeout = "timeout",
        /// The certificate is for another name.
        CertificateName = "certificate-name",
        /// It is expired, or not valid yet.
        CertificateTime = "certificate-time",
        /// No chain leads to a root.
        CertificateIssuer = "certificate-issuer",
        /// Its key is none of the pinned ones.
        CertificatePin = "certificate-pin",
        /// Anything else is wrong with it.
        Certificate = "certificate",
        Tls = "tls",
        /// TLS was agreed on, and then not how questions are asked.
        Protocol = "protocol",
        /// There was no socket or no place for one here.
        Here = "here",
    }
}
label! {
    /// Why a datagram got no answer.
    Dropped {
        /// Shorter than a header.
        Short = "short",
        /// QR is set: answering answers makes loops.
        Response = "response",
        /// A source nobody can be answered at: port 0, a broadcast or multicast address.
        Source = "source",
        /// Sent to a broadcast or multicast address: nobody answers from there.
        Destination = "destination",
        /// Longer than any query we take.
        Oversize = "oversize",
        /// More queries at once than the server's bound.
        Busy = "busy",
        /// The answer was made and the system would not send it.
        Send = "send",
        /// By a rule of policy: a zone of kind `deny`, or `rpz-drop`.
        Policy = "policy",
    }
}
label! {
    /// By which kind of rule something was said or changed.
    PolicyRule {
        /// Refused by the access list, or by the view.
        Acl = "acl",
        ZoneStatic = "zone-static",
        ZoneTransparent = "zone-transparent",
        ZoneTypeTransparent = "zone-type-transparent",
        ZoneRedirect = "zone-redirect",
        ZoneAlwaysNxdomain = "zone-always-nxdomain",
        ZoneAlwaysNodata = "zone-always-nodata",
        ZoneAlwaysNull = "zone-always-null",
        ZoneBlockA = "zone-block-a",
        ZoneTruncate = "zone-truncate",
        ZoneDeny = "zone-deny",
        ZoneRefuse = "zone-refuse",
        Hosts = "hosts",
        Builtin = "builtin",
        /// Private addresses taken out of an answer.
        Rebinding = "rebinding",
        Dns64 = "dns64",
        RpzClientIp = "rpz-client-ip",
        RpzQname = "rpz-qname",
        RpzIp = "rpz-ip",
        RpzNsdname = "rpz-nsdname",
        RpzNsip = "rpz-nsip",
        /// Matched in a zone that is `disabled`: told and nothing more.
        RpzSeen = "rpz-seen",
    }
}
label! {
    /// How looking for a policy zone's content ended.
    RpzUpdate {
        /// Read from its file, or transferred whole.
        Whole = "whole",
        /// Changes alone were transferred.
        Changes = "changes",
        /// Read from disk at a start: what the primary said before.
        Disk = "disk",
        /// The primary has what we have.
        Current = "current",
        Failed = "failed",
    }
}
label! {
    /// Why a connection was refused, or ended by us before its client was done with it.
    Ended {
        /// All places are taken by others who are owed an answer.
        Full = "full",
        /// Left for a newcomer.
        Shed = "shed",
        /// No PROXY header, or a bad one, from who must send it.
        Proxy = "proxy",
        /// TLS could not be agreed on.
        Handshake = "handshake",
        /// TLS was not agreed on in time.
        HandshakeTimeout = "handshake-timeout",
        /// A query was begun and not completed in time.
        Unfinished = "unfinished",
        /// The client does not take its answers.
        Unread = "unread",
        /// Octets that are not of the protocol.
        Protocol = "protocol",
        /// As old as a connection may become.
        Lifetime = "lifetime",
    }
}
label! {
    /// How a request over HTTP was answered.
    HttpStatus {
        Ok = "200",
        BadRequest = "400",
        NotFound = "404",
        MethodNotAllowed = "405",
        Timeout = "408",
        ContentTooLarge = "413",
        UriTooLong = "414",
        UnsupportedMediaType = "415",
        Failed = "500",
        Busy = "503",
    }
}
label! {
    /// What becomes of a query over the rate limit.
    Limited { Drop = "drop", Slip = "slip", }
}
label! {
    /// Where an address of `server.listen` stands.
    AddressState {
        Served = "served",
        /// Configured, not on any interface yet; bound ahead.
        Waiting = "waiting",
        Failed = "failed",
    }
}
label! {
    /// Where operators are told of queries.
    TapOutlet { QueryLog = "query-log", Dnstap = "dnstap", }
}
label! {
    /// Why something seen was not told.
    TapDropped {
        /// Its queue was full.
        Full = "full",
        /// It could not be written.
        Failed = "failed",
    }
}
label! {
    /// What validation said of a reply.
    DnssecVerdict {
        Secure = "secure",
        Insecure = "insecure",
        Bogus = "bogus",
        /// No trust anchor is above the name.
        Indeterminate = "indeterminate",
        /// What validation needs could not be fetched.
        Unknown = "unknown",
    }
}
label! {
    /// What came of asking other servers for what was bogus.
    OthersAsked { Mended = "mended", Bogus = "bogus", }
}
label! {
    /// What came of a look at a zone's keys.
    AnchorRefresh {
        Believed = "believed",
        /// No trusted key signed them.
        Refused = "refused",
        /// They were not to be had.
        Failed = "failed",
    }
}
label! {
    /// What came of a signal about anchors.
    AnchorSignal { Sent = "sent", Failed = "failed", }
}
label! {
    /// How a reload ended.
    ReloadResult { Applied = "applied", Unchanged = "unchanged", Refused = "refused", }
}

impl Rcode {
    /// From the 12-bit RCODE of a message with EDNS, or the 4-bit one without.
    #[must_use]
    pub const fn from_wire(rcode: u16) -> Self {
        match rcode {
            0 => Self::NoError,
            1 => Self::FormErr,
            2 => Self::ServFail,
            3 => Self::NxDomain,
            4 => Self::NotImp,
            5 => Self::Refused,
            16 => Self::BadVers,
            _ => Self::Other,
        }
    }
}
