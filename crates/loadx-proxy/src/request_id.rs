//! The name of a request, by which a log line and an error reply are matched.

use std::fmt;

/// Names one request in logs and replies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) u64);

impl RequestId {
    /// Its sixteen digits.
    pub(crate) fn spelled(self) -> [u8; 16] {
        let mut digits = [0; 16];
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.0 >> (60 - 4 * index)) as usize & 15];
        }
        digits
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
