//! Shared code of the tests: LoadX as a process, scripted origins, and a raw client.

mod client;
pub(crate) mod h2;
pub(crate) mod judges;
mod killed;
mod origin;
mod ports;
mod process;
mod programs;
mod terminal;
pub(crate) mod tls;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Response};
pub(crate) use killed::Killed;
pub(crate) use origin::{Connection, Origin};
pub(crate) use ports::{unused_address, unused_ports};
pub(crate) use process::{LoadX, Output, command, loadx, signal_to, start};
pub(crate) use programs::{Demo, TestBackend};
pub(crate) use terminal::{Terminal, pair as terminal_pair};

/// The longest time of each wait, far longer than a wait should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Repeats `probe` until it returns a value.
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
