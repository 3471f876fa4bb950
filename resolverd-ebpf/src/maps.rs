//! All maps, declared once. Their sizes here are the smallest; the daemon sets the real ones.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key as SourceKey, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use resolverd_common::counters::{Counters, Reason};
use resolverd_common::entry::{Head, Value128, Value256, Value512, Value1280};
use resolverd_common::event::RING_LEN;
use resolverd_common::key::{Key, NAME_WORDS};
use resolverd_common::limits::Prefix;
use resolverd_common::maps::{FLOWS_MAX, LIMITS_MAX, SERVED_MAX, SOURCES_MAX};
use resolverd_common::question::{Message, Question};
use resolverd_common::reply::Reply;
use resolverd_common::settings::{Flow, Interface, Served, Settings, Source, control};

use crate::frame::Places;

/// Elements a map has when the daemon says nothing else.
const ENTRIES: u32 = 256;

#[map]
pub static ANSWERS_128: LruHashMap<Key, Value128> = LruHashMap::with_max_entries(ENTRIES, 0);
#[map]
pub static ANSWERS_256: LruHashMap<Key, Value256> = LruHashMap::with_max_entries(ENTRIES, 0);
#[map]
pub static ANSWERS_512: LruHashMap<Key, Value512> = LruHashMap::with_max_entries(ENTRIES, 0);
#[map]
pub static ANSWERS_1280: LruHashMap<Key, Value1280> = LruHashMap::with_max_entries(ENTRIES, 0);
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static CONTROLS: Array<u64> = Array::with_max_entries(control::CONTROLS, BPF_F_MMAPABLE);
#[map]
pub static SERVED: HashMap<Served, Interface> =
    HashMap::with_max_entries(SERVED_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static SOURCES: LpmTrie<[u32; 4], Source> =
    LpmTrie::with_max_entries(SOURCES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static FLOWS: PerCpuArray<Flow> = PerCpuArray::with_max_entries(FLOWS_MAX, 0);
#[map]
pub static LIMITS: LruHashMap<Prefix, u64> = LruHashMap::with_max_entries(LIMITS_MAX, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_LEN, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Words for the copy of an entry: twice those of the largest value, up to a power of two. Any
/// offset and any length of one half stay in here together, and the verifier knows them one by
/// one only.
pub const ENTRY_WORDS: usize = 512;

/// What does not fit on the stack of 512 octets. One a CPU: programs at these hooks run with
/// bottom halves off and so never meet on a CPU.
#[repr(C)]
pub struct Scratch {
    pub message: Message,
    pub name: [u64; NAME_WORDS],
    pub served: Served,
    pub source: SourceKey<[u32; 4]>,
    pub interface: Interface,
    pub admitted: Source,
    /// See [`Flow::read_at`].
    pub read_at: u64,
    pub question: Question,
    pub frame: Places,
    /// See [`Cookies`](resolverd_common::counters::Cookies).
    pub cookie: u64,
    /// The most octets of an answer to this query, by the limits; 0: none at all but TC.
    pub answer_max: usize,
    pub head: Head,
    pub reply: Reply,
    pub entry: [u64; ENTRY_WORDS],
}

#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a per-CPU element is this CPU's alone while the program runs (see `Scratch`),
    // and it is taken once a run.
    Some(unsafe { &mut *scratch })
}

#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// A control word; 0 when there is none, which answers nothing.
#[inline(always)]
pub fn control(index: u32) -> u64 {
    match CONTROLS.get_ptr(index) {
        // SAFETY: the pointer is to an aligned element that lives as long as the map. The
        // daemon stores to it at any time, in one 64-bit store.
        Some(word) => unsafe { word.read_volatile() },
        None => 0,
    }
}

/// The time of this packet, if the daemon's lease still runs.
#[inline(always)]
pub fn alive() -> Result<u64, Reason> {
    // SAFETY: the helper takes nothing and only reads the clock.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now < control(control::LEASE) { Ok(now) } else { Err(Reason::Lease) }
}
