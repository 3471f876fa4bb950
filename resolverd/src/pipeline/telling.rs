//! Tells the tap what became of a message, once its reply is all there.
//!
//! Who answered is known deep in the way of a query, and the reply at its end: a thread is at one
//! message at a time, so it notes the one until it comes to the other. Nothing is noted, and
//! nothing copied, while nobody listens.

use std::cell::Cell;
use std::sync::Arc;

use resolverd_common::question::HEADER_LEN;

use super::{Begun, Client, Pending, Shared};
use crate::clock::{BootTime, boot_now, wall_now};
use crate::dns::Source;
use crate::metrics::AnsweredBy;
use crate::tap::{Answered, Way};

thread_local! {
    static ANSWERED_BY: Cell<Option<AnsweredBy>> = const { Cell::new(None) };
    static UPSTREAM: Cell<Option<Arc<str>>> = const { Cell::new(None) };
}

/// Who answers the message that this thread is at.
pub fn note(by: AnsweredBy) {
    ANSWERED_BY.set(Some(by));
}

/// Whose answer is said to the message that this thread is at.
pub fn note_source(source: &Source) {
    UPSTREAM.set(match source {
        Source::Upstream(name) => Some(Arc::clone(name)),
        _ => None,
    });
}

/// What was noted and not told.
#[cfg(test)]
pub fn noted() -> Option<AnsweredBy> {
    ANSWERED_BY.take()
}

impl Shared {
    /// Tells of a query, and of its reply if there is one already; else [`Shared::tell_answer`]
    /// is still to come.
    pub(super) fn tell_begun(
        &self,
        message: &[u8],
        client: &Client,
        started: BootTime,
        begun: &mut Begun<Pending>,
        out: &[u8],
    ) {
        // What is no query is told of in counts alone.
        if message.len() < HEADER_LEN || message[2] & 0x80 != 0 {
            return;
        }
        self.tap.query(way(client), message, wall_now() - boot_now().saturating_since(started));
        match begun {
            Begun::Reply => self.tell_answer(message, client, started, out),
            Begun::Pending(pending) => pending.told = Some(Box::new(*client)),
            Begun::Drop => {}
        }
    }

    /// Tells of a reply that is about to leave. `message` is its query, at least the header.
    pub(super) fn tell_answer(
        &self,
        message: &[u8],
        client: &Client,
        started: BootTime,
        out: &[u8],
    ) {
        let (by, upstream) = (ANSWERED_BY.take(), UPSTREAM.take());
        // Nothing is sent where policy says so; nothing was noted when somebody began to listen
        // just now.
        if let Some(by) = by
            && out.len() >= HEADER_LEN
            && self.tap.hears_answers()
        {
            let answered = Answered {
                way: way(client),
                authentic_data: message[3] & 0x20 != 0,
                reply: out,
                by,
                // What was noted for an answer that nobody was told of is none of this one's.
                upstream: upstream.as_ref().filter(|_| by == AnsweredBy::Upstream),
                took: boot_now().saturating_since(started),
            };
            self.tap.answer(&answered, wall_now());
        }
    }
}

fn way(client: &Client) -> Way {
    Way { client: client.addr, server: client.local, transport: client.transport.label() }
}
