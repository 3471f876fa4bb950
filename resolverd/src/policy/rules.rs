//! All rules that stand in the configuration, as one: who may ask, and what he is told.
//!
//! Pure. `[[zone]]`s go first, then files of hosts, then the zones that are built in. Policy
//! zones come after them and are [`Rpz`](super::rpz::Rpz)'s: an operator's own word goes before
//! a feed's.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::dns::{Name, Query};
use crate::metrics::PolicyRule;

use super::acl::Acl;
use super::builtin;
use super::dns64::Dns64;
use super::hosts::Hosts;
use super::local_zones::{Found, LocalZones, ZoneError, ZoneKind, ZoneSpec};
use super::rebinding::Rebinding;
use super::rpz::{self, Kind};
use super::said::Said;
use super::views::{Admission, ViewId, ViewSpec, Views, Way};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub acl: Acl,
    pub views: Views,
    zones: LocalZones,
    hosts: Arc<Hosts>,
    builtin: LocalZones,
    pub rebinding: Rebinding,
    pub dns64: Option<Dns64>,
}

/// What rules are made of.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub acl: Acl,
    /// Their digests are made here.
    pub views: Vec<ViewSpec>,
    pub zones: Vec<ZoneSpec>,
    pub hosts: Arc<Hosts>,
    /// Zones that others are asked for; none: built-in zones are off.
    pub builtin: Option<Vec<Name>>,
    pub rebinding: Rebinding,
    pub dns64: Option<Dns64>,
    /// Names of the views that have policy zones of their own, with the names of these.
    pub rpz_views: Vec<(String, String)>,
}

/// Something that was said, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub said: Said,
    pub rule: Rule,
    /// Whether it is to be told.
    pub log: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    Zone {
        zone: Name,
        kind: ZoneKind,
    },
    Hosts,
    Builtin(Name),
    Rpz(rpz::Hit),
    /// The reverse tree of DNS64.
    Dns64,
}

impl Rules {
    /// # Errors
    ///
    /// What is wrong with a zone.
    pub fn build(spec: Spec) -> Result<Self, ZoneError> {
        let Spec { acl, mut views, zones, hosts, builtin, rebinding, dns64, rpz_views } = spec;
        for view in &mut views {
            view.differs = digest(&view.name, &zones, &rpz_views);
        }
        let views = Views::build(&views);
        let built = builtin.map_or_else(Vec::new, |mut others| {
            others.extend(zones.iter().map(|zone| zone.name.clone()));
            others.sort_unstable();
            others.dedup();
            builtin::zones(&others)
        });
        Ok(Self {
            zones: LocalZones::build(&zones, &views)?,
            builtin: LocalZones::build(&built, &views)?,
            acl,
            views,
            hosts,
            rebinding,
            dns64,
        })
    }

    /// What a client is to us.
    #[must_use]
    pub fn admit(&self, client: IpAddr, way: Way) -> Admission {
        self.views.admit(&self.acl, client, way)
    }

    /// What is known of a question without asking anybody. None: others are to answer.
    #[must_use]
    pub fn local(&self, query: &Query) -> Option<Ruling> {
        let ruling = |said, rule| Ruling { said, rule, log: false };
        if let Some(Found { said, zone, kind, log }) = self.zones.find(query) {
            return Some(Ruling { said, rule: Rule::Zone { zone, kind }, log });
        }
        if let Some(answer) = self.hosts.answer(query) {
            return Some(ruling(Said::Answer(answer), Rule::Hosts));
        }
        if let Some(alias) = self.dns64.as_ref().and_then(|dns64| dns64.reverse(query)) {
            return Some(ruling(Said::Alias(alias), Rule::Dns64));
        }
        let Found { said, zone, .. } = self.builtin.find(query)?;
        Some(ruling(said, Rule::Builtin(zone)))
    }

    /// What the kernel is told of clients: each prefix with whether it may ask, and its view.
    pub fn prefixes(&self, apart: impl IntoIterator<Item = IpNet>) -> Vec<(IpNet, Admission)> {
        self.views.prefixes(&self.acl, apart)
    }

    /// The views of these names; names of none are left out.
    #[must_use]
    pub fn view_ids(&self, names: &[String]) -> Vec<ViewId> {
        names.iter().filter_map(|name| self.views.id(name)).collect()
    }
}

/// What the clients of a view are told that others are not; none: nothing.
fn digest(view: &str, zones: &[ZoneSpec], rpz: &[(String, String)]) -> Option<u64> {
    let mut own = zones.iter().filter(|zone| zone.views.iter().any(|name| name == view)).peekable();
    let mut feeds = rpz.iter().filter(|(name, _)| name == view).peekable();
    if own.peek().is_none() && feeds.peek().is_none() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    for zone in own {
        (zone.name.as_wire(), zone.kind as u8, &zone.records).hash(&mut hasher);
    }
    feeds.for_each(|feed| feed.hash(&mut hasher));
    Some(hasher.finish())
}

