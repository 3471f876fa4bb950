//! Words of the configuration: durations, sizes, addresses, prefixes, names.
//!
//! Pure, and without places: each function takes one string and gives its meaning, or says
//! what is wrong and what could be written instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::rr::Name;
use ipnet::{IpNet, Ipv6Net};
use resolverd_common::cookie::Secret;

use super::{DnstapMessage, Listen, Override, QueryTarget};

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// What could stand there, as it would be written.
    pub instead: String,
}

fn refuse<T>(message: impl Into<String>, instead: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), instead: instead.into() })
}

fn quoted(text: impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}

/// `"10s"`, `"1h 30min"`.
pub fn duration(text: &str) -> Result<Duration, Refusal> {
    match humantime::parse_duration(text.trim()) {
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::UnknownUnit { unit, value, .. }) if unit.is_empty() => {
            refuse(format!("`{text}` has no unit of time"), quoted(format!("{value}s")))
        }
        Err(_) => {
            refuse(format!("`{text}` is not a duration"), "a number and a unit, as in \"10s\"")
        }
    }
}

/// A duration as `duration` reads it, in its largest whole unit.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    for (size, unit) in units {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// `"clock"`, or a time as RFC 3339 has it: its second since 1970.
pub fn fixed_time(text: &str) -> Result<Option<u64>, Refusal> {
    match text.trim() {
        "clock" => Ok(None),
        time => moment(time).map(Some),
    }
}

/// `"example.com."`, or `"example.com. until 2026-12-01T00:00:00Z"`.
pub fn negative_anchor(text: &str) -> Result<(String, Option<u64>), Refusal> {
    let (name, until) = match text.split_once(" until ") {
        Some((name, until)) => (name.trim(), Some(moment(until.trim())?)),
        None => (text.trim(), None),
    };
    Ok((zone(name)?, until))
}

fn moment(text: &str) -> Result<u64, Refusal> {
    let time = humantime::parse_rfc3339_weak(text).ok();
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    match since {
        Some(since) => Ok(since.as_secs()),
        None => refuse(
            format!("`{text}` is no time as RFC 3339 has it"),
            "one like \"2026-11-01T00:00:00Z\"",
        ),
    }
}

/// `"64MiB"`: octets, in powers of 1024.
pub fn size(text: &str) -> Result<u64, Refusal> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        return refuse(
            format!("`{text}` is not a size"),
            "a whole number and a unit, as in \"64MiB\"",
        );
    };
    let unit = unit.trim();
    if let Some(power) = SIZE_UNITS.iter().position(|u| *u == unit) {
        return match number.checked_mul(1 << (10 * power)) {
            Some(octets) => Ok(octets),
            None => refuse(format!("`{text}` is more than any machine has"), "\"64MiB\""),
        };
    }
    let likely = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => "MiB",
        "k" | "kb" | "kib" => "KiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => {
            return refuse(
                format!("`{unit}` is not a unit of size"),
                quoted(format!("{number}MiB")),
            );
        }
    };
    let message = if unit.is_empty() {
        format!("`{text}` has no unit of size")
    } else {
        format!("`{unit}` is not a unit of size")
    };
    refuse(message, quoted(format!("{number}{likely}")))
}

/// A size as `size` reads it, in its largest whole unit.
pub fn show_size(octets: u64) -> String {
    let power = (1..SIZE_UNITS.len())
        .rev()
        .find(|power| octets > 0 && octets.is_multiple_of(1 << (10 * power)))
        .unwrap_or(0);
    format!("{}{}", octets >> (10 * power), SIZE_UNITS[power])
}

