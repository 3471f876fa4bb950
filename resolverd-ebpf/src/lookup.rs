//! From the key to a copy of a fresh entry that answers this very question.
//!
//! Elements are reused while we hold them: copy, then check, then use. The generation is read
//! at both ends of the live value before and after the copy; the daemon's writes replace whole
//! values, so four equal readings mean a copy of one piece.

use core::sync::atomic::{Ordering, compiler_fence};

use resolverd_common::counters::Reason;
use resolverd_common::entry::{FLAGS_WORD, Flags, HEAD_WORDS, Head, Value, tail_agrees};
use resolverd_common::key::{NAME_WORDS, name_words};
use resolverd_common::settings::control;
use resolverd_common::unknown;

use crate::maps::{
    ANSWERS_128, ANSWERS_256, ANSWERS_512, ANSWERS_1280, ENTRY_WORDS, Scratch, control,
};

/// Finds the answer to the question and copies it to the scratch. Returns its claim: the last
/// word of the live value, where who reports it for prefetch leaves a mark.
#[inline(always)]
pub fn find(scratch: &mut Scratch, now: u64) -> Result<*mut u32, Reason> {
    let Scratch { question, entry, head, name, .. } = scratch;
    let small = ANSWERS_128.get_ptr_mut(&question.key).ok_or(Reason::Miss)?;
    let mut claim = copy(small, entry)?;
    // The first map may only say where to look.
    let class = Flags(entry[FLAGS_WORD] as u16).class();
    if class == 1 {
        claim = copy(ANSWERS_256.get_ptr_mut(&question.key).ok_or(Reason::Miss)?, entry)?;
    } else if class == 2 {
        claim = copy(ANSWERS_512.get_ptr_mut(&question.key).ok_or(Reason::Miss)?, entry)?;
    } else if class == 3 {
        claim = copy(ANSWERS_1280.get_ptr_mut(&question.key).ok_or(Reason::Miss)?, entry)?;
    }
    *head = Head::read(&[entry[0], entry[1], entry[2], entry[3], entry[4], entry[5]]);
    if head.meta != question.meta {
        return Err(Reason::Reused);
    }
    // Without a bound: the loop's own stays in the code, where the verifier sees it.
    let words = name_words(unknown(&mut question.name_len));
    let at = head.name_at();
    for i in 0..NAME_WORDS {
        if i >= words {
            break;
        }
        if entry[(at + i) & (ENTRY_WORDS - 1)] != name[i] {
            return Err(Reason::Reused);
        }
    }
    if !head.is_fresh(now) {
        return Err(Reason::Expired);
    }
    if head.epoch != control(control::EPOCH) as u32 || head.generation <= control(control::BARRIER)
    {
        return Err(Reason::Flushed);
    }
    Ok(claim)
}

/// Copies the live value; its words that count, and its claim.
#[inline(always)]
fn copy<const W: usize>(
    live: *mut Value<W>,
    to: &mut [u64; ENTRY_WORDS],
) -> Result<*mut u32, Reason> {
    let words = live.cast::<u64>();
    // SAFETY: a value of `W` words that stays mapped for the run. It may change under us,
    // hence volatile reads; what was torn is found below and thrown away.
    unsafe {
        let generation = words.read_volatile();
        let tail = words.add(W - 1).read_volatile();
        compiler_fence(Ordering::SeqCst);
        let mut i = 0;
        while i < W - 1 {
            to[i] = words.add(i).read();
            i += 1;
        }
        compiler_fence(Ordering::SeqCst);
        let tail_after = words.add(W - 1).read_volatile();
        let generation_after = words.read_volatile();
        if to[0] != generation
            || generation_after != generation
            || !tail_agrees(tail, generation)
            || !tail_agrees(tail_after, generation)
        {
            return Err(Reason::Reused);
        }
        const { assert!(HEAD_WORDS < W && W <= ENTRY_WORDS) };
        Ok(words.add(W - 1).cast())
    }
}
