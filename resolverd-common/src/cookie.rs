//! DNS cookies (RFC 7873), in the form that servers of any maker share (RFC 9018).
//!
//! A server cookie is made of the client's part, the time and the client's address under a
//! secret, so that nothing has to be remembered: who shows one has received an answer of ours at
//! that address, and is not somebody who only writes it on his packets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::settings::MAPPED;

/// Octets of the client's part.
pub const CLIENT_LEN: usize = 8;
/// Octets of the server's part that we make.
pub const SERVER_LEN: usize = 16;
/// Octets of the option that we send, its code and length included.
pub const OPTION_LEN: usize = 4 + CLIENT_LEN + SERVER_LEN;
/// Version 1 and three reserved octets (RFC 9018 section 4.1 and 4.2), as a word in memory.
const VERSION: u32 = 0x0100_0000u32.to_be();
/// How old a cookie may be (RFC 9018 section 4.3).
const AGE_SECS_MAX: u32 = 3_600;
/// How far it may be ahead of our clock (RFC 9018 section 4.3).
const AHEAD_SECS_MAX: u32 = 300;
/// From this age on a new one is sent (RFC 9018 section 4.3).
const RENEWED_AFTER_SECS: u32 = 1_800;

/// A secret of 128 bits, as two words in memory order.
pub type Secret = [u64; 2];

/// What cookies are made and checked with.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Secrets {
    /// Cookies are made with this one.
    pub current: Secret,
    /// Cookies that were made with this one are good, too, and answered with a new one: the
    /// secret before, or the one to come (RFC 9018 section 5). The same as `current` if there
    /// is none.
    pub other: Secret,
}

/// The COOKIE option of a query, and then what stands in its answer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// Octets of the option's data: 8, or 16 to 40; 0: there is none, and none is sent.
    pub len: usize,
    /// The client's part, as it stands in memory.
    pub client: u64,
    /// The server's part, if the data have 24 octets. [`Cookie::answer`] puts ours there.
    pub server: [u64; 2],
}

impl Cookie {
    /// Checks the server's part and puts the one to send in its place. Returns whether it was
    /// ours, fresh, and made for this address.
    ///
    /// `now_secs` is the wall clock's time modulo 2^32 (RFC 1982 arithmetic, RFC 9018 section
    /// 4.3). `address` is as [`crate::settings::address_words`] has it.
    #[inline(always)]
    pub fn answer(&mut self, secrets: &Secrets, now_secs: u32, address: &[u32; 4]) -> bool {
        let (version, made) = halves(self.server[0]);
        let made = u32::from_be(made);
        let ahead = made.wrapping_sub(now_secs);
        let age = now_secs.wrapping_sub(made);
        let in_time = ahead <= AHEAD_SECS_MAX || age <= AGE_SECS_MAX;
        let shown = self.len == CLIENT_LEN + SERVER_LEN && version == VERSION && in_time;
        if shown {
            let client = self.client;
            let hash = |secret| server_hash(secret, client, self.server[0], address);
            if hash(&secrets.current) == self.server[1] {
                if age >= RENEWED_AFTER_SECS && ahead > AHEAD_SECS_MAX {
                    self.renew(secrets, now_secs, address);
                }
                return true;
            }
            if secrets.other != secrets.current && hash(&secrets.other) == self.server[1] {
                self.renew(secrets, now_secs, address);
                return true;
            }
        }
        self.renew(secrets, now_secs, address);
        false
    }

    #[inline(always)]
    fn renew(&mut self, secrets: &Secrets, now_secs: u32, address: &[u32; 4]) {
        let head = joined(VERSION, now_secs.to_be());
        self.server = [head, server_hash(&secrets.current, self.client, head, address)];
    }
}

/// Two 32-bit parts of a word, in memory order.
#[inline(always)]
const fn halves(word: u64) -> (u32, u32) {
    let little = u64::from_le(word);
    (u32::from_le(little as u32), u32::from_le((little >> 32) as u32))
}

#[inline(always)]
const fn joined(first: u32, second: u32) -> u64 {
    (first.to_le() as u64 | (second.to_le() as u64) << 32).to_le()
}

/// SipHash-2-4 of client cookie, version, reserved, time and address (RFC 9018 section 4.4), as
/// it stands in memory.
#[inline(always)]
fn server_hash(secret: &Secret, client: u64, head: u64, address: &[u32; 4]) -> u64 {
    let mut state = Sip::new(secret);
    state.word(u64::from_le(client));
    state.word(u64::from_le(head));
    let ipv4 = address[0] | address[1] == 0 && address[2] == MAPPED;
    let len: u64 = if ipv4 {
        CLIENT_LEN as u64 + 8 + 4
    } else {
        state.word(u64::from_le(joined(address[0], address[1])));
        state.word(u64::from_le(joined(address[2], address[3])));
        CLIENT_LEN as u64 + 8 + 16
    };
    let rest = if ipv4 { address[3].to_le() as u64 } else { 0 };
    state.word(rest | len << 56);
    state.finish().to_le()
}

