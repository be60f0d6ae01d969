//! The state of one cluster in control: its backends, and which backends are admitted.
//!
//! A cluster has one writer, control. A [`View`] publishes its decisions.

mod admission;
mod member;
mod outliers;
mod ramp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::{BackendLimit, Gate, LimitPolicy, Total};
use crate::balance::{Algorithm, BalancerFactory};
use crate::health::breaker::Breaker;
use crate::load::Load;
use crate::{
    BackendId, BackendSpec, BudgetPolicy, Event, Evidence, HealthPolicy, HedgeClock, HedgePolicy, Ids, Observation,
    Probe, RetryBudget, Rng, Snapshot, Standing, Time, View,
};

use member::Member;
pub use member::NameAnswer;

/// Backends, their health, and the view that workers share.
#[derive(Debug)]
pub struct Cluster {
    policy: HealthPolicy,
    /// In the order of the config.
    members: Vec<Member>,
    /// The position of each backend in `members`.
    positions: BTreeMap<BackendId, usize>,
    /// The backends that wait for a probe, in the order in which the probes are due.
    due: BTreeSet<(Time, BackendId)>,
    factory: BalancerFactory,
    view: Arc<View>,
    /// Whether the set of admitted backends has changed since the view was made.
    view_is_stale: bool,
    /// The backends that began to leave and whose drains nobody has taken over.
    leaving: Vec<Leaving>,
    /// When the counts of the backends were last looked at.
    looked: Time,
    /// Whether a backend has left rotation since then, so that ejected ones may be needed.
    has_lost: bool,
    budget: Arc<RetryBudget>,
    budget_policy: BudgetPolicy,
    gate: Arc<Gate>,
    limits: LimitPolicy,
    /// The exchanges in flight, from the first limit of the cluster on.
    total: Option<Arc<Total>>,
    breaker: Option<Breaker>,
    hedge: Option<Arc<HedgeClock>>,
}

/// A backend that gets no new requests, because the backend was removed or is drained.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) id: BackendId,
    pub(crate) name: Arc<str>,
    pub(crate) load: Arc<Load>,
}

impl Cluster {
    /// A cluster without backends; [`update`](Cluster::update) adds them.
    pub fn new(algorithm: Algorithm, policy: HealthPolicy) -> Self {
        let mut factory = BalancerFactory::new(algorithm);
        let (balancer, reported_row) = (factory.balancer(&[]), reported_row(&policy));
        let budget_policy = BudgetPolicy::default();
        let budget = Arc::new(RetryBudget::new(&budget_policy));
        let limits = LimitPolicy::default();
        let gate = Arc::new(Gate::new(&limits));
        let view = Arc::new(View {
            balancer,
            backends: Box::default(),
            reported_row,
            notes_outcomes: true,
            budget: Arc::clone(&budget),
            gate: Arc::clone(&gate),
            guards: None,
            hedge: None,
        });
        Cluster {
            policy,
            members: Vec::new(),
            positions: BTreeMap::new(),
            due: BTreeSet::new(),
            factory,
            view,
            view_is_stale: false,
            leaving: Vec::new(),
            looked: Time::ZERO,
            has_lost: false,
            budget,
            budget_policy,
            gate,
            limits,
            total: None,
            breaker: None,
            hedge: None,
        }
    }

    /// The view that workers pick from. One call makes at most one new view for all changes since the last call.
    pub fn view(&mut self) -> Arc<View> {
        if std::mem::take(&mut self.view_is_stale) {
            let backends = self.backends_in_rotation();
            let (balancer, reported_row) = (self.factory.balancer(&backends), reported_row(&self.policy));
            let (budget, gate) = (Arc::clone(&self.budget), Arc::clone(&self.gate));
            let guards = self.guards();
            let hedge = self.hedge.clone();
            let notes_outcomes = self.policy.outliers.is_some()
                || self.policy.breaker.is_some()
                || self.limits.per_backend == Some(BackendLimit::Adaptive);
            self.view =
                Arc::new(View { balancer, backends, reported_row, notes_outcomes, budget, gate, guards, hedge });
        }
        Arc::clone(&self.view)
    }

    /// How backends are probed.
    pub fn health_policy(&self) -> &HealthPolicy {
        &self.policy
    }

