//! Who used the cores while something was measured.
//!
//! Nanoseconds come from schedstat: of every thread of the server, and of the NAPI threads that
//! receive for it. While the server's core is saturated, softirq work that no NAPI thread does is
//! charged to whatever it interrupts, which is the server. What nobody of ours used and the cores
//! were busy with is `foreign`: a figure taken beside it is not to be trusted far.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::site::{DEVICES, SERVER_DEVICE};

/// A look at all the clocks.
pub struct Meter {
    at: Instant,
    server: Option<u32>,
    authority: u32,
    spent: Spent,
}

/// What was used from the meter's start to its reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// The server's threads.
    pub process_nanos: f64,
    /// Of these, in user space; by ticks of 10 ms.
    pub user_nanos: f64,
    /// The NAPI threads that receive queries for the server.
    pub napi_nanos: f64,
    /// The share of all cores that was busy with work that is not the bench's.
    pub foreign: f64,
    /// The share that the hypervisor took.
    pub steal: f64,
}

#[derive(Clone, Copy)]
struct Spent {
    process: u64,
    user: u64,
    napi: u64,
    napi_all: u64,
    authority: u64,
    children: u64,
    busy_ticks: u64,
    steal_ticks: u64,
    all_ticks: u64,
}

impl Meter {
    /// `server`: its process, if it has one.
    pub fn start(server: Option<u32>, authority: u32) -> Self {
        let spent = Spent::read(server, authority);
        Self { at: Instant::now(), server, authority, spent }
    }

    pub fn read(&self) -> Usage {
        let (secs, old) = (self.at.elapsed().as_secs_f64(), self.spent);
        let new = Spent::read(self.server, self.authority);
        let since = |then: u64, now: u64| now.saturating_sub(then) as f64;
        let process = since(old.process, new.process);
        let own = process
            + since(old.napi_all, new.napi_all)
            + since(old.authority, new.authority)
            + since(old.children, new.children);
        let ticks = since(old.all_ticks, new.all_ticks).max(1.0);
        let busy = since(old.busy_ticks, new.busy_ticks) / ticks;
        let cores = ticks / (secs * TICKS_A_SECOND);
        Usage {
            process_nanos: process,
            user_nanos: since(old.user, new.user),
            napi_nanos: since(old.napi, new.napi),
            foreign: (busy - own / 1e9 / secs / cores.max(1.0)).max(0.0),
            steal: since(old.steal_ticks, new.steal_ticks) / ticks,
        }
    }
}

impl Usage {
    /// Microseconds of the server's core an answer: process and receiving.
    pub fn micros_each(&self, answers: u64) -> f64 {
        (self.process_nanos + self.napi_nanos) / 1e3 / answers.max(1) as f64
    }
}

impl Spent {
    fn read(server: Option<u32>, authority: u32) -> Self {
        let (busy_ticks, steal_ticks, all_ticks) = cores();
        let own = stat_fields("self");
        Self {
            process: server.map_or(0, scheduled),
            user: server.map_or(0, |pid| ticks(&stat_fields(&pid.to_string()), 11)),
            napi: napi_threads(SERVER_DEVICE).into_iter().map(scheduled).sum(),
            napi_all: DEVICES.iter().flat_map(|device| napi_threads(device)).map(scheduled).sum(),
            authority: scheduled(authority),
            // Children that were waited for: the generators.
            children: ticks(&own, 13) + ticks(&own, 14),
            busy_ticks,
            steal_ticks,
            all_ticks,
        }
    }
}

/// The NAPI threads of a device, whichever namespace it is in.
pub fn napi_threads(device: &str) -> Vec<u32> {
    let prefix = format!("napi/{device}-");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.starts_with(&prefix)
    })
    .collect()
}

/// Nanoseconds on a core, of all threads.
fn scheduled(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| first_number(&task.path().join("schedstat")));
    nanos.sum()
}

fn first_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

/// The fields of /proc/PID/stat after the name, which may hold blanks.
fn stat_fields(pid: &str) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
}

/// A field of that kind, from ticks to nanoseconds.
fn ticks(fields: &[u64], index: usize) -> u64 {
    fields.get(index).copied().unwrap_or(0) * (1e9 / TICKS_A_SECOND) as u64
}

/// Busy, stolen and all ticks of all cores.
fn cores() -> (u64, u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map(|field| field.parse().unwrap_or(0)).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal] =
        std::array::from_fn(|i| fields.get(i).copied().unwrap_or(0));
    let busy = user + nice + system + irq + softirq;
    (busy, steal, busy + steal + idle + iowait)
}

/// USER_HZ, which is 100 on every Linux that runs this.
const TICKS_A_SECOND: f64 = 100.0;
