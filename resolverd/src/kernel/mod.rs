//! The fast path seen from above, and what else only the kernel can tell.
//!
//! The door is [`FastPath`]: where answers are published for the kernel, or for nobody when
//! the machine does not allow it. Everything behind it is a driver.

#![expect(unsafe_code, reason = "raw system calls and shared memory have their address here")]

pub mod attach;
pub mod datagrams;
pub mod driver;
pub mod events;
pub mod maps;
pub mod memory;
pub mod netlink;
pub mod object;
pub mod sources;

use resolverd_common::key::{Key, Secret};

pub use memory::Memory;

/// Where answers are published: kernel maps, or plain memory.
///
/// One writer at a time for each key is the caller's affair only as far as order goes: an
/// entry is whole whoever writes.
pub trait FastPath: Send + Sync + 'static {
    /// Whether packets are answered from what is published.
    fn is_live(&self) -> bool;

    /// The secret of the keys: the maps' own, for as long as they live.
    fn secret(&self) -> &Secret;

    /// Publishes an entry under its key, with a new generation and the epoch of now.
    ///
    /// `read_at` is [`FastPath::mark`] from before the answer was looked for: an entry whose
    /// mark is no longer current is not written, and one that was overtaken by a flush while
    /// it was written is taken out again.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    fn publish(&self, key: Key, entry: &[u64], read_at: Mark) -> Result<usize, PublishError>;

    /// Takes an entry out.
    fn withdraw(&self, key: Key);

    /// What a later [`FastPath::publish`] is checked against.
    fn mark(&self) -> Mark;

    /// Makes everything published so far stale, in one store: a change of policy.
    fn raise_epoch(&self) -> Mark;

    /// Makes the kernel pass what is asked of entries published so far, in one store; they may
    /// be published again. Returns the barrier: a generation.
    fn raise_barrier(&self) -> u64;

    /// A copy of what is published under a key, for `explain`: the words of its entry.
    fn peek(&self, key: Key) -> Option<Vec<u64>>;
}

/// Epoch and barrier at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub epoch: u32,
    pub barrier: u64,
}

/// Why an entry was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the answer has more than the kernel can say, or is too large for its maps")]
    NotForKernel,
    #[error("a flush or a change of policy came between")]
    Overtaken,
    #[error("the map refused the entry: errno {0}")]
    Map(i32),
    #[error("the entry is not whole")]
    Malformed,
}
