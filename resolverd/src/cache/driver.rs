//! The cache on disk: its key, its file, and how both are kept whole.
//!
//! Starts no task: whoever calls is to be on a thread that may wait. A file is written beside
//! the old one and takes its place when it is whole and on the disk; it is read twice, once to
//! check it and once to use it, so that nothing of a bad one is used. One chunk of it is in
//! memory at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::hmac;

use super::file::{self, FileError, Header, Item};
use super::kept::{self, Desk, Kept, Moment};
use super::{Cache, NotTaken};
use crate::clock::{boot_now, wall_now};

/// The folder that has the cache's file and its key.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

/// Why there is no file, or none that is used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("{path}: {error}")]
    File { path: PathBuf, error: FileError },
    #[error("{path}: it can't be made or read: {error}")]
    Key { path: PathBuf, error: io::Error },
    #[error("{path}: it belongs to user {owner}, and the daemon runs as {us}; give it to us")]
    KeyOfOthers { path: PathBuf, owner: u32, us: u32 },
    #[error(
        "{path}: its mode is {mode:04o}, so that others can read or write it; `chmod 600` it, or \
         remove it with the cache's file"
    )]
    KeyOpen { path: PathBuf, mode: u32 },
    #[error("{path}: it is no key of resolverd's; remove it with the cache's file")]
    KeyMalformed { path: PathBuf },
    #[error("{path}: it is of version {version}, and this resolverd knows 1")]
    KeyNewer { path: PathBuf, version: u32 },
    #[error(
        "{path}: it was written {secs} s from now: the clock was set back, and nobody knows how \
         old its answers are"
    )]
    FromTheFuture { path: PathBuf, secs: u64 },
    #[error("{path}: its answers were made under another configuration of zones or TTLs")]
    OtherPolicy { path: PathBuf },
    #[error("{path}: writing it took too long, and was given up; the one before it stays")]
    TooSlow { path: PathBuf },
}

/// What became of the answers of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub taken: u64,
    /// Their life ended meanwhile.
    pub expired: u64,
    /// There is a newer one, or a flush came, or they are not to be used here.
    pub left: u64,
}

