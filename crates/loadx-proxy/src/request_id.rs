//! The name of a request, by which a log line and an error reply are matched.

use std::fmt;

/// Names one request in logs and replies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
