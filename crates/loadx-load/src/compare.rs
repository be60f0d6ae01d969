//! Compares two results.

use std::collections::BTreeMap;
use std::fmt;

use crate::Report;

/// Two results side by side: the figures and the changes, without a rating.
#[derive(Debug)]
pub struct Comparison<'c> {
    before: &'c Report,
    after: &'c Report,
}

impl<'c> Comparison<'c> {
    /// Compares two results. Changes are relative to the figures of `before`.
    pub fn new(before: &'c Report, after: &'c Report) -> Self {
        Comparison { before, after }
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
        row(f, "requests/s", before.requests_per_second, after.requests_per_second)?;
        row(f, "failed", before.failed as f64, after.failed as f64)?;
        let (was, is) = (&before.response_times, &after.response_times);
        for (name, was, is) in [
            ("average ms", was.average, is.average),
            ("p50 ms", was.p50, is.p50),
            ("p90 ms", was.p90, is.p90),
            ("p99 ms", was.p99, is.p99),
            ("maximum ms", was.maximum, is.maximum),
        ] {
            row(f, name, was, is)?;
        }
        let names: BTreeMap<&String, ()> =
            before.backends.keys().chain(after.backends.keys()).map(|name| (name, ())).collect();
        for name in names.keys() {
            writeln!(f, "  {name:<24} {:>10.1} % {:>10.1} %", share(before, name), share(after, name))?;
        }
        Ok(())
    }
}

/// A description of the load of a run.
fn load(report: &Report) -> String {
    let extent = match report.duration_limit_seconds {
        Some(seconds) => format!("{seconds} seconds"),
        None => format!("{} requests", report.requests),
    };
    let pace = report.rate.map_or(String::new(), |rate| format!(" and {rate} requests/s"));
    format!("{extent} at concurrency {}{pace} to {}", report.concurrency, report.url)
}

fn share(report: &Report, backend: &str) -> f64 {
    100.0 * report.backends.get(backend).copied().unwrap_or(0) as f64 / report.requests.max(1) as f64
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, before: f64, after: f64) -> fmt::Result {
    write!(f, "  {name:<24} {before:>12.2} {after:>12.2}")?;
    if before > 0.0 && after != before {
        write!(f, "  {:+.1} %", 100.0 * (after - before) / before)?;
    }
    writeln!(f)
}
