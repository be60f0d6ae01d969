//! The plan: all that workers need to serve, immutable, published whole by control.
//!
//! [`Desired`] is control's state; [`Desired::apply`] turns a config into the next plan. Between two plans only the
//! views of clusters change.

mod desired;
mod expansion;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::config::{ClientLimits, Config, Signature, Timeouts};
use crate::route::RouteTable;
use crate::{AttemptPolicy, ClusterId, ListenerId, View};

pub use desired::{ClusterSnapshot, Desired, NameToResolve, ProbeToRun};

/// All that workers need to serve.
#[derive(Debug)]
pub struct Plan {
    /// Counts the plans of a process, from 1.
    pub generation: u64,
    /// What holds for every listener and cluster.
    pub process: ProcessPolicy,
    /// Where clients connect, in the order of the config.
    pub listeners: Box<[ListenerPlan]>,
    /// Where requests go.
    pub routes: RouteTable,
    /// The servers that answer, in the order of the config.
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
    /// Shown in logs and pages.
    pub name: Arc<str>,
    /// Whether the status endpoints answer here.
    pub endpoints: bool,
}

/// One cluster of a plan.
#[derive(Debug)]
pub struct ClusterSlot {
    /// Its id, which it keeps from plan to plan.
    pub id: ClusterId,
    /// Shown in logs and pages.
    pub name: Arc<str>,
    /// The backends in rotation. Control swaps the view when their health changes; the plan stays.
    pub view: Arc<ArcSwap<View>>,
    /// How long attempts may take.
    pub attempt: AttemptPolicy,
}

/// What holds for every listener and cluster.
#[derive(Clone, Debug)]
pub struct ProcessPolicy {
    /// How long requests, connections and the shutdown may take.
    pub timeouts: Timeouts,
    /// What one client may ask for.
    pub client_limits: ClientLimits,
    /// What LoadX writes about itself into messages.
    pub signature: Signature,
    /// Peers whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Clients that the status endpoints answer.
    pub endpoints_allow: Vec<IpNet>,
    /// Whether `/__metrics__` answers.
    pub metrics: bool,
    /// Client connections at the same time, over all workers.
    pub max_connections: usize,
}

impl ProcessPolicy {
    pub(crate) fn new(config: &Config) -> Self {
        ProcessPolicy {
            timeouts: config.timeouts.clone(),
            client_limits: config.client_limits.clone(),
            signature: config.signature.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            endpoints_allow: config.endpoints_allow.clone(),
            metrics: config.metrics,
            max_connections: config.max_connections,
        }
    }

    /// Whether a peer's word about where a request comes from is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }

    /// Whether a client may see the status endpoints.
    pub fn shows_endpoints_to(&self, client: IpAddr) -> bool {
        self.endpoints_allow.iter().any(|network| network.contains(&client))
    }
}
