//! A server with a door of each kind, and clients for them.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

pub const CA: &str = include_str!("certificates/ca.pem");

/// One of the two, whose names are `one` and `two`.
pub fn certificate(name: &str) -> Certificate {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/tests/certificates");
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    Certificate::load(&file("pem"), &file("key")).unwrap()
}

impl House {
    /// Each kind of door at an address of its own, the first for UDP and TCP.
    pub fn encrypted(limits: Limits) -> House {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let metrics = Arc::new(Metrics::new(Build { version: "test", abi: 0, kernel_path: false }));
        let port = free_port();
        let settings = Settings {
            listening: all_doors(port),
            certificate: Some(certificate("one")),
            workers: 1,
            limits,
            proxies: Vec::new(),
        };
        let inside = runtime.enter();
        let server = Server::start(Arc::new(Echo), settings, Arc::clone(&metrics)).unwrap();
        drop(inside);
        House { server, metrics, port, runtime }
    }

    pub fn door(&self, transport: Transport) -> SocketAddr {
        self.at(DOORS[transport as usize])
    }

    /// How often a connection was refused or ended for this.
    pub fn ended(&self, transport: Transport, why: crate::metrics::Ended) -> u64 {
        self.metrics.server_connections_ended(transport.label(), why).get()
    }

    pub fn open(&self, transport: Transport) -> i64 {
        self.metrics.server_connections(transport.label()).get()
    }

    /// UDP is as ever.
    pub fn udp_answers(&self) {
        let client = client("127.0.0.1");
        client.send_to(b"E", self.at("127.0.0.1")).unwrap();
        assert_eq!(ask_back(&client), b"E");
    }
}

pub fn all_doors(port: u16) -> Listening {
    let at = |transport: Transport| at_port(&[DOORS[transport as usize]], port);
    Listening {
        plain: at(Transport::Udp),
        tls: at(Transport::Tls),
        https: at(Transport::Https),
        quic: at(Transport::Quic),
        h3: at(Transport::H3),
    }
}

/// A client that believes the authority of the tests, and no other.
pub fn believer(alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

pub async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<tokio::net::TcpStream>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("resolverd.test").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// A query with an OPT that has these options; the Echo says it again.
pub fn query(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, b'a', 0, 0, 1, 0, 1];
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    message.extend((options.len() as u16).to_be_bytes());
    message.extend(options);
    message
}

const DOORS: [&str; 6] =
    ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
