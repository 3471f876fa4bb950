//! Who an upstream must prove to be, and which rule a certificate breaks.
//!
//! Pure: rustls brings the certificate and the time of a handshake. There is one usage profile,
//! the strict one (RFC 8310 section 5): who does not prove it all is not asked. Whether a
//! certificate was revoked is not looked at; RFC 5280 chains, names and times are.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Who an upstream must prove to be: by a name, by a key, or by both if both are there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub server_name: Option<ServerName<'static>>,
    /// SHA-256 of a SubjectPublicKeyInfo each (RFC 7858 section 4.2).
    pub pins: Vec<[u8; 32]>,
    /// None: those of the system.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Where it takes questions over HTTP.
    pub path: Box<str>,
}

/// A rule that a certificate broke, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: Rule,
    pub how: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// RFC 9525: the certificate is for the name.
    Name,
    /// RFC 5280 section 4.1.2.5: now is within its validity, and its issuers'.
    Time,
    /// RFC 5280 section 6: a chain leads to a root.
    Issuer,
    /// RFC 7858 section 4.2: the key is one that is pinned.
    Pin,
    Other,
}

/// Judges the certificates of one upstream.
#[derive(Debug)]
pub struct Judge {
    pins: Vec<[u8; 32]>,
    by_name: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Arc<Seen>,
}

/// What the last handshakes showed. A handshake that resumes a session shows no certificate: it
/// was judged when the session began.
#[derive(Debug, Default)]
pub struct Seen(Mutex<(bool, Option<Broken>)>);

impl Identity {
    /// `roots` are those of the system, for who has none of his own.
    ///
    /// # Errors
    ///
    /// When there are no roots, and a name to be certified by them.
    pub fn judge(
        &self,
        roots: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Judge, String> {
        let by_name = match &self.server_name {
            None => None,
            Some(_) => {
                let mut store = RootCertStore::empty();
                let own = self.roots.as_deref().unwrap_or(roots);
                store.add_parsable_certificates(own.iter().cloned());
                let builder = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(store),
                    Arc::clone(provider),
                );
                Some(builder.build().map_err(|_| "there are no roots to trust".to_owned())?)
            }
        };
        Ok(Judge {
            pins: self.pins.clone(),
            by_name,
            algorithms: provider.signature_verification_algorithms,
            seen: Arc::default(),
        })
    }
}

/// The certificates in a file of roots.
///
/// # Errors
///
/// When there is none, or one is none.
pub fn roots(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut roots = Vec::new();
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
        let number = roots.len() + 1;
        store
            .add(certificate.clone())
            .map_err(|error| format!("its certificate {number} cannot be a root: {error}"))?;
        roots.push(certificate);
    }
    if roots.is_empty() {
        return Err("no certificate is in it".to_owned());
    }
    Ok(roots)
}

impl Judge {
    #[must_use]
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(by_name) = &self.by_name {
            by_name.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        }
        // Of its own key alone: others in the chain have not signed this handshake.
        if !self.pins.is_empty() {
            let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
            let digest = digest::digest(&digest::SHA256, &key);
            if !self.pins.iter().any(|pin| pin[..] == *digest.as_ref()) {
                let digest = data_encoding::BASE64.encode(digest.as_ref());
                let how = format!("its key is none of the pinned ones: it is {digest}");
                return Err(CertificateError::Other(rustls::OtherError(Arc::new(Broken {
                    rule: Rule::Pin,
                    how,
                })))
                .into());
            }
        }
        Ok(())
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.judge(end_entity, intermediates, server_name, ocsp_response, now);
        *self.seen.0.lock() = (true, judged.as_ref().err().map(Broken::of));
        judged.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Seen {
    /// Forgets what was seen; call it before a handshake.
    pub fn reset(&self) {
        *self.0.lock() = (false, None);
    }

    /// Whether a certificate was shown since.
    #[must_use]
    pub fn was_shown(&self) -> bool {
        self.0.lock().0
    }

    /// The rule that it broke.
    #[must_use]
    pub fn broken(&self) -> Option<Broken> {
        self.0.lock().1.clone()
    }
}

impl Broken {
    fn of(error: &Error) -> Self {
        let Error::InvalidCertificate(error) = error else {
            return Self { rule: Rule::Other, how: error.to_string() };
        };
        let rule = match error {
            CertificateError::Other(other) => {
                if let Some(broken) = other.0.downcast_ref::<Self>() {
                    return broken.clone();
                }
                Rule::Other
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Rule::Name
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Rule::Time,
            CertificateError::UnknownIssuer => {
                let how = "no chain leads from it to a root that is trusted".to_owned();
                return Self { rule: Rule::Issuer, how };
            }
            _ => Rule::Other,
        };
        Self { rule, how: error.to_string() }
    }
}

impl Rule {
    /// For logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Time => "time",
            Self::Issuer => "issuer",
            Self::Pin => "pin",
            Self::Other => "certificate",
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.how)
    }
}

impl std::error::Error for Broken {}
