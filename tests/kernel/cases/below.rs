//! What is around the message: headers, lengths, addresses.

use resolverd_common::counters::Reason;

use super::{Case, hit, odd, pass, www};
use crate::frame::Datagram;
use crate::site::{DENIED, Ends, Family, SELF};

/// What is wrong below DNS.
pub fn frames(ends: &Ends, mode: &str, family: Family) -> Vec<Case> {
    use Family::{V4, V6};
    let raw = |what: &str, frame: Vec<u8>| {
        let mut case = pass(what, Reason::NotDns, Vec::new());
        case.raw = Some(frame);
        case
    };
    let good = ends.query(family, &www().bytes()).bytes();
    let mut arp = good[..12].to_vec();
    arp.extend(b"\x08\x06\0\x01\x08\0\x06\x04\0\x01");
    arp.extend(&good[6..12]);
    arp.extend([10, 53, 1, 77, 0, 0, 0, 0, 0, 0, 10, 53, 1, 2]);
    let mut wrong_version = good.clone();
    wrong_version[14] = 0x95;
    // The stack takes the outer tag off before traffic control sees it.
    let mut tagged = Vec::new();
    if mode != "tc" {
        let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7];
        tagged.push(raw("a tag and nothing behind it", [&good[..12], &tags[..4]].concat()));
        tagged.push(raw("three tags", [&good[..12], &tags, &good[12..]].concat()));
    }
    let extended = |number: u8, octets: &'static [u8]| {
        move |d: &mut Datagram| d.extension = Some((number, octets.to_vec()))
    };
    let mut cases = vec![
        hit("padded by the link", www().bytes()).framed(|d| d.padding = 18),
        hit("padded, and the answer grows", www().edns(1232).bytes()).framed(|d| d.padding = 40),
        hit("no UDP checksum", www().bytes()).framed(|d| d.unsummed = true).only(V4),
        // RFC 8200 section 8.1.
        odd("no UDP checksum", Reason::Malformed, |d| d.unsummed = true).only(V6),
        odd("a foreign destination MAC", Reason::Mac, |d| d.to_mac = [2, 0, 0, 0, 0, 9]),
        odd("a broadcast MAC", Reason::Mac, |d| d.to_mac = [255; 6]),
        odd("a wrong header checksum", Reason::Malformed, |d| d.ip_sum_error = 1).only(V4),
        odd("an IP length beyond the frame", Reason::Malformed, |d| {
            d.ip_len_error = 4;
            d.udp_len_error = 4;
        }),
        odd("an IP length beyond UDP's", Reason::Malformed, |d| {
            d.ip_len_error = 4;
            d.padding = 4;
        }),
        odd("an IP length below UDP's", Reason::Malformed, |d| d.ip_len_error = -1),
        odd("a UDP length beyond IP's", Reason::Malformed, |d| d.udp_len_error = 1),
        odd("a UDP length below IP's", Reason::Malformed, |d| d.udp_len_error = -1),
        odd("a UDP length of 7", Reason::Malformed, |d| {
            d.udp_len_error = -1 - d.payload.len() as i32;
        }),
        odd("a first fragment", Reason::Fragment, |d| d.fragment = 0x2000).only(V4),
        odd("a last fragment", Reason::Fragment, |d| d.fragment = 0x0010).only(V4),
        hit("DF", www().bytes()).framed(|d| d.fragment = 0x4000).only(V4),
        odd("IP options", Reason::ExtensionHeader, |d| d.options = vec![1, 1, 1, 0]).only(V4),
        odd("40 octets of options", Reason::ExtensionHeader, |d| d.options = vec![1; 40]).only(V4),
        odd("hop-by-hop options", Reason::ExtensionHeader, {
            extended(0, &[0, 0, 1, 4, 0, 0, 0, 0])
        })
        .only(V6),
        odd("destination options", Reason::ExtensionHeader, {
            extended(60, &[0, 0, 1, 4, 0, 0, 0, 0])
        })
        .only(V6),
        odd("a routing header", Reason::ExtensionHeader, {
            extended(43, &[0, 0, 4, 0, 0, 0, 0, 0])
        })
        .only(V6),
        odd("an IPv6 fragment", Reason::Fragment, extended(44, &[0, 0, 0, 1, 0, 0, 0, 7])).only(V6),
        odd("an atomic IPv6 fragment", Reason::Fragment, {
            extended(44, &[0, 0, 0, 0, 0, 0, 0, 7])
        })
        .only(V6),
        odd("TCP", Reason::NotDns, |d| d.protocol = 6),
        odd("ICMP", Reason::NotDns, |d| d.protocol = 1).only(V4),
        odd("ICMPv6", Reason::NotDns, |d| d.protocol = 58).only(V6),
        odd("UDP-Lite", Reason::NotDns, |d| d.protocol = 136),
        odd("a port that is not served", Reason::NotDns, |d| d.target_port = 5353),
        odd("port 0", Reason::NotDns, |d| d.target_port = 0),
        raw("ARP", arp).only(V4),
        raw("a wrong IP version", wrong_version),
        raw("a frame that ends in the IP header", good[..30].to_vec()),
        raw("a frame that ends before the ports", {
            let ip = if family == V4 { 20 } else { 40 };
            good[..14 + ip].to_vec()
        }),
        raw("a frame of 14 octets", good[..14].to_vec()),
    ];
    cases.extend(tagged);
    cases
}

