//! The whole way of a query: who asks, what is asked, do we know it, who knows it.
//!
//! ```text
//!   message ─▶ access list ─▶ parser ─▶ cache ─▶ policy ─▶ resolver ─▶ policy ─▶ cache ─▶ kernel
//!               and view        │         │        │                     │         │
//!                 │          refusal      └────────┴────── reply ◀───────┴─────────┘
//!              refusal
//! ```
//!
//! `begin` goes as far as nobody has to be asked; `finish` is the rest. What is found on the way
//! is kept and, when it is worth it, published for the kernel, before the reply leaves.

mod admission;
mod bench;
mod chase;
mod driver;
pub mod explain;
mod flushing;
mod keeping;
mod odd;
pub mod policy;
mod refusal;
mod reply;
pub mod shelf;
mod stale;
mod telling;
mod under_way;
mod whole;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use resolverd_common::cookie::Secrets;
use resolverd_common::entry::Head;
use resolverd_common::key::{self, Key, NAME_WORDS};
use resolverd_common::question::{NameWords, Question};
use resolverd_common::reply::Limits;
use tracing::debug;
use zerocopy::IntoBytes;

use crate::cache::{Cache, Held, Hit};
use crate::clock::{BootTime, boot_now};
use crate::dns::{Answer, Query, Source, rcode};
use crate::kernel::FastPath;
use crate::metrics::{AnsweredBy, Metrics, PolicyRule, Rcode, StaleCause};
use crate::policy::limits::{Judged, Limiter};
use crate::policy::rpz::Feeds;
use crate::policy::{Admission, Rpz, Rules, Said, Verdict};
use crate::resolver::Resolver;
use crate::tap::Tap;

use admission::{is_no_query, is_notification, not_served};
use bench::{BENCH, Bench};
use chase::Noted;
use driver::Background;
use policy::{Apart, Outcome};
use refusal::Refusal;
use reply::Words;
use stale::Found;
use under_way::{Began, UnderWay};
use whole::Ask;

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub addr: SocketAddr,
    /// The address that was asked.
    pub local: IpAddr,
    pub transport: Transport,
}

/// The way a message came. All but UDP are streams: no message on them is truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTP/2 (RFC 8484).
    Https,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS over HTTP/3.
    H3,
}

/// What became of a message without waiting.
#[derive(Debug)]
pub enum Begun<P> {
    /// `out` holds the reply.
    Reply,
    /// Nothing is sent.
    Drop,
    /// Somebody must be asked: this goes to `finish`.
    Pending(P),
}

/// A question that waits for the resolver.
#[derive(Debug)]
pub struct Pending {
    question: Question,
    query: Query,
    /// The message up to the end of its question.
    message: Box<[u8]>,
    transport: Transport,
    octets_max: u16,
    started: BootTime,
    from: IpAddr,
    /// For who is told of its answer.
    told: Option<Box<Client>>,
    /// What a rule for the client makes of it.
    apart: Option<Box<Apart>>,
}

/// What can change while the daemon runs, apart from the parts' own settings.
pub struct Policy {
    pub rules: Rules,
    pub limiter: Limiter,
    /// What our OPT says, and the most that is sent over UDP.
    pub edns_size: u16,
    /// A digest of all of it that is in answers.
    pub digest: u64,
    /// A digest of what answers of upstreams are made into.
    pub answers: u64,
}

/// Cheap to clone: all clones are one pipeline.
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Cache,
    fast: Arc<dyn FastPath>,
    resolver: Resolver,
    policy: ArcSwap<Policy>,
    /// None: cookies are off.
    cookies: ArcSwapOption<Secrets>,
    rpz: ArcSwap<Rpz>,
    /// Boot time from which on answers were held against the rules about servers of now.
    servers_judged_from: AtomicU64,
    feeds: ArcSwapOption<Feeds>,
    under_way: UnderWay,
    background: Background,
    tap: Tap,
    metrics: Arc<Metrics>,
}

