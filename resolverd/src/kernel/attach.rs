//! Programs on interfaces: loaded once, attached where they should be, followed as interfaces
//! come and go.
//!
//! A link to the program is pinned for each interface, so that packets are answered while no
//! daemon runs, and a restarted daemon puts its program in the place of the old one without a
//! gap. A foreign XDP program is never replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{self, SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, Xdp, XdpMode};
use tracing::{info, warn};

use super::netlink::{Link, Snapshot};
use super::object::{Pins, TC, Unavailable, XDP, chain};
use crate::config::KernelMode;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Xdp,
    XdpGeneric,
    Tc,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Xdp, Self::XdpGeneric, Self::Tc];

    /// As in `kernel.mode`, in metrics, and in the names of pins.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// How it stands with an interface that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceState {
    pub name: String,
    /// None: there is no such interface now.
    pub index: Option<u32>,
    /// None: not attached.
    pub mode: Option<Mode>,
    pub program_id: Option<u32>,
    /// Why it is not attached, or not as it was asked.
    pub problem: Option<String>,
}

/// The kernel takes a link down a moment after its pin: so often, and so long, is waited for it.
const RELEASE_TRIES: u32 = 20;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// Programs and their links.
pub struct Attachments {
    ebpf: Ebpf,
    pins: Pins,
    mode: KernelMode,
    states: BTreeMap<String, InterfaceState>,
    links: BTreeMap<u32, PinnedLink>,
    /// An operator took it down: nothing is attached again before a restart.
    detached: bool,
}

impl Attachments {
    #[must_use]
    pub fn new(ebpf: Ebpf, pins: Pins, mode: KernelMode, interfaces: &[String]) -> Self {
        let states = interfaces
            .iter()
            .map(|name| {
                let state = InterfaceState {
                    name: name.clone(),
                    index: None,
                    mode: None,
                    program_id: None,
                    problem: None,
                };
                (name.clone(), state)
            })
            .collect();
        Self { ebpf, pins, mode, states, links: BTreeMap::new(), detached: false }
    }

    /// Hands the programs to the verifier. Takes its time: not for a task that serves.
    ///
    /// # Errors
    ///
    /// [`Unavailable::Verifier`] with the last words of the verifier.
    pub fn load(&mut self) -> Result<(), Unavailable> {
        let wants_xdp = !matches!(self.mode, KernelMode::Tc | KernelMode::Off);
        let wants_tc = matches!(self.mode, KernelMode::Auto | KernelMode::Tc);
        if wants_xdp {
            self.xdp().and_then(|program| program.load()).map_err(|e| refused(&e))?;
        }
        if wants_tc {
            self.tc().and_then(|program| program.load()).map_err(|e| refused(&e))?;
        }
        Ok(())
    }

    /// Attaches to what is there, lets go of what went. True: something changed.
    pub fn sync(&mut self, snapshot: &Snapshot) -> bool {
        if self.detached {
            return false;
        }
        let before = self.states.clone();
        let names: Vec<String> = self.states.keys().cloned().collect();
        for name in names {
            let link = snapshot.link(&name);
            let state = &self.states[&name];
            match link {
                None => {
                    if let Some(index) = state.index {
                        info!(interface = %name, "interface went away");
                        self.forget(index);
                    }
                    self.set(&name, None, None, Some("there is no such interface".to_owned()));
                }
                Some(link) if state.index == Some(link.index) && state.mode.is_some() => {}
                Some(link) => {
                    if let Some(old) = state.index
                        && old != link.index
                    {
                        self.forget(old);
                    }
                    self.attach(link, snapshot);
                }
            }
        }
        self.states != before
    }

    /// The state of every interface that the configuration names.
    #[must_use]
    pub fn states(&self) -> Vec<InterfaceState> {
        self.states.values().cloned().collect()
    }

    /// Whether a program is attached anywhere.
    #[must_use]
    pub fn any(&self) -> bool {
        self.states.values().any(|state| state.mode.is_some())
    }

    /// Takes everything down: programs, links and pins. Names the pins that there were.
    pub fn detach(&mut self) -> Vec<String> {
        let names: Vec<String> = self.states.keys().cloned().collect();
        for name in &names {
            let index = self.states[name].index;
            self.set(name, index, None, Some("detached by an operator".to_owned()));
        }
        self.links.clear();
        self.detached = true;
        detach_all(&self.pins, &names)
    }

