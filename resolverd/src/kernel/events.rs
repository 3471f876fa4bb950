//! What the kernel program reports: samples of its hits, and entries that want to be fetched.
//!
//! A loop that is dropped loses nothing but events; the ring buffer then fills up, and the
//! program counts what it could not report.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use resolverd_common::event::Event;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

/// Events taken before others get a turn.
const BATCH: usize = 256;

/// Hands every event to `take` until the task is dropped. Octets that are none are passed over.
///
/// # Errors
///
/// When the ring buffer cannot be waited for.
pub async fn follow(ring: RingBuf<MapData>, mut take: impl FnMut(&Event)) -> io::Result<()> {
    // SAFETY: the descriptor is the ring buffer's own, open until it is dropped, with the
    // registration that owns it.
    let mut ring = unsafe { AsyncFd::register(Ring(ring)) }?;
    loop {
        let mut ready = ring.readable_mut().await?;
        let mut taken = 0;
        while let Some(item) = ready.get_inner_mut().0.next() {
            if let Ok((event, _)) = Event::read_from_prefix(&item) {
                take(&event);
            }
            taken += 1;
            if taken == BATCH {
                break;
            }
        }
        if taken < BATCH {
            ready.clear_ready();
        }
        drop(ready);
        tokio::task::yield_now().await;
    }
}

struct Ring(RingBuf<MapData>);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer keeps its descriptor open for as long as it lives.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
