//! Moves content through a pipe, without copying.

use crate::limits::{SPLICE_TURN_BYTES, TRICKLE_BYTES_MAX};
use crate::pipes::LentPipe;
use crate::sides::{BodySink, BodySource, Filled, RelayFault};

/// Why `splice` returned.
pub(super) enum Pause {
    /// Framing comes next, or the body has ended.
    RunEnded,
    /// No bytes have arrived.
    Silence,
    /// Less than [`TRICKLE_BYTES_MAX`] arrived at once.
    Trickle,
    /// The system does not support pipes for these streams.
    Unsupported,
}

/// Moves content through a pipe while large pieces arrive.
pub(super) async fn splice<R, W>(
    source: &mut R,
    sink: &mut W,
    pipe: &mut LentPipe<'_, R::Pipe>,
    progress: &impl Fn(),
) -> Result<Pause, RelayFault>
where
    R: BodySource,
    W: BodySink<Pipe = R::Pipe>,
{
    let mut since_yield = 0;
    while source.raw_left() > 0 {
        let count = match source.try_fill(pipe)? {
            Filled::Bytes(count) => count,
            Filled::Ended => break,
            Filled::Nothing => return Ok(Pause::Silence),
            Filled::Unsupported => return Ok(Pause::Unsupported),
        };
        sink.drain(pipe, progress).await.map_err(RelayFault::Sink)?;
        if count < TRICKLE_BYTES_MAX {
            return Ok(Pause::Trickle);
        }
        since_yield += count as u64;
        // Does not yield after the last piece: the upload must be complete when the response arrives.
        if since_yield >= SPLICE_TURN_BYTES && source.raw_left() > 0 {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(Pause::RunEnded)
}