    fn attach(&mut self, link: &Link, snapshot: &Snapshot) {
        let modes: &[Mode] = match self.mode {
            // Generic XDP cannot grow a packet enough for signed answers, and costs a copy;
            // TC does not (ADR 3).
            KernelMode::Auto if link.is_loopback() => &[Mode::Tc, Mode::XdpGeneric],
            // What native XDP sends back through a veth is lost unless the other end has an XDP
            // program of its own, which cannot be seen from here; and there is hardly any room
            // to grow a packet.
            KernelMode::Auto if link.veth => &[Mode::Tc],
            KernelMode::Auto => &[Mode::Xdp, Mode::Tc, Mode::XdpGeneric],
            KernelMode::Xdp => &[Mode::Xdp],
            KernelMode::XdpGeneric => &[Mode::XdpGeneric],
            KernelMode::Tc => &[Mode::Tc],
            KernelMode::Off => &[],
        };
        let mut problems = Vec::new();
        for mode in modes {
            match self.attach_as(link, *mode) {
                Ok(program_id) => {
                    self.remove_other_modes(link.index, *mode);
                    if self.states[&link.name].mode.is_none() {
                        info!(
                            interface = %link.name,
                            mode = mode.as_str(),
                            program = program_id,
                            "kernel path attached"
                        );
                    }
                    let problem = (!problems.is_empty()).then(|| problems.join("; "));
                    self.set(&link.name, Some(link.index), Some((*mode, program_id)), problem);
                    return;
                }
                Err(problem) => {
                    problems.push(format!("{}: {}", mode.as_str(), held(problem, link, snapshot)));
                }
            }
        }
        let problem = problems.join("; ");
        if self.states[&link.name].problem.as_ref() != Some(&problem) {
            warn!(interface = %link.name, %problem, "kernel path not attached");
        }
        self.set(&link.name, Some(link.index), None, Some(problem));
    }

    /// Attaches, or puts the program in the place of the one behind a pinned link.
    fn attach_as(&mut self, link: &Link, mode: Mode) -> Result<u32, ProgramError> {
        let pin = self.pins.link(link.index, mode.as_str());
        if pin.exists() {
            match self.replace(&pin, mode) {
                Ok(pinned) => {
                    self.links.insert(link.index, pinned);
                    return self.program_id(mode);
                }
                Err(error) => {
                    // The link of an interface that is gone; its index was given anew.
                    warn!(interface = %link.name, %error, "old link not usable: attached anew");
                    let _ = fs::remove_file(&pin);
                }
            }
        }
        let link_fd: FdLink = match mode {
            Mode::Xdp | Mode::XdpGeneric => {
                // An interface has native or generic XDP: our own of the other kind goes first.
                let (flag, other) = match mode {
                    Mode::Xdp => (XdpMode::Driver, Mode::XdpGeneric),
                    _ => (XdpMode::Skb, Mode::Xdp),
                };
                let other = self.pins.link(link.index, other.as_str());
                let mut tries = if fs::remove_file(&other).is_ok() { RELEASE_TRIES } else { 1 };
                let program = self.xdp()?;
                let id = loop {
                    tries -= 1;
                    match program.attach_to_if_index(link.index, flag) {
                        Err(error) if tries > 0 && is_held(&error) => thread::sleep(RELEASE_PAUSE),
                        done => break done?,
                    }
                };
                fd_link(program.take_link(id)?.try_into())?
            }
            Mode::Tc => {
                let program = self.tc()?;
                let order = TcAttachOptions::TcxOrder(LinkOrder::default());
                match program.attach_with_options(&link.name, TcAttachType::Ingress, order) {
                    Ok(id) => fd_link(program.take_link(id)?.try_into())?,
                    Err(_no_tcx) => {
                        attach_clsact(program, &link.name)?;
                        return self.program_id(mode);
                    }
                }
            }
        };
        let pinned = link_fd.pin(&pin).map_err(|e| {
            ProgramError::IOError(io::Error::other(format!("link not pinned: {}", chain(&e))))
        })?;
        self.links.insert(link.index, pinned);
        self.program_id(mode)
    }

