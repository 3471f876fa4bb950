//! The fast path seen from above, and what else only the kernel can tell.

pub mod datagrams;
pub mod netlink;
