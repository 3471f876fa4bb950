//! Loads the programs of `bench-bpf` for `cargo xtask bench`, which talks to it in lines.
//!
//! Each line it prints is `key=value` pairs. It is a program of its own, so that xtask needs
//! neither aya nor a BPF object to be built. Run it inside the namespace of the device it names.
//!
//! ```text
//! bench-rig attach OBJECT PROGRAM DEVICE native|generic
//!     attaches until SIGTERM; then says what ran
//! bench-rig flood OBJECT DEVICE FRAME_HEX SECONDS NAMES BATCH PER_SECOND
//!     live frames out of DEVICE, answers counted there; NAMES 0: the frame's own name,
//!     PER_SECOND 0: as fast as it goes
//! bench-rig repeat OBJECT PROGRAM|pin PATH DEVICE FRAME_HEX TIMES
//!     a test run: nanoseconds a run, taken over the whole call
//! bench-rig account
//!     has the kernel account for programs until SIGTERM
//! bench-rig blind PINNED_SETTINGS
//!     gives the daemon's program another secret: no name is known to it any more
//! bench-rig stats ID
//!     what the kernel's own accounting says of a program
//! ```

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{
    ProgramInfo, TestRun as _, TestRunAttrs, TestRunOptions, TestRunResult, Xdp, XdpMode,
    loaded_programs,
};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use resolverd_common::settings::Settings;
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["attach", object, program, device, mode] => attach(object, program, device, mode),
        ["flood", object, device, frame, secs, names, batch, rate] => {
            let secs = Duration::from_secs_f64(secs.parse()?);
            let plan = Flood { secs, names: names.parse()?, batch: batch.parse()? };
            flood(object, device, &octets(frame)?, rate.parse()?, &plan)
        }
        ["repeat", "pin", path, device, frame, times] => {
            let program = Xdp::from_pin(path, XdpAttachType::Interface)?;
            repeat(&program, device, &octets(frame)?, times.parse()?)
        }
        ["repeat", object, name, device, frame, times] => {
            let mut bpf =
                EbpfLoader::new().override_global("REPEATED", &1_u32, true).load_file(object)?;
            let program = load(&mut bpf, name)?;
            repeat(program, device, &octets(frame)?, times.parse()?)
        }
        ["account"] => account(),
        ["blind", path] => blind(path),
        ["stats", id] => stats(id.parse()?),
        _ => bail!("attach, flood, repeat, account, blind or stats: see the head of bench_rig.rs"),
    }
}

fn attach(object: &str, name: &str, device: &str, mode: &str) -> Result<()> {
    let runtime = runtime()?;
    let mut bpf = EbpfLoader::new().load_file(object)?;
    let program = load(&mut bpf, name)?;
    let mode = match mode {
        "native" => XdpMode::Driver,
        "generic" => XdpMode::Skb,
        other => bail!("mode {other}: native or generic"),
    };
    program.attach(device, mode)?;
    println!("attached id={}", program.info()?.id());
    runtime.block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        anyhow::Ok(())
    })
}

struct Flood {
    secs: Duration,
    names: u32,
    batch: u32,
}

