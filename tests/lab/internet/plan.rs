//! What the fake Internet is made of, decided before anything is started: zones, how each is
//! signed and broken, who serves it, what it says.
//!
//! Pure: a seed gives the same plan everywhere. Keys and signatures are not part of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::contents;
use super::random::Random;

/// All of it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// A zone comes after the one above it; the first is the root.
    pub zones: Vec<PlannedZone>,
}

/// A zone before it is signed.
#[derive(Debug, Clone)]
pub struct PlannedZone {
    /// With its last dot.
    pub name: String,
    /// The place of the zone above in [`Plan::zones`]; none for the root.
    pub above: Option<usize>,
    /// Unsigned without.
    pub signing: Option<Signing>,
    /// Whether the zone above has a DS for it.
    pub link: Link,
    pub fault: Option<Fault>,
    pub nameservers: Vec<Nameserver>,
    /// What it says, less what nameservers and delegations need.
    pub records: Vec<PlannedRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signing {
    pub algorithm: Algorithm,
    /// One key for everything (CSK), or a KSK and a ZSK.
    pub single_key: bool,
    pub denial: Denial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    RsaSha256,
    RsaSha512,
    P256,
    P384,
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    Nsec,
    Nsec3 {
        iterations: u16,
        /// Hexadecimal, or "-".
        salt: &'static str,
        opt_out: bool,
    },
}

/// How the zone above points to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// A DS with SHA-256, or with SHA-384.
    Ds,
    Ds384,
    /// None: unsigned, or an island.
    None,
}

/// What is wrong with a signed zone, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Expired,
    NotYetValid,
    /// The DS is of no key that it has.
    WrongDs,
    /// There is a DS, and nothing is signed.
    Unsigned,
    /// The sets of `www` have no signatures.
    NoSignature,
    /// A signature of `www` has an octet changed.
    Garbled,
    /// All NSEC and NSEC3 records are gone.
    NoDenial,
    /// Signed by an algorithm that nobody knows.
    UnknownAlgorithm,
    /// The DS has a digest that nobody knows.
    UnknownDigest,
    /// No server has it: they refuse, or have the zone above and refer to themselves.
    Lame,
}

impl Fault {
    pub const ALL: [Self; 10] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongDs,
        Self::Unsigned,
        Self::NoSignature,
        Self::Garbled,
        Self::NoDenial,
        Self::UnknownAlgorithm,
        Self::UnknownDigest,
        Self::Lame,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "future",
            Self::WrongDs => "wrongds",
            Self::Unsigned => "stripped",
            Self::NoSignature => "nosig",
            Self::Garbled => "garbled",
            Self::NoDenial => "nodenial",
            Self::UnknownAlgorithm => "newalg",
            Self::UnknownDigest => "newdigest",
            Self::Lame => "lame",
        }
    }
}

/// A name that serves a zone, and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    pub name: String,
    /// Empty: the name's own zone has them.
    pub addresses: Vec<IpAddr>,
    pub host: Host,
}

/// Who answers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// One of [`HOSTS`] processes.
    Alive(usize),
    /// One that has other zones.
    Lame(usize),
    /// Nobody: what is sent there is never answered.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRecord {
    pub owner: String,
    pub ttl: u32,
    /// `A`, `TYPE65280`.
    pub rtype: &'static str,
    pub data: String,
}

