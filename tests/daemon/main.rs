//! The whole daemon, as an operator runs it, with real servers and real clients.
//!
//! ```text
//!   client ── c0 ═ s0 ── server (resolverd) ── s1 ═ u0 ── upstream (Knot DNS)
//!     10.53.1.1   10.53.1.2           10.53.2.1   10.53.2.2
//! ```
//!
//! Each test has namespaces of its own ([`site`]); waits are polled and bounded. Not here: packets
//! one by one, which are the kernel rung's, and a real systemd, which is `cargo xtask lab
//! systemd`'s.

mod anchors;
mod beside_unbound;
mod encrypted;
mod first_light;
mod flushing;
mod forwarding;
mod keeping;
mod load;
mod operator;
mod policy;
mod policy_by_servers;
mod prefetch;
mod promotion;
mod proxied;
mod recursion;
mod reload;
mod restart;
mod seeing;
mod site;
mod stopping;
mod tap;
mod time;
mod upstreams;
mod validation;

/// Ends the test here where there is no lab or no kernel path, and says why.
macro_rules! need_lab {
    () => {
        if let Err(why) = $crate::site::available() {
            eprintln!("skipped: {why}");
            return Ok(());
        }
    };
}
pub(crate) use need_lab;
