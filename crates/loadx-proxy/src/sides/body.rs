//! Bodies as sequences of pieces, independent of the framing.

use loadx_core::Time;
use loadx_http::BodyFault;

use crate::io::Broken;
use crate::pipes::LentPipe;

/// Why LoadX could not relay a body to its end.
#[derive(Debug)]
pub(crate) enum RelayFault {
    /// The connection to the sender broke.
    Source(Broken),
    /// The sender violated the framing of the body, or ended the connection before the end of the body.
    Body(BodyFault),
    /// The connection to the receiver broke.
    Sink(Broken),
}

/// A piece of a body.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Piece<'p> {
    pub(crate) content: &'p [u8],
    /// The field lines of the trailer section if this is the last piece; otherwise `None`.
    pub(crate) end: Option<&'p [u8]>,
}

/// The result of filling a pipe.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The pipe now contains this many bytes of content.
    Bytes(usize),
    /// The body has ended.
    Ended,
    /// No bytes have arrived.
    Nothing,
    /// The system does not support pipes for this stream.
    Unsupported,
}

/// The source of a body.
pub(crate) trait BodySource {
    /// The pipe that [`try_fill`](Self::try_fill) fills.
    type Pipe;

    /// Decodes the buffered bytes into the next piece, without reading. The piece may be empty.
    fn decode_buffered(&mut self) -> Result<(), BodyFault>;

    /// Waits for the next piece, at most for the longest allowed silence of the sender. The former piece must have been
    /// consumed.
    async fn next(&mut self) -> Result<(), RelayFault>;

    /// Waits as [`next`](Self::next), but until `deadline`, which may change during the wait.
    async fn next_until(&mut self, deadline: impl Fn() -> Time) -> Result<(), RelayFault>;

    /// Reads more of a body whose rest is too small for a pipe, without waiting, so that the rest is sent in one write.
    /// `to_pipe`: whether the sink takes content through pipes.
    fn gather(&mut self, _to_pipe: bool) {}

    /// The present piece, until [`consume`](Self::consume).
    fn piece(&self) -> Piece<'_>;

    /// Removes the piece. Returns its size in bytes, including framing.
    fn consume(&mut self) -> usize;

    /// Reduces the memory of the piece, which may wait for long.
    fn compact(&mut self);

    /// Whether the last piece has arrived.
    fn is_complete(&self) -> bool;

    /// The number of content bytes that have arrived.
    fn content(&self) -> u64;

    /// Whether the last piece has been consumed.
    fn is_consumed(&self) -> bool;

    /// The number of content bytes that may now go through a pipe; `u64::MAX` if the body ends with the connection.
    /// 0 if bytes must be copied: framing comes next, bytes are buffered, or the stream is encrypted.
    fn raw_left(&self) -> u64;

    /// Moves the bytes that [`raw_left`](Self::raw_left) counts into `pipe`, which must be empty. Does not wait.
    fn try_fill(&mut self, pipe: &mut LentPipe<'_, Self::Pipe>) -> Result<Filled, RelayFault>;

    /// Waits until bytes arrive, at most for the longest allowed silence of the sender.
    async fn readable(&mut self) -> Result<(), RelayFault>;
}

/// The receiver of a body.
pub(crate) trait BodySink {
    /// The pipe that [`drain`](Self::drain) empties.
    type Pipe;

    /// Sends a piece, after the pending head if there is one, in one write.
    async fn send(&mut self, piece: Piece<'_>) -> Result<(), Broken>;

    /// Whether a piece of so many bytes would be sent at once, as far as is known.
    fn is_ready(&self, bytes: usize) -> bool;

    /// Whether [`drain`](Self::drain) may be called.
    fn takes_pipes(&self) -> bool;

    /// Sends the content in `pipe`. Calls `progress` after each write.
    async fn drain(&mut self, pipe: &mut LentPipe<'_, Self::Pipe>, progress: &impl Fn()) -> Result<(), Broken>;

    /// Ends this direction of a tunnel.
    fn shut(&mut self);

    /// The number of sent bytes, including head and framing.
    fn written(&self) -> u64;

    /// The number of sent content bytes.
    fn content(&self) -> u64;
}
