//! Validates one reply to one question.
//!
//! Pure. The driver performs each [`Output::Fetch`] without validating what comes (it is
//! validated here), and hands it back; the machine judges anew with what it then knows, until
//! it can say [`Output::Done`].
//!
//! ```text
//!             ╭──────────────╮ Fetched, Failed
//!             ▼              │
//!   Start ──▶ judging ──▶ waiting for DS and DNSKEY
//!             │
//!             ╰──▶ done
//! ```
//!
//! Every set of the answer section is judged by the zone that signed it; the verdict is the
//! weakest. What stands at the end of a chain of aliases without being the answer must be
//! denied by the authority section, and so must every name nearer than a wildcard. Records that
//! are neither in the answer section nor a denial are not judged: the caller leaves them out of a
//! secure answer.

use std::sync::Arc;

use crate::dns::records::Record;
use crate::dns::{Name, rcode, rtype};
use crate::resolver::reply::{Fetch, Reply};

use super::anchors::{Anchors, Closest};
use super::chain::{Chain, Unsigned, Wait};
use super::denial::Proof;
use super::names::{is_below, parent};
use super::proofs::{Held, no_zone, signers, verify_denials};
use super::rrset::{RrSet, group};
use super::verify::{Verified, verify};
use super::zones::{Standing, Zones};
use super::{Failure, Reason, Verdict, ede};

pub struct Machine {
    name: Name,
    qtype: u16,
    rcode: u8,
    answer: Vec<RrSet>,
    authority: Vec<RrSet>,
    chain: Chain,
    /// What was judged of each set of the answer.
    judged: Vec<Option<Judged>>,
    /// What the authority section proves, by the zone that says so.
    denials: Vec<(Name, Arc<Held>)>,
    soa: Option<(RrSet, u32)>,
    done: bool,
}

/// What made a reply bogus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Itself.
    Reply,
    /// The DS or the DNSKEYs of this zone, which were looked at for it.
    Keys(Name),
    /// Those of a zone that was known to be broken.
    Known,
}

#[derive(Debug)]
pub enum Input {
    Start,
    Fetched(Fetch, Arc<Reply>),
    /// What was to be fetched is not to be had.
    Failed(Fetch),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask this with DO and CD, and hand back what comes.
    Fetch(Fetch),
    Done(Verdict),
}

/// Denials that hold, and can be used again (RFC 8198).
pub struct Proven<'a> {
    pub zone: &'a Name,
    /// NSEC or NSEC3 sets, each with the seconds it may be believed for.
    pub sets: &'a [(RrSet, u32)],
    /// The SOA that came with them.
    pub soa: Option<&'a (RrSet, u32)>,
}

#[derive(Clone)]
enum Judged {
    Secure { ttl: u32 },
    Weak(Verdict),
    Bogus(Failure),
}

impl Machine {
    #[must_use]
    pub fn new(
        name: Name,
        qtype: u16,
        reply: &Arc<Reply>,
        anchors: Arc<Anchors>,
        zones: Arc<Zones>,
    ) -> Self {
        let mut chain = Chain::new(anchors, zones);
        if [rtype::DS, rtype::DNSKEY].contains(&qtype) {
            // What is judged need not be asked for to be judged.
            chain.has(Fetch { name: name.clone(), qtype }, Arc::clone(reply));
        }
        let answer = group(&reply.answer);
        Self {
            name,
            qtype,
            rcode: reply.rcode,
            judged: vec![None; answer.len()],
            answer,
            authority: group(&reply.authority),
            chain,
            denials: Vec::new(),
            soa: None,
            done: false,
        }
    }

    /// `now` is wall time in seconds since 1970, or the second that `dnssec.now` fixes.
    pub fn step(&mut self, now: u64, input: Input, out: &mut Vec<Output>) {
        let news = match input {
            Input::Start => true,
            Input::Fetched(fetch, reply) => self.chain.came(fetch, reply),
            Input::Failed(fetch) => self.chain.failed(fetch),
        };
        if self.done || !news {
            return;
        }
        let mut fetches = Vec::new();
        let verdict = self.judge(now, &mut fetches);
        match verdict {
            Err(Wait) => out.extend(fetches.into_iter().map(Output::Fetch)),
            Ok(verdict) => {
                self.done = true;
                out.push(Output::Done(verdict));
            }
        }
    }

