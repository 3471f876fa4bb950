//! Builds each part once, joins them, and stops them in reverse.
//!
//! The way of a query is `pipeline.rs`'s. Here is what lives and dies together:
//!
//! ```text
//! watcher ─▶ kernel maps ─▶ cache, resolver, policy ─▶ pipeline ─▶ doors for clients
//!    │            │                                       ▲         doors for operators
//!    │            └─ lease, events, programs ─────────────┘
//!    └─ interfaces and addresses, to the doors and to the kernel path
//! ```
//!
//! Tasks: the lease (ends with the runtime; the lease then runs out), the attaching (once), the
//! events, the cache on disk (`shelf`), the keys of trust anchors (`anchors`), the two doors for
//! operators, and the loop below, which waits for signals and changes.

mod anchors;
mod certificate;
mod discovery;
mod dump;
mod feeds;
mod files;
mod kernel_path;
mod meaning;
mod operator;
mod reloading;
mod roots;
mod secrets;
mod shelf;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tracing::{info, level_filters::LevelFilter, warn};

use crate::cache::Cache;
use crate::cache::driver::Shelf;
use crate::clock::{self, boot_now, wall_now};
use crate::config::{Clock, Config, ConfigError, Listen, LogFormat, LogLevel};
use crate::control::reports::DetachReport;
use crate::control::{api, exporter, notify, socket};
use crate::kernel::driver::Kernel;
use crate::kernel::netlink::{Snapshot, Watcher};
use crate::kernel::{FastPath, driver};
use crate::log::{self, Log};
use crate::metrics::{Build, Metrics};
use crate::pipeline::Pipeline;
use crate::policy::rpz::Feeds;
use crate::resolver::{Heard, Resolver};
use crate::server::addresses::{Interfaces, expand};
use crate::server::{Certificate, Listening, Server};
use crate::tap::{Exchanged, Tap};
use anchors::{Follower, configured};
use kernel_path::{attach, follow_events, keep_lease, open_kernel};
use secrets::Drawn;

