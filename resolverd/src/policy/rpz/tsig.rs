//! Messages signed with a shared secret (RFC 8945): ours, and those of a stream of answers.
//!
//! Pure: the time comes from outside. HMAC with SHA-2 only; what MD5 and SHA-1 sign is not
//! believed. An answer may come in many messages of which some are unsigned: each signature
//! covers all since the one before (section 5.3.1).

use ring::hmac;

use crate::dns::Name;
use crate::dns::records::read_name;

pub use crate::config::TsigAlgorithm;

/// A secret and its name.
#[derive(Clone, Debug)]
pub struct Key {
    name: Name,
    algorithm: TsigAlgorithm,
    key: hmac::Key,
}

/// What a message says of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tsig {
    name: Name,
    algorithm: Name,
    /// Seconds since 1970.
    time: u64,
    fudge: u16,
    mac: Vec<u8>,
    original_id: [u8; 2],
    error: u16,
    other: Vec<u8>,
    /// Where the record begins in its message.
    at: usize,
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TsigError {
    #[error("the message is malformed")]
    Malformed,
    #[error("the message is not signed")]
    Unsigned,
    #[error("the message is signed by another key, or in another way")]
    OtherKey,
    #[error(
        "the other side does not accept our signature: error {0} (16 BADSIG, 17 BADKEY, 18 BADTIME)"
    )]
    Refused(u16),
    #[error("the signature is wrong")]
    BadSignature,
    #[error("the signature is {0} seconds from our time: is a clock wrong?")]
    BadTime(u64),
    #[error("more than {UNSIGNED_MAX} messages without a signature")]
    TooManyUnsigned,
}

impl Key {
    #[must_use]
    pub fn new(name: Name, algorithm: TsigAlgorithm, secret: &[u8]) -> Self {
        let hash = match algorithm {
            TsigAlgorithm::Sha256 => hmac::HMAC_SHA256,
            TsigAlgorithm::Sha384 => hmac::HMAC_SHA384,
            TsigAlgorithm::Sha512 => hmac::HMAC_SHA512,
        };
        Self { name, algorithm, key: hmac::Key::new(hash, secret) }
    }

    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    const fn algorithm_wire(&self) -> &'static [u8] {
        match self.algorithm {
            TsigAlgorithm::Sha256 => b"\x0bhmac-sha256\0",
            TsigAlgorithm::Sha384 => b"\x0bhmac-sha384\0",
            TsigAlgorithm::Sha512 => b"\x0bhmac-sha512\0",
        }
    }

    /// Signs a message; `request` is the signature of what it answers. Gives the signature.
    pub fn sign(&self, message: &mut Vec<u8>, request: Option<&[u8]>, now_secs: u64) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        if let Some(mac) = request {
            update_mac(&mut context, mac);
        }
        context.update(message);
        self.update_variables(&mut context, now_secs, FUDGE_SECS, 0, &[]);
        let mac = context.sign().as_ref().to_vec();
        let id = [message[0], message[1]];
        message.extend_from_slice(self.name.as_wire());
        message.extend_from_slice(&TYPE_TSIG.to_be_bytes());
        message.extend_from_slice(&CLASS_AND_TTL);
        let algorithm = self.algorithm_wire();
        let length = algorithm.len() + 6 + 2 + 2 + mac.len() + 2 + 2 + 2;
        // Some 80 octets.
        message.extend_from_slice(&(length as u16).to_be_bytes());
        message.extend_from_slice(algorithm);
        message.extend_from_slice(&now_secs.to_be_bytes()[2..]);
        message.extend_from_slice(&FUDGE_SECS.to_be_bytes());
        message.extend_from_slice(&(mac.len() as u16).to_be_bytes());
        message.extend_from_slice(&mac);
        message.extend_from_slice(&id);
        message.extend_from_slice(&[0, 0, 0, 0]);
        let additionals = u16::from_be_bytes([message[10], message[11]]) + 1;
        message[10..12].copy_from_slice(&additionals.to_be_bytes());
        mac
    }

    /// Checks a request that came to us. Gives its signature, for the answer's.
    ///
    /// # Errors
    ///
    /// See [`TsigError`].
    pub fn check_request(&self, message: &[u8], now_secs: u64) -> Result<Vec<u8>, TsigError> {
        let tsig = read(message)?.ok_or(TsigError::Unsigned)?;
        let mut context = hmac::Context::with_key(&self.key);
        update_message(&mut context, message, &tsig);
        self.update_variables(&mut context, tsig.time, tsig.fudge, tsig.error, &tsig.other);
        self.verdict(&tsig, &context.sign(), now_secs)?;
        Ok(tsig.mac)
    }

    fn update_variables(
        &self,
        context: &mut hmac::Context,
        time: u64,
        fudge: u16,
        error: u16,
        other: &[u8],
    ) {
        context.update(self.name.as_wire());
        context.update(&CLASS_AND_TTL);
        context.update(self.algorithm_wire());
        update_times(context, time, fudge);
        context.update(&error.to_be_bytes());
        // At most a record's data.
        context.update(&(other.len() as u16).to_be_bytes());
        context.update(other);
    }

    fn verdict(&self, tsig: &Tsig, made: &hmac::Tag, now_secs: u64) -> Result<(), TsigError> {
        if tsig.name != self.name || tsig.algorithm.as_wire() != self.algorithm_wire() {
            return Err(TsigError::OtherKey);
        }
        // Section 5.3.2: who refuses our key cannot sign that he does.
        if tsig.mac.is_empty() && tsig.error != 0 {
            return Err(TsigError::Refused(tsig.error));
        }
        // Shortened signatures (section 5.2.2.1) are not believed.
        if !equal(made.as_ref(), &tsig.mac) {
            return Err(TsigError::BadSignature);
        }
        if tsig.error != 0 {
            return Err(TsigError::Refused(tsig.error));
        }
        let apart = now_secs.abs_diff(tsig.time);
        if apart > tsig.fudge.into() { Err(TsigError::BadTime(apart)) } else { Ok(()) }
    }
}

