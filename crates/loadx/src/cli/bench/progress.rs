//! The progress of a run, drawn on a terminal.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use loadx_load::Plan;

/// The interval of drawing the elapsed time while no request finishes.
const TICK: Duration = Duration::from_millis(200);

/// A bar with the number of finished requests, or no bar when the output is not a terminal.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn start(plan: &Plan) -> Self {
        if !is_wanted() {
            return Progress { bar: ProgressBar::hidden() };
        }
        // Draws on standard error.
        let bar = match plan.requests {
            Some(requests) => {
                ProgressBar::new(requests).with_style(style("{bar:40} {pos}/{len} requests, {per_sec}, {eta} left"))
            }
            None => {
                let seconds = plan.duration.unwrap_or_default().as_secs_f64();
                let template = format!("{{spinner}} {{pos}} requests, {{per_sec}}, {{elapsed}} of {seconds} s");
                let bar = ProgressBar::no_length().with_style(style(&template));
                bar.enable_steady_tick(TICK);
                bar
            }
        };
        Progress { bar }
    }

    pub(super) fn show(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Whether to draw the bar. When the results go to a file or a program, standard error often goes to a log, so standard
/// output must be a terminal too.
fn is_wanted() -> bool {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM") == Some(OsString::from("dumb"));
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal() && !is_plain
}
