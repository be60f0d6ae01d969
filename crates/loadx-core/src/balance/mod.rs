//! The policies that choose a backend, one a file.
//!
//! A policy has two halves. What it needs to know about *who* is in rotation it works out when a
//! view is published, once; choosing for a request then only reads that and the shared counters.
//!
//! To add a policy: a file with its `choose`, a variant in [`Algorithm`] and one in [`Balancer`].

mod ip_hash;
mod key;
mod least_connections;
mod round_robin;
mod schedule;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Query;
use crate::backend::Backend;

use ip_hash::IpHash;
pub use key::Key;
use least_connections::LeastConnections;
use round_robin::RoundRobin;
use schedule::{Schedule, Tickets};

/// The policies by their names in the config.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Backends take turns, in proportion to their weights and as evenly spaced as these allow.
    #[default]
    RoundRobin,
    /// The backend with the fewest exchanges in flight for its weight.
    LeastConnections,
    /// The client's address decides, so that a client stays with its backend.
    IpHash,
}

impl Algorithm {
    /// Every policy.
    pub const ALL: [Algorithm; 3] = [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::IpHash];

    /// Its name in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round_robin",
            Algorithm::LeastConnections => "least_connections",
            Algorithm::IpHash => "ip_hash",
        }
    }
}

/// A policy made ready for one set of backends in rotation.
#[derive(Debug)]
pub(crate) enum Balancer {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    IpHash(IpHash),
}

impl Balancer {
    /// The index of the chosen backend; none when the query has tried them all.
    pub(crate) fn choose(&self, backends: &[Backend], query: &Query<'_>) -> Option<usize> {
        match self {
            Balancer::RoundRobin(policy) => policy.choose(backends, query),
            Balancer::LeastConnections(policy) => policy.choose(backends, query),
            Balancer::IpHash(policy) => policy.choose(backends, query),
        }
    }
}

/// Makes the balancers of one cluster, and keeps what must outlive each of them.
#[derive(Debug)]
pub(crate) struct BalancerFactory {
    algorithm: Algorithm,
    tickets: Arc<Tickets>,
    ip_table: ip_hash::Table,
}

impl BalancerFactory {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        BalancerFactory { algorithm, tickets: Arc::default(), ip_table: ip_hash::Table::default() }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn balancer(&mut self, backends: &[Backend]) -> Balancer {
        match self.algorithm {
            Algorithm::RoundRobin => Balancer::RoundRobin(RoundRobin::new(self.schedule(backends))),
            Algorithm::LeastConnections => Balancer::LeastConnections(LeastConnections::new(self.schedule(backends))),
            Algorithm::IpHash => Balancer::IpHash(self.ip_table.update(backends)),
        }
    }

    fn schedule(&self, backends: &[Backend]) -> Schedule {
        Schedule::new(backends.iter().map(Backend::weight), Arc::clone(&self.tickets))
    }
}

/// Whether the query has tried this backend already.
fn is_tried(backend: &Backend, query: &Query<'_>) -> bool {
    query.tried.contains(&backend.id())
}

/// The indices of all of `count` backends, once each, beginning at `start`.
fn around(start: usize, count: usize) -> impl Iterator<Item = usize> {
    (start..count).chain(0..start)
}

#[cfg(test)]
mod testing {
    //! Clusters to choose from, for the tests of the policies.
    use crate::{Algorithm, BackendSpec, Cluster, HealthPolicy, Key, Query, Time, View};
    use std::sync::Arc;

    pub(super) fn cluster(algorithm: Algorithm, weights: &[u32]) -> Cluster {
        let mut cluster = Cluster::new(algorithm, HealthPolicy::default());
        cluster.update(Time::ZERO, specs(weights));
        cluster
    }

    pub(super) fn specs(weights: &[u32]) -> Vec<BackendSpec> {
        let spec = |(index, weight): (usize, &u32)| BackendSpec {
            weight: *weight,
            ..BackendSpec::new(&format!("10.0.{}.{}", index / 200, index % 200), 80)
        };
        weights.iter().enumerate().map(spec).collect()
    }

    pub(super) fn view(algorithm: Algorithm, weights: &[u32]) -> Arc<View> {
        cluster(algorithm, weights).view()
    }

    pub(super) fn query() -> Query<'static> {
        Query { key: Key::from_ip([192, 0, 2, 1].into()), tried: &[] }
    }

    /// Picks `count` times, finishing each at once; the indices that were chosen.
    pub(super) fn picks(view: &View, count: usize) -> Vec<usize> {
        let pick = |_| view.pick(Time::ZERO, &query()).unwrap().backend().id().index();
        (0..count).map(pick).collect()
    }
}
