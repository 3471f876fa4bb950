//! The zones that the lab's authoritative server has.

use std::fmt::Write as _;

/// A zone, by its text.
#[derive(Debug, Clone)]
pub struct Zone {
    /// With its last dot.
    pub name: String,
    pub text: String,
    pub signed: Signed,
}

/// Whether the server signs a zone, and how it denies what is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    No,
    Nsec,
    /// Without iterations and salt (RFC 9276).
    Nsec3,
    /// NSEC3 that leaves out delegations to unsigned zones (RFC 5155 section 6).
    OptOut,
}

/// `lab.test.`: unsigned, a name for each case a resolver meets.
#[must_use]
pub fn lab() -> Zone {
    let outliers = "ttlmax 2147483647 A 192.0.2.187\n";
    zone("lab.test.", LAB.to_owned() + &sets() + outliers)
}

/// `signed.test.`: the same names but `ttlmax` (a signature must outlive a TTL), signed by the
/// server with ECDSA P-256 and NSEC.
#[must_use]
pub fn signed() -> Zone {
    Zone { signed: Signed::Nsec, ..zone("signed.test.", LAB.to_owned() + &sets()) }
}

/// `bench.test.`: `names` names `n000000` … with one address each, the wildcards `*.miss` and
/// `*.brief` (TTL 0), the sets of eight of `e000000` …; queries for anything else are NXDOMAIN.
#[must_use]
pub fn bench(names: u32) -> Zone {
    let mut text = String::from(
        "@ SOA ns admin 1 3600 900 604800 86400\n@ NS ns\nns A 192.0.2.53\n\
         *.miss A 192.0.2.1\n*.brief 0 A 192.0.2.1\n",
    );
    for i in 0..names {
        let _ = writeln!(text, "n{i:06} A 198.51.{}.{}", i >> 8 & 255, i & 255);
    }
    for i in 0..names.min(SETS_MAX) {
        for n in 1..=8 {
            let _ = writeln!(text, "e{i:06} A 192.0.2.{n}");
        }
    }
    zone("bench.test.", text)
}

/// `signed-bench.test.`: `names` names `n000000` … with one address each, signed.
#[must_use]
pub fn signed_bench(names: u32) -> Zone {
    let mut text =
        String::from("@ SOA ns admin 1 3600 900 604800 86400\n@ NS ns\nns A 192.0.2.53\n");
    for i in 0..names {
        let _ = writeln!(text, "n{i:06} A 198.51.{}.{}", i >> 8 & 255, i & 255);
    }
    Zone { signed: Signed::Nsec, ..zone("signed-bench.test.", text) }
}

fn zone(name: &str, text: String) -> Zone {
    let text = format!("$ORIGIN {name}\n$TTL 3600\n{text}");
    Zone { name: name.to_owned(), text, signed: Signed::No }
}

/// Sets whose size decides what may happen to them: 8 fits anywhere, 16 is the most TTLs that an
/// entry in the kernel holds, 17 is one more, 60 is past 512 octets, 120 past 1232.
fn sets() -> String {
    let mut text = String::new();
    for (label, count) in [("eight", 8), ("sixteen", 16), ("seventeen", 17), ("sixty", 60)] {
        for n in 1..=count {
            let _ = writeln!(text, "{label} A 192.0.2.{n}");
        }
    }
    for n in 1..=120 {
        let _ = writeln!(text, "many A 198.51.100.{n}");
    }
    for (label, octets) in [("txt200", 200), ("txt480", 480), ("txt1000", 1000), ("txt1400", 1400)]
    {
        let _ = write!(text, "{label} TXT");
        let mut left = octets;
        while left > 0 {
            let piece = left.min(255);
            let _ = write!(text, " \"{}\"", "x".repeat(piece));
            left -= piece;
        }
        text.push('\n');
    }
    // As long as a name can be: with the zone's own labels this stays below 255 octets.
    let label = "l".repeat(63);
    let _ = writeln!(text, "{label}.{label}.{label} A 192.0.2.63");
    text
}

/// Names of the big zone that have a set of eight.
const SETS_MAX: u32 = 1_000;

const LAB: &str = r#"
@           SOA   ns admin 1 3600 900 604800 300
@           NS    ns
@           MX    10 mail
@           TXT   "v=spf1 -all"
@           CAA   0 issue "ca.lab.test"
ns          A     192.0.2.53
ns          AAAA  2001:db8::53
www         A     192.0.2.1
www         AAAA  2001:db8::1
mail        A     192.0.2.25
mail        AAAA  2001:db8::25
v6only      AAAA  2001:db8::6
MiXeD       A     192.0.2.77
alias       CNAME www
chain1      CNAME chain2
chain2      CNAME chain3
chain3      CNAME www
outside     CNAME www.elsewhere.test.
dangling    CNAME nothing
_dns._udp   SRV   10 20 53 ns
_443._tcp   TLSA  3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
svc         HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1
svcb        SVCB  1 svc alpn=dot port=853
naptr       NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp
ptr         PTR   www
host        SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
loc         LOC   52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
unknown     TYPE65280 \# 4 01020304
tree        DNAME www
deep.ent    A     192.0.2.9
*.wild      A     192.0.2.42
*.wild      TXT   "any"
star.wild   A     192.0.2.43
ttl0   0    A     192.0.2.100
ttl1   1    A     192.0.2.101
ttl2   2    A     192.0.2.102
ttl5   5    A     192.0.2.105
ttl30  30   A     192.0.2.130
ttlday 86400 A    192.0.2.186
mixed  10   A     192.0.2.110
mixed  10   AAAA  2001:db8::110
under_score A     192.0.2.200
dot\.ted    A     192.0.2.201
null\000x   A     192.0.2.202
child       NS    ns.child
ns.child    A     192.0.2.54
"#;
