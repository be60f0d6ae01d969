//! A client's stream that resets the connection after a truncated response.

use crate::net::Stream;

/// A stream to a client. Resets the connection if dropped mid-response, so that a truncated response never looks
/// complete.
#[derive(Debug)]
pub(crate) struct Wire<S: Stream> {
    pub(crate) stream: S,
    /// Whether only a part of a response has been sent.
    pub(crate) unfinished: bool,
}

impl<S: Stream> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.unfinished {
            self.stream.break_off();
        }
    }
}
