//! Answers that come from files: which of them may be used, and under which key.
//!
//! An answer of a file is not validated, whoever wrote it: it never sets AD, and is used until
//! it expires or is asked for again. Names that are answered here are not for files to say.

use std::sync::Arc;

use resolverd_common::entry::{self, Flags, HEAD_WORDS};
use resolverd_common::time::{MILLI, SECOND};

use super::{Pipeline, explain};
use crate::cache::kept::{Desk, Kept, Moment, NotRevived, key_of};
use crate::cache::{Held, NotTaken};
use crate::dns::{Ede, Name, Query, rcode};
use crate::policy::ViewId;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// The one that this node wrote when it stopped.
    Own,
    /// One that an operator gave us.
    Given,
}

/// An answer of the cache, for people and for other caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    pub query: Query,
    pub rcode: u8,
    pub secure: bool,
    pub left_millis: u32,
    pub stale_secs_max: u32,
    pub ede: Option<Ede>,
    /// "upstream NAME", "zone NAME", "daemon".
    pub source: Arc<str>,
    pub counts: [u16; 3],
    /// What follows the question, with the TTLs that are left.
    pub body: Vec<u8>,
    /// The same in presentation format.
    pub records: Vec<String>,
}

impl Pipeline {
    /// An answer of the cache as it would be given now. None: it would not be, or it is not
    /// in the zone.
    #[must_use]
    pub fn dumped(&self, held: &Held, zone: Option<&Name>, now: Moment) -> Option<Dumped> {
        let head = held.head();
        if !head.is_fresh(now.boot) || !self.shared.cache.spares(held, &head) {
            return None;
        }
        let mut words = vec![0; head.len_words()];
        held.copy_to(&mut words);
        let name = &words[head.name_at()..head.body_at()];
        let query = Query::of(head.meta, name)?;
        if zone.is_some_and(|zone| !query.name.is_under(zone)) {
            return None;
        }
        let elapsed = (now.boot - head.stored_at) / SECOND;
        let mut body = entry::body_of(&words, &head).to_vec();
        for i in 0..head.ttls() {
            let at = usize::from((words[HEAD_WORDS + i / 4] >> (i % 4 * 16)) as u16);
            let ttl = body.get_mut(at..at + 4)?;
            let secs = ttl.iter().fold(0_u32, |secs, octet| secs << 8 | u32::from(*octet));
            // LIFE_MAX, and so what went by of a life, has 604,800 seconds.
            ttl.copy_from_slice(&secs.saturating_sub(elapsed as u32).to_be_bytes());
        }
        let ede = head.flags.has(Flags::EDE).then(|| Ede {
            code: head.ede,
            text: String::from_utf8_lossy(&held.text()).into_owned(),
        });
        Some(Dumped {
            query,
            rcode: head.flags.rcode(),
            secure: head.flags.has(Flags::SECURE),
            left_millis: ((head.expires_at() - now.boot) / MILLI) as u32,
            stale_secs_max: held.stale_secs_max(),
            ede,
            source: self.shared.cache.origin_name(head.origin),
            counts: head.counts,
            body,
            records: explain::texts(&words, &head, elapsed),
        })
    }

    /// Takes an answer of a file into the cache, as old as it is at `now`. `origin` says who
    /// said it.
    ///
    /// # Errors
    ///
    /// See [`NotTaken`].
    pub fn take_back(
        &self,
        shelf: Shelf,
        kept: &Kept<'_>,
        origin: &str,
        now: Moment,
        desk: &mut Desk,
    ) -> Result<(), NotTaken> {
        let query = kept.query().map_err(|error| match error {
            NotRevived::Expired => NotTaken::Expired,
            NotRevived::Malformed => NotTaken::Malformed,
        })?;
        if !self.may_come_from(shelf, &query, kept.flags) {
            return Err(NotTaken::NotForFiles);
        }
        let key = key_of(self.shared.fast.secret(), &query);
        self.shared.cache.take_back(key, kept, origin, now, desk)
    }

    /// Whether a file may say what the answer to a question is. Here is the place to keep out
    /// what must be proven: zones below a trust anchor, and protected ones.
    fn may_come_from(&self, shelf: Shelf, query: &Query, flags: Flags) -> bool {
        // What was proven elsewhere is signed, and can be asked for.
        let from_elsewhere = shelf == Shelf::Given;
        let needs_proof = from_elsewhere && flags.has(Flags::SECURE);
        let says_something = matches!(flags.rcode(), rcode::NOERROR | rcode::NXDOMAIN);
        // Views are numbered by the configuration, and another node has another one.
        let of_another_view = from_elsewhere && ViewId(query.view) != ViewId::EVERYBODY;
        let is_ours = flags.has(Flags::AUTHORITATIVE) || self.shared.rule_for(query).is_some();
        says_something && !needs_proof && !of_another_view && !is_ours
    }
}
