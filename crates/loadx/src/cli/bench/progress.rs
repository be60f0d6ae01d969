//! The progress of a run, drawn on a terminal.

use std::ffi::OsString;
use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use loadx_load::{Live, Plan};

/// The widest bar of the histogram.
const BAR: usize = 40;

/// A view of the requests so far, or nothing when the output is not a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    plan: Plan,
    /// The requests and the time when the view was last drawn, for the present rate.
    drawn: std::cell::Cell<(u64, f64)>,
}

impl Progress {
    pub(super) fn start(plan: &Plan) -> Self {
        let bar = match is_wanted() {
            false => ProgressBar::hidden(),
            // Draws on standard error.
            true => match plan.requests {
                Some(requests) => ProgressBar::new(requests).with_style(style("{bar:40} {pos}/{len} requests{msg}")),
                None => ProgressBar::new((plan.duration.unwrap_or_default().as_secs_f64() * 1_000.0) as u64)
                    .with_style(style("{bar:40} {msg}")),
            },
        };
        Progress { bar, plan: plan.clone(), drawn: <_>::default() }
    }

    pub(super) fn show(&self, live: &Live) {
        if self.bar.is_hidden() {
            return;
        }
        let seconds = live.elapsed.as_secs_f64();
        let (requests, at) = self.drawn.replace((live.requests, seconds));
        let rate = (live.requests - requests) as f64 / (seconds - at).max(0.001);
        let mut text = match self.plan.requests {
            Some(_) => String::new(),
            None => {
                let whole = self.plan.duration.unwrap_or_default().as_secs_f64();
                format!("{seconds:.0} of {whole} s, {} requests", live.requests)
            }
        };
        text.push_str(&format!(", {rate:.0}/s, {} failed", live.failed));
        if live.elapsed < self.plan.warm_up {
            text.push_str(", warming up");
        } else {
            let (p50, p90, p99) = (live.quantile(0.5), live.quantile(0.9), live.quantile(0.99));
            text.push_str(&format!("\n  p50 {p50:.3} ms, p90 {p90:.3}, p99 {p99:.3}"));
            let bars = live.histogram();
            let most = bars.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
            for (bound, count) in bars {
                let label = if bound.is_finite() { format!("<= {bound} ms") } else { "longer".to_owned() };
                let width = (count as f64 / most as f64 * BAR as f64).ceil() as usize;
                text.push_str(&format!("\n  {label:>11} {:<BAR$} {count}", "\u{2588}".repeat(width)));
            }
        }
        self.bar.set_message(text);
        match self.plan.requests {
            Some(_) => self.bar.set_position(live.requests),
            None => self.bar.set_position(live.elapsed.as_millis() as u64),
        }
    }

    /// Removes the view.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Whether to draw. When the results go to a file or a program, standard error often goes to a log, so standard
/// output must be a terminal too.
fn is_wanted() -> bool {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM") == Some(OsString::from("dumb"));
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal() && !is_plain
}
