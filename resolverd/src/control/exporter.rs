//! The exporter: metrics for Prometheus, over HTTP on a TCP port of its own.
//!
//! Serves numbers only. What they mean is said in `metrics.rs`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::Daemon;
use super::serve::{Bounds, serve};

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    #[error(
        "metrics: {0} is in use; `ss -ltnp sport = :{port}` says by whom; stop it, or set \
         `metrics.listen`",
        port = .0.port()
    )]
    InUse(SocketAddr),
    #[error("metrics: can't listen at {address}: {source}; set `metrics.listen`")]
    System { address: SocketAddr, source: io::Error },
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, ExporterError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ExporterError::InUse(address),
        _ => ExporterError::System { address, source },
    })
}

/// Serves scrapes until `shutdown` resolves.
pub async fn run<D: Daemon>(
    listener: TcpListener,
    daemon: Arc<D>,
    shutdown: impl Future<Output = ()>,
) {
    serve(listener, router(daemon), BOUNDS, shutdown).await;
}

fn router<D: Daemon>(daemon: Arc<D>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<D>))
        .fallback(|| async { (StatusCode::NOT_FOUND, "metrics are at /metrics\n") })
        .with_state(daemon)
}

pub(super) async fn metrics<D: Daemon>(State(daemon): State<Arc<D>>) -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], daemon.metrics_text()).into_response()
}

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A pair of Prometheus servers, somebody with curl, and room.
const BOUNDS: Bounds = Bounds { connections_max: 16, lifetime: Duration::from_secs(300) };