/// The state of things is looked at so often: resolv.conf, flushes to forget.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Keys whose files may change while they do not.
const HOSTS_FILES: &str = "resolve.hosts-files";
const RPZ: &str = "rpz";
const RFC5011: &str = "dnssec.rfc5011";
/// The system's resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the configuration is refused, or an address cannot be had.
pub fn run(config: Option<&Path>) -> Result<()> {
    let loaded = Config::load(config)?;
    if loaded.server.clock == Clock::Realtime {
        clock::expire_by_wall();
    }
    let format = match loaded.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    let log = log::start(level(&loaded), format)?;
    log::set_client_prefix(meaning::client_prefix(&loaded));
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tokio")
        .build()
        .context("the runtime")?;
    let done = runtime.block_on(serve(config.map(Path::to_owned), loaded, log));
    // What is still under way has had its time.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

/// All that is joined here. Doors for operators look at it.
struct Joined {
    file: Option<PathBuf>,
    config: ArcSwap<Config>,
    loaded_at: Mutex<SystemTime>,
    started: Instant,
    log: Log,
    metrics: Arc<Metrics>,
    kernel: Option<Arc<Kernel>>,
    /// Why the kernel path is not what it could be.
    kernel_problem: Mutex<Option<String>>,
    fast: Arc<dyn FastPath>,
    resolver: Resolver,
    pipeline: Arc<Pipeline>,
    tap: Tap,
    server: Server<Pipeline>,
    /// What clients are shown.
    certificate: Mutex<Option<Certificate>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Where the cache is kept over a restart.
    shelf: Shelf,
    /// One file at a time.
    saving: Mutex<()>,
    /// Of the files that the configuration names.
    files_digest: AtomicU64,
    /// The policy zones.
    feeds: Mutex<Arc<Feeds>>,
    /// One of them has new content.
    feeds_changed: Arc<Notify>,
    /// One change of configuration at a time.
    changing: tokio::sync::Mutex<()>,
    drawn: Mutex<Drawn>,
    anchors: Follower,
}

async fn serve(file: Option<PathBuf>, config: Config, log: Log) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Arc::new(Metrics::new(Build {
        version: env!("CARGO_PKG_VERSION"),
        abi: resolverd_common::ABI,
        kernel_path: crate::kernel::object::is_built_in(),
    }));

    // First: where another daemon lives, its pins are not ours to make anew.
    let control = socket::bind(&config.control.socket)?;
    let scrapes = match config.metrics.listen {
        Some(address) => Some(exporter::bind(address).await?),
        None => None,
    };

    let mut watcher = Eyes::open().await;
    let snapshot = watcher.seen.borrow().clone();
    let (kernel, events, fast, reason) = open_kernel(&config);
    let listening = listening(&config, &snapshot);
    let listen = listening.plain.clone();
    let certificate = certificate::load(&config)?;
    certificate::note(&config, certificate.as_ref(), &metrics);
    let files = files::read(&config)?;
    let policy = meaning::policy(&config, &files)?;
    meaning::root_hints(&config)?;
    configured::policy(&config)?;
    roots::look(&config)?;
    let feeds_changed = Arc::new(Notify::new());
    let mut feeds = feeds::load(&config, &policy, None, feeds::shelf(&config).as_ref(), &metrics)?;
    feeds.start(&feeds_changed);
    let anchors = Follower::new(&config.server.state_dir);
    anchors.read(&config, &metrics);
    let settings = anchors::settings(&config, &listen, &anchors);
    let resolver = Resolver::new(settings, Arc::clone(&metrics));
    let cache = Cache::new(meaning::cache(&config), Arc::clone(&metrics));
    let tap = Tap::new(meaning::tap(&config, &host_name()), Arc::clone(&metrics));
    resolver.listen(tell_of_upstreams(tap.clone()));
    let pipeline = Arc::new(Pipeline::new(
        cache,
        Arc::clone(&fast),
        resolver.clone(),
        policy,
        tap.clone(),
        Arc::clone(&metrics),
    ));

    let feeds = Arc::new(feeds);
    let (rpz, content) = feeds.rpz();
    pipeline.take_feeds(Arc::clone(&feeds));
    // No answer of ours was judged by others. What the last daemon left in the kernel is judged
    // by the fingerprint, when it is told.
    pipeline.keep_rpz(Arc::new(rpz));
    let drawn = Drawn::new(kernel.as_ref().and_then(|kernel| kernel.cookies()), boot_now());
    let cookies = drawn.hold(&config.cookies);
    pipeline.set_cookies(cookies);
    if let Some(kernel) = &kernel {
        // Before the lease: a policy other than the last daemon's makes its entries stale.
        let feeds = (&*pipeline.rpz(), content);
        let wanted = meaning::fast_path(&config, &pipeline.policy(), feeds, listen, cookies);
        kernel.tell(&wanted, &snapshot)?;
    }
    let shelf = Shelf::in_folder(&config.server.state_dir);
    if config.cache.persist {
        let policy = meaning::fingerprint(&pipeline.policy(), content);
        shelf::load(&shelf, &pipeline, policy, &metrics).await;
    }
    let server = Server::start(
        Arc::clone(&pipeline),
        meaning::server(&config, listening, certificate.clone()),
        Arc::clone(&metrics),
    )?;
    if let Some(kernel) = &kernel {
        // A daemon that cannot serve does not speak for the kernel either.
        kernel.renew();
    }
    resolver.look_for_loops();

    let joined = Arc::new(Joined {
        file,
        config: ArcSwap::from_pointee(config),
        loaded_at: Mutex::new(wall_now()),
        started: Instant::now(),
        log,
        metrics,
        kernel,
        kernel_problem: Mutex::new(reason),
        fast,
        resolver,
        pipeline,
        tap,
        server,
        certificate: Mutex::new(certificate),
        snapshot: watcher.seen.clone(),
        shelf,
        saving: Mutex::default(),
        files_digest: AtomicU64::new(files.digest),
        feeds: Mutex::new(feeds),
        feeds_changed,
        changing: tokio::sync::Mutex::default(),
        drawn: Mutex::new(drawn),
        anchors,
    });
    joined.note_kernel();
    notify::ready("serving");
    info!(version = env!("CARGO_PKG_VERSION"), "serving");

    let (stop, stopped) = watch::channel(false);
    let until = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let control_file = control.file;
    tokio::spawn(api::run(control.listener, Arc::clone(&joined), until(stopped.clone())));
    if let Some(listener) = scrapes {
        tokio::spawn(exporter::run(listener, Arc::clone(&joined), until(stopped.clone())));
    }
    if let Some(kernel) = &joined.kernel {
        tokio::spawn(keep_lease(Arc::clone(kernel)));
        tokio::spawn(attach(Arc::clone(&joined), Arc::clone(kernel)));
    }
    if let Some(ring) = events {
        tokio::spawn(follow_events(Arc::clone(&joined), ring));
    }

    tokio::spawn(shelf::keep(Arc::clone(&joined)));
    tokio::spawn(anchors::follow(Arc::clone(&joined)));

    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                // The result is logged and counted.
                let _ = joined.reload().await;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = watcher.changed() => joined.follow_interfaces().await,
            () = joined.feeds_changed.notified() => joined.take_feeds().await,
            _ = look.tick() => joined.look().await,
        }
    }

    notify::stopping();
    info!("stopping: the kernel goes on with what it has until the lease is over");
    // Beside each other: all have to be done within two seconds.
    tokio::join!(joined.server.stop(), shelf::save_at_stop(&joined));
    joined.tap.stop().await;
    stop.send_replace(true);
    drop(control_file);
    Ok(())
}

