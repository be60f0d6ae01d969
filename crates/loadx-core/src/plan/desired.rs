//! The desired state of control: the clusters of the present config, with the health of their backends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::drains::{DrainSnapshot, Drains};
use super::expansion::Expansion;
use super::{ClusterSlot, ListenerPlan, Plan, ProcessPolicy};
use crate::config::{BackendTransport, ClusterConfig, Config, HostPort, ListenerConfig};
use crate::route::RouteTable;
use crate::{
    AttemptPolicy, BackendId, Cluster, ClusterEvent, ClusterId, Event, HealthPolicy, Ids, ListenerId, NameAnswer,
    Observation, Rng, RouteId, Snapshot, Time,
};

/// The state of control. Only control writes it.
#[derive(Debug)]
pub struct Desired {
    ids: Ids,
    clusters: Vec<Member>,
    /// The addresses of the listeners of the present plan, in its order.
    listeners: Vec<(ListenerId, HostPort)>,
    /// The position of the cluster of each backend and of each name.
    owners: BTreeMap<BackendId, usize>,
    drains: Drains,
    plan: Arc<Plan>,
}

/// A cluster of the present config.
#[derive(Debug)]
struct Member {
    id: ClusterId,
    name: Arc<str>,
    cluster: Cluster,
    view: Arc<ArcSwap<crate::View>>,
    expansion: Expansion,
    health: Arc<HealthPolicy>,
    attempt: AttemptPolicy,
    client_field: Option<Arc<str>>,
    transport: Arc<BackendTransport>,
}

/// A name to resolve while the name belongs to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameToResolve {
    /// The id for [`Desired::resolved`].
    pub id: BackendId,
    /// The name.
    pub host: Arc<str>,
    /// The port of the backend.
    pub port: u16,
}

/// A probe that is due.
#[derive(Clone, Debug)]
pub struct ProbeToRun {
    /// The backend.
    pub id: BackendId,
    /// The kind of probe, and its longest time.
    pub policy: Arc<HealthPolicy>,
    /// Host and port, for Host.
    pub authority: String,
    /// The addresses to connect to.
    pub addresses: Arc<[SocketAddr]>,
    /// The name that a certificate of the backend must have.
    pub tls_name: Arc<str>,
    /// What lies between TCP and HTTP.
    pub transport: Arc<BackendTransport>,
}

/// The state of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    /// The id of the cluster.
    pub id: ClusterId,
    /// The name of the cluster.
    pub name: Arc<str>,
    /// The algorithm and the backends of the cluster.
    pub snapshot: Snapshot,
}

impl Desired {
    /// Makes the first plan of a process. Returns the state and the events for the log.
    pub fn new(now: Time, config: &Config) -> (Self, Vec<ClusterEvent>) {
        let plan = Plan {
            generation: 0,
            process: ProcessPolicy::new(config),
            listeners: Box::default(),
            routes: RouteTable::new(Vec::new()),
            route_ids: Box::default(),
            clusters: Box::default(),
        };
        let mut desired = Desired {
            ids: Ids::default(),
            clusters: Vec::new(),
            listeners: Vec::new(),
            owners: BTreeMap::new(),
            drains: Drains::default(),
            plan: Arc::new(plan),
        };
        let events = desired.apply(now, config);
        desired.publish();
        (desired, events)
    }

    /// The present plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The listeners of the present plan with their addresses in the config.
    pub fn listeners(&self) -> &[(ListenerId, HostPort)] {
        &self.listeners
    }

