//! What operators ask of the daemon, answered from its parts.

use std::sync::Arc;

use axum::body::Bytes;
use resolverd_common::counters::{Cookies, Reason};
use tokio::sync::mpsc;
use tracing::debug;

use super::meaning::event_sample;
use super::{Joined, driver, dump};
use crate::cache::Scope;
use crate::clock::Utc;
use crate::control::reports::{
    CacheEntryReport, CacheReport, ConfigReport, DetachReport, EdeReport, ExplainReport,
    FlushReport, InterfaceReport, KernelEntryReport, KernelReport, ListenerReport, LoadReport,
    PacketsReport, QuestionReport, ReloadReport, StatusReport, TrustAnchorsReport, UpstreamReport,
};
use crate::control::{Daemon, FlushScope, Question, Refused};
use crate::dns::Name;
use crate::kernel::maps::lease_left_millis;
use crate::metrics::{AnsweredBy, Rcode};
use crate::pipeline::Transport;
use crate::pipeline::explain::{CacheEntry, KernelEntry};
use crate::resolver::Health;
use crate::server::State;
use crate::{log, metrics};

impl Daemon for Joined {
    fn status(&self) -> StatusReport {
        let config = self.config.load();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: resolverd_common::ABI,
            pid: std::process::id(),
            uptime_secs: self.started.elapsed().as_secs(),
            kernel: self.kernel_status(),
            listeners: self.server.listening().into_iter().map(listener).collect(),
            upstreams: self.resolver.upstreams().into_iter().map(upstream).collect(),
            cache: self.cache(config.cache.memory_max),
            config: ConfigReport {
                file: config.file.clone(),
                loaded_at: Utc(*self.loaded_at.lock()).to_string(),
                zones: config.zones.iter().map(|zone| zone.name.clone()).collect(),
            },
        }
    }

    fn kernel_status(&self) -> KernelReport {
        let mut report = KernelReport {
            available: self.fast.is_live(),
            reason: self.kernel_problem.lock().clone(),
            ..KernelReport::default()
        };
        let Some(kernel) = &self.kernel else {
            return report;
        };
        report.interfaces = kernel
            .states()
            .into_iter()
            .map(|state| InterfaceReport {
                attached: state.mode.is_some(),
                name: state.name,
                index: state.index,
                mode: state.mode.map(|mode| mode.as_str().to_owned()),
                program_id: state.program_id,
                reason: state.problem,
            })
            .collect();
        let left = lease_left_millis(kernel.maps().leased_until());
        report.lease_left_ms = (left > 0).then_some(left);
        report.packets = self
            .packets()
            .into_iter()
            .filter(|(_, _, packets)| *packets > 0)
            .map(|(verdict, reason, packets)| PacketsReport {
                verdict: verdict.to_owned(),
                reason: reason.to_owned(),
                packets,
            })
            .collect();
        report.events_lost = kernel.maps().counters().events_lost;
        report.pin_path = Some(self.config.load().kernel.pin_path.display().to_string());
        report
    }

    fn metrics_text(&self) -> String {
        self.metrics.set_kernel_packets(&self.packets());
        if let Some(kernel) = &self.kernel {
            let counters = kernel.maps().counters();
            self.metrics.set_kernel_events_lost(counters.events_lost);
            let cookies = Cookies::ALL.map(|c| (c.as_str(), counters.cookies[c as usize]));
            self.metrics.set_kernel_limits(&cookies, counters.amplified);
        }
        let sampling = event_sample(&self.config.load());
        self.metrics.kernel_event_sampling_ratio.set(1.0 / f64::from(sampling));
        self.metrics.set_log_suppressed(log::suppressed());
        let stats = self.pipeline.cache().stats();
        self.metrics.cache_entries.set(stats.entries as i64);
        self.metrics.cache_bytes.set(stats.octets as i64);
        self.server.listening();
        self.metrics.encode()
    }

    async fn explain(&self, question: Question) -> Result<ExplainReport, Refused> {
        let Question { name, qtype } = question;
        let explained = self.pipeline.explain(&name, qtype);
        let upstreams = match explained.rule {
            Some(_) => Vec::new(),
            None => self.asked_for(&name),
        };
        Ok(ExplainReport {
            question: QuestionReport {
                name: name.to_string(),
                qtype: hickory_proto::rr::RecordType::from(qtype).to_string(),
            },
            kernel: explained.kernel.into_iter().map(kernel_entry).collect(),
            not_in_kernel: explained.not_in_kernel.map(ToOwned::to_owned),
            cache: explained.cache.into_iter().map(cache_entry).collect(),
            zone: explained.zone.map(|zone| zone.to_string()),
            rule: explained.rule,
            upstreams,
            next: explained.next,
        })
    }

    async fn flush(&self, scope: FlushScope) -> Result<FlushReport, Refused> {
        let before = self.pipeline.cache().stats().entries;
        let (scope, flushed) = match scope {
            FlushScope::Name(name) => (Scope::Name(name.clone()), format!("name {name}")),
            FlushScope::Zone(name) => (Scope::Zone(name.clone()), format!("zone {name}")),
            FlushScope::All => (Scope::All, "all".to_owned()),
        };
        let overflow = self.pipeline.flush(&scope);
        // In effect from here; what follows gives memory back and counts.
        let pipeline = Arc::clone(&self.pipeline);
        let entries =
            tokio::task::spawn_blocking(move || pipeline.sweep_flushed()).await.unwrap_or_default();
        debug!(%flushed, entries, before, "flushed");
        Ok(FlushReport { flushed, entries, overflow })
    }

    fn trust_anchors(&self) -> TrustAnchorsReport {
        self.trust_anchors_report()
    }

    async fn reload(&self) -> Result<ReloadReport, Refused> {
        let changes = Joined::reload(self).await.map_err(|e| Refused::Invalid(e.to_string()))?;
        Ok(ReloadReport {
            file: self.config.load().file.clone(),
            applied: changes.applied.iter().map(ToString::to_string).collect(),
            needs_restart: changes.needs_restart.iter().map(ToString::to_string).collect(),
        })
    }

    fn cache_dump(self: &Arc<Self>, zone: Option<Name>, limit: u64) -> mpsc::Receiver<String> {
        dump::dump(self, zone, limit)
    }

    async fn cache_load(
        self: &Arc<Self>,
        octets: Bytes,
        foreign: bool,
    ) -> Result<LoadReport, Refused> {
        let joined = Arc::clone(self);
        let loading = tokio::task::spawn_blocking(move || dump::load(&joined, &octets, foreign));
        loading.await.unwrap_or_else(|panic| Err(Refused::Failed(panic.to_string())))
    }

    async fn kernel_detach(&self) -> Result<DetachReport, Refused> {
        let Some(kernel) = &self.kernel else {
            let pins = driver::detach_leftovers(&self.config.load().kernel);
            return Ok(DetachReport { interfaces: Vec::new(), pins });
        };
        let interfaces = kernel
            .states()
            .into_iter()
            .filter(|state| state.mode.is_some())
            .map(|state| state.name)
            .collect();
        let pins = kernel.detach();
        *self.kernel_problem.lock() = Some("detached by an operator".to_owned());
        self.note_kernel();
        Ok(DetachReport { interfaces, pins })
    }
}

