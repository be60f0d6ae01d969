//! Moving content through a pipe, without copying it.

use crate::limits::{SPLICE_TURN_BYTES, TRICKLE_BYTES_MAX};
use crate::pipes::LentPipe;
use crate::sides::{BodySink, BodySource, Filled, RelayFault};

/// Why content does not go on through a pipe.
pub(super) enum Pause {
    /// What comes next is framing, or nothing.
    RunOver,
    /// Nothing is here.
    Silence,
    /// Little came.
    Trickle,
    /// The system does not do this with these streams.
    Unsupported,
}

/// Moves content through a pipe, for as long as much of the content is here.
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
        // Not behind the last piece: the receiver may answer at once, and the answer must find this relay at its end.
        if since_yield >= SPLICE_TURN_BYTES && source.raw_left() > 0 {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(Pause::RunOver)
}
