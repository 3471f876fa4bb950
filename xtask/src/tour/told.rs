//! What dig and kdig print, read as far as the tour judges it.
//!
//! Pure. Who judges in octets is the lab's own client; here it is what a person sees.

use anyhow::{Context as _, Result, ensure};

use super::names::Planned;

#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// `NOERROR`, `SERVFAIL`.
    pub status: String,
    pub flags: Vec<String>,
    /// Codes of extended errors (RFC 8914).
    pub ede: Vec<u16>,
    /// Of the A records, in order.
    pub addresses: Vec<String>,
    /// The longest of these records, in seconds.
    pub ttl_secs: Option<u32>,
}

impl Told {
    pub fn of(text: &str) -> Result<Self> {
        let header = text.lines().find(|line| line.contains("->>HEADER<<-"));
        let header = header.with_context(|| format!("no answer in: {}", text.trim()))?;
        let status = header.split("status: ").nth(1).context("no status in the header")?;
        let flags = text.lines().find_map(|line| {
            let rest = line.strip_prefix(";; flags:").or_else(|| line.strip_prefix(";; Flags:"))?;
            rest.split(';').next()
        });
        let ede = text.lines().filter_map(|line| {
            let code = line.split_once("EDE: ")?.1;
            code.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        let mut told = Self {
            status: status.split([',', ';']).next().unwrap_or_default().to_owned(),
            flags: flags.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            ede: ede.collect(),
            addresses: Vec::new(),
            ttl_secs: None,
        };
        for line in text.lines().filter(|line| !line.starts_with(';')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, ttl, "IN", "A", address] = words[..] {
                told.addresses.push(address.to_owned());
                told.ttl_secs = told.ttl_secs.max(ttl.parse().ok());
            }
        }
        told.addresses.sort();
        Ok(told)
    }

    /// What the plan says, and no error.
    pub fn says(&self, planned: &Planned) -> Result<()> {
        self.has_status("NOERROR")?;
        let (told, meant) = (&self.addresses, &planned.addresses);
        ensure!(told == meant, "{told:?}, and the zone says {meant:?}");
        Ok(())
    }

    /// This status, and no other.
    pub fn has_status(&self, status: &str) -> Result<()> {
        ensure!(self.status == status, "{} and not {status}", self.status);
        Ok(())
    }

    pub fn has_ede(&self, code: u16) -> Result<()> {
        ensure!(self.ede.contains(&code), "no EDE {code} but {:?}", self.ede);
        Ok(())
    }

    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }
}

/// The lines of an output that are worth reading: header, errors, sessions and records.
pub fn telling(text: &str) -> impl Iterator<Item = &str> {
    const MARKS: [&str; 5] = ["->>HEADER<<-", "flags: qr", "Flags: qr", "EDE: ", " session ("];
    text.lines().filter(|line| {
        let is_record = !line.is_empty() && !line.starts_with(';');
        is_record || MARKS.iter().any(|mark| line.contains(mark))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIG: &str = "\n; <<>> DiG 9.18 <<>> @10.53.40.2 www.x.org A\n\
        ;; global options: +cmd\n;; Got answer:\n\
        ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 7\n\
        ;; flags: qr rd ra ad; QUERY: 1, ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 1\n\n\
        ;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n\
        ; EDE: 3 (Stale Answer)\n\
        ;; QUESTION SECTION:\n;www.x.org.\t\tIN\tA\n\n\
        ;; ANSWER SECTION:\nwww.x.org.\t5\tIN\tA\t192.0.2.9\nwww.x.org.\t4\tIN\tA\t192.0.2.1\n";

    const KDIG: &str = ";; HTTP session (HTTP/2-POST)-(10.53.40.2/dns-query)-(status: 200)\n\
        ;; ->>HEADER<<- opcode: QUERY; status: SERVFAIL; id: 0\n\
        ;; Flags: qr rd ra; QUERY: 1; ANSWER: 0; AUTHORITY: 0; ADDITIONAL: 1\n";

    #[test]
    fn an_answer_is_read_as_dig_prints_it() {
        let told = Told::of(DIG).unwrap();
        assert_eq!((told.status.as_str(), &told.ede[..]), ("NOERROR", &[3][..]));
        assert!(told.has_flag("ad") && !told.has_flag("aa"));
        assert_eq!((&told.addresses[..], told.ttl_secs), (&DIGS.map(str::to_owned)[..], Some(5)));
        let mut planned = Planned { name: "www.x.org".into(), addresses: told.addresses.clone() };
        told.says(&planned).unwrap();
        planned.addresses.pop();
        assert!(told.says(&planned).unwrap_err().to_string().contains("the zone says"));
        told.has_ede(3).unwrap();
        assert!(told.has_ede(7).is_err() && told.has_status("SERVFAIL").is_err());
    }

    #[test]
    fn an_answer_is_read_as_kdig_prints_it() {
        let told = Told::of(KDIG).unwrap();
        told.has_status("SERVFAIL").unwrap();
        assert_eq!(told.flags, ["qr", "rd", "ra"]);
        assert!(told.ede.is_empty() && told.addresses.is_empty());
    }

    #[test]
    fn no_answer_is_an_error_that_says_what_there_was() {
        let error = Told::of(";; no servers could be reached\n").unwrap_err();
        assert!(error.to_string().contains("could be reached"), "{error}");
    }

    #[test]
    fn questions_and_greetings_are_not_telling() {
        let lines: Vec<_> = telling(DIG).collect();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!(telling(KDIG).count(), 3);
    }

    const DIGS: [&str; 2] = ["192.0.2.1", "192.0.2.9"];
}