/// Who asks whom.
pub fn addresses(ends: Ends, family: Family) -> Vec<Case> {
    use Family::{V4, V6};
    let from = |text: &str| {
        let address = text.parse().expect("an address");
        move |d: &mut Datagram| d.source = address
    };
    let port = |port: u16| move |d: &mut Datagram| d.source_port = port;
    let mut cases = vec![
        odd("an address that is not served", Reason::NotServed, {
            let nobody = ends.host(family, 99);
            move |d| d.target = nobody
        }),
        odd("a denied source", Reason::Denied, {
            let denied = ends.host(family, DENIED);
            move |d| d.source = denied
        }),
        odd("our own source", Reason::SourceOwn, {
            let own = ends.host(family, SELF);
            move |d| d.source = own
        }),
        odd("a source of no prefix", Reason::Denied, from("198.51.100.7")).only(V4),
        odd("a source of no prefix", Reason::Denied, from("2001:db8::7")).only(V6),
        odd("a loopback source", Reason::SourceOwn, from("127.0.0.1")).only(V4),
        odd("another loopback source", Reason::SourceOwn, from("127.9.9.9")).only(V4),
        odd("a loopback source", Reason::SourceOwn, from("::1")).only(V6),
        odd("a multicast source", Reason::SourceInvalid, from("224.0.0.5")).only(V4),
        odd("a multicast source", Reason::SourceInvalid, from("ff02::1")).only(V6),
        odd("a broadcast source", Reason::SourceInvalid, from("255.255.255.255")).only(V4),
        odd("the subnet's broadcast", Reason::SourceInvalid, from("10.53.1.255")).only(V4),
        odd("no source", Reason::SourceInvalid, from("0.0.0.0")).only(V4),
        odd("a source of this network", Reason::SourceInvalid, from("0.1.2.3")).only(V4),
        odd("no source", Reason::SourceInvalid, from("::")).only(V6),
        odd("a mapped source", Reason::SourceInvalid, from("::ffff:10.53.1.77")).only(V6),
        odd("a mapped target", Reason::SourceInvalid, |d| {
            d.target = "::ffff:10.53.1.2".parse().expect("an address");
        })
        .only(V6),
    ];
    let good = [53, 853, 1024, 65_535];
    cases.extend(
        good.map(|from| hit(&format!("from port {from}"), www().bytes()).framed(port(from))),
    );
    let bad = [0, 1, 52, 54, 852, 854, 1023];
    cases.extend(bad.map(|from| odd(&format!("from port {from}"), Reason::SourcePort, port(from))));
    cases
}
