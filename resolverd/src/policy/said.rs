//! What policy says of a question.
//!
//! Pure. An answer may be a beginning only: an alias that leads to a name which others know. The
//! caller looks for that name and puts both together.

use std::time::Duration;

use crate::dns::records::Record;
use crate::dns::{Answer, Ede, Name, RecordError, Sections, Source, rcode};

/// A word of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This is the answer.
    Answer(Answer),
    /// This is how the answer begins.
    Alias(Alias),
    /// Nobody answers.
    Drop,
    /// "Ask again over a stream"; who does is answered as if nothing had been said.
    Truncate,
}

/// The first records of an answer, and the name that the last of them leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub records: Vec<Record>,
    pub target: Name,
    pub authoritative: bool,
    pub ede: Option<Ede>,
    pub source: Source,
}

impl Alias {
    /// Takes in another alias, which begins where this one ends.
    pub fn lengthen(&mut self, next: Self) {
        self.records.extend(next.records);
        self.target = next.target;
        self.ede = self.ede.take().or(next.ede);
    }

    /// These records and nothing more, for a question that nobody is to be asked for.
    ///
    /// # Errors
    ///
    /// When they don't fit into a message.
    pub fn alone(self, question: &Name) -> Result<Answer, RecordError> {
        self.complete(question, Answer::empty(rcode::NOERROR, Duration::MAX, None))
    }

    /// The whole answer to a question for `question`: these records, then the answer for the
    /// target.
    ///
    /// # Errors
    ///
    /// When both don't fit into a message.
    pub fn complete(self, question: &Name, rest: Answer) -> Result<Answer, RecordError> {
        let found = rest.sections(&self.target)?;
        let mut sections = Sections { answer: self.records, ..found };
        sections.answer.extend(found.answer);
        let whole = rest.with_sections(question, &sections)?;
        Ok(Answer {
            authoritative: self.authoritative,
            ede: self.ede.or(whole.ede),
            source: self.source,
            ..whole
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::rtype;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn alias(from: &str, to: &str, ttl: u32) -> Alias {
        let rdata = name(to).as_wire().to_vec();
        Alias {
            records: vec![Record { owner: name(from), rtype: rtype::CNAME, class: 1, ttl, rdata }],
            target: name(to),
            authoritative: true,
            ede: None,
            source: Source::Local(name("home.test.")),
        }
    }

    #[test]
    fn an_alias_and_the_answer_for_its_target_are_one_answer() {
        let mut first = alias("a.home.test.", "b.example.", 300);
        first.lengthen(alias("b.example.", "c.example.", 40));
        let address = Record {
            owner: name("c.example."),
            rtype: rtype::A,
            class: 1,
            ttl: 100,
            rdata: vec![192, 0, 2, 1],
        };
        let bare = Answer::empty(rcode::NOERROR, Duration::from_secs(100), None);
        let sections = Sections { answer: vec![address], ..Sections::default() };
        let rest = bare.with_sections(&name("c.example."), &sections).unwrap();
        let whole = first.complete(&name("a.home.test."), rest).unwrap();
        let read = whole.sections(&name("a.home.test.")).unwrap();
        let owners: Vec<String> = read.answer.iter().map(|r| r.owner.to_string()).collect();
        assert_eq!(owners, ["a.home.test.", "b.example.", "c.example."]);
        assert_eq!(whole.life, Duration::from_secs(40));
        assert!(whole.authoritative && !whole.secure);
        assert_eq!(whole.source, Source::Local(name("home.test.")));
    }

    #[test]
    fn what_became_of_the_target_is_told() {
        let gone = Answer::empty(rcode::NXDOMAIN, Duration::from_secs(5), None);
        let first = alias("a.home.test.", "b.example.", 300);
        let whole = first.complete(&name("a.home.test."), gone).unwrap();
        assert_eq!((whole.rcode, whole.counts), (rcode::NXDOMAIN, [1, 0, 0]));
        assert_eq!(whole.life, Duration::from_secs(5));
    }
}
