//! Reads a body in the framing of HTTP/1.1 from a stream.

use std::io::ErrorKind;
use std::sync::Arc;

use loadx_core::Time;
use loadx_http::{BodyDecoder, BodyFault, Decoded, Framing};

use crate::buffers::Input;
use crate::io::{Broken, Waiting, fill, fill_until, readable};
use crate::limits::{BUFFER_BYTES, PIPE_BYTES, SPLICE_BYTES_MIN};
use crate::net::Stream;
use crate::patience::Patience;
use crate::pipes::LentPipe;
use crate::sides::{BodySource, Filled, Piece, RelayFault};

/// Reads a body. Buffers at most [`BUFFER_BYTES`], and reads only after the former piece
/// has been consumed.
#[derive(Debug)]
pub(crate) struct BodyReader<'r, S> {
    pub(crate) stream: &'r S,
    /// The read bytes: the present piece, then bytes that are not decoded yet.
    pub(crate) input: &'r mut Input,
    pub(crate) waiting: Waiting<'r>,
    patience: &'r Patience,
    decoder: BodyDecoder,
    piece: Decoded,
    is_consumed: bool,
    content: u64,
    /// Whether content has gone through a pipe.
    used_pipe: bool,
}

impl<'r, S: Stream> BodyReader<'r, S> {
    pub(crate) fn new(
        stream: &'r S,
        input: &'r mut Input,
        framing: Framing,
        waiting: Waiting<'r>,
        patience: &'r Patience,
    ) -> Self {
        let decoder = BodyDecoder::new(framing);
        BodyReader {
            stream,
            input,
            waiting,
            patience,
            decoder,
            piece: Decoded::default(),
            is_consumed: false,
            content: 0,
            used_pipe: false,
        }
    }

    /// Whether content of the body has gone through a pipe.
    pub(crate) fn used_pipe(&self) -> bool {
        self.used_pipe
    }

    /// Starts another body.
    pub(crate) fn begin(&mut self, framing: Framing) {
        self.decoder = BodyDecoder::new(framing);
        self.piece = Decoded::default();
        self.is_consumed = false;
        self.content = 0;
    }

    /// Removes the trailer fields of these names.
    pub(crate) fn remove_trailers(&mut self, names: &[Arc<str>]) {
        self.decoder.remove_trailers(names);
    }

    /// Limits the content of a chunked body; a larger body ends with `BodyFault::TooLarge`.
    pub(crate) fn set_content_max(&mut self, bytes: u64) {
        self.decoder.set_content_max(bytes);
    }

    /// Reads more of a body that may fit the buffer, without waiting, so that the request can be sent again whole.
    pub(crate) fn gather_whole(&mut self) {
        let has_all = self.decoder.content_left().is_some_and(|left| left <= self.input.bytes().len() as u64);
        if !has_all {
            self.read_once();
        }
    }

    /// Reads what has arrived. Ignores an error: the next read finds that the connection is broken.
    fn read_once(&mut self) {
        match self.stream.try_read(self.input.room(self.waiting.buffers)) {
            Ok(count) => self.input.filled(count),
            Err(_) => self.input.release_if_empty(),
        }
    }

    /// Decodes after a read of `count` bytes; 0 means the end of the stream.
    fn decode_read(&mut self, count: usize) -> Result<(), RelayFault> {
        if count == 0 {
            self.decoder.end_of_input().map_err(RelayFault::Body)?;
        }
        self.decode_buffered().map_err(RelayFault::Body)
    }
}

impl<S: Stream> BodySource for BodyReader<'_, S> {
    type Pipe = S::Pipe;

    fn decode_buffered(&mut self) -> Result<(), BodyFault> {
        debug_assert_eq!(self.piece.consumed, 0, "decoded again before the former piece was consumed");
        self.piece = self.decoder.decode(self.input.bytes_mut())?;
        self.content += self.piece.content as u64;
        Ok(())
    }

    fn gather(&mut self, to_pipe: bool) {
        let too_small = if to_pipe && self.stream.has_pipes() { SPLICE_BYTES_MIN } else { BUFFER_BYTES as u64 };
        let left = self.decoder.run_left().saturating_sub(self.input.bytes().len() as u64);
        if (1..too_small).contains(&left) {
            self.read_once();
        }
    }

    async fn next(&mut self) -> Result<(), RelayFault> {
        if self.decoder.is_complete() || !self.input.is_empty() {
            return self.decode_buffered().map_err(RelayFault::Body);
        }
        let count = fill(self.stream, self.input, self.waiting, self.patience).await.map_err(RelayFault::Source)?;
        self.decode_read(count)
    }

    async fn next_until(&mut self, deadline: impl Fn() -> Time) -> Result<(), RelayFault> {
        if self.decoder.is_complete() || !self.input.is_empty() {
            return self.decode_buffered().map_err(RelayFault::Body);
        }
        let count = fill_until(self.stream, self.input, self.waiting, deadline).await.map_err(RelayFault::Source)?;
        self.decode_read(count)
    }

    fn piece(&self) -> Piece<'_> {
        let end = self.decoder.is_complete().then(|| self.decoder.trailers());
        Piece { content: &self.input.bytes()[..self.piece.content], end }
    }

    fn consume(&mut self) -> usize {
        let Decoded { consumed, .. } = std::mem::take(&mut self.piece);
        self.input.consume(consumed);
        self.is_consumed = self.decoder.is_complete();
        consumed
    }

    fn compact(&mut self) {
        self.input.compact();
    }

    fn is_complete(&self) -> bool {
        self.decoder.is_complete()
    }

    fn is_consumed(&self) -> bool {
        self.is_consumed
    }

    fn content(&self) -> u64 {
        self.content
    }

    fn raw_left(&self) -> u64 {
        if self.input.is_empty() && self.stream.has_pipes() { self.decoder.run_left() } else { 0 }
    }

    fn try_fill(&mut self, pipe: &mut LentPipe<'_, S::Pipe>) -> Result<Filled, RelayFault> {
        let left = usize::try_from(self.decoder.run_left()).unwrap_or(usize::MAX);
        loop {
            return match pipe.fill(self.stream, left.min(PIPE_BYTES)) {
                Ok(0) => self.decoder.end_of_input().map(|()| Filled::Ended).map_err(RelayFault::Body),
                Ok(count) => {
                    self.patience.moved(count as u64, self.waiting.timer);
                    self.decoder.advance(count as u64);
                    self.used_pipe = true;
                    self.content += count as u64;
                    Ok(Filled::Bytes(count))
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => Ok(Filled::Nothing),
                    ErrorKind::Interrupted => continue,
                    ErrorKind::InvalidInput | ErrorKind::Unsupported => Ok(Filled::Unsupported),
                    _ => Err(RelayFault::Source(Broken::Failed(error))),
                },
            };
        }
    }

    async fn readable(&mut self) -> Result<(), RelayFault> {
        let timer = self.waiting.timer;
        readable(self.stream, timer, || self.patience.wait(timer)).await.map(|_| ()).map_err(RelayFault::Source)
    }
}
