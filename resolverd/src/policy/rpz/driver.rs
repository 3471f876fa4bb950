//! Brings policy zones and keeps them new: from files, and from primaries.
//!
//! A file is read when the configuration is. For each zone of a primary there is a task, which
//! ends when [`Feeds`] is dropped: it asks for changes as often as the zone's SOA says, and when
//! it is notified. A transfer is done by a blocking thread and into a zone beside the one in use;
//! what it came to is taken up as a whole, by whoever waits for `changed`. A primary that cannot
//! be reached changes nothing: the last content goes on, however old it is, and is told. It is kept
//! on disk as well, so that a start has it: `shelf`.

mod shelf;

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{info, warn};

pub use shelf::Shelf;

use super::super::views::ViewId;
use super::machine::{Done, Incoming, TransferError};
use super::tsig::{self, Key, TsigAlgorithm, TsigError, Verifier};
use super::wire::{self, WireError};
use super::{Override, Policy, Reason, Rpz, Zone, text};
use crate::clock::wall_now;
use crate::dns::Name;
use crate::metrics::{Metrics, RpzMetrics, RpzUpdate};

/// A policy zone as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSpec {
    pub zone: Name,
    pub from: From,
    pub policy: Override,
    pub reason: Reason,
    pub log: bool,
    pub views: Vec<ViewId>,
}

/// Where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    File(PathBuf),
    Primary { addresses: Vec<SocketAddr>, tsig: Option<Tsig>, notify_from: Vec<IpNet> },
}

/// Whom a zone is from, for what is kept of it.
impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Primary { addresses, tsig, .. } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "{}", addresses.join(" "))?;
                tsig.as_ref().map_or(Ok(()), |tsig| write!(f, " by {}", tsig.name))
            }
        }
    }
}

/// A key as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tsig {
    pub name: Name,
    pub algorithm: TsigAlgorithm,
    pub secret_file: PathBuf,
}

/// All policy zones, with their tasks.
pub struct Feeds {
    feeds: Vec<Arc<Feed>>,
    tasks: Vec<AbortHandle>,
}

struct Feed {
    spec: FeedSpec,
    key: Option<Key>,
    content: ArcSwap<Content>,
    /// Where what a primary said is kept. None: nowhere.
    shelf: Option<Shelf>,
    /// There may be something new.
    poke: Notify,
    metrics: RpzMetrics,
}

struct Content {
    zone: Arc<Zone>,
    /// Of a file, or of a version.
    digest: u64,
}

impl Content {
    /// The same on disk and from the primary is the same.
    fn transferred(zone: Zone) -> Self {
        let digest = digest_of(&[zone.serial().unwrap_or(0), zone.len() as u32]);
        Self { zone: Arc::new(zone), digest }
    }
}

/// Why a policy zone cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FeedError {
    /// Which of them.
    pub at: usize,
    pub message: String,
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Tsig(#[from] TsigError),
    #[error("more than {TRANSFER_OCTETS_MAX} octets")]
    TooLarge,
    #[error("it took longer than {} s", TRANSFER_TIME.as_secs())]
    TooSlow,
    #[error("the end of it is not signed")]
    UnsignedEnd,
}

