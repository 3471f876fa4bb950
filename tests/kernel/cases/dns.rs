//! What is asked, and how: the message.

use std::iter;

use lab::Ask;
use resolverd_common::counters::Reason;

use super::{Case, a, cut, hit, of, pass, www};
use crate::message::{add, changed, of_question, opt, record};

/// What is in answers.
pub fn data() -> Vec<Case> {
    let mut cases = vec![
        hit("A", www().bytes()),
        hit("AAAA", of("www.lab.test.", "AAAA")),
        hit("a set of eight", a("eight.lab.test.")),
        hit("a set of sixteen, the most TTLs", a("sixteen.lab.test.")),
        pass("a set of seventeen, one TTL too many", Reason::Miss, a("seventeen.lab.test.")),
        hit("no such name", a("nothing.lab.test.")),
        hit("no such data", of("v6only.lab.test.", "A")),
        hit("an alias", a("alias.lab.test.")),
        hit("a chain of aliases", a("chain1.lab.test.")),
        hit("an alias to nowhere", a("dangling.lab.test.")),
        hit("a synthesised alias", a("www.tree.lab.test.")),
        hit("a wildcard", a("any.wild.lab.test.")),
        hit("a name between", a("ent.lab.test.")),
        hit("a signed answer", Ask::new("www.signed.test.", "A").dnssec().bytes()),
        hit("a signed zone without DO", Ask::new("www.signed.test.", "A").edns(1232).bytes()),
        hit("a signed no", Ask::new("nothing.signed.test.", "A").dnssec().bytes()),
        hit("a signed nothing", Ask::new("v6only.signed.test.", "A").dnssec().bytes()),
        hit("keys", Ask::new("signed.test.", "DNSKEY").dnssec().bytes()),
        hit("480 octets of text, whole by EDNS", {
            Ask::new("txt480.lab.test.", "TXT").edns(1232).bytes()
        }),
        cut("480 octets of text without EDNS", of("txt480.lab.test.", "TXT")),
        cut("1000 octets of text without EDNS", of("txt1000.lab.test.", "TXT")),
        cut("1000 octets of text in 512", Ask::new("txt1000.lab.test.", "TXT").edns(512).bytes()),
        hit("1000 octets of text in 1232", {
            Ask::new("txt1000.lab.test.", "TXT").edns(1232).bytes()
        }),
        hit("1000 octets of text in 4096", {
            Ask::new("txt1000.lab.test.", "TXT").edns(4096).bytes()
        }),
        pass("1400 octets of text, too many for the maps", Reason::Miss, {
            Ask::new("txt1400.lab.test.", "TXT").edns(4096).bytes()
        }),
        hit("a local name", a("www.resolverd.test.")),
        hit("a local alias", of("web.resolverd.test.", "AAAA")),
        hit("local text with EDNS", Ask::new("text.resolverd.test.", "TXT").dnssec().bytes()),
        hit("no such local name", a("nothing.resolverd.test.")),
        hit("no such local data", of("ns.resolverd.test.", "AAAA")),
    ];
    let types = [
        ("lab.test.", "MX"),
        ("lab.test.", "NS"),
        ("lab.test.", "SOA"),
        ("lab.test.", "TXT"),
        ("lab.test.", "CAA"),
        ("_dns._udp.lab.test.", "SRV"),
        ("_443._tcp.lab.test.", "TLSA"),
        ("svc.lab.test.", "HTTPS"),
        ("svcb.lab.test.", "SVCB"),
        ("naptr.lab.test.", "NAPTR"),
        ("ptr.lab.test.", "PTR"),
        ("host.lab.test.", "SSHFP"),
        ("loc.lab.test.", "LOC"),
        ("alias.lab.test.", "CNAME"),
        ("unknown.lab.test.", "TYPE65280"),
    ];
    cases.extend(types.map(|(name, qtype)| hit(qtype, of(name, qtype))));
    cases
}

