//! What changed, told once, for the log and for pages. The core returns events; it never logs.

use std::fmt;
use std::sync::Arc;

use crate::BackendId;

/// A change in who may get requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A backend came into the config.
    Added {
        /// The backend's id.
        id: BackendId,
        /// The backend's name.
        backend: Arc<str>,
    },
    /// A backend left the config; what runs on it finishes.
    Removed {
        /// The backend's id, which no other backend will have.
        id: BackendId,
        /// The backend's name.
        backend: Arc<str>,
    },
    /// A backend proved healthy and is in rotation.
    Admitted {
        /// The backend's name.
        backend: Arc<str>,
        /// The evidence.
        reason: Arc<str>,
    },
    /// A backend proved unhealthy and is out of rotation.
    Ejected {
        /// The backend's name.
        backend: Arc<str>,
        /// The evidence.
        reason: Arc<str>,
    },
    /// A backend's name led to other addresses than before.
    Resolved {
        /// The backend's name.
        backend: Arc<str>,
        /// The addresses, as text.
        addresses: String,
    },
    /// A backend's name could not be resolved. Addresses known before stay in use.
    Unresolved {
        /// The backend's name.
        backend: Arc<str>,
        /// What the resolver said.
        reason: Arc<str>,
    },
}

impl Event {
    /// Whether somebody should look: a backend stopped serving.
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
