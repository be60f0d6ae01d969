//! Prints the counts for `/__metrics__`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use hdrhistogram::Histogram;
use loadx_core::Time;

use super::cluster_counts::{BackendCounts, ClusterCounts};
use super::connection_counts::{H2Counts, HandshakeCounts};
use super::counters::{RECENT_SLOT, RECENT_SLOTS, Shard, recent_slot_number};
use super::latency::{LATENCY_MAX_US, Latency};

impl Latency {
    /// The response times in milliseconds.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let count = self.histogram.len();
        let quantile = |q: f64| ms(self.histogram.value_at_quantile(q).min(self.max_us));
        serde_json::json!({
            "average": ms_exact(average(self.sum_us, count)),
            "minimum": if count == 0 { 0.0 } else { ms(self.min_us) },
            "maximum": ms(self.max_us),
            "p50": quantile(0.5),
            "p90": quantile(0.9),
            "p95": quantile(0.95),
            "p99": quantile(0.99),
            "p99.9": quantile(0.999),
        })
    }
}

impl ClusterCounts {
    pub(crate) fn response_times(&self) -> serde_json::Value {
        self.latency.to_json()
    }
}

impl HandshakeCounts {
    fn to_json(&self) -> serde_json::Value {
        let mut succeeded = serde_json::Map::new();
        for ((version, is_resumed), count) in &self.succeeded {
            let kind = if *is_resumed { "resumed" } else { "full" };
            let versions = succeeded.entry(*version).or_insert_with(|| serde_json::json!({ "full": 0, "resumed": 0 }));
            versions[kind] = (*count).into();
        }
        serde_json::json!({ "succeeded": succeeded, "failed": self.failed })
    }
}

impl H2Counts {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "connections": self.connections,
            "requests": self.requests,
            "resets": self.resets,
            "refused": self.refused,
            "stream_faults": self.stream_faults,
            "connection_faults": self.connection_faults,
        })
    }
}

impl Shard {
    /// Each status that occurred, with its count.
    fn status_codes(&self) -> serde_json::Map<String, serde_json::Value> {
        let occurred = self.statuses.iter().enumerate().filter(|(_, count)| **count > 0);
        occurred.map(|(status, count)| (status.to_string(), (*count).into())).collect()
    }

    /// The object of `/__metrics__`: the keys of the Python version with the same meanings, and further keys.
    pub(crate) fn to_json(&self, now: Time) -> serde_json::Value {
        let uptime = now.since(Time::ZERO).as_secs_f64();
        serde_json::json!({
            "uptime_seconds": round(uptime, 2),
            "total_requests": self.requests,
            "total_errors": self.errors,
            "requests_per_second": round(self.requests as f64 / uptime.max(f64::MIN_POSITIVE), 2),
            "error_rate": round(percent(self.errors, self.requests), 2),
            "response_times": self.latency.to_json(),
            "status_codes": self.status_codes(),
            "client_aborts": self.client_aborts,
            "retries": self.retries,
            "mirrored": self.mirrored,
            "mirrors_skipped": self.mirrors_skipped,
            "mirrors_failed": self.mirrors_failed,
            "hedges": self.hedges,
            "hedges_won": self.hedges_won,
            "client_connections": self.connections,
            "refused_connections": self.refused_connections,
            "tls_handshakes": self.handshakes.to_json(),
            "http2": self.h2.to_json(),
            "proxy_protocol_faults": self.proxy_header_faults,
            "recent": { "10s": self.recent(now, 1), "60s": self.recent(now, RECENT_SLOTS as u64 - 1) },
            "backends": self.backends_by_name(),
        })
    }

    /// The counts of backends with one name together: two clusters may have the same backend.
    fn backends_by_name(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut sums: Vec<BackendCounts> = Vec::new();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        for counts in self.backends.values() {
            match positions.entry(&counts.name) {
                Entry::Occupied(position) => sums[*position.get()].add(counts),
                Entry::Vacant(place) => {
                    place.insert(sums.len());
                    sums.push(counts.clone());
                }
            }
        }
        let described = |counts: BackendCounts| {
            let counted = serde_json::json!({
                "requests": counts.requests(),
                "errors": counts.errors,
                "average_ms": ms_exact(average(counts.latency_sum_us, counts.requests())),
            });
            (counts.name.to_string(), counted)
        };
        sums.into_iter().map(described).collect()
    }

