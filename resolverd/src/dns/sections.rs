//! An answer as records again, and records as an answer.
//!
//! Pure. Whoever adds to an answer, or takes from it, takes it apart here and writes it anew, so
//! that compression and the places of TTLs are right in what comes of it.

use std::time::Duration;

use super::records::{self, Record, RecordError};
use super::{Answer, Name};

/// Answer, authority and additional section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Answer {
    /// The records of an answer to a question for `question`.
    ///
    /// # Errors
    ///
    /// When the body is not one of this house.
    pub fn sections(&self, question: &Name) -> Result<Sections, RecordError> {
        read(question, &self.body, self.counts)
    }

    /// The same answer with other records. It lives no longer than any of them, and what is not
    /// as it was signed is not secure.
    ///
    /// # Errors
    ///
    /// When they don't fit into a message.
    pub fn with_sections(self, question: &Name, new: &Sections) -> Result<Self, RecordError> {
        let Sections { answer, authority, additional } = new;
        let body = records::compose(question, [answer, authority, additional])?;
        let all = answer.iter().chain(authority).chain(additional);
        let shortest = all.map(|record| Duration::from_secs(record.ttl.into())).min();
        Ok(Self {
            secure: false,
            signed_for: None,
            counts: body.counts,
            body: body.octets,
            ttl_offsets: body.ttl_offsets,
            life: shortest.map_or(self.life, |shortest| shortest.min(self.life)),
            ..self
        })
    }
}

/// Reads a body that follows a question for `question`.
///
/// # Errors
///
/// When it is not one of this house.
pub fn read(question: &Name, body: &[u8], counts: [u16; 3]) -> Result<Sections, RecordError> {
    let mut message = vec![0; HEADER_OCTETS];
    message.extend_from_slice(question.as_wire());
    message.extend_from_slice(&[0; QTYPE_QCLASS_OCTETS]);
    let at = message.len();
    message.extend_from_slice(body);
    let [answers, authorities, additionals] = counts;
    let (answer, at) = records::read(&message, at, answers)?;
    let (authority, at) = records::read(&message, at, authorities)?;
    let (additional, _) = records::read(&message, at, additionals)?;
    Ok(Sections { answer, authority, additional })
}

const HEADER_OCTETS: usize = 12;
const QTYPE_QCLASS_OCTETS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{rcode, rtype};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn record(owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Record {
        Record { owner: name(owner), rtype, class: 1, ttl, rdata: rdata.to_vec() }
    }

    #[test]
    fn what_is_written_is_read_again_and_lives_as_long_as_its_shortest_record() {
        let question = name("www.a.test.");
        let sections = Sections {
            answer: vec![
                record("www.a.test.", rtype::CNAME, 300, b"\x01b\x01a\x04test\0"),
                record("b.a.test.", rtype::A, 20, &[192, 0, 2, 1]),
            ],
            authority: vec![record("a.test.", rtype::NS, 60, b"\x02ns\x01a\x04test\0")],
            additional: vec![record("ns.a.test.", rtype::A, 60, &[192, 0, 2, 53])],
        };
        let mut bare = Answer::empty(rcode::NOERROR, Duration::from_secs(3_600), None);
        bare.secure = true;
        let answer = bare.clone().with_sections(&question, &sections).unwrap();
        assert_eq!(answer.sections(&question).unwrap(), sections);
        assert_eq!((answer.life, answer.secure), (Duration::from_secs(20), false));
        let none = bare.with_sections(&question, &Sections::default()).unwrap();
        assert_eq!(none.life, Duration::from_secs(3_600));
        let mut broken = answer;
        broken.body.truncate(30);
        assert!(broken.sections(&question).is_err());
    }
}
