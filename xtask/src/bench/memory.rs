//! How much memory a process has, and the BPF maps it holds.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Octets of memory that are resident.
pub fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("no VmRSS")? * 1024.0)
}

/// Octets of the BPF maps that the process has open, each map once.
pub fn maps(pid: u32) -> Result<f64> {
    let mut sizes = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        // A file closed in between is not of interest.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(octets), Some(_)) =
            (field("map_id:"), field("memlock:"), field("map_type:"))
        {
            sizes.insert(id, octets);
        }
    }
    Ok(sizes.values().sum::<u64>() as f64)
}
