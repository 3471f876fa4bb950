//! Records of local zones, from presentation format (RFC 1035 section 5.1) to wire.
//!
//! Pure. hickory-proto reads the text, and lower-cases names in it. What it would do beside that,
//! or do wrong, is refused here: it opens files for `$INCLUDE`, and reads `\DDD` in strings as
//! another number. Types it cannot read are written as RFC 3597 section 5 has it:
//! `TYPE65280 \# 2 0a0b`.

use hickory_proto::rr::{
    DNSClass, Name as HickoryName, RData, Record as HickoryRecord, RecordType,
};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use hickory_proto::serialize::txt::Parser;

use crate::dns::Name;
use crate::dns::records::{self, Record};

/// Reads one record. Names without a last dot are completed with the zone's.
pub(super) fn parse(zone: &Name, text: &str) -> Result<Record, String> {
    if text.contains(['\n', '\r']) {
        return Err("a record is one line; write the next one as a string of its own".into());
    }
    if text.trim_start().starts_with('$') {
        return Err("directives such as $ORIGIN, $TTL and $INCLUDE are not taken here".into());
    }
    let (written, generic) = match text.split_once(GENERIC) {
        Some((head, data)) => {
            let (head, rtype) = generic_type(head)?;
            (read(&format!("{head} A 192.0.2.1"))?, Some((rtype, generic_data(data)?)))
        }
        None => (read(text)?, None),
    };
    if written.dns_class != DNSClass::IN {
        return Err(format!("the class is {}; only IN is served", written.dns_class));
    }
    if written.ttl > TTL_MAX {
        return Err(format!("the TTL is {}; it is at most {TTL_MAX} (RFC 2181)", written.ttl));
    }
    let owner = complete(zone, &wire_of(&written.name)?)?;
    let owner = Name::from_wire(&owner).map_err(|_| "the owner is no name".to_owned())?;
    if !owner.is_under(zone) {
        return Err(format!("`{owner}` is not in the zone `{zone}`"));
    }
    let (rtype, rdata) = match generic {
        Some(generic) => generic,
        None => (u16::from(written.record_type()), data_of(&written, text)?),
    };
    let mut record = Record { owner, rtype, class: CLASS_IN, ttl: written.ttl, rdata };
    let mut wrong = None;
    record = records::map_names(&record, |name| {
        complete(zone, name).unwrap_or_else(|error| {
            wrong = Some(error);
            name.to_vec()
        })
    })
    .map_err(|error| error.to_string())?;
    wrong.map_or(Ok(record), Err)
}

/// What hickory makes of a line.
fn read(text: &str) -> Result<HickoryRecord, String> {
    let whole = format!("$TTL {TTL_DEFAULT}\n{text}\n");
    let relative = HickoryName::from_labels([RELATIVE_LABEL]).map_err(|e| e.to_string())?;
    let parsed = Parser::new(whole, None, Some(relative)).parse();
    let no = |why: String| format!("`{text}` is no record{why}; write {EXAMPLE} instead");
    let (_, sets) = parsed.map_err(|error| no(format!(": {error}")))?;
    let mut records = sets.values().flat_map(|set| set.records_without_rrsigs());
    records.next().cloned().ok_or_else(|| no(String::new()))
}

fn data_of(record: &HickoryRecord, text: &str) -> Result<Vec<u8>, String> {
    let mut data = record.data.clone();
    // hickory takes these names for absolute ones.
    if let RData::SVCB(svcb) | RData::HTTPS(hickory_proto::rr::rdata::HTTPS(svcb)) = &mut data
        && !svcb.target_name.is_fqdn()
    {
        let relative = HickoryName::from_labels([RELATIVE_LABEL]).map_err(|e| e.to_string())?;
        let target = svcb.target_name.clone();
        svcb.target_name = target.append_domain(&relative).map_err(|e| e.to_string())?;
    }
    let strings = matches!(data, RData::TXT(_) | RData::HINFO(_) | RData::CAA(_) | RData::NAPTR(_));
    let decimal = |pair: &[u8]| pair[0] == b'\\' && pair[1].is_ascii_digit();
    if strings && text.as_bytes().windows(2).any(decimal) {
        return Err("`\\DDD` is not understood in strings; write the record in the form of \
             RFC 3597, `\\# LENGTH HEX`"
            .into());
    }
    encode(&data)
}

