//! Breaks a signed zone by editing its text, and what the zone above has of it.
//!
//! Pure. The text is one record a line, as dnssec-signzone writes it with `-O full`.

use super::plan::{Fault, PlannedZone};

/// What dnssec-signzone could not do by itself: times are its business.
pub fn inflict(fault: Fault, zone: &PlannedZone, text: &mut String, ds: &mut String) {
    let www = zone.within("www");
    match fault {
        Fault::Expired | Fault::NotYetValid | Fault::Unsigned | Fault::Lame => {}
        Fault::WrongDs => {
            let other = if ds.ends_with('0') { '1' } else { '0' };
            ds.pop();
            ds.push(other);
        }
        Fault::NoSignature => retain(text, |words| !(words[0] == www && words[3] == "RRSIG")),
        Fault::Garbled => {
            edit(text, |words| {
                if words[0] == www && words[3] == "RRSIG" {
                    let at = SIGNATURE_AT.min(words.len() - 1);
                    // Another letter of the same alphabet; not the last, whose bits may be unused.
                    let other = if words[at].starts_with('A') { "B" } else { "A" };
                    words[at].replace_range(..1, other);
                }
            });
        }
        Fault::NoDenial => retain(text, |words| {
            let of = if words[3] == "RRSIG" { words[4] } else { words[3] };
            !matches!(of, "NSEC" | "NSEC3" | "NSEC3PARAM")
        }),
        Fault::UnknownAlgorithm => {
            edit(text, |words| match words[3].as_str() {
                "DNSKEY" => UNKNOWN.clone_into(&mut words[6]),
                "RRSIG" => UNKNOWN.clone_into(&mut words[5]),
                _ => {}
            });
            edit(ds, |words| UNKNOWN.clone_into(&mut words[5]));
        }
        Fault::UnknownDigest => edit(ds, |words| UNKNOWN.clone_into(&mut words[6])),
    }
}

/// Keeps the records that `keep` says, which gets owner, TTL, class, type and data.
fn retain(text: &mut String, keep: impl Fn(&[&str]) -> bool) {
    let lines = text.lines().filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() < 4 || line.starts_with(';') || keep(&words)
    });
    *text = lines.map(|line| format!("{line}\n")).collect();
}

/// Changes the words of each record.
fn edit(text: &mut String, change: impl Fn(&mut Vec<String>)) {
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        // Text in quotes has spaces of its own; nothing in it is changed.
        if words.len() < 5 || line.starts_with(';') || line.contains('"') {
            return format!("{line}\n");
        }
        change(&mut words);
        words.join(" ") + "\n"
    });
    *text = lines.collect();
}

/// Of an RRSIG's words, owner included, the first of its signature.
const SIGNATURE_AT: usize = 12;
/// An algorithm and a digest that nobody has been given.
const UNKNOWN: &str = "200";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internet::plan::Plan;

    const TEXT: &str = "www.x. 300 IN A 192.0.2.1\n\
        www.x. 300 IN RRSIG A 13 2 300 20261220153820 20261120153820 61108 x. QUJD REVG==\n\
        x. 300 IN TXT \"a  b\"\n\
        x. 300 IN NSEC www.x. TXT\n\
        x. 300 IN RRSIG NSEC 13 1 300 20261220153820 20261120153820 61108 x. QUJD\n";

    fn broken(fault: Fault) -> (String, String) {
        let mut zone = Plan::of_seed(1).zones[1].clone();
        "x.".clone_into(&mut zone.name);
        let (mut text, mut ds) = (TEXT.to_owned(), "x. 3600 IN DS 1 13 2 ABCD".to_owned());
        inflict(fault, &zone, &mut text, &mut ds);
        (text, ds)
    }

    #[test]
    fn each_fault_changes_what_it_says_and_nothing_else() {
        assert_eq!(broken(Fault::Garbled).0, TEXT.replacen("x. QUJD", "x. AUJD", 1));
        assert_eq!(broken(Fault::NoSignature).0.lines().count(), 4);
        assert_eq!(broken(Fault::NoDenial).0.lines().count(), 3);
        assert_eq!(broken(Fault::WrongDs), (TEXT.to_owned(), "x. 3600 IN DS 1 13 2 ABC0".into()));
        assert_eq!(broken(Fault::UnknownDigest).1.trim(), "x. 3600 IN DS 1 13 200 ABCD");
        let (text, ds) = broken(Fault::UnknownAlgorithm);
        assert_eq!(text.matches(" 200 ").count(), 2);
        assert_eq!(ds.trim(), "x. 3600 IN DS 1 200 2 ABCD");
    }
}
