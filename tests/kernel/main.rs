//! The fast path in this machine's kernel, on real packets.
//!
//! Needs root, BPF and a daemon with its kernel path built in; a test that lacks them says so and
//! does nothing. Each test has namespaces of its own, so they run beside each other. What is
//! answered above the kernel is the affair of the tests of the daemon.

mod cases;
mod checksum;
mod frame;
mod interfaces;
mod life;
mod limits;
mod loopback;
mod message;
mod modes;
mod neighbours;
mod operator;
mod passing;
mod pins;
mod property;
mod site;
mod table;
mod tap;
mod vlan;