/// Checks the messages of one answer, in their order.
pub struct Verifier {
    key: Key,
    /// What the next signature covers so far.
    context: hmac::Context,
    first: bool,
    unsigned: usize,
}

impl Verifier {
    /// For the answer to a request with this signature.
    #[must_use]
    pub fn new(key: Key, request_mac: &[u8]) -> Self {
        let context = begun(&key, request_mac);
        Self { key, context, first: true, unsigned: 0 }
    }

    /// Takes in the next message.
    ///
    /// # Errors
    ///
    /// See [`TsigError`]. The answer is not to be believed then, nor what came before of it.
    pub fn check(&mut self, message: &[u8], now_secs: u64) -> Result<(), TsigError> {
        let Some(tsig) = read(message)? else {
            // Section 5.3.1: the first message is signed, and one in a hundred.
            if self.first {
                return Err(TsigError::Unsigned);
            }
            self.unsigned += 1;
            if self.unsigned > UNSIGNED_MAX {
                return Err(TsigError::TooManyUnsigned);
            }
            self.context.update(message);
            return Ok(());
        };
        update_message(&mut self.context, message, &tsig);
        if self.first {
            let Tsig { time, fudge, error, ref other, .. } = tsig;
            self.key.update_variables(&mut self.context, time, fudge, error, other);
        } else {
            update_times(&mut self.context, tsig.time, tsig.fudge);
        }
        let next = begun(&self.key, &tsig.mac);
        let made = std::mem::replace(&mut self.context, next).sign();
        self.key.verdict(&tsig, &made, now_secs)?;
        (self.first, self.unsigned) = (false, 0);
        Ok(())
    }

    /// Whether the last message was signed, as the last of an answer must be.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.first && self.unsigned == 0
    }
}

/// Whether a message claims to be signed.
#[must_use]
pub fn is_signed(message: &[u8]) -> bool {
    read(message).is_ok_and(|tsig| tsig.is_some())
}