    /// After a verdict that is bogus: what of it was false.
    #[must_use]
    pub fn blame(&self, now: u64) -> Blame {
        let names = std::iter::once(&self.name).chain(self.answer.iter().map(|set| &set.owner));
        match names.filter_map(|name| self.chain.condemned(name, now)).next() {
            None => Blame::Reply,
            Some((zone, true)) => Blame::Keys(zone),
            Some((_, false)) => Blame::Known,
        }
    }

    /// After a verdict that is secure: the denials that it rests on.
    pub fn proven(&self) -> impl Iterator<Item = Proven<'_>> {
        self.denials.iter().map(|(zone, held)| Proven {
            zone,
            sets: &held.sets,
            soa: self.soa.as_ref().filter(|(set, _)| set.owner == *zone),
        })
    }

    fn judge(&mut self, now: u64, out: &mut Vec<Fetch>) -> Result<Verdict, Wait> {
        // RFC 4035 section 2.2: signatures are not signed.
        if [rtype::RRSIG, SIG].contains(&self.qtype) {
            return Ok(Verdict::Insecure(Reason::Unsignable));
        }
        if self.answer.len() > SETS_JUDGED_MAX {
            let text = format!("more than {SETS_JUDGED_MAX} sets of records in one answer");
            return Ok(Verdict::Bogus(Failure::new(ede::DNSSEC_BOGUS, text)));
        }
        let mut all = Weakest::default();
        for at in 0..self.answer.len() {
            let judged = match self.judged[at].clone() {
                Some(judged) => judged,
                None => self.judge_set(at, now, out)?,
            };
            self.judged[at] = Some(judged.clone());
            if let Judged::Bogus(failure) = judged {
                return Ok(Verdict::Bogus(failure));
            }
            all.and(judged);
        }
        let end = match self.follow() {
            Ok(End::Answered) => None,
            Ok(End::Denied(name)) => Some(name),
            Err(failure) => return Ok(Verdict::Bogus(failure)),
        };
        // YXDOMAIN says that a DNAME makes too long a name. It shows it, and has been judged.
        if let Some(name) = end
            && !(self.rcode == YXDOMAIN && self.is_too_long(&name))
        {
            match self.judge_denial(&name, now, out)? {
                Judged::Bogus(failure) => return Ok(Verdict::Bogus(failure)),
                judged => all.and(judged),
            }
        }
        Ok(all.verdict())
    }

    fn judge_set(&mut self, at: usize, now: u64, out: &mut Vec<Fetch>) -> Result<Judged, Wait> {
        let set = self.answer[at].clone();
        let at_parent = set.rtype == rtype::DS;
        let top = match self.governing(&set.owner, at_parent, now) {
            Ok(top) => top,
            Err(weak) => return Ok(Judged::Weak(weak)),
        };
        let bare_alias = set.rtype == rtype::CNAME && set.signatures.is_empty();
        if bare_alias && self.made_by_dname(&set, &top, now) {
            // The DNAME is judged for it.
            return Ok(Judged::Secure { ttl: set.ttl });
        }
        let mut failure = None;
        for signer in signers(&set, &top, at_parent) {
            let keys = match self.chain.standing(&signer, now, out)? {
                Standing::Secure(keys) => keys,
                Standing::Insecure(reason) => return Ok(Judged::Weak(Verdict::Insecure(reason))),
                Standing::Bogus(other) => {
                    failure = Some(other);
                    continue;
                }
                Standing::Inside => {
                    failure.get_or_insert_with(|| no_zone(&set, &signer));
                    continue;
                }
            };
            match verify(&set, &signer, &keys, now, &mut self.chain.work) {
                Ok(Verified { ttl, expanded_from: None }) => return Ok(Judged::Secure { ttl }),
                Ok(Verified { ttl, expanded_from: Some(encloser) }) => {
                    let held = self.held(&signer, &keys, now);
                    let work = &mut self.chain.work;
                    return Ok(match held.denial.expansion(&set.owner, &encloser, work) {
                        Ok(Proof::Secure) => Judged::Secure { ttl: ttl.min(held.ttl) },
                        Ok(Proof::Insecure(reason)) => Judged::Weak(Verdict::Insecure(reason)),
                        Err(failure) => Judged::Bogus(held.failure.clone().unwrap_or(failure)),
                    });
                }
                Err(other) => failure = Some(other),
            }
        }
        if let Some(failure) = failure {
            return Ok(Judged::Bogus(failure));
        }
        let what = format!("{} type {} is not signed", set.owner, set.rtype);
        let set_above = parent(&set.owner).filter(|_| at_parent);
        let place = set_above.as_ref().unwrap_or(&set.owner);
        self.judge_unsigned(place, ede::RRSIGS_MISSING, &what, now, out)
    }

    /// `name` has no records of the type, or does not exist: that must be proven.
    fn judge_denial(
        &mut self,
        name: &Name,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<Judged, Wait> {
        let above = parent(name).filter(|_| self.qtype == rtype::DS);
        let at_parent = above.is_some();
        let top = match self.governing(name, at_parent, now) {
            Ok(top) => top,
            Err(weak) => return Ok(Judged::Weak(weak)),
        };
        // An unsigned zone below may have the last word, beside what the zone above says of its
        // delegation: servers of both put an alias and where it leads into one message.
        let last_word = self.authority.iter().any(|set| {
            let soa = set.rtype == rtype::SOA && set.signatures.is_empty();
            soa && if at_parent { is_below(name, &set.owner) } else { name.is_under(&set.owner) }
        });
        let kinds: &[u16] = if last_word { &[] } else { &[rtype::NSEC, rtype::NSEC3, rtype::SOA] };
        let signer = kinds.iter().find_map(|wanted| {
            let sets = self.authority.iter().filter(|set| set.rtype == *wanted);
            let mut found = sets.flat_map(|set| signers(set, &top, false));
            found.find(|zone| if at_parent { is_below(name, zone) } else { name.is_under(zone) })
        });
        let Some(signer) = signer else {
            let what = format!("nothing signed denies {name} type {}", self.qtype);
            let place = above.as_ref().unwrap_or(name);
            return self.judge_unsigned(place, ede::NSEC_MISSING, &what, now, out);
        };
        let keys = match self.chain.standing(&signer, now, out)? {
            Standing::Secure(keys) => keys,
            Standing::Insecure(reason) => return Ok(Judged::Weak(Verdict::Insecure(reason))),
            Standing::Bogus(failure) => return Ok(Judged::Bogus(failure)),
            Standing::Inside => {
                let text = format!("the denial of {name} is signed by no zone: {signer}");
                return Ok(Judged::Bogus(Failure::new(ede::DNSSEC_BOGUS, text)));
            }
        };
        let held = self.held(&signer, &keys, now);
        let work = &mut self.chain.work;
        let proof = match self.rcode {
            rcode::NXDOMAIN => held.denial.name_error(name, work),
            _ => held.denial.no_data(name, self.qtype, work),
        };
        let mut ttl = held.ttl;
        // The SOA says how long a denial is believed, so that it is to be believed itself.
        for set in self.authority.iter().filter(|set| set.rtype == rtype::SOA) {
            match verify(set, &signer, &keys, now, work) {
                Ok(verified) => {
                    ttl = ttl.min(verified.ttl);
                    self.soa = Some((set.clone(), verified.ttl));
                }
                Err(failure) => return Ok(Judged::Bogus(failure)),
            }
        }
        Ok(match proof {
            Ok(Proof::Secure) => Judged::Secure { ttl },
            Ok(Proof::Insecure(reason)) => Judged::Weak(Verdict::Insecure(reason)),
            Err(failure) => Judged::Bogus(held.failure.clone().unwrap_or(failure)),
        })
    }

    /// Something without a signature is right below an unsigned delegation alone.
    fn judge_unsigned(
        &mut self,
        place: &Name,
        code: u16,
        what: &str,
        now: u64,
        out: &mut Vec<Fetch>,
    ) -> Result<Judged, Wait> {
        Ok(match self.chain.unsigned(place, now, out)? {
            Unsigned::Insecure(reason) => Judged::Weak(Verdict::Insecure(reason)),
            Unsigned::Bogus(failure) => Judged::Bogus(failure),
            Unsigned::InZone(zone) => {
                Judged::Bogus(Failure::new(code, format!("{what}, zone {zone}")))
            }
        })
    }

    /// The anchor above a name (above its parent, for what stands at the parent's side), or what
    /// follows from there being none.
    fn governing(&self, name: &Name, at_parent: bool, now: u64) -> Result<Name, Verdict> {
        let above = parent(name).filter(|_| at_parent);
        match self.chain.closest(above.as_ref().unwrap_or(name), now) {
            Closest::Anchor(top, _) => Ok(top.clone()),
            Closest::Negative(at) => Err(Verdict::Insecure(Reason::NegativeAnchor(at.clone()))),
            Closest::Nothing => Err(Verdict::Indeterminate),
        }
    }

    /// What the authority section proves by this zone's keys; verified once.
    fn held(&mut self, zone: &Name, keys: &[super::keys::DnsKey], now: u64) -> Arc<Held> {
        if let Some((_, held)) = self.denials.iter().find(|(known, _)| known == zone) {
            return Arc::clone(held);
        }
        let held = verify_denials(&self.authority, zone, keys, now, &mut self.chain.work);
        let held = Arc::new(held);
        self.denials.push((zone.clone(), Arc::clone(&held)));
        held
    }

    /// Follows aliases from the question on, to what answers it or to the name that must be
    /// denied.
    fn follow(&self) -> Result<End, Failure> {
        let mut at = self.name.clone();
        for _ in 0..=CHAIN_MAX {
            let sets = || self.answer.iter().filter(|set| set.owner == at);
            let answers = |set: &RrSet| set.rtype == self.qtype || self.qtype == rtype::ANY;
            if sets().any(answers) {
                return Ok(End::Answered);
            }
            let alias = sets().find(|set| set.rtype == rtype::CNAME);
            let next = match alias {
                Some(set) => set.records.first().and_then(Record::target),
                None => self.dname_above(&at).and_then(|dname| substitute(&at, dname)),
            };
            match next {
                Some(next) => at = next,
                None => return Ok(End::Denied(at)),
            }
        }
        let text = format!("{} leads through more than {CHAIN_MAX} aliases", self.name);
        Err(Failure::new(ede::DNSSEC_BOGUS, text))
    }

    /// Whether an unsigned CNAME is the one that a DNAME above it makes (RFC 6672 section
    /// 5.3.1), under the same anchor: what is above an island of trust says nothing in it.
    fn made_by_dname(&self, cname: &RrSet, top: &Name, now: u64) -> bool {
        let [record] = cname.records.as_slice() else { return false };
        let Some(dname) = self.dname_above(&cname.owner) else { return false };
        let same = self.governing(&dname.owner, false, now).is_ok_and(|other| other == *top);
        same && record.target().is_some() && record.target() == substitute(&cname.owner, dname)
    }

    /// Whether there is a DNAME that makes too long a name of this one (RFC 6672 section 2.2).
    fn is_too_long(&self, name: &Name) -> bool {
        self.dname_above(name).is_some_and(|dname| substitute(name, dname).is_none())
    }

    fn dname_above(&self, name: &Name) -> Option<&Record> {
        let above = |set: &&RrSet| set.rtype == rtype::DNAME && is_below(name, &set.owner);
        self.answer.iter().find(above).and_then(|set| set.records.first())
    }
}

