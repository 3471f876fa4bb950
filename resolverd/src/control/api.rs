//! The control API: HTTP and JSON on the control socket.
//!
//! Parses at the door and hands the daemon names and types, never texts. Who may connect is
//! decided by the socket's permissions.
//!
//! | request | report |
//! |---|---|
//! | `GET /v1/status` | `StatusReport` |
//! | `GET /v1/explain?name=N&type=T` | `ExplainReport` |
//! | `POST /v1/flush` `{"name": N}`, `{"zone": N}` or `{"all": true}` | `FlushReport` |
//! | `POST /v1/reload` | `ReloadReport` |
//! | `GET /v1/kernel` | `KernelReport` |
//! | `POST /v1/kernel/detach` | `DetachReport` |
//! | `GET /v1/trust-anchors` | `TrustAnchorsReport` |
//! | `GET /v1/cache?zone=Z&limit=N` | lines of JSON: `dump` |
//! | `POST /v1/cache/load?foreign=B` such lines | `LoadReport` |
//! | `GET /v1/metrics` | Prometheus' text |
//!
//! Anything else, and what the daemon refuses, is an [`ErrorReport`] with status 4xx or 5xx.

use std::convert::Infallible;
use std::future::Future;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::dump::{DumpRequest, LIMIT_DEFAULT, LIMIT_MAX, LoadRequest};
use super::reports::ErrorReport;
use super::serve::{Bounds, serve};
use super::{Daemon, FlushScope, Question, Refused, exporter};
use crate::dns::Name;

/// Serves operators until `shutdown` resolves.
pub async fn run<D: Daemon>(
    listener: UnixListener,
    daemon: Arc<D>,
    shutdown: impl Future<Output = ()>,
) {
    serve(listener, router(daemon), BOUNDS, shutdown).await;
}

fn router<D: Daemon>(daemon: Arc<D>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<D>))
        .route("/v1/explain", get(explain::<D>))
        .route("/v1/flush", post(flush::<D>))
        .route("/v1/reload", post(reload::<D>))
        .route("/v1/kernel", get(kernel::<D>))
        .route("/v1/kernel/detach", post(kernel_detach::<D>))
        .route("/v1/trust-anchors", get(trust_anchors::<D>))
        .route("/v1/cache", get(cache_dump::<D>))
        .route("/v1/cache/load", post(cache_load::<D>))
        .route("/v1/metrics", get(exporter::metrics::<D>))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(daemon)
}

/// What `POST /v1/flush` is sent; exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlushRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// What `GET /v1/explain` is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    pub name: String,
    /// A by default.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub qtype: Option<String>,
}

/// `AAAA`, `aaaa`, `TYPE28` or `28`.
pub fn qtype(text: &str) -> Result<u16, Refused> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_prefix("TYPE").unwrap_or(&upper);
    if let Ok(number) = digits.parse() {
        return Ok(number);
    }
    match RecordType::from_str(&upper) {
        Ok(rtype) => Ok(rtype.into()),
        Err(_) => Err(Refused::Invalid(format!(
            "`{text}` is not a record type; write one such as `AAAA`, or its number as `TYPE28`"
        ))),
    }
}

impl ExplainRequest {
    /// The question it is about.
    pub fn question(&self) -> Result<Question, Refused> {
        let qtype = self.qtype.as_deref().map_or(Ok(1), qtype)?;
        Ok(Question { name: name(&self.name)?, qtype })
    }
}

impl DumpRequest {
    /// Which answers, and how many.
    pub fn scope(&self) -> Result<(Option<Name>, u64), Refused> {
        let zone = self.zone.as_deref().map(name).transpose()?;
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok((zone, limit)),
            limit => {
                Err(Refused::Invalid(format!("the limit is {limit}, and may be 1 to {LIMIT_MAX}")))
            }
        }
    }
}

impl FlushRequest {
    /// What is to be flushed.
    pub fn scope(&self) -> Result<FlushScope, Refused> {
        match (&self.name, &self.zone, self.all) {
            (Some(text), None, false) => Ok(FlushScope::Name(name(text)?)),
            (None, Some(text), false) => Ok(FlushScope::Zone(name(text)?)),
            (None, None, true) => Ok(FlushScope::All),
            _ => Err(Refused::Invalid("name one of `name`, `zone` and `all`".to_owned())),
        }
    }
}

fn name(text: &str) -> Result<Name, Refused> {
    if text.is_empty() {
        return Err(Refused::Invalid("the name is empty; the root is `.`".to_owned()));
    }
    Name::from_str(text).map_err(|e| Refused::Invalid(e.to_string()))
}

async fn status<D: Daemon>(State(daemon): State<Arc<D>>) -> Response {
    Json(daemon.status()).into_response()
}

