//! The secrets of cookies: those of the file, or drawn here, a new one each day.
//!
//! Drawn secrets outlive a restart in the kernel's map; without the kernel path clients get new
//! cookies after one.

use std::time::Duration;

use resolverd_common::cookie::{Secret, Secrets};

use crate::clock::BootTime;
use crate::config;
use crate::policy::cookies::{changed, secrets};

/// RFC 7873 section 7.1: at least every 36 days; a day keeps what a stolen secret is good for
/// short, and is far longer than the hour that a cookie lives.
const DRAWN_FOR: Duration = Duration::from_hours(24);

/// What cookies are made with, if the daemon draws it.
pub struct Drawn {
    secrets: Secrets,
    since: BootTime,
}

impl Drawn {
    /// Goes on with the secrets of a daemon before us, if there are any.
    pub fn new(before: Option<Secrets>, now: BootTime) -> Self {
        let secrets = before.unwrap_or_else(|| {
            let first = draw();
            Secrets { current: first, other: first }
        });
        Self { secrets, since: now }
    }

    /// What holds under this configuration. None: cookies are off.
    pub fn hold(&self, config: &config::Cookies) -> Option<Secrets> {
        if !config.enabled {
            return None;
        }
        Some(secrets(&config.secrets).unwrap_or(self.secrets))
    }

    /// Draws a new one when the last has had its day. True: it did.
    pub fn renew(&mut self, now: BootTime) -> bool {
        if now.saturating_since(self.since) < DRAWN_FOR {
            return false;
        }
        self.secrets = changed(&self.secrets, draw());
        self.since = now;
        true
    }
}

fn draw() -> Secret {
    [rand::random(), rand::random()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(enabled: bool, secrets: &[Secret]) -> config::Cookies {
        config::Cookies { enabled, secrets: secrets.to_vec() }
    }

    const ONE: Secret = [1, 2];

    #[test]
    fn the_files_secrets_come_before_drawn_ones_and_off_is_off() {
        let drawn = Drawn::new(None, BootTime(0));
        let own = drawn.hold(&config(true, &[])).unwrap();
        assert_eq!(own.current, own.other);
        let written = drawn.hold(&config(true, &[ONE])).unwrap();
        assert_eq!(written.current, ONE);
        assert_ne!(own.current, written.current);
        assert_eq!(drawn.hold(&config(false, &[ONE])), None);
    }

    #[test]
    fn a_drawn_secret_is_taken_over_and_has_its_day() {
        let before = Secrets { current: [1, 2], other: [3, 4] };
        let mut drawn = Drawn::new(Some(before), BootTime(0));
        let on = config(true, &[]);
        assert_eq!(drawn.hold(&on), Some(before));
        let day = BootTime(0) + DRAWN_FOR;
        assert!(!drawn.renew(day.saturating_before(Duration::from_nanos(1))));
        assert!(drawn.renew(day));
        let after = drawn.hold(&on).unwrap();
        assert_eq!(after.other, before.current);
        assert_ne!(after.current, before.current);
        assert!(!drawn.renew(day));
    }
}