/// What is asked about.
pub fn names() -> Vec<Case> {
    let label = |letter: &str, octets: usize| letter.repeat(octets);
    let long = format!(
        "{}.{}.{}.{}.wild.lab.test.",
        label("a", 63),
        label("B", 63),
        label("c", 63),
        label("d", 47)
    );
    let many = "x.".repeat(120) + "wild.lab.test.";
    let mut too_long = Vec::new();
    for octets in [63, 63, 63, 62] {
        too_long.push(octets);
        too_long.extend(iter::repeat_n(b'e', octets.into()));
    }
    too_long.extend(b"\0\0\x01\0\x01");
    let labels = "l".repeat(63);
    vec![
        hit("mixed case", a("wWw.LaB.tEsT.")),
        hit("mixed case of a mixed name", a("mIxEd.lab.TEST.")),
        hit("mixed case of no such name", a("NoThInG.lAb.TeSt.")),
        hit("a mixed chain", a("cHaIn1.lab.test.")),
        hit("the root", of(".", "NS")),
        hit("a top level that is not", a("invalid.")),
        hit("a label of 63 octets", a(&format!("{labels}.{labels}.{labels}.lab.test."))),
        hit("a name of 255 octets", a(&long)),
        hit("a name of 125 labels", a(&many)),
        hit("octets beside letters", a("@[`{.wild.lab.test.")),
        hit("a dot in a label", a("dot\\.ted.lab.test.")),
        hit("a zero in a label", a("null\\000x.lab.test.")),
        hit("octets above 127", a("\\193\\218\\225.wild.lab.test.")),
        pass("a name of 256 octets", Reason::Name, of_question(&too_long)),
        pass("a compressed name", Reason::Name, of_question(b"\xc0\x0c\0\x01\0\x01")),
        pass("a compressed end", Reason::Name, of_question(b"\x03www\xc0\x0c\0\x01\0\x01")),
        pass("an extended label", Reason::Name, of_question(b"\x41\x01www\0\0\x01\0\x01")),
        pass("a label of type 10", Reason::Name, of_question(b"\x83www\0\0\x01\0\x01")),
        pass("a name that runs out", Reason::Name, of_question(b"\x03www\x03lab\x04te")),
        pass("a name without an end", Reason::Name, of_question(b"\x03www\x03lab\x04test")),
        pass("a name and no type", Reason::Name, of_question(b"\x03www\x03lab\x04test\0\0")),
    ]
}

/// What the client says it can take.
pub fn edns() -> Vec<Case> {
    let sizes = [0, 511, 512, 1232, 4096, 65_535];
    let mut cases: Vec<Case> = sizes
        .map(|size| hit(&format!("EDNS size {size}"), www().edns(size).bytes()))
        .into_iter()
        .collect();
    let checking = |mut ask: Ask| {
        ask.checking_disabled = true;
        ask.bytes()
    };
    let wondering = |mut ask: Ask| {
        ask.authentic_data = true;
        ask.bytes()
    };
    let signed = || Ask::new("www.signed.test.", "AAAA");
    cases.extend([
        hit("DO", www().dnssec().bytes()),
        hit("CD", checking(www())),
        hit("AD", wondering(www())),
        hit("CD and DO", checking(signed().dnssec())),
        hit("AD, signed", wondering(signed())),
        hit("AD and DO, signed", wondering(signed().dnssec())),
        hit("a client's cookie", www().option(10, &[7; 8]).bytes()),
        hit("both cookies, of 16", www().option(10, &[7; 16]).bytes()),
        hit("both cookies, of 40", www().option(10, &[7; 40]).bytes()),
        hit("a cookie with DO", signed().dnssec().option(10, &[9; 24]).bytes()),
    ]);
    cases
}

/// What is wrong in the first twelve octets.
pub fn headers() -> Vec<Case> {
    let flags = |first: u8, second: u8| {
        changed(www(), |m| {
            m[2] ^= first;
            m[3] ^= second;
        })
    };
    let count = |at: usize, n: u8| changed(www(), |m| m[at] = n);
    vec![
        pass("an answer", Reason::Response, flags(0x80, 0)),
        pass("an answer that is all right", Reason::Response, flags(0x84, 0x80)),
        pass("IQUERY", Reason::Opcode, flags(1 << 3, 0)),
        pass("STATUS", Reason::Opcode, flags(2 << 3, 0)),
        pass("NOTIFY", Reason::Opcode, flags(4 << 3, 0)),
        pass("UPDATE", Reason::Opcode, flags(5 << 3, 0)),
        pass("opcode 15", Reason::Opcode, flags(15 << 3, 0)),
        pass("TC", Reason::Truncated, flags(0x02, 0)),
        pass("no RD", Reason::RecursionNotDesired, flags(0x01, 0)),
        pass("AA", Reason::Header, flags(0x04, 0)),
        pass("RA", Reason::Header, flags(0, 0x80)),
        pass("Z", Reason::Header, flags(0, 0x40)),
        pass("an RCODE", Reason::Header, flags(0, 0x03)),
        pass("no question", Reason::QuestionCount, count(5, 0)),
        pass("two questions counted", Reason::QuestionCount, count(5, 2)),
        pass("257 questions counted", Reason::QuestionCount, count(4, 1)),
        pass("two questions", Reason::QuestionCount, {
            changed(www(), |m| {
                let question = m[12..].to_vec();
                m.extend(question);
                m[5] = 2;
            })
        }),
        pass("an answer counted", Reason::Header, count(7, 1)),
        pass("an authority counted", Reason::Header, count(9, 1)),
        pass("an additional counted that is not there", Reason::Malformed, count(11, 1)),
    ]
}

/// Types and classes that are no data.
pub fn questions() -> Vec<Case> {
    let class = |class: u16| {
        changed(www(), |m| {
            let end = m.len();
            m[end - 2..].copy_from_slice(&class.to_be_bytes());
        })
    };
    let mut cases: Vec<Case> = [("0", 0), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)]
        .map(|(name, number)| pass(&format!("class {name}"), Reason::Class, class(number)))
        .into_iter()
        .collect();
    let types = ["TYPE0", "OPT", "TYPE128", "TYPE249", "TYPE250", "IXFR", "AXFR", "TYPE253", "ANY"];
    cases.extend(types.map(|t| pass(&format!("type {t}"), Reason::Type, of("lab.test.", t))));
    cases
}

