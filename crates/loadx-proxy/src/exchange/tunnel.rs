//! What follows after 101: bytes both ways, of which LoadX knows nothing (RFC 9110, section 7.8).

use std::cell::Cell;
use std::io::IoSlice;
use std::time::Duration;

use loadx_core::Time;

use crate::buffers::Input;
use crate::io::{Broken, write_all};
use crate::io::{Waiting, fill_until};
use crate::limits::RELAY_TURN_BYTES;
use crate::net::Stream;
use crate::patience::Patience;

/// Two connections that are one from now on.
pub(super) struct Tunnel<'t> {
    waiting: Waiting<'t>,
    /// How long it may carry nothing.
    idle: Duration,
    /// The same, once one side has ended its direction; and how long a side may refuse to take more.
    patience: Duration,
    /// When bytes last moved, either way.
    moved: Cell<Time>,
    half_closed: Cell<bool>,
}

/// One end of a tunnel.
pub(super) struct End<'e, S> {
    pub(super) stream: &'e S,
    /// What it has sent already.
    pub(super) early: &'e mut Input,
}

impl<'t> Tunnel<'t> {
    pub(super) fn new(waiting: Waiting<'t>, idle: Duration, patience: Duration) -> Self {
        let moved = Cell::new(waiting.timer.now());
        Tunnel { waiting, idle, patience, moved, half_closed: Cell::new(false) }
    }

    /// Carries bytes until both sides have ended, one of them breaks, or nothing moves for too long.
    /// `to_client` counts what reached the client.
    pub(super) async fn run<S: Stream>(
        &self,
        client: End<'_, S>,
        backend: End<'_, S>,
        to_client: &Cell<u64>,
    ) -> Result<(), Broken> {
        let (client_stream, backend_stream) = (client.stream, backend.stream);
        let up = self.carry(client, backend_stream, |_| {});
        let down = self.carry(backend, client_stream, |count| to_client.set(to_client.get() + count));
        tokio::try_join!(up, down).map(|_| ())
    }

    /// Carries one direction to its end, and passes the end on.
    async fn carry<S: Stream>(&self, from: End<'_, S>, to: &S, moved: impl Fn(u64)) -> Result<(), Broken> {
        let End { stream, early: input } = from;
        let patience = Patience::idle(self.patience);
        let mut since_yield = 0;
        loop {
            let count = input.bytes().len();
            if count > 0 {
                write_all(to, &mut [IoSlice::new(input.bytes())], self.waiting.timer, &patience, &mut 0).await?;
                input.consume(count);
                self.moved.set(self.waiting.timer.now());
                moved(count as u64);
                since_yield += count as u64;
            }
            if since_yield >= RELAY_TURN_BYTES {
                since_yield = 0;
                tokio::task::yield_now().await;
            }
            match fill_until(stream, input, self.waiting, || self.deadline()).await {
                Ok(0) => break,
                Ok(_) => {}
                // The other direction moved meanwhile.
                Err(Broken::TimedOut) if self.waiting.timer.now() < self.deadline() => {}
                Err(broken) => return Err(broken),
            }
        }
        to.shut_write();
        self.half_closed.set(true);
        self.moved.set(self.waiting.timer.now());
        // The other direction has less time from now on: it must look at the clock again.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn deadline(&self) -> Time {
        self.moved.get() + if self.half_closed.get() { self.patience } else { self.idle }
    }
}
