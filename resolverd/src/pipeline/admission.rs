//! Who has proven where he is, and who asks too much: what the kernel program judges before its
//! lookup, judged for what it passes.

use std::time::SystemTime;

use resolverd_common::cookie::CLIENT_LEN;
use resolverd_common::counters::Cookies;
use resolverd_common::question::Question;
use resolverd_common::settings::address_words;

use super::bench::Bench;
use super::{Call, Client, Policy, Shared, Transport};
use crate::clock::wall_now;
use crate::metrics::Limited;
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
        let wall = wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let address = address_words(client.addr.ip().to_canonical());
        let valid = cookie.answer(secrets, wall.as_secs() as u32, &address);
        let kind = match (valid, alone) {
            (true, _) => Cookies::Valid,
            (false, true) => Cookies::Client,
            (false, false) => Cookies::Invalid,
        };
        self.metrics.policy_cookies(kind).inc();
        valid
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