enum End {
    Answered,
    Denied(Name),
}

/// RFC 6672 section 2.2; None if the name would be too long.
fn substitute(name: &Name, dname: &Record) -> Option<Name> {
    let prefix = name.as_wire().strip_suffix(dname.owner.as_wire())?;
    Name::from_wire(&[prefix, dname.target()?.as_wire()].concat()).ok()
}

/// The weakest of several verdicts, none of which is bogus.
#[derive(Default)]
struct Weakest {
    weak: Option<Verdict>,
    ttl: Option<u32>,
}

impl Weakest {
    fn and(&mut self, judged: Judged) {
        match judged {
            Judged::Secure { ttl } => {
                self.ttl = Some(self.ttl.map_or(ttl, |least| least.min(ttl)));
            }
            Judged::Weak(verdict) => {
                self.weak.get_or_insert(verdict);
            }
            Judged::Bogus(_) => {}
        }
    }

    fn verdict(self) -> Verdict {
        self.weak.unwrap_or(Verdict::Secure { ttl: self.ttl.unwrap_or(0) })
    }
}

/// Aliases followed in one answer, as everywhere here.
const CHAIN_MAX: usize = 16;

/// Sets in one answer section: a chain of the most aliases, each with its DNAME, and room for the
/// types of an answer to ANY.
const SETS_JUDGED_MAX: usize = 64;

/// RFC 6895: the RCODE of a DNAME that makes too long a name.
const YXDOMAIN: u8 = 6;

/// RFC 2535; obsolete, and no more signed than RRSIG is.
const SIG: u16 = 24;

#[cfg(test)]
mod tests;
