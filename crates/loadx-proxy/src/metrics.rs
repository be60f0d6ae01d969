//! What a worker counts, and what the counts of all workers say together.
//!
//! A shard belongs to one worker and is written without atomics; control asks for copies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadx_core::{Backend, BackendId, ClusterId, Time};

/// The longest response time that is told apart, in microseconds: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Recent windows: how many slots, and how long each is.
const SLOTS: usize = 7;
const SLOT: Duration = Duration::from_secs(10);

/// What one worker counted.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) client_aborts: u64,
    pub(crate) retries: u64,
    /// Copies that were sent to mirrors, and requests that were not copied for want of room.
    pub(crate) mirrored: u64,
    pub(crate) mirrors_skipped: u64,
    pub(crate) connections: u64,
    pub(crate) holdings: Holdings,
    statuses: Box<[u64; 600]>,
    latency: Latency,
    /// A ring of the last slots of time; the newest is being filled.
    recent: [Slot; SLOTS],
    backends: BTreeMap<BackendId, BackendCounts>,
    /// By the number of the cluster's id: few, and never reused.
    clusters: Vec<Counts>,
}

/// What is counted about one cluster.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

/// What a worker holds at the moment.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Holdings {
    /// Idle connections to backends.
    pub(crate) idle_to_backends: usize,
    /// Buffers that exchanges have.
    pub(crate) buffers: usize,
    /// Pipes that bodies go through.
    pub(crate) pipes: usize,
}

/// What is counted about one backend.
#[derive(Clone, Debug)]
pub(crate) struct BackendCounts {
    pub(crate) name: Arc<str>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) latency_sum_us: u64,
}

/// Response times, exact at their ends and in their sum.
#[derive(Clone, Debug)]
struct Latency {
    histogram: Histogram<u64>,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Which slot of time since the start; what it holds from an earlier one is stale.
    number: u64,
    requests: u64,
    errors: u64,
    latency: Histogram<u32>,
}

