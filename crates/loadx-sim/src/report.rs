//! The results of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The results of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests without a response: no backend was left to try, the response came too late, or the request could not be
    /// sent again.
    pub failed: u64,
    /// The failed requests, by the status of the error response.
    pub failures: BTreeMap<u16, u64>,
    /// The number of attempts at another backend after a failed attempt.
    pub retries: u64,
    /// The response times of answered requests.
    pub latency: Latency,
    /// The results of each backend, in the order of the scenario.
    pub backends: Vec<BackendReport>,
    /// The changes of backends, with their times.
    pub timeline: Vec<TimelineEntry>,
    /// The reasons why these results may mislead.
    pub warnings: Vec<String>,
}

/// The response times of a run.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub mean: Duration,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub p99_9: Duration,
    pub max: Duration,
}

/// The results of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendReport {
    /// The name of the backend.
    pub name: Arc<str>,
    /// The requests that the backend answered.
    pub answered: u64,
    /// The most exchanges that the backend had at the same time, waiting exchanges included.
    pub most_at_once: u32,
}

/// A change of a backend, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// The time since the start of the run.
    pub at: Duration,
    /// The change, in the words of the log.
    pub what: String,
}

/// The response times of a run, in bounded memory for any number of requests. Mean and maximum are exact, quantiles
/// have three digits.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// The response times, in microseconds.
    histogram: Histogram<u64>,
    sum: Duration,
    max: Duration,
}

impl Latencies {
    /// The longest response time that the histogram distinguishes, in microseconds: one day.
    const MAX_US: u64 = 86_400_000_000;

    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::MAX_US, 3).expect("the bounds are sound");
        Latencies { histogram, sum: Duration::ZERO, max: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(Self::MAX_US).max(1));
        self.sum += took;
        self.max = self.max.max(took);
    }

    pub(crate) fn summary(&self) -> Latency {
        if self.histogram.is_empty() {
            return Latency::default();
        }
        let quantile = |q| Duration::from_micros(self.histogram.value_at_quantile(q)).min(self.max);
        Latency {
            mean: self.sum.div_f64(self.histogram.len() as f64),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: self.max,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |span: Duration| span.as_secs_f64() * 1_000.0;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        writeln!(f, "{} requests, {} failed, {} retries", self.requests, self.failed, self.retries)?;
        for (status, count) in &self.failures {
            writeln!(f, "  failed     {count} with status {status}")?;
        }
        let Latency { mean, p50, p90, p99, p99_9, max } = self.latency;
        writeln!(
            f,
            "  response   mean {:.2} ms, p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
            ms(mean),
            ms(p50),
            ms(p90),
            ms(p99),
            ms(p99_9),
            ms(max)
        )?;
        let answered = (self.requests - self.failed).max(1) as f64;
        writeln!(f, "  backends")?;
        for BackendReport { name, answered: own, most_at_once } in &self.backends {
            let share = 100.0 * *own as f64 / answered;
            writeln!(f, "    {name:<24} {own:>9}  {share:5.1} %   at most {most_at_once} at once")?;
        }
        for TimelineEntry { at, what } in &self.timeline {
            writeln!(f, "  {:>9.3} s  {what}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
