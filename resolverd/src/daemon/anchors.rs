//! Trust anchors in the life of the daemon: they follow the keys of their zones (RFC 5011), and
//! the zones are told of them (RFC 8145).
//!
//! One task, which ends with the runtime. It looks every [`LOOK_EVERY`] at the wall clock, and
//! asks for the keys of the zones whose time has come, one zone after the other; what comes is
//! judged by the pure machine, stored, and taken up by validation without a restart.
//!
//! Followed are the zones that have an anchor and whose answers are validated, up to
//! [`FOLLOWED_MAX`], by name. What the operator configured is trusted until a zone's keys were
//! seen once, while there is no state to go on with, and for the zones past the bound.

pub mod configured;
mod report;
mod state;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::{Joined, listening, meaning, system_resolvers};
use crate::cache::Scope;
use crate::clock::wall_now;
use crate::config::Config;
use crate::dns::{Name, rtype};
use crate::metrics::{AnchorRefresh, AnchorSignal, Metrics};
use crate::resolver::dnssec::anchors::{Anchors, Point};
use crate::resolver::dnssec::driver::Policy;
use crate::resolver::dnssec::rfc5011::{self, Change, FOLLOWED_MAX, Moment, State, Tracker};
use crate::resolver::dnssec::rrset::{self, RrSet};
use crate::resolver::dnssec::signalling;
use crate::resolver::dnssec::verify::Work;
use crate::resolver::{self, Fetch};
use state::StateFile;

/// The wall clock may be set at any time: nobody sleeps until a time of his.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where keys are not asked for, their zone is told of them so often all the same.
const SIGNAL_EVERY_SECS: u64 = 86_400;

/// What is known of the zones' keys. May be used from any thread.
pub struct Follower {
    file: StateFile,
    inner: Mutex<Inner>,
}

struct Inner {
    /// By name.
    trackers: Vec<Tracker>,
    disk: Disk,
    /// When each zone was told last.
    signalled: HashMap<Name, u64>,
    /// There are more zones than are followed, and that was told.
    told_of_bound: bool,
}

/// How the state on disk is.
#[derive(Clone, PartialEq, Eq)]
enum Disk {
    /// Nobody wanted it so far.
    Unread,
    /// As in memory.
    Good,
    /// Something is to be written.
    Behind,
    /// It could not be written, and why; tried again.
    Failing(String),
    /// It was there, or is, and cannot be gone on with: nothing is followed, nor written.
    Lost(String),
}

