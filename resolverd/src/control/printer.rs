//! Prints a dump of the cache while it comes: as it is, or for people.
//!
//! Knows lines and where they end, not whom they come from.

use std::io::{self, Write};

use super::dump::End;
use super::show;

/// Makes lines of what comes in pieces.
pub struct Printer {
    json: bool,
    rest: Vec<u8>,
    /// The last line, if it was the end.
    pub end: Option<End>,
    /// Why nothing more is written.
    pub failed: Option<io::Error>,
}

impl Printer {
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json, rest: Vec::new(), end: None, failed: None }
    }

    /// Prints the lines that are whole by now. False: nothing more can be written.
    pub fn take(&mut self, octets: &[u8], out: &mut impl Write) -> bool {
        self.rest.extend_from_slice(octets);
        let whole = self.rest.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split_inclusive(|octet| *octet == b'\n') {
            self.end = serde_json::from_slice(line).ok();
            let text = match self.json {
                true => String::from_utf8_lossy(line).into_owned(),
                false => serde_json::from_slice(line).map_or(String::new(), |l| show::dumped(&l)),
            };
            if let Err(error) = out.write_all(text.as_bytes()) {
                self.failed = Some(error);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_printed_in_lines_however_it_comes_and_one_without_an_end_is_noticed() {
        let text = "{\"resolverd-cache-dump\":1,\"written_at_ms\":5}\n\
            {\"name\":\"a.test.\",\"type\":\"A\",\"view\":0,\"dnssec_ok\":false,\
            \"checking_disabled\":false,\"rcode\":\"NOERROR\",\"secure\":false,\
            \"expires_in_ms\":5000,\"source\":\"upstream one\",\"counts\":[1,0,0],\
            \"wire\":\"\",\"records\":[\"a.test. 5 IN A 192.0.2.1\"]}\n\
            {\"end\":true,\"entries\":1,\"more\":false}\n";
        for (json, wanted) in [
            (true, text),
            (
                false,
                "; a.test. A: NOERROR from upstream one; expires in 5s\n\
                 a.test. 5 IN A 192.0.2.1\n",
            ),
        ] {
            for size in [1, 7, text.len()] {
                let mut printer = Printer::new(json);
                let mut out = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    assert!(printer.take(piece, &mut out));
                }
                assert_eq!(String::from_utf8(out).unwrap(), wanted);
                assert_eq!(printer.end.map(|end| end.entries), Some(1));
            }
        }
        let mut printer = Printer::new(true);
        printer.take(&text.as_bytes()[..text.len() - 20], &mut Vec::new());
        assert!(printer.end.is_none());
    }
}
