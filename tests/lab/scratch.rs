//! A folder of its own for each server, removed with its guard.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount};

use crate::namespace;

/// A folder under the system's temporary one, and whatever is mounted in it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    standing: bool,
}

impl Scratch {
    pub fn new(label: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let seq = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{seq}-{label}", namespace::PREFIX, std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, standing: false })
    }

    /// One that outlives this process, until [`Scratch::remove`].
    pub fn standing(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, standing: true })
    }

    /// Removes it, also a standing one.
    pub fn remove(mut self) {
        self.standing = false;
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.standing {
            remove(&self.path);
        }
    }
}

/// Removes a scratch folder, and first what is mounted in it.
pub(crate) fn remove(path: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for at in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(at).starts_with(path) {
            let _ = unmount(at, UnmountFlags::DETACH);
        }
    }
    let _ = fs::remove_dir_all(path);
}
