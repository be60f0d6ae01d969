//! A client's connection, as serving it and carrying out its exchanges both need it.

use std::io::IoSlice;
use std::net::IpAddr;
use std::time::Duration;

use crate::buffers::Input;
use crate::io::{Broken, write_all};
use crate::net::Stream;
use crate::patience::Patience;
use crate::timer::Timer;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client<S: Stream> {
    pub(crate) stream: S,
    pub(crate) peer: IpAddr,
    pub(crate) timer: Timer,
    /// What was read and belongs to a request that is still to be served.
    pub(crate) input: Input,
    /// Whether a response has begun and not ended. Dropped so, whatever the reason, the connection
    /// breaks off instead of ending: half a response must not look whole.
    pub(crate) unfinished: bool,
    /// Requests that it has sent.
    pub(crate) requests: u64,
    /// Whether its last request came soon after the one before: the next one will too.
    pub(crate) brisk: bool,
}

impl<S: Stream> Drop for Client<S> {
    fn drop(&mut self) {
        if self.unfinished {
            self.stream.break_off();
        }
    }
}

impl<S: Stream> Client<S> {
    /// Writes a whole reply of LoadX's own. `idle` bounds how long the client may not read.
    pub(crate) async fn send(&mut self, bytes: &[u8], idle: Duration) -> Result<(), Broken> {
        self.unfinished = true;
        write_all(&self.stream, &mut [IoSlice::new(bytes)], &self.timer, &Patience::idle(idle), &mut 0).await?;
        self.unfinished = false;
        Ok(())
    }
}