/// What stands behind the question.
pub fn records() -> Vec<Case> {
    let with = |records: &[&[u8]]| {
        changed(www(), |m| {
            for record in records {
                add(m, record);
            }
        })
    };
    let trailing = |ask: Ask| changed(ask, |m| m.push(0));
    let plain = opt(0, &[]);
    let tsig = record(b"\x03key\0", 250, 255, 0, &[0; 32]);
    let sig0 = record(b"\0", 24, 255, 0, &[0; 32]);
    let address = record(b"\xc0\x0c", 1, 1, 60, &[192, 0, 2, 1]);
    let owned = record(b"\x01x\0", 41, 1232, 0, &[]);
    vec![
        pass("TSIG", Reason::Signature, with(&[&tsig])),
        pass("OPT and TSIG", Reason::Signature, with(&[&plain, &tsig])),
        pass("SIG(0)", Reason::Signature, with(&[&sig0])),
        pass("OPT and SIG(0)", Reason::Signature, with(&[&plain, &sig0])),
        pass("an address beside", Reason::Signature, with(&[&address])),
        pass("an OPT with an owner", Reason::Signature, with(&[&owned])),
        pass("two OPTs", Reason::TwoOpts, with(&[&plain, &plain])),
        pass("three OPTs", Reason::TwoOpts, with(&[&plain, &plain, &plain])),
        pass("EDNS version 1", Reason::EdnsVersion, with(&[&opt(0x0001_0000, &[])])),
        pass("EDNS version 255", Reason::EdnsVersion, with(&[&opt(0x00ff_0000, &[])])),
        pass("an extended RCODE", Reason::EdnsVersion, with(&[&opt(0x0100_0000, &[])])),
        pass("Z of EDNS, high", Reason::EdnsVersion, with(&[&opt(0x4000, &[])])),
        pass("Z of EDNS, low", Reason::EdnsVersion, with(&[&opt(0x8001, &[])])),
        pass("an octet behind the question", Reason::Trailing, trailing(www())),
        pass("an octet behind the OPT", Reason::Trailing, trailing(www().edns(1232))),
        pass("an OPT that is not counted", Reason::Trailing, {
            changed(www().edns(1232), |m| m[11] = 0)
        }),
        pass("an OPT that runs out", Reason::Malformed, {
            changed(www().edns(1232), |m| {
                m.pop();
            })
        }),
        pass("options that run out", Reason::Malformed, {
            changed(www().edns(1232), |m| {
                let end = m.len();
                m[end - 1] = 12;
            })
        }),
    ]
}

/// EDNS options.
pub fn options() -> Vec<Case> {
    let option = |code: u16, data: &[u8]| www().option(code, data).bytes();
    let mut cases = vec![
        pass("NSID", Reason::EdnsOption, option(3, &[])),
        pass("client subnet", Reason::EdnsOption, option(8, &[0, 1, 24, 0, 192, 0, 2])),
        pass("keepalive", Reason::EdnsOption, option(11, &[])),
        pass("padding", Reason::EdnsOption, option(12, &[0; 64])),
        pass("an unknown option", Reason::EdnsOption, option(65_001, b"?")),
        pass("two cookies", Reason::EdnsOption, {
            www().option(10, &[1; 8]).option(10, &[2; 8]).bytes()
        }),
        pass("a cookie and NSID", Reason::EdnsOption, {
            www().option(10, &[1; 8]).option(3, &[]).bytes()
        }),
        pass("NSID and a cookie", Reason::EdnsOption, {
            www().option(3, &[]).option(10, &[1; 8]).bytes()
        }),
        pass("a cookie longer than its options", Reason::EdnsOption, {
            let cookie = [0, 10, 0, 16, 1, 1, 1, 1, 1, 1, 1, 1];
            changed(www(), |m| add(m, &opt(0, &cookie)))
        }),
        pass("half a cookie's head", Reason::EdnsOption, {
            changed(www(), |m| add(m, &opt(0, &[0, 10])))
        }),
    ];
    cases.extend([0, 7, 9, 15, 41].map(|octets| {
        let cookie = option(10, &vec![5; octets]);
        pass(&format!("a cookie of {octets} octets"), Reason::EdnsOption, cookie)
    }));
    cases
}

/// Messages too short and too long to be read.
pub fn lengths() -> Vec<Case> {
    let whole = of(".", "NS");
    let mut cases: Vec<Case> = (0..whole.len())
        .map(|octets| {
            let part = whole[..octets].to_vec();
            pass(&format!("a message of {octets} octets"), Reason::Malformed, part)
        })
        .collect();
    let padded = |octets: usize| {
        let room = octets - www().option(12, &[]).bytes().len();
        www().option(12, &vec![0; room]).bytes()
    };
    cases.extend([
        pass("a message of 508 octets", Reason::EdnsOption, padded(508)),
        pass("a message of 509 octets", Reason::Malformed, padded(509)),
        pass("a message of 1400 octets", Reason::Malformed, padded(1400)),
    ]);
    cases
}
