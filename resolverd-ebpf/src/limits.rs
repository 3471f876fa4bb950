//! Who has proven where he is, and who asks too much.
//!
//! Before the lookup: what is over the limit costs no more than this. A valid cookie, and a source
//! that the daemon exempted, are free of both limits.

use resolverd_common::counters::Cookies;
use resolverd_common::settings::{Settings, Source, control};
use resolverd_common::time::SECOND;

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;

use crate::maps::{LIMITS, Scratch, control};

/// What becomes of a query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It is answered, within the octets in the scratch.
    Answer,
    Drop,
}

/// Checks the cookie and puts the answer's in its place; then keeps the pace of the client's
/// prefix.
#[inline(always)]
pub fn judge(
    source: Source,
    query_len: usize,
    settings: &Settings,
    scratch: &mut Scratch,
    now: u64,
) -> Judged {
    scratch.cookie = cookie(settings, scratch, now) as u64;
    scratch.answer_max = u16::MAX as usize;
    if scratch.cookie == Cookies::Valid as u64 || source.flags & Source::EXEMPT != 0 {
        return Judged::Answer;
    }
    let limits = &settings.limits;
    scratch.answer_max = limits.answer_max(query_len);
    if limits.interval == 0 {
        return Judged::Answer;
    }
    let address = scratch.source.data;
    let prefix = limits.prefix(&address);
    // Two CPUs that meet here may let one answer more go than is due: for a bound on what
    // strangers are sent that is near enough, and it costs no lock.
    let paid = match LIMITS.get_ptr_mut(&prefix) {
        // SAFETY: a word of a live element. It may be reused for another prefix meanwhile, which
        // costs that one an answer at most.
        Some(word) => unsafe {
            match limits.pace(word.read_volatile(), now) {
                Some(until) => {
                    word.write_volatile(until);
                    true
                }
                None => false,
            }
        },
        None => {
            // A full map evicts; one that cannot take it lets this answer go.
            let _ = LIMITS.insert(&prefix, &(now + limits.interval), 0);
            true
        }
    };
    if paid {
        return Judged::Answer;
    }
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    if limits.slip != 0 && random % limits.slip == 0 {
        scratch.answer_max = 0;
        return Judged::Answer;
    }
    Judged::Drop
}

#[inline(always)]
fn cookie(settings: &Settings, scratch: &mut Scratch, now: u64) -> Cookies {
    let address = scratch.source.data;
    let cookie = &mut scratch.question.cookie;
    if settings.cookies == 0 {
        cookie.len = 0;
    }
    if cookie.len == 0 {
        return Cookies::Absent;
    }
    let wall = now.wrapping_add(control(control::WALL)) / SECOND;
    let alone = cookie.len == resolverd_common::cookie::CLIENT_LEN;
    if cookie.answer(&settings.cookie_secrets, wall as u32, &address) {
        Cookies::Valid
    } else if alone {
        Cookies::Client
    } else {
        Cookies::Invalid
    }
}
