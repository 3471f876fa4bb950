//! The certificate that clients are shown: read, judged by the clock, told of.

use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::clock::wall_now;
use crate::config::{Config, ConfigError, Tls};
use crate::metrics::Metrics;
use crate::server::validity::Standing;
use crate::server::{Certificate, TlsError, is_open_to_others};

/// Reads what `server.tls-cert` and `tls-key` name; `None` where they name nothing.
///
/// # Errors
///
/// What is wrong, with its place in the configuration.
pub fn load(config: &Config) -> Result<Option<Certificate>, ConfigError> {
    let Some(tls) = &config.server.tls else { return Ok(None) };
    Certificate::load(&tls.cert, &tls.key).map(Some).map_err(|error| {
        let (at, key) = match error {
            TlsError::Cert { .. } | TlsError::Setup(_) => (tls.cert_at, "tls-cert"),
            TlsError::Key { .. } => (tls.key_at, "tls-key"),
        };
        let text = format!("`server.{key}`: {error}; write the path of a good file instead");
        ConfigError::refused(vec![config.problem(at, text)])
    })
}

/// Tells the metric until when it is good, and the log what is wrong with it: it is shown all
/// the same, for some clients do not look.
pub fn note(config: &Config, certificate: Option<&Certificate>, metrics: &Metrics) {
    let until = certificate.and_then(Certificate::validity).map_or(0, |validity| validity.until);
    metrics.server_certificate_expiry.set(until);
    let (Some(tls), Some(certificate)) = (&config.server.tls, certificate) else { return };
    if let Some(trouble) = trouble(certificate, wall_now()) {
        warn!(file = %tls.cert.display(), %trouble, "certificate");
    }
    if is_open_to_others(&tls.key) {
        warn!(file = %tls.key.display(), "every user of this machine can read the private key");
    }
}

/// What `check` says of it, one line each.
pub fn report(config: &Config, certificate: Option<&Certificate>) -> Vec<String> {
    let (Some(tls), Some(certificate)) = (&config.server.tls, certificate) else {
        return Vec::new();
    };
    lines(tls, certificate, wall_now())
}

fn lines(tls: &Tls, certificate: &Certificate, now: SystemTime) -> Vec<String> {
    let said = match (trouble(certificate, now), certificate.validity().map(|v| v.at(now))) {
        (Some(trouble), _) => trouble,
        (None, Some(Standing::Valid { left })) => format!("good for {} days", days(left)),
        (None, _) => "good; until when cannot be read".to_owned(),
    };
    let mut lines = vec![format!("certificate {}: {said}", tls.cert.display())];
    if is_open_to_others(&tls.key) {
        let key = tls.key.display();
        lines.push(format!("private key {key}: every user can read it; `chmod o= {key}`"));
    }
    lines
}

/// What a client that looks will not take, or soon will not.
fn trouble(certificate: &Certificate, now: SystemTime) -> Option<String> {
    match certificate.validity()?.at(now) {
        Standing::NotYet => Some("not valid yet: clients refuse it".to_owned()),
        Standing::Expired { since } => {
            Some(format!("expired {} days ago: clients refuse it", days(since)))
        }
        Standing::Valid { left } if left < SOON => {
            Some(format!("expires in {} days; renew it", days(left)))
        }
        Standing::Valid { .. } => None,
    }
}

const fn days(time: Duration) -> u64 {
    time.as_secs() / 86_400
}

/// Whoever renews by a timer does so some 30 days before the end; past this it did not work.
const SOON: Duration = Duration::from_secs(7 * 86_400);
