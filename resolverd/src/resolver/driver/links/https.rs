//! A connection of HTTP/2, a question in each stream (RFC 8484, RFC 9113).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::{Builder, SendRequest};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::doh::{self, HEADERS_OCTETS_MAX, Head};
use super::{Failure, Keeper, Kept, Said};

pub(super) struct Asker {
    http: SendRequest<Bytes>,
    head: Head,
}

pub(super) async fn start(
    stream: TlsStream<TcpStream>,
    head: Head,
    kept: Arc<Kept>,
) -> Result<(Asker, Keeper), Failure> {
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::Protocol("it does not speak HTTP/2".into()));
    }
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(HEADERS_OCTETS_MAX)
        .initial_window_size(STREAM_WINDOW_OCTETS)
        .initial_connection_window_size(CONNECTION_WINDOW_OCTETS);
    let started = builder.handshake(stream).await;
    let (http, connection) =
        started.map_err(|error| Failure::Protocol(error.to_string().into()))?;
    let keeper = async move {
        tokio::select! {
            _ = connection => {}
            () = kept.over() => {}
        }
        kept.leave();
        None
    };
    Ok((Asker { http, head }, keeper.boxed()))
}

impl Asker {
    pub(super) async fn ask(&self, question: &[u8]) -> Result<Said, Failure> {
        // Waits until the server allows one stream more.
        let mut http = self.http.clone().ready().await.map_err(lost)?;
        let request = self.head.request(question);
        let (response, mut content) = http.send_request(request, false).map_err(lost)?;
        content.send_data(doh::content(question), true).map_err(lost)?;
        let response = response.await.map_err(lost)?;
        let age_secs = doh::accept(response.status(), response.headers())?;
        let mut content = response.into_body();
        let mut message = Vec::new();
        while let Some(octets) = content.data().await {
            let octets = octets.map_err(lost)?;
            doh::gather(&mut message, &octets)?;
            // Fails only for a stream that is over.
            let _ = content.flow_control().release_capacity(octets.len());
        }
        Ok(Said { message, age_secs })
    }
}

/// Whether it was the stream or the connection: it is asked once more.
fn lost(_: h2::Error) -> Failure {
    Failure::Lost
}

/// What a server may have sent that nobody read yet: an answer of any length, and several.
const STREAM_WINDOW_OCTETS: u32 = 80 << 10;
const CONNECTION_WINDOW_OCTETS: u32 = 512 << 10;
