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

/// Moves content through a pipe while large pieces arrive. For `progress`, see [`relay`](super::relay).
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
        // The source no longer has the content, even if the sink takes nothing of it.
        progress();
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use loadx_core::Time;
    use loadx_http::BodyFault;

    use super::*;
    use crate::io::Broken;
    use crate::pipes::Pipes;
    use crate::sides::Piece;

    /// A source with content for one pipe.
    struct Full;

    impl BodySource for Full {
        type Pipe = ();

        fn raw_left(&self) -> u64 {
            u64::MAX
        }

        fn try_fill(&mut self, _: &mut LentPipe<'_, ()>) -> Result<Filled, RelayFault> {
            Ok(Filled::Bytes(1))
        }

        fn decode_buffered(&mut self) -> Result<(), BodyFault> {
            unreachable!()
        }

        async fn next(&mut self) -> Result<(), RelayFault> {
            unreachable!()
        }

        async fn next_until(&mut self, _: impl Fn() -> Time) -> Result<(), RelayFault> {
            unreachable!()
        }

        fn piece(&self) -> Piece<'_> {
            unreachable!()
        }

        fn consume(&mut self) -> usize {
            unreachable!()
        }

        fn compact(&mut self) {
            unreachable!()
        }

        fn is_complete(&self) -> bool {
            unreachable!()
        }

        fn is_consumed(&self) -> bool {
            unreachable!()
        }

        fn content(&self) -> u64 {
            unreachable!()
        }

        async fn readable(&mut self) -> Result<(), RelayFault> {
            unreachable!()
        }
    }

    /// A sink whose connection is gone.
    struct Gone;

    impl BodySink for Gone {
        type Pipe = ();

        fn takes_pipes(&self) -> bool {
            true
        }

        async fn drain(&mut self, _: &mut LentPipe<'_, ()>, _: &impl Fn()) -> Result<(), Broken> {
            Err(Broken::Closed)
        }

        async fn send(&mut self, _: Piece<'_>) -> Result<(), Broken> {
            unreachable!()
        }

        fn is_ready(&self, _: usize) -> bool {
            unreachable!()
        }

        fn shut(&mut self) {
            unreachable!()
        }

        fn written(&self) -> u64 {
            unreachable!()
        }

        fn content(&self) -> u64 {
            unreachable!()
        }
    }

    #[test]
    fn content_that_the_sink_did_not_take_has_left_the_source() {
        let (pipes, calls) = (Pipes::new(|| Some(())), Cell::new(0));
        let mut pipe = pipes.lend().unwrap();
        let progress = || calls.set(calls.get() + 1);
        let work = async { splice(&mut Full, &mut Gone, &mut pipe, &progress).await };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(matches!(runtime.block_on(work), Err(RelayFault::Sink(_))));
        assert_eq!(calls.get(), 1);
    }
}