impl Shelf {
    #[must_use]
    pub fn in_folder(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where the cache's file is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The key that this node's files are proven with. Made when there is none.
    ///
    /// # Errors
    ///
    /// [`ShelfError`], when it can't be made, or others know it.
    pub fn key(&self) -> Result<hmac::Key, ShelfError> {
        let path = self.dir.join(KEY);
        let failed = |error| ShelfError::Key { path: path.clone(), error };
        let opened = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_key(&path).map_err(failed)?;
                OpenOptions::new().read(true).custom_flags(NO_LINKS).open(&path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        let us = rustix::process::geteuid().as_raw();
        if metadata.uid() != us {
            return Err(ShelfError::KeyOfOthers { path, owner: metadata.uid(), us });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(ShelfError::KeyOpen { path, mode });
        }
        let mut text = String::new();
        (&file).take(KEY_TEXT_MAX).read_to_string(&mut text).map_err(failed)?;
        read_key(&text, &path)
    }

    /// In one step: two daemons never have different keys of one folder.
    fn make_key(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let secret: [u8; KEY_OCTETS] = rand::random();
        let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
        let beside = self.dir.join(format!("{KEY}.{:016x}", rand::random::<u64>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let made = file
            .write_all(format!("{KEY_MAGIC} 1\n{hex}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| match fs::hard_link(&beside, path) {
                // Another one was faster, and its key is as good.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                done => done,
            })
            .and_then(|()| self.sync());
        fs::remove_file(&beside)?;
        made
    }

    /// Writes the answers of a cache. Gives their number. `go_on` is asked at each chunk: where
    /// it says no, the file is given up.
    ///
    /// # Errors
    ///
    /// [`ShelfError`]; the file before it stays.
    pub fn save(
        &self,
        cache: &Cache,
        policy: u64,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<u64, ShelfError> {
        let key = self.key()?;
        let (path, beside) = (self.path(), self.dir.join(BESIDE));
        let failed = |error| ShelfError::File { path: path.clone(), error };
        // What a daemon that died in the middle left.
        let _ = fs::remove_file(&beside);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|error| failed(error.into()))?;
        let written = self.fill(file, &key, cache, policy, &mut go_on).and_then(|number| {
            if number.is_some() {
                fs::rename(&beside, &path)?;
                self.sync()?;
            }
            Ok(number)
        });
        match written {
            Ok(Some(number)) => Ok(number),
            Ok(None) => {
                let _ = fs::remove_file(&beside);
                Err(ShelfError::TooSlow { path })
            }
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(failed(error))
            }
        }
    }

    /// None: it was given up.
    fn fill(
        &self,
        out: File,
        key: &hmac::Key,
        cache: &Cache,
        policy: u64,
        go_on: &mut impl FnMut() -> bool,
    ) -> Result<Option<u64>, FileError> {
        let now = moment();
        let header = Header { nonce: rand::random(), written_at: now.wall, policy };
        let mut writer = file::Writer::begin(BufWriter::new(out), key, &header)?;
        for (number, text) in cache.origin_names().iter().enumerate() {
            // ORIGINS_MAX is far below what a number can hold.
            writer.origin(number as u16, text)?;
        }
        let mut desk = Desk::default();
        let mut number = 0;
        for held in cache.all() {
            let head = held.head();
            if !kept::is_worth_keeping(&held, &head, now.boot) || !cache.spares(&held, &head) {
                continue;
            }
            number += 1;
            let full = writer.answer(|out| kept::write(&held, &head, now, &mut desk, out))?;
            if full && !go_on() {
                return Ok(None);
            }
        }
        let out = writer.end()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.sync_all()?;
        Ok(Some(number))
    }

    /// Gives the answers of the file to `take`, with the moment that they are to be as old as.
    /// None: there is no file.
    ///
    /// # Errors
    ///
    /// [`ShelfError`], and nothing was given.
    pub fn load(
        &self,
        policy: u64,
        mut take: impl FnMut(&Kept<'_>, &str, Moment) -> Result<(), NotTaken>,
    ) -> Result<Option<Loaded>, ShelfError> {
        let path = self.path();
        let failed = |error: FileError| ShelfError::File { path: path.clone(), error };
        let opened = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let key = self.key()?;
        let header = file::verify(buffered(&file), &key).map_err(failed)?;
        let now = moment();
        let ahead = header.written_at.saturating_sub(now.wall);
        if ahead > AHEAD_MAX_NANOS {
            return Err(ShelfError::FromTheFuture { path, secs: ahead / 1_000_000_000 });
        }
        if header.policy != policy {
            return Err(ShelfError::OtherPolicy { path });
        }
        file.rewind().map_err(|error| failed(error.into()))?;
        let mut reader = file::Reader::begin(buffered(&file), &key).map_err(failed)?;
        let mut origins: Vec<String> = Vec::new();
        let mut loaded = Loaded::default();
        // Each chunk is checked once more: who changes the file meanwhile ends the reading.
        while let Some(items) = reader.chunk().map_err(failed)? {
            for item in items {
                match item.map_err(failed)? {
                    Item::Origin(number, text) => {
                        let at = usize::from(number);
                        if at >= origins.len() {
                            origins.resize(at + 1, String::new());
                        }
                        text.clone_into(&mut origins[at]);
                    }
                    Item::Answer(kept) => {
                        let origin = origins.get(usize::from(kept.origin));
                        match take(&kept, origin.map_or("", |text| text), now) {
                            Ok(()) => loaded.taken += 1,
                            Err(NotTaken::Expired) => loaded.expired += 1,
                            Err(_) => loaded.left += 1,
                        }
                    }
                }
            }
        }
        Ok(Some(loaded))
    }

    /// Has the names in the folder on the disk.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// Both clocks, now.
#[must_use]
pub fn moment() -> Moment {
    let wall = wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Moment { boot: boot_now().0, wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
}

fn buffered(file: &File) -> BufReader<&File> {
    BufReader::with_capacity(READ_OCTETS, file)
}

fn read_key(text: &str, path: &Path) -> Result<hmac::Key, ShelfError> {
    let malformed = || ShelfError::KeyMalformed { path: path.to_owned() };
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix(KEY_MAGIC)?.strip_prefix(' '));
    match version.and_then(|version| version.parse().ok()) {
        Some(1) => {}
        Some(version) if version > 1 => {
            return Err(ShelfError::KeyNewer { path: path.to_owned(), version });
        }
        _ => return Err(malformed()),
    }
    let hex = lines.next().filter(|hex| hex.len() == 2 * KEY_OCTETS).ok_or_else(malformed)?;
    let mut secret = [0; KEY_OCTETS];
    for (octet, digits) in secret.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).map_err(|_| malformed())?;
        *octet = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

const FILE: &str = "cache.bin";
const BESIDE: &str = "cache.bin.new";
const KEY: &str = "cache.key";
const KEY_MAGIC: &str = "resolverd-cache-key";
/// As long as what HMAC-SHA256 makes (RFC 2104 section 3).
const KEY_OCTETS: usize = 32;
const KEY_TEXT_MAX: u64 = 256;
const READ_OCTETS: usize = 256 << 10;
/// A clock that is set right at the start may go back a little.
pub const AHEAD_MAX_NANOS: u64 = 5_000_000_000;
/// A link could lead anywhere.
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

#[cfg(test)]
mod tests;
