//! What the kernel program reports: samples of its hits, and entries that want to be fetched.
//!
//! A loop that is dropped loses nothing but events; the ring buffer then fills up, and the
//! program counts what it could not report.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use resolverd_common::event::{Event, PREFETCH};
use resolverd_common::key::Meta;
use tokio::io::unix::AsyncFd;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::dns::{Name, Query};

/// Events taken before others get a turn.
const BATCH: usize = 256;

/// One report, in the daemon's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub query: Query,
    /// An entry near its end, and not a sample.
    pub prefetch: bool,
    pub rcode: u16,
}

/// Hands every report to `take` until the task is dropped.
///
/// # Errors
///
/// When the ring buffer cannot be waited for.
pub async fn follow(ring: RingBuf<MapData>, mut take: impl FnMut(Report)) -> io::Result<()> {
    // SAFETY: the descriptor is the ring buffer's own, open until it is dropped, with the
    // registration that owns it.
    let mut ring = unsafe { AsyncFd::register(Ring(ring)) }?;
    loop {
        let mut ready = ring.readable_mut().await?;
        let mut taken = 0;
        while let Some(item) = ready.get_inner_mut().0.next() {
            if let Some(report) = read(&item) {
                take(report);
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

/// Reads an event. One that is not whole is none.
fn read(octets: &[u8]) -> Option<Report> {
    let event = Event::read_from_prefix(octets).ok()?.0;
    let meta = Meta::of(event.meta);
    let name = event.name.as_bytes().get(..usize::from(meta.name_len))?;
    let query = Query {
        name: Name::from_wire(name).ok()?,
        qtype: meta.qtype,
        dnssec_ok: meta.dnssec_ok,
        checking_disabled: meta.cd,
        view: meta.view,
    };
    Some(Report { query, prefetch: event.kind == PREFETCH, rcode: event.rcode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cut_short_or_with_a_broken_name_is_no_report() {
        assert_eq!(read(&[0; 16]), None);
        let mut event = Event {
            at: 1,
            meta: resolverd_common::key::meta(1, 0, 6, true, false),
            kind: PREFETCH,
            ifindex: 1,
            source: [0; 4],
            name: [0; 32],
            port: 0,
            reply_len: 0,
            rcode: 0,
            reserved: 0,
        };
        event.name[0] = u64::from_le_bytes(*b"\x04test\0\0\0");
        let report = read(event.as_bytes()).unwrap();
        assert_eq!(report.query.name.to_string(), "test.");
        assert!(report.prefetch && report.query.dnssec_ok);
        event.name[0] = u64::MAX;
        assert_eq!(read(event.as_bytes()), None);
    }
}
