//! One backend: its description in the config, and the backend in a view.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::BackendId;
use crate::load::Load;

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

    /// The host of the backend with another port.
    pub fn authority_at(&self, port: u16) -> String {
        authority(&self.host, port)
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
    /// The weight for the algorithms: that of the config, or while backends start slowly, the tenths of it.
    pub(crate) weight: u32,
    /// The share that a backend gets that starts slowly, in percent; 100 for one that does not.
    pub(crate) share: u32,
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
        self.weight
    }

    /// The number of exchanges that have picked this backend and have not finished.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// Whether the backend has left its cluster for good. An exchange that began before may still run.
    pub fn has_left(&self) -> bool {
        self.load.has_left()
    }

    /// Whether the drain of the backend is over, so that the exchanges that still run must end.
    pub fn is_cut(&self) -> bool {
        self.load.is_cut()
    }

    /// Notes that the head of a response has come before the end of the response, so that a long response or a tunnel does not
    /// look like silence.
    pub fn note_head(&self) {
        self.load.note_head();
    }

    /// Whether the backend is at its limit of requests at the same time.
    pub(crate) fn is_full(&self) -> bool {
        self.load.is_full()
    }

    /// Whether control found that the backend no longer answers, so that requests that wait for its response go to another
    /// backend if that is safe.
    pub fn is_given_up(&self) -> bool {
        self.load.is_given_up()
    }
}
