//! The log: where lines go, in which form, and how many of one kind.
//!
//! Lines that a packet or a peer can cause are limited at their site: [`limited!`] lets a few
//! through, counts the rest, and says so with the next line that passes. What is worth a line
//! is for the rooms to decide. A client in a line is written as [`client`] shows it.

mod clients;

use std::io::{self, IsTerminal as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

pub use clients::{ClientPrefix, Shown, client, set_client_prefix};

/// Logs at this level if the site has said little lately; for what packets and peers can cause.
///
/// `limited!(WARN, upstream = %name, "upstream does not answer")`. A line that follows
/// suppressed ones says how many in the field `suppressed`.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($line:tt)+) => {{
        static SITE: $crate::log::Site = $crate::log::Site::new();
        if ::tracing::enabled!(::tracing::Level::$level) {
            match SITE.pass() {
                Some(0) => ::tracing::event!(::tracing::Level::$level, $($line)+),
                Some(suppressed) => {
                    ::tracing::event!(::tracing::Level::$level, suppressed, $($line)+);
                }
                None => {}
            }
        }
    }};
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Changes the level while the daemon runs.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
}

/// Starts to write to stderr. Fails when a log was started before.
pub fn start(level: LevelFilter, format: Format) -> anyhow::Result<Log> {
    // The journal has its own times, and its readers strip no colours.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let colours = !journal && io::stderr().is_terminal();
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = lines(format, !journal, colours, io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Log { filter: handle })
}

impl Log {
    pub fn set_level(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and with it the log.
        let _ = self.filter.reload(targets(level));
    }
}

/// Lines held back since the start, at all sites.
#[must_use]
pub fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// A place in the code that logs, and how much it said lately.
///
/// Several threads may pass at once; the bound then holds but for a line or two.
pub struct Site {
    /// Start of the present window, milliseconds by [`millis`], plus one; 0: none yet.
    window: AtomicU64,
    lines: AtomicU64,
    suppressed: AtomicU64,
}

impl Site {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a site is a static, made by `limited!`")]
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0), lines: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether a line may be written now, and how many were held back before it.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(millis())
    }

    fn pass_at(&self, now: u64) -> Option<u64> {
        let window = self.window.load(Ordering::Relaxed);
        let over = window == 0 || now + 1 >= window + WINDOW.as_millis() as u64;
        let next = |at| {
            self.window.compare_exchange(window, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if over && next(now + 1) {
            self.lines.store(1, Ordering::Relaxed);
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < LINES_MAX {
            return Some(0);
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Our own lines at `level`; of the libraries', what is worth a warning.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("resolverd", level)
}

fn lines<S, W>(format: Format, times: bool, colours: bool, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A log that nobody reads any more is no reason to panic, which the library's own
    // complaint about it would be.
    let layer = fmt::layer()
        .with_writer(to)
        .with_ansi(colours)
        .with_target(false)
        .log_internal_errors(false);
    match (format, times) {
        (Format::Text, true) => layer.boxed(),
        (Format::Text, false) => layer.without_time().boxed(),
        (Format::Json, _) => layer.json().flatten_event(true).boxed(),
    }
}

/// Milliseconds since the first call.
fn millis() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Half a billion years.
    START.elapsed().as_millis() as u64
}

static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Lines a site may write within [`WINDOW`]: enough to see what it is about.
const LINES_MAX: u64 = 5;
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, work: impl FnOnce()) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let subscriber = tracing_subscriber::registry()
            .with(targets(LevelFilter::INFO))
            .with(lines(format, false, false, move || to.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let octets = kept.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn a_site_is_held_to_five_lines_in_ten_seconds_and_tells_how_many_were_not_written() {
        let site = Site::new();
        let passed = (0..100).filter(|_| site.pass_at(1_000).is_some()).count();
        assert_eq!(passed, 5);
        assert_eq!(site.pass_at(10_999), None);
        assert_eq!(site.pass_at(11_000), Some(96));
        assert_eq!(site.pass_at(11_001), Some(0));
        assert_eq!(site.pass_at(99_000), Some(0));
    }

    #[test]
    fn what_is_held_back_is_counted() {
        let before = suppressed();
        let site = Site::new();
        for _ in 0..8 {
            let _ = site.pass_at(0);
        }
        // Other tests may add to it meanwhile.
        assert!(suppressed() >= before + 3);
    }

    #[test]
    fn limited_lines_below_the_level_cost_the_site_nothing() {
        let text = written(Format::Text, || {
            for i in 0..20 {
                limited!(DEBUG, i, "not shown");
                limited!(WARN, i, "shown");
            }
        });
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.lines().all(|line| line.contains("WARN") && line.contains("shown i=")));
    }

    #[test]
    fn json_lines_are_objects_with_the_facts_as_fields() {
        let text = written(Format::Json, || {
            tracing::info!(view = 3, "view changed");
            tracing::debug!("below the level");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["message"], "view changed");
        assert_eq!(line["view"], 3);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn libraries_are_heard_from_warnings_on() {
        let text = written(Format::Text, || {
            tracing::info!(target: "hyper::proto", "connection opened");
            tracing::warn!(target: "hyper::proto", "connection broken");
            tracing::info!(target: "resolverd::server", "listening");
        });
        assert!(!text.contains("opened") && text.contains("broken") && text.contains("listening"));
    }
}
