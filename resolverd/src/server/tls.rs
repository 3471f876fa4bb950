//! Who we say that we are: the certificate, and TLS as each door speaks it.
//!
//! A certificate is read from its files and checked before anybody is shown it. What is current
//! is looked up by each handshake, so that another one takes its place without a door being
//! touched; connections that are open go on with the one that they were shown.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};

use super::validity::{self, Validity};

/// A certificate with its chain and its private key, which fits.
#[derive(Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The trouble is with the file of the certificate.
    #[error("{}: {reason}", file.display())]
    Cert { file: PathBuf, reason: String },
    /// The trouble is with the file of the key.
    #[error("{}: {reason}", file.display())]
    Key { file: PathBuf, reason: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Certificate {
    /// Reads both files, and makes sure that they belong together.
    ///
    /// # Errors
    ///
    /// What is wrong, with which of them, and how to mend it.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Certificate, TlsError> {
        let cert = |reason: String| TlsError::Cert { file: cert_file.to_owned(), reason };
        let key = |reason: String| TlsError::Key { file: key_file.to_owned(), reason };

        let text = read(cert_file).map_err(|error| cert(format!("it can't be read: {error}")))?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .take(CHAIN_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|error| cert(format!("it is not PEM: {}", about(&error))))?;
        if chain.is_empty() {
            return Err(cert("there is no certificate in it; put the chain in PEM there".into()));
        }
        if chain.len() > CHAIN_MAX {
            return Err(cert(format!("more than {CHAIN_MAX} certificates are in it")));
        }
        let text = read(key_file).map_err(|error| key(format!("it can't be read: {error}")))?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                key("there is no private key in it; an encrypted one is not taken".into())
            }
            error => key(format!("it is not PEM: {}", about(&error))),
        })?;
        let signing = (ring::default_provider().key_provider.load_private_key(private))
            .map_err(|error| key(format!("the private key is not usable: {error}")))?;
        let validity = validity::of(&chain[0]);
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let file = cert_file.display();
                return Err(key(format!(
                    "it is not the key of the first certificate in {file}; \
                     put the server's own certificate first, and its key here"
                )));
            }
            Err(error) => return Err(cert(format!("its first certificate is malformed: {error}"))),
        }
        Ok(Certificate { certified: Arc::new(certified), validity })
    }

    /// From and until when it is valid; `None` where that cannot be read.
    pub fn validity(&self) -> Option<Validity> {
        self.validity
    }
}

/// By the certificates; the key of the first belongs to it.
impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} in the chain)", self.certified.cert.len())
    }
}

/// Whether others than its owner and group can read a private key.
pub fn is_open_to_others(key_file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(key_file).is_ok_and(|about| about.mode() & 0o007 != 0)
}

/// TLS for all doors, with the certificate that is current.
pub struct Identity {
    current: Arc<Current>,
    pub dot: Arc<ServerConfig>,
    pub https: Arc<ServerConfig>,
    pub doq: Arc<QuicServerConfig>,
    pub h3: Arc<QuicServerConfig>,
}

#[derive(Default)]
struct Current(ArcSwapOption<CertifiedKey>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl Identity {
    /// Without a certificate; a handshake fails until there is one.
    pub fn new() -> Result<Identity, TlsError> {
        let current = Arc::new(Current::default());
        // Tickets are for all doors: their protocols are told apart by ALPN (RFC 8446
        // section 4.6.1), and none is taken for early data.
        let ticketer = ring::Ticketer::new().map_err(setup)?;
        let config = |versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[u8]| {
            let provider = Arc::new(ring::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .map_err(setup)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&current) as _);
            config.alpn_protocols = vec![alpn.to_vec()];
            config.ticketer = Arc::clone(&ticketer);
            // RFC 9250 section 4.5 has rules for 0-RTT; we take none (a query may be replayed).
            config.max_early_data_size = 0;
            Ok::<_, TlsError>(Arc::new(config))
        };
        let quic = |alpn: &[u8]| {
            let config = config(&[&rustls::version::TLS13], alpn)?;
            QuicServerConfig::try_from(config).map(Arc::new).map_err(setup)
        };
        let both = [&rustls::version::TLS13, &rustls::version::TLS12];
        Ok(Identity {
            dot: config(&both, b"dot")?,
            https: config(&both, b"h2")?,
            doq: quic(b"doq")?,
            h3: quic(b"h3")?,
            current,
        })
    }

    /// Shows this one to who comes from now on.
    pub fn present(&self, certificate: Option<&Certificate>) {
        self.current.0.store(certificate.map(|certificate| Arc::clone(&certificate.certified)));
    }
}

fn setup(error: impl fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    fs::File::open(file)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_OCTETS_MAX} octets")));
    }
    Ok(octets)
}

/// In words; its own form shows octets as numbers.
fn about(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "an END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "its base64 is malformed",
        _ => "it cannot be read as such",
    }
}

/// Of the chain: an own certificate, and as many issuers as any client follows.
const CHAIN_MAX: usize = 16;

/// Of either file: a thousand times what a chain has.
const FILE_OCTETS_MAX: u64 = 1 << 20;
