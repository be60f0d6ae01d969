//! One server that answers requests: what it is, and what is counted about it while it does.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::BackendId;

/// A backend as the config describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// What people call it; shown in logs, metrics and pages.
    pub name: Arc<str>,
    /// A host name or an IP address.
    pub host: Arc<str>,
    /// Its TCP port.
    pub port: u16,
    /// Its share of the traffic, in proportion to the other weights; at least 1.
    pub weight: u32,
}

impl BackendSpec {
    /// A backend of weight 1, named by its address.
    pub fn new(host: &str, port: u16) -> Self {
        BackendSpec { name: authority(host, port).into(), host: host.into(), port, weight: 1 }
    }

    /// `host:port`: what makes two entries the same backend, whatever else they say.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The addresses that are known without asking DNS: one for an IP address, none for a name.
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
    /// Its id.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its name, to keep beyond the view.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.spec.name)
    }

    /// Where to connect, in the order to try. Empty in a simulation only.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its share of the traffic.
    pub fn weight(&self) -> u32 {
        self.spec.weight
    }

    /// Exchanges that were picked and have not finished.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// Whether the backend has left its cluster for good. An exchange that began before may still run.
    pub fn has_left(&self) -> bool {
        self.load.has_left.load(Ordering::Relaxed)
    }
}

/// What every worker writes about one backend. It fills two cache lines of its own (the second for
/// the neighbour-line prefetcher), so that counting one backend does not slow another.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Load {
    in_flight: AtomicU32,
    /// Written once, by control.
    has_left: AtomicBool,
}

impl Load {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that the backend has left its cluster.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
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
