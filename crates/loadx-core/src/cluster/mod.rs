//! The state of one cluster in control: its backends, and which backends are admitted.
//!
//! A cluster has one writer, control. A [`View`] publishes its decisions.

mod member;
mod outliers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::balance::{Algorithm, BalancerFactory};
use crate::load::Load;
use crate::{
    BackendId, BackendSpec, BudgetPolicy, Event, Evidence, HealthPolicy, Ids, Observation, Probe, RetryBudget, Rng,
    Snapshot, Standing, Time, View,
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
    budget: Arc<RetryBudget>,
    budget_policy: BudgetPolicy,
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
        let view = Arc::new(View { balancer, backends: Box::default(), reported_row, budget: Arc::clone(&budget) });
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
            budget,
            budget_policy,
        }
    }

    /// The view that workers pick from. One call makes at most one new view for all changes since the last call.
    pub fn view(&mut self) -> Arc<View> {
        if std::mem::take(&mut self.view_is_stale) {
            let backends: Box<[Backend]> =
                self.members.iter().filter(|member| member.admitted()).map(Member::backend).collect();
            let (balancer, reported_row) = (self.factory.balancer(&backends), reported_row(&self.policy));
            self.view = Arc::new(View { balancer, backends, reported_row, budget: Arc::clone(&self.budget) });
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
            self.view_is_stale |= policy.probe == Probe::Off || policy.outliers != self.policy.outliers;
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
                    events.extend(known.drain_event(was_drained));
                    if known.spec.drain && !was_drained {
                        self.leaving.push(known.leaving());
                    }
                    known
                }
                None => {
                    let id = ids.backend();
                    events.push(Event::Added { id, backend: Arc::clone(&spec.name) });
                    Member::new(id, spec, now)
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
        self.positions = self.members.iter().enumerate().map(|(position, member)| (member.id, position)).collect();
        let due = self.members.iter().filter_map(|member| Some((probe_due(&self.policy, member)?, member.id)));
        self.due = due.collect();
        self.view_is_stale = true;
        events
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
            (before, changed.then(|| member.standing_event()))
        })?;
        let event = event?;
        // A view does not distinguish unproven from up.
        if before == Standing::Down || matches!(event, Event::Ejected { .. }) {
            self.view_is_stale = true;
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
        Snapshot { algorithm: self.factory.algorithm(), backends }
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
mod tests {
    use super::*;
    use crate::{Choice, Ended, Evidence, NoBackend, Outcome, Query, SplitMix64};
    use std::time::Duration;

    struct Fixture {
        cluster: Cluster,
        ids: Ids,
        rng: SplitMix64,
    }

    impl Fixture {
        fn new(ports: &[u16]) -> Self {
            let rng = SplitMix64::new(3);
            let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
            let mut ids = Ids::default();
            cluster.update(Time::ZERO, specs(ports), &mut ids);
            Fixture { cluster, ids, rng }
        }

        fn shows(&mut self, port: u16, now: Time, evidence: Evidence) -> Option<Event> {
            let id = self.id(port);
            self.cluster.observe(now, id, &Observation { began: now, evidence }, &mut self.rng)
        }

        /// Leaves probes as the only thing with a deadline.
        fn looks_at_nothing(&mut self) {
            let policy = HealthPolicy { outliers: None, ..HealthPolicy::default() };
            self.cluster.reconfigure(Time::ZERO, Algorithm::RoundRobin, policy);
            self.cluster.set_retry_budget(BudgetPolicy { percent: 0, per_second_min: 0 });
        }

        fn id(&self, port: u16) -> BackendId {
            self.cluster.ids().find(|id| self.cluster.spec(*id).unwrap().port == port).unwrap()
        }

        fn update(&mut self, now: Time, ports: &[u16]) -> Vec<Event> {
            self.cluster.update(now, specs(ports), &mut self.ids)
        }

        fn serving(&mut self) -> Vec<u16> {
            self.cluster.view().backends().iter().map(|backend| backend.spec.port).collect()
        }
    }

    fn specs(ports: &[u16]) -> Vec<BackendSpec> {
        ports.iter().map(|port| BackendSpec::new("127.0.0.1", *port)).collect()
    }

    fn query(now: Time) -> Query<'static> {
        Query { now, entropy: 0, key: None, tried: &[] }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn refused() -> Evidence {
        Evidence::ConnectFailed { reason: "connection refused".into() }
    }

    #[test]
    fn a_backend_that_is_down_gets_no_requests_until_it_recovers() {
        let mut fixture = Fixture::new(&[1, 2]);
        let event = fixture.shows(1, at(0), refused());
        assert_eq!(event.unwrap().to_string(), "backend 127.0.0.1:1 is down: cannot connect: connection refused");
        assert_eq!(fixture.serving(), [2]);
        let event = fixture.shows(1, at(2), Evidence::ProbePassed { status: 200 });
        assert_eq!(event.unwrap().to_string(), "backend 127.0.0.1:1 is up: probe answered 200");
        assert_eq!(fixture.serving(), [1, 2]);
    }

    #[test]
    fn no_backend_is_picked_while_all_are_down() {
        let mut fixture = Fixture::new(&[1]);
        fixture.shows(1, at(0), refused());
        assert!(matches!(fixture.cluster.view().pick(&query(at(0))), Choice::None(NoBackend::NoneAdmitted)));
        assert_eq!(fixture.cluster.snapshot(at(5)).admitted(), 0);
        assert_eq!(fixture.cluster.snapshot(at(5)).backends[0].since, Duration::from_secs(5));
    }

    #[test]
    fn only_a_failed_connect_becomes_an_observation() {
        let mut fixture = Fixture::new(&[1]);
        let view = fixture.cluster.view();
        let took = Duration::from_secs(5);
        let pick = |outcome| view.pick(&query(at(4))).picked().unwrap().finish(Ended::unanswered(outcome, took));
        let expected = Observation { began: at(4), evidence: Evidence::ConnectFailed { reason: "no route".into() } };
        assert_eq!(pick(Outcome::ConnectFailed("no route".into())), Some(expected));
        assert_eq!(pick(Outcome::Answered), None);
        assert_eq!(pick(Outcome::Broke("reset".into())), None);
    }

    #[test]
    fn in_flight_counts_cannot_leak() {
        let mut fixture = Fixture::new(&[1]);
        let view = fixture.cluster.view();
        let first = view.pick(&query(at(0))).picked().unwrap();
        let second = view.pick(&query(at(0))).picked().unwrap();
        assert_eq!(view.backends()[0].in_flight(), 2);
        drop(first);
        second.finish(Ended::unanswered(Outcome::Broke("reset".into()), Duration::from_secs(1)));
        assert_eq!(view.backends()[0].in_flight(), 0);
    }

    #[test]
    fn an_update_keeps_the_state_of_backends_that_stay() {
        let mut fixture = Fixture::new(&[1, 2]);
        fixture.shows(1, at(0), refused());
        let kept = fixture.id(2);
        let events = fixture.update(at(1), &[3, 2, 1]);
        assert_eq!(events, [Event::Added { id: fixture.id(3), backend: "127.0.0.1:3".into() }]);
        assert_eq!(fixture.id(2), kept);
        assert_eq!(fixture.serving(), [3, 2], "1 is still down");
        let gone = [fixture.id(1), fixture.id(3)];
        let events = fixture.update(at(2), &[2]);
        let removed = |id, port: u16| Event::Removed { id, backend: format!("127.0.0.1:{port}").into() };
        assert_eq!(events, [removed(gone[0], 1), removed(gone[1], 3)]);
        fixture.update(at(3), &[1, 2, 3]);
        assert!(gone.iter().all(|id| fixture.cluster.spec(*id).is_none()), "an id is never given out again");
    }

    #[test]
    fn a_backend_that_left_is_neither_probed_nor_judged() {
        let mut fixture = Fixture::new(&[1, 2]);
        let gone = fixture.id(1);
        fixture.update(at(0), &[2]);
        assert_eq!(fixture.cluster.tick(at(0)), [fixture.id(2)]);
        assert!(fixture.cluster.resolved(gone, NameAnswer::Nowhere("no such host".into())).is_none());
        let refused = Observation { began: at(0), evidence: refused() };
        assert!(fixture.cluster.observe(at(0), gone, &refused, &mut fixture.rng).is_none());
        assert_eq!(fixture.serving(), [2]);
    }

    #[test]
    fn a_name_serves_once_it_resolves_and_keeps_its_addresses_when_dns_fails() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        cluster.update(Time::ZERO, vec![BackendSpec::new("app", 80)], &mut Ids::default());
        let id = cluster.ids().next().unwrap();
        assert!(cluster.resolved(id, NameAnswer::Nowhere("no such host".into())).is_some());
        assert!(cluster.resolved(id, NameAnswer::Nowhere("no such host".into())).is_none(), "told once");
        assert!(cluster.view().backends().is_empty());
        assert_eq!(cluster.next_deadline(), None, "there is nothing to probe");
        assert!(cluster.resolved(id, NameAnswer::Addresses(["10.0.0.1:80".parse().unwrap()].into())).is_some());
        assert_eq!(cluster.view().backends().len(), 1);
        assert_eq!(cluster.next_deadline(), Some(Time::ZERO));
        cluster.resolved(id, NameAnswer::Failed("server failure".into()));
        assert_eq!(cluster.view().backends().len(), 1);
    }

    #[test]
    fn without_probes_every_backend_serves_and_later_probes_begin_at_once() {
        let mut fixture = Fixture::new(&[1, 2]);
        fixture.cluster.tick(at(0));
        fixture.shows(2, at(0), refused());
        assert_eq!(fixture.serving(), [1]);
        fixture.looks_at_nothing();
        let off = HealthPolicy { probe: Probe::Off, outliers: None, ..HealthPolicy::default() };
        fixture.cluster.reconfigure(at(1), Algorithm::RoundRobin, off);
        fixture.update(at(1), &[1, 2]);
        assert_eq!(fixture.serving(), [1, 2]);
        let snapshot = fixture.cluster.snapshot(at(1));
        let shown = snapshot.backends.iter().map(|backend| (backend.standing, &*backend.reason));
        assert_eq!(shown.collect::<Vec<_>>(), [(None, "probes are off"); 2]);
        assert_eq!(fixture.cluster.next_deadline(), None);
        fixture.cluster.reconfigure(at(2), Algorithm::RoundRobin, HealthPolicy::default());
        fixture.update(at(2), &[1, 2]);
        assert_eq!(fixture.cluster.tick(at(2)).len(), 2, "the probe that ran when probes went off is forgotten");
    }

    #[test]
    fn probes_are_due_at_start_and_taken_once() {
        let mut fixture = Fixture::new(&[1, 2]);
        fixture.looks_at_nothing();
        assert_eq!(fixture.cluster.next_deadline(), Some(Time::ZERO));
        assert_eq!(fixture.cluster.tick(Time::ZERO).len(), 2);
        assert_eq!(fixture.cluster.tick(Time::ZERO).len(), 0);
        assert_eq!(fixture.cluster.next_deadline(), None);
        fixture.shows(2, at(1), Evidence::ProbePassed { status: 204 });
        assert!(fixture.cluster.next_deadline().unwrap() > at(20));
    }

    #[test]
    fn a_name_without_addresses_does_not_keep_addresses_that_another_server_may_use_now() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        cluster.update(Time::ZERO, vec![BackendSpec::new("app", 80)], &mut Ids::default());
        let id = cluster.ids().next().unwrap();
        let there = || NameAnswer::Addresses(["10.0.0.1:80".parse().unwrap()].into());
        let nowhere = || NameAnswer::Nowhere("no such host".into());
        cluster.resolved(id, there());
        cluster.resolved(id, nowhere());
        assert_eq!(cluster.view().backends().len(), 1, "once may be a hiccup");
        assert!(cluster.resolved(id, nowhere()).is_some());
        assert_eq!(cluster.view().backends().len(), 0);
        assert!(cluster.resolved(id, nowhere()).is_none(), "told once");
        cluster.resolved(id, there());
        assert_eq!(cluster.view().backends().len(), 1);
        let refused = Observation { began: Time::ZERO, evidence: refused() };
        cluster.observe(Time::ZERO, id, &refused, &mut SplitMix64::new(0));
        cluster.resolved(id, nowhere());
        assert_eq!(cluster.next_deadline(), None, "LoadX does not probe the former address");
    }
}
