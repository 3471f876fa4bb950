//! DNS messages by hand, and what must be the same in two answers to one question.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::Ask;

/// A query of these octets, changed by hand.
pub fn changed(ask: Ask, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut octets = ask.bytes();
    change(&mut octets);
    octets
}

/// A query with RD whose question section is what `question` says, and nothing behind it.
pub fn of_question(question: &[u8]) -> Vec<u8> {
    let mut octets = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    octets.extend(question);
    octets
}

/// Adds a record to the additional section, and counts it there.
pub fn add(octets: &mut Vec<u8>, record: &[u8]) {
    octets[11] += 1;
    octets.extend(record);
}

/// A record with an owner in wire form.
pub fn record(owner: &[u8], rtype: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut octets = owner.to_vec();
    octets.extend(rtype.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets
}

/// An OPT of size 1232 with this TTL field and these options.
pub fn opt(ttl: u32, options: &[u8]) -> Vec<u8> {
    record(&[0], 41, 1232, ttl, options)
}

/// The first answer with the second: equal but for the identifier, the server's part of a cookie,
/// and TTLs that `between` may have aged.
pub fn compare(query: &[u8], first: &[u8], second: &[u8], between: Duration) -> Result<()> {
    let question = 12..end_of_question(query).context("a question")?;
    for answer in [first, second] {
        let back = answer.get(question.clone());
        ensure!(back == query.get(question.clone()), "question or casing changed: {answer:02x?}");
    }
    let (one, one_ttls) = unaged(first)?;
    let (other, other_ttls) = unaged(second)?;
    if one != other {
        let at = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        bail!("differ at octet {at}:\n  {}\n  {}", hex(first), hex(second));
    }
    let seconds = between.as_secs() as u32 + 1;
    for (first, second) in one_ttls.iter().zip(&other_ttls) {
        let aged = second <= first && first - second <= seconds;
        ensure!(aged, "TTL {first} became {second} in {between:?}");
    }
    Ok(())
}

/// A message without identifier and TTLs, and the TTLs.
fn unaged(octets: &[u8]) -> Result<(Vec<u8>, Vec<u32>)> {
    let mut message = octets.to_vec();
    let mut ttls = Vec::new();
    message.get_mut(..2).context("no identifier")?.fill(0);
    let mut at = end_of_question(octets).context("no question")?;
    let counts = [6, 8, 10].map(|at| word(octets, at).map_or(0, u32::from));
    for _ in 0..counts.iter().sum() {
        at = end_of_name(octets, at).context("an owner ends early")?;
        let rtype = word(octets, at).context("a record ends early")?;
        // OPT has other things there (RFC 6891 section 6.1.3).
        if rtype == 41 {
            if let Some(made) = server_cookie(octets, at + 10) {
                message[made].fill(0);
            }
        } else {
            let ttl = message.get_mut(at + 4..at + 8).context("a record ends early")?;
            ttls.push(u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]));
            ttl.fill(0);
        }
        let len = word(octets, at + 8).context("a record ends early")?;
        at += 10 + usize::from(len);
    }
    ensure!(at == octets.len(), "{} octets, records to {at}: {}", octets.len(), hex(octets));
    Ok((message, ttls))
}

/// Where the server's part of the cookie is that an answer's options begin with.
pub fn server_cookie(octets: &[u8], options: usize) -> Option<Range<usize>> {
    let (code, len) = (word(octets, options)?, word(octets, options + 2)?);
    let data = options + 4;
    (code == 10 && len == 24 && data + 24 <= octets.len()).then_some(data + 8..data + 24)
}

fn end_of_question(octets: &[u8]) -> Option<usize> {
    match word(octets, 4)? {
        0 => Some(12),
        _ => Some(end_of_name(octets, 12)? + 4),
    }
}

fn end_of_name(octets: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]))
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
