//! The state of a cluster, for status pages and tests. A snapshot decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Algorithm, BackendId, Standing};

/// The state of a cluster at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The algorithm of the cluster.
    pub algorithm: Algorithm,
    /// The requests that wait because every backend, or the cluster, is at its limit.
    pub waiting: usize,
    /// The exchanges in flight; `None` unless the cluster has a limit.
    pub in_flight: Option<u32>,
    /// The most exchanges in flight at all backends; `None` for no limit.
    pub limit: Option<u32>,
    /// The state of the circuit breaker: closed, open or trying; `None` without one.
    pub breaker: Option<&'static str>,
    /// The requests that may still be sent again now.
    pub retry_budget: u64,
    /// The backends, in the order of the config.
    pub backends: Vec<BackendSnapshot>,
}

impl Snapshot {
    /// The number of backends in rotation.
    pub fn admitted(&self) -> usize {
        self.backends.iter().filter(|backend| backend.admitted).count()
    }
}

/// The state of one backend.
#[derive(Clone, Debug)]
pub struct BackendSnapshot {
    /// The id of the backend, unique in the process.
    pub id: BackendId,
    /// The name of the backend.
    pub name: Arc<str>,
    /// Host name or address, as configured.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// The weight in the config.
    pub weight: u32,
    /// Whether the backend is drained.
    pub drained: bool,
    /// The addresses that the host name resolved to.
    pub addresses: Arc<[SocketAddr]>,
    /// The health of the backend; `None` when its cluster makes no probes.
    pub standing: Option<Standing>,
    /// The rest of the time for which the backend is ejected as an outlier; `None` when the backend is not ejected, or when its
    /// probes fail as well.
    pub ejected: Option<Duration>,
    /// How often the backend was taken out of rotation for failures.
    pub ejections: u64,
    /// Whether the backend is in rotation.
    pub admitted: bool,
    /// The reason for the standing, as text.
    pub reason: Arc<str>,
    /// The time since the standing last changed.
    pub since: Duration,
    /// The number of exchanges in flight.
    pub in_flight: u32,
    /// The most exchanges in flight; `None` for no limit.
    pub limit: Option<u32>,
    /// The time since the last probe ended; `None` before the first.
    pub last_probe: Option<Duration>,
    /// The duration of the last good probe; `None` before the first.
    pub probe_took: Option<Duration>,
}

impl BackendSnapshot {
    /// The state in one word or two: up, down, unproven, not probed, ejected (as an outlier) or drained.
    pub fn state(&self) -> &'static str {
        match self.standing {
            _ if self.drained => "drained",
            _ if self.ejected.is_some() => "ejected",
            Some(standing) => standing.as_str(),
            None => "not probed",
        }
    }
}
