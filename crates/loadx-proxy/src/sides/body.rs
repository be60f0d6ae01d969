//! Bodies in pieces, whatever frames them on either side.

use loadx_core::Time;
use loadx_http::BodyFault;

use crate::io::Broken;
use crate::pipes::LentPipe;

/// Where a body stopped short.
#[derive(Debug)]
pub(crate) enum RelayFault {
    /// The side that sends failed.
    Source(Broken),
    /// The side that sends broke the rules of its body's framing, or broke the body off.
    Body(BodyFault),
    /// The side that receives failed.
    Sink(Broken),
}

/// A piece of a body.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Piece<'p> {
    pub(crate) content: &'p [u8],
    /// The field lines of the trailer section, where the body ends behind the content.
    pub(crate) end: Option<&'p [u8]>,
}

/// What came of filling a pipe.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes of content are in the pipe.
    Bytes(usize),
    /// The body has ended.
    Ended,
    /// No bytes are here.
    Nothing,
    /// The system cannot move the bytes of this stream through a pipe.
    Unsupported,
}

/// Where a body comes from.
pub(crate) trait BodySource {
    /// Takes content that is not copied.
    type Pipe;

    /// Makes a piece of the bytes that are here already. The piece may be empty.
    fn look(&mut self) -> Result<(), BodyFault>;

    /// Waits for the next piece, for as long as the sender may be silent. The former piece must have been consumed.
    async fn next(&mut self) -> Result<(), RelayFault>;

    /// The same, until `deadline`, which may move meanwhile.
    async fn next_until(&mut self, deadline: impl Fn() -> Time) -> Result<(), RelayFault>;

    /// The piece that is here. The piece stays until it is consumed.
    fn piece(&self) -> Piece<'_>;

    /// Lets go of the piece. Returns how many bytes the piece took, framing included.
    fn consume(&mut self) -> usize;

    /// Whether the last piece is here, or was.
    fn is_complete(&self) -> bool;

    /// Whether the last piece was consumed.
    fn is_consumed(&self) -> bool;

    /// How many bytes of content come next that may go through a pipe, without end where only the end of the
    /// connection tells. 0 where bytes must be copied: framing comes next, or bytes are here already, or the stream is
    /// encrypted.
    fn raw_left(&self) -> u64;

    /// Moves such bytes into `pipe`, which must be empty, without waiting.
    fn try_fill(&mut self, pipe: &mut LentPipe<'_, Self::Pipe>) -> Result<Filled, RelayFault>;

    /// Waits until such bytes are here, for as long as the sender may be silent.
    async fn readable(&mut self) -> Result<(), RelayFault>;
}

/// Where a body goes.
pub(crate) trait BodySink {
    /// Brings content that is not copied.
    type Pipe;

    /// Sends a piece, behind the head that waits if one does; all of it in one write.
    async fn send(&mut self, piece: Piece<'_>) -> Result<(), Broken>;

    /// Whether content may come through a pipe.
    fn takes_pipes(&self) -> bool;

    /// Sends the content that is in `pipe`. Calls `progress` whenever bytes have left.
    async fn drain(&mut self, pipe: &mut LentPipe<'_, Self::Pipe>, progress: &impl Fn()) -> Result<(), Broken>;

    /// Ends this direction of a connection that goes on in another protocol.
    fn shut(&mut self);

    /// How many bytes have left, head and framing included.
    fn written(&self) -> u64;

    /// How many bytes of content have left.
    fn content(&self) -> u64;
}