impl Joined {
    /// Verdict, reason and count of every reason that the program knows.
    fn packets(&self) -> Vec<(&'static str, &'static str, u64)> {
        let Some(kernel) = &self.kernel else {
            return Vec::new();
        };
        let counters = kernel.maps().counters();
        let hits = [Reason::Answered, Reason::Truncated, Reason::RateLimited]
            .map(|reason| ("hit", reason.as_str(), counters.hits[reason as usize]));
        let passes = Reason::ALL
            .into_iter()
            .filter(|reason| !matches!(reason, Reason::Answered | Reason::RateLimited))
            .map(|reason| ("pass", reason.as_str(), counters.passes[reason as usize]));
        let limited = Reason::RateLimited;
        let drops = [("drop", limited.as_str(), counters.drops[limited as usize])];
        hits.into_iter().chain(passes).chain(drops).collect()
    }

    fn cache(&self, memory_max: u64) -> CacheReport {
        let stats = self.pipeline.cache().stats();
        CacheReport {
            entries: stats.entries,
            bytes: stats.octets,
            bytes_max: memory_max,
            hits: self.answered_by(AnsweredBy::Cache),
            misses: self.answered_by(AnsweredBy::Upstream),
            evictions: self.metrics.cache_evictions.get(),
        }
    }