    fn replace(&mut self, pin: &std::path::Path, mode: Mode) -> Result<PinnedLink, ProgramError> {
        let old = FdLink::from(fd_link(PinnedLink::from_pin(pin))?);
        match mode {
            Mode::Xdp | Mode::XdpGeneric => {
                let program = self.xdp()?;
                let id = program.attach_to_link(fd_link(XdpLink::try_from(old))?)?;
                drop(fd_link(FdLink::try_from(program.take_link(id)?))?);
            }
            Mode::Tc => {
                let program = self.tc()?;
                let id = program.attach_to_link(fd_link(SchedClassifierLink::try_from(old))?)?;
                drop(fd_link(FdLink::try_from(program.take_link(id)?))?);
            }
        }
        fd_link(PinnedLink::from_pin(pin))
    }

    fn remove_other_modes(&self, index: u32, kept: Mode) {
        for mode in Mode::ALL {
            if mode != kept {
                let _ = fs::remove_file(self.pins.link(index, mode.as_str()));
            }
        }
    }

    fn forget(&mut self, index: u32) {
        self.links.remove(&index);
        for mode in Mode::ALL {
            let _ = fs::remove_file(self.pins.link(index, mode.as_str()));
        }
    }

    fn set(
        &mut self,
        name: &str,
        index: Option<u32>,
        attached: Option<(Mode, u32)>,
        problem: Option<String>,
    ) {
        if let Some(state) = self.states.get_mut(name) {
            state.index = index;
            state.mode = attached.map(|(mode, _)| mode);
            state.program_id = attached.map(|(_, id)| id);
            state.problem = problem;
        }
    }

    fn program_id(&mut self, mode: Mode) -> Result<u32, ProgramError> {
        Ok(match mode {
            Mode::Tc => self.tc()?.info()?.id(),
            _ => self.xdp()?.info()?.id(),
        })
    }

    fn xdp(&mut self) -> Result<&mut Xdp, ProgramError> {
        self.ebpf
            .program_mut(XDP)
            .ok_or(ProgramError::NotLoaded)
            .and_then(|program| program.try_into())
    }

    fn tc(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        self.ebpf
            .program_mut(TC)
            .ok_or(ProgramError::NotLoaded)
            .and_then(|program| program.try_into())
    }
}

/// Takes down what an earlier daemon left: pinned links, and filters of clsact by name.
pub fn detach_all(pins: &Pins, interfaces: &[String]) -> Vec<String> {
    let removed = pins.remove_all();
    for name in interfaces {
        if let Err(tc::TcError::NetlinkError(error)) =
            tc::qdisc_detach_program(name, TcAttachType::Ingress, TC)
        {
            info!(interface = %name, %error, "no filter of clsact to take down");
        }
    }
    removed
}

/// The way of kernels before 6.6: a filter of the qdisc clsact. It stays when we end; a new one
/// takes the place of the old by name.
fn attach_clsact(program: &mut SchedClassifier, interface: &str) -> Result<(), ProgramError> {
    // It may be there already.
    let _ = tc::qdisc_add_clsact(interface);
    let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, TC);
    let options = TcAttachOptions::Netlink(tc::NlOptions::default());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
    // Dropped, it would take the filter down.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// A link that is not a file descriptor, or cannot be had, as the error of an attachment.
fn fd_link<T>(result: Result<T, LinkError>) -> Result<T, ProgramError> {
    result.map_err(|e| ProgramError::IOError(io::Error::other(chain(&e))))
}

/// Says whose program holds the interface, where that is the problem.
fn held(error: ProgramError, link: &Link, snapshot: &Snapshot) -> String {
    if !is_held(&error) {
        return chain(&error);
    }
    let id = snapshot.link(&link.name).and_then(|link| link.xdp_program);
    let whose = id.map_or_else(|| "another program".to_owned(), describe_program);
    format!("held by {whose}, which is not replaced; set kernel.mode = \"tc\" to run beside it")
}

/// Whether a program has the place already: in the mode that was wanted, or in the other one.
fn is_held(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else { return false };
    matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

fn describe_program(id: u32) -> String {
    let name = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == id)
        .and_then(|info| info.name_as_str().map(ToOwned::to_owned));
    match name {
        Some(name) => format!("the XDP program `{name}` (id {id})"),
        None => format!("the XDP program with id {id}"),
    }
}

/// The verifier's last words: its log may be of any length.
fn refused(error: &ProgramError) -> Unavailable {
    const LINES: usize = 4;
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join(" | ");
        if io_error.kind() == io::ErrorKind::PermissionDenied && lines.is_empty() {
            return Unavailable::Privilege(io::Error::from_raw_os_error(libc::EPERM));
        }
        return Unavailable::Verifier(format!("{io_error}: {last}"));
    }
    Unavailable::Verifier(chain(error))
}
