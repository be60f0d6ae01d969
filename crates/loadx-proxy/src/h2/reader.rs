//! The content of a received message.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use loadx_core::Time;
use loadx_http::h2::{Code, Role};
use loadx_http::{BodyFault, forwarded_trailers};

use super::alarm::Alarm;
use super::mux::{Arrived, Gone, Mux};
use crate::buffers::HeadBuffer;
use crate::io::Broken;
use crate::patience::Patience;
use crate::pipes::LentPipe;
use crate::sides::{BodySource, Filled, Piece, RelayFault};
use crate::timer::Timer;

/// Receives the content of one message. `P`: the pipe of the other half, which HTTP/2 cannot use.
pub(crate) struct BodyReader<'r, R, A, P> {
    mux: &'r Mux<R, A>,
    /// The number of the exchange.
    number: usize,
    pub(crate) timer: &'r Timer,
    patience: &'r Patience,
    /// The present piece.
    piece: Option<HeadBuffer>,
    trailers: Vec<u8>,
    is_complete: bool,
    is_consumed: bool,
    /// The content that has arrived, in bytes.
    content: u64,
    /// The content that the message may still have, in bytes.
    allowance: u64,
    removed: Vec<Arc<str>>,
    pipe: PhantomData<P>,
}

impl<'r, R: Role, A: Alarm, P> BodyReader<'r, R, A, P> {
    pub(crate) fn new(mux: &'r Mux<R, A>, number: usize, timer: &'r Timer, patience: &'r Patience) -> Self {
        BodyReader {
            mux,
            number,
            timer,
            patience,
            piece: None,
            trailers: Vec::new(),
            is_complete: false,
            is_consumed: false,
            content: 0,
            allowance: u64::MAX,
            removed: Vec::new(),
            pipe: PhantomData,
        }
    }

    /// Waits for no content, until [`tunnel`](Self::tunnel): what comes on the stream is not content of the message.
    pub(crate) fn await_tunnel(&mut self) {
        self.is_complete = true;
    }

    /// Reads what comes on the stream as the bytes of a tunnel.
    pub(crate) fn tunnel(&mut self) {
        self.is_complete = false;
        self.is_consumed = false;
        self.allowance = u64::MAX;
    }

    /// Limits the content; a larger body ends with [`BodyFault::TooLarge`].
    pub(crate) fn set_content_max(&mut self, bytes: u64) {
        self.allowance = bytes;
    }

    /// Removes the trailer fields of these names.
    pub(crate) fn remove_trailers(&mut self, names: &[Arc<str>]) {
        self.removed = names.to_vec();
    }

    /// The connection and the number of the exchange.
    pub(crate) fn lane(&self) -> (&'r Mux<R, A>, usize) {
        (self.mux, self.number)
    }

    /// Waits until the other side has ended the stream. Content that arrives meanwhile is bounded by the window.
    pub(crate) async fn end(&mut self) -> Broken {
        poll_fn(|cx| match self.mux.gone(self.number) {
            Some(gone) => Poll::Ready(gone.into()),
            None => {
                self.mux.waits(self.number, cx);
                Poll::Pending
            }
        })
        .await
    }

    /// Takes what has arrived as the next piece. Returns whether anything has arrived.
    fn take(&mut self) -> Result<bool, RelayFault> {
        debug_assert!(self.piece.is_none(), "taken again before the former piece was consumed");
        if self.is_complete {
            return Ok(true);
        }
        let arrived = self.mux.take(self.number);
        let Arrived { content, trailers } = arrived.map_err(|gone| RelayFault::Source(gone.into()))?;
        let length = content.as_ref().map_or(0, |content| content.len()) as u64;
        self.piece = content;
        if let Some(lines) = &trailers {
            self.is_complete = true;
            if !lines.is_empty() {
                self.trailers = forwarded_trailers(lines, &self.removed).map_err(RelayFault::Body)?;
            }
        }
        self.allowance = self.allowance.checked_sub(length).ok_or(RelayFault::Body(BodyFault::TooLarge))?;
        self.content += length;
        let has_arrived = length > 0 || trailers.is_some();
        if has_arrived {
            self.patience.moved(length, self.timer);
        }
        Ok(has_arrived)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, deadline: &impl Fn() -> Time) -> Poll<Result<(), RelayFault>> {
        match self.take() {
            Ok(false) => {
                self.mux.waits(self.number, cx);
                self.timer.poll_expired(cx, deadline()).map(|()| Err(RelayFault::Source(Broken::TimedOut)))
            }
            Ok(true) => Poll::Ready(Ok(())),
            Err(fault) => Poll::Ready(Err(fault)),
        }
    }
}

impl<R: Role, A: Alarm, P> BodySource for BodyReader<'_, R, A, P> {
    type Pipe = P;

    fn decode_buffered(&mut self) -> Result<(), BodyFault> {
        match self.take() {
            // The wait for the next piece tells that the other side is gone.
            Ok(_) | Err(RelayFault::Source(_) | RelayFault::Sink(_)) => Ok(()),
            Err(RelayFault::Body(fault)) => Err(fault),
        }
    }

    async fn next(&mut self) -> Result<(), RelayFault> {
        let (timer, patience) = (self.timer, self.patience);
        poll_fn(|cx| self.poll_take(cx, &|| patience.wait(timer))).await
    }

    async fn next_until(&mut self, deadline: impl Fn() -> Time) -> Result<(), RelayFault> {
        poll_fn(|cx| self.poll_take(cx, &deadline)).await
    }

    fn piece(&self) -> Piece<'_> {
        let content = self.piece.as_ref().map_or(&[][..], |piece| piece);
        Piece { content, end: self.is_complete.then_some(&self.trailers) }
    }

    fn consume(&mut self) -> usize {
        let consumed = self.piece.take().map_or(0, |piece| piece.len());
        if consumed > 0 {
            self.mux.pass(self.number, consumed);
        }
        self.is_consumed = self.is_complete;
        consumed
    }

    fn compact(&mut self) {
        if let Some(piece) = &mut self.piece {
            piece.compact();
        }
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn is_consumed(&self) -> bool {
        self.is_consumed
    }

    fn content(&self) -> u64 {
        self.content
    }

    fn raw_left(&self) -> u64 {
        0
    }

    fn try_fill(&mut self, _: &mut LentPipe<'_, P>) -> Result<Filled, RelayFault> {
        Ok(Filled::Unsupported)
    }

    async fn readable(&mut self) -> Result<(), RelayFault> {
        Ok(())
    }
}

impl From<Gone> for Broken {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Reset(code) => Broken::Reset(code),
            Gone::Fault(reason) => Broken::Fault(reason),
            Gone::Unserved => Broken::Reset(Code::RefusedStream),
            Gone::Lost => Broken::Closed,
        }
    }
}
