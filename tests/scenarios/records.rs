//! Records of scenarios, from text, and back for showing.

use resolverd::dns::Name;
use resolverd::dns::records::Record;

/// `OWNER [TTL] TYPE DATA`; names without a last dot are completed with `origin`, `@` is it.
pub fn record(text: &str, origin: &Name) -> Result<Record, String> {
    let mut words = text.split_whitespace();
    let owner = name(words.next().unwrap_or_default(), origin)?;
    let mut next = words.next().unwrap_or_default();
    let mut ttl = TTL;
    if let Ok(written) = next.parse() {
        ttl = written;
        next = words.next().unwrap_or_default();
    }
    let rtype = rtype(next)?;
    let data: Vec<&str> = words.collect();
    let word =
        |at: usize| data.get(at).copied().ok_or_else(|| format!("`{text}`: too little data"));
    let rdata = match next {
        "A" => {
            let ip: std::net::Ipv4Addr =
                word(0)?.parse().map_err(|_| format!("`{text}`: no IPv4"))?;
            ip.octets().to_vec()
        }
        "AAAA" => {
            let ip: std::net::Ipv6Addr =
                word(0)?.parse().map_err(|_| format!("`{text}`: no IPv6"))?;
            ip.octets().to_vec()
        }
        "NS" | "CNAME" | "DNAME" => name(word(0)?, origin)?.as_wire().to_vec(),
        "MX" => [&[0, 10][..], name(word(0)?, origin)?.as_wire()].concat(),
        "TXT" => {
            let text = word(0)?;
            [&[text.len() as u8][..], text.as_bytes()].concat()
        }
        // MINIMUM alone matters here.
        "SOA" => {
            let minimum: u32 = word(0)?.parse().map_err(|_| format!("`{text}`: no number"))?;
            [&[0, 0][..], &[0; 16], &minimum.to_be_bytes()].concat()
        }
        "DS" => vec![0, 1, 13, 2, 1, 2, 3, 4],
        "NSEC" => [name(word(0)?, origin)?.as_wire(), &[0, 1, 0x40]].concat(),
        // What it covers alone matters here: nobody validates yet.
        "RRSIG" => [&self::rtype(word(0)?)?.to_be_bytes()[..], &[0; 16], &[0, 9]].concat(),
        other => return Err(format!("`{text}`: records of type {other} are not made here")),
    };
    Ok(Record { owner, rtype, class: 1, ttl, rdata })
}

pub fn name(text: &str, origin: &Name) -> Result<Name, String> {
    if text == "@" {
        return Ok(origin.clone());
    }
    if text.is_empty() {
        return Err("a name is missing".to_owned());
    }
    let whole = if text.ends_with('.') {
        text.to_owned()
    } else {
        format!("{text}.{origin}").replace("..", ".")
    };
    whole.parse().map_err(|error| format!("{error}"))
}

pub fn rtype(text: &str) -> Result<u16, String> {
    let found = TYPES.iter().find(|(_, known)| *known == text);
    found.map(|(number, _)| *number).ok_or_else(|| format!("`{text}` is no type known here"))
}

pub fn show_type(rtype: u16) -> String {
    let found = TYPES.iter().find(|(number, _)| *number == rtype);
    found.map_or_else(|| format!("TYPE{rtype}"), |(_, known)| (*known).to_owned())
}

/// As `record` reads it, without the TTL.
pub fn show(record: &Record) -> String {
    let data = match record.rtype {
        1 => <[u8; 4]>::try_from(&record.rdata[..])
            .map(|octets| std::net::Ipv4Addr::from(octets).to_string())
            .unwrap_or_default(),
        28 => <[u8; 16]>::try_from(&record.rdata[..])
            .map(|octets| std::net::Ipv6Addr::from(octets).to_string())
            .unwrap_or_default(),
        2 | 5 | 39 => Name::from_wire(&record.rdata).map(|n| n.to_string()).unwrap_or_default(),
        15 => Name::from_wire(&record.rdata[2..]).map(|n| n.to_string()).unwrap_or_default(),
        16 => String::from_utf8_lossy(&record.rdata[1..]).into_owned(),
        46 => show_type(u16::from_be_bytes([record.rdata[0], record.rdata[1]])),
        _ => String::new(),
    };
    format!("{} {} {data}", record.owner, show_type(record.rtype)).trim_end().to_owned()
}

const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (39, "DNAME"),
    (43, "DS"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (255, "ANY"),
];

const TTL: u32 = 3_600;
