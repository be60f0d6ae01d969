//! The counts of a run in progress.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::{Schedule, Share};
use crate::timeline::Timeline;
use crate::{Answer, Course, Latency, Outcome, Plan, Report};

/// The longest response time that the histogram distinguishes, in microseconds: one hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// A request has started late if it is sent later than this after its scheduled moment. A shorter delay comes from the
/// load generator itself.
const LATE: Duration = Duration::from_millis(1);

/// The most names of backends that are counted.
const BACKENDS_MAX: usize = 1_000;

/// The shares of requests at which a report tells the response time, beside the named percentiles.
const SHARES: [f64; 24] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5, 98.0, 99.0, 99.5, 99.75,
    99.9, 99.95, 99.99, 99.999, 100.0,
];

/// The counts of a run in progress.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    warm_up: Duration,
    /// Requests that ended, those of the warm-up included.
    all: u64,
    done: u64,
    errors: BTreeMap<String, u64>,
    status_codes: BTreeMap<u16, u64>,
    /// The last status, so that a run of equal statuses needs no look-up.
    last_status: (u16, u64),
    backends: BTreeMap<String, u64>,
    content_bytes: u64,
    latency: Histogram<u64>,
    /// The times since requests were sent; only in an open loop.
    uncorrected: Option<Histogram<u64>>,
    timeline: Timeline,
    reconnects: u64,
    started_late: u64,
}