fn begun(key: &Key, mac: &[u8]) -> hmac::Context {
    let mut context = hmac::Context::with_key(&key.key);
    update_mac(&mut context, mac);
    context
}

fn update_mac(context: &mut hmac::Context, mac: &[u8]) {
    // 64 octets at most are ours; a longer one of theirs will not match.
    context.update(&(mac.len() as u16).to_be_bytes());
    context.update(mac);
}

fn update_times(context: &mut hmac::Context, time: u64, fudge: u16) {
    context.update(&time.to_be_bytes()[2..]);
    context.update(&fudge.to_be_bytes());
}

/// The message as it was before it was signed.
fn update_message(context: &mut hmac::Context, message: &[u8], tsig: &Tsig) {
    let additionals = u16::from_be_bytes([message[10], message[11]]).wrapping_sub(1);
    context.update(&tsig.original_id);
    context.update(&message[2..10]);
    context.update(&additionals.to_be_bytes());
    context.update(&message[12..tsig.at]);
}

/// In the same time whatever is in them.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |apart, (a, b)| apart | (a ^ b)) == 0
}

/// The signature of a message: its last record.
fn read(message: &[u8]) -> Result<Option<Tsig>, TsigError> {
    const BAD: TsigError = TsigError::Malformed;
    let head = message.first_chunk::<12>().ok_or(BAD)?;
    let count = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
    let mut at = 12;
    for _ in 0..count(4) {
        at = read_name(message, at).map_err(|_| BAD)?.1 + 4;
    }
    let records = count(6) + count(8) + count(10);
    for n in 1..=records {
        let start = at;
        let (owner, fixed) = read_name(message, at).map_err(|_| BAD)?;
        let (fields, rest) =
            message.get(fixed..).and_then(<[u8]>::split_first_chunk::<10>).ok_or(BAD)?;
        let length = usize::from(u16::from_be_bytes([fields[8], fields[9]]));
        let data = rest.get(..length).ok_or(BAD)?;
        at = fixed + 10 + length;
        if u16::from_be_bytes([fields[0], fields[1]]) != TYPE_TSIG {
            continue;
        }
        // The last one, of class ANY and TTL 0 (section 4.2).
        if n != records || at != message.len() || count(10) == 0 || fields[2..8] != CLASS_AND_TTL {
            return Err(BAD);
        }
        let name = Name::from_wire(&owner).map_err(|_| BAD)?;
        return fields_of(data, name, start).map(Some).ok_or(BAD);
    }
    if at == message.len() { Ok(None) } else { Err(BAD) }
}

fn fields_of(data: &[u8], name: Name, at: usize) -> Option<Tsig> {
    // The algorithm's name is not compressed; a pointer would lead out of the data.
    let mut end = 0;
    loop {
        match *data.get(end)? {
            0 => break,
            len @ 1..=63 => end += 1 + usize::from(len),
            _ => return None,
        }
    }
    let algorithm = Name::from_wire(data.get(..=end)?).ok()?;
    let (time, rest) = data.get(end + 1..)?.split_first_chunk::<6>()?;
    let (fudge, rest) = rest.split_first_chunk::<2>()?;
    let (mac, rest) = sized(rest)?;
    let (original_id, rest) = rest.split_first_chunk::<2>()?;
    let (error, rest) = rest.split_first_chunk::<2>()?;
    let (other, rest) = sized(rest)?;
    let [a, b, c, d, e, f] = *time;
    rest.is_empty().then(|| Tsig {
        name,
        algorithm,
        time: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        fudge: u16::from_be_bytes(*fudge),
        mac: mac.to_vec(),
        original_id: *original_id,
        error: u16::from_be_bytes(*error),
        other: other.to_vec(),
        at,
    })
}

