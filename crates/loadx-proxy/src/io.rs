//! Reads, writes and waits on streams, with deadlines.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use loadx_core::Time;
use loadx_http::h2::Code;

use crate::buffers::{Buffers, Input};
use crate::net::Stream;
use crate::patience::Patience;
use crate::timer::Timer;

/// Why a read or a write failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// No bytes moved until the deadline.
    TimedOut,
    /// The peer closed the connection.
    Closed,
    /// The peer reset the stream of the exchange.
    Reset(Code),
    /// LoadX ended the stream or the connection, because the peer broke this rule of HTTP/2.
    Fault(&'static str),
    /// The connection failed.
    Failed(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::TimedOut => f.write_str("timed out"),
            Broken::Closed => f.write_str("connection closed"),
            Broken::Fault(reason) => f.write_str(reason),
            Broken::Reset(code) => write!(f, "stream reset ({code})"),
            Broken::Failed(error) => f.write_str(&describe(error)),
        }
    }
}

impl std::error::Error for Broken {}

/// A system error as text. Common errors get their usual short names.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::BrokenPipe => "connection closed while writing".to_owned(),
        ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether the runtime knows of neither bytes nor the end of the stream. Costs no system call; may be out of date until
/// the runtime polls the system.
pub(crate) fn is_silent<S: Stream>(stream: &S) -> bool {
    // Without a budget: after the task's budget is used up, the runtime would report all streams as silent.
    let readable = pin!(tokio::task::coop::unconstrained(poll_fn(|cx| stream.poll_readable(cx))));
    readable.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Waits until `stream` is readable or `deadline`, which may change during the wait, has passed. Returns whether the
/// stream was not readable at first.
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

/// The timer and the buffers that each read of a connection's task needs.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Waiting<'w> {
    pub(crate) timer: &'w Timer,
    pub(crate) buffers: &'w Rc<Buffers>,
}

/// Reads more bytes into `input`, without a buffer while no bytes have arrived. Returns their number; 0 means the end
/// of the stream.
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

/// Reads as [`fill`], but until `deadline`, which may change during the wait.
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

/// Waits until `stream` is writable, or until `patience` is used up.
///
/// The system reports a stream as writable only after the peer has confirmed a large part of the send queue. So this
/// function also reads the length of the queue from time to time: a slow client that confirms bytes is not timed out.
pub(crate) async fn writable<S: Stream>(stream: &S, timer: &Timer, patience: &Patience) -> Result<(), Broken> {
    let mut unconfirmed = None;
    loop {
        let deadline = patience.wait(timer);
        let check_at = deadline.min(timer.now() + patience.check_interval());
        let waited = poll_fn(|cx| {
            if let Poll::Ready(outcome) = stream.poll_writable(cx) {
                return Poll::Ready(outcome.map_err(Broken::Failed));
            }
            timer.poll_expired(cx, check_at).map(|()| Err(Broken::TimedOut))
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
            (Some(before), Some(left)) if left < before => patience.confirmed(before - left, timer),
            _ if timer.now() >= deadline => return Err(Broken::TimedOut),
            _ => {}
        }
        unconfirmed = left;
    }
}

/// Writes all pieces, in order. Adds the number of written bytes to `written`, also after an error.
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
    async fn a_closed_stream_is_not_silent_however_many_streams_a_turn_polls() {
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
