//! The whole way of a query: who asks, what is asked, do we know it, who knows it.
//!
//! ```text
//!   message ─▶ access list ─▶ parser ─▶ cache ─▶ local zones ─▶ resolver ─▶ cache ─▶ kernel
//!                 │             │         │           │                       │
//!              refusal       refusal      └───────────┴───── reply ◀──────────┘
//! ```
//!
//! `begin` goes as far as nobody has to be asked; `finish` is the rest. What is found on the way
//! is kept and, when it is worth it, published for the kernel, before the reply leaves.

mod driver;
pub mod explain;
mod refusal;
mod reply;
mod under_way;
mod whole;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use resolverd_common::key::{self, Key, NAME_WORDS};
use resolverd_common::question::{self, HEADER_LEN, Message, NameWords, Question};
use resolverd_common::reply::{Limits, question_len};
use tracing::{debug, warn};
use zerocopy::IntoBytes;

use crate::cache::{Cache, Held, Hit, Scope, State, promotion};
use crate::clock::{BootTime, boot_now};
use crate::dns::records::{self, Record};
use crate::dns::{Answer, Query, Source, rcode, rtype};
use crate::kernel::{FastPath, Mark, PublishError};
use crate::metrics::{AnsweredBy, Dropped, FlushScope, Metrics, Rcode, SizeClass};
use crate::policy::acl::{Acl, Verdict};
use crate::policy::local_zones::{LocalZones, ZoneError, ZoneSpec};
use crate::resolver::Resolver;

use driver::Background;
use refusal::Refusal;
use reply::{Desk, Said, Words};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
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
    started: BootTime,
}

/// What can change while the daemon runs, apart from the parts' own settings.
pub struct Policy {
    pub acl: Acl,
    pub zones: LocalZones,
    /// What our OPT says, and the most that is sent over UDP.
    pub edns_size: u16,
    /// What `zones` was made of, to see what a change is about.
    specs: Vec<ZoneSpec>,
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
    under_way: UnderWay,
    background: Background,
    metrics: Arc<Metrics>,
}

/// Places that one thread uses for one message after the other.
struct Bench {
    message: Message,
    name: NameWords,
    question: Question,
    desk: Desk,
    words: Vec<u64>,
}

thread_local! {
    static BENCH: RefCell<Bench> = const { RefCell::new(Bench::new()) };
}

impl Pipeline {
    /// Must be called within a tokio runtime: that is where answers are refreshed.
    #[must_use]
    pub fn new(
        cache: Cache,
        fast: Arc<dyn FastPath>,
        resolver: Resolver,
        policy: Policy,
        metrics: Arc<Metrics>,
    ) -> Self {
        let policy = ArcSwap::from_pointee(policy);
        let (under_way, background) = (UnderWay::default(), Background::here());
        let shared = Shared { cache, fast, resolver, policy, under_way, background, metrics };
        Self { shared: Arc::new(shared) }
    }

    /// Answers from what is known: never waits. `out` is cleared and filled.
    pub fn begin(&self, message: &[u8], client: &Client, out: &mut Vec<u8>) -> Begun<Pending> {
        let now = boot_now();
        out.clear();
        BENCH.with_borrow_mut(|bench| self.shared.begin(bench, message, client, now, out))
    }

    /// The rest of the way: asks others. `out` is cleared and filled, always with a reply.
    pub async fn finish(&self, pending: Pending, out: &mut Vec<u8>) {
        let Pending { question, query, message, transport, started } = pending;
        let shared = &self.shared;
        let answer = shared.look_up(question.key, &query).await;
        let limits = shared.policy.load().limits(transport);
        BENCH.with_borrow_mut(|bench| {
            out.clear();
            shared.say(bench, &query, &answer, &message, &question, &limits, out);
        });
        shared.count(transport, answered_by(&answer.source), out, started);
    }

