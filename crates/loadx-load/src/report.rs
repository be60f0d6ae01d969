//! The results of a run, as text and as JSON. docs/bench.md describes the JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Course;
use crate::tally::round;

/// The results of a run. This is also the JSON that `--output` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The version of this format.
    #[serde(default)]
    pub version: u32,
    /// The URL of the requests; of several, the first.
    pub url: String,
    /// Requests that were sent and have ended, without those of the warm-up.
    pub requests: u64,
    /// The most requests under way at the same time.
    pub concurrency: usize,
    /// The threads that sent.
    #[serde(default)]
    pub threads: usize,
    /// The time at the start that does not count, in seconds.
    #[serde(default)]
    pub warm_up_seconds: f64,
    /// The time from the end of the warm-up to the last response, in seconds.
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
    // Files of earlier versions lack the keys from here on, and can still be compared.
    /// With a rate, the response times since requests were sent, which hide how long requests waited to be sent.
    #[serde(default)]
    pub response_times_since_sent: Option<Latency>,
    /// The response time at many shares of the requests.
    #[serde(default)]
    pub distribution: Vec<Share>,
    /// The same since requests were sent, with a rate.
    #[serde(default)]
    pub distribution_since_sent: Vec<Share>,
    /// The results of each second, or of each few seconds of a long run.
    #[serde(default)]
    pub timeline: Vec<Moment>,
    /// The requests per second of an open loop; `None` for a closed loop.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How the schedule of an open loop was kept.
    #[serde(default)]
    pub schedule: Option<Schedule>,
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
    /// The results of each run, when there were several.
    #[serde(default)]
    pub runs: Vec<RunResults>,
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

/// The response time that a share of the requests did not exceed.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// The share of the requests, in percent.
    pub percent: f64,
    /// The response time, in milliseconds.
    pub ms: f64,
}

/// The results of a second, or of a few.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct Moment {
    /// The seconds from the end of the warm-up to the beginning of this second.
    pub second: u64,
    /// Requests that ended, per second.
    pub requests_per_second: f64,
    /// Requests that failed.
    pub failed: u64,
    /// The response time that half of the requests did not exceed, in milliseconds; `None` without a complete response.
    pub p50: Option<f64>,
    /// The same for 99 percent.
    pub p99: Option<f64>,
    /// The longest response time, in milliseconds.
    pub maximum: Option<f64>,
}

/// How the schedule of an open loop was kept.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// The intended requests per second.
    pub rate: f64,
    /// The requests per second that were sent.
    pub sent_rate: f64,
    /// Requests that were sent, those of the warm-up included.
    pub sent: u64,
    /// Requests that were due and were not sent.
    pub unsent: u64,
    /// How long after its scheduled moment the last request was sent, in milliseconds.
    pub behind: f64,
}

/// The results of one of several runs.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct RunResults {
    /// Requests that have ended.
    pub requests: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Response times, as in the report.
    pub response_times: Latency,
}

/// The largest difference from the intended rate at which a schedule counts as kept.
const RATE_TOLERANCE: f64 = 0.001;

/// The delay of the last request, in milliseconds, with which a schedule counts as kept whatever the rate.
const BEHIND_MAX_MS: f64 = 1.0;

impl Schedule {
    pub(crate) fn new(rate: f64, course: &Course) -> Self {
        let behind = round(course.behind.as_secs_f64() * 1_000.0, 3);
        Schedule { rate, sent_rate: round(course.sent_rate, 3), sent: course.started, unsent: course.unsent, behind }
    }

    /// Whether the requests were sent at the intended rate, within 0.1 percent. In a short run a millisecond is more than that.
    pub fn is_kept(&self) -> bool {
        let is_near = (self.sent_rate - self.rate).abs() <= RATE_TOLERANCE * self.rate;
        let are_sent = self.unsent as f64 <= RATE_TOLERANCE * (self.sent + self.unsent) as f64;
        are_sent && (is_near || self.behind <= BEHIND_MAX_MS)
    }
}

impl RunResults {
    pub(crate) fn of(report: &Report) -> Self {
        let Report { requests, failed, requests_per_second, response_times, .. } = *report;
        RunResults { requests, failed, requests_per_second, response_times }
    }
}

impl Report {
    /// The results of each run; of a single run, its own.
    pub(crate) fn each_run(&self) -> Vec<RunResults> {
        if self.runs.is_empty() { vec![RunResults::of(self)] } else { self.runs.clone() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests to {} at concurrency {}", self.requests, self.url, self.concurrency)?;
        match self.warm_up_seconds {
            0.0 => writeln!(f, "  time         {:.3} s", self.duration_seconds)?,
            warm_up => writeln!(f, "  time         {:.3} s, after {warm_up} s of warm-up", self.duration_seconds)?,
        }
        writeln!(f, "  rate         {:.1} requests/s", self.requests_per_second)?;
        if let Some(rate) = self.rate {
            let (late, unsent) = (self.started_late, self.unsent);
            writeln!(f, "  schedule     {rate} requests/s, {late} started late, {unsent} not sent")?;
        }
        if let Some(schedule) = self.schedule.filter(|schedule| !schedule.is_kept() && !self.interrupted) {
            let off = 100.0 * (schedule.sent_rate - schedule.rate) / schedule.rate;
            writeln!(
                f,
                "  NOT KEPT     {:.1} requests/s were sent, {off:+.2} %: more connections (--concurrency) or threads (--threads) may help",
                schedule.sent_rate
            )?;
        }
        writeln!(f, "  successful   {}", self.successful)?;
        writeln!(f, "  failed       {}", self.failed)?;
        if self.status_codes.is_empty() {
            return self.rest(f);
        }
        latency(f, "response", &self.response_times)?;
        if let Some(since_sent) = &self.response_times_since_sent {
            writeln!(f, "  since sent, without the time that requests waited to be sent:")?;
            latency(f, "response", since_sent)?;
        }
        for (number, run) in self.runs.iter().enumerate() {
            let RunResults { requests, failed, requests_per_second, response_times } = run;
            let Latency { p50, p99, .. } = response_times;
            writeln!(
                f,
                "  run {:<8} {requests} requests, {failed} failed, {requests_per_second:.1} requests/s, p50 {p50:.3} ms, p99 {p99:.3}",
                number + 1
            )?;
        }
        self.rest(f)
    }
}

impl Report {
    /// What stands below the response times.
    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// Without characters that could change a terminal: servers choose some of these texts.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn latency(f: &mut fmt::Formatter<'_>, title: &str, times: &Latency) -> fmt::Result {
    let Latency { average, minimum, p50, p90, p95, p99, p99_9, maximum } = times;
    writeln!(f, "  {title:<12} average {average:.3} ms, minimum {minimum:.3}, maximum {maximum:.3}")?;
    writeln!(f, "  percentiles  p50 {p50:.3} ms, p90 {p90:.3}, p95 {p95:.3}, p99 {p99:.3}, p99.9 {p99_9:.3}")
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
        writeln!(f, "    {:<24} {count:>8}  {share:5.1} %", printable(&key.to_string()))?;
    }
    Ok(())
}
