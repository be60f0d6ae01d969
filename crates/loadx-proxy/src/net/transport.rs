//! A connection of the proxy: encrypted or not.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Stream;
use crate::tls::{TlsFacts, TlsStream};

/// A byte stream between LoadX and a client or a backend.
#[derive(Debug)]
pub(crate) enum Transport<S: Stream> {
    /// The bytes of the connection.
    Plain(S),
    /// The bytes inside TLS. Boxed, so that a connection without TLS takes no memory for TLS.
    Tls(Box<TlsStream<S>>),
}

impl<S: Stream> Transport<S> {
    /// What the handshake of TLS agreed on; none without TLS.
    pub(crate) fn facts(&self) -> Option<&Rc<TlsFacts>> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => Some(stream.facts()),
        }
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Transport::Plain($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl<S: Stream> Stream for Transport<S> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_readable(cx))
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buffer))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_writable(cx))
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(pieces))
    }

    fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_last(bytes))
    }

    fn unconfirmed(&self) -> Option<u64> {
        either!(self, stream => stream.unconfirmed())
    }

    fn has_pipes(&self) -> bool {
        either!(self, stream => stream.has_pipes())
    }

    type Pipe = S::Pipe;

    fn pipe() -> Option<S::Pipe> {
        S::pipe()
    }

    fn try_fill(&self, pipe: &S::Pipe, max: usize) -> io::Result<usize> {
        either!(self, stream => stream.try_fill(pipe, max))
    }

    fn try_drain(&self, pipe: &S::Pipe, count: usize) -> io::Result<usize> {
        either!(self, stream => stream.try_drain(pipe, count))
    }

    fn holds_nothing(&self) -> bool {
        either!(self, stream => stream.holds_nothing())
    }

    fn shut_write(&self) {
        either!(self, stream => stream.shut_write());
    }

    fn break_off(&self) {
        either!(self, stream => stream.break_off());
    }

    fn drops_cleanly(&self) -> bool {
        either!(self, stream => stream.drops_cleanly())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        either!(self, stream => stream.local_addr())
    }
}
