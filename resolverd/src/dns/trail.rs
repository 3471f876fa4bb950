//! Which servers led to an answer: zone cuts, each with those above it.
//!
//! Plain data. Recursion leaves a trail while somebody wants it; policy looks at the servers on
//! it. An answer of a forwarder has none: nobody knows whom it asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;

use super::Name;

/// A zone and who serves it.
#[derive(Debug)]
pub struct Cut {
    pub zone: Name,
    pub servers: Vec<NameServer>,
    /// The cut whose servers led to this one, if trails are left.
    above: Option<Arc<Self>>,
    /// Addresses that servers were found to have which came without.
    found: RwLock<Vec<IpAddr>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    pub name: Name,
    /// Addresses that came along. Empty: they have to be asked for.
    pub addresses: Vec<SocketAddr>,
}

/// The nearest cut of each name on the way to an answer, the question's own first. None: that
/// name was not asked for from the root down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(Vec<(Name, Option<Arc<Cut>>)>);

impl Cut {
    #[must_use]
    pub fn new(zone: Name, servers: Vec<NameServer>) -> Self {
        Self { zone, servers, above: None, found: RwLock::default() }
    }

    /// The same cut, below another.
    #[must_use]
    pub fn below(self, above: Arc<Self>) -> Self {
        Self { above: Some(above), ..self }
    }

    /// Notes addresses of its servers that were asked for.
    pub fn note_found(&self, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            let full = |found: &Vec<IpAddr>| found.len() >= FOUND_MAX || found.contains(&address);
            if !full(&self.found.read()) {
                let mut found = self.found.write();
                if !full(&found) {
                    found.push(address);
                }
            }
        }
    }

    /// Addresses of its servers, as far as they are known.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let came = self.servers.iter().flat_map(|server| &server.addresses);
        came.map(SocketAddr::ip).chain(self.found.read().iter().copied()).collect()
    }

    /// This cut and those above it.
    pub fn upwards(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |cut| cut.above.as_deref())
    }

    /// The memory it takes, without those above it.
    #[must_use]
    pub fn octets(&self) -> usize {
        let server =
            |s: &NameServer| size_of_val(s) + s.name.as_wire().len() + size_of_val(&*s.addresses);
        size_of::<Self>() + self.servers.iter().map(server).sum::<usize>()
    }
}

/// Those that say the same are the same: how one came to them is another matter.
impl PartialEq for Cut {
    fn eq(&self, other: &Self) -> bool {
        self.zone == other.zone && self.servers == other.servers
    }
}

impl Eq for Cut {}

impl Trail {
    /// Of one name.
    #[must_use]
    pub fn of(name: Name, cut: Arc<Cut>) -> Self {
        Self(vec![(name, Some(cut))])
    }

    pub fn push(&mut self, name: Name, cut: Option<Arc<Cut>>) {
        self.0.push((name, cut));
    }

    /// The cut of its first name.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<Cut>> {
        self.0.first()?.1.as_ref()
    }

    /// The cut of the last of `names`, which follow each other as aliases do: one that a server
    /// gave together with the alias before it has that one's.
    #[must_use]
    pub fn cut_of(&self, names: &[Name]) -> Option<&Arc<Cut>> {
        let of = |name: &Name| self.0.iter().find(|(at, _)| at == name);
        match names.iter().rev().find_map(of) {
            Some((_, cut)) => cut.as_ref(),
            // A denial of a name above the question's stands for it.
            None => self.first(),
        }
    }
}

/// Addresses noted for one zone: more than one question puts to it.
const FOUND_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn cut(zone: &str, server: [u8; 4], above: Option<&Arc<Cut>>) -> Arc<Cut> {
        let addresses = vec![SocketAddr::from((server, 53))];
        let server = NameServer { name: name(&format!("ns.{zone}")), addresses };
        let cut = Cut::new(name(zone), vec![server]);
        Arc::new(match above {
            Some(above) => cut.below(Arc::clone(above)),
            None => cut,
        })
    }

    #[test]
    fn a_cut_has_those_above_it_and_what_was_found_of_its_servers() {
        let test = cut("test.", [192, 0, 2, 1], None);
        let a = cut("a.test.", [192, 0, 2, 2], Some(&test));
        let zones: Vec<String> = a.upwards().map(|cut| cut.zone.to_string()).collect();
        assert_eq!(zones, ["a.test.", "test."]);
        let found: IpAddr = "2001:db8::2".parse().unwrap();
        a.note_found([found, found].into_iter());
        assert_eq!(a.addresses(), ["192.0.2.2".parse().unwrap(), found]);
        a.note_found((0..=255).map(|last| IpAddr::from([10, 0, 0, last])));
        assert_eq!(a.addresses().len(), 1 + FOUND_MAX);
        assert_eq!(a, cut("a.test.", [192, 0, 2, 2], None), "the same, however one came to it");
    }

    #[test]
    fn each_name_of_a_chain_has_its_own_cut_or_the_one_before_it() {
        let (a, b) = (cut("a.test.", [192, 0, 2, 1], None), cut("b.test.", [192, 0, 2, 2], None));
        let mut trail = Trail::of(name("www.a.test."), Arc::clone(&a));
        trail.push(name("www.b.test."), Some(Arc::clone(&b)));
        trail.push(name("forwarded.test."), None);
        let names: Vec<Name> =
            ["www.a.test.", "mid.a.test.", "www.b.test.", "forwarded.test.", "x.forwarded.test."]
                .map(name)
                .to_vec();
        let of = |n: usize| trail.cut_of(&names[..n]).map(|cut| cut.zone.to_string());
        let zone = |text: &str| Some(text.to_owned());
        assert_eq!([of(1), of(2), of(3)], [zone("a.test."), zone("a.test."), zone("b.test.")]);
        assert_eq!([of(4), of(5)], [None, None]);
        assert_eq!(trail.cut_of(&[name("below.www.a.test.")]), Some(&a));
        assert_eq!(Trail::default().cut_of(&names), None);
    }
}
