//! The maps, written: the only place from which answers get into the kernel.
//!
//! Every value is stored whole by one system call. Lease, barrier and epoch are shared memory,
//! each one store of 64 bits.

use std::ffi::c_void;
use std::net::IpAddr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aya::maps::lpm_trie::Key as PrefixKey;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf};
use aya::{Ebpf, Pod};
use ipnet::IpNet;
use parking_lot::Mutex;
use resolverd_common::cookie::Secrets;
use resolverd_common::counters::{Cookies, Counters};
use resolverd_common::entry::{self, CLASSES, Flags, HEAD_WORDS, Head, Value, head_of, tail};
use resolverd_common::key::{Key, SECRET_WORDS, Secret};
use resolverd_common::limits::RateLimits;
use resolverd_common::maps as names;
use resolverd_common::settings::{Interface, Served, Settings, Source, address_words, control};

use super::memory::next_generation;
use super::object::{Unavailable, chain};
use super::{FastPath, Mark, PublishError};
use crate::clock::boot_now;

type Answers<const W: usize> = Mutex<HashMap<MapData, Key, Value<W>>>;

/// The kernel's maps. Dropped, they live on as long as they are pinned.
pub struct KernelMaps {
    answers_128: Answers<16>,
    answers_256: Answers<32>,
    answers_512: Answers<64>,
    answers_1280: Answers<160>,
    settings: Mutex<Array<MapData, Settings>>,
    served: Mutex<HashMap<MapData, Served, Interface>>,
    sources: Mutex<LpmTrie<MapData, [u32; 4], Source>>,
    counters: PerCpuArray<MapData, Counters>,
    controls: Controls,
    secret: Secret,
    /// The last generation given. Held while a mark is compared or a barrier is set: what is
    /// published under a mark has a generation before that of the flush that overtakes it.
    generation: Mutex<u64>,
    /// Programs are attached and the lease is renewed.
    live: AtomicBool,
}

/// What the program is told besides the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub edns_size: u16,
    /// UDP ports in host order; more than the program takes are the caller's to report.
    pub ports: [u16; resolverd_common::settings::PORTS_MAX],
    /// One hit in so many is reported, rounded up to a power of two; 0: none.
    pub sampling: u32,
    /// The part of its life, in 1/256, that is left when an entry is reported for prefetch.
    pub prefetch_share: u16,
    pub policy_fingerprint: u64,
    pub limits: RateLimits,
    /// None: cookies are off.
    pub cookies: Option<Secrets>,
}

impl KernelMaps {
    /// Takes the maps out of the object. Returns them and the ring buffer of events.
    ///
    /// # Errors
    ///
    /// [`Unavailable::Maps`] when the object is not the one that we know.
    pub fn take(ebpf: &mut Ebpf) -> Result<(Self, RingBuf<MapData>), Unavailable> {
        let mut settings: Array<MapData, Settings> = take(ebpf, names::SETTINGS)?;
        let controls = match ebpf.take_map(names::CONTROLS) {
            Some(Map::Array(data)) => Controls::map(data)?,
            _ => return Err(Unavailable::Maps("the object has no CONTROLS".to_owned())),
        };
        let fail = |e: aya::maps::MapError| Unavailable::Maps(chain(&e));
        let mut stored = settings.get(&0, 0).map_err(fail)?;
        if stored.secret.iter().all(|word| *word == 0) {
            stored.secret = std::array::from_fn(|_| rand::random());
            settings.set(0, stored, 0).map_err(fail)?;
        }
        // Whatever is remembered of maps of a daemon before this one.
        controls.add(control::ADMISSION, 1);
        if controls.load(control::EPOCH) == 0 {
            controls.store(control::EPOCH, 1);
        }
        let maps = Self {
            answers_128: Mutex::new(take(ebpf, names::ANSWERS_128)?),
            answers_256: Mutex::new(take(ebpf, names::ANSWERS_256)?),
            answers_512: Mutex::new(take(ebpf, names::ANSWERS_512)?),
            answers_1280: Mutex::new(take(ebpf, names::ANSWERS_1280)?),
            settings: Mutex::new(settings),
            served: Mutex::new(take(ebpf, names::SERVED)?),
            sources: Mutex::new(take(ebpf, names::SOURCES)?),
            counters: take(ebpf, names::COUNTERS)?,
            controls,
            secret: stored.secret,
            generation: Mutex::default(),
            live: false.into(),
        };
        let events = take(ebpf, names::EVENTS)?;
        Ok((maps, events))
    }