impl Pipeline {
    /// Must be called within a tokio runtime: that is where answers are refreshed.
    #[must_use]
    pub fn new(
        cache: Cache,
        fast: Arc<dyn FastPath>,
        resolver: Resolver,
        policy: Policy,
        tap: Tap,
        metrics: Arc<Metrics>,
    ) -> Self {
        let policy = ArcSwap::from_pointee(policy);
        let (under_way, background) = (UnderWay::default(), Background::here());
        let (rpz, feeds) = (ArcSwap::default(), ArcSwapOption::empty());
        let shared = Shared {
            cache,
            fast,
            resolver,
            policy,
            cookies: ArcSwapOption::empty(),
            rpz,
            servers_judged_from: AtomicU64::new(0),
            feeds,
            under_way,
            background,
            tap,
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers from what is known: never waits. `out` is cleared and filled.
    pub fn begin(&self, message: &[u8], client: &Client, out: &mut Vec<u8>) -> Begun<Pending> {
        let now = boot_now();
        out.clear();
        let mut begun =
            BENCH.with_borrow_mut(|bench| self.shared.begin(bench, message, client, now, out));
        if self.shared.tap.hears_clients() {
            self.shared.tell_begun(message, client, now, &mut begun, out);
        }
        begun
    }

    /// The rest of the way: asks others. `out` is cleared and filled; it stays empty where policy
    /// has nothing sent.
    pub async fn finish(&self, pending: Pending, out: &mut Vec<u8>) {
        let Pending { started, from, .. } = pending;
        let Pending { question, query, message, transport, octets_max, told, apart, .. } = pending;
        let shared = &self.shared;
        let found = match apart.map(|apart| *apart) {
            None => match shared.look_up_in_time(question.key, &query).await {
                Found::Outcome(Outcome::Truncate) if transport != Transport::Udp => {
                    Found::Outcome(shared.look_up_apart(&query, None).await)
                }
                found => found,
            },
            Some(Apart::Exempt) => Found::Outcome(shared.look_up_apart(&query, None).await),
            Some(Apart::Said(said)) => {
                Found::Outcome(shared.look_up_apart(&query, Some(said)).await)
            }
        };
        let limits = shared.policy.load().limits(transport, octets_max);
        let call = Call { message: &message, transport, limits, started, from };
        out.clear();
        BENCH.with_borrow_mut(|bench| match found {
            Found::Outcome(Outcome::Answer(answer)) => {
                shared.say(bench, &call, &question, &query, &answer, out);
                shared.count(&call, answered_by(&answer.source), out);
            }
            Found::Outcome(Outcome::Drop) => drop(shared.drop_it()),
            Found::Outcome(Outcome::Truncate) => drop(shared.truncate(&call, out)),
            Found::Stale(seen) => {
                let said = reply::Said { words: Words::Held(&seen.held), head: &seen.head };
                bench.desk.write(&said, &message, &question, &limits, boot_now().0, out);
                shared.count(&call, AnsweredBy::Cache, out);
            }
        });
        if let Some(client) = told {
            shared.tell_answer(&message, &client, started, out);
        }
    }

    /// What cookies are made and checked with from now on; `None`: they are off.
    pub fn set_cookies(&self, secrets: Option<Secrets>) {
        self.shared.cookies.store(secrets.map(Arc::new));
    }

    /// The kernel answered this: one report in so many answers.
    pub fn on_sample(&self, query: &Query) {
        let (key, meta, name) = self.shared.key(query);
        self.shared.cache.touch(key, meta, &name);
    }

    /// The kernel answered this from an entry that is about to expire.
    pub fn on_prefetch(&self, query: &Query) {
        let (key, meta, name) = self.shared.key(query);
        let seen = self.shared.cache.peek(key, meta, &name, boot_now().0);
        // The first report of an entry counts, whoever sent it.
        if seen.is_none_or(|seen| seen.held.mark_refreshing()) {
            self.shared.refresh(key, query.clone());
        }
    }

    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.shared.cache
    }

    #[must_use]
    pub fn resolver(&self) -> &Resolver {
        &self.shared.resolver
    }
}

/// A message on its way, and what it is answered by.
struct Call<'a> {
    /// At least up to the end of its question.
    message: &'a [u8],
    transport: Transport,
    limits: Limits,
    started: BootTime,
    from: IpAddr,
}

