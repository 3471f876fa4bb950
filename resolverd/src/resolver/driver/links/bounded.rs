//! Streams of QUIC as h3 reads them, with a bound on what one may bring.
//!
//! h3 gathers a frame until it is whole, and believes the length that it begins with: whoever is
//! at the other end could have us hold what he likes. Here a stream that brought more octets than a
//! request or an answer has ends with an error. All else is h3-quinn's. The doors for clients use
//! it as well.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{
    BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream,
    StreamErrorIncoming, StreamId, WriteBuf,
};

/// A connection whose incoming streams are bounded.
pub struct BoundedConnection {
    connection: h3_quinn::Connection,
    /// Octets of one stream of a request.
    stream_octets_max: usize,
}

/// What only receives, or that half of what does both.
pub struct Bounded<S> {
    stream: S,
    /// Octets that may still come.
    left: usize,
    /// h3-quinn is in the middle of reading, and must not be asked for anything else.
    reading: bool,
}

/// A stream of a request.
pub struct BoundedBidi<B: Buf>(Bounded<h3_quinn::BidiStream<B>>);

impl BoundedConnection {
    pub fn new(connection: quinn::Connection, stream_octets_max: usize) -> BoundedConnection {
        BoundedConnection { connection: h3_quinn::Connection::new(connection), stream_octets_max }
    }
}

impl<S> Bounded<S> {
    fn new(stream: S, left: usize) -> Bounded<S> {
        Bounded { stream, left, reading: false }
    }
}

impl<S: RecvStream<Buf = Bytes>> RecvStream for Bounded<S> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.reading = true;
        let read = ready!(self.stream.poll_data(cx));
        self.reading = false;
        if let Ok(Some(octets)) = &read {
            match self.left.checked_sub(octets.len()) {
                Some(left) => self.left = left,
                None => {
                    let code = Code::H3_EXCESSIVE_LOAD.value();
                    self.stream.stop_sending(code);
                    return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated {
                        error_code: code,
                    }));
                }
            }
        }
        Poll::Ready(read)
    }

    fn stop_sending(&mut self, error_code: u64) {
        // Else it is stopped when it is dropped, which follows.
        if !self.reading {
            self.stream.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl<B: Buf> RecvStream for BoundedBidi<B> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.0.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.0.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.0.recv_id()
    }
}

impl<B: Buf> SendStream<B> for BoundedBidi<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.stream.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.0.stream.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.stream.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.0.stream.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.0.stream.send_id()
    }
}

impl<B: Buf> BidiStream<B> for BoundedBidi<B> {
    type SendStream = h3_quinn::SendStream<B>;
    type RecvStream = Bounded<h3_quinn::RecvStream>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        let Bounded { stream, left, reading } = self.0;
        let (send, receive) = stream.split();
        (send, Bounded { stream: receive, left, reading })
    }
}

impl<B: Buf> OpenStreams<B> for BoundedConnection {
    type BidiStream = BoundedBidi<B>;
    type SendStream = h3_quinn::SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BoundedBidi<B>, StreamErrorIncoming>> {
        let opened = ready!(OpenStreams::<B>::poll_open_bidi(&mut self.connection, cx));
        Poll::Ready(opened.map(|stream| BoundedBidi(Bounded::new(stream, self.stream_octets_max))))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        OpenStreams::<B>::poll_open_send(&mut self.connection, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<B>::close(&mut self.connection, code, reason);
    }
}

impl<B: Buf> Connection<B> for BoundedConnection {
    type RecvStream = Bounded<h3_quinn::RecvStream>;
    type OpenStreams = BoundedOpener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let accepted = ready!(Connection::<B>::poll_accept_recv(&mut self.connection, cx));
        Poll::Ready(accepted.map(|stream| Bounded::new(stream, CONTROL_OCTETS_MAX)))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BoundedBidi<B>, ConnectionErrorIncoming>> {
        let accepted = ready!(Connection::<B>::poll_accept_bidi(&mut self.connection, cx));
        Poll::Ready(
            accepted.map(|stream| BoundedBidi(Bounded::new(stream, self.stream_octets_max))),
        )
    }

    fn opener(&self) -> BoundedOpener {
        BoundedOpener {
            opener: Connection::<B>::opener(&self.connection),
            stream_octets_max: self.stream_octets_max,
        }
    }
}

/// Opens streams of ours.
#[derive(Clone)]
pub struct BoundedOpener {
    opener: h3_quinn::OpenStreams,
    stream_octets_max: usize,
}

impl<B: Buf> OpenStreams<B> for BoundedOpener {
    type BidiStream = BoundedBidi<B>;
    type SendStream = h3_quinn::SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BoundedBidi<B>, StreamErrorIncoming>> {
        let opened = ready!(OpenStreams::<B>::poll_open_bidi(&mut self.opener, cx));
        Poll::Ready(opened.map(|stream| BoundedBidi(Bounded::new(stream, self.stream_octets_max))))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        OpenStreams::<B>::poll_open_send(&mut self.opener, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

/// Of a stream that carries no request, for as long as the connection lives: settings and
/// GOAWAY have a hundred octets, and QPACK is offered no table to fill.
const CONTROL_OCTETS_MAX: usize = 16 << 10;