    /// Takes over a new policy. What local zones said before is forgotten where they changed.
    pub fn reconfigure(&self, policy: Policy) {
        let shared = &self.shared;
        let new = Arc::new(policy);
        let old = shared.policy.swap(Arc::clone(&new));
        let gone = old.specs.iter().filter(|spec| !new.specs.contains(spec));
        let come = new.specs.iter().filter(|spec| !old.specs.contains(spec));
        let mut changed: Vec<_> = gone.chain(come).map(|spec| &spec.name).collect();
        changed.sort_unstable();
        changed.dedup();
        if changed.is_empty() {
            return;
        }
        for zone in changed {
            shared.cache.flush(&Scope::Zone(zone.clone()), || boot_now().0);
        }
        shared.fast.raise_epoch();
        shared.cache.next_round();
    }

    /// Forgets answers, in the daemon and in the kernel. True: too many flushes to remember one
    /// by one, so that everything went.
    pub fn flush(&self, scope: &Scope) -> bool {
        let Shared { cache, fast, metrics, .. } = &*self.shared;
        // First here, then in the kernel: what it passes on finds the entry judged already.
        // The round that ends this has those published again that were judged between.
        let overflow = cache.flush(scope, || boot_now().0);
        if overflow || *scope == Scope::All {
            fast.raise_epoch();
        } else {
            fast.raise_barrier();
        }
        cache.next_round();
        metrics.cache_flushes(flush_scope(scope)).inc();
        if overflow {
            metrics.cache_flushes(FlushScope::Overflow).inc();
            warn!("more flushes than are remembered one by one: all answers were forgotten");
        }
        overflow
    }

    /// Gives back the memory of flushed answers and counts them. Takes time: some 100 ns for
    /// each answer in the cache.
    #[must_use]
    pub fn sweep_flushed(&self) -> u64 {
        self.shared.cache.sweep_flushed()
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
        let refuse = |refusal: Refusal, out: &mut Vec<u8>| {
            refusal.write(message, policy.edns_size, out);
            let rcode = Rcode::from_wire(refusal.rcode);
            self.observe(client.transport, AnsweredBy::Daemon, rcode, now);
            Begun::Reply
        };
        if policy.acl.verdict(client.addr.ip()) == Verdict::Refuse {
            return refuse(not_served(message), out);
        }
        let limits = policy.limits(client.transport);
        if bench.read(message, self.fast.secret()).is_err() {
            let plain = match whole::read(message) {
                Ok(plain) => plain,
                Err(refusal) => return refuse(refusal, out),
            };
            if let Err(reason) = bench.read(plain.message(), self.fast.secret()) {
                debug!(?reason, "the plain form of a query is none");
                return refuse(whole::glance(message), out);
            }
            if plain.ask == Ask::Any || !plain.recursion_desired {
                let query = match bench.query(plain.ask) {
                    Some(query) => query,
                    None => return refuse(whole::glance(message), out),
                };
                let any = || {
                    let whole = plain.ask == Ask::Any && plain.recursion_desired;
                    whole.then(|| minimal_any(&query))
                };
                let Some(answer) = policy.zones.answer(&query).or_else(any) else {
                    return refuse(whole::glance(message).with(rcode::REFUSED), out);
                };
                let question = bench.question;
                self.say(bench, &query, &answer, message, &question, &limits, out);
                out[2] &= message[2] | !0x01;
                self.count(client.transport, answered_by(&answer.source), out, now);
                return Begun::Reply;
            }
        }

        let Bench { name, question, desk, .. } = bench;
        if let Some(hit) = self.cache.find(question.key, question.meta, name, now.0) {
            let said = Said { words: Words::Held(&hit.held), head: &hit.head };
            desk.write(&said, message, question, &limits, now.0, out);
            let rcode = Rcode::from_wire(hit.head.flags.rcode().into());
            self.observe(client.transport, AnsweredBy::Cache, rcode, now);
            if hit.publish || hit.refresh {
                self.after(bench, &hit, now.0);
            }
            return Begun::Reply;
        }

        let Some(query) = bench.query(Ask::Data) else {
            return refuse(whole::glance(message), out);
        };
        let question = bench.question;
        if self.resolver.is_own_probe(&query.name) {
            return refuse(whole::glance(message).with(rcode::REFUSED), out);
        }
        if let Some(answer) = policy.zones.answer(&query) {
            let began = Began { at: now.0, mark: self.fast.mark() };
            self.say(bench, &query, &answer, message, &question, &limits, out);
            self.keep(bench, question.key, &answer, began, now.0);
            self.count(client.transport, AnsweredBy::Local, out, now);
            return Begun::Reply;
        }
        let end = HEADER_LEN + question_len(question.name_len);
        Begun::Pending(Pending {
            question,
            query,
            message: message[..end].into(),
            transport: client.transport,
            started: now,
        })
    }