async fn kernel<D: Daemon>(State(daemon): State<Arc<D>>) -> Response {
    Json(daemon.kernel_status()).into_response()
}

async fn trust_anchors<D: Daemon>(State(daemon): State<Arc<D>>) -> Response {
    Json(daemon.trust_anchors()).into_response()
}

async fn explain<D: Daemon>(
    State(daemon): State<Arc<D>>,
    request: Result<Query<ExplainRequest>, QueryRejection>,
) -> Response {
    let question = match request {
        Ok(Query(request)) => request.question(),
        Err(rejection) => Err(Refused::Invalid(rejection.body_text())),
    };
    match question {
        Ok(question) => answer(daemon.explain(question).await),
        Err(refused) => answer::<()>(Err(refused)),
    }
}

async fn flush<D: Daemon>(
    State(daemon): State<Arc<D>>,
    request: Result<Json<FlushRequest>, JsonRejection>,
) -> Response {
    let scope = match request {
        Ok(Json(request)) => request.scope(),
        Err(rejection) => Err(Refused::Invalid(rejection.body_text())),
    };
    match scope {
        Ok(scope) => answer(daemon.flush(scope).await),
        Err(refused) => answer::<()>(Err(refused)),
    }
}

async fn cache_dump<D: Daemon>(
    State(daemon): State<Arc<D>>,
    request: Result<Query<DumpRequest>, QueryRejection>,
) -> Response {
    let scope = match request {
        Ok(Query(request)) => request.scope(),
        Err(rejection) => Err(Refused::Invalid(rejection.body_text())),
    };
    let (zone, limit) = match scope {
        Ok(scope) => scope,
        Err(refused) => return answer::<()>(Err(refused)),
    };
    let lines = stream::unfold(daemon.cache_dump(zone, limit), |mut lines| async move {
        let some = lines.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(some)), lines))
    });
    ([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response()
}

async fn cache_load<D: Daemon>(
    State(daemon): State<Arc<D>>,
    request: Result<Query<LoadRequest>, QueryRejection>,
    body: Body,
) -> Response {
    let foreign = match request {
        Ok(Query(LoadRequest { foreign })) => foreign,
        Err(rejection) => {
            return answer::<()>(Err(Refused::Invalid(rejection.body_text())));
        }
    };
    match to_bytes(body, LOAD_OCTETS_MAX).await {
        Ok(dump) => answer(daemon.cache_load(dump, foreign).await),
        Err(_) => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the dump ended early, or has more than {LOAD_OCTETS_MAX} octets"),
        ),
    }
}

async fn reload<D: Daemon>(State(daemon): State<Arc<D>>) -> Response {
    answer(daemon.reload().await)
}

async fn kernel_detach<D: Daemon>(State(daemon): State<Arc<D>>) -> Response {
    answer(daemon.kernel_detach().await)
}

async fn unknown() -> Response {
    error(StatusCode::NOT_FOUND, "there is nothing here; see /v1/status".to_owned())
}

async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "not by this method".to_owned())
}

fn answer<T: Serialize>(result: Result<T, Refused>) -> Response {
    match result {
        Ok(report) => Json(report).into_response(),
        Err(Refused::Invalid(text)) => error(StatusCode::BAD_REQUEST, text),
        Err(Refused::Failed(text)) => error(StatusCode::CONFLICT, text),
    }
}

fn error(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorReport { error })).into_response()
}

/// A name is the longest thing that is sent.
const BODY_MAX: usize = 16 << 10;
/// Of a dump that is loaded: some 200,000 answers. It is in memory as a whole, because nothing of
/// it is used before its end was seen.
pub const LOAD_OCTETS_MAX: usize = 96 << 20;
/// <https://github.com/ndjson/ndjson-spec>
const LINES: &str = "application/x-ndjson";
/// Operators and their scripts.
const BOUNDS: Bounds = Bounds { connections_max: 32, lifetime: Duration::from_secs(60) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_by_name_and_by_number() {
        for (text, number) in [("A", 1), ("aaaa", 28), ("TYPE65", 65), ("type1", 1), ("33", 33)] {
            assert_eq!(qtype(text), Ok(number), "{text}");
        }
        for text in ["", "AAAAA", "TYPE", "TYPE99999", "-1"] {
            assert!(qtype(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_flush_is_of_one_thing() {
        let read = |json: &str| serde_json::from_str::<FlushRequest>(json).unwrap().scope();
        let zone = "a.test.".parse().unwrap();
        assert_eq!(read(r#"{"zone": "A.test"}"#), Ok(FlushScope::Zone(zone)));
        assert_eq!(read(r#"{"all": true}"#), Ok(FlushScope::All));
        for json in ["{}", r#"{"name": "a", "zone": "a"}"#, r#"{"name": "a..b"}"#] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
