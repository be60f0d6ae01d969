//! The algorithms that choose a backend, one per file.
//!
//! An algorithm has two parts. When control publishes a view, the algorithm precomputes what depends on the backends in
//! rotation. A pick then only reads the precomputed part and the shared counters.
//!
//! To add an algorithm: add a file with its `choose`, a variant in [`Algorithm`] and a variant in [`Balancer`].

mod ip_hash;
mod key;
mod least_connections;
mod query;
mod round_robin;
mod schedule;

use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::Backend;

use ip_hash::IpHash;
pub use key::{Key, KeyPrefixes};
use least_connections::LeastConnections;
pub use query::Query;
use query::{around, is_tried};
use round_robin::RoundRobin;
use schedule::{Schedule, Tickets};

/// An algorithm with its parameters.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Backends take turns, in proportion to their weights and as evenly spaced as these allow.
    #[default]
    RoundRobin,
    /// The backend with the fewest exchanges in flight in proportion to its weight.
    LeastConnections,
    /// The client's address decides, so that a client keeps its backend.
    IpHash(KeyPrefixes),
}

impl Algorithm {
    /// Every algorithm, with its default parameters.
    pub const ALL: [Algorithm; 3] =
        [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::IpHash(KeyPrefixes { ipv4: 32, ipv6: 64 })];

    /// The name of the algorithm in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round_robin",
            Algorithm::LeastConnections => "least_connections",
            Algorithm::IpHash(_) => "ip_hash",
        }
    }

    /// The algorithm of this name, with its default parameters; `None` for an unknown name.
    pub fn named(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// An algorithm prepared for one set of backends in rotation.
#[derive(Debug)]
pub(crate) enum Balancer {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    IpHash(IpHash),
}

impl Balancer {
    /// The index of the chosen backend; `None` when the request has tried every backend.
    pub(crate) fn choose(&self, backends: &[Backend], query: &Query<'_>) -> Option<usize> {
        match self {
            Balancer::RoundRobin(policy) => policy.choose(backends, query),
            Balancer::LeastConnections(policy) => policy.choose(backends, query),
            Balancer::IpHash(policy) => policy.choose(backends, query),
        }
    }

    /// The key of a client's address; `None` when the algorithm does not use the address.
    pub(crate) fn key(&self, client: IpAddr) -> Option<Key> {
        match self {
            Balancer::RoundRobin(_) | Balancer::LeastConnections(_) => None,
            Balancer::IpHash(policy) => Some(policy.key(client)),
        }
    }
}

/// Makes the balancers of one cluster, and keeps the state that outlives each balancer.
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
            Algorithm::IpHash(prefixes) => Balancer::IpHash(self.ip_table.update(prefixes, backends)),
        }
    }

    fn schedule(&self, backends: &[Backend]) -> Schedule {
        Schedule::new(backends.iter().map(Backend::weight), Arc::clone(&self.tickets))
    }
}

#[cfg(test)]
mod testing {
    //! Clusters for the tests of the algorithms.
    use crate::{Algorithm, BackendSpec, Cluster, HealthPolicy, Ids, Key, KeyPrefixes, Query, Time, View};
    use std::sync::Arc;

    /// A cluster, and the ids for the backends that join.
    pub(super) struct Fixture {
        cluster: Cluster,
        ids: Ids,
    }

    impl Fixture {
        pub(super) fn set(&mut self, backends: Vec<BackendSpec>) {
            self.cluster.update(Time::ZERO, backends, &mut self.ids);
        }

        pub(super) fn view(&mut self) -> Arc<View> {
            self.cluster.view()
        }
    }

    pub(super) fn cluster(algorithm: Algorithm, weights: &[u32]) -> Fixture {
        let cluster = Cluster::new(algorithm, HealthPolicy::default());
        let mut fixture = Fixture { cluster, ids: Ids::default() };
        fixture.set(specs(weights));
        fixture
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
        Query {
            now: Time::ZERO,
            entropy: 0,
            key: Some(Key::from_ip([192, 0, 2, 1].into(), KeyPrefixes::default())),
            tried: &[],
        }
    }

    /// Picks `count` times and finishes each pick at once; returns the indices of the picked backends.
    pub(super) fn picks(view: &View, count: usize) -> Vec<usize> {
        let pick = |_| view.pick(&query()).picked().unwrap().index();
        (0..count).map(pick).collect()
    }
}
