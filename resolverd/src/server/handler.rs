//! What the doors need to know of the house behind them.
//!
//! The pipeline is the one handler of the daemon; the tests have another. All
//! meaning of DNS is the handler's; the doors move octets.

use std::future::Future;

pub use crate::pipeline::Begun;
use crate::pipeline::{Client, Pending, Pipeline};

/// Turns the message of a client into the reply to it.
pub trait Handler: Send + Sync + 'static {
    /// A question that waits for somebody's answer.
    type Pending: Send + 'static;

    /// Answers from what is known: never waits, never blocks. `out` is cleared
    /// and filled.
    fn begin(&self, message: &[u8], client: &Client, out: &mut Vec<u8>) -> Begun<Self::Pending>;

    /// The rest of the way: asks others. `out` is cleared and filled; it stays
    /// empty where nothing is to be sent. Once begun it is not cut short when
    /// the client goes away.
    fn finish(&self, pending: Self::Pending, out: &mut Vec<u8>) -> impl Future<Output = ()> + Send;
}

impl Handler for Pipeline {
    type Pending = Pending;

    fn begin(&self, message: &[u8], client: &Client, out: &mut Vec<u8>) -> Begun<Pending> {
        Pipeline::begin(self, message, client, out)
    }

    async fn finish(&self, pending: Pending, out: &mut Vec<u8>) {
        Pipeline::finish(self, pending, out).await;
    }
}
