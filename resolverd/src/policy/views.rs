//! Which view a client is in: clients that are answered differently, by prefix and transport.
//!
//! Pure. Of the views that take a client's transport, the one with the most specific prefix
//! decides. A view is a number in the key of every answer; one that changes no answer has the
//! number of everybody's view, so that it keeps no answers of its own.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use ipnet::IpNet;

pub use crate::config::{Access, Way};

use super::acl::{Acl, Verdict};
use super::prefixes::Prefixes;

/// The number of a view, as it stands in keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u16);

impl ViewId {
    /// The view of clients that are in no other.
    pub const EVERYBODY: Self = Self(0);
    /// Answers as they came, for clients that a rule exempts from policy zones. In no map of the
    /// kernel, and never the number of a configured view.
    pub const EXEMPT: Self = Self(u16::MAX);
}

/// A view as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSpec {
    pub name: String,
    pub clients: Vec<IpNet>,
    /// Empty: all of them.
    pub ways: Vec<Way>,
    pub access: Access,
    /// A digest of what its clients are answered differently; none: nothing.
    pub differs: Option<u64>,
}

/// All views.
#[derive(Clone, Debug, Default)]
pub struct Views {
    views: Vec<View>,
    by_prefix: Prefixes<Vec<usize>>,
}

/// One view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub name: String,
    pub id: ViewId,
    pub access: Access,
    /// None: all of them.
    ways: Option<Vec<Way>>,
}

/// What a client is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    pub verdict: Verdict,
    pub view: ViewId,
}

impl Views {
    /// The numbers of views come from what they say, so that a changed view has another one and
    /// finds none of the answers from before.
    #[must_use]
    pub fn build(specs: &[ViewSpec]) -> Self {
        let mut views = Self::default();
        for spec in specs.iter().take(VIEWS_MAX) {
            let id = spec.differs.map_or(ViewId::EVERYBODY, |digest| views.number(spec, digest));
            let at = views.views.len();
            views.views.push(View {
                name: spec.name.clone(),
                id,
                access: spec.access,
                ways: (!spec.ways.is_empty()).then(|| spec.ways.clone()),
            });
            for prefix in &spec.clients {
                views.by_prefix.entry(*prefix, Vec::new).push(at);
            }
        }
        views
    }

    fn number(&self, spec: &ViewSpec, digest: u64) -> ViewId {
        let mut hasher = DefaultHasher::new();
        (&spec.name, digest).hash(&mut hasher);
        let mut id = ViewId(hasher.finish() as u16);
        // There are far fewer views than numbers.
        while [ViewId::EVERYBODY, ViewId::EXEMPT].contains(&id)
            || self.views.iter().any(|view| view.id == id)
        {
            id = ViewId(id.0.wrapping_add(1));
        }
        id
    }

    /// The view of a client that came this way.
    #[must_use]
    pub fn find(&self, client: IpAddr, way: Way) -> Option<&View> {
        if self.by_prefix.is_empty() {
            return None;
        }
        let mut around = self.by_prefix.around(client);
        around.find_map(|(_, views)| self.taking(views, way))
    }

    fn covering(&self, prefix: IpNet, way: Way) -> Option<&View> {
        let mut covering = self.by_prefix.covering(prefix);
        covering.find_map(|(_, views)| self.taking(views, way))
    }

    fn taking(&self, views: &[usize], way: Way) -> Option<&View> {
        let mut views = views.iter().filter_map(|at| self.views.get(*at));
        views.find(|view| view.takes(way))
    }

    /// Whether clients in this view can come over UDP, so that the kernel may answer them.
    #[must_use]
    pub fn is_for_datagrams(&self, id: ViewId) -> bool {
        id == ViewId::EVERYBODY
            || self.views.iter().any(|view| view.id == id && view.takes(Way::Udp))
    }

    #[must_use]
    pub fn name(&self, id: ViewId) -> Option<&str> {
        self.views.iter().find(|view| view.id == id).map(|view| view.name.as_str())
    }

    /// The number of a view by its name. None: there is none of that name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ViewId> {
        self.views.iter().find(|view| view.name == name).map(|view| view.id)
    }

    /// What a client is to us, by access list and views.
    #[must_use]
    pub fn admit(&self, acl: &Acl, client: IpAddr, way: Way) -> Admission {
        let view = self.find(client, way);
        admission(view, || acl.verdict(client))
    }

    /// The same for whole prefixes and datagrams, for the kernel: the most specific one decides,
    /// and each has all that holds for it. `apart` are clients that the daemon alone answers.
    #[must_use]
    pub fn prefixes(
        &self,
        acl: &Acl,
        apart: impl IntoIterator<Item = IpNet>,
    ) -> Vec<(IpNet, Admission)> {
        let mut alone = Prefixes::default();
        for prefix in apart {
            alone.entry(prefix, || ());
        }
        let all = acl.prefixes().map(|(prefix, _)| prefix);
        let all = all.chain(self.by_prefix.iter().map(|(prefix, _)| *prefix));
        let mut all: Vec<IpNet> = all.chain(alone.iter().map(|(prefix, ())| *prefix)).collect();
        all.sort_unstable();
        all.dedup();
        let admit = |prefix: &IpNet| {
            let view = self.covering(*prefix, Way::Udp);
            let mut admission = admission(view, || acl.verdict_of(*prefix));
            if alone.covering(*prefix).next().is_some() {
                admission.verdict = Verdict::Refuse;
            }
            (*prefix, admission)
        };
        all.iter().map(admit).collect()
    }
}

impl View {
    fn takes(&self, way: Way) -> bool {
        self.ways.as_ref().is_none_or(|ways| ways.contains(&way))
    }
}

