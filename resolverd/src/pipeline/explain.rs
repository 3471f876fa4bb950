//! Where the answer to a question is, and what the next client who asks would get.
//!
//! Looks and leaves no trace. Facts only; `control/` has the words around them.

use std::sync::Arc;

use hickory_proto::rr::Record as HickoryRecord;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use resolverd_common::entry::{self, CLASSES, Flags, Head};
use resolverd_common::key;
use resolverd_common::question::HEADER_LEN;
use resolverd_common::time::SECOND;

use super::{Pipeline, Shared};
use crate::cache::{Seen, State, promotion};
use crate::clock::boot_now;
use crate::dns::records::{self, Record};
use crate::dns::{Ede, Name, Query};
use crate::kernel::Mark;
use crate::policy::{Rule, ViewId};

/// All there is about one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The kernel's entries for it, one for each pair of the DO and CD bits that is stored.
    pub kernel: Vec<KernelEntry>,
    /// Why the kernel would not answer the plain question.
    pub not_in_kernel: Option<&'static str>,
    /// The daemon's entries, likewise.
    pub cache: Vec<CacheEntry>,
    /// The local zone that decides, if one does.
    pub zone: Option<Name>,
    /// The rule of policy that decides, if one does.
    pub rule: Option<String>,
    /// Who answers the next plain question: one sentence.
    pub next: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEntry {
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    /// Why the kernel would not answer from it now. None: it would.
    pub stale: Option<&'static str>,
    pub stored_secs_ago: u64,
    pub expires_in_secs: u64,
    /// Octets of the class of map elements it is in.
    pub class: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    pub rcode: u8,
    /// "upstream NAME", "zone NAME", "daemon".
    pub source: Arc<str>,
    /// Why it is not answered from. None: it is.
    pub stale: Option<&'static str>,
    /// It is past its time, and used for want of a newer one (RFC 8767).
    pub used_stale: bool,
    /// How much longer it may be used so; none: not at all, or it is no matter yet.
    pub usable_secs: Option<u64>,
    pub stored_secs_ago: u64,
    pub expires_in_secs: u64,
    pub hits: u64,
    /// Whether it was written into the kernel's maps.
    pub promoted: bool,
    pub secure: bool,
    pub ede: Option<Ede>,
    /// In presentation format, with the TTLs that are left.
    pub records: Vec<String>,
}

impl Pipeline {
    /// Explains the question for a name and a type.
    #[must_use]
    pub fn explain(&self, name: &Name, qtype: u16) -> Explained {
        self.shared.explain(name, qtype)
    }
}

impl Shared {
    fn explain(&self, name: &Name, qtype: u16) -> Explained {
        let now = boot_now().0;
        let mark = self.fast.mark();
        let plain = Query {
            name: name.clone(),
            qtype,
            dnssec_ok: false,
            checking_disabled: false,
            view: ViewId::EVERYBODY.0,
        };
        let (mut kernel, mut cache) = (Vec::new(), Vec::new());
        let mut withheld = None;
        for (dnssec_ok, checking_disabled) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let query = Query { dnssec_ok, checking_disabled, ..plain.clone() };
            let (key, meta, words) = self.key(&query);
            let entry = self.fast.peek(key).filter(|entry| is_for(entry, meta, name.as_wire()));
            kernel.extend(entry.and_then(|entry| kernel_entry(&entry, mark, now)));
            let Some(seen) = self.cache.peek(key, meta, &words, now) else { continue };
            if query == plain {
                withheld = self.withheld(&seen, now);
            }
            cache.push(self.cache_entry(&seen, now));
        }
        let rule = self.rule_for(&plain);
        let zone = match &rule {
            Some(Rule::Zone { zone, .. } | Rule::Builtin(zone)) => Some(zone.clone()),
            _ => None,
        };
        let rule = rule.map(|rule| rule.to_string());
        let is_plain = |dnssec_ok: bool, cd: bool| !dnssec_ok && !cd;
        let in_kernel = self.fast.is_live()
            && kernel.iter().any(|entry: &KernelEntry| {
                is_plain(entry.dnssec_ok, entry.checking_disabled) && entry.stale.is_none()
            });
        let not_in_kernel = if !self.fast.is_live() {
            Some("the kernel path is not in use")
        } else if in_kernel {
            None
        } else {
            Some(withheld.unwrap_or("nobody asked since it was last flushed, or it was evicted"))
        };
        let cached = cache
            .iter()
            .find(|entry| is_plain(entry.dnssec_ok, entry.checking_disabled))
            .filter(|entry| entry.stale.is_none());
        let old = cache.iter().any(|entry| {
            is_plain(entry.dnssec_ok, entry.checking_disabled)
                && entry.stale.is_some()
                && entry.usable_secs.is_some()
        });
        let next = match (&cached, &rule) {
            _ if in_kernel => "the kernel answers".to_owned(),
            (Some(entry), _) if entry.used_stale => {
                format!("the daemon answers with an old answer from its cache ({})", entry.source)
            }
            (Some(entry), _) => format!("the daemon answers from its cache ({})", entry.source),
            (None, Some(rule)) => match &zone {
                Some(zone) => format!("the local zone {zone} answers"),
                None => format!("the daemon answers by a rule: {rule}"),
            },
            (None, None) if old => format!(
                "{}; should there be no answer in time, the old one is used",
                self.resolver.would_ask(name)
            ),
            (None, None) => self.resolver.would_ask(name),
        };
        Explained { kernel, not_in_kernel, cache, zone, rule, next }
    }

    /// The rule that decides a question before anybody is asked.
    pub(super) fn rule_for(&self, query: &Query) -> Option<Rule> {
        if let Some(ruling) = self.policy.load().rules.local(query) {
            return Some(ruling.rule);
        }
        let view = ViewId(query.view);
        let hit = self.rpz.load().question(view, &query.name, None, &mut |_| {});
        hit.map(Rule::Rpz)
    }

    /// Why an entry of ours is not in the kernel, as far as that is for us to decide.
    fn withheld(&self, seen: &Seen, now: u64) -> Option<&'static str> {
        match promotion::eligible(&seen.head, now) {
            _ if seen.state != State::Fresh => None,
            Err(withheld) => Some(withheld.as_str()),
            Ok(class) if !seen.held.is_published() && !self.cache.has_room(class) => {
                Some(promotion::Withheld::OneHit.as_str())
            }
            Ok(_) => None,
        }
    }

    fn cache_entry(&self, seen: &Seen, now: u64) -> CacheEntry {
        let Seen { held, head, state } = seen;
        let meta = key::Meta::of(head.meta);
        let mut words = vec![0; head.len_words()];
        held.copy_to(&mut words);
        let elapsed = now.saturating_sub(head.stored_at) / SECOND;
        CacheEntry {
            dnssec_ok: meta.dnssec_ok,
            checking_disabled: meta.cd,
            rcode: head.flags.rcode(),
            source: self.cache.origin_name(head.origin),
            stale: match state {
                State::Fresh => None,
                State::Stale | State::Expired => Some(EXPIRED),
                State::Flushed => Some(FLUSHED),
            },
            used_stale: held.is_stale(),
            usable_secs: (*state == State::Stale || held.is_stale())
                .then(|| self.cache.stale_left(seen, now).as_secs()),
            stored_secs_ago: elapsed,
            expires_in_secs: head.expires_at().saturating_sub(now) / SECOND,
            hits: held.hits(),
            promoted: held.is_published(),
            secure: head.flags.has(Flags::SECURE),
            ede: head.flags.has(Flags::EDE).then(|| Ede {
                code: head.ede,
                text: String::from_utf8_lossy(&held.text()).into_owned(),
            }),
            records: texts(&words, head, elapsed),
        }
    }
}

