//! Where transferred policy zones are kept: one file for each, in the state directory.
//!
//! A file is written beside the old one and takes its place when it is whole and on the disk. It
//! is read whole, and nothing of a bad one is used.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::{digest, hmac};

use super::super::Zone;
use super::super::kept::{self, KeptError};
use crate::dns::Name;

/// The folder, and the key that proves what is in it.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
    key: hmac::Key,
}

/// Why a zone is not kept, or not used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct ShelfError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error(transparent)]
    Kept(#[from] KeptError),
}

impl Shelf {
    /// In a folder of the state directory.
    #[must_use]
    pub fn new(state_dir: &Path, key: hmac::Key) -> Self {
        Self { dir: state_dir.join(FOLDER), key }
    }

    /// Keeps a zone that came from `source`.
    ///
    /// # Errors
    ///
    /// The file that could not be written; the one before it stays.
    pub fn save(&self, zone: &Zone, source: &str) -> Result<(), ShelfError> {
        let path = self.path(zone.origin());
        let beside = path.with_extension("new");
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // What a daemon that died in the middle left.
            let _ = fs::remove_file(&beside);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            let mut out = BufWriter::new(file);
            kept::write(zone, source, &self.key, &mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&beside);
            ShelfError { path: path.clone(), why: error.into() }
        })
    }

    /// The zone that is kept, if one is.
    ///
    /// # Errors
    ///
    /// A file that is not to be used.
    pub fn load(&self, origin: &Name, source: &str) -> Result<Option<Zone>, ShelfError> {
        let path = self.path(origin);
        let failed = |why| ShelfError { path: path.clone(), why };
        let opened = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let mut octets = Vec::new();
        file.take(KEPT_OCTETS_MAX).read_to_end(&mut octets).map_err(|e| failed(e.into()))?;
        let zone = kept::read(&octets, origin, source, &self.key);
        zone.map(Some).map_err(|error| failed(error.into()))
    }

    /// A name may hold any octets, and be longer than a file's.
    fn path(&self, origin: &Name) -> PathBuf {
        let digest = digest::digest(&digest::SHA256, origin.as_wire());
        let hex: String = digest.as_ref()[..16].iter().map(|o| format!("{o:02x}")).collect();
        self.dir.join(format!("{hex}.zone"))
    }
}

const FOLDER: &str = "policy-zones";
/// Of one file. What is cut off here has no good MAC.
pub const KEPT_OCTETS_MAX: u64 = 1 << 30;
/// A link could lead anywhere.
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::super::text;
    use super::*;

    #[test]
    fn a_zone_is_kept_for_us_alone_and_a_bad_file_is_told_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path(), hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]));
        let origin: Name = "rpz.test.".parse().unwrap();
        assert!(shelf.load(&origin, "one").unwrap().is_none());
        let zone = |serial: u32| {
            let text = format!("@ 60 SOA a. b. {serial} 60 60 60 60\nx CNAME .\n");
            text::read(&origin, text.as_bytes()).unwrap()
        };
        for serial in [1, 2] {
            shelf.save(&zone(serial), "one").unwrap();
            let kept = shelf.load(&origin, "one").unwrap().unwrap();
            assert_eq!((kept.serial(), kept.len()), (Some(serial), 1));
        }
        let path = shelf.path(&origin);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&shelf.dir)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&shelf.dir).unwrap().count(), 1);
        let other = shelf.load(&origin, "two").unwrap_err().to_string();
        assert!(other.contains("it came from elsewhere: one"), "{other}");
        fs::write(&path, "resolverd-policy-zone 9\n").unwrap();
        let newer = shelf.load(&origin, "one").unwrap_err().to_string();
        assert!(newer.contains(".zone: it is of version 9"), "{newer}");
        fs::remove_dir_all(&shelf.dir).unwrap();
        fs::write(&shelf.dir, "").unwrap();
        assert!(shelf.save(&zone(3), "one").is_err());
    }
}
