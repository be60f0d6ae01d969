//! Changes of backends, reported once, for the log and for pages. The core returns events; it never logs.

use std::fmt;
use std::sync::Arc;

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
    /// Whether the event is a warning: a backend stopped serving.
    pub fn is_warning(&self) -> bool {
        matches!(self, Event::Ejected { .. } | Event::Unresolved { .. })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { backend, .. } => write!(f, "backend {backend} added"),
            Event::Removed { backend, .. } => write!(f, "backend {backend} removed"),
            Event::Admitted { backend, reason } => write!(f, "backend {backend} is up: {reason}"),
            Event::Ejected { backend, reason } => write!(f, "backend {backend} is down: {reason}"),
            Event::Resolved { backend, addresses } => write!(f, "backend {backend} resolves to {addresses}"),
            Event::Unresolved { backend, reason } => write!(f, "backend {backend} does not resolve: {reason}"),
        }
    }
}