/// SipHash-2-4 (Aumasson and Bernstein 2012), by words.
///
/// Here and not from a library: it runs in the kernel program, too, where none may be linked
/// that keeps its own buffer and length.
struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    const fn new(secret: &Secret) -> Self {
        let (k0, k1) = (u64::from_le(secret[0]), u64::from_le(secret[1]));
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    const fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    const fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    const fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;
    use core::net::IpAddr;

    use super::*;
    use crate::settings::address_words;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    fn words(hex: &str) -> [u64; 2] {
        let bytes: [u8; 16] = bytes(hex);
        let (a, b) = bytes.split_at(8);
        [a, b].map(|half| u64::from_ne_bytes(half.try_into().unwrap()))
    }

    fn address(text: &str) -> [u32; 4] {
        address_words(text.parse::<IpAddr>().unwrap())
    }

    fn one_secret(hex: &str) -> Secrets {
        Secrets { current: words(hex), other: words(hex) }
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const CLIENT: &str = "2464c4abcf10c957";

    fn asked(server: Option<&str>) -> Cookie {
        Cookie {
            len: if server.is_some() { 24 } else { 8 },
            client: u64::from_ne_bytes(bytes(CLIENT)),
            server: server.map_or([0; 2], words),
        }
    }

    #[test]
    fn rfc_9018_appendix_a_1_a_new_cookie() {
        let mut cookie = asked(None);
        assert!(!cookie.answer(&one_secret(SECRET), 1_559_731_985, &address("198.51.100.100")));
        assert_eq!(cookie.server, words("010000005cf79f111f8130c3eee29480"));
    }

    #[test]
    fn rfc_9018_appendix_a_2_a_cookie_that_is_renewed() {
        let mut cookie = asked(Some("010000005cf79f111f8130c3eee29480"));
        assert!(cookie.answer(&one_secret(SECRET), 1_559_734_385, &address("198.51.100.100")));
        assert_eq!(cookie.server, words("010000005cf7a871d4a564a1442aca77"));
    }

    #[test]
    fn rfc_9018_appendix_a_4_a_cookie_of_the_secret_before_over_ipv6() {
        let mut cookie = Cookie {
            len: 24,
            client: u64::from_ne_bytes(bytes("22681ab97d52c298")),
            server: words("010000005cf7c57926556bd0934c72f8"),
        };
        let secrets = Secrets {
            current: words("445536bcd2513298075a5d379663c962"),
            other: words("dd3bdf9344b678b185a6f5cb60fca715"),
        };
        let client = address("2001:db8:220:1:59de:d0f4:8769:82b8");
        assert!(cookie.answer(&secrets, 1_559_741_961, &client));
        assert_eq!(cookie.server, words("010000005cf7c609a6bb79d16625507a"));
    }

    #[test]
    fn a_cookie_is_good_for_its_address_its_hour_and_its_client_alone() {
        let (secrets, home) = (one_secret(SECRET), address("198.51.100.100"));
        let made = 1_559_731_985;
        let shown = || asked(Some("010000005cf79f111f8130c3eee29480"));
        let at = |now, from: &[u32; 4]| shown().answer(&secrets, now, from);
        for (now, good) in [
            (made, true),
            (made + 3_600, true),
            (made + 3_601, false),
            (made - 300, true),
            (made - 301, false),
        ] {
            assert_eq!(at(now, &home), good, "{now}");
        }
        assert!(!at(made, &address("198.51.100.101")));
        let mut other_client = Cookie { client: 7, ..shown() };
        assert!(!other_client.answer(&secrets, made, &home));
        let mut longer = Cookie { len: 32, ..shown() };
        assert!(!longer.answer(&secrets, made, &home), "not of our length");
        let mut version = shown();
        version.server[0] ^= 3;
        assert!(!version.answer(&secrets, made, &home), "not of our version");
    }

    #[test]
    fn a_young_cookie_is_sent_back_as_it_is() {
        let mut cookie = asked(Some("010000005cf79f111f8130c3eee29480"));
        let home = address("198.51.100.100");
        for now in [1_559_731_985 - 200, 1_559_731_985 + 1_799] {
            assert!(cookie.answer(&one_secret(SECRET), now, &home));
            assert_eq!(cookie.server, words("010000005cf79f111f8130c3eee29480"), "{now}");
        }
    }

    #[test]
    fn the_clock_may_pass_2_to_the_32() {
        let (secrets, home) = (one_secret(SECRET), address("192.0.2.1"));
        let mut cookie = asked(None);
        cookie.answer(&secrets, u32::MAX - 10, &home);
        cookie.len = 24;
        assert!(cookie.answer(&secrets, 5, &home));
    }

    #[test]
    fn siphash_is_the_one_of_the_standard_library() {
        // `SipHasher` is SipHash-2-4 with keys of one's own.
        #[expect(deprecated, reason = "the one SipHash-2-4 that the standard library has")]
        let reference = |secret: &Secret, octets: &[u8]| {
            let [k0, k1] = secret.map(u64::from_le);
            let mut hasher = core::hash::SipHasher::new_with_keys(k0, k1);
            hasher.write(octets);
            hasher.finish()
        };
        for (i, text) in ["192.0.2.7", "2001:db8::1:2:3", "0.0.0.0", "::1"].iter().enumerate() {
            let secret = [0x0123_4567_89ab_cdef ^ i as u64, u64::MAX / (i as u64 + 3)];
            let (client, head) = (i as u64 * 0x1111_2222_3333, !(i as u64) << 7);
            let mut octets = client.to_ne_bytes().to_vec();
            octets.extend_from_slice(&head.to_ne_bytes());
            match text.parse::<IpAddr>().unwrap() {
                IpAddr::V4(v4) => octets.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => octets.extend_from_slice(&v6.octets()),
            }
            let ours = server_hash(&secret, client, head, &address(text));
            assert_eq!(ours.to_ne_bytes(), reference(&secret, &octets).to_le_bytes(), "{text}");
        }
    }
}
