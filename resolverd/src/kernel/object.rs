//! The BPF object: is it built in, does this kernel take it, and the maps that outlive us.
//!
//! Maps and links are pinned in a bpffs of our own, each under a name with the ABI number, so
//! that a restarted daemon finds the cache full and packets never stop being answered.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use aya::programs::ProgramType;
use aya::sys::BpfHelper;
use aya::{Ebpf, EbpfLoader};
use resolverd_common::{ABI, maps as names};
use tracing::{info, warn};

/// The program, when it was built in.
#[cfg(kernel_path)]
static OBJECT: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/resolverd-bpf")));
#[cfg(not(kernel_path))]
static OBJECT: Option<&[u8]> = None;

/// Names of the programs in the object.
pub const XDP: &str = "resolverd_xdp";
pub const TC: &str = "resolverd_tc";

const BPFFS_MAGIC: i64 = 0xcafe_4a11;
/// What stands before the ABI number in the names of pins.
const PIN_PREFIX: &str = "resolverd-";

/// Maps that are pinned: all but the scratch, which means nothing between two packets, and what
/// the program remembers of clients, which it finds again.
const PINNED: [&str; names::ALL.len() - 3] = [
    names::ANSWERS_128,
    names::ANSWERS_256,
    names::ANSWERS_512,
    names::ANSWERS_1280,
    names::SETTINGS,
    names::CONTROLS,
    names::SERVED,
    names::SOURCES,
    names::COUNTERS,
    names::EVENTS,
];

/// Helpers that not every kernel has, and where they came from.
const HELPERS: [(BpfHelper, &str, &str); 3] = [
    (BpfHelper::BPF_FUNC_xdp_store_bytes, "bpf_xdp_store_bytes", "5.18"),
    (BpfHelper::BPF_FUNC_ktime_get_boot_ns, "bpf_ktime_get_boot_ns", "5.8"),
    (BpfHelper::BPF_FUNC_ringbuf_reserve, "bpf_ringbuf_reserve", "5.8"),
];

/// Why there is no kernel path. The text ends up in a log line, `status` and `check`.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("switched off by kernel.mode")]
    Off,
    #[error("this binary was built without it; `cargo xtask build` builds it in")]
    NotBuilt,
    #[error("BPF needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {0}")]
    Privilege(io::Error),
    #[error("this kernel lacks the helper {0} (it came with Linux {1})")]
    Helper(&'static str, &'static str),
    #[error("{path}: {problem}")]
    PinPath { path: PathBuf, problem: String },
    #[error("the maps cannot be made: {0}")]
    Maps(String),
    #[error("the program is refused by this kernel: {0}")]
    Verifier(String),
}

/// Sizes of the answer maps, in elements.
pub type Entries = [u32; 4];

/// The object with its maps made or taken over; the programs are not yet loaded.
pub struct Opened {
    pub ebpf: Ebpf,
    pub pins: Pins,
    /// The answers of an earlier daemon are in the maps.
    pub taken_over: bool,
}

/// Whether a BPF object is built in.
#[must_use]
pub const fn is_built_in() -> bool {
    OBJECT.is_some()
}

/// Makes the maps, or takes over those that an earlier daemon left pinned.
///
/// # Errors
///
/// See [`Unavailable`]; nothing is left behind.
pub fn open(pin_path: &Path, entries: Entries) -> Result<Opened, Unavailable> {
    let object = OBJECT.ok_or(Unavailable::NotBuilt)?;
    probe()?;
    let pins = Pins::prepare(pin_path)?;
    pins.remove_foreign_abi()?;
    let taken_over = pins.fit(entries)?;
    let mut loader = EbpfLoader::new();
    for (name, size) in names::ALL.iter().zip(entries) {
        loader.map_max_entries(name, size);
    }
    for name in PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    let ebpf = loader.load(object).map_err(|e| Unavailable::Maps(chain(&e)))?;
    Ok(Opened { ebpf, pins, taken_over })
}

/// Whether this kernel and our privileges allow the kernel path at all.
///
/// # Errors
///
/// Names the first thing that is missing.
pub fn probe() -> Result<(), Unavailable> {
    if OBJECT.is_none() {
        return Err(Unavailable::NotBuilt);
    }
    for (helper, name, since) in HELPERS {
        match aya::sys::is_helper_supported(ProgramType::Xdp, helper) {
            Ok(true) => {}
            Ok(false) => return Err(Unavailable::Helper(name, since)),
            Err(aya::programs::ProgramError::SyscallError(e)) => {
                return Err(Unavailable::Privilege(e.io_error));
            }
            Err(e) => return Err(Unavailable::Verifier(chain(&e))),
        }
    }
    Ok(())
}

/// Octets of locked memory that the maps take, by what was measured of an element of an LRU
/// map: its value, key, list and hash links, and its share of buckets.
#[must_use]
pub fn locked_memory(entries: Entries) -> u64 {
    const PER_ELEMENT: [u64; 4] = [213, 341, 597, 1_365];
    /// Ring buffer, scratch and the small maps.
    const REST: u64 = 1 << 20;
    entries.iter().zip(PER_ELEMENT).map(|(n, octets)| u64::from(*n) * octets).sum::<u64>() + REST
}

