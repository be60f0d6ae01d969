//! The counts of a run in progress.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{Answer, Course, Latency, Outcome, Plan, Report};

/// The longest response time that the histogram distinguishes, in microseconds: one hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// A request has started late if it is sent later than this after its scheduled moment. A shorter delay comes from the
/// load generator itself.
const LATE: Duration = Duration::from_millis(1);

/// The counts of a run in progress.
pub(crate) struct Tally {
    done: u64,
    errors: BTreeMap<String, u64>,
    status_codes: BTreeMap<u16, u64>,
    backends: BTreeMap<String, u64>,
    content_bytes: u64,
    latency: Histogram<u64>,
    reconnects: u64,
    started_late: u64,
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
            started_late: 0,
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn record(&mut self, outcome: &Outcome<'_>) {
        self.done += 1;
        self.reconnects += u64::from(outcome.reconnected);
        self.started_late += u64::from(outcome.late > LATE);
        match &outcome.result {
            Err(failure) => *self.errors.entry(failure.kind()).or_default() += 1,
            Ok(answer) => self.record_answer(answer, outcome.took),
        }
    }

    fn record_answer(&mut self, answer: &Answer<'_>, took: Duration) {
        *self.status_codes.entry(answer.status).or_default() += 1;
        if let Some(backend) = answer.backend {
            // Looks the name up by reference first, so that a name is copied once and not for each request.
            match self.backends.get_mut(backend) {
                Some(count) => *count += 1,
                None => drop(self.backends.insert(backend.to_owned(), 1)),
            }
        }
        self.content_bytes += answer.content_bytes;
        self.latency.saturating_record((took.as_micros() as u64).max(1));
    }

    pub(crate) fn report(&self, plan: &Plan, course: &Course) -> Report {
        let broken: u64 = self.errors.values().sum();
        let refused: u64 = self.status_codes.range(500..).map(|(_, count)| count).sum();
        let seconds = course.took.as_secs_f64();
        Report {
            url: plan.target.to_string(),
            requests: self.done,
            concurrency: plan.concurrency,
            duration_seconds: round(seconds, 3),
            requests_per_second: round(self.done as f64 / seconds, 1),
            successful: self.done - broken - refused,
            failed: broken + refused,
            errors: self.errors.clone(),
            status_codes: self.status_codes.clone(),
            backends: self.backends.clone(),
            content_bytes: self.content_bytes,
            reconnects: self.reconnects,
            response_times: self.response_times(),
            rate: plan.rate,
            duration_limit_seconds: plan.duration.map(|duration| duration.as_secs_f64()),
            started_late: self.started_late,
            unsent: course.unsent,
            interrupted: course.interrupted,
            unfinished: course.unfinished,
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