    /// Looks for an answer outside of the cache, and keeps it.
    async fn look_up(&self, key: Key, query: &Query) -> Answer {
        let waiting =
            self.under_way.join(key, || Began { at: boot_now().0, mark: self.fast.mark() });
        let answer = self.policy.load().zones.answer(query);
        let answer = match answer {
            Some(answer) => answer,
            None => self.resolver.resolve(query.clone()).await,
        };
        if waiting.keeps() {
            let now = boot_now().0;
            BENCH.with_borrow_mut(|bench| {
                if self.cache.build(query, &answer, now, &mut bench.words).is_ok() {
                    self.keep(bench, key, &answer, waiting.began, now);
                }
            });
        }
        answer
    }

    /// Writes an answer down as an entry, and the reply from that. The entry is left in `words`.
    #[expect(clippy::too_many_arguments, reason = "a message and all that its reply depends on")]
    fn say(
        &self,
        bench: &mut Bench,
        query: &Query,
        answer: &Answer,
        message: &[u8],
        question: &Question,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) {
        let now = boot_now().0;
        let Bench { desk, words, .. } = bench;
        let failure = Answer::empty(rcode::SERVFAIL, Duration::ZERO, None);
        let mut text = answer.ede.as_ref().map_or("", |ede| &ede.text);
        let head = self.cache.build(query, answer, now, words).or_else(|error| {
            debug!(?error, "an answer cannot be kept or sent");
            text = "";
            self.cache.build(query, &failure, now, words)
        });
        if let Ok(head) = head {
            let said = Said { words: Words::Built(words, text), head: &head };
            desk.write(&said, message, question, limits, now, out);
        }
    }

    /// Keeps the entry that stands in `words`, and publishes it if it is worth it.
    fn keep(&self, bench: &Bench, key: Key, answer: &Answer, began: Began, now: u64) {
        let text = answer.ede.as_ref().map_or("", |ede| &ede.text);
        if let Ok(stored) = self.cache.insert(key, &bench.words, text, began.at)
            && self.cache.promotes(&stored, now).is_ok()
        {
            self.publish(key, &stored.held, &bench.words, began.mark);
        }
    }

    /// What a hit is an occasion for, once its reply is written.
    fn after(self: &Arc<Self>, bench: &mut Bench, hit: &Hit, now: u64) {
        let Question { key, meta, .. } = bench.question;
        if hit.publish && promotion::eligible(&hit.head, now).is_ok() {
            // A flush may have come since it was found: the mark is from before another look.
            let mark = self.fast.mark();
            let seen = self.cache.peek(key, meta, &bench.name, now);
            if let Some(seen) = seen.filter(|seen| seen.state == State::Fresh) {
                bench.words.clear();
                bench.words.resize(seen.head.len_words(), 0);
                seen.held.copy_to(&mut bench.words);
                self.publish(key, &seen.held, &bench.words, mark);
            }
        }
        if hit.refresh
            && let Some(query) = bench.query(Ask::Data)
        {
            self.refresh(key, query);
        }
    }

    fn publish(&self, key: Key, held: &Held, entry: &[u64], read_at: Mark) {
        match self.fast.publish(key, entry, read_at) {
            Ok(class) => {
                self.cache.published(held, class);
                if let Some(label) = SizeClass::ALL.get(class) {
                    self.metrics.kernel_entries_published(*label).inc();
                }
            }
            Err(error @ PublishError::Map(_)) => {
                self.metrics.kernel_writes_failed.inc();
                debug!(%error, "answer not published");
            }
            Err(error) => debug!(%error, "answer not published"),
        }
    }

