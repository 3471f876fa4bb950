//! A connection whose messages stand one behind the other, each after its length: DNS over TCP
//! and over TLS (RFC 7766, RFC 7858).
//!
//! Runs in the task that `links.rs` started for it. Questions go out as they come, answers are
//! given to who waits for them in whatever order they come.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::clock::boot_now;
use crate::resolver::driver::random;
use crate::resolver::line::{Ids, Stray, WAITING_MAX};
use crate::resolver::options;

use super::setup::SETUP_TIME_MAX;
use super::{Failure, Keeper, Kept};

pub(super) struct Asker {
    orders: mpsc::Sender<Order>,
}

struct Order {
    question: Vec<u8>,
    waiter: oneshot::Sender<Vec<u8>>,
}

impl Asker {
    pub(super) async fn ask(&self, question: &[u8]) -> Result<Vec<u8>, Failure> {
        let (waiter, answer) = oneshot::channel();
        // Full: what was ordered before does not leave for the socket.
        let order = Order { question: question.to_vec(), waiter };
        self.orders.try_send(order).map_err(|_| Failure::Lost)?;
        answer.await.map_err(|_| Failure::Lost)
    }
}

pub(super) fn start<S>(stream: S, kept: Arc<Kept>) -> (Asker, Keeper)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (orders, ordered) = mpsc::channel(2 * WAITING_MAX);
    let connection = Connection {
        kept,
        ordered,
        ids: Ids::default(),
        input: BytesMut::new(),
        output: BytesMut::new(),
        flushed: true,
    };
    (Asker { orders }, connection.run(stream).boxed())
}

struct Connection {
    kept: Arc<Kept>,
    ordered: mpsc::Receiver<Order>,
    ids: Ids<oneshot::Sender<Vec<u8>>>,
    input: BytesMut,
    output: BytesMut,
    /// Everything written has left for the socket; TLS may hold some back.
    flushed: bool,
}

impl Connection {
    async fn run<S>(mut self, stream: S) -> Option<u64>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let ended_here = self.serve(&mut reader, &mut writer).await;
        let lost = self.ids.len() + self.ordered.len();
        let good_for = {
            let mut line = self.kept.line.lock();
            line.leave();
            line.good_for(lost).filter(|_| !ended_here)
        };
        // Who waits hears it now, and asks elsewhere.
        drop(self);
        // Whether the server hears it is its own affair.
        let _ = timeout(SETUP_TIME_MAX, writer.shutdown()).await;
        good_for
    }

    /// Says whether it was we who ended it.
    async fn serve<R, W>(&mut self, reader: &mut R, writer: &mut W) -> bool
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let kept = Arc::clone(&self.kept);
        let mut over = std::pin::pin!(kept.over());
        loop {
            self.input.reserve(READ_OCTETS);
            tokio::select! {
                read = reader.read_buf(&mut self.input) => match read {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {
                        if self.deliver().is_err() {
                            return true;
                        }
                    }
                },
                Some(order) = self.ordered.recv(), if self.output.len() < OUTPUT_OCTETS_MAX => {
                    self.take(order);
                    // What else is there goes with it, in one segment.
                    while self.output.len() < OUTPUT_OCTETS_MAX
                        && let Ok(order) = self.ordered.try_recv()
                    {
                        self.take(order);
                    }
                }
                sent = send(writer, &mut self.output, &mut self.flushed),
                    if !self.output.is_empty() || !self.flushed =>
                {
                    if sent.is_err() {
                        return false;
                    }
                }
                () = &mut over => return true,
            }
        }
    }

    fn take(&mut self, order: Order) {
        if order.waiter.is_closed() {
            return;
        }
        let mut question = order.question;
        let dice = u16::from_be_bytes(random());
        // Without a place the waiter is dropped, and hears that the connection is lost to him.
        if self.ids.put(boot_now(), dice, &mut question, order.waiter).is_err() {
            self.kept.leave();
            return;
        }
        // A question has some 400 octets at most. In one segment: RFC 7766 section 8.
        self.output.extend_from_slice(&(question.len() as u16).to_be_bytes());
        self.output.extend_from_slice(&question);
    }

    /// Gives whole messages to who waits for them.
    fn deliver(&mut self) -> Result<(), Stray> {
        while let Some(&[high, low]) = self.input.first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if self.input.len() < 2 + length {
                break;
            }
            self.input.advance(2);
            let mut message = self.input.split_to(length).to_vec();
            match self.ids.take(&mut message) {
                Ok(waiter) => {
                    let mut line = self.kept.line.lock();
                    line.heard(boot_now());
                    if let Some(idle) = options::keepalive(&message) {
                        line.kept_for(idle);
                    }
                    drop(line);
                    // He may have given up.
                    let _ = waiter.send(message);
                }
                Err(Stray::Foreign) => {}
                Err(Stray::TooMany) => return Err(Stray::TooMany),
            }
        }
        Ok(())
    }
}

/// Moves some of `output`, or what was held back of it. May be dropped at any time.
async fn send<W>(writer: &mut W, output: &mut BytesMut, flushed: &mut bool) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    if output.is_empty() {
        writer.flush().await?;
        *flushed = true;
        return Ok(());
    }
    *flushed = false;
    match writer.write_buf(output).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(()),
    }
}

/// Room made for reading; what comes is taken out at once, so that at most a message more is held.
const READ_OCTETS: usize = 4_096;

/// Questions that the socket does not take. Past it they wait in their channel.
const OUTPUT_OCTETS_MAX: usize = 64 << 10;
