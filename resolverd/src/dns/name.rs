//! A domain name in lower-cased wire form.

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::Name as HickoryName;

/// An absolute, uncompressed, lower-cased name in wire form: at most 255 octets with the root's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why a text or a run of octets is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("`{0}` is not a domain name: {1}")]
    Text(String, String),
    #[error("these octets are not one whole uncompressed name (RFC 1035 section 3.1)")]
    Wire,
}

impl Name {
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads a wire name that fills `wire` to its end. Letters are lower-cased.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        if wire.len() > 255 {
            return Err(NameError::Wire);
        }
        let mut at = 0;
        loop {
            match wire.get(at) {
                Some(0) if at + 1 == wire.len() => {
                    return Ok(Self(wire.to_ascii_lowercase().into()));
                }
                Some(&len) if (1..=63).contains(&len) => at += 1 + usize::from(len),
                _ => return Err(NameError::Wire),
            }
        }
    }

    /// The wire form, the root's octet included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is `zone` or below it.
    #[must_use]
    pub fn is_under(&self, zone: &Self) -> bool {
        self.suffixes().any(|suffix| suffix == &*zone.0)
    }

    /// The name itself, then each of its parents, down to the root; in wire form.
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = Some(0);
        std::iter::from_fn(move || {
            let from = at?;
            let len = usize::from(self.0[from]);
            at = (len > 0).then_some(from + 1 + len);
            Some(&self.0[from..])
        })
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads presentation format (RFC 1035 section 5.1); a missing last dot is added.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |e: String| NameError::Text(text.to_owned(), e);
        let mut name = HickoryName::from_ascii(text).map_err(|e| fail(e.to_string()))?;
        name.set_fqdn(true);
        Ok(Self::from(&name))
    }
}

impl From<&HickoryName> for Name {
    fn from(name: &HickoryName) -> Self {
        let mut wire = Vec::with_capacity(name.len() + 1);
        for label in name.iter() {
            // A label of a parsed name has 1 to 63 octets.
            wire.push(label.len() as u8);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        Self(wire.into())
    }
}

impl From<&Name> for HickoryName {
    fn from(name: &Name) -> Self {
        let mut labels = Vec::new();
        let mut at = 0;
        while name.0[at] != 0 {
            let end = at + 1 + usize::from(name.0[at]);
            labels.push(&name.0[at + 1..end]);
            at = end;
        }
        let mut out = Self::from_labels(labels).unwrap_or_else(|_| Self::root());
        out.set_fqdn(true);
        out
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HickoryName::from(self).to_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_wire_are_two_forms_of_one_name() {
        let name: Name = "WWW.Example.test".parse().unwrap();
        assert_eq!(name.as_wire(), b"\x03www\x07example\x04test\0");
        assert_eq!(Name::from_wire(name.as_wire()).unwrap(), name);
        assert_eq!(name.to_string(), "www.example.test.");
        assert_eq!(Name::root().to_string(), ".");
    }

    #[test]
    fn a_name_is_under_itself_its_parents_and_the_root_but_not_a_lookalike() {
        let name: Name = "a.b.test.".parse().unwrap();
        for zone in ["a.b.test.", "b.test.", "test.", "."] {
            assert!(name.is_under(&zone.parse().unwrap()), "{zone}");
        }
        for zone in ["c.test.", "x.a.b.test.", "est."] {
            assert!(!name.is_under(&zone.parse().unwrap()), "{zone}");
        }
    }

    #[test]
    fn octets_that_are_no_whole_name_are_refused() {
        for wire in [&b""[..], b"\x03ww", b"\xc0\x0c", b"\x01a", b"\0\0", &[1; 300]] {
            assert_eq!(Name::from_wire(wire), Err(NameError::Wire));
        }
    }
}
