//! Processes that end with the test.

use std::process::Child;

/// A process that is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // The process has ended if it cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
