//! The read model: how a cluster stands, for status pages and tests. It decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Algorithm, BackendId, Standing};

/// How a cluster stands at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The policy that picks.
    pub algorithm: Algorithm,
    /// Its backends, in the order of the config.
    pub backends: Vec<BackendSnapshot>,
}

impl Snapshot {
    /// How many backends are proven or presumed healthy and can be reached.
    pub fn admitted(&self) -> usize {
        self.backends.iter().filter(|backend| backend.admitted).count()
    }
}

/// How one backend stands.
#[derive(Clone, Debug)]
pub struct BackendSnapshot {
    /// The id of the backend, unique in the process.
    pub id: BackendId,
    /// What people call it.
    pub name: Arc<str>,
    /// Host name or address, as configured.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Configured share.
    pub weight: u32,
    /// What its host name led to.
    pub addresses: Arc<[SocketAddr]>,
    /// What the evidence says.
    pub standing: Standing,
    /// Whether it gets requests.
    pub admitted: bool,
    /// Why it stands so.
    pub reason: Arc<str>,
    /// How long it has stood so.
    pub since: Duration,
    /// Exchanges that run on it.
    pub in_flight: u32,
    /// How long ago the last probe ended, if one has.
    pub last_probe: Option<Duration>,
    /// How long the last good probe took.
    pub probe_took: Option<Duration>,
}
