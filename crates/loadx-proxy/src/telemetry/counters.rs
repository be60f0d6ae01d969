//! The counts of a worker, and their sum over all workers.
//!
//! A shard belongs to one worker, which counts without atomics; control asks for copies.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadx_core::plan::ClusterSlot;
use loadx_core::{Backend, BackendId, ClusterId, ErrorKind, ListenerId, RouteId, Time};

use super::by_id::ById;
use super::cluster_counts::{BackendCounts, ClusterCounts, ErrorCounts, ListenerCounts, RouteCounts};
use super::connection_counts::{H2Counts, HandshakeCounts};
use super::latency::{LATENCY_MAX_US, Latency};
use super::record::Record;
use super::request_counts::Method;
use crate::observed::ExchangeCounts;

/// The number of slots for the windows of recent time, and the length of a slot.
pub(super) const RECENT_SLOTS: usize = 7;
pub(super) const RECENT_SLOT: Duration = Duration::from_secs(10);

/// What has left the plan.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    pub(crate) listeners: Vec<ListenerId>,
    pub(crate) routes: Vec<RouteId>,
    pub(crate) clusters: Vec<ClusterId>,
    pub(crate) backends: Vec<BackendId>,
}

impl Departed {
    pub(crate) fn is_empty(&self) -> bool {
        let Departed { listeners, routes, clusters, backends } = self;
        listeners.is_empty() && routes.is_empty() && clusters.is_empty() && backends.is_empty()
    }
}

/// The counts of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) client_aborts: u64,
    pub(crate) retries: u64,
    /// Copies sent to mirrors.
    pub(crate) mirrored: u64,
    /// Requests of a route with a mirror that were not copied.
    pub(crate) mirrors_skipped: u64,
    /// The second attempts beside an attempt that was not answered yet, and those that were answered first.
    pub(crate) hedges: u64,
    pub(crate) hedges_won: u64,
    /// Copies that got no response.
    pub(crate) mirrors_failed: u64,
    pub(crate) connections: u64,
    /// Client connections that were closed because their address had too many.
    pub(crate) refused_connections: u64,
    pub(crate) handshakes: HandshakeCounts,
    pub(crate) h2: H2Counts,
    /// Connections that were closed because they did not begin with the client's address in the PROXY protocol.
    pub(crate) proxy_header_faults: u64,
    pub(crate) holdings: Holdings,
    pub(super) statuses: Box<[u64; 600]>,
    pub(super) latency: Latency,
    /// A ring of the last slots; the newest slot is not over.
    pub(super) recent: [RecentSlot; RECENT_SLOTS],
    pub(super) backends: BTreeMap<BackendId, BackendCounts>,
    pub(super) listeners: ById<ListenerCounts>,
    pub(super) routes: ById<RouteCounts>,
    pub(super) clusters: ById<ClusterCounts>,
    /// The errors of requests without a cluster.
    pub(super) error_kinds: ErrorCounts,
}