/// One place to listen at.
pub fn listen(text: &str) -> Result<Listen, Refusal> {
    if let Some(scoped) = scoped(text) {
        return scoped;
    }
    if let Ok(socket) = SocketAddr::from_str(text) {
        servable(socket)?;
        return Ok(Listen::Socket(socket));
    }
    missing_port(text)?;
    let Some((name, port)) = text.rsplit_once(':') else {
        return refuse(format!("`{text}` has no port"), quoted(format!("{text}:53")));
    };
    let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
        return refuse(format!("`{port}` is not a port: 1 to 65535"), quoted(format!("{name}:53")));
    };
    if name == "localhost" {
        return refuse(
            "`localhost` is neither an address nor an interface",
            quoted(format!("127.0.0.1:{port}")),
        );
    }
    if name == "*" || name.is_empty() {
        return refuse(
            format!("`{text}` has no address"),
            format!("\"0.0.0.0:{port}\", \"[::]:{port}\""),
        );
    }
    interface(name).map_err(|_| Refusal {
        message: format!("`{name}` is neither an address nor the name of an interface"),
        instead: format!("\"127.0.0.1:{port}\" or \"eth0:{port}\""),
    })?;
    Ok(Listen::Interface { name: name.to_owned(), port })
}

/// `[fe80::1%eth0]:53`; None when it is not of this form at all.
fn scoped(text: &str) -> Option<Result<Listen, Refusal>> {
    let (addr, rest) = text.strip_prefix('[')?.split_once('%')?;
    let read = || {
        let addr: Ipv6Addr = addr.parse().ok()?;
        let (interface, port) = rest.split_once("]:")?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        Some((addr, interface, port))
    };
    let Some((addr, interface_name, port)) = read() else {
        return Some(refuse(
            format!("`{text}` is not a link-local address with its interface and a port"),
            "\"[fe80::1%eth0]:53\"",
        ));
    };
    if !addr.is_unicast_link_local() {
        return Some(refuse(
            format!("`{addr}` is not link-local, and needs no interface"),
            quoted(format!("[{addr}]:{port}")),
        ));
    }
    Some(interface(interface_name).map(|()| Listen::Scoped {
        addr,
        interface: interface_name.to_owned(),
        port,
    }))
}

