//! Who is told of each message to and from servers, as it is on the wire.
//!
//! Pure. The resolver knows nobody who tells operators of messages; whoever joins the two puts
//! one behind this ear. Until then a message costs a look whether there is one.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::metrics::Transport;

/// A message to or from a server.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    pub server: SocketAddr,
    pub way: Transport,
    pub message: &'a [u8],
    /// Since the question was sent; `None`: this is the question.
    pub took: Option<Duration>,
}

/// Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Ear {
    listener: Arc<OnceLock<Box<Listener>>>,
}

type Listener = dyn Fn(&Heard<'_>) + Send + Sync;

impl Ear {
    /// Has a listener hear of all messages from now on. The first one stays.
    pub fn listen(&self, listener: impl Fn(&Heard<'_>) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Tells the listener, if there is one.
    #[inline]
    pub fn hears(&self, heard: &Heard<'_>) {
        if let Some(listener) = self.listener.get() {
            listener(heard);
        }
    }
}
