//! The events of LoadX, on standard error. (The access log is a separate log, see `loadx-proxy`.)

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Writes events to standard error while it lives. Dropping it writes the pending events, if a program reads standard
/// error.
#[must_use = "events end when it is dropped"]
pub(crate) struct Events(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Starts the log of events: the changes that an operator must know, or with `verbose` every probe and retry too.
///
/// A separate thread writes the events. When no program reads standard error, events are lost; no other thread waits.
pub(crate) fn start(verbose: bool) -> Events {
    let (writer, guard) = tracing_appender::non_blocking(Lines(io::stderr()));
    let colours = colours(
        io::stderr().is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
        std::env::var_os("TERM").as_deref(),
    );
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).with_writer(writer);
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let (filter, reload) = reload::Layer::new(filter(level));
    tracing_subscriber::registry().with(filter).with(lines).init();
    // The first log of the process stays.
    let _ = CHANGEABLE.set(reload);
    Events(guard)
}

/// The filter of the log, which an operator can change.
static CHANGEABLE: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Changes the level of the log: error, warn, info or debug.
///
/// # Errors
/// A message for the operator when there is no such level.
pub(crate) fn set_level(name: &str) -> Result<(), String> {
    let level = match name {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        _ => return Err(format!("\"{name}\" is no level of the log; the levels are error, warn, info and debug")),
    };
    let changeable = CHANGEABLE.get().ok_or("there is no log")?;
    changeable.reload(filter(level)).map_err(|error| format!("the level cannot be changed: {error}"))
}

/// Whether standard output rewrites the last line of the terminal that shows the events.
static REWRITTEN: AtomicBool = AtomicBool::new(false);

/// From now on each event first clears the line of the terminal's cursor.
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

/// The events to show. Debug events of libraries are for the developers of the libraries, so the log has only their
/// warnings.
fn filter(own: LevelFilter) -> Targets {
    Targets::new().with_default(LevelFilter::WARN.min(own)).with_target("loadx", own)
}

/// Whether lines may have colours: never in a file or pipe, and not when the user declines colours
/// (<https://no-color.org>) or the terminal cannot show colours.
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
