//! A table from names to numbers that holds millions in little memory.
//!
//! Pure. All names stand one behind the other in one run of octets, and a table of open
//! addressing says where: a name takes its own octets, five more, and four to eight for its
//! place. A copy is two copies of memory, which is how a changed table is made beside the one in
//! use. Names are lower-cased and in wire form, as [`Name`](crate::dns::Name) has them.

use std::hash::{BuildHasher as _, RandomState};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    /// `[length] [name] [number]`, one entry behind the other.
    arena: Vec<u8>,
    /// [`FREE`], [`GONE`], or a place in `arena` and [`FIRST`]. A power of two of them, or none.
    slots: Vec<u32>,
    live: usize,
    /// Slots that are not free.
    used: usize,
    /// Octets of `arena` that nobody points at.
    dead: usize,
    hasher: RandomState,
}

/// There is no room for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {NAMES_OCTETS_MAX} octets of names")]
pub struct Full;

impl NameTable {
    /// The number of a name.
    #[must_use]
    pub fn find(&self, wire: &[u8]) -> Option<u32> {
        let slot = self.slot_of(wire)?;
        self.number(self.slots[slot])
    }

    /// Gives a name a number. Says which one it had.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn insert(&mut self, wire: &[u8], number: u32) -> Result<Option<u32>, Full> {
        debug_assert!(wire.len() <= 255, "a name has at most 255 octets");
        if let Some(slot) = self.slot_of(wire) {
            let before = self.number(self.slots[slot]);
            let at = (self.slots[slot] - FIRST) as usize + 1 + wire.len();
            self.arena[at..at + 4].copy_from_slice(&number.to_ne_bytes());
            return Ok(before);
        }
        if self.arena.len() + wire.len() + AROUND > NAMES_OCTETS_MAX {
            return Err(Full);
        }
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.resize();
        }
        let place = self.arena.len() as u32 + FIRST;
        self.arena.push(wire.len() as u8);
        self.arena.extend_from_slice(wire);
        self.arena.extend_from_slice(&number.to_ne_bytes());
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(wire) & mask;
        while self.slots[slot] > GONE {
            slot = (slot + 1) & mask;
        }
        self.used += usize::from(self.slots[slot] == FREE);
        self.slots[slot] = place;
        self.live += 1;
        Ok(None)
    }

    /// Takes a name out. Says which number it had.
    pub fn remove(&mut self, wire: &[u8]) -> Option<u32> {
        let slot = self.slot_of(wire)?;
        let number = self.number(self.slots[slot]);
        self.slots[slot] = GONE;
        self.live -= 1;
        self.dead += wire.len() + AROUND;
        number
    }

    /// Gives back what is not in use, where that is worth a walk.
    pub fn tidy(&mut self) {
        if self.dead * 2 > self.arena.len() {
            let mut new = Self { hasher: self.hasher.clone(), ..Self::default() };
            for (wire, number) in self.iter() {
                // It fitted before.
                let _ = new.insert(wire, number);
            }
            *self = new;
        }
        self.arena.shrink_to_fit();
    }

    /// Each name and its number, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let places = self.slots.iter().filter(|&&slot| slot > GONE);
        places.filter_map(|&slot| Some((self.name(slot)?, self.number(slot)?)))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The memory it takes, in octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.arena.capacity() + self.slots.capacity() * 4
    }

    fn slot_of(&self, wire: &[u8]) -> Option<usize> {
        if self.live == 0 {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(wire) & mask;
        // A quarter of the slots is free, so that there is an end to it.
        loop {
            match self.slots[slot] {
                FREE => return None,
                GONE => {}
                place if self.name(place) == Some(wire) => return Some(slot),
                _ => {}
            }
            slot = (slot + 1) & mask;
        }
    }

    fn hash(&self, wire: &[u8]) -> usize {
        self.hasher.hash_one(wire) as usize
    }

    fn name(&self, slot: u32) -> Option<&[u8]> {
        let at = slot.checked_sub(FIRST)? as usize;
        let len = usize::from(*self.arena.get(at)?);
        self.arena.get(at + 1..at + 1 + len)
    }

    fn number(&self, slot: u32) -> Option<u32> {
        let at = slot.checked_sub(FIRST)? as usize;
        let len = usize::from(*self.arena.get(at)?);
        self.arena.get(at + 1 + len..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
    }

    fn resize(&mut self) {
        let room = ((self.live + 1) * 2).next_power_of_two().max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![FREE; room]);
        let mask = room - 1;
        for place in old.into_iter().filter(|&place| place > GONE) {
            let Some(wire) = self.name(place) else { continue };
            let mut slot = self.hash(wire) & mask;
            while self.slots[slot] != FREE {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = place;
        }
        self.used = self.live;
    }
}

const FREE: u32 = 0;
const GONE: u32 = 1;
const FIRST: u32 = 2;
const SLOTS_MIN: usize = 16;
/// Length and number of an entry.
const AROUND: usize = 5;

/// Octets of all names of a table: some forty million names, and what a place can point at.
pub const NAMES_OCTETS_MAX: usize = 1 << 30;

const _: () = assert!(NAMES_OCTETS_MAX < u32::MAX as usize - FIRST as usize);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::dns::Name;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in proptest::collection::vec((0..40_u16, 0..4_u8), 400)) {
            let (mut table, mut map) = (NameTable::default(), HashMap::new());
            for (n, (name, step)) in steps.into_iter().enumerate() {
                let name: Name = format!("n{name}.test.").parse().unwrap();
                let wire = name.as_wire();
                match step {
                    0 => prop_assert_eq!(table.remove(wire), map.remove(wire)),
                    1 => table.tidy(),
                    _ => {
                        let before = map.insert(wire.to_vec(), n as u32);
                        prop_assert_eq!(table.insert(wire, n as u32), Ok(before));
                    }
                }
                prop_assert_eq!(table.find(wire), map.get(wire).copied());
                prop_assert_eq!(table.len(), map.len());
            }
            let all: HashMap<Vec<u8>, u32> =
                table.iter().map(|(wire, number)| (wire.to_vec(), number)).collect();
            prop_assert_eq!(all, map);
        }
    }

    #[test]
    fn a_name_takes_little_more_than_its_octets() {
        let mut table = NameTable::default();
        let mut octets = 0;
        for n in 0..100_000 {
            let name: Name = format!("host{n}.example.test.").parse().unwrap();
            octets += name.as_wire().len();
            table.insert(name.as_wire(), n).unwrap();
        }
        table.tidy();
        let each = (table.octets() - octets) / 100_000;
        assert!(each <= 5 + 16, "{each} octets around each name");
        assert_eq!(table.find(b"\x09host99999\x07example\x04test\0"), Some(99_999));
        assert_eq!(NameTable::default().find(b"\0"), None);
    }
}
