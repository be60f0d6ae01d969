//! What the tests share: LoadX as a process, scripted origins, and a raw client.

mod client;
mod origin;
mod process;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Response};
pub(crate) use origin::{Connection, Origin};
pub(crate) use process::{LoadX, Output, TestBackend, loadx};

/// How long anything may take before a test gives up. Far beyond what it should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Tries until `probe` gives something.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