fn is_for(entry: &[u64], meta: u64, wire: &[u8]) -> bool {
    entry::head_of(entry)
        .is_some_and(|head| head.meta == meta && entry::name_of(entry, &head) == wire)
}

/// What the kernel makes of an entry: the order of its checks is `lookup.rs`'s.
fn kernel_entry(entry: &[u64], mark: Mark, now: u64) -> Option<KernelEntry> {
    let head = entry::head_of(entry)?;
    let meta = key::Meta::of(head.meta);
    let stale = if !head.is_fresh(now) {
        Some(EXPIRED)
    } else if head.epoch != mark.epoch || head.generation <= mark.barrier {
        Some(FLUSHED)
    } else {
        None
    };
    Some(KernelEntry {
        dnssec_ok: meta.dnssec_ok,
        checking_disabled: meta.cd,
        stale,
        stored_secs_ago: now.saturating_sub(head.stored_at) / SECOND,
        expires_in_secs: head.expires_at().saturating_sub(now) / SECOND,
        class: head.class().and_then(|class| CLASSES.get(class)).map_or(0, |octets| *octets as u32),
    })
}

/// The records of an entry as text, with the TTLs that are left.
pub(super) fn texts(words: &[u64], head: &Head, elapsed: u64) -> Vec<String> {
    let name = entry::name_of(words, head);
    let mut message = vec![0; HEADER_LEN];
    message.extend_from_slice(name);
    message.extend_from_slice(&[0; 4]);
    let at = message.len();
    message.extend_from_slice(entry::body_of(words, head));
    // The sum of three counts of records that fit into 64 KiB.
    let read = records::read(&message, at, head.ttls() as u16);
    let records = read.map(|(records, _)| records).unwrap_or_default();
    let left = |ttl: u32| ttl.saturating_sub(u32::try_from(elapsed).unwrap_or(u32::MAX));
    records.iter().map(|record| text(&Record { ttl: left(record.ttl), ..record.clone() })).collect()
}

fn text(record: &Record) -> String {
    let mut wire = record.owner.as_wire().to_vec();
    wire.extend_from_slice(&record.rtype.to_be_bytes());
    wire.extend_from_slice(&record.class.to_be_bytes());
    wire.extend_from_slice(&record.ttl.to_be_bytes());
    // What was read from a message is no longer than one.
    wire.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
    wire.extend_from_slice(&record.rdata);
    if let Ok(record) = HickoryRecord::read(&mut BinDecoder::new(&wire)) {
        return record.to_string();
    }
    // RFC 3597 section 5.
    let octets: String = record.rdata.iter().map(|octet| format!("{octet:02x}")).collect();
    let Record { owner, ttl, rtype, rdata, .. } = record;
    format!("{owner} {ttl} IN TYPE{rtype} \\# {} {octets}", rdata.len())
}

const EXPIRED: &str = "expired";
const FLUSHED: &str = "flushed";
