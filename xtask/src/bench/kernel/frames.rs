//! Frames as they are on the wire: Ethernet, IPv4, and what a test puts behind it.

use anyhow::Result;

/// The two ends of a frame.
pub struct Ends {
    pub source: [u8; 6],
    pub dest: [u8; 6],
    pub from: [u8; 4],
    pub to: [u8; 4],
}

impl Ends {
    /// IPv4 and UDP, without a UDP checksum.
    pub fn udp(&self, port: u16, payload: &[u8]) -> Vec<u8> {
        let len = 8 + payload.len() as u16;
        let ports = [4_096_u16, port, len, 0];
        let head = ports.iter().flat_map(|word| word.to_be_bytes());
        let body: Vec<u8> = head.chain(payload.iter().copied()).collect();
        self.ip(17, &body)
    }

    /// A segment that acknowledges something, of no connection.
    pub fn tcp(&self, port: u16) -> Vec<u8> {
        let mut body = [4_096_u16, port].map(u16::to_be_bytes).concat();
        body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
        self.ip(6, &body)
    }

    fn ip(&self, protocol: u8, body: &[u8]) -> Vec<u8> {
        let len = (20 + body.len() as u16).to_be_bytes();
        let mut head = vec![0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        head.extend(self.from);
        head.extend(self.to);
        let words = head.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        head[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
        [&self.dest[..], &self.source, &[8, 0], &head, body].concat()
    }
}

pub fn octets(mac: &str) -> Result<[u8; 6]> {
    let octets: Result<Vec<u8>, _> =
        mac.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    octets?.try_into().map_err(|_| anyhow::anyhow!("{mac} is no hardware address"))
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::HITS;
    use super::*;

    #[test]
    fn a_frame_has_a_right_ip_checksum_and_the_names_digits_where_the_flood_writes() {
        let ends = Ends { source: [1; 6], dest: [2; 6], from: [10, 53, 1, 1], to: [10, 53, 1, 2] };
        for outcome in HITS {
            let frame = ends.udp(53, &outcome.ask().bytes());
            let words = frame[14..34].chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1]));
            let sum: u32 = words.sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
            assert_eq!(frame[54], 7, "a label of seven octets");
            assert_eq!(&frame[56..62], b"000000");
            assert!(frame.len() <= 160, "the flood's template holds it");
        }
    }
}