/// Whether a client could send to it.
fn servable(socket: SocketAddr) -> Result<(), Refusal> {
    if socket.port() == 0 {
        let mut likely = socket;
        likely.set_port(53);
        return refuse("port 0 is not one that clients can be told of", quoted(likely));
    }
    match socket.ip() {
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => {
            refuse(format!("`{v4}` is not the address of one host"), "\"127.0.0.1:53\"")
        }
        IpAddr::V6(v6) if v6.is_multicast() => {
            refuse(format!("`{v6}` is not the address of one host"), "\"[::1]:53\"")
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => refuse(
            format!("`{v6}` is link-local, and needs its interface"),
            quoted(format!("[{v6}%eth0]:{}", socket.port())),
        ),
        IpAddr::V6(v6) => unmapped(v6, |v4| format!("{v4}:{}", socket.port())),
        IpAddr::V4(_) => Ok(()),
    }
}

/// Refuses an IPv4 address in IPv6's clothes: packets carry it undressed.
fn unmapped(v6: Ipv6Addr, write: impl Fn(Ipv4Addr) -> String) -> Result<(), Refusal> {
    match v6.to_ipv4_mapped() {
        Some(v4) => {
            refuse(format!("`{v6}` is an IPv4 address inside an IPv6 one"), quoted(write(v4)))
        }
        None => Ok(()),
    }
}

/// Refuses an address that stands without a port.
fn missing_port(text: &str) -> Result<(), Refusal> {
    match IpAddr::from_str(text.trim_start_matches('[').trim_end_matches(']')) {
        Ok(IpAddr::V4(v4)) => refuse(format!("`{text}` has no port"), quoted(format!("{v4}:53"))),
        Ok(IpAddr::V6(v6)) => {
            refuse(format!("`{text}` has no port, or no brackets"), quoted(format!("[{v6}]:53")))
        }
        Err(_) => Ok(()),
    }
}

/// The address of one who is asked in clear text; the port may be missing.
pub fn upstream(text: &str) -> Result<SocketAddr, Refusal> {
    server(text, 53)
}

/// The address of one who is asked; without a port, at `port`.
pub fn server(text: &str, port: u16) -> Result<SocketAddr, Refusal> {
    let bare = IpAddr::from_str(text).map(|ip| SocketAddr::new(ip, port));
    let Ok(address) = bare.or_else(|_| SocketAddr::from_str(text)) else {
        return refuse(
            format!("`{text}` is not the address of an upstream"),
            "an address with or without a port, as in \"192.0.2.1:53\"",
        );
    };
    if address.port() == 0 {
        return refuse("nobody answers at port 0", quoted(SocketAddr::new(address.ip(), port)));
    }
    let one_host = match address {
        SocketAddr::V4(v4) => {
            !v4.ip().is_unspecified() && !v4.ip().is_multicast() && !v4.ip().is_broadcast()
        }
        SocketAddr::V6(v6) => {
            if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 {
                return refuse(
                    format!("`{}` is link-local, and needs the number of its interface", v6.ip()),
                    format!(
                        "\"[{}%2]:{}\" with the number that `ip link` shows",
                        v6.ip(),
                        v6.port()
                    ),
                );
            }
            unmapped(*v6.ip(), |v4| SocketAddr::from((v4, v6.port())).to_string())?;
            !v6.ip().is_unspecified() && !v6.ip().is_multicast()
        }
    };
    if one_host {
        Ok(address)
    } else {
        refuse(format!("`{}` is not the address of one host", address.ip()), "\"192.0.2.1:53\"")
    }
}

/// An address and port to serve operators at.
pub fn socket(text: &str) -> Result<SocketAddr, Refusal> {
    match SocketAddr::from_str(text) {
        Ok(socket) if socket.port() > 0 => Ok(socket),
        _ => refuse(
            format!("`{text}` is not an address and a port"),
            "\"127.0.0.1:9853\", or \"off\",",
        ),
    }
}

/// Where lines of the query log go.
pub fn query_target(text: &str) -> Result<QueryTarget, Refusal> {
    match text {
        "stderr" => Ok(QueryTarget::Stderr),
        // A word alone is more likely meant as something else than as a file's name.
        path if path.contains('/') && !path.contains('\0') => Ok(QueryTarget::File(path.into())),
        _ => refuse(
            format!("`{}` is neither \"stderr\" nor the path of a file", text.escape_default()),
            "\"stderr\" or \"/var/log/resolverd/queries.log\"",
        ),
    }
}

/// Who takes dnstap over TCP.
pub fn receiver(text: &str) -> Result<SocketAddr, Refusal> {
    match SocketAddr::from_str(text) {
        Ok(socket) if socket.port() > 0 && !socket.ip().is_unspecified() => Ok(socket),
        _ => refuse(
            format!("`{text}` is not the address and port of a receiver"),
            "\"192.0.2.1:6000\", or \"off\",",
        ),
    }
}

/// `"/24,/56"`: bits of IPv4 and of IPv6 addresses; `"off"`: all.
pub fn client_prefix(text: &str) -> Result<(u8, u8), Refusal> {
    if text == "off" {
        return Ok((32, 128));
    }
    let bits = |text: &str, max: u8| {
        let bits: u8 = text.trim().strip_prefix('/')?.parse().ok()?;
        (bits <= max).then_some(bits)
    };
    let read = text.split_once(',').and_then(|(v4, v6)| Some((bits(v4, 32)?, bits(v6, 128)?)));
    read.map_or_else(
        || {
            refuse(
                format!("`{text}` is not a prefix of IPv4 and one of IPv6"),
                "\"/24,/56\", or \"off\" for whole addresses,",
            )
        },
        Ok,
    )
}

/// What dnstap may be told.
pub fn dnstap_message(text: &str) -> Result<DnstapMessage, Refusal> {
    match text {
        "client-query" => Ok(DnstapMessage::ClientQuery),
        "client-response" => Ok(DnstapMessage::ClientResponse),
        "resolver-query" => Ok(DnstapMessage::ResolverQuery),
        "resolver-response" => Ok(DnstapMessage::ResolverResponse),
        _ => refuse(
            format!("`{text}` is no message of dnstap's that is sent here"),
            "\"client-query\", \"client-response\", \"resolver-query\" or \"resolver-response\"",
        ),
    }
}

/// A prefix, or one address.
pub fn prefix(text: &str) -> Result<IpNet, Refusal> {
    let net = match (IpNet::from_str(text), IpAddr::from_str(text)) {
        (Ok(net), _) => net,
        (_, Ok(address)) => IpNet::from(address),
        _ => {
            return refuse(
                format!("`{text}` is not a prefix of addresses"),
                "\"192.0.2.0/24\", \"2001:db8::/32\" or one address",
            );
        }
    };
    if let IpNet::V6(v6) = net {
        unmapped(v6.addr(), |v4| v4.to_string())?;
    }
    if net.addr() == net.network() {
        Ok(net)
    } else {
        refuse(
            format!("`{text}` has bits set after its {} bits of prefix", net.prefix_len()),
            quoted(net.trunc()),
        )
    }
}

/// 128 bits in hexadecimal digits, as BIND, Knot and Unbound share them.
pub fn cookie_secret(text: &str) -> Result<Secret, Refusal> {
    let text = text.trim();
    let digits = text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
    let Some(bits) = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten() else {
        // Not the text itself: it may be most of a secret.
        return refuse(
            "a secret has 32 hexadecimal digits (RFC 9018 section 4)",
            "the output of `openssl rand -hex 16`",
        );
    };
    // Two words in memory order: the octets stand as they are written.
    let [high, low] = [(bits >> 64) as u64, bits as u64];
    Ok([high.to_be(), low.to_be()])
}

/// A prefix that IPv4 addresses are mapped into (RFC 6052 section 2.2).
pub fn dns64_prefix(text: &str) -> Result<Ipv6Net, Refusal> {
    let IpNet::V6(net) = prefix(text)? else {
        return refuse(format!("`{text}` is not a prefix of IPv6"), "\"64:ff9b::/96\"");
    };
    if [32, 40, 48, 56, 64, 96].contains(&net.prefix_len()) {
        Ok(net)
    } else {
        refuse(
            format!("`{text}` has a length that is none of 32, 40, 48, 56, 64, 96 (RFC 6052)"),
            "\"64:ff9b::/96\"",
        )
    }
}

/// What is done in place of what a policy zone says.
pub fn rpz_policy(text: &str) -> Result<Override, Refusal> {
    if let Some(target) = text.strip_prefix("cname ") {
        let name = zone(target.trim())?;
        return match name.parse() {
            Ok(name) => Ok(Override::Cname(name)),
            Err(_) => refuse(format!("`{target}` is not a domain name"), "\"nxdomain\""),
        };
    }
    Ok(match text {
        "given" => Override::Given,
        "nxdomain" => Override::Nxdomain,
        "nodata" => Override::Nodata,
        "passthru" => Override::Passthru,
        "drop" => Override::Drop,
        "tcp-only" => Override::TcpOnly,
        "disabled" => Override::Disabled,
        _ => {
            return refuse(
                format!("`{text}` is no policy"),
                "\"given\", \"nxdomain\", \"nodata\", \"passthru\", \"drop\", \"tcp-only\", \
                 \"disabled\" or \"cname NAME\"",
            );
        }
    })
}

/// A domain name, made absolute and lower-case.
pub fn zone(text: &str) -> Result<String, Refusal> {
    let fail = |why: &str| {
        refuse(format!("`{text}` is not a domain name: {why}"), "a name such as \"example.com.\"")
    };
    if text.is_empty() {
        return fail("it is empty (the root is \".\")");
    }
    if !text.is_ascii() {
        return fail("it has letters outside ASCII (names of other scripts start with xn--)");
    }
    if text.chars().any(|c| c.is_ascii_whitespace() || c.is_ascii_control()) {
        return fail("it has a space in it");
    }
    let mut name = match Name::from_ascii(text) {
        Ok(name) => name,
        Err(e) => return fail(e.to_string().trim_end_matches([':', ' '])),
    };
    if name.is_wildcard() {
        return refuse(
            format!("`{text}`: a zone covers all names below it without an asterisk"),
            quoted(name.base_name()),
        );
    }
    name.set_fqdn(true);
    Ok(name.to_lowercase().to_ascii())
}

/// The name of a network interface: what Linux allows.
pub fn interface(name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    let valid = (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && name.chars().all(allowed)
        && name != "."
        && name != "..";
    if valid {
        Ok(())
    } else {
        refuse(
            format!("`{name}` is not the name of a network interface"),
            "a name that `ip link` shows, such as \"eth0\"",
        )
    }
}

/// `IFNAMSIZ` without the octet that ends it.
const INTERFACE_NAME_MAX: usize = 15;
const SIZE_UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_shown_as_they_are_read() {
        for text in ["0s", "250ms", "10s", "5min", "1h", "1d", "90s"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(duration("1h 30min").unwrap(), Duration::from_secs(5_400));
        for text in ["0B", "100B", "64KiB", "64MiB", "1GiB", "3TiB", "1025B"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }

    #[test]
    fn what_could_be_meant_is_offered() {
        for (text, instead) in [("64MB", "\"64MiB\""), ("64", "\"64MiB\""), ("8g", "\"8GiB\"")] {
            assert_eq!(size(text).unwrap_err().instead, instead);
        }
        assert_eq!(duration("10").unwrap_err().instead, "\"10s\"");
        assert_eq!(prefix("10.1.2.3/8").unwrap_err().instead, "\"10.0.0.0/8\"");
        assert_eq!(listen("::1").unwrap_err().instead, "\"[::1]:53\"");
        assert_eq!(listen("[fe80::1]:53").unwrap_err().instead, "\"[fe80::1%eth0]:53\"");
        assert_eq!(listen("[::ffff:192.0.2.1]:53").unwrap_err().instead, "\"192.0.2.1:53\"");
    }

    #[test]
    fn the_three_ways_to_listen_are_told_apart() {
        assert_eq!(listen("0.0.0.0:53"), Ok(Listen::Socket("0.0.0.0:53".parse().unwrap())));
        assert_eq!(listen("[::1]:5300"), Ok(Listen::Socket("[::1]:5300".parse().unwrap())));
        assert_eq!(
            listen("eth0.100:53"),
            Ok(Listen::Interface { name: "eth0.100".into(), port: 53 })
        );
        let scoped = listen("[fe80::1%eth0]:53").unwrap();
        assert_eq!(scoped.to_string(), "[fe80::1%eth0]:53");
        assert!(matches!(scoped, Listen::Scoped { port: 53, .. }));
    }

    #[test]
    fn names_are_made_absolute_and_lower_case() {
        assert_eq!(zone("Example.COM").unwrap(), "example.com.");
        assert_eq!(zone(".").unwrap(), ".");
        for bad in ["", "a..b", "*.a", "bücher.de", "a b", &"a".repeat(64)] {
            assert!(zone(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_upstream_without_a_port_is_asked_at_53() {
        assert_eq!(upstream("192.0.2.1").unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(upstream("2001:db8::1").unwrap().to_string(), "[2001:db8::1]:53");
        assert_eq!(upstream("[2001:db8::1]:5300").unwrap().port(), 5300);
        for bad in ["0.0.0.0", "224.0.0.1", "fe80::1", "dns.example", "1.2.3.4:0", "::ffff:1.2.3.4"]
        {
            assert!(upstream(bad).is_err(), "{bad}");
        }
    }
}
