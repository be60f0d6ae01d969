//! The plan: the data that workers need to serve; immutable; control publishes a plan as a whole.
//!
//! [`Desired`] is the state of control; [`Desired::apply`] turns a config into the next plan. Between two plans only
//! the views of clusters change.

pub mod compare;
mod desired;
mod drains;
mod expansion;
mod inheritance;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::config::{BackendTransport, ClientLimits, ClientRules, Config, ConnectionsPerClient, Signature, Timeouts};
use crate::route::RouteTable;
use crate::{AttemptPolicy, ClusterId, ListenerId, RouteId, View};

pub use desired::{ClusterSnapshot, Desired, NameToResolve, ProbeToRun};
pub use drains::DrainSnapshot;
pub use inheritance::Inheritance;

/// The data that workers need to serve.
#[derive(Debug)]
pub struct Plan {
    /// The number of the plan in the process, from 1.
    pub generation: u64,
    /// Settings for every listener and cluster.
    pub process: ProcessPolicy,
    /// The addresses that clients connect to, in the order of the config.
    pub listeners: Box<[ListenerPlan]>,
    /// The routes.
    pub routes: RouteTable,
    /// The id of each route, by its position. A route keeps its id from plan to plan, by its name.
    pub route_ids: Box<[RouteId]>,
    /// The clusters, in the order of the config.
    pub clusters: Box<[Arc<ClusterSlot>]>,
}

impl Plan {
    /// The position of a listener; none when the listener is not in this plan.
    pub fn listener(&self, id: ListenerId) -> Option<usize> {
        self.listeners.iter().position(|listener| listener.id == id)
    }
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPlan {
    /// The id that the listener keeps from plan to plan.
    pub id: ListenerId,
    /// The name in logs and pages.
    pub name: Arc<str>,
    /// Whether the status endpoints answer here.
    pub endpoints: bool,
    /// Whether clients connect with TLS.
    pub tls: bool,
    /// What LoadX asks of clients, by host.
    pub client_rules: Arc<ClientRules>,
    /// The port of https to which every request is redirected; `None` means no redirect.
    pub https_port: Option<u16>,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// The field line of Strict-Transport-Security with its CR LF, or nothing.
    pub hsts_line: Arc<str>,
    /// The peers whose connections begin with the client's address in the PROXY protocol.
    pub proxy_protocol: Arc<[IpNet]>,
}

/// One cluster of a plan.
#[derive(Debug)]
pub struct ClusterSlot {
    /// The id of the cluster, the same in every plan.
    pub id: ClusterId,
    /// The name in logs and pages.
    pub name: Arc<str>,
    /// The backends in rotation. Control replaces the view when the health of a backend changes; the plan stays.
    pub view: Arc<ArcSwap<View>>,
    /// The time limits of attempts.
    pub attempt: AttemptPolicy,
    /// The field, in lower case, that tells clients apart in the queue; `None`: their addresses.
    pub client_field: Option<Arc<str>>,
    /// What lies between TCP and HTTP on connections to the backends. Plans share the value while the config stays the same:
    /// a connection that was opened with another value is not reused.
    pub transport: Arc<BackendTransport>,
}

/// Settings for every listener and cluster.
#[derive(Clone, Debug)]
pub struct ProcessPolicy {
    /// The time limits of requests, connections and the shutdown.
    pub timeouts: Timeouts,
    /// The limits for one client.
    pub client_limits: ClientLimits,
    /// The fields about LoadX that LoadX adds to messages.
    pub signature: Signature,
    /// Whether requests that name no trace get a traceparent.
    pub trace_context: bool,
    /// Of the requests that no caller traces, one in so many has spans (0: none); `None` if no request has spans.
    pub spans_one_in: Option<u64>,
    /// Peers whose X-Forwarded fields LoadX trusts.
    pub trusted_proxies: Vec<IpNet>,
    /// Clients that the status endpoints answer.
    pub endpoints_allow: Vec<IpNet>,
    /// Whether `/__metrics__` answers.
    pub metrics: bool,
    /// Whether `/__dashboard__` answers.
    pub dashboard: bool,
    /// The most client connections at the same time, over all workers.
    pub max_connections: usize,
    /// The most bytes of memory that the process may use; `None` for the limit of its control group alone.
    pub memory_max: Option<u64>,
    /// The most connections of one client address.
    pub connections_per_client: ConnectionsPerClient,
}

impl ProcessPolicy {
    pub(crate) fn new(config: &Config) -> Self {
        ProcessPolicy {
            timeouts: config.timeouts.clone(),
            client_limits: config.client_limits.clone(),
            signature: config.signature.clone(),
            trace_context: config.trace_context,
            spans_one_in: config.tracing.as_ref().map(|tracing| tracing.one_in),
            trusted_proxies: config.trusted_proxies.clone(),
            endpoints_allow: config.endpoints_allow.clone(),
            metrics: config.metrics,
            dashboard: config.dashboard,
            max_connections: config.max_connections,
            memory_max: config.memory_max,
            connections_per_client: config.connections_per_client,
        }
    }

    /// Whether LoadX trusts the X-Forwarded fields of `peer`.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }

    /// Whether the status endpoints answer `client`.
    pub fn shows_endpoints_to(&self, client: IpAddr) -> bool {
        self.endpoints_allow.iter().any(|network| network.contains(&client))
    }
}
