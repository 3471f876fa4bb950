//! What this server tells clients who ask how to reach it encrypted: `_dns.resolver.arpa`
//! (RFC 9462), in the records of RFC 9461. Pure.
//!
//! A local zone like those of the configuration, made of its listeners. A client believes it if
//! the certificate names the address that it asked (RFC 9462 section 4.2).

use crate::config::{Config, Listen};
use crate::dns::Name;
use crate::policy::ZoneSpec;
use crate::policy::local_zones::ZoneKind;

/// The zone, where there is a name to tell and something to reach; one of the configuration
/// goes before it.
#[must_use]
pub fn zone(config: &Config) -> Option<ZoneSpec> {
    let target: Name = config.server.name.as_ref()?.parse().ok()?;
    let name: Name = ZONE.parse().ok()?;
    if config.zones.iter().any(|zone| zone.name == ZONE) {
        return None;
    }
    let server = &config.server;
    let ways: [(&str, &[Listen], Option<&str>); 4] = [
        ("dot", &server.tls_listen, None),
        ("doq", &server.quic_listen, None),
        ("h2", &server.https_listen, Some(PATH)),
        ("h3", &server.h3_listen, Some(PATH)),
    ];
    let mut records = Vec::new();
    for (alpn, listen, path) in ways {
        let mut ports: Vec<u16> = listen.iter().map(port).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let priority = records.len() as u16 + 1;
            let data = data(priority, &target, alpn, port, path);
            let hex: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
            // RFC 3597 section 5: the reader of zones need not know SVCB.
            records.push(format!("_dns {TTL_SECS} IN TYPE64 \\# {} {hex}", data.len()));
        }
    }
    if records.is_empty() {
        return None;
    }
    // Section 6.4: every name in it is there, and has nothing else. A record of a type for
    // private use, which nobody asks for, is how names come to be there.
    records.push(format!("* {TTL_SECS} IN TYPE65280 \\# 1 00"));
    let views = Vec::new();
    Some(ZoneSpec { name, kind: ZoneKind::Static, records, views, log: false })
}

/// RFC 9460 section 2.2: priority, target, and parameters by their number.
fn data(priority: u16, target: &Name, alpn: &str, port: u16, path: Option<&str>) -> Vec<u8> {
    let mut data = priority.to_be_bytes().to_vec();
    data.extend_from_slice(target.as_wire());
    let mut parameter = |key: u16, value: &[u8]| {
        data.extend_from_slice(&key.to_be_bytes());
        // Each is a few octets.
        data.extend_from_slice(&(value.len() as u16).to_be_bytes());
        data.extend_from_slice(value);
    };
    parameter(ALPN, &[&[alpn.len() as u8], alpn.as_bytes()].concat());
    parameter(PORT, &port.to_be_bytes());
    if let Some(path) = path {
        parameter(DOHPATH, path.as_bytes());
    }
    data
}

const fn port(listen: &Listen) -> u16 {
    match listen {
        Listen::Socket(address) => address.port(),
        Listen::Scoped { port, .. } | Listen::Interface { port, .. } => *port,
    }
}

const ZONE: &str = "resolver.arpa.";
const TTL_SECS: u32 = 300;
/// RFC 9461 section 5: a template of URIs.
const PATH: &str = "/dns-query{?dns}";

/// RFC 9460 section 14.3.2, RFC 9461 section 9.
const ALPN: u16 = 1;
const PORT: u16 = 3;
const DOHPATH: u16 = 7;

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::SVCB;
    use hickory_proto::rr::{RData, RecordType};
    use hickory_proto::serialize::binary::BinDecoder;

    use super::*;
    use crate::dns::{Query, rtype};
    use crate::policy::{LocalZones, Said, Views};

    fn config(server: &str) -> Config {
        let tls = "tls-cert = \"c\"\ntls-key = \"k\"\n";
        Config::parse(&format!("[server]\n{tls}{server}"), "f").unwrap()
    }

    const ALL: &str = "name = \"dns.example\"\ntls-listen = [\"192.0.2.1:853\", \"eth0:853\"]\n\
                       https-listen = [\"eth0:443\", \"eth0:8443\"]\nh3-listen = [\"eth0:443\"]\n\
                       quic-listen = [\"[fe80::1%eth0]:853\"]\n";

    #[test]
    fn each_way_is_a_record_that_others_can_read() {
        let zone = zone(&config(ALL)).unwrap();
        let read = |text: &String| -> String {
            let hex = text.rsplit(' ').next().unwrap();
            let octets: Vec<u8> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            let len = u16::try_from(octets.len()).unwrap();
            let mut decoder = BinDecoder::new(&octets);
            let restricted = hickory_proto::serialize::binary::Restrict::new(len);
            let data = RData::read(&mut decoder, RecordType::SVCB, restricted).unwrap();
            let RData::SVCB(svcb) = data else { panic!("{data}") };
            assert_eq!(svcb.target_name.to_string(), "dns.example.");
            SVCB::to_string(&svcb)
        };
        let told: Vec<String> = zone.records[..5].iter().map(read).collect();
        for (text, alpn, port) in [
            (&told[0], "dot", "853"),
            (&told[1], "doq", "853"),
            (&told[2], "h2", "443"),
            (&told[3], "h2", "8443"),
            (&told[4], "h3", "443"),
        ] {
            assert!(text.contains(alpn) && text.contains(port), "{text}");
            assert_eq!(text.contains("/dns-query{?dns}"), alpn.starts_with('h'), "{text}");
        }
    }

    #[test]
    fn names_of_the_zone_are_there_and_have_nothing_else() {
        let zones = LocalZones::build(&[zone(&config(ALL)).unwrap()], &Views::default()).unwrap();
        let ask = |name: &str, qtype: u16| {
            let query = Query {
                name: name.parse().unwrap(),
                qtype,
                dnssec_ok: false,
                checking_disabled: false,
                view: 0,
            };
            let Some(Said::Answer(answer)) = zones.find(&query).map(|found| found.said) else {
                panic!("{query:?}");
            };
            (answer.rcode, answer.counts[0])
        };
        assert_eq!(ask("_dns.resolver.arpa.", 64), (0, 5));
        assert_eq!(ask("_dns.resolver.arpa.", rtype::A), (0, 0));
        assert_eq!(ask("resolver.arpa.", rtype::A), (0, 0));
        assert_eq!(ask("other.resolver.arpa.", 64), (0, 0));
    }

    #[test]
    fn without_a_name_or_a_way_or_where_the_operator_says_it_himself_there_is_none() {
        assert_eq!(zone(&config("tls-listen = [\"192.0.2.1:853\"]")), None);
        assert_eq!(zone(&config("name = \"dns.example\"")), None);
        let own = "[[zone]]\nname = \"resolver.arpa\"\nkind = \"refuse\"\n";
        assert_eq!(zone(&config(&format!("{ALL}{own}"))), None);
    }
}
