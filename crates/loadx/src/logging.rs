//! LoadX's own events, on standard error. (The access log is another matter.)

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;

/// Keeps events flowing to standard error; what is still on its way when it is dropped gets there, if
/// somebody reads it.
#[must_use = "events end when it is dropped"]
pub(crate) struct Events(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Begins to show events: those that matter to whoever runs LoadX, or with `verbose` every step.
///
/// A thread of its own writes them. When nobody reads standard error, events are lost; nothing waits.
pub(crate) fn start(verbose: bool) -> Events {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer)
        .init();
    Events(guard)
}
