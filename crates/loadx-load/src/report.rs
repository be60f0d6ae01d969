//! The results of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The results of a run. This is also the JSON that `--output` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The URL of the requests.
    pub url: String,
    /// Requests that were sent and have ended.
    pub requests: u64,
    /// The most requests under way at the same time.
    pub concurrency: usize,
    /// The time from the first request to the last response, in seconds.
    pub duration_seconds: f64,
    /// Requests per second, successful or failed.
    pub requests_per_second: f64,
    /// Complete responses with a status below 500.
    pub successful: u64,
    /// Requests without a complete response, or with a status of 500 and above.
    pub failed: u64,
    /// Requests without a complete response, by kind of failure.
    pub errors: BTreeMap<String, u64>,
    /// Complete responses, by status.
    pub status_codes: BTreeMap<u16, u64>,
    /// Complete responses, by the X-Backend field; responses without the field are not counted here.
    pub backends: BTreeMap<String, u64>,
    /// The content of all responses, in bytes.
    pub content_bytes: u64,
    /// Requests that the client sent again because the server had closed the idle connection.
    pub reconnects: u64,
    /// Response times of complete responses, in milliseconds: since sending, or with a rate since the scheduled moment.
    pub response_times: Latency,
    /// The requests per second of an open loop; `None` for a closed loop.
    // Files of earlier versions lack the keys from here on, and can still be compared.
    #[serde(default)]
    pub rate: Option<f64>,
    /// The limit of the duration, in seconds; `None` without a limit.
    #[serde(default)]
    pub duration_limit_seconds: Option<f64>,
    /// Requests that were sent more than a millisecond after their scheduled moment.
    #[serde(default)]
    pub started_late: u64,
    /// Requests whose scheduled moment came, and that were not sent because no connection was free until the end.
    #[serde(default)]
    pub unsent: u64,
    /// Whether the run was stopped before its end.
    #[serde(default)]
    pub interrupted: bool,
    /// Requests that were under way when the run was stopped.
    #[serde(default)]
    pub unfinished: u64,
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests to {} at concurrency {}", self.requests, self.url, self.concurrency)?;
        writeln!(f, "  time         {:.3} s", self.duration_seconds)?;
        writeln!(f, "  rate         {:.1} requests/s", self.requests_per_second)?;
        if let Some(rate) = self.rate {
            let (late, unsent) = (self.started_late, self.unsent);
            writeln!(f, "  schedule     {rate} requests/s, {late} started late, {unsent} not sent")?;
        }
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
        if self.interrupted {
            writeln!(f, "  interrupted  requests under way, which are not counted above: {}", self.unfinished)?;
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
