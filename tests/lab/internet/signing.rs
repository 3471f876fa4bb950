//! Signs the zones of a plan with BIND's and NLnet Labs' tools, from the leaves up, and breaks
//! those that are to be broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Error, Result};

use super::faults;
use super::plan::{Algorithm, Denial, Fault, Link, Plan, PlannedZone, Signing};
use crate::namespace::find;
use crate::process::run;
use crate::scratch::Scratch;
use crate::zones::{self, Zone};

/// All zones of a plan as their servers have them, and what the root's parent would say of it.
pub struct Signed {
    /// In the order of the plan.
    pub zones: Vec<Zone>,
    /// The DS record of the root.
    pub anchor: String,
}

/// Signs them all. Zones of the same depth are signed at once, on as many threads as there are
/// cores.
pub fn sign(plan: &Plan) -> Result<Signed> {
    let scratch = Scratch::new("signing")?;
    let keys = Keys::make(scratch.path(), plan)?;
    let depth = |zone: &PlannedZone| plan.upwards(zone).count();
    let deepest = plan.zones.iter().map(depth).max().unwrap_or(0);
    let mut done: Vec<Option<Done>> = plan.zones.iter().map(|_| None).collect();
    for level in (1..=deepest).rev() {
        let here: Vec<usize> =
            (0..plan.zones.len()).filter(|at| depth(&plan.zones[*at]) == level).collect();
        let jobs: Vec<(usize, String)> =
            here.iter().map(|at| (*at, text(plan, *at, &done))).collect();
        for (at, zone) in on_all_cores(&jobs, |(at, text)| {
            let zone = &plan.zones[*at];
            let done = keys.sign(scratch.path(), zone, text);
            Ok((*at, done.with_context(|| format!("signing {}", zone.name))?))
        })? {
            done[at] = Some(zone);
        }
    }
    let done: Vec<Done> = done.into_iter().flatten().collect();
    let anchor = done[0].ds.clone().context("the root is signed")?;
    let zones = plan.zones.iter().zip(done).map(|(zone, done)| Zone {
        name: zone.name.clone(),
        text: done.text,
        // The server has nothing left to sign.
        signed: zones::Signed::No,
    });
    Ok(Signed { zones: zones.collect(), anchor })
}

/// A zone as it is served, and the DS that the zone above has for it.
struct Done {
    text: String,
    ds: Option<String>,
}

/// A zone's text before it is signed: with its delegations, and the DS records of those that are
/// done.
fn text(plan: &Plan, at: usize, done: &[Option<Done>]) -> String {
    let zone = &plan.zones[at];
    let mut text = String::new();
    for record in &zone.records {
        let _ = writeln!(text, "{} {} {} {}", record.owner, record.ttl, record.rtype, record.data);
    }
    let below = plan.zones.iter().enumerate().filter(|(_, below)| below.above == Some(at));
    for (cut, ds) in [(zone, None)]
        .into_iter()
        .chain(below.map(|(at, zone)| (zone, done[at].as_ref().and_then(|done| done.ds.as_ref()))))
    {
        for server in &cut.nameservers {
            let _ = writeln!(text, "{} 3600 NS {}", cut.name, server.name);
            for address in &server.addresses {
                let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
                let _ = writeln!(text, "{} 3600 {rtype} {address}", server.name);
            }
        }
        if let Some(ds) = ds {
            let _ = writeln!(text, "{ds}");
        }
    }
    text
}

/// Keys of each algorithm, made anew at each start and thrown away. Zones share them: what a
/// signature is worth depends on whose key it is, which is in the signature.
struct Keys {
    made: BTreeMap<(Algorithm, Role), Vec<Key>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// KSK or CSK.
    Entry,
    Zone,
}

struct Key {
    /// `+013+12345`
    suffix: String,
    public: String,
    private: Vec<u8>,
}

impl Keys {
    fn make(dir: &Path, plan: &Plan) -> Result<Self> {
        let mut wanted: Vec<Algorithm> =
            plan.zones.iter().filter_map(|zone| Some(zone.signing?.algorithm)).collect();
        wanted.sort();
        wanted.dedup();
        let jobs: Vec<(Algorithm, Role)> = wanted
            .iter()
            .flat_map(|algorithm| [Role::Entry, Role::Zone].map(|role| (*algorithm, role)))
            .flat_map(|job| [job; KEYS_EACH])
            .collect();
        let made = on_all_cores(&jobs, |(algorithm, role)| {
            let mut command = Command::new(tool("dnssec-keygen")?);
            command.args(["-q", "-a", name(*algorithm), "-K"]).arg(dir);
            if matches!(algorithm, Algorithm::RsaSha256 | Algorithm::RsaSha512) {
                command.args(["-b", "2048"]);
            }
            if *role == Role::Entry {
                command.args(["-f", "KSK"]);
            }
            let said = run(command.arg(POOL))?;
            let base = dir.join(said.trim());
            let suffix = said.trim().strip_prefix("Kpool.").context("a key's name")?.to_owned();
            let public = fs::read_to_string(base.with_added_extension("key"))?;
            let private = fs::read(base.with_added_extension("private"))?;
            Ok(((*algorithm, *role), Key { suffix, public, private }))
        })?;
        let mut keys = Self { made: BTreeMap::new() };
        for (kind, key) in made {
            keys.made.entry(kind).or_default().push(key);
        }
        Ok(keys)
    }

