//! What validation needs of names beside [`Name`] itself: their canonical order, their labels,
//! their ancestors and wildcards.
//!
//! Pure. Names are lower-cased already, which is their canonical form (RFC 4034 section 6.2).

use std::cmp::Ordering;

use crate::dns::Name;

/// The order of RFC 4034 section 6.1: label by label from the root's end, as unsigned octets; a
/// name comes before what is below it.
pub(super) fn canonical_cmp(a: &Name, b: &Name) -> Ordering {
    let (a, b) = (Labels::of(a), Labels::of(b));
    for depth in 0..a.count.min(b.count) {
        match a.below_root(depth).cmp(b.below_root(depth)) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    a.count.cmp(&b.count)
}

/// How many labels there are, without the root's.
pub(super) fn label_count(name: &Name) -> usize {
    Labels::of(name).count
}

/// The name of the rightmost `count` labels; the name itself if it has no more.
pub(super) fn rightmost(name: &Name, count: usize) -> Name {
    let skip = label_count(name).saturating_sub(count);
    let suffix = name.suffixes().nth(skip).unwrap_or(&[0]);
    from_suffix(suffix)
}

/// One label fewer; the root has no parent.
pub(super) fn parent(name: &Name) -> Option<Name> {
    name.suffixes().nth(1).map(from_suffix)
}

/// `*.name`, if a name can be so long.
pub(super) fn wildcard(name: &Name) -> Option<Name> {
    Name::from_wire(&[b"\x01*", name.as_wire()].concat()).ok()
}

pub(super) fn is_wildcard(name: &Name) -> bool {
    name.as_wire().starts_with(b"\x01*")
}

/// The longest name that both are under.
pub(super) fn common_ancestor(a: &Name, b: &Name) -> Name {
    let (left, right) = (Labels::of(a), Labels::of(b));
    let most = left.count.min(right.count);
    let same = (0..most).take_while(|&at| left.below_root(at) == right.below_root(at)).count();
    rightmost(a, same)
}

/// Whether `name` is below `ancestor` and not it.
pub(super) fn is_below(name: &Name, ancestor: &Name) -> bool {
    name != ancestor && name.is_under(ancestor)
}

/// The name and its ancestors down from one label below `top`, nearest to `top` first.
/// Nothing if `name` is not below `top`.
pub(super) fn path_below(top: &Name, name: &Name) -> Vec<Name> {
    if !is_below(name, top) {
        return Vec::new();
    }
    (label_count(top) + 1..=label_count(name)).map(|count| rightmost(name, count)).collect()
}

/// A suffix of a name is a name.
pub(super) fn from_suffix(suffix: &[u8]) -> Name {
    Name::from_wire(suffix).unwrap_or_else(|_| Name::root())
}

/// Where the labels of a name begin.
struct Labels<'a> {
    wire: &'a [u8],
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl<'a> Labels<'a> {
    fn of(name: &'a Name) -> Self {
        let wire = name.as_wire();
        let mut labels = Self { wire, starts: [0; LABELS_MAX], count: 0 };
        let mut at = 0;
        while wire[at] != 0 && labels.count < LABELS_MAX {
            // A name has at most 255 octets.
            labels.starts[labels.count] = at as u8;
            labels.count += 1;
            at += 1 + usize::from(wire[at]);
        }
        labels
    }

    /// The label that is `depth` labels below the root, without its length octet.
    fn below_root(&self, depth: usize) -> &'a [u8] {
        let start = usize::from(self.starts[self.count - 1 - depth]);
        &self.wire[start + 1..start + 1 + usize::from(self.wire[start])]
    }
}

/// Labels of a name of 255 octets, the root's not counted.
const LABELS_MAX: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn names_stand_in_the_order_of_rfc_4034_section_6_1() {
        let ordered: Vec<Name> = [
            &b"\x07example\0"[..],
            b"\x01a\x07example\0",
            b"\x08yljkjljk\x01a\x07example\0",
            b"\x01Z\x01a\x07example\0",
            b"\x04zABC\x01a\x07EXAMPLE\0",
            b"\x01z\x07example\0",
            b"\x01\x01\x01z\x07example\0",
            b"\x01*\x01z\x07example\0",
            b"\x01\xc8\x01z\x07example\0",
        ]
        .iter()
        .map(|wire| Name::from_wire(wire).unwrap())
        .collect();
        for (at, a) in ordered.iter().enumerate() {
            for (other, b) in ordered.iter().enumerate() {
                assert_eq!(canonical_cmp(a, b), at.cmp(&other), "{a} {b}");
            }
        }
        assert_eq!(canonical_cmp(&Name::root(), &name("a.")), Ordering::Less);
    }

    #[test]
    fn a_name_is_cut_from_the_left() {
        let long = name("a.b.c.test.");
        assert_eq!(label_count(&long), 4);
        assert_eq!(label_count(&Name::root()), 0);
        assert_eq!(rightmost(&long, 2), name("c.test."));
        assert_eq!(rightmost(&long, 0), Name::root());
        assert_eq!(rightmost(&long, 9), long);
        assert_eq!(parent(&long), Some(name("b.c.test.")));
        assert_eq!(parent(&name("test.")), Some(Name::root()));
        assert_eq!(parent(&Name::root()), None);
    }

    #[test]
    fn two_names_meet_at_their_longest_common_ancestor() {
        assert_eq!(common_ancestor(&name("a.b.test."), &name("x.b.test.")), name("b.test."));
        assert_eq!(common_ancestor(&name("b.test."), &name("x.b.test.")), name("b.test."));
        assert_eq!(common_ancestor(&name("ab.test."), &name("b.test.")), name("test."));
        assert_eq!(common_ancestor(&name("a.org."), &name("a.net.")), Name::root());
    }

    #[test]
    fn the_path_down_leaves_out_its_top() {
        let path = path_below(&name("test."), &name("a.b.test."));
        assert_eq!(path, [name("b.test."), name("a.b.test.")]);
        assert_eq!(path_below(&Name::root(), &name("test.")), [name("test.")]);
        assert!(path_below(&name("test."), &name("test.")).is_empty());
        assert!(path_below(&name("other."), &name("a.test.")).is_empty());
    }

    #[test]
    fn the_longest_name_has_no_wildcard_below_it() {
        let long = [&[63u8][..], &[b'a'; 63]].concat().repeat(3);
        let long = [long, [&[61u8][..], &[b'a'; 61], &[0]].concat()].concat();
        let long = Name::from_wire(&long).unwrap();
        assert_eq!(wildcard(&long), None);
        assert!(is_wildcard(&wildcard(&name("test.")).unwrap()));
    }
}