fn flood(object: &str, device: &str, frame: &[u8], rate: u64, plan: &Flood) -> Result<()> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    // One long call that a signal ends: setting a live run up and taking it down wait for RCU.
    // The handler does nothing; that it is there keeps SIGTERM from ending the process.
    let _handled = signal(SignalKind::terminate())?;
    let ifindex = ifindex(device)?;
    let mut sinks = EbpfLoader::new().load_file(object)?;
    load(&mut sinks, "sink")?.attach(device, XdpMode::Driver)?;

    if frame.len() > TEMPLATE_LEN {
        bail!("a frame of {} octets: at most {TEMPLATE_LEN}", frame.len());
    }
    let gap = u32::try_from(1_000_000_000_u64.checked_div(rate).unwrap_or(0))?;
    let len = frame.len() as u32;
    let mut floods = EbpfLoader::new()
        .override_global("OUT_IFINDEX", &ifindex, true)
        .override_global("GAP_NANOS", &gap, true)
        .override_global("NAMES", &plan.names, true)
        .override_global("FRAME_LEN", &len, true)
        .load_file(object)?;
    let mut template = [0; TEMPLATE_LEN];
    template[..frame.len()].copy_from_slice(frame);
    let map = floods.map_mut("TEMPLATE").context("no TEMPLATE")?;
    Array::<_, [u8; TEMPLATE_LEN]>::try_from(map)?.set(0, template, 0)?;
    let live = [0; LIVE_FRAME_LEN];
    let context = context(LIVE_FRAME_LEN as u32, ifindex);
    let program = load(&mut floods, "flood")?;
    let mut options = TestRunOptions::new();
    options.data_in = Some(&live);
    options.ctx_in = Some(&context);
    options.repeat = REPEATS_ENDLESS;
    options.attrs = TestRunAttrs::new().xdp_live_frames(plan.batch);
    let secs = plan.secs;
    thread::spawn(move || {
        thread::sleep(secs);
        // The kernel gives a process's signal to its main thread first: the one in the call.
        let _ = kill_process(getpid(), Signal::TERM);
    });
    let start = Instant::now();
    // Always an error: EINTR. Another one shows in that nothing was sent, or too soon.
    let ended = program.test_run(options);
    let took = start.elapsed();
    if took < plan.secs {
        bail!("the flood ended after {took:?}: {ended:?}");
    }
    // What is still on its way is a round trip over a veth.
    thread::sleep(Duration::from_millis(50));
    let (sent, got) = (tally(&floods)?, tally(&sinks)?);
    println!(
        "sent={} secs={:.4} replies={} octets={} back={} failed={}",
        sent[0],
        took.as_secs_f64(),
        got[0],
        got[1],
        got[2],
        got[3]
    );
    Ok(())
}

fn repeat(program: &Xdp, device: &str, frame: &[u8], times: u32) -> Result<()> {
    let context = context(frame.len() as u32, ifindex(device)?);
    let run = |times: u32| -> Result<(Duration, TestRunResult)> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(&context);
        options.repeat = times;
        let start = Instant::now();
        let result = program.test_run(options)?;
        Ok((start.elapsed(), result))
    };
    // The call has a cost of its own: some milliseconds in which the kernel waits for itself.
    let (once, _) = run(1)?;
    let (all, result) = run(times)?;
    let nanos = all.saturating_sub(once).as_nanos() as f64 / f64::from(times.max(2) - 1);
    println!(
        "verdict={} nanos={nanos:.2} kernel_nanos={}",
        result.return_value,
        result.duration.as_nanos()
    );
    Ok(())
}

/// As long as the descriptor is open, the kernel counts: nothing to put back after a crash.
fn account() -> Result<()> {
    let runtime = runtime()?;
    let _counted = enable_stats(Stats::RunTime)?;
    println!("accounting");
    runtime.block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        anyhow::Ok(())
    })
}

fn blind(path: &str) -> Result<()> {
    let map = Map::Array(MapData::from_pin(path)?);
    let mut map = Array::<_, Settings>::try_from(map)?;
    let mut settings = map.get(&0, 0)?;
    settings.secret = settings.secret.map(|word| !word);
    map.set(0, settings, 0)?;
    Ok(())
}

fn stats(id: u32) -> Result<()> {
    let found = loaded_programs().flatten().find(|info: &ProgramInfo| info.id() == id);
    let info = found.with_context(|| format!("no program {id}"))?;
    println!("run_nanos={} runs={}", info.run_time().as_nanos(), info.run_count());
    Ok(())
}

fn load<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = bpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    program.load()?;
    Ok(program)
}

/// Sums over the cores.
fn tally(bpf: &Ebpf) -> Result<[u64; TALLY_WORDS]> {
    let map = bpf.map("TALLY").context("no TALLY")?;
    let cores = PerCpuArray::<_, [u64; TALLY_WORDS]>::try_from(map)?.get(&0, 0)?;
    Ok(std::array::from_fn(|word| cores.iter().map(|core| core[word]).sum()))
}

/// The kernel's `struct xdp_md`: a packet of this length, come in by this device.
fn context(len: u32, ifindex: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&len.to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// By netlink, not by /sys: that one shows the namespace it was mounted in.
fn ifindex(device: &str) -> Result<u32> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    rustix::net::netdevice::name_to_index(&socket, device).with_context(|| device.to_owned())
}

fn octets(text: &str) -> Result<Vec<u8>> {
    let text = if Path::new(text).is_file() { fs::read_to_string(text)? } else { text.to_owned() };
    let pairs = text.trim().as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// As in the programs.
const TEMPLATE_LEN: usize = 160;
const LIVE_FRAME_LEN: usize = 192;
const TALLY_WORDS: usize = 5;

/// More frames than any flood of ours lasts.
const REPEATS_ENDLESS: u32 = 2_000_000_000;