impl Plan {
    /// The Internet of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut builder = Builder { random: Random::of_seed(seed), zones: Vec::new() };
        builder.top();
        builder.second_level();
        builder.below();
        let Builder { mut random, mut zones } = builder;
        for at in 0..zones.len() {
            zones[at].records = contents::of_zone(&zones, at, &mut random);
        }
        Self { seed, zones }
    }

    /// The zone that a name is in. A delegation's name is the zone below.
    #[must_use]
    pub fn zone_of(&self, name: &str) -> &PlannedZone {
        let name = name.to_ascii_lowercase();
        let zones = self.zones.iter().filter(|zone| is_under(&name, &zone.name));
        zones.max_by_key(|zone| zone.labels()).unwrap_or(&self.zones[0])
    }

    /// A zone with all those above it, upwards.
    pub fn upwards<'a>(
        &'a self,
        zone: &'a PlannedZone,
    ) -> impl Iterator<Item = &'a PlannedZone> + 'a {
        std::iter::successors(Some(zone), |zone| zone.above.map(|above| &self.zones[above]))
    }

    /// Whether a validator gets from the root to this zone's keys, faults in it aside.
    #[must_use]
    pub fn is_chained(&self, zone: &PlannedZone) -> bool {
        self.upwards(zone).all(|zone| {
            let known = !matches!(
                zone.fault,
                Some(Fault::UnknownAlgorithm | Fault::UnknownDigest | Fault::Unsigned)
            );
            zone.signing.is_some() && known && (zone.above.is_none() || zone.link != Link::None)
        })
    }
}

impl PlannedZone {
    /// How many labels its name has.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.name.matches('.').count() - usize::from(self.name == ".")
    }

    /// A name in it, by its first labels; "" is its own.
    #[must_use]
    pub fn within(&self, labels: &str) -> String {
        match (labels, self.name.as_str()) {
            ("", own) => own.to_owned(),
            (labels, ".") => format!("{labels}."),
            (labels, own) => format!("{labels}.{own}"),
        }
    }

    /// The hosts that have it.
    pub fn hosts(&self) -> impl Iterator<Item = usize> + '_ {
        self.nameservers.iter().filter_map(|server| match server.host {
            Host::Alive(host) => Some(host),
            Host::Lame(_) | Host::Dead => None,
        })
    }
}

/// Whether a name is `zone` or below it; both in lower case, with their last dot.
#[must_use]
pub fn is_under(name: &str, zone: &str) -> bool {
    let above = name.strip_suffix(zone);
    zone == "." || above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

/// The addresses of a host: a way in for most zones, and a second one.
#[must_use]
pub fn addresses(host: usize) -> [IpAddr; 3] {
    let (third, group) = (16 + host as u8, 16 + host as u16);
    [
        Ipv4Addr::new(10, 53, third, 1).into(),
        Ipv4Addr::new(10, 53, third, 2).into(),
        Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, group, 1).into(),
    ]
}

struct Builder {
    random: Random,
    zones: Vec<PlannedZone>,
}

impl Builder {
    /// The root, the zones below it, and those whose servers serve others.
    fn top(&mut self) {
        let nsec3 = |salt, opt_out| Denial::Nsec3 { iterations: 0, salt, opt_out };
        let own = |algorithm, single_key, denial| Some(Signing { algorithm, single_key, denial });
        self.add(".", None, own(Algorithm::P256, false, Denial::Nsec), Link::None, &[0, 1]);
        let tops = [
            ("com.", own(Algorithm::RsaSha256, false, nsec3("-", true)), Link::Ds, [2, 3]),
            ("net.", own(Algorithm::P256, false, nsec3("ab12cd34", true)), Link::Ds, [2, 3]),
            ("org.", own(Algorithm::Ed25519, true, nsec3("-", false)), Link::Ds, [3, 4]),
            ("dev.", own(Algorithm::P384, true, Denial::Nsec), Link::Ds384, [4, 2]),
            ("info.", own(Algorithm::P256, true, Denial::Nsec), Link::Ds, [0, 1]),
            ("uk.", None, Link::None, [3, 4]),
        ];
        for (name, signing, link, hosts) in tops {
            self.add(name, Some(0), signing, link, &hosts);
        }
        let signing = Some(self.signing());
        self.add(HOSTING, Some(self.place("net.")), signing, Link::Ds, &[2, 5]);
        // Parent and child on the same servers, and a delegation below an empty non-terminal.
        self.add("co.uk.", Some(self.place("uk.")), None, Link::None, &[3, 4]);
        let signing = Some(self.signing());
        self.add("state.city.org.", Some(self.place("org.")), signing, Link::Ds, &[3, 4]);
    }

