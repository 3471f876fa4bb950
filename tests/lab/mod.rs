//! The lab: network namespaces, real servers and the daemon, each behind a guard.
//!
//! A guard removes what it made when it is dropped, and dies with its process: children get
//! SIGKILL from the kernel, and the next run sweeps the namespaces of runs that are gone. Names
//! carry the process id, so parallel runs don't meet. Nothing here sleeps for readiness: it asks,
//! with a bound ([`wait::until`]). The lab needs root; [`available`] says what is missing.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let (client, server) = (lab::Namespace::new("client")?, lab::Namespace::new("server")?);
//! lab::Wire::between(&client, "c0", &server, "s0", 1)?;
//! let daemon = lab::Daemon::start(&server, "[server]\nlisten = [\"10.53.1.2:53\"]\n")?;
//! let ask = lab::Ask::new("www.resolverd.test.", "A");
//! let reply = client.ask("10.53.1.2:53".parse()?, &ask)?;
//! assert_eq!(reply.rcode(), 0);
//! # drop(daemon); Ok(()) }
//! ```

mod authority;
mod clients;
mod daemon;
mod delay;
mod faketime;
pub mod internet;
mod namespace;
mod process;
mod query;
mod scratch;
mod upstream;
pub mod wait;
pub mod zones;

pub use authority::Authority;
pub use clients::{aioquic, dig, kdig};
pub use daemon::{Daemon, binary};
pub use delay::Delay;
pub use faketime::FakeTime;
pub use namespace::{Namespace, Wire, available, find};
pub use process::{Process, run};
pub use query::{Ask, Record, Reply, qtype, tcp, udp};
pub use scratch::Scratch;
pub use upstream::Upstream;
pub use zones::{Signed, Zone};
