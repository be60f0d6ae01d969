//! The output of the demo: one line per second.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Instant;

use super::traffic::Counts;
use crate::logging;
use crate::trouble::{Trouble, print};

/// Prints counts and stores them, because each line shows the difference.
pub(super) struct Board {
    backends: Vec<String>,
    began: Instant,
    shown: Instant,
    counts: Counts,
    in_place: bool,
}

impl Board {
    pub(super) fn new(backends: Vec<String>) -> Self {
        let now = Instant::now();
        Board { backends, began: now, shown: now, counts: Counts::default(), in_place: false }
    }

    /// From now on each line overwrites the last line, so that other text stays visible. Has an effect only on a
    /// terminal.
    pub(super) fn repeat_in_place(&mut self) {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        self.in_place = io::stdout().is_terminal() && !dumb;
        if self.in_place && io::stderr().is_terminal() {
            logging::clear_line_before_events();
        }
    }

    /// Prints the counts since the last line.
    pub(super) fn show(&mut self, counts: &Counts) -> Result<(), Trouble> {
        let now = Instant::now();
        let line = self.line(counts, now);
        (self.shown, self.counts) = (now, counts.clone());
        match self.in_place {
            true => print(&format!("\r\x1b[2K{line}")),
            false => print(&format!("{line}\n")),
        }
    }

    /// Prints other text on separate lines.
    pub(super) fn say(&mut self, text: &str) -> Result<(), Trouble> {
        print(text)
    }

    /// The line, at most 80 characters: a longer line would take two rows on a common terminal, and could not be
    /// overwritten.
    fn line(&self, counts: &Counts, now: Instant) -> String {
        let requests = counts.requests - self.counts.requests;
        let rate = requests as f64 / now.duration_since(self.shown).as_secs_f64().max(f64::EPSILON);
        let mut line = format!("{:3.0} s {rate:4.0} requests/s", now.duration_since(self.began).as_secs_f64());
        for backend in &self.backends {
            let answered = counts.of(backend) - self.counts.of(backend);
            let share = 100.0 * answered as f64 / requests.max(1) as f64;
            let _ = write!(line, "  {backend} {share:3.0}%");
        }
        let _ = write!(line, "  {} failed", counts.failed);
        line
    }
}
