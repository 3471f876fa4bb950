//! An entry as an answer again, for those who build another answer on it.
//!
//! Pure. TTLs are what is left of them.

use resolverd_common::entry::{self, Flags, Head};
use resolverd_common::time::SECOND;

use super::{Cache, Held};
use crate::dns::{Answer, Ede, Name, Sections, Source, sections};

impl Cache {
    /// What an entry for `question` says. None: it is not of this house.
    #[must_use]
    pub fn answer(&self, held: &Held, head: &Head, question: &Name, now: u64) -> Option<Answer> {
        let mut words = vec![0; head.len_words()];
        held.copy_to(&mut words);
        let mut sections =
            sections::read(question, entry::body_of(&words, head), head.counts).ok()?;
        let elapsed = now.saturating_sub(head.stored_at) / SECOND;
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        let Sections { answer, authority, additional } = &mut sections;
        for record in answer.iter_mut().chain(authority).chain(additional) {
            record.ttl = record.ttl.saturating_sub(elapsed);
        }
        let left = head.expires_at().saturating_sub(now);
        let ede = head.flags.has(Flags::EDE).then(|| Ede {
            code: head.ede,
            text: String::from_utf8_lossy(&held.text()).into_owned(),
        });
        let life = std::time::Duration::from_nanos(left);
        let bare = Answer::empty(head.flags.rcode(), life, ede);
        let answer = bare.with_sections(question, &sections).ok()?;
        Some(Answer {
            authoritative: head.flags.has(Flags::AUTHORITATIVE),
            secure: head.flags.has(Flags::SECURE),
            source: self.source(head.origin),
            ..answer
        })
    }

    /// Whether an entry was made here, by rules, and not of what somebody else said.
    #[must_use]
    pub fn is_made_here(&self, head: &Head) -> bool {
        matches!(self.source(head.origin), Source::Local(_) | Source::Rpz(_))
    }

    fn source(&self, number: u16) -> Source {
        let name = self.origin_name(number);
        let (kind, name) = name.split_once(' ').unwrap_or((&name, ""));
        match kind {
            "upstream" => Source::Upstream(name.into()),
            "rpz" => Source::Rpz(name.into()),
            "zone" => name.parse().map_or(Source::Daemon, Source::Local),
            _ => Source::Daemon,
        }
    }
}
