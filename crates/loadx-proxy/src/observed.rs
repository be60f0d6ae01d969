//! What control and the workers see at one moment, for operators.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::plan::{ClusterSnapshot, DrainSnapshot};
use loadx_core::{BackendId, ClusterEvent, ClusterId};

use crate::telemetry::Shard;

/// The state of a running proxy.
#[derive(Debug)]
pub struct Observed {
    /// The number of the plan, from 1.
    pub generation: u64,
    /// The time since the start.
    pub uptime: Duration,
    /// The time since the present config was applied.
    pub applied: Duration,
    /// Why a later config could not be applied, and the time since then.
    pub last_failure: Option<(Duration, String)>,
    /// The listeners, in the order of the config.
    pub listeners: Vec<ListenerObserved>,
    /// The listeners that were removed and still have client connections.
    pub listener_drains: Vec<ListenerDrain>,
    /// The clusters, in the order of the config.
    pub clusters: Vec<ClusterSnapshot>,
    /// The backends that were removed or drained and still have running exchanges.
    pub drains: Vec<DrainSnapshot>,
    /// The tunnels of each backend; only backends with tunnels.
    pub tunnels: Vec<(BackendId, usize)>,
    /// The client connections.
    pub connections: usize,
    /// The most client connections at the same time.
    pub connections_max: usize,
    /// What all workers have counted.
    pub counts: Counts,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerObserved {
    /// The name of the listener.
    pub name: Arc<str>,
    /// The addresses, each with the port that the system chose where the config has port 0.
    pub addresses: Vec<SocketAddr>,
    /// The client connections.
    pub connections: usize,
}

/// A listener that was removed and still has client connections.
#[derive(Clone, Debug)]
pub struct ListenerDrain {
    /// The addresses of the listener.
    pub addresses: Vec<SocketAddr>,
    /// The client connections.
    pub connections: usize,
    /// The time until LoadX closes the connections.
    pub left: Duration,
}

/// What all workers have counted.
#[derive(Debug)]
pub struct Counts(pub(crate) Box<Shard>);

/// The counts of exchanges that ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounts {
    /// The exchanges.
    pub requests: u64,
    /// The exchanges that ended with an error.
    pub errors: u64,
}

impl Counts {
    /// The exchanges of a backend.
    pub fn backend(&self, id: BackendId) -> ExchangeCounts {
        let counts = self.0.backends().get(&id);
        counts.map_or_else(ExchangeCounts::default, |counts| ExchangeCounts {
            requests: counts.requests(),
            errors: counts.errors,
        })
    }

    /// The exchanges of a cluster.
    pub fn cluster(&self, id: ClusterId) -> ExchangeCounts {
        let counts = self.0.cluster(id);
        ExchangeCounts { requests: counts.requests(), errors: counts.errors }
    }

    /// All requests of clients since `earlier`, those included that LoadX answered itself, and the response time that 99
    /// percent of them did not exceed.
    pub fn total_since(&self, earlier: &Counts) -> (ExchangeCounts, Duration) {
        self.0.total_since(&earlier.0)
    }

    /// The exchanges of these clusters since `earlier`, and the response time that 99 percent of them did not exceed.
    pub fn since(&self, earlier: &Counts, clusters: &[ClusterId]) -> (ExchangeCounts, Duration) {
        self.0.since(&earlier.0, clusters)
    }
}

/// An event, for operators who follow the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Whether the event is a warning.
    pub is_warning: bool,
    /// The event in words, as in the log.
    pub text: Arc<str>,
}

impl From<&ClusterEvent> for EventRecord {
    fn from(event: &ClusterEvent) -> Self {
        EventRecord { is_warning: event.event.is_warning(), text: event.to_string().into() }
    }
}