fn sized(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

const TYPE_TSIG: u16 = 250;
const CLASS_AND_TTL: [u8; 6] = [0, 255, 0, 0, 0, 0];
/// RFC 8945 section 10 recommends it.
const FUDGE_SECS: u16 = 300;
/// RFC 8945 section 5.3.1.
const UNSIGNED_MAX: usize = 99;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &[u8]) -> Key {
        Key::new("transfer.test.".parse().unwrap(), TsigAlgorithm::Sha256, secret)
    }

    fn message(id: u8) -> Vec<u8> {
        [&[0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x03rpz\x04test\0\0\xfc\0\x01"].concat()
    }

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn what_is_signed_with_the_key_is_believed_and_nothing_else() {
        let (key, other) = (key(b"secret"), key(b"other"));
        let mut signed = message(7);
        let mac = key.sign(&mut signed, None, NOW);
        assert_eq!(key.check_request(&signed, NOW + 299), Ok(mac));
        assert!(is_signed(&signed) && !is_signed(&message(7)));
        assert_eq!(key.check_request(&message(7), NOW), Err(TsigError::Unsigned));
        assert_eq!(key.check_request(&signed, NOW + 301), Err(TsigError::BadTime(301)));
        assert_eq!(other.check_request(&signed, NOW), Err(TsigError::BadSignature));
        for at in 0..signed.len() {
            let mut bent = signed.clone();
            bent[at] ^= 0x01;
            // The identifier is not signed, the one that it had at first is; upper and lower
            // case of a name are the same.
            let same = at < 2;
            assert_eq!(key.check_request(&bent, NOW).is_ok(), same, "octet {at}");
        }
        for end in 0..signed.len() {
            assert!(key.check_request(&signed[..end], NOW).is_err());
        }
    }

    #[test]
    fn rfc_8945_section_5_3_1_signatures_of_a_stream_cover_what_comes_between() {
        let key = key(b"secret");
        let mut request = message(7);
        let request_mac = key.sign(&mut request, None, NOW);
        // The first answer is signed like any; later ones by the times alone.
        let mut first = message(7);
        let first_mac = key.sign(&mut first, Some(&request_mac), NOW);
        let between = message(7);
        let last = {
            let mut context = begun(&key, &first_mac);
            let mut bare = message(7);
            context.update(&between);
            context.update(&bare);
            update_times(&mut context, NOW, 300);
            let mac = context.sign();
            // Signed anew in place of what `sign` makes of it.
            let made = key.sign(&mut bare, None, NOW);
            let at = bare.windows(made.len()).position(|window| window == made).unwrap();
            bare[at..at + made.len()].copy_from_slice(mac.as_ref());
            bare
        };
        let mut verifier = Verifier::new(key.clone(), &request_mac);
        assert_eq!(verifier.check(&first, NOW), Ok(()));
        assert_eq!(verifier.check(&between, NOW), Ok(()));
        assert!(!verifier.is_complete());
        assert_eq!(verifier.check(&last, NOW), Ok(()));
        assert!(verifier.is_complete());
        // Without what came between it is wrong, and so is an unsigned beginning.
        let mut verifier = Verifier::new(key.clone(), &request_mac);
        verifier.check(&first, NOW).unwrap();
        assert_eq!(verifier.check(&last, NOW), Err(TsigError::BadSignature));
        let mut verifier = Verifier::new(key.clone(), &request_mac);
        assert_eq!(verifier.check(&between, NOW), Err(TsigError::Unsigned));
        let mut verifier = Verifier::new(key, &request_mac);
        verifier.check(&first, NOW).unwrap();
        for _ in 0..UNSIGNED_MAX {
            verifier.check(&between, NOW).unwrap();
        }
        assert_eq!(verifier.check(&between, NOW), Err(TsigError::TooManyUnsigned));
    }

    #[test]
    fn who_refuses_our_key_is_heard() {
        let key = key(b"secret");
        let mut refusal = message(7);
        refusal[11] = 1;
        refusal.extend_from_slice(b"\x08transfer\x04test\0\0\xfa\0\xff\0\0\0\0\0\x1d");
        refusal.extend_from_slice(b"\x0bhmac-sha256\0\0\0\0\0\0\0\x01\x2c\0\0\0\x07\0\x11\0\0");
        let mut verifier = Verifier::new(key, &[1; 32]);
        assert_eq!(verifier.check(&refusal, NOW), Err(TsigError::Refused(17)));
    }
}
