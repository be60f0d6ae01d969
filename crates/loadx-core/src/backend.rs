//! One backend: its description in the config, and the counts of its exchanges.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::BackendId;

/// The description of a backend in the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// The name of the backend in logs, metrics and pages.
    pub name: Arc<str>,
    /// A host name or an IP address.
    pub host: Arc<str>,
    /// The TCP port of the backend.
    pub port: u16,
    /// The name that a certificate of the backend must have: the host of the config, also if each address of the host is a
    /// backend.
    pub tls_name: Arc<str>,
    /// The share of the traffic, in proportion to the other weights; at least 1.
    pub weight: u32,
    /// Whether the backend gets no new requests.
    pub drain: bool,
}

impl BackendSpec {
    /// A backend of weight 1, named by its address.
    pub fn new(host: &str, port: u16) -> Self {
        let name = authority(host, port).into();
        let host: Arc<str> = host.into();
        BackendSpec { name, tls_name: Arc::clone(&host), host, port, weight: 1, drain: false }
    }

    /// `host:port`. Two entries with the same `host:port` are the same backend.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The addresses known without DNS: one for an IP address, `None` for a name.
    pub fn literal_addresses(&self) -> Option<Arc<[SocketAddr]>> {
        let ip = self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some([SocketAddr::new(ip, self.port)].into())
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A backend in rotation, as a [`View`](crate::View) shows it to workers.
#[derive(Debug)]
pub struct Backend {
    pub(crate) id: BackendId,
    pub(crate) spec: BackendSpec,
    pub(crate) addresses: Arc<[SocketAddr]>,
    pub(crate) load: Arc<Load>,
}

impl Backend {
    /// The id of the backend, unique in the process.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// The name of the backend in logs, metrics and pages.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The name as a shared pointer, which outlives the view.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.spec.name)
    }

    /// The addresses to connect to, in the order to try. Empty only in a simulation.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The name that a certificate of the backend must have.
    pub fn tls_name(&self) -> &str {
        &self.spec.tls_name
    }

    /// The share of the traffic, in proportion to the other weights.
    pub fn weight(&self) -> u32 {
        self.spec.weight
    }

    /// The number of exchanges that have picked this backend and have not finished.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// Whether the backend has left its cluster for good. An exchange that began before may still run.
    pub fn has_left(&self) -> bool {
        self.load.has_left.load(Ordering::Relaxed)
    }

    /// Whether the drain of the backend is over, so that the exchanges that still run must end.
    pub fn is_cut(&self) -> bool {
        self.load.is_cut.load(Ordering::Relaxed)
    }
}

/// The counts of one backend, which every worker writes. `Load` fills two cache lines (the second because of the
/// adjacent-line prefetcher), so that a write for one backend does not slow down another backend.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Load {
    in_flight: AtomicU32,
    /// Written once, by control.
    has_left: AtomicBool,
    /// Written by control, at the end of a drain and when a drained backend gets requests again.
    is_cut: AtomicBool,
}

impl Load {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that the backend has left its cluster.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    /// Sets whether the exchanges that still run must end.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "an exchange finished twice");
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in flight", self.in_flight())
    }
}