    /// Changes the algorithm and the health policy. The health of the backends stays, unless the policy makes no probes:
    /// then every backend gets requests. Without outliers in the policy, ejected outliers get requests again.
    pub fn reconfigure(&mut self, now: Time, algorithm: Algorithm, policy: HealthPolicy) {
        if algorithm != self.factory.algorithm() {
            self.factory = BalancerFactory::new(algorithm);
            self.view_is_stale = true;
        }
        if policy != self.policy {
            for member in &mut self.members {
                member.health.reconfigure(&policy);
                if policy.outliers.is_none() && member.ejections.present().is_some() {
                    member.end_ejection(now);
                }
            }
            self.view_is_stale |= policy.probe == Probe::Off
                || policy.outliers != self.policy.outliers
                || policy.breaker != self.policy.breaker;
            self.policy = policy;
        }
    }

    /// Changes how many requests of the cluster may be sent again. Another policy begins with a budget of its own.
    pub fn set_retry_budget(&mut self, policy: BudgetPolicy) {
        if policy != self.budget_policy {
            self.budget = Arc::new(RetryBudget::new(&policy));
            self.budget_policy = policy;
            self.view_is_stale = true;
        }
    }

    /// Changes when a second backend gets a request. Another policy begins to learn the times anew.
    pub fn set_hedging(&mut self, policy: Option<HedgePolicy>) {
        if policy != self.hedge.as_ref().map(|hedge| hedge.policy()) {
            self.hedge = policy.map(|policy| Arc::new(HedgeClock::new(policy)));
            self.view_is_stale = true;
        }
    }

    /// Lets the requests pick that wait for a backend below its limit, because another view has other backends or limits.
    pub(crate) fn release_waiting(&self) {
        if self.gate.is_busy() {
            self.gate.release_all();
        }
    }

    /// Replaces the set of backends. A backend with the same host and port as before keeps its id, its health and its
    /// counts. Takes O(n log n) time for n backends.
    pub fn update(&mut self, now: Time, specs: Vec<BackendSpec>, ids: &mut Ids) -> Vec<Event> {
        let mut events = Vec::new();
        let former = std::mem::take(&mut self.members);
        let mut former: BTreeMap<_, Member> =
            former.into_iter().map(|member| ((Arc::clone(&member.spec.host), member.spec.port), member)).collect();
        for spec in specs {
            let member = match former.remove(&(Arc::clone(&spec.host), spec.port)) {
                Some(mut known) => {
                    let was_drained = std::mem::replace(&mut known.spec, spec).drain;
                    events.extend(known.drain_event(now, was_drained));
                    if known.spec.drain && !was_drained {
                        self.leaving.push(known.leaving());
                    }
                    known
                }
                None => {
                    let id = ids.backend();
                    events.push(Event::Added { id, backend: Arc::clone(&spec.name) });
                    Member::new(id, spec, now, &self.policy)
                }
            };
            self.members.push(member);
        }
        for member in former.into_values() {
            member.load.leave();
            // The drain of a drained backend has begun already.
            if !member.spec.drain {
                self.leaving.push(member.leaving());
            }
            events.push(Event::Removed { id: member.id, backend: member.spec.name });
        }
        self.limit_backends();
        self.positions = self.members.iter().enumerate().map(|(position, member)| (member.id, position)).collect();
        let due = self.members.iter().filter_map(|member| Some((probe_due(&self.policy, member)?, member.id)));
        self.due = due.collect();
        self.view_is_stale = true;
        self.note_loss();
        events
    }

    /// Notes that a backend may have left rotation.
    fn note_loss(&mut self) {
        self.has_lost = self.members.iter().any(|member| member.ejections.present().is_some());
    }

    /// The backends that began to leave since the last call.
    pub(crate) fn take_leaving(&mut self) -> Vec<Leaving> {
        std::mem::take(&mut self.leaving)
    }

    /// Applies an answer of DNS for the name of a backend.
    pub fn resolved(&mut self, id: BackendId, answer: NameAnswer) -> Option<Event> {
        let event = self.change(id, |member| member.resolved(answer))??;
        self.view_is_stale = true;
        Some(event)
    }

