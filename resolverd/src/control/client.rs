//! The other side of the control socket: what the verbs of the command line speak through.
//!
//! One request a connection. Starts one task, which drives the connection and ends with it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::{ExplainRequest, FlushRequest};
use super::dump::{DumpRequest, LoadRequest};
use super::reports::{
    DetachReport, ErrorReport, ExplainReport, FlushReport, KernelReport, LoadReport, ReloadReport,
    StatusReport, TrustAnchorsReport,
};

/// Speaks to the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// The task that drives a connection; it ends when this is dropped.
struct Driving(JoinHandle<hyper::Result<()>>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no daemon answers at {socket}: {source}; is it running? \
         `--socket` or `--config` says where it is"
    )]
    Unreachable { socket: PathBuf, source: io::Error },
    /// The daemon's own words.
    #[error("{0}")]
    Refused(String),
    #[error("the daemon at {socket} did not answer as it should: {reason}")]
    Confused { socket: PathBuf, reason: String },
}

impl Client {
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.ask(Method::GET, "/v1/status", NOTHING).await
    }

    pub async fn explain(&self, request: &ExplainRequest) -> Result<ExplainReport, ClientError> {
        let mut path = format!("/v1/explain?name={}", escaped(&request.name));
        if let Some(qtype) = &request.qtype {
            path.push_str("&type=");
            path.push_str(&escaped(qtype));
        }
        self.ask(Method::GET, &path, NOTHING).await
    }

    pub async fn flush(&self, request: &FlushRequest) -> Result<FlushReport, ClientError> {
        self.ask(Method::POST, "/v1/flush", Some(request)).await
    }

    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.ask(Method::POST, "/v1/reload", NOTHING).await
    }

    pub async fn trust_anchors(&self) -> Result<TrustAnchorsReport, ClientError> {
        self.ask(Method::GET, "/v1/trust-anchors", NOTHING).await
    }

    pub async fn kernel_status(&self) -> Result<KernelReport, ClientError> {
        self.ask(Method::GET, "/v1/kernel", NOTHING).await
    }

    pub async fn kernel_detach(&self) -> Result<DetachReport, ClientError> {
        self.ask(Method::POST, "/v1/kernel/detach", NOTHING).await
    }

    /// Gives the lines of a dump to `take`, as they come, until it says no.
    pub async fn cache_dump(
        &self,
        request: &DumpRequest,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        let mut path = "/v1/cache?".to_owned();
        if let Some(zone) = &request.zone {
            path.push_str(&format!("zone={}&", escaped(zone)));
        }
        if let Some(limit) = request.limit {
            path.push_str(&format!("limit={limit}"));
        }
        let (response, _driving) = self.send(Method::GET, &path, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return self.report(response).await;
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.confused(error.to_string()))?;
            if frame.data_ref().is_some_and(|octets| !take(octets)) {
                break;
            }
        }
        Ok(())
    }

    /// Has a dump loaded.
    pub async fn cache_load(
        &self,
        dump: Vec<u8>,
        request: LoadRequest,
    ) -> Result<LoadReport, ClientError> {
        let path = format!("/v1/cache/load?foreign={}", request.foreign);
        let load = async {
            let (response, _driving) = self.send(Method::POST, &path, dump.into()).await?;
            self.report(response).await
        };
        match timeout(ANSWER_WITHIN, load).await {
            Ok(result) => result,
            Err(_) => Err(self.confused(format!("nothing came within {ANSWER_WITHIN:?}"))),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        match timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(self.confused(format!("nothing came within {ANSWER_WITHIN:?}"))),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let octets = match body {
            Some(body) => {
                serde_json::to_vec(body).map_err(|error| self.confused(error.to_string()))?
            }
            None => Vec::new(),
        };
        let (response, _driving) = self.send(method, path, octets.into()).await?;
        self.report(response).await
    }

    /// Sends a request. The connection ends with what is given beside the response.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Driving), ClientError> {
        let confused = |error: &dyn std::error::Error| self.confused(error.to_string());
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| confused(&e))?;
        let driving = Driving(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "resolverd")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| confused(&e))?;
        let response = sender.send_request(request).await.map_err(|e| confused(&e))?;
        Ok((response, driving))
    }

    /// The report in a response, or the refusal.
    async fn report<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX);
        let octets = body.collect().await.map_err(|e| self.confused(e.to_string()))?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&octets).map_err(|e| self.confused(e.to_string()));
        }
        match serde_json::from_slice::<ErrorReport>(&octets) {
            Ok(report) => Err(ClientError::Refused(report.error)),
            Err(_) => Err(self.confused(format!("status {status}"))),
        }
    }

    fn confused(&self, reason: String) -> ClientError {
        ClientError::Confused { socket: self.socket.clone(), reason }
    }
}

/// A text as part of a query string (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, octet| {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
        out
    })
}

const NOTHING: Option<&()> = None;
/// Longer than any verb takes: `resolve.timeout` is at most 30 seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// Hundreds of thousands of lines.
const ANSWER_MAX: usize = 32 << 20;
