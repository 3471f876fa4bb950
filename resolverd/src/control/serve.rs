//! Serves HTTP/1.1 on a listener, within bounds.
//!
//! Starts one task a connection, at most [`Bounds::connections_max`]. When the future is
//! dropped, they are ended at once; when `shutdown` resolves, they finish the request they are
//! at, within [`GRACE`].

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

/// What a door lets in.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Further connections wait in the system's queue.
    pub connections_max: usize,
    /// A connection takes no further request after so long, and is cut off [`GRACE`] later.
    pub lifetime: Duration,
}

pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (io, _) = listener.accept(), if connections.len() < bounds.connections_max => {
                let work = connection(io, router.clone(), bounds.lifetime, stopped.clone());
                connections.spawn(timeout(bounds.lifetime + GRACE, work));
            }
        }
    }
    drop(listener);
    drop(stop);
    // Whoever is still at it then is cut off with the JoinSet.
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection<IO>(
    io: IO,
    router: Router,
    lifetime: Duration,
    mut stopped: watch::Receiver<()>,
) where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(BUFFER_MAX);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The sender sends nothing; it is dropped.
        _ = timeout(lifetime, stopped.changed()) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "control connection ended early");
    }
}

const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Of headers and of what is read ahead; requests are small.
const BUFFER_MAX: usize = 64 << 10;
const GRACE: Duration = Duration::from_secs(1);
