//! The config that runs: every value present and in range.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{LogField, LogFormat};
use crate::route::Route;
use crate::{Algorithm, AttemptPolicy, BackendSpec, HealthPolicy};

/// What runs: every value present and in range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect.
    pub listeners: Vec<ListenerConfig>,
    /// Where requests go.
    pub routes: Vec<Route>,
    /// The servers that answer requests.
    pub clusters: Vec<ClusterConfig>,
    /// Worker threads; none means one for each processor that the process may use.
    pub workers: Option<usize>,
    /// Client connections at the same time, over all workers.
    pub max_connections: usize,
    /// How long requests, connections and the shutdown may take.
    pub timeouts: Timeouts,
    /// What one client may ask for.
    pub client_limits: ClientLimits,
    /// What LoadX writes about itself and the client into messages.
    pub signature: Signature,
    /// The log of requests; none when it is off.
    pub access_log: Option<AccessLogConfig>,
    /// Whether `/__metrics__` answers.
    pub metrics: bool,
    /// Peers whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Clients that `/__health__`, `/__metrics__` and `/__status__` answer.
    pub endpoints_allow: Vec<IpNet>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// What people call it.
    pub name: Arc<str>,
    /// Host and port.
    pub at: HostPort,
    /// Whether the status endpoints answer here.
    pub endpoints: bool,
}

/// A set of backends with one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What people call it.
    pub name: Arc<str>,
    /// The policy that picks.
    pub algorithm: Algorithm,
    /// The servers that answer requests.
    pub backends: Vec<BackendSpec>,
    /// Whether each address of a name is a backend of its own.
    pub resolve_each: bool,
    /// How backends are probed.
    pub health: HealthPolicy,
    /// How long attempts may take.
    pub attempt: AttemptPolicy,
}

impl Config {
    /// The backends of all clusters, with the clusters that they belong to.
    pub fn backends(&self) -> impl Iterator<Item = (&ClusterConfig, &BackendSpec)> {
        self.clusters.iter().flat_map(|cluster| cluster.backends.iter().map(move |backend| (cluster, backend)))
    }
}

/// A host name or address and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The head of a request, from its first byte.
    pub request_head: Duration,
    /// A whole exchange, tunnels aside; none means as long as bytes move.
    pub exchange: Option<Duration>,
    /// Opening a connection to a backend.
    pub connect: Duration,
    /// A backend's silence: until its response begins, and between two pieces of it.
    pub request: Duration,
    /// A client's silence between two requests on a connection.
    pub keepalive: Duration,
    /// How long a connection to a backend may be idle.
    pub backend_keepalive: Duration,
    /// The silence, both ways, of a connection that was upgraded.
    pub tunnel: Duration,
    /// What runs when the shutdown begins.
    pub shutdown_grace: Duration,
}

impl Timeouts {
    /// How long the attempts of an exchange may take.
    pub fn attempt(&self) -> AttemptPolicy {
        AttemptPolicy { connect: self.connect, response: self.request, exchange: self.exchange }
    }
}

/// What one client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests of one connection.
    pub requests_per_connection: u64,
    /// The content of one request, in bytes; none means any.
    pub body_max: Option<u64>,
    /// What it must move of a body while LoadX waits for it, in bytes a second; 0 means any.
    pub body_rate_min: u64,
}

/// What LoadX writes about itself and the client into messages, beside the X-Forwarded fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Its name in Via; none means no Via.
    pub via: Option<String>,
    /// Whether backends get Forwarded.
    pub forwarded: bool,
}

/// Where the log of requests goes, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Fields of the request that a line shows, in this order.
    pub fields: Vec<LogField>,
    /// The file to append to; none means standard output.
    pub file: Option<PathBuf>,
}
