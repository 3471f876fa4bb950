//! resolverd's daemon, as a library: the rooms in the order a query meets them.

pub mod config;
pub mod dns;