impl Feeds {
    /// Reads files and secrets. Zones of primaries come later, unless `old` has them, or `shelf`.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// The first that is bad.
    pub fn load(
        specs: Vec<FeedSpec>,
        old: Option<&Self>,
        shelf: Option<&Shelf>,
        metrics: &Metrics,
    ) -> Result<Self, FeedError> {
        let mut feeds = Vec::with_capacity(specs.len());
        for (at, spec) in specs.into_iter().enumerate() {
            let error = |message| FeedError { at, message };
            let known = old.and_then(|old| old.of(&spec.zone)).filter(|known| {
                // Another place is another content.
                known.spec.from == spec.from
            });
            let content = match (&spec.from, known) {
                (From::File(path), known) => {
                    let show = |why: String| error(format!("{}: {why}", path.display()));
                    let octets = read_file(path).map_err(|e| show(e.to_string()))?;
                    let digest = digest_of(&octets);
                    match known.map(|known| known.content.load_full()) {
                        Some(known) if known.digest == digest => known,
                        _ => {
                            let begun = Instant::now();
                            let zone = modestly(|| text::read(&spec.zone, &octets))
                                .map_err(|error| show(error.to_string()))?;
                            let (rules, took) = (zone.len(), begun.elapsed().as_millis());
                            let (zone_name, took_ms) = (&spec.zone, took as u64);
                            info!(zone = %zone_name, rules, took_ms, "policy zone read");
                            Arc::new(Content { zone: Arc::new(zone), digest })
                        }
                    }
                }
                (From::Primary { .. }, Some(known)) => known.content.load_full(),
                (From::Primary { .. }, None) => {
                    let kept = shelf.and_then(|shelf| modestly(|| kept(shelf, &spec)));
                    let none = || Content { zone: Zone::new(spec.zone.clone()).into(), digest: 0 };
                    Arc::new(kept.map_or_else(none, Content::transferred))
                }
            };
            let key = match &spec.from {
                From::Primary { tsig: Some(tsig), .. } => Some(key_of(tsig).map_err(error)?),
                _ => None,
            };
            let metrics = metrics.policy_zone(&spec.zone.to_string());
            let (content, shelf) = (ArcSwap::new(content), shelf.cloned());
            let feed = Feed { spec, key, content, shelf, poke: Notify::new(), metrics };
            feed.tell_metrics();
            match feed.spec.from {
                From::File(_) => feed.metrics.updates(RpzUpdate::Whole).inc(),
                From::Primary { .. } if known.is_none() && feed.has_content() => {
                    feed.metrics.updates(RpzUpdate::Disk).inc();
                }
                From::Primary { .. } => {}
            }
            feeds.push(Arc::new(feed));
        }
        let names: Vec<String> = feeds.iter().map(|feed| feed.spec.zone.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        metrics.retain_policy_zones(&names);
        Ok(Self { feeds, tasks: Vec::new() })
    }

    /// Starts the tasks of the zones that come from primaries. Must be called within a runtime.
    /// `changed` is told of each new content.
    pub fn start(&mut self, changed: &Arc<Notify>) {
        for feed in &self.feeds {
            if let From::Primary { .. } = feed.spec.from {
                let task = tokio::spawn(follow(Arc::clone(feed), Arc::clone(changed)));
                self.tasks.push(task.abort_handle());
            }
        }
    }

    /// What all of them say now, and a digest of it.
    #[must_use]
    pub fn rpz(&self) -> (Rpz, u64) {
        let mut hasher = DefaultHasher::new();
        let zones = self.feeds.iter().map(|feed| {
            let content = feed.content.load_full();
            content.digest.hash(&mut hasher);
            let FeedSpec { zone, policy, reason, log, views, .. } = feed.spec.clone();
            Policy {
                name: zone.to_string().into(),
                zone: Arc::clone(&content.zone),
                policy,
                reason,
                log,
                views,
            }
        });
        let rpz = Rpz::new(zones.collect());
        (rpz, hasher.finish())
    }

    /// What is answered to a message that may be a notification of a primary's. None: it is for
    /// others to answer.
    #[must_use]
    pub fn heard(&self, message: &[u8], from: IpAddr) -> Option<Vec<u8>> {
        let notification = wire::notification(message)?;
        let feed = self.of(&notification.zone)?;
        let From::Primary { addresses, notify_from, .. } = &feed.spec.from else { return None };
        let from = from.to_canonical();
        let known = addresses.iter().any(|address| address.ip() == from)
            || notify_from.iter().any(|prefix| prefix.contains(&from));
        if !known {
            return None;
        }
        // Unsigned it is a hint like any: what comes of it is a question to the primary.
        let Some(key) = feed.key.as_ref().filter(|_| tsig::is_signed(message)) else {
            feed.poke.notify_one();
            return Some(wire::heard(message, &notification, 0));
        };
        let now = wall_secs();
        match key.check_request(message, now) {
            Ok(mac) => {
                feed.poke.notify_one();
                let mut reply = wire::heard(message, &notification, 0);
                key.sign(&mut reply, Some(&mac), now);
                Some(reply)
            }
            Err(error) => {
                warn!(zone = %notification.zone, %error, "a notification is not believed");
                Some(wire::heard(message, &notification, NOTAUTH))
            }
        }
    }

    fn of(&self, zone: &Name) -> Option<&Arc<Feed>> {
        self.feeds.iter().find(|feed| feed.spec.zone == *zone)
    }
}

impl Drop for Feeds {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Feed {
    fn has_content(&self) -> bool {
        self.content.load().zone.soa().is_some()
    }

    /// Writes its content to disk. Blocks.
    fn keep(&self) {
        let Some(shelf) = &self.shelf else { return };
        let zone = Arc::clone(&self.content.load().zone);
        if let Err(error) = shelf.save(&zone, &self.spec.from.to_string()) {
            warn!(zone = %self.spec.zone, %error, "a policy zone is not on disk");
        }
    }