/// The folder of the pins: on a bpffs, ours alone.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder, mounts a bpffs on it when it is on none, and checks whose it is.
    ///
    /// # Errors
    ///
    /// [`Unavailable::PinPath`] with what is wrong.
    pub fn prepare(folder: &Path) -> Result<Self, Unavailable> {
        let fail = |problem: String| Unavailable::PinPath { path: folder.to_owned(), problem };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| fail(format!("cannot be made: {e}")))?;
        check_owner(folder).map_err(&fail)?;
        let stat = rustix::fs::statfs(folder).map_err(|e| fail(format!("cannot be read: {e}")))?;
        if stat.f_type as i64 != BPFFS_MAGIC {
            rustix::mount::mount(
                c"bpf",
                folder,
                c"bpf",
                rustix::mount::MountFlags::NOSUID
                    | rustix::mount::MountFlags::NODEV
                    | rustix::mount::MountFlags::NOEXEC,
                Some(c"mode=0700"),
            )
            .map_err(|e| {
                fail(format!(
                    "is not on a bpffs, and mounting one failed: {e}; run `resolverd kernel \
                     prepare` as root, or name a folder on a bpffs in kernel.pin-path"
                ))
            })?;
            info!(path = %folder.display(), "bpffs mounted");
            check_owner(folder).map_err(&fail)?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder as it is, if it is there and ours.
    #[must_use]
    pub fn existing(folder: &Path) -> Option<Self> {
        check_owner(folder).ok()?;
        Some(Self { folder: folder.to_owned() })
    }

    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{PIN_PREFIX}{ABI}-{name}"))
    }

    /// The pin of the link to an interface. The index is in it: an interface that was made
    /// anew under its old name has another.
    #[must_use]
    pub fn link(&self, ifindex: u32, mode: &str) -> PathBuf {
        self.folder.join(format!("{PIN_PREFIX}{ABI}-link-{ifindex}-{mode}"))
    }

    /// All links that are pinned: index, mode, path.
    #[must_use]
    pub fn links(&self) -> Vec<(u32, String, PathBuf)> {
        let prefix = format!("{PIN_PREFIX}{ABI}-link-");
        self.names()
            .into_iter()
            .filter_map(|name| {
                let (index, mode) = name.strip_prefix(&prefix)?.split_once('-')?;
                Some((index.parse().ok()?, mode.to_owned(), self.folder.join(&name)))
            })
            .collect()
    }

    /// Removes every pin of ours and names them: programs detach, maps go with their last
    /// user.
    pub fn remove_all(&self) -> Vec<String> {
        let ours = self.names();
        for name in &ours {
            self.remove(name);
        }
        ours
    }

    /// Removes what a daemon with another contract left. Its program ends with its pins.
    fn remove_foreign_abi(&self) -> Result<(), Unavailable> {
        let own = format!("{PIN_PREFIX}{ABI}-");
        let foreign: Vec<_> =
            self.names().into_iter().filter(|name| !name.starts_with(&own)).collect();
        if let Some(first) = foreign.first() {
            warn!(
                pins = foreign.len(),
                example = %first,
                abi = ABI,
                "pins of another contract removed: the kernel starts with an empty cache"
            );
        }
        for name in foreign {
            self.remove(&name);
        }
        Ok(())
    }

    /// Removes the pins when maps of these sizes cannot use them. True: there are maps to take
    /// over.
    fn fit(&self, entries: Entries) -> Result<bool, Unavailable> {
        let mut found = 0;
        for (i, name) in PINNED.iter().enumerate() {
            let path = self.map(name);
            if !path.exists() {
                continue;
            }
            found += 1;
            let info = MapData::from_pin(&path)
                .and_then(|map| map.info())
                .map_err(|e| Unavailable::Maps(chain(&e)))?;
            if let Some(wanted) = entries.get(i)
                && info.max_entries() != *wanted
            {
                warn!(
                    map = name,
                    was = info.max_entries(),
                    wanted,
                    "size changed: the kernel starts with an empty cache"
                );
                self.remove_all();
                return Ok(false);
            }
        }
        if found != 0 && found != PINNED.len() {
            warn!(found, wanted = PINNED.len(), "pins incomplete: removed");
            self.remove_all();
            return Ok(false);
        }
        Ok(found != 0)
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(PIN_PREFIX))
            .collect()
    }

    fn remove(&self, name: &str) {
        let path = self.folder.join(name);
        if let Err(error) = fs::remove_file(&path) {
            warn!(path = %path.display(), %error, "pin not removed");
        }
    }
}

/// A folder that others could write to could hold their maps in place of ours.
fn check_owner(folder: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(folder).map_err(|e| format!("cannot be read: {e}"))?;
    if !meta.is_dir() {
        return Err("is no folder".to_owned());
    }
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us {
        return Err(format!("belongs to user {}, not to us (user {us})", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!(
            "can be written by others (mode {:04o}): run `chmod go-w` on it",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

/// An error with all its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
