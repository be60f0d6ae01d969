//! What a run came to: for eyes, and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::client::{Answer, Exchange};

/// The longest response time that is told apart, in microseconds: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// The results of a run. This is also the JSON that `--output` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where requests were sent.
    pub url: String,
    /// Requests that were sent.
    pub requests: u64,
    /// Requests under way at the same time.
    pub concurrency: usize,
    /// From the first request to the last response, in seconds.
    pub duration_seconds: f64,
    /// Requests a second, whatever came of them.
    pub requests_per_second: f64,
    /// Whole responses with a status below 500.
    pub successful: u64,
    /// All others: no whole response, or a status of 500 and above.
    pub failed: u64,
    /// Requests without a whole response, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Whole responses, by status.
    pub status_codes: BTreeMap<u16, u64>,
    /// Whole responses, by the X-Backend field; those without it are not here.
    pub backends: BTreeMap<String, u64>,
    /// Content of all responses, in bytes.
    pub content_bytes: u64,
    /// Requests that went out again because the server had closed the idle connection.
    pub reconnects: u64,
    /// Response times of whole responses, in milliseconds.
    pub response_times: Latency,
}

/// Response times, in milliseconds.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub average: f64,
    pub minimum: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    pub maximum: f64,
}

/// What is counted while a run goes on.
pub(crate) struct Tally {
    done: u64,
    errors: BTreeMap<String, u64>,
    status_codes: BTreeMap<u16, u64>,
    backends: BTreeMap<String, u64>,
    content_bytes: u64,
    latency: Histogram<u64>,
    pub(crate) reconnects: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Tally {
            done: 0,
            errors: BTreeMap::new(),
            status_codes: BTreeMap::new(),
            backends: BTreeMap::new(),
            content_bytes: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are sound"),
            reconnects: 0,
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn record(&mut self, exchange: Exchange) {
        match exchange.result {
            Err(failure) => self.record_error(failure.kind()),
            Ok(Answer { status, backend, bytes }) => {
                self.done += 1;
                *self.status_codes.entry(status).or_default() += 1;
                if let Some(backend) = backend {
                    *self.backends.entry(backend).or_default() += 1;
                }
                self.content_bytes += bytes;
                self.latency.saturating_record((exchange.took.as_micros() as u64).max(1));
            }
        }
    }

    pub(crate) fn record_error(&mut self, kind: String) {
        self.done += 1;
        *self.errors.entry(kind).or_default() += 1;
    }

    pub(crate) fn report(&self, plan: &Plan, took: Duration) -> Report {
        let broken: u64 = self.errors.values().sum();
        let refused: u64 = self.status_codes.range(500..).map(|(_, count)| count).sum();
        Report {
            url: plan.target.to_string(),
            requests: self.done,
            concurrency: plan.concurrency,
            duration_seconds: round(took.as_secs_f64(), 3),
            requests_per_second: round(self.done as f64 / took.as_secs_f64(), 1),
            successful: self.done - broken - refused,
            failed: broken + refused,
            errors: self.errors.clone(),
            status_codes: self.status_codes.clone(),
            backends: self.backends.clone(),
            content_bytes: self.content_bytes,
            reconnects: self.reconnects,
            response_times: self.response_times(),
        }
    }

    fn response_times(&self) -> Latency {
        let ms = |us: f64| round(us / 1_000.0, 3);
        let quantile = |q| ms(self.latency.value_at_quantile(q) as f64);
        Latency {
            average: ms(self.latency.mean()),
            minimum: ms(self.latency.min() as f64),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            maximum: ms(self.latency.max() as f64),
        }
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests to {} at concurrency {}", self.requests, self.url, self.concurrency)?;
        writeln!(f, "  time         {:.3} s", self.duration_seconds)?;
        writeln!(f, "  rate         {:.1} requests/s", self.requests_per_second)?;
        writeln!(f, "  successful   {}", self.successful)?;
        writeln!(f, "  failed       {}", self.failed)?;
        let Latency { average, minimum, p50, p90, p95, p99, p99_9, maximum } = self.response_times;
        writeln!(f, "  response     average {average:.3} ms, minimum {minimum:.3}, maximum {maximum:.3}")?;
        writeln!(f, "  percentiles  p50 {p50:.3} ms, p90 {p90:.3}, p95 {p95:.3}, p99 {p99:.3}, p99.9 {p99_9:.3}")?;
        list(f, "status codes", self.status_codes.iter(), self.requests)?;
        list(f, "backends", self.backends.iter(), self.requests)?;
        list(f, "errors", self.errors.iter(), self.requests)?;
        if self.reconnects > 0 {
            writeln!(f, "  reconnects   {} (the server had closed the idle connection)", self.reconnects)?;
        }
        Ok(())
    }
}

fn list<K: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    counts: impl ExactSizeIterator<Item = (K, impl std::borrow::Borrow<u64>)>,
    of: u64,
) -> fmt::Result {
    if counts.len() > 0 {
        writeln!(f, "  {title}")?;
    }
    for (key, count) in counts {
        let count = *count.borrow();
        let share = 100.0 * count as f64 / of.max(1) as f64;
        writeln!(f, "    {key:<24} {count:>8}  {share:5.1} %")?;
    }
    Ok(())
}
