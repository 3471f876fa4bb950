//! Trust anchors: what is believed to begin with, and what is not to be checked.
//!
//! Pure. The root's two keys are built in; files may bring others, for any name; negative
//! anchors (RFC 7646) switch validation off below a name for a while.

mod text;

use std::collections::{BTreeSet, HashMap};

use ring::digest;

use crate::dns::Name;

use super::keys::{DnsKey, Ds};

pub use text::{AnchorError, algorithm_name, read};

/// All of them. Made anew when the configuration or a key changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    points: HashMap<Name, Point>,
    negative: HashMap<Name, Option<u64>>,
}

/// What is trusted at one name; a key that fits any of it begins a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub ds: Vec<Ds>,
    pub keys: Vec<DnsKey>,
}

/// One anchor as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub name: Name,
    pub trusted: Trusted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    Ds(Ds),
    Key(DnsKey),
}

/// What governs a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closest<'a> {
    Anchor(&'a Name, &'a Point),
    /// Nothing below this name is checked.
    Negative(&'a Name),
    Nothing,
}

/// The root's keys, as IANA publishes them.
#[must_use]
pub fn built_in() -> Vec<Anchor> {
    // What we wrote is read by the tests.
    read(ROOT_KEYS).unwrap_or_default()
}

impl Anchors {
    /// The root's keys alone.
    #[must_use]
    pub fn built_in() -> Self {
        Self::of(built_in())
    }

    #[must_use]
    pub fn of(anchors: impl IntoIterator<Item = Anchor>) -> Self {
        let mut all = Self::default();
        for anchor in anchors {
            all.add(anchor);
        }
        all
    }

    /// Adds one; false if there are [`ANCHORS_MAX`] at its name, or so many names, already.
    pub fn add(&mut self, anchor: Anchor) -> bool {
        let full = self.points.len() >= ANCHORS_MAX && !self.points.contains_key(&anchor.name);
        if full {
            return false;
        }
        let point = self.points.entry(anchor.name).or_default();
        let known = match &anchor.trusted {
            Trusted::Ds(ds) => point.ds.contains(ds),
            Trusted::Key(key) => point.keys.contains(key),
        };
        if known {
            return true;
        }
        if point.ds.len() + point.keys.len() >= ANCHORS_AT_NAME_MAX {
            return false;
        }
        match anchor.trusted {
            Trusted::Ds(ds) => point.ds.push(ds),
            Trusted::Key(key) => point.keys.push(key),
        }
        true
    }

    /// What was trusted at `name` is replaced: RFC 5011 found other keys.
    pub fn replace(&mut self, name: &Name, keys: Vec<DnsKey>) {
        if keys.is_empty() {
            self.points.remove(name);
        } else {
            self.points.insert(name.clone(), Point { ds: Vec::new(), keys });
        }
    }

    /// Nothing at or below `name` is checked, until that second if there is one; false if there
    /// are [`ANCHORS_MAX`] already.
    pub fn add_negative(&mut self, name: Name, until: Option<u64>) -> bool {
        let room = self.negative.len() < ANCHORS_MAX || self.negative.contains_key(&name);
        if room {
            self.negative.insert(name, until);
        }
        room
    }

    /// The anchor nearest above `name`, or the negative one if that is nearer or at the same
    /// name (RFC 7646 section 2).
    #[must_use]
    pub fn closest(&self, name: &Name, now: u64) -> Closest<'_> {
        for suffix in name.suffixes() {
            let at = super::names::from_suffix(suffix);
            let in_force = |until: &Option<u64>| until.is_none_or(|until| now < until);
            if let Some((name, _)) =
                self.negative.get_key_value(&at).filter(|(_, until)| in_force(until))
            {
                return Closest::Negative(name);
            }
            if let Some((name, point)) = self.points.get_key_value(&at) {
                return Closest::Anchor(name, point);
            }
        }
        Closest::Nothing
    }

    /// What is trusted at this very name.
    #[must_use]
    pub fn at(&self, name: &Name) -> Option<&Point> {
        self.points.get(name)
    }

    /// Each name with what is trusted there, in no order.
    pub fn points(&self) -> impl Iterator<Item = (&Name, &Point)> {
        self.points.iter()
    }

    /// Each negative anchor with its end, in no order.
    pub fn negatives(&self) -> impl Iterator<Item = (&Name, Option<u64>)> {
        self.negative.iter().map(|(name, until)| (name, *until))
    }
}

/// SHA-256 over all that is trusted at a name, whatever its order.
pub type Digest = [u8; 32];

impl Point {
    /// What tells this from another: an operator who changes it wants to begin from the new one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let ds = self.ds.iter().map(|ds| {
            let [high, low] = ds.tag.to_be_bytes();
            [&[high, low, ds.algorithm, ds.digest_type][..], &ds.digest].concat()
        });
        let mut all: Vec<Vec<u8>> = ds.chain(self.keys.iter().map(DnsKey::rdata)).collect();
        all.sort_unstable();
        let mut context = digest::Context::new(&digest::SHA256);
        for octets in all {
            // RDATA of 64 KiB at most.
            context.update(&(octets.len() as u32).to_be_bytes());
            context.update(&octets);
        }
        let mut out = Digest::default();
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    /// The tags of all keys it trusts, each once, the smallest first.
    #[must_use]
    pub fn tags(&self) -> Vec<u16> {
        let ds = self.ds.iter().map(|ds| ds.tag);
        let tags: BTreeSet<u16> = ds.chain(self.keys.iter().map(|key| key.tag)).collect();
        tags.into_iter().collect()
    }

    /// Whether this trusts `key` at `name` with our means.
    #[must_use]
    pub fn trusts(&self, name: &Name, key: &DnsKey) -> bool {
        self.keys.contains(key) || self.ds.iter().any(|ds| ds.points_to(name, key))
    }

    /// Whether there is anything here that we can use; else the zone is as good as unsigned.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.keys.iter().any(DnsKey::is_usable) || self.ds.iter().any(Ds::is_usable)
    }
}

/// KSK-2017 and KSK-2024 as in IANA's "Root Zone Trust Anchors"
/// (<https://data.iana.org/root-anchors/root-anchors.xml>).
const ROOT_KEYS: &str = "\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// Names with an anchor, positive or negative. Test rigs have dozens.
pub const ANCHORS_MAX: usize = 4_096;

/// Anchors at one name. A roll-over needs two or three.
pub const ANCHORS_AT_NAME_MAX: usize = 16;

#[cfg(test)]
mod tests;
