//! Conformance: what a resolver MUST do, a file for each RFC and a test for each section.
//!
//! A test's name begins with its section: `section_5_nothing_is_kept_without_a_soa` in
//! `rfc2308.rs` is of RFC 2308 section 5. All of them ask one daemon that recurses and validates,
//! in a small Internet of signed zones of Knot DNS and of a server that says what a test wants;
//! those that need another configuration start a daemon of their own. Where a thing is tried
//! more closely by the library's own tests, this is still here: as one client sees it.

mod rfc1034;
mod rfc1035;
mod rfc2308;
mod rfc4035;
mod rfc5155;
mod rfc6672;
mod rfc6840;
mod rfc6891;
mod rfc7766;
mod rfc7873;
mod rfc8020;
mod rfc8198;
mod rfc8482;
mod rfc8767;
mod rfc8914;
mod rfc9018;
mod rfc9156;
mod rfc9250;
mod rfc9520;
mod scripted;
mod world;
