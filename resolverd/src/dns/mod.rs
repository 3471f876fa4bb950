//! Our words over the wire format: what is asked, and what is answered.
//!
//! Pure. An [`Answer`] is already in the form the cache and the kernel keep: the octets that
//! follow the question, in a message whose question is the lower-cased one. `records` reads and
//! writes these octets; hickory-proto reads text and is what the tests compare with.

pub mod name;
pub mod records;
pub mod rtype;
pub mod sections;
pub mod trail;

use std::sync::Arc;
use std::time::Duration;

use resolverd_common::key::{self, Meta};
use zerocopy::IntoBytes;

pub use name::{Name, NameError};
pub use records::RecordError;
pub use sections::Sections;
pub use trail::{Cut, NameServer, Trail};

/// One question, as far as it decides the answer.
///
/// The class is always IN: other classes are refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    pub name: Name,
    /// RFC 1035 QTYPE.
    pub qtype: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// The CD bit (RFC 4035 section 3.2.2).
    pub checking_disabled: bool,
    /// Which view the client is in; 0 is everybody's.
    pub view: u16,
}

impl Query {
    /// From the contract's words: what a [`key::meta`] says, and a lower-cased name padded with
    /// anything.
    #[must_use]
    pub fn of(meta: u64, name: &[u64]) -> Option<Self> {
        let meta = Meta::of(meta);
        let name = name.as_bytes().get(..usize::from(meta.name_len))?;
        Some(Self {
            name: Name::from_wire(name).ok()?,
            qtype: meta.qtype,
            dnssec_ok: meta.dnssec_ok,
            checking_disabled: meta.cd,
            view: meta.view,
        })
    }

    /// The contract's word for all of it but the name.
    #[must_use]
    pub fn meta(&self) -> u64 {
        // A name has at most 255 octets.
        let len = self.name.as_wire().len() as u8;
        key::meta(self.qtype, self.view, len, self.dnssec_ok, self.checking_disabled)
    }
}

/// What is answered, without the header and the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The 4-bit RCODE of the header.
    pub rcode: u8,
    /// AA: we are authoritative (local zones).
    pub authoritative: bool,
    /// DNSSEC-validated as secure: AD for clients that ask for it.
    pub secure: bool,
    /// Records in the answer, authority and additional sections. No OPT is among them.
    pub counts: [u16; 3],
    /// The octets after the question. Compression pointers hold for a message with a
    /// 12-octet header and this query's uncompressed question before them.
    pub body: Vec<u8>,
    /// Where in `body` each record's 4-octet TTL stands, in order; one a record.
    pub ttl_offsets: Vec<u16>,
    /// How long the answer may be used (RFC 2181, RFC 2308); zero: not cached.
    pub life: Duration,
    /// How long the signatures of a secure answer hold; past its life it is used no longer than
    /// that (RFC 8767). None: nobody says.
    pub signed_for: Option<Duration>,
    /// Extended DNS error (RFC 8914), sent only to clients with EDNS.
    pub ede: Option<Ede>,
    /// Who said so.
    pub source: Source,
    /// Whose servers led to it, if somebody wants to know.
    pub trail: Trail,
}

/// RFC 8914. An answer with extra text is not promoted into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ede {
    pub code: u16,
    pub text: String,
}

/// Where an answer came from; `explain` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A local zone, by its name.
    Local(Name),
    /// A policy zone, by its name.
    Rpz(Arc<str>),
    /// An upstream, by its configured name.
    Upstream(Arc<str>),
    /// Made here: a refusal, a failure.
    Daemon,
}

/// RCODEs that are made here (RFC 1035 section 4.1.1, RFC 6891).
pub mod rcode {
    pub const NOERROR: u8 = 0;
    pub const FORMERR: u8 = 1;
    pub const SERVFAIL: u8 = 2;
    pub const NXDOMAIN: u8 = 3;
    pub const NOTIMP: u8 = 4;
    pub const REFUSED: u8 = 5;
}

impl Answer {
    /// An answer without records.
    #[must_use]
    pub fn empty(rcode: u8, life: Duration, ede: Option<Ede>) -> Self {
        Self {
            rcode,
            authoritative: false,
            secure: false,
            counts: [0; 3],
            body: Vec::new(),
            ttl_offsets: Vec::new(),
            life,
            signed_for: None,
            ede,
            source: Source::Daemon,
            trail: Trail::default(),
        }
    }
}