    /// The present slot and the `whole` slots before it. The rate is over the time that these slots cover.
    fn recent(&self, now: Time, whole: u64) -> serde_json::Value {
        let current = recent_slot_number(now);
        let first = current.saturating_sub(whole);
        let mut latency = Histogram::<u32>::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are valid");
        let (mut requests, mut errors) = (0, 0);
        for slot in self.recent.iter().filter(|slot| (first..=current).contains(&slot.number)) {
            requests += slot.requests;
            errors += slot.errors;
            latency.add(&slot.latency).expect("the bounds are the same");
        }
        let began = Time::ZERO + RECENT_SLOT * u32::try_from(first).unwrap_or(u32::MAX);
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

fn average(sum: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * average(part, whole)
}

pub(super) fn ms(us: u64) -> f64 {
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
    use std::time::Duration;

    use loadx_core::config::parse;
    use loadx_core::plan::Desired;

    use super::super::record::Record;
    use super::super::testing::{at, refused};
    use super::*;

    #[test]
    fn the_keys_of_the_python_version_have_the_same_meanings() {
        let (mut a, mut b) = (Shard::new(), Shard::new());
        for took in 1..=74 {
            a.record(&refused(at(1), took, 200));
        }
        for took in 75..=99 {
            b.record(&refused(at(2), took, 200));
        }
        b.record(&refused(at(2), 1_000, 502));
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
    fn without_requests_all_metrics_are_zero() {
        let json = Shard::new().to_json(at(0));
        assert_eq!(json["response_times"]["minimum"], 0.0);
        assert_eq!(json["response_times"]["p95"], 0.0);
        assert_eq!(json["requests_per_second"], 0.0);
        assert_eq!(json["error_rate"], 0.0);
    }

    #[test]
    fn a_recent_window_drops_old_requests() {
        let mut shard = Shard::new();
        for second in 0..20 {
            shard.record(&refused(at(second), 5, 200));
        }
        let rate = |now, window: &str| shard.to_json(at(now))["recent"][window]["requests_per_second"].clone();
        assert_eq!(rate(5, "10s"), 2.0, "10 requests in the slot that has lasted for 5 s");
        assert_eq!(rate(20, "10s"), 1.0);
        assert_eq!(rate(25, "60s"), 0.8);
        assert_eq!(rate(31, "10s"), 0.0);
        assert_eq!(rate(200, "60s"), 0.0);
    }

    #[test]
    fn backends_of_one_name_count_together_and_copies_do_not_count_as_requests() {
        let text = r#"{"clusters": {"a": {"backends": ["192.0.2.9:1"]}, "b": {"backends": ["192.0.2.9:1", "192.0.2.9:2"]}},
                       "routes": [{"cluster": "a", "mirror": "b"}]}"#;
        let (desired, _) = Desired::new(at(0), &parse(text).unwrap());
        let [a, b] = &desired.plan().clusters[..] else { panic!("there are two clusters") };
        let (in_a, in_b) = (a.view.load(), b.view.load());
        let mut shards = [Shard::new(), Shard::new()];
        for shard in &mut shards {
            shard.record(&Record { cluster: Some(a), backend: Some(&in_a.backends()[0]), ..refused(at(1), 5, 200) });
            shard.record_copy(b, Some(&in_b.backends()[0]), None, Duration::from_millis(15));
            shard.record_copy(b, Some(&in_b.backends()[1]), Some(503), Duration::from_millis(15));
        }
        let all = Shard::merged(&shards);
        let json = all.to_json(at(2));
        let counts =
            |requests, errors, ms| serde_json::json!({"requests": requests, "errors": errors, "average_ms": ms});
        assert_eq!(
            json["backends"],
            serde_json::json!({"192.0.2.9:1": counts(4, 2, 10.0), "192.0.2.9:2": counts(2, 2, 15.0)})
        );
        assert_eq!((&json["total_requests"], &json["mirrors_failed"]), (&2.into(), &2.into()));
        assert_eq!((all.cluster(b.id).requests(), all.cluster(b.id).errors), (4, 4));
    }
}
