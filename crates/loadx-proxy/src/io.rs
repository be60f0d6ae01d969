//! Waiting for streams, with deadlines.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use loadx_core::Time;

use crate::buffers::{Buffers, Input};
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

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::TimedOut => f.write_str("timed out"),
            Broken::Closed => f.write_str("connection closed"),
            Broken::Failed(error) => f.write_str(&describe(error)),
        }
    }
}

impl std::error::Error for Broken {}

/// An error of the system in the words that people look for.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::BrokenPipe => "connection closed while writing".to_owned(),
        ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether nothing has come on `stream`, neither bytes nor the end, as far as the runtime has heard. It
/// costs no system call.
pub(crate) fn is_silent<S: Stream>(stream: &S) -> bool {
    // Looking at many streams in one turn must not use up the task's budget: the runtime would then call all
    // of them silent.
    let look = pin!(tokio::task::coop::unconstrained(poll_fn(|cx| stream.poll_readable(cx))));
    look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Waits until `stream` can be read, or `deadline` has passed, which may move meanwhile. Returns whether there was
/// anything to wait for.
pub(crate) async fn readable<S: Stream>(
    stream: &S,
    timer: &Timer,
    deadline: impl Fn() -> Time,
) -> Result<bool, Broken> {
    let mut waited = false;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = stream.poll_readable(cx) {
            return Poll::Ready(outcome.map(|()| waited).map_err(Broken::Failed));
        }
        waited = true;
        ready!(timer.poll_expired(cx, deadline()));
        Poll::Ready(Err(Broken::TimedOut))
    })
    .await
}

/// What every wait of a connection's task needs.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Waiting<'w> {
    pub(crate) timer: &'w Timer,
    pub(crate) buffers: &'w Rc<Buffers>,
}

/// Reads more into `input`; 0 is the end. While nothing comes, no buffer is held.
pub(crate) async fn fill<S: Stream>(
    stream: &S,
    input: &mut Input,
    waiting: Waiting<'_>,
    patience: &Patience,
) -> Result<usize, Broken> {
    let count = fill_until(stream, input, waiting, || patience.wait(waiting.timer)).await?;
    patience.moved(count as u64, waiting.timer);
    Ok(count)
}

/// The same, until a moment that may change meanwhile.
pub(crate) async fn fill_until<S: Stream>(
    stream: &S,
    input: &mut Input,
    waiting: Waiting<'_>,
    deadline: impl Fn() -> Time,
) -> Result<usize, Broken> {
    loop {
        match stream.try_read(input.room(waiting.buffers)) {
            Ok(count) => {
                input.filled(count);
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                input.release_if_empty();
                readable(stream, waiting.timer, &deadline).await?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Failed(error)),
        }
    }
}

/// Waits until `stream` can be written, for as long as `patience` with the other end lasts.
///
/// The system holds much for a stream, and is ready for more only when a good part of that is gone. So it is
/// asked now and then whether the other end goes on taking.
pub(crate) async fn writable<S: Stream>(stream: &S, timer: &Timer, patience: &Patience) -> Result<(), Broken> {
    let mut unconfirmed = None;
    loop {
        let deadline = patience.wait(timer);
        let look = deadline.min(timer.now() + patience.look_after());
        let waited = poll_fn(|cx| {
            if let Poll::Ready(outcome) = stream.poll_writable(cx) {
                return Poll::Ready(outcome.map_err(Broken::Failed));
            }
            timer.poll_expired(cx, look).map(|()| Err(Broken::TimedOut))
        });
        match waited.await {
            Err(Broken::TimedOut) => {}
            outcome => {
                timer.now();
                return outcome;
            }
        }
        let left = stream.unconfirmed();
        match (unconfirmed, left) {
            (Some(before), Some(left)) if left < before => patience.seen(before - left, timer),
            _ if timer.now() >= deadline => return Err(Broken::TimedOut),
            _ => {}
        }
        unconfirmed = left;
    }
}

/// Writes all of the pieces, in order. `written` counts what left, also when the rest could not.
pub(crate) async fn write_all<S: Stream>(
    stream: &S,
    mut pieces: &mut [IoSlice<'_>],
    timer: &Timer,
    patience: &Patience,
    written: &mut u64,
) -> Result<(), Broken> {
    let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
    while left > 0 {
        match stream.try_write(pieces) {
            Ok(0) => return Err(Broken::Closed),
            Ok(count) => {
                *written += count as u64;
                patience.moved(count as u64, timer);
                left -= count;
                if left > 0 {
                    IoSlice::advance_slices(&mut pieces, count);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                writable(stream, timer, patience).await?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Failed(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn however_many_are_looked_at_a_closed_one_is_not_silent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut ends = Vec::new();
        for _ in 0..200 {
            let near = tokio::net::TcpStream::connect(address).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            ends.push((near, far));
        }
        assert!(ends.iter().all(|(near, _)| is_silent(near)));
        let nears: Vec<_> = ends.into_iter().map(|(near, _)| near).collect();
        for near in &nears {
            near.readable().await.unwrap();
        }
        assert_eq!(nears.iter().filter(|near| is_silent(*near)).count(), 0);
    }
}