fn wire_of(name: &HickoryName) -> Result<Vec<u8>, String> {
    encode(name)
}

fn encode(what: &impl BinEncodable) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    what.emit(&mut encoder).map_err(|error| error.to_string())?;
    Ok(octets)
}

/// A name that ended without a dot, and so has our mark at its end, gets the zone's.
fn complete(zone: &Name, name: &[u8]) -> Result<Vec<u8>, String> {
    let Some(relative) = name.strip_suffix(RELATIVE) else { return Ok(name.to_vec()) };
    let absolute = [relative, &[0]].concat();
    let show = |wire: &[u8]| Name::from_wire(wire).map_or("?".into(), |name| name.to_string());
    if *zone != Name::root() && Name::from_wire(&absolute).is_ok_and(|name| name.is_under(zone)) {
        let dotted = show(&absolute);
        let bare = dotted.trim_end_matches('.');
        return Err(format!(
            "`{bare}` would become `{bare}.{zone}`; write `{dotted}` with its last dot"
        ));
    }
    let whole = [relative, zone.as_wire()].concat();
    if Name::from_wire(&whole).is_err() {
        return Err(format!("`{}` is too long a name in `{zone}`", show(&absolute)));
    }
    Ok(whole)
}

/// Takes the type, the last word, off the head of a record in generic form.
fn generic_type(head: &str) -> Result<(&str, u16), String> {
    let none = || "there is no type before `\\#`".to_owned();
    let (head, rtype) = head.trim_end().rsplit_once(char::is_whitespace).ok_or_else(none)?;
    let word = rtype.to_ascii_uppercase();
    let known = || word.parse::<RecordType>().ok().map(u16::from);
    // hickory does not know this form of RFC 3597 section 5 for every number.
    let number = word.strip_prefix("TYPE").and_then(|number| number.parse().ok());
    let rtype = number.or_else(known).ok_or_else(|| format!("`{rtype}` is no type"))?;
    if matches!(rtype, 0 | 41 | 249..=255) {
        return Err(format!("records of type {rtype} are not kept in zones"));
    }
    Ok((head, rtype))
}

/// `LENGTH HEX…`, with or without white space in it.
fn generic_data(text: &str) -> Result<Vec<u8>, String> {
    let mut words = text.split_whitespace();
    let length = words.next().and_then(|word| word.parse::<u16>().ok());
    let length = length.ok_or("after `\\#` comes the number of octets")?;
    let digits: String = words.take_while(|word| !word.starts_with(';')).collect();
    let digits = digits.as_bytes();
    let octet = |pair: &[u8]| {
        let text =
            std::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit));
        text.and_then(|text| u8::from_str_radix(text, 16).ok())
    };
    let octets: Option<Vec<u8>> =
        if digits.len().is_multiple_of(2) { digits.chunks(2).map(octet).collect() } else { None };
    let octets = octets.ok_or("the data after `\\#` is not in hexadecimal")?;
    if octets.len() == usize::from(length) {
        Ok(octets)
    } else {
        Err(format!("`\\# {length}` is followed by {} octets", octets.len()))
    }
}

const GENERIC: &str = "\\#";

/// Ends names that were written without a last dot, until it is known what to do with them. No
/// text gives such a label by accident.
const RELATIVE_LABEL: &[u8] = b"\x00\x01";
const RELATIVE: &[u8] = b"\x02\x00\x01\x00";

/// Short: local data is changed by a reload, and answers are believed for so long after it.
const TTL_DEFAULT: u32 = 300;

/// RFC 2181 section 8.
const TTL_MAX: u32 = i32::MAX.cast_unsigned();

const CLASS_IN: u16 = 1;

