//! Moves the bytes of a connection, and limits how long the other side may take for what is written.

use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use loadx_core::Time;
use loadx_http::h2::Role;

use super::alarm::Alarm;
use super::mux::Mux;
use crate::buffers::{Buffers, Input};
use crate::io::Broken;
use crate::net::Stream;
use crate::patience::Patience;
use crate::timer::Timer;

/// The state of the transfer.
pub(crate) struct Transfer {
    /// How long the other side may take for what is written.
    patience: Patience,
    /// The bytes that the other side had not confirmed at the last look.
    unconfirmed: Option<u64>,
    /// When LoadX looks whether the other side takes what is written.
    look_at: Option<Time>,
}

impl Transfer {
    /// `credit` and `rate`: see [`Patience::with_rate`].
    pub(crate) fn new(credit: Duration, rate: u64) -> Self {
        Transfer { patience: Patience::with_rate(credit, rate), unconfirmed: None, look_at: None }
    }

    /// Reads what has arrived into `input`. Returns false if nothing has arrived.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) fn read<S: Stream>(
        &self,
        stream: &S,
        input: &mut Input,
        buffers: &Rc<Buffers>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Broken> {
        match stream.poll_readable(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(Broken::Failed(error)),
        }
        match stream.try_read(input.room(buffers)) {
            Ok(0) => return Err(Broken::Closed),
            Ok(count) => input.filled(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                input.release_if_empty();
            }
            Err(error) => return Err(Broken::Failed(error)),
        }
        Ok(true)
    }

    /// Writes what waits, as far as the other side takes it. Returns whether anything could be written.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) fn write<S: Stream, R: Role, A: Alarm>(
        &mut self,
        stream: &S,
        mux: &Mux<R, A>,
        timer: &Timer,
        cx: &mut Context<'_>,
    ) -> Result<bool, Broken> {
        let mut any = false;
        while mux.unsent() > 0 {
            let (written, outcome) = mux.write_with(|bytes| stream.try_write(&[IoSlice::new(bytes)]));
            if written > 0 {
                any = true;
                self.patience.moved(written as u64, timer);
                self.unconfirmed = None;
                self.look_at = None;
            }
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if stream.poll_writable(cx).is_pending() {
                        break;
                    }
                }
                Err(error) => return Err(Broken::Failed(error)),
            }
        }
        Ok(any)
    }

    /// Nothing is written that the other side must take.
    pub(crate) fn rest(&mut self) {
        self.look_at = None;
    }

    /// When to call [`look`](Self::look) while anything waits to be written.
    pub(crate) fn look_at(&mut self, now: Time) -> Time {
        let interval = self.patience.check_interval();
        // Whatever wakes the driver meanwhile does not put the look off.
        *self.look_at.get_or_insert(now + interval)
    }

    /// Until when the other side must have moved something.
    pub(crate) fn deadline(&self, timer: &Timer) -> Time {
        self.patience.wait(timer)
    }

    /// Looks whether the other side reads: a peer that confirms bytes does, although the system has not taken more.
    ///
    /// # Errors
    /// When the other side has taken too long.
    pub(crate) fn look<S: Stream>(&mut self, stream: &S, timer: &Timer) -> Result<(), Broken> {
        self.look_at = None;
        let left = stream.unconfirmed();
        let former = std::mem::replace(&mut self.unconfirmed, left);
        let deadline = self.patience.wait(timer);
        match (former, left) {
            (Some(former), Some(left)) if left < former => self.patience.confirmed(former - left, timer),
            // The first look cannot tell whether the other side reads.
            (None, Some(_)) => {}
            _ if timer.now() >= deadline => return Err(Broken::TimedOut),
            _ => {}
        }
        Ok(())
    }
}
