//! The doors, over real sockets, with a mock behind them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::api::{ExplainRequest, FlushRequest};
use super::client::{Client, ClientError};
use super::dump::{DumpRequest, LoadRequest};
use super::reports::*;
use super::*;
use crate::metrics::{AnsweredBy, Build, Metrics, Rcode, Transport};

/// Remembers what it was told.
struct Mock {
    told: Mutex<Vec<String>>,
    metrics: Metrics,
}

impl Daemon for Mock {
    fn status(&self) -> StatusReport {
        StatusReport { version: "1.2.3".into(), abi: 1, uptime_secs: 5, ..Default::default() }
    }

    fn kernel_status(&self) -> KernelReport {
        KernelReport { reason: Some("not built in".into()), ..Default::default() }
    }

    fn trust_anchors(&self) -> TrustAnchorsReport {
        TrustAnchorsReport { alarm: Some("missing".into()), ..Default::default() }
    }

    fn metrics_text(&self) -> String {
        self.metrics.set_kernel_packets(&[("hit", "answered", 41), ("pass", "miss", 1)]);
        self.metrics.encode()
    }

    async fn explain(&self, question: Question) -> Result<ExplainReport, Refused> {
        self.told.lock().push(format!("explain {:?}", question));
        let question =
            QuestionReport { name: question.name.to_string(), qtype: question.qtype.to_string() };
        Ok(ExplainReport { question, next: "asked upstream".into(), ..Default::default() })
    }

    async fn flush(&self, scope: FlushScope) -> Result<FlushReport, Refused> {
        self.told.lock().push(format!("flush {scope:?}"));
        Ok(FlushReport { flushed: "all".into(), entries: 3, overflow: false })
    }

    async fn reload(&self) -> Result<ReloadReport, Refused> {
        Err(Refused::Failed("f:1:1: this is not TOML".into()))
    }

    fn cache_dump(self: &Arc<Self>, zone: Option<Name>, limit: u64) -> mpsc::Receiver<String> {
        self.told.lock().push(format!("dump {zone:?} {limit}"));
        let (lines, dump) = mpsc::channel(8);
        for n in 0..limit.min(4) {
            lines.try_send(format!("line {n}\n")).unwrap();
        }
        dump
    }

    async fn cache_load(
        self: &Arc<Self>,
        octets: Bytes,
        foreign: bool,
    ) -> Result<LoadReport, Refused> {
        self.told.lock().push(format!("load {} {foreign}", octets.len()));
        Ok(LoadReport { taken: 7, ..LoadReport::default() })
    }

    async fn kernel_detach(&self) -> Result<DetachReport, Refused> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(DetachReport { interfaces: vec!["lo".into()], pins: Vec::new() })
    }
}

/// A control socket with a mock behind it.
struct Door {
    path: PathBuf,
    daemon: Arc<Mock>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
    _file: socket::SocketFile,
}

fn mock() -> Arc<Mock> {
    let build = Build { version: "1.2.3", abi: 1, kernel_path: false };
    Arc::new(Mock { told: Mutex::default(), metrics: Metrics::new(build) })
}

fn door() -> Door {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let socket::ControlSocket { listener, file } = socket::bind(&path).unwrap();
    let daemon = mock();
    let (stop, stopped) = oneshot::channel();
    let work = api::run(listener, Arc::clone(&daemon), async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(work);
    Door { path, daemon, stop, serving, _dir: dir, _file: file }
}

/// One request as written, and all that comes back.
async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    request: &str,
) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn each_verb_reaches_the_daemon_and_comes_back() {
    let door = door();
    let client = Client::new(&door.path);
    assert_eq!(client.status().await.unwrap(), door.daemon.status());
    assert_eq!(client.trust_anchors().await.unwrap().alarm.as_deref(), Some("missing"));
    assert_eq!(client.kernel_status().await.unwrap().reason.as_deref(), Some("not built in"));
    let request = ExplainRequest { name: "Ä&=.test".into(), qtype: None };
    assert!(client.explain(&request).await.is_err());
    let request = ExplainRequest { name: "*.B.Test".into(), qtype: Some("aaaa".into()) };
    let report = client.explain(&request).await.unwrap();
    assert_eq!(report.question.qtype, "28");
    let zone = FlushRequest { zone: Some("a.test".into()), ..Default::default() };
    assert_eq!(client.flush(&zone).await.unwrap().entries, 3);
    assert_eq!(client.kernel_detach().await.unwrap().interfaces, ["lo"]);
    let told = door.daemon.told.lock().clone();
    assert!(told[0].starts_with("explain"), "{told:?}");
    assert_eq!(told[1], "flush Zone(a.test.)");
}

