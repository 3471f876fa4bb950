//! What the kernel program reports: samples of its hits, and entries that want to be fetched.
//!
//! A loop that is dropped loses nothing but events; the ring buffer then fills up, and the
//! program counts what it could not report.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use resolverd_common::event::Event;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

/// Events taken before others get a turn.
const BATCH: usize = 256;
/// How long samples wait at most: the program wakes us only for what is pressing. With the part
/// of the buffer that they may fill it bounds their rate, and so what they cost, too.
const SAMPLES_WAIT: Duration = Duration::from_millis(50);

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
        let more = match tokio::time::timeout(SAMPLES_WAIT, ring.readable_mut()).await {
            Ok(ready) => {
                let mut ready = ready?;
                let more = drain(&mut ready.get_inner_mut().0, &mut take);
                if !more {
                    ready.clear_ready();
                }
                more
            }
            Err(_) => drain(&mut ring.get_mut().0, &mut take),
        };
        if more {
            tokio::task::yield_now().await;
        }
    }
}

/// Takes a batch. Returns whether there may be more.
fn drain(ring: &mut RingBuf<MapData>, take: &mut impl FnMut(&Event)) -> bool {
    for _ in 0..BATCH {
        let Some(item) = ring.next() else {
            return false;
        };
        if let Ok((event, _)) = Event::read_from_prefix(&item) {
            take(&event);
        }
    }
    true
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