/// The resources that a worker uses now.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Holdings {
    /// Idle connections to backends.
    pub(crate) idle_to_backends: usize,
    /// Connections to backends in HTTP/2, idle or not.
    pub(crate) h2_to_backends: usize,
    /// Buffers lent to exchanges.
    pub(crate) buffers: usize,
    /// Pipes lent to bodies.
    pub(crate) pipes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct RecentSlot {
    /// The number of the slot since the start. A slot with an old number is overwritten.
    pub(super) number: u64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) latency: Histogram<u32>,
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
            hedges: 0,
            hedges_won: 0,
            mirrors_failed: 0,
            connections: 0,
            refused_connections: 0,
            handshakes: HandshakeCounts::default(),
            h2: H2Counts::default(),
            proxy_header_faults: 0,
            holdings: Holdings::default(),
            statuses: Box::new([0; 600]),
            latency: Latency::precise(),
            recent: std::array::from_fn(|_| RecentSlot {
                number: 0,
                requests: 0,
                errors: 0,
                latency: Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are valid"),
            }),
            backends: BTreeMap::new(),
            listeners: ById::default(),
            routes: ById::default(),
            clusters: ById::default(),
            error_kinds: ErrorCounts::default(),
        }
    }

    /// Counts an exchange.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        let took_us = record.response_time_us().min(LATENCY_MAX_US);
        let errors = u64::from(record.failed());
        let retries = record.tries.saturating_sub(1) as u64;
        self.retries += retries;
        self.requests += 1;
        self.errors += errors;
        if let Some(count) = self.statuses.get_mut(usize::from(record.status)) {
            *count += 1;
        }
        self.latency.record(took_us);
        let slot = self.slot(record.ended);
        slot.requests += 1;
        slot.errors += errors;
        slot.latency.saturating_record(took_us.max(1));
        let method = Method::of(record.request.line().0);
        if let Some(counts) = self.listeners.get_mut(record.request.listener().number()) {
            counts.requests.count(method, record.status);
            counts.received += record.received;
            counts.sent += record.content;
        }
        if let Some(counts) = record.request.route_id().and_then(|route| self.routes.get_mut(route.number())) {
            counts.requests.count(method, record.status);
            counts.buckets.record(took_us);
        }
        let kind = record.error_kind();
        let counts = record.cluster.and_then(|cluster| self.clusters.get_mut(cluster.id.number()));
        match counts {
            Some(counts) => {
                counts.requests.count(method, record.status);
                counts.took(errors, took_us);
                counts.retries += retries;
                if let Some(head_us) = record.response_head_us() {
                    counts.head.record(head_us);
                }
                record.waits.count(&mut counts.waited, &mut counts.connect);
                if let Some(kind) = kind {
                    counts.error_kinds.count(kind);
                }
                if let Some(status) = record.grpc {
                    counts.grpc.get_or_insert_default()[usize::from(status.number())] += 1;
                }
            }
            None => kind.into_iter().for_each(|kind| self.error_kinds.count(kind)),
        }
        if let Some(backend) = record.backend {
            self.count_at(backend, record.status, errors, took_us);
        }
    }

    /// Counts a copy for a mirror in the figures of its cluster and backend; `status` is the status of the response, if
    /// there was a response. The totals count only requests of clients.
    pub(crate) fn record_copy(
        &mut self,
        cluster: &ClusterSlot,
        backend: Option<&Backend>,
        status: Option<u16>,
        took: Duration,
    ) {
        self.mirrors_failed += u64::from(status.is_none());
        let errors = u64::from(status.is_none_or(|status| status >= 500));
        let status = status.unwrap_or_default();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(LATENCY_MAX_US);
        if let Some(counts) = self.clusters.get_mut(cluster.id.number()) {
            counts.copies.count(status);
            counts.took(errors, took_us);
        }
        if let Some(backend) = backend {
            self.count_at(backend, status, errors, took_us);
        }
    }

    /// Counts an attempt that failed.
    pub(crate) fn record_failure(&mut self, backend: &Backend, kind: ErrorKind) {
        if let Some(counts) = self.backend_mut(backend) {
            counts.failures.get_or_insert_default().count(kind);
        }
    }

    /// Counts an exchange in the figures of its backend.
    #[inline]
    fn count_at(&mut self, backend: &Backend, status: u16, errors: u64, took_us: u64) {
        if let Some(counts) = self.backend_mut(backend) {
            counts.requests.count(status);
            counts.errors += errors;
            counts.latency_sum_us += took_us;
        }
    }

    /// The counts of a backend; `None` for a forgotten backend that has left the plan. New counts for its id, which is
    /// never reused, would never be removed.
    fn backend_mut(&mut self, backend: &Backend) -> Option<&mut BackendCounts> {
        match self.backends.entry(backend.id()) {
            Entry::Occupied(counts) => Some(counts.into_mut()),
            Entry::Vacant(_) if backend.has_left() => None,
            Entry::Vacant(place) => Some(place.insert(BackendCounts::new(backend.shared_name()))),
        }
    }

    fn slot(&mut self, now: Time) -> &mut RecentSlot {
        let number = recent_slot_number(now);
        let slot = &mut self.recent[(number % RECENT_SLOTS as u64) as usize];
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
        self.hedges += other.hedges;
        self.hedges_won += other.hedges_won;
        self.mirrors_failed += other.mirrors_failed;
        self.connections += other.connections;
        self.refused_connections += other.refused_connections;
        self.handshakes.add(&other.handshakes);
        self.h2.add(&other.h2);
        self.proxy_header_faults += other.proxy_header_faults;
        self.holdings.idle_to_backends += other.holdings.idle_to_backends;
        self.holdings.h2_to_backends += other.holdings.h2_to_backends;
        self.holdings.buffers += other.holdings.buffers;
        self.holdings.pipes += other.holdings.pipes;
        for (mine, theirs) in self.statuses.iter_mut().zip(other.statuses.iter()) {
            *mine += theirs;
        }
        self.latency.add(&other.latency);
        for (mine, theirs) in self.recent.iter_mut().zip(&other.recent) {
            if theirs.number > mine.number {
                *mine = theirs.clone();
            } else if theirs.number == mine.number {
                mine.requests += theirs.requests;
                mine.errors += theirs.errors;
                mine.latency.add(&theirs.latency).expect("all shards have the same bounds");
            }
        }
        self.listeners.add(&other.listeners);
        self.routes.add(&other.routes);
        self.clusters.add(&other.clusters);
        self.error_kinds.add(&other.error_kinds);
        for (id, counts) in &other.backends {
            match self.backends.get_mut(id) {
                None => {
                    self.backends.insert(*id, counts.clone());
                }
                Some(mine) => mine.add(counts),
            }
        }
    }

    /// The sum of the counts of all workers.
    pub(crate) fn merged<'s>(shards: impl IntoIterator<Item = &'s Shard>) -> Shard {
        let mut all = Shard::new();
        for shard in shards {
            all.add(shard);
        }
        all
    }

    /// All requests of clients since `earlier`, and the response time that 99 percent of them did not exceed.
    pub(crate) fn total_since(&self, earlier: &Shard) -> (ExchangeCounts, Duration) {
        let mut times = self.latency.histogram.clone();
        // A worker that did not answer in time is missing in one of the two.
        let is_right = times.subtract(&earlier.latency.histogram).is_ok();
        let p99 = if is_right { Duration::from_micros(times.value_at_quantile(0.99)) } else { Duration::ZERO };
        let (requests, errors) =
            (self.requests.saturating_sub(earlier.requests), self.errors.saturating_sub(earlier.errors));
        (ExchangeCounts { requests, errors }, p99)
    }

    /// The exchanges of these clusters since `earlier`, and the response time that 99 percent of them did not exceed.
    pub(crate) fn since(&self, earlier: &Shard, clusters: &[ClusterId]) -> (ExchangeCounts, Duration) {
        let mut all = ExchangeCounts::default();
        let mut all_times = Latency::small().histogram;
        for id in clusters {
            let (now, then) = (self.cluster(*id), earlier.cluster(*id));
            let mut times = now.latency.histogram.clone();
            // A worker that did not answer in time is missing in one of the two.
            if times.subtract(&then.latency.histogram).is_ok() {
                all_times.add(&times).expect("the histogram grows");
            }
            all.requests += now.requests().saturating_sub(then.requests());
            all.errors += now.errors.saturating_sub(then.errors);
        }
        (all, Duration::from_micros(all_times.value_at_quantile(0.99)))
    }

    /// The counts of each backend.
    pub(crate) fn backends(&self) -> &BTreeMap<BackendId, BackendCounts> {
        &self.backends
    }

    /// Removes the counts of backends and clusters that have left the plan.
    pub(crate) fn forget(&mut self, departed: &Departed) {
        for id in &departed.backends {
            self.backends.remove(id);
        }
        departed.clusters.iter().for_each(|id| self.clusters.forget(id.number()));
        departed.routes.iter().for_each(|id| self.routes.forget(id.number()));
        departed.listeners.iter().for_each(|id| self.listeners.forget(id.number()));
    }

    /// The counts of a cluster; zeros if there are none.
    pub(crate) fn cluster(&self, id: ClusterId) -> Cow<'_, ClusterCounts> {
        self.clusters.get(id.number()).map_or_else(|| Cow::Owned(ClusterCounts::default()), Cow::Borrowed)
    }
}

