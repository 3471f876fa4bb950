//! A child process behind a guard, and short commands that must succeed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Runs a command to its end and gives its standard output; an error names the command and what
/// it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}{}", output.status, said.trim(), text.trim());
    }
    Ok(text)
}

/// A long-lived child. Dropping the guard kills it; so does the end of this process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in the file `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let what = format!("{command:?}");
        let child = spawn(command).with_context(|| format!("starting {what}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Not yet waited for, so the id can't have gone to another process.
        kill_process(self.raw_pid(), signal).with_context(|| format!("{signal:?}: {}", self.name))
    }

    /// `None`: it is still running.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, and kills it past `bound`.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait::until(&format!("{} to stop", self.name), bound, || {
            status = self.exit_status();
            status.is_some()
        })?;
        status.context("it stopped")
    }

    /// SIGTERM, then a bounded wait.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(wait::STOP)
    }

    /// SIGKILL, and wait for the kernel to take it down.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until `look` says true; an error tells the end of the log, or that it died.
    pub fn ready(&mut self, what: &str, mut look: impl FnMut() -> bool) -> Result<()> {
        let mut died = None;
        let ready = wait::until(what, wait::READY, || {
            died = self.exit_status();
            died.is_some() || look()
        });
        match (ready, died) {
            (Ok(()), None) => Ok(()),
            (_, Some(status)) => bail!("{} died ({status}): {}", self.name, self.log_end()),
            (Err(error), None) => bail!("{}: {error}: {}", self.name, self.log_end()),
        }
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that ends when the thread that spawned it does: nothing outlives a killed run.
pub(crate) fn bound_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns on a thread that lives as long as this process. The kernel binds a child to the thread
/// that spawned it, and a test's thread ends before a server that tests share.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, done) in queue {
                let _ = done.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (done, result) = mpsc::channel();
    let gone = || io::Error::other("the spawning thread is gone");
    SPAWNER.lock().map_err(|_| gone())?.send((command, done)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// Of a log, in an error.
const LOG_LINES_SHOWN: usize = 20;
