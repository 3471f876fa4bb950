//! What is no plain question for data: everything there is, or nothing but what we have ourselves.

use std::time::Duration;

use resolverd_common::key;

use super::bench::Bench;
use super::chase::Noted;
use super::whole::{self, Plain};
use super::{Begun, Call, Pending, Policy, Shared, answered_by};
use crate::dns::records::{self, Record};
use crate::dns::{Answer, Query, rcode};
use crate::policy::Said;

impl Shared {
    /// Answers what is no plain question for data: everything there is, or nothing but what we
    /// have ourselves.
    pub(super) fn answer_odd(
        &self,
        bench: &mut Bench,
        call: &Call<'_>,
        policy: &Policy,
        plain: Plain,
        out: &mut Vec<u8>,
    ) -> Begun<Pending> {
        let refuse = |out| self.refuse(call, &whole::glance(call.message), out);
        let Some(query) = bench.query(plain.ask) else { return refuse(out) };
        // RFC 8482 section 4.2 where we recurse; without RD only what is ours.
        let recurses = plain.recursion_desired;
        let said = match recurses {
            true => self.decide(policy, &self.rpz.load(), &query, Noted::No),
            false => policy.rules.local(&query).map(|ruling| ruling.said),
        };
        let answer = match said {
            Some(Said::Answer(answer)) => Some(answer),
            Some(Said::Drop) => return self.drop_it(),
            Some(Said::Truncate) if !call.limits.stream => return self.truncate(call, out),
            // As far as it is known here.
            Some(Said::Alias(alias)) => alias.alone(&query.name).ok(),
            Some(Said::Truncate) | None => None,
        };
        let answer = answer.or_else(|| recurses.then(|| minimal_any(&query)));
        let Some(answer) = answer else {
            let refusal = whole::glance(call.message).with(rcode::REFUSED);
            return self.refuse(call, &refusal, out);
        };
        let question = bench.question;
        self.say(bench, call, &question, &query, &answer, out);
        // RD is copied (RFC 1035 section 4.1.1).
        if let Some(octet) = out.get_mut(2) {
            *octet &= call.message[2] | !0x01;
        }
        self.count(call, answered_by(&answer.source), out);
        Begun::Reply
    }
}

/// RFC 8482 section 4.2: an answer to "everything" that says nothing, and may be kept.
fn minimal_any(query: &Query) -> Answer {
    let record = Record {
        owner: query.name.clone(),
        rtype: HINFO,
        class: key::CLASS_IN,
        ttl: ANY_TTL_SECS,
        rdata: b"\x07RFC8482\x00".to_vec(),
    };
    let Ok(body) = records::compose(&query.name, [&[record], &[], &[]]) else {
        return Answer::empty(rcode::NOTIMP, Duration::ZERO, None);
    };
    Answer {
        counts: body.counts,
        body: body.octets,
        ttl_offsets: body.ttl_offsets,
        ..Answer::empty(rcode::NOERROR, Duration::ZERO, None)
    }
}

const HINFO: u16 = 13;

/// How long who asked for everything may believe that there is nothing to see.
const ANY_TTL_SECS: u32 = 3_600;