impl Follower {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let inner = Inner {
            trackers: Vec::new(),
            disk: Disk::Unread,
            signalled: HashMap::new(),
            told_of_bound: false,
        };
        Self { file: StateFile::in_folder(state_dir), inner: Mutex::new(inner) }
    }

    /// Reads the state, if this configuration wants it and it was not read yet. One that cannot
    /// be gone on with is an alarm each time. True: it was read now.
    pub fn read(&self, config: &Config, metrics: &Metrics) -> bool {
        if !config.dnssec.rfc5011 {
            metrics.dnssec_anchor_state_alarm.set(0);
            metrics.set_dnssec_anchor_keys(&[]);
            return false;
        }
        let mut inner = self.inner.lock();
        let wanted = matches!(inner.disk, Disk::Unread | Disk::Lost(_));
        if wanted {
            inner.disk = match self.file.read() {
                Ok(mut trackers) => {
                    // Nobody knows what happened while we were away.
                    trackers.iter_mut().for_each(Tracker::hasten);
                    trackers.sort_by(|a, b| a.zone().cmp(b.zone()));
                    inner.trackers = trackers;
                    Disk::Good
                }
                Err(why) => {
                    error!(%why, "trust anchors do not follow their zones");
                    Disk::Lost(why.to_string())
                }
            };
        }
        inner.tell(metrics);
        wanted && inner.disk == Disk::Good
    }

    /// What validation begins with: what is configured, or where a zone's keys are followed, those.
    #[must_use]
    pub fn lay_over(&self, config: &Config, policy: Arc<Policy>) -> Arc<Policy> {
        let inner = self.inner.lock();
        let mut anchors = (*policy.anchors).clone();
        for tracker in inner.trackers.iter().filter(|tracker| tracker.has_begun()) {
            let point = policy.anchors.at(tracker.zone());
            if config.dnssec.rfc5011 && point.is_some_and(|point| tracker.follows(point)) {
                anchors.replace(tracker.zone(), tracker.trusted());
            }
        }
        Arc::new(Policy { anchors: Arc::new(anchors), ..(*policy).clone() })
    }

    /// Follows these zones. What is known of others is kept while they are `configured`: they may
    /// be validated again after the next reload. False: there is no room for all.
    fn attune(&self, zones: &[(Name, Point)], configured: &Anchors) -> bool {
        let mut inner = self.inner.lock();
        if matches!(inner.disk, Disk::Unread | Disk::Lost(_)) {
            return true;
        }
        let before = inner.trackers.clone();
        let mut room = true;
        inner.trackers.retain(|tracker| configured.at(tracker.zone()).is_some());
        for (zone, point) in zones {
            let followed = inner.trackers.len();
            match inner.trackers.iter_mut().find(|tracker| tracker.zone() == zone) {
                None if followed >= FOLLOWED_MAX => room = false,
                None => inner.trackers.push(Tracker::new(zone.clone(), point)),
                Some(tracker) if !tracker.follows(point) => {
                    info!(%zone, "other anchors are configured: they are begun from anew");
                    tracker.begin_anew(point);
                }
                Some(_) => {}
            }
        }
        inner.trackers.sort_by(|a, b| a.zone().cmp(b.zone()));
        if inner.trackers != before {
            inner.disk = Disk::Behind;
        }
        room
    }

    /// The zone's tracker, if its keys are to be asked for now.
    fn due(&self, zone: &Name, now: u64) -> Option<Tracker> {
        let inner = self.inner.lock();
        let of_zone = |tracker: &&Tracker| tracker.zone() == zone && tracker.is_due(now);
        inner.trackers.iter().find(of_zone).cloned()
    }

    /// Takes back a tracker that has looked. True: other keys are trusted now.
    fn put_back(&self, tracker: Tracker, point: &Point) -> bool {
        let mut inner = self.inner.lock();
        let of_zone = |old: &&mut Tracker| old.zone() == tracker.zone() && old.follows(point);
        // A reload may have begun it anew meanwhile.
        let Some(old) = inner.trackers.iter_mut().find(of_zone) else { return false };
        let other = old.has_begun() != tracker.has_begun() || old.trusted() != tracker.trusted();
        *old = tracker;
        inner.disk = Disk::Behind;
        other
    }

    /// Writes what changed. Waits for the disk.
    fn store(&self, metrics: &Metrics) {
        let before = self.inner.lock().disk.clone();
        if !matches!(before, Disk::Behind | Disk::Failing(_)) {
            return;
        }
        let text = rfc5011::write(&self.inner.lock().trackers);
        let after = match self.file.write(&text) {
            Ok(()) => Disk::Good,
            Err(why) => {
                let path = self.file.path();
                let why = format!("{}: it can't be written: {why}", path.display());
                if before != Disk::Failing(why.clone()) {
                    error!(%why, "what trust anchors saw of their zones is in memory alone");
                }
                Disk::Failing(why)
            }
        };
        let mut inner = self.inner.lock();
        inner.disk = after;
        inner.tell(metrics);
    }

    /// Whether the zone is to be told of its keys now, though nobody asked for them.
    fn is_to_be_told(&self, zone: &Name, now: u64) -> bool {
        let inner = self.inner.lock();
        let followed = inner.trackers.iter().any(|tracker| tracker.zone() == zone);
        let last = inner.signalled.get(zone).copied();
        // A time to come was taken by a clock that was set back.
        let recent = last.is_some_and(|last| (last..last + SIGNAL_EVERY_SECS).contains(&now));
        !followed && !recent
    }
}

impl Inner {
    /// Brings the metrics up to date.
    fn tell(&self, metrics: &Metrics) {
        let alarm = matches!(self.disk, Disk::Failing(_) | Disk::Lost(_));
        metrics.dnssec_anchor_state_alarm.set(alarm.into());
        let names: Vec<String> = self.trackers.iter().map(|t| t.zone().to_string()).collect();
        let keys = self.trackers.iter().zip(&names).flat_map(|(tracker, zone)| {
            let keys = tracker.keys().iter();
            keys.map(|key| (zone.as_str(), key.state.as_str(), 1)).collect::<Vec<_>>()
        });
        metrics.set_dnssec_anchor_keys(&keys.collect::<Vec<_>>());
    }
}

/// Follows the anchors' zones for as long as the runtime lives.
pub async fn follow(joined: Arc<Joined>) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        joined.follow_anchors().await;
        let joined = Arc::clone(&joined);
        let storing = tokio::task::spawn_blocking(move || joined.anchors.store(&joined.metrics));
        // A panic there was told by its thread.
        let _ = storing.await;
    }
}

impl Joined {
    /// What the resolver is to do: what is configured, with the anchors of now.
    pub(super) fn resolver_settings(
        &self,
        config: &Config,
        listen: &[std::net::SocketAddr],
    ) -> resolver::Settings {
        settings(config, listen, &self.anchors)
    }

    async fn follow_anchors(&self) {
        let config = self.config.load_full();
        let Some(policy) = configured::policy(&config).ok().flatten() else { return };
        let zones = self.zones_to_follow(&policy);
        let Config { dnssec, resolve, .. } = &*config;
        let full = dnssec.rfc5011 && !self.anchors.attune(&zones, &policy.anchors);
        let told = std::mem::replace(&mut self.anchors.inner.lock().told_of_bound, full);
        if full && !told {
            warn!(followed = FOLLOWED_MAX, "more zones have anchors than are followed");
        }
        if !resolve.recursion.background_queries {
            return;
        }
        for (zone, point) in &zones {
            let due = dnssec.rfc5011.then(|| self.anchors.due(zone, wall_secs())).flatten();
            let asked = due.is_some();
            if let Some(tracker) = due {
                self.refresh(tracker, point, &policy).await;
            }
            if dnssec.anchor_signalling && (asked || self.anchors.is_to_be_told(zone, wall_secs()))
            {
                self.signal(zone, &config, &policy).await;
            }
        }
    }