/// Tells the tap what upstreams are asked and say.
fn tell_of_upstreams(tap: Tap) -> impl Fn(&Heard<'_>) + Send + Sync + 'static {
    move |heard| {
        if tap.hears_upstreams() {
            let Heard { server, way, message, took } = *heard;
            let exchanged = Exchanged { upstream: server, transport: way, message, took };
            tap.exchanged(&exchanged, wall_now());
        }
    }
}

/// The watcher of interfaces, or nothing where netlink is denied.
struct Eyes {
    watcher: Option<Watcher>,
    seen: watch::Receiver<Arc<Snapshot>>,
    _none: Option<watch::Sender<Arc<Snapshot>>>,
}

impl Eyes {
    async fn open() -> Self {
        match Watcher::start().await {
            Ok(watcher) => Self { seen: watcher.subscribe(), watcher: Some(watcher), _none: None },
            Err(error) => {
                warn!(%error, "interfaces are not followed");
                let (none, seen) = watch::channel(Arc::default());
                Self { watcher: None, seen, _none: Some(none) }
            }
        }
    }

    async fn changed(&mut self) {
        match &mut self.watcher {
            Some(watcher) => drop(watcher.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Joined {
    /// Takes up what the machine has now: addresses to listen on, interfaces to attach to.
    async fn follow_interfaces(&self) {
        let _alone = self.changing.lock().await;
        let config = self.config.load_full();
        let snapshot = self.snapshot.borrow().clone();
        let listening = listening(&config, &snapshot);
        let listen = listening.plain.clone();
        if let Err(error) = self.server.relisten(listening) {
            warn!(%error, "addresses not taken up");
        }
        let Some(kernel) = &self.kernel else {
            return;
        };
        let content = self.feeds.lock().rpz().1;
        let (rpz, policy) = (self.pipeline.rpz(), self.pipeline.policy());
        if let Err(error) = self.tell_kernel(&config, &policy, (&rpz, content), listen) {
            warn!(%error, "interfaces not taken up");
        }
        if self.kernel_problem.lock().is_none() {
            kernel.sync(&snapshot);
        }
        self.note_kernel();
    }

    /// What nobody tells us of.
    async fn look(&self) {
        if self.drawn.lock().renew(boot_now()) {
            self.pipeline.set_cookies(self.drawn.lock().hold(&self.config.load().cookies));
            // Tells the kernel, too.
            self.follow_interfaces().await;
        }
        let _alone = self.changing.lock().await;
        let config = self.config.load_full();
        let listen = listening(&config, &self.snapshot.borrow().clone()).plain;
        self.resolver.reconfigure(self.resolver_settings(&config, &listen));
        let pipeline = Arc::clone(&self.pipeline);
        let _ = tokio::task::spawn_blocking(move || pipeline.sweep_flushed()).await;
    }

    /// Brings the metrics of the kernel path up to date.
    fn note_kernel(&self) {
        let live = self.fast.is_live();
        self.metrics.kernel_available.set(i64::from(live));
        if let Some(kernel) = &self.kernel {
            for state in kernel.states() {
                let mode = state.mode.map(|mode| mode.as_str());
                self.metrics.set_kernel_attached(&state.name, mode);
            }
        }
    }
}

/// What `check` adds for a good file: what it would do to this machine, one line each.
///
/// # Errors
///
/// What only the rooms can find wrong: records of local zones, the certificate.
pub fn check_report(config: &Config) -> Result<Vec<String>, ConfigError> {
    let policy = meaning::policy(config, &files::read(config)?)?;
    meaning::root_hints(config)?;
    configured::policy(config)?;
    roots::look(config)?;
    let certificate = certificate::load(config)?;
    let build = Build { version: "", abi: 0, kernel_path: false };
    feeds::load(config, &policy, None, None, &Metrics::new(build))?;
    let mut lines = certificate::report(config, certificate.as_ref());
    lines.extend(driver::report(&config.kernel));
    lines.extend(meaning::open_to_the_world(config));
    Ok(lines)
}

/// Makes the folder of pins. Gives a line for each thing done.
///
/// # Errors
///
/// When it cannot be made, or belongs to somebody else.
pub fn kernel_prepare(config: &Config) -> Result<Vec<String>> {
    driver::prepare(&config.kernel)?;
    Ok(vec![format!("{}: ready for pins", config.kernel.pin_path.display())])
}

/// Takes down what a daemon that is gone left in the kernel.
///
/// # Errors
///
/// None so far: what is not there is not taken down.
pub fn kernel_detach(config: &Config) -> Result<DetachReport> {
    let pins = driver::detach_leftovers(&config.kernel);
    Ok(DetachReport { interfaces: config.kernel.interfaces.clone(), pins })
}

/// Each upstream query and each TCP client takes a descriptor: as many as we may have.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!(%error, "the limit of open files stays as it is");
        }
    }
}

/// The addresses to listen on, as the machine is now.
fn listening(config: &Config, snapshot: &Snapshot) -> Listening {
    let interfaces = Interfaces::from(snapshot);
    let addresses = |listen: &[Listen]| {
        let expansion = expand(listen, &interfaces);
        for item in &expansion.waiting {
            tracing::debug!(?item, "nothing to listen on yet");
        }
        expansion.addresses
    };
    let server = &config.server;
    Listening {
        plain: addresses(&server.listen),
        tls: addresses(&server.tls_listen),
        https: addresses(&server.https_listen),
        quic: addresses(&server.quic_listen),
        h3: addresses(&server.h3_listen),
    }
}

/// The machine's own resolvers, less ourselves.
fn system_resolvers(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    match crate::resolver::read_system_resolvers(Path::new(RESOLV_CONF)) {
        Ok(mut resolvers) => {
            crate::resolver::exclude(&mut resolvers, listen);
            resolvers
        }
        Err(error) => {
            tracing::debug!(%error, file = RESOLV_CONF, "no resolvers of the system");
            Vec::new()
        }
    }
}

/// What this machine calls itself.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn level(config: &Config) -> LevelFilter {
    match config.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