    fn tell_metrics(&self) {
        let zone = &self.content.load().zone;
        self.metrics.rules.set(i64::try_from(zone.len()).unwrap_or(i64::MAX));
        self.metrics.serial.set(zone.serial().unwrap_or(0).into());
    }

    /// Asks the primaries in their order until one answers.
    fn update(&self) -> Result<Done, String> {
        let From::Primary { addresses, .. } = &self.spec.from else {
            return Ok(Done::Current);
        };
        let mut said = Vec::new();
        for address in addresses {
            let zone = Arc::clone(&self.content.load().zone);
            let have = zone.soa().is_some().then_some(zone);
            let changes_asked = have.is_some();
            let mut done = self.transfer(*address, have);
            // A primary that does not do changes, or whose changes are none of ours.
            if changes_asked && matches!(done, Err(Failure::Wire(_) | Failure::Transfer(_))) {
                done = self.transfer(*address, None);
            }
            match done {
                Ok(done) => return Ok(done),
                Err(error) => said.push(format!("{address}: {error}")),
            }
        }
        Err(said.join("; "))
    }

    fn transfer(&self, from: SocketAddr, have: Option<Arc<Zone>>) -> Result<Done, Failure> {
        let id: u16 = rand::random();
        let mut question = wire::question(&self.spec.zone, id, have.as_deref().and_then(Zone::soa));
        let mut verifier = self.key.as_ref().map(|key| {
            let mac = key.sign(&mut question, None, wall_secs());
            Verifier::new(key.clone(), &mac)
        });
        let mut stream = TcpStream::connect_timeout(&from, CONNECT_TIME)?;
        stream.set_read_timeout(Some(READ_TIME))?;
        stream.set_write_timeout(Some(READ_TIME))?;
        // A question has some hundred octets.
        let length = (question.len() as u16).to_be_bytes();
        stream.write_all(&[&length[..], &question].concat())?;
        let mut stream = std::io::BufReader::new(stream);
        let begun = Instant::now();
        let mut incoming = Incoming::new(self.spec.zone.clone(), have);
        let (mut message, mut octets) = (Vec::new(), 0);
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            message.resize(usize::from(u16::from_be_bytes(length)), 0);
            stream.read_exact(&mut message)?;
            octets += message.len();
            if octets > TRANSFER_OCTETS_MAX {
                return Err(Failure::TooLarge);
            }
            if begun.elapsed() > TRANSFER_TIME {
                return Err(Failure::TooSlow);
            }
            if let Some(verifier) = &mut verifier {
                verifier.check(&message, wall_secs())?;
            }
            let mut done = None;
            for record in wire::records_of(&message, id)? {
                if let Some(now) = incoming.take(record)? {
                    done = Some(now);
                }
            }
            if let Some(done) = done.or_else(|| incoming.pause()) {
                let signed = verifier.as_ref().is_none_or(Verifier::is_complete);
                return if signed { Ok(done) } else { Err(Failure::UnsignedEnd) };
            }
        }
    }

