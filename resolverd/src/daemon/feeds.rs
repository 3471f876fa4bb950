//! Policy zones, between those who bring them and those who go by them.

use std::sync::Arc;

use tracing::{error, warn};

use super::{Joined, listening, meaning};
use crate::cache;
use crate::config::{Config, ConfigError, RpzFrom};
use crate::metrics::Metrics;
use crate::pipeline::Policy;
use crate::policy::rpz::{Feeds, Shelf};

impl Joined {
    /// A digest of the policy of now.
    pub(super) fn fingerprint(&self) -> u64 {
        meaning::fingerprint(&self.pipeline.policy(), self.feeds.lock().rpz().1)
    }

    /// Takes up what policy zones say now: the kernel first, so that it answers by no rule of
    /// before, then the daemon.
    pub(super) async fn take_feeds(&self) {
        let _alone = self.changing.lock().await;
        let config = self.config.load_full();
        let snapshot = self.snapshot.borrow().clone();
        let (rpz, content) = self.feeds.lock().rpz();
        if let Some(kernel) = &self.kernel {
            let listen = listening(&config, &snapshot).plain;
            let feeds = (&rpz, content);
            let cookies = self.drawn.lock().hold(&config.cookies);
            let policy = self.pipeline.policy();
            let wanted = meaning::fast_path(&config, &policy, feeds, listen, cookies);
            if let Err(error) = kernel.tell(&wanted, &snapshot) {
                error!(%error, "the kernel path passes everything until it can be told");
                kernel.end_lease();
            }
        }
        self.pipeline.take_rpz(Arc::new(rpz));
    }
}

/// Where transferred zones are kept, where there are any. Without the node's key they are not.
pub(super) fn shelf(config: &Config) -> Option<Shelf> {
    let transferred = config.rpz.iter().any(|rpz| matches!(rpz.from, RpzFrom::Primary { .. }));
    if !transferred {
        return None;
    }
    let dir = &config.server.state_dir;
    match cache::driver::Shelf::in_folder(dir).key() {
        Ok(key) => Some(Shelf::new(dir, key)),
        Err(error) => {
            warn!(%error, "policy zones are not kept on disk");
            None
        }
    }
}

/// The policy zones of a configuration; what `old` has of them is taken over.
pub(super) fn load(
    config: &Config,
    policy: &Policy,
    old: Option<&Feeds>,
    shelf: Option<&Shelf>,
    metrics: &Metrics,
) -> Result<Feeds, ConfigError> {
    let specs = meaning::feeds(config, &policy.rules);
    Feeds::load(specs, old, shelf, metrics).map_err(|error| {
        let at = config.rpz.get(error.at).map(|rpz| rpz.at).unwrap_or_default();
        ConfigError::refused(vec![config.problem(at, format!("`rpz`: {}", error.message))])
    })
}
