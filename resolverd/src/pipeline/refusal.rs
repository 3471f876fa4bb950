//! Answers without records: what is wrong with a query, or that it is not served.
//!
//! Pure. Header, the question where it could be read, our OPT where the query had one.

use resolverd_common::cookie::{CLIENT_LEN, OPTION_LEN, SERVER_LEN};
use resolverd_common::question::{HEADER_LEN, OPT_LEN};

use crate::dns::records::{self, Record};

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of 12 bits; the upper ones stand in the OPT, which is sent if they are not zero.
    pub rcode: u16,
    /// Octets of question to send back as they came.
    pub question_len: usize,
    /// What the query's OPT said.
    pub edns: Option<Edns>,
    /// An extended error, for who can read it (RFC 8914).
    pub ede: Option<u16>,
    pub badkey: Option<Badkey>,
    /// RA: whether this client may have anything resolved.
    pub recursion_available: bool,
}

/// An OPT, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub version: u8,
    pub udp_size: u16,
    pub dnssec_ok: bool,
    pub cookie: Option<CookieData>,
}

/// The data of a COOKIE option of a length that cookies have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieData {
    octets: [u8; COOKIE_MAX],
    len: u8,
}

impl CookieData {
    /// None: cookies have no such length (RFC 7873 section 4).
    #[must_use]
    pub fn of(data: &[u8]) -> Option<Self> {
        if data.len() != 8 && !(16..=COOKIE_MAX).contains(&data.len()) {
            return None;
        }
        let mut octets = [0; COOKIE_MAX];
        octets[..data.len()].copy_from_slice(data);
        Some(Self { octets, len: data.len() as u8 })
    }

    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.octets[..self.len.into()]
    }
}

/// Octets of a whole cookie of ours.
pub const COOKIE_LEN: usize = CLIENT_LEN + SERVER_LEN;
/// Octets of an extended error without text, as an option.
const EDE_LEN: usize = 6;

/// Octets of the longest cookie: 8 of the client's and 32 of the server's.
pub const COOKIE_MAX: usize = 40;

/// The TSIG that goes with NOTAUTH: nobody shares a key with us (RFC 8945 section 5.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Badkey {
    record: Vec<u8>,
}

impl Refusal {
    #[must_use]
    pub fn new(rcode: u8) -> Self {
        Self {
            rcode: rcode.into(),
            question_len: 0,
            edns: None,
            ede: None,
            badkey: None,
            recursion_available: true,
        }
    }

    #[must_use]
    pub fn with(self, rcode: u8) -> Self {
        Self { rcode: rcode.into(), ..self }
    }

    /// For messages that are too broken to speak of keys.
    #[must_use]
    pub fn without_badkey(&self) -> Self {
        Self { badkey: None, ..self.clone() }
    }

    /// Writes the answer to `message`, which has at least a header, with `edns_size` as our own and
    /// the cookie of who asks, if he is to have one.
    pub fn write(
        &self,
        message: &[u8],
        edns_size: u16,
        cookie: Option<&[u8; COOKIE_LEN]>,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let high = (self.rcode >> 4) as u8;
        let opt = self.edns.is_some() || high != 0;
        let badkey = self.badkey.as_ref().filter(|_| self.rcode == NOTAUTH);
        let recursion = u8::from(self.recursion_available) << 7;
        // RFC 1035 section 4.1.1: id, opcode and RD are copied; CD too (RFC 4035 section 3.1.6).
        out.extend_from_slice(&message[..2]);
        out.push(0x80 | message[2] & 0x79);
        out.push(recursion | message[3] & 0x10 | (self.rcode & 0x0f) as u8);
        let additionals = u8::from(opt) + u8::from(badkey.is_some());
        out.extend_from_slice(&[0, u8::from(self.question_len > 0), 0, 0, 0, 0, 0, additionals]);
        out.extend_from_slice(&message[HEADER_LEN..HEADER_LEN + self.question_len]);
        if opt {
            let [s, t] = edns_size.to_be_bytes();
            let dnssec_ok = u8::from(self.edns.is_some_and(|edns| edns.dnssec_ok)) << 7;
            out.extend_from_slice(&[0, 0, 41, s, t, high, 0, dnssec_ok, 0]);
            let ede_len = if self.ede.is_some() { EDE_LEN } else { 0 };
            let cookie_len = if cookie.is_some() { OPTION_LEN } else { 0 };
            // Some thirty octets.
            out.extend_from_slice(&[0, (ede_len + cookie_len) as u8]);
            if let Some(code) = self.ede {
                let [c, d] = code.to_be_bytes();
                out.extend_from_slice(&[0, 15, 0, 2, c, d]);
            }
            if let Some(cookie) = cookie {
                // RFC 7873 section 5.2: whatever the RCODE.
                out.extend_from_slice(&[0, 10, 0, COOKIE_LEN as u8]);
                out.extend_from_slice(cookie);
            }
        }
        if let Some(badkey) = badkey {
            if out.len() + badkey.record.len() <= PLAIN_OCTETS_MAX {
                out.extend_from_slice(&badkey.record);
            } else {
                // A key name of hundreds of octets is nobody's.
                out[11] -= 1;
            }
        }
    }
}

impl Badkey {
    /// The answer to a TSIG: its key, algorithm and time, no MAC, error BADKEY. None: it is none.
    #[must_use]
    pub fn to(tsig: &Record) -> Option<Self> {
        let rdata = &tsig.rdata;
        let (algorithm, at) = records::read_name(&padded(rdata), HEADER_LEN).ok()?;
        let at = at - HEADER_LEN;
        let (time_and_fudge, rest) = rdata.get(at..)?.split_first_chunk::<8>()?;
        let (mac_len, rest) = rest.split_first_chunk::<2>()?;
        let after_mac = rest.get(usize::from(u16::from_be_bytes(*mac_len))..)?;
        let original_id = after_mac.first_chunk::<2>()?;

        let mut made = algorithm;
        made.extend_from_slice(time_and_fudge);
        made.extend_from_slice(&[0, 0]);
        made.extend_from_slice(original_id);
        made.extend_from_slice(&BADKEY.to_be_bytes());
        made.extend_from_slice(&[0, 0]);
        let mut record = tsig.owner.as_wire().to_vec();
        record.extend_from_slice(&tsig.rtype.to_be_bytes());
        // Class ANY, TTL 0 (RFC 8945 section 4.2).
        record.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
        record.extend_from_slice(&u16::try_from(made.len()).ok()?.to_be_bytes());
        record.extend_from_slice(&made);
        Some(Self { record })
    }
}

/// RDATA where a reader of names takes it for a message: nothing may point before it.
fn padded(rdata: &[u8]) -> Vec<u8> {
    [&[0; HEADER_LEN], rdata].concat()
}

const NOTAUTH: u16 = 9;
/// RFC 8945 section 3.
const BADKEY: u16 = 17;

/// What every client takes over UDP (RFC 1035 section 2.3.4).
const PLAIN_OCTETS_MAX: usize = 512;

const _: () = assert!(HEADER_LEN + 255 + 4 + OPT_LEN + EDE_LEN + OPTION_LEN <= PLAIN_OCTETS_MAX);
