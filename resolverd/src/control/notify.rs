//! Word to systemd: ready, reloading, stopping.
//!
//! Without systemd (no `$NOTIFY_SOCKET`) all of it does nothing. A word that does not arrive is
//! logged at debug: the service itself is as well as before.

use sd_notify::NotifyState;
use tracing::debug;

/// Clients are answered from now on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload has begun; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no monotonic time for systemd"),
    }
}

/// One line that `systemctl status` shows.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not told");
    }
}
