//! The roots that certificates of upstreams lead to, looked at before anybody is asked.

use super::meaning;
use crate::config::{Config, ConfigError};
use crate::resolver;

/// Refuses a configuration with an upstream that could never prove who it is.
///
/// # Errors
///
/// A file of roots that is none, or a system without any where they are needed.
pub fn look(config: &Config) -> Result<(), ConfigError> {
    let Some(at) = meaning::roots(config)? else { return Ok(()) };
    if !resolver::read_system_roots().is_empty() {
        return Ok(());
    }
    let text = "this system has no roots that a certificate could lead to; install the package \
                `ca-certificates`, or write `roots = \"FILE\"` with the upstream's own, as well";
    Err(ConfigError::refused(vec![config.problem(at, text)]))
}
