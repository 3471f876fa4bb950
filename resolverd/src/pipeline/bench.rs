//! Places that one thread uses for one message after the other, so that none are made anew.
//!
//! Pure.

use std::cell::RefCell;

use resolverd_common::cookie::Cookie;
use resolverd_common::counters::Reason;
use resolverd_common::key::{Key, NAME_WORDS, Secret};
use resolverd_common::question::{self, Message, NameWords, Question};

use super::reply::Desk;
use super::whole::Ask;
use crate::dns::{Query, rtype};
use crate::policy::ViewId;

/// See the module.
pub struct Bench {
    message: Message,
    /// The name of the question that was read, lower-cased.
    pub name: NameWords,
    pub question: Question,
    pub desk: Desk,
    /// The entry that was built last.
    pub words: Vec<u64>,
}

thread_local! {
    pub static BENCH: RefCell<Bench> = const { RefCell::new(Bench::new()) };
}

impl Bench {
    pub const fn new() -> Self {
        Self {
            message: Message::new(),
            name: [0; NAME_WORDS],
            question: Question {
                key: Key([0; 2]),
                meta: 0,
                name_len: 0,
                sum: 0,
                id: 0,
                edns: false,
                dnssec_ok: false,
                checking_disabled: false,
                authentic_data: false,
                udp_size: 0,
                cookie: Cookie { len: 0, client: 0, server: [0; 2] },
            },
            desk: Desk::new(),
            words: Vec::new(),
        }
    }

    /// Reads a message of a client in this view with the contract's parser.
    pub fn read(&mut self, message: &[u8], view: ViewId, secret: &Secret) -> Result<(), Reason> {
        self.message.fill(message)?;
        let Self { message: place, name, question, .. } = self;
        question::parse(place, message.len(), view.0, secret, name, question)
    }

    /// The question that was read, in the words of the other rooms.
    pub fn query(&self, ask: Ask) -> Option<Query> {
        let query = Query::of(self.question.meta, &self.name)?;
        Some(match ask {
            Ask::Data => query,
            Ask::Any => Query { qtype: rtype::ANY, ..query },
        })
    }
}
