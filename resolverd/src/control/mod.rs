//! Doors for operators: the control socket, the exporter of metrics, and word to systemd.
//!
//! Knows the daemon only as a [`Daemon`]: what it can be asked and told. Decides nothing.

pub mod api;
pub mod client;
pub mod dump;
pub mod exporter;
pub mod notify;
pub mod printer;
pub mod reports;
mod serve;
pub mod show;
pub mod socket;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::mpsc;

use crate::dns::Name;
use reports::{
    DetachReport, ExplainReport, FlushReport, KernelReport, LoadReport, ReloadReport, StatusReport,
    TrustAnchorsReport,
};

/// What an operator can ask of the daemon, and tell it to do.
///
/// The daemon is one implementation; the other is the mock that the doors are tested with.
pub trait Daemon: Send + Sync + 'static {
    fn status(&self) -> StatusReport;

    fn kernel_status(&self) -> KernelReport;

    /// What is trusted by zone, and what is not checked.
    fn trust_anchors(&self) -> TrustAnchorsReport;

    /// Everything Prometheus is told, in its text format. Reads the kernel's counters first.
    fn metrics_text(&self) -> String;

    /// Looks the question up as a client's would be, and asks nobody.
    fn explain(
        &self,
        question: Question,
    ) -> impl Future<Output = Result<ExplainReport, Refused>> + Send;

    fn flush(&self, scope: FlushScope)
    -> impl Future<Output = Result<FlushReport, Refused>> + Send;

    /// Reads the configuration again, as SIGHUP does. A bad file is refused, and changes nothing.
    fn reload(&self) -> impl Future<Output = Result<ReloadReport, Refused>> + Send;

    /// The cache as lines of text ([`dump`]), at most `limit` answers, of one zone if it is named.
    /// It is made as it is read.
    fn cache_dump(self: &Arc<Self>, zone: Option<Name>, limit: u64) -> mpsc::Receiver<String>;

    /// Takes the answers of a dump into the cache; `foreign`: whoever wrote it.
    fn cache_load(
        self: &Arc<Self>,
        dump: Bytes,
        foreign: bool,
    ) -> impl Future<Output = Result<LoadReport, Refused>> + Send;

    /// Takes the program off every interface and removes its pins; the daemon goes on.
    fn kernel_detach(&self) -> impl Future<Output = Result<DetachReport, Refused>> + Send;
}

/// A name and a type, to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub qtype: u16,
}

/// What to flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// Every type of one name.
    Name(Name),
    /// The name and all below it.
    Zone(Name),
    All,
}

/// Why the daemon did not do as it was told; the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// What was said makes no sense, as it stands.
    #[error("{0}")]
    Invalid(String),
    /// It made sense, and could not be done.
    #[error("{0}")]
    Failed(String),
}
