//! Doors by what is spoken at them: which addresses there are to be, and the encrypted ones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::handler::Handler;
use super::house::House;
use super::tcp::Acceptor;
use super::{ADDRESSES_MAX, ServerError, State, quic, sockets};
use crate::pipeline::Transport;

/// The addresses to serve. One that the machine does not have yet is bound ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Each for UDP and TCP.
    pub plain: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
    pub https: Vec<SocketAddr>,
    pub quic: Vec<SocketAddr>,
    pub h3: Vec<SocketAddr>,
}

impl From<Vec<SocketAddr>> for Listening {
    fn from(plain: Vec<SocketAddr>) -> Listening {
        Listening { plain, ..Listening::default() }
    }
}

impl Listening {
    pub fn encrypted(&self) -> impl Iterator<Item = (Transport, SocketAddr)> + '_ {
        [
            (Transport::Tls, &self.tls),
            (Transport::Https, &self.https),
            (Transport::Quic, &self.quic),
            (Transport::H3, &self.h3),
        ]
        .into_iter()
        .flat_map(|(transport, addresses)| addresses.iter().map(move |at| (transport, *at)))
    }

    /// Refuses more than we serve, and an address at which two things were to be spoken: an
    /// interface named in one list may have an address that is named in another.
    pub fn check(&self) -> Result<(), ServerError> {
        let count = self.plain.len() + self.encrypted().count();
        if count > ADDRESSES_MAX {
            return Err(ServerError::TooMany { count });
        }
        let plain = self.plain.iter().flat_map(|at| [(Transport::Udp, *at), (Transport::Tcp, *at)]);
        let mut spoken: BTreeMap<(bool, SocketAddr), Transport> = BTreeMap::new();
        for (transport, address) in plain.chain(self.encrypted()) {
            let before = spoken.insert((sockets::is_over_udp(transport), address), transport);
            if let Some(other) = before.filter(|other| *other != transport) {
                return Err(ServerError::Twice { address, transport, other });
            }
        }
        Ok(())
    }
}

/// One encrypted door.
pub enum Gate {
    /// TLS or HTTP/2.
    Tcp(Acceptor),
    /// QUIC or HTTP/3.
    Quic(quic::Gate),
    /// Not bound, and why.
    Failed(String),
}

impl Gate {
    pub fn open<H: Handler>(
        address: SocketAddr,
        transport: Transport,
        house: &Arc<House<H>>,
    ) -> Result<Gate, ServerError> {
        let opened = sockets::check_free(address, transport).and_then(|()| {
            if sockets::is_over_udp(transport) {
                return quic::Gate::open(address, transport, Arc::clone(house)).map(Gate::Quic);
            }
            let listener = sockets::tcp(address, transport)?;
            Acceptor::start(listener, transport, Arc::clone(house))
                .map(Gate::Tcp)
                .map_err(|error| ServerError::Open { address, transport, error })
        });
        match opened {
            Err(error @ ServerError::NoFamily { .. }) => Ok(Gate::Failed(error.to_string())),
            opened => opened,
        }
    }

    pub fn is_open(&self) -> bool {
        !matches!(self, Gate::Failed(_))
    }

    pub fn state(&self, address: SocketAddr) -> State {
        let listens = match self {
            Gate::Failed(reason) => return State::Failed(reason.clone()),
            Gate::Tcp(acceptor) => acceptor.is_listening(),
            Gate::Quic(gate) => gate.is_listening(),
        };
        match (listens, sockets::is_present(address)) {
            (false, _) => State::Failed("the acceptor ended".to_owned()),
            (true, true) => State::Serving,
            (true, false) => State::Waiting,
        }
    }

    /// Takes no further connection.
    pub fn quit(&self) {
        match self {
            Gate::Tcp(acceptor) => acceptor.quit(),
            Gate::Quic(gate) => gate.quit(),
            Gate::Failed(_) => {}
        }
    }

    /// Waits until those who had come are in, after `quit`.
    pub async fn ended(&mut self, until: Instant) {
        if let Gate::Tcp(acceptor) = self {
            // One that is late ends by itself.
            let _ = timeout_at(until, acceptor.ended()).await;
        }
    }

    /// Closes what is still open.
    pub async fn close(&self) {
        if let Gate::Quic(gate) = self {
            gate.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_port_of_tcp_and_one_of_udp_are_two() {
        let listening = Listening {
            plain: at(&["192.0.2.1:53"]),
            tls: at(&["192.0.2.1:853"]),
            https: at(&["192.0.2.1:443"]),
            quic: at(&["192.0.2.1:853"]),
            h3: at(&["192.0.2.1:443"]),
        };
        listening.check().unwrap();
        assert_eq!(listening.encrypted().count(), 4);
    }

    #[test]
    fn one_socket_does_not_speak_two_things() {
        for listening in [
            Listening { tls: at(&["[::1]:443"]), https: at(&["[::1]:443"]), ..Default::default() },
            Listening { quic: at(&["[::1]:443"]), h3: at(&["[::1]:443"]), ..Default::default() },
            Listening { plain: at(&["[::1]:53"]), tls: at(&["[::1]:53"]), ..Default::default() },
            Listening { plain: at(&["[::1]:53"]), h3: at(&["[::1]:53"]), ..Default::default() },
        ] {
            let error = listening.check().unwrap_err();
            assert!(matches!(error, ServerError::Twice { .. }), "{error}");
        }
        let twice = Listening { tls: at(&["[::1]:853", "[::1]:853"]), ..Default::default() };
        twice.check().unwrap();
    }
}
