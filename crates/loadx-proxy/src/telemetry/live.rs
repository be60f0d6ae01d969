//! What happened between two measurements, for pages that show LoadX live.

use loadx_core::{BackendId, ClusterId, ListenerId, RouteId};
use serde::Serialize;

use super::counters::Shard;
use super::json::{ms, round};
use super::latency::{BOUNDS_US, Latency};

/// Two measurements, and the seconds between them.
#[derive(Debug)]
pub(crate) struct Between<'m> {
    pub(crate) before: &'m Shard,
    pub(crate) now: &'m Shard,
    pub(crate) seconds: f64,
}

/// Requests and their durations, per second and in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Requests per second.
    rate: f64,
    /// Errors per second.
    errors: f64,
    p50: f64,
    p90: f64,
    p99: f64,
}

/// The requests of a backend.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BackendFigures {
    rate: f64,
    errors: f64,
    /// The average duration in milliseconds; `null` without requests.
    average: Option<f64>,
}

impl Between<'_> {
    /// All requests of clients.
    pub(crate) fn total(&self) -> Figures {
        let requests = self.now.requests.saturating_sub(self.before.requests);
        let errors = self.now.errors.saturating_sub(self.before.errors);
        self.figures(requests, errors, &self.now.latency, &self.before.latency)
    }

    pub(crate) fn cluster(&self, id: ClusterId) -> Figures {
        let (now, before) = (self.now.cluster(id), self.before.cluster(id));
        let requests = now.requests().saturating_sub(before.requests());
        self.figures(requests, now.errors.saturating_sub(before.errors), &now.latency, &before.latency)
    }

    pub(crate) fn backend(&self, id: BackendId) -> BackendFigures {
        let zero = (0, 0, 0);
        let of = |shard: &Shard| {
            let counts = shard.backends.get(&id);
            counts.map_or(zero, |counts| (counts.requests(), counts.errors, counts.latency_sum_us))
        };
        let ((requests, errors, sum), (requests_before, errors_before, sum_before)) = (of(self.now), of(self.before));
        let requests = requests.saturating_sub(requests_before);
        let average = (requests > 0).then(|| sum.saturating_sub(sum_before) as f64 / requests as f64 / 1_000.0);
        BackendFigures {
            rate: self.rate(requests),
            errors: self.rate(errors.saturating_sub(errors_before)),
            average: average.map(|average| round(average, 3)),
        }
    }

    /// Requests per second of a listener.
    pub(crate) fn listener(&self, id: ListenerId) -> f64 {
        let of = |shard: &Shard| shard.listeners.get(id.number()).map_or(0, |counts| counts.requests.total());
        self.rate(of(self.now).saturating_sub(of(self.before)))
    }

    /// Requests per second of a route.
    pub(crate) fn route(&self, id: RouteId) -> f64 {
        let of = |shard: &Shard| shard.routes.get(id.number()).map_or(0, |counts| counts.requests.total());
        self.rate(of(self.now).saturating_sub(of(self.before)))
    }

    /// The requests to clusters by their duration: up to each of [`bounds`], and above the last one.
    pub(crate) fn heat(&self, clusters: &[ClusterId]) -> Vec<u64> {
        let mut counts = vec![0; BOUNDS_US.len() + 1];
        for id in clusters {
            let (now, before) = (self.now.cluster(*id), self.before.cluster(*id));
            for (place, count) in counts.iter_mut().enumerate() {
                *count += now.buckets.counts[place].saturating_sub(before.buckets.counts[place]);
            }
        }
        counts
    }

    fn rate(&self, count: u64) -> f64 {
        round(count as f64 / self.seconds, 1)
    }

    fn figures(&self, requests: u64, errors: u64, now: &Latency, before: &Latency) -> Figures {
        let mut times = now.histogram.clone();
        // A worker that did not answer in time is missing in one of the two.
        let is_right = times.subtract(&before.histogram).is_ok();
        let quantile = |share| if is_right && !times.is_empty() { ms(times.value_at_quantile(share)) } else { 0.0 };
        Figures {
            rate: self.rate(requests),
            errors: self.rate(errors),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
        }
    }
}

/// The bounds of [`Between::heat`], in milliseconds.
pub(crate) fn bounds() -> Vec<f64> {
    BOUNDS_US.iter().map(|bound| *bound as f64 / 1_000.0).collect()
}
