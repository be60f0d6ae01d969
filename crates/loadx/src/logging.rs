//! LoadX's own events, on standard error. (The access log is a separate log, see `loadx-proxy`.)

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Keeps events flowing to standard error. When it is dropped, the events that are still on their way are written,
/// if somebody reads standard error.
#[must_use = "events end when it is dropped"]
pub(crate) struct Events(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Begins to show events: the changes that an operator must know, or with `verbose` every probe and retry too.
///
/// A thread of its own writes the events. When nobody reads standard error, events are lost; nothing waits.
pub(crate) fn start(verbose: bool) -> Events {
    let (writer, guard) = tracing_appender::non_blocking(Lines(io::stderr()));
    let colours = colours(
        io::stderr().is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
        std::env::var_os("TERM").as_deref(),
    );
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).with_writer(writer);
    tracing_subscriber::registry().with(filter(verbose)).with(lines).init();
    Events(guard)
}

/// Whether standard output keeps rewriting the last line of the terminal that the events go to.
static REWRITTEN: AtomicBool = AtomicBool::new(false);

/// From here on, each event first clears the line that the terminal's cursor is in.
pub(crate) fn clear_line_before_events() {
    REWRITTEN.store(true, Ordering::Relaxed);
}

/// Standard error; each write is one event.
struct Lines(io::Stderr);

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if REWRITTEN.load(Ordering::Relaxed) {
            self.0.write_all(b"\r\x1b[2K")?;
        }
        self.0.write_all(event)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Which events are shown. Libraries describe their steps in words for their own developers, so only their warnings
/// are shown.
fn filter(verbose: bool) -> Targets {
    let own = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    Targets::new().with_default(LevelFilter::WARN).with_target("loadx", own)
}

/// Whether lines may hold colours: never in a file or pipe, and not where the user declines them
/// (<https://no-color.org>) or the terminal cannot show them.
fn colours(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_of_users_who_want_them() {
        let term = Some(OsStr::new("xterm"));
        assert!(colours(true, None, term));
        assert!(colours(true, None, None));
        assert!(colours(true, Some(OsStr::new("")), term), "an empty NO_COLOR says nothing");
        assert!(!colours(true, Some(OsStr::new("1")), term));
        assert!(!colours(true, None, Some(OsStr::new("dumb"))));
        assert!(!colours(false, None, term));
    }
}
