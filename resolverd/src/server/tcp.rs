//! The doors over TCP: plain (RFC 7766), within TLS (RFC 7858), and for HTTP/2 (RFC 8484).
//!
//! Accepts, hears from balancers whom a connection is from, gives it a place, agrees on TLS. What
//! is said then is `framed.rs`'s, or `https.rs`'s.
//!
//! Tasks: one acceptor for each address, which empties its backlog and ends when told to; one for
//! each connection of a balancer until its header is there; one for each connection, which ends
//! by its own limits, when it is shed, or when the server stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::framed::Connection;
use super::guests::Seat;
use super::handler::Handler;
use super::house::{End, House, told_to_stop};
use super::https;
use super::proxy::{self, Told};
use crate::log;
use crate::metrics::Ended;
use crate::pipeline::{Client, Transport};

/// The handle of the listener on one address.
pub struct Acceptor {
    task: JoinHandle<()>,
    quit: Arc<Notify>,
}

impl Acceptor {
    /// Call it inside the runtime. `transport` says what is spoken over TCP.
    pub fn start<H: Handler>(
        listener: std::net::TcpListener,
        transport: Transport,
        house: Arc<House<H>>,
    ) -> io::Result<Acceptor> {
        let listener = TcpListener::from_std(listener)?;
        let quit = Arc::new(Notify::new());
        let task = tokio::spawn(accept_all(listener, transport, house, Arc::clone(&quit)));
        Ok(Acceptor { task, quit })
    }

    /// Takes what was connected already and closes the listener. Connections go on.
    pub fn quit(&self) {
        self.quit.notify_one();
    }

    /// Waits until the listener is closed, after `quit`.
    pub async fn ended(&mut self) {
        // It cannot be cancelled, and what a panic says was said by itself.
        let _ = (&mut self.task).await;
    }

    pub fn is_listening(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.quit();
    }
}

async fn accept_all<H: Handler>(
    listener: TcpListener,
    transport: Transport,
    house: Arc<House<H>>,
    quit: Arc<Notify>,
) {
    let mut left = BACKLOG_LEFT_MAX;
    let mut quitting = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = quit.notified(), if !quitting => {
                quitting = true;
                continue;
            }
            accepted = listener.accept() => accepted,
            () = std::future::ready(()), if quitting => return,
        };
        match accepted {
            Ok((stream, addr)) => welcome(stream, addr, transport, &house),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: others must leave first.
                warn!(%error, "tcp connection not accepted");
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
        if quitting {
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }
}

fn welcome<H: Handler>(
    stream: TcpStream,
    addr: SocketAddr,
    transport: Transport,
    house: &Arc<House<H>>,
) {
    // It may be gone already; then there is nobody to serve.
    let Ok(local) = stream.local_addr() else { return };
    // Answers are written whole; waiting to join them only delays them.
    let _ = stream.set_nodelay(true);
    let client = Client { addr, local: local.ip(), transport };
    if house.is_proxy(addr.ip()) {
        let Ok(untold) = Arc::clone(&house.untold).try_acquire_owned() else {
            return house.refuse(transport, Ended::Full);
        };
        tokio::spawn(hear(stream, client, untold, Arc::clone(house)));
    } else {
        seat(stream, client, house);
    }
}

/// Hears whom a connection is from, and goes on as if it had come from there.
async fn hear<H: Handler>(
    mut stream: TcpStream,
    mut client: Client,
    untold: OwnedSemaphorePermit,
    house: Arc<House<H>>,
) {
    let mut stopping = house.stopping.clone();
    let told = tokio::select! {
        told = timeout(house.limits.query, proxy::read(&mut stream)) => told,
        () = told_to_stop(&mut stopping) => return,
    };
    drop(untold);
    match told {
        Ok(Ok(Told::Local)) => {}
        Ok(Ok(Told::Between { client: addr, local })) => client = Client { addr, local, ..client },
        Ok(Err(error)) => {
            debug!(proxy = %log::client(client.addr), %error, "no PROXY header");
            return house.refuse(client.transport, Ended::Proxy);
        }
        Err(_) => return house.refuse(client.transport, Ended::Proxy),
    }
    seat(stream, client, &house);
}

/// Gives a connection a place, if there is one, and a task.
fn seat<H: Handler>(stream: TcpStream, client: Client, house: &Arc<House<H>>) {
    let transport = client.transport;
    let Some(seat) = house.guests(transport).admit(client.addr.ip()) else {
        return house.refuse(transport, Ended::Full);
    };
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let open = house.count(transport);
        let end = serve(stream, client, seat, &house).await;
        house.ended(transport, end);
        drop(open);
        let (addr, transport) = (client.addr, transport.label().as_str());
        debug!(client = %log::client(addr), transport, ?end, "connection ended");
    });
}

async fn serve<H: Handler>(
    mut stream: TcpStream,
    client: Client,
    seat: Seat,
    house: &Arc<House<H>>,
) -> End {
    match client.transport {
        Transport::Tls => match handshake(stream, &house.identity.dot, &seat, house).await {
            Ok(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                Connection::new(Arc::clone(house), client, seat).run(reader, writer).await
            }
            Err(end) => end,
        },
        Transport::Https => match handshake(stream, &house.identity.https, &seat, house).await {
            Ok(stream) => https::serve(stream, client, &seat, house).await,
            Err(end) => end,
        },
        _ => {
            let (reader, writer) = stream.split();
            Connection::new(Arc::clone(house), client, seat).run(reader, writer).await
        }
    }
}

/// Agrees on TLS, in time.
async fn handshake<H: Handler>(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    seat: &Seat,
    house: &House<H>,
) -> Result<TlsStream<TcpStream>, End> {
    let mut stopping = house.stopping.clone();
    let accepted = TlsAcceptor::from(Arc::clone(config)).accept(stream);
    tokio::select! {
        done = timeout(house.limits.handshake, accepted) => match done {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                debug!(%error, "no handshake");
                Err(End::Handshake)
            }
            Err(_) => Err(End::HandshakeLate),
        },
        () = seat.shed() => Err(End::Shed),
        // Nothing was asked yet.
        () = told_to_stop(&mut stopping) => Err(End::Done),
    }
}

/// Errors of a connection that died before it was accepted (accept(2)): the
/// next one is as good as ever.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}

/// Connections taken from the backlog of a listener that is being closed.
const BACKLOG_LEFT_MAX: usize = 1_024;

/// Between two attempts when the system has no descriptor for a connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