    fn zones_to_follow(&self, policy: &Policy) -> Vec<(Name, Point)> {
        let all = policy.anchors.points().filter(|(zone, _)| self.resolver.validates(zone));
        let mut zones: Vec<_> = all.map(|(zone, point)| (zone.clone(), point.clone())).collect();
        zones.sort_by(|(a, _), (b, _)| a.cmp(b));
        zones
    }

    /// Asks for the keys of a zone, and takes up what they show.
    async fn refresh(&self, mut tracker: Tracker, point: &Point, policy: &Policy) {
        let zone = tracker.zone().clone();
        let fetch = Fetch { name: zone.clone(), qtype: rtype::DNSKEY };
        let came = self.resolver.ask_anew(fetch).await;
        let keys = |set: &RrSet| set.owner == zone && set.rtype == rtype::DNSKEY;
        let set = came.map(|reply| rrset::group(&reply.answer).into_iter().find(keys));
        let at = Moment { wall: wall_secs(), judged: policy.now() };
        let mut changes = Vec::new();
        let result = match set {
            Ok(Some(set)) => match tracker.observe(&set, point, at, &mut Work::of_one_question()) {
                Ok(seen) => {
                    changes = seen;
                    AnchorRefresh::Believed
                }
                Err(failure) => {
                    let reason = failure.text;
                    warn!(%zone, reason, "the keys of a trust anchor's zone are not believed");
                    AnchorRefresh::Refused
                }
            },
            Ok(None) => {
                tracker.failed(at.wall);
                warn!(%zone, "a trust anchor's zone shows no keys");
                AnchorRefresh::Failed
            }
            Err(ede) => {
                tracker.failed(at.wall);
                let reason = ede.text;
                warn!(%zone, reason, "the keys of a trust anchor's zone are not to be had");
                AnchorRefresh::Failed
            }
        };
        self.metrics.dnssec_anchor_refreshes(result).inc();
        changes.iter().for_each(|change| tell(&zone, change));
        let alone = tracker.has_begun() && tracker.trusted().is_empty();
        if !self.anchors.put_back(tracker, point) {
            return;
        }
        if alone {
            // RFC 5011 section 5.
            error!(%zone, "all anchors revoked themselves: the zone is as if it had none");
        }
        let revoked = changes.iter().any(|change| change.to == Some(State::Revoked));
        self.take_anchors(revoked.then_some(zone)).await;
    }

    /// Has validation begin with the anchors of now. What was proven below one that was revoked is
    /// asked for anew.
    async fn take_anchors(&self, revoked: Option<Name>) {
        let _alone = self.changing.lock().await;
        let config = self.config.load_full();
        let listen = listening(&config, &self.snapshot.borrow().clone()).plain;
        self.resolver.reconfigure(self.resolver_settings(&config, &listen));
        if let Some(zone) = revoked {
            self.pipeline.flush(&Scope::Zone(zone));
        }
    }

    /// Tells a zone which of its keys are trusted here.
    async fn signal(&self, zone: &Name, config: &Config, policy: &Arc<Policy>) {
        let trusted = self.anchors.lay_over(config, Arc::clone(policy));
        let tags = trusted.anchors.at(zone).map(Point::tags).unwrap_or_default();
        self.anchors.inner.lock().signalled.insert(zone.clone(), wall_secs());
        let Some(name) = signalling::name(zone, &tags) else { return };
        debug!(%name, "a zone is told which of its keys are trusted");
        let answer = self.resolver.ask_anew(Fetch { name, qtype: signalling::NULL }).await;
        let result = if answer.is_ok() { AnchorSignal::Sent } else { AnchorSignal::Failed };
        self.metrics.dnssec_anchor_signals(result).inc();
    }
}

/// The same, before all is joined.
pub(super) fn settings(
    config: &Config,
    listen: &[std::net::SocketAddr],
    anchors: &Follower,
) -> resolver::Settings {
    let mut settings = meaning::resolver(config, &system_resolvers(listen));
    settings.dnssec = settings.dnssec.map(|policy| anchors.lay_over(config, policy));
    settings
}

fn tell(zone: &Name, change: &Change) {
    let key_tag = change.tag;
    match change.to {
        Some(State::AddPend) => info!(%zone, key_tag, "a new key: trusted after 30 days"),
        Some(State::Valid) => info!(%zone, key_tag, "a key is trusted"),
        Some(State::Missing) => warn!(%zone, key_tag, "a trusted key is not shown any more"),
        Some(State::Revoked) => warn!(%zone, key_tag, "a key revoked itself, and is not trusted"),
        Some(State::Removed) => info!(%zone, key_tag, "a revoked key is forgotten"),
        None => warn!(%zone, key_tag, "a new key was withdrawn"),
    }
}

/// Seconds since 1970, by the clock on the wall.
fn wall_secs() -> u64 {
    wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