const EXAMPLE: &str = "one such as `www 300 IN A 192.0.2.1`";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::rtype;

    fn read(text: &str) -> Result<Record, String> {
        parse(&"home.test.".parse().unwrap(), text)
    }

    fn good(text: &str) -> (String, u32, u16, Vec<u8>) {
        let record = read(text).unwrap();
        (record.owner.to_string(), record.ttl, record.rtype, record.rdata)
    }

    #[test]
    fn owners_are_completed_with_the_zone_and_ttl_and_class_may_be_missing() {
        let a = vec![192, 0, 2, 7];
        for (text, owner, ttl) in [
            ("www A 192.0.2.7", "www.home.test.", 300),
            ("WWW 60 a 192.0.2.7 ; comment", "www.home.test.", 60),
            ("www.home.test. IN A 192.0.2.7", "www.home.test.", 300),
            ("a.b in 1h A 192.0.2.7", "a.b.home.test.", 3_600),
            ("@ 5 IN A 192.0.2.7", "home.test.", 5),
            ("* A 192.0.2.7", "*.home.test.", 300),
        ] {
            assert_eq!(good(text), (owner.into(), ttl, rtype::A, a.clone()), "{text}");
        }
    }

    #[test]
    fn names_in_data_are_completed_as_well() {
        let rdata = |text| good(text).3;
        assert_eq!(rdata("a CNAME Www"), b"\x03www\x04home\x04test\0");
        assert_eq!(rdata("a CNAME www.example."), b"\x03www\x07example\0");
        assert_eq!(rdata("@ MX 10 mail"), b"\0\x0a\x04mail\x04home\x04test\0");
        assert_eq!(rdata("s SRV 0 0 53 ns"), b"\0\0\0\0\0\x35\x02ns\x04home\x04test\0");
        assert_eq!(rdata("h HTTPS 1 web"), b"\0\x01\x03web\x04home\x04test\0");
        assert_eq!(rdata("h HTTPS 1 . port=8443"), b"\0\x01\0\0\x03\0\x02\x20\xfb");
        assert!(rdata("@ SOA ns h 1 2 3 4 5").starts_with(b"\x02ns\x04home\x04test\0\x01h\x04"));
    }

    #[test]
    fn generic_form_gives_types_that_have_no_text_here() {
        assert_eq!(good("x TYPE65280 \\# 3 0a0B 0c").3, [10, 11, 12]);
        assert_eq!(good("x 60 IN DS \\# 4 00010d02 ; a comment").2, rtype::DS);
        assert_eq!(good("x A \\# 4 c0000207"), good("x A 192.0.2.7"));
        assert!(good("x TYPE65281 \\# 0").3.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("www.other. A 192.0.2.1", "not in the zone"),
            ("www.home.test A 192.0.2.1", "write `www.home.test.` with its last dot"),
            ("a CNAME b.home.test", "write `b.home.test.` with its last dot"),
            ("a A 192.0.2.256", "`a A 192.0.2.256` is no record: "),
            ("a A 192.0.2.256", "invalid IPv4 address"),
            ("a A 192.0.2.1\nb A 192.0.2.2", "one line"),
            ("$INCLUDE /etc/passwd", "directives"),
            (" $ORIGIN x.", "directives"),
            ("", "no record"),
            ("; nothing", "no record"),
            ("a", "no record"),
            ("a CH A 192.0.2.1", "only IN"),
            ("a 4294967295 A 192.0.2.1", "at most"),
            ("a TXT \"\\065\"", "RFC 3597"),
            ("a NOTYPE x", "NOTYPE"),
            ("a TYPE65280 \\# 3 0a0b", "followed by 2 octets"),
            ("a TYPE65280 \\# x 0a0b", "number of octets"),
            ("a TYPE65280 \\# 1 0g", "hexadecimal"),
            ("a TYPE65280 \\# 1 0", "hexadecimal"),
            ("a A \\# 3 0a0b0c", "malformed"),
            ("a TYPE41 \\# 0", "not kept in zones"),
            ("a FOO \\# 0", "no type"),
            ("\\# 0", "no type"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let long = format!("{0}.{0}.{0}.{0} A 192.0.2.1", "a".repeat(61));
        assert!(read(&long).unwrap_err().contains("too long"), "{:?}", read(&long));
        let string = format!("a TXT \"{}\"", "x".repeat(256));
        assert!(read(&string).is_err());
    }
}