    fn second_level(&mut self) {
        let signed = ["com.", "net.", "org.", "dev.", "info."].map(|name| self.place(name));
        // One zone for each fault, below different ones.
        for (n, fault) in Fault::ALL.into_iter().enumerate() {
            let above = signed[n % signed.len()];
            let name = self.zones[above].within(&format!("{}{n}", fault.label()));
            let signing = self.signing();
            self.add_anywhere(&name, above, Some(signing), Link::Ds);
            let zone = self.zones.last_mut().expect("one was added");
            zone.fault = Some(fault);
            if fault == Fault::Lame {
                for server in &mut zone.nameservers {
                    if let Host::Alive(host) = server.host {
                        server.host = Host::Lame(host);
                    }
                }
            }
        }
        // NSEC3 as RFC 9276 does not want it.
        for (iterations, salt) in [(1, "-"), (20, "c0ffee"), (100, "00"), (151, "-"), (600, "ab")] {
            let above = *self.random.pick(&signed);
            let name = self.zones[above].within(&format!("rounds{iterations}"));
            let algorithm = *self.random.pick(&ALGORITHMS);
            let denial = Denial::Nsec3 { iterations, salt, opt_out: iterations == 20 };
            let signing = Signing { algorithm, single_key: false, denial };
            self.add_anywhere(&name, above, Some(signing), Link::Ds);
        }
        let co_uk = self.place("co.uk.");
        for n in 0..45 + self.random.below(20) {
            let above = if n % 9 == 8 { co_uk } else { *self.random.pick(&signed) };
            let name = self.zones[above].within(&format!("{}{n}", self.random.pick(&WORDS)));
            self.add_by_chance(&name, above);
        }
    }

    /// Zones below zones: signed, unsigned, islands.
    fn below(&mut self) {
        let leaves = self.zones.len();
        for above in self.place("state.city.org.")..leaves {
            let fit = self.zones[above].fault.is_none_or(|fault| fault != Fault::Lame);
            if !fit || !self.random.percent(35) {
                continue;
            }
            let label = *self.random.pick(&LABELS_BELOW);
            let name = self.zones[above].within(label);
            if self.random.percent(40) {
                // On the servers of the zone above: no referral is ever seen.
                let hosts: Vec<usize> = self.zones[above].hosts().collect();
                let signing = self.random.percent(70).then(|| self.signing());
                let link = self.link(signing);
                self.add(&name, Some(above), signing, link, &hosts);
            } else {
                self.add_by_chance(&name, above);
            }
        }
    }

    fn add_by_chance(&mut self, name: &str, above: usize) {
        let signing = self.random.percent(75).then(|| self.signing());
        let link = self.link(signing);
        self.add_anywhere(name, above, signing, link);
    }

    /// An island is signed, and nobody says so.
    fn link(&mut self, signing: Option<Signing>) -> Link {
        match self.random.below(10) {
            _ if signing.is_none() => Link::None,
            0 | 1 => Link::None,
            2 | 3 => Link::Ds384,
            _ => Link::Ds,
        }
    }

    fn signing(&mut self) -> Signing {
        let random = &mut self.random;
        let salt = *random.pick(&["-", "-", "5a17"]);
        let denial = match random.below(10) {
            0..=4 => Denial::Nsec,
            5..=7 => Denial::Nsec3 { iterations: 0, salt, opt_out: false },
            _ => Denial::Nsec3 { iterations: 0, salt, opt_out: true },
        };
        let algorithm = *random.pick(&ALGORITHMS);
        Signing { algorithm, single_key: random.percent(40), denial }
    }

    fn add_anywhere(&mut self, name: &str, above: usize, signing: Option<Signing>, link: Link) {
        // Not on the hosts of the root and of most zones below it, or sometimes there.
        let first = if self.random.percent(15) { 2 } else { 4 };
        let one = first + self.random.below(HOSTS - first);
        let other = first + self.random.below(HOSTS - first);
        let hosts = if one == other { vec![one] } else { vec![one, other] };
        self.add(name, Some(above), signing, link, &hosts);
        let outside = self.random.percent(30);
        let zone = self.zones.last_mut().expect("one was added");
        if outside {
            // Served by names of somebody else.
            for (server, host) in zone.nameservers.iter_mut().zip(&hosts) {
                server.name = format!("h{host}.{HOSTING}");
                server.addresses.clear();
            }
        }
        let extra = match self.random.below(12) {
            0 => Some((Host::Dead, vec![DEAD.into()])),
            1 => {
                let refuses = (0..HOSTS).find(|host| !hosts.contains(host)).unwrap_or(0);
                Some((Host::Lame(refuses), vec![addresses(refuses)[1]]))
            }
            _ => None,
        };
        if let Some((host, addresses)) = extra {
            let name = zone.within("ns9");
            zone.nameservers.push(Nameserver { name, addresses, host });
        }
    }