    /// Renews the lease: the program answers until `until`, in boot time.
    pub fn lease(&self, until: u64) {
        self.controls.store(control::LEASE, until);
    }

    /// What the program adds to the boot time to get the wall clock's, in nanoseconds.
    pub fn wall(&self, offset: u64) {
        self.controls.store(control::WALL, offset);
    }

    /// Boot time at which the lease ends.
    #[must_use]
    pub fn leased_until(&self) -> u64 {
        self.controls.load(control::LEASE)
    }

    /// Says whether packets are answered now.
    pub fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::SeqCst);
    }

    /// What the program was told last, by us or by the daemon before us.
    #[must_use]
    pub fn settings(&self) -> Option<Settings> {
        self.settings.lock().get(&0, 0).ok()
    }

    /// Tells the program.
    ///
    /// # Errors
    ///
    /// The map's.
    pub fn tell(&self, told: &Told) -> Result<(), aya::maps::MapError> {
        let sampling_mask = match told.sampling {
            0 => u32::MAX,
            n => n.checked_next_power_of_two().map_or(u32::MAX, |n| n - 1),
        };
        let settings = Settings {
            secret: self.secret,
            sampling_mask,
            edns_size: told.edns_size,
            ports: told.ports.map(u16::to_be),
            prefetch_share: told.prefetch_share,
            policy_fingerprint: told.policy_fingerprint,
            cookies: told.cookies.is_some().into(),
            cookie_secrets: told.cookies.unwrap_or_default(),
            limits: told.limits,
        };
        self.settings.lock().set(0, settings, 0)
    }

    /// Makes the served list these addresses and no others; new ones first.
    ///
    /// # Errors
    ///
    /// The map's, when it is full. Addresses that were written stay.
    pub fn serve(&self, wanted: &[(Served, Interface)]) -> Result<(), aya::maps::MapError> {
        let mut map = self.served.lock();
        let _after = self.controls.forgetting();
        for (served, interface) in wanted {
            if map.get(served, 0).ok() != Some(*interface) {
                map.insert(served, interface, 0)?;
            }
        }
        let gone: Vec<Served> = map
            .keys()
            .filter_map(Result::ok)
            .filter(|served| !wanted.iter().any(|(other, _)| other == served))
            .collect();
        for served in gone {
            ignore_missing(map.remove(&served))?;
        }
        Ok(())
    }

    /// Makes the prefixes of sources these and no others; new ones first.
    ///
    /// # Errors
    ///
    /// The map's, when it is full. Prefixes that were written stay.
    pub fn admit(&self, wanted: &[(IpNet, Source)]) -> Result<(), aya::maps::MapError> {
        let mut map = self.sources.lock();
        let _after = self.controls.forgetting();
        let mut keys = std::collections::HashSet::new();
        for (prefix, source) in wanted {
            let key = prefix_key(prefix);
            keys.insert((key.prefix_len(), key.data()));
            map.insert(&key, source, 0)?;
        }
        let gone: Vec<_> = map
            .keys()
            .filter_map(Result::ok)
            .filter(|key| !keys.contains(&(key.prefix_len(), key.data())))
            .collect();
        for key in gone {
            ignore_missing(map.remove(&key))?;
        }
        Ok(())
    }

    /// The counters of all CPUs added up.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters {
            hits: [0; resolverd_common::counters::REASONS],
            passes: [0; resolverd_common::counters::REASONS],
            drops: [0; resolverd_common::counters::REASONS],
            cookies: [0; Cookies::ALL.len()],
            amplified: 0,
            events_lost: 0,
            sampled: 0,
        };
        let Ok(cpus) = self.counters.get(&0, 0) else {
            return sum;
        };
        for cpu in cpus.iter() {
            for (to, from) in sum.hits.iter_mut().zip(cpu.hits) {
                *to += from;
            }
            for (to, from) in sum.passes.iter_mut().zip(cpu.passes) {
                *to += from;
            }
            for (to, from) in sum.drops.iter_mut().zip(cpu.drops) {
                *to += from;
            }
            for (to, from) in sum.cookies.iter_mut().zip(cpu.cookies) {
                *to += from;
            }
            sum.amplified += cpu.amplified;
            sum.events_lost += cpu.events_lost;
            sum.sampled += cpu.sampled;
        }
        sum
    }

    /// Stores an entry of a class, and for a large one where to look for it.
    fn store(&self, key: Key, words: &[u64], class: usize) -> Result<(), PublishError> {
        if class > 0 {
            match class {
                1 => write(&self.answers_256, key, words)?,
                2 => write(&self.answers_512, key, words)?,
                _ => write(&self.answers_1280, key, words)?,
            }
            let mut head = head_of(words).ok_or(PublishError::Malformed)?;
            head.flags = Flags((class as u16) << Flags::CLASS_SHIFT);
            head.body_len = 0;
            head.counts = [0; 3];
            return write(&self.answers_128, key, &head.words());
        }
        write(&self.answers_128, key, words)
    }
}

