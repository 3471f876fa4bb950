//! The kernel path as the daemon has it: opened, kept alive, attached, listened to.

use std::sync::Arc;

use resolverd_common::event::PREFETCH;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::Joined;
use crate::clock::{BootTime, boot_now, wall_now};
use crate::config::Config;
use crate::dns::Query;
use crate::kernel::driver::{Kernel, RENEW_EVERY};
use crate::kernel::object::Unavailable;
use crate::kernel::{FastPath, Memory, events};

pub(super) type Opened = (
    Option<Arc<Kernel>>,
    Option<aya::maps::RingBuf<aya::maps::MapData>>,
    Arc<dyn FastPath>,
    Option<String>,
);

/// The kernel path, or plain memory in its place and the reason.
pub(super) fn open_kernel(config: &Config) -> Opened {
    match Kernel::open(&config.kernel) {
        Ok((kernel, events)) => {
            let kernel = Arc::new(kernel);
            if kernel.is_taken_over() {
                info!("maps of an earlier daemon taken over");
            }
            let fast: Arc<dyn FastPath> = Arc::clone(kernel.maps()) as _;
            (Some(kernel), Some(events), fast, None)
        }
        Err(reason) => {
            match &reason {
                Unavailable::Off => info!(%reason, "no kernel path: served from user space"),
                _ => warn!(%reason, "no kernel path: served from user space"),
            }
            let secret = std::array::from_fn(|_| rand::random());
            (None, None, Arc::new(Memory::new(secret)), Some(reason.to_string()))
        }
    }
}

/// Renews the lease for as long as the runtime lives: a daemon that hangs lets it run out.
pub(super) async fn keep_lease(kernel: Arc<Kernel>) {
    let mut tick = tokio::time::interval(RENEW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        kernel.renew();
    }
}

/// Loads and attaches the programs, beside the serving.
pub(super) async fn attach(joined: Arc<Joined>, kernel: Arc<Kernel>) {
    let snapshot = joined.snapshot.borrow().clone();
    let attached = tokio::task::spawn_blocking(move || kernel.attach(&snapshot)).await;
    match attached {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => {
            warn!(%reason, "no kernel path: served from user space");
            *joined.kernel_problem.lock() = Some(reason.to_string());
        }
        Err(panic) => error!(%panic, "attaching the kernel path failed"),
    }
    joined.note_kernel();
    // Interfaces that came while the verifier worked.
    joined.follow_interfaces().await;
}

pub(super) async fn follow_events(
    joined: Arc<Joined>,
    ring: aya::maps::RingBuf<aya::maps::MapData>,
) {
    let samples = joined.metrics.kernel_events("sample");
    let prefetches = joined.metrics.kernel_events("prefetch");
    let followed = events::follow(ring, |event| {
        let query = Query::of(event.meta, &event.name);
        if event.kind == PREFETCH {
            prefetches.inc();
            query.iter().for_each(|query| joined.pipeline.on_prefetch(query));
        } else {
            samples.inc();
            if joined.tap.hears_answers() {
                let ago = boot_now().saturating_since(BootTime(event.at));
                joined.tap.kernel_hit(event, wall_now() - ago);
            }
            query.iter().for_each(|query| joined.pipeline.on_sample(query));
        }
    })
    .await;
    if let Err(error) = followed {
        warn!(%error, "events of the kernel path are not read: no prefetch for its hits");
    }
}