fn admission(view: Option<&View>, acl: impl FnOnce() -> Verdict) -> Admission {
    let verdict = match view.map(|view| view.access) {
        Some(Access::Allow) => Verdict::Allow,
        Some(Access::Refuse) => Verdict::Refuse,
        Some(Access::Acl) | None => acl(),
    };
    Admission { verdict, view: view.map_or(ViewId::EVERYBODY, |view| view.id) }
}

/// Far fewer than there are numbers for, and as many as anybody can keep apart.
pub const VIEWS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn spec(name: &str, clients: &[&str], ways: &[Way], differs: Option<u64>) -> ViewSpec {
        ViewSpec {
            name: name.into(),
            clients: nets(clients),
            ways: ways.to_vec(),
            access: Access::Acl,
            differs,
        }
    }

    fn name_of(views: &Views, client: &str, way: Way) -> String {
        let view = views.find(client.parse().unwrap(), way);
        view.map_or_else(|| "-".into(), |view| view.name.clone())
    }

    #[test]
    fn the_most_specific_prefix_of_the_views_that_take_the_transport_decides() {
        let views = Views::build(&[
            spec("wide", &["10.0.0.0/8", "2001:db8::/32"], &[], Some(1)),
            spec("narrow", &["10.1.0.0/16"], &[Way::Tcp, Way::Tls], Some(2)),
            spec("inner", &["10.1.0.0/16", "10.1.2.0/24"], &[Way::Udp], Some(3)),
        ]);
        for (client, way, name) in [
            ("10.9.9.9", Way::Udp, "wide"),
            ("10.1.9.9", Way::Udp, "inner"),
            ("10.1.9.9", Way::Tcp, "narrow"),
            ("10.1.9.9", Way::Quic, "wide"),
            ("10.1.2.9", Way::Udp, "inner"),
            ("10.1.2.9", Way::Tls, "narrow"),
            ("::ffff:10.1.2.9", Way::Udp, "inner"),
            ("2001:db8::1", Way::Https, "wide"),
            ("192.0.2.1", Way::Udp, "-"),
        ] {
            assert_eq!(name_of(&views, client, way), name, "{client} {way:?}");
        }
        let id = |name| views.id(name).unwrap();
        assert!(views.is_for_datagrams(id("wide")) && views.is_for_datagrams(id("inner")));
        assert!(!views.is_for_datagrams(id("narrow")));
        assert!(views.is_for_datagrams(ViewId::EVERYBODY));
        assert!(!views.is_for_datagrams(ViewId::EXEMPT));
    }

    #[test]
    fn a_view_that_changes_nothing_is_everybodys_and_others_have_numbers_of_their_own() {
        let build = |digests: [Option<u64>; 3]| {
            let names = ["a", "b", "c"];
            let specs: Vec<ViewSpec> =
                names.iter().zip(digests).map(|(n, d)| spec(n, &["10.0.0.0/8"], &[], d)).collect();
            let views = Views::build(&specs);
            names.map(|name| views.id(name).unwrap())
        };
        let [a, b, c] = build([None, Some(7), Some(7)]);
        assert_eq!(a, ViewId::EVERYBODY);
        assert!(b != c && b != ViewId::EVERYBODY && c != ViewId::EVERYBODY);
        // The same again, and another one for a view that says something else.
        let [_, same, other] = build([Some(1), Some(7), Some(8)]);
        assert_eq!(b, same);
        assert_ne!(c, other);
    }

    #[test]
    fn the_kernels_list_says_for_each_prefix_what_the_daemon_says_for_its_clients() {
        let acl = Acl::new(&nets(&["10.0.0.0/8", "192.0.2.0/24"]), &nets(&["10.1.2.0/24"]));
        let acl = acl.unwrap();
        let mut guests = spec("guests", &["203.0.113.0/24"], &[], None);
        guests.access = Access::Allow;
        let mut shut = spec("shut", &["192.0.2.128/25"], &[Way::Udp], None);
        shut.access = Access::Refuse;
        let office = spec("office", &["10.1.0.0/16"], &[Way::Udp], Some(1));
        let streams = spec("streams", &["10.2.0.0/16"], &[Way::Tcp], Some(2));
        let views = Views::build(&[guests, shut, office, streams]);
        let apart = nets(&["10.1.7.0/24"]);
        let list = views.prefixes(&acl, apart.clone());
        let told = |client: IpAddr| {
            let inside = list.iter().filter(|(prefix, _)| prefix.contains(&client));
            let best = inside.max_by_key(|(prefix, _)| prefix.prefix_len());
            best.map(|(_, admission)| *admission)
        };
        for text in [
            "10.0.0.1",
            "10.1.0.1",
            "10.1.2.3",
            "10.1.3.3",
            "10.2.0.1",
            "10.9.0.1",
            "192.0.2.1",
            "192.0.2.129",
            "203.0.113.9",
        ] {
            let client = text.parse().unwrap();
            assert_eq!(told(client), Some(views.admit(&acl, client, Way::Udp)), "{text}");
        }
        assert_eq!(told("198.51.100.1".parse().unwrap()), None);
        // The daemon serves them, and the kernel never does.
        let apart = "10.1.7.1".parse().unwrap();
        assert_eq!(told(apart).unwrap().verdict, Verdict::Refuse);
        assert_eq!(views.admit(&acl, apart, Way::Udp).verdict, Verdict::Allow);
        let streams = views.admit(&acl, "192.0.2.129".parse().unwrap(), Way::Tcp);
        assert_eq!(streams.verdict, Verdict::Allow, "the view is for datagrams alone");
    }
}
