//! The state of RFC 5011 in the state directory.
//!
//! Starts no task: whoever calls may wait for the disk. Two files:
//!
//! - `trust-anchors.state`, replaced as a whole after each change: see
//!   [`rfc5011`](crate::resolver::dnssec::rfc5011).
//! - `trust-anchors.kept`, written once, after the first state. While it is there, a state that
//!   is not is missing: then nothing is begun anew until an operator wants it, who removes it.
//!   Written after the state, so that a crash between the two leaves no false alarm.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::resolver::dnssec::rfc5011::{self, StateError, Tracker};

/// The folder that has them.
#[derive(Clone, Debug)]
pub struct StateFile {
    dir: PathBuf,
}

/// Why there is no state to go on with.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error(
        "{path} is missing, and was there once, for {marker} is; put it back, or remove {marker} \
         to begin from the configured anchors"
    )]
    Missing { path: PathBuf, marker: PathBuf },
    #[error("{path}: {error}; put a good one back, or remove it and {marker} to begin anew")]
    Refused { path: PathBuf, marker: PathBuf, error: StateError },
    #[error(
        "{path}: others can write it (mode {mode:04o}, user {owner}): `chmod 600` it and give it \
         to the daemon's user, if what it says is right"
    )]
    Open { path: PathBuf, mode: u32, owner: u32 },
    #[error("{path}: it can't be read: {error}")]
    System { path: PathBuf, error: io::Error },
}

impl StateFile {
    #[must_use]
    pub fn in_folder(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// What was kept; nothing where nothing ever was.
    ///
    /// # Errors
    ///
    /// [`KeptError`]: then nothing is to be written either.
    pub fn read(&self) -> Result<Vec<Tracker>, KeptError> {
        let (path, marker) = (self.path(), self.dir.join(MARKER));
        let failed = |error| KeptError::System { path: path.clone(), error };
        let opened = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match fs::symlink_metadata(&marker) {
                    Ok(_) => Err(KeptError::Missing { path, marker }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                    Err(error) => Err(KeptError::System { path: marker, error }),
                };
            }
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        // Who can write it says what is trusted.
        if mode & 0o022 != 0 || (owner != 0 && owner != rustix::process::geteuid().as_raw()) {
            return Err(KeptError::Open { path, mode, owner });
        }
        let mut octets = Vec::new();
        (&file).take(STATE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(failed)?;
        let text = String::from_utf8(octets).unwrap_or_default();
        rfc5011::read(&text).map_err(|error| KeptError::Refused { path, marker, error })
    }

    /// Puts `text` in the place of what was kept, once it is on the disk.
    ///
    /// # Errors
    ///
    /// What was kept stays.
    pub fn write(&self, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        self.put(FILE, text)?;
        if !self.dir.join(MARKER).exists() {
            self.put(MARKER, MARKER_TEXT)?;
        }
        Ok(())
    }

    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let beside = self.dir.join(format!("{name}.new"));
        // What a daemon that died in the middle left.
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&beside, self.dir.join(name)))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

const FILE: &str = "trust-anchors.state";
const MARKER: &str = "trust-anchors.kept";
const MARKER_TEXT: &str = "\
resolverd-rfc5011-kept 1
The state of RFC 5011 is kept beside this file, in trust-anchors.state. While this file is here and
that one is not, resolverd raises an alarm and trusts the configured anchors alone. To begin anew
from them, remove this file and restart.
";
/// 64 zones with 16 keys of 2 KiB each have 3 MiB.
const STATE_OCTETS_MAX: u64 = 4 << 20;
/// A link could lead anywhere.
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::dns::Name;
    use crate::resolver::dnssec::anchors::Point;

    fn kept() -> (tempfile::TempDir, StateFile, String) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFile::in_folder(&dir.path().join("state"));
        let text = rfc5011::write([&Tracker::new(Name::root(), &Point::default())]);
        (dir, state, text)
    }

    #[test]
    fn what_is_written_is_read_again_and_for_the_owner_alone() {
        let (_dir, state, text) = kept();
        assert_eq!(state.read().unwrap(), []);
        state.write(&text).unwrap();
        assert_eq!(state.read().unwrap(), rfc5011::read(&text).unwrap());
        let mode = fs::metadata(state.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let empty = rfc5011::write([]);
        state.write(&empty).unwrap();
        assert_eq!(state.read().unwrap(), [], "in the place of the one before");
        let mut names: Vec<_> = fs::read_dir(&state.dir).unwrap().map(|e| e.unwrap()).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let names: Vec<_> = names.iter().map(|e| e.file_name().into_string().unwrap()).collect();
        assert_eq!(names, [MARKER, FILE], "nothing is left beside");
    }

    #[test]
    fn a_state_that_was_there_once_is_missed_until_an_operator_says_otherwise() {
        let (_dir, state, text) = kept();
        state.write(&text).unwrap();
        fs::remove_file(state.path()).unwrap();
        let error = state.read().unwrap_err();
        assert!(matches!(error, KeptError::Missing { .. }));
        assert!(error.to_string().contains("trust-anchors.kept"), "{error}");
        fs::remove_file(state.dir.join(MARKER)).unwrap();
        assert_eq!(state.read().unwrap(), []);
    }

    #[test]
    fn a_state_that_was_changed_or_that_others_can_write_is_not_believed() {
        let (_dir, state, text) = kept();
        state.write(&text).unwrap();
        let newer = text.replace("resolverd-rfc5011 1", "resolverd-rfc5011 9");
        for (bad, why) in [(&text[..9], "first line"), (&newer[..], "run a newer one")] {
            fs::write(state.path(), bad).unwrap();
            let error = state.read().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        fs::write(state.path(), [0xff, 0xfe]).unwrap();
        assert!(matches!(state.read(), Err(KeptError::Refused { .. })));
        state.write(&text).unwrap();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o620)).unwrap();
        assert!(matches!(state.read(), Err(KeptError::Open { mode: 0o620, .. })));
        fs::remove_file(state.path()).unwrap();
        std::os::unix::fs::symlink("/dev/null", state.path()).unwrap();
        assert!(matches!(state.read(), Err(KeptError::System { .. })));
    }
}