impl FastPath for KernelMaps {
    fn is_live(&self) -> bool {
        self.live.load(Ordering::SeqCst)
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn publish(&self, key: Key, entry: &[u64], read_at: Mark) -> Result<usize, PublishError> {
        let mut head = head_of(entry).ok_or(PublishError::Malformed)?;
        let class = head.class().ok_or(PublishError::NotForKernel)?;
        head.generation = {
            let mut last = self.generation.lock();
            if self.mark() != read_at {
                return Err(PublishError::Overtaken);
            }
            next_generation(&mut last)
        };
        head.epoch = read_at.epoch;
        let mut words = [0; CLASSES[3] / 8];
        let len = head.len_words();
        words[..len].copy_from_slice(&entry[..len]);
        words[..HEAD_WORDS].copy_from_slice(&head.words());
        self.store(key, &words[..len], class)?;
        // A flush that came in between has the later generation, or raised the epoch: the
        // kernel passes this entry already. It only takes up room.
        if self.mark() != read_at {
            self.withdraw(key);
            return Err(PublishError::Overtaken);
        }
        Ok(class)
    }

    fn withdraw(&self, key: Key) {
        // The others are reached only through this one.
        let _ = self.answers_128.lock().remove(&key);
    }

    fn mark(&self) -> Mark {
        Mark {
            epoch: self.controls.load(control::EPOCH) as u32,
            barrier: self.controls.load(control::BARRIER),
        }
    }

    fn raise_epoch(&self) -> Mark {
        let _order = self.generation.lock();
        self.controls.add(control::EPOCH, 1);
        self.mark()
    }

    fn raise_barrier(&self) -> u64 {
        let mut last = self.generation.lock();
        let barrier = next_generation(&mut last);
        self.controls.store(control::BARRIER, barrier);
        barrier
    }

    fn peek(&self, key: Key) -> Option<Vec<u64>> {
        let small = self.answers_128.lock().get(&key, 0).ok()?;
        let words = match Head::read(small.0.first_chunk()?).flags.class() {
            0 => small.0.to_vec(),
            1 => self.answers_256.lock().get(&key, 0).ok()?.0.to_vec(),
            2 => self.answers_512.lock().get(&key, 0).ok()?.0.to_vec(),
            _ => self.answers_1280.lock().get(&key, 0).ok()?.0.to_vec(),
        };
        let head = head_of(&words)?;
        Some(words[..head.len_words()].to_vec())
    }
}

fn write<const W: usize>(map: &Answers<W>, key: Key, words: &[u64]) -> Result<(), PublishError>
where
    Value<W>: Pod,
{
    let head = Head::read(words.first_chunk().ok_or(PublishError::Malformed)?);
    let mut value = Value([0; W]);
    let place = value.0.get_mut(..words.len()).ok_or(PublishError::NotForKernel)?;
    place.copy_from_slice(words);
    value.0[W - 1] = tail(head.generation);
    debug_assert!(entry::tail_agrees(value.0[W - 1], head.generation));
    map.lock().insert(key, value, 0).map_err(|e| match e {
        aya::maps::MapError::SyscallError(e) => {
            PublishError::Map(e.io_error.raw_os_error().unwrap_or_default())
        }
        _ => PublishError::Map(0),
    })
}

/// The prefix as the trie has it; IPv4 below `::ffff:0:0/96`.
fn prefix_key(prefix: &IpNet) -> PrefixKey<[u32; 4]> {
    let shift = if prefix.addr().is_ipv4() { 96 } else { 0 };
    PrefixKey::new(u32::from(prefix.prefix_len()) + shift, address_words(prefix.network()))
}

/// An element of the served list for an address, port and interface.
#[must_use]
pub fn served(address: IpAddr, port: u16, ifindex: u32) -> Served {
    Served { address: address_words(address), ifindex, port: port.to_be(), reserved: 0 }
}

fn ignore_missing(result: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    match result {
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(aya::maps::MapError::SyscallError(e))
            if e.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Unavailable>
where
    M: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| Unavailable::Maps(format!("the object has no map {name}")))?;
    M::try_from(map).map_err(|e| Unavailable::Maps(chain(&e)))
}

/// The map `CONTROLS` in our memory.
struct Controls {
    words: NonNull<AtomicU64>,
    /// The programs name it by its descriptor until they are loaded.
    _array: MapData,
}

/// What is mapped: one page.
const PAGE: usize = 4_096;

impl Controls {
    fn map(array: MapData) -> Result<Self, Unavailable> {
        use rustix::mm::{MapFlags, ProtFlags};
        const _: () = assert!(control::CONTROLS as usize * 8 <= PAGE);
        // SAFETY: a new mapping at an address of the kernel's choice; it takes nothing away
        // from anybody.
        let mapped = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                array.fd(),
                0,
            )
        };
        let mapped =
            mapped.map_err(|e| Unavailable::Maps(format!("CONTROLS cannot be mapped: {e}")))?;
        NonNull::new(mapped.cast::<AtomicU64>())
            .map(|words| Self { words, _array: array })
            .ok_or_else(|| Unavailable::Maps("CONTROLS was mapped to nothing".to_owned()))
    }

    fn word(&self, index: u32) -> &AtomicU64 {
        assert!(index < control::CONTROLS);
        // SAFETY: the mapping lives as long as `self`, is aligned to a page and holds
        // `CONTROLS` words. The kernel program only reads them, in loads of 64 bits.
        unsafe { self.words.add(index as usize).as_ref() }
    }

    fn load(&self, index: u32) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }

    fn store(&self, index: u32, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
    }

    fn add(&self, index: u32, value: u64) {
        self.word(index).fetch_add(value, Ordering::SeqCst);
    }

    /// Voids what the program remembers of admissions when the guard is dropped: to be taken
    /// before they change, whether or not the change succeeds.
    fn forgetting(&self) -> Forgetting<'_> {
        Forgetting(self)
    }
}

struct Forgetting<'a>(&'a Controls);

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.0.add(control::ADMISSION, 1);
    }
}

impl Drop for Controls {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to its words outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast::<c_void>(), PAGE) };
    }
}

// SAFETY: the words are atomics in shared memory; any thread may use them.
unsafe impl Send for Controls {}
// SAFETY: as above.
unsafe impl Sync for Controls {}

/// How long the lease still runs, in milliseconds.
#[must_use]
pub fn lease_left_millis(until: u64) -> u64 {
    until.saturating_sub(boot_now().0) / resolverd_common::time::MILLI
}

const _: () = assert!(SECRET_WORDS == size_of::<Secret>() / 4);