    /// Queries answered by one of us, over all transports and RCODEs.
    fn answered_by(&self, by: AnsweredBy) -> u64 {
        let pairs = metrics::Transport::ALL
            .iter()
            .flat_map(|transport| Rcode::ALL.iter().map(move |rcode| (*transport, *rcode)));
        pairs.map(|(transport, rcode)| self.metrics.queries(transport, by, rcode).get()).sum()
    }

    /// Upstreams that would be asked for a name: those of the longest zone it is in.
    fn asked_for(&self, name: &Name) -> Vec<String> {
        let states = self.resolver.upstreams();
        let longest = states
            .iter()
            .flat_map(|state| state.zones.iter())
            .filter(|zone| name.is_under(zone))
            .max_by_key(|zone| zone.as_wire().len());
        let Some(longest) = longest else {
            return Vec::new();
        };
        let mut asked: Vec<_> =
            states.iter().filter(|state| state.zones.contains(longest)).collect();
        asked.sort_by_key(|state| (state.health != Health::Up, state.rtt));
        asked.iter().map(|state| state.name.to_string()).collect()
    }
}

fn kernel_entry(entry: KernelEntry) -> KernelEntryReport {
    KernelEntryReport {
        dnssec_ok: entry.dnssec_ok,
        checking_disabled: entry.checking_disabled,
        fresh: entry.stale.is_none(),
        reason: entry.stale.map(ToOwned::to_owned),
        stored_secs_ago: entry.stored_secs_ago,
        expires_in_secs: entry.expires_in_secs,
        class: entry.class,
    }
}

fn cache_entry(entry: CacheEntry) -> CacheEntryReport {
    CacheEntryReport {
        dnssec_ok: entry.dnssec_ok,
        checking_disabled: entry.checking_disabled,
        rcode: Rcode::from_wire(entry.rcode.into()).as_str().to_owned(),
        source: entry.source.to_string(),
        stored_secs_ago: entry.stored_secs_ago,
        expires_in_secs: entry.expires_in_secs,
        promoted: entry.promoted,
        stale: entry.used_stale,
        stale_for_secs: entry.usable_secs,
        dnssec: entry.secure.then(|| "secure".to_owned()),
        ede: entry.ede.map(|ede| EdeReport { code: ede.code, text: ede.text }),
        records: entry.records,
    }
}

fn listener(
    (address, transport, state): (std::net::SocketAddr, Transport, State),
) -> ListenerReport {
    let (state, reason) = match state {
        State::Serving => ("served", None),
        State::Waiting => ("waiting", None),
        State::Failed(reason) => ("failed", Some(reason)),
    };
    ListenerReport {
        address: address.to_string(),
        transport: transport.label().as_str().to_owned(),
        state: state.to_owned(),
        reason,
    }
}

fn upstream(state: crate::resolver::UpstreamState) -> UpstreamReport {
    UpstreamReport {
        name: state.name.to_string(),
        address: state.address.to_string(),
        protocol: state.protocol.as_str().to_owned(),
        zones: state.zones.iter().map(ToString::to_string).collect(),
        healthy: matches!(state.health, Health::Unknown | Health::Up),
        rtt_ms: state.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
        failures: u32::try_from(state.asked.saturating_sub(state.answered)).unwrap_or(u32::MAX),
        is_loop: state.health == Health::Loop,
    }
}