/// How an exchange ended, for counting.
#[derive(Debug)]
pub(crate) struct Ending<'e> {
    pub(crate) now: Time,
    pub(crate) took: Duration,
    pub(crate) status: u16,
    /// Whether the exchange failed: the status is 500 or above, or the response broke off.
    pub(crate) error: bool,
    pub(crate) backend: Option<&'e Backend>,
    pub(crate) cluster: Option<ClusterId>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Shard {
            requests: 0,
            errors: 0,
            client_aborts: 0,
            retries: 0,
            mirrored: 0,
            mirrors_skipped: 0,
            connections: 0,
            holdings: Holdings::default(),
            statuses: Box::new([0; 600]),
            latency: Latency {
                histogram: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are sound"),
                sum_us: 0,
                min_us: u64::MAX,
                max_us: 0,
            },
            recent: std::array::from_fn(|_| Slot {
                number: 0,
                requests: 0,
                errors: 0,
                latency: Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are sound"),
            }),
            backends: BTreeMap::new(),
            clusters: Vec::new(),
        }
    }

    /// Counts an exchange.
    pub(crate) fn record(&mut self, ending: &Ending<'_>) {
        let took_us = (ending.took.as_nanos() / 1_000).min(u128::from(LATENCY_MAX_US)) as u64;
        let errors = u64::from(ending.error);
        self.requests += 1;
        self.errors += errors;
        if let Some(count) = self.statuses.get_mut(usize::from(ending.status)) {
            *count += 1;
        }
        self.latency.histogram.saturating_record(took_us.max(1));
        self.latency.sum_us += took_us;
        self.latency.min_us = self.latency.min_us.min(took_us);
        self.latency.max_us = self.latency.max_us.max(took_us);
        let slot = self.slot(ending.now);
        slot.requests += 1;
        slot.errors += errors;
        slot.latency.saturating_record(took_us.max(1));
        if let Some(cluster) = ending.cluster {
            let counts = self.cluster_mut(cluster.number() as usize);
            counts.requests += 1;
            counts.errors += errors;
        }
        if let Some(backend) = ending.backend {
            let counts = self.backends.entry(backend.id()).or_insert_with(|| BackendCounts {
                name: backend.shared_name(),
                requests: 0,
                errors: 0,
                latency_sum_us: 0,
            });
            counts.requests += 1;
            counts.errors += errors;
            counts.latency_sum_us += took_us;
        }
    }

    fn slot(&mut self, now: Time) -> &mut Slot {
        let number = slot_number(now);
        let slot = &mut self.recent[(number % SLOTS as u64) as usize];
        if slot.number != number {
            slot.number = number;
            slot.requests = 0;
            slot.errors = 0;
            slot.latency.reset();
        }
        slot
    }

    fn add(&mut self, other: &Shard) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.client_aborts += other.client_aborts;
        self.retries += other.retries;
        self.mirrored += other.mirrored;
        self.mirrors_skipped += other.mirrors_skipped;
        self.connections += other.connections;
        self.holdings.idle_to_backends += other.holdings.idle_to_backends;
        self.holdings.buffers += other.holdings.buffers;
        self.holdings.pipes += other.holdings.pipes;
        for (mine, theirs) in self.statuses.iter_mut().zip(other.statuses.iter()) {
            *mine += theirs;
        }
        let same = "all shards have the same bounds";
        self.latency.histogram.add(&other.latency.histogram).expect(same);
        self.latency.sum_us += other.latency.sum_us;
        self.latency.min_us = self.latency.min_us.min(other.latency.min_us);
        self.latency.max_us = self.latency.max_us.max(other.latency.max_us);
        for (mine, theirs) in self.recent.iter_mut().zip(&other.recent) {
            if theirs.number > mine.number {
                *mine = theirs.clone();
            } else if theirs.number == mine.number {
                mine.requests += theirs.requests;
                mine.errors += theirs.errors;
                mine.latency.add(&theirs.latency).expect(same);
            }
        }
        for (number, counts) in other.clusters.iter().enumerate() {
            let mine = self.cluster_mut(number);
            mine.requests += counts.requests;
            mine.errors += counts.errors;
        }
        for (id, counts) in &other.backends {
            match self.backends.get_mut(id) {
                None => {
                    self.backends.insert(*id, counts.clone());
                }
                Some(mine) => {
                    mine.requests += counts.requests;
                    mine.errors += counts.errors;
                    mine.latency_sum_us += counts.latency_sum_us;
                }
            }
        }
    }

    /// What all workers counted.
    pub(crate) fn merged(shards: &[Shard]) -> Shard {
        let mut all = Shard::new();
        for shard in shards {
            all.add(shard);
        }
        all
    }

    /// What is counted about each backend.
    pub(crate) fn backends(&self) -> &BTreeMap<BackendId, BackendCounts> {
        &self.backends
    }

    /// Lets go of what was counted about backends that have left the plan.
    pub(crate) fn forget(&mut self, backends: &[BackendId]) {
        for id in backends {
            self.backends.remove(id);
        }
    }

    /// What is counted about a cluster.
    pub(crate) fn cluster(&self, id: ClusterId) -> Counts {
        self.clusters.get(id.number() as usize).copied().unwrap_or_default()
    }

    fn cluster_mut(&mut self, number: usize) -> &mut Counts {
        if number >= self.clusters.len() {
            self.clusters.resize(number + 1, Counts::default());
        }
        &mut self.clusters[number]
    }

    /// Each status that occurred, and how often.
    fn status_codes(&self) -> serde_json::Map<String, serde_json::Value> {
        let occurred = self.statuses.iter().enumerate().filter(|(_, count)| **count > 0);
        occurred.map(|(status, count)| (status.to_string(), (*count).into())).collect()
    }

    /// The metrics as `/__metrics__` shows them: the keys of the Python version with their meanings, and more.
    pub(crate) fn to_json(&self, now: Time) -> serde_json::Value {
        let uptime = now.since(Time::ZERO).as_secs_f64();
        let latency = &self.latency;
        let quantile = |q: f64| ms(latency.histogram.value_at_quantile(q).min(latency.max_us));
        let backends: serde_json::Map<_, _> = self
            .backends
            .values()
            .map(|counts| {
                let counted = serde_json::json!({
                    "requests": counts.requests,
                    "errors": counts.errors,
                    "average_ms": ms_exact(average(counts.latency_sum_us, counts.requests)),
                });
                (counts.name.to_string(), counted)
            })
            .collect();
        serde_json::json!({
            "uptime_seconds": round(uptime, 2),
            "total_requests": self.requests,
            "total_errors": self.errors,
            "requests_per_second": round(self.requests as f64 / uptime.max(f64::MIN_POSITIVE), 2),
            "error_rate": round(percent(self.errors, self.requests), 2),
            "response_times": {
                "average": ms_exact(average(latency.sum_us, self.requests)),
                "minimum": if self.requests == 0 { 0.0 } else { ms(latency.min_us) },
                "maximum": ms(latency.max_us),
                "p50": quantile(0.5),
                "p90": quantile(0.9),
                "p95": quantile(0.95),
                "p99": quantile(0.99),
                "p99.9": quantile(0.999),
            },
            "status_codes": self.status_codes(),
            "client_aborts": self.client_aborts,
            "retries": self.retries,
            "mirrored": self.mirrored,
            "mirrors_skipped": self.mirrors_skipped,
            "client_connections": self.connections,
            "recent": { "10s": self.recent(now, 1), "60s": self.recent(now, SLOTS as u64 - 1) },
            "backends": backends,
        })
    }

    /// The slot that is being filled and the `whole` ones before it: what happened just now shows, and
    /// the rate is over the time that they cover.
    fn recent(&self, now: Time, whole: u64) -> serde_json::Value {
        let current = slot_number(now);
        let first = current.saturating_sub(whole);
        let mut latency = Histogram::<u32>::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are sound");
        let (mut requests, mut errors) = (0, 0);
        for slot in self.recent.iter().filter(|slot| (first..=current).contains(&slot.number)) {
            requests += slot.requests;
            errors += slot.errors;
            latency.add(&slot.latency).expect("the bounds are the same");
        }
        let began = Time::ZERO + SLOT * u32::try_from(first).unwrap_or(u32::MAX);
        let seconds = now.since(began).as_secs_f64().max(f64::MIN_POSITIVE);
        let quantile = |q: f64| if requests == 0 { 0.0 } else { ms(latency.value_at_quantile(q)) };
        serde_json::json!({
            "requests_per_second": round(requests as f64 / seconds, 2),
            "error_rate": round(percent(errors, requests), 2),
            "p50": quantile(0.5),
            "p95": quantile(0.95),
            "p99": quantile(0.99),
        })
    }
}

