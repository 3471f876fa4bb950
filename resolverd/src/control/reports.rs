//! What the daemon tells its operators: the JSON of the control socket, as types.
//!
//! Facts with their units in their names; words for people are `show.rs`'s. A field that is
//! left out is not known or does not apply. New fields may be added; none changes its meaning.

use serde::{Deserialize, Serialize};

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    pub version: String,
    /// The number of the contract with the kernel's program.
    pub abi: u32,
    pub pid: u32,
    pub uptime_secs: u64,
    pub kernel: KernelReport,
    pub listeners: Vec<ListenerReport>,
    pub upstreams: Vec<UpstreamReport>,
    pub cache: CacheReport,
    pub config: ConfigReport,
}

/// How the fast path is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelReport {
    /// Whether any interface is attached.
    pub available: bool,
    /// Why not, or what is less than it could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub interfaces: Vec<InterfaceReport>,
    /// How long the kernel goes on without the daemon; left out when it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_left_ms: Option<u64>,
    /// What became of packets, by reason; reasons without packets are left out.
    pub packets: Vec<PacketsReport>,
    pub events_lost: u64,
    /// Where programs and maps are pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_path: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InterfaceReport {
    pub name: String,
    /// Left out while the interface does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// "xdp", "xdp-generic" or "tc"; left out while it is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_id: Option<u32>,
    pub attached: bool,
    /// Why it is not attached, or not in the best mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PacketsReport {
    /// "hit": answered by the kernel; "pass": left to the daemon or to others.
    pub verdict: String,
    pub reason: String,
    pub packets: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerReport {
    pub address: String,
    /// "udp" or "tcp".
    pub transport: String,
    /// "served", "waiting" or "failed".
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamReport {
    pub name: String,
    pub address: String,
    /// As in the file: "udp", "tls".
    #[serde(default)]
    pub protocol: String,
    pub zones: Vec<String>,
    pub healthy: bool,
    /// Smoothed; left out until it answered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Questions that it did not answer.
    pub failures: u32,
    /// It was seen to forward to us, and is not asked.
    #[serde(rename = "loop")]
    pub is_loop: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheReport {
    pub entries: u64,
    pub bytes: u64,
    pub bytes_max: u64,
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigReport {
    pub file: String,
    /// RFC 3339, UTC.
    pub loaded_at: String,
    /// The local zones.
    pub zones: Vec<String>,
}

/// Where a name's answer is, and what the next query for it would get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainReport {
    pub question: QuestionReport,
    /// The kernel's entries for it, one for each pair of the DO and CD bits that is stored.
    pub kernel: Vec<KernelEntryReport>,
    /// Why the kernel has none, where it could have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in_kernel: Option<String>,
    /// The daemon's entries, likewise.
    pub cache: Vec<CacheEntryReport>,
    /// The local zone that decides, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The rule of policy that decides, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The upstreams that would be asked, best first.
    pub upstreams: Vec<String>,
    /// One sentence.
    pub next: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestionReport {
    pub name: String,
    pub qtype: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelEntryReport {
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    /// Whether the kernel would answer from it now.
    pub fresh: bool,
    /// Why it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub stored_secs_ago: u64,
    pub expires_in_secs: u64,
    /// Octets of the class of map elements it is in.
    pub class: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheEntryReport {
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    pub rcode: String,
    /// Where it came from: "upstream NAME", "zone NAME", "daemon".
    pub source: String,
    pub stored_secs_ago: u64,
    pub expires_in_secs: u64,
    /// Whether it was written into the kernel's maps.
    pub promoted: bool,
    /// It is past its time, and used for want of a newer one.
    #[serde(default)]
    pub stale: bool,
    /// How much longer it may be used past its time; left out while it is not past it, or may
    /// not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_for_secs: Option<u64>,
    /// "secure" where DNSSEC says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnssec: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ede: Option<EdeReport>,
    /// The records, in presentation format, with the TTLs that are left.
    pub records: Vec<String>,
}

/// RFC 8914.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdeReport {
    pub code: u16,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlushReport {
    /// What was flushed: "all", or "name N", "zone N".
    pub flushed: String,
    /// Entries of the daemon's cache that went.
    pub entries: u64,
    /// Too many flushes to remember one by one: everything went.
    pub overflow: bool,
}

/// What became of the answers of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Now in the cache, unvalidated until they are asked for again.
    pub taken: u64,
    /// Their life is over.
    pub expired: u64,
    /// There is a good answer already.
    pub known: u64,
    /// Not for a dump to say: signed and proven elsewhere, a failure, of a view, or answered by a
    /// local zone.
    pub kept_out: u64,
    /// No answers.
    pub malformed: u64,
}

/// What is trusted, and what is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustAnchorsReport {
    pub zones: Vec<AnchoredZoneReport>,
    pub negative: Vec<NegativeAnchorReport>,
    /// Where the state of RFC 5011 is; left out while anchors do not follow their zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_file: Option<String>,
    /// Why the state is not as it should be; somebody must act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchoredZoneReport {
    pub zone: String,
    /// Whether what is said of it is validated; else its anchors are there for nothing.
    pub validated: bool,
    /// Whether its anchors follow its keys (RFC 5011).
    pub followed: bool,
    /// RFC 3339, UTC, here and below: when its keys were believed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh: Option<String>,
    /// When its keys are asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh: Option<String>,
    pub anchors: Vec<AnchorReport>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorReport {
    pub key_tag: u16,
    /// Its mnemonic, or its number.
    pub algorithm: String,
    /// "DS" or "DNSKEY".
    pub form: String,
    /// "built-in", the path of a file, or "rfc5011".
    pub origin: String,
    /// Of RFC 5011: "add-pend", "valid", "missing", "revoked", "removed". "configured": as the
    /// configuration says; "unseen": so, and the zone has no such key.
    pub state: String,
    pub trusted: bool,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// RFC 7646.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegativeAnchorReport {
    pub zone: String,
    /// Left out: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub in_force: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReloadReport {
    pub file: String,
    /// Keys with new values, in effect.
    pub applied: Vec<String>,
    /// Keys with new values that wait for a restart.
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetachReport {
    /// Interfaces the program was taken from.
    pub interfaces: Vec<String>,
    /// Pins that were removed.
    pub pins: Vec<String>,
}

/// The body of every answer that is no success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorReport {
    pub error: String,
}
