//! The content of a request in HTTP/2.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use loadx_core::Time;
use loadx_http::{BodyFault, forwarded_trailers};

use super::mux::{Arrived, Mux};
use crate::buffers::HeadBuffer;
use crate::io::Broken;
use crate::net::{Network, PipeOf, Stream as _};
use crate::patience::Patience;
use crate::pipes::LentPipe;
use crate::sides::{BodySource, Filled, Piece, RelayFault, RequestSource};
use crate::timer::Timer;

/// Receives the content of one request.
pub(super) struct RequestReader<'r, N: Network> {
    mux: &'r Mux<N>,
    /// The number of the exchange.
    number: usize,
    timer: &'r Timer,
    patience: &'r Patience,
    /// The present piece.
    piece: Option<HeadBuffer>,
    trailers: Vec<u8>,
    is_complete: bool,
    is_consumed: bool,
    /// The content that the request may still have, in bytes.
    allowance: u64,
    removed: Vec<Arc<str>>,
}

impl<'r, N: Network> RequestReader<'r, N> {
    /// `awaits_tunnel`: whether the request asks for a tunnel. Until the tunnel is open, what comes on the stream is not content of
    /// the request, which has none.
    pub(super) fn new(
        mux: &'r Mux<N>,
        number: usize,
        timer: &'r Timer,
        patience: &'r Patience,
        awaits_tunnel: bool,
    ) -> Self {
        RequestReader {
            mux,
            number,
            timer,
            patience,
            piece: None,
            trailers: Vec::new(),
            is_complete: awaits_tunnel,
            is_consumed: false,
            allowance: u64::MAX,
            removed: Vec::new(),
        }
    }

    /// Takes what has arrived as the next piece. Returns whether anything has arrived.
    fn take(&mut self) -> Result<bool, RelayFault> {
        debug_assert!(self.piece.is_none(), "taken again before the former piece was consumed");
        if self.is_complete {
            return Ok(true);
        }
        let Some(Arrived { content, trailers }) = self.mux.take(self.number) else {
            return Err(RelayFault::Source(Broken::Closed));
        };
        let length = content.as_ref().map_or(0, |content| content.len()) as u64;
        self.piece = content;
        if let Some(lines) = &trailers {
            self.is_complete = true;
            if !lines.is_empty() {
                self.trailers = forwarded_trailers(lines, &self.removed).map_err(RelayFault::Body)?;
            }
        }
        self.allowance = self.allowance.checked_sub(length).ok_or(RelayFault::Body(BodyFault::TooLarge))?;
        let has_arrived = length > 0 || trailers.is_some();
        if has_arrived {
            self.patience.moved(length, self.timer);
        }
        Ok(has_arrived)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, deadline: &impl Fn() -> Time) -> Poll<Result<(), RelayFault>> {
        match self.take() {
            Ok(false) => self.timer.poll_expired(cx, deadline()).map(|()| Err(RelayFault::Source(Broken::TimedOut))),
            Ok(true) => Poll::Ready(Ok(())),
            Err(fault) => Poll::Ready(Err(fault)),
        }
    }
}

impl<N: Network> BodySource for RequestReader<'_, N> {
    type Pipe = PipeOf<N>;

    fn decode_buffered(&mut self) -> Result<(), BodyFault> {
        match self.take() {
            // The wait for the next piece tells that the client is gone.
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

    fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn is_consumed(&self) -> bool {
        self.is_consumed
    }

    fn raw_left(&self) -> u64 {
        0
    }

    fn try_fill(&mut self, _: &mut LentPipe<'_, PipeOf<N>>) -> Result<Filled, RelayFault> {
        Ok(Filled::Unsupported)
    }

    async fn readable(&mut self) -> Result<(), RelayFault> {
        Ok(())
    }
}

impl<N: Network> RequestSource<PipeOf<N>> for RequestReader<'_, N> {
    type Body = Self;

    fn body(&mut self) -> &mut Self {
        self
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.mux.stream().local_addr().ok()
    }

    fn set_content_max(&mut self, bytes: u64) {
        self.allowance = bytes;
    }

    fn switch(&mut self) {
        self.is_complete = false;
        self.is_consumed = false;
        self.allowance = u64::MAX;
    }

    /// The client has departed when it has reset the stream, or when the connection is gone. Content that arrives meanwhile is
    /// bounded by the window.
    async fn departure(&mut self) -> Broken {
        poll_fn(|_| if self.mux.is_gone(self.number) { Poll::Ready(Broken::Closed) } else { Poll::Pending }).await
    }

    fn remove_trailers(&mut self, names: &[Arc<str>]) {
        self.removed = names.to_vec();
    }
}
