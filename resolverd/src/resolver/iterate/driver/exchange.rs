//! One question to one server of a zone: a socket, the octets, and what they are taken for.
//!
//! Waits as long as it is let. Dropped, it closes its socket.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::Instant;
use tracing::debug;

use crate::metrics::Transport as Way;
use crate::resolver::driver::{random, receive, source};
use crate::resolver::ear::{Ear, Heard};
use crate::resolver::iterate::machine::{Ask, Came};
use crate::resolver::machine::Transport;
use crate::resolver::wire::{self, Expected, Message, Reject};

use super::Recursion;

pub(super) struct Exchange<'a> {
    pub(super) ask: &'a Ask,
    pub(super) recursion: &'a Recursion,
    pub(super) ear: &'a Ear,
}

impl Exchange<'_> {
    pub(super) async fn run(&self) -> Came {
        let dice: [u8; 2 + CASE_OCTETS] = random();
        let id = u16::from_be_bytes([dice[0], dice[1]]);
        let mut name = self.ask.question.name.as_wire().to_vec();
        if self.ask.scramble {
            scramble(&mut name, &dice[2..]);
        }
        let size = self.ask.edns.then_some(self.recursion.edns_size);
        let question = wire::question_to_server(&name, self.ask.question.qtype, id, size);
        let expected = Expected { id, name: &name, qtype: self.ask.question.qtype };
        let ended = match self.ask.transport {
            Transport::Udp => self.over_udp(&expected, &question).await,
            Transport::Tcp => self.over_tcp(&expected, &question).await,
        };
        ended.unwrap_or_else(|error| {
            debug!(server = %self.ask.server, %error, "a server was not reached");
            Came::Unreachable
        })
    }

    async fn over_udp(&self, expected: &Expected<'_>, question: &[u8]) -> io::Result<Came> {
        // Port 0: the kernel draws one at random. Connected: it drops what others send.
        let socket = UdpSocket::bind((self.source(), 0)).await?;
        socket.connect(self.ask.server).await?;
        socket.send(question).await?;
        let sent = self.sent(question, Way::Udp);
        for _ in 0..FOREIGN_MAX {
            let read = receive(&socket, |datagram| {
                self.came(datagram, Way::Udp, sent);
                wire::read(expected, datagram)
            });
            match read.await? {
                Ok(message) => return Ok(Came::Message(message)),
                Err(Reject::Foreign(reason)) => {
                    debug!(server = %self.ask.server, reason, "foreign datagram");
                }
                Err(_) => return Ok(Came::Unreadable),
            }
        }
        Ok(Came::Forged)
    }

    async fn over_tcp(&self, expected: &Expected<'_>, question: &[u8]) -> io::Result<Came> {
        let source = self.source();
        let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if !source.is_unspecified() {
            socket.bind((source, 0).into())?;
        }
        let mut stream = socket.connect(self.ask.server).await?;
        // A question has some 300 octets at most. In one segment: RFC 7766 section 8.
        let mut framed = (question.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        stream.write_all(&framed).await?;
        let sent = self.sent(question, Way::Tcp);
        let length = stream.read_u16().await?;
        let mut octets = vec![0; usize::from(length)];
        stream.read_exact(&mut octets).await?;
        self.came(&octets, Way::Tcp, sent);
        Ok(match wire::read(expected, &octets) {
            // Who connects is not forged for: letters need not be compared.
            Ok(message) => Came::Message(Message { same_case: true, ..message }),
            Err(_) => Came::Unreadable,
        })
    }

    fn sent(&self, message: &[u8], way: Way) -> Instant {
        self.ear.hears(&Heard { server: self.ask.server, way, message, took: None });
        Instant::now()
    }

    /// Also what is not believed afterwards: somebody sent it.
    fn came(&self, message: &[u8], way: Way, sent: Instant) {
        let took = Some(sent.elapsed());
        self.ear.hears(&Heard { server: self.ask.server, way, message, took });
    }

    /// Our address of the server's family.
    fn source(&self) -> IpAddr {
        source(&self.recursion.query_source, self.ask.server)
    }
}

/// Changes the case of letters by coin: a forger has to guess them as well (draft-vixie-dnsext-
/// dns0x20). Octets of a name's lengths are below those of letters.
fn scramble(name: &mut [u8], coins: &[u8]) {
    for (at, octet) in name.iter_mut().enumerate() {
        let coin = coins.get(at / 8).is_some_and(|coins| coins >> (at % 8) & 1 == 1);
        if coin {
            octet.make_ascii_uppercase();
        }
    }
}

/// A coin for each octet of a name.
const CASE_OCTETS: usize = 32;

/// Datagrams on one socket that answer something else. Past this somebody is guessing.
const FOREIGN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_change_and_only_their_case() {
        let whole = b"\x03www\x0bexample-123\x04test\0";
        let mut name = *whole;
        scramble(&mut name, &[0xff; CASE_OCTETS]);
        assert_eq!(&name, b"\x03WWW\x0bEXAMPLE-123\x04TEST\0");
        let mut name = *whole;
        scramble(&mut name, &[0; CASE_OCTETS]);
        assert_eq!(&name, whole);
        let mut name = [b'a'; 255];
        scramble(&mut name, &[0b0101_0101; CASE_OCTETS]);
        assert_eq!(&name[..4], b"AaAa");
        assert_eq!(&name[250..], b"AaAaA");
    }
}
