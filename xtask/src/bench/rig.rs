//! Builds and calls `bench-rig`, which loads BPF programs for the bench.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use lab::Namespace;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::{build, call};

/// The program and the object it loads.
pub struct Rig {
    pub program: PathBuf,
    pub object: PathBuf,
}

/// Built once a run.
pub fn rig() -> Result<&'static Rig> {
    static RIG: OnceLock<Rig> = OnceLock::new();
    if let Some(rig) = RIG.get() {
        return Ok(rig);
    }
    let built = make()?;
    Ok(RIG.get_or_init(|| built))
}

fn make() -> Result<Rig> {
    let compiler = build::compiler();
    let compiler = compiler.context("no BPF compiler: `cargo xtask setup` says what is missing")?;
    let target = build::target_folder();
    let mut cargo = build::cargo_with_bpf();
    cargo.args(["build", "--quiet", "--release", "--package", "resolverd-tests"]);
    call::run(cargo.args(["--bin", "bench-rig", "--features", "bpf"]))?;

    // As aya-build does for the daemon's object, which has nothing of this one in it.
    let mut cargo = Command::new("rustup");
    cargo.args(["run", &compiler.toolchain, "cargo", "build", "--quiet", "--release"]);
    cargo.args(["--package", "resolverd-ebpf", "--bin", "bench-bpf"]);
    cargo.args(["--target", BPF_TARGET, "-Z", "build-std=core", "--target-dir"]);
    cargo.arg(target.join("bpf")).current_dir(call::root());
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags());
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR"] {
        cargo.env_remove(name);
    }
    if let Some(folder) = compiler.linker.parent() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::split_paths(&path).chain([folder.to_path_buf()]);
        cargo.env("PATH", std::env::join_paths(path)?);
    }
    call::run(&mut cargo)?;
    Ok(Rig {
        program: target.join("release/bench-rig"),
        object: target.join("bpf").join(BPF_TARGET).join("release/bench-bpf"),
    })
}

/// A verb of the rig that goes on until it is dropped.
pub struct Held {
    child: Child,
    /// The line it said when it was ready.
    pub said: String,
}

impl Held {
    pub fn start(inside: &Namespace, args: &[&str]) -> Result<Self> {
        let mut command = inside.command(&rig()?.program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting bench-rig")?;
        let out = child.stdout.take().context("its output is piped")?;
        let mut said = String::new();
        BufReader::new(out).read_line(&mut said)?;
        let held = Self { child, said };
        if held.said.is_empty() {
            anyhow::bail!("bench-rig {}: ended at once; it said why above", args.join(" "));
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Attaches one of the bench's own programs in native mode.
pub fn attach(inside: &Namespace, program: &str, device: &str) -> Result<Held> {
    let object = rig()?.object.display().to_string();
    Held::start(inside, &["attach", &object, program, device, "native"])
}

/// What the kernel counted for a program so far: nanoseconds and runs.
pub fn accounted(id: u32) -> Result<(f64, f64)> {
    let said = lab::run(Command::new(&rig()?.program).args(["stats", &id.to_string()]))?;
    Ok((word(&said, "run_nanos")?, word(&said, "runs")?))
}

/// The number behind `key=`.
pub fn word(said: &str, key: &str) -> Result<f64> {
    let start = format!("{key}=");
    let value = said.split_whitespace().find_map(|word| word.strip_prefix(start.as_str()));
    let value = value.with_context(|| format!("no {key} in `{}`", said.trim()))?;
    value.parse().with_context(|| format!("{key} in `{}`", said.trim()))
}

/// Two benches at once would measure each other, whichever tree they were built in.
pub fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("resolverd-bench.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .context("another `cargo xtask bench` is running on this machine")?;
    Ok(file)
}

/// Where results go.
pub fn folder() -> Result<PathBuf> {
    let dir = build::target_folder().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

fn flags() -> String {
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    [&arch, "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\u{1f}")
}

const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
