//! The validated config: every value is present and in range.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{LogField, LogFormat};
use crate::route::Route;
use crate::{Algorithm, AttemptPolicy, BackendSpec, HealthPolicy};

/// The validated config.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The addresses on which LoadX accepts connections.
    pub listeners: Vec<ListenerConfig>,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// The clusters.
    pub clusters: Vec<ClusterConfig>,
    /// The number of worker threads; `None` means one for each processor that the process may use.
    pub workers: Option<usize>,
    /// The largest number of client connections at the same time, over all workers.
    pub max_connections: usize,
    /// The timeouts of requests, connections and the shutdown.
    pub timeouts: Timeouts,
    /// The limits of one client.
    pub client_limits: ClientLimits,
    /// The fields about LoadX and the client that LoadX adds to messages.
    pub signature: Signature,
    /// The access log; `None` when the log is off.
    pub access_log: Option<AccessLogConfig>,
    /// Whether `/__metrics__` answers.
    pub metrics: bool,
    /// Peers whose X-Forwarded fields LoadX trusts.
    pub trusted_proxies: Vec<IpNet>,
    /// Clients to which `/__health__`, `/__metrics__` and `/__status__` answer.
    pub endpoints_allow: Vec<IpNet>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The name of the listener in routes and logs.
    pub name: Arc<str>,
    /// Host and port.
    pub at: HostPort,
    /// Whether the status endpoints answer on this listener.
    pub endpoints: bool,
}

/// A set of backends with one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The name of the cluster.
    pub name: Arc<str>,
    /// The algorithm that picks a backend.
    pub algorithm: Algorithm,
    /// The backends of the cluster.
    pub backends: Vec<BackendSpec>,
    /// Whether each address of a name is a separate backend.
    pub resolve_each: bool,
    /// How LoadX probes the backends.
    pub health: HealthPolicy,
    /// The timeouts of attempts.
    pub attempt: AttemptPolicy,
}

impl Config {
    /// The backends of all clusters, each with its cluster.
    pub fn backends(&self) -> impl Iterator<Item = (&ClusterConfig, &BackendSpec)> {
        self.clusters.iter().flat_map(|cluster| cluster.backends.iter().map(move |backend| (cluster, backend)))
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host name, the IPv4 address, or the IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The timeouts of requests, connections and the shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The longest time for the head of a request, from the first byte.
    pub request_head: Duration,
    /// The longest time of a whole exchange, except tunnels; `None` means no limit while bytes move.
    pub exchange: Option<Duration>,
    /// The longest time to open a connection to a backend.
    pub connect: Duration,
    /// The longest silence of a backend: before the response, and between two pieces of the response.
    pub request: Duration,
    /// The longest silence of a client between two requests on a connection.
    pub keepalive: Duration,
    /// The longest time that a backend connection may be idle.
    pub backend_keepalive: Duration,
    /// The longest time without a byte in either direction of a tunnel.
    pub tunnel: Duration,
    /// The longest time of running exchanges after the shutdown begins.
    pub shutdown_grace: Duration,
}

impl Timeouts {
    /// The timeouts of the attempts of an exchange.
    pub fn attempt(&self) -> AttemptPolicy {
        AttemptPolicy { connect: self.connect, response: self.request, exchange: self.exchange }
    }
}

/// The limits of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// The largest number of requests on one connection.
    pub requests_per_connection: u64,
    /// The largest content of one request, in bytes; `None` means no limit.
    pub body_max: Option<u64>,
    /// The lowest rate of a body while LoadX waits for the client, in bytes per second; 0 means no limit.
    pub body_rate_min: u64,
}

/// The fields about LoadX and the client that LoadX adds to messages, except the X-Forwarded fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The name of LoadX in Via; `None` means no Via.
    pub via: Option<String>,
    /// Whether backends get Forwarded.
    pub forwarded: bool,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The format of a line.
    pub format: LogFormat,
    /// The request fields that a line shows, in this order.
    pub fields: Vec<LogField>,
    /// The file to which LoadX appends the log; `None` means standard output.
    pub file: Option<PathBuf>,
}
