//! Changes of backends, reported once, for the log and for pages. The core returns events; it never logs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::BackendId;

/// A change in the set of backends that get requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The config has a new backend.
    Added {
        /// The backend's id.
        id: BackendId,
        /// The backend's name.
        backend: Arc<str>,
    },
    /// A backend is no longer in the config; its running exchanges finish.
    Removed {
        /// The id of the backend, which is never reused.
        id: BackendId,
        /// The backend's name.
        backend: Arc<str>,
    },
    /// A backend gets no new requests, because the config drains the backend; its running exchanges finish.
    Drained {
        /// The backend's name.
        backend: Arc<str>,
    },
    /// The config no longer drains a backend, which gets requests again if healthy.
    Undrained {
        /// The backend's name.
        backend: Arc<str>,
    },
    /// The drain of a backend is over, and LoadX ends the exchanges that still run.
    Cut {
        /// The backend's name.
        backend: Arc<str>,
        /// The number of exchanges.
        exchanges: u32,
    },
    /// Control admitted a healthy backend.
    Admitted {
        /// The backend's name.
        backend: Arc<str>,
        /// The evidence.
        reason: Arc<str>,
    },
    /// Control ejected an unhealthy backend.
    Ejected {
        /// The backend's name.
        backend: Arc<str>,
        /// The evidence.
        reason: Arc<str>,
    },
    /// Control ejected a backend that answers probes and differs from the other backends.
    OutlierEjected {
        /// The backend's name.
        backend: Arc<str>,
        /// The difference.
        reason: Arc<str>,
        /// The duration of the ejection.
        lasts: Duration,
    },
    /// Control admitted a backend that was ejected as an outlier. If probes of the backend fail, it gets no requests yet.
    Returned {
        /// The backend's name.
        backend: Arc<str>,
        /// Why the ejection ended.
        reason: Arc<str>,
    },
    /// No request gets a backend, because most requests failed.
    BreakerOpened {
        /// The share of failures, and the time.
        reason: Arc<str>,
    },
    /// Requests get backends again.
    BreakerClosed {
        /// The share of failures.
        reason: Arc<str>,
    },
    /// The name of a backend resolved to other addresses than before.
    Resolved {
        /// The backend's name.
        backend: Arc<str>,
        /// The addresses, as text.
        addresses: String,
    },
    /// The name of a backend did not resolve. Known addresses stay in use.
    Unresolved {
        /// The backend's name.
        backend: Arc<str>,
        /// The reason that the resolver gave.
        reason: Arc<str>,
    },
}

impl Event {
    /// Whether the event is a warning: a backend stopped serving, or exchanges were cut.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Event::Ejected { .. }
                | Event::OutlierEjected { .. }
                | Event::BreakerOpened { .. }
                | Event::Unresolved { .. }
                | Event::Cut { .. }
        )
    }
}

impl Event {
    fn write(&self, cluster: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = cluster.map_or_else(String::new, |cluster| format!(" of cluster {cluster}"));
        match self {
            Event::Added { backend, .. } => write!(f, "backend {backend}{of} added"),
            Event::Removed { backend, .. } => write!(f, "backend {backend}{of} removed"),
            Event::Drained { backend } => write!(f, "backend {backend}{of} is drained: no new requests"),
            Event::Undrained { backend } => write!(f, "backend {backend}{of} is no longer drained"),
            Event::Cut { backend, exchanges } => {
                write!(f, "the drain of backend {backend}{of} is over; LoadX ends its running exchanges ({exchanges})")
            }
            Event::Admitted { backend, reason } => write!(f, "backend {backend}{of} is up: {reason}"),
            Event::Ejected { backend, reason } => write!(f, "backend {backend}{of} is down: {reason}"),
            Event::OutlierEjected { backend, reason, lasts } => {
                write!(f, "backend {backend}{of} is ejected for {} s: {reason}", lasts.as_secs_f64())
            }
            Event::Returned { backend, reason } => write!(f, "backend {backend}{of} is no longer ejected: {reason}"),
            Event::BreakerOpened { reason } => write!(f, "the circuit breaker{of} is open: {reason}"),
            Event::BreakerClosed { reason } => write!(f, "the circuit breaker{of} is closed again: {reason}"),
            Event::Resolved { backend, addresses } => write!(f, "backend {backend}{of} resolves to {addresses}"),
            Event::Unresolved { backend, reason } => write!(f, "backend {backend}{of} does not resolve: {reason}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(None, f)
    }
}

/// An event, and the cluster of its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    /// The name of the cluster; `None` if the config has only one cluster.
    pub cluster: Option<Arc<str>>,
    /// The event.
    pub event: Event,
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.write(self.cluster.as_deref(), f)
    }
}