impl Shared {
    fn begin(
        self: &Arc<Self>,
        bench: &mut Bench,
        message: &[u8],
        client: &Client,
        now: BootTime,
        out: &mut Vec<u8>,
    ) -> Begun<Pending> {
        if let Some(reason) = is_no_query(message) {
            self.metrics.packets_dropped(reason).inc();
            return Begun::Drop;
        }
        let policy = self.policy.load();
        let transport = client.transport;
        let limits = policy.limits(transport, u16::MAX);
        let from = client.addr.ip();
        let mut call = Call { message, transport, limits, started: now, from };
        // A primary need not be a client.
        if is_notification(message) && self.heard(client, message, out) {
            self.count(&call, AnsweredBy::Daemon, out);
            return Begun::Reply;
        }
        let Admission { verdict, view } = policy.rules.admit(client.addr.ip(), client.way());
        if verdict == Verdict::Refuse {
            self.metrics.policy_answers(PolicyRule::Acl).inc();
            return match self.judge(&policy, &mut call, client, false) {
                Judged::Drop => Begun::Drop,
                _ => self.refuse(&call, &not_served(message), out),
            };
        }
        let plainly = bench.read(message, view, self.fast.secret()).is_ok();
        let whole = if plainly { None } else { Some(whole::read(message)) };
        if let Some(Ok(plain)) = &whole
            && let Err(reason) = bench.read(plain.message(), view, self.fast.secret())
        {
            debug!(?reason, "the plain form of a query is none");
            return self.refuse(&call, &whole::glance(message), out);
        }
        let readable = !matches!(whole, Some(Err(_)));
        let proven = readable && self.check_cookie(bench, client);
        let judged = self.judge(&policy, &mut call, client, proven);
        if judged == Judged::Drop {
            return Begun::Drop;
        }
        match whole {
            Some(Err(refusal)) => return self.refuse(&call, &refusal, out),
            Some(Ok(plain)) if plain.ask != Ask::Data || !plain.recursion_desired => {
                return self.answer_odd(bench, &call, &policy, plain, out);
            }
            _ => {}
        }
        let rpz = self.rpz.load();
        if judged != Judged::Slip
            && rpz.knows(view, client.addr.ip())
            && let Some(query) = bench.query(Ask::Data)
            && let Some(apart) = self.apart(&policy, &rpz, client.addr.ip(), &query)
        {
            // Before the cache, which has what others are answered, and beside it.
            return self.begin_apart(bench, &call, query, apart, out);
        }
        if let Some(hit) = self.find(bench, now.0) {
            let said = reply::Said { words: Words::Held(&hit.held), head: &hit.head };
            bench.desk.write(&said, message, &bench.question, &call.limits, now.0, out);
            let rcode = Rcode::from_wire(hit.head.flags.rcode().into());
            self.observe(&call, AnsweredBy::Cache, rcode);
            if hit.held.is_stale() {
                self.metrics.cache_stale_answers(StaleCause::Recheck).inc();
            }
            if hit.publish || hit.refresh {
                self.after(bench, &hit, now.0);
            }
            return Begun::Reply;
        }
        let question = bench.question;
        let query = match bench.query(Ask::Data) {
            Some(query) if !self.resolver.is_own_probe(&query.name) => query,
            _ => return self.refuse(&call, &whole::glance(message).with(rcode::REFUSED), out),
        };
        match self.decide(&policy, &rpz, &query, Noted::No) {
            Some(Said::Answer(answer)) => {
                let began = Began { at: now.0, mark: self.fast.mark() };
                self.say(bench, &call, &question, &query, &answer, out);
                self.keep(bench, question.key, &answer, began, now.0);
                self.count(&call, answered_by(&answer.source), out);
                Begun::Reply
            }
            Some(Said::Drop) => self.drop_it(),
            Some(Said::Truncate) if !call.limits.stream => self.truncate(&call, out),
            Some(Said::Truncate) => self.pending(bench, &call, query, Some(Apart::Exempt)),
            Some(Said::Alias(_)) | None if judged == Judged::Slip => {
                // Nobody is asked for who asks too much.
                let empty = Answer::empty(rcode::NOERROR, Duration::ZERO, None);
                self.say(bench, &call, &question, &query, &empty, out);
                self.count(&call, AnsweredBy::Daemon, out);
                Begun::Reply
            }
            Some(Said::Alias(_)) | None => self.pending(bench, &call, query, None),
        }
    }

