//! A client's stream that never lets a truncated response look complete.

use crate::net::Stream;

/// A stream to a client. Resets the connection if dropped in the midst of a response, so that a truncated response
/// never looks complete.
#[derive(Debug)]
pub(crate) struct Wire<S: Stream> {
    pub(crate) stream: S,
    /// Whether a response has begun and not ended.
    pub(crate) unfinished: bool,
}

impl<S: Stream> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.unfinished {
            self.stream.break_off();
        }
    }
}