fn slot_number(now: Time) -> u64 {
    now.since(Time::ZERO).as_secs() / SLOT.as_secs()
}

fn average(sum: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * average(part, whole)
}

fn ms(us: u64) -> f64 {
    ms_exact(us as f64)
}

fn ms_exact(us: f64) -> f64 {
    round(us / 1_000.0, 3)
}

/// Rounds to `digits` decimals.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn ending(now: Time, took_ms: u64, status: u16) -> Ending<'static> {
        Ending { now, took: Duration::from_millis(took_ms), status, error: status >= 500, backend: None, cluster: None }
    }

    #[test]
    fn the_keys_of_the_python_version_have_their_meanings() {
        let (mut a, mut b) = (Shard::new(), Shard::new());
        for took in 1..=74 {
            a.record(&ending(at(1), took, 200));
        }
        for took in 75..=99 {
            b.record(&ending(at(2), took, 200));
        }
        b.record(&ending(at(2), 1_000, 502));
        let json = Shard::merged(&[a, b]).to_json(at(50));
        assert_eq!(json["uptime_seconds"], 50.0);
        assert_eq!(json["total_requests"], 100);
        assert_eq!(json["total_errors"], 1);
        assert_eq!(json["requests_per_second"], 2.0);
        assert_eq!(json["error_rate"], 1.0);
        assert_eq!(json["response_times"]["average"], 59.5);
        assert_eq!(json["response_times"]["minimum"], 1.0);
        assert_eq!(json["response_times"]["maximum"], 1000.0);
        let p95 = json["response_times"]["p95"].as_f64().unwrap();
        assert!((p95 - 95.0).abs() < 0.1, "{p95}");
        assert_eq!(json["status_codes"], serde_json::json!({"200": 99, "502": 1}));
    }

    #[test]
    fn nothing_yet_is_zero_and_not_nonsense() {
        let json = Shard::new().to_json(at(0));
        assert_eq!(json["response_times"]["minimum"], 0.0);
        assert_eq!(json["response_times"]["p95"], 0.0);
        assert_eq!(json["requests_per_second"], 0.0);
        assert_eq!(json["error_rate"], 0.0);
    }

    #[test]
    fn recent_windows_forget() {
        let mut shard = Shard::new();
        for second in 0..20 {
            shard.record(&ending(at(second), 5, 200));
        }
        let rate = |now, window: &str| shard.to_json(at(now))["recent"][window]["requests_per_second"].clone();
        assert_eq!(rate(5, "10s"), 2.0, "10 requests in the slot that has lasted for 5 s");
        assert_eq!(rate(20, "10s"), 1.0);
        assert_eq!(rate(25, "60s"), 0.8);
        assert_eq!(rate(31, "10s"), 0.0);
        assert_eq!(rate(200, "60s"), 0.0);
    }
}