#[tokio::test]
async fn a_dump_comes_piece_by_piece_and_one_goes_back_whole() {
    let door = door();
    let client = Client::new(&door.path);
    let mut text = Vec::new();
    let request = DumpRequest { zone: Some("A.test".into()), limit: Some(3) };
    let take = |octets: &[u8]| {
        text.extend_from_slice(octets);
        true
    };
    client.cache_dump(&request, take).await.unwrap();
    assert_eq!(text, b"line 0\nline 1\nline 2\n");
    // Who has seen enough says so.
    let mut seen = 0;
    let take = |_: &[u8]| {
        seen += 1;
        false
    };
    client.cache_dump(&DumpRequest::default(), take).await.unwrap();
    assert_eq!(seen, 1);
    for request in [
        DumpRequest { zone: Some("a..b".into()), limit: None },
        DumpRequest { zone: None, limit: Some(0) },
        DumpRequest { zone: None, limit: Some(u64::MAX) },
    ] {
        let refused = client.cache_dump(&request, |_| panic!("something came")).await;
        assert!(matches!(refused, Err(ClientError::Refused(_))), "{request:?}");
    }
    // Larger than any other request may be.
    let dump = vec![b'x'; 1 << 20];
    let report = client.cache_load(dump, LoadRequest { foreign: true }).await.unwrap();
    assert_eq!(report.taken, 7);
    let told = door.daemon.told.lock().clone();
    assert_eq!(told, ["dump Some(a.test.) 3", "dump None 10000", "load 1048576 true"]);
}

#[tokio::test]
async fn what_the_daemon_refuses_is_told_in_its_words() {
    let door = door();
    let client = Client::new(&door.path);
    let Err(ClientError::Refused(text)) = client.reload().await else { panic!("taken") };
    assert_eq!(text, "f:1:1: this is not TOML");
    let nothing = FlushRequest::default();
    let Err(ClientError::Refused(text)) = client.flush(&nothing).await else { panic!("taken") };
    assert!(text.contains("`zone`"), "{text}");
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(&dir.path().join("control.sock"));
    assert!(matches!(client.status().await, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn what_is_no_request_of_ours_gets_an_error_in_json() {
    let door = door();
    for (request, status) in [
        ("GET /v2/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("GET /v1/flush HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
        ("GET /v1/explain HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "400"),
        (
            "POST /v1/flush HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: 12\r\n\r\n{\"nam\": \"a\"}",
            "400",
        ),
    ] {
        let stream = UnixStream::connect(&door.path).await.unwrap();
        let answer = exchange(stream, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}{answer}");
        assert!(answer.contains("{\"error\":"), "{answer}");
    }
    let stream = UnixStream::connect(&door.path).await.unwrap();
    let answer = exchange(stream, "\x16\x03\x01 rubbish\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(Client::new(&door.path).status().await.unwrap().version, "1.2.3");
}

#[tokio::test]
async fn a_stop_lets_the_request_at_hand_finish() {
    let door = door();
    let path = door.path.clone();
    let asking = tokio::spawn(async move { Client::new(&path).kernel_detach().await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    door.stop.send(()).unwrap();
    assert_eq!(asking.await.unwrap().unwrap().interfaces, ["lo"]);
    door.serving.await.unwrap();
}

#[tokio::test]
async fn the_exporter_serves_what_prometheus_can_read() {
    let listener = exporter::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(matches!(exporter::bind(address).await, Err(exporter::ExporterError::InUse(_))));
    let daemon = mock();
    daemon.metrics.queries(Transport::Udp, AnsweredBy::Cache, Rcode::NoError).inc();
    let serving = tokio::spawn(exporter::run(listener, daemon, std::future::pending()));
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(TcpStream::connect(address).await.unwrap(), request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("version=0.0.4"), "{head}");
    let samples = samples(body);
    let value = |series: &str| samples.iter().find(|(name, _)| name == series).map(|(_, v)| *v);
    let hits = "resolverd_kernel_packets_total{reason=\"answered\",verdict=\"hit\"}";
    let as_given = "resolverd_kernel_packets_total{verdict=\"hit\",reason=\"answered\"}";
    assert_eq!(value(hits).or(value(as_given)), Some(41.0));
    assert_eq!(value("resolverd_kernel_available"), Some(0.0));
    let elsewhere = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(TcpStream::connect(address).await.unwrap(), elsewhere).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    serving.abort();
}

/// Reads the text format: a TYPE before the samples of each family, then `series value`.
fn samples(text: &str) -> Vec<(String, f64)> {
    let mut families = Vec::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.push(name.to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let family = families.last().expect("a TYPE comes first");
            assert!(series.starts_with(family.as_str()), "{line} in {family}");
            samples.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    assert!(families.len() > 15, "{families:?}");
    samples
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_closed() {
    let (theirs, ours) = tokio::io::duplex(64);
    let (listener, _keep) = One::of(ours);
    let bounds = serve::Bounds { connections_max: 1, lifetime: Duration::from_secs(60) };
    let router = axum::Router::new();
    let serving = tokio::spawn(serve::serve(listener, router, bounds, std::future::pending()));
    let mut theirs = theirs;
    let mut octets = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(90), theirs.read_to_end(&mut octets));
    assert!(closed.await.is_ok());
    serving.abort();
}

/// A listener that one connection comes to.
struct One(tokio::sync::mpsc::Receiver<tokio::io::DuplexStream>);

impl One {
    fn of(
        stream: tokio::io::DuplexStream,
    ) -> (Self, tokio::sync::mpsc::Sender<tokio::io::DuplexStream>) {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.try_send(stream).unwrap();
        (Self(receiver), sender)
    }
}

impl axum::serve::Listener for One {
    type Io = tokio::io::DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}
