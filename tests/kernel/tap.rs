//! Raw frames on an interface, by AF_PACKET.
//!
//! A tap belongs to the thread that opened it, which must be inside the namespace.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use smoltcp::phy::{Device as _, Medium, RawSocket, RxToken as _, TxToken as _};
use smoltcp::time::Instant as SmolInstant;

use crate::frame::Datagram;

pub struct Tap {
    socket: RawSocket,
    next_id: u16,
}

/// A frame that came back, and the DNS message in it.
pub struct Back {
    pub frame: Vec<u8>,
    pub message: Vec<u8>,
}

impl Tap {
    pub fn open(device: &str) -> Result<Self> {
        let socket = RawSocket::new(device, Medium::Ethernet)
            .with_context(|| format!("a packet socket on {device}"))?;
        Ok(Self { socket, next_id: 1 })
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let token = self.socket.transmit(SmolInstant::ZERO).context("the socket takes nothing")?;
        token.consume(frame.len(), |place| place.copy_from_slice(frame));
        Ok(())
    }

    /// Sends a query under an identifier of its own, and gives what came back.
    pub fn ask(&mut self, query: &Datagram, bound: Duration) -> Result<Option<Back>> {
        let mut query = query.clone();
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        if let Some(place) = query.payload.get_mut(..2) {
            place.copy_from_slice(&id.to_be_bytes());
        }
        while self.receive().is_some() {
            // Of queries before.
        }
        self.send(&query.bytes())?;
        let end = Instant::now() + bound;
        while Instant::now() < end {
            let Some(frame) = self.receive() else {
                thread::sleep(PAUSE);
                continue;
            };
            if let Some(message) = query.answer(&frame, id) {
                let message = message.to_vec();
                return Ok(Some(Back { frame, message }));
            }
        }
        Ok(None)
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let (token, _) = self.socket.receive(SmolInstant::ZERO)?;
        Some(token.consume(<[u8]>::to_vec))
    }
}

/// Between two looks at the socket.
const PAUSE: Duration = Duration::from_micros(200);