    fn sign(&self, dir: &Path, zone: &PlannedZone, text: &str) -> Result<Done> {
        let Some(signing) = zone.signing else {
            return Ok(Done { text: text.to_owned(), ds: None });
        };
        // The root's own folder has no name of its own.
        let dir = dir.join(format!("zone-{}", zone.name));
        fs::create_dir(&dir)?;
        let plain = dir.join("plain");
        fs::write(&plain, text)?;
        let roles: &[Role] =
            if signing.single_key { &[Role::Entry] } else { &[Role::Entry, Role::Zone] };
        let mut bases = Vec::new();
        for role in roles {
            let of_kind = &self.made[&(signing.algorithm, *role)];
            let key = &of_kind[zone.name.len() % of_kind.len()];
            let base = dir.join(format!("K{}{}", zone.name, key.suffix));
            let public = key.public.replace(&format!("\n{POOL} "), &format!("\n{} ", zone.name));
            fs::write(base.with_added_extension("key"), public)?;
            fs::write(base.with_added_extension("private"), &key.private)?;
            bases.push(base);
        }
        let mut ds = ds(&bases[0], zone)?;
        let mut signed = match signing.denial {
            Denial::Nsec3 { iterations, .. } if iterations > BIND_ITERATIONS_MAX => {
                by_ldns(&dir, zone, signing, &bases)?
            }
            _ => by_bind(&dir, zone, signing)?,
        };
        if let Some(fault) = zone.fault {
            if fault == Fault::Unsigned {
                text.clone_into(&mut signed);
            }
            faults::inflict(fault, zone, &mut signed, &mut ds);
        }
        let shown = zone.above.is_none() || zone.link != Link::None;
        Ok(Done { text: signed, ds: shown.then_some(ds) })
    }
}

fn by_bind(dir: &Path, zone: &PlannedZone, signing: Signing) -> Result<String> {
    let mut command = Command::new(tool("dnssec-signzone")?);
    // Smart signing takes all keys of the folder; what came out is not checked, which is for
    // resolvers to do.
    command.current_dir(dir).args(["-q", "-S", "-P", "-O", "full", "-d", ".", "-f", "signed"]);
    command.args(["-o", &zone.name]);
    command.arg(if signing.single_key { "-z" } else { "-x" });
    match zone.fault {
        Some(Fault::Expired) => {
            command.args(["-s", "now-5184000", "-e", "now-2592000"]);
        }
        Some(Fault::NotYetValid) => {
            command.args(["-s", "now+2592000", "-e", "now+5184000"]);
        }
        _ => {}
    }
    if let Denial::Nsec3 { iterations, salt, opt_out } = signing.denial {
        command.args(["-3", salt, "-H", &iterations.to_string()]);
        if opt_out {
            command.arg("-A");
        }
    }
    run(command.arg("plain"))?;
    Ok(fs::read_to_string(dir.join("signed"))?)
}

/// ldns signs with more iterations than BIND would.
fn by_ldns(dir: &Path, zone: &PlannedZone, signing: Signing, keys: &[PathBuf]) -> Result<String> {
    let mut command = Command::new(tool("ldns-signzone")?);
    command.current_dir(dir).args(["-f", "signed", "-o", &zone.name]);
    if let Denial::Nsec3 { iterations, salt, opt_out } = signing.denial {
        command.args(["-n", "-t", &iterations.to_string()]);
        if salt != "-" {
            command.args(["-s", salt]);
        }
        if opt_out {
            command.arg("-p");
        }
    }
    run(command.arg("plain").args(keys))?;
    Ok(fs::read_to_string(dir.join("signed"))?)
}

fn ds(key: &Path, zone: &PlannedZone) -> Result<String> {
    let digest = if zone.link == Link::Ds384 { "SHA-384" } else { "SHA-256" };
    let mut command = Command::new(tool("dnssec-dsfromkey")?);
    let said = run(command.args(["-T", "3600", "-a", digest]).arg(key))?;
    Ok(said.trim().to_owned())
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RsaSha256 => "RSASHA256",
        Algorithm::RsaSha512 => "RSASHA512",
        Algorithm::P256 => "ECDSAP256SHA256",
        Algorithm::P384 => "ECDSAP384SHA384",
        Algorithm::Ed25519 => "ED25519",
    }
}

fn tool(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("the lab needs `{program}`: `cargo xtask setup --tests`"))
}

/// Does a job for each item, on as many threads as there are cores.
fn on_all_cores<T: Sync, R: Send>(
    items: &[T],
    job: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = job(item);
                    results.lock().unwrap_or_else(|e| e.into_inner()).push(result);
                }
            });
        }
    });
    results.into_inner().map_err(|_| Error::msg("a thread panicked"))?.into_iter().collect()
}

/// Of each algorithm and role.
const KEYS_EACH: usize = 2;
/// The zone that keys are made for at first.
const POOL: &str = "pool.";
/// dnssec-signzone refuses more.
const BIND_ITERATIONS_MAX: u16 = 150;
