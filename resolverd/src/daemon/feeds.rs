//! Policy zones, between those who bring them and those who go by them.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{error, warn};

use super::{Joined, listening, meaning};
use crate::cache;
use crate::config::{Config, ConfigError, RpzFrom};
use crate::kernel::driver::TellError;
use crate::metrics::Metrics;
use crate::pipeline::Policy;
use crate::policy::Rpz;
use crate::policy::rpz::{Feeds, Shelf};

impl Joined {
    /// A digest of the policy of now.
    pub(super) fn fingerprint(&self) -> u64 {
        meaning::fingerprint(&self.pipeline.policy(), self.feeds.lock().rpz().1)
    }

    /// Tells the kernel, if there is one, what it is to go by.
    pub(super) fn tell_kernel(
        &self,
        config: &Config,
        policy: &Policy,
        feeds: (&Rpz, u64),
        listen: Vec<SocketAddr>,
    ) -> Result<(), TellError> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let cookies = self.drawn.lock().hold(&config.cookies);
        let wanted = meaning::fast_path(config, policy, feeds, listen, cookies);
        kernel.tell(&wanted, &self.snapshot.borrow())
    }

    /// Where the kernel does not know of a new policy, it is to answer by none.
    pub(super) fn end_lease_untold(&self, told: Result<(), TellError>) {
        if let (Err(error), Some(kernel)) = (told, &self.kernel) {
            error!(%error, "the kernel path passes everything until it can be told");
            kernel.end_lease();
        }
    }

    /// Takes up what policy zones say now: the kernel first, so that it answers by no rule of
    /// before, then the daemon.
    pub(super) async fn take_feeds(&self) {
        let _alone = self.changing.lock().await;
        let config = self.config.load_full();
        let snapshot = self.snapshot.borrow().clone();
        let (rpz, content) = self.feeds.lock().rpz();
        let listen = listening(&config, &snapshot).plain;
        let told = self.tell_kernel(&config, &self.pipeline.policy(), (&rpz, content), listen);
        self.end_lease_untold(told);
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
