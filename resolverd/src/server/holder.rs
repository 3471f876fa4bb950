//! Who holds an address that we want to listen on.
//!
//! Looks it up where the kernel shows it: the socket in /proc/net, its process
//! in /proc/PID/fd. Asked only after a bind failed; bounded, and content with
//! not knowing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::sockets::is_over_udp;
use crate::pipeline::Transport;

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    By {
        name: String,
        pid: u32,
    },
    /// This process, and nobody else that we know of.
    Ourselves,
    /// Somebody whose process this user may not look into.
    Hidden,
}

/// Finds out who holds `address`, or something that covers it. `None` when
/// nobody is seen to: it may have been let go a moment ago.
pub fn find(address: SocketAddr, transport: Transport) -> Option<Held> {
    let mut inodes = Vec::new();
    for table in tables(transport) {
        let Ok(file) = fs::File::open(format!("/proc/thread-self/net/{table}")) else { continue };
        let rows = BufReader::new(file).lines().map_while(Result::ok).skip(1).take(ROWS_MAX);
        inodes.extend(
            rows.filter_map(|line| Row::parse(&line))
                .filter(|row| row.stands_in_the_way(address, transport))
                .map(|row| row.inode),
        );
        inodes.truncate(INODES_MAX);
    }
    if inodes.is_empty() {
        return None;
    }
    let ours = sockets_of("self", &mut LINKS_MAX.clone());
    inodes.retain(|inode| !ours.contains(inode));
    Some(if inodes.is_empty() { Held::Ourselves } else { process_with(&inodes) })
}

/// The first process that has one of these sockets open.
fn process_with(inodes: &[u64]) -> Held {
    let mut links_left = LINKS_MAX;
    let Ok(processes) = fs::read_dir("/proc") else { return Held::Hidden };
    for process in processes.filter_map(Result::ok).take(PROCESSES_MAX) {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let sockets = sockets_of(&pid.to_string(), &mut links_left);
        if inodes.iter().any(|inode| sockets.contains(inode)) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Held::By { name: name.trim().to_owned(), pid };
        }
        if links_left == 0 {
            break;
        }
    }
    Held::Hidden
}

/// The inodes of the sockets a process has open; empty when we may not see.
fn sockets_of(process: &str, links_left: &mut usize) -> Vec<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let mut inodes = Vec::new();
    for descriptor in descriptors.filter_map(Result::ok) {
        if *links_left == 0 {
            break;
        }
        *links_left -= 1;
        let Ok(target) = fs::read_link(descriptor.path()) else { continue };
        let inode: Option<u64> = (target.to_str())
            .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inodes.extend(inode);
    }
    inodes
}

/// One socket of a table in /proc/net.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    state: u8,
    inode: u64,
}

impl Row {
    /// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
    fn parse(line: &str) -> Option<Row> {
        let mut fields = line.split_ascii_whitespace();
        let (addr, port) = fields.nth(1)?.split_once(':')?;
        let local = SocketAddr::new(parse_addr(addr)?, u16::from_str_radix(port, 16).ok()?);
        let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
        let inode = fields.nth(5)?.parse().ok()?;
        Some(Row { local, state, inode })
    }

    fn stands_in_the_way(&self, address: SocketAddr, transport: Transport) -> bool {
        let listens = is_over_udp(transport) || self.state == TCP_LISTEN;
        let covers = match (self.local.ip(), address.ip()) {
            (IpAddr::V4(held), IpAddr::V4(wanted)) => {
                held == wanted || held.is_unspecified() || wanted.is_unspecified()
            }
            (IpAddr::V6(held), IpAddr::V6(wanted)) => {
                held == wanted || held.is_unspecified() || wanted.is_unspecified()
            }
            // A socket on `[::]` may take IPv4 as well; whether it does is not shown.
            (IpAddr::V6(held), IpAddr::V4(_)) => held.is_unspecified(),
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        };
        listens && covers && self.local.port() == address.port()
    }
}

/// An address as the table has it: words of 32 bits, each printed as the
/// machine's own integer.
fn parse_addr(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

fn tables(transport: Transport) -> [&'static str; 2] {
    if is_over_udp(transport) { ["udp", "udp6"] } else { ["tcp", "tcp6"] }
}

/// `TCP_LISTEN` of the kernel's `tcp_states.h`.
const TCP_LISTEN: u8 = 0x0A;

/// Rows read of one table. Listening sockets come first in it.
const ROWS_MAX: usize = 100_000;

/// Sockets looked for: one is enough to name somebody.
const INODES_MAX: usize = 64;

/// Processes looked into.
const PROCESSES_MAX: usize = 65_536;

/// Descriptors looked at, over all processes: about half a second.
const LINKS_MAX: usize = 500_000;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn rows_of_both_families_are_read() {
        let row = "   0: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                   0        0 1234 2 0000000000000000 0";
        let parsed = Row::parse(row).unwrap();
        assert_eq!(parsed.local, "127.0.0.1:53".parse().unwrap());
        assert_eq!((parsed.state, parsed.inode), (7, 1234));
        let row = "  12: B80D0120000000000000000001000000:14E9 \
                   00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
                   00000000 0 0 99 1 0000000000000000 100 0 0 10 0";
        let parsed = Row::parse(row).unwrap();
        assert_eq!(parsed.local, "[2001:db8::1]:5353".parse().unwrap());
        assert_eq!((parsed.state, parsed.inode), (TCP_LISTEN, 99));
    }

    #[test]
    fn rubbish_in_a_table_is_passed_over() {
        for row in ["", "a", "0: 0100007F:0035", "0: X:Y z 07 a b c d e f g h", "0: 01:1 2 3 4"] {
            assert_eq!(Row::parse(row), None, "{row}");
        }
    }

    #[test]
    fn wildcards_stand_in_the_way_of_all_addresses_of_their_family() {
        let row = |local: &str, state| Row { local: local.parse().unwrap(), state, inode: 1 };
        let wanted: SocketAddr = "192.0.2.1:53".parse().unwrap();
        for (local, blocks) in [
            ("192.0.2.1:53", true),
            ("0.0.0.0:53", true),
            ("[::]:53", true),
            ("192.0.2.2:53", false),
            ("192.0.2.1:54", false),
            ("[::1]:53", false),
        ] {
            assert_eq!(row(local, 7).stands_in_the_way(wanted, Transport::Udp), blocks, "{local}");
        }
        assert!(!row("192.0.2.1:53", 1).stands_in_the_way(wanted, Transport::Tcp));
        assert!(row("192.0.2.1:53", 10).stands_in_the_way(wanted, Transport::Tcp));
    }

    #[test]
    fn our_own_sockets_are_known_as_ours() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(find(udp.local_addr().unwrap(), Transport::Udp), Some(Held::Ourselves));
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let address = tcp.local_addr().unwrap();
        assert_eq!(find(address, Transport::Tcp), Some(Held::Ourselves));
        drop(tcp);
        assert_eq!(find(address, Transport::Tcp), None);
    }
}