    /// Looks for an answer anew, in the background.
    fn refresh(self: &Arc<Self>, key: Key, query: Query) {
        if !self.under_way.contains(key) {
            let shared = Arc::clone(self);
            self.background.spawn(async move {
                shared.look_up(key, &query).await;
            });
        }
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
    fn count(&self, transport: Transport, by: AnsweredBy, out: &[u8], started: BootTime) {
        let rcode = out.get(3).map_or(rcode::SERVFAIL, |octet| octet & 0x0f);
        self.observe(transport, by, Rcode::from_wire(rcode.into()), started);
    }

    fn observe(&self, transport: Transport, by: AnsweredBy, rcode: Rcode, started: BootTime) {
        self.metrics.queries(transport.label(), by, rcode).inc();
        let took = boot_now().saturating_since(started);
        self.metrics.query_duration(by).observe(took.as_secs_f64());
    }
}

impl Policy {
    /// # Errors
    ///
    /// What is wrong with a zone.
    pub fn build(acl: Acl, zones: Vec<ZoneSpec>, edns_size: u16) -> Result<Self, ZoneError> {
        Ok(Self { acl, zones: LocalZones::build(&zones)?, edns_size, specs: zones })
    }

    fn limits(&self, transport: Transport) -> Limits {
        let stream = transport == Transport::Tcp;
        Limits { edns_size: self.edns_size, message_max: u16::MAX, stream }
    }
}

impl Bench {
    const fn new() -> Self {
        Self {
            message: Message::new(),
            name: [0; NAME_WORDS],
            question: Question {
                key: Key([0; 2]),
                meta: 0,
                name_len: 0,
                sum: 0,
                id: 0,
                edns: false,
                dnssec_ok: false,
                checking_disabled: false,
                authentic_data: false,
                udp_size: 0,
            },
            desk: Desk::new(),
            words: Vec::new(),
        }
    }

    /// Reads a message with the contract's parser.
    fn read(
        &mut self,
        message: &[u8],
        secret: &key::Secret,
    ) -> Result<(), resolverd_common::counters::Reason> {
        self.message.fill(message)?;
        let Self { message: place, name, question, .. } = self;
        question::parse(place, message.len(), VIEW, secret, name, question)
    }

    /// The question that was read, in the words of the other rooms.
    fn query(&self, ask: Ask) -> Option<Query> {
        let query = Query::of(self.question.meta, &self.name)?;
        Some(match ask {
            Ask::Data => query,
            Ask::Any => Query { qtype: rtype::ANY, ..query },
        })
    }
}

impl Transport {
    const fn label(self) -> crate::metrics::Transport {
        match self {
            Self::Udp => crate::metrics::Transport::Udp,
            Self::Tcp => crate::metrics::Transport::Tcp,
        }
    }
}

/// Why octets are nothing to answer at all.
fn is_no_query(message: &[u8]) -> Option<Dropped> {
    if message.len() < HEADER_LEN {
        Some(Dropped::Short)
    } else {
        // QR: who answers answers can be made to talk to himself.
        (message[2] & 0x80 != 0).then_some(Dropped::Response)
    }
}

/// For clients that the access list keeps out.
fn not_served(message: &[u8]) -> Refusal {
    let refusal = whole::glance(message).with(rcode::REFUSED);
    Refusal { ede: Some(EDE_PROHIBITED), recursion_available: false, ..refusal }
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

const fn answered_by(source: &Source) -> AnsweredBy {
    match source {
        Source::Local(_) => AnsweredBy::Local,
        Source::Upstream(_) => AnsweredBy::Upstream,
        Source::Daemon => AnsweredBy::Daemon,
    }
}

const fn flush_scope(scope: &Scope) -> FlushScope {
    match scope {
        Scope::Name(_) => FlushScope::Name,
        Scope::Zone(_) => FlushScope::Zone,
        Scope::All => FlushScope::All,
    }
}

/// Everybody's view: others come with `[[view]]`.
const VIEW: u16 = 0;

const HINFO: u16 = 13;

/// How long who asked for everything may believe that there is nothing to see.
const ANY_TTL_SECS: u32 = 3_600;

/// RFC 8914 section 4.19.
const EDE_PROHIBITED: u16 = 18;

#[cfg(test)]
mod tests;
