//! Waiting for streams, with deadlines.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker, ready};

use loadx_core::Time;

use crate::net::Stream;
use crate::patience::Patience;
use crate::timer::Timer;

/// Why bytes could not be moved.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nothing moved until the deadline.
    TimedOut,
    /// The other end closed the connection.
    Closed,
    /// The connection failed.
    Failed(io::Error),
}

impl Broken {
    /// What happened, in words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Broken::TimedOut => "timed out".to_owned(),
            Broken::Closed => "connection closed".to_owned(),
            Broken::Failed(error) => describe(error),
        }
    }
}

/// An error of the system in the words that people look for.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::BrokenPipe => "connection closed while writing".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether nothing has come on `stream`, neither bytes nor the end, as far as the runtime has heard. It
/// costs no system call.
pub(crate) fn is_silent<S: Stream>(stream: &S) -> bool {
    stream.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Waits until `stream` can be read, or `deadline` has passed, which may move meanwhile.
pub(crate) async fn readable<S: Stream>(stream: &S, timer: &Timer, deadline: impl Fn() -> Time) -> Result<(), Broken> {
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = stream.poll_readable(cx) {
            return Poll::Ready(outcome.map_err(Broken::Failed));
        }
        ready!(timer.poll_expired(cx, deadline()));
        Poll::Ready(Err(Broken::TimedOut))
    })
    .await
}

/// Writes all of the pieces, in order. `written` counts what left, also when the rest could not.
pub(crate) async fn write_all<S: Stream>(
    stream: &S,
    mut pieces: &mut [IoSlice<'_>],
    timer: &Timer,
    patience: &Patience,
    written: &mut u64,
) -> Result<(), Broken> {
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match stream.try_write(pieces) {
            Ok(0) => return Err(Broken::Closed),
            Ok(count) => {
                *written += count as u64;
                patience.moved(count, timer);
                IoSlice::advance_slices(&mut pieces, count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let deadline = patience.wait(timer);
                poll_fn(|cx| {
                    if let Poll::Ready(outcome) = stream.poll_writable(cx) {
                        return Poll::Ready(outcome.map_err(Broken::Failed));
                    }
                    ready!(timer.poll_expired(cx, deadline));
                    Poll::Ready(Err(Broken::TimedOut))
                })
                .await?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Failed(error)),
        }
    }
    Ok(())
}
