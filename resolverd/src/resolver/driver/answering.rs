//! A question as a whole: which way it goes, and what is written of the reply.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use tracing::debug;

use crate::clock::{boot_now, wall_now};
use crate::dns::{Answer, Ede, Name, Query, Source, rcode};
use crate::resolver::Settings;
use crate::resolver::iterate::Way;
use crate::resolver::iterate::driver::{RECURSION, Upstreams as AskUpstreams};
use crate::resolver::iterate::machine::Purpose;
use crate::resolver::known::Found;
use crate::resolver::machine::Told;
use crate::resolver::reply::{Fetch, Reply};
use crate::resolver::wire::{self, Terms, TtlBounds};

use super::Shared;

impl Shared {
    /// One question, from whom to ask to the answer.
    pub(super) async fn fly(self: &Arc<Self>, query: &Arc<Query>) -> Answer {
        let settings = self.settings.load_full();
        if let Some(policy) = self.policy_for(query, &settings) {
            return self.fly_validated(query, &settings, &policy).await;
        }
        let told = self.ask(query, &settings).await;
        self.answer(query, &settings, told)
    }

    /// The reply to a client's question, or the reason why there is none.
    pub(super) async fn ask(
        self: &Arc<Self>,
        query: &Arc<Query>,
        settings: &Arc<Settings>,
    ) -> Result<Told, Ede> {
        match &settings.recursion {
            Some(recursion) if !self.is_forwarded(&query.name, settings) => {
                let fetch = Fetch { name: query.name.clone(), qtype: query.qtype };
                let upstreams = self.upstreams_for(settings);
                let question = Purpose::Question;
                let reply = self.recursor.fetch(fetch, question, recursion, &upstreams).await;
                reply.map(|reply| Told { reply, upstream: RECURSION.into() })
            }
            _ => self.forward(query, settings).await,
        }
    }

    /// A question of the resolver's own, by whatever way leads there; with DNSSEC records, and
    /// unvalidated by upstreams.
    pub(in crate::resolver) async fn fetch(self: &Arc<Self>, fetch: Fetch) -> Result<Reply, Ede> {
        let settings = self.settings.load_full();
        let upstreams = self.upstreams_for(&settings);
        match &settings.recursion {
            Some(recursion) if !self.is_forwarded(&fetch.name, &settings) => {
                self.recursor.fetch(fetch, Purpose::Proof, recursion, &upstreams).await
            }
            _ => upstreams(fetch).await,
        }
    }

    /// The same, and nothing that was said of it before counts.
    pub(in crate::resolver) async fn ask_anew(
        self: &Arc<Self>,
        fetch: Fetch,
    ) -> Result<Reply, Ede> {
        self.recursor.world().known.forget(&fetch);
        self.fetch(fetch).await
    }

    pub(super) fn is_forwarded(&self, name: &Name, settings: &Settings) -> bool {
        way(name, settings) == Way::Forward
    }

    /// The zone that a question is counted for: the nearest that is known where recursion asks,
    /// else the one that its name is likely in. None: the root, or a child of its that is no stub,
    /// in which all the world is.
    pub(super) fn zone_of(&self, name: &Name) -> Option<Name> {
        let way = way(name, &self.settings.load());
        if way == Way::Forward {
            return likely_zone(name);
        }
        let zone = self.nearest(name, &way)?;
        let labels_min = if matches!(way, Way::Stub(_)) { 1 } else { 2 };
        (zone.suffixes().count() > labels_min).then_some(zone)
    }

    /// The zone whose servers recursion would ask about a name.
    fn nearest(&self, name: &Name, way: &Way) -> Option<Name> {
        let known = self.recursor.world().delegations.closest(boot_now(), name);
        let known = known.map(|cut| cut.zone.clone());
        match way {
            Way::Stub(stub) => {
                Some(known.filter(|zone| zone.is_under(&stub.zone)).unwrap_or(stub.zone.clone()))
            }
            Way::Root | Way::Forward => known,
        }
    }