pub(super) fn recent_slot_number(now: Time) -> u64 {
    now.as_nanos() / (RECENT_SLOT.as_secs() * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loadx_core::config::parse;
    use loadx_core::plan::Desired;

    use super::super::testing::{at, refused};
    use super::*;

    fn config(ports: &[u16]) -> loadx_core::config::Config {
        let backends: Vec<_> =
            ports.iter().map(|port| format!("{{\"host\": \"192.0.2.9\", \"port\": {port}}}")).collect();
        parse(&format!("{{\"backend_servers\": [{}]}}", backends.join(","))).unwrap()
    }

    #[test]
    fn a_late_exchange_does_not_restore_the_counts_of_a_removed_backend() {
        let (mut desired, _) = Desired::new(at(0), &config(&[1, 2]));
        let desired_cluster = Arc::clone(&desired.plan().clusters[0]);
        let view = desired_cluster.view.load_full();
        let record = |shard: &mut Shard, index: usize| {
            let backend = Some(&view.backends()[index]);
            shard.record(&Record { backend, ..refused(at(1), 5, 200) });
        };
        let (mut shard, mut idle) = (Shard::new(), Shard::new());
        record(&mut shard, 0);
        record(&mut shard, 1);
        let removed = view.backends()[0].id();
        desired.apply(at(1), &config(&[2]));
        record(&mut shard, 0);
        assert_eq!(shard.backends()[&removed].requests(), 2, "the shard has not got the order to forget");
        for shard in [&mut shard, &mut idle] {
            shard.forget(&Departed { backends: vec![removed], ..Departed::default() });
            record(shard, 0);
            record(shard, 1);
        }
        let all = Shard::merged(&[shard, idle]);
        assert!(!all.backends().contains_key(&removed));
        assert_eq!(all.backends()[&view.backends()[1].id()].requests(), 3);
        assert_eq!(all.requests, 7, "the totals count every exchange");
    }

    #[test]
    fn each_cluster_has_response_times_until_the_cluster_leaves() {
        let (desired, _) = Desired::new(at(0), &config(&[1]));
        let plan = desired.plan();
        let cluster = &plan.clusters[0];
        let record = |shard: &mut Shard, took_ms: u64, status: u16| {
            shard.record(&Record { cluster: Some(cluster), ..refused(at(60), took_ms, status) });
        };
        let (mut a, mut b) = (Shard::new(), Shard::new());
        for took_ms in 1..=99 {
            record(if took_ms % 2 == 0 { &mut a } else { &mut b }, took_ms, 200);
        }
        record(&mut b, 20_000, 502);
        b.record(&refused(at(60), 50_000, 400));
        let all = Shard::merged(&[a.clone(), b]);
        let counts = all.cluster(cluster.id);
        assert_eq!((counts.requests(), counts.errors), (100, 1));
        let times = counts.latency.to_json();
        assert_eq!(
            (&times["average"], &times["minimum"], &times["maximum"]),
            (&249.5.into(), &1.0.into(), &20_000.0.into())
        );
        let p95 = times["p95"].as_f64().unwrap();
        assert!((p95 - 95.0).abs() < 1.0, "{p95}");

        a.forget(&Departed { clusters: vec![cluster.id], ..Departed::default() });
        record(&mut a, 1, 200);
        let counts = a.cluster(cluster.id);
        assert_eq!(counts.requests(), 0);
        assert_eq!(counts.latency.to_json()["p99"], 0.0);
    }
}
