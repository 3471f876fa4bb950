//! A wall clock that a test moves: libfaketime stands between a program and libc.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::scratch::Scratch;

/// The time that programs begun by its words have.
#[derive(Debug)]
pub struct FakeTime {
    file: PathBuf,
    words: Vec<String>,
    _scratch: Scratch,
}

impl FakeTime {
    /// At first the time is right.
    pub fn new() -> Result<Self> {
        let library = LIBRARIES.into_iter().map(PathBuf::from).find(|path| path.is_file());
        let library = library.context("the lab needs `libfaketime`: `cargo xtask setup`")?;
        let scratch = Scratch::new("time")?;
        let file = scratch.path().join("now");
        let words = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            // Looked at each time; and what waits for so and so long waits by the right time.
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        let time = Self { file, words, _scratch: scratch };
        time.set(0)?;
        Ok(time)
    }

    /// Words that begin a program under this time.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// From now on it is so many seconds later than it is.
    pub fn set(&self, ahead_secs: u64) -> Result<()> {
        // In one step: a program may look at any time.
        let beside = Path::new(&self.file).with_extension("new");
        fs::write(&beside, format!("+{ahead_secs}\n"))?;
        fs::rename(&beside, &self.file).context("the file with the time")
    }
}

/// Debian's places.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