    /// The listeners of `config` whose addresses are not those of a listener of the present plan, in the order of the
    /// config.
    pub fn new_listeners<'c>(&self, config: &'c Config) -> impl Iterator<Item = &'c ListenerConfig> {
        let matched = self.matching_listeners(config);
        config.listeners.iter().zip(matched).filter(|(_, id)| id.is_none()).map(|(listener, _)| listener)
    }

    /// For each listener of `config`, the listener of the present plan with the same address. Several listeners may have
    /// the same address with port 0; they match in their order.
    pub fn matching_listeners(&self, config: &Config) -> Vec<Option<ListenerId>> {
        let mut left = self.listeners.clone();
        let listeners = config.listeners.iter();
        let matched = listeners.map(|typed| {
            let position = left.iter().position(|(_, known)| *known == typed.at)?;
            Some(left.remove(position).0)
        });
        matched.collect()
    }

    /// The names of the present plan that have addresses, with host and port.
    pub fn known_addresses(&self) -> impl Iterator<Item = ((Arc<str>, u16), Arc<[SocketAddr]>)> {
        self.clusters.iter().flat_map(|member| {
            let of_backends = member.cluster.ids().filter_map(|id| {
                let spec = member.cluster.spec(id).filter(|spec| spec.literal_addresses().is_none())?;
                Some((spec, member.cluster.addresses(id)?))
            });
            let known = of_backends.chain(member.expansion.known_addresses());
            let known = known.filter(|(_, addresses)| !addresses.is_empty());
            known.map(|(spec, addresses)| ((Arc::clone(&spec.host), spec.port), addresses)).collect::<Vec<_>>()
        })
    }

    /// Makes the plan of a config. A listener keeps its id, by its address. A cluster that was there before, by name,
    /// keeps its id; its backends keep their ids, their health and their counts, by host and port. Workers see the views
    /// only after [`publish`](Desired::publish), so that names that are known already can be resolved before.
    pub fn apply(&mut self, now: Time, config: &Config) -> Vec<ClusterEvent> {
        let mut events = Vec::new();
        let former = std::mem::take(&mut self.clusters);
        let is_only = former.len().max(config.clusters.len()) == 1;
        let limit = config.timeouts.drain;
        let mut former: BTreeMap<Arc<str>, Member> =
            former.into_iter().map(|member| (Arc::clone(&member.name), member)).collect();
        for typed in &config.clusters {
            let mut member = match former.remove(&typed.name) {
                Some(known) => known,
                None => Member::new(self.ids.cluster(), typed),
            };
            let news = member.update(now, typed, &mut self.ids);
            events.extend(member.events(is_only, news));
            self.drains.begin(now, limit, (&member.name, !is_only), member.cluster.take_leaving());
            self.clusters.push(member);
        }
        for mut gone in former.into_values() {
            let news = gone.cluster.update(now, Vec::new(), &mut self.ids);
            events.extend(gone.events(is_only, news));
            self.drains.begin(now, limit, (&gone.name, !is_only), gone.cluster.take_leaving());
        }
        self.index();
        let (owners, clusters) = (&self.owners, &self.clusters);
        let spec = |id: BackendId| clusters[*owners.get(&id)?].cluster.spec(id);
        self.drains.cancel(|id| spec(id).is_some_and(|spec| !spec.drain));
        let matched = self.matching_listeners(config);
        let mut listeners = Vec::new();
        for (typed, id) in config.listeners.iter().zip(matched) {
            listeners.push((id.unwrap_or_else(|| self.ids.listener()), typed.at.clone()));
        }
        self.listeners = listeners;
        let route_ids = self.route_ids(config);
        self.plan = Arc::new(Plan {
            generation: self.plan.generation + 1,
            process: ProcessPolicy::new(config),
            listeners: config
                .listeners
                .iter()
                .zip(&self.listeners)
                .map(|(typed, (id, _))| ListenerPlan {
                    id: *id,
                    name: Arc::clone(&typed.name),
                    endpoints: typed.endpoints,
                    tls: typed.tls.is_some(),
                    client_rules: typed.tls.as_ref().map_or_else(Arc::default, |tls| Arc::clone(&tls.clients)),
                    https_port: typed.https_port,
                    http2: typed.http2,
                    hsts_line: hsts_line(typed),
                    proxy_protocol: typed.proxy_protocol.as_slice().into(),
                })
                .collect(),
            routes: RouteTable::new(config.routes.clone()),
            route_ids,
            clusters: self.clusters.iter().map(Member::slot).collect(),
        });
        events
    }

    /// The id of each route of a config: that of the route with its name in the present plan, or a new one.
    fn route_ids(&mut self, config: &Config) -> Box<[RouteId]> {
        let former = self.plan.routes.routes().iter().zip(&self.plan.route_ids);
        let known: BTreeMap<&str, RouteId> = former.map(|(route, id)| (&*route.name, *id)).collect();
        let ids = &mut self.ids;
        config.routes.iter().map(|route| known.get(&*route.name).copied().unwrap_or_else(|| ids.route())).collect()
    }

    fn index(&mut self) {
        self.owners.clear();
        for (position, member) in self.clusters.iter().enumerate() {
            let names = member.expansion.names().map(|(id, _)| id);
            self.owners.extend(member.cluster.ids().chain(names).map(|id| (id, position)));
        }
    }

    /// Gives the first plan the number after `generation`.
    pub(super) fn number_plans_after(&mut self, generation: u64) {
        if let Some(plan) = Arc::get_mut(&mut self.plan) {
            plan.generation = generation + 1;
        }
    }

    pub(super) fn cluster_mut(&mut self, name: &str) -> Option<&mut Cluster> {
        self.clusters.iter_mut().find(|member| *member.name == *name).map(|member| &mut member.cluster)
    }

    fn owner(&mut self, id: BackendId) -> Option<&mut Member> {
        self.clusters.get_mut(*self.owners.get(&id)?)
    }

    /// Publishes the changed views. Returns whether a view changed.
    pub fn publish(&mut self) -> bool {
        let mut changed = false;
        for member in &mut self.clusters {
            let view = member.cluster.view();
            if !Arc::ptr_eq(&view, &member.view.load()) {
                member.view.store(view);
                member.cluster.release_waiting();
                changed = true;
            }
        }
        changed
    }

    /// Applies evidence about a backend; see [`Cluster::observe`].
    pub fn observe(
        &mut self,
        now: Time,
        id: BackendId,
        observation: &Observation,
        rng: &mut impl Rng,
    ) -> Option<ClusterEvent> {
        let is_only = self.clusters.len() == 1;
        let member = self.owner(id)?;
        let event = member.cluster.observe(now, id, observation, rng);
        member.events(is_only, event).pop()
    }

    /// Compares the backends of each cluster; see [`Cluster::look`].
    pub fn look(&mut self, now: Time) -> Vec<ClusterEvent> {
        let is_only = self.clusters.len() == 1;
        let mut events = Vec::new();
        for member in &mut self.clusters {
            let news = member.cluster.look(now);
            events.extend(member.events(is_only, news));
        }
        events
    }

    /// Applies an answer of DNS.
    pub fn resolved(&mut self, now: Time, id: BackendId, answer: NameAnswer) -> Vec<ClusterEvent> {
        let Some(position) = self.owners.get(&id).copied() else { return Vec::new() };
        let is_only = self.clusters.len() == 1;
        let member = &mut self.clusters[position];
        if member.cluster.spec(id).is_some() {
            let event = member.cluster.resolved(id, answer);
            return member.events(is_only, event);
        }
        let Some(event) = member.expansion.resolved(id, &answer) else { return Vec::new() };
        let mut events = vec![event];
        events.extend(member.cluster.update(now, member.expansion.specs(), &mut self.ids));
        let leaving = member.cluster.take_leaving();
        self.drains.begin(now, self.plan.process.timeouts.drain, (&member.name, !is_only), leaving);
        let events = member.events(is_only, events);
        self.index();
        events
    }

    /// The names to resolve now: names of backends, and names that mean several backends.
    pub fn names(&self) -> Vec<NameToResolve> {
        let mut names = Vec::new();
        for member in &self.clusters {
            let of_backends = member.cluster.ids().filter_map(|id| Some((id, member.cluster.spec(id)?)));
            let named = of_backends.filter(|(_, spec)| spec.literal_addresses().is_none());
            names.extend(named.chain(member.expansion.names()).map(|(id, spec)| NameToResolve {
                id,
                host: Arc::clone(&spec.host),
                port: spec.port,
            }));
        }
        names
    }

    /// The number of backends, without the backends of names that have not resolved.
    pub fn backends(&self) -> usize {
        self.clusters.iter().map(|member| member.cluster.ids().count()).sum()
    }

    /// When the next call of [`tick`](Desired::tick), [`look`](Desired::look) or [`end_drains`](Desired::end_drains) is due;
    /// `None` if none of them has anything to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let probes = self.clusters.iter().filter_map(|member| member.cluster.next_deadline());
        probes.chain(self.drains.next_deadline()).min()
    }

    /// Ends the drains that are over. The caller must wake the exchanges of the returned backends, which then end.
    pub fn end_drains(&mut self, now: Time) -> Vec<ClusterEvent> {
        self.drains.end(now)
    }

    /// The backends that were removed or drained and still have running exchanges.
    pub fn drains(&self, now: Time) -> Vec<DrainSnapshot> {
        self.drains.snapshot(now)
    }

    /// The probes to run now. The caller must call [`observe`](Desired::observe) once for each.
    pub fn tick(&mut self, now: Time) -> Vec<ProbeToRun> {
        let mut probes = Vec::new();
        for member in &mut self.clusters {
            for id in member.cluster.tick(now) {
                let (Some(spec), Some(addresses)) = (member.cluster.spec(id), member.cluster.addresses(id)) else {
                    continue;
                };
                let policy = Arc::clone(&member.health);
                let (tls_name, transport) = (Arc::clone(&spec.tls_name), Arc::clone(&member.transport));
                let (authority, addresses) = match policy.port {
                    None => (spec.authority(), addresses),
                    Some(port) => (spec.authority_at(port), at_port(&addresses, port)),
                };
                probes.push(ProbeToRun { id, policy, authority, addresses, tls_name, transport });
            }
        }
        probes
    }

    /// The state of every cluster, in the order of the config.
    pub fn snapshot(&self, now: Time) -> Vec<ClusterSnapshot> {
        let snapshot = |member: &Member| ClusterSnapshot {
            id: member.id,
            name: Arc::clone(&member.name),
            snapshot: member.cluster.snapshot(now),
        };
        self.clusters.iter().map(snapshot).collect()
    }
}

