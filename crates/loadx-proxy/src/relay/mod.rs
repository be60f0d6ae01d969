//! Moves a body from one side of an exchange to the other, piece by piece.

mod splice;

use crate::limits::{BUFFER_BYTES, RELAY_TURN_BYTES, SPLICE_BYTES_MIN};
use crate::pipes::Pipes;
use crate::sides::{BodySink, BodySource, RelayFault};

use splice::{Pause, splice};

/// Moves the rest of a body. Calls `progress` when content has left the source, and after each write.
pub(crate) async fn relay<R, W>(
    source: &mut R,
    sink: &mut W,
    pipes: &Pipes<R::Pipe>,
    progress: impl Fn(),
) -> Result<(), RelayFault>
where
    R: BodySource,
    W: BodySink<Pipe = R::Pipe>,
{
    let mut since_yield = 0;
    // Whether the body arrives in large pieces. For small pieces, a pipe costs more than a copy and sends the parts of
    // a chunk in separate packets.
    let mut in_volume = true;
    while !source.is_consumed() {
        if in_volume
            && source.raw_left() >= SPLICE_BYTES_MIN
            && sink.takes_pipes()
            && let Some(mut pipe) = pipes.lend()
        {
            let pause = splice(source, sink, &mut pipe, &progress).await?;
            // Other bodies can use the pipe while this body waits.
            drop(pipe);
            match pause {
                Pause::RunEnded => {}
                Pause::Silence => source.readable().await?,
                Pause::Trickle => in_volume = false,
                Pause::Unsupported => pipes.give_up(),
            }
            continue;
        }
        source.next().await?;
        if !sink.is_ready(source.piece().content.len()) {
            source.compact();
        }
        let before = sink.written();
        sink.send(source.piece()).await.map_err(RelayFault::Sink)?;
        let count = source.consume();
        in_volume |= count == BUFFER_BYTES;
        if sink.written() > before {
            progress();
        }
        // Counts framing too, so that a body of mostly framing also yields.
        since_yield += count as u64;
        if since_yield >= RELAY_TURN_BYTES && !source.is_consumed() {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
