//! Writes the lines of the query log to a file, or to stderr.
//!
//! A file is opened for appending and kept open; whoever rotates it moves it away and sends
//! SIGHUP. One that cannot be opened or written loses lines, which are counted, and is tried
//! again: the daemon serves on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::info;

use super::{Counts, Inlet};
use crate::limited;
use crate::tap::{QueryLog, line};

pub(super) struct Writer {
    settings: QueryLog,
    counts: Counts,
    file: Option<File>,
    /// When opening failed last.
    failed: Option<Instant>,
}

impl Writer {
    pub(super) fn new(settings: QueryLog, counts: Counts) -> Self {
        Self { settings, counts, file: None, failed: None }
    }

    /// Writes until nobody fills the queue any more.
    pub(super) async fn run(mut self, mut inlet: Inlet, reopen: &Notify) {
        let (mut batch, mut text) = (Vec::new(), String::new());
        // At once, so that a wrong path is told of before the first query.
        self.open();
        loop {
            tokio::select! {
                more = inlet.take(&mut batch) => if !more { return },
                () = reopen.notified() => {
                    (self.file, self.failed) = (None, None);
                    self.open();
                    continue;
                }
            }
            text.clear();
            for seen in &batch {
                line::write(seen, self.settings.format, &mut text);
            }
            let count = batch.len() as u64;
            match self.write(text.as_bytes()) {
                Ok(()) => self.counts.written.inc_by(count),
                Err(error) => {
                    self.counts.failed.inc_by(count);
                    limited!(WARN, %error, "query log not written");
                }
            }
            batch.clear();
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.settings.file.is_none() {
            return io::stderr().lock().write_all(text);
        }
        if self.file.is_none() && self.failed.is_none_or(|at| at.elapsed() > AGAIN_AFTER) {
            self.open();
        }
        match &mut self.file {
            Some(file) => file.write_all(text),
            None => Err(io::Error::other("its file is not open")),
        }
    }

    fn open(&mut self) {
        let Some(path) = &self.settings.file else { return };
        match open(path) {
            Ok(file) => {
                info!(file = %path.display(), "query log opened");
                (self.file, self.failed) = (Some(file), None);
            }
            Err(error) => {
                limited!(WARN, %error, file = %path.display(), "query log not opened");
                self.failed = Some(Instant::now());
            }
        }
    }
}

/// For its owner and group: it says who asked for what.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Between two attempts to open a file.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
