//! LoadX's own events, on standard error. (The access log is another matter.)

use std::io::IsTerminal as _;

use tracing_subscriber::filter::LevelFilter;

/// Begins to show events: those that matter to whoever runs LoadX, or with `verbose` every step.
pub(crate) fn start(verbose: bool) {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
