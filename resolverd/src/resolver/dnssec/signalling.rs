//! Telling a zone which of its keys are trusted here (RFC 8145).
//!
//! Pure: makes the name to ask for. The operators of the zone learn from such questions whether
//! resolvers have taken up a new key before they retire the old one. Only the question of section
//! 5; the EDNS option of section 4 goes with questions for DNSKEY, and says the same.

use crate::dns::Name;

/// `_ta-4f66-9728.` and the zone: section 5.1. None: nothing is trusted, or no name can be made.
#[must_use]
pub fn name(zone: &Name, tags: &[u16]) -> Option<Name> {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    tags.truncate(TAGS_MAX);
    if tags.is_empty() {
        return None;
    }
    let label = tags.iter().fold("_ta".to_owned(), |label, tag| format!("{label}-{tag:04x}"));
    // TAGS_MAX of them fit a label.
    let wire = [&[label.len() as u8], label.as_bytes(), zone.as_wire()].concat();
    Name::from_wire(&wire).ok()
}

/// The type that is asked for (RFC 1035 section 3.3.10).
pub const NULL: u16 = 10;

/// Of one question: a label has 63 octets.
const TAGS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(zone: &str, tags: &[u16]) -> Option<String> {
        name(&zone.parse().unwrap(), tags).map(|name| name.to_string())
    }

    #[test]
    fn tags_stand_in_the_first_label_in_hexadecimal_the_smallest_first() {
        assert_eq!(of(".", &[38_696, 20_326]).unwrap(), "_ta-4f66-9728.");
        assert_eq!(of("example.com.", &[5, 5]).unwrap(), "_ta-0005.example.com.");
        assert_eq!(of(".", &[]), None);
    }

    #[test]
    fn a_name_is_made_only_where_it_fits() {
        let many: Vec<u16> = (0..40).collect();
        let label = of(".", &many).unwrap();
        assert_eq!(label.len(), "_ta".len() + 12 * 5 + ".".len());
        let long = format!("{0}.{0}.{0}.{0}.", "a".repeat(61));
        assert_eq!(of(&long, &[1]), None);
    }
}
