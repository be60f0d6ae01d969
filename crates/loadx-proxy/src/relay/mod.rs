//! Moving a body from one connection to another, piece by piece: never more than a buffer of it is
//! here, and nothing is read before what was read has been passed on.

use std::io::{ErrorKind, IoSlice};

use loadx_http::{BodyDecoder, BodyFault, ChunkPrefix, Framing};

use crate::buffers::Input;
use crate::io::{Broken, Waiting, fill, readable, writable, write_all};
use crate::limits::{
    BUFFER_BYTES, PIPE_BYTES, RELAY_TURN_BYTES, SPLICE_BYTES_MIN, SPLICE_TURN_BYTES, TRICKLE_BYTES_MAX,
};
use crate::net::Stream;
use crate::patience::Patience;
use crate::pipes::{LentPipe, Pipes};

/// Where a relay stopped short.
#[derive(Debug)]
pub(crate) enum RelayFault {
    /// The side that sends failed.
    Source(Broken),
    /// The side that sends broke the rules of its body's framing, or broke it off.
    Body(BodyFault),
    /// The side that receives failed.
    Sink(Broken),
}

/// One end of a body's way: where its bytes come from and how they are framed there.
#[derive(Debug)]
pub(crate) struct Source<'s, S> {
    pub(crate) stream: &'s S,
    pub(crate) input: &'s mut Input,
    pub(crate) decoder: &'s mut BodyDecoder,
    pub(crate) patience: &'s Patience,
}

/// The other end: where they go and how they are framed there.
#[derive(Debug)]
pub(crate) struct Sink<'s, S> {
    pub(crate) stream: &'s S,
    pub(crate) framing: Framing,
    pub(crate) patience: &'s Patience,
    /// Bytes that left, framing included.
    pub(crate) written: u64,
    /// Bytes of content that left.
    pub(crate) content: u64,
}

impl<'s, S: Stream> Sink<'s, S> {
    pub(crate) fn new(stream: &'s S, framing: Framing, patience: &'s Patience) -> Self {
        Sink { stream, framing, patience, written: 0, content: 0 }
    }

    /// Writes `head`, then `content` in this side's framing, and the end of the body with its
    /// `trailers` when it is there; all of it in one go.
    pub(crate) async fn send(
        &mut self,
        head: &[u8],
        content: &[u8],
        trailers: Option<&[u8]>,
        waiting: Waiting<'_>,
    ) -> Result<(), Broken> {
        if self.framing == Framing::Chunked {
            self.send_chunk(head, content, trailers, waiting).await?;
        } else {
            let mut pieces = [IoSlice::new(head), IoSlice::new(content)];
            let pieces = match (head, content) {
                (_, []) => &mut pieces[..1],
                ([], _) => &mut pieces[1..],
                _ => &mut pieces[..],
            };
            write_all(self.stream, pieces, waiting.timer, self.patience, &mut self.written).await?;
        }
        self.content += content.len() as u64;
        Ok(())
    }

    /// Writes what fits of `bytes`, behind which the connection ends at once. Returns how many they were; what is
    /// wrong with the connection shows when the others are sent.
    pub(crate) fn send_last(&mut self, bytes: &[u8]) -> usize {
        let count = self.stream.try_write_last(bytes).unwrap_or(0);
        self.written += count as u64;
        count
    }

    /// The same, in the chunked coding (RFC 9112, section 7.1).
    async fn send_chunk(
        &mut self,
        head: &[u8],
        content: &[u8],
        trailers: Option<&[u8]>,
        waiting: Waiting<'_>,
    ) -> Result<(), Broken> {
        let prefix = ChunkPrefix::new(content.len());
        let around: [&[u8]; 2] = if content.is_empty() { [b"", b""] } else { [prefix.as_bytes(), b"\r\n"] };
        let ending: [&[u8]; 3] = match trailers {
            Some(trailers) => [b"0\r\n", trailers, b"\r\n"],
            None => [b"", b"", b""],
        };
        let pieces = [head, around[0], content, around[1], ending[0], ending[1], ending[2]];
        let mut slices = [IoSlice::new(b""); 7];
        let mut used = 0;
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            slices[used] = IoSlice::new(piece);
            used += 1;
        }
        write_all(self.stream, &mut slices[..used], waiting.timer, self.patience, &mut self.written).await
    }
}

impl<S: Stream> Sink<'_, S> {
    /// Writes what is in the pipe, as content in this side's framing.
    async fn drain(
        &mut self,
        pipe: &mut LentPipe<'_, S>,
        waiting: Waiting<'_>,
        progress: &impl Fn(),
    ) -> Result<(), Broken> {
        let (timer, patience) = (waiting.timer, self.patience);
        if self.framing == Framing::Chunked {
            let prefix = ChunkPrefix::new(pipe.held());
            write_all(self.stream, &mut [IoSlice::new(prefix.as_bytes())], timer, patience, &mut self.written).await?;
        }
        while pipe.held() > 0 {
            match pipe.drain(self.stream) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    self.written += count as u64;
                    self.content += count as u64;
                    patience.moved(count as u64, timer);
                    progress();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    writable(self.stream, timer, patience).await?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Failed(error)),
            }
        }
        if self.framing == Framing::Chunked {
            write_all(self.stream, &mut [IoSlice::new(b"\r\n")], timer, patience, &mut self.written).await?;
        }
        Ok(())
    }
}