impl Rule {
    /// What it is counted as.
    #[must_use]
    pub fn label(&self) -> PolicyRule {
        match self {
            Self::Zone { kind, .. } => match kind {
                ZoneKind::Static => PolicyRule::ZoneStatic,
                ZoneKind::Transparent => PolicyRule::ZoneTransparent,
                ZoneKind::TypeTransparent => PolicyRule::ZoneTypeTransparent,
                ZoneKind::Redirect => PolicyRule::ZoneRedirect,
                ZoneKind::AlwaysNxdomain => PolicyRule::ZoneAlwaysNxdomain,
                ZoneKind::AlwaysNodata => PolicyRule::ZoneAlwaysNodata,
                ZoneKind::AlwaysNull => PolicyRule::ZoneAlwaysNull,
                ZoneKind::BlockA => PolicyRule::ZoneBlockA,
                ZoneKind::Truncate => PolicyRule::ZoneTruncate,
                ZoneKind::Deny => PolicyRule::ZoneDeny,
                ZoneKind::Refuse => PolicyRule::ZoneRefuse,
            },
            Self::Hosts => PolicyRule::Hosts,
            Self::Builtin(_) => PolicyRule::Builtin,
            Self::Dns64 => PolicyRule::Dns64,
            Self::Rpz(hit) if hit.disabled => PolicyRule::RpzSeen,
            Self::Rpz(hit) => match hit.kind() {
                Kind::ClientIp => PolicyRule::RpzClientIp,
                Kind::Qname => PolicyRule::RpzQname,
                Kind::Ip => PolicyRule::RpzIp,
                Kind::NsDname => PolicyRule::RpzNsdname,
                Kind::NsIp => PolicyRule::RpzNsip,
            },
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone { zone, kind } => write!(f, "local zone {zone} ({})", kind.as_str()),
            Self::Hosts => write!(f, "a file of hosts"),
            Self::Builtin(zone) => write!(f, "built-in zone {zone}"),
            Self::Rpz(hit) => write!(f, "policy zone {hit}"),
            Self::Dns64 => write!(f, "the reverse tree of DNS64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Access;
    use crate::dns::{rcode, rtype};

    fn zone(text: &str, kind: ZoneKind, records: &[&str], views: &[&str]) -> ZoneSpec {
        let all = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let name = text.parse().unwrap();
        ZoneSpec { name, kind, records: all(records), views: all(views), log: false }
    }

    fn view(name: &str, clients: &str) -> ViewSpec {
        ViewSpec {
            name: name.into(),
            clients: vec![clients.parse().unwrap()],
            ways: Vec::new(),
            access: Access::Allow,
            differs: None,
        }
    }

    fn rules(zones: Vec<ZoneSpec>) -> Rules {
        let mut hosts = super::super::hosts::Reader::default();
        hosts.read(b"10.0.0.1 both.test printer.home.arpa\n").unwrap();
        let spec = Spec {
            views: vec![view("office", "10.0.0.0/8"), view("plain", "192.0.2.0/24")],
            zones,
            hosts: Arc::new(hosts.finish()),
            builtin: Some(Vec::new()),
            ..Spec::default()
        };
        Rules::build(spec).unwrap()
    }

    fn told(rules: &Rules, view: ViewId, text: &str) -> String {
        let query = Query {
            name: text.parse().unwrap(),
            qtype: rtype::A,
            dnssec_ok: false,
            checking_disabled: false,
            view: view.0,
        };
        let Some(ruling) = rules.local(&query) else { return "-".into() };
        let Said::Answer(answer) = &ruling.said else { return ruling.rule.to_string() };
        let denied = if answer.rcode == rcode::NXDOMAIN { ", denied" } else { "" };
        format!("{}{denied}", ruling.rule)
    }

    #[test]
    fn zones_go_before_hosts_and_hosts_before_what_is_built_in() {
        let rules = rules(vec![
            zone("both.test.", ZoneKind::Static, &["@ A 192.0.2.9"], &[]),
            zone("open.home.arpa.", ZoneKind::Transparent, &[], &[]),
        ]);
        for (text, expected) in [
            ("both.test.", "local zone both.test. (static)"),
            ("printer.home.arpa.", "a file of hosts"),
            ("other.home.arpa.", "built-in zone home.arpa., denied"),
            ("x.open.home.arpa.", "-"),
            ("1.0.0.10.in-addr.arpa.", "a file of hosts"),
            ("2.0.0.10.in-addr.arpa.", "built-in zone 10.in-addr.arpa., denied"),
            ("example.com.", "-"),
        ] {
            assert_eq!(told(&rules, ViewId::EVERYBODY, text), expected, "{text}");
        }
    }

    #[test]
    fn a_zone_of_a_view_takes_the_place_of_everybodys_for_its_clients() {
        let rules = rules(vec![
            zone("a.test.", ZoneKind::Static, &["@ A 192.0.2.9"], &[]),
            zone("a.test.", ZoneKind::AlwaysNxdomain, &[], &["office"]),
            zone("b.test.", ZoneKind::AlwaysNxdomain, &[], &["office"]),
        ]);
        let view = |client: &str| rules.admit(client.parse().unwrap(), Way::Udp).view;
        let (office, plain) = (view("10.1.1.1"), view("192.0.2.1"));
        assert_ne!(office, ViewId::EVERYBODY);
        assert_eq!(plain, ViewId::EVERYBODY, "a view that says nothing of its own");
        assert_eq!(told(&rules, plain, "a.test."), "local zone a.test. (static)");
        assert_eq!(told(&rules, plain, "b.test."), "-");
        assert_eq!(told(&rules, office, "a.test."), "local zone a.test. (always-nxdomain), denied");
        assert_eq!(told(&rules, office, "b.test."), "local zone b.test. (always-nxdomain), denied");
    }

    #[test]
    fn a_zone_of_no_view_and_two_of_one_name_in_one_view_are_refused() {
        let bad = |zones| {
            let spec = Spec { views: vec![view("office", "10.0.0.0/8")], zones, ..Spec::default() };
            Rules::build(spec).unwrap_err().message
        };
        let one = |views: &[&str]| zone("a.", ZoneKind::Static, &[], views);
        assert_eq!(bad(vec![one(&["lab"])]), "there is no view named `lab`");
        assert_eq!(bad(vec![one(&[]), one(&[])]), "a second zone is named `a.`");
        assert_eq!(bad(vec![one(&["office"]), one(&["office"])]), "a second zone is named `a.`");
    }
}