    /// How questions of the resolver's own reach upstreams: what they said is kept, like what
    /// servers said.
    fn upstreams_for(self: &Arc<Self>, settings: &Arc<Settings>) -> AskUpstreams {
        let (shared, settings) = (Arc::clone(self), Arc::clone(settings));
        Arc::new(move |fetch: Fetch| {
            let (shared, settings) = (Arc::clone(&shared), Arc::clone(&settings));
            async move {
                let known = &shared.recursor.world().known;
                let asked = boot_now();
                match known.find(asked, &fetch) {
                    Some(Found::Reply(reply)) => return Ok(reply),
                    Some(Found::Failed(ede)) => return Err(ede),
                    None => {}
                }
                let query = Arc::new(Query {
                    name: fetch.name.clone(),
                    qtype: fetch.qtype,
                    dnssec_ok: true,
                    checking_disabled: true,
                    view: 0,
                });
                let told = shared.forward(&query, &settings).await;
                let now = boot_now();
                match &told {
                    Ok(told) => known.keep(now, asked, &fetch, &told.reply),
                    Err(ede) => {
                        known.keep_failure(now, asked, &fetch, ede.clone(), settings.failure_ttl);
                    }
                }
                told.map(|told| told.reply)
            }
            .boxed()
        })
    }

    /// Writes what came as the answer to one client's question.
    pub(super) fn answer(
        &self,
        query: &Query,
        settings: &Settings,
        told: Result<Told, Ede>,
    ) -> Answer {
        // RFC 9520 section 3.2: failures are remembered as well.
        let fail = |ede| Answer::empty(rcode::SERVFAIL, settings.failure_ttl, Some(ede));
        let Told { reply, upstream } = match told {
            Ok(told) => told,
            Err(ede) => return fail(ede),
        };
        let secs = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let wall = wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let terms = Terms {
            query,
            source: Source::Upstream(upstream),
            bounds: TtlBounds {
                ttl_min: secs(settings.ttl_min),
                ttl_max: secs(settings.ttl_max),
                negative_ttl_max: secs(settings.negative_ttl_max),
            },
            // RFC 4034 section 3.1.5 counts modulo 2^32.
            wall_secs: wall.as_secs() as u32,
        };
        wire::compose(&terms, reply).unwrap_or_else(|reject| {
            debug!(?reject, "a reply cannot be written as an answer");
            fail(Ede { code: 0, text: "the reply cannot be written as an answer".to_owned() })
        })
    }

    pub(in crate::resolver) fn would_ask(&self, name: &Name) -> String {
        let way = way(name, &self.settings.load());
        if way == Way::Forward {
            return match self.board.lock().upstreams.first(name) {
                Some(spec) => {
                    format!("the upstream {} is asked, over {}", spec.name, spec.protocol.as_str())
                }
                None => "no upstream is for this name".to_owned(),
            };
        }
        match self.nearest(name, &way) {
            Some(zone) => format!("recursion asks the servers of the zone {zone}"),
            None => "recursion asks the root servers".to_owned(),
        }
    }
}

/// Who is asked about a name.
fn way(name: &Name, settings: &Settings) -> Way {
    settings.recursion.as_ref().map_or(Way::Forward, |recursion| recursion.options.way(name))
}

/// The last two labels of a name: under a country's domain of two letters three, if the second
/// is as short as in `co.uk`. Some such zone is guessed wrong; what is then shared is a bound.
fn likely_zone(name: &Name) -> Option<Name> {
    let suffixes: Vec<&[u8]> = name.suffixes().collect();
    let of_labels = |count: usize| suffixes.get(suffixes.len().checked_sub(count + 1)?).copied();
    let is_short = |labels: usize, octets: u8| {
        of_labels(labels).and_then(|suffix| suffix.first()).is_some_and(|len| *len <= octets)
    };
    let deep = is_short(1, 2) && is_short(2, 3);
    Name::from_wire(of_labels(if deep { 3 } else { 2 })?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_knows_zones_they_are_guessed() {
        let zone = |text: &str| likely_zone(&text.parse().unwrap()).map(|zone| zone.to_string());
        for (name, expected) in [
            ("a.b.victim.test.", Some("victim.test.")),
            ("victim.test.", Some("victim.test.")),
            ("x.victim.co.uk.", Some("victim.co.uk.")),
            ("x.victim.de.", Some("victim.de.")),
            ("x.y.dvb.de.", Some("y.dvb.de.")),
            ("co.uk.", None),
            ("test.", None),
            (".", None),
        ] {
            assert_eq!(zone(name).as_deref(), expected, "{name}");
        }
    }
}
