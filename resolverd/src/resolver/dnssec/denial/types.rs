//! The types that a name has: the bitmap of NSEC and NSEC3 (RFC 4034 section 4.1.2).

/// A bitmap that was found well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types(Vec<u8>);

impl Types {
    /// None if a window is empty, too long, cut short or out of order.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        let mut rest = octets;
        let mut last = None;
        while let [window, len, after @ ..] = rest {
            let in_order = last.is_none_or(|last| last < *window);
            if !in_order || !(1..=32).contains(len) {
                return None;
            }
            last = Some(*window);
            rest = after.get(usize::from(*len)..)?;
        }
        rest.is_empty().then(|| Self(octets.to_vec()))
    }

    #[must_use]
    pub fn has(&self, rtype: u16) -> bool {
        let [wanted, bit] = rtype.to_be_bytes();
        let mut rest = self.0.as_slice();
        while let [window, len, after @ ..] = rest {
            let (map, next) = after.split_at(usize::from(*len));
            if *window == wanted {
                let octet = map.get(usize::from(bit / 8)).copied().unwrap_or(0);
                return octet & (0x80 >> (bit % 8)) != 0;
            }
            rest = next;
        }
        false
    }

    /// Whether there is no type but of these.
    #[must_use]
    pub fn only(&self, known: &[u16]) -> bool {
        let mut count = 0;
        let mut rest = self.0.as_slice();
        while let [_, len, after @ ..] = rest {
            let (map, next) = after.split_at(usize::from(*len));
            count += map.iter().map(|octet| octet.count_ones()).sum::<u32>();
            rest = next;
        }
        count == known.iter().map(|rtype| u32::from(self.has(*rtype))).sum::<u32>()
    }

    /// A bitmap of these types.
    #[cfg(test)]
    pub(in super::super) fn of(types: &[u16]) -> Self {
        let mut windows = std::collections::BTreeMap::<u8, Vec<u8>>::new();
        for rtype in types {
            let [window, bit] = rtype.to_be_bytes();
            let map = windows.entry(window).or_default();
            let at = usize::from(bit / 8);
            map.resize(map.len().max(at + 1), 0);
            map[at] |= 0x80 >> (bit % 8);
        }
        let octets = windows
            .iter()
            .flat_map(|(window, map)| [&[*window, map.len() as u8][..], map].concat());
        Self(octets.collect())
    }

    #[cfg(test)]
    pub(in super::super) fn octets(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_has_the_types_of_rfc_4034_section_4_3() {
        // A MX RRSIG NSEC TYPE1234
        let mut octets = vec![0, 6, 0x40, 1, 0, 0, 0, 3, 4, 27];
        octets.extend([0; 26]);
        octets.push(0x20);
        let types = Types::read(&octets).unwrap();
        for rtype in 0..=u16::MAX {
            assert_eq!(types.has(rtype), [1, 15, 46, 47, 1234].contains(&rtype), "{rtype}");
        }
        assert_eq!(Types::of(&[1, 15, 46, 47, 1234]).0, octets);
        assert!(types.only(&[1, 2, 15, 46, 47, 1234]) && !types.only(&[1, 15, 46, 47]));
    }

    #[test]
    fn a_bitmap_that_is_malformed_is_none() {
        for octets in [
            &[0][..],
            &[0, 0],
            &[0, 33],
            &[0, 2, 1],
            &[1, 1, 1, 0, 1, 1],
            &[1, 1, 1, 1, 1, 1],
            &[0, 1, 0x40, 9],
        ] {
            assert_eq!(Types::read(octets), None, "{octets:?}");
        }
        assert!(!Types::read(&[]).unwrap().has(1), "no types at all (RFC 5155 section 7.1)");
    }
}
