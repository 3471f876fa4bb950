//! resolverd's daemon, as a library: the rooms in the order a query meets them.

pub mod cache;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dns;
pub mod kernel;
pub mod log;
pub mod metrics;
pub mod pipeline;
pub mod policy;
pub mod resolver;
pub mod server;
pub mod tap;
