//! The whole way of a query: the fast path in plain memory, an upstream on loopback.

mod always;
mod hostile;
mod house;
mod large;
mod life;
mod messages;
mod rules;
mod stale;
mod telling;

use house::{House, Seen, q};
