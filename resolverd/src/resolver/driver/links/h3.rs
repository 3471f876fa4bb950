//! A connection of HTTP/3, a question in each stream (RFC 8484, RFC 9114).

use std::future::poll_fn;
use std::sync::Arc;

use ::h3::client::SendRequest;
use ::h3::error::Code;
use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use quinn::{Connection, Endpoint, VarInt};

use super::bounded::{BoundedConnection, BoundedOpener};
use super::doh::{self, HEADERS_OCTETS_MAX, Head};
use super::{Failure, Keeper, Kept, Said, quic};

pub(super) struct Asker {
    http: SendRequest<BoundedOpener, Bytes>,
    head: Head,
}

pub(super) async fn start(
    endpoint: Endpoint,
    connection: Connection,
    head: Head,
    kept: Arc<Kept>,
) -> Result<(Asker, Keeper), Failure> {
    let bounded = BoundedConnection::new(connection.clone(), ANSWER_OCTETS_MAX);
    let mut builder = ::h3::client::builder();
    builder.max_field_section_size(HEADERS_OCTETS_MAX.into());
    let started = builder.build(bounded).await;
    let (mut driver, http) =
        started.map_err(|error| Failure::Protocol(error.to_string().into()))?;
    let keeper = async move {
        tokio::select! {
            _ = driver.wait_idle() => {}
            () = kept.over() => {}
        }
        kept.leave();
        let code = VarInt::from_u64(Code::H3_NO_ERROR.value()).unwrap_or_default();
        quic::close(&endpoint, &connection, code).await;
        None
    };
    Ok((Asker { http, head }, keeper.boxed()))
}

impl Asker {
    pub(super) async fn ask(&self, question: &[u8]) -> Result<Said, Failure> {
        let mut http = self.http.clone();
        let request = self.head.request(question);
        let mut stream = http.send_request(request).await.map_err(lost)?;
        stream.send_data(doh::content(question)).await.map_err(lost)?;
        stream.finish().await.map_err(lost)?;
        let response = stream.recv_response().await.map_err(lost)?;
        let age_secs = doh::accept(response.status(), response.headers())?;
        let mut message = Vec::new();
        loop {
            let octets = poll_fn(|cx| {
                stream
                    .poll_recv_data(cx)
                    .map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
            });
            match octets.await.map_err(lost)? {
                Some(octets) => doh::gather(&mut message, &octets)?,
                None => return Ok(Said { message, age_secs }),
            }
        }
    }
}

/// Whether it was the stream or the connection: it is asked once more.
fn lost(_: ::h3::error::StreamError) -> Failure {
    Failure::Lost
}

/// Of one answer: its headers, its content, and frames.
const ANSWER_OCTETS_MAX: usize = HEADERS_OCTETS_MAX as usize + (80 << 10);
