//! An upstream that says what a test wants: nothing, garbage, the same answer a thousand times.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

/// A UDP server inside a namespace whose answers a closure makes.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Answers each query with what `answer` makes of it; `None` stays silent. The closure runs on
    /// the server's one thread: while it sleeps, nobody is answered.
    pub fn start(
        inside: &Namespace,
        address: SocketAddr,
        mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let socket = inside
            .enter(|| -> io::Result<UdpSocket> {
                let socket = UdpSocket::bind(address)?;
                socket.set_read_timeout(Some(LOOK_UP))?;
                Ok(socket)
            })?
            .with_context(|| format!("an upstream on {address}"))?;
        let address = socket.local_addr()?;
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while !stopped.load(Ordering::Relaxed) {
                // A time-out, or an ICMP error of an answer before: neither is the end.
                let Ok((len, client)) = socket.recv_from(&mut buffer) else { continue };
                counter.fetch_add(1, Ordering::Relaxed);
                if let Some(reply) = answer(&buffer[..len]) {
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Ok(Self { address, asked, stop, thread: Some(thread) })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many queries it has got.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often it looks whether to stop.
const LOOK_UP: Duration = Duration::from_millis(50);