    /// How long until the primary is asked again, after it answered or did not.
    fn wait(&self, answered: bool, failures: u32) -> Duration {
        let zone = Arc::clone(&self.content.load().zone);
        let timer = |from_end: usize| {
            let rdata = &zone.soa()?.rdata;
            let octets = rdata.get(rdata.len().checked_sub(from_end)?..)?.first_chunk()?;
            Some(Duration::from_secs(u32::from_be_bytes(*octets).into()))
        };
        let wait = match (answered, zone.soa().is_some()) {
            (true, _) => timer(16).unwrap_or(REFRESH_MAX),
            (false, true) => timer(12).unwrap_or(REFRESH_MAX),
            // Nothing is there yet: soon at first, then more and more rarely.
            (false, false) => RETRY_MIN * 2_u32.pow(failures.min(6)),
        };
        let wait = wait.clamp(RETRY_MIN, REFRESH_MAX);
        // RFC 1996 has no word on it, but a fleet should not ask in one moment.
        wait.mul_f64(rand::random_range(0.9..1.0))
    }
}

/// Keeps one zone new.
async fn follow(feed: Arc<Feed>, changed: Arc<Notify>) {
    let mut failures = 0;
    let (mut unkept, mut kept_at) = (false, None::<Instant>);
    loop {
        let asking = Arc::clone(&feed);
        let begun = Instant::now();
        let updated = tokio::task::spawn_blocking(move || modestly(|| asking.update())).await;
        let zone = &feed.spec.zone;
        let answered = match updated {
            Ok(Ok(done)) => {
                let (new, result) = match done {
                    Done::Current => (None, RpzUpdate::Current),
                    Done::Whole(zone) => (Some(zone), RpzUpdate::Whole),
                    Done::Changes(zone) => (Some(zone), RpzUpdate::Changes),
                };
                feed.metrics.updates(result).inc();
                if let Some(new) = new {
                    let (rules, serial) = (new.len(), new.serial().unwrap_or(0));
                    feed.content.store(Arc::new(Content::transferred(new)));
                    unkept = true;
                    feed.tell_metrics();
                    changed.notify_one();
                    let took_ms = begun.elapsed().as_millis() as u64;
                    let way = result.as_str();
                    info!(%zone, serial, rules, took_ms, way, "policy zone taken over");
                }
                failures = 0;
                true
            }
            Ok(Err(why)) => {
                feed.metrics.updates(RpzUpdate::Failed).inc();
                let rules = feed.content.load().zone.len();
                // What there was goes on.
                warn!(%zone, rules, %why, "policy zone not updated");
                failures += 1;
                false
            }
            Err(panic) => {
                warn!(%zone, %panic, "updating a policy zone failed");
                failures += 1;
                false
            }
        };
        let mut wait = pin!(tokio::time::sleep(feed.wait(answered, failures)));
        loop {
            let keep_in =
                kept_at.map_or(Duration::ZERO, |at| KEEP_EVERY.saturating_sub(at.elapsed()));
            tokio::select! {
                () = &mut wait => break,
                () = feed.poke.notified() => {
                    // Notifications come in bursts; one look serves for all of them.
                    tokio::time::sleep(POKE_TIME).await;
                    break;
                }
                () = tokio::time::sleep(keep_in), if unkept => {
                    let keeping = Arc::clone(&feed);
                    let _ = tokio::task::spawn_blocking(move || modestly(|| keeping.keep())).await;
                    (unkept, kept_at) = (false, Some(Instant::now()));
                }
            }
        }
    }
}

/// What is on disk of a zone, if it may be used.
fn kept(shelf: &Shelf, spec: &FeedSpec) -> Option<Zone> {
    let zone = &spec.zone;
    match shelf.load(zone, &spec.from.to_string()) {
        Ok(kept) => kept.inspect(|kept| {
            let (rules, serial) = (kept.len(), kept.serial().unwrap_or(0));
            info!(%zone, serial, rules, "policy zone read from disk, until its primary answers");
        }),
        Err(error) => {
            warn!(%zone, %error, "a policy zone on disk is not used");
            None
        }
    }
}

/// Does what takes long on a thread of its own, below those that answer in priority.
fn modestly<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            // Not being allowed to be modest is no harm.
            let _ = setpriority_process(Some(gettid()), NICE);
            work()
        });
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(std::io::Error::other(format!("it has more than {FILE_OCTETS_MAX} octets")));
    }
    Ok(octets)
}

fn key_of(tsig: &Tsig) -> Result<Key, String> {
    let path = tsig.secret_file.display();
    let text = std::fs::read(&tsig.secret_file).map_err(|error| format!("{path}: {error}"))?;
    let secret = data_encoding::BASE64
        .decode(text.trim_ascii())
        .map_err(|_| format!("{path}: there is no secret in base64 in it"))?;
    if secret.len() < SECRET_OCTETS_MIN {
        return Err(format!("{path}: the secret has less than {SECRET_OCTETS_MIN} octets"));
    }
    Ok(Key::new(tsig.name.clone(), tsig.algorithm, &secret))
}

fn digest_of(what: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn wall_secs() -> u64 {
    wall_now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Of one file, in octets: several times the largest feed there is.
pub const FILE_OCTETS_MAX: u64 = 512 << 20;
/// Of one transfer, in octets.
pub const TRANSFER_OCTETS_MAX: usize = 512 << 20;
/// A transfer that takes longer is begun anew.
pub const TRANSFER_TIME: Duration = Duration::from_secs(600);
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Between two octets of a primary.
const READ_TIME: Duration = Duration::from_secs(15);
/// However impatient an SOA is.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// However patient.
const REFRESH_MAX: Duration = Duration::from_secs(86_400);
/// A zone that changes each minute is not written each minute; what a crash loses comes again.
const KEEP_EVERY: Duration = Duration::from_secs(300);
/// So that whoever answers comes first.
const NICE: i32 = 10;
const POKE_TIME: Duration = Duration::from_millis(200);
/// RFC 2104 section 3 asks for as many as the hash has; less than half of it is a slip.
const SECRET_OCTETS_MIN: usize = 16;
/// RFC 8945 section 5.2.
const NOTAUTH: u8 = 9;
