//! The whole way of a query: the fast path in plain memory, an upstream on loopback.

mod house;
mod life;

use house::{House, q};