/// The addresses with another port.
fn at_port(addresses: &[SocketAddr], port: u16) -> Arc<[SocketAddr]> {
    let at_port = |mut address: SocketAddr| {
        address.set_port(port);
        address
    };
    addresses.iter().copied().map(at_port).collect()
}

impl Member {
    fn new(id: ClusterId, typed: &ClusterConfig) -> Self {
        let mut cluster = Cluster::new(typed.algorithm, typed.health.clone());
        Member {
            id,
            name: Arc::clone(&typed.name),
            view: Arc::new(ArcSwap::new(cluster.view())),
            cluster,
            expansion: Expansion::default(),
            health: Arc::new(typed.health.clone()),
            attempt: typed.attempt,
            client_field: typed.limits.client_field.clone(),
            transport: Arc::new(typed.transport.clone()),
        }
    }

    fn update(&mut self, now: Time, typed: &ClusterConfig, ids: &mut Ids) -> Vec<Event> {
        self.cluster.reconfigure(now, typed.algorithm, typed.health.clone());
        self.health = Arc::new(typed.health.clone());
        self.attempt = typed.attempt;
        self.cluster.set_retry_budget(typed.attempt.retry.budget);
        self.cluster.set_hedging(typed.hedge);
        self.cluster.set_limits(&typed.limits);
        self.client_field.clone_from(&typed.limits.client_field);
        if *self.transport != typed.transport {
            self.transport = Arc::new(typed.transport.clone());
        }
        self.expansion.update(typed, ids);
        self.cluster.update(now, self.expansion.specs(), ids)
    }

    /// Events of this cluster; `is_only`: whether the config has no other cluster.
    fn events(&self, is_only: bool, events: impl IntoIterator<Item = Event>) -> Vec<ClusterEvent> {
        let cluster = (!is_only).then_some(&self.name);
        events.into_iter().map(|event| ClusterEvent { cluster: cluster.cloned(), event }).collect()
    }

    fn slot(&self) -> Arc<ClusterSlot> {
        Arc::new(ClusterSlot {
            id: self.id,
            name: Arc::clone(&self.name),
            view: Arc::clone(&self.view),
            attempt: self.attempt,
            client_field: self.client_field.clone(),
            transport: Arc::clone(&self.transport),
        })
    }
}

/// The line of Strict-Transport-Security (RFC 6797), if the listener sends the field.
fn hsts_line(listener: &ListenerConfig) -> Arc<str> {
    let seconds = listener.tls.as_ref().and_then(|tls| tls.hsts);
    seconds.map_or_else(|| "".into(), |seconds| format!("Strict-Transport-Security: max-age={seconds}\r\n").into())
}

#[cfg(test)]
mod tests;
