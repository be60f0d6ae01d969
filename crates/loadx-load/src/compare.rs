//! Compares two results.

use std::collections::BTreeMap;
use std::fmt;

use crate::report::printable;
use crate::statistics::Difference;
use crate::{Report, RunResults};

/// Two results side by side: the figures, the changes, and with repeated runs whether a change is certain.
#[derive(Debug)]
pub struct Comparison<'c> {
    before: &'c Report,
    after: &'c Report,
}

/// A figure that is compared: its name, whether more is better, and its value in a run.
type Figure = (&'static str, bool, fn(&RunResults) -> f64);

/// Whether a run has response times.
fn has_times(run: &RunResults) -> bool {
    run.response_times.maximum > 0.0
}

const FIGURES: [Figure; 7] = [
    ("requests/s", true, |run| run.requests_per_second),
    ("failed", false, |run| run.failed as f64),
    ("average ms", false, |run| run.response_times.average),
    ("p50 ms", false, |run| run.response_times.p50),
    ("p90 ms", false, |run| run.response_times.p90),
    ("p99 ms", false, |run| run.response_times.p99),
    ("maximum ms", false, |run| run.response_times.maximum),
];

impl<'c> Comparison<'c> {
    /// Compares two results. Changes are relative to the figures of `before`.
    pub fn new(before: &'c Report, after: &'c Report) -> Self {
        Comparison { before, after }
    }

    /// The figures that are worse by more than `percent`, in words. With repeated runs on both sides only what is certain
    /// counts; with single runs, every difference counts. The longest response time is left out: one request decides it.
    pub fn worse_by(&self, percent: f64) -> Vec<String> {
        let has_times = self.has_times();
        let figures =
            FIGURES.iter().filter(|(name, ..)| *name != "maximum ms" && (has_times || !name.ends_with(" ms")));
        let worse = figures.filter_map(|(name, more_is_better, value)| {
            let (before, after) = self.values(*value);
            let Some(found) = Difference::of(&before, &after) else {
                // A first failure is worse than none, by any percentage.
                let failed = *name == "failed" && after.iter().sum::<f64>() > 0.0;
                return failed.then(|| format!("{name}: {} after none", after.iter().sum::<f64>()));
            };
            let worsened = if *more_is_better { -found.relative } else { found.relative };
            let counts = found.margin.is_none() || found.is_certain();
            (counts && worsened * 100.0 > percent).then(|| format!("{name}: {:+.1} %", found.relative * 100.0))
        });
        worse.collect()
    }

    fn values(&self, value: fn(&RunResults) -> f64) -> (Vec<f64>, Vec<f64>) {
        let of = |report: &Report| report.each_run().iter().map(value).collect();
        (of(self.before), of(self.after))
    }

    /// Whether all runs have response times.
    fn has_times(&self) -> bool {
        let all = [self.before, self.after];
        all.iter().all(|report| report.each_run().iter().all(has_times))
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { before, after } = self;
        writeln!(f, "  {:<24} {:>12} {:>12}", "compared", "before", "after")?;
        if load(before) != load(after) {
            writeln!(f, "  (not the same load: {} and {})", load(before), load(after))?;
        }
        if before.failed + after.failed > 0 {
            writeln!(f, "  (the rates include failed requests, which can be quick)")?;
        }
        let mut has_margins = false;
        for (name, _, value) in FIGURES {
            if name.ends_with(" ms") && !self.has_times() {
                continue;
            }
            let (was, is) = self.values(value);
            let average = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let (first, second) = (average(&was), average(&is));
            write!(f, "  {name:<24} {first:>12.2} {second:>12.2}")?;
            if let Some(found) = Difference::of(&was, &is).filter(|found| found.relative != 0.0) {
                write!(f, "  {:+.1} %", 100.0 * found.relative)?;
                if let Some(margin) = found.margin {
                    has_margins = true;
                    let word = if found.is_certain() { "" } else { ", may be chance" };
                    write!(f, " (\u{b1} {:.1} %{word})", 100.0 * margin)?;
                }
            }
            writeln!(f)?;
        }
        match has_margins {
            true => writeln!(
                f,
                "  (averages of {} and {} runs; \u{b1}: with a confidence of 95 %)",
                before.each_run().len(),
                after.each_run().len()
            )?,
            false => writeln!(f, "  (single runs: repeat them with --runs to tell a difference from chance)")?,
        }
        let names: BTreeMap<&String, ()> =
            before.backends.keys().chain(after.backends.keys()).map(|name| (name, ())).collect();
        for name in names.keys() {
            writeln!(f, "  {:<24} {:>10.1} % {:>10.1} %", printable(name), share(before, name), share(after, name))?;
        }
        Ok(())
    }
}

/// A description of the load of a run.
fn load(report: &Report) -> String {
    let extent = match report.duration_limit_seconds {
        Some(seconds) => format!("{seconds} seconds"),
        None => format!("{} requests", report.each_run().first().map_or(0, |run| run.requests)),
    };
    let pace = report.rate.map_or(String::new(), |rate| format!(" and {rate} requests/s"));
    format!("{extent} at concurrency {}{pace} to {}", report.concurrency, printable(&report.url))
}

fn share(report: &Report, backend: &str) -> f64 {
    100.0 * report.backends.get(backend).copied().unwrap_or(0) as f64 / report.requests.max(1) as f64
}
