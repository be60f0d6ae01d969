//! The counts of a worker, and their sum over all workers.
//!
//! A shard belongs to one worker, which counts without atomics; control asks for copies.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadx_core::plan::ClusterSlot;
use loadx_core::{Backend, BackendId, ClusterId, Time};
use loadx_http::grpc::Status;

use super::connection_counts::{H2Counts, HandshakeCounts};
use super::latency::{LATENCY_MAX_US, Latency};
use super::record::Record;
use crate::observed::ExchangeCounts;

/// The number of slots for the windows of recent time, and the length of a slot.
pub(super) const RECENT_SLOTS: usize = 7;
pub(super) const RECENT_SLOT: Duration = Duration::from_secs(10);

/// The backends and clusters that have left the plan.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) backends: Vec<BackendId>,
    pub(crate) clusters: Vec<ClusterId>,
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
    /// Indexed by the number of the cluster's id: ids are few and never reused.
    clusters: Vec<ClusterEntry>,
}

/// The counts of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterCounts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(super) latency: Latency,
    /// The calls of gRPC by their status; `None` without calls.
    grpc: Option<Box<[u64; Status::COUNT]>>,
}

/// The state of a cluster in a shard.
#[derive(Clone, Debug)]
enum ClusterEntry {
    /// No exchange has ended.
    Nothing,
    Counted(Box<ClusterCounts>),
    /// The cluster has left the plan. Later exchanges of the cluster count only in the totals.
    Forgotten,
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

/// The counts of one backend.
#[derive(Clone, Debug)]
pub(crate) struct BackendCounts {
    pub(crate) name: Arc<str>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) latency_sum_us: u64,
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
            clusters: Vec::new(),
        }
    }

    /// Counts an exchange.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        let took_us = record.response_time_us().min(LATENCY_MAX_US);
        let errors = u64::from(record.failed());
        self.retries += record.tries.saturating_sub(1) as u64;
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
        self.count(record.cluster, record.backend, errors, took_us);
        if let (Some(status), Some(cluster)) = (record.grpc, record.cluster)
            && let Some(counts) = self.cluster_mut(cluster.id.number() as usize)
        {
            counts.grpc.get_or_insert_default()[usize::from(status.number())] += 1;
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
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(LATENCY_MAX_US);
        self.count(Some(cluster), backend, errors, took_us);
    }

    /// Counts an exchange in the figures of its cluster and backend.
    #[inline]
    fn count(&mut self, cluster: Option<&ClusterSlot>, backend: Option<&Backend>, errors: u64, took_us: u64) {
        if let Some(counts) = cluster.and_then(|cluster| self.cluster_mut(cluster.id.number() as usize)) {
            counts.requests += 1;
            counts.errors += errors;
            counts.latency.record(took_us);
        }
        if let Some(counts) = backend.and_then(|backend| self.backend_mut(backend)) {
            counts.requests += 1;
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
            Entry::Vacant(place) => Some(place.insert(BackendCounts {
                name: backend.shared_name(),
                requests: 0,
                errors: 0,
                latency_sum_us: 0,
            })),
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
        for (number, cluster) in other.clusters.iter().enumerate() {
            if let ClusterEntry::Counted(counts) = cluster
                && let Some(mine) = self.cluster_mut(number)
            {
                mine.requests += counts.requests;
                mine.errors += counts.errors;
                mine.latency.add(&counts.latency);
                if let Some(theirs) = &counts.grpc {
                    let mine = mine.grpc.get_or_insert_default();
                    mine.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine += theirs);
                }
            }
        }
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
    pub(crate) fn merged(shards: &[Shard]) -> Shard {
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
        let mut all = ClusterCounts::new();
        for id in clusters {
            let (now, then) = (self.cluster(*id), earlier.cluster(*id));
            let mut times = now.latency.histogram.clone();
            // A worker that did not answer in time is missing in one of the two.
            if times.subtract(&then.latency.histogram).is_ok() {
                all.latency.histogram.add(&times).expect("the histogram grows");
            }
            all.requests += now.requests.saturating_sub(then.requests);
            all.errors += now.errors.saturating_sub(then.errors);
        }
        let p99 = Duration::from_micros(all.latency.histogram.value_at_quantile(0.99));
        (ExchangeCounts { requests: all.requests, errors: all.errors }, p99)
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
        for id in &departed.clusters {
            *self.cluster_entry(id.number() as usize) = ClusterEntry::Forgotten;
        }
    }

    /// The counts of a cluster; zeros if there are none.
    pub(crate) fn cluster(&self, id: ClusterId) -> Cow<'_, ClusterCounts> {
        match self.clusters.get(id.number() as usize) {
            Some(ClusterEntry::Counted(counts)) => Cow::Borrowed(counts),
            _ => Cow::Owned(ClusterCounts::new()),
        }
    }

    fn cluster_entry(&mut self, number: usize) -> &mut ClusterEntry {
        if number >= self.clusters.len() {
            self.clusters.resize(number + 1, ClusterEntry::Nothing);
        }
        &mut self.clusters[number]
    }

    /// The counts of a cluster; `None` for a forgotten cluster.
    fn cluster_mut(&mut self, number: usize) -> Option<&mut ClusterCounts> {
        let entry = self.cluster_entry(number);
        if matches!(entry, ClusterEntry::Nothing) {
            *entry = ClusterEntry::Counted(Box::new(ClusterCounts::new()));
        }
        match entry {
            ClusterEntry::Counted(counts) => Some(counts),
            ClusterEntry::Nothing | ClusterEntry::Forgotten => None,
        }
    }
}

impl BackendCounts {
    pub(super) fn add(&mut self, other: &BackendCounts) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.latency_sum_us += other.latency_sum_us;
    }
}

impl ClusterCounts {
    /// The calls of gRPC by the name of their status, without statuses that did not occur.
    pub(crate) fn grpc(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.grpc.iter().flat_map(|counts| counts.iter().enumerate());
        counts.filter(|(_, count)| **count > 0).map(|(number, count)| (Status::of(number as u8).name(), *count))
    }

    fn new() -> Self {
        ClusterCounts { requests: 0, errors: 0, latency: Latency::small(), grpc: None }
    }
}

pub(super) fn recent_slot_number(now: Time) -> u64 {
    now.as_nanos() / (RECENT_SLOT.as_secs() * 1_000_000_000)
}

#[cfg(test)]
mod tests {
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
        let view = desired.plan().clusters[0].view.load_full();
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
        assert_eq!(shard.backends()[&removed].requests, 2, "the shard has not got the order to forget");
        for shard in [&mut shard, &mut idle] {
            shard.forget(&Departed { backends: vec![removed], clusters: Vec::new() });
            record(shard, 0);
            record(shard, 1);
        }
        let all = Shard::merged(&[shard, idle]);
        assert!(!all.backends().contains_key(&removed));
        assert_eq!(all.backends()[&view.backends()[1].id()].requests, 3);
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
        assert_eq!((counts.requests, counts.errors), (100, 1));
        let times = counts.latency.to_json();
        assert_eq!(
            (&times["average"], &times["minimum"], &times["maximum"]),
            (&249.5.into(), &1.0.into(), &20_000.0.into())
        );
        let p95 = times["p95"].as_f64().unwrap();
        assert!((p95 - 95.0).abs() < 1.0, "{p95}");

        a.forget(&Departed { backends: Vec::new(), clusters: vec![cluster.id] });
        record(&mut a, 1, 200);
        let counts = a.cluster(cluster.id);
        assert_eq!(counts.requests, 0);
        assert_eq!(counts.latency.to_json()["p99"], 0.0);
    }
}
