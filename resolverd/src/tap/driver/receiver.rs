//! Sends dnstap's frames to a receiver, and finds it again when it is gone.
//!
//! ```text
//!   connect ──▶ READY, ACCEPT, START ──▶ frames ──▶ STOP, FINISH
//!      ▲                  │                │
//!      └──── back-off ────┴── broken off ──┘
//! ```
//!
//! Meanwhile the queue fills, and what has no room is dropped and counted: a receiver that hangs
//! costs nobody a query.

use std::io;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Counts, Inlet};
use crate::limited;
use crate::tap::wire::{self, Control, Kind};
use crate::tap::{Dnstap, Receiver, dnstap};

pub(super) struct Sender {
    pub(super) settings: Dnstap,
    pub(super) counts: Counts,
    pub(super) connected: IntGauge,
}

/// What is written to and read from.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How a connection ended.
enum End {
    /// Nobody fills the queue any more.
    Closed,
    Broken(io::Error),
}

impl Sender {
    /// Sends until nobody fills the queue any more.
    pub(super) async fn run(self, mut inlet: Inlet) {
        let mut pause = PAUSE_MIN;
        loop {
            let connected = tokio::select! {
                connected = timeout(CONNECTING, self.connect()) => connected,
                _ = &mut inlet.closed => return,
            };
            let error = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Err(error) => error,
                Ok(mut stream) => {
                    info!(receiver = %self.settings.to, "dnstap connected");
                    pause = PAUSE_MIN;
                    // Not `set`: one of other settings may be ending meanwhile.
                    self.connected.inc();
                    let end = self.feed(&mut *stream, &mut inlet).await;
                    self.connected.dec();
                    match end {
                        End::Closed => return,
                        End::Broken(error) => error,
                    }
                }
            };
            limited!(WARN, %error, receiver = %self.settings.to, "dnstap not connected");
            tokio::select! {
                () = sleep(pause) => pause = (2 * pause).min(PAUSE_MAX),
                _ = &mut inlet.closed => return,
            }
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let mut stream: Box<dyn Stream> = match &self.settings.to {
            Receiver::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Receiver::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        };
        let mut out = Vec::new();
        Control::of_dnstap(Kind::Ready).write(&mut out);
        stream.write_all(&out).await?;
        let answer = read_control(&mut *stream).await?;
        if answer.kind != Kind::Accept || !answer.takes_dnstap() {
            return Err(io::Error::other("the receiver does not take dnstap"));
        }
        out.clear();
        Control::of_dnstap(Kind::Start).write(&mut out);
        stream.write_all(&out).await?;
        Ok(stream)
    }

    async fn feed(&self, stream: &mut dyn Stream, inlet: &mut Inlet) -> End {
        let (mut batch, mut out) = (Vec::new(), Vec::new());
        let mut said = [0; 64];
        loop {
            tokio::select! {
                more = inlet.take(&mut batch) => if !more {
                    // What was written is there; whether that is said in time is its affair.
                    let _ = timeout(FINISHING, finish(stream)).await;
                    return End::Closed;
                },
                // A receiver has nothing to say before STOP but that it goes.
                read = stream.read(&mut said) => {
                    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
                    return End::Broken(read.err().unwrap_or(gone));
                }
            }
            out.clear();
            for seen in &batch {
                wire::data(&dnstap::encode(seen, &self.settings), &mut out);
            }
            let count = batch.len() as u64;
            batch.clear();
            let written = timeout(WRITING, stream.write_all(&out)).await;
            match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) => self.counts.written.inc_by(count),
                Err(error) => {
                    self.counts.failed.inc_by(count);
                    return End::Broken(error);
                }
            }
        }
    }
}

/// Says that this was all, and waits until the receiver has it.
async fn finish(stream: &mut dyn Stream) -> io::Result<()> {
    let mut out = Vec::new();
    Control::bare(Kind::Stop).write(&mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    read_control(stream).await.map(drop)
}

async fn read_control(stream: &mut dyn Stream) -> io::Result<Control> {
    let mut input = Vec::new();
    loop {
        if let Some((control, _)) = Control::read(&input).map_err(io::Error::other)? {
            return Ok(control);
        }
        // One octet after the other: nothing behind the frame is ours to take, and it is short.
        input.push(stream.read_u8().await?);
    }
}

/// For the connection and the handshake.
const CONNECTING: Duration = Duration::from_secs(5);
/// A receiver takes some octets at least so often.
const WRITING: Duration = Duration::from_secs(10);
/// For the receiver's last word; less than a stop has.
const FINISHING: Duration = Duration::from_millis(250);
/// Between two attempts to connect: doubled each time, so that a receiver that is restarted is
/// found soon and one that is gone is not hammered at.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