impl Tally {
    pub(crate) fn new(plan: &Plan) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are sound");
        Tally {
            warm_up: plan.warm_up,
            all: 0,
            done: 0,
            errors: BTreeMap::new(),
            status_codes: BTreeMap::new(),
            last_status: (0, 0),
            backends: BTreeMap::new(),
            content_bytes: 0,
            latency: histogram(),
            uncorrected: plan.rate.map(|_| histogram()),
            timeline: Timeline::new(),
            reconnects: 0,
            started_late: 0,
        }
    }

    /// Requests that ended, those of the warm-up included.
    pub(crate) fn all(&self) -> u64 {
        self.all
    }

    pub(crate) fn record(&mut self, outcome: &Outcome<'_>) {
        self.all += 1;
        let Some(at) = outcome.at.checked_sub(self.warm_up) else { return };
        self.done += 1;
        self.reconnects += u64::from(outcome.reconnected);
        self.started_late += u64::from(outcome.late > LATE);
        let took_us = (outcome.took.as_micros() as u64).max(1);
        let ended = at + outcome.took;
        match &outcome.result {
            Err(failure) => {
                *self.errors.entry(failure.kind()).or_default() += 1;
                self.timeline.record(ended, None);
            }
            Ok(answer) => {
                self.record_answer(answer);
                self.latency.saturating_record(took_us);
                if let Some(uncorrected) = &mut self.uncorrected {
                    let sent = outcome.took.saturating_sub(outcome.late);
                    uncorrected.saturating_record((sent.as_micros() as u64).max(1));
                }
                self.timeline.record(ended, Some(took_us).filter(|_| answer.status < 500));
            }
        }
    }

    fn record_answer(&mut self, answer: &Answer<'_>) {
        if answer.status != self.last_status.0 {
            let (status, count) = std::mem::replace(&mut self.last_status, (answer.status, 0));
            *self.status_codes.entry(status).or_default() += count;
        }
        self.last_status.1 += 1;
        if let Some(backend) = answer.backend {
            // Looks the name up by reference first, so that a name is copied once and not for each request.
            let is_full = self.backends.len() >= BACKENDS_MAX;
            match self.backends.get_mut(backend) {
                Some(count) => *count += 1,
                // A server could name a backend of its own in each response.
                None if is_full => {}
                None => drop(self.backends.insert(backend.to_owned(), 1)),
            }
        }
        self.content_bytes += answer.content_bytes;
    }

    /// Complete responses by status.
    fn statuses(&self) -> BTreeMap<u16, u64> {
        let mut statuses = self.status_codes.clone();
        *statuses.entry(self.last_status.0).or_default() += self.last_status.1;
        statuses.retain(|_, count| *count > 0);
        statuses
    }

    pub(crate) fn failed(&self) -> u64 {
        let refused: u64 = self.statuses().range(500..).map(|(_, count)| count).sum();
        self.errors.values().sum::<u64>() + refused
    }

    /// Adds the counts of another thread of the same run.
    pub(crate) fn join(&mut self, other: &Tally) {
        self.timeline.add(&other.timeline);
        self.add(other);
    }

    /// Adds the counts of a later run; `took` is the time of the runs before, without warm-ups.
    pub(crate) fn follow(&mut self, later: &Tally, took: Duration) {
        match took {
            Duration::ZERO => self.timeline.add(&later.timeline),
            took => self.timeline.follow(&later.timeline, took),
        }
        self.add(later);
    }

    fn add(&mut self, other: &Tally) {
        self.all += other.all;
        self.done += other.done;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        for (status, count) in other.statuses() {
            *self.status_codes.entry(status).or_default() += count;
        }
        for (name, count) in &other.backends {
            *self.backends.entry(name.clone()).or_default() += count;
        }
        self.content_bytes += other.content_bytes;
        self.latency.add(&other.latency).expect("the bounds are the same");
        if let (Some(mine), Some(theirs)) = (&mut self.uncorrected, &other.uncorrected) {
            mine.add(theirs).expect("the bounds are the same");
        }
        self.reconnects += other.reconnects;
        self.started_late += other.started_late;
    }

    /// `measured`: the time of the run without its warm-up, or of all runs together.
    pub(crate) fn report(&self, plan: &Plan, course: &Course, measured: Duration) -> Report {
        let failed = self.failed();
        let seconds = measured.as_secs_f64().max(f64::MIN_POSITIVE);
        Report {
            version: 1,
            url: plan.url(),
            requests: self.done,
            concurrency: plan.concurrency,
            threads: plan.threads,
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            duration_seconds: round(seconds, 3),
            requests_per_second: round(self.done as f64 / seconds, 1),
            successful: self.done - failed,
            failed,
            errors: self.errors.clone(),
            status_codes: self.statuses(),
            backends: self.backends.clone(),
            content_bytes: self.content_bytes,
            reconnects: self.reconnects,
            response_times: response_times(&self.latency),
            response_times_since_sent: self.uncorrected.as_ref().map(response_times),
            distribution: shares(&self.latency),
            distribution_since_sent: self.uncorrected.as_ref().map(shares).unwrap_or_default(),
            timeline: self.timeline.points(measured),
            rate: plan.rate,
            schedule: plan.rate.map(|rate| Schedule::new(rate, course)),
            duration_limit_seconds: plan.duration.map(|duration| duration.as_secs_f64()),
            started_late: self.started_late,
            unsent: course.unsent,
            interrupted: course.interrupted,
            unfinished: course.unfinished,
            runs: Vec::new(),
        }
    }

    /// The response time that this share of the requests did not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1_000.0
    }

    /// Bounds in milliseconds, and the number of response times above the bound before and up to each bound: about ten.
    pub(crate) fn histogram(&self) -> Vec<(f64, u64)> {
        let bounds = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, f64::INFINITY];
        let mut below = 0;
        let counted = bounds.map(|bound: f64| {
            let up_to = match bound.is_finite() {
                true => self.latency.count_between(0, (bound * 1_000.0) as u64),
                false => self.latency.len(),
            };
            let count = up_to - below;
            below = up_to;
            (bound, count)
        });
        let first = counted.iter().position(|(_, count)| *count > 0).unwrap_or(0);
        let last = counted.iter().rposition(|(_, count)| *count > 0).unwrap_or(0);
        counted[first..=last].to_vec()
    }
}

fn response_times(times: &Histogram<u64>) -> Latency {
    let ms = |us: f64| round(us / 1_000.0, 3);
    let quantile = |q| ms(times.value_at_quantile(q) as f64);
    Latency {
        average: ms(times.mean()),
        minimum: ms(times.min() as f64),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p95: quantile(0.95),
        p99: quantile(0.99),
        p99_9: quantile(0.999),
        maximum: ms(times.max() as f64),
    }
}

fn shares(times: &Histogram<u64>) -> Vec<Share> {
    let share =
        |percent: f64| Share { percent, ms: round(times.value_at_quantile(percent / 100.0) as f64 / 1_000.0, 3) };
    SHARES.map(share).to_vec()
}

pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