    /// Applies evidence about a backend. Ignores evidence about a backend that has left the cluster.
    pub fn observe(
        &mut self,
        now: Time,
        id: BackendId,
        observation: &Observation,
        rng: &mut impl Rng,
    ) -> Option<Event> {
        if self.policy.probe == Probe::Off || matches!(observation.evidence, Evidence::FailedInARow { .. }) {
            // Without probes nothing would admit a backend again that one refused connection ejected.
            return self.judge_row(now, id, observation);
        }
        let policy = self.policy.clone();
        let (before, event) = self.change(id, |member| {
            let before = member.health.standing();
            let changed = member.health.observe(now, observation, &policy, rng);
            let is_down = member.health.standing() == Standing::Down;
            if is_down && observation.evidence.is_silence() {
                member.load.set_given_up(true);
            } else if changed && !is_down && member.ejections.present().is_none() {
                member.load.set_given_up(false);
            }
            if before == Standing::Down && !is_down {
                member.forget_attempts();
            }
            member.ejections_total += u64::from(changed && is_down);
            (before, changed.then(|| member.standing_event()))
        })?;
        let event = event?;
        // A view does not distinguish unproven from up.
        if before == Standing::Down || matches!(event, Event::Ejected { .. }) {
            self.view_is_stale = true;
            self.note_loss();
        }
        Some(event)
    }

    /// Takes over the health of a backend from the former process: its standing, with the reason. The next probe of a backend
    /// that is up is due after `wait`.
    pub(crate) fn inherit(
        &mut self,
        now: Time,
        (host, port): (&str, u16),
        standing: Standing,
        reason: &Arc<str>,
        wait: Duration,
    ) {
        let member = self.members.iter().find(|member| *member.spec.host == *host && member.spec.port == port);
        let Some(id) = member.map(|member| member.id) else { return };
        self.change(id, |member| member.health.inherit(now, standing, reason, wait));
        self.view_is_stale = true;
    }

    /// Changes one member, and updates the position of its next probe in `due`.
    fn change<T>(&mut self, id: BackendId, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = &mut self.members[*self.positions.get(&id)?];
        let due_before = probe_due(&self.policy, member);
        let result = change(member);
        let due_now = probe_due(&self.policy, member);
        if due_before != due_now {
            due_before.map(|at| self.due.remove(&(at, id)));
            due_now.map(|at| self.due.insert((at, id)));
        }
        Some(result)
    }

    /// When the next call of [`tick`](Cluster::tick) or [`look`](Cluster::look) is due; `None` if neither has anything to do.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at).into_iter().chain(self.next_look()).min()
    }

    /// The backends to probe now. The caller must call [`observe`](Cluster::observe) once for each.
    pub fn tick(&mut self, now: Time) -> Vec<BackendId> {
        let due: Vec<BackendId> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in &due {
            self.change(*id, |member| member.health.take_probe(now));
        }
        due
    }

    fn member(&self, id: BackendId) -> Option<&Member> {
        Some(&self.members[*self.positions.get(&id)?])
    }

    /// The description of a backend; `None` if the backend does not belong to the cluster.
    pub fn spec(&self, id: BackendId) -> Option<&BackendSpec> {
        self.member(id).map(|member| &member.spec)
    }

    /// The addresses to connect to; `None` if the backend does not belong to the cluster.
    pub fn addresses(&self, id: BackendId) -> Option<Arc<[SocketAddr]>> {
        self.member(id).map(|member| Arc::clone(&member.addresses))
    }

    /// The ids of all backends, in the order of the config.
    pub fn ids(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.members.iter().map(|member| member.id)
    }

    /// The state of the cluster, for status pages.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let is_probed = self.policy.probe != Probe::Off;
        let backends = self.members.iter().map(|member| member.snapshot(now, is_probed)).collect();
        Snapshot {
            algorithm: self.factory.algorithm(),
            waiting: self.gate.waiting(),
            in_flight: self.total.as_ref().filter(|_| self.limits.per_cluster.is_some()).map(|total| total.in_flight()),
            limit: self.limits.per_cluster,
            breaker: self.breaker.as_ref().map(Breaker::state),
            retry_budget: self.budget.left(),
            backends,
        }
    }
}

/// When the next probe of a member is due, if its cluster has probes.
fn probe_due(policy: &HealthPolicy, member: &Member) -> Option<Time> {
    member.probe_due().filter(|_| policy.probe != Probe::Off)
}

/// The number of failed attempts in a row of which workers tell control.
fn reported_row(policy: &HealthPolicy) -> Option<NonZeroU32> {
    policy.outliers.as_ref().and_then(|outliers| NonZeroU32::new(outliers.in_a_row))
}

#[cfg(test)]
mod tests;
