//! The packets of the table.

mod below;
mod dns;

use std::fmt;

use lab::Ask;
use resolverd_common::counters::Reason;

use crate::frame::Datagram;
use crate::site::{Ends, Family};

/// A packet and its fate.
pub struct Case {
    what: String,
    pub message: Vec<u8>,
    pub shape: Box<dyn Fn(&mut Datagram)>,
    /// The frame itself, where even its headers are not those of a datagram.
    pub raw: Option<Vec<u8>>,
    only: Option<Family>,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Answered, whole or cut.
    Hit(Reason),
    Pass(Reason),
}

/// The table, for one mode and family.
pub fn cases(ends: &Ends, mode: &str, family: Family) -> Vec<Case> {
    let parts = [
        dns::data(),
        dns::names(),
        dns::edns(),
        dns::headers(),
        dns::questions(),
        dns::records(),
        dns::options(),
        dns::lengths(),
        below::frames(ends, mode, family),
        below::addresses(*ends, family),
    ];
    let all = parts.into_iter().flatten();
    all.filter(|case| case.only.is_none_or(|only| only == family)).collect()
}

impl Case {
    fn framed(mut self, shape: impl Fn(&mut Datagram) + 'static) -> Self {
        self.shape = Box::new(shape);
        self
    }

    fn only(mut self, family: Family) -> Self {
        self.only = Some(family);
        self
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.what, self.fate)
    }
}

fn case(what: &str, message: Vec<u8>, fate: Fate) -> Case {
    let shape = Box::new(|_: &mut Datagram| {});
    Case { what: what.to_owned(), message, shape, raw: None, only: None, fate }
}

fn hit(what: &str, message: Vec<u8>) -> Case {
    case(what, message, Fate::Hit(Reason::Answered))
}

fn cut(what: &str, message: Vec<u8>) -> Case {
    case(what, message, Fate::Hit(Reason::Truncated))
}

fn pass(what: &str, reason: Reason, message: Vec<u8>) -> Case {
    case(what, message, Fate::Pass(reason))
}

/// A frame with a good query in it, that is wrong around it.
fn odd(what: &str, reason: Reason, shape: impl Fn(&mut Datagram) + 'static) -> Case {
    pass(what, reason, www().bytes()).framed(shape)
}

fn www() -> Ask {
    Ask::new("www.lab.test.", "A")
}

fn a(name: &str) -> Vec<u8> {
    Ask::new(name, "A").bytes()
}

fn of(name: &str, qtype: &str) -> Vec<u8> {
    Ask::new(name, qtype).bytes()
}