    fn find(&self, bench: &Bench, now: u64) -> Option<Hit> {
        let Question { key, meta, .. } = bench.question;
        // An entry from before a change of policy is held against the new one, once.
        let judge = |held: &Held, head: &Head| {
            let query = bench.query(Ask::Data);
            query.is_some_and(|query| self.passes(&query, held, head, now))
        };
        self.cache.find_judged(key, meta, &bench.name, now, judge)
    }

    /// Writes an answer down as an entry, and the reply from that. The entry is left in `words`.
    fn say(
        &self,
        bench: &mut Bench,
        call: &Call<'_>,
        question: &Question,
        query: &Query,
        answer: &Answer,
        out: &mut Vec<u8>,
    ) {
        let now = boot_now().0;
        let Bench { desk, words, .. } = bench;
        if self.tap.hears_answers() {
            telling::note_source(&answer.source);
        }
        let mut text = answer.ede.as_ref().map_or("", |ede| &ede.text);
        let head = self.cache.build(query, answer, now, words).or_else(|error| {
            debug!(?error, "an answer cannot be kept or sent");
            text = "";
            let failure = Answer::empty(rcode::SERVFAIL, Duration::ZERO, None);
            self.cache.build(query, &failure, now, words)
        });
        if let Ok(head) = head {
            let said = reply::Said { words: Words::Built(words, text), head: &head };
            desk.write(&said, call.message, question, &call.limits, now, out);
            self.note_cut(call, question, out);
        }
    }

    fn refuse(&self, call: &Call<'_>, refusal: &Refusal, out: &mut Vec<u8>) -> Begun<Pending> {
        let asked = refusal.edns.and_then(|edns| edns.cookie);
        let cookie = asked.and_then(|asked| self.cookie_for(&asked, call.from));
        refusal.write(call.message, call.limits.edns_size, cookie.as_ref(), out);
        self.observe(call, AnsweredBy::Daemon, Rcode::from_wire(refusal.rcode));
        Begun::Reply
    }

    /// The question as the caches know it.
    fn key(&self, query: &Query) -> (Key, u64, NameWords) {
        let wire = query.name.as_wire();
        let mut name = [0; NAME_WORDS];
        name.as_mut_bytes()[..wire.len()].copy_from_slice(wire);
        let meta = query.meta();
        let words = key::name_words(wire.len()).min(NAME_WORDS);
        (key::of(self.fast.secret(), meta, &name[..words]), meta, name)
    }

    /// Counts the reply in `out`.
    fn count(&self, call: &Call<'_>, by: AnsweredBy, out: &[u8]) {
        let rcode = out.get(3).map_or(rcode::SERVFAIL, |octet| octet & 0x0f);
        self.observe(call, by, Rcode::from_wire(rcode.into()));
    }

    fn observe(&self, call: &Call<'_>, by: AnsweredBy, rcode: Rcode) {
        if self.tap.hears_answers() {
            telling::note(by);
        }
        self.metrics.queries(call.transport.label(), by, rcode).inc();
        let took = boot_now().saturating_since(call.started);
        self.metrics.query_duration(by).observe(took.as_secs_f64());
    }
}

impl Policy {
    fn limits(&self, transport: Transport, octets_max: u16) -> Limits {
        let stream = transport != Transport::Udp;
        Limits { edns_size: self.edns_size, message_max: octets_max, stream }
    }
}

impl Transport {
    /// What metrics and reports call it.
    #[must_use]
    pub const fn label(self) -> crate::metrics::Transport {
        match self {
            Self::Udp => crate::metrics::Transport::Udp,
            Self::Tcp => crate::metrics::Transport::Tcp,
            Self::Tls => crate::metrics::Transport::Tls,
            Self::Https => crate::metrics::Transport::Https,
            Self::Quic => crate::metrics::Transport::Quic,
            Self::H3 => crate::metrics::Transport::H3,
        }
    }

    /// Whether nobody on the way can read along.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }
}

const fn answered_by(source: &Source) -> AnsweredBy {
    match source {
        Source::Local(_) | Source::Rpz(_) => AnsweredBy::Local,
        Source::Upstream(_) => AnsweredBy::Upstream,
        Source::Daemon => AnsweredBy::Daemon,
    }
}

#[cfg(test)]
mod tests;