    fn add(
        &mut self,
        name: &str,
        above: Option<usize>,
        signing: Option<Signing>,
        link: Link,
        hosts: &[usize],
    ) {
        let mut zone = PlannedZone {
            name: name.to_owned(),
            above,
            signing,
            link,
            fault: None,
            nameservers: Vec::new(),
            records: Vec::new(),
        };
        for (n, host) in hosts.iter().enumerate() {
            let [first, second, six] = addresses(*host);
            let mut own = vec![if self.random.percent(70) { first } else { second }];
            if self.random.percent(30) {
                own.push(six);
            }
            let name = zone.within(&format!("ns{}", n + 1));
            zone.nameservers.push(Nameserver { name, addresses: own, host: Host::Alive(*host) });
        }
        self.zones.push(zone);
    }

    fn place(&self, name: &str) -> usize {
        self.zones.iter().position(|zone| zone.name == name).expect("it was added before")
    }
}

/// Server processes: the last [`NSD_HOSTS`] of them are NSD, the others Knot DNS.
pub const HOSTS: usize = 9;
pub const NSD_HOSTS: usize = 2;
/// Nobody answers here.
pub const DEAD: Ipv4Addr = Ipv4Addr::new(10, 53, 15, 1);
/// The zone with the names of all hosts: `h0` …
pub const HOSTING: &str = "hosting.net.";

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::P256, Algorithm::P256, Algorithm::RsaSha256, Algorithm::Ed25519, Algorithm::P384];

const WORDS: [&str; 12] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "juniper",
    "kelp", "lumen",
];

const LABELS_BELOW: [&str; 3] = ["sub", "eu.dc", "lab"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        let text = |seed| format!("{:?}", Plan::of_seed(seed));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn every_plan_has_all_that_it_is_for() {
        for seed in 0..40 {
            let plan = Plan::of_seed(seed);
            let zones = &plan.zones;
            assert!((60..=150).contains(&zones.len()), "{seed}: {}", zones.len());
            for fault in Fault::ALL {
                assert!(zones.iter().any(|zone| zone.fault == Some(fault)), "{seed}: {fault:?}");
            }
            let island = |zone: &PlannedZone| zone.signing.is_some() && zone.link == Link::None;
            assert!(zones[1..].iter().any(island), "{seed}: no island");
            let plain = |zone: &PlannedZone| zone.signing.is_none() && zone.labels() > 1;
            assert!(zones.iter().any(plain), "{seed}: none unsigned");
            let dead = |zone: &PlannedZone| zone.nameservers.iter().any(|s| s.host == Host::Dead);
            assert!(zones.iter().any(dead), "{seed}: no dead server");
            let mut names: Vec<&String> = zones.iter().map(|zone| &zone.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), zones.len(), "{seed}: a zone is there twice");
            for (at, zone) in zones.iter().enumerate() {
                assert!(zone.above.is_none_or(|above| above < at), "{seed}: {}", zone.name);
            }
        }
    }

    #[test]
    fn a_name_is_in_the_zone_with_the_most_labels() {
        let plan = Plan::of_seed(7);
        assert_eq!(plan.zone_of("nothing.").name, ".");
        assert_eq!(plan.zone_of("x.H1.hosting.net.").name, "hosting.net.");
        assert_eq!(plan.zone_of("xhosting.net.").name, "net.");
        assert!(plan.is_chained(plan.zone_of("hosting.net.")));
        assert!(!plan.is_chained(plan.zone_of("co.uk.")));
    }
}
