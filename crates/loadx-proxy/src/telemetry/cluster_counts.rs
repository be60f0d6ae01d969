//! The counts of listeners, routes, clusters and backends.

use std::sync::Arc;

use loadx_core::ErrorKind;
use loadx_http::grpc::Status;

use super::by_id::Counts;
use super::latency::{Buckets, Latency};
use super::request_counts::{RequestCounts, StatusCounts};

/// Errors by kind, in the order of [`ErrorKind::ALL`].
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct ErrorCounts([u64; ErrorKind::ALL.len()]);

/// The counts of a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerCounts {
    pub(super) requests: RequestCounts,
    /// Content in bytes.
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// The counts of a route.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteCounts {
    pub(super) requests: RequestCounts,
    pub(super) buckets: Buckets,
}

/// The counts of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterCounts {
    /// The requests of clients.
    pub(super) requests: RequestCounts,
    /// The copies that the cluster got as a mirror.
    pub(super) copies: StatusCounts,
    pub(crate) errors: u64,
    pub(super) error_kinds: ErrorCounts,
    pub(super) retries: u64,
    pub(super) latency: Latency,
    pub(super) buckets: Buckets,
    /// The times from the head of a request to the head of its response.
    pub(super) head: Buckets,
    /// The times in the queue of the requests that waited there.
    pub(super) waited: Buckets,
    /// The times until connections to backends were open, with their handshakes.
    pub(super) connect: Buckets,
    /// The calls of gRPC by their status; `None` without calls.
    pub(super) grpc: Option<Box<[u64; Status::COUNT]>>,
}

/// The counts of one backend.
#[derive(Clone, Debug)]
pub(crate) struct BackendCounts {
    pub(crate) name: Arc<str>,
    /// The requests whose last attempt was at the backend.
    pub(super) requests: StatusCounts,
    pub(crate) errors: u64,
    pub(super) latency_sum_us: u64,
    /// The attempts that failed, also those after which another backend answered; `None` before the first.
    pub(super) failures: Option<Box<ErrorCounts>>,
}

impl ErrorCounts {
    pub(super) fn count(&mut self, kind: ErrorKind) {
        self.0[kind as usize] += 1;
    }

    /// Each kind that occurred, with its count.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, other: &ErrorCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }
}

impl Counts for ListenerCounts {
    fn add(&mut self, other: &Self) {
        self.requests.add(&other.requests);
        self.received += other.received;
        self.sent += other.sent;
    }
}

impl Counts for RouteCounts {
    fn add(&mut self, other: &Self) {
        self.requests.add(&other.requests);
        self.buckets.add(&other.buckets);
    }
}

impl Default for ClusterCounts {
    fn default() -> Self {
        ClusterCounts {
            requests: RequestCounts::default(),
            copies: StatusCounts::default(),
            errors: 0,
            error_kinds: ErrorCounts::default(),
            retries: 0,
            latency: Latency::small(),
            buckets: Buckets::default(),
            head: Buckets::default(),
            waited: Buckets::default(),
            connect: Buckets::default(),
            grpc: None,
        }
    }
}

impl Counts for ClusterCounts {
    fn add(&mut self, other: &Self) {
        self.requests.add(&other.requests);
        self.copies.add(&other.copies);
        self.errors += other.errors;
        self.error_kinds.add(&other.error_kinds);
        self.retries += other.retries;
        self.latency.add(&other.latency);
        for (mine, theirs) in [
            (&mut self.buckets, &other.buckets),
            (&mut self.head, &other.head),
            (&mut self.waited, &other.waited),
            (&mut self.connect, &other.connect),
        ] {
            mine.add(theirs);
        }
        if let Some(theirs) = &other.grpc {
            let mine = self.grpc.get_or_insert_default();
            mine.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine += theirs);
        }
    }
}

impl ClusterCounts {
    /// The requests, copies for the cluster as a mirror included.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.total() + self.copies.total()
    }

    /// The calls of gRPC by the name of their status, without statuses that did not occur.
    pub(crate) fn grpc(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.grpc.iter().flat_map(|counts| counts.iter().enumerate());
        counts.filter(|(_, count)| **count > 0).map(|(number, count)| (Status::of(number as u8).name(), *count))
    }

    /// Counts an exchange that took so long.
    #[inline]
    pub(super) fn took(&mut self, errors: u64, took_us: u64) {
        self.errors += errors;
        self.latency.record(took_us);
        self.buckets.record(took_us);
    }
}

impl BackendCounts {
    pub(super) fn new(name: Arc<str>) -> Self {
        BackendCounts { name, requests: StatusCounts::default(), errors: 0, latency_sum_us: 0, failures: None }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.total()
    }

    pub(super) fn add(&mut self, other: &BackendCounts) {
        self.requests.add(&other.requests);
        self.errors += other.errors;
        self.latency_sum_us += other.latency_sum_us;
        if let Some(theirs) = &other.failures {
            self.failures.get_or_insert_default().add(theirs);
        }
    }
}