/// Moves the rest of a body. `progress` is called whenever bytes left.
pub(crate) async fn relay<S: Stream>(
    source: Source<'_, S>,
    sink: &mut Sink<'_, S>,
    pipes: &Pipes<S>,
    waiting: Waiting<'_>,
    progress: impl Fn(),
) -> Result<(), RelayFault> {
    let Source { stream, input, decoder, patience } = source;
    let mut since_yield = 0;
    // Whether much comes at once. What trickles is not worth a pipe, nor a packet for each part of a chunk.
    let mut in_volume = true;
    while !decoder.is_complete() {
        if input.is_empty()
            && in_volume
            && decoder.run_left() >= SPLICE_BYTES_MIN
            && let Some(mut pipe) = pipes.lend()
        {
            let source = Source { stream, input: &mut *input, decoder: &mut *decoder, patience };
            let pause = splice(source, sink, &mut pipe, waiting, &progress).await?;
            // Whoever waits has no pipe.
            drop(pipe);
            match pause {
                Pause::RunOver => {}
                Pause::Silence => {
                    let deadline = || patience.wait(waiting.timer);
                    readable(stream, waiting.timer, deadline).await.map_err(RelayFault::Source)?;
                }
                Pause::Trickle => in_volume = false,
                Pause::Unsupported => pipes.give_up(),
            }
            if decoder.is_complete() {
                // The last chunk is still to be written where this side has chunks and the other ended otherwise.
                pass_on(input, decoder, b"", sink, waiting).await?;
            }
            continue;
        }
        if input.is_empty() {
            let count = fill(stream, input, waiting, patience).await.map_err(RelayFault::Source)?;
            in_volume |= count == BUFFER_BYTES;
            if count == 0 {
                decoder.end_of_input().map_err(RelayFault::Body)?;
            }
        }
        let before = sink.written;
        // Framing counts: a sender of little else must not keep the worker to itself.
        since_yield += pass_on(input, decoder, b"", sink, waiting).await?;
        if sink.written > before {
            progress();
        }
        if since_yield >= RELAY_TURN_BYTES && !decoder.is_complete() {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Why content does not go on through a pipe.
enum Pause {
    /// What comes next is framing, or nothing.
    RunOver,
    /// Nothing is here.
    Silence,
    /// Little came.
    Trickle,
    /// The system does not do this with these streams.
    Unsupported,
}

/// Moves content through a pipe and unseen, for as long as much of it is here.
async fn splice<S: Stream>(
    source: Source<'_, S>,
    sink: &mut Sink<'_, S>,
    pipe: &mut LentPipe<'_, S>,
    waiting: Waiting<'_>,
    progress: &impl Fn(),
) -> Result<Pause, RelayFault> {
    let Source { stream, decoder, patience, .. } = source;
    let mut since_yield = 0;
    loop {
        let left = usize::try_from(decoder.run_left()).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Pause::RunOver);
        }
        let count = match pipe.fill(stream, left.min(PIPE_BYTES)) {
            Ok(0) => {
                decoder.end_of_input().map_err(RelayFault::Body)?;
                return Ok(Pause::RunOver);
            }
            Ok(count) => count,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Ok(Pause::Silence),
                ErrorKind::Interrupted => continue,
                ErrorKind::InvalidInput | ErrorKind::Unsupported => return Ok(Pause::Unsupported),
                _ => return Err(RelayFault::Source(Broken::Failed(error))),
            },
        };
        patience.moved(count as u64, waiting.timer);
        decoder.advance(count as u64);
        sink.drain(pipe, waiting, progress).await.map_err(RelayFault::Sink)?;
        if count < TRICKLE_BYTES_MAX {
            return Ok(Pause::Trickle);
        }
        since_yield += count as u64;
        // Not behind the last piece: who gets it may answer at once, and the answer must find this at its end.
        if since_yield >= SPLICE_TURN_BYTES && decoder.run_left() > 0 {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Passes on what of the body is in `input`, behind `head`. Returns how many bytes of input that took.
pub(crate) async fn pass_on<S: Stream>(
    input: &mut Input,
    decoder: &mut BodyDecoder,
    head: &[u8],
    sink: &mut Sink<'_, S>,
    waiting: Waiting<'_>,
) -> Result<u64, RelayFault> {
    let decoded = decoder.decode(input.bytes_mut()).map_err(RelayFault::Body)?;
    let content = &input.bytes()[..decoded.content];
    let trailers = decoder.is_complete().then(|| decoder.trailers());
    sink.send(head, content, trailers, waiting).await.map_err(RelayFault::Sink)?;
    input.consume(decoded.consumed);
    Ok(decoded.consumed as u64)
}
