//! Who has proven where he is, and who asks too much: what the kernel program judges before its
//! lookup, judged for what it passes.

use std::net::IpAddr;
use std::time::SystemTime;

use resolverd_common::cookie::{CLIENT_LEN, Cookie, SERVER_LEN};
use resolverd_common::counters::Cookies;
use resolverd_common::question::{HEADER_LEN, Question};
use resolverd_common::settings::address_words;

use super::bench::Bench;
use super::refusal::{COOKIE_LEN, CookieData, Refusal};
use super::{Call, Client, Policy, Shared, Transport, whole};
use crate::clock::wall_now;
use crate::dns::rcode;
use crate::metrics::{Dropped, Limited};
use crate::policy::limits::Judged;

impl Shared {
    /// Checks the cookie of the question that was read, and puts the answer's in its place.
    /// Returns whether it was one of ours for this client.
    pub(super) fn check_cookie(&self, bench: &mut Bench, client: &Client) -> bool {
        let cookie = &mut bench.question.cookie;
        let secrets = self.cookies.load();
        let Some(secrets) = secrets.as_deref() else {
            cookie.len = 0;
            return false;
        };
        if cookie.len == 0 {
            return false;
        }
        let alone = cookie.len == CLIENT_LEN;
        let address = address_words(client.addr.ip().to_canonical());
        let valid = cookie.answer(secrets, wall_secs(), &address);
        let kind = match (valid, alone) {
            (true, _) => Cookies::Valid,
            (false, true) => Cookies::Client,
            (false, false) => Cookies::Invalid,
        };
        self.metrics.policy_cookies(kind).inc();
        valid
    }

    /// The cookie that goes with an answer of no records. None: there was none, or cookies are off.
    pub(super) fn cookie_for(&self, asked: &CookieData, from: IpAddr) -> Option<[u8; COOKIE_LEN]> {
        let secrets = self.cookies.load();
        let secrets = secrets.as_deref()?;
        let (client, server) = asked.data().split_first_chunk()?;
        let words = <[u8; SERVER_LEN]>::try_from(server).ok();
        let words = words.unwrap_or_default();
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| words[at + i]));
        let mut cookie = Cookie {
            len: asked.data().len(),
            client: u64::from_ne_bytes(*client),
            server: [word(0), word(8)],
        };
        cookie.answer(secrets, wall_secs(), &address_words(from.to_canonical()));
        let Cookie { client, server: [first, second], .. } = cookie;
        let words = [client, first, second].map(u64::to_ne_bytes);
        words.as_flattened().try_into().ok()
    }

    /// Whether the client asks too much. Bounds its answer.
    pub(super) fn judge(
        &self,
        policy: &Policy,
        call: &mut Call<'_>,
        client: &Client,
        proven: bool,
    ) -> Judged {
        // Over a stream an address is its sender's.
        if call.transport != Transport::Udp {
            return Judged::Answer { octets_max: u16::MAX };
        }
        let now = call.started.0;
        let judged = policy.limiter.judge(client.addr.ip(), call.message.len(), proven, now);
        match judged {
            Judged::Answer { octets_max } => call.limits.message_max = octets_max,
            Judged::Slip => {
                call.limits.message_max = 0;
                self.metrics.policy_rate_limited(Limited::Slip).inc();
            }
            Judged::Drop => self.metrics.policy_rate_limited(Limited::Drop).inc(),
        }
        judged
    }

    /// Counts an answer that was cut for being too large for its query.
    pub(super) fn note_cut(&self, call: &Call<'_>, question: &Question, out: &[u8]) {
        let max = call.limits.message_max;
        let size = question.udp_size.min(call.limits.edns_size);
        let cut = out.get(2).is_some_and(|octet| octet & 0x02 != 0);
        if cut && max != 0 && max < size {
            self.metrics.policy_amplified.inc();
        }
    }
}

/// Modulo 2^32 (RFC 9018 section 4.3).
fn wall_secs() -> u32 {
    wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as u32
}

/// Why octets are nothing to answer at all.
pub(super) fn is_no_query(message: &[u8]) -> Option<Dropped> {
    if message.len() < HEADER_LEN {
        Some(Dropped::Short)
    } else {
        // QR: who answers answers can be made to talk to himself.
        (message[2] & 0x80 != 0).then_some(Dropped::Response)
    }
}

/// Whether a message says that there is something new in a zone (RFC 1996).
pub(super) fn is_notification(message: &[u8]) -> bool {
    message[2] & 0x78 == NOTIFY << 3
}

/// For clients that the access list keeps out.
pub(super) fn not_served(message: &[u8]) -> Refusal {
    let refusal = whole::glance(message).with(rcode::REFUSED);
    Refusal { ede: Some(EDE_PROHIBITED), recursion_available: false, ..refusal }
}

const NOTIFY: u8 = 4;
/// RFC 8914 section 4.19.
const EDE_PROHIBITED: u16 = 18;
